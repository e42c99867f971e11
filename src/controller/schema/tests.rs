//! Objects are pruned, defaulted and refused as the definitions say.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn schemas() -> &'static Schemas {
    static SCHEMAS: std::sync::LazyLock<Schemas> =
        std::sync::LazyLock::new(|| Schemas::compile(|_, _| Ok(())));
    &SCHEMAS
}

fn object(kind: Kind, spec: &Value) -> Value {
    json!({
        "apiVersion": "gateway.baribhara.io/v1alpha1",
        "kind": kind.as_str(),
        "metadata": {"name": "o", "namespace": "n"},
        "spec": spec,
    })
}

fn admit(kind: Kind, spec: &Value) -> Result<Admitted, Vec<Violation>> {
    schemas().admit(kind, object(kind, spec))
}

/// `path: message` of every violation; empty: admitted.
fn errors(kind: Kind, spec: &Value) -> Vec<String> {
    match admit(kind, spec) {
        Ok(_) => Vec::new(),
        Err(violations) => violations.iter().map(|v| format!("{}: {}", v.path, v.message)).collect(),
    }
}

/// `base` with the members of `change` put over it.
fn with(mut base: Value, change: &Value) -> Value {
    for (name, value) in change.as_object().expect("a mapping") {
        base[name] = value.clone();
    }
    base
}

fn route(change: &Value) -> Value {
    with(json!({"rules": [{"name": "r", "backendRefs": [{"name": "s", "port": 80}]}]}), change)
}

fn rule(change: &Value) -> Value {
    route(&json!({"rules": [with(json!({"name": "r"}), change)]}))
}

fn matching(change: &Value) -> Value {
    rule(&json!({"matches": [change]}))
}

fn filters(filters: &Value) -> Value {
    rule(&json!({"filters": filters}))
}

fn provider(change: &Value) -> Value {
    let base = json!({"name": "p", "issuer": "i", "jwks": {"inline": "{}"}, "algorithms": ["RS256"]});
    let mut base = with(base, change);
    base.as_object_mut().expect("a mapping").retain(|_, value| *value != json!("REMOVED"));
    route(&json!({"jwtProviders": [base]}))
}

fn limits(change: &Value) -> Value {
    let limit = json!({"name": "l", "rates": [{"requests": 1, "per": "1s"}]});
    json!({
        "targetRefs": [{"group": "gateway.baribhara.io", "kind": "GatewayRoute", "name": "o"}],
        "limits": [with(limit, change)],
    })
}

fn targets(targets: &Value) -> Value {
    with(limits(&json!({})), &json!({"targetRefs": targets}))
}

fn policy(change: &Value) -> Value {
    let base = json!({
        "targetRefs": [{"group": "networking.k8s.io", "kind": "Ingress", "name": "o"}],
        "auth": {"jwt": {"providers": ["p"]}},
    });
    with(base, change)
}

/// Each row: what it shows, the kind, a specification that is admitted, one that is refused, and how it is
/// refused.
type Row = (&'static str, Kind, Value, Value, &'static str);

fn check(rows: &[Row]) {
    // Twice, because answers are remembered.
    for (name, kind, good, bad, want) in rows.iter().chain(rows) {
        assert_eq!(errors(*kind, good), Vec::<String>::new(), "{name}: admitted");
        assert_eq!(errors(*kind, bad), [*want], "{name}: refused");
    }
}

#[test]
fn the_rules_of_matches_hold() {
    let value = |kind: &str, members: Value| {
        let mut m = json!({"name": "x", "type": kind});
        m = with(m, &members);
        m
    };
    let mut rows = vec![(
        "a path starts with a slash",
        Kind::GatewayRoute,
        matching(&json!({"path": {"type": "RegularExpression", "value": "a+"}})),
        matching(&json!({"path": {"type": "Exact", "value": "a"}})),
        "spec.rules[0].matches[0].path: the value of an Exact or PathPrefix path must start with '/'",
    )];
    let message = "Exact, Prefix and RegularExpression need a value, Present and Absent take none";
    for (list, want) in [
        ("headers", format!("spec.rules[0].matches[0].headers[0]: {message}")),
        ("queryParams", format!("spec.rules[0].matches[0].queryParams[0]: {message}")),
        ("cookies", format!("spec.rules[0].matches[0].cookies[0]: {message}")),
    ] {
        let want: &'static str = want.leak();
        for (good, bad) in [
            (value("Present", json!({})), value("Present", json!({"value": "v"}))),
            (value("Absent", json!({})), value("Absent", json!({"value": ""}))),
            (value("Exact", json!({"value": ""})), value("Exact", json!({}))),
            (value("Prefix", json!({"value": "v"})), value("Prefix", json!({}))),
            (value("RegularExpression", json!({"value": "v"})), json!({"name": "x"})),
        ] {
            rows.push((
                list,
                Kind::GatewayRoute,
                matching(&json!({list: [good]})),
                matching(&json!({list: [bad]})),
                want,
            ));
        }
    }
    check(&rows);
}

#[test]
fn the_rules_of_filters_hold() {
    let members = [
        ("RequestHeaderModifier", "requestHeaderModifier", json!({"set": [{"name": "a", "value": "b"}]})),
        ("ResponseHeaderModifier", "responseHeaderModifier", json!({"remove": ["a"]})),
        ("URLRewrite", "urlRewrite", json!({"hostname": "h"})),
        ("RequestRedirect", "requestRedirect", json!({"scheme": "https"})),
        ("DirectResponse", "directResponse", json!({"statusCode": 503})),
        ("CORS", "cors", json!({"allowOrigins": ["https://a.example"]})),
    ];
    let mut rows = Vec::new();
    for (kind, member, settings) in &members {
        let want = format!("spec.rules[0].filters[0]: {member} must be set exactly when type is {kind}");
        let good = filters(&json!([{"type": kind, *member: settings}]));
        rows.push((*kind, Kind::GatewayRoute, good, filters(&json!([{"type": kind}])), &*want.leak()));
    }
    let path = |path: Value| filters(&json!([{"type": "URLRewrite", "urlRewrite": {"path": path}}]));
    let regex = "spec.rules[0].filters[0].urlRewrite.path: regex and substitution must be set exactly when type is \
                 ReplaceRegex";
    rows.extend([
        (
            "a rewrite changes something",
            Kind::GatewayRoute,
            path(json!({"type": "ReplaceFullPath", "replaceFullPath": "/x"})),
            filters(&json!([{"type": "URLRewrite", "urlRewrite": {}}])),
            "spec.rules[0].filters[0].urlRewrite: a URLRewrite must change something",
        ),
        (
            "a prefix replacement has its prefix",
            Kind::GatewayRoute,
            path(json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"})),
            path(json!({"type": "ReplacePrefixMatch"})),
            "spec.rules[0].filters[0].urlRewrite.path: replacePrefixMatch must be set exactly when type is \
             ReplacePrefixMatch",
        ),
        (
            "a full path is named",
            Kind::GatewayRoute,
            path(json!({"type": "ReplaceRegex", "regex": "a", "substitution": "b"})),
            path(json!({"type": "ReplaceRegex", "regex": "a", "substitution": "b", "replaceFullPath": "/"})),
            "spec.rules[0].filters[0].urlRewrite.path: replaceFullPath must be set exactly when type is \
             ReplaceFullPath",
        ),
        (
            "an expression has a substitution",
            Kind::GatewayRoute,
            path(json!({"type": "ReplaceRegex", "regex": "a", "substitution": ""})),
            path(json!({"type": "ReplaceRegex", "regex": "a"})),
            regex,
        ),
        (
            "a substitution needs an expression",
            Kind::GatewayRoute,
            path(json!({"type": "ReplaceFullPath", "replaceFullPath": "/"})),
            path(json!({"type": "ReplaceFullPath", "replaceFullPath": "/", "regex": "a"})),
            regex,
        ),
        (
            "each type stands once",
            Kind::GatewayRoute,
            filters(&json!([{"type": "CORS", "cors": {}}, {"type": "URLRewrite", "urlRewrite": {"hostname": "h"}}])),
            filters(&json!([{"type": "CORS", "cors": {}}, {"type": "CORS", "cors": {}}])),
            "spec.rules[0].filters[1]: has the same type \"CORS\" as an earlier entry",
        ),
    ]);
    check(&rows);
}

#[test]
fn the_rules_that_bind_filters_to_their_rule_hold() {
    let redirect = json!({"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}});
    let answer = json!({"type": "DirectResponse", "directResponse": {"statusCode": 200}});
    let rewrite = json!({"type": "URLRewrite", "urlRewrite": {"hostname": "h"}});
    let backends = json!([{"name": "s", "port": 80}]);
    let message = "spec.rules[0]: a rule with RequestRedirect or DirectResponse answers by itself";
    let prefix = json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"});
    let prefixes = json!([{}, {"path": {}}, {"path": {"value": "/b"}}]);
    let mixed = json!([{"path": {"value": "/b"}}, {"path": {"type": "Exact", "value": "/c"}}]);
    let matched = |matches: &Value, filter: Value| rule(&json!({"matches": matches, "filters": [filter]}));
    let rewriting = json!({"type": "URLRewrite", "urlRewrite": {"path": prefix}});
    let redirecting = json!({"type": "RequestRedirect", "requestRedirect": {"path": prefix}});
    let needs_prefix = "spec.rules[0]: ReplacePrefixMatch needs every match of its rule to be a PathPrefix";
    check(&[
        (
            "a redirect takes no backends",
            Kind::GatewayRoute,
            rule(&json!({"filters": [redirect], "backendRefs": []})),
            rule(&json!({"filters": [redirect], "backendRefs": backends})),
            message,
        ),
        (
            "a direct response takes no backends",
            Kind::GatewayRoute,
            rule(&json!({"filters": [rewrite], "backendRefs": backends})),
            rule(&json!({"filters": [answer], "backendRefs": backends})),
            message,
        ),
        (
            "one of the filters that end a request",
            Kind::GatewayRoute,
            rule(&json!({"filters": [redirect, {"type": "CORS", "cors": {}}]})),
            rule(&json!({"filters": [redirect, rewrite]})),
            "spec.rules[0]: at most one of RequestRedirect, DirectResponse and URLRewrite may stand in a rule",
        ),
        (
            "a rewritten prefix was matched",
            Kind::GatewayRoute,
            matched(&prefixes, rewriting.clone()),
            matched(&mixed, rewriting),
            needs_prefix,
        ),
        (
            "a redirected prefix was matched",
            Kind::GatewayRoute,
            matched(&prefixes, redirecting.clone()),
            matched(&mixed, redirecting),
            needs_prefix,
        ),
    ]);
}

#[test]
fn the_rules_of_providers_hold() {
    let jwks = "spec.jwtProviders[0].jwks: exactly one of secretRef, configMapRef and inline must be set";
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
    let something = "auth needs jwt or authorization, or else disabled: true";
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
fn the_rules_of_backends_and_durations_hold() {
    let backend = |backend: Value| rule(&json!({"backendRefs": [backend]}));
    let eject = |time: &str| rule(&json!({"healthCheck": {"passive": {"ejectFor": time}}}));
    let backoff = |backoff: Value| rule(&json!({"retry": {"backoff": backoff}}));
    let either = "spec.rules[0].backendRefs[0]: exactly one of name (a Service) and address must be set";
    let eject_for = "spec.rules[0].healthCheck.passive.ejectFor: ejectFor is 1s to 1h";
    let cors = |time: &str| filters(&json!([{"type": "CORS", "cors": {"maxAge": time}}]));
    check(&[
        (
            "a backend has one name",
            Kind::GatewayRoute,
            backend(json!({"address": "::1", "port": 1})),
            backend(json!({"port": 1})),
            either,
        ),
        (
            "and not two",
            Kind::GatewayRoute,
            backend(json!({"name": "s", "namespace": "n", "port": 1})),
            backend(json!({"name": "s", "address": "a", "port": 1})),
            either,
        ),
        (
            "an address has no namespace",
            Kind::GatewayRoute,
            backend(json!({"address": "a.example", "port": 1})),
            backend(json!({"address": "a.example", "port": 1, "namespace": "n"})),
            "spec.rules[0].backendRefs[0]: an address has no namespace",
        ),
        (
            "a connection takes some time",
            Kind::GatewayRoute,
            rule(&json!({"timeouts": {"connect": "1ms", "request": "0s"}})),
            rule(&json!({"timeouts": {"connect": "0s"}})),
            "spec.rules[0].timeouts.connect: connect is at least 1ms",
        ),
        ("an ejection ends", Kind::GatewayRoute, eject("1h"), eject("1h1ms"), eject_for),
        ("an ejection lasts", Kind::GatewayRoute, eject("1s"), eject("999ms"), eject_for),
        (
            "a backoff grows",
            Kind::GatewayRoute,
            backoff(json!({"base": "1s", "max": "1s"})),
            backoff(json!({"base": "1s"})),
            "spec.rules[0].retry.backoff: backoff.base is at most backoff.max",
        ),
        (
            "a backoff is bounded",
            Kind::GatewayRoute,
            backoff(json!({"max": "60s"})),
            backoff(json!({"max": "61s"})),
            "spec.rules[0].retry.backoff.max: backoff.max is at most 60s",
        ),
        (
            "a preflight is asked again",
            Kind::GatewayRoute,
            cors("24h"),
            cors("24h1s"),
            "spec.rules[0].filters[0].cors.maxAge: maxAge is at most 24h",
        ),
    ]);
}

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

#[test]
fn a_rate_of_no_requests_is_admitted_and_one_of_fewer_is_not() {
    let rate = |requests: i64| limits(&json!({"rates": [{"requests": requests, "per": "1s"}]}));
    let want = "spec.limits[0].rates[0].requests: is -1, less than 0";
    check(&[("requests", Kind::RateLimitPolicy, rate(0), rate(-1), want)]);
}

#[test]
fn the_rules_of_limits_hold() {
    let key = |key: Value| limits(&json!({"keys": [key]}));
    let rate = |per: &str| limits(&json!({"rates": [{"requests": 1, "per": per}]}));
    let per = "spec.limits[0].rates[0].per: per is 1s to 744h";
    let target = |kind: &str, group: &str| json!({"group": group, "kind": kind, "name": "o"});
    let route = target("GatewayRoute", "gateway.baribhara.io");
    let section = with(route.clone(), &json!({"sectionName": "s"}));
    let group = "spec.targetRefs[0]: group does not fit kind";
    check(&[
        (
            "a header key names a header",
            Kind::RateLimitPolicy,
            key(json!({"type": "Header", "name": "x"})),
            key(json!({"type": "Header"})),
            "spec.limits[0].keys[0]: a Header key needs name and no other key takes one",
        ),
        (
            "a claim key names a claim",
            Kind::RateLimitPolicy,
            key(json!({"type": "JWTClaim", "claim": "sub", "provider": "p"})),
            key(json!({"type": "Path", "claim": "sub"})),
            "spec.limits[0].keys[0]: a JWTClaim key needs claim and no other key takes one",
        ),
        (
            "only claims have a provider",
            Kind::RateLimitPolicy,
            key(json!({"type": "Host"})),
            key(json!({"type": "Host", "provider": "p"})),
            "spec.limits[0].keys[0]: only a JWTClaim key takes provider",
        ),
        (
            "only addresses have prefixes",
            Kind::RateLimitPolicy,
            key(json!({"type": "ClientIP", "ipv4Prefix": 24, "ipv6Prefix": 0})),
            key(json!({"type": "Method", "ipv6Prefix": 48})),
            "spec.limits[0].keys[0]: only a ClientIP key takes ipv4Prefix and ipv6Prefix",
        ),
        ("a second at least", Kind::RateLimitPolicy, rate("1s"), rate("999ms"), per),
        ("a month at most", Kind::RateLimitPolicy, rate("744h"), rate("744h1ms"), per),
        (
            "a target stands once",
            Kind::RateLimitPolicy,
            targets(&json!([route, section])),
            targets(&json!([section, section])),
            "spec.targetRefs: a target stands twice in targetRefs",
        ),
        (
            "the group of a route",
            Kind::RateLimitPolicy,
            targets(&json!([route])),
            targets(&json!([target("GatewayRoute", "networking.k8s.io")])),
            group,
        ),
        (
            "the group of an Ingress",
            Kind::AuthPolicy,
            policy(&json!({})),
            policy(&json!({"targetRefs": [target("Ingress", "gateway.baribhara.io")]})),
            group,
        ),
        (
            "a policy's target stands once",
            Kind::AuthPolicy,
            policy(&json!({"targetRefs": [route]})),
            policy(&json!({"targetRefs": [route, route]})),
            "spec.targetRefs: a target stands twice in targetRefs",
        ),
    ]);
}

#[test]
fn every_rule_of_the_definitions_is_compiled() {
    fn count(value: &Value) -> usize {
        match value {
            Value::Object(fields) => {
                let here =
                    fields.get("x-kubernetes-validations").and_then(Value::as_array).map_or(0, Vec::len);
                here + fields.values().map(count).sum::<usize>()
            }
            Value::Array(items) => items.iter().map(count).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }
    fn compiled(node: &Node) -> usize {
        let below = match &node.shape {
            node::Shape::Object { properties, .. } => properties.values().map(compiled).sum(),
            node::Shape::List { items, .. } => compiled(items),
            node::Shape::Text(_)
            | node::Shape::Integer(_)
            | node::Shape::IntOrString(..)
            | node::Shape::Boolean => 0,
        };
        node.rules.len() + below
    }
    let written: usize = api::crds().iter().map(|crd| count(&serde_json::to_value(crd).expect("JSON"))).sum();
    assert_eq!(schemas().kinds.iter().map(|(_, node)| compiled(node)).sum::<usize>(), written);
    assert!(written > 50, "{written}");
}

#[test]
fn the_structure_is_checked_as_an_api_server_does() {
    let rows = [
        ("no rules", json!({}), vec!["spec.rules: is required"]),
        ("an empty list", json!({"rules": []}), vec!["spec.rules: has 0 items, fewer than 1"]),
        ("a null for a required field", json!({"rules": null}), vec!["spec.rules: is required"]),
        ("a text for a list", json!({"rules": "x"}), vec!["spec.rules: must be a list, but is a text"]),
        (
            "a list for a mapping",
            json!({"rules": [[]]}),
            vec!["spec.rules[0]: must be a mapping, but is a list"],
        ),
        ("a null entry", json!({"rules": [null]}), vec!["spec.rules[0]: must be a mapping, but is null"]),
        (
            "a number for a text",
            json!({"rules": [{"name": 5}]}),
            vec!["spec.rules[0].name: must be a text, but is a number"],
        ),
        (
            "a text for a number",
            rule(&json!({"backendRefs": [{"name": "s", "port": "80"}]})),
            vec!["spec.rules[0].backendRefs[0].port: must be a whole number, but is a text"],
        ),
        (
            "a fraction for a number",
            rule(&json!({"backendRefs": [{"name": "s", "port": 80.5}]})),
            vec!["spec.rules[0].backendRefs[0].port: must be a whole number, but is a number"],
        ),
        (
            "a text for a boolean",
            rule(&json!({"matches": [{"path": {"caseSensitive": "no"}}]})),
            vec!["spec.rules[0].matches[0].path.caseSensitive: must be a boolean, but is a text"],
        ),
        (
            "several at once",
            json!({"rules": [{"name": "a", "backendRefs": [{"name": "S", "port": 0, "weight": 1_000_001}]}, {}]}),
            vec![
                "spec.rules[0].backendRefs[0].name: does not have the form ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
                "spec.rules[0].backendRefs[0].port: is 0, less than 1",
                "spec.rules[0].backendRefs[0].weight: is 1000001, more than 1000000",
                "spec.rules[1].name: is required",
            ],
        ),
    ];
    for (name, spec, want) in rows {
        assert_eq!(errors(Kind::GatewayRoute, &spec), want, "{name}");
    }
}

#[test]
fn choices_and_keys_are_checked_as_an_api_server_does() {
    let rows = [
        (
            "two rules of one name",
            json!({"rules": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}),
            vec!["spec.rules[2]: has the same name \"a\" as an earlier entry"],
        ),
        (
            "an element twice in a set",
            route(&json!({"hostnames": ["a", "b", "a"]})),
            vec!["spec.hostnames[2]: \"a\" stands in the list already"],
        ),
        (
            "an unknown choice",
            rule(&json!({"loadBalancing": {"policy": "leastrequest"}})),
            vec!["spec.rules[0].loadBalancing.policy: \"leastrequest\" is not known"],
        ),
        (
            "an unknown number",
            filters(&json!([{"type": "RequestRedirect", "requestRedirect": {"statusCode": 305}}])),
            vec!["spec.rules[0].filters[0].requestRedirect.statusCode: 305 is not among the allowed values"],
        ),
        (
            "a number beyond every integer",
            rule(&json!({"circuitBreaker": {"maxRequests": u64::MAX}})),
            vec!["spec.rules[0].circuitBreaker.maxRequests: is 9223372036854775807, more than 1000000"],
        ),
    ];
    for (name, spec, want) in rows {
        assert_eq!(errors(Kind::GatewayRoute, &spec), want, "{name}");
    }
    let without_spec = json!({"metadata": {"name": "o"}});
    let violations = schemas().admit(Kind::AuthPolicy, without_spec).expect_err("refused");
    assert_eq!(violations.first().map(|v| v.path.as_str()), Some("spec"));
    let violations = schemas().admit(Kind::AuthPolicy, json!([])).expect_err("refused");
    assert_eq!(violations.first().map(|v| v.message.as_str()), Some("must be a mapping, but is a list"));
}

#[test]
fn bounds_are_inclusive() {
    let names =
        |count: usize| -> Vec<Value> { (0..count).map(|i| json!({"name": format!("r{i}")})).collect() };
    let hosts =
        |count: usize| route(&json!({"hostnames": (0..count).map(|i| format!("h{i}")).collect::<Vec<_>>()}));
    let port = |port: i64| rule(&json!({"backendRefs": [{"name": "s", "port": port}]}));
    let host = |label: usize| route(&json!({"hostnames": ["h".repeat(label)]}));
    let umlauts = |count: usize| provider(&json!({"issuer": "ü".repeat(count)}));
    let body = |body: Value| rule(&json!({"maxRequestBody": body}));
    let pairs = [
        (json!({"rules": names(64)}), json!({"rules": names(65)})),
        (hosts(64), hosts(65)),
        (port(1), port(0)),
        (port(65_535), port(65_536)),
        (port(80), port(-80)),
        (host(253), host(254)),
        (umlauts(512), umlauts(513)),
        (umlauts(1), umlauts(0)),
        (
            matching(&json!({"path": {"value": "/".repeat(1024)}})),
            matching(&json!({"path": {"value": "/".repeat(1025)}})),
        ),
        (rule(&json!({"retry": {"attempts": 10}})), rule(&json!({"retry": {"attempts": 11}}))),
        (rule(&json!({"retry": {"on": ["500-599", "503"]}})), rule(&json!({"retry": {"on": ["200"]}}))),
        (body(json!("8Mi")), body(json!("8MB"))),
        (body(json!(0)), body(json!(-1))),
        (body(json!("0")), body(json!(true))),
        (body(json!(999_999_999_999_999_u64)), body(json!(1_000_000_000_000_000_u64))),
        (rule(&json!({"timeouts": {"request": "1h30m"}})), rule(&json!({"timeouts": {"request": "1.5h"}}))),
        (
            rule(&json!({"ipAccess": {"deny": ["10.0.0.0/8", "::/0"]}})),
            rule(&json!({"ipAccess": {"deny": ["ten"]}})),
        ),
        (route(&json!({"hostnames": ["*.a.example"]})), route(&json!({"hostnames": ["a.*.example"]}))),
        (
            route(&json!({"hostnames": ["xn--bcher-kva.example"]})),
            route(&json!({"hostnames": ["Shop.example"]})),
        ),
        (
            filters(&json!([{"type": "CORS", "cors": {"allowOrigins": ["https://*.a.example:8443", "*"]}}])),
            filters(&json!([{"type": "CORS", "cors": {"allowOrigins": ["a.example"]}}])),
        ),
        (
            filters(
                &json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"add": [{"name": "a", "value": "b c"}]}}]),
            ),
            filters(
                &json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"add": [{"name": "a", "value": "b\r\nc"}]}}]),
            ),
        ),
    ];
    for (good, bad) in pairs {
        assert_eq!(errors(Kind::GatewayRoute, &good), Vec::<String>::new(), "{good}");
        assert_eq!(errors(Kind::GatewayRoute, &bad).len(), 1, "{bad}");
    }
}

#[test]
fn defaults_come_in_and_nulls_go() {
    let spec = json!({
        "defaults": null,
        "hostnames": null,
        "jwtProviders": [{"name": "p", "issuer": "i", "jwks": {"secretRef": {"name": "s", "key": null}}, "algorithms": ["HS256"], "from": null}],
        "rules": [{
            "name": "r",
            "matches": [{"path": {"value": "/a"}, "headers": [{"name": "x", "value": "1"}]}, {"path": {}}],
            "retry": {},
            "healthCheck": {"passive": {"consecutive5xx": 0}},
            "loadBalancing": {},
            "backendRefs": [{"name": "s", "port": 8080.0}],
        }],
    });
    let admitted = admit(Kind::GatewayRoute, &spec).expect("admitted");
    assert_eq!(admitted.pruned, []);
    let want = json!({
        "jwtProviders": [{
            "name": "p", "issuer": "i", "jwks": {"secretRef": {"name": "s", "key": "jwks.json"}},
            "algorithms": ["HS256"], "anyIssuer": false, "clockSkew": "30s", "forwardToken": true,
            "from": [{"header": {"name": "Authorization", "prefix": "Bearer "}}],
        }],
        "rules": [{
            "name": "r",
            "matches": [
                {"path": {"type": "PathPrefix", "value": "/a", "caseSensitive": true}, "headers": [{"name": "x", "type": "Exact", "value": "1"}]},
                {"path": {"type": "PathPrefix", "value": "/", "caseSensitive": true}},
            ],
            "retry": {
                "attempts": 1, "on": ["ConnectFailure", "Reset"], "methods": ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"],
                "backoff": {"base": "25ms", "max": "250ms"}, "budgetPercent": 20, "differentEndpoint": true,
            },
            "healthCheck": {"passive": {"consecutive5xx": 0, "consecutiveConnectFailures": 3, "ejectFor": "30s", "maxEjectedPercent": 50}},
            "loadBalancing": {"policy": "RoundRobin"},
            "backendRefs": [{"name": "s", "port": 8080, "weight": 1}],
        }],
    });
    assert_eq!(admitted.object["spec"], want);
    let limits = admit(Kind::RateLimitPolicy, &limits(&json!({}))).expect("admitted").object;
    assert_eq!(limits["spec"]["mode"], json!("Enforce"));
    assert_eq!(limits["spec"]["limits"][0]["maxKeys"], json!(100_000));
}

#[test]
fn the_types_read_what_is_admitted_and_add_no_default_of_their_own() {
    let spec = with(
        provider(&json!({})),
        &json!({"rules": [{"name": "r", "auth": {"disabled": true}, "retry": {}, "maxRequestBody": "1Ki", "healthCheck": {"passive": {}}}]}),
    );
    let admitted = admit(Kind::GatewayRoute, &spec).expect("admitted").object;
    let typed: api::GatewayRoute = serde_json::from_value(admitted.clone()).expect("read");
    let again =
        with(serde_json::to_value(&typed).expect("written"), &json!({"metadata": admitted["metadata"]}));
    let mut want = admitted;
    // A quantity is written as its number of bytes.
    want["spec"]["rules"][0]["maxRequestBody"] = json!("1024");
    assert_eq!(again, want);
}

#[test]
fn unknown_fields_are_taken_out_and_named_but_not_the_status() {
    let spec = json!({
        "hostname": ["a"],
        "rules": [{
            "name": "r",
            "mathces": [],
            "retry": {"true": ["Reset"]},
            "backendRefs": [{"name": "s", "port": 80, "a/b": {"c": 1}}],
        }],
    });
    let mut object = object(Kind::GatewayRoute, &spec);
    object["status"] = json!({});
    object["metadata"]["anything"] = json!(1);
    let admitted = schemas().admit(Kind::GatewayRoute, object).expect("admitted");
    let pruned: Vec<_> =
        admitted.pruned.iter().map(|field| format!("{}: {}", &**field, field.remedy)).collect();
    assert_eq!(
        pruned,
        [
            "spec.hostname: did you mean hostnames?",
            "spec.rules[0].mathces: did you mean matches?",
            "spec.rules[0].backendRefs[0][a/b]: remove it or correct its name",
            "spec.rules[0].retry.true: write \"on\" in quotes",
        ]
    );
    let want = json!({"name": "s", "port": 80, "weight": 1});
    assert_eq!(admitted.object["spec"]["rules"][0]["backendRefs"][0], want);
    assert_eq!(admitted.object["metadata"]["anything"], json!(1));
    let names: Vec<_> = admitted.object.as_object().expect("a mapping").keys().collect();
    assert_eq!(names, ["apiVersion", "kind", "metadata", "spec"]);
}

#[test]
fn a_violation_says_what_to_do_and_repeats_no_header_value() {
    let secret = "canary-5f1e\u{7}";
    let spec = filters(&json!([
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "authorization", "value": secret}]}},
        {"type": "Cors", "cors": {}},
    ]));
    let violations = admit(Kind::GatewayRoute, &spec).expect_err("refused");
    assert!(violations.iter().all(|violation| !violation.remedy.is_empty()), "{violations:?}");
    assert!(!format!("{violations:?}").contains("canary"), "{violations:?}");
    assert_eq!(violations[1].remedy, "did you mean CORS?");
}

#[test]
fn a_keyword_or_rule_that_cannot_be_enforced_is_refused_at_once() {
    let compile = |schema: Value| Node::compile(&schema, "T", "").map(drop);
    let object = |rule: &str| {
        json!({
            "type": "object",
            "properties": {
                "a": {"type": "string"}, "o": {"type": "object", "properties": {}},
                "l": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            },
            "x-kubernetes-validations": [{"rule": rule, "message": "m; r"}],
        })
    };
    let good =
        ["self.a == 'x'", "has(self.o)", "size(self.l) > 0", "self.l.filter(x, x.a == 'y').size() == 1"];
    for rule in good {
        assert_eq!(compile(object(rule)), Ok(()), "{rule}");
    }
    let bad = [
        json!({"type": "string", "format": "date-time", "contentEncoding": "x"}),
        json!({"type": "string", "pattern": "("}),
        json!({"type": "number"}),
        json!({"type": "object", "properties": {}, "additionalProperties": true}),
        json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "bag"}),
        json!({"type": "string", "nullable": true}),
        json!(true),
        object("self.b == 'x'"),
        object("has(self.a.b)"),
        object("self.o == self.o"),
        object("self.l == []"),
        object("other == 1"),
        object("self.a =="),
        object("self.l.filter(x, true)[0].a == 'x'"),
        json!({"type": "string", "x-kubernetes-validations": [{"rule": "true", "message": "m", "fieldPath": ".a"}]}),
    ];
    for schema in bad {
        assert!(compile(schema.clone()).is_err(), "{schema}");
    }
}

#[test]
fn a_rule_that_cannot_be_evaluated_refuses() {
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "x-kubernetes-validations": [
            {"rule": "duration(self.a) > duration('1s')", "message": "m; r"},
            {"rule": "noSuchFunction(self.a)", "message": "n; r"},
        ],
    });
    let node = Node::compile(&schema, "T", "").expect("compiles");
    let violations = check::root(&node, &json!({"a": "no time"}), &schemas().context);
    assert_eq!(violations.len(), 2, "{violations:?}");
    assert!(violations[0].message.ends_with("could not be evaluated"), "{violations:?}");
}

#[test]
fn objects_of_other_kinds_pass_untouched() {
    let object = json!({"spec": {"anything": [null]}});
    assert_eq!(schemas().admit(Kind::Ingress, object.clone()), Ok(Admitted { object, pruned: Vec::new() }));
}

#[test]
fn the_number_of_violations_is_bounded() {
    let rules: Vec<_> = (0..10_000).map(|_| json!(0)).collect();
    assert_eq!(errors(Kind::GatewayRoute, &json!({"rules": rules})).len(), 100);
}

/// What a route costs to admit. The bound is loose, so that it fails only on a change of kind; the number is
/// printed.
#[test]
fn a_typical_route_is_admitted_in_microseconds() {
    let object = object(
        Kind::GatewayRoute,
        &json!({
            "hostnames": ["shop.example.com"],
            "rules": [
                {
                    "name": "cart",
                    "matches": [{"path": {"type": "PathPrefix", "value": "/cart"}, "methods": ["GET", "POST"]}],
                    "timeouts": {"request": "30s"},
                    "backendRefs": [{"name": "cart", "port": 80, "weight": 90}, {"name": "cart-canary", "port": 80, "weight": 10}],
                },
                {
                    "name": "assets",
                    "matches": [{"path": {"type": "PathPrefix", "value": "/assets"}, "headers": [{"name": "x-version", "value": "2"}]}],
                    "filters": [{"type": "CORS", "cors": {"allowOrigins": ["https://*.example.com"], "maxAge": "10m"}}],
                    "backendRefs": [{"name": "assets", "port": 80}],
                },
            ],
        }),
    );
    let rounds = 2_000_u32;
    let mut best = std::time::Duration::MAX;
    for _ in 0..3 {
        let objects: Vec<_> = (0..rounds).map(|_| object.clone()).collect();
        let start = std::time::Instant::now();
        for object in objects {
            assert!(schemas().admit(Kind::GatewayRoute, object).is_ok());
        }
        best = best.min(start.elapsed() / rounds);
    }
    println!("a typical GatewayRoute is admitted in {best:?}");
    assert!(best < std::time::Duration::from_millis(1), "{best:?}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let names = proptest::sample::select(vec![
        "spec",
        "rules",
        "name",
        "matches",
        "path",
        "type",
        "value",
        "filters",
        "cors",
        "backendRefs",
        "port",
        "auth",
        "retry",
        "on",
        "maxRequestBody",
        "limits",
        "rates",
        "per",
        "keys",
        "targetRefs",
        "jwks",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        proptest::sample::select(vec!["Exact", "CORS", "/a", "1s", "8Mi", "a"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 96, 5, move |inner| {
        let fields = proptest::collection::vec((names.clone(), inner.clone()), 0..6);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            fields.prop_map(|fields| Value::Object(
                fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_object_causes_a_panic_and_what_is_admitted_is_admitted_again(
        spec in any_json(),
        kind in proptest::sample::select(vec![Kind::GatewayRoute, Kind::RateLimitPolicy, Kind::AuthPolicy]),
    ) {
        if let Ok(admitted) = admit(kind, &spec) {
            let again = schemas().admit(kind, admitted.object.clone());
            prop_assert_eq!(again, Ok(Admitted { object: admitted.object, pruned: Vec::new() }));
        }
        drop(schemas().admit(kind, spec));
    }

    #[test]
    fn any_rule_is_refused_or_read_by_the_types(change in any_json()) {
        let change = if change.is_object() { change } else { json!({ "matches": change }) };
        if let Ok(admitted) = admit(Kind::GatewayRoute, &rule(&change)) {
            let typed = serde_json::from_value::<api::GatewayRoute>(admitted.object.clone());
            prop_assert!(typed.is_ok(), "{}: {:?}", admitted.object, typed.err());
        }
    }
}
