//! Counts, the keys that stand out, and percentiles against exact ones.

use super::*;

const MINUTE: u64 = 60_000_000_000;

fn watch() -> ShadowWatch {
    ShadowWatch::new([Duration::from_secs(60)])
}

/// Spreads small numbers over all bits, as real fingerprints are.
fn key(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[test]
fn buckets_hold_what_they_say() {
    for count in (0..5000).chain([1 << 20, (1 << 30) + 12345, 1 << 39]) {
        let index = bucket(count);
        assert!(bucket_end(index) >= count, "{count}");
        assert!(index == 0 || bucket_end(index - 1) < count, "{count}");
        assert!(bucket_end(index) <= count + count / 8, "{count}: {}", bucket_end(index));
    }
    assert_eq!(bucket(u64::MAX), BUCKETS - 1);
}

#[test]
fn what_would_have_been_refused_is_told_by_key() {
    let watch = watch();
    for round in 0..1000 {
        watch.on_request(round, key(1), 1, round % 2 == 0);
        watch.on_request(round, key(2), 1, round % 10 != 0);
        watch.on_request(round, key(100 + round), 1, round % 4 != 0);
    }
    let report = watch.report();
    assert_eq!((report.passed, report.blocked), (500 + 900 + 750, 500 + 100 + 250));
    assert_eq!(report.top.len(), TOP_KEYS);
    let [first, second, ..] = report.top[..] else { panic!("there are twenty") };
    assert_eq!((first.fingerprint, first.blocked, first.blocked_min), (key(1), 500, 500));
    assert_eq!(second.fingerprint, key(2));
    assert!(second.blocked_min <= 100 && second.blocked >= 100, "{second:?}");
}

#[test]
fn percentiles_are_those_of_keys_in_a_window_and_a_limit_is_proposed() {
    let watch = watch();
    // A hundred keys: the first ask once a minute, the last a hundred times.
    for minute in 0..3 {
        for number in 0..100 {
            for _ in 0..=number {
                watch.on_request(minute * MINUTE, key(number), 1, true);
            }
        }
    }
    let rate = watch.report().rates[0];
    assert_eq!((rate.windows, rate.keys, rate.max), (2, 200, 100), "the third has not ended");
    for (percentile, want) in [(rate.p50, 50), (rate.p90, 90), (rate.p99, 99)] {
        assert!((want..=want + want / 8).contains(&percentile), "{percentile} is not about {want}");
    }
    assert_eq!(rate.proposed, (rate.p99 * 3).div_ceil(2));
}

#[test]
fn before_a_window_has_ended_the_first_one_is_told() {
    let watch = ShadowWatch::new([Duration::from_secs(60), Duration::from_secs(86_400)]);
    assert_eq!(watch.report().rates[0].proposed, 0);
    for step in 0..10 {
        watch.on_request(step * MINUTE / 2, key(1), 2, true);
    }
    let [minute, day] = watch.report().rates[..] else { panic!("two rates") };
    assert_eq!((minute.windows, minute.max), (4, 4));
    assert_eq!((day.windows, day.max, day.proposed), (0, 20, 30));
}

#[test]
fn many_keys_are_sampled_and_the_percentiles_stay() {
    let watch = watch();
    for number in 0..100_000 {
        for _ in 0..=(number % 10) {
            watch.on_request(0, key(number), 1, true);
        }
    }
    assert!(watch.seen().rates[0].now.len() <= KEYS_MAX);
    watch.on_request(MINUTE, key(0), 1, true);
    let rate = watch.report().rates[0];
    assert!((1500..=4096).contains(&rate.keys), "{}", rate.keys);
    assert!((5..=6).contains(&rate.p50) && rate.p99 == 10 && rate.max == 10, "{rate:?}");
}

#[test]
fn what_is_known_only_afterwards_raises_the_demand_and_nothing_else() {
    let watch = watch();
    for (number, more) in [(1, 5), (2, 7)] {
        watch.on_request(0, key(number), 0, number == 1);
        watch.on_cost(MINUTE / 2, key(number), more);
    }
    let report = watch.report();
    assert_eq!((report.passed, report.blocked), (1, 1));
    let rate = report.rates[0];
    assert_eq!((rate.keys, rate.p50, rate.max, rate.proposed), (2, 5, 7, 11));
}
