use super::*; use crate::driver::Uart; use crate::console::ByteSource; use super::percpu::Mail;
static U: spin::Mutex<Option<Uart>> = spin::Mutex::new(None);
pub fn take_over(m:&'static Machine,u:Option<Uart>){ let mut u=u; if let Some(x)=u.as_mut(){x.interrupts(crate::driver::Transmit::Idle);} *U.lock()=u;
 if let (Some(c), Some(p))=(m.console, m.cpu(m.housekeeping).and_then(|c|c.port())) { crate::irqchip::route(c,p); if let Some(me)=PerCpu::current().port(){crate::irqchip::enable(me,c.index()/32,1<<(c.get()%32));} } }
pub fn notify(m:&Machine){ if let Some(c)=m.cpu(m.housekeeping){c.post(Mail::Housekeeping)} } pub fn seize_uart()->Option<Uart>{unsafe{U.force_unlock()}; U.lock().take()}
pub fn attend(m:&'static Machine,_:&'static PerCpu){ let mut g=U.lock(); let Some(u)=g.as_mut() else {return};
 while let Some(b)=u.try_get(){ if let Some(c)=m.partitions.first().and_then(|p|p.console.as_ref()){ let _=c.device.receive(b);} }
 for p in m.partitions.iter(){ if let Some(c)=&p.console { while let Some(b)=c.device.output().take(){u.put(b);} interrupts::settle_console(m,p);} }
 for c in m.cpus.iter(){ while let Some(r)=c.records.pop(){ for b in alloc::format!("{r}\r\n").bytes(){u.put(b);} } }
 log::with_text(|t| while let Some(b)=t.next(){ if b==b'\n'{u.put(b'\r');} u.put(b);});
}
