//! What became of password checks. Formats nothing (see `collect`).

use super::value::Counter;

/// One per process.
#[derive(Debug, Default)]
pub(crate) struct PasswordMetrics {
    /// Name and password were known, good or bad.
    pub(crate) cached: Counter,
    /// A hash was computed beside the workers.
    pub(crate) checked: Counter,
    /// Refused, because as many waited as may.
    pub(crate) busy: Counter,
}
