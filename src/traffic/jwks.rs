//! When a key set that is fetched by URL is fetched again, and until when it may be used. Fetches nothing.

use std::time::Duration;

use crate::chance;

/// After the first failure, doubled with each further one.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Between two fetches because of a key id that is not in the set (hardening JW13).
const ASK_EVERY: Duration = Duration::from_secs(10);

/// The schedule of one key set. Times are nanoseconds of the monotonic clock.
#[derive(Clone, Debug)]
pub struct KeysSchedule {
    cache_ns: u64,
    max_stale_ns: u64,
    /// When the last successful fetch ended.
    good_at_ns: Option<u64>,
    due_at_ns: u64,
    failures: u32,
    /// Since when somebody may ask for a fetch again.
    may_ask_at_ns: u64,
}

impl KeysSchedule {
    /// Due at once. `good_at_ns` is when the keys came that are there already.
    pub fn new(cache_duration: Duration, max_stale: Duration, now_ns: u64, good_at_ns: Option<u64>) -> Self {
        Self {
            cache_ns: nanos(cache_duration),
            max_stale_ns: nanos(max_stale),
            good_at_ns,
            due_at_ns: now_ns,
            failures: 0,
            may_ask_at_ns: now_ns,
        }
    }

    /// Whether a fetch should begin now.
    pub fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.due_at_ns
    }

    /// Whether the keys that are there may be used.
    pub fn is_usable(&self, now_ns: u64) -> bool {
        self.stale_at_ns().is_some_and(|stale_at| now_ns < stale_at)
    }

    /// Whether somebody who met an unknown key id may have a fetch.
    pub fn may_ask(&self, now_ns: u64) -> bool {
        now_ns >= self.may_ask_at_ns
    }

    /// Somebody met an unknown key id: a fetch is due now, unless there was one for such a cause a short while ago.
    pub fn ask(&mut self, now_ns: u64) -> bool {
        if !self.may_ask(now_ns) {
            return false;
        }
        self.may_ask_at_ns = now_ns.saturating_add(nanos(ASK_EVERY));
        self.due_at_ns = now_ns;
        true
    }

    /// A fetch has brought keys. The next one comes up to a tenth before its time, so that replicas that began together do
    /// not stay together.
    pub fn succeeded(&mut self, now_ns: u64, random: u64) {
        self.good_at_ns = Some(now_ns);
        self.failures = 0;
        let early = chance::below(random, self.cache_ns / 10);
        self.due_at_ns = now_ns.saturating_add(self.cache_ns - early);
    }

    /// A fetch has brought nothing. The next one waits longer with each failure.
    pub fn failed(&mut self, now_ns: u64, random: u64) {
        let doubled = nanos(BACKOFF).checked_shl(self.failures).unwrap_or(u64::MAX).min(nanos(BACKOFF_MAX));
        self.failures = (self.failures + 1).min(16);
        self.due_at_ns = now_ns.saturating_add(doubled - chance::below(random, doubled / 2));
    }

    /// The next moment at which any of the answers above may change by time alone.
    pub fn next_ns(&self, now_ns: u64) -> u64 {
        let later = [Some(self.may_ask_at_ns), self.stale_at_ns()];
        let later = later.into_iter().flatten().filter(|at| *at > now_ns);
        later.fold(self.due_at_ns, u64::min)
    }

    fn stale_at_ns(&self) -> Option<u64> {
        Some(self.good_at_ns?.saturating_add(self.max_stale_ns))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
