//! Ejection: thresholds, its end, the bound on who is out, and a seeded simulation.

use std::sync::Arc;

use std::time::Duration;

use proptest::prelude::*;

use super::*;

mod load;

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
fn an_endpoint_that_is_slow_to_connect_to_gets_the_tries_that_would_eject_it_and_no_more() {
    let (outlier, endpoints) = (Outlier::default(), endpoints(2));
    let policy = policy(50);
    let health = endpoints[0].health();
    let tries = |now_ns| (0..9).filter(|_| health.take_trial(now_ns)).count();
    let off = ir::PassiveHealth { consecutive_connect_failures: 0, ..policy };
    outlier.on_slow_connect(&endpoints[0], SECOND, &off);
    assert!(health.is_trusted() && outlier.is_calm());
    // Many wait at once: one is as good as ten.
    for _ in 0..10 {
        outlier.on_slow_connect(&endpoints[0], SECOND, &policy);
    }
    assert!(!outlier.is_calm());
    assert_eq!(tries(SECOND), 2);
    // All of them come to nothing: with the first it has had its three.
    for failure in 1..=3 {
        let ejected = outlier.on_result(&endpoints, 0, (4 * SECOND, Outcome::ConnectFailure), &policy);
        assert_eq!(ejected, failure == 3);
    }
    // The other one only took its time.
    outlier.on_slow_connect(&endpoints[1], SECOND, &policy);
    assert!(!outlier.on_result(&endpoints, 1, (SECOND, Outcome::Success), &policy));
    assert!(endpoints[1].health().is_trusted());
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
fn an_ejection_ends_by_itself_and_one_try_says_what_follows() {
    let (outlier, endpoints, policy) = (Outlier::default(), endpoints(2), policy(50));
    let report = |now, outcome| outlier.on_result(&endpoints, 0, (now, outcome), &policy);
    let fail = |now| report(now, Outcome::ConnectFailure);
    assert!(!fail(SECOND) && !fail(SECOND) && fail(SECOND));
    let health = endpoints[0].health();
    assert!(health.is_ejected(SECOND) && !outlier.is_calm());
    assert!(health.is_ejected(31 * SECOND - 1));
    // What comes in while it is out neither counts nor prolongs.
    for _ in 0..10 {
        assert!(!fail(20 * SECOND));
    }
    assert!(!health.is_ejected(31 * SECOND));
    assert!(health.take_trial(31 * SECOND) && !health.take_trial(31 * SECOND), "one try");
    assert!(fail(31 * SECOND), "which fails");
    assert!(health.is_ejected(91 * SECOND - 1) && !health.is_ejected(91 * SECOND), "twice as long");
    assert!(!report(91 * SECOND, Outcome::Success));
    assert!(health.take_trial(91 * SECOND) && health.take_trial(91 * SECOND), "trusted again");
    assert!(!fail(91 * SECOND) && !fail(91 * SECOND), "one failure is not enough again");
    assert!(fail(91 * SECOND));
}

#[test]
fn the_time_of_an_ejection_grows_to_its_bound_and_starts_anew_after_a_quiet_time() {
    let (outlier, endpoints) = (Outlier::default(), endpoints(2));
    let policy = ir::PassiveHealth {
        eject_for: Duration::from_secs(10),
        eject_for_max: Duration::from_secs(25),
        consecutive_connect_failures: 1,
        ..policy(50)
    };
    let mut now = SECOND;
    let mut eject_after = |pause: u64, proven: bool| {
        now += pause * SECOND;
        if proven {
            outlier.on_result(&endpoints, 0, (now, Outcome::Success), &policy);
        }
        assert!(outlier.on_result(&endpoints, 0, (now, Outcome::ConnectFailure), &policy));
        let health = endpoints[0].health();
        now = health.ejection_end_ns();
        health.ejected_for().as_secs()
    };
    assert_eq!(
        [(0, false), (0, false), (0, false), (0, false)].map(|(p, w)| eject_after(p, w)),
        [10, 20, 25, 25]
    );
    assert_eq!(eject_after(24, true), 25, "it was well, but for a shorter time than it was out");
    assert_eq!(eject_after(25, true), 10);
    assert_eq!(eject_after(100, false), 20, "nothing was heard of it since");
}

#[test]
fn two_dead_of_three_are_out_and_two_that_answer_badly_are_not() {
    for (outcome, want) in [
        (Outcome::ConnectFailure, [true, true, false]),
        (Outcome::ServerError, [true, false, false]),
        (Outcome::NoAnswer, [true, false, false]),
    ] {
        let (outlier, endpoints, policy) = (Outlier::default(), endpoints(3), policy(50));
        for index in [0, 1, 2].repeat(20) {
            outlier.on_result(&endpoints, index, (1, outcome), &policy);
        }
        let out: Vec<bool> = endpoints.iter().map(|endpoint| endpoint.health().is_ejected(1)).collect();
        assert_eq!(out, want, "{outcome:?}");
    }
    let (outlier, endpoints) = (Outlier::default(), endpoints(3));
    assert!(!(0..20).any(|_| outlier.on_result(&endpoints, 0, (1, Outcome::ConnectFailure), &policy(0))));
}

#[test]
fn a_success_rate_ejects_only_with_enough_requests_of_one_interval() {
    let rate =
        ir::SuccessRate { minimum_percent: 80, minimum_requests: 10, interval: Duration::from_secs(10) };
    let policy =
        ir::PassiveHealth { consecutive_5xx: 0, success_rate: Some(rate), ..ir::PassiveHealth::default() };
    let ejected = |outcomes: &[(u64, bool)]| {
        let (outlier, endpoints) = (Outlier::default(), endpoints(2));
        outcomes.iter().position(|(second, well)| {
            let outcome = if *well { Outcome::Success } else { Outcome::ServerError };
            outlier.on_result(&endpoints, 0, (second * SECOND, outcome), &policy)
        })
    };
    let well = |count| vec![(1, true); count];
    let failing = |second, count| vec![(second, false); count];
    assert_eq!(ejected(&[well(8), failing(1, 3)].concat()), Some(10), "8 of 11");
    assert_eq!(ejected(&[well(8), failing(1, 2)].concat()), None, "8 of 10 is enough");
    assert_eq!(ejected(&failing(1, 9)), None, "too few to tell");
    assert_eq!(ejected(&failing(1, 10)), Some(9));
    assert_eq!(ejected(&[failing(9, 9), failing(10, 9)].concat()), None, "two intervals");
}

#[test]
fn a_result_that_comes_late_takes_nothing_away_and_one_of_long_after_begins_anew() {
    let policy =
        ir::SuccessRate { minimum_percent: 80, minimum_requests: 10, interval: Duration::from_secs(10) };
    let after = |numbers: &[u64]| {
        let window = RateWindow::default();
        let count = |number: u64, failed| window.count(number * 10 * SECOND, failed, &policy);
        assert!(!(0..9).any(|_| count(numbers[0], true)));
        assert!(!numbers[1..].iter().any(|number| count(*number, false)));
        // How many failures it takes now.
        1 + (0..10).position(|_| count(numbers[0], true)).unwrap()
    };
    // The intervals of nine failures, and of successes that come in then.
    assert_eq!(after(&[20]), 1);
    assert_eq!(after(&[20, 19, 18, 12]), 1, "their requests were slow");
    assert_eq!(after(&[1 << 16, (1 << 16) - 1]), 1, "only the low bits of a number are kept");
    // After so long they look as if they were of a time before.
    for later in [1, 9, 30_000, 40_000, (1 << 16) - 9] {
        let window = RateWindow::default();
        let count = |number: u64| window.count(number * 10 * SECOND, true, &policy);
        assert!(!(0..9).any(|_| count(20)) && !(0..9).any(|_| count(20 + later)), "{later}");
        assert!(count(20 + later), "{later}");
    }
}

#[test]
fn the_time_of_a_result_matters_but_for_a_success_while_all_is_well() {
    let (outlier, endpoints, plain) = (Outlier::default(), endpoints(2), policy(50));
    let rate =
        ir::SuccessRate { minimum_percent: 80, minimum_requests: 10, interval: Duration::from_secs(10) };
    let rate = ir::PassiveHealth { success_rate: Some(rate), ..plain };
    let timely = |policy| OUTCOMES.map(|outcome| outlier.is_timely(outcome, policy));
    assert_eq!(timely(&plain), [false, true, true, true]);
    assert_eq!(timely(&rate), [true; 4]);
    while !outlier.on_result(&endpoints, 0, (SECOND, Outcome::NoAnswer), &plain) {}
    assert_eq!(timely(&plain), [true; 4], "an endpoint may have come back since the request began");
    // Its trial counts by when it ends; by when the request began, it would be lost.
    let health = endpoints[0].health();
    assert!(health.take_trial(31 * SECOND));
    assert!(!outlier.on_result(&endpoints, 0, (30 * SECOND, Outcome::Success), &plain));
    assert!(!health.is_trusted());
    assert!(!outlier.on_result(&endpoints, 0, (31 * SECOND, Outcome::Success), &plain));
    assert!(health.is_trusted());
}

#[test]
fn failures_of_one_that_is_out_end_the_calm() {
    let (outlier, endpoints, policy) = (Outlier::default(), endpoints(2), policy(50));
    let fail = |now_ns| outlier.on_result(&endpoints, 0, (now_ns, Outcome::NoAnswer), &policy);
    while !fail(SECOND) {}
    // As if nobody had seen that it is out.
    outlier.settle(outlier.alerts(), 0);
    assert!(!(0..5).any(|_| fail(2 * SECOND)));
    assert!(!outlier.is_calm());
    let health = endpoints[0].health();
    assert!(!health.is_trusted() && health.take_trial(31 * SECOND) && !health.take_trial(31 * SECOND));
}

#[test]
fn a_first_failure_leaves_as_many_tries_as_it_takes_to_be_sure() {
    let (outlier, endpoints, policy) = (Outlier::default(), endpoints(2), policy(50));
    let health = endpoints[0].health();
    let tries = |now| (0..100).filter(|_| health.take_trial(now)).count();
    assert_eq!(tries(SECOND), 100);
    outlier.on_result(&endpoints, 0, (SECOND, Outcome::ServerError), &policy);
    assert!(!outlier.is_calm());
    assert_eq!(tries(SECOND), 4, "five in a row eject");
    assert_eq!(tries(10 * SECOND), 0);
    assert_eq!(tries(11 * SECOND), 1, "their outcome may never be told");
    outlier.on_result(&endpoints, 0, (11 * SECOND, Outcome::Success), &policy);
    assert_eq!(tries(11 * SECOND), 100);
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
    let fail = |index, now| outlier.on_result(&endpoints, index, (now, Outcome::ServerError), &policy);
    assert!((0..5).any(|_| fail(0, 0)));
    assert!(!(0..20).any(|_| fail(1, 10 * SECOND)));
    assert!(!endpoints[1].health().is_ejected(10 * SECOND));
    assert!(endpoints[1].health().is_trusted(), "who can't go out is asked as before");
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
    assert!(outlier.is_calm());
}

#[test]
fn threads_that_eject_at_the_same_moment_never_eject_more_than_may_be_out() {
    // Many, so that counting them takes long enough for the other thread to come in between.
    const ENDPOINTS: usize = 100;
    const ROUNDS: u64 = 20_000;
    let (outlier, endpoints) = (Outlier::default(), endpoints(ENDPOINTS));
    let eject_for = Duration::from_nanos(1);
    let policy = ir::PassiveHealth { consecutive_5xx: 1, eject_for, eject_for_max: eject_for, ..policy(1) };
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
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Against a model that keeps plain lists.
    #[test]
    fn ejections_equal_those_of_a_plain_model(
        count in 1usize..6,
        percent in 0u8..=100,
        steps in proptest::collection::vec((0usize..6, 0u8..4, 0u64..30_000_000_000), 1..100),
    ) {
        let (outlier, endpoints, policy) = (Outlier::default(), endpoints(count), policy(percent));
        let mut model = vec![Model::default(); count];
        let mut now = 1;
        for (index, outcome, pause) in steps {
            let index = index % count;
            now += pause;
            let outcome = OUTCOMES[usize::from(outcome)];
            let out = model.iter().filter(|endpoint| endpoint.until > now).count();
            let has_room = if outcome == Outcome::ConnectFailure && percent > 0 {
                out + 1 < count
            } else {
                out < ejected_max(count, percent)
            };
            let want = model[index].on_result(now, outcome, has_room);
            let ejected = outlier.on_result(&endpoints, index, (now, outcome), &policy);
            prop_assert_eq!(ejected, want);
            for (endpoint, model) in endpoints.iter().zip(&model) {
                prop_assert_eq!(endpoint.health().is_ejected(now), model.until > now);
            }
            // Somebody is always left.
            prop_assert!(percent == 100 || model.iter().any(|endpoint| endpoint.until <= now));
            prop_assert!(!outlier.is_calm() || model.iter().all(|endpoint| endpoint.until <= now));
        }
    }
}

/// One endpoint as the policy of these tests says: five 5xx, three that came to nothing, 30 s.
#[derive(Clone, Copy, Debug, Default)]
struct Model {
    errors: u32,
    failures: u32,
    until: u64,
    out_for: u64,
    times: u64,
    returning: bool,
}

impl Model {
    fn on_result(&mut self, now: u64, outcome: Outcome, has_room: bool) -> bool {
        if self.until > now {
            return false;
        }
        (self.errors, self.failures) = match outcome {
            Outcome::Success => (0, 0),
            Outcome::ServerError => (self.errors + 1, 0),
            Outcome::ConnectFailure => (self.errors, self.failures + 1),
            Outcome::NoAnswer => (self.errors + 1, self.failures + 1),
        };
        let reached = match outcome {
            Outcome::Success => {
                self.returning = false;
                return false;
            }
            Outcome::ServerError => self.errors >= 5,
            Outcome::ConnectFailure => self.failures >= 3,
            Outcome::NoAnswer => self.errors >= 5 || self.failures >= 3,
        };
        if !reached && !self.returning {
            return false;
        }
        if !has_room {
            self.returning = false;
            return false;
        }
        let in_a_row = self.returning || now < self.until + self.out_for;
        self.times = if in_a_row { self.times + 1 } else { 1 };
        self.out_for = (30 * self.times).min(300) * SECOND;
        *self = Self { errors: 0, failures: 0, until: now + self.out_for, returning: true, ..*self };
        true
    }
}
