//! Limits: the settled rules as tables, GCRA against an exact model, threads, eviction and memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

mod rates;
mod simulation;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;

fn rate(requests: u32, per_s: u64, burst: u32) -> ir::Rate {
    ir::Rate { requests, per: Duration::from_secs(per_s), burst, counting: ir::RateCounting::Gcra }
}

fn store(rates: &[ir::Rate], keys_max: u32) -> LimitStore {
    LimitStore::new(&ir::Limit {
        name: Arc::from("test"),
        when: None,
        keys: Vec::new(),
        rates: rates.to_vec(),
        cost: ir::LimitCost::default(),
        concurrency: None,
        keys_max,
        mode: ir::LimitMode::Enforce,
        phase: ir::LimitPhase::PreAuth,
    })
}

/// Spreads small numbers over all bits, as real fingerprints are.
fn key(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn at(monotonic_ns: u64) -> LimitNow {
    LimitNow { monotonic_ns, unix_ns: 0 }
}

fn check(store: &LimitStore, now: u64, key: u64) -> LimitVerdict {
    store.check(at(now), key, 1)
}

/// How many of `tries` pass at one moment.
fn admitted(store: &LimitStore, now: u64, key: u64, tries: u32) -> u32 {
    (0..tries).map(|_| u32::from(check(store, now, key).allowed)).sum()
}

fn memory_bytes(store: &LimitStore) -> usize {
    store.shard_sizes().iter().map(|(_, bytes)| size_of::<PaddedShard>() + bytes).sum()
}

/// The buckets that are really there.
fn buckets(store: &LimitStore) -> u32 {
    u32::try_from(store.shard_sizes().iter().map(|(buckets, _)| buckets).sum::<usize>()).unwrap()
}

#[test]
fn burst_passes_at_once_and_then_the_rate() {
    // (rate, passes at once, then one every … ns)
    let cases = [
        (rate(60, 60, 60), 60, SECOND),
        (rate(60, 60, 5), 5, SECOND),
        (rate(1, 1, 1), 1, SECOND),
        (rate(100, 60, 20), 20, 600_000_000),
        (rate(5000, 24 * 3600, 5000), 5000, 17_280_000_000),
        (rate(1, 744 * 3600, 1), 1, 744 * 3600 * SECOND),
        (rate(10, 1, 100), 100, SECOND / 10),
    ];
    for (rate, at_once, interval) in cases {
        let store = store(&[rate], 100);
        let start = 7 * SECOND;
        assert_eq!(admitted(&store, start, 1, at_once + 50), at_once, "{rate:?}");
        assert!(!check(&store, start + interval - 1, 1).allowed, "{rate:?}");
        assert_eq!(admitted(&store, start + interval, 1, 3), 1, "{rate:?}");
        assert_eq!(admitted(&store, start + 3 * interval, 1, 5), 2.min(at_once), "{rate:?}");
        let full_again = start + 3 * interval + u64::from(at_once) * interval;
        assert_eq!(admitted(&store, full_again, 1, at_once + 5), at_once, "{rate:?}");
    }
}

#[test]
fn a_whole_burst_is_there_again_after_one_period_even_where_the_interval_is_not_whole() {
    for requests in [3, 7, 11, 60, 999] {
        let store = store(&[rate(requests, 1, requests)], 10);
        for second in 0..5 {
            assert_eq!(
                admitted(&store, second * SECOND, 1, requests + 5),
                requests,
                "{requests} in {second}"
            );
        }
    }
}

#[test]
fn verdict_tells_remaining_reset_and_wait() {
    let store = store(&[rate(60, 60, 3)], 10);
    let seen: Vec<_> = (0..4).map(|_| check(&store, 100, 1)).collect();
    let passed = |remaining, reset_ns| LimitVerdict {
        allowed: true,
        remaining,
        reset_ns,
        retry_after_ns: 0,
        rate_index: 0,
        evicted: false,
    };
    assert_eq!(seen[0], passed(2, SECOND));
    assert_eq!(seen[1], passed(1, 2 * SECOND));
    assert_eq!(seen[2], passed(0, 3 * SECOND));
    let refused = LimitVerdict {
        allowed: false,
        remaining: 0,
        reset_ns: 3 * SECOND,
        retry_after_ns: SECOND,
        rate_index: 0,
        evicted: false,
    };
    assert_eq!(seen[3], refused);
    assert_eq!(check(&store, 100 + SECOND / 4, 1).retry_after_ns, SECOND * 3 / 4);
    assert!(check(&store, 100 + SECOND, 1).allowed);
}

#[test]
fn zero_requests_block_everything_and_keep_no_key() {
    let store = store(&[rate(10, 1, 10), rate(0, 60, 1)], 10);
    let verdict = check(&store, 5, 1);
    assert!(!verdict.allowed);
    assert_eq!((verdict.retry_after_ns, verdict.rate_index, verdict.remaining), (MINUTE, 1, 0));
    assert_eq!((store.keys(), memory_bytes(&store)), (0, 0));
}

#[test]
fn every_rate_must_pass_and_a_refusal_charges_none() {
    // Two a second, five a minute.
    let store = store(&[rate(2, 1, 2), rate(5, 60, 5)], 10);
    assert_eq!(admitted(&store, 0, 1, 10), 2);
    assert_eq!(check(&store, 0, 1).rate_index, 0);
    // The eight refused ones did not touch the minute: two more seconds let three more through.
    assert_eq!(admitted(&store, SECOND, 1, 10), 2);
    assert_eq!(admitted(&store, 2 * SECOND, 1, 10), 1);
    let refused = check(&store, 2 * SECOND, 1);
    assert_eq!(refused.rate_index, 1, "the minute is the longer wait");
    assert_eq!(refused.retry_after_ns, 10 * SECOND);
    // One more after twelve seconds of the minute's refill.
    assert_eq!(admitted(&store, 12 * SECOND, 1, 10), 1);
}

#[test]
fn a_pass_reports_the_rate_with_the_least_remaining() {
    let store = store(&[rate(100, 1, 100), rate(3, 60, 3)], 10);
    let verdict = check(&store, 0, 1);
    assert_eq!((verdict.rate_index, verdict.remaining, verdict.reset_ns), (1, 2, 20 * SECOND));
}

#[test]
fn keys_do_not_share_a_bucket() {
    let store = store(&[rate(1, 60, 1)], 1000);
    for number in 0..500 {
        assert!(check(&store, 0, key(number)).allowed, "{number}");
    }
    for number in 0..500 {
        assert!(!check(&store, 0, key(number)).allowed, "{number}");
    }
    assert_eq!((store.keys(), store.evicted()), (500, 0));
}

#[test]
fn fingerprint_zero_is_a_key_like_others() {
    let store = store(&[rate(2, 60, 2)], 10);
    assert_eq!(admitted(&store, 0, 0, 5), 2);
    assert_eq!(admitted(&store, 0, u64::MAX, 5), 2);
}

#[test]
fn a_clock_that_steps_back_admits_nothing_extra() {
    let store = store(&[rate(5, 1, 5)], 10);
    assert_eq!(admitted(&store, 10 * SECOND, 1, 10), 5);
    assert_eq!(admitted(&store, 9 * SECOND, 1, 10), 0);
    assert_eq!(admitted(&store, 0, 1, 10), 0);
    assert_eq!(admitted(&store, 10 * SECOND + SECOND / 5, 1, 10), 1);
}

#[test]
fn extreme_rates_neither_overflow_nor_open_up() {
    let most = rate(u32::MAX, 1, u32::MAX);
    let slowest = rate(1, 744 * 3600, u32::MAX);
    let odd = ir::Rate { per: Duration::MAX, ..rate(1, 1, u32::MAX) };
    for rate in [most, slowest, odd] {
        let store = store(&[rate], 1);
        for now in [0, SECOND, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            let _ = check(&store, now, 1);
        }
    }
    // A burst that would take 349,000 years is cut to what the clock can hold, and then refuses.
    let store = store(&[slowest], 1);
    let passed = admitted(&store, 0, 1, 20_000);
    assert!((1_000..20_000).contains(&passed), "{passed}");
}

#[test]
fn eight_threads_on_one_key_admit_exactly_the_burst() {
    for (rates, at_once) in [
        (vec![rate(1000, 60, 1000)], 1000),
        (vec![rate(1000, 60, 700)], 700),
        (vec![rate(1000, 60, 1000), rate(600, 3600, 600)], 600),
    ] {
        let store = store(&rates, 100_000);
        let passed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    passed.fetch_add(u64::from(admitted(&store, SECOND, 42, 1000)), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(passed.into_inner(), at_once, "{rates:?}");
        assert_eq!(store.keys(), 1);
    }
}

#[test]
fn eight_threads_on_many_new_keys_admit_each_exactly_once_per_burst() {
    let store = store(&[rate(2, 60, 2)], 10_000);
    let passed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (store, passed) = (&store, &passed);
            scope.spawn(move || {
                let mine: u32 = (0..2000).map(|n| admitted(store, 5, key((n * 7 + thread) % 2000), 1)).sum();
                passed.fetch_add(u64::from(mine), Ordering::Relaxed);
            });
        }
    });
    assert_eq!(passed.into_inner(), 4000);
    assert_eq!((store.keys(), store.evicted()), (2000, 0));
}

#[test]
fn a_full_bucket_goes_first_and_is_not_an_eviction() {
    let store = store(&[rate(60, 60, 60)], 3);
    assert_eq!(admitted(&store, 0, key(1), 60), 60);
    assert_eq!(admitted(&store, 0, key(2), 1), 1);
    assert_eq!(admitted(&store, 0, key(3), 30), 30);
    // At 1 s the second key is full again: the fourth takes its place and the others keep theirs.
    let verdict = check(&store, SECOND, key(4));
    assert!(verdict.allowed && !verdict.evicted);
    assert_eq!((store.keys(), store.evicted()), (3, 0));
    assert_eq!(admitted(&store, SECOND, key(1), 5), 1);
    assert_eq!(check(&store, SECOND, key(3)).remaining, 30);
}

#[test]
fn with_no_full_bucket_the_least_drained_one_is_evicted_and_counted() {
    let store = store(&[rate(60, 60, 60)], 3);
    for (number, used) in [(1, 60), (2, 5), (3, 30)] {
        assert_eq!(admitted(&store, 0, key(number), used), used);
    }
    assert!(check(&store, 0, key(4)).evicted);
    assert_eq!((store.keys(), store.evicted()), (3, 1));
    assert!(!check(&store, 0, key(1)).allowed, "the drained bucket stays");
    assert_eq!(check(&store, 0, key(3)).remaining, 29, "the half-drained bucket stays");
}

#[test]
fn made_up_keys_do_not_give_a_drained_key_a_new_burst() {
    let store = store(&[rate(10, 3600, 10)], 2_000);
    for number in 0..50 {
        assert_eq!(admitted(&store, 0, key(number), 20), 10);
    }
    for number in 1_000..30_000 {
        assert!(check(&store, number, key(number)).allowed);
    }
    let back: u32 = (0..50).map(|number| admitted(&store, 30_000, key(number), 1)).sum();
    assert_eq!(back, 0);
    assert!(store.keys() <= 2_000, "{}", store.keys());
    assert_eq!(store.keys(), buckets(&store));
    assert!(store.evicted() > 25_000, "{}", store.evicted());
}

#[test]
fn keys_that_come_and_go_do_not_grow_the_store() {
    let store = store(&[rate(1, 1, 1)], 100_000);
    for step in 0..200_000u64 {
        // A hundred new keys a second, each of which is full again after one.
        assert!(check(&store, step * SECOND / 100, key(step)).allowed);
    }
    assert_eq!((store.evicted(), store.keys()), (0, buckets(&store)));
    let bytes = memory_bytes(&store);
    assert!(bytes < 64 << 10, "{bytes}");
}

#[test]
fn memory_follows_the_keys() {
    for rates in 1..=4usize {
        let store = store(&vec![rate(100, 3600, 100); rates], 100_000);
        assert_eq!(memory_bytes(&store), 0, "nothing before the first key");
        for number in 0..3 {
            let _ = check(&store, 0, key(number));
        }
        let few = memory_bytes(&store);
        assert!(few <= 6 << 10, "three keys of {rates} rates take {few}");
        for number in 0..100_000 {
            assert!(!check(&store, 0, key(number)).evicted);
        }
        assert_eq!((store.keys(), buckets(&store)), (100_000, 100_000));
        let most = store.shard_sizes().iter().map(|(buckets, _)| *buckets).max().unwrap();
        assert!(most < 2 * 100_000 / 64, "the keys are not spread: {most} in one shard");
        let many = memory_bytes(&store);
        assert!(many <= 8 << 20, "100,000 keys of {rates} rates take {many}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Every verdict equals that of a plain model: one list of arrival times per key, no bound on keys.
    #[test]
    fn verdicts_equal_those_of_a_plain_model(
        rates in proptest::collection::vec((1u32..50, 1u64..100, 1u32..60), 1..=4),
        steps in proptest::collection::vec((0u64..8, 0u64..2_000_000_000), 1..400),
    ) {
        let rates: Vec<_> = rates.into_iter().map(|(requests, per, burst)| rate(requests, per, burst)).collect();
        let store = store(&rates, 50);
        let mut model: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut now = 0;
        for (number, pause) in steps {
            now += pause;
            let verdict = check(&store, now, key(number));
            let full_at = model.entry(number).or_insert_with(|| vec![0; rates.len()]);
            let after: Vec<u64> = rates.iter().zip(full_at.iter()).map(|(rate, at)| {
                (*at).max(now) + nanos(rate.per) / u64::from(rate.requests)
            }).collect();
            let over = |(rate, at): (&ir::Rate, &u64)| {
                let burst = nanos(rate.per) / u64::from(rate.requests) * u64::from(rate.burst);
                (*at - now).saturating_sub(burst)
            };
            let wait = rates.iter().zip(&after).map(over).max().unwrap();
            prop_assert_eq!(verdict.allowed, wait == 0);
            prop_assert_eq!(verdict.retry_after_ns, wait);
            if verdict.allowed {
                *full_at = after;
            }
        }
        prop_assert_eq!(store.evicted(), 0);
    }

    /// Whatever comes and goes, a shard finds every key that it holds and never holds more than it may.
    #[test]
    fn the_bound_on_keys_holds_under_any_order(
        keys_max in 1u32..40,
        steps in proptest::collection::vec((0u64..120, 0u64..3_000_000_000), 1..600),
    ) {
        let store = store(&[rate(3, 10, 3)], keys_max);
        let mut now = 0;
        let mut evicted = 0;
        for (number, pause) in steps {
            now += pause;
            let before = store.keys();
            let verdict = check(&store, now, key(number));
            evicted += u64::from(verdict.evicted);
            prop_assert!(store.keys() <= keys_max);
            prop_assert_eq!(store.keys(), buckets(&store));
            prop_assert!(!verdict.evicted || before == keys_max);
            if verdict.allowed {
                // It was charged and so is found again, with one less.
                let again = check(&store, now, key(number));
                prop_assert_eq!(again.allowed, verdict.remaining > 0);
                prop_assert!(!again.evicted);
            }
        }
        prop_assert_eq!(store.evicted(), evicted);
    }
}

#[test]
fn a_refund_gives_back_one_charge_and_never_more_than_a_full_bucket() {
    let store = store(&[rate(2, 60, 2), rate(3, 3600, 3)], 100);
    let now = 1_000_000_000_000;
    let (verdict, charge) = store.check_revocably(at(now), 7, 1);
    assert!(verdict.allowed);
    let charge = charge.unwrap();
    store.refund(now, 8, charge);
    assert_eq!(store.keys(), 1, "a bucket that is gone is not made anew");
    assert!(check(&store, now, 7).allowed);
    assert_eq!(store.check_revocably(at(now), 7, 1).1, None, "what is refused charges nothing");
    store.refund(now, 7, charge);
    assert!(check(&store, now, 7).allowed, "one charge is back");
    assert!(!check(&store, now, 7).allowed, "and only one");
    for _ in 0..10 {
        store.refund(now, 7, charge);
    }
    let passed = (0..10).filter(|_| check(&store, now, 7).allowed).count();
    assert_eq!(passed, 2, "a bucket is never more than full");
}
