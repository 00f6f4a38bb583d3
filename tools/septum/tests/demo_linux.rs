// SPDX-License-Identifier: MIT OR Apache-2.0
//! The demo Linux with nothing below it: what the system tests do in it under Septum must work here first.

use std::env;
use std::fs;
use std::path::Path;
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use regex::Regex;
use septum_tool::assets::Asset;
use septum_tool::platform::{Board, MachineArgs};
use septum_tool::qemu::Machine;

/// How long a step may take on a busy PC.
const STEP: Duration = Duration::from_secs(60);

#[test]
fn shell_answers_scripts_run_and_power_goes_off() -> Result<()> {
    let disk = env::temp_dir().join(format!("septum-demo-linux-{}.img", process::id()));
    fs::write(&disk, vec![0; 1 << 20])?;
    let board = Board::load("qemu-virt")?;
    let args = MachineArgs { smp: Some(2), ..MachineArgs::default() };
    let asset = |name| Asset::parse(name, Path::new(""))?.path();
    let mut linux = Machine::new(&board, &board.machine(&args))?
        .kernel(&asset("debian:vmlinuz")?)
        .initrd(&asset("debian:initrd")?)
        .args(["-append", "console=ttyAMA0 quiet septum.run=heartbeat"])
        .args(["-drive", &format!("if=none,id=disk,format=raw,file={}", disk.display())])
        .args(["-device", "virtio-blk-device,drive=disk"])
        .spawn()?;
    let mut expect = |typed: &str, answer: &str| -> Result<()> {
        linux.send(typed)?;
        linux.wait_for(&Regex::new(answer)?, STEP).with_context(|| format!("after {typed:?}"))?;
        Ok(())
    };

    expect("", "septum demo: Linux is up on 2 CPUs")?;
    expect("", "/ # ")?;
    expect("echo answer $((6 * 7))\r", "answer 42")?;
    expect("", "heartbeat 2 at ")?;
    expect("hotplug 3\r", "hotplug: 3 steps done")?;
    expect("memory-hash 1\r", "memory-hash 2 ok")?;
    expect("\x03disk-io\r", "disk-io 2 ok")?;
    expect("\x03poweroff\r", "Power down")?;

    let status = linux.wait(Some(STEP))?.with_context(|| linux.tail())?;
    ensure!(status.success(), "QEMU ended with {status}; {}", linux.tail());
    fs::remove_file(&disk)?;
    Ok(())
}
