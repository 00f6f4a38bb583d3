// SPDX-License-Identifier: MIT OR Apache-2.0
//! `on-fault`: whether a partition whose guest cannot go on is restarted or stays stopped.

use crate::config::FaultPolicy;

/// The most restarts that one window counts; a policy with more is held to this many.
pub const MAX_ATTEMPTS: usize = 32;

/// What becomes of a partition whose guest cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultVerdict {
    /// It stays stopped.
    Stop,
    /// It is restarted.
    Restart,
}

/// The restarts of one partition within its sliding window.
#[derive(Clone, Debug)]
pub struct FaultWindow {
    /// Restarts allowed in the window; 0 is never.
    attempts: usize,
    within_ticks: u64,
    /// Times of the last restarts: a ring of `attempts` entries.
    times: [u64; MAX_ATTEMPTS],
    count: usize,
    oldest: usize,
}

impl FaultWindow {
    /// Returns an empty window. `frequency` is the counter's, in ticks per second (CNTFRQ_EL0).
    pub fn new(policy: FaultPolicy, frequency: u64) -> Self {
        let (attempts, within_ms) = match policy {
            FaultPolicy::Stop => (0, 0),
            FaultPolicy::Restart { attempts, within_ms } => (attempts, within_ms),
        };
        let (seconds, rest) = (within_ms / 1000, within_ms % 1000);
        Self {
            attempts: usize::try_from(attempts).unwrap_or(MAX_ATTEMPTS).min(MAX_ATTEMPTS),
            within_ticks: seconds.saturating_mul(frequency).saturating_add(rest.saturating_mul(frequency) / 1000),
            times: [0; MAX_ATTEMPTS],
            count: 0,
            oldest: 0,
        }
    }

    /// Decides about a fault at `now` in counter ticks, and counts the restart that it allows: at most `attempts` in
    /// any span of the window's length.
    pub fn fault(&mut self, now: u64) -> FaultVerdict {
        if self.attempts == 0 {
            return FaultVerdict::Stop;
        }
        let place = if self.count < self.attempts {
            let place = self.count;
            self.count += 1;
            place
        } else {
            let oldest = self.times.get(self.oldest).copied().unwrap_or(now);
            if now.saturating_sub(oldest) <= self.within_ticks {
                return FaultVerdict::Stop;
            }
            let place = self.oldest;
            self.oldest = (self.oldest + 1) % self.attempts;
            place
        };
        if let Some(time) = self.times.get_mut(place) {
            *time = now;
        }
        FaultVerdict::Restart
    }

    /// Forgets the past: the operator has started the partition.
    pub fn clear(&mut self) {
        self.count = 0;
        self.oldest = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn window(attempts: u32, within_ms: u64) -> FaultWindow {
        FaultWindow::new(FaultPolicy::Restart { attempts, within_ms }, 1000)
    }

    #[test]
    fn stop_never_restarts() {
        let mut window = FaultWindow::new(FaultPolicy::Stop, 1000);
        assert_eq!(window.fault(0), FaultVerdict::Stop);
    }

    #[test]
    fn the_fault_after_the_last_attempt_stops() {
        let mut window = window(3, 60);
        for now in [0, 1, 2] {
            assert_eq!(window.fault(now), FaultVerdict::Restart);
        }
        assert_eq!(window.fault(60), FaultVerdict::Stop);
        assert_eq!(window.fault(61), FaultVerdict::Restart);
        assert_eq!(window.fault(61), FaultVerdict::Stop);
    }

    #[test]
    fn a_cleared_window_starts_anew() {
        let mut window = window(1, 60);
        assert_eq!(window.fault(0), FaultVerdict::Restart);
        assert_eq!(window.fault(1), FaultVerdict::Stop);
        window.clear();
        assert_eq!(window.fault(2), FaultVerdict::Restart);
    }

    proptest! {
        #[test]
        fn no_span_of_the_window_holds_more_restarts_than_allowed(
            attempts in 1u32..40, within in 0u64..50, steps in prop::collection::vec(0u64..20, 0..200)
        ) {
            let mut window = window(attempts, within);
            let mut now = 0;
            let mut restarts = Vec::new();
            for step in steps {
                now += step;
                if window.fault(now) == FaultVerdict::Restart {
                    restarts.push(now);
                }
            }
            let attempts = usize::try_from(attempts).unwrap();
            for pair in restarts.windows(attempts + 1) {
                prop_assert!(pair[attempts] - pair[0] > within);
            }
        }

        #[test]
        fn no_policy_overflows(attempts: u32, within_ms: u64, frequency: u64, now: u64) {
            let mut window = FaultWindow::new(FaultPolicy::Restart { attempts, within_ms }, frequency);
            window.fault(now);
            window.fault(now.wrapping_sub(1));
        }
    }
}
