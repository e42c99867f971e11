//! What one endpoint's answers say about it. Knows no other endpoint.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::{Outcome, RateWindow};

/// Any number of tries.
const TRUSTED: u32 = u32::MAX;
/// The tries of an endpoint that comes back from an ejection, until one has succeeded.
const TRIALS_OF_RETURNING: u32 = 1;
/// An endpoint on trial gets one more try when none was begun for so long: the outcome of a try may never be known, for
/// its client may leave.
const TRIAL_EVERY_NS: u64 = 10_000_000_000;

/// What the active checks of an endpoint say.
const CHECK_NONE: u8 = 0;
const CHECK_PASSES: u8 = 1;
const CHECK_FAILS: u8 = 2;
const CHECK_UNREACHABLE: u8 = 3;

/// Health of one endpoint, over all workers.
#[derive(Debug)]
pub struct EndpointHealth {
    consecutive_5xx: AtomicU32,
    consecutive_connect_failures: AtomicU32,
    /// Tries that it may get before one has succeeded.
    trials: AtomicU32,
    /// Ejections in a row.
    times: AtomicU32,
    /// On the caller's clock; 0: never.
    ejected_until_ns: AtomicU64,
    /// How long the last ejection is or was.
    ejected_for_ns: AtomicU64,
    last_trial_ns: AtomicU64,
    rate: RateWindow,
    /// It came back from an ejection, and nothing is known of it since.
    is_returning: AtomicBool,
    /// It was ejected because it could not be reached.
    is_dead: AtomicBool,
    check: AtomicU8,
}

impl Default for EndpointHealth {
    fn default() -> Self {
        Self {
            consecutive_5xx: AtomicU32::new(0),
            consecutive_connect_failures: AtomicU32::new(0),
            trials: AtomicU32::new(TRUSTED),
            times: AtomicU32::new(0),
            ejected_until_ns: AtomicU64::new(0),
            ejected_for_ns: AtomicU64::new(0),
            last_trial_ns: AtomicU64::new(0),
            rate: RateWindow::default(),
            is_returning: AtomicBool::new(false),
            is_dead: AtomicBool::new(false),
            check: AtomicU8::new(CHECK_NONE),
        }
    }
}

/// What a result comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Fine,
    /// The first failure in a row.
    Doubtful,
    /// The endpoint is to be ejected.
    Reached,
}

/// What the active checks say of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// Nobody checks it, or not often enough yet: it counts as healthy.
    Unknown,
    Passes,
    /// `unreachable`: no connection came about.
    Fails {
        unreachable: bool,
    },
}

impl EndpointHealth {
    /// Whether the endpoint is ejected at this moment.
    pub fn is_ejected(&self, now_ns: u64) -> bool {
        self.ejected_until_ns.load(Ordering::Relaxed) > now_ns
    }

    /// Whether it is ejected, or its active checks fail.
    pub fn is_out(&self, now_ns: u64) -> bool {
        self.is_ejected(now_ns) || self.check.load(Ordering::Relaxed) >= CHECK_FAILS
    }

    /// Whether it is out because it can't be reached, so that it is asked in panic neither.
    pub(crate) fn is_dead(&self, now_ns: u64) -> bool {
        (self.is_ejected(now_ns) && self.is_dead.load(Ordering::Relaxed))
            || self.check.load(Ordering::Relaxed) == CHECK_UNREACHABLE
    }

    /// Whether any number of requests may go to it.
    pub fn is_trusted(&self) -> bool {
        self.trials.load(Ordering::Relaxed) == TRUSTED
    }

    /// What its active checks say.
    pub fn check(&self) -> CheckState {
        match self.check.load(Ordering::Relaxed) {
            CHECK_NONE => CheckState::Unknown,
            CHECK_PASSES => CheckState::Passes,
            check => CheckState::Fails { unreachable: check == CHECK_UNREACHABLE },
        }
    }

    /// Whoever makes an endpoint fail must tell the [`super::Outlier`] after it ([`super::Outlier::alert`]).
    pub fn set_check(&self, state: CheckState) {
        let check = match state {
            CheckState::Unknown => CHECK_NONE,
            CheckState::Passes => CHECK_PASSES,
            CheckState::Fails { unreachable: false } => CHECK_FAILS,
            CheckState::Fails { unreachable: true } => CHECK_UNREACHABLE,
        };
        self.check.store(check, Ordering::Relaxed);
    }

    /// When its last ejection ends or ended; 0: there was none.
    pub fn ejection_end_ns(&self) -> u64 {
        self.ejected_until_ns.load(Ordering::Relaxed)
    }

    /// How long its last ejection is or was.
    pub fn ejected_for(&self) -> Duration {
        Duration::from_nanos(self.ejected_for_ns.load(Ordering::Relaxed))
    }

    /// Whether it may get a request: it is trusted, or has a trial left.
    pub(crate) fn has_trial(&self, now_ns: u64) -> bool {
        self.trials.load(Ordering::Relaxed) > 0 || self.is_trial_due(now_ns)
    }

    /// Whether a session may stay with it. A single failure moves no session; one that comes back from an ejection must
    /// first show that it is well, as to others.
    pub(crate) fn admits_session(&self, now_ns: u64) -> bool {
        !self.is_out(now_ns) && (!self.is_returning.load(Ordering::Relaxed) || self.take_trial(now_ns))
    }

    /// Takes one of the tries that an endpoint on trial may get; `false`: another worker took the last one.
    pub(crate) fn take_trial(&self, now_ns: u64) -> bool {
        let taken = self.trials.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
            0 | TRUSTED => None,
            left => Some(left - 1),
        });
        match taken {
            Ok(_) => {
                self.last_trial_ns.store(now_ns, Ordering::Relaxed);
                true
            }
            Err(TRUSTED) => true,
            Err(_) => {
                let last_ns = self.last_trial_ns.load(Ordering::Relaxed);
                self.is_trial_due(now_ns)
                    && self
                        .last_trial_ns
                        .compare_exchange(last_ns, now_ns, Ordering::Relaxed, Ordering::Relaxed)
                        .is_ok()
            }
        }
    }

    fn is_trial_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.last_trial_ns.load(Ordering::Relaxed)) >= TRIAL_EVERY_NS
    }

    /// Ends its trial.
    pub(super) fn trust(&self) {
        // Most answers find nothing to change; a load does not take the cache line from the other workers.
        if self.trials.load(Ordering::Relaxed) != TRUSTED {
            self.is_returning.store(false, Ordering::Relaxed);
            self.trials.store(TRUSTED, Ordering::Relaxed);
        }
    }

    fn clear(&self) {
        for counter in [&self.consecutive_5xx, &self.consecutive_connect_failures] {
            if counter.load(Ordering::Relaxed) != 0 {
                counter.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Counts a result.
    pub(super) fn count(&self, now_ns: u64, outcome: Outcome, policy: &ir::PassiveHealth) -> Counted {
        let failed = outcome != Outcome::Success;
        let rate = policy.success_rate.as_ref();
        let by_rate = rate.is_some_and(|rate| self.rate.count(now_ns, failed, rate));
        let (before, threshold, reached) = match outcome {
            Outcome::Success => {
                self.clear();
                self.trust();
                return Counted::Fine;
            }
            Outcome::ServerError => {
                self.consecutive_connect_failures.store(0, Ordering::Relaxed);
                one_more(&self.consecutive_5xx, policy.consecutive_5xx)
            }
            Outcome::NoAnswer => {
                let (before, left, by_5xx) = one_more(&self.consecutive_5xx, policy.consecutive_5xx);
                let (before_connect, left_connect, by_connect) =
                    one_more(&self.consecutive_connect_failures, policy.consecutive_connect_failures);
                (before.min(before_connect), least_set(left, left_connect), by_5xx || by_connect)
            }
            // Not a success, so it does not end a row of 5xx.
            Outcome::ConnectFailure => {
                one_more(&self.consecutive_connect_failures, policy.consecutive_connect_failures)
            }
        };
        if reached || by_rate {
            return Counted::Reached;
        }
        if threshold == 0 {
            // It answered, and what it answers is not looked at one by one.
            if outcome == Outcome::ServerError {
                self.trust();
            }
            return Counted::Fine;
        }
        if self.is_returning.load(Ordering::Relaxed) {
            return Counted::Reached;
        }
        if before == 0 && self.doubt(now_ns, threshold) { Counted::Doubtful } else { Counted::Fine }
    }

    /// Lets it have as many more tries as it takes to be sure, whatever the load; `false`: it was in doubt already.
    pub(super) fn doubt(&self, now_ns: u64, threshold: u32) -> bool {
        let is_trusted = self.is_trusted();
        if is_trusted {
            self.last_trial_ns.store(now_ns, Ordering::Relaxed);
            self.trials.store(threshold - 1, Ordering::Relaxed);
        }
        is_trusted
    }

    /// Takes it out and returns until when: for as many times the time as it was ejected in a row. A row ends when the
    /// endpoint has stayed in for as long as it was out.
    pub(super) fn eject(&self, now_ns: u64, is_dead: bool, policy: &ir::PassiveHealth) -> u64 {
        let ejected_before = self.times.load(Ordering::Relaxed);
        let last_end_ns = self.ejected_until_ns.load(Ordering::Relaxed);
        let row_ends_ns = last_end_ns.saturating_add(self.ejected_for_ns.load(Ordering::Relaxed));
        let in_a_row = self.is_returning.load(Ordering::Relaxed) || now_ns < row_ends_ns;
        let times = if in_a_row { ejected_before.saturating_add(1) } else { 1 };
        let max_ns = nanos(policy.eject_for_max).max(nanos(policy.eject_for));
        let for_ns = nanos(policy.eject_for).saturating_mul(times.into()).min(max_ns);
        let until_ns = now_ns.saturating_add(for_ns).max(1);
        self.times.store(times, Ordering::Relaxed);
        self.ejected_for_ns.store(for_ns, Ordering::Relaxed);
        self.is_dead.store(is_dead, Ordering::Relaxed);
        self.is_returning.store(true, Ordering::Relaxed);
        // Due for another only long after it is back.
        self.last_trial_ns.store(until_ns, Ordering::Relaxed);
        self.trials.store(TRIALS_OF_RETURNING, Ordering::Relaxed);
        self.ejected_until_ns.store(until_ns, Ordering::Relaxed);
        self.clear();
        self.rate.clear();
        until_ns
    }
}

/// Counts one more: what was there before, the threshold, and whether it is reached.
fn one_more(counter: &AtomicU32, threshold: u32) -> (u32, u32, bool) {
    if threshold == 0 {
        return (0, 0, false);
    }
    let before = counter.fetch_add(1, Ordering::Relaxed);
    (before, threshold, before.saturating_add(1) >= threshold)
}

/// The lower of two thresholds of which 0 says that there is none.
fn least_set(one: u32, other: u32) -> u32 {
    match (one, other) {
        (0, other) => other,
        (one, 0) => one,
        (one, other) => one.min(other),
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
