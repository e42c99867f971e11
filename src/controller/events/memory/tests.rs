//! What is told, when, and that it is told once.

use std::collections::BTreeMap;
use std::sync::Arc;

use ir::Kind;
use serde_json::{Value, json};
use translate::{Snapshot, Standing};

use super::*;
use crate::outlook::Marks;

struct World {
    now: Instant,
    snapshot: Snapshot,
    standings: BTreeMap<ObjectRef, Arc<Standing>>,
    memory: Memory,
}

fn id(name: &str) -> ObjectRef {
    ObjectRef::new(Kind::GatewayRoute, "shop", name)
}

fn judgement(holds: bool, reason: ConditionReason, message: &str) -> Judgement {
    Judgement { holds, reason, message: message.to_owned() }
}

fn good() -> Standing {
    Standing {
        accepted: judgement(true, ConditionReason::Accepted, "served"),
        resolved_refs: judgement(true, ConditionReason::ResolvedRefs, "all there"),
    }
}

fn bad(message: &str) -> Standing {
    Standing { accepted: judgement(false, ConditionReason::Invalid, message), ..good() }
}

fn unresolved(message: &str) -> Standing {
    Standing { resolved_refs: judgement(false, ConditionReason::BackendNotFound, message), ..good() }
}

impl World {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            snapshot: Snapshot::default(),
            standings: BTreeMap::new(),
            memory: Memory::of_term("2026-06-01T00:00:00.9Z".parse().unwrap()),
        }
    }

    fn put(&mut self, name: &str, uid: &str, status: &Value, standing: Standing) {
        let value = json!({
            "apiVersion": "gateway.baribhara.io/v1alpha1", "kind": "GatewayRoute",
            "metadata": {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": "7"},
            "spec": {"rules": []}, "status": status,
        });
        self.snapshot.apply(Object::from_json(Kind::GatewayRoute, value).unwrap());
        self.standings.insert(id(name), Arc::new(standing));
    }

    fn is(&mut self, standing: Standing) {
        self.put("r", "u", &Value::Null, standing);
    }

    /// All that is told in this time.
    fn run(&mut self, seconds: u64) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..seconds * 10 {
            let outlook =
                Outlook::default().next(1, &Marks::default(), &self.snapshot, self.standings.clone().into());
            self.memory.look(self.now, &outlook);
            if let Some(word) = self.memory.next(self.now) {
                told.push(format!("{} {} {}", word.tone.as_str(), word.reason, word.note));
                self.memory.told(self.now, &word);
            }
            self.now += Duration::from_millis(100);
        }
        told
    }
}

#[test]
fn what_is_well_from_the_start_is_no_news() {
    let mut world = World::new();
    world.is(good());
    assert!(world.run(60).is_empty());
    assert!(!world.memory.is_waiting());
}

#[test]
fn trouble_is_told_once_and_its_end_once() {
    let mut world = World::new();
    world.is(bad("rules[0] is wrong"));
    assert_eq!(world.run(60), ["Warning Invalid rules[0] is wrong"]);
    world.is(good());
    assert_eq!(world.run(60), ["Normal Accepted all of it is accepted now"]);
    assert!(!world.memory.is_waiting());
}

#[test]
fn another_trouble_is_told_as_well() {
    let mut world = World::new();
    world.is(bad("one"));
    world.run(60);
    world.is(bad("two"));
    assert_eq!(world.run(60), ["Warning Invalid two"]);
}

#[test]
fn both_conditions_are_told_of() {
    let mut world = World::new();
    world.is(Standing { resolved_refs: unresolved("no Service x").resolved_refs, ..bad("wrong") });
    assert_eq!(world.run(60), ["Warning Invalid wrong", "Warning BackendNotFound no Service x"]);
}

#[test]
fn a_refused_part_is_trouble_too() {
    let mut world = World::new();
    let accepted = judgement(true, ConditionReason::PartiallyInvalid, "rules[1] is wrong");
    world.is(Standing { accepted, ..good() });
    assert_eq!(world.run(60), ["Warning PartiallyInvalid rules[1] is wrong"]);
}

#[test]
fn what_is_mended_within_two_seconds_is_not_told() {
    let mut world = World::new();
    world.is(unresolved("no Service x"));
    assert!(world.run(1).is_empty());
    world.is(good());
    assert!(world.run(60).is_empty());
}

#[test]
fn what_goes_back_and_forth_is_told_every_ten_seconds_at_most() {
    let mut world = World::new();
    let mut told = 0;
    for _ in 0..12 {
        world.is(bad("x"));
        told += world.run(3).len();
        world.is(good());
        told += world.run(3).len();
    }
    assert!((4..=8).contains(&told), "{told} in 72 seconds");
}

#[test]
fn what_the_status_already_says_was_told_by_a_leader_before() {
    let said = |status: &str, reason: &str, message: &str| {
        json!({"conditions": [{"type": "Accepted", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
    };
    for (status, standing, want) in [
        (said("False", "Invalid", "wrong"), bad("wrong"), vec![]),
        (said("False", "Invalid", "wrong"), bad("otherwise"), vec!["Warning Invalid otherwise"]),
        (said("False", "Invalid", "wrong"), good(), vec!["Normal Accepted all of it is accepted now"]),
        (said("True", "Accepted", "served"), bad("wrong"), vec!["Warning Invalid wrong"]),
        (said("True", "Accepted", "served"), good(), vec![]),
        (said("True", "PartiallyInvalid", "part"), good(), vec!["Normal Accepted all of it is accepted now"]),
    ] {
        let mut world = World::new();
        world.put("r", "u", &status, standing);
        assert_eq!(world.run(60), want, "{status}");
    }
}

#[test]
fn what_this_leader_itself_wrote_into_the_status_is_not_told_yet() {
    for (time, want) in
        [("2026-05-31T23:59:59Z", 0), ("2026-06-01T00:00:00Z", 1), ("2026-06-02T00:00:00Z", 1)]
    {
        let mut world = World::new();
        let status = json!({"conditions": [{"type": "Accepted", "status": "False", "reason": "Invalid",
            "message": "wrong", "lastTransitionTime": time}]});
        world.put("r", "u", &status, bad("wrong"));
        assert_eq!(world.run(60).len(), want, "{time}");
    }
}

#[test]
fn an_object_of_the_same_name_is_another() {
    let mut world = World::new();
    world.put("r", "one", &Value::Null, bad("x"));
    assert_eq!(world.run(60).len(), 1);
    world.put("r", "two", &Value::Null, bad("x"));
    assert_eq!(world.run(60).len(), 1);
}

#[test]
fn what_is_gone_or_ours_no_more_is_forgotten() {
    let mut world = World::new();
    world.is(bad("x"));
    world.run(1);
    world.standings.clear();
    assert!(world.run(60).is_empty());
    assert!(world.memory.topics.is_empty());
}

#[test]
fn the_oldest_trouble_is_told_first_and_a_failure_is_tried_again() {
    let mut world = World::new();
    world.put("z", "z", &Value::Null, bad("first"));
    world.run(1);
    world.put("a", "a", &Value::Null, bad("second"));
    world.run(1);
    world.now += Duration::from_secs(5);
    let word = world.memory.next(world.now).unwrap();
    assert_eq!(word.note, "first");
    world.memory.failed(world.now, &word);
    assert_eq!(world.run(20), ["Warning Invalid second", "Warning Invalid first"]);
}

#[test]
fn what_is_told_again_counts() {
    let mut world = World::new();
    world.is(bad("x"));
    world.run(20);
    world.is(good());
    world.run(20);
    world.is(bad("x"));
    world.now += Duration::from_secs(5);
    world.run(0);
    let outlook =
        Outlook::default().next(1, &Marks::default(), &world.snapshot, world.standings.clone().into());
    world.memory.look(world.now, &outlook);
    let word = world.memory.next(world.now + Duration::from_secs(5)).unwrap();
    assert_eq!(word.times, 2);
}
