//! A breaker that opens on failures: refuses everything for a time, then lets a few requests through to see, and closes
//! when they succeed. Reads no clock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use ir::BreakerFailures;

use crate::outlier::RateWindow;

/// Who waits for the outcome of probes is told to come back so soon.
const PROBE_WAIT_NS: u64 = 1_000_000_000;

const COUNT_BITS: u32 = 16;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const BEGUN_ONE: u64 = 1 << COUNT_BITS;

/// The failures of one backend, over all workers. Touched only by rules that ask for it; they share it, each with its own
/// thresholds.
#[derive(Debug, Default)]
pub struct Trip {
    consecutive: AtomicU32,
    rate: RateWindow,
    /// When it stops refusing everything; 0: it is closed.
    open_until_ns: AtomicU64,
    /// The number of the last opening (32 bits), and since then the probes that have begun and those that succeeded (16 bits
    /// each): one word, so that nothing of one opening counts for another.
    probes: AtomicU64,
    last_probe_ns: AtomicU64,
    /// Held for the one step that opens or closes it.
    turning: AtomicBool,
}

/// A request that was let through. What comes of it counts only where it can tell of the breaker as it is then: of no opening
/// but the last one before it, and of a half-open breaker only if it is a probe. A probe that is dropped without a result
/// gives its place to another one.
#[derive(Debug)]
#[must_use = "a probe that is dropped gives its place back"]
pub struct TripPermit<'t> {
    trip: &'t Trip,
    opening: u32,
    is_probe: bool,
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
    pub fn admit(&self, now_ns: u64, policy: &BreakerFailures) -> Result<TripPermit<'_>, u64> {
        // Before the time: who sees an opening must see until when it lasts.
        let opening = opening_of(self.probes.load(Ordering::Acquire));
        let until_ns = self.open_until_ns.load(Ordering::Relaxed);
        if until_ns == 0 {
            return Ok(TripPermit { trip: self, opening, is_probe: false });
        }
        if now_ns < until_ns {
            return Err(until_ns - now_ns);
        }
        if self.begin_probe(opening, policy.probes.into()) {
            self.last_probe_ns.store(now_ns, Ordering::Relaxed);
            return Ok(TripPermit { trip: self, opening, is_probe: true });
        }
        // A probe that takes for ever must not hold the breaker half open for ever.
        let last_ns = self.last_probe_ns.load(Ordering::Relaxed);
        let is_overdue = now_ns.saturating_sub(last_ns) >= nanos(policy.open_for);
        let turns = || {
            self.last_probe_ns.compare_exchange(last_ns, now_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if is_overdue && turns() && self.begin_probe(opening, COUNT_MAX) {
            return Ok(TripPermit { trip: self, opening, is_probe: true });
        }
        Err(PROBE_WAIT_NS)
    }

    /// Takes the place of a probe, of which there are so many.
    fn begin_probe(&self, opening: u32, places: u64) -> bool {
        self.change_probes(opening, |word| (begun_in(word) < places.min(COUNT_MAX)).then(|| word + BEGUN_ONE))
            .is_some()
    }

    /// Nothing came of a probe.
    fn give_back(&self, opening: u32) {
        // There is nothing to give back once the breaker has closed.
        self.change_probes(opening, |word| (begun_in(word) > 0).then(|| word - BEGUN_ONE));
    }

    /// Changes the counts of the probes if this is still the opening that they belong to. Returns what they were.
    fn change_probes(&self, opening: u32, change: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let change = |word| if opening_of(word) == opening { change(word) } else { None };
        self.probes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).ok()
    }

    /// Counts how a request ended. Returns what the breaker is from now on, where that is something else.
    fn on_result(
        &self,
        now_ns: u64,
        failed: bool,
        (opening, is_probe): (u32, bool),
        policy: &BreakerFailures,
    ) -> Option<TripState> {
        // Of a request that was sent before it opened, however long ago that was.
        if opening_of(self.probes.load(Ordering::Acquire)) != opening {
            return None;
        }
        match self.state(now_ns) {
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
                (by_rate || by_row).then(|| self.open(now_ns, opening, policy)).flatten()
            }
            TripState::HalfOpen if !is_probe => None,
            TripState::HalfOpen if failed => self.open(now_ns, opening, policy),
            TripState::HalfOpen => {
                let before = self
                    .change_probes(opening, |word| Some(word + u64::from(succeeded_in(word) < COUNT_MAX)))?;
                if succeeded_in(before) + 1 < policy.probes.into() { None } else { self.close(opening) }
            }
        }
    }

    fn open(&self, now_ns: u64, opening: u32, policy: &BreakerFailures) -> Option<TripState> {
        self.turn(opening, || {
            let until_ns = now_ns.saturating_add(nanos(policy.open_for)).max(1);
            // None is overdue until it has been half open for as long again.
            self.last_probe_ns.store(until_ns, Ordering::Relaxed);
            self.open_until_ns.store(until_ns, Ordering::Relaxed);
            self.start_over(opening.wrapping_add(1));
            Some(TripState::Open)
        })
    }

    fn close(&self, opening: u32) -> Option<TripState> {
        self.turn(opening, || {
            if self.open_until_ns.swap(0, Ordering::Relaxed) == 0 {
                return None;
            }
            self.start_over(opening);
            Some(TripState::Closed)
        })
    }

    fn start_over(&self, opening: u32) {
        self.consecutive.store(0, Ordering::Relaxed);
        self.rate.clear();
        self.probes.store(u64::from(opening) << (2 * COUNT_BITS), Ordering::Release);
    }

    /// One worker turns it at a time, and once from each opening; the result of another does not count then.
    fn turn(&self, opening: u32, change: impl FnOnce() -> Option<TripState>) -> Option<TripState> {
        if self.turning.swap(true, Ordering::Acquire) {
            return None;
        }
        let is_same = opening_of(self.probes.load(Ordering::Relaxed)) == opening;
        let state = if is_same { change() } else { None };
        self.turning.store(false, Ordering::Release);
        state
    }
}

impl TripPermit<'_> {
    /// Counts how the request ended. Returns what the breaker is from now on, where that is something else.
    pub fn on_result(mut self, now_ns: u64, failed: bool, policy: &BreakerFailures) -> Option<TripState> {
        // Who has told something has used its place.
        let is_probe = std::mem::take(&mut self.is_probe);
        self.trip.on_result(now_ns, failed, (self.opening, is_probe), policy)
    }
}

impl Drop for TripPermit<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.trip.give_back(self.opening);
        }
    }
}

fn opening_of(word: u64) -> u32 {
    u32::try_from(word >> (2 * COUNT_BITS)).unwrap_or_default()
}

fn begun_in(word: u64) -> u64 {
    (word >> COUNT_BITS) & COUNT_MAX
}

fn succeeded_in(word: u64) -> u64 {
    word & COUNT_MAX
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
