//! The Event that is made of a word.

use std::collections::BTreeMap;
use std::time::Instant;

use ir::ObjectRef;
use serde_json::Value;
use translate::{Judgement, Object, Snapshot, Standing};

use super::*;
use crate::outlook::Marks;

fn word(kind: Kind, name: &str, uid: &str, message: &str) -> Word {
    let value = serde_json::json!({
        "metadata": {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": "7"},
        "spec": {"rules": []},
    });
    let mut snapshot = Snapshot::default();
    snapshot.apply(Object::from_json(kind, value).unwrap());
    let accepted =
        Judgement { holds: false, reason: api::ConditionReason::Invalid, message: message.to_owned() };
    let resolved_refs =
        Judgement { holds: true, reason: api::ConditionReason::ResolvedRefs, message: String::new() };
    let standing = Arc::new(Standing { accepted, resolved_refs });
    let standings = Arc::new(BTreeMap::from([(ObjectRef::new(kind, "shop", name), standing)]));
    let mut memory = Memory::of_term(wall(0));
    let start = Instant::now();
    memory.look(start, &Outlook::default().next(1, &Marks::default(), &snapshot, standings));
    memory.next(start + Duration::from_secs(60)).unwrap()
}

fn wall(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

#[test]
fn it_names_the_object_the_reason_and_the_action() {
    let event = event(&word(Kind::Ingress, "web", "u", "wrong"), "pod-1", wall(1_700_000_000));
    let mut value = serde_json::to_value(&event).unwrap();
    let name = value["metadata"]["name"].take();
    assert!(name.as_str().unwrap().starts_with("web."), "{name}");
    assert_eq!(
        value,
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": null, "namespace": "shop"},
            "action": "Accept",
            "eventTime": "2023-11-14T22:13:20.000000Z",
            "note": "wrong",
            "reason": "Invalid",
            "regarding": {
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "web", "namespace": "shop",
                "resourceVersion": "7", "uid": "u",
            },
            "reportingController": "gateway.baribhara.io/controller",
            "reportingInstance": "pod-1",
            "type": "Warning",
        })
    );
}

#[test]
fn each_kind_has_its_version() {
    for (kind, want) in [
        (Kind::Ingress, "networking.k8s.io/v1"),
        (Kind::GatewayRoute, "gateway.baribhara.io/v1alpha1"),
        (Kind::RateLimitPolicy, "gateway.baribhara.io/v1alpha1"),
        (Kind::AuthPolicy, "gateway.baribhara.io/v1alpha1"),
    ] {
        let mut word = word(Kind::GatewayRoute, "r", "u", "x");
        word.object.kind = kind;
        assert_eq!(reference(&word).api_version.as_deref(), Some(want), "{kind}");
    }
}

#[test]
fn the_name_is_the_same_for_the_same_words_alone() {
    let name = |word: &Word, pod: &str, seconds| event(word, pod, wall(seconds)).metadata.name.unwrap();
    let one = word(Kind::GatewayRoute, "r", "u", "x");
    assert_eq!(name(&one, "pod-1", 1), name(&one, "pod-2", 2));
    assert_ne!(name(&one, "p", 1), name(&word(Kind::GatewayRoute, "r", "u", "y"), "p", 1));
    assert_ne!(name(&one, "p", 1), name(&word(Kind::GatewayRoute, "r", "v", "x"), "p", 1));
}

#[test]
fn names_that_are_too_long_are_cut() {
    let long = format!("{}.b", "a".repeat(235));
    let event = event(&word(Kind::GatewayRoute, &long, "u", "x"), &"p".repeat(200), wall(1));
    let value: Value = serde_json::to_value(&event).unwrap();
    let name = value["metadata"]["name"].as_str().unwrap();
    assert!(name.len() <= 253 && !name.contains(".."), "{name}");
    assert_eq!(value["reportingInstance"].as_str().unwrap().len(), 128);
}
