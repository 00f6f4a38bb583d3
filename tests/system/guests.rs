// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bare-metal guests on the bare machine: what they are compared with, and whether they can be believed.

use system_tests::{GICS, Machine, Timing};

#[test]
fn heartbeat_beats_on_the_bare_machine() {
    for gic in GICS {
        let mut machine = Machine::bare("bare-heartbeat", "heartbeat", "count=3")
            .gic(gic)
            .smp(1)
            .memory("64M")
            .timing(Timing::Instructions)
            .boot();
        machine.expect_power_off(60);
        let claims = machine.claims(None, "heartbeat");
        assert_eq!(claims.failed, []);
        assert_eq!(claims.ok.len(), 2);
    }
}
