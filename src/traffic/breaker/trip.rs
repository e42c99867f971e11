//! A breaker that opens on failures: refuses everything for a time, then lets a few requests through to see, and closes
//! when they succeed. Reads no clock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use ir::BreakerFailures;

use crate::outlier::RateWindow;

/// Who waits for the outcome of probes is told to come back so soon.
const PROBE_WAIT_NS: u64 = 1_000_000_000;

/// The failures of one backend, over all workers. Touched only by rules that ask for it; they share it, each with its own
/// thresholds.
#[derive(Debug, Default)]
pub struct Trip {
    consecutive: AtomicU32,
    rate: RateWindow,
    /// When it stops refusing everything; 0: it is closed.
    open_until_ns: AtomicU64,
    /// Probes since it is half open, and how many of them succeeded.
    probes: AtomicU32,
    succeeded: AtomicU32,
    last_probe_ns: AtomicU64,
    /// Held for the one step that opens or closes it.
    turning: AtomicBool,
}

/// What a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TripState {
    Closed,
    Open,
    /// A few requests find out.
    HalfOpen,
}

impl Trip {
    /// What it is now.
    pub fn state(&self, now_ns: u64) -> TripState {
        match self.open_until_ns.load(Ordering::Relaxed) {
            0 => TripState::Closed,
            until_ns if now_ns < until_ns => TripState::Open,
            _ => TripState::HalfOpen,
        }
    }

    /// Lets a request through, or says after how many nanoseconds another may come.
    ///
    /// # Errors
    /// It is open, or half open and as many probes are under way as may be.
    pub fn admit(&self, now_ns: u64, policy: &BreakerFailures) -> Result<(), u64> {
        let until_ns = self.open_until_ns.load(Ordering::Relaxed);
        if until_ns == 0 {
            return Ok(());
        }
        if now_ns < until_ns {
            return Err(until_ns - now_ns);
        }
        let more = |begun: u32| (begun < policy.probes).then_some(begun + 1);
        let taken = self.probes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if taken {
            self.last_probe_ns.store(now_ns, Ordering::Relaxed);
            return Ok(());
        }
        // A probe whose outcome is never told, since its client left, must not hold the breaker half open for ever.
        let last_ns = self.last_probe_ns.load(Ordering::Relaxed);
        let is_overdue = now_ns.saturating_sub(last_ns) >= nanos(policy.open_for);
        let turns = || {
            self.last_probe_ns.compare_exchange(last_ns, now_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if is_overdue && turns() { Ok(()) } else { Err(PROBE_WAIT_NS) }
    }

    /// Counts how a request ended. Returns what the breaker is from now on, where that is something else.
    pub fn on_result(&self, now_ns: u64, failed: bool, policy: &BreakerFailures) -> Option<TripState> {
        match self.state(now_ns) {
            // Of requests that were sent before it opened.
            TripState::Open => None,
            TripState::Closed => {
                let by_rate = policy.rate.as_ref().is_some_and(|rate| self.rate.count(now_ns, failed, rate));
                if !failed {
                    if self.consecutive.load(Ordering::Relaxed) != 0 {
                        self.consecutive.store(0, Ordering::Relaxed);
                    }
                    return None;
                }
                let row = self.consecutive.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                let by_row = policy.consecutive > 0 && row >= policy.consecutive;
                (by_rate || by_row).then(|| self.open(now_ns, policy)).flatten()
            }
            TripState::HalfOpen if failed => self.open(now_ns, policy),
            TripState::HalfOpen => {
                let succeeded = self.succeeded.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                if succeeded < policy.probes {
                    return None;
                }
                self.turn(|| {
                    self.start_over();
                    self.open_until_ns.store(0, Ordering::Relaxed);
                    TripState::Closed
                })
            }
        }
    }

    fn open(&self, now_ns: u64, policy: &BreakerFailures) -> Option<TripState> {
        self.turn(|| {
            self.start_over();
            let until_ns = now_ns.saturating_add(nanos(policy.open_for)).max(1);
            self.open_until_ns.store(until_ns, Ordering::Relaxed);
            TripState::Open
        })
    }

    fn start_over(&self) {
        for counter in [&self.consecutive, &self.probes, &self.succeeded] {
            counter.store(0, Ordering::Relaxed);
        }
        self.rate.clear();
    }

    /// One worker turns it at a time; the result of another does not count then.
    fn turn(&self, change: impl FnOnce() -> TripState) -> Option<TripState> {
        if self.turning.swap(true, Ordering::Acquire) {
            return None;
        }
        let state = change();
        self.turning.store(false, Ordering::Release);
        Some(state)
    }
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
