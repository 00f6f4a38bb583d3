// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is measured: runs of machines, each of which gives some figures. Time is counted in instructions and the counter
//! runs at 1 GHz, so that a tick is an instruction, the hypervisor's included, and each run gives the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use serde::Serialize;

use super::budgets::Part;
use super::exceptions;
use super::machines::Files;
use crate::qemu::{Line, Machine, Running};

/// How long a machine may run on a busy PC.
const LIMIT: Duration = Duration::from_secs(240);

/// Figures by the name of their row.
pub type Figures = BTreeMap<String, u64>;

/// Where a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// At EL1 of the bare machine.
    Bare,
    /// In a partition whose interrupts arrive through list registers.
    Virtual,
    /// In a partition with `interrupts = "direct"`.
    Direct,
}

/// What becomes of a partition's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is kept for a restart and copied.
    Copy,
    /// It is used where it lies: `restart = "never"`.
    InPlace,
}

/// The size of the image that is measured from reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// The guest as it is.
    Small,
    /// So many MiB.
    Mebibytes(usize),
}

/// A guest's life of which the exits are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Asleep between ticks.
    Idle,
    /// Busy between ticks.
    Busy,
    /// Ten seconds, with a device's interrupt at each tick and consoles that are printed.
    TenSeconds,
    /// Linux with nothing to do, for a second.
    Linux,
}

/// What is measured in one run of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The events that the guest `bench` measures itself.
    Events,
    /// The exits of a scene.
    Exits(Scene),
    /// From reset to the guest's first instruction.
    Reset(Image, Keep),
    /// From a guest's SYSTEM_RESET to its next life.
    Restart,
    /// From reset to the first instruction of Linux's init.
    Linux(Keep),
    /// The size of `septum.img`; nothing runs.
    ImageSize,
    /// RAM that is taken with so many CPUs and partitions.
    Ram(u32),
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

/// The images that are measured from reset.
pub const IMAGES: [Image; 4] = [Image::Small, Image::Mebibytes(1), Image::Mebibytes(8), Image::Mebibytes(32)];
/// The image of which zeroing is measured, and with which a restart is.
pub const USUAL: Image = Image::Mebibytes(1);
/// Numbers of CPUs and partitions of which the hypervisor's memory is measured.
const CROWDS: [u32; 4] = [1, 2, 4, 8];

impl Run {
    /// Lists all runs of a part with one GIC.
    pub fn all(part: Part, gic: u8) -> Vec<Self> {
        use Place::{Bare, Direct, Virtual};
        let run = |subject, place| Self { subject, place, gic };
        // Only GICv3 can.
        let direct = |subject| (gic == 3).then(|| run(subject, Direct));
        match part {
            Part::Events => {
                let runs = [Bare, Virtual].map(|place| run(Subject::Events, place));
                runs.into_iter().chain(direct(Subject::Events)).collect()
            }
            Part::Exits => {
                let scenes = [Scene::Linux, Scene::Busy, Scene::TenSeconds, Scene::Idle];
                let runs = scenes.map(|scene| run(Subject::Exits(scene), Virtual));
                let direct =
                    [Scene::Linux, Scene::TenSeconds].into_iter().filter_map(|scene| direct(Subject::Exits(scene)));
                runs.into_iter().chain(direct).collect()
            }
            Part::Boot => {
                let copied = IMAGES.map(|image| Subject::Reset(image, Keep::Copy));
                let in_place = IMAGES[1..].iter().map(|image| Subject::Reset(*image, Keep::InPlace));
                let runs =
                    copied.into_iter().chain(in_place).chain([Subject::Restart]).map(|subject| run(subject, Virtual));
                // The bare machine's loader has the image in its place at reset, whatever its size.
                let bare = IMAGES.map(|image| run(Subject::Reset(image, Keep::Copy), Bare));
                runs.chain(bare).collect()
            }
            Part::Linux => {
                let septum = [Keep::Copy, Keep::InPlace].map(|keep| run(Subject::Linux(keep), Virtual));
                [run(Subject::Linux(Keep::Copy), Bare)].into_iter().chain(septum).collect()
            }
            Part::Memory => {
                let subjects = CROWDS.map(Subject::Ram).into_iter().chain([Subject::ImageSize]);
                subjects.map(|subject| run(subject, Virtual)).collect()
            }
        }
    }
}

impl Image {
    /// Returns its name in rows.
    pub fn name(self) -> String {
        match self {
            Self::Small => "small".to_owned(),
            Self::Mebibytes(count) => format!("{count}m"),
        }
    }
}

impl Scene {
    /// Returns its name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::TenSeconds => "10s",
            Self::Linux => "linux-idle",
        }
    }
}

/// Runs a machine to its end and returns what it gave.
///
/// # Errors
/// It cannot be started, does not end, says nothing, or what it says does not hold.
pub fn measure(files: &Files, run: Run) -> Result<Figures> {
    match run.subject {
        Subject::ImageSize => Ok(one("image", fs::metadata(files.firmware())?.len())),
        Subject::Exits(scene) => exits(files, run, scene),
        Subject::Ram(count) => {
            let (_, lines) = finish(run, &files.machine(run)?)?;
            Ok(one(&format!("ram-{count}"), ram(&lines).context("the firmware does not say what its heap holds")?))
        }
        Subject::Events | Subject::Reset(..) | Subject::Restart | Subject::Linux(_) => {
            let (running, lines) = finish(run, &files.machine(run)?)?;
            let figures = figures(run, &lines)?;
            ensure!(!figures.is_empty(), "nothing was measured; {}", running.tail());
            let claims = |text: &str| lines.iter().any(|line| line.contains(text));
            ensure!(!claims(" FAIL "), "a claim does not hold; {}", running.tail());
            let is_guest = !matches!(run.subject, Subject::Linux(_));
            ensure!(!is_guest || claims("DONE "), "the guest did not finish; {}", running.tail());
            Ok(figures)
        }
    }
}

fn finish(run: Run, machine: &Machine) -> Result<(Running, Vec<String>)> {
    let mut running = machine.spawn()?;
    wait(run, &mut running)?;
    let lines = text(running.lines());
    Ok((running, lines))
}

fn wait(run: Run, running: &mut Running) -> Result<()> {
    let status = running.wait(Some(LIMIT))?;
    let Some(status) = status else { bail!("{run:?} did not end in {} s; {}", LIMIT.as_secs(), running.tail()) };
    ensure!(status.success(), "QEMU ended with {status}; {}", running.tail());
    Ok(())
}

fn text(lines: Vec<Line>) -> Vec<String> {
    lines.into_iter().map(|line| line.text).collect()
}

fn one(name: &str, figure: u64) -> Figures {
    Figures::from([(name.to_owned(), figure)])
}

/// Takes the figures of a guest from the console, those of boot without what zeroing memory took.
fn figures(run: Run, lines: &[String]) -> Result<Figures> {
    let line = Regex::new(r"BENCH (\S+) (\d+)\s*$")?;
    let mut figures = Figures::new();
    // The last time a partition began is the one of which the guest speaks.
    let scrubbing = lines.iter().rev().find_map(|line| scrubbing(line));
    for text in lines {
        let Some(found) = line.captures(text) else { continue };
        let ticks: u64 = found[2].parse().with_context(|| format!("in `{text}`"))?;
        let apart = ticks.saturating_sub(scrubbing.unwrap_or(0));
        let (name, figure) = match run.subject {
            Subject::Reset(image, keep) if &found[1] == "reset" => (reset_name(image, keep), apart),
            Subject::Linux(keep) => (in_place("linux-init", keep), apart),
            Subject::Restart if &found[1] == "restart" => ("restart".to_owned(), apart),
            Subject::Events if &found[1] != "reset" => (found[1].to_owned(), ticks),
            // With other CPUs that spin at boot the time from reset means nothing.
            _ => continue,
        };
        figures.insert(name, figure);
    }
    if run.subject == Subject::Reset(USUAL, Keep::Copy) {
        figures.extend(scrubbing.map(|ticks| ("reset-scrub".to_owned(), ticks)));
    }
    Ok(figures)
}

/// Returns the ticks that zeroing took, from the line with which the firmware says that a partition began.
fn scrubbing(line: &str) -> Option<u64> {
    let (_, said) = line.split_once(": began after ")?;
    let (_, scrubbing) = said.split_once(" ticks, of which ")?;
    scrubbing.strip_suffix(" scrubbing")?.trim().parse().ok()
}

fn reset_name(image: Image, keep: Keep) -> String {
    in_place(&format!("reset-{}", image.name()), keep)
}

fn in_place(name: &str, keep: Keep) -> String {
    match keep {
        Keep::Copy => name.to_owned(),
        Keep::InPlace => format!("{name}-in-place"),
    }
}

/// Returns the KiB that the hypervisor uses: its image with its data, and what is taken of the heap.
fn ram(lines: &[String]) -> Option<u64> {
    let said = lines.iter().find_map(|line| line.split_once("hypervisor memory: ").map(|(_, said)| said))?;
    let (used, _) = said.split_once(" KiB in use")?;
    used.parse().ok()
}

/// Plays a scene and counts its exits in QEMU's log; the hypervisor's own count must agree.
fn exits(files: &Files, run: Run, scene: Scene) -> Result<Figures> {
    let log = files.exception_log(run)?;
    let machine = files.machine(run)?.args(["-d", "int", "-D"]).arg(log.as_os_str());
    let mut running = machine.spawn()?;
    running.wait_for(&Regex::new("SCENE OVER")?, LIMIT)?;
    running.send("\x07hstats guest\rlist\r")?;
    // A line is read when the next ones are there.
    running.wait_for(&Regex::new(r"guest vcpu0 on .*: \d+ exits")?, LIMIT)?;
    running.wait_for(&Regex::new(r" 0 +guest +running.*\d$")?, LIMIT)?;
    let said = text(running.lines()).into_iter().find(|line| line.contains("guest vcpu0 on "));
    let said = said.context("the shell's answer is gone")?;
    let own = own_count(&said).with_context(|| format!("`{said}` says no count"))?;
    for partition in files.partitions(run) {
        running.send(&format!("stop {partition}\r"))?;
    }
    wait(run, &mut running)?;
    let counted = count(&log)?;
    // With the log of a run that gave its figure nothing can be done any more.
    fs::remove_file(&log).with_context(|| format!("cannot remove {}", log.display()))?;
    // A kick that finds the CPU idle, such as the one that starts the partition, is counted and is no exit of a guest.
    let (own, kicks) = own;
    // Linux goes on having interrupts behind its last mark.
    ensure!(
        scene == Scene::Linux || (own.saturating_sub(kicks)..=own).contains(&counted.total),
        "the hypervisor counts {own} exits, QEMU's log has {}: {said}",
        counted.total
    );
    Ok(one(&format!("exits-{}", scene.name()), counted.between))
}

fn count(log: &Path) -> Result<exceptions::Exits> {
    let file = File::open(log).with_context(|| format!("cannot read {}", log.display()))?;
    exceptions::count(BufReader::new(file), 0).with_context(|| format!("in {}", log.display()))
}

/// Returns the total in a line of the shell's `stats`, and how many of it are kicks.
fn own_count(line: &str) -> Option<(u64, u64)> {
    let (total, reasons) = line.split_once(" on ")?.1.split_once(": ")?.1.split_once(" exits")?;
    let kicks = reasons.split([',', ':']).find_map(|reason| reason.trim().strip_prefix("kick ")?.trim().parse().ok());
    Some((total.parse().ok()?, kicks.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(subject: Subject) -> Run {
        Run { subject, place: Place::Virtual, gic: 3 }
    }

    fn taken(subject: Subject, lines: &[&str]) -> Figures {
        figures(run(subject), &lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    const BEGAN: &str = "[septum] partition guest: began after 700 ticks, of which 600 scrubbing";

    #[test]
    fn figures_of_boot_are_without_scrubbing() {
        let reset = Subject::Reset(USUAL, Keep::Copy);
        let figures = taken(reset, &[BEGAN, "[guest]  BENCH reset 1000", "[guest]  BENCH other 3"]);
        assert_eq!(figures, Figures::from([("reset-1m".to_owned(), 400), ("reset-scrub".to_owned(), 600)]));
        assert_eq!(taken(reset, &["BENCH reset 1000"]), one("reset-1m", 1000));
        assert_eq!(taken(Subject::Linux(Keep::InPlace), &[BEGAN, "BENCH init 900"]), one("linux-init-in-place", 300));
        let again = "[septum] partition guest: began after 30 ticks, of which 20 scrubbing";
        assert_eq!(taken(Subject::Restart, &[BEGAN, "BENCH reset 7", again, "BENCH restart 50"]), one("restart", 30));
    }

    #[test]
    fn figures_of_events_are_as_the_guest_says_them() {
        let lines =
            [BEGAN, "BENCH reset 7", "....BENCH console-char 90", "bench: console-char took up to 91", "BENCH x y"];
        assert_eq!(taken(Subject::Events, &lines), one("console-char", 90));
    }

    #[test]
    fn what_the_firmware_says_is_read() {
        let line = "[septum] hypervisor memory: 498 KiB in use (image 384, heap 114) of 2048 KiB kept".to_owned();
        assert_eq!(ram(&[line]), Some(498));
        assert_eq!(ram(&["[septum] hypervisor memory".to_owned()]), None);
        let line = "[septum] guest vcpu0 on cpu0: 1102 exits: mmio 1100, kick 2";
        assert_eq!(own_count(line), Some((1102, 2)));
        assert_eq!(own_count("[septum] guest vcpu0 on cpu0: 7 exits: mmio 7"), Some((7, 0)));
        assert_eq!(own_count("[septum] > stats guest"), None);
    }

    #[test]
    fn direct_runs_are_of_gicv3() {
        let direct =
            |gic| Part::ALL.into_iter().flat_map(move |part| Run::all(part, gic)).any(|run| run.place == Place::Direct);
        assert!(direct(3));
        assert!(!direct(2));
    }
}
