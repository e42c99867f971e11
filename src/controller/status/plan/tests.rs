//! What is written and when, on objects that change as a real API server would change them.

use std::sync::Arc;

use api::GatewayRoute;
use ir::{KeySetPhase, KeySetState};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use translate::{Judgement, Snapshot};

use super::*;

/// An API server, two replicas that see it, and the plan of the leader.
struct World {
    now: Instant,
    start: Instant,
    version: u64,
    snapshot: Snapshot,
    standings: BTreeMap<ObjectRef, Arc<Standing>>,
    /// What each ready replica has taken in.
    replicas: Vec<Marks>,
    publication: Publication,
    key_sets: KeySetStates,
    plan: Plan,
    writes: Vec<(u64, ObjectRef, String)>,
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

fn bad() -> Standing {
    Standing { accepted: judgement(false, ConditionReason::Invalid, "rules[0]: write it well"), ..good() }
}

fn id(name: &str) -> ObjectRef {
    ObjectRef::new(Kind::GatewayRoute, "shop", name)
}

impl World {
    fn new() -> Self {
        let start = Instant::now();
        Self {
            now: start,
            start,
            version: 100,
            snapshot: Snapshot::default(),
            standings: BTreeMap::new(),
            replicas: vec![Marks::default(), Marks::default()],
            publication: Publication::Nothing,
            key_sets: KeySetStates::new(),
            plan: Plan::default(),
            writes: Vec::new(),
        }
    }

    /// The user writes the route, which makes a new generation of it.
    fn apply(&mut self, name: &str, generation: i64, standing: Standing) {
        self.version += 1;
        let status = self.route(name).and_then(|route| route.status.clone());
        let value = json!({
            "apiVersion": "gateway.baribhara.io/v1alpha1",
            "kind": "GatewayRoute",
            "metadata": {
                "name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": generation,
                "resourceVersion": self.version.to_string(),
            },
            "spec": {"rules": [{"name": "main", "backendRefs": [{"name": "x", "port": 80}]}]},
            "status": status,
        });
        self.put(&value);
        self.standings.insert(id(name), Arc::new(standing));
    }

    fn put(&mut self, value: &Value) {
        let kind = Kind::named(value["kind"].as_str().unwrap()).unwrap();
        self.snapshot.apply(Object::from_json(kind, value.clone()).unwrap());
    }

    fn route(&self, name: &str) -> Option<Arc<GatewayRoute>> {
        match self.snapshot.object(&id(name))? {
            Object::GatewayRoute(route) => Some(route),
            Object::Ingress(..)
            | Object::IngressClass(_)
            | Object::RateLimitPolicy(_)
            | Object::AuthPolicy(_)
            | Object::Service(_)
            | Object::EndpointSlice(_)
            | Object::Secret(_)
            | Object::ConfigMap(_)
            | Object::ReferenceGrant(_) => panic!("{name} is no route"),
        }
    }

    /// Replica `n` has taken in all that there is.
    fn catch_up(&mut self, n: usize) {
        for id in self.standings.keys() {
            if let Some(object) = self.snapshot.object(id) {
                self.replicas[n].take(MarkScope::Kind, id, object.metadata());
            }
        }
    }

    fn catch_up_all(&mut self) {
        for n in 0..self.replicas.len() {
            self.catch_up(n);
        }
    }

    fn look(&mut self) {
        let key_sets = &self.key_sets;
        let outlook =
            Outlook::default().next(1, &Marks::default(), &self.snapshot, self.standings.clone().into());
        let replicas: Vec<&Marks> = self.replicas.iter().collect();
        let (outlook, replicas, scope) = (&outlook, replicas.as_slice(), MarkScope::Kind);
        let publication = &self.publication;
        self.plan.look(self.now, &View { outlook, replicas, scope, publication, key_sets });
    }

    /// A tenth of a second: a look, and the writes that are due with answers at once. `sees`: the watch brings back
    /// what was written.
    fn tick(&mut self, sees: bool) {
        self.look();
        self.send(sees);
    }

    fn send(&mut self, sees: bool) {
        for write in self.plan.take(self.now) {
            let wall = Timestamp::from_millisecond(1_700_000_000_123 + i64::try_from(self.millis()).unwrap())
                .unwrap();
            let said = write.target.over(&write.said, wall);
            self.writes.push((self.millis(), write.id.clone(), text(&said)));
            self.version += 1;
            let outcome = Outcome::Written { version: Some(self.version), said: said.clone() };
            self.plan.done(self.now, &write.id, outcome);
            if sees {
                self.see(&write.id, &said);
            }
        }
        self.now += Duration::from_millis(100);
    }

    /// The watch brings the object with this status.
    fn see(&mut self, id: &ObjectRef, said: &Said<'_>) {
        match (self.snapshot.object(id), said) {
            (Some(Object::GatewayRoute(route)), Said::Conditions(status)) => {
                let mut route = (*route).clone();
                // As it is written and read.
                route.status = serde_json::from_value(serde_json::json!(status)).unwrap();
                route.metadata.resource_version = Some(self.version.to_string());
                self.snapshot.apply(Object::GatewayRoute(Arc::new(route)));
            }
            (Some(Object::Ingress(ingress, notes)), Said::Addresses(addresses)) => {
                let mut ingress = (*ingress).clone();
                let balancer = ingress.status.get_or_insert_default().load_balancer.get_or_insert_default();
                balancer.ingress = Some(addresses.to_vec());
                ingress.metadata.resource_version = Some(self.version.to_string());
                self.snapshot.apply(Object::Ingress(Arc::new(ingress), notes));
            }
            other => panic!("{other:?}"),
        }
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis / 100 {
            self.tick(true);
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from((self.now - self.start).as_millis()).unwrap()
    }

    /// What was written since the last call.
    fn wrote(&mut self) -> Vec<String> {
        std::mem::take(&mut self.writes)
            .into_iter()
            .map(|(_, id, text)| format!("{}: {text}", id.name))
            .collect()
    }

    fn conditions(&self, name: &str) -> Vec<Condition> {
        self.route(name).unwrap().status.as_ref().unwrap().conditions.clone()
    }
}

/// `Programmed` and the addresses.
fn text(said: &Said<'_>) -> String {
    match said {
        Said::Conditions(status) => match condition(status, ConditionType::Programmed) {
            Some(programmed) => {
                let generation = status.observed_generation.unwrap_or_default();
                format!("{} {} @{generation}", programmed.status, programmed.message)
            }
            None => "nothing".to_owned(),
        },
        Said::Addresses(addresses) => {
            let all = addresses.iter().map(|entry| entry.ip.clone().or(entry.hostname.clone()).unwrap());
            format!("[{}]", all.collect::<Vec<_>>().join(" "))
        }
    }
}

#[test]
fn an_object_that_is_live_within_a_second_is_written_once() {
    let mut world = World::new();
    world.apply("r", 1, good());
    world.run(300);
    world.catch_up(0);
    world.run(300);
    world.catch_up(1);
    world.run(20_000);
    assert_eq!(world.wrote(), ["r: True live on 2/2 replicas @1"]);
    assert!(!world.plan.is_waiting() && !world.plan.is_pending());
}

#[test]
fn an_object_that_is_not_live_within_a_second_is_pending_and_the_replicas_are_counted() {
    let mut world = World::new();
    world.apply("r", 1, good());
    world.run(3000);
    assert_eq!(world.wrote(), ["r: False live on 0/2 replicas @1"]);
    assert!(world.plan.is_pending());
    world.catch_up(1);
    world.run(3000);
    assert_eq!(world.wrote(), ["r: False live on 1/2 replicas @1"]);
    world.catch_up(0);
    world.run(200);
    assert_eq!(world.wrote(), ["r: True live on 2/2 replicas @1"], "what is good is said at once");
    world.run(20_000);
    assert!(world.wrote().is_empty());
}

#[test]
fn our_own_writes_take_nothing_back() {
    let mut world = World::new();
    for n in 0..20 {
        world.apply(&format!("r{n}"), 1, good());
    }
    world.catch_up_all();
    world.run(2000);
    assert_eq!(world.wrote().len(), 20);
    // Each write made a later version, which no replica has told of, and none ever does.
    world.run(60_000);
    assert_eq!(world.wrote(), Vec::<String>::new());
}

#[test]
fn an_edit_has_to_reach_the_replicas_again() {
    let mut world = World::new();
    world.apply("r", 1, good());
    world.catch_up_all();
    world.run(2000);
    world.wrote();
    world.apply("r", 2, good());
    world.run(3000);
    assert_eq!(world.wrote(), ["r: False live on 0/2 replicas @2"]);
    world.catch_up_all();
    world.run(3000);
    assert_eq!(world.wrote(), ["r: True live on 2/2 replicas @2"]);
}

#[test]
fn a_refusal_is_written_at_once() {
    let mut world = World::new();
    world.apply("r", 1, bad());
    world.tick(true);
    let writes = world.wrote();
    assert!(writes[0].starts_with("r: False not served as it is written"), "{writes:?}");
    world.catch_up_all();
    world.run(10_000);
    assert!(world.wrote().is_empty());
}

#[test]
fn the_time_of_a_condition_changes_only_with_its_status() {
    let mut world = World::new();
    world.apply("r", 1, good());
    world.catch_up_all();
    world.run(5000);
    let first = world.conditions("r");
    world.apply("r", 2, bad());
    world.run(5000);
    let second = world.conditions("r");
    assert_ne!(first[0].last_transition_time, second[0].last_transition_time, "Accepted");
    assert_eq!(first[1].last_transition_time, second[1].last_transition_time, "ResolvedRefs");
    assert_ne!(first[2].last_transition_time, second[2].last_transition_time, "Programmed");
    assert_eq!(second[1].observed_generation, Some(2));
}

#[test]
fn a_replica_more_or_less_is_written_when_it_has_stood_for_five_seconds() {
    let mut world = World::new();
    world.apply("r", 1, good());
    world.catch_up_all();
    world.run(2000);
    world.wrote();
    let third = world.replicas[0].clone();
    for _ in 0..3 {
        world.replicas.push(third.clone());
        world.run(2000);
        world.replicas.pop();
        world.run(2000);
    }
    assert!(world.wrote().is_empty(), "what comes and goes is not news");
    world.replicas.push(third);
    world.run(4900);
    assert!(world.wrote().is_empty());
    world.run(300);
    assert_eq!(world.wrote(), ["r: True live on 3/3 replicas @1"]);
}

#[test]
fn a_count_that_never_rests_is_written_after_half_a_minute() {
    let mut world = World::new();
    world.apply("r", 1, good());
    world.catch_up_all();
    world.run(2000);
    world.wrote();
    let another = world.replicas[0].clone();
    for n in 0..24 {
        world.replicas.truncate(2);
        world.replicas.extend(std::iter::repeat_n(another.clone(), 1 + n % 2));
        world.run(2000);
    }
    assert_eq!(world.wrote().len(), 1);
}

#[test]
fn a_new_leader_rewrites_nothing_though_the_replicas_marks_lag_behind_the_last_status() {
    let mut world = World::new();
    for n in 0..10 {
        world.apply(&format!("r{n}"), 1, good());
    }
    world.catch_up_all();
    world.run(3000);
    assert_eq!(world.wrote().len(), 10);
    // It sees versions that the old leader's writes made; the replicas tell of them up to two seconds later.
    world.plan = Plan::default();
    world.run(2000);
    world.catch_up_all();
    world.run(60_000);
    assert_eq!(world.wrote(), Vec::<String>::new());
}

#[test]
fn what_was_written_is_not_written_again_before_the_watch_shows_it() {
    let mut world = World::new();
    world.apply("r", 1, good());
    world.catch_up_all();
    for _ in 0..300 {
        world.tick(false);
    }
    assert_eq!(world.wrote(), ["r: True live on 2/2 replicas @1"]);
}

#[test]
fn what_the_watch_brings_back_is_what_was_written() {
    let mut world = World::new();
    for standing in [good(), bad(), good(), bad()] {
        world.apply("r", 1, standing);
        world.catch_up_all();
        world.run(1200);
    }
    let times: Vec<_> = world.writes.iter().map(|(at, ..)| *at).collect();
    assert_eq!(times, [0, 1200, 2400, 3600], "one came late, as if somebody undid what was written");
}

#[test]
fn one_object_is_written_once_a_second_at_most() {
    let mut world = World::new();
    for n in 0..100 {
        let message = format!("attempt {n}");
        let standing = Standing { accepted: judgement(false, ConditionReason::Invalid, &message), ..good() };
        world.apply("r", n, standing);
        world.tick(true);
    }
    assert_eq!(world.writes.len(), 10);
    for pair in world.writes.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= 1000, "{pair:?}");
    }
}

#[test]
fn three_thousand_objects_take_a_minute_the_oldest_first() {
    let mut world = World::new();
    for n in 0..3000 {
        world.apply(&format!("r{n:04}"), 1, bad());
    }
    world.tick(true);
    world.apply("late", 1, bad());
    for n in 0..620 {
        // A look at this many is not taken at each tick.
        if n % 10 == 0 {
            world.look();
        }
        world.send(true);
    }
    assert_eq!(world.writes.len(), 3001);
    let (last, object, _) = world.writes.last().unwrap();
    assert_eq!(&*object.name, "late", "who came last is last");
    assert!((59_000..=61_000).contains(last), "{last} ms");
    for window in world.writes.windows(61) {
        assert!(window[60].0 - window[0].0 >= 1000, "more than 60 in one second");
    }
}

#[test]
fn no_more_than_eight_are_on_their_way() {
    let mut world = World::new();
    for n in 0..100 {
        world.apply(&format!("r{n}"), 1, bad());
    }
    world.look();
    let mut flying = Vec::new();
    for _ in 0..20 {
        flying.extend(world.plan.take(world.now));
        world.now += Duration::from_millis(100);
    }
    assert_eq!(flying.len(), 8);
    world.plan.done(world.now, &flying[0].id, Outcome::Failed);
    assert_eq!(world.plan.take(world.now).len(), 1);
}

#[test]
fn what_fails_is_tried_again_less_and_less_often() {
    let mut world = World::new();
    world.apply("r", 1, bad());
    let mut tries = Vec::new();
    for _ in 0..1200 {
        world.look();
        for write in world.plan.take(world.now) {
            tries.push(world.millis() / 1000);
            world.plan.done(world.now, &write.id, Outcome::Failed);
        }
        world.now += Duration::from_millis(100);
    }
    assert_eq!(tries, [0, 1, 3, 7, 15, 31, 63, 95]);
}

#[test]
fn a_kind_whose_status_may_not_be_written_is_left_alone_for_a_while() {
    let mut world = World::new();
    for n in 0..50 {
        world.apply(&format!("r{n}"), 1, bad());
    }
    let mut tries = 0;
    for _ in 0..600 {
        world.look();
        for write in world.plan.take(world.now) {
            tries += 1;
            world.plan.done(world.now, &write.id, Outcome::Refused);
        }
        world.now += Duration::from_millis(100);
    }
    assert!((5..=15).contains(&tries), "{tries} tries in a minute");
}

#[test]
fn a_status_that_somebody_undoes_is_no_race() {
    let mut world = World::new();
    world.apply("r", 1, bad());
    for _ in 0..600 {
        world.tick(true);
        // Another writes over it each time.
        world.version += 1;
        let other = Said::Conditions(std::borrow::Cow::Owned(Status::default()));
        world.see(&id("r"), &other);
    }
    let writes = world.wrote().len();
    assert!((5..=8).contains(&writes), "{writes} writes in a minute");
}

#[test]
fn conditions_of_others_neither_matter_nor_are_ours_to_write() {
    let mut world = World::new();
    world.apply("r", 1, bad());
    world.run(2000);
    world.wrote();
    let mut status = world.route("r").unwrap().status.clone().unwrap();
    let mut other = status.conditions[0].clone();
    other.type_ = "example.com/Seen".to_owned();
    status.conditions.insert(0, other);
    world.version += 1;
    world.see(&id("r"), &Said::Conditions(std::borrow::Cow::Owned(status)));
    world.run(60_000);
    assert!(world.wrote().is_empty());
    world.apply("r", 2, good());
    world.look();
    world.now += Duration::from_secs(2);
    let write = world.plan.take(world.now).remove(0);
    let Said::Conditions(said) = write.target.over(&write.said, Timestamp::UNIX_EPOCH) else { panic!() };
    let types: Vec<&str> = said.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(types, ["Accepted", "ResolvedRefs", "Programmed"]);
}

#[test]
fn an_object_that_is_ours_no_more_loses_our_conditions_once() {
    let mut world = World::new();
    world.apply("r", 1, good());
    world.catch_up_all();
    world.run(2000);
    world.wrote();
    world.apply("r", 2, good());
    world.standings.clear();
    world.look();
    world.now += Duration::from_secs(2);
    let write = world.plan.take(world.now).remove(0);
    assert_eq!(write.target, Target::NoConditions);
    assert_eq!(write.only_at, Some(world.version), "only if nobody wrote since");
    let said = write.target.over(&write.said, Timestamp::UNIX_EPOCH);
    world.version += 1;
    world.plan.done(
        world.now,
        &write.id,
        Outcome::Written { version: Some(world.version), said: said.clone() },
    );
    world.see(&id("r"), &said);
    world.run(60_000);
    assert!(world.wrote().is_empty());
    assert!(world.plan.entries.is_empty());
}

#[test]
fn conditions_that_another_install_wrote_since_are_its_own() {
    let mut world = World::new();
    world.apply("r", 1, good());
    world.catch_up_all();
    world.run(2000);
    world.wrote();
    world.apply("r", 2, good());
    world.standings.clear();
    world.look();
    let mut status = world.route("r").unwrap().status.clone().unwrap();
    status.observed_generation = Some(2);
    world.version += 1;
    world.see(&id("r"), &Said::Conditions(std::borrow::Cow::Owned(status)));
    world.run(60_000);
    assert!(world.wrote().is_empty());
}

#[test]
fn objects_that_never_were_ours_are_not_touched() {
    let mut world = World::new();
    world.apply("r", 1, good());
    world.catch_up_all();
    world.run(2000);
    world.wrote();
    world.plan = Plan::default();
    world.standings.clear();
    world.run(10_000);
    assert!(world.wrote().is_empty());
}

#[test]
fn an_object_that_is_gone_is_forgotten_and_one_of_the_same_name_is_new() {
    let mut world = World::new();
    world.apply("r", 1, good());
    world.catch_up_all();
    world.run(2000);
    world.wrote();
    world.version += 1;
    let mut route = (*world.route("r").unwrap()).clone();
    route.metadata.uid = Some("another".to_owned());
    route.metadata.resource_version = Some(world.version.to_string());
    route.status = None;
    world.snapshot.apply(Object::GatewayRoute(Arc::new(route)));
    world.run(3000);
    assert_eq!(world.wrote(), ["r: False live on 0/2 replicas @1"], "the replicas saw the old one");
    world.snapshot.delete(&id("r"));
    world.standings.clear();
    world.run(200);
    assert!(world.plan.entries.is_empty());
}

/// The key set of the one provider of a route is so now.
fn keys(world: &mut World, name: &str, phase: KeySetPhase, error: Option<&str>) {
    let state = KeySetState {
        uri: ir::KeysUri::parse("https://id.example.com/jwks?key=canary").unwrap(),
        phase,
        keys: 1,
        error: error.map(Arc::from),
    };
    world.key_sets.insert(id(name), BTreeMap::from([(Arc::from("corp"), state)]));
}

#[test]
fn a_route_with_fetched_keys_says_whether_they_are_there_and_no_longer_than_it_uses_them() {
    let mut world = World::new();
    world.apply("a", 1, good());
    world.catch_up_all();
    keys(&mut world, "a", KeySetPhase::Waiting, None);
    world.run(500);
    assert!(world.wrote().is_empty(), "keys that come within a second are not said to be missing before");
    keys(&mut world, "a", KeySetPhase::Ready, None);
    world.run(500);
    assert_eq!(world.wrote().len(), 1);
    let said = |world: &World| {
        let conditions = world.conditions("a");
        let last = conditions.last().unwrap();
        (conditions.len(), last.type_.clone(), last.status.clone(), last.reason.clone(), last.message.clone())
    };
    let (count, about, status, reason, _) = said(&world);
    assert_eq!((count, &*about, &*status, &*reason), (4, "JWKSReady", "True", "JWKSReady"));
    for (phase, status, reason) in [
        (KeySetPhase::Failing, "True", "JWKSStale"),
        (KeySetPhase::Unavailable, "False", "JWKSUnavailable"),
        (KeySetPhase::Waiting, "False", "JWKSPending"),
    ] {
        keys(&mut world, "a", phase, Some("no connection: refused"));
        world.run(3000);
        let (_, _, is, why, message) = said(&world);
        assert_eq!((&*is, &*why), (status, reason));
        assert!(message.contains("'corp'") && message.contains("https://id.example.com/jwks"), "{message}");
        assert!(!message.contains("canary"), "{message}");
        assert_eq!(message.contains("refused"), phase != KeySetPhase::Waiting, "{message}");
    }
    world.key_sets.clear();
    world.run(3000);
    assert_eq!(world.conditions("a").len(), 3, "without such a provider nothing is said of keys");
    world.wrote();
    world.run(10_000);
    assert!(world.wrote().is_empty(), "and it rests");
}

fn ingress(world: &mut World, name: &str) -> ObjectRef {
    world.version += 1;
    let value = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": 1,
            "resourceVersion": world.version.to_string()},
        "spec": {},
    });
    world.put(&value);
    let id = ObjectRef::new(Kind::Ingress, "shop", name);
    world.standings.insert(id.clone(), Arc::new(good()));
    id
}

#[test]
fn an_ingress_shows_the_services_address_and_follows_it() {
    let mut world = World::new();
    world.publication = Publication::Service(ObjectRef::new(Kind::Service, "gw", "gateway"));
    ingress(&mut world, "web");
    world.run(3000);
    assert!(world.wrote().is_empty(), "there is no Service");
    let mut service: Service = serde_json::from_value(json!({
        "metadata": {"name": "gateway", "namespace": "gw"},
        "spec": {"clusterIPs": ["10.0.0.1", "fd00::1"]},
    }))
    .unwrap();
    world.snapshot.apply(Object::Service(Arc::new(service.clone())));
    world.run(3000);
    assert_eq!(world.wrote(), ["web: [10.0.0.1 fd00::1]"]);
    service.status =
        serde_json::from_value(json!({"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}}))
            .unwrap();
    world.snapshot.apply(Object::Service(Arc::new(service)));
    world.run(3000);
    assert_eq!(world.wrote(), ["web: [lb.example.com]"]);
    world.snapshot.delete(&ObjectRef::new(Kind::Service, "gw", "gateway"));
    world.run(3000);
    assert!(world.wrote().is_empty(), "what is not known takes nothing away");
}

#[test]
fn an_ingress_that_is_ours_no_more_loses_our_address_but_not_anothers() {
    for (there, want) in [("10.0.0.1", vec!["web: []"]), ("10.0.0.2", vec![])] {
        let mut world = World::new();
        let address = IngressLoadBalancerIngress { ip: Some("10.0.0.1".to_owned()), ..Default::default() };
        world.publication = Publication::Addresses(vec![address.clone()]);
        let id = ingress(&mut world, "web");
        world.run(2000);
        world.wrote();
        world.version += 1;
        let there = IngressLoadBalancerIngress { ip: Some(there.to_owned()), ..address };
        world.see(&id, &Said::Addresses(std::borrow::Cow::Owned(vec![there])));
        world.standings.clear();
        world.run(20_000);
        assert_eq!(world.wrote(), want);
    }
}
