//! How many requests a backend is given at once, found by how its answers slow down. A gradient of latencies over
//! windows: while answers are as quick as they can be, the limit grows; when they slow down, it falls in proportion.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ir::AdaptiveLimit;

/// The limit of one backend, over all workers of the process.
#[derive(Debug)]
pub struct Adaptive {
    in_flight: AtomicU32,
    /// 0: nothing was asked yet.
    limit: AtomicU32,
    /// The latency of a backend that has nothing to do, as far as that is known; 0: it is not.
    baseline_ns: AtomicU64,
    window: Window,
}

#[derive(Debug, Default)]
struct Window {
    ends_ns: AtomicU64,
    count: AtomicU32,
    failed: AtomicU32,
    sum_ns: AtomicU64,
    in_flight_max: AtomicU32,
}

/// A request that counts. Given back when its answer has ended, or at its head where that says nothing of its end.
#[derive(Debug)]
pub struct AdaptivePermit(Arc<Adaptive>);

const WINDOW_NS: u64 = 100_000_000;
/// Fewer answers than these tell nothing, but where requests are refused.
const WINDOW_COUNT_MIN: u32 = 10;
/// A window that is closed by fewer lasts so much longer: what answers ten times in that time need not be judged by fewer.
const FEW_LONGER_NS: u64 = 9 * WINDOW_NS;
/// Answers may be so much slower than the baseline before the limit falls: one and a half times.
const TOLERANCE: (u64, u64) = (3, 2);
/// Where a limit begins.
const START: u32 = 20;

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(START),
            baseline_ns: AtomicU64::new(0),
            window: Window::default(),
        }
    }
}

impl Adaptive {
    /// `None`: the backend has as many as it can do.
    pub fn try_acquire(self: &Arc<Self>, now_ns: u64, bounds: AdaptiveLimit) -> Option<AdaptivePermit> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if before >= self.limit(bounds) {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            // A limit that is reached may grow.
            self.window.in_flight_max.fetch_max(before, Ordering::Relaxed);
            self.on_refusal(now_ns, bounds);
            return None;
        }
        self.window.in_flight_max.fetch_max(before + 1, Ordering::Relaxed);
        Some(AdaptivePermit(Arc::clone(self)))
    }

    /// The limit now.
    pub fn limit(&self, bounds: AdaptiveLimit) -> u32 {
        self.limit.load(Ordering::Relaxed).clamp(bounds.min, bounds.max)
    }

    /// An answer has begun after so long, or (`None`) there was none in time.
    pub fn on_answer(&self, now_ns: u64, latency_ns: Option<u64>, bounds: AdaptiveLimit) {
        let window = &self.window;
        match latency_ns {
            Some(latency_ns) => {
                window.sum_ns.fetch_add(latency_ns.max(1), Ordering::Relaxed);
                window.count.fetch_add(1, Ordering::Relaxed);
            }
            None => {
                window.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        let seen = window.count.load(Ordering::Relaxed).saturating_add(window.failed.load(Ordering::Relaxed));
        if seen >= WINDOW_COUNT_MIN && self.is_over(now_ns, 0) {
            self.close_window(bounds);
        }
    }

    /// A request was refused. Where long answers hold the limit, few begin, and there would never be enough of them to let it
    /// grow: so as many as there are will do, if all is well. To let it fall, they are too few.
    fn on_refusal(&self, now_ns: u64, bounds: AdaptiveLimit) {
        let window = &self.window;
        let count = window.count.load(Ordering::Relaxed);
        if window.ends_ns.load(Ordering::Relaxed) == 0 {
            // The first one begins with this.
            let ends_ns = now_ns.saturating_add(WINDOW_NS);
            _ = window.ends_ns.compare_exchange(0, ends_ns, Ordering::Relaxed, Ordering::Relaxed);
            return;
        }
        if count == 0 || window.failed.load(Ordering::Relaxed) > count / 10 {
            return;
        }
        let mean_ns = window.sum_ns.load(Ordering::Relaxed) / u64::from(count);
        let known_ns = self.baseline_ns.load(Ordering::Relaxed);
        let is_quick = known_ns == 0 || mean_ns <= tolerated_ns(known_ns);
        let longer_ns = if count < WINDOW_COUNT_MIN { FEW_LONGER_NS } else { 0 };
        if is_quick && self.is_over(now_ns, longer_ns) {
            self.close_window(bounds);
        }
    }

    /// Whether the window has lasted long enough, and so much longer. One of those who come here at once closes it, and begins the next.
    fn is_over(&self, now_ns: u64, longer_ns: u64) -> bool {
        let ends_ns = &self.window.ends_ns;
        let last_ns = ends_ns.load(Ordering::Relaxed);
        let next_ns = now_ns.saturating_add(WINDOW_NS);
        now_ns >= last_ns.saturating_add(longer_ns)
            && ends_ns.compare_exchange(last_ns, next_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn close_window(&self, bounds: AdaptiveLimit) {
        let window = &self.window;
        let count = window.count.swap(0, Ordering::Relaxed);
        let failed = window.failed.swap(0, Ordering::Relaxed);
        let sum_ns = window.sum_ns.swap(0, Ordering::Relaxed);
        let in_flight_max =
            window.in_flight_max.swap(self.in_flight.load(Ordering::Relaxed), Ordering::Relaxed);
        let limit = self.limit(bounds);
        let mean_ns = sum_ns / u64::from(count.max(1));
        let next = if failed > count / 10 || count == 0 {
            limit - (limit / 10).max(1).min(limit)
        } else {
            let baseline_ns = self.baseline((mean_ns, count), limit == bounds.min);
            next_limit(limit, baseline_ns, mean_ns, in_flight_max)
        };
        self.limit.store(next.clamp(bounds.min, bounds.max), Ordering::Relaxed);
    }

    /// Follows a fall, the less of it the fewer answers tell of it. A rise is believed only where the limit is as low as it may
    /// be: there the backend has next to nothing to do, and is slow all the same. Otherwise latencies and limit would lift
    /// each other.
    fn baseline(&self, (mean_ns, count): (u64, u32), is_least: bool) -> u64 {
        let known_ns = self.baseline_ns.load(Ordering::Relaxed);
        let part = |way_ns: u64| {
            let (count, count_min) = (count.min(WINDOW_COUNT_MIN), WINDOW_COUNT_MIN);
            (way_ns / 4).saturating_mul(count.into()) / u64::from(count_min)
        };
        let baseline_ns = match known_ns {
            0 => mean_ns,
            known_ns if mean_ns <= known_ns => known_ns - part(known_ns - mean_ns),
            known_ns if is_least => known_ns + part(mean_ns - known_ns),
            known_ns => known_ns,
        };
        self.baseline_ns.store(baseline_ns.max(1), Ordering::Relaxed);
        baseline_ns.max(1)
    }
}

/// The slowest that answers may be before the limit falls.
fn tolerated_ns(baseline_ns: u64) -> u64 {
    let (numerator, denominator) = TOLERANCE;
    baseline_ns.saturating_mul(numerator) / denominator
}

/// The limit after a window with this mean latency.
fn next_limit(limit: u32, baseline_ns: u64, mean_ns: u64, in_flight_max: u32) -> u32 {
    let tolerated_ns = tolerated_ns(baseline_ns);
    if mean_ns <= tolerated_ns {
        // What was not used says nothing of whether more could be done.
        let is_used = in_flight_max.saturating_mul(2) >= limit;
        return if is_used { limit.saturating_add(limit.isqrt().max(1)) } else { limit };
    }
    // In proportion, by half at most; and never less than a little, so that it comes to an end.
    let fallen = u64::from(limit).saturating_mul(tolerated_ns) / mean_ns.max(1);
    let fallen = u32::try_from(fallen).unwrap_or(limit).max(limit / 2);
    fallen.min(limit.saturating_sub(1))
}

impl Drop for AdaptivePermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
