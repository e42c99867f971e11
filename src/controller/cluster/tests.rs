//! Tests of the cluster as a source. Each file has one concern.

mod fake;
mod ledger;
mod selection;
mod shelf;
mod source;

use std::time::Duration;

use ir::{Kind, ObjectRef};
use serde_json::{Value, json};

use super::backoff::Backoff;
use super::resource::{Resource, Target};

/// A route of namespace `shop` that leads to this port of 127.0.0.1.
fn route(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "gateway.baribhara.io/v1alpha1",
        "kind": "GatewayRoute",
        "metadata": {"name": name, "namespace": "shop", "managedFields": [{"manager": "m"}]},
        "spec": {"rules": [{"name": "main", "backendRefs": [{"address": "127.0.0.1", "port": port}]}]},
    })
}

/// The same, open only to those with a token that a key in the Secret `keys` signed.
fn guarded_route(name: &str) -> Value {
    let mut route = route(name, 1);
    let provider = json!({"name": "p", "anyIssuer": true, "jwks": {"secretRef": {"name": "keys"}}});
    route["spec"]["jwtProviders"] = json!([provider]);
    route["spec"]["rules"][0]["auth"] = json!({"jwt": {"providers": ["p"]}});
    route
}

/// An annotation that makes a watch panic when it tells of the object.
const PANIC: &str = "test/panic";

/// Asked for each object that a watch tells of.
pub(super) fn panic_if_asked(object: &Value) {
    assert!(object["metadata"]["annotations"][PANIC].is_null(), "an injected panic");
}

fn with_version(mut object: Value, version: u64) -> Value {
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    object
}

fn secret(name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Secret, "shop", name)
}

#[test]
fn waits_double_from_a_fifth_of_a_second_to_five_seconds() {
    let waits = |chance: u64| {
        let mut backoff = Backoff::default();
        (0..7).map(|_| backoff.next(chance).as_millis()).collect::<Vec<_>>()
    };
    assert_eq!(waits(1000), [200, 400, 800, 1600, 3200, 5000, 5000]);
    assert_eq!(waits(0), [100, 200, 400, 800, 1600, 2500, 2500]);
}

#[test]
fn a_success_starts_the_waits_anew_and_many_failures_overflow_nothing() {
    let mut backoff = Backoff::default();
    for _ in 0..200 {
        backoff.next(500);
    }
    assert_eq!(backoff.next(1000), Duration::from_secs(5));
    backoff.reset();
    assert_eq!(backoff.next(1000), Duration::from_millis(200));
}

#[test]
fn each_kind_is_asked_for_where_the_api_server_has_it() {
    let paths = |namespace: Option<&str>| -> Vec<String> {
        let versions = Kind::ALL.into_iter().flat_map(Resource::versions);
        versions.map(|resource| resource.path(namespace)).collect()
    };
    let everywhere = [
        "/apis/networking.k8s.io/v1/ingresses",
        "/apis/networking.k8s.io/v1/ingressclasses",
        "/apis/gateway.baribhara.io/v1alpha1/gatewayroutes",
        "/apis/gateway.baribhara.io/v1alpha1/ratelimitpolicies",
        "/apis/gateway.baribhara.io/v1alpha1/authpolicies",
        "/api/v1/services",
        "/apis/discovery.k8s.io/v1/endpointslices",
        "/api/v1/secrets",
        "/api/v1/configmaps",
        "/apis/gateway.networking.k8s.io/v1/referencegrants",
        "/apis/gateway.networking.k8s.io/v1beta1/referencegrants",
    ];
    assert_eq!(paths(None), everywhere);
    assert_eq!(paths(Some("shop"))[7], "/api/v1/namespaces/shop/secrets");
}

#[test]
fn namespaces_that_are_watched_get_a_stream_each_and_kinds_without_one_get_one() {
    let all = Target::all(&[], None);
    assert_eq!(all.len(), Kind::ALL.len());
    assert!(all.iter().all(|target| target.namespace.is_none()));
    let some = Target::all(&["b".to_owned(), "a".to_owned(), "b".to_owned()], None);
    let of = |kind: Kind| {
        let targets = some.iter().filter(|target| target.kind == kind);
        targets.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(of(Kind::Secret), ["Secret/a", "Secret/b"]);
    assert_eq!(of(Kind::IngressClass), ["IngressClass"]);
}

#[test]
fn the_published_service_gets_a_stream_of_its_own_where_its_namespace_is_not_watched() {
    let published = ("gw".to_owned(), "front".to_owned());
    let services = |namespaces: &[String]| {
        let targets = Target::all(namespaces, Some(&published));
        let services = targets.iter().filter(|target| target.kind == Kind::Service);
        services.map(|target| (target.to_string(), target.field_selector())).collect::<Vec<_>>()
    };
    assert_eq!(services(&[]), [("Service".to_owned(), None)]);
    assert_eq!(services(&["gw".to_owned()]), [("Service/gw".to_owned(), None)]);
    let selector = Some("metadata.name=front".to_owned());
    let want = [("Service/shop".to_owned(), None), ("Service/gw/front".to_owned(), selector)];
    assert_eq!(services(&["shop".to_owned()]), want);
}

#[test]
fn a_missing_right_is_named_as_kubectl_names_it() {
    let permission = |kind: Kind, namespace: Option<&str>| {
        Resource::versions(kind)[0].permission("list", namespace.map(Into::into)).to_string()
    };
    assert_eq!(permission(Kind::Secret, Some("shop")), "list secrets in namespace shop");
    assert_eq!(permission(Kind::Ingress, None), "list ingresses.networking.k8s.io in the whole cluster");
}
