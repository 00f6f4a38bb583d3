// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the console multiplexer.

use super::super::channel::LINE_SIZE;
use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::string::String;

const P0: Source = Source::Partition(PartitionId::new(0));
const P1: Source = Source::Partition(PartitionId::new(1));

/// A multiplexer of two partitions, its inputs and its terminal.
struct Desk {
    mux: Mux,
    inputs: [VecDeque<u8>; 3],
    screen: Vec<u8>,
}

fn index(source: Source) -> usize {
    match source {
        Source::Partition(id) => id.index(),
        Source::Hypervisor => 2,
    }
}

impl Desk {
    fn new() -> Self {
        Self { mux: Mux::new(&["linux", "rt"]), inputs: Default::default(), screen: Vec::new() }
    }

    fn print(&mut self, source: Source, text: impl AsRef<[u8]>) -> &mut Self {
        self.inputs[index(source)].extend(text.as_ref());
        self
    }

    fn pump(&mut self, max_bytes: usize) -> Pumped {
        let Self { mux, inputs, screen } = self;
        mux.pump(|source| inputs[index(source)].pop_front(), max_bytes, |byte| screen.push(byte))
    }

    /// Pumps until all is done, and returns what was printed.
    fn shown(&mut self) -> String {
        while self.pump(10_000).unfinished {}
        String::from_utf8(core::mem::take(&mut self.screen)).unwrap()
    }
}

#[test]
fn every_line_carries_its_name_in_a_column_of_its_own() {
    let mut desk = Desk::new();
    desk.print(P0, "hello\n").print(P1, "tick\r\n").print(Source::Hypervisor, "booted\n");
    assert_eq!(desk.shown(), "[linux]  hello\r\n[rt]     tick\r\n[septum] booted\r\n");
}

#[test]
fn the_focus_is_shown_as_it_comes_and_others_by_the_line() {
    let mut desk = Desk::new();
    desk.print(P0, "login: ").print(P1, "half");
    assert_eq!(desk.shown(), "[linux]  login: ");
    desk.print(P0, "ro").print(P1, " a line");
    assert_eq!(desk.shown(), "ro");
}

#[test]
fn a_line_of_another_leaves_the_unfinished_one_and_puts_it_back() {
    let mut desk = Desk::new();
    desk.print(P0, "login: ro");
    desk.shown();
    desk.print(P1, "tick 1\ntick 2\n");
    assert_eq!(desk.shown(), "\r\n[rt]     tick 1\r\n[rt]     tick 2\r\n[linux]  login: ro");
    desk.print(P0, "ot\n");
    assert_eq!(desk.shown(), "ot\r\n");
}

#[test]
fn a_long_unfinished_line_is_put_back_with_its_end() {
    let mut desk = Desk::new();
    desk.print(P0, "a".repeat(LINE_SIZE) + "the end");
    assert_eq!(desk.shown().len(), 9 + LINE_SIZE + 7);
    desk.print(P1, "x\n");
    assert_eq!(desk.shown(), std::format!("\r\n[rt]     x\r\n[linux]  {}the end", "a".repeat(LINE_SIZE / 2)));
}

#[test]
fn a_long_unfinished_line_is_not_cut_within_a_colour() {
    let mut desk = Desk::new();
    let half = LINE_SIZE / 2;
    let text = "a".repeat(half - 3) + "\x1b[1;32m" + &"b".repeat(half);
    desk.print(P0, &text);
    desk.shown();
    desk.print(P1, "x\n");
    assert_eq!(desk.shown(), std::format!("\x1b[0m\r\n[rt]     x\r\n[linux]  \x1b[1;32m{}", "b".repeat(half)));
}

#[test]
fn a_long_line_of_another_is_broken_at_120() {
    let mut desk = Desk::new();
    desk.print(P1, "b".repeat(LINE_SIZE) + "c\n");
    assert_eq!(desk.shown(), std::format!("[rt]     {}\r\n[rt]     c\r\n", "b".repeat(LINE_SIZE)));
    desk.print(P1, "b".repeat(LINE_SIZE) + "\n");
    assert_eq!(desk.shown(), std::format!("[rt]     {}\r\n", "b".repeat(LINE_SIZE)));
}

#[test]
fn a_prompt_of_another_is_shown_after_a_while_and_again_when_it_gets_the_focus() {
    let mut desk = Desk::new();
    desk.print(P1, "rt> ");
    for _ in 1..HOLD_CALLS {
        assert_eq!(desk.shown(), "");
    }
    assert_eq!(desk.shown(), "[rt]     rt> \r\n");
    for _ in 0..2 * HOLD_CALLS {
        assert_eq!(desk.shown(), "");
    }
    desk.mux.set_focus(P1);
    assert_eq!(desk.shown(), "[rt]     rt> ");
    desk.print(P1, "go\n");
    assert_eq!(desk.shown(), "go\r\n");
}

#[test]
fn the_rest_of_a_held_line_is_a_line_and_its_end_alone_is_none() {
    let mut desk = Desk::new();
    desk.print(P1, "a");
    (0..HOLD_CALLS).for_each(|_| drop(desk.shown()));
    desk.print(P1, "\n");
    assert_eq!(desk.shown(), "");
    desk.print(P1, "a");
    (0..HOLD_CALLS).for_each(|_| drop(desk.shown()));
    desk.print(P1, "b\n\n");
    assert_eq!(desk.shown(), "[rt]     b\r\n[rt]     \r\n");
}

#[test]
fn moving_the_focus_ends_the_shown_line_once() {
    let mut desk = Desk::new();
    desk.print(P0, "# ");
    desk.shown();
    desk.mux.set_focus(Source::Hypervisor);
    desk.mux.set_focus(Source::Hypervisor);
    desk.print(Source::Hypervisor, "> ");
    assert_eq!(desk.shown(), "\r\n[septum] > ");
    desk.print(P0, "x\n");
    assert_eq!(desk.shown(), "\r\n[linux]  x\r\n[septum] > ");
    desk.mux.set_focus(P0);
    desk.print(P0, "# ");
    assert_eq!(desk.shown(), "\r\n[linux]  # ");
}

#[test]
fn a_partition_that_is_not_there_gets_no_focus() {
    let mut desk = Desk::new();
    for id in [2, 3, 255] {
        desk.mux.set_focus(Source::Partition(PartitionId::new(id)));
        assert_eq!(desk.mux.focus, 0);
    }
}

#[test]
fn a_return_alone_starts_the_line_again() {
    let mut desk = Desk::new();
    desk.print(P0, "10%\r20%").print(P1, "10%\r99%\r\n");
    assert_eq!(desk.shown(), "[linux]  10%\r[linux]  20%\r\n[rt]     99%\r\n[linux]  20%");
    desk.print(P0, "\r\r\n\n\rok\n");
    assert_eq!(desk.shown(), "\r\n[linux]  \r\n[linux]  ok\r\n");
}

#[test]
fn echoed_backspaces_reach_the_focus_and_shorten_the_line_of_another() {
    let mut desk = Desk::new();
    desk.print(P0, "ab\x08 \x08").print(P1, "ab\x08 \x08c\n");
    assert_eq!(desk.shown(), "[linux]  ab\x08 \x08\r\n[rt]     ac\r\n[linux]  ab\x08 \x08");
}

#[test]
fn colours_end_with_the_line_and_the_screen_stays_as_it_is() {
    let mut desk = Desk::new();
    desk.print(P1, "\x1b[31mred\x1b[2J\n\x1b[31mred\x1b[0m\n");
    assert_eq!(desk.shown(), "[rt]     \x1b[31mred\x1b[0m\r\n[rt]     \x1b[31mred\x1b[0m\r\n");
    desk.print(P0, "\x1b[32m$ ");
    desk.shown();
    desk.print(P1, "x\n");
    assert_eq!(desk.shown(), "\x1b[0m\r\n[rt]     x\r\n[linux]  \x1b[32m$ ");
}

#[test]
fn the_raw_view_is_the_focus_alone_and_counts_the_others() {
    let mut desk = Desk::new();
    desk.print(P0, "$ ");
    desk.shown();
    desk.mux.set_view(View::Raw);
    desk.print(P0, "\x1b[2J\x1b[Hvi\r\n").print(P1, "one\ntwo\n");
    assert_eq!(desk.shown(), "\r\n\x1b[2J\x1b[Hvi\r\n");
    desk.mux.set_view(View::Lines);
    assert_eq!(desk.shown(), "\x1b[0m\r\n[rt]     (2 lines were not shown)\r\n");
    desk.print(P0, "$ ");
    assert_eq!(desk.shown(), "[linux]  $ ");
}

#[test]
fn moving_the_focus_ends_the_raw_view() {
    let mut desk = Desk::new();
    desk.mux.set_view(View::Raw);
    desk.mux.set_focus(P1);
    assert_eq!(desk.mux.view(), View::Lines);
}

#[test]
fn a_call_tells_whose_output_it_took() {
    let mut desk = Desk::new();
    desk.print(P1, "x");
    assert_eq!(desk.pump(100).drained, 0b10);
    desk.print(Source::Hypervisor, "x");
    assert_eq!(desk.pump(100).drained, 0);
}

#[test]
fn a_call_without_budget_does_nothing() {
    let mut desk = Desk::new();
    desk.print(P0, "x");
    let pumped = desk.pump(0);
    assert_eq!((pumped.sent, pumped.drained, desk.inputs[0].len()), (0, 0, 1));
}

#[test]
fn a_flood_does_not_keep_others_from_being_heard() {
    let mut desk = Desk::new();
    desk.print(P0, "y\n".repeat(10_000)).print(P1, "still here\n");
    desk.pump(2_000);
    let screen = String::from_utf8(core::mem::take(&mut desk.screen)).unwrap();
    assert!(screen.contains("[rt]     still here\r\n"));
}

proptest! {
    #[test]
    fn no_call_sends_more_than_its_budget_or_takes_without_bound(
        texts in prop::collection::vec((0usize..3, any::<Vec<u8>>()), 0..20), budget in 0usize..200, focus in 0u8..4
    ) {
        let mut desk = Desk::new();
        for (source, text) in texts {
            desk.inputs[source].extend(text);
        }
        desk.mux.set_focus(Source::Partition(PartitionId::new(focus)));
        for _ in 0..50 {
            let before: usize = desk.inputs.iter().map(VecDeque::len).sum();
            desk.screen.clear();
            let pumped = desk.pump(budget);
            let after: usize = desk.inputs.iter().map(VecDeque::len).sum();
            prop_assert!(desk.screen.len() <= budget && pumped.sent == desk.screen.len());
            prop_assert!(before - after <= TURN_SIZE * (budget + 1));
        }
    }

    #[test]
    fn each_line_on_the_screen_is_of_one_console(
        lines in prop::collection::vec((0usize..3, "[a-z]{0,100}"), 0..60), cuts in prop::collection::vec(1usize..400, 1..60)
    ) {
        let mut desk = Desk::new();
        let mut cuts = cuts.into_iter().cycle();
        let mut expected: [Vec<String>; 3] = Default::default();
        for (source, line) in &lines {
            desk.inputs[*source].extend(line.bytes().chain(*b"\n"));
            expected[*source].push(line.clone());
            desk.pump(cuts.next().unwrap());
        }
        while desk.pump(1000).unfinished {}
        let screen = String::from_utf8(desk.screen).unwrap();
        let mut seen: [Vec<String>; 3] = Default::default();
        for line in screen.split_terminator("\r\n") {
            let source = ["[linux]  ", "[rt]     ", "[septum] "].iter().position(|prefix| line.starts_with(prefix));
            let text = line.get(9..).unwrap().into();
            seen[source.unwrap()].push(text);
        }
        prop_assert_eq!(&seen[1], &expected[1]);
        prop_assert_eq!(&seen[2], &expected[2]);
        // A line of the focus that was left and put back also appears before, as a beginning of itself or whole.
        let mut left = expected[0].iter().peekable();
        let mut last = None;
        for text in &seen[0] {
            if left.next_if(|wanted| *wanted == text).is_some() {
                last = Some(text);
                continue;
            }
            let is_beginning = left.peek().is_some_and(|wanted| wanted.starts_with(text.as_str()));
            prop_assert!(is_beginning || last == Some(text));
        }
        prop_assert!(left.next().is_none());
    }
}
