//! What the active checks of one endpoint come to. Sends none.

use super::health::CheckState;

/// The checks of one endpoint in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckRecord {
    passed: u32,
    failed: u32,
}

/// How one check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    Passed,
    /// It answered something else, or not in time.
    Failed,
    /// No connection came about.
    Unreachable,
}

impl CheckRecord {
    /// Counts a check. Returns what the endpoint is from now on, where that is something else. The first check that passes
    /// says that one is well of which nothing was known; one that failed must pass `healthy` times in a row.
    pub fn on_check(
        &mut self,
        now: CheckState,
        outcome: CheckOutcome,
        (healthy, unhealthy): (u32, u32),
    ) -> Option<CheckState> {
        let passed = outcome == CheckOutcome::Passed;
        self.passed = if passed { self.passed.saturating_add(1) } else { 0 };
        self.failed = if passed { 0 } else { self.failed.saturating_add(1) };
        let fails = CheckState::Fails { unreachable: outcome == CheckOutcome::Unreachable };
        let next = match now {
            CheckState::Unknown if passed => CheckState::Passes,
            CheckState::Fails { .. } if passed && self.passed >= healthy => CheckState::Passes,
            CheckState::Fails { .. } if !passed => fails,
            CheckState::Unknown | CheckState::Passes if self.failed >= unhealthy => fails,
            CheckState::Unknown | CheckState::Passes | CheckState::Fails { .. } => now,
        };
        (next != now).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: CheckState = CheckState::Fails { unreachable: false };
    const DEAD: CheckState = CheckState::Fails { unreachable: true };

    #[test]
    fn an_endpoint_is_what_so_many_checks_in_a_row_say() {
        use CheckOutcome::{Failed as F, Passed as P, Unreachable as U};
        let cases: &[(&[CheckOutcome], CheckState)] = &[
            (&[], CheckState::Unknown),
            (&[F, F], CheckState::Unknown),
            (&[P], CheckState::Passes),
            (&[F, F, F], OUT),
            (&[F, F, U], DEAD),
            (&[U, U, F], OUT),
            (&[P, F, F, P, F, F], CheckState::Passes),
            (&[P, F, F, F], OUT),
            (&[F, F, F, P], OUT),
            (&[F, F, F, P, P], CheckState::Passes),
            (&[F, F, F, P, F, P], OUT),
            (&[U, U, U, F], OUT),
            (&[F, F, F, U], DEAD),
        ];
        for (outcomes, want) in cases {
            let (mut record, mut state) = (CheckRecord::default(), CheckState::Unknown);
            for outcome in *outcomes {
                state = record.on_check(state, *outcome, (2, 3)).unwrap_or(state);
            }
            assert_eq!(state, *want, "{outcomes:?}");
        }
    }
}
