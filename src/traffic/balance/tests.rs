//! Balancing: fairness, who is skipped, panic mode, weights; simulations are seeded.

use proptest::prelude::*;

use super::*;

mod hashing;
mod warming;
mod zones;
use crate::outlier::Outcome;

/// A seeded source of chance (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn endpoints(count: usize) -> Vec<Arc<EndpointState>> {
    (0..count).map(|_| Arc::default()).collect()
}

/// Ejects these for the default time, whatever the share allows.
fn eject(outlier: &Outlier, endpoints: &[Arc<EndpointState>], out: &[usize]) {
    let policy = ir::PassiveHealth { consecutive_5xx: 1, max_ejected_percent: 100, ..Default::default() };
    for index in out {
        assert!(outlier.on_result(endpoints, *index, (1, Outcome::ServerError), &policy));
    }
}

fn tried(indices: &[usize]) -> TriedSet {
    let mut set = TriedSet::default();
    for index in indices {
        set.insert(*index);
    }
    set
}

/// How often each endpoint is picked in `turns`.
fn counts(
    policy: Policy,
    endpoints: &[Arc<EndpointState>],
    outlier: &Outlier,
    tried: &TriedSet,
    turns: u64,
) -> Vec<u64> {
    let mut chance = Chance(11);
    let mut counts = vec![0; endpoints.len()];
    for turn in 0..turns {
        let lineup = &Lineup::default();
        let choice = policy.choice(turn);
        let ask = Pick {
            choice,
            random: chance.next(),
            now_ns: 1,
            tried,
            outlier,
            lineup,
            slow_start_ns: 0,
            prefers_local: false,
            panic_percent: 0,
        };
        counts[pick(endpoints, &ask).unwrap()] += 1;
    }
    counts
}

/// A choice but for what differs from one request to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    RoundRobin,
    LeastRequest,
    Ewma,
    Random,
    Hash,
}

impl Policy {
    fn choice(self, turn: u64) -> Choice {
        match self {
            Self::RoundRobin => Choice::RoundRobin { turn },
            Self::LeastRequest => Choice::LeastRequest,
            Self::Ewma => Choice::Ewma,
            Self::Random => Choice::Random,
            // Without a ring, as for requests without a key.
            Self::Hash => {
                Choice::ConsistentHash { key: turn.is_multiple_of(2).then_some(turn), under_way: 1 }
            }
        }
    }
}

const POLICIES: [Policy; 5] =
    [Policy::RoundRobin, Policy::LeastRequest, Policy::Ewma, Policy::Random, Policy::Hash];

/// A pick that nothing is special about.
fn plain<'a>(
    choice: Choice,
    random: u64,
    (tried, outlier, lineup): (&'a TriedSet, &'a Outlier, &'a Lineup),
) -> Pick<'a> {
    Pick {
        choice,
        random,
        now_ns: 1,
        tried,
        outlier,
        lineup,
        slow_start_ns: 0,
        prefers_local: false,
        panic_percent: 0,
    }
}

#[test]
fn no_endpoint_means_no_pick() {
    for policy in POLICIES {
        for tried in [tried(&[]), tried(&[0])] {
            let (outlier, lineup) = (Outlier::default(), Lineup::default());
            let ask = plain(policy.choice(0), 0, (&tried, &outlier, &lineup));
            assert_eq!(pick::<Arc<EndpointState>>(&[], &ask), None);
        }
    }
}

#[test]
fn a_list_of_before_does_not_say_that_all_are_well() {
    let (outlier, all, none) = (Outlier::default(), endpoints(2), tried(&[]));
    let after = |endpoints: &[Arc<EndpointState>], number| {
        let lineup = Lineup::new(endpoints, None, &[]).with_number(number);
        pick(endpoints, &plain(Choice::Random, 0, (&none, &outlier, &lineup)));
        outlier.is_calm()
    };
    let before = outlier.next_lineup();
    let now = outlier.next_lineup();
    eject(&outlier, &all, &[1]);
    assert!(!after(&all[..1], before), "the other one is out");
    assert!(!after(&all, now));
    let again = outlier.next_lineup();
    assert!(!after(&all, now) && after(&all[..1], again), "who is out has gone");
}

#[test]
fn the_first_group_that_has_anyone_is_asked() {
    /// Endpoints, ejected, tried, who may be picked.
    type Case<'a> = (usize, &'a [usize], &'a [usize], &'a [usize]);
    let cases: &[Case<'_>] = &[
        (1, &[], &[], &[0]),
        (1, &[], &[0], &[0]),
        (3, &[], &[], &[0, 1, 2]),
        (3, &[1], &[], &[0, 2]),
        (3, &[], &[1], &[0, 2]),
        (3, &[0], &[1], &[2]),
        (3, &[0, 1, 2], &[], &[0, 1, 2]),
        (3, &[0, 1, 2], &[2], &[0, 1]),
        (3, &[0], &[1, 2], &[0]),
        (3, &[], &[0, 1, 2], &[0, 1, 2]),
        (3, &[1], &[0, 1, 2], &[0, 2]),
        (3, &[0, 1, 2], &[0, 1, 2], &[0, 1, 2]),
    ];
    for policy in POLICIES {
        for (count, out, skip, want) in cases {
            let (endpoints, outlier) = (endpoints(*count), Outlier::default());
            if *count > 1 {
                eject(&outlier, &endpoints, out);
            }
            let counts = counts(policy, &endpoints, &outlier, &tried(skip), 300);
            let got: Vec<usize> = (0..*count).filter(|index| counts[*index] > 0).collect();
            assert_eq!(got, *want, "{policy:?}: {count} endpoints, {out:?} out, {skip:?} tried");
        }
    }
}

#[test]
fn an_ejected_endpoint_is_picked_again_when_its_time_is_over() {
    let (endpoints, outlier) = (endpoints(2), Outlier::default());
    eject(&outlier, &endpoints, &[0]);
    let at = |now_ns, turn| {
        let (tried, lineup) = (TriedSet::default(), Lineup::default());
        let ask = Pick { now_ns, ..plain(POLICIES[0].choice(turn), 0, (&tried, &outlier, &lineup)) };
        pick(&endpoints, &ask).unwrap()
    };
    assert_eq!((at(30_000_000_000, 0), at(30_000_000_000, 1)), (1, 1));
    assert_eq!((at(30_000_000_001, 0), at(30_000_000_001, 1)), (0, 1));
}

#[test]
fn least_request_prefers_the_less_busy_of_two() {
    let endpoints = endpoints(2);
    let held: Vec<_> = (0..3).map(|_| InFlight::start(&endpoints[0])).collect();
    let outlier = Outlier::default();
    assert_eq!(counts(POLICIES[1], &endpoints, &outlier, &tried(&[]), 200), [0, 200]);
    drop(held);
    assert_eq!(endpoints[0].in_flight(), 0);
    let even = counts(POLICIES[1], &endpoints, &outlier, &tried(&[]), 2000);
    assert!(even.iter().all(|n| (900..1100).contains(n)), "{even:?}");
}

#[test]
fn least_request_keeps_a_slow_endpoint_from_piling_up() {
    // Ten endpoints, of which the first takes ten times as long. One request starts in every step.
    let (endpoints, outlier, tried) = (endpoints(10), Outlier::default(), TriedSet::default());
    let lineup = Lineup::default();
    let mut chance = Chance(3);
    let mut running: Vec<(u64, usize, InFlight)> = Vec::new();
    let mut picked = [0u64; 10];
    for step in 0..20_000u64 {
        running.retain(|(end, _, _)| *end > step);
        let ask = plain(Choice::LeastRequest, chance.next(), (&tried, &outlier, &lineup));
        let index = pick(&endpoints, &ask).unwrap();
        picked[index] += 1;
        let lasts = if index == 0 { 200 } else { 20 };
        running.push((step + lasts, index, InFlight::start(&endpoints[index])));
        let total: u32 = endpoints.iter().map(|e| e.in_flight()).sum();
        assert_eq!(usize::try_from(total).unwrap(), running.len());
    }
    let others = picked[1..].iter().sum::<u64>() / 9;
    assert!(picked[0] * 3 < others, "{picked:?}");
    assert!(picked[1..].iter().all(|n| n.abs_diff(others) < others / 10), "{picked:?}");
}

#[test]
fn chance_spreads_evenly_whoever_is_left() {
    // Pearson's statistic of nine degrees of freedom is over 33.7 once in ten thousand times.
    for seed in 0..50 {
        for policy in [Policy::Random, Policy::LeastRequest, Policy::Ewma] {
            let (endpoints, outlier) = (endpoints(12), Outlier::default());
            eject(&outlier, &endpoints, &[3]);
            let (tried, lineup) = (tried(&[7]), Lineup::default());
            let mut chance = Chance(seed);
            let mut counts = [0u64; 12];
            for _ in 0..5000 {
                let ask = plain(policy.choice(0), chance.next(), (&tried, &outlier, &lineup));
                counts[pick(&endpoints, &ask).unwrap()] += 1;
            }
            assert_eq!((counts[3], counts[7]), (0, 0));
            let squares: u64 =
                counts.iter().filter(|n| **n > 0).map(|n| n.abs_diff(500) * n.abs_diff(500)).sum();
            assert!(squares < 33 * 500, "{policy:?}, seed {seed}: {counts:?}");
        }
    }
}

#[test]
fn ewma_leaves_a_slow_endpoint_alone_until_that_was_long_ago() {
    // Six endpoints; the first takes 500 ms, the others 10 ms. One request starts every 5 ms.
    const MS: u64 = 1_000_000;
    for seed in 0..20 {
        let (endpoints, outlier, tried) = (endpoints(6), Outlier::default(), TriedSet::default());
        let lineup = Lineup::default();
        let mut chance = Chance(seed);
        let mut running: Vec<(u64, u64, usize, InFlight)> = Vec::new();
        let mut picked = [0u64; 6];
        for step in 1..=4000u64 {
            let now_ns = step * 5 * MS;
            for (end, began, index, _) in running.iter().filter(|(end, ..)| *end <= now_ns) {
                endpoints[*index].latency().on_answer(*end, end - began);
            }
            running.retain(|(end, ..)| *end > now_ns);
            let ask = Pick { now_ns, ..plain(Choice::Ewma, chance.next(), (&tried, &outlier, &lineup)) };
            let index = pick(&endpoints, &ask).unwrap();
            picked[index] += 1;
            let took = if index == 0 { 500 * MS } else { 10 * MS };
            running.push((now_ns + took, now_ns, index, InFlight::start(&endpoints[index])));
        }
        assert!(picked[0] < 40, "seed {seed}: {picked:?}");
        // Well again: what it was counts for less with the time, and then it is asked as often as the others.
        let ask_at = |now_ns, chance: &mut Chance| {
            let ask = Pick { now_ns, ..plain(Choice::Ewma, chance.next(), (&tried, &outlier, &lineup)) };
            pick(&endpoints, &ask).unwrap()
        };
        drop(running);
        let start = 4000 * 5 * MS;
        for endpoint in &endpoints[1..] {
            endpoint.latency().on_answer(start + 1000 * 1000 * MS, 10 * MS);
        }
        let again = (0..600).filter(|_| ask_at(start + 1000 * 1000 * MS, &mut chance) == 0).count();
        assert!(again > 100, "seed {seed}: {again} of 600");
    }
}

#[test]
fn an_endpoint_of_unknown_latency_is_judged_by_its_requests_alone() {
    let (endpoints, outlier) = (endpoints(2), Outlier::default());
    endpoints[0].latency().on_answer(1, 1);
    let even = counts(Policy::Ewma, &endpoints, &outlier, &tried(&[]), 2000);
    assert!(even.iter().all(|n| (900..1100).contains(n)), "{even:?}");
    let held = InFlight::start(&endpoints[1]);
    assert_eq!(counts(Policy::Ewma, &endpoints, &outlier, &tried(&[]), 200), [200, 0]);
    drop(held);
    // Known now, and quick: five of its requests cost less than one of the other's.
    endpoints[0].latency().on_answer(1, 1000);
    endpoints[1].latency().on_answer(1, 100);
    let _held: Vec<_> = (0..5).map(|_| InFlight::start(&endpoints[1])).collect();
    assert_eq!(counts(Policy::Ewma, &endpoints, &outlier, &tried(&[]), 200), [0, 200]);
}

#[test]
fn tried_set_holds_the_last_eight() {
    let set = tried(&(0..10).collect::<Vec<_>>());
    assert!(!set.contains(0) && !set.contains(1) && (2..10).all(|index| set.contains(index)));
    assert!(TriedSet::default().is_empty() && !set.is_empty());
}

#[test]
fn weights_are_kept() {
    assert_eq!(weighted(&[], 7), None);
    assert_eq!(weighted(&[0, 0], 7), None);
    let cases: &[(&[u64], &[u64])] = &[
        (&[90, 100], &[9000, 1000]),
        (&[0, 1], &[0, 10_000]),
        (&[1, 1, 2], &[5000, 0, 5000]),
        (&[5], &[10_000]),
    ];
    for (cumulative, want) in cases {
        let mut chance = Chance(5);
        let mut counts = vec![0u64; want.len()];
        for _ in 0..10_000 {
            counts[weighted(cumulative, chance.next()).unwrap()] += 1;
        }
        for (got, want) in counts.iter().zip(*want) {
            let exact = *want == 0 || *want == 10_000;
            assert!(got.abs_diff(*want) <= if exact { 0 } else { 200 }, "{cumulative:?}: {counts:?}");
        }
    }
    assert_eq!(weighted(&[1, 2, 3], 0), Some(0));
    assert_eq!(weighted(&[1, 2, 3], u64::MAX), Some(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn round_robin_is_fair_to_one_among_those_that_may_be_asked(
        count in 1usize..20,
        out in proptest::collection::vec(0usize..20, 0..10),
        skip in proptest::collection::vec(0usize..20, 0..3),
        turns in 1u64..100,
    ) {
        let (endpoints, outlier) = (endpoints(count), Outlier::default());
        let mut out: Vec<usize> = out.into_iter().filter(|index| *index < count).collect();
        out.sort_unstable();
        out.dedup();
        if count > 1 {
            eject(&outlier, &endpoints, &out);
        }
        let counts = counts(Policy::RoundRobin, &endpoints, &outlier, &tried(&skip), turns);
        let asked: Vec<u64> = counts.iter().copied().filter(|n| *n > 0).collect();
        prop_assert!(asked.iter().max().unwrap() - asked.iter().min().unwrap() <= 1, "{:?}", counts);
        let may = (0..count).filter(|index| !skip.contains(index) && (count == 1 || !out.contains(index))).count();
        if may > 0 && turns >= 20 {
            prop_assert_eq!(asked.len(), may);
        }
    }

    #[test]
    fn a_pick_is_always_one_of_the_endpoints(
        count in 1usize..70, turn: u64, random: u64, now_ns: u64, policy in 0usize..5, slow_start_ns: u64,
        ringed: bool,
        skip in proptest::collection::vec(0usize..100, 0..12),
    ) {
        let tried = tried(&skip);
        let (policy, outlier) = (POLICIES[policy], Outlier::default());
        let added = |index: usize| EndpointState::added(now_ns >> (index % 3));
        let endpoints: Vec<_> = (0..count).map(|index| Arc::new(added(index))).collect();
        let names: Vec<String> = (0..count).map(|index| index.to_string()).collect();
        let ring = ringed.then(|| Ring::new(names.iter().map(String::as_str)));
        let lineup = Lineup::new(&endpoints, ring, &[]);
        let ask = Pick { now_ns, slow_start_ns, ..plain(policy.choice(turn), random, (&tried, &outlier, &lineup)) };
        prop_assert!(pick(&endpoints, &ask).is_some_and(|index| index < count));
    }

    #[test]
    fn a_weight_of_zero_gets_nothing(weights in proptest::collection::vec(0u64..4, 1..17), random: u64) {
        let mut sum = 0;
        let cumulative: Vec<u64> = weights.iter().map(|w| { sum += w; sum }).collect();
        match weighted(&cumulative, random) {
            Some(index) => prop_assert!(weights[index] > 0),
            None => prop_assert_eq!(sum, 0),
        }
    }
}
