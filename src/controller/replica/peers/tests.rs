//! Which replicas count: by how long they were silent while they could be heard.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;

fn lease(name: &str, version: u32, ready: &str, applied: &str) -> Lease {
    let annotations = BTreeMap::from([
        (READY_ANNOTATION.to_owned(), ready.to_owned()),
        (APPLIED_ANNOTATION.to_owned(), applied.to_owned()),
        (INSTALL_ANNOTATION.to_owned(), "gw".to_owned()),
    ]);
    Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: Some(version.to_string()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec { lease_duration_seconds: Some(20), ..LeaseSpec::default() }),
    }
}

fn names(ready: &ReadyPeers) -> Vec<&str> {
    ready.keys().map(String::as_str).collect()
}

#[test]
fn those_that_say_that_they_are_ready_count_with_their_marks() {
    let mut book = Book::default();
    let leases = [lease("a", 1, "true", r#"{"GatewayRoute": 7}"#), lease("b", 2, "false", "{}")];
    let ready = book.look(Instant::now(), leases.into_iter());
    assert_eq!(names(&ready), ["a"]);
    assert_eq!(ready["a"], serde_json::from_str(r#"{"GatewayRoute": 7}"#).unwrap());
}

#[test]
fn a_replica_whose_marks_cannot_be_read_is_waited_for() {
    let mut book = Book::default();
    for applied in ["", "null", "[]", r#"{"GatewayRoute": "x"}"#, r#"{"GatewayRoute": -1}"#] {
        let ready = book.look(Instant::now(), [lease("a", 1, "true", applied)].into_iter());
        assert_eq!(ready["a"], Marks::default(), "{applied}");
    }
}

#[test]
fn a_replica_that_is_silent_for_twenty_seconds_counts_no_more_until_it_speaks() {
    let start = Instant::now();
    let mut book = Book::default();
    for second in 0..30_u64 {
        let leases = [
            lease("dead", 1, "true", "{}"),
            lease("alive", u32::try_from(second / 5).unwrap(), "true", "{}"),
        ];
        let ready = book.look(start + Duration::from_secs(second), leases.into_iter());
        let want: &[&str] = if second < 20 { &["alive", "dead"] } else { &["alive"] };
        assert_eq!(names(&ready), want, "second {second}");
    }
    let ready = book.look(start + Duration::from_secs(30), [lease("dead", 2, "true", "{}")].into_iter());
    assert_eq!(names(&ready), ["dead"]);
}

#[test]
fn nobody_grows_silent_while_nothing_can_be_heard() {
    let start = Instant::now();
    let mut book = Book::default();
    let leases = || [lease("a", 1, "true", "{}")].into_iter();
    book.look(start, leases());
    // The API server was away for a minute.
    let ready = book.look(start + Duration::from_secs(60), leases());
    assert_eq!(names(&ready), ["a"]);
    for second in 61..80 {
        assert_eq!(
            names(&book.look(start + Duration::from_secs(second), leases())),
            ["a"],
            "second {second}"
        );
    }
    assert!(book.look(start + Duration::from_secs(80), leases()).is_empty());
}

#[test]
fn leases_that_are_gone_are_forgotten() {
    let mut book = Book::default();
    book.look(Instant::now(), [lease("a", 1, "true", "{}")].into_iter());
    assert!(book.look(Instant::now(), std::iter::empty()).is_empty());
    assert!(book.peers.is_empty());
}

#[test]
fn replicas_of_another_install_are_not_ours() {
    assert!(is_of(&lease("a", 1, "true", "{}"), "gw"));
    assert!(!is_of(&lease("a", 1, "true", "{}"), "gw-2"));
    assert!(!is_of(&Lease::default(), "gw"));
}
