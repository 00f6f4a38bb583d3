// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of `qemu`. A shell script stands for QEMU: what it gets behind its text, `-serial stdio`, it ignores.

use super::*;

#[test]
fn the_version_is_found_in_what_qemu_prints() {
    let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)\nCopyright (c) 2003-2025";
    assert_eq!(parse_version(debian), Some(Version(10, 0)));
    assert_eq!(parse_version("QEMU emulator version 9.2.50"), Some(Version(9, 2)));
    assert_eq!(parse_version("bash: no such thing"), None);
    assert_eq!(parse_version("version x"), None);
}

#[test]
fn versions_compare_by_number_and_not_by_letter() {
    let version = |text: &str| text.parse::<Version>().unwrap();
    assert!(version("10.0") > version("9.2") && version("8.2") < version("9.0"));
}

fn script(text: &str) -> Running {
    let arguments = vec!["-c".into(), text.into()];
    Machine { program: "sh".to_owned(), arguments, echo: Echo::No }.spawn().unwrap()
}

fn regex(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

const SOON: Duration = Duration::from_secs(20);

#[test]
fn what_is_typed_is_answered() {
    let mut running = script("printf '$ '; read -r line; echo \"got $line\"; sleep 60");
    running.wait_for(&regex(r"\$ $"), SOON).unwrap();
    running.send("date\n").unwrap();
    assert_eq!(running.wait_for(&regex("got .*"), SOON).unwrap().text, "$ got date");
    assert_eq!(running.end().len(), 1);
}

#[test]
fn all_of_several_expressions_are_found_in_any_order() {
    let mut running = script("echo one; echo two; echo three; sleep 60");
    running.wait_for_all(&[regex("three"), regex("one")], SOON).unwrap();
    let error = running.wait_for(&regex("two"), Duration::from_millis(100)).unwrap_err().to_string();
    assert!(error.starts_with("`two` was not said within 0.1 s") && error.contains(" three"), "{error}");
}

#[test]
fn a_machine_that_ends_before_is_an_error_with_its_own_words() {
    let mut running = script("echo panic; echo 'no such device' >&2; exit 3");
    let error = running.wait_for(&regex("prompt"), SOON).unwrap_err().to_string();
    assert!(error.starts_with("`prompt` was not said before the machine ended"), "{error}");
    assert_eq!(running.wait(Some(SOON)).unwrap().unwrap().code(), Some(3));
    assert!(running.tail().contains("panic"));
}

#[test]
fn what_is_written_before_the_end_is_seen() {
    let mut running = script("printf last");
    assert!(running.wait_for(&regex("last$"), SOON).is_ok());
}

#[test]
fn a_machine_that_ignores_the_end_is_killed() {
    let mut running = script("trap '' TERM; echo ready; while :; do sleep 1; done");
    running.wait_for(&regex("ready"), SOON).unwrap();
    let id = running.process.0.id();
    drop(running);
    assert!(kill(Pid::from_raw(i32::try_from(id).unwrap()), None).is_err(), "process {id} is left");
}

#[test]
fn the_time_can_be_up() {
    let mut running = script("sleep 60");
    assert!(running.wait(Some(Duration::from_millis(10))).unwrap().is_none());
}

#[test]
fn the_command_line_can_be_pasted_into_a_shell() {
    let arguments = vec!["-append".into(), "console=ttyAMA0 it's".into(), String::new().into()];
    let machine = Machine { program: "qemu".to_owned(), arguments, echo: Echo::No };
    assert_eq!(machine.command_line(), r"qemu -append 'console=ttyAMA0 it'\''s' ''");
}

#[test]
fn a_missing_and_an_old_qemu_are_named_with_the_release_needed() {
    let mut board = Board::load("qemu-virt").unwrap();
    board.qemu.program = "qemu-system-of-nobody".to_owned();
    let error = require(&board).unwrap_err().to_string();
    assert!(error.contains("is not installed") && error.contains("QEMU 9.0 or later"), "{error}");

    // `sh --version` would be dash's error; `bash --version` says 5 or so.
    board.qemu.program = "bash".to_owned();
    let error = require(&board).unwrap_err().to_string();
    assert!(error.contains("needs 9.0 or later"), "{error}");
}
