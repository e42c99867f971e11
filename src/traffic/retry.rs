//! How many retries a backend may get and how long one waits. Decides no retry by kind of failure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::chance;

/// Retries that are always free, in each second.
pub const RETRIES_FREE_PER_SECOND: u64 = 10;

/// Keeps retries from multiplying the load on a backend that is in trouble: over the last ten seconds they may be
/// a given share of the requests, and a few in every second are free, so that quiet backends get theirs.
#[derive(Debug, Default)]
pub struct RetryBudget {
    /// One word a second, see [`Tally`]; the second names its place.
    seconds: [AtomicU64; WINDOW_SECONDS_USIZE],
}

impl RetryBudget {
    /// Counts a request (not its retries).
    pub fn on_request(&self, now_ns: u64) {
        let now = now_ns / NANOS_PER_SECOND;
        let Some(slot) = self.slot(now) else { return };
        let word = slot.load(Ordering::Relaxed);
        if Tally::unpack(word).is_of(now) {
            // No carry into the neighbour: see `Tally`. An addition keeps this cheap for workers that race.
            if Tally::unpack(word).requests < Tally::COUNT_MAX - REQUESTS_RACE_MAX {
                slot.fetch_add(Tally::ONE_REQUEST, Ordering::Relaxed);
            }
            return;
        }
        // The first request of a second clears what stood there ten seconds ago.
        let counted = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let mut tally = Tally::at(word, now);
            tally.requests = (tally.requests + 1).min(Tally::COUNT_MAX);
            Some(tally.pack())
        });
        debug_assert!(counted.is_ok(), "the update never declines");
    }

    /// Takes one retry: `true` while the retries of the last ten seconds are under `percent` of the requests, or
    /// those of this second under [`RETRIES_FREE_PER_SECOND`].
    #[must_use = "a retry that was refused must not be made"]
    pub fn try_retry(&self, now_ns: u64, percent: u32) -> bool {
        let now = now_ns / NANOS_PER_SECOND;
        let Some(slot) = self.slot(now) else { return false };
        slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let mut tally = Tally::at(word, now);
            let (requests, retries) = self.before(now);
            let allowed = (requests + tally.requests).saturating_mul(u64::from(percent)) / 100;
            if retries + tally.retries >= allowed && tally.retries >= RETRIES_FREE_PER_SECOND {
                return None;
            }
            tally.retries = (tally.retries + 1).min(Tally::COUNT_MAX);
            Some(tally.pack())
        })
        .is_ok()
    }

    /// Requests and retries of the nine seconds before this one.
    fn before(&self, now: u64) -> (u64, u64) {
        let (mut requests, mut retries) = (0, 0);
        for second in now.saturating_sub(WINDOW_SECONDS - 1)..now {
            let tally = self.slot(second).map(|slot| Tally::unpack(slot.load(Ordering::Relaxed)));
            if let Some(tally) = tally.filter(|tally| tally.is_of(second)) {
                requests += tally.requests;
                retries += tally.retries;
            }
        }
        (requests, retries)
    }

    fn slot(&self, second: u64) -> Option<&AtomicU64> {
        self.seconds.get(usize::try_from(second % WINDOW_SECONDS).unwrap_or(0))
    }
}

/// How long the `attempt`-th retry (from 1) waits: anything from nothing to `base` doubled for each retry before
/// it, at most `max` ("full jitter": clients that failed together do not come back together).
pub fn backoff(attempt: u32, base: Duration, max: Duration, random: u64) -> Duration {
    let factor = 1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let ceiling = base.saturating_mul(factor).min(max);
    let ceiling_ns = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(chance::below(random, ceiling_ns.saturating_add(1)))
}

/// What happened in one second, as one word: the second (low 16 bits of it), requests and retries (24 bits each).
/// A word from a multiple of 18 hours ago would be taken for a new one; no backend notices.
#[derive(Clone, Copy)]
struct Tally {
    second: u64,
    requests: u64,
    retries: u64,
}

impl Tally {
    const COUNT_BITS: u32 = 24;
    const COUNT_MAX: u64 = (1 << Self::COUNT_BITS) - 1;
    const SECOND_MASK: u64 = u16::MAX as u64;
    const ONE_REQUEST: u64 = 1 << Self::COUNT_BITS;

    fn unpack(word: u64) -> Self {
        Self {
            second: word >> (2 * Self::COUNT_BITS),
            requests: (word >> Self::COUNT_BITS) & Self::COUNT_MAX,
            retries: word & Self::COUNT_MAX,
        }
    }

    fn pack(self) -> u64 {
        (self.second << (2 * Self::COUNT_BITS)) | (self.requests << Self::COUNT_BITS) | self.retries
    }

    /// The word's tally if it is of this second, else an empty one.
    fn at(word: u64, second: u64) -> Self {
        let tally = Self::unpack(word);
        if tally.is_of(second) {
            return tally;
        }
        Self { second: second & Self::SECOND_MASK, requests: 0, retries: 0 }
    }

    fn is_of(self, second: u64) -> bool {
        self.second == second & Self::SECOND_MASK
    }
}

const WINDOW_SECONDS: u64 = 10;
const WINDOW_SECONDS_USIZE: usize = 10;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// More workers than this cannot add to one word between its load and its addition.
const REQUESTS_RACE_MAX: u64 = 1 << 12;

#[cfg(test)]
mod tests;
