//! Ejection: thresholds, its end, the bound on who is out, and a seeded simulation.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn endpoints(count: usize) -> Vec<Arc<EndpointState>> {
    (0..count).map(|_| Arc::default()).collect()
}

fn policy(percent: u8) -> ir::PassiveHealth {
    ir::PassiveHealth { consecutive_5xx: 5, max_ejected_percent: percent, ..ir::PassiveHealth::default() }
}

/// Feeds outcomes one after the other; returns after which of them (from 1) the endpoint was ejected.
const OUTCOMES: [Outcome; 4] =
    [Outcome::Success, Outcome::ServerError, Outcome::ConnectFailure, Outcome::NoAnswer];

fn ejected_after(outcomes: &[Outcome], policy: &ir::PassiveHealth) -> Option<usize> {
    let (outlier, endpoints) = (Outlier::default(), endpoints(2));
    outcomes.iter().position(|o| outlier.on_result(&endpoints, 0, (5, *o), policy)).map(|at| at + 1)
}

#[test]
fn only_consecutive_failures_reach_a_threshold() {
    use Outcome::{ConnectFailure as C, NoAnswer as N, ServerError as E, Success as S};
    let policy = policy(50);
    let off = ir::PassiveHealth { consecutive_5xx: 0, consecutive_connect_failures: 0, ..policy };
    let once = ir::PassiveHealth { consecutive_5xx: 1, consecutive_connect_failures: 1, ..policy };
    let cases: &[(&[Outcome], ir::PassiveHealth, Option<usize>)] = &[
        (&[E, E, E, E, E], policy, Some(5)),
        (&[E, E, E, E], policy, None),
        (&[E, E, E, E, S, E, E, E, E], policy, None),
        (&[C, C, C], policy, Some(3)),
        (&[C, C, S, C, C], policy, None),
        (&[C, C, E, C, C], policy, None),
        (&[E, E, E, C, E, E], policy, Some(6)),
        (&[N, N, N], policy, Some(3)),
        (&[N, C, N], policy, Some(3)),
        (&[E, E, E, N, E], policy, Some(5)),
        (&[N, N, S, N, N], policy, None),
        (&[S, S, S], policy, None),
        (&[E, E, E, E, E, E, C, C, C, C], off, None),
        (&[E], once, Some(1)),
        (&[C], once, Some(1)),
    ];
    for (outcomes, policy, want) in cases {
        assert_eq!(ejected_after(outcomes, policy), *want, "{outcomes:?}");
    }
}

#[test]
fn an_ejection_ends_by_itself_and_the_record_is_clean() {
    let (outlier, endpoints, policy) = (Outlier::default(), endpoints(2), policy(50));
    let fail = |now| outlier.on_result(&endpoints, 0, (now, Outcome::ConnectFailure), &policy);
    assert!(!fail(SECOND) && !fail(SECOND) && fail(SECOND));
    let health = endpoints[0].health();
    assert!(health.is_ejected(SECOND) && !outlier.is_calm(SECOND));
    assert!(health.is_ejected(31 * SECOND - 1));
    // What comes in while it is out neither counts nor prolongs.
    for _ in 0..10 {
        assert!(!fail(20 * SECOND));
    }
    assert!(!health.is_ejected(31 * SECOND) && outlier.is_calm(31 * SECOND));
    assert!(!fail(31 * SECOND) && !fail(31 * SECOND), "one failure is not enough again");
    assert!(fail(31 * SECOND));
}

#[test]
fn so_many_may_be_out() {
    let cases = [
        (0, 50, 0),
        (1, 50, 0),
        (1, 100, 0),
        (2, 50, 1),
        (2, 1, 1),
        (2, 0, 0),
        (2, 100, 2),
        (3, 50, 1),
        (3, 67, 2),
        (4, 50, 2),
        (10, 10, 1),
        (10, 255, 10),
        (1000, 50, 500),
    ];
    for (count, percent, want) in cases {
        assert_eq!(ejected_max(count, percent), want, "{count} endpoints, {percent} %");
    }
}

#[test]
fn an_endpoint_over_the_bound_stays_and_goes_when_there_is_room() {
    let (outlier, endpoints) = (Outlier::default(), endpoints(3));
    let policy = policy(50);
    let fail = |index, now| outlier.on_result(&endpoints, index, (now, Outcome::ConnectFailure), &policy);
    assert!((0..3).any(|_| fail(0, 0)));
    assert!(!(0..20).any(|_| fail(1, 10 * SECOND)));
    assert!(!endpoints[1].health().is_ejected(10 * SECOND));
    // The first comes back at 30 s; the next failure of the second ejects it.
    assert!(fail(1, 30 * SECOND));
}

#[test]
fn the_only_endpoint_is_never_ejected() {
    let (outlier, endpoints) = (Outlier::default(), endpoints(1));
    assert!(!(0..100).any(|_| outlier.on_result(&endpoints, 0, (0, Outcome::ServerError), &policy(100))));
    assert!(!endpoints[0].health().is_ejected(0));
}

#[test]
fn an_index_that_does_not_exist_changes_nothing() {
    let (outlier, endpoints) = (Outlier::default(), endpoints(2));
    assert!(!(0..10).any(|_| outlier.on_result(&endpoints, 2, (0, Outcome::ServerError), &policy(50))));
    assert!(outlier.is_calm(0));
}

#[test]
fn threads_that_eject_at_the_same_moment_never_eject_more_than_may_be_out() {
    // Many, so that counting them takes long enough for the other thread to come in between.
    const ENDPOINTS: usize = 100;
    const ROUNDS: u64 = 20_000;
    let (outlier, endpoints) = (Outlier::default(), endpoints(ENDPOINTS));
    let policy = ir::PassiveHealth { consecutive_5xx: 1, eject_for: Duration::from_nanos(1), ..policy(1) };
    // Every round is a moment of its own: the ejections of the one before are over.
    let (round, arrived, ejections) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for index in 0..2 {
            let (outlier, endpoints, policy) = (&outlier, &endpoints, &policy);
            let (round, arrived, ejections) = (&round, &arrived, &ejections);
            scope.spawn(move || {
                for mine in 1..=ROUNDS {
                    if arrived.fetch_add(1, Ordering::SeqCst) + 1 == 2 * mine {
                        round.store(mine, Ordering::SeqCst);
                    }
                    while round.load(Ordering::SeqCst) < mine {
                        std::thread::yield_now();
                    }
                    for _ in 0..mine * (7 + 4 * u64::try_from(index).unwrap()) % 50 {
                        std::hint::spin_loop();
                    }
                    if outlier.on_result(endpoints, index, (mine, Outcome::ServerError), policy) {
                        ejections.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    // One of a hundred may be out, and in every round one of the two is the first.
    assert_eq!(ejections.into_inner(), ROUNDS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Against a model that keeps plain lists.
    #[test]
    fn ejections_equal_those_of_a_plain_model(
        count in 1usize..6,
        percent in 0u8..=100,
        steps in proptest::collection::vec((0usize..6, 0u8..4, 0u64..3_000_000_000), 1..300),
    ) {
        let (outlier, endpoints, policy) = (Outlier::default(), endpoints(count), policy(percent));
        let mut runs = vec![(0u32, 0u32); count];
        let mut until = vec![0u64; count];
        let mut now = 1;
        for (index, outcome, pause) in steps {
            let index = index % count;
            now += pause;
            let outcome = OUTCOMES[usize::from(outcome)];
            let ejected = outlier.on_result(&endpoints, index, (now, outcome), &policy);
            let mut want = false;
            if until[index] <= now {
                runs[index] = match (outcome, runs[index]) {
                    (Outcome::Success, _) => (0, 0),
                    (Outcome::ServerError, (errors, _)) => (errors + 1, 0),
                    (Outcome::ConnectFailure, (errors, failures)) => (errors, failures + 1),
                    (Outcome::NoAnswer, (errors, failures)) => (errors + 1, failures + 1),
                };
                let reached = match outcome {
                    Outcome::Success => false,
                    Outcome::ServerError => runs[index].0 >= 5,
                    Outcome::ConnectFailure => runs[index].1 >= 3,
                    Outcome::NoAnswer => runs[index].0 >= 5 || runs[index].1 >= 3,
                };
                let out = until.iter().filter(|u| **u > now).count();
                want = reached && out < ejected_max(count, percent);
                if want {
                    until[index] = now + 30 * SECOND;
                    runs[index] = (0, 0);
                }
            }
            prop_assert_eq!(ejected, want);
            for (endpoint, until) in endpoints.iter().zip(&until) {
                prop_assert_eq!(endpoint.health().is_ejected(now), *until > now);
            }
            prop_assert_eq!(outlier.is_calm(now), until.iter().all(|u| *u <= now));
        }
    }
}
