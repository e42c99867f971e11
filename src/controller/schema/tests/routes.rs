//! The definitions' rules of matches, filters, backends and durations: each row one that is admitted and one that is not.

use super::*;

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
