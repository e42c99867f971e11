//! Consistent hashing against what it promises: who moves, how many, and how much an endpoint carries.

use super::*;

fn names(count: usize, seed: u64) -> Vec<String> {
    let mut chance = Chance(seed);
    (0..count).map(|_| format!("10.{}.{}:8080", chance.next() % 256, chance.next() % 65536)).collect()
}

fn ring(names: &[String]) -> Ring {
    Ring::new(names.iter().map(String::as_str))
}

fn key(number: u64) -> u64 {
    stable_hash(&[&number.to_be_bytes()])
}

/// Where each of the first `keys` keys is at home while nothing is under way.
fn homes(names: &[String], keys: u64) -> Vec<String> {
    let endpoints = endpoints(names.len());
    let lineup = Lineup::new(&endpoints, Some(ring(names)), &[]);
    let (tried, outlier) = (TriedSet::default(), Outlier::default());
    (0..keys)
        .map(|number| {
            let choice = Choice::ConsistentHash { key: Some(key(number)), under_way: 1 };
            let ask = plain(choice, 0, (&tried, &outlier, &lineup));
            names[pick(&endpoints, &ask).unwrap()].clone()
        })
        .collect()
}

#[test]
fn the_order_of_the_endpoints_and_the_process_do_not_matter() {
    let mut names = names(9, 1);
    let before = homes(&names, 500);
    names.reverse();
    assert_eq!(homes(&names, 500), before);
    // Fixed for ever: replicas of two versions must agree.
    assert_eq!(stable_hash(&[b"10.0.0.1", b":8080"]), 0xe6be_330c_3d44_a2e2);
}

#[test]
fn only_keys_of_an_endpoint_that_comes_or_goes_move_and_not_many() {
    const KEYS: u64 = 5000;
    for seed in 0..40 {
        let count = 2 + usize::try_from(seed % 19).unwrap();
        let all = names(count, seed);
        let (newest, rest) = all.split_last().unwrap();
        let (with, without) = (homes(&all, KEYS), homes(rest, KEYS));
        let moved = with.iter().zip(&without).filter(|(with, without)| with != without).count();
        assert!(
            with.iter().zip(&without).all(|(with, without)| with == without || with == newest),
            "seed {seed}: a key moved between endpoints that stayed"
        );
        // Its fair share, give or take four times what the shares differ by.
        let fair = usize::try_from(KEYS).unwrap() / count;
        assert!(moved > fair * 6 / 10 && moved < fair * 14 / 10, "seed {seed}: {moved} of {count}");
    }
}

#[test]
fn shares_of_the_keys_are_alike() {
    for seed in 0..20 {
        let names = names(10, seed);
        let homes = homes(&names, 20_000);
        for name in &names {
            let own = homes.iter().filter(|home| *home == name).count();
            assert!((1300..2700).contains(&own), "seed {seed}: {name} has {own} of 20000");
        }
    }
}

#[test]
fn the_ring_gives_what_a_search_for_the_nearest_point_gives() {
    let names = names(7, 3);
    let ring = ring(&names);
    for number in 0..2000 {
        let key = key(number);
        let distance = |index: usize| {
            let home = stable_hash(&[names[index].as_bytes()]);
            (0..160u64).map(|point| ring::mixed(home ^ ring::mixed(point)).wrapping_sub(key)).min()
        };
        let nearest = (0..7).min_by_key(|index| distance(*index));
        assert_eq!(ring.walk(key).next(), nearest);
    }
    assert_eq!(ring.walk(0).count(), 7 * 160);
}

#[test]
fn no_endpoint_is_brought_over_its_bound_whatever_the_keys() {
    for seed in 0..30 {
        let count = 2 + usize::try_from(seed % 9).unwrap();
        let (endpoints, outlier, tried) = (endpoints(count), Outlier::default(), TriedSet::default());
        let lineup = Lineup::new(&endpoints, Some(ring(&names(count, seed))), &[]);
        let mut chance = Chance(seed);
        let mut running: Vec<(u64, InFlight)> = Vec::new();
        let mut at_bound = 0u32;
        for step in 0..4000u64 {
            running.retain(|(end, _)| *end > step);
            // Half of the requests have the same key; the others are of eight.
            let number = if chance.next().is_multiple_of(2) { 0 } else { chance.next() % 8 };
            let under_way = u32::try_from(running.len() + 1).unwrap();
            let choice = Choice::ConsistentHash { key: Some(key(number)), under_way };
            let ask = plain(choice, chance.next(), (&tried, &outlier, &lineup));
            let index = pick(&endpoints, &ask).unwrap();
            let load = endpoints[index].in_flight() + 1;
            // 1.25 times the mean, rounded up, where that is more than eight.
            let bound = f64::from(under_way) * 1.25 / f64::from(u32::try_from(count).unwrap());
            assert!(
                f64::from(load) <= bound.ceil().max(8.0),
                "seed {seed}: {load} of {under_way} on {count}"
            );
            at_bound += u32::from(f64::from(load) >= bound.floor() && load >= 8);
            running.push((step + 50 + chance.next() % 100, InFlight::start(&endpoints[index])));
        }
        assert!(at_bound > 100, "seed {seed}: the bound was hardly ever reached: {at_bound}");
    }
}

#[test]
fn a_key_stays_at_home_while_there_is_room() {
    let endpoints = endpoints(5);
    let lineup = Lineup::new(&endpoints, Some(ring(&names(5, 8))), &[]);
    let (tried, outlier) = (TriedSet::default(), Outlier::default());
    let at = |under_way| {
        let choice = Choice::ConsistentHash { key: Some(key(1)), under_way };
        pick(&endpoints, &plain(choice, 0, (&tried, &outlier, &lineup))).unwrap()
    };
    let home = at(1);
    let held: Vec<_> = (1..=8u32)
        .map(|under_way| {
            assert_eq!(at(under_way), home, "{under_way} under way");
            InFlight::start(&endpoints[home])
        })
        .collect();
    let next = at(9);
    assert_ne!(next, home);
    assert_eq!(at(33), home, "so many are at the others that there is room again");
    drop(held);
    assert_eq!(at(1), home);
}

#[test]
fn keys_of_who_is_out_or_tried_go_to_the_next_and_come_back() {
    let endpoints = endpoints(6);
    let outlier = Outlier::default();
    let lineup = Lineup::new(&endpoints, Some(ring(&names(6, 5))), &[]);
    let nobody = TriedSet::default();
    let at = |number, now_ns, tried: &TriedSet| {
        let choice = Choice::ConsistentHash { key: Some(key(number)), under_way: 1 };
        let ask = Pick { now_ns, ..plain(choice, 0, (tried, &outlier, &lineup)) };
        pick(&endpoints, &ask).unwrap()
    };
    let before: Vec<usize> = (0..600).map(|number| at(number, 0, &nobody)).collect();
    eject(&outlier, &endpoints, &[2]);
    let during: Vec<usize> = (0..600).map(|number| at(number, 1, &nobody)).collect();
    for (before, during) in before.iter().zip(&during) {
        assert!(*during != 2 && (before == during || *before == 2));
    }
    let strays: std::collections::BTreeSet<_> =
        before.iter().zip(&during).filter(|(before, _)| **before == 2).map(|(_, during)| during).collect();
    assert!(strays.len() > 2, "its keys are spread over the others: {strays:?}");
    let policy = ir::PassiveHealth::default();
    outlier.on_result(&endpoints, 2, (31_000_000_000, Outcome::Success), &policy);
    let after: Vec<usize> = (0..600).map(|number| at(number, 31_000_000_000, &nobody)).collect();
    assert_eq!(after, before);
    assert_eq!(at(0, 31_000_000_000, &tried(&[before[0]])), {
        let ring = lineup.ring().unwrap();
        ring.walk(key(0)).find(|index| *index != before[0]).unwrap()
    });
}

#[test]
fn among_thousands_that_are_out_the_one_that_is_left_is_found() {
    let endpoints = endpoints(3000);
    let outlier = Outlier::default();
    let out: Vec<usize> = (0..3000).filter(|index| *index != 1234).collect();
    eject(&outlier, &endpoints, &out);
    let lineup = Lineup::new(&endpoints, Some(ring(&names(3000, 5))), &[]);
    for number in 0..50 {
        let choice = Choice::ConsistentHash { key: Some(key(number)), under_way: 1 };
        assert_eq!(
            pick(&endpoints, &plain(choice, 0, (&TriedSet::default(), &outlier, &lineup))),
            Some(1234)
        );
    }
}

#[test]
fn capacity_is_a_quarter_over_the_mean_and_never_less_than_eight() {
    for (under_way, members, want) in
        [(0, 1, 8), (1, 0, 8), (10, 10, 8), (100, 10, 13), (80, 10, 10), (u32::MAX, 1, u32::MAX), (32, 5, 8)]
    {
        assert_eq!(capacity(under_way, members), want, "{under_way} on {members}");
    }
}
