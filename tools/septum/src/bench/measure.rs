// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machines that are measured: the same guest alone at EL1 and in a partition. Time is counted in instructions and the
//! counter runs at 1 GHz, so that a tick is an instruction, the hypervisor's included, and each run gives the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;

use super::init;
use crate::assets::Asset;
use crate::pack;
use crate::platform::{Board, MachineArgs};
use crate::qemu::Machine;
use crate::units::Size;
use crate::{firmware, paths};

/// A CPU whose counter runs at 1 GHz.
pub const CPU: &str = "cortex-a53,cntfrq=1000000000";
/// The board.
const BOARD: &str = "qemu-virt";
/// How long a machine may run on a busy PC.
const LIMIT: Duration = Duration::from_secs(600);
/// Names and sizes in bytes of the images that are measured from reset; 0 is the guest as it is.
const IMAGES: [(&str, usize); 4] = [("small", 0), ("1m", 1 << 20), ("4m", 4 << 20), ("32m", 32 << 20)];

/// Ticks by the name of their row.
pub type Figures = BTreeMap<String, u64>;

/// Where a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// At EL1 of the bare machine.
    Bare,
    /// In a partition.
    Septum,
}

/// What is measured in one run of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The events that the guest `bench` measures itself.
    Events,
    /// From reset to the guest's first instruction, by the image's place in the list.
    Reset(usize),
    /// From reset to the first instruction of Linux's init.
    Linux,
}

/// One run of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// What is measured.
    pub subject: Subject,
    /// Where.
    pub place: Place,
    /// The GIC's version.
    pub gic: u8,
}

/// The files that the runs boot.
#[derive(Clone, Debug)]
pub struct Files {
    board: Board,
    folder: PathBuf,
    firmware: PathBuf,
    guest: PathBuf,
    images: Vec<PathBuf>,
}

impl Run {
    /// Lists all runs with one GIC.
    pub fn all(gic: u8) -> Vec<Self> {
        let resets = (0..IMAGES.len()).map(Subject::Reset);
        let subjects = [Subject::Linux, Subject::Events].into_iter().chain(resets);
        let places = |subject| [Place::Septum, Place::Bare].map(|place| Self { subject, place, gic });
        subjects.flat_map(places).collect()
    }
}

impl Files {
    /// Builds the firmware and the guest, and pads the guest to the sizes that are measured.
    ///
    /// # Errors
    /// Something does not build or cannot be written.
    pub fn prepare() -> Result<Self> {
        let folder = paths::output()?.join("bench");
        let guest = Asset::parse("guest:bench", Path::new(""))?.path()?;
        let bytes = fs::read(&guest)?;
        let mut images = Vec::new();
        for (name, size) in IMAGES {
            let mut padded = bytes.clone();
            padded.resize(size.max(bytes.len()), 0);
            let path = folder.join(format!("image-{name}.img"));
            paths::write_whole(&path, &padded)?;
            images.push(path);
        }
        paths::write_whole(&folder.join("init.cpio"), &init::initramfs()?)?;
        Ok(Self { board: Board::load(BOARD)?, folder, firmware: firmware::build_firmware()?, guest, images })
    }

    /// Runs a machine to its end and returns what it said.
    ///
    /// # Errors
    /// It cannot be started, does not end, or says nothing.
    pub fn measure(&self, run: Run) -> Result<Figures> {
        let mut running = self.machine(run)?.icount().args(SHORT_TURNS).spawn()?;
        let status = running.wait(Some(LIMIT))?;
        let Some(status) = status else { bail!("{run:?} did not end in {} s; {}", LIMIT.as_secs(), running.tail()) };
        ensure!(status.success(), "{run:?}: QEMU ended with {status}; {}", running.tail());
        let line = Regex::new(r"BENCH (\S+) (\d+)\s*$")?;
        let mut figures = Figures::new();
        for text in running.lines() {
            let Some(found) = line.captures(&text.text) else { continue };
            let ticks = found[2].parse().with_context(|| format!("in `{}`", text.text))?;
            let name = match run.subject {
                // With other CPUs that spin at boot the time from reset means nothing.
                Subject::Events if &found[1] == "reset" => continue,
                Subject::Events => found[1].to_owned(),
                Subject::Reset(index) => format!("reset-{}", IMAGES[index].0),
                Subject::Linux => "linux-init".to_owned(),
            };
            figures.insert(name, ticks);
        }
        ensure!(!figures.is_empty(), "{run:?} measured nothing; {}", running.tail());
        let is_guest = run.subject != Subject::Linux;
        let claims = |text: &str| running.lines().iter().any(|line| line.text.contains(text));
        ensure!(!claims(" FAIL "), "{run:?}: a claim does not hold; {}", running.tail());
        ensure!(!is_guest || claims("DONE "), "{run:?}: the guest did not finish; {}", running.tail());
        Ok(figures)
    }

    fn machine(&self, run: Run) -> Result<Machine> {
        let (cpus, memory) = match run.subject {
            Subject::Events => (2, "128M"),
            Subject::Reset(_) => (1, "128M"),
            Subject::Linux => (1, "512M"),
        };
        match run.place {
            Place::Bare => self.bare(run, cpus, memory.parse().map_err(anyhow::Error::msg)?),
            Place::Septum => self.septum(run, cpus, memory),
        }
    }

    fn bare(&self, run: Run, cpus: u32, memory: Size) -> Result<Machine> {
        let args = arguments(run.gic, cpus, memory);
        let machine = Machine::new(&self.board, &self.board.machine(&args))?.args(["-M", "virtualization=off"]);
        Ok(match run.subject {
            Subject::Events => machine.kernel(&self.guest),
            Subject::Reset(index) => machine.kernel(&self.images[index]).args(["-append", "only=reset"]),
            Subject::Linux => machine
                .kernel(&Asset::DebianKernel.path()?)
                .initrd(&self.folder.join("init.cpio"))
                .args(["-append", "console=ttyAMA0 quiet"]),
        })
    }

    fn septum(&self, run: Run, cpus: u32, memory: &str) -> Result<Machine> {
        // What drives the UART is asleep on a CPU of its own while events are measured; boot is measured with one CPU.
        let (housekeeping, machine_cpus) = if cpus == 1 { (0, 1) } else { (2, 3) };
        let guest = match run.subject {
            Subject::Events => format!("kernel = \"guest:bench\"\ndevices = [\"{CLOCK}\"]\n"),
            Subject::Reset(index) => {
                let file = self.images[index].file_name().and_then(|name| name.to_str()).context("a file's name")?;
                format!("kernel = \"{file}\"\ncmdline = \"only=reset\"\n")
            }
            Subject::Linux => {
                "kernel = \"debian:vmlinuz\"\ninitrd = \"init.cpio\"\ncmdline = \"console=ttyAMA0 quiet\"\n".to_owned()
            }
        };
        let cpus: Vec<String> = (0..cpus).map(|cpu| cpu.to_string()).collect();
        let config = format!(
            "platform = \"{BOARD}\"\n[hypervisor]\ncpu = {housekeeping}\nwhen-all-off = \"power-off\"\n\
             [partition.guest]\ncpus = [{}]\nmemory = \"{memory}\"\n{guest}",
            cpus.join(", ")
        );
        let path = self.folder.join(format!("{:?}-{}.toml", run.subject, run.gic).replace(['(', ')'], ""));
        paths::write_whole(&path, config.as_bytes())?;
        let args = arguments(run.gic, machine_cpus, Size::new(1 << 30));
        let bundle = pack::bundle(&path, &args)?;
        let machine = Machine::new(&self.board, &self.board.machine(&args))?;
        Ok(machine.kernel(&self.firmware).initrd(&bundle.bundle).args(bundle.qemu_args))
    }
}

/// Under counted instructions the CPUs run in turns, each until the machine's next timer is due: what a CPU waits for then
/// counts too. A timer that is due every 50 us, here that of a packet filter with no packets, keeps the turns short.
const SHORT_TURNS: [&str; 4] =
    ["-netdev", "hubport,id=turns,hubid=0", "-object", "filter-buffer,id=turn,netdev=turns,interval=50"];

/// The device whose interrupt is the guest's own.
const CLOCK: &str = "/pl031@9010000";

fn arguments(gic: u8, cpus: u32, memory: Size) -> MachineArgs {
    MachineArgs { gic: Some(gic), cpu: Some(CPU.to_owned()), smp: Some(cpus), memory: Some(memory) }
}
