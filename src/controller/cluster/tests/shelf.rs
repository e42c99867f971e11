//! Tests of what is named and when it is fetched.

use std::collections::HashMap;
use std::time::Duration;

use ir::Kind;
use tokio::time::Instant;

use super::super::resource::Target;
use super::super::shelf::{Answer, Shelf};
use super::secret;

fn looked(version: &str) -> Answer {
    Answer::Looked(Some(version.to_owned()))
}

/// Fetches what is next and answers with this version.
fn fetch(shelf: &mut Shelf, now: Instant, name: &str, version: &str) {
    let (number, object) = shelf.next_fetch(now).unwrap();
    assert_eq!(object, secret(name));
    shelf.fetched(&object, number, looked(version));
}

#[test]
fn what_two_objects_name_is_fetched_once_and_goes_with_the_second() {
    let (mut shelf, now) = (Shelf::default(), Instant::now());
    shelf.take(vec![secret("a"), secret("a")], &[], 1);
    assert_eq!(shelf.called(), [0; 0]);
    fetch(&mut shelf, now, "a", "5");
    assert_eq!(shelf.called(), [1]);
    assert_eq!(shelf.next_fetch(now), None);
    shelf.take(vec![secret("a")], &[], 2);
    assert_eq!(shelf.called(), [2], "who names what is there does not wait");
    assert_eq!(shelf.release(vec![secret("a"), secret("a")]), []);
    assert_eq!(shelf.release(vec![secret("a")]), [secret("a")]);
    assert_eq!(shelf.release(vec![secret("a")]), []);
}

#[test]
fn who_takes_what_another_waits_for_waits_too() {
    let (mut shelf, now) = (Shelf::default(), Instant::now());
    shelf.take(vec![secret("a")], &[], 1);
    shelf.take(Vec::new(), &[secret("a"), secret("nobody's")], 2);
    assert_eq!(shelf.called(), [0; 0]);
    fetch(&mut shelf, now, "a", "5");
    assert_eq!(shelf.called(), [1, 2]);
    shelf.take(Vec::new(), &[secret("a")], 3);
    assert_eq!(shelf.called(), [3], "it is there");
    assert_eq!(shelf.release(vec![secret("a")]), [secret("a")], "waiting names nothing");
}

#[test]
fn who_names_something_waits_until_all_of_it_was_looked_for() {
    let (mut shelf, now) = (Shelf::default(), Instant::now());
    shelf.take(vec![secret("a"), secret("b")], &[], 1);
    shelf.take(vec![secret("b")], &[], 2);
    fetch(&mut shelf, now, "a", "5");
    assert_eq!(shelf.called(), [0; 0]);
    let (number, object) = shelf.next_fetch(now).unwrap();
    shelf.fetched(&object, number, Answer::Looked(None));
    assert_eq!(shelf.called(), [1, 2], "that there is none is an answer too");
}

#[test]
fn another_version_is_fetched_and_the_same_one_is_not() {
    let (mut shelf, now) = (Shelf::default(), Instant::now());
    shelf.take(vec![secret("a")], &[], 1);
    fetch(&mut shelf, now, "a", "5");
    shelf.changed(&secret("a"), Some("5"));
    shelf.changed(&secret("other"), Some("5"));
    assert_eq!(shelf.next_fetch(now), None);
    shelf.changed(&secret("a"), Some("6"));
    shelf.changed(&secret("a"), Some("7"));
    fetch(&mut shelf, now, "a", "7");
    assert_eq!(shelf.next_fetch(now), None);
    shelf.changed(&secret("a"), None);
    assert!(shelf.next_fetch(now).is_some(), "whether it is gone is looked up");
}

#[test]
fn what_changes_while_it_is_fetched_is_fetched_again() {
    let (mut shelf, now) = (Shelf::default(), Instant::now());
    shelf.take(vec![secret("a")], &[], 1);
    let (number, object) = shelf.next_fetch(now).unwrap();
    shelf.changed(&object, Some("6"));
    assert_eq!(shelf.next_fetch(now), None, "not twice at once");
    shelf.fetched(&object, number, looked("5"));
    fetch(&mut shelf, now, "a", "6");
    assert_eq!(shelf.next_fetch(now), None);
}

#[test]
fn a_fetch_from_before_an_object_was_given_up_does_not_count() {
    let (mut shelf, now) = (Shelf::default(), Instant::now());
    shelf.take(vec![secret("a")], &[], 1);
    let (old, object) = shelf.next_fetch(now).unwrap();
    shelf.release(vec![secret("a")]);
    assert_eq!(shelf.called(), [1], "nobody is left waiting");
    assert!(!shelf.is_current(&object, old));
    shelf.take(vec![secret("a")], &[], 2);
    shelf.fetched(&object, old, looked("5"));
    assert_eq!(shelf.called(), [0; 0]);
    fetch(&mut shelf, now, "a", "6");
    assert_eq!(shelf.called(), [2]);
}

#[test]
fn a_failed_fetch_is_made_again_and_keeps_those_waiting_who_may_hope() {
    let (mut shelf, now) = (Shelf::default(), Instant::now());
    let later = now + Duration::from_secs(1);
    shelf.take(vec![secret("a")], &[], 1);
    let (number, object) = shelf.next_fetch(now).unwrap();
    shelf.fetched(&object, number, Answer::Failed(later));
    assert_eq!((shelf.called(), shelf.next_fetch(now), shelf.next_due()), (vec![], None, Some(later)));
    let (number, object) = shelf.next_fetch(later).unwrap();
    shelf.fetched(&object, number, Answer::Forbidden(later));
    assert_eq!(shelf.called(), [1]);
    shelf.release(vec![object]);
    assert_eq!(shelf.next_due(), None);
}

#[test]
fn a_list_brings_back_what_a_watch_missed() {
    let (mut shelf, now) = (Shelf::default(), Instant::now());
    shelf.take(vec![secret("a"), secret("b"), secret("c")], &[], 1);
    for name in ["a", "b", "c"] {
        fetch(&mut shelf, now, name, "5");
    }
    let versions = HashMap::from([(secret("a"), "5".to_owned()), (secret("b"), "6".to_owned())]);
    let elsewhere = Target { kind: Kind::Secret, namespace: Some("other".into()), name: None };
    shelf.listed(&elsewhere, &HashMap::new());
    assert_eq!(shelf.next_fetch(now), None);
    shelf.listed(&Target { kind: Kind::Secret, namespace: None, name: None }, &versions);
    let fetched: Vec<_> = std::iter::from_fn(|| shelf.next_fetch(now)).map(|(_, object)| object).collect();
    assert_eq!(fetched, [secret("b"), secret("c")]);
}
