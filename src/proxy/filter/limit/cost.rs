//! What an answer says that its request has cost. Must not refuse anything.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use traffic::{LimitStore, ShadowWatch};

use super::limit_now;

/// More than this costs nobody. For how long it closes a bucket the counters bound.
const COST_MAX: u32 = 1_000_000;

/// A request whose answer may raise its cost.
#[derive(Debug)]
pub(super) struct Owed {
    /// `None`: the limit would have refused the request, so that it is charged nothing.
    pub(super) store: Option<Arc<LimitStore>>,
    /// Only in Shadow mode. It learns what is asked for, whether or not it would have passed.
    pub(super) watch: Option<Arc<ShadowWatch>>,
    pub(super) fingerprint: u64,
    pub(super) header: HeaderName,
    /// What it has paid.
    pub(super) paid: u32,
    pub(super) by_calendar: bool,
}

impl Owed {
    /// Charges what the answer says beyond what was paid. A value that is missing, or no number, raises nothing.
    pub(super) fn settle(&self, headers: &HeaderMap, now_ns: u64) {
        let cost = headers.get(&self.header).and_then(|value| cost(value.as_bytes())).unwrap_or(0);
        let more = cost.saturating_sub(self.paid);
        if more == 0 {
            return;
        }
        if let Some(store) = &self.store {
            store.charge(limit_now(now_ns, self.by_calendar), self.fingerprint, more);
        }
        if let Some(watch) = &self.watch {
            watch.on_cost(now_ns, self.fingerprint, more);
        }
    }
}

/// Digits only; more than [`COST_MAX`] counts as that.
fn cost(value: &[u8]) -> Option<u32> {
    if value.is_empty() || value.len() > 20 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u128 = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some(u32::try_from(number).unwrap_or(COST_MAX).min(COST_MAX))
}

#[cfg(test)]
mod tests {
    use super::cost;

    #[test]
    fn a_cost_is_digits_and_has_a_bound() {
        for (value, want) in [
            ("0", Some(0)),
            ("17", Some(17)),
            ("1000001", Some(1_000_000)),
            ("99999999999999999999", Some(1_000_000)),
            ("999999999999999999999", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1, 2", None),
            (" 1", None),
        ] {
            assert_eq!(cost(value.as_bytes()), want, "{value:?}");
        }
    }
}
