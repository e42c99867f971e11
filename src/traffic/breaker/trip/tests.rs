//! A breaker that opens on failures: when it opens, whom it lets through, when it closes. Seeded runs can be told again.

use std::collections::BTreeMap;
use std::time::Duration;

use ir::SuccessRate;

use super::*;

const MS: u64 = 1_000_000;
const SEEDS: u64 = 10_000;

fn policy(consecutive: u32, probes: u32) -> BreakerFailures {
    BreakerFailures { consecutive, rate: None, open_for: Duration::from_secs(1), probes }
}

/// A request that is let through and ends at the same moment.
fn ends(trip: &Trip, now_ns: u64, failed: bool, policy: &BreakerFailures) -> Option<TripState> {
    trip.admit(now_ns, policy).unwrap().on_result(now_ns, failed, policy)
}

#[test]
fn it_opens_after_so_many_failures_in_a_row_and_closes_after_so_many_probes() {
    let (trip, policy) = (Trip::default(), policy(3, 2));
    let before = trip.admit(MS, &policy).unwrap();
    for failed in [true, true, false, true, true] {
        assert_eq!(ends(&trip, MS, failed, &policy), None);
    }
    assert_eq!(ends(&trip, MS, true, &policy), Some(TripState::Open));
    assert_eq!(trip.admit(501 * MS, &policy).unwrap_err(), 500 * MS);
    assert_eq!(before.on_result(502 * MS, false, &policy), None);
    assert_eq!(trip.state(1001 * MS), TripState::HalfOpen);
    let probes = [0; 2].map(|_| trip.admit(1001 * MS, &policy).unwrap());
    assert!(trip.admit(1001 * MS, &policy).is_err(), "two probes");
    let closed = probes.map(|probe| probe.on_result(1002 * MS, false, &policy));
    assert_eq!(closed, [None, Some(TripState::Closed)]);
    assert_eq!(ends(&trip, 1003 * MS, true, &policy), None, "a clean record");
}

#[test]
fn a_probe_that_fails_opens_it_again_and_one_that_takes_for_ever_does_not_hold_it() {
    let (trip, policy) = (Trip::default(), policy(1, 1));
    assert_eq!(ends(&trip, MS, true, &policy), Some(TripState::Open));
    let probe = trip.admit(1001 * MS, &policy).unwrap();
    assert_eq!(probe.on_result(1002 * MS, true, &policy), Some(TripState::Open));
    assert_eq!(trip.admit(2001 * MS, &policy).unwrap_err(), MS);
    let slow = trip.admit(2002 * MS, &policy).unwrap();
    assert!(trip.admit(3001 * MS, &policy).is_err());
    let next = trip.admit(3002 * MS, &policy).unwrap();
    assert!(trip.admit(3003 * MS, &policy).is_err(), "one for one");
    drop(slow);
    assert!(trip.admit(3003 * MS, &policy).is_err(), "the other one has its place");
    assert_eq!(next.on_result(3004 * MS, false, &policy), Some(TripState::Closed));
}

#[test]
fn a_probe_of_which_nothing_comes_gives_its_place_to_the_next() {
    let (trip, policy) = (Trip::default(), policy(1, 2));
    assert_eq!(ends(&trip, MS, true, &policy), Some(TripState::Open));
    // The gateway has the answer, or the client leaves.
    for _ in 0..20 {
        drop(trip.admit(1001 * MS, &policy).unwrap());
    }
    assert_eq!(ends(&trip, 1002 * MS, false, &policy), None);
    drop(trip.admit(1002 * MS, &policy).unwrap());
    let probe = trip.admit(1003 * MS, &policy).unwrap();
    assert!(trip.admit(1003 * MS, &policy).is_err(), "one has succeeded, one is under way");
    assert_eq!(probe.on_result(1004 * MS, false, &policy), Some(TripState::Closed));
}

#[test]
fn only_probes_of_this_opening_say_whether_it_closes() {
    let (trip, policy) = (Trip::default(), policy(2, 1));
    let [slow_good, slow_bad, slower, slowest] = [0; 4].map(|_| trip.admit(MS, &policy).unwrap());
    assert_eq!(ends(&trip, MS, true, &policy), None);
    assert_eq!(ends(&trip, MS, true, &policy), Some(TripState::Open));
    assert_eq!(slow_good.on_result(1001 * MS, false, &policy), None, "sent before it opened");
    assert_eq!(slow_bad.on_result(1001 * MS, true, &policy), None, "that one, too");
    assert_eq!(trip.state(1001 * MS), TripState::HalfOpen);
    let overdue = trip.admit(1001 * MS, &policy).unwrap();
    let probe = trip.admit(2001 * MS, &policy).unwrap();
    assert_eq!(probe.on_result(2001 * MS, true, &policy), Some(TripState::Open));
    let probe = trip.admit(3001 * MS, &policy).unwrap();
    assert_eq!(overdue.on_result(3002 * MS, false, &policy), None, "a probe of the opening before");
    assert_eq!(probe.on_result(3003 * MS, false, &policy), Some(TripState::Closed));
    for old in [slower, slowest] {
        assert_eq!(old.on_result(3004 * MS, true, &policy), None, "a clean record");
    }
    assert_eq!(ends(&trip, 3004 * MS, true, &policy), None);
    assert_eq!(ends(&trip, 3004 * MS, true, &policy), Some(TripState::Open));
}

#[test]
fn it_opens_by_the_rate_of_successes() {
    let rate = SuccessRate { minimum_percent: 50, minimum_requests: 10, interval: Duration::from_secs(10) };
    let (trip, policy) = (Trip::default(), BreakerFailures { rate: Some(rate), ..policy(0, 1) });
    let opened = (0..100).position(|n| ends(&trip, MS, n % 3 != 0, &policy).is_some());
    // Two of three fail.
    assert_eq!(opened, Some(10));
}

/// A seeded source of chance (SplitMix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A request that is under way.
struct Sent<'t> {
    at: u64,
    permit: TripPermit<'t>,
    /// Its client leaves before it is answered.
    is_left: bool,
}

/// When the breaker opened, and what it has let through since it is half open.
#[derive(Default)]
struct Opening {
    at: Option<u64>,
    /// Probes that have begun, without those of which nothing came.
    probes: u64,
}

/// One of eight answers takes longer than the breaker is open, and one of eight clients leaves.
fn answers_in(chance: &mut u64, slowest: u64) -> (u64, bool) {
    let is_slow = next(chance).is_multiple_of(8);
    let took = if is_slow { 500 + next(chance) % 2500 } else { 1 + next(chance) % slowest };
    (MS * took, next(chance).is_multiple_of(8))
}

/// Requests at random times to a backend that is bad from 1 s to 4 s.
#[test]
fn whatever_the_load_it_opens_lets_few_through_and_closes_again() {
    for seed in 0..SEEDS {
        let mut chance = seed;
        let (consecutive, probes) = (
            1 + u32::try_from(next(&mut chance) % 8).unwrap(),
            1 + u32::try_from(next(&mut chance) % 4).unwrap(),
        );
        let (trip, policy) = (Trip::default(), policy(consecutive, probes));
        let pause = 1 + next(&mut chance) % 20;
        let slowest = 1 + next(&mut chance) % 40;
        let mut under_way: BTreeMap<(u64, u64), Sent<'_>> = BTreeMap::new();
        let (mut now, mut count, mut opening, mut openings) = (MS, 0, Opening::default(), 0);
        while now < 14_000 * MS {
            now += MS * (next(&mut chance) % (2 * pause));
            while let Some(first) = under_way.first_entry().filter(|first| first.key().0 <= now) {
                let ((end, _), sent) = first.remove_entry();
                // When the breaker was half open for the first time since it opened.
                let since = opening.at.map(|at| at + 1000 * MS);
                if sent.is_left {
                    let is_probe = trip.state(end) == TripState::HalfOpen && since <= Some(sent.at);
                    opening.probes -= u64::from(is_probe);
                    continue;
                }
                let failed = (1000 * MS..4000 * MS).contains(&sent.at);
                match sent.permit.on_result(end, failed, &policy) {
                    None => continue,
                    Some(TripState::Open) => {
                        assert!(failed, "seed {seed}");
                        opening = Opening { at: Some(end), probes: 0 };
                        openings += 1;
                    }
                    Some(TripState::Closed) => assert!(!failed, "seed {seed}"),
                    Some(TripState::HalfOpen) => panic!("seed {seed}: nothing that a result brings about"),
                }
                assert!(since <= Some(sent.at), "seed {seed}: who was sent before it opened has no say");
            }
            let state = trip.state(now);
            let permit = trip.admit(now, &policy).ok();
            match state {
                TripState::Closed => assert!(permit.is_some(), "seed {seed}"),
                TripState::Open => assert!(permit.is_none(), "seed {seed}"),
                TripState::HalfOpen => {
                    let has_place = opening.probes < u64::from(probes);
                    assert!(permit.is_some() || !has_place, "seed {seed}: a place is lost");
                    opening.probes += u64::from(permit.is_some());
                }
            }
            // One for each that is overdue, beside those that may be under way.
            let overdue = opening.at.map_or(0, |at| (now - at) / (1000 * MS)).saturating_sub(1);
            let is_bounded = opening.probes <= u64::from(probes) + overdue;
            assert!(state != TripState::HalfOpen || is_bounded, "seed {seed}: {} probes", opening.probes);
            if let Some(permit) = permit {
                let (took, is_left) = answers_in(&mut chance, slowest);
                count += 1;
                under_way.insert((now + took, count), Sent { at: now, permit, is_left });
            }
        }
        assert!(openings > 0, "seed {seed}");
        // Bad answers come until 7 s; open for a second after the last of them, then the probes.
        assert_eq!(trip.state(now), TripState::Closed, "seed {seed}");
    }
}
