//! Sessions: where they go while endpoints fail, come and go.

use std::sync::Arc;

use super::*;
use crate::balance::{InFlight, Lineup, Ring, TriedSet, stable_hash};
use crate::outlier::{Outcome, Outlier};

const S: u64 = 1_000_000_000;

/// A backend as its sessions see it.
struct Backend {
    endpoints: Vec<Arc<EndpointState>>,
    lineup: Lineup,
    outlier: Outlier,
    tried: TriedSet,
}

impl Backend {
    fn of(names: &[&str]) -> Self {
        let endpoints: Vec<_> = names.iter().map(|_| Arc::new(EndpointState::default())).collect();
        let ring = Ring::new(names.iter().copied());
        // The first is the only one of the zone.
        let lineup = Lineup::new(&endpoints, Some(ring), &[0]);
        Self { endpoints, lineup, outlier: Outlier::default(), tried: TriedSet::default() }
    }

    fn eject(&self, index: usize) {
        let policy = ir::PassiveHealth { consecutive_5xx: 1, max_ejected_percent: 100, ..Default::default() };
        assert!(self.outlier.on_result(&self.endpoints, index, (1, Outcome::ServerError), &policy));
    }

    fn succeed(&self, index: usize, now_ns: u64) {
        let policy = ir::PassiveHealth::default();
        self.outlier.on_result(&self.endpoints, index, (now_ns, Outcome::Success), &policy);
    }

    fn pick(&self, place: SessionPlace, is_strict: bool, now_ns: u64) -> usize {
        let ask = Pick {
            choice: Choice::RoundRobin { turn: 1 },
            random: 7,
            now_ns,
            tried: &self.tried,
            outlier: &self.outlier,
            lineup: &self.lineup,
            slow_start_ns: 0,
            prefers_local: true,
            panic_percent: 0,
        };
        pick_sticky(&self.endpoints, &ask, Session { place, is_strict }).unwrap()
    }
}

fn key(number: u64) -> SessionPlace {
    SessionPlace::Key(stable_hash(&[&number.to_be_bytes()]))
}

#[test]
fn a_session_stays_with_its_endpoint_whatever_its_load_and_zone() {
    let backend = Backend::of(&["a", "b", "c"]);
    let _held: Vec<_> = (0..50).map(|_| InFlight::start(&backend.endpoints[2])).collect();
    assert_eq!(backend.pick(SessionPlace::Endpoint(2), false, 1), 2);
    assert_eq!(backend.pick(SessionPlace::Endpoint(9), true, 1), 0, "who has none goes to the zone");
    assert_eq!(backend.pick(SessionPlace::None, true, 1), 0);
}

#[test]
fn a_session_leaves_an_endpoint_that_is_out_or_tried_unless_it_is_strict() {
    let mut backend = Backend::of(&["a", "b", "c"]);
    backend.eject(1);
    assert_ne!(backend.pick(SessionPlace::Endpoint(1), false, 2), 1);
    assert_eq!(backend.pick(SessionPlace::Endpoint(1), true, 2), 1);
    assert_eq!(backend.pick(SessionPlace::Endpoint(1), false, 31 * S), 1, "and comes back");
    backend.tried.insert(2);
    assert_ne!(backend.pick(SessionPlace::Endpoint(2), false, 31 * S), 2);
    assert_eq!(backend.pick(SessionPlace::Endpoint(2), true, 31 * S), 2);
}

#[test]
fn keys_divide_the_sessions_and_few_move_when_an_endpoint_comes() {
    let (three, four) = (Backend::of(&["a", "b", "c"]), Backend::of(&["a", "b", "c", "d"]));
    let mut moved = 0;
    let mut counts = [0; 4];
    for number in 0..4000 {
        let (before, after) = (three.pick(key(number), false, 1), four.pick(key(number), false, 1));
        assert!(before == after || after == 3, "a session moved between endpoints that stayed");
        assert_eq!(four.pick(key(number), true, 1), after, "strict or not, it is the same home");
        moved += usize::from(before != after);
        counts[after] += 1;
    }
    assert!((600..1400).contains(&moved), "{moved} of 4000");
    assert!(counts.iter().all(|n| (600..1400).contains(n)), "{counts:?}");
}

#[test]
fn a_key_goes_to_the_next_while_its_home_is_out_unless_it_is_strict() {
    let backend = Backend::of(&["a", "b", "c", "d"]);
    let homes: Vec<usize> = (0..400).map(|number| backend.pick(key(number), false, 1)).collect();
    backend.eject(2);
    for (number, home) in (0..400).zip(&homes) {
        let now = backend.pick(key(number), false, 2);
        assert!(now != 2 && (now == *home || *home == 2));
        assert_eq!(backend.pick(key(number), true, 2), *home);
    }
    backend.succeed(2, 31 * S);
    for (number, home) in (0..400).zip(&homes) {
        assert_eq!(backend.pick(key(number), false, 31 * S), *home);
    }
}

#[test]
fn without_endpoints_nothing_is_picked() {
    let (tried, outlier, lineup) = (TriedSet::default(), Outlier::default(), Lineup::default());
    let ask = Pick {
        choice: Choice::Random,
        random: 0,
        now_ns: 0,
        tried: &tried,
        outlier: &outlier,
        lineup: &lineup,
        slow_start_ns: 0,
        prefers_local: false,
        panic_percent: 0,
    };
    for place in [SessionPlace::Endpoint(0), SessionPlace::Key(3), SessionPlace::None] {
        for is_strict in [false, true] {
            let none: [Arc<EndpointState>; 0] = [];
            assert_eq!(pick_sticky(&none, &ask, Session { place, is_strict }), None);
        }
    }
}

#[test]
fn a_first_failure_moves_no_session_and_one_that_comes_back_gets_one_request_first() {
    let backend = Backend::of(&["a", "b", "c"]);
    let policy = ir::PassiveHealth { consecutive_5xx: 3, ..Default::default() };
    let fail =
        |now_ns| backend.outlier.on_result(&backend.endpoints, 2, (now_ns, Outcome::ServerError), &policy);
    assert!(!fail(1));
    assert!((0..100).all(|_| backend.pick(SessionPlace::Endpoint(2), false, 1) == 2));
    assert!(!fail(1) && fail(1));
    assert_ne!(backend.pick(SessionPlace::Endpoint(2), false, 1), 2);
    let back = (0..100).filter(|_| backend.pick(SessionPlace::Endpoint(2), false, 31 * S) == 2);
    assert_eq!(back.count(), 1);
    backend.succeed(2, 31 * S);
    assert!((0..100).all(|_| backend.pick(SessionPlace::Endpoint(2), false, 31 * S) == 2));
}
