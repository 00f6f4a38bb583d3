// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machines that are measured: the same guest alone at EL1 and in a partition.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use septum::plan::guest_tree;

use super::init;
use super::measure::{IMAGES, Image, Keep, Place, Run, Scene, Subject, USUAL};
use crate::assets::Asset;
use crate::pack::{self, Packed, Target};
use crate::platform::{Board, MachineArgs};
use crate::qemu::Machine;
use crate::units::Size;
use crate::{firmware, paths};

/// A CPU whose counter runs at 1 GHz.
const CPU: &str = "cortex-a53,cntfrq=1000000000";
/// The board.
const BOARD: &str = "qemu-virt";
/// Linux's command line.
const LINUX: &str = "console=ttyAMA0 quiet";
/// The guest that stands beside the measured one.
const HEARTBEAT: &str = "heartbeat.img";
/// The device whose interrupt is the guest's own.
const CLOCK: &str = "/pl031@9010000";
/// How many virtio slots the guest has for their interrupts; no driver starts them.
const SLOTS: u64 = 16;

/// Under counted instructions the CPUs run in turns, each until the machine's next timer is due: what a CPU waits for then
/// counts too. A timer that is due every 50 us, here that of a packet filter with no packets, keeps the turns short.
const SHORT_TURNS: [&str; 4] =
    ["-netdev", "hubport,id=turns,hubid=0", "-object", "filter-buffer,id=turn,netdev=turns,interval=50"];

/// The clock device goes with the machine's time, not with the PC's.
const CLOCK_OF_THE_MACHINE: [&str; 2] = ["-rtc", "base=2026-01-01T00:00:00,clock=vm"];

/// The files that the runs boot.
#[derive(Clone, Debug)]
pub struct Files {
    board: Board,
    /// What is written: the images under names of their own, so that no run builds anything.
    folder: PathBuf,
    firmware: PathBuf,
}

/// A system: CPUs, and partitions in the words of a configuration.
struct System {
    /// How many CPUs the machine has.
    cpus: u32,
    /// The housekeeping CPU.
    housekeeping: u32,
    /// The partitions' names and tables.
    partitions: Vec<(String, String)>,
}

impl Files {
    /// Builds the firmware and the guests.
    ///
    /// # Errors
    /// Something does not build or cannot be written.
    pub fn prepare() -> Result<Self> {
        let guest = |name: &str| Asset::parse(&format!("guest:{name}"), Path::new(""))?.path();
        Self::with(firmware::build_firmware()?, &guest("bench")?, &guest("heartbeat")?)
    }

    /// Takes images that were built; pads the guest that measures to the sizes that are measured.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn with(firmware: PathBuf, bench: &Path, heartbeat: &Path) -> Result<Self> {
        let folder = paths::output()?.join("bench");
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let bytes = read(bench)?;
        for image in IMAGES {
            let mut padded = bytes.clone();
            if let Image::Mebibytes(size) = image {
                padded.resize(bytes.len().max(size << 20), 0);
            }
            paths::write_whole(&folder.join(file_name(image)), &padded)?;
        }
        paths::write_whole(&folder.join(HEARTBEAT), &read(heartbeat)?)?;
        paths::write_whole(&folder.join("init.cpio"), &init::initramfs()?)?;
        paths::write_whole(&folder.join("sleeper.cpio"), &init::sleeper()?)?;
        Ok(Self { board: Board::load(BOARD)?, folder, firmware })
    }

    /// Returns `septum.img`.
    pub fn firmware(&self) -> &Path {
        &self.firmware
    }

    /// Returns where QEMU writes the exceptions of a run.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn exception_log(&self, run: Run) -> Result<PathBuf> {
        fs::create_dir_all(&self.folder)?;
        Ok(self.folder.join(name_of(run)).with_extension("log"))
    }

    /// Returns the names of a run's partitions.
    pub fn partitions(&self, run: Run) -> Vec<String> {
        system(run).partitions.into_iter().map(|(name, _)| name).collect()
    }

    /// Makes the machine of a run.
    ///
    /// # Errors
    /// Its configuration cannot be planned, or a file is missing.
    pub fn machine(&self, run: Run) -> Result<Machine> {
        let machine = match run.place {
            Place::Bare => self.bare(run)?,
            Place::Virtual | Place::Direct => self.septum(run)?,
        };
        Ok(machine.icount().args(SHORT_TURNS).args(CLOCK_OF_THE_MACHINE))
    }

    fn bare(&self, run: Run) -> Result<Machine> {
        let (cpus, memory) = match run.subject {
            Subject::Events => (2, 128),
            Subject::Linux(_) => (1, 256),
            _ => (1, 128),
        };
        let args = arguments(run.gic, cpus, memory);
        let machine = Machine::new(&self.board, &self.board.machine(&args))?.args(["-M", "virtualization=off"]);
        Ok(match run.subject {
            Subject::Reset(image, _) => {
                machine.kernel(&self.folder.join(file_name(image))).args(["-append", "only=reset"])
            }
            Subject::Linux(_) => machine
                .kernel(&Asset::DebianKernel.path()?)
                .initrd(&self.folder.join("init.cpio"))
                .args(["-append", LINUX, "-dtb"])
                .arg(self.guest_tree(run)?),
            _ => machine.kernel(&self.folder.join(file_name(Image::Small))),
        })
    }

    /// Writes the device tree that the run's guest has in a partition, for the bare machine.
    fn guest_tree(&self, run: Run) -> Result<PathBuf> {
        let system = system(run);
        let packed = Packed::read(&self.config(run, &system)?)?;
        let machine = self.board.machine(&arguments(run.gic, system.cpus, RAM));
        let target = Target::machine(&packed, &machine)?;
        let (board, plan) = packed.plan(&target)?;
        let partition = plan.partitions.first().context("the plan has no partition")?;
        let tree = guest_tree(&target.tree, &board, partition, LINUX, None)
            .map_err(|problems| anyhow::anyhow!("the guest's tree cannot be written: {problems:?}"))?;
        let path = self.folder.join(name_of(run)).with_extension("dtb");
        paths::write_whole(&path, &tree)?;
        Ok(path)
    }

    fn septum(&self, run: Run) -> Result<Machine> {
        let system = system(run);
        let path = self.config(run, &system)?;
        let bundle = pack::bundle(&path, &arguments(run.gic, system.cpus, RAM))?;
        let machine = Machine::new(&self.board, &bundle.machine)?;
        Ok(machine.kernel(&self.firmware).initrd(&bundle.bundle).args(bundle.qemu_args))
    }

    fn config(&self, run: Run, system: &System) -> Result<PathBuf> {
        let path = self.folder.join(name_of(run)).with_extension("toml");
        paths::write_whole(&path, system.text(run.place).as_bytes())?;
        Ok(path)
    }
}

/// MiB of RAM of a machine with Septum.
const RAM: u64 = 1024;

fn arguments(gic: u8, cpus: u32, mebibytes: u64) -> MachineArgs {
    let memory = Size::new(mebibytes << 20);
    MachineArgs { gic: Some(gic), cpu: Some(CPU.to_owned()), smp: Some(cpus), memory: Some(memory) }
}

/// Returns the name of a run's files.
fn name_of(run: Run) -> String {
    let Run { subject, place, gic } = run;
    format!("{subject:?}-{place:?}-v{gic}").replace(['(', ')', ',', ' '], "").to_lowercase()
}

fn file_name(image: Image) -> String {
    format!("image-{}.img", image.name())
}

/// Describes the system of a run. What drives the UART is asleep on a CPU of its own while something is measured, but for
/// boot, which is measured with one CPU.
fn system(run: Run) -> System {
    let one = |table: String| vec![("guest".to_owned(), table)];
    match run.subject {
        Subject::Events => {
            let slots = (0..SLOTS).map(|slot| {
                format!("{{ node = \"/virtio_mmio@{:x}\", unsafe-dma = true }}", 0xa00_0000 + slot * 0x200)
            });
            let devices: Vec<String> = [format!("\"{CLOCK}\"")].into_iter().chain(slots).collect();
            let table =
                table("0, 1", 128, &file_name(Image::Small), "") + &format!("devices = [{}]\n", devices.join(", "));
            System { cpus: 3, housekeeping: 2, partitions: one(table) }
        }
        Subject::Exits(scene) => exits_of(scene),
        Subject::Reset(image, keep) => {
            let table = table("0", 128, &file_name(image), "only=reset") + restart(keep);
            System { cpus: 1, housekeeping: 0, partitions: one(table) }
        }
        Subject::Restart => {
            let table = table("0", 128, &file_name(USUAL), "scene=restart");
            System { cpus: 1, housekeeping: 0, partitions: one(table) }
        }
        Subject::Linux(keep) => {
            let table = table("0", 256, "debian:vmlinuz", LINUX) + "initrd = \"init.cpio\"\n" + restart(keep);
            System { cpus: 1, housekeeping: 0, partitions: one(table) }
        }
        Subject::Ram(count) => {
            let guest = |cpu: u32| table(&cpu.to_string(), 16, HEARTBEAT, "period-ms=10 count=1");
            let partitions = (0..count).map(|cpu| (format!("guest{cpu}"), guest(cpu))).collect();
            System { cpus: count, housekeeping: 0, partitions }
        }
        Subject::ImageSize => System { cpus: 1, housekeeping: 0, partitions: Vec::new() },
    }
}

fn exits_of(scene: Scene) -> System {
    let guest = |cmdline: &str| table("0", 16, &file_name(Image::Small), cmdline);
    let named = |name: &str, table: String| (name.to_owned(), table);
    match scene {
        Scene::Idle => {
            let guest = guest("scene=exits hz=100 ticks=100");
            System { cpus: 2, housekeeping: 1, partitions: vec![named("guest", guest)] }
        }
        Scene::Busy => {
            let guest = guest("scene=exits hz=250 ticks=250 busy=1");
            System { cpus: 2, housekeeping: 1, partitions: vec![named("guest", guest)] }
        }
        Scene::Linux => {
            let guest = table("0", 256, "debian:vmlinuz", LINUX) + "initrd = \"sleeper.cpio\"\n";
            System { cpus: 2, housekeeping: 1, partitions: vec![named("guest", guest)] }
        }
        Scene::TenSeconds => {
            let guest =
                guest("scene=exits hz=100 ticks=1000 alarm=1 print=2000") + &format!("devices = [\"{CLOCK}\"]\n");
            let printer = table("1", 16, HEARTBEAT, "period-ms=50");
            System { cpus: 3, housekeeping: 2, partitions: vec![named("guest", guest), named("printer", printer)] }
        }
    }
}

fn table(cpus: &str, mebibytes: u64, kernel: &str, cmdline: &str) -> String {
    format!("cpus = [{cpus}]\nmemory = \"{mebibytes}M\"\nkernel = \"{kernel}\"\ncmdline = \"{cmdline}\"\n")
}

fn restart(keep: Keep) -> &'static str {
    match keep {
        Keep::Copy => "",
        Keep::InPlace => "restart = \"never\"\n",
    }
}

impl System {
    /// Returns the configuration; the first partition has the place's mode.
    fn text(&self, place: Place) -> String {
        let mut text = format!(
            "platform = \"{BOARD}\"\n[hypervisor]\ncpu = {}\nwhen-all-off = \"power-off\"\n",
            self.housekeeping
        );
        for (index, (name, table)) in self.partitions.iter().enumerate() {
            text += &format!("[partition.{name}]\n{table}");
            if index == 0 && place == Place::Direct {
                text += "interrupts = \"direct\"\n";
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_partition_alone_is_direct() {
        let run = Run { subject: Subject::Exits(Scene::TenSeconds), place: Place::Direct, gic: 3 };
        let text = system(run).text(run.place);
        assert_eq!(text.matches("interrupts = \"direct\"").count(), 1);
        assert!(text.find("direct") < text.find("[partition.printer]"));
        assert!(!system(run).text(Place::Virtual).contains("direct"));
    }

    #[test]
    fn runs_have_files_of_their_own() {
        let mut names: Vec<String> = crate::bench::Part::ALL
            .into_iter()
            .flat_map(|part| [2, 3].map(|gic| Run::all(part, gic)))
            .flatten()
            .map(name_of)
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
