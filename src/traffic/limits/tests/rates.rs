//! Sliding windows and rates of the calendar, costs, and which buckets are given up.

use super::*;

const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// A Wednesday, 12:00:00 UTC.
const NOON: u64 = 1_767_182_400 * SECOND;

fn sliding(requests: u32, per_s: u64) -> ir::Rate {
    ir::Rate { counting: ir::RateCounting::SlidingWindow, ..rate(requests, per_s, requests) }
}

fn calendar(requests: u32, per_s: u64) -> ir::Rate {
    ir::Rate { counting: ir::RateCounting::Calendar, ..rate(requests, per_s, requests) }
}

/// Both clocks go on from a moment of the wall clock.
fn wall(unix_ns: u64) -> LimitNow {
    LimitNow { monotonic_ns: unix_ns - NOON + DAY, unix_ns }
}

/// How many of `tries` pass at one moment of the wall clock.
fn passed(store: &LimitStore, now: LimitNow, tries: u32) -> u32 {
    (0..tries).map(|_| u32::from(store.check(now, 1, 1).allowed)).sum()
}

#[test]
fn a_sliding_window_lets_nothing_through_until_what_it_counted_is_over() {
    let store = store(&[sliding(10, 60)], 10);
    let start = 1000 * MINUTE;
    assert_eq!(admitted(&store, start, 1, 20), 10);
    assert_eq!(admitted(&store, start + MINUTE / 2, 1, 5), 0, "a GCRA would have let five through");
    assert_eq!(admitted(&store, start + MINUTE - 1, 1, 5), 0);
    let refused = check(&store, start + MINUTE - 1, 1);
    assert!(refused.retry_after_ns <= MINUTE / 15 + 1, "{refused:?}");
    assert_eq!(admitted(&store, start + MINUTE - 1 + refused.retry_after_ns, 1, 20), 10, "it says when");
}

#[test]
fn a_sliding_window_frees_part_by_part() {
    let store = store(&[sliding(10, 60)], 10);
    let start = 1000 * MINUTE;
    assert_eq!(admitted(&store, start, 1, 6), 6);
    assert_eq!(admitted(&store, start + MINUTE / 2, 1, 6), 4);
    // The first six are over, the four are not.
    assert_eq!(admitted(&store, start + MINUTE + MINUTE / 15, 1, 20), 6);
    let verdict = check(&store, start + MINUTE + MINUTE / 15, 1);
    assert_eq!((verdict.allowed, verdict.remaining), (false, 0));
}

#[test]
fn a_sliding_window_forgets_after_a_long_pause_and_takes_back_what_it_should() {
    let store = store(&[sliding(3, 1)], 10);
    for now in [HOUR, HOUR + 1, DAY] {
        let charges: Vec<_> = (0..3).filter_map(|_| store.check_revocably(at(now), 1, 1).1).collect();
        assert_eq!((charges.len(), admitted(&store, now, 1, 9)), (3, 0));
        for charge in charges {
            store.refund(now, 1, charge);
        }
    }
    let charge = store.check_revocably(at(DAY), 1, 3).1.unwrap();
    for _ in 0..9 {
        store.refund(DAY, 1, charge);
    }
    assert_eq!(admitted(&store, DAY, 1, 9), 3, "never more than all");
}

#[test]
fn a_late_refund_of_a_sliding_window_leaves_alone_what_others_were_charged() {
    let store = store(&[sliding(3, 60)], 10);
    let start = 1000 * MINUTE;
    let (_, charge) = store.check_revocably(at(start), 1, 1);
    assert_eq!(admitted(&store, start + MINUTE / 2, 1, 9), 2);
    // It is taken from its own part, so that at the end of that part nothing more comes free.
    store.refund(start + MINUTE / 2, 1, charge.unwrap());
    assert_eq!(admitted(&store, start + MINUTE / 2, 1, 9), 1);
    assert_eq!(admitted(&store, start + MINUTE + MINUTE / 15, 1, 9), 0);
    // One that is over gives nothing back.
    assert_eq!(admitted(&store, start + 2 * MINUTE, 1, 9), 3);
    store.refund(start + 2 * MINUTE, 1, charge.unwrap());
    assert_eq!(admitted(&store, start + 2 * MINUTE, 1, 9), 0);
}

#[test]
fn a_late_refund_is_not_taken_off_a_new_span_of_the_calendar() {
    let store = store(&[calendar(3, 60)], 10);
    let (_, charge) = store.check_revocably(wall(NOON), 1, 1);
    let charge = charge.unwrap();
    assert_eq!(passed(&store, wall(NOON + 59 * SECOND), 9), 2);
    store.refund(wall(NOON + 59 * SECOND).monotonic_ns, 1, charge);
    assert_eq!(passed(&store, wall(NOON + 59 * SECOND), 9), 1);
    assert_eq!(passed(&store, wall(NOON + MINUTE), 9), 3);
    store.refund(wall(NOON + MINUTE).monotonic_ns, 1, charge);
    assert_eq!(passed(&store, wall(NOON + MINUTE), 9), 0);
}

#[test]
fn a_late_refund_of_a_gcra_gives_back_what_has_not_drained() {
    // One a second, and ten at once.
    let ten = || store(&[rate(60, 60, 10)], 10);
    let start = HOUR;
    // It has drained, and what is held is of another.
    let store = ten();
    let charge = store.check_revocably(at(start), 1, 1).1.unwrap();
    assert_eq!(admitted(&store, start + SECOND, 1, 10), 10);
    store.refund(start + SECOND, 1, charge);
    assert_eq!(admitted(&store, start + SECOND, 1, 9), 0);
    // Half of it has, and another came when it had: a whole one is held of that.
    let store = ten();
    let charge = store.check_revocably(at(start), 1, 1).1.unwrap();
    assert!(check(&store, start + SECOND / 2, 1).allowed);
    store.refund(start + SECOND / 2, 1, charge);
    assert_eq!(check(&store, start + SECOND / 2, 1).reset_ns, 2 * SECOND);
    // Others were before it, and only those have drained: a whole one comes back.
    let store = ten();
    assert_eq!(admitted(&store, start, 1, 5), 5);
    let charge = store.check_revocably(at(start), 1, 1).1.unwrap();
    store.refund(start + 3 * SECOND, 1, charge);
    assert_eq!(check(&store, start + 3 * SECOND, 1).reset_ns, 3 * SECOND);
    // Ten that are refused together leave it as full as if they had not come.
    let store = ten();
    let charges: Vec<_> = (0..10).filter_map(|_| store.check_revocably(at(start), 1, 1).1).collect();
    assert_eq!(charges.len(), 10);
    for charge in charges {
        store.refund(start + SECOND, 1, charge);
    }
    assert_eq!(admitted(&store, start + SECOND, 1, 20), 10);
}

#[test]
fn spans_of_the_calendar_begin_when_the_clock_says_so() {
    for (per_s, last, name) in [
        (60, NOON + 59 * SECOND, "minute"),
        (3600, NOON + HOUR - SECOND, "hour"),
        (24 * 3600, NOON + 12 * HOUR - SECOND, "day"),
        // Until Monday, 0:00.
        (7 * 24 * 3600, NOON + 12 * HOUR + 4 * DAY - SECOND, "week"),
    ] {
        let store = store(&[calendar(5, per_s)], 10);
        assert_eq!(passed(&store, wall(NOON), 3), 3, "{name}");
        assert_eq!(passed(&store, wall(last), 9), 2, "{name}");
        let refused = store.check(wall(last), 1, 1);
        assert_eq!((refused.retry_after_ns, refused.reset_ns), (SECOND, SECOND), "{name}");
        assert_eq!(passed(&store, wall(last + SECOND), 9), 5, "{name}");
    }
}

#[test]
fn rl09_a_wall_clock_that_steps_gives_at_most_one_new_span() {
    for (steps, most) in [
        // (where the clock stands, one after the other; how many of five a minute may pass in all)
        (vec![0, -1, -30, 0], 5),
        (vec![30, 15, 30, 15], 5),
        (vec![61, 59, 61, 59, 61], 5),
        (vec![0, -3600, -3600, -3599], 10),
        (vec![0, 3600, 3601], 10),
        // Forward is a span of its own, and back again is one more.
        (vec![0, 3600, 0, 1], 15),
    ] {
        let store = store(&[calendar(5, 60)], 10);
        let mut all = 0;
        for (index, step) in steps.iter().enumerate() {
            let unix_ns = NOON.checked_add_signed(step * 1_000_000_000).unwrap();
            let monotonic_ns = DAY + u64::try_from(index).unwrap();
            all += passed(&store, LimitNow { monotonic_ns, unix_ns }, 9);
        }
        assert_eq!(all, most, "{steps:?}");
    }
}

#[test]
fn a_second_and_a_day_go_together() {
    let store = store(&[rate(2, 1, 2), calendar(5, 24 * 3600)], 10);
    assert_eq!(passed(&store, wall(NOON), 9), 2);
    assert_eq!(passed(&store, wall(NOON + SECOND), 9), 2);
    assert_eq!(passed(&store, wall(NOON + 2 * SECOND), 9), 1);
    let refused = store.check(wall(NOON + 5 * SECOND), 1, 1);
    assert_eq!((refused.rate_index, refused.retry_after_ns), (1, 12 * HOUR - 5 * SECOND));
    assert_eq!(passed(&store, wall(NOON + 12 * HOUR), 9), 2, "a new day");
}

#[test]
fn a_request_may_cost_several_and_none() {
    for rate in [rate(10, 3600, 10), sliding(10, 3600), calendar(10, 3600)] {
        let store = store(&[rate], 10);
        let now = wall(NOON);
        let ask = |cost| store.check(now, 1, cost);
        let charge = store.check_revocably(now, 1, 3).1.unwrap();
        store.refund(now.monotonic_ns, 1, charge);
        assert_eq!(ask(4).remaining, 6, "{rate:?}");
        assert_eq!(ask(4).remaining, 2, "{rate:?}");
        assert!(!ask(4).allowed, "{rate:?}");
        assert_eq!(ask(0).remaining, 2, "{rate:?}");
        assert_eq!(ask(2).remaining, 0, "{rate:?}");
        let nothing = ask(0);
        assert!(!nothing.allowed && nothing.retry_after_ns > 0, "{rate:?}: nothing is left");
        assert_eq!(store.check_revocably(now, 1, 0).1, None, "{rate:?}");
    }
}

#[test]
fn what_is_charged_afterwards_is_paid_by_the_requests_that_follow() {
    for rate in [rate(10, 3600, 10), sliding(10, 3600), calendar(10, 3600)] {
        let store = store(&[rate], 10);
        let at = |after| wall(NOON + after);
        assert!(store.check(at(0), 1, 1).allowed);
        store.charge(at(1), 1, 14);
        assert!(!store.check(at(2), 1, 1).allowed, "{rate:?}");
        // A GCRA pays back five beyond its burst, and then one more refills.
        let half = store.check(at(HOUR / 2 - SECOND), 1, 1);
        assert!(!half.allowed && half.remaining == 0, "{rate:?}");
        assert!(store.check(at(HOUR + HOUR / 10), 1, 1).allowed, "{rate:?}");
    }
    let block = store(&[rate(0, 60, 1)], 10);
    block.charge(wall(NOON), 1, 5);
    assert_eq!(block.keys(), 0);
}

#[test]
fn a_huge_charge_closes_a_bucket_for_ten_periods_or_a_day() {
    for (rate, closed) in [
        (rate(10, 24 * 3600, 10), 10 * DAY),
        (rate(10, 24 * 3600, 5), 10 * DAY),
        (rate(10, 1, 100), DAY),
        (sliding(10, 3600), HOUR + HOUR / 15),
        (calendar(10, 3600), HOUR),
    ] {
        let store = store(&[rate], 10);
        assert!(store.check(wall(NOON), 1, 1).allowed);
        for _ in 0..3 {
            store.charge(wall(NOON), 1, 1_000_000);
        }
        let refused = store.check(wall(NOON), 1, 1);
        let one = nanos(rate.per) / u64::from(rate.requests);
        assert!(!refused.allowed, "{rate:?}");
        assert!((closed - one..=closed + one).contains(&refused.retry_after_ns), "{rate:?}: {refused:?}");
    }
}

#[test]
fn rl04_made_up_keys_do_not_push_out_hot_ones() {
    // Of every kind, and with a rate that the first request uses up, so that all buckets look alike.
    for rate in
        [rate(20, 3600, 20), sliding(20, 3600), calendar(20, 3600), rate(1, 3600, 1), calendar(1, 3600)]
    {
        let store = store(&[rate], 5_000);
        let mut fresh = 0;
        for number in 0..400_000u64 {
            let now = wall(NOON + number);
            let _ = store.check(now, key(1_000 + number), 1);
            // Fifty keys take turns, each once in 2,500 requests.
            if number % 50 == 0 {
                let is_fresh = store.check(now, key((number / 50) % 50), 1).allowed;
                // Not before it is known that they are hot.
                fresh += u32::from(is_fresh && number > 100_000);
            }
        }
        assert_eq!(fresh, 0, "{rate:?}: a hot key had a new burst");
        assert!(store.keys() <= 5_000 && store.keys() == buckets(&store), "{}", store.keys());
        assert!(store.evicted() > 390_000, "{}", store.evicted());
    }
}

#[test]
fn memory_of_a_key_is_bounded_by_what_its_rates_need() {
    // (rates, bytes of a key at most: its words, at a load of 7/16 to 7/8)
    for (rates, words) in [
        (vec![rate(9, 60, 9)], 2),
        (vec![calendar(9, 60)], 3),
        (vec![sliding(9, 60)], 10),
        (vec![sliding(9, 60); 4], 37),
    ] {
        let store = store(&rates, 100_000);
        for number in 0..100_000 {
            let _ = store.check(wall(NOON), key(number), 1);
        }
        let bytes = memory_bytes(&store) / 100_000;
        assert!(bytes <= words * 8 * 16 / 7 + 1, "{rates:?}: {bytes} bytes a key");
    }
}

#[test]
fn rl04_ten_million_keys_do_not_push_out_hot_ones() {
    let store = store(&[rate(20, 3600, 20)], 100_000);
    let mut fresh = 0;
    for number in 0..10_000_000u64 {
        let now = wall(NOON + number);
        let _ = store.check(now, key(10_000 + number), 1);
        if number % 20 == 0 {
            let is_fresh = store.check(now, key((number / 20) % 1000), 1).allowed;
            fresh += u32::from(is_fresh && number > 1_000_000);
        }
    }
    assert_eq!((fresh, store.keys()), (0, 100_000));
    assert!(memory_bytes(&store) < 4 << 20);
}
