//! The definitions' rules of token providers and of what asks for tokens.

use super::*;

#[test]
fn the_rules_of_key_sets_by_url_hold() {
    let remote = |more: Value| {
        let mut remote = json!({"uri": "https://id.example.com/jwks"});
        for (name, value) in more.as_object().expect("fields") {
            remote[name] = value.clone();
        }
        provider(&json!({"jwks": {"remote": remote}}))
    };
    let good = || remote(json!({"cacheDuration": "10s", "maxStale": "10s", "timeout": "5s"}));
    let times = [
        (
            json!({"cacheDuration": "9s"}),
            "spec.jwtProviders[0].jwks.remote.cacheDuration: cacheDuration is 10s to 24h",
        ),
        (
            json!({"cacheDuration": "25h", "maxStale": "30h"}),
            "spec.jwtProviders[0].jwks.remote.cacheDuration: cacheDuration is 10s to 24h",
        ),
        (json!({"maxStale": "745h"}), "spec.jwtProviders[0].jwks.remote.maxStale: maxStale is at most 744h"),
        (json!({"timeout": "6s"}), "spec.jwtProviders[0].jwks.remote.timeout: timeout is 100ms to 5s"),
        (
            json!({"maxStale": "9m"}),
            "spec.jwtProviders[0].jwks.remote: cacheDuration is not longer than maxStale",
        ),
        (
            json!({"caRef": {"kind": "Pod", "name": "x"}}),
            "spec.jwtProviders[0].jwks.remote.caRef.kind: \"Pod\" is not known",
        ),
    ];
    for (more, want) in times {
        check(&[("a time", Kind::GatewayRoute, good(), remote(more), want)]);
    }
    let both = provider(&json!({"jwks": {"inline": "{}", "remote": {"uri": "https://id.example.com/jwks"}}}));
    let one =
        "spec.jwtProviders[0].jwks: exactly one of remote, secretRef, configMapRef and inline must be set";
    check(&[(
        "one place",
        Kind::GatewayRoute,
        remote(json!({"caRef": {"kind": "Secret", "name": "ca"}})),
        both,
        one,
    )]);
    let secret = provider(&json!({"jwks": {"remote": {"uri": "https://i/"}}, "algorithms": ["HS256"]}));
    let hmac = "spec.jwtProviders[0]: HS256, HS384 and HS512 need a key that is secret";
    check(&[("no HMAC", Kind::GatewayRoute, remote(json!({})), secret, hmac)]);
}

#[test]
fn the_rules_of_providers_hold() {
    let jwks =
        "spec.jwtProviders[0].jwks: exactly one of remote, secretRef, configMapRef and inline must be set";
    let from = "spec.jwtProviders[0].from[0]: exactly one of header, cookie and query must be set";
    let issuer = "spec.jwtProviders[0]: exactly one of issuer and anyIssuer: true must be set";
    check(&[
        (
            "an issuer or any",
            Kind::GatewayRoute,
            provider(&json!({"issuer": "REMOVED", "anyIssuer": true})),
            provider(&json!({"issuer": "REMOVED"})),
            issuer,
        ),
        ("not both", Kind::GatewayRoute, provider(&json!({})), provider(&json!({"anyIssuer": true})), issuer),
        (
            "a set of keys",
            Kind::GatewayRoute,
            provider(&json!({"jwks": {"configMapRef": {"name": "c"}}})),
            provider(&json!({"jwks": {}})),
            jwks,
        ),
        (
            "one set of keys",
            Kind::GatewayRoute,
            provider(&json!({"jwks": {"secretRef": {"name": "s", "key": "k"}}})),
            provider(&json!({"jwks": {"secretRef": {"name": "s"}, "inline": "{}"}})),
            jwks,
        ),
        (
            "algorithms may be left to the keys",
            Kind::GatewayRoute,
            provider(&json!({"algorithms": "REMOVED"})),
            provider(&json!({"algorithms": ["none"]})),
            "spec.jwtProviders[0].algorithms[0]: \"none\" is not known",
        ),
        (
            "a symmetric algorithm has a secret key",
            Kind::GatewayRoute,
            provider(&json!({"jwks": {"secretRef": {"name": "s"}}, "algorithms": ["RS256", "HS256"]})),
            provider(&json!({"algorithms": ["RS256", "HS256"]})),
            "spec.jwtProviders[0]: HS256, HS384 and HS512 need a key that is secret",
        ),
        (
            "a place for the token",
            Kind::GatewayRoute,
            provider(&json!({"from": [{"cookie": {"name": "c"}}, {"query": {"name": "q"}}]})),
            provider(&json!({"from": [{}]})),
            from,
        ),
        (
            "one place each",
            Kind::GatewayRoute,
            provider(&json!({"from": [{"header": {"name": "h"}}]})),
            provider(&json!({"from": [{"header": {"name": "h"}, "cookie": {"name": "c"}}]})),
            from,
        ),
        (
            "clocks are not far off",
            Kind::GatewayRoute,
            provider(&json!({"clockSkew": "1m"})),
            provider(&json!({"clockSkew": "60001ms"})),
            "spec.jwtProviders[0].clockSkew: clockSkew is at most 60s",
        ),
    ]);
}

#[test]
fn the_rules_of_auth_hold() {
    let auth = |auth: Value| rule(&json!({"auth": auth}));
    let condition = |condition: Value| {
        auth(json!({"authorization": {"rules": [{"name": "a", "action": "Allow", "claims": [condition]}]}}))
    };
    let something = "auth needs jwt, apiKey, basic, external or authorization, or else disabled: true";
    let values = "spec.rules[0].auth.authorization.rules[0].claims[0]: Exists takes no values and every other \
                  operator needs some";
    let empty: &'static str = format!("spec.rules[0].auth: {something}").leak();
    check(&[
        ("something is asked", Kind::GatewayRoute, auth(json!({"disabled": true})), auth(json!({})), empty),
        (
            "disabled means nothing else",
            Kind::GatewayRoute,
            auth(json!({"disabled": false, "jwt": {"providers": ["p"]}})),
            auth(json!({"disabled": true, "jwt": {"providers": ["p"]}})),
            empty,
        ),
        (
            "a password is something",
            Kind::GatewayRoute,
            auth(json!({"basic": {"secretRef": {"name": "users"}}})),
            auth(json!({"mode": "Any"})),
            empty,
        ),
        (
            "keys are of some Secrets",
            Kind::GatewayRoute,
            auth(json!({"apiKey": {"secretSelector": {"matchLabels": {"tier": "gold"}}}})),
            auth(json!({"apiKey": {"secretSelector": {"matchLabels": {}}}})),
            "spec.rules[0].auth.apiKey.secretSelector.matchLabels: has 0 items, fewer than 1",
        ),
        (
            "any and optional",
            Kind::GatewayRoute,
            auth(
                json!({"mode": "Any", "jwt": {"providers": ["p"]}, "basic": {"secretRef": {"name": "users"}}}),
            ),
            auth(json!({"mode": "Any", "jwt": {"providers": ["p"], "optional": true}})),
            "spec.rules[0].auth: with mode: Any a token that may be missing would let everybody pass",
        ),
        (
            "defaults have no parent",
            Kind::GatewayRoute,
            route(&json!({"defaults": {"auth": {"jwt": {"providers": ["p"]}}}})),
            route(&json!({"defaults": {"auth": {"disabled": true}}})),
            "spec.defaults: defaults.auth cannot be disabled, for it has no parent",
        ),
        (
            "a policy is not disabled",
            Kind::AuthPolicy,
            policy(&json!({})),
            policy(&json!({"auth": {"disabled": true}})),
            "spec: a policy adds requirements and cannot be disabled",
        ),
        (
            "an operator has values",
            Kind::GatewayRoute,
            condition(json!({"claim": "c", "operator": "In", "values": ["v"]})),
            condition(json!({"claim": "c", "operator": "In"})),
            values,
        ),
        (
            "Exists has none",
            Kind::GatewayRoute,
            condition(json!({"claim": "c", "operator": "Exists", "values": []})),
            condition(json!({"claim": "c", "operator": "Exists", "values": ["v"]})),
            values,
        ),
    ]);
}

#[test]
fn the_rules_of_services_that_decide_hold() {
    const AT: &str = "spec.rules[0].auth.external";
    let external = |change: Value| {
        let mut external = json!({"backendRef": {"name": "auth", "port": 80}});
        let fields = external.as_object_mut().expect("an object");
        fields.extend(change.as_object().expect("an object").clone());
        rule(&json!({"auth": {"external": external}}))
    };
    let at = |field: &str, message: &str| -> &'static str { format!("{AT}{field}: {message}").leak() };
    let backend = |backend: Value| external(json!({"backendRef": backend}));
    let cache = |key: &str, ttl: &str| external(json!({"cache": {"key": [key], "ttl": ttl}}));
    let kind = Kind::GatewayRoute;
    check(&[
        (
            "a Service or an address",
            kind,
            backend(json!({"address": "192.0.2.1", "port": 80})),
            backend(json!({"name": "auth", "address": "192.0.2.1", "port": 80})),
            at(".backendRef", "exactly one of name (a Service) and address must be set"),
        ),
        (
            "an address has no namespace",
            kind,
            backend(json!({"name": "auth", "namespace": "sso", "port": 80})),
            backend(json!({"address": "192.0.2.1", "namespace": "sso", "port": 80})),
            at(".backendRef", "an address has no namespace"),
        ),
        (
            "a method that asks",
            kind,
            external(json!({"method": "POST"})),
            external(json!({"method": "TRACE"})),
            at("", "CONNECT and TRACE ask for no answer"),
        ),
        (
            "a time",
            kind,
            external(json!({"timeout": "60s"})),
            external(json!({"timeout": "0s"})),
            at(".timeout", "timeout is 1ms to 60s"),
        ),
        (
            "no longer",
            kind,
            external(json!({"timeout": "1ms"})),
            external(json!({"timeout": "61s"})),
            at(".timeout", "timeout is 1ms to 60s"),
        ),
        (
            "a time for what is kept",
            kind,
            cache("cookie:session", "1h"),
            cache(":path", "500ms"),
            at(".cache.ttl", "ttl is 1s to 1h"),
        ),
    ]);
}
