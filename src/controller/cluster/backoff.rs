//! How long to wait before the API server is asked again. Waits for nothing itself; chance is an argument.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(200);
/// The longest wait: after an outage everything is asked for again within this time.
const LONGEST: Duration = Duration::from_secs(5);

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure: doubled each time, and between half of that and all of it, so that the replicas
    /// of an install do not come back all at once.
    pub(super) fn next(&mut self, chance: u64) -> Duration {
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let whole = doubled.min(LONGEST);
        let permille = u32::try_from(chance % 1001).unwrap_or_default();
        whole / 2 + whole / 2 * permille / 1000
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A number that another process would not draw. Good enough to spread load; nothing secret depends on it.
pub(super) fn chance() -> u64 {
    RandomState::new().hash_one(0_u8)
}
