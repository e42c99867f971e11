//! Tests of what is known of the objects of one stream.

use std::sync::Arc;

use ir::Kind;
use serde_json::{Value, json};
use translate::Object;

use super::super::intake::{Ledger, Step};
use super::super::stream::Event;
use super::{guarded_route, route, with_version};
use crate::schema::Schemas;
use crate::source::Change;

fn ledger(kind: Kind) -> Ledger {
    Ledger::new(kind, Arc::new(Schemas::compile(crate::testing::check_certificate)))
}

/// The changes in words.
fn words(step: &Step) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::Apply { object, .. } => format!("apply {}", object.object_ref().name),
        Change::Delete(object) => format!("delete {}", object.name),
        Change::Refuse { object, policy, .. } => {
            format!("refuse {} of {}", object.name, policy.targets[0].name)
        }
        Change::Problems { file, problems, rejected_objects } => {
            format!("{} problems, {rejected_objects} rejected: {}", problems.len(), file.display())
        }
        Change::Move { .. }
        | Change::RefuseSecret { .. }
        | Change::LeaveUnstapled { .. }
        | Change::Synced
        | Change::Copied => panic!("{change:?}"),
    };
    step.batch.iter().map(word).collect()
}

fn list(ledger: &mut Ledger, pages: Vec<Vec<Value>>) -> Vec<String> {
    assert_eq!(words(&ledger.take(Event::ListBegins)), [""; 0]);
    for page in pages {
        assert_eq!(words(&ledger.take(Event::Page(page))), [""; 0], "a part of a list is nothing yet");
    }
    words(&ledger.take(Event::ListEnds))
}

#[test]
fn a_new_list_is_one_batch_of_what_is_new_and_what_is_gone() {
    let mut ledger = ledger(Kind::GatewayRoute);
    let first = vec![
        vec![with_version(route("a", 1), 1), with_version(route("b", 1), 2)],
        vec![with_version(route("c", 1), 3)],
    ];
    assert_eq!(list(&mut ledger, first), ["apply a", "apply b", "apply c"]);
    let second = vec![vec![with_version(route("a", 1), 1), with_version(route("b", 2), 5)]];
    assert_eq!(list(&mut ledger, second), ["apply b", "delete c"]);
}

#[test]
fn a_list_that_breaks_off_takes_nothing_away_and_loses_nothing() {
    let mut ledger = ledger(Kind::GatewayRoute);
    let both = || vec![with_version(route("a", 1), 1), with_version(route("b", 1), 2)];
    assert_eq!(list(&mut ledger, vec![both()]), ["apply a", "apply b"]);
    ledger.take(Event::ListBegins);
    ledger.take(Event::Page(vec![with_version(route("a", 9), 9)]));
    let again = vec![vec![with_version(route("a", 9), 9)], vec![with_version(route("b", 1), 2)]];
    assert_eq!(list(&mut ledger, again), ["apply a"]);
}

#[test]
fn an_object_that_cannot_be_read_keeps_its_last_good_version() {
    let mut ledger = ledger(Kind::GatewayRoute);
    ledger.take(Event::Applied(with_version(route("a", 1), 1)));
    let mut bad = with_version(route("a", 2), 2);
    bad["spec"]["rules"][0]["backendRefs"] = json!("none");
    let step = ledger.take(Event::Applied(bad));
    assert_eq!(words(&step), ["1 problems, 1 rejected: cluster/GatewayRoute/shop/a"]);
    let step = ledger.take(Event::Applied(with_version(route("a", 3), 3)));
    assert_eq!(words(&step), ["apply a", "0 problems, 0 rejected: cluster/GatewayRoute/shop/a"]);
}

#[test]
fn what_was_said_of_an_object_is_read_and_refuses_nothing() {
    let mut ledger = ledger(Kind::GatewayRoute);
    let mut said = |version: u64, status: Value| {
        let mut value = with_version(route("a", 1), version);
        value["status"] = status;
        let mut step = ledger.take(Event::Applied(value));
        let Some(Change::Apply { object: Object::GatewayRoute(route), .. }) = step.batch.pop() else {
            panic!("{step:?}")
        };
        route.status.clone()
    };
    let condition = json!({
        "type": "Accepted", "status": "True", "reason": "Accepted", "message": "fine", "observedGeneration": 3,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    });
    let status = json!({"observedGeneration": 3, "conditions": [condition]});
    assert_eq!(json!(said(1, status.clone())), status);
    assert_eq!(said(2, json!({"conditions": "garbled"})), None);
    assert_eq!(said(3, Value::Null), None);
}

#[test]
fn a_policy_without_a_good_version_fails_its_targets_closed_until_it_is_gone() {
    let mut ledger = ledger(Kind::RateLimitPolicy);
    let policy = json!({
        "metadata": {"name": "p", "namespace": "shop", "resourceVersion": "7"},
        "spec": {"targetRefs": [{"group": "gateway.baribhara.io", "kind": "GatewayRoute", "name": "a"}], "limits": []},
    });
    let problems = "cluster/RateLimitPolicy/shop/p";
    let step = ledger.take(Event::Applied(policy.clone()));
    assert_eq!(words(&step), ["refuse p of a".to_owned(), format!("1 problems, 1 rejected: {problems}")]);
    let step = ledger.take(Event::Deleted(policy));
    assert_eq!(words(&step), ["delete p".to_owned(), format!("0 problems, 0 rejected: {problems}")]);
}

#[test]
fn what_an_object_names_comes_before_it_and_goes_after_it() {
    let mut ledger = ledger(Kind::GatewayRoute);
    let names = |step: &Step| {
        let names = |list: &[ir::ObjectRef]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        (names(&step.gained), names(&step.lost))
    };
    let none = Vec::<String>::new;
    let keys = || vec!["Secret/shop/keys".to_owned()];
    let step = ledger.take(Event::Applied(with_version(guarded_route("a"), 1)));
    assert_eq!(names(&step), (keys(), none()));
    let step = ledger.take(Event::Applied(with_version(guarded_route("a"), 2)));
    assert_eq!(names(&step), (none(), none()), "it is named once, however often it is written");
    let step = ledger.take(Event::Applied(with_version(route("a", 1), 3)));
    assert_eq!(names(&step), (none(), keys()));
    let step = ledger.take(Event::Applied(with_version(guarded_route("a"), 4)));
    assert_eq!(names(&step), (keys(), none()));
    let step = ledger.take(Event::Deleted(with_version(guarded_route("a"), 5)));
    assert_eq!(names(&step), (none(), keys()));
}

#[test]
fn a_kind_of_ours_that_is_not_installed_is_said_once_and_taken_back() {
    let mut ledger = ledger(Kind::AuthPolicy);
    assert_eq!(words(&ledger.take(Event::NoKind)), ["1 problems, 0 rejected: cluster/AuthPolicy"]);
    assert_eq!(words(&ledger.take(Event::NoKind)), [""; 0]);
    assert_eq!(list(&mut ledger, vec![vec![]]), ["0 problems, 0 rejected: cluster/AuthPolicy"]);
    assert_eq!(words(&super::ledger::ledger(Kind::ReferenceGrant).take(Event::NoKind)), [""; 0]);
}

#[test]
fn the_second_copy_that_kubectl_leaves_is_not_kept() {
    let mut ledger = ledger(Kind::GatewayRoute);
    let mut value = with_version(route("a", 1), 1);
    value["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "stays"});
    let step = ledger.take(Event::Applied(value));
    let Change::Apply { object, .. } = &step.batch[0] else { panic!("{step:?}") };
    assert_eq!(object.metadata().managed_fields, None);
    let annotations = object.metadata().annotations.clone().unwrap();
    assert_eq!(annotations.into_iter().collect::<Vec<_>>(), [("mine".to_owned(), "stays".to_owned())]);
}

#[test]
fn an_ingress_comes_with_what_its_annotations_say_and_is_not_refused_for_them() {
    let mut ledger = ledger(Kind::Ingress);
    let ingress = json!({
        "metadata": {"name": "a", "namespace": "shop", "resourceVersion": "1", "annotations": {
            api::RETRY_ANNOTATION: "{attempts: 3}",
            api::FILTERS_ANNOTATION: "[{type: Fualt}]",
        }},
        "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
    });
    let mut step = ledger.take(Event::Applied(ingress));
    assert_eq!(words(&step), ["apply a"]);
    let Some(Change::Apply { object: Object::Ingress(_, Some(notes)), .. }) = step.batch.pop() else {
        panic!("{step:?}")
    };
    assert_eq!(notes.rule.retry.as_ref().map(|retry| retry.attempts), Some(3));
    let [refused] = &*notes.refused else { panic!("{:?}", notes.refused) };
    assert_eq!((refused.annotation, refused.field.as_str()), (api::FILTERS_ANNOTATION, "[0].type"));
}
