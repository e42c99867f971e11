//! Objects for tests, written as JSON. Must not hide anything that a test depends on.

use ir::Kind;
use serde_json::{Value, json};

use crate::{Object, Snapshot};

pub(super) fn object(kind: Kind, value: Value) -> Object {
    Object::from_json(kind, value).expect("a well-formed object")
}

pub(super) fn snapshot(objects: impl IntoIterator<Item = Object>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for object in objects {
        snapshot.apply(object);
    }
    snapshot
}

pub(super) fn service(name: &str) -> Object {
    object(
        Kind::Service,
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"name": "http", "port": 80}]},
        }),
    )
}

pub(super) fn slice(name: &str, service: &str, address: &str) -> Object {
    object(
        Kind::EndpointSlice,
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": [address]}],
        }),
    )
}

pub(super) fn gateway_route(name: &str, spec: &Value) -> Object {
    object(
        Kind::GatewayRoute,
        json!({
            "apiVersion": "gateway.baribhara.io/v1alpha1", "kind": "GatewayRoute",
            "metadata": {"name": name}, "spec": spec,
        }),
    )
}

/// A route with one rule at `/name` to a Service.
pub(super) fn plain_route(name: &str, service: &str) -> Object {
    gateway_route(
        name,
        &json!({
            "hostnames": ["shop.example.com"],
            "rules": [{
                "name": "all",
                "matches": [{"path": {"type": "PathPrefix", "value": format!("/{name}")}}],
                "backendRefs": [{"name": service, "port": 80}],
            }],
        }),
    )
}

pub(super) fn rate_limit_policy(name: &str, target: &str, requests: u32) -> Object {
    object(
        Kind::RateLimitPolicy,
        json!({
            "apiVersion": "gateway.baribhara.io/v1alpha1", "kind": "RateLimitPolicy",
            "metadata": {"name": name},
            "spec": {
                "targetRefs": [{"group": "gateway.baribhara.io", "kind": "GatewayRoute", "name": target}],
                "limits": [{"name": "all", "rates": [{"requests": requests, "per": "1m"}]}],
            },
        }),
    )
}
