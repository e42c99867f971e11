//! Slow start: the share of an endpoint that is new or was out, as it grows. Picks nobody.

use super::{EndpointState, Pick};

/// The share of an endpoint that has nothing to warm up for.
pub(super) const WHOLE: u64 = 1 << 16;
/// Where a share begins: enough for something to grow by.
const FIRST: u64 = WHOLE / 10;

/// A backend some of whose endpoints may be warming up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Warmup {
    now_ns: u64,
    slow_start_ns: u64,
}

impl Warmup {
    /// `None`: everyone has the whole share. One comparison where no slow start is asked for.
    pub(super) fn begin(ask: &Pick<'_>) -> Option<Self> {
        if ask.slow_start_ns == 0 {
            return None;
        }
        let latest_ns = ask.lineup.newest_ns.max(ask.outlier.last_end_ns());
        let some_warm = latest_ns > 0 && latest_ns.saturating_add(ask.slow_start_ns) > ask.now_ns;
        some_warm.then_some(Self { now_ns: ask.now_ns, slow_start_ns: ask.slow_start_ns })
    }

    /// From a tenth of [`WHOLE`] to the whole, evenly with the time since the endpoint was added or an ejection of it
    /// ended.
    pub(super) fn share(&self, endpoint: &EndpointState) -> u64 {
        let from_ns = endpoint.since_ns.max(endpoint.health.ejection_end_ns());
        if from_ns == 0 {
            return WHOLE;
        }
        let age_ns = u128::from(self.now_ns.saturating_sub(from_ns));
        let grown = age_ns * u128::from(WHOLE) / u128::from(self.slow_start_ns.max(1));
        u64::try_from(grown).unwrap_or(WHOLE).clamp(FIRST, WHOLE)
    }
}
