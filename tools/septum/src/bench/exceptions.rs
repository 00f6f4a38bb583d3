// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's exception log (`-d int`): which exceptions were taken to EL2, on which CPU, and the marks that a guest leaves in
//! it, each an SVC to EL1 with a number of its own.

use std::io::{self, BufRead};

/// The marks of the guest's scene: the count begins, ends, and the guest does nothing any more.
const BEGIN: u64 = 0xbe01;
const END: u64 = 0xbe02;
const LAST: u64 = 0xbe03;

/// ESR_ELx of an SVC: EC 0x15, IL set, the number below.
const SVC: u64 = 0x5600_0000;

/// How often one CPU has left its guest for EL2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// Between the first and the second mark.
    pub between: u64,
    /// From the start of the machine to the last mark.
    pub total: u64,
}

/// One exception, as far as its lines have been read.
#[derive(Clone, Copy, Debug, Default)]
struct Exception {
    cpu: u32,
    is_svc: bool,
    levels: Option<(u8, u8)>,
    esr: Option<u64>,
}

/// Counts the exits of one CPU in a log.
///
/// # Errors
/// The log cannot be read, or a mark is missing or out of order.
pub fn count(log: impl BufRead, cpu: u32) -> io::Result<Exits> {
    let mut counter = Counter { cpu, ..Counter::default() };
    let mut current: Option<Exception> = None;
    for line in log.lines() {
        let line = line?;
        if let Some(rest) = line.strip_prefix("Taking exception ") {
            counter.take(current.take())?;
            let number = rest.rsplit_once(" on CPU ").and_then(|(_, number)| number.trim().parse().ok());
            let is_svc = rest.contains("[SVC]");
            current = number.map(|cpu| Exception { cpu, is_svc, ..Exception::default() });
        } else if let (Some(exception), Some(rest)) = (&mut current, line.strip_prefix("...from EL")) {
            exception.levels = rest
                .split_once(" to EL")
                .and_then(|(from, to)| Some((from.trim().parse().ok()?, to.trim().parse().ok()?)));
        } else if let (Some(exception), Some(rest)) = (&mut current, line.strip_prefix("...with ESR ")) {
            let esr = rest.split_once('/').map(|(_, esr)| esr.trim().trim_start_matches("0x"));
            exception.esr = esr.and_then(|esr| u64::from_str_radix(esr, 16).ok());
        }
    }
    counter.take(current)?;
    counter.finish()
}

#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    cpu: u32,
    marks: u64,
    exits: Exits,
}

impl Counter {
    fn take(&mut self, exception: Option<Exception>) -> io::Result<()> {
        let Some(Exception { cpu, levels: Some(levels), esr, is_svc }) = exception else { return Ok(()) };
        if cpu != self.cpu {
            return Ok(());
        }
        match levels {
            (0 | 1, 2) if self.marks < 3 => {
                self.exits.total += 1;
                self.exits.between += u64::from(self.marks == 1);
            }
            // An interrupt's lines repeat the syndrome of what came before it.
            (0 | 1, 1) if is_svc => {
                let mark = [BEGIN, END, LAST].into_iter().zip(0_u64..).find(|(mark, _)| esr == Some(SVC | mark));
                let Some((mark, place)) = mark else { return Ok(()) };
                if place != self.marks {
                    return Err(io::Error::other(format!("mark {mark:#x} comes after {} marks", self.marks)));
                }
                self.marks += 1;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> io::Result<Exits> {
        if self.marks != 3 {
            return Err(io::Error::other(format!(
                "the exception log has {} of 3 marks of CPU {}",
                self.marks, self.cpu
            )));
        }
        Ok(self.exits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(name: &str, cpu: u32, levels: &str, esr: &str) -> String {
        format!("Taking exception {name} on CPU {cpu}\n...from {levels}\n{esr}...with SPSR 0x3c5\n...to EL2 PC 0x0\n")
    }

    fn irq(cpu: u32) -> String {
        exception("5 [IRQ]", cpu, "EL1 to EL2", "")
    }

    fn mark(cpu: u32, number: u32) -> String {
        exception("2 [SVC]", cpu, "EL1 to EL1", &format!("...with ESR 0x15/0x5600{number:x}\n"))
    }

    fn whole(between: &str) -> String {
        [&irq(0), &irq(0), &mark(0, 0xbe01), between, &mark(0, 0xbe02), &irq(0), &mark(0, 0xbe03), &irq(0)].concat()
    }

    #[test]
    fn exits_are_counted_between_marks_and_up_to_the_last() {
        let log = whole(&[irq(0), irq(0)].concat());
        assert_eq!(count(log.as_bytes(), 0).unwrap(), Exits { between: 2, total: 5 });
    }

    #[test]
    fn what_is_no_exit_of_that_cpu_does_not_count() {
        let others = [
            irq(1),
            mark(1, 0xbe02),
            exception("5 [IRQ]", 0, "EL2 to EL2", ""),
            exception("14 [Virtual IRQ]", 0, "EL1 to EL1", "...with ESR 0x15/0x5600be01\n"),
            exception("2 [SVC]", 0, "EL0 to EL1", "...with ESR 0x15/0x56000000\n"),
            "Exception return from AArch64 EL2 to AArch64 EL1 PC 0x40000000\n".to_owned(),
        ];
        assert_eq!(count(whole(&others.concat()).as_bytes(), 0).unwrap().between, 0);
        let from_el0 = exception("5 [IRQ]", 0, "EL0 to EL2", "");
        assert_eq!(count(whole(&from_el0).as_bytes(), 0).unwrap().between, 1);
    }

    #[test]
    fn a_process_of_linux_may_leave_the_marks() {
        let mark = |number| mark(0, number).replace("EL1 to EL1", "EL0 to EL1");
        let log = [mark(0xbe01), irq(0), mark(0xbe02), mark(0xbe03)].concat();
        assert_eq!(count(log.as_bytes(), 0).unwrap(), Exits { between: 1, total: 1 });
    }

    #[test]
    fn a_log_without_its_marks_in_order_is_an_error() {
        for log in [String::new(), irq(0), mark(0, 0xbe02), [mark(0, 0xbe01), mark(0, 0xbe01)].concat()] {
            assert!(count(log.as_bytes(), 0).is_err(), "{log}");
        }
        assert!(count(whole("").as_bytes(), 1).is_err());
    }
}
