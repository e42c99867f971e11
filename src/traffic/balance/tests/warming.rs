//! Slow start: how the share of a new endpoint grows, by policy.

use super::*;

const S: u64 = 1_000_000_000;
/// When the last of the endpoints was added.
const ADDED: u64 = 100 * S;

/// Three that were there, and one that was added later.
fn one_new() -> Vec<Arc<EndpointState>> {
    let mut all = endpoints(3);
    all.push(Arc::new(EndpointState::added(ADDED)));
    all
}

/// How often each is picked at `age_ns` after the last one was added.
fn count(policy: Policy, endpoints: &[Arc<EndpointState>], age_ns: u64, seed: u64) -> Vec<u64> {
    let names: Vec<String> = (0..endpoints.len()).map(|index| format!("pod-{index}")).collect();
    let ring = (policy == Policy::Hash).then(|| Ring::new(names.iter().map(String::as_str)));
    let lineup = Lineup::new(endpoints, ring, &[]);
    let (tried, outlier) = (TriedSet::default(), Outlier::default());
    let mut chance = Chance(seed);
    let mut counts = vec![0; endpoints.len()];
    for turn in 0..10_000 {
        let choice = match policy {
            Policy::Hash => Choice::ConsistentHash {
                key: Some(stable_hash(&[&chance.next().to_be_bytes()])),
                under_way: 1,
            },
            Policy::RoundRobin | Policy::LeastRequest | Policy::Ewma | Policy::Random => policy.choice(turn),
        };
        let ask = Pick {
            now_ns: ADDED + age_ns,
            slow_start_ns: 30 * S,
            ..plain(choice, chance.next(), (&tried, &outlier, &lineup))
        };
        counts[pick(endpoints, &ask).unwrap()] += 1;
    }
    counts
}

#[test]
fn the_share_of_a_new_endpoint_grows_evenly_to_the_whole() {
    for policy in [Policy::RoundRobin, Policy::Random] {
        for seed in 0..10 {
            // Age in seconds, and its share of an old one's.
            for (age, share) in [(0, 0.1), (3, 0.1), (9, 0.3), (15, 0.5), (27, 0.9), (30, 1.0), (300, 1.0)] {
                let counts = count(policy, &one_new(), age * S, seed);
                let want = 10_000.0 * share / (3.0 + share);
                let got = f64::from(u32::try_from(counts[3]).unwrap());
                // Five standard deviations of a binomial distribution.
                assert!(
                    (got - want).abs() < 5.0 * want.sqrt(),
                    "{policy:?} at {age} s: {counts:?}, want {want}"
                );
            }
        }
    }
}

#[test]
fn two_choices_bring_a_new_endpoint_hardly_more_than_twice_its_share() {
    for policy in [Policy::LeastRequest, Policy::Ewma] {
        let endpoints = one_new();
        // The others are busy, so that the new one wins whenever it is drawn.
        let _held: Vec<_> = endpoints[..3].iter().map(InFlight::start).collect();
        let counts = count(policy, &endpoints, 3 * S, 1);
        // Drawn first or second: 0.1 / 3.1, and then 0.1 / 2.1 of the rest.
        assert!((650..920).contains(&counts[3]), "{policy:?}: {counts:?}");
    }
}

#[test]
fn keys_come_to_a_new_endpoint_one_after_the_other_and_stay() {
    let endpoints = one_new();
    let ring = Ring::new(["a:1", "b:1", "c:1", "d:1"].into_iter());
    let lineup = Lineup::new(&endpoints, Some(ring), &[]);
    let (tried, outlier) = (TriedSet::default(), Outlier::default());
    let at = |number: u64, age_ns: u64| {
        let key = stable_hash(&[&number.to_be_bytes()]);
        let choice = Choice::ConsistentHash { key: Some(key), under_way: 1 };
        let ask = Pick {
            now_ns: ADDED + age_ns,
            slow_start_ns: 30 * S,
            ..plain(choice, 0, (&tried, &outlier, &lineup))
        };
        pick(&endpoints, &ask).unwrap()
    };
    let own: Vec<u64> = (0..4000).filter(|number| at(*number, 30 * S) == 3).collect();
    let mut last = 0;
    for age in 0..=30 {
        let here = own.iter().filter(|number| at(**number, age * S) == 3).count();
        let want = own.len() * usize::try_from(age.max(3)).unwrap() / 30;
        assert!(here >= last, "a key went away again");
        assert!(here.abs_diff(want) < own.len() / 12, "{here} of {} at {age} s", own.len());
        last = here;
    }
    // The others' keys move at no time.
    for number in (0..4000).filter(|number| !own.contains(number)) {
        assert_eq!(at(number, 0), at(number, 30 * S));
    }
}

#[test]
fn an_endpoint_that_was_out_starts_slowly_too() {
    let (endpoints, outlier) = (endpoints(2), Outlier::default());
    eject(&outlier, &endpoints, &[0]);
    let (tried, lineup) = (TriedSet::default(), Lineup::default());
    let at = |now_ns: u64, slow_start_ns: u64| {
        let mut chance = Chance(9);
        let picks = (0..2000u64).filter(|turn| {
            let choice = Choice::RoundRobin { turn: *turn };
            let ask =
                Pick { now_ns, slow_start_ns, ..plain(choice, chance.next(), (&tried, &outlier, &lineup)) };
            pick(&endpoints, &ask) == Some(0)
        });
        picks.count()
    };
    let back = 30 * S + 1;
    assert_eq!(at(back - 1, 10 * S), 0);
    let policy = ir::PassiveHealth::default();
    outlier.on_result(&endpoints, 0, (back, Outcome::Success), &policy);
    assert!((120..250).contains(&at(back, 10 * S)), "{}", at(back, 10 * S));
    assert!((550..780).contains(&at(back + 5 * S, 10 * S)), "{}", at(back + 5 * S, 10 * S));
    assert_eq!(at(back + 10 * S, 10 * S), 1000);
    assert_eq!(at(back, 0), 1000, "no slow start is asked for");
}

#[test]
fn where_all_are_new_they_share_alike() {
    let endpoints: Vec<_> = (0..4).map(|_| Arc::new(EndpointState::added(ADDED))).collect();
    for policy in [Policy::RoundRobin, Policy::LeastRequest, Policy::Ewma, Policy::Random, Policy::Hash] {
        let counts = count(policy, &endpoints, S, 4);
        let (least, most) = if policy == Policy::Hash { (1700, 3300) } else { (2250, 2750) };
        assert!(counts.iter().all(|n| (least..most).contains(n)), "{policy:?}: {counts:?}");
    }
}
