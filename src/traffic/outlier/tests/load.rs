//! An endpoint that goes bad under load: how many requests it still gets, and when it is used again. Each run can be told
//! again from its seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::balance::{Choice, Lineup, Pick, TriedSet, pick};

const MS: u64 = 1_000_000;
/// When the first endpoint goes bad.
const BAD: u64 = 200 * MS;
const SEEDS: u64 = 10_000;

/// A seeded source of chance (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from + 1)
    }
}

/// A try that is under way; ordered by its end.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Try {
    end: u64,
    sent: u64,
    index: usize,
    is_second: bool,
}

/// What came of a run.
#[derive(Debug, Default)]
struct Run {
    /// Tries at the bad endpoint that began when a failure of it was known, and after the last good answer of it.
    knowing: u32,
    failed: u32,
    /// When the endpoint was asked again after it had become well, and answered.
    back: Option<u64>,
}

/// Clients that each send one request after the other, to `count` endpoints, of which the first is bad from [`BAD`] to
/// `well`.
fn run(seed: u64, policy: &ir::PassiveHealth, outcome: Outcome, (well, end): (u64, u64)) -> Run {
    let mut chance = Chance(seed);
    let count = usize::try_from(chance.between(2, 6)).unwrap();
    let (outlier, endpoints, lineup) = (Outlier::default(), endpoints(count), Lineup::default());
    let clients = chance.between(1, 24);
    let slowest = chance.between(2, 40);
    let (mut run, mut known, mut turn) = (Run::default(), false, 0);
    let mut under_way = BinaryHeap::new();
    let by_turn = seed.is_multiple_of(2);
    let mut begin = |now: u64, tried: &TriedSet, known: bool, run: &mut Run, chance: &mut Chance| {
        turn += 1;
        let choice = if by_turn { Choice::RoundRobin { turn } } else { Choice::Random };
        let ask = Pick {
            choice,
            random: chance.next(),
            now_ns: now,
            tried,
            outlier: &outlier,
            lineup: &lineup,
            slow_start_ns: 0,
            prefers_local: false,
            panic_percent: policy.panic_percent,
        };
        let index = pick(&endpoints, &ask).unwrap();
        run.knowing += u32::from(index == 0 && known && now < well);
        let took = chance.between(1, slowest) * MS;
        Reverse(Try { end: now + took, sent: now, index, is_second: !tried.is_empty() })
    };
    for _ in 0..clients {
        under_way.push(begin(1, &TriedSet::default(), false, &mut run, &mut chance));
    }
    while let Some(Reverse(Try { end: now, sent, index, is_second })) = under_way.pop() {
        let is_bad = index == 0 && (BAD..well).contains(&sent);
        let outcome = if is_bad { outcome } else { Outcome::Success };
        outlier.on_result(&endpoints, index, (now, outcome), policy);
        known |= is_bad;
        if index == 0 && sent < BAD {
            // It was well when this was sent, and the answer says so.
            (known, run.knowing) = (false, 0);
        }
        if index == 0 && !is_bad && sent >= well {
            run.back.get_or_insert(now);
        }
        if now >= end {
            continue;
        }
        let mut tried = TriedSet::default();
        if is_bad {
            run.failed += u32::from(is_second);
            if !is_second {
                tried.insert(0);
            }
        }
        under_way.push(begin(now, &tried, known, &mut run, &mut chance));
    }
    run
}

#[test]
fn a_bad_endpoint_gets_no_more_than_the_threshold_in_ten_seconds_whatever_the_load() {
    for seed in 0..SEEDS {
        let mut chance = Chance(!seed);
        let threshold = u32::try_from(chance.between(1, 5)).unwrap();
        let policy = ir::PassiveHealth {
            consecutive_5xx: threshold,
            consecutive_connect_failures: threshold,
            ..ir::PassiveHealth::default()
        };
        let outcome = *[Outcome::ServerError, Outcome::NoAnswer, Outcome::ConnectFailure]
            .get(usize::try_from(chance.next() % 3).unwrap())
            .unwrap();
        let end = if seed.is_multiple_of(100) { BAD + 10_000 * MS } else { BAD + 400 * MS };
        let Run { knowing, failed, .. } = run(seed, &policy, outcome, (u64::MAX, end));
        assert!(knowing < threshold, "seed {seed}: {knowing} tries, threshold {threshold}, {outcome:?}");
        assert_eq!(failed, 0, "seed {seed}: every request had somewhere else to go");
    }
}

#[test]
fn an_endpoint_that_is_well_again_is_used_within_its_ejection_time() {
    for seed in 0..SEEDS {
        let mut chance = Chance(!seed);
        let eject_for = Duration::from_millis(chance.between(50, 200));
        let policy = ir::PassiveHealth {
            consecutive_5xx: 3,
            eject_for,
            eject_for_max: eject_for * 2,
            ..ir::PassiveHealth::default()
        };
        let well = BAD + chance.between(1, 300) * MS;
        // Twice the time at most, and two turns of everyone.
        let patience = nanos(eject_for) * 2 + 12 * 40 * MS;
        let Run { back, failed, .. } = run(seed, &policy, Outcome::ServerError, (well, well + patience));
        assert!(back.is_some_and(|back| back <= well + patience + 40 * MS), "seed {seed}: {back:?}");
        assert_eq!(failed, 0, "seed {seed}");
    }
}
