//! The definitions' rules of limits and of what they are for.

use super::*;

#[test]
fn a_rate_of_no_requests_is_admitted_and_one_of_fewer_is_not() {
    let rate = |requests: i64| limits(&json!({"rates": [{"requests": requests, "per": "1s"}]}));
    let want = "spec.limits[0].rates[0].requests: is -1, less than 0";
    check(&[("requests", Kind::RateLimitPolicy, rate(0), rate(-1), want)]);
}

#[test]
fn the_rules_of_what_a_key_may_lack_hold() {
    let key = |key: Value| limits(&json!({"keys": [key]}));
    check(&[
        (
            "a parameter key names one, and the key of a rule nothing",
            Kind::RateLimitPolicy,
            key(json!({"type": "QueryParam", "name": "x"})),
            key(json!({"type": "RouteRule", "name": "x"})),
            "spec.limits[0].keys[0]: a Header, Cookie or QueryParam key needs name and no other key takes one",
        ),
        (
            "only what can be missing says what then",
            Kind::RateLimitPolicy,
            key(json!({"type": "Cookie", "name": "x", "onMissing": "Skip"})),
            key(json!({"type": "ClientIP", "onMissing": "Skip"})),
            "spec.limits[0].keys[0]: only a Header, Cookie, QueryParam, JWTClaim or APIKeyClient can be missing",
        ),
    ]);
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
            "spec.limits[0].keys[0]: a Header, Cookie or QueryParam key needs name and no other key takes one",
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
fn what_is_known_after_authentication_is_not_asked_before_it() {
    let limit = |limit: Value| limits(&with(json!({"rates": [{"requests": 1, "per": "1s"}]}), &limit));
    let claims = json!({"claims": [{"claim": "plan", "operator": "Exists"}]});
    let want = "spec.limits[0]: claims and API keys are known after authentication only";
    check(&[
        (
            "conditions on claims",
            Kind::RateLimitPolicy,
            limit(json!({"phase": "PostAuth", "when": claims})),
            limit(json!({"phase": "PreAuth", "when": claims})),
            want,
        ),
        (
            "keys of claims and of API keys",
            Kind::RateLimitPolicy,
            limit(json!({"phase": "PreAuth", "when": {"methods": ["GET"]}, "keys": [{"type": "Path"}]})),
            limit(json!({"phase": "PreAuth", "keys": [{"type": "APIKeyClient", "onMissing": "Skip"}]})),
            want,
        ),
    ]);
}

#[test]
fn only_a_rate_of_gcra_has_a_burst() {
    let rates = |limit: Value, rate: Value| {
        limits(&with(limit, &json!({"rates": [with(json!({"requests": 1, "per": "1m"}), &rate)]})))
    };
    let sliding = json!({"algorithm": "SlidingWindow"});
    check(&[
        (
            "a sliding window",
            Kind::RateLimitPolicy,
            rates(sliding.clone(), json!({"calendar": true})),
            rates(sliding, json!({"burst": 1})),
            "spec.limits[0]: a sliding window has no burst",
        ),
        (
            "a rate of the calendar",
            Kind::RateLimitPolicy,
            rates(json!({"algorithm": "GCRA"}), json!({"calendar": false, "burst": 1})),
            rates(json!({}), json!({"calendar": true, "burst": 1})),
            "spec.limits[0].rates[0]: a rate of the calendar has no burst",
        ),
    ]);
}

#[test]
fn a_limit_has_either_rates_or_concurrency() {
    let limit = |limit: Value| {
        let mut spec = limits(&json!({}));
        spec["limits"] = json!([with(json!({"name": "l"}), &limit)]);
        spec
    };
    let rates = json!([{"requests": 1, "per": "1s"}]);
    let either = "spec.limits[0]: a limit has either rates or concurrency";
    check(&[
        (
            "not both",
            Kind::RateLimitPolicy,
            limit(json!({"concurrency": {"max": 1, "queue": 5}})),
            limit(json!({"concurrency": {"max": 1}, "rates": rates})),
            either,
        ),
        ("not neither", Kind::RateLimitPolicy, limit(json!({"rates": rates})), limit(json!({})), either),
        (
            "a queue is not waited in for ever",
            Kind::RateLimitPolicy,
            limit(json!({"concurrency": {"max": 1, "queueTimeout": "1m"}})),
            limit(json!({"concurrency": {"max": 1, "queueTimeout": "61s"}})),
            "spec.limits[0].concurrency.queueTimeout: queueTimeout is 1ms to 1m",
        ),
        (
            "only rates have a cost",
            Kind::RateLimitPolicy,
            limit(json!({"rates": rates, "cost": {"request": 0, "responseHeader": "X-Cost"}})),
            limit(json!({"concurrency": {"max": 1}, "cost": {"request": 1}})),
            "spec.limits[0]: only rates have a cost",
        ),
        (
            "what costs nothing is told by the answer",
            Kind::RateLimitPolicy,
            limit(json!({"rates": rates, "cost": {"request": 1}})),
            limit(json!({"rates": rates, "cost": {"request": 0}})),
            "spec.limits[0].cost: a request that costs nothing needs responseHeader",
        ),
    ]);
    let response = |response: Value| with(limits(&json!({"rates": rates})), &json!({"response": response}));
    check(&[(
        "the gateway has two bodies",
        Kind::RateLimitPolicy,
        response(json!({"statusCode": 503, "body": {"contentType": "text/html", "text": "x"}})),
        response(json!({"body": {"contentType": "text/html"}})),
        "spec.response.body: the gateway's own body is application/problem+json or text/plain",
    )]);
}
