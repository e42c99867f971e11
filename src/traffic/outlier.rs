//! Passive health: takes an endpoint out for a time after consecutive failures. Sends no probe and sets no timer.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::balance::EndpointState;

/// What one endpoint's answers say about it, over all workers.
#[derive(Debug, Default)]
pub struct EndpointHealth {
    consecutive_5xx: AtomicU32,
    consecutive_connect_failures: AtomicU32,
    /// On the caller's clock; 0: never.
    ejected_until_ns: AtomicU64,
}

/// How one try at an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer with a status under 500.
    Success,
    /// An answer of 500 or over.
    ServerError,
    /// The connection stood, but no answer came (reset, timeout): counts as a 5xx and as a connection that came to
    /// nothing, whichever threshold is reached first.
    NoAnswer,
    /// No connection came about.
    ConnectFailure,
}

/// What the endpoints of one backend share about ejection.
///
/// An ejection ends by itself when its time is over. Results that come in while an endpoint is out do not count
/// (they are of requests that were sent before, or in panic), and afterwards it starts with a clean record: it
/// takes the whole threshold again to eject it.
#[derive(Debug, Default)]
pub struct Outlier {
    /// Held for the one step that counts who is out and ejects one more.
    ejecting: AtomicBool,
    /// The latest end of any ejection.
    ejected_until_ns: AtomicU64,
}

impl EndpointHealth {
    /// Whether the endpoint is out at this moment.
    pub fn is_ejected(&self, now_ns: u64) -> bool {
        self.ejected_until_ns.load(Ordering::Relaxed) > now_ns
    }

    /// When its last ejection ends or ended; 0: there was none.
    pub(crate) fn ejection_end_ns(&self) -> u64 {
        self.ejected_until_ns.load(Ordering::Relaxed)
    }

    fn clear(&self) {
        // Most answers find nothing to clear; a load does not take the cache line from the other workers.
        for counter in [&self.consecutive_5xx, &self.consecutive_connect_failures] {
            if counter.load(Ordering::Relaxed) != 0 {
                counter.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Counts a result. Returns whether a threshold is reached.
    fn count(&self, outcome: Outcome, policy: &ir::PassiveHealth) -> bool {
        let (counter, threshold) = match outcome {
            Outcome::Success => {
                self.clear();
                return false;
            }
            Outcome::ServerError => {
                self.consecutive_connect_failures.store(0, Ordering::Relaxed);
                (&self.consecutive_5xx, policy.consecutive_5xx)
            }
            Outcome::NoAnswer => {
                let before = self.consecutive_5xx.fetch_add(1, Ordering::Relaxed);
                let threshold = policy.consecutive_5xx;
                let by_5xx = threshold > 0 && before.saturating_add(1) >= threshold;
                return self.count(Outcome::ConnectFailure, policy) || by_5xx;
            }
            // Not a success, so it does not end a row of 5xx.
            Outcome::ConnectFailure => {
                (&self.consecutive_connect_failures, policy.consecutive_connect_failures)
            }
        };
        let before = counter.fetch_add(1, Ordering::Relaxed);
        threshold > 0 && before.saturating_add(1) >= threshold
    }
}

impl Outlier {
    /// Whether no endpoint of the backend is out. Cheap: one load.
    pub fn is_calm(&self, now_ns: u64) -> bool {
        self.ejected_until_ns.load(Ordering::Relaxed) <= now_ns
    }

    /// When the last ejection of any endpoint ends or ended; 0: there was none.
    pub(crate) fn last_end_ns(&self) -> u64 {
        self.ejected_until_ns.load(Ordering::Relaxed)
    }

    /// Counts how a try at `endpoints[index]` ended. Returns whether that ejected the endpoint.
    ///
    /// When a threshold is reached but [`ejected_max`] endpoints are out already, the endpoint stays, and its next
    /// failure tries again.
    pub fn on_result<E: AsRef<EndpointState>>(
        &self,
        endpoints: &[E],
        index: usize,
        (now_ns, outcome): (u64, Outcome),
        policy: &ir::PassiveHealth,
    ) -> bool {
        let Some(health) = endpoints.get(index).map(|endpoint| endpoint.as_ref().health()) else {
            return false;
        };
        if !self.is_calm(now_ns) && health.is_ejected(now_ns) {
            return false;
        }
        if !health.count(outcome, policy) {
            return false;
        }
        // Who does not get the flag leaves the counters as they are: the next failure tries again.
        if self.ejecting.swap(true, Ordering::Acquire) {
            return false;
        }
        let out = endpoints.iter().filter(|e| e.as_ref().health().is_ejected(now_ns)).count();
        // Asked again under the flag: another worker may have ejected it since.
        let eject =
            !health.is_ejected(now_ns) && out < ejected_max(endpoints.len(), policy.max_ejected_percent);
        if eject {
            let until_ns = now_ns.saturating_add(nanos(policy.eject_for)).max(1);
            health.ejected_until_ns.store(until_ns, Ordering::Relaxed);
            health.clear();
            self.ejected_until_ns.fetch_max(until_ns, Ordering::Relaxed);
        }
        self.ejecting.store(false, Ordering::Release);
        eject
    }
}

/// How many of `endpoints` may be out at once: the share, rounded down, but at least one of two or more; never the
/// only one; and none at 0 per cent.
pub fn ejected_max(endpoints: usize, percent: u8) -> usize {
    if endpoints < 2 || percent == 0 {
        return 0;
    }
    (endpoints * usize::from(percent.min(100)) / 100).max(1)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
