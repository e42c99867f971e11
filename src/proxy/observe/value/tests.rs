//! What is alive, and what is forgotten.

use super::*;

#[test]
fn a_label_gives_the_same_value_while_someone_holds_it_and_a_new_one_after() {
    let alive: Alive<&str, Counter> = Alive::default();
    let first = alive.get_or_make("a", |_| Counter::default());
    first.inc();
    let again = alive.get_or_make("a", |_| Counter::default());
    assert!(Arc::ptr_eq(&first, &again));
    drop(first);
    assert_eq!(alive.all().len(), 1);
    drop(again);
    assert!(alive.all().is_empty());
    assert_eq!(alive.get_or_make("a", |_| Counter::default()).get(), 0);
}

#[test]
fn all_come_in_the_order_of_their_labels() {
    let alive: Alive<u32, u32> = Alive::default();
    let held: Vec<_> = [3, 1, 2].into_iter().map(|n| alive.get_or_make(n, |n| *n)).collect();
    assert_eq!(alive.all().iter().map(|v| **v).collect::<Vec<_>>(), [1, 2, 3]);
    drop(held);
}

#[test]
fn the_dead_do_not_pile_up_when_nobody_reads() {
    let alive: Alive<u32, u32> = Alive::default();
    let kept = alive.get_or_make(0, |n| *n);
    for n in 1..10_000 {
        drop(alive.get_or_make(n, |n| *n));
    }
    assert!(alive.0.lock().unwrap().by_label.len() <= PRUNE_AT_MIN + 1);
    assert_eq!(alive.all().len(), 1);
    assert_eq!(*kept, 0);
}

#[test]
fn gauges_go_both_ways() {
    let gauge = Gauge::default();
    gauge.inc();
    gauge.inc();
    gauge.dec();
    assert_eq!(gauge.get(), 1);
    gauge.set(7);
    assert_eq!(gauge.get(), 7);
    let float = FloatGauge::default();
    assert!(float.get().abs() < f64::EPSILON);
    float.set(1.5);
    assert!((float.get() - 1.5).abs() < f64::EPSILON);
}
