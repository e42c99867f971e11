//! Waiting for a condition with a deadline, the only way in which tests wait.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that has no bound of its own; long, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until the answer is `Some`.
///
/// # Panics
/// After [`PATIENCE`], naming what was waited for.
pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, probe)
}

/// As [`until`], with a time of its own.
///
/// # Panics
/// After that time.
pub fn until_within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
