//! The definitions' rules of TLS towards backends and of passthrough.

use super::*;

#[test]
fn the_rules_of_tls_towards_backends_hold() {
    let backend = |backend: Value| rule(&json!({"backendRefs": [backend]}));
    check(&[
        (
            "tls wants a protocol that has it",
            Kind::GatewayRoute,
            backend(json!({"name": "s", "port": 1, "protocol": "GRPCS", "tls": {}})),
            backend(json!({"name": "s", "port": 1, "protocol": "H2C", "tls": {}})),
            "spec.rules[0].backendRefs[0]: tls needs a protocol with TLS",
        ),
        (
            "the port may have it",
            Kind::GatewayRoute,
            backend(json!({"name": "s", "port": 1, "tls": {"insecureSkipVerify": true}})),
            backend(json!({"name": "s", "port": 1, "protocol": "HTTP", "tls": {}})),
            "spec.rules[0].backendRefs[0]: tls needs a protocol with TLS",
        ),
        (
            "nothing is verified by an authority that is not asked",
            Kind::GatewayRoute,
            backend(json!({"name": "s", "port": 1, "tls": {
                "insecureSkipVerify": true, "validation": {"hostname": "a.example"},
            }})),
            backend(json!({"name": "s", "port": 1, "tls": {
                "insecureSkipVerify": true, "validation": {"caRef": {"kind": "Secret", "name": "ca"}},
            }})),
            "spec.rules[0].backendRefs[0].tls: insecureSkipVerify verifies nothing",
        ),
    ]);
}

/// A route that passes connections through, with this change.
fn passed(change: &Value) -> Value {
    with(route(&json!({"hostnames": ["a.example"], "tls": {"mode": "Passthrough"}})), change)
}

/// With this change in its only rule.
fn passed_by(change: &Value) -> Value {
    let rule = json!({"name": "r", "backendRefs": [{"name": "s", "port": 443}]});
    passed(&json!({"rules": [with(rule, change)]}))
}

#[test]
fn what_holds_for_requests_is_not_admitted_with_passthrough() {
    let tls = |change: &Value| passed(&json!({"tls": with(json!({"mode": "Passthrough"}), change)}));
    let kind = Kind::GatewayRoute;
    let no_request = "spec: with Passthrough no request is seen that this could hold for";
    let in_a_rule = [
        json!({"matches": [{}]}),
        json!({"filters": [{"type": "CORS", "cors": {}}]}),
        json!({"auth": {"disabled": true}}),
        json!({"ipAccess": {}}),
        json!({"maxRequestBody": "1Mi"}),
        json!({"retry": {}}),
        json!({"upgrades": []}),
    ];
    for change in in_a_rule {
        check(&[(
            "a rule",
            kind,
            passed_by(&json!({"timeouts": {"connect": "1s"}})),
            passed_by(&change),
            no_request,
        )]);
    }
    let in_defaults = [
        json!({"cors": {}}),
        json!({"ipAccess": {}}),
        json!({"auth": {"jwt": {"providers": ["p"]}}}),
        json!({"maxRequestBody": "1Mi"}),
    ];
    for defaults in in_defaults {
        let good = passed(&json!({"defaults": {"timeouts": {"streamIdle": "1m"}}}));
        check(&[("defaults", kind, good, passed(&json!({"defaults": defaults})), no_request)]);
    }
    let nothing_else = "spec.tls: with Passthrough the backend serves TLS, and nothing else of tls can hold";
    for change in [
        json!({"secretRef": {"name": "s"}}),
        json!({"minVersion": "1.3"}),
        json!({"redirectHTTP": {}}),
        json!({"hsts": {}}),
        json!({"clientAuth": {"caRef": {"kind": "Secret", "name": "ca"}}}),
    ] {
        check(&[("tls", kind, tls(&json!({"minVersion": "1.2"})), tls(&change), nothing_else)]);
    }
}

#[test]
fn the_rules_of_passthrough_hold() {
    let kind = Kind::GatewayRoute;
    let backend = |change: &Value| {
        passed_by(&json!({"backendRefs": [with(json!({"name": "s", "port": 443}), change)]}))
    };
    let rule = |name: &str| json!({"name": name, "backendRefs": [{"name": "s", "port": 443}]});
    check(&[
        (
            "a name",
            kind,
            passed(&json!({})),
            route(&json!({"tls": {"mode": "Passthrough"}})),
            "spec: Passthrough goes by the name that a client asks for",
        ),
        (
            "one rule",
            kind,
            passed(&json!({"rules": [rule("a")]})),
            passed(&json!({"rules": [rule("a"), rule("b")]})),
            "spec: with Passthrough no request is seen that could choose between rules",
        ),
        (
            "TLS of its own towards a backend",
            kind,
            backend(&json!({"weight": 2})),
            backend(&json!({"tls": {}})),
            "spec: with Passthrough the client's own TLS goes to the backend",
        ),
        (
            "a protocol",
            kind,
            backend(&json!({"proxyProtocol": "V1"})),
            backend(&json!({"protocol": "HTTPS"})),
            "spec: with Passthrough the client's own TLS goes to the backend",
        ),
        (
            "whom a connection that is shared is for",
            kind,
            backend(&json!({"proxyProtocol": "V2"})),
            route(&json!({"rules": [{"name": "r", "backendRefs": [
                {"name": "s", "port": 443, "proxyProtocol": "V2"},
            ]}]})),
            "spec: a connection to a backend is shared by clients unless it is passed through",
        ),
    ]);
}
