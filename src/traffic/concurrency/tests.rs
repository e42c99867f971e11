//! Places by example, by threads, and ten thousand seeds against a plain model.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;

fn store<W>(max: u32, queue: u32) -> ConcurrencyStore<W> {
    ConcurrencyStore::new(&ir::Concurrency { max, queue, queue_timeout: Duration::from_secs(1) })
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

#[test]
fn who_waits_gets_places_in_order_and_who_left_gets_none() {
    let store = store(2, 3);
    let take = |name: &'static str| store.take(7, move || name);
    assert_eq!([take("a"), take("b")], [Place::Taken, Place::Taken]);
    let [Place::Queued(_), Place::Queued(second), Place::Queued(_)] = [take("c"), take("d"), take("e")]
    else {
        panic!("three may wait");
    };
    assert_eq!(take("f"), Place::Full);
    assert_eq!(store.take(8, || "other"), Place::Taken, "another key has places of its own");
    assert!(store.leave(7, second) && !store.leave(7, second));
    assert_eq!([store.give_back(7), store.give_back(7)], [Some("c"), Some("e")]);
    assert_eq!([store.give_back(7), store.give_back(7)], [None, None]);
    assert_eq!(store.keys(), 1, "only the other key is kept");
}

#[test]
fn places_beyond_the_bound_go_to_nobody_who_waits() {
    let store = store(1, 5);
    assert!(store.take_any(7));
    assert!(!store.take_any(7) && !store.take_any(7));
    let Place::Queued(_) = store.take(7, || "a") else { panic!("it waits") };
    assert_eq!([store.give_back(7), store.give_back(7), store.give_back(7)], [None, None, Some("a")]);
    assert_eq!(store.give_back(7), None);
    assert_eq!(store.keys(), 0);
}

#[test]
fn threads_never_hold_more_places_than_there_are() {
    let store = store::<std::sync::mpsc::SyncSender<()>>(3, 100);
    let (held, served) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
                    match store.take(1, || sender) {
                        Place::Taken => {}
                        Place::Queued(_) => receiver.recv().unwrap(),
                        Place::Full => panic!("fewer threads than may wait"),
                    }
                    assert!(held.fetch_add(1, Ordering::SeqCst) < 3);
                    served.fetch_add(1, Ordering::Relaxed);
                    held.fetch_sub(1, Ordering::SeqCst);
                    if let Some(next) = store.give_back(1) {
                        next.send(()).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!((served.into_inner(), store.keys()), (16_000, 0));
}

/// One key as a list of who holds a place and one of who waits.
#[derive(Default)]
struct Model {
    held: Vec<u64>,
    waiting: Vec<(u64, u64)>,
}

#[test]
fn ten_thousand_seeds_hold_no_more_than_they_may_in_order_and_lose_none() {
    for seed in 0..10_000 {
        let chance = &mut Chance(seed);
        let (max, queue) = (1 + chance.below(4), chance.below(5));
        let store = store::<u64>(u32::try_from(max).unwrap(), u32::try_from(queue).unwrap());
        let mut models: HashMap<u64, Model> = HashMap::new();
        for who in 0..80 {
            // Shards are named by the upper bits.
            let key = chance.below(3) << 61;
            let model = models.entry(key).or_default();
            match chance.below(5) {
                0..=2 => {
                    let place = store.take(key, || who);
                    if model.held.len() < usize::try_from(max).unwrap() {
                        assert_eq!(place, Place::Taken, "seed {seed}");
                        model.held.push(who);
                    } else if let Place::Queued(ticket) = place {
                        model.waiting.push((ticket, who));
                        assert!(model.waiting.len() <= usize::try_from(queue).unwrap(), "seed {seed}");
                    } else {
                        assert_eq!(place, Place::Full, "seed {seed}");
                        assert_eq!(model.waiting.len(), usize::try_from(queue).unwrap(), "seed {seed}");
                    }
                }
                3 if !model.waiting.is_empty() => {
                    let index = usize::try_from(chance.below(4)).unwrap() % model.waiting.len();
                    let (ticket, _) = model.waiting.remove(index);
                    assert!(store.leave(key, ticket), "seed {seed}");
                }
                _ => give_one_back(&store, key, model, seed),
            }
        }
        for (key, model) in &mut models {
            while !model.held.is_empty() {
                give_one_back(&store, *key, model, seed);
            }
            assert!(model.waiting.is_empty(), "seed {seed}: somebody waits for ever");
        }
        assert_eq!(store.keys(), 0, "seed {seed}");
    }
}

fn give_one_back(store: &ConcurrencyStore<u64>, key: u64, model: &mut Model, seed: u64) {
    if model.held.pop().is_none() {
        return;
    }
    let next = (!model.waiting.is_empty()).then(|| model.waiting.remove(0).1);
    assert_eq!(store.give_back(key), next, "seed {seed}");
    model.held.extend(next);
}
