//! What objects are told about themselves, as the things around them come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use ir::{Kind, ObjectRef};
use serde_json::json;

use super::build::{gateway_route, object, plain_route, rate_limit_policy, service, slice, snapshot};
use crate::{Object, RuleNotes, Settings, Snapshot, Standing, Translator, translate};

/// The reasons of an object's conditions, and which of them hold.
fn stands(standings: &BTreeMap<ObjectRef, Arc<Standing>>, kind: Kind, name: &str) -> String {
    let Some(standing) = standings.get(&ObjectRef::new(kind, "default", name)) else {
        return "not ours".to_owned();
    };
    let Standing { accepted, resolved_refs } = &**standing;
    format!(
        "{} {}, {} {}",
        accepted.holds,
        accepted.reason.as_str(),
        resolved_refs.holds,
        resolved_refs.reason.as_str()
    )
}

fn grant(namespace: &str, from: &str) -> Object {
    object(
        Kind::ReferenceGrant,
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant",
            "metadata": {"name": "g", "namespace": namespace},
            "spec": {
                "from": [{"group": "gateway.baribhara.io", "kind": "GatewayRoute", "namespace": from}],
                "to": [{"group": "", "kind": "Service"}],
            },
        }),
    )
}

/// The same object as the API server has it after somebody wrote its status.
fn with_status(object: Object) -> Object {
    let condition = json!({
        "type": "Programmed", "status": "True", "reason": "Programmed", "message": "live on 3/3 replicas",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let status = json!({"observedGeneration": 1, "conditions": [condition]});
    let read = |value| serde_json::from_value(value).expect("a status");
    match object {
        Object::GatewayRoute(route) => {
            let mut route = route.as_ref().clone();
            route.status = Some(read(status));
            route.metadata.resource_version = Some("7".to_owned());
            Object::GatewayRoute(Arc::new(route))
        }
        Object::RateLimitPolicy(policy) => {
            let mut policy = policy.as_ref().clone();
            policy.status = Some(read(status));
            Object::RateLimitPolicy(Arc::new(policy))
        }
        other @ (Object::Ingress(..)
        | Object::IngressClass(_)
        | Object::AuthPolicy(_)
        | Object::Service(_)
        | Object::EndpointSlice(_)
        | Object::Secret(_)
        | Object::ConfigMap(_)
        | Object::ReferenceGrant(_)) => panic!("no status for {other:?}"),
    }
}

#[test]
fn a_reference_to_another_namespace_lives_and_dies_with_its_grant() {
    let crossing = gateway_route(
        "a",
        &json!({"rules": [{"name": "all", "backendRefs": [{"name": "cart", "namespace": "shop", "port": 80}]}]}),
    );
    let shop_service = object(
        Kind::Service,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart", "namespace": "shop"},
               "spec": {"ports": [{"port": 80}]}}),
    );
    let grant_id = ObjectRef::new(Kind::ReferenceGrant, "shop", "g");
    let mut snapshot = snapshot([crossing, shop_service]);
    let mut translator = Translator::default();
    let settings = Settings::folder();
    let mut step = |snapshot: &Snapshot, want: &str| {
        let translation = translator.translate_routes(snapshot, &settings);
        assert_eq!(translation, translate(snapshot, &settings), "memory changed the result");
        assert_eq!(stands(&translation.standings, Kind::GatewayRoute, "a"), want);
        let endpoints = translator.translate_endpoints(snapshot, &settings, &translation.config);
        endpoints.backends.len()
    };
    assert_eq!(step(&snapshot, "true Accepted, false RefNotPermitted"), 0);
    snapshot.apply(grant("shop", "default"));
    assert_eq!(step(&snapshot, "true Accepted, true ResolvedRefs"), 1);
    // A grant for somebody else, and one that stands in another namespace than the Service.
    snapshot.apply(grant("shop", "other"));
    assert_eq!(step(&snapshot, "true Accepted, false RefNotPermitted"), 0);
    snapshot.apply(grant("default", "default"));
    assert_eq!(step(&snapshot, "true Accepted, false RefNotPermitted"), 0);
    snapshot.apply(grant("shop", "default"));
    assert_eq!(step(&snapshot, "true Accepted, true ResolvedRefs"), 1);
    snapshot.delete(&grant_id);
    assert_eq!(step(&snapshot, "true Accepted, false RefNotPermitted"), 0);
}

#[test]
fn a_service_that_an_annotation_names_lives_and_dies_with_its_grant() {
    let mut ingress = object(
        Kind::Ingress,
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
               "metadata": {"name": "a", "annotations": {api::FILTERS_ANNOTATION: "as it was read"}},
               "spec": {"ingressClassName": "baribhara",
                        "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}}),
    );
    let mirror = json!({"backendRef": {"name": "cart", "namespace": "shop", "port": 80}});
    let rule = json!({"name": "", "filters": [{"type": "RequestMirror", "requestMirror": mirror}]});
    let rule = serde_json::from_value(rule).expect("a rule");
    ingress.set_rule_notes(Some(RuleNotes { rule, refused: Vec::new() }));
    let shop_service = object(
        Kind::Service,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart", "namespace": "shop"},
               "spec": {"ports": [{"port": 80}]}}),
    );
    let grant = object(
        Kind::ReferenceGrant,
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant",
               "metadata": {"name": "g", "namespace": "shop"},
               "spec": {"from": [{"group": "networking.k8s.io", "kind": "Ingress", "namespace": "default"}],
                        "to": [{"group": "", "kind": "Service"}]}}),
    );
    let mut snapshot = snapshot([ingress, service("web"), shop_service.clone()]);
    let mut translator = Translator::default();
    let settings = Settings::folder();
    let mut step = |snapshot: &Snapshot, want: &str| {
        let translation = translator.translate_routes(snapshot, &settings);
        assert_eq!(translation, translate(snapshot, &settings), "memory changed the result");
        assert_eq!(stands(&translation.standings, Kind::Ingress, "a"), want);
        translator.translate_endpoints(snapshot, &settings, &translation.config).backends.len()
    };
    assert_eq!(step(&snapshot, "true Accepted, false RefNotPermitted"), 1);
    snapshot.apply(grant);
    assert_eq!(step(&snapshot, "true Accepted, true ResolvedRefs"), 2);
    snapshot.delete(&shop_service.object_ref());
    assert_eq!(step(&snapshot, "true Accepted, false BackendNotFound"), 1);
    snapshot.apply(shop_service);
    assert_eq!(step(&snapshot, "true Accepted, true ResolvedRefs"), 2);
    // Whoever deletes the Ingress deletes what it said.
    snapshot.delete(&ObjectRef::new(Kind::Ingress, "default", "a"));
    assert_eq!(snapshot.rule_notes.len(), 0);
}

#[test]
fn a_policy_stands_by_what_it_targets_now() {
    let other_class = |name: &str| {
        gateway_route(
            name,
            &json!({"ingressClassName": "other", "rules": [{"name": "all", "backendRefs": []}]}),
        )
    };
    let mut snapshot = snapshot([service("cart"), rate_limit_policy("limit", "a", 1)]);
    let mut translator = Translator::default();
    let settings = Settings::folder();
    let mut step = |snapshot: &Snapshot| {
        let translation = translator.translate_routes(snapshot, &settings);
        assert_eq!(translation, translate(snapshot, &settings), "memory changed the result");
        stands(&translation.standings, Kind::RateLimitPolicy, "limit")
    };
    assert_eq!(step(&snapshot), "false TargetNotFound, true ResolvedRefs");
    snapshot.apply(plain_route("a", "cart"));
    assert_eq!(step(&snapshot), "true Accepted, true ResolvedRefs");
    snapshot.apply(other_class("a"));
    assert_eq!(step(&snapshot), "not ours");
    snapshot.delete(&ObjectRef::new(Kind::GatewayRoute, "default", "a"));
    assert_eq!(step(&snapshot), "false TargetNotFound, true ResolvedRefs");
    snapshot.delete(&ObjectRef::new(Kind::RateLimitPolicy, "default", "limit"));
    assert_eq!(step(&snapshot), "not ours");
}

#[test]
fn only_the_standings_that_changed_are_new_and_a_status_changes_nothing() {
    let mut snapshot = snapshot([
        service("cart"),
        plain_route("a", "cart"),
        plain_route("b", "gone"),
        plain_route("c", "gone"),
        rate_limit_policy("limit", "a", 1),
        rate_limit_policy("lost", "nowhere", 1),
    ]);
    let mut translator = Translator::default();
    let settings = Settings::folder();
    let before = translator.translate_routes(&snapshot, &settings);
    let new = |after: &crate::Translation| {
        let is_new = |(id, standing): &(&ObjectRef, &Arc<Standing>)| {
            !before.standings.get(*id).is_some_and(|old| Arc::ptr_eq(old, standing))
        };
        after.standings.iter().filter(is_new).map(|(id, _)| id.to_string()).collect::<Vec<_>>()
    };
    let objects = [
        plain_route("a", "cart"),
        plain_route("b", "gone"),
        rate_limit_policy("limit", "a", 1),
        rate_limit_policy("lost", "nowhere", 1),
    ];
    for _ in 0..2 {
        for object in &objects {
            snapshot.apply(with_status(object.clone()));
        }
        let after = translator.translate_routes(&snapshot, &settings);
        assert_eq!(new(&after), [""; 0]);
        for (id, route) in &before.config.routes {
            assert!(Arc::ptr_eq(route, &after.config.routes[id]), "{id}");
        }
    }
    snapshot.apply(plain_route("b", "gone-too"));
    assert_eq!(new(&translator.translate_routes(&snapshot, &settings)), ["GatewayRoute/default/b"]);
}

#[test]
fn ten_thousand_written_statuses_cost_no_translation() {
    let count = 10_000;
    let name = |n: usize| format!("r{n:05}");
    let routes = |n: usize| plain_route(&name(n), "cart");
    let mut snapshot = snapshot((0..count).map(routes).chain([service("cart")]));
    let mut translator = Translator::default();
    let settings = Settings::folder();
    let start = std::time::Instant::now();
    let before = translator.translate_routes(&snapshot, &settings);
    let fresh = start.elapsed();
    for n in 0..count {
        snapshot.apply(with_status(routes(n)));
    }
    let start = std::time::Instant::now();
    let after = translator.translate_routes(&snapshot, &settings);
    let renewed = start.elapsed();
    println!("{count} routes: new {fresh:?}, with another status {renewed:?}");
    assert_eq!(before, after);
    let shared = before.standings.values().next().expect("a standing");
    assert!(after.standings.values().all(|standing| Arc::ptr_eq(standing, shared)), "good ones are all one");
}

#[test]
fn findings_about_endpoints_come_and_go_with_them() {
    let mut snapshot = snapshot([service("cart"), plain_route("a", "cart"), slice("s", "cart", "10.0.0.1")]);
    let class = object(
        Kind::IngressClass,
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": "mine", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
            "spec": {"controller": "gateway.baribhara.io/controller"},
        }),
    );
    snapshot.apply(class);
    let cluster = Settings::cluster("baribhara");
    let open = Settings { allow_local_endpoints: true, ..cluster.clone() };
    let own = Settings { own_addresses: vec!["10.0.0.1".parse().expect("an address")], ..cluster.clone() };
    let mut translator = Translator::default();
    let mut step = |snapshot: &Snapshot, settings: &Settings| {
        let config = translator.translate_routes(snapshot, settings).config;
        let endpoints = translator.translate_endpoints(snapshot, settings, &config);
        let lines = translator.endpoint_report().lines;
        let found = lines.iter().map(|line| format!("{} {}", line.object, line.field)).collect::<Vec<_>>();
        (endpoints.backends.values().map(|backend| backend.endpoints.len()).sum::<usize>(), found)
    };
    let refused = vec!["EndpointSlice/default/s endpoints[0].addresses[0]".to_owned()];
    assert_eq!(step(&snapshot, &cluster), (1, vec![]));
    assert_eq!(step(&snapshot, &own), (0, refused.clone()));
    snapshot.apply(slice("s", "cart", "169.254.169.254"));
    assert_eq!(step(&snapshot, &cluster), (0, refused.clone()));
    assert_eq!(step(&snapshot, &cluster), (0, refused));
    assert_eq!(step(&snapshot, &open), (1, vec![]));
    snapshot.apply(slice("s", "cart", "10.0.0.2"));
    assert_eq!(step(&snapshot, &cluster), (1, vec![]));
}
