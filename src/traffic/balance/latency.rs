//! The latency of one endpoint as a mean that forgets: quick to believe a rise, slow to believe a fall (peak EWMA).

use std::sync::atomic::{AtomicU64, Ordering};

/// After so long without a rise a mean has come half the way down, and counts half where nothing was measured since.
const HALF_LIFE_NS: u64 = 10_000_000_000;
/// What a try counts as that got no answer: else an endpoint that refuses at once would be the quickest of all.
const FAILURE_NS: u64 = 1_000_000_000;

/// Over all workers. Two results at the same moment may lose one of them.
#[derive(Debug, Default)]
pub struct Latency {
    /// 0: nothing was measured yet.
    mean_ns: AtomicU64,
    measured_at_ns: AtomicU64,
}

impl Latency {
    /// An answer came after `took_ns`.
    pub fn on_answer(&self, now_ns: u64, took_ns: u64) {
        let took_ns = took_ns.max(1);
        let mean_ns = self.mean_ns.load(Ordering::Relaxed);
        let next = if took_ns >= mean_ns {
            took_ns
        } else {
            let above = mean_ns - took_ns;
            took_ns.saturating_add(decayed(above, self.age_ns(now_ns)))
        };
        self.mean_ns.store(next, Ordering::Relaxed);
        self.measured_at_ns.store(now_ns, Ordering::Relaxed);
    }

    /// No answer came.
    pub fn on_failure(&self, now_ns: u64, took_ns: u64) {
        self.on_answer(now_ns, took_ns.max(FAILURE_NS));
    }

    /// `None`: nothing was measured yet.
    pub fn get(&self, now_ns: u64) -> Option<u64> {
        match self.mean_ns.load(Ordering::Relaxed) {
            0 => None,
            mean_ns => Some(decayed(mean_ns, self.age_ns(now_ns)).max(1)),
        }
    }

    fn age_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.measured_at_ns.load(Ordering::Relaxed))
    }
}

/// 1 / (1 + age / half-life) of the value: close to an exponential decay while results are many, and exact in integers.
fn decayed(value: u64, age_ns: u64) -> u64 {
    let scaled =
        u128::from(value) * u128::from(HALF_LIFE_NS) / (u128::from(HALF_LIFE_NS) + u128::from(age_ns));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_rise_is_believed_at_once_and_a_fall_over_time() {
        let latency = Latency::default();
        assert_eq!(latency.get(5), None);
        latency.on_answer(0, 10 * MS);
        latency.on_answer(MS, 500 * MS);
        assert_eq!(latency.get(MS), Some(500 * MS));
        let mut now_ns = MS;
        let mut last = 500 * MS;
        for _ in 0..1000 {
            now_ns += 10 * MS;
            latency.on_answer(now_ns, 10 * MS);
            let mean = latency.get(now_ns).unwrap();
            assert!(mean <= last && mean >= 10 * MS, "{mean} after {last}");
            last = mean;
        }
        // Ten seconds of quick answers: e times less of what was above them.
        assert!((180 * MS..200 * MS).contains(&last), "{last}");
    }

    #[test]
    fn what_was_measured_long_ago_counts_less_and_never_nothing() {
        let latency = Latency::default();
        latency.on_answer(0, 800 * MS);
        assert_eq!(latency.get(HALF_LIFE_NS), Some(400 * MS));
        assert_eq!(latency.get(3 * HALF_LIFE_NS), Some(200 * MS));
        assert!(latency.get(u64::MAX).is_some_and(|mean| mean >= 1));
    }

    #[test]
    fn a_quick_failure_is_no_quick_answer() {
        let latency = Latency::default();
        latency.on_failure(0, MS);
        assert_eq!(latency.get(0), Some(FAILURE_NS));
        latency.on_failure(0, 2 * FAILURE_NS);
        assert_eq!(latency.get(0), Some(2 * FAILURE_NS));
    }

    #[test]
    fn a_clock_that_another_worker_read_earlier_does_no_harm() {
        let latency = Latency::default();
        latency.on_answer(100, 0);
        assert_eq!(latency.get(50), Some(1));
        latency.on_answer(50, 7);
        assert_eq!(latency.get(50), Some(7));
    }
}
