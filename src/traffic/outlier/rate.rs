//! The success rate of one endpoint, by intervals. Ejects nobody.

use std::sync::atomic::{AtomicU64, Ordering};

use super::nanos;

const COUNT_BITS: u32 = 24;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const INTERVAL_MASK: u64 = u16::MAX as u64;

/// A result that comes so many intervals late is no news; one that seems to be later is of a time long after, since only the
/// low bits of an interval are kept.
const LATE_MAX: u64 = 8;

/// Tries and failures of the interval that runs, as one word: the interval (low 16 bits of it), tries and failures (24
/// bits each). Touched only where a rate is asked for.
#[derive(Debug, Default)]
pub(crate) struct RateWindow(AtomicU64);

impl RateWindow {
    /// Counts a try. Returns whether the rate of this interval is too low. What belongs to an interval before it is not counted:
    /// it would take away what is known of this one.
    pub(crate) fn count(&self, now_ns: u64, failed: bool, policy: &ir::SuccessRate) -> bool {
        let interval = (now_ns / nanos(policy.interval).max(1)) & INTERVAL_MASK;
        let is_late = |word: u64| {
            let behind = (word >> (2 * COUNT_BITS)).wrapping_sub(interval) & INTERVAL_MASK;
            word != 0 && (1..=LATE_MAX).contains(&behind)
        };
        let next = |word: u64| {
            let (tries, failures) = if word >> (2 * COUNT_BITS) == interval {
                ((word >> COUNT_BITS) & COUNT_MAX, word & COUNT_MAX)
            } else {
                (0, 0)
            };
            // A full window stays as it is: its rate is known well enough.
            let full = tries == COUNT_MAX;
            (tries + u64::from(!full), failures + u64::from(failed && !full))
        };
        let pack =
            |(tries, failures): (u64, u64)| (interval << (2 * COUNT_BITS)) | (tries << COUNT_BITS) | failures;
        let counted = |word| (!is_late(word)).then(|| pack(next(word)));
        let Ok(before) = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted) else {
            return false;
        };
        let (tries, failures) = next(before);
        failed
            && tries >= u64::from(policy.minimum_requests)
            && (tries - failures) * 100 < tries * u64::from(policy.minimum_percent)
    }

    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
