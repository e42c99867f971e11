//! Tests of which Secrets and ConfigMaps are fetched.

use ir::Kind;
use serde_json::{Value, json};

use crate::{Object, named_objects};

fn named(kind: Kind, spec: &Value) -> Vec<String> {
    let value = json!({"metadata": {"name": "o", "namespace": "shop"}, "spec": spec});
    let object = Object::from_json(kind, value).unwrap();
    named_objects(&object).iter().map(ToString::to_string).collect()
}

#[test]
fn the_key_sets_of_a_route_and_of_a_policy_are_named_once_each() {
    let provider = |name: &str, jwks: Value| json!({"name": name, "anyIssuer": true, "jwks": jwks});
    let providers = json!([
        provider("a", json!({"secretRef": {"name": "keys"}})),
        provider("b", json!({"configMapRef": {"name": "public"}})),
        provider("c", json!({"secretRef": {"name": "keys", "key": "other.json"}})),
        provider("d", json!({"inline": "{}"})),
    ]);
    let want = ["Secret/shop/keys", "ConfigMap/shop/public"];
    let route = json!({"jwtProviders": providers, "rules": [{"name": "main"}]});
    assert_eq!(named(Kind::GatewayRoute, &route), want);
    let policy = json!({"targetRefs": [], "jwtProviders": providers, "auth": {}});
    assert_eq!(named(Kind::AuthPolicy, &policy), want);
}

#[test]
fn certificates_are_named_once_each() {
    let tls = json!({"tls": [{"secretName": "b"}, {"secretName": "a"}, {"secretName": "b"}, {"secretName": ""}, {}]});
    assert_eq!(named(Kind::Ingress, &tls), ["Secret/shop/a", "Secret/shop/b"]);
    let route = json!({"tls": {"secretRef": {"name": "a"}}, "rules": [{"name": "main"}]});
    assert_eq!(named(Kind::GatewayRoute, &route), ["Secret/shop/a"]);
    let ca = json!({"caRef": {"kind": "ConfigMap", "name": "clients"}});
    let route = json!({"tls": {"secretRef": {"name": "a"}, "clientAuth": ca}, "rules": [{"name": "main"}]});
    assert_eq!(named(Kind::GatewayRoute, &route), ["Secret/shop/a", "ConfigMap/shop/clients"]);
}

#[test]
fn authorities_and_client_certificates_of_backends_are_named() {
    let backend = |tls: Value| json!({"name": "web", "port": 443, "tls": tls});
    let ca = |kind: &str, name: &str| json!({"validation": {"caRef": {"kind": kind, "name": name}}});
    let backends = json!([
        backend(ca("ConfigMap", "public")),
        backend(ca("Secret", "private")),
        backend(json!({"clientCertRef": {"name": "gateway"}})),
        backend(json!({})),
    ]);
    let route = json!({"rules": [{"name": "main", "backendRefs": backends}]});
    let want = ["Secret/shop/gateway", "Secret/shop/private", "ConfigMap/shop/public"];
    assert_eq!(named(Kind::GatewayRoute, &route), want);
    let annotated = json!({
        "metadata": {"name": "o", "namespace": "shop", "annotations": {
            "gateway.baribhara.io/backend-tls-ca": "configmap/public",
            "gateway.baribhara.io/backend-tls-client-cert": "gateway",
            "gateway.baribhara.io/client-auth-ca": "secret/clients",
        }},
        "spec": {"tls": [{"secretName": "a"}]},
    });
    let ingress = Object::from_json(Kind::Ingress, annotated).unwrap();
    let names: Vec<String> = named_objects(&ingress).iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        ["Secret/shop/a", "Secret/shop/clients", "Secret/shop/gateway", "ConfigMap/shop/public"]
    );
}

#[test]
fn what_nothing_reads_is_not_fetched() {
    assert_eq!(named(Kind::Ingress, &json!({"tls": [{}], "rules": []})), [""; 0]);
    assert_eq!(named(Kind::Service, &json!({})), [""; 0]);
}
