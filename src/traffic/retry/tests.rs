//! The retry budget over its window, and the spread of the wait.

use proptest::prelude::*;

use super::*;

const SECOND: u64 = NANOS_PER_SECOND;

fn retries(budget: &RetryBudget, now: u64, percent: u32, tries: u32) -> u32 {
    (0..tries).map(|_| u32::from(budget.try_retry(now, percent))).sum()
}

fn requests(budget: &RetryBudget, now: u64, count: u32) {
    for _ in 0..count {
        budget.on_request(now);
    }
}

#[test]
fn a_quiet_backend_has_its_free_retries_in_every_second() {
    let budget = RetryBudget::default();
    for second in 0..30 {
        assert_eq!(retries(&budget, second * SECOND, 20, 20), 10, "{second}");
        assert_eq!(retries(&budget, second * SECOND + SECOND / 2, 20, 20), 0, "{second}");
    }
}

#[test]
fn a_busy_backend_has_its_share() {
    for (count, percent, want) in
        [(1000, 20, 200), (1000, 0, 10), (1000, 100, 1000), (10, 20, 10), (100, 20, 20)]
    {
        let budget = RetryBudget::default();
        requests(&budget, 5 * SECOND, count);
        assert_eq!(retries(&budget, 5 * SECOND, percent, 2000), want, "{percent} % of {count}");
    }
}

#[test]
fn requests_and_retries_leave_the_window_after_ten_seconds() {
    let budget = RetryBudget::default();
    requests(&budget, 0, 1000);
    assert_eq!(retries(&budget, 4 * SECOND, 20, 50), 50);
    assert_eq!(retries(&budget, 9 * SECOND, 20, 1000), 150, "the rest of the 200");
    // At 10 s the requests are gone; the retries are not, so only the free ones are left.
    assert_eq!(retries(&budget, 10 * SECOND, 20, 1000), 10);
    requests(&budget, 13 * SECOND, 1000);
    // 200 of the window's share, less 150 + 10 that are still in it; those of second 4 are too.
    assert_eq!(retries(&budget, 13 * SECOND, 20, 1000), 10);
    assert_eq!(retries(&budget, 14 * SECOND, 20, 1000), 200 - 150 - 10 - 10);
}

#[test]
fn a_long_silence_leaves_nothing_behind() {
    let budget = RetryBudget::default();
    requests(&budget, 0, 1000);
    for later in [10, 11, 100, 5_000, 1_000_000] {
        assert_eq!(retries(&budget, later * SECOND, 20, 1000), 10, "{later}");
    }
}

#[test]
fn a_count_at_its_end_does_not_run_over_into_its_neighbour() {
    let budget = RetryBudget::default();
    let full = Tally { second: 7, requests: Tally::COUNT_MAX - 1, retries: 5 };
    budget.seconds[7].store(full.pack(), Ordering::Relaxed);
    requests(&budget, 7 * SECOND, 10);
    let tally = Tally::unpack(budget.seconds[7].load(Ordering::Relaxed));
    assert_eq!((tally.second, tally.requests, tally.retries), (7, Tally::COUNT_MAX - 1, 5));
}

#[test]
fn eight_threads_get_exactly_the_share() {
    let budget = RetryBudget::default();
    let got = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| requests(&budget, SECOND, 1000));
        }
    });
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| got.fetch_add(u64::from(retries(&budget, SECOND, 20, 1000)), Ordering::Relaxed));
        }
    });
    assert_eq!(got.into_inner(), 1600);
}

#[test]
fn backoff_spreads_from_nothing_to_its_ceiling() {
    let (base, max) = (Duration::from_millis(25), Duration::from_millis(250));
    for (attempt, ceiling_ms) in
        [(0, 25), (1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (40, 250), (u32::MAX, 250)]
    {
        let ceiling = Duration::from_millis(ceiling_ms);
        assert_eq!(backoff(attempt, base, max, 0), Duration::ZERO, "{attempt}");
        assert_eq!(backoff(attempt, base, max, u64::MAX), ceiling, "{attempt}");
        let middle = backoff(attempt, base, max, u64::MAX / 2);
        assert!(middle.abs_diff(ceiling / 2) < Duration::from_micros(1), "{attempt}: {middle:?}");
    }
    assert_eq!(backoff(3, Duration::ZERO, max, u64::MAX), Duration::ZERO);
    assert_eq!(backoff(3, base, Duration::ZERO, u64::MAX), Duration::ZERO);
    assert!(backoff(u32::MAX, Duration::MAX, Duration::MAX, u64::MAX) > Duration::from_secs(3600));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Against a model that keeps every event.
    #[test]
    fn the_budget_equals_a_plain_model(
        percent in 0u32..150,
        steps in proptest::collection::vec((any::<bool>(), 1u32..40, 0u64..2_500_000_000), 1..200),
    ) {
        let budget = RetryBudget::default();
        let (mut asked, mut retried): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
        let mut now = 0;
        for (is_request, count, pause) in steps {
            now += pause;
            let second = now / SECOND;
            for _ in 0..count {
                if is_request {
                    budget.on_request(now);
                    asked.push(second);
                    continue;
                }
                let within = |events: &[u64]| events.iter().filter(|s| **s + 10 > second).count() as u64;
                let free = retried.iter().filter(|s| **s == second).count() as u64;
                let want = within(&retried) < within(&asked) * u64::from(percent) / 100
                    || free < RETRIES_FREE_PER_SECOND;
                prop_assert_eq!(budget.try_retry(now, percent), want);
                if want {
                    retried.push(second);
                }
            }
        }
    }
}
