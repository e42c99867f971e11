//! Simulations of a backend behind an adaptive limit, replayable by seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use super::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const BOUNDS: AdaptiveLimit = AdaptiveLimit { min: 4, max: 500 };

/// A backend with so many places; what finds none free waits in a line.
struct Simulation {
    adaptive: Arc<Adaptive>,
    bounds: AdaptiveLimit,
    state: u64,
    now_ns: u64,
    places: usize,
    service_ns: u64,
    /// When each request under way ends, and when it began.
    under_way: BinaryHeap<Reverse<(u64, u64, u64)>>,
    permits: HashMap<u64, AdaptivePermit>,
    waiting: VecDeque<(u64, u64)>,
    next: u64,
    served: Vec<u64>,
    refused: u64,
}

impl Simulation {
    fn new(seed: u64, places: usize) -> Self {
        Self {
            adaptive: Arc::default(),
            bounds: BOUNDS,
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now_ns: 0,
            places,
            service_ns: 10 * MS,
            under_way: BinaryHeap::new(),
            permits: HashMap::new(),
            waiting: VecDeque::new(),
            next: 0,
            served: Vec::new(),
            refused: 0,
        }
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// From half of this to one and a half times.
    fn about(&mut self, what: u64) -> u64 {
        what / 2 + self.random() % what.max(1)
    }

    fn begin(&mut self, id: u64, arrived_ns: u64) {
        let took_ns = self.about(self.service_ns);
        self.under_way.push(Reverse((self.now_ns + took_ns, id, arrived_ns)));
    }

    fn end_until(&mut self, until_ns: u64) {
        while let Some(Reverse((ends_ns, id, arrived_ns))) = self.under_way.peek().copied() {
            if ends_ns > until_ns {
                break;
            }
            self.under_way.pop();
            self.now_ns = ends_ns;
            self.served.push(ends_ns - arrived_ns);
            self.adaptive.on_answer(ends_ns, Some(ends_ns - arrived_ns), self.bounds);
            self.permits.remove(&id);
            if let Some((id, arrived_ns)) = self.waiting.pop_front() {
                self.begin(id, arrived_ns);
            }
        }
        self.now_ns = until_ns;
    }

    /// Requests arrive at this rate for this long. The limit keeps its bounds all the time.
    fn run(&mut self, per_second: u64, duration_ns: u64) {
        let end_ns = self.now_ns + duration_ns;
        loop {
            let gap_ns = self.about(SECOND / per_second.max(1));
            let at_ns = self.now_ns + gap_ns;
            if at_ns > end_ns {
                self.end_until(end_ns);
                return;
            }
            self.end_until(at_ns);
            let limit = self.adaptive.limit(self.bounds);
            assert!((self.bounds.min..=self.bounds.max).contains(&limit), "{limit}");
            let Some(permit) = self.adaptive.try_acquire(at_ns, self.bounds) else {
                self.refused += 1;
                continue;
            };
            self.next += 1;
            let id = self.next;
            self.permits.insert(id, permit);
            assert!(self.permits.len() <= usize::try_from(self.bounds.max).unwrap());
            if self.under_way.len() < self.places {
                self.begin(id, at_ns);
            } else {
                self.waiting.push_back((id, at_ns));
            }
        }
    }

    /// The median and the worst of twenty of what was served since the last call, in ms, and how many a second.
    fn take(&mut self, duration_ns: u64) -> (u64, u64, u64) {
        let mut served = std::mem::take(&mut self.served);
        served.sort_unstable();
        let at = |share: usize| served.get(served.len() * share / 100).copied().unwrap_or(0) / MS;
        self.refused = 0;
        (at(50), at(95), u64::try_from(served.len()).unwrap() * SECOND / duration_ns)
    }
}

#[test]
fn an_overloaded_backend_is_given_what_it_can_do_and_stays_quick() {
    for seed in 1..40 {
        // Twenty places of 10 ms do 2000 a second.
        let mut simulation = Simulation::new(seed, 20);
        simulation.run(6000, 10 * SECOND);
        simulation.take(SECOND);
        simulation.run(6000, 10 * SECOND);
        let (p50, p95, rate) = simulation.take(10 * SECOND);
        assert!(p50 <= 20 && p95 <= 35, "seed {seed}: p50 {p50} ms, p95 {p95} ms");
        assert!(rate >= 1700, "seed {seed}: {rate} a second of 2000");
    }
}

#[test]
fn a_backend_with_time_to_spare_refuses_nothing() {
    for seed in 1..40 {
        let mut simulation = Simulation::new(seed, 100);
        simulation.run(500, 5 * SECOND);
        simulation.refused = 0;
        simulation.run(1000, 5 * SECOND);
        assert_eq!(simulation.refused, 0, "seed {seed}");
    }
}

#[test]
fn a_backend_that_slows_down_and_recovers_is_followed_both_ways() {
    for seed in 1..40 {
        let mut simulation = Simulation::new(seed, 20);
        simulation.run(1500, 10 * SECOND);
        // For a minute it is three times as slow, and does a third.
        simulation.service_ns = 30 * MS;
        simulation.run(1500, 50 * SECOND);
        simulation.take(SECOND);
        simulation.run(1500, 10 * SECOND);
        let (_, p95, rate) = simulation.take(10 * SECOND);
        assert!(p95 <= 150 && rate >= 400, "seed {seed}: p95 {p95} ms, {rate} a second of 666");
        simulation.service_ns = 10 * MS;
        simulation.run(1500, 10 * SECOND);
        simulation.take(SECOND);
        simulation.run(1500, 10 * SECOND);
        let (_, p95, rate) = simulation.take(10 * SECOND);
        assert!(p95 <= 35 && rate >= 1400, "seed {seed}: p95 {p95} ms, {rate} a second of 1500");
    }
}

#[test]
fn a_backend_that_answers_nothing_falls_to_the_least_and_comes_back() {
    let adaptive = Arc::new(Adaptive::default());
    let mut now_ns = 0;
    for _ in 0..2000 {
        now_ns += 10 * MS;
        adaptive.on_answer(now_ns, None, BOUNDS);
    }
    assert_eq!(adaptive.limit(BOUNDS), BOUNDS.min);
    let held: Vec<_> = (0..BOUNDS.min).map(|_| adaptive.try_acquire(now_ns, BOUNDS).unwrap()).collect();
    assert!(adaptive.try_acquire(now_ns, BOUNDS).is_none(), "the least is never more");
    drop(held);
    for _ in 0..2000 {
        now_ns += 5 * MS;
        let permits: Vec<_> = (0..BOUNDS.max).map_while(|_| adaptive.try_acquire(now_ns, BOUNDS)).collect();
        adaptive.on_answer(now_ns, Some(MS), BOUNDS);
        drop(permits);
    }
    assert_eq!(adaptive.limit(BOUNDS), BOUNDS.max);
}

#[test]
fn a_rule_with_narrower_bounds_keeps_to_them() {
    let adaptive = Arc::new(Adaptive::default());
    let narrow = AdaptiveLimit { min: 2, max: 3 };
    let permits: Vec<_> = (0..10).map_while(|_| adaptive.try_acquire(0, narrow)).collect();
    assert_eq!(permits.len(), 3);
    drop(permits);
    assert!(adaptive.try_acquire(0, narrow).is_some());
}

#[test]
fn answers_that_last_for_hours_do_not_hold_a_quick_backend_at_its_limit() {
    let adaptive = Arc::new(Adaptive::default());
    let (mut now_ns, mut held) = (0, Vec::new());
    // One new client in 50 ms: it is answered in 5 ms, and stays.
    for _ in 0..400 {
        now_ns += 50 * MS;
        if let Some(permit) = adaptive.try_acquire(now_ns, BOUNDS) {
            adaptive.on_answer(now_ns + 5 * MS, Some(5 * MS), BOUNDS);
            held.push(permit);
        }
    }
    assert!(held.len() > 200, "{} of 400", held.len());
}

#[test]
fn few_slow_answers_let_it_neither_grow_nor_fall_and_ten_let_it_fall() {
    let adaptive = Arc::new(Adaptive::default());
    let (mut now_ns, mut held) = (0, Vec::new());
    let mut refused_after = |pause_ns: u64, latency_ns: u64| {
        now_ns += pause_ns;
        adaptive.on_answer(now_ns, Some(latency_ns), BOUNDS);
        held.extend((0..BOUNDS.max).map_while(|_| adaptive.try_acquire(now_ns, BOUNDS)));
        adaptive.limit(BOUNDS)
    };
    assert_eq!(refused_after(MS, 10 * MS), START, "the first window begins");
    assert_eq!(refused_after(999 * MS, 10 * MS), START, "few answers want patience");
    assert_eq!(refused_after(MS, 10 * MS), START + 4, "what is known is that it is quick");
    for _ in 0..9 {
        assert_eq!(refused_after(SECOND, 20 * MS), START + 4);
    }
    assert!(refused_after(SECOND, 20 * MS) < START + 4);
}

#[test]
fn a_backend_of_few_requests_stays_quick_though_its_refusals_are_heard() {
    for seed in 1..40 {
        // Two places of 100 ms do 20 a second.
        let mut simulation = Simulation::new(seed, 2);
        simulation.bounds = AdaptiveLimit { min: 2, max: 500 };
        simulation.service_ns = 100 * MS;
        simulation.run(100, 60 * SECOND);
        simulation.take(SECOND);
        simulation.run(100, 60 * SECOND);
        let (p50, p95, rate) = simulation.take(60 * SECOND);
        assert!(p50 <= 330 && p95 <= 520, "seed {seed}: p50 {p50} ms, p95 {p95} ms");
        assert!(rate >= 17, "seed {seed}: {rate} a second of 20");
    }
}
