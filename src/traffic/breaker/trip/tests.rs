//! A breaker that opens on failures: when it opens, whom it lets through, when it closes. Seeded runs can be told again.

use std::time::Duration;

use ir::SuccessRate;

use super::*;

const MS: u64 = 1_000_000;
const SEEDS: u64 = 10_000;

fn policy(consecutive: u32, probes: u32) -> BreakerFailures {
    BreakerFailures { consecutive, rate: None, open_for: Duration::from_secs(1), probes }
}

#[test]
fn it_opens_after_so_many_failures_in_a_row_and_closes_after_so_many_probes() {
    let (trip, policy) = (Trip::default(), policy(3, 2));
    let on = |now: u64, failed: bool| trip.on_result(now * MS, failed, &policy);
    for failed in [true, true, false, true, true] {
        assert_eq!(on(1, failed), None);
    }
    assert_eq!(on(1, true), Some(TripState::Open));
    assert_eq!(trip.admit(501 * MS, &policy), Err(500 * MS));
    assert_eq!(on(502, false), None, "of a request that was sent before");
    assert_eq!(trip.state(1001 * MS), TripState::HalfOpen);
    assert_eq!(trip.admit(1001 * MS, &policy), Ok(()));
    assert_eq!(trip.admit(1001 * MS, &policy), Ok(()));
    assert!(trip.admit(1001 * MS, &policy).is_err(), "two probes");
    assert_eq!(on(1002, false), None);
    assert_eq!(on(1002, false), Some(TripState::Closed));
    assert_eq!(trip.admit(1002 * MS, &policy), Ok(()));
    assert_eq!(on(1003, true), None, "a clean record");
}

#[test]
fn a_probe_that_fails_opens_it_again_and_one_that_is_never_told_does_not_hold_it() {
    let (trip, policy) = (Trip::default(), policy(1, 1));
    assert_eq!(trip.on_result(MS, true, &policy), Some(TripState::Open));
    assert_eq!(trip.admit(1001 * MS, &policy), Ok(()));
    assert_eq!(trip.on_result(1002 * MS, true, &policy), Some(TripState::Open));
    assert_eq!(trip.admit(2001 * MS, &policy), Err(MS));
    assert_eq!(trip.admit(2002 * MS, &policy), Ok(()), "whose client leaves");
    assert!(trip.admit(3001 * MS, &policy).is_err());
    assert_eq!(trip.admit(3002 * MS, &policy), Ok(()));
}

#[test]
fn it_opens_by_the_rate_of_successes() {
    let rate = SuccessRate { minimum_percent: 50, minimum_requests: 10, interval: Duration::from_secs(10) };
    let (trip, policy) = (Trip::default(), BreakerFailures { rate: Some(rate), ..policy(0, 1) });
    let opened = (0..100).position(|n| trip.on_result(MS, n % 3 != 0, &policy).is_some());
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
        let mut under_way: Vec<(u64, u64)> = Vec::new();
        let (mut now, mut let_through_open, mut in_half_open) = (MS, 0u32, 0u32);
        while now < 7000 * MS {
            now += MS * (next(&mut chance) % (2 * pause));
            let ended: Vec<_> = under_way.iter().copied().filter(|(end, _)| *end <= now).collect();
            under_way.retain(|(end, _)| *end > now);
            for (end, sent) in ended {
                let failed = (1000 * MS..4000 * MS).contains(&sent);
                match trip.on_result(end, failed, &policy) {
                    Some(TripState::Open) => {
                        assert!(failed, "seed {seed}");
                        in_half_open = 0;
                    }
                    Some(TripState::Closed) => assert!(!failed, "seed {seed}"),
                    Some(TripState::HalfOpen) => panic!("seed {seed}: nothing that a result brings about"),
                    None => {}
                }
            }
            let state = trip.state(now);
            let admitted = trip.admit(now, &policy).is_ok();
            match state {
                TripState::Closed => assert!(admitted, "seed {seed}"),
                TripState::Open => let_through_open += u32::from(admitted),
                TripState::HalfOpen => in_half_open += u32::from(admitted),
            }
            // The outcomes of all are told, so that none is overdue.
            assert!(
                state != TripState::HalfOpen || in_half_open <= probes,
                "seed {seed}: {in_half_open} probes"
            );
            if admitted {
                under_way.push((now + MS * (1 + next(&mut chance) % slowest), now));
            }
        }
        assert_eq!(let_through_open, 0, "seed {seed}");
        // Open for a second at most after it is well, then the probes.
        assert_eq!(trip.state(now), TripState::Closed, "seed {seed}");
    }
}
