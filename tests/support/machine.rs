// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine as a test describes it: Septum with a configuration, or a guest alone on the bare machine at EL1.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use septum_tool::pack::{self, Bootable};
use septum_tool::platform::{Board, MachineArgs};
use septum_tool::qemu;
use septum_tool::units::Size;
use septum_tool::{author, paths};

use crate::booted::Booted;
use crate::images;

/// A version of the interrupt controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gic {
    /// GICv2.
    V2,
    /// GICv3.
    V3,
}

/// Both versions.
pub const GICS: [Gic; 2] = [Gic::V3, Gic::V2];

/// How the machine's time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// As on the wall, give or take tens of milliseconds.
    Wall,
    /// One nanosecond for each instruction of any CPU: repeatable, the only one in which lateness is judged.
    Instructions,
}

/// Where [`Machine::reset_into`] puts its program: in RAM, clear of the tree that QEMU puts at its start.
const RESET: u64 = 0x4060_0000;

/// Under counted instructions the CPUs run in turns, each until the machine's next timer is due, and that may be long: an
/// interrupt then waits for the turn of its CPU. A timer that is due every 50 us, here that of a packet filter with no
/// packets, keeps the turns short, so that what is measured is the hypervisor and not QEMU.
const SHORT_TURNS: [&str; 4] =
    ["-netdev", "hubport,id=turns,hubid=0", "-object", "filter-buffer,id=turn,netdev=turns,interval=50"];

/// What the machine boots.
#[derive(Clone, Debug)]
enum Software {
    /// Septum with this configuration.
    Septum { text: String },
    /// Septum with this file as the initrd, or none.
    Initrd(Option<PathBuf>),
    /// A guest at EL1.
    Bare { guest: String, cmdline: String },
}

/// A machine before it is switched on.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The test, for files and messages; no two tests may use the same at the same time.
    name: String,
    software: Software,
    args: MachineArgs,
    planned_for: Option<MachineArgs>,
    firmware: Option<PathBuf>,
    kernel: Option<PathBuf>,
    is_reset_alone: bool,
    timing: Timing,
    qemu: Vec<OsString>,
}

impl Machine {
    /// Septum with a configuration in the words of its TOML file.
    pub fn with_config(name: &str, text: &str) -> Self {
        Self::new(name, Software::Septum { text: text.to_owned() })
    }

    /// Septum with a configuration of `configs/qemu-virt`.
    ///
    /// # Panics
    /// There is none of that name.
    pub fn with_shipped(name: &str, config: &str) -> Self {
        let path = paths::root().join("configs/qemu-virt").join(format!("{config}.toml"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::with_config(name, &text)
    }

    /// Septum with any file as the initrd, or with none.
    pub fn with_initrd(name: &str, initrd: Option<&Path>) -> Self {
        Self::new(name, Software::Initrd(initrd.map(Path::to_owned)))
    }

    /// A bare-metal guest without Septum, at EL1.
    pub fn bare(name: &str, guest: &str, cmdline: &str) -> Self {
        Self::new(name, Software::Bare { guest: guest.to_owned(), cmdline: cmdline.to_owned() })
    }

    fn new(name: &str, software: Software) -> Self {
        Self {
            name: name.to_owned(),
            software,
            args: MachineArgs::default(),
            planned_for: None,
            firmware: None,
            kernel: None,
            is_reset_alone: false,
            timing: Timing::Wall,
            qemu: Vec::new(),
        }
    }

    /// Sets the GIC's version.
    #[must_use]
    pub fn gic(mut self, gic: Gic) -> Self {
        self.args.gic = Some(match gic {
            Gic::V2 => 2,
            Gic::V3 => 3,
        });
        self
    }

    /// Sets the CPU model.
    #[must_use]
    pub fn cpu(mut self, model: &str) -> Self {
        self.args.cpu = Some(model.to_owned());
        self
    }

    /// Sets the number of CPUs.
    #[must_use]
    pub fn smp(mut self, count: u32) -> Self {
        self.args.smp = Some(count);
        self
    }

    /// Sets the RAM, such as `2G`.
    ///
    /// # Panics
    /// It is no size.
    #[must_use]
    pub fn memory(mut self, size: &str) -> Self {
        self.args.memory = Some(size.parse::<Size>().unwrap());
        self
    }

    /// Lets the configuration be planned on the PC for the machine as it is described so far; what is changed from here
    /// on is known to the board alone.
    #[must_use]
    pub fn planned_so(mut self) -> Self {
        self.planned_for = Some(self.args.clone());
        self
    }

    /// Sets how time passes.
    #[must_use]
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Boots this build of the firmware instead of the usual one.
    #[must_use]
    pub fn firmware(mut self, image: PathBuf) -> Self {
        self.firmware = Some(image);
        self
    }

    /// Boots this program, and puts the firmware at `address` without starting it.
    #[must_use]
    pub fn trampoline(mut self, program: PathBuf, address: u64) -> Self {
        let firmware = self.firmware.get_or_insert_with(images::firmware);
        let file = firmware.display().to_string().replace(',', ",,");
        self.kernel = Some(program);
        self.qemu(["-device", &format!("loader,file={file},addr={address:#x},force-raw=on")])
    }

    /// Starts this program at the exception level that the machine resets to, with no boot loader, and puts the firmware
    /// at `address`.
    #[must_use]
    pub fn reset_into(self, program: PathBuf, address: u64) -> Self {
        let file = program.display().to_string().replace(',', ",,");
        let mut machine = self.trampoline(program, address);
        machine.kernel = None;
        machine.is_reset_alone = true;
        machine.qemu(["-device", &format!("loader,file={file},addr={RESET:#x},force-raw=on,cpu-num=0")])
    }

    /// Adds arguments of QEMU.
    #[must_use]
    pub fn qemu<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.qemu.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Switches the machine on.
    ///
    /// # Panics
    /// Something does not build, the configuration is wrong, or QEMU is missing.
    pub fn boot(self) -> Booted {
        let board = Board::load("qemu-virt").unwrap();
        let mut machine = self.assemble(&board).unwrap_or_else(|error| panic!("{}: {error:#}", self.name));
        if self.timing == Timing::Instructions {
            machine = machine.icount().args(SHORT_TURNS);
        }
        machine = machine.args(self.qemu.iter().cloned());
        Booted::start(&self.name, &machine)
    }

    fn assemble(&self, board: &Board) -> anyhow::Result<qemu::Machine> {
        let machine = qemu::Machine::new(board, &board.machine(&self.args))?;
        if self.is_reset_alone {
            return Ok(machine);
        }
        let firmware = || {
            let built = || self.firmware.clone().unwrap_or_else(images::firmware);
            self.kernel.clone().unwrap_or_else(built)
        };
        Ok(match &self.software {
            Software::Septum { text } => {
                let bundle = self.bundle(text)?;
                machine.args(bundle.qemu_args).kernel(&firmware()).initrd(&bundle.bundle)
            }
            Software::Initrd(initrd) => {
                let machine = machine.kernel(&firmware());
                initrd.iter().fold(machine, |machine, initrd| machine.initrd(initrd))
            }
            Software::Bare { guest, cmdline } => machine
                .args(["-M", "virtualization=off"])
                .kernel(&images::asset(&format!("guest:{guest}")))
                .arg("-append")
                .arg(cmdline),
        })
    }

    /// Compiles and plans the configuration for the machine, as `septum run` does.
    fn bundle(&self, text: &str) -> anyhow::Result<Bootable> {
        let path = paths::output()?.join("tests").join(format!("{}.toml", self.name));
        paths::write_whole(&path, text.as_bytes())?;
        let planned = pack::bundle(&path, self.planned_for.as_ref().unwrap_or(&self.args));
        planned.map_err(|error| match error.downcast_ref::<author::Report>() {
            Some(report) => anyhow::anyhow!("{}", report.render(author::Colour::Never)),
            None => error,
        })
    }

    /// Compiles and plans the configuration and returns its bundle, to be spoilt.
    ///
    /// # Panics
    /// It is wrong, or the machine has no configuration.
    pub fn bundle_bytes(&self) -> Vec<u8> {
        let Software::Septum { text } = &self.software else { panic!("{} has no configuration", self.name) };
        let bundle = self.bundle(text).unwrap_or_else(|error| panic!("{}: {error:#}", self.name));
        fs::read(&bundle.bundle).unwrap()
    }
}

/// How much longer than usual each wait may take, by `SEPTUM_TEST_PATIENCE`: 1 where it is not set.
pub fn patience() -> u32 {
    env::var("SEPTUM_TEST_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}
