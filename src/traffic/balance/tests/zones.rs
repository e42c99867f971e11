//! The endpoints of the own zone first: who is asked, and when others are.

use super::*;

/// Picks with the first `near` of `count` endpoints in this zone, and the first `region` in this region, of which these are
/// out.
fn count_in(
    policy: Policy,
    (count, near, region): (usize, usize, usize),
    out: &[usize],
    skip: &[usize],
) -> Vec<u64> {
    let (endpoints, outlier, tried) = (endpoints(count), Outlier::default(), tried(skip));
    eject(&outlier, &endpoints, out);
    let names: Vec<String> = (0..count).map(|index| format!("pod-{index}")).collect();
    let ring = Ring::new(names.iter().map(String::as_str));
    let (local, region): (Vec<usize>, Vec<usize>) = ((0..near).collect(), (0..region).collect());
    let lineup = Lineup::new(&endpoints, Some(ring), &local).with_near(&region);
    let mut chance = Chance(2);
    let mut counts = vec![0; count];
    for turn in 0..4000u64 {
        let choice = match policy {
            Policy::Hash => {
                Choice::ConsistentHash { key: Some(stable_hash(&[&turn.to_be_bytes()])), under_way: 1 }
            }
            Policy::RoundRobin | Policy::LeastRequest | Policy::Ewma | Policy::Random => policy.choice(turn),
        };
        let ask = Pick {
            prefers_local: true,
            panic_percent: 0,
            ..plain(choice, chance.next(), (&tried, &outlier, &lineup))
        };
        counts[pick(&endpoints, &ask).unwrap()] += 1;
    }
    counts
}

#[test]
fn the_region_is_asked_where_the_zone_has_nobody_and_all_where_the_region_has_nobody() {
    /// Endpoints, those of the zone, those of the region, who is out, who was tried, who is asked.
    type Case<'a> = (usize, usize, usize, &'a [usize], &'a [usize], &'a [usize]);
    let cases: &[Case<'_>] = &[
        (9, 3, 6, &[], &[], &[0, 1, 2]),
        // Nobody in the zone.
        (9, 0, 6, &[], &[], &[0, 1, 2, 3, 4, 5]),
        (14, 3, 11, &[0, 1, 2], &[], &[3, 4, 5, 6, 7, 8, 9, 10]),
        // Half of the region is too few for all of it.
        (9, 3, 6, &[0, 1, 2], &[], &[3, 4, 5, 6, 7, 8]),
        // What does not stay in the zone stays in the region.
        (12, 4, 8, &[0, 1], &[], &[2, 3, 4, 5, 6, 7]),
        // A retry leaves the zone for the region.
        (9, 1, 4, &[], &[0], &[1, 2, 3]),
        (9, 3, 6, &[0, 1, 2, 3, 4, 5], &[], &[6, 7, 8]),
        (9, 0, 0, &[0], &[], &[1, 2, 3, 4, 5, 6, 7, 8]),
    ];
    for policy in [Policy::RoundRobin, Policy::LeastRequest, Policy::Ewma, Policy::Random, Policy::Hash] {
        for (endpoints, near, region, out, skip, want) in cases {
            let counts = count_in(policy, (*endpoints, *near, *region), out, skip);
            assert_eq!(
                asked(&counts),
                *want,
                "{policy:?}: {near} of {region} of {endpoints}, {out:?} out: {counts:?}"
            );
        }
    }
}

/// The same without a region.
fn count(policy: Policy, (count, near): (usize, usize), out: &[usize], skip: &[usize]) -> Vec<u64> {
    count_in(policy, (count, near, 0), out, skip)
}

fn asked(counts: &[u64]) -> Vec<usize> {
    (0..counts.len()).filter(|index| counts[*index] > 0).collect()
}

#[test]
fn the_own_zone_is_asked_while_enough_of_it_is_well() {
    /// Endpoints, those of the zone, who is out, who was tried, who is asked.
    type Case<'a> = (usize, usize, &'a [usize], &'a [usize], &'a [usize]);
    let cases: &[Case<'_>] = &[
        (6, 3, &[], &[], &[0, 1, 2]),
        (6, 0, &[], &[], &[0, 1, 2, 3, 4, 5]),
        // A retry stays in the zone where it can.
        (6, 3, &[], &[1], &[0, 2]),
        (6, 1, &[], &[0], &[1, 2, 3, 4, 5]),
        // Five of seven are enough, and who is out elsewhere does not matter.
        (10, 7, &[0, 1], &[], &[2, 3, 4, 5, 6]),
        (10, 3, &[8, 9], &[], &[0, 1, 2]),
        // Half of the zone is too little: the rest goes to all.
        (8, 4, &[0, 1], &[], &[2, 3, 4, 5, 6, 7]),
        (6, 2, &[0, 1], &[], &[2, 3, 4, 5]),
        (4, 2, &[0, 1, 2, 3], &[], &[0, 1, 2, 3]),
    ];
    for policy in [Policy::RoundRobin, Policy::LeastRequest, Policy::Ewma, Policy::Random, Policy::Hash] {
        for (endpoints, near, out, skip, want) in cases {
            let counts = count(policy, (*endpoints, *near), out, skip);
            assert_eq!(
                asked(&counts),
                *want,
                "{policy:?}: {endpoints}, {near} near, {out:?} out: {counts:?}"
            );
        }
    }
}

#[test]
fn what_a_zone_loses_goes_elsewhere_in_proportion() {
    // Four near, of which k are well: 1.4 * k / 4 stays, and the rest is spread over all that are well.
    for (out, stays) in [(&[0usize, 1][..], 0.7), (&[0, 1, 2], 0.35)] {
        let counts = count(Policy::Random, (12, 4), out, &[]);
        let near: u64 = counts[..4].iter().sum();
        let well = 4.0 - f64::from(u32::try_from(out.len()).unwrap());
        let want = 4000.0 * (stays + (1.0 - stays) * well / (well + 8.0));
        assert!((f64::from(u32::try_from(near).unwrap()) - want).abs() < 160.0, "{counts:?}, want {want}");
    }
}

#[test]
fn round_robin_in_a_zone_is_fair_to_one() {
    let counts = count(Policy::RoundRobin, (9, 3), &[], &[]);
    assert_eq!(&counts[3..], [0; 6]);
    assert!(counts[..3].iter().all(|n| (1333..=1334).contains(n)), "{counts:?}");
}
