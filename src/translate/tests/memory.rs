//! The translator's memory: what did not change is the very same value, and memory never changes a result.

use std::sync::Arc;

use ir::{Action, BackendId, Kind, ObjectRef, RouteId};
use serde_json::json;

use super::build::{gateway_route, object, plain_route, rate_limit_policy, service, slice, snapshot};
use crate::{Settings, Snapshot, Translation, Translator, translate};

fn id(name: &str, rule: &str) -> RouteId {
    RouteId { object: ObjectRef::new(Kind::GatewayRoute, "default", name), rule: rule.into() }
}

fn backend(name: &str) -> BackendId {
    BackendId::Service { namespace: "default".into(), name: name.into(), port: 80 }
}

/// What happens to a snapshot.
type Change = Box<dyn Fn(&mut Snapshot)>;

/// Which of the routes are other `Arc`s than before.
fn changed(before: &Translation, after: &Translation) -> Vec<String> {
    let mut changed = Vec::new();
    for (id, route) in &after.config.routes {
        if !before.config.routes.get(id).is_some_and(|old| Arc::ptr_eq(old, route)) {
            changed.push(id.label());
        }
    }
    changed
}

fn three_routes() -> Snapshot {
    snapshot([
        service("cart"),
        service("search"),
        plain_route("a", "cart"),
        plain_route("b", "cart"),
        plain_route("c", "search"),
        rate_limit_policy("limit", "b", 10),
    ])
}

#[test]
fn tls_towards_a_backend_keeps_its_arc_when_something_else_of_the_route_changes() {
    let route = |attempts: u32| {
        let spec = json!({"rules": [{
            "name": "all",
            "retry": {"attempts": attempts},
            "upgrades": [],
            "timeouts": {"streamIdle": "0s"},
            "backendRefs": [{"name": "cart", "port": 80, "protocol": "HTTPS"}],
        }]});
        gateway_route("a", &spec)
    };
    let mut translator = Translator::default();
    let mut tls_at = |attempts| {
        let snapshot = snapshot([service("cart"), route(attempts)]);
        let translation = translator.translate_routes(&snapshot, &Settings::folder());
        let route = Arc::clone(&translation.config.routes[&id("a", "all")]);
        assert_eq!(route.timeouts.stream_idle, None);
        let Action::Forward { backends, upgrades, .. } = &route.action else { panic!("{route:?}") };
        assert!(upgrades.names().is_empty());
        Arc::clone(backends[0].protocol.tls.as_ref().unwrap())
    };
    assert!(Arc::ptr_eq(&tls_at(1), &tls_at(2)));
}

#[test]
fn only_the_routes_that_depend_on_the_changed_object_are_new() {
    let cases: Vec<(&str, Change, Vec<&str>)> = vec![
        ("nothing", Box::new(|_| {}), vec![]),
        ("an equal object", Box::new(|s| s.apply(plain_route("a", "cart"))), vec![]),
        ("one route", Box::new(|s| s.apply(plain_route("a", "search"))), vec!["default/a/all"]),
        ("an equal Service", Box::new(|s| s.apply(service("cart"))), vec![]),
        (
            "a Service goes",
            Box::new(|s| s.delete(&ObjectRef::new(Kind::Service, "default", "search"))),
            vec!["default/c/all"],
        ),
        ("a policy", Box::new(|s| s.apply(rate_limit_policy("limit", "b", 20))), vec!["default/b/all"]),
        ("an equal policy", Box::new(|s| s.apply(rate_limit_policy("limit", "b", 10))), vec![]),
        (
            "a policy moves",
            Box::new(|s| s.apply(rate_limit_policy("limit", "c", 10))),
            vec!["default/b/all", "default/c/all"],
        ),
        (
            "a policy goes",
            Box::new(|s| s.delete(&ObjectRef::new(Kind::RateLimitPolicy, "default", "limit"))),
            vec!["default/b/all"],
        ),
        ("a slice", Box::new(|s| s.apply(slice("cart-1", "cart", "10.0.0.1"))), vec![]),
    ];
    for (name, change, want) in cases {
        let mut snapshot = three_routes();
        let mut translator = Translator::default();
        let settings = Settings::folder();
        let before = translator.translate_routes(&snapshot, &settings);
        change(&mut snapshot);
        let after = translator.translate_routes(&snapshot, &settings);
        assert_eq!(changed(&before, &after), want, "{name}");
        assert_eq!(after, translate(&snapshot, &settings), "{name}: memory changed the result");
    }
}

#[test]
fn a_secret_that_changes_makes_the_routes_of_its_provider_anew() {
    let secret = |value: &str| {
        object(
            Kind::Secret,
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"jwks.json": value}}),
        )
    };
    let provider = json!({
        "name": "corp", "issuer": "https://id.example.com/", "audiences": ["shop"], "algorithms": ["HS256"],
        "jwks": {"secretRef": {"name": "keys"}},
    });
    let protected = gateway_route(
        "a",
        &json!({
            "jwtProviders": [provider],
            "rules": [{"name": "all", "auth": {"jwt": {"providers": ["corp"]}}, "backendRefs": [{"name": "cart", "port": 80}]}],
        }),
    );
    let mut snapshot =
        snapshot([service("cart"), secret(&"k".repeat(32)), protected, plain_route("b", "cart")]);
    let mut translator = Translator::default();
    let settings = Settings::folder();
    let before = translator.translate_routes(&snapshot, &settings);
    snapshot.apply(secret(&"l".repeat(32)));
    let after = translator.translate_routes(&snapshot, &settings);
    assert_eq!(changed(&before, &after), ["default/a/all"]);
}

#[test]
fn settings_and_classes_are_part_of_the_memory() {
    let mut snapshot = three_routes();
    let mut translator = Translator::default();
    assert_eq!(translator.translate_routes(&snapshot, &Settings::folder()).config.routes.len(), 3);
    let cluster = Settings::cluster("baribhara");
    assert_eq!(translator.translate_routes(&snapshot, &cluster).config.routes.len(), 0);
    snapshot.apply(object(
        Kind::IngressClass,
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": "mine", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
            "spec": {"controller": "gateway.baribhara.io/controller"},
        }),
    ));
    assert_eq!(translator.translate_routes(&snapshot, &cluster).config.routes.len(), 3);
}

#[test]
fn a_pod_change_makes_only_its_own_backend_anew_and_no_route() {
    let mut snapshot = three_routes();
    snapshot.apply(slice("cart-1", "cart", "10.0.0.1"));
    snapshot.apply(slice("search-1", "search", "10.0.1.1"));
    let mut translator = Translator::default();
    let settings = Settings::folder();
    let config = translator.translate_routes(&snapshot, &settings).config;
    let before = translator.translate_endpoints(&snapshot, &settings, &config);

    snapshot.apply(slice("cart-2", "cart", "10.0.0.2"));
    let after = translator.translate_endpoints(&snapshot, &settings, &config);
    let endpoints = &after.backends[&backend("cart")].endpoints;
    assert_eq!(
        endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.1:8080", "10.0.0.2:8080"]
    );
    assert!(Arc::ptr_eq(&before.backends[&backend("search")], &after.backends[&backend("search")]));

    // A slice that says the same again is another object but the same endpoints.
    snapshot.apply(slice("cart-2", "cart", "10.0.0.2"));
    let again = translator.translate_endpoints(&snapshot, &settings, &config);
    assert!(Arc::ptr_eq(&after.backends[&backend("cart")], &again.backends[&backend("cart")]));

    // A slice that moves to another Service leaves the first.
    snapshot.apply(slice("cart-2", "search", "10.0.0.2"));
    let moved = translator.translate_endpoints(&snapshot, &settings, &config);
    assert_eq!(moved.backends[&backend("cart")].endpoints.len(), 1);
    assert_eq!(moved.backends[&backend("search")].endpoints.len(), 2);
}

#[test]
fn a_route_that_goes_takes_its_backend_out_of_the_endpoints() {
    let mut snapshot = three_routes();
    let mut translator = Translator::default();
    let settings = Settings::folder();
    let config = translator.translate_routes(&snapshot, &settings).config;
    assert!(
        translator
            .translate_endpoints(&snapshot, &settings, &config)
            .backends
            .contains_key(&backend("search"))
    );
    snapshot.delete(&ObjectRef::new(Kind::GatewayRoute, "default", "c"));
    let config = translator.translate_routes(&snapshot, &settings).config;
    assert!(!config.routes.contains_key(&id("c", "all")));
    assert!(
        !translator
            .translate_endpoints(&snapshot, &settings, &config)
            .backends
            .contains_key(&backend("search"))
    );
}

#[test]
fn ten_thousand_routes_with_one_changed_keep_all_others() {
    let count = 10_000;
    let name = |n: usize| format!("r{n:05}");
    let mut snapshot = snapshot((0..count).flat_map(|n| {
        [plain_route(&name(n), &name(n)), service(&name(n)), slice(&name(n), &name(n), "10.0.0.1")]
    }));
    let mut translator = Translator::default();
    let settings = Settings::folder();
    let before = translator.translate_routes(&snapshot, &settings);
    assert_eq!(before.config.routes.len(), count);
    let mut best = std::time::Duration::MAX;
    for round in 0..5 {
        let service = if round % 2 == 0 { "missing" } else { "r00001" };
        snapshot.apply(plain_route("r05000", service));
        let start = std::time::Instant::now();
        let after = translator.translate_routes(&snapshot, &settings);
        best = best.min(start.elapsed());
        if round == 0 {
            assert_eq!(changed(&before, &after), ["default/r05000/all"]);
        }
    }
    println!("one of {count} routes changed: {best:?}");
    let config = translator.translate_routes(&snapshot, &settings).config;
    let before = translator.translate_endpoints(&snapshot, &settings, &config);
    snapshot.apply(slice("r00001", "r00001", "10.0.0.2"));
    let start = std::time::Instant::now();
    let after = translator.translate_endpoints(&snapshot, &settings, &config);
    println!("one of {count} backends changed: {:?}", start.elapsed());
    let others =
        |(id, old): &(&BackendId, &Arc<ir::BackendEndpoints>)| Arc::ptr_eq(old, &after.backends[*id]);
    assert_eq!(before.backends.iter().filter(others).count(), before.backends.len() - 1);
    // The goal is 10 ms in an optimised build on an idle machine; this bound only notices work that grows with the
    // number of routes times something.
    assert!(best < std::time::Duration::from_millis(100), "{best:?}");
}

#[test]
fn what_is_passed_through_keeps_its_arc_until_something_of_it_changes() {
    let passed = |weight: u32| {
        let spec = json!({
            "hostnames": ["a.example"],
            "tls": {"mode": "Passthrough"},
            "rules": [{"name": "all", "backendRefs": [{"name": "cart", "port": 80, "weight": weight}]}],
        });
        gateway_route("a", &spec)
    };
    let mut translator = Translator::default();
    let mut at = |weight, other| {
        let snapshot =
            snapshot([service("cart"), service("search"), passed(weight), plain_route("b", other)]);
        let config = translator.translate_routes(&snapshot, &Settings::folder()).config;
        let endpoints = translator.translate_endpoints(&snapshot, &Settings::folder(), &config);
        assert!(endpoints.backends.contains_key(&backend("cart")), "no other route names it");
        config.passthrough
    };
    let first = at(1, "search");
    assert_eq!(first.len(), 1);
    assert!(Arc::ptr_eq(&first, &at(1, "nowhere")));
    assert_ne!(first, at(2, "nowhere"));
}
