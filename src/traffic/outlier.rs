//! Passive health: takes an endpoint out for a time after failures. Sends no probe and sets no timer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::balance::EndpointState;

mod check;
mod health;
mod rate;

pub use check::{CheckOutcome, CheckRecord};
pub use health::{CheckState, EndpointHealth};

pub(crate) use self::rate::RateWindow;

use self::health::{Counted, nanos};

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
/// (they are of requests that were sent before, or in panic). Afterwards it is on trial: it gets one try, and that one
/// says whether it is trusted again or out again, for longer.
#[derive(Debug, Default)]
pub struct Outlier {
    /// Held for the one step that counts who is out and ejects one more.
    ejecting: AtomicBool,
    /// The latest end of any ejection.
    ejected_until_ns: AtomicU64,
    /// Counts up whenever an endpoint may not be asked as freely as before.
    alerts: AtomicU64,
    /// What `alerts` was when everyone was last seen to be well.
    settled: AtomicU64,
    /// The number of the list of endpoints that holds now. See [`Self::next_lineup`].
    lineup: AtomicU64,
}

impl Outlier {
    /// Whether every endpoint of the backend is trusted. Cheap: two loads.
    pub fn is_calm(&self) -> bool {
        self.alerts.load(Ordering::Acquire) == self.settled.load(Ordering::Relaxed)
    }

    /// To be asked for before the endpoints are looked at, and given to [`Self::settle`] after.
    pub(crate) fn alerts(&self) -> u64 {
        self.alerts.load(Ordering::Acquire)
    }

    /// Everyone in the lineup of this number was well, and nothing that came up since is forgotten. A lineup that does not hold
    /// any more says nothing: somebody may be out whom it does not know.
    pub(crate) fn settle(&self, alerts: u64, lineup: u64) {
        if self.lineup.load(Ordering::Acquire) == lineup {
            self.settled.store(alerts, Ordering::Relaxed);
        }
    }

    /// A new list of endpoints is to hold from now on. Returns its number for [`crate::Lineup::with_number`]; to be asked for
    /// before anyone is given the list.
    pub fn next_lineup(&self) -> u64 {
        self.lineup.fetch_add(1, Ordering::Release).wrapping_add(1)
    }

    /// Some endpoint is not to be asked as freely as before.
    pub fn alert(&self) {
        self.alerts.fetch_add(1, Ordering::Release);
    }

    /// When the last ejection of any endpoint ends or ended; 0: there was none.
    pub(crate) fn last_end_ns(&self) -> u64 {
        self.ejected_until_ns.load(Ordering::Relaxed)
    }

    /// A new connection to the endpoint takes longer than one should, which may be all that is ever heard of it. That is no
    /// failure yet, but until an answer comes it gets no more tries than failures to connect would eject it.
    pub fn on_slow_connect(&self, endpoint: &EndpointState, now_ns: u64, policy: &ir::PassiveHealth) {
        let tries = policy.consecutive_connect_failures;
        if tries > 0 && endpoint.health().doubt(now_ns, tries) {
            self.alert();
        }
    }

    /// Whether [`Self::on_result`] has to know when this outcome came, and not only about when.
    pub fn is_timely(&self, outcome: Outcome, policy: &ir::PassiveHealth) -> bool {
        outcome != Outcome::Success || policy.success_rate.is_some() || !self.is_calm()
    }

    /// Counts how a try at `endpoints[index]` ended. Returns whether that ejected the endpoint.
    ///
    /// When a threshold is reached but as many endpoints are out as may be, the endpoint stays, and its next failure
    /// tries again.
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
        if !self.is_calm() && health.is_ejected(now_ns) {
            return false;
        }
        match health.count(now_ns, outcome, policy) {
            Counted::Fine => return false,
            Counted::Doubtful => {
                self.alert();
                return false;
            }
            Counted::Reached => {}
        }
        // Who does not get the flag leaves the counters as they are: the next failure tries again.
        if self.ejecting.swap(true, Ordering::Acquire) {
            return false;
        }
        let out = endpoints.iter().filter(|e| e.as_ref().health().is_out(now_ns)).count();
        let out_max = match outcome {
            // Who can't be reached serves nobody, so that it is no loss; but somebody must be left.
            Outcome::ConnectFailure if policy.max_ejected_percent > 0 => endpoints.len().saturating_sub(1),
            Outcome::ConnectFailure | Outcome::NoAnswer | Outcome::ServerError | Outcome::Success => {
                ejected_max(endpoints.len(), policy.max_ejected_percent)
            }
        };
        // Asked again under the flag: another worker may have ejected it since.
        let eject = !health.is_ejected(now_ns) && out < out_max;
        if eject {
            let until_ns = health.eject(now_ns, outcome == Outcome::ConnectFailure, policy);
            self.ejected_until_ns.fetch_max(until_ns, Ordering::Relaxed);
            self.alert();
        } else {
            if health.is_out(now_ns) {
                // It was asked because all seemed to be calm.
                self.alert();
            }
            if !health.is_ejected(now_ns) {
                health.trust();
            }
        }
        self.ejecting.store(false, Ordering::Release);
        eject
    }
}

/// How many of `endpoints` may be out at once for what they answer: the share, rounded down, but at least one of two or
/// more; never the only one; and none at 0 per cent.
pub fn ejected_max(endpoints: usize, percent: u8) -> usize {
    if endpoints < 2 || percent == 0 {
        return 0;
    }
    (endpoints * usize::from(percent.min(100)) / 100).max(1)
}

#[cfg(test)]
mod tests;
