//! Tests of marks and of what is remembered about generations.

use std::sync::Arc;

use ir::{Kind, ObjectRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use translate::Snapshot;

use super::{MarkScope, Marks, Outlook, PUBLISHED_MAX};

fn object(kind: Kind, namespace: &str) -> ObjectRef {
    ObjectRef::new(kind, namespace, "r")
}

fn metadata(version: &str) -> ObjectMeta {
    ObjectMeta { resource_version: Some(version.to_owned()), ..ObjectMeta::default() }
}

fn marks(version: &str) -> Marks {
    let mut marks = Marks::default();
    marks.take(MarkScope::Kind, &object(Kind::GatewayRoute, "a"), &metadata(version));
    marks
}

#[test]
fn the_highest_version_of_a_kind_covers_all_its_objects() {
    let mut marks = marks("9");
    marks.take(MarkScope::Kind, &object(Kind::GatewayRoute, "b"), &metadata("10"));
    marks.take(MarkScope::Kind, &object(Kind::GatewayRoute, "c"), &metadata("8"));
    assert!(marks.reach(MarkScope::Kind, &object(Kind::GatewayRoute, "a"), 10));
    assert!(!marks.reach(MarkScope::Kind, &object(Kind::GatewayRoute, "a"), 11));
    assert!(!marks.reach(MarkScope::Kind, &object(Kind::AuthPolicy, "a"), 1));
}

#[test]
fn with_several_watches_a_kind_each_namespace_counts_alone() {
    let scope = MarkScope::KindAndNamespace;
    let mut marks = Marks::default();
    marks.take(scope, &object(Kind::GatewayRoute, "a"), &metadata("10"));
    assert!(marks.reach(scope, &object(Kind::GatewayRoute, "a"), 10));
    assert!(!marks.reach(scope, &object(Kind::GatewayRoute, "b"), 1));
}

#[test]
fn kinds_without_such_a_status_and_versions_that_are_no_numbers_leave_no_mark() {
    let mut marks = Marks::default();
    marks.take(MarkScope::Kind, &object(Kind::Service, "a"), &metadata("10"));
    marks.take(MarkScope::Kind, &object(Kind::GatewayRoute, "a"), &metadata("x"));
    assert_eq!(marks, Marks::default());
}

#[test]
fn a_generation_that_is_served_reaches_as_far_as_the_last_publication_without_change() {
    let outlook = Outlook::default();
    assert_eq!(outlook.marks_of(5), None);
    let next = |outlook: &Outlook, generation, version| {
        outlook.next(generation, &marks(version), &Snapshot::default(), Arc::default())
    };
    let outlook = next(&outlook, 1, "3");
    let outlook = next(&outlook, 1, "4");
    let outlook = next(&outlook, 2, "7");
    assert_eq!(outlook.marks_of(0), None);
    assert_eq!(outlook.marks_of(1), Some(&marks("4")));
    assert_eq!(outlook.marks_of(2), Some(&marks("7")));
    let mut last = outlook;
    for generation in 3..30 {
        last = next(&last, generation, "8");
    }
    assert_eq!(last.published.len(), PUBLISHED_MAX);
    assert_eq!(last.marks_of(2), None);
}
