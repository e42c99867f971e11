//! What a definition says without a rule: types, required fields, choices, bounds, defaults, unknown fields.

use super::*;

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
    check_pairs(&pairs);
}

/// The first of a pair is taken, the second has one fault.
fn check_pairs(pairs: &[(Value, Value)]) {
    for (good, bad) in pairs {
        assert_eq!(errors(Kind::GatewayRoute, good), Vec::<String>::new(), "{good}");
        assert_eq!(errors(Kind::GatewayRoute, bad).len(), 1, "{bad}");
    }
}

#[test]
fn what_balancing_and_affinity_need_and_exclude_is_checked() {
    check_pairs(&[
        (
            rule(&json!({"loadBalancing": {"policy": "ConsistentHash", "hashOn": {"type": "SourceIP"}}})),
            rule(&json!({"loadBalancing": {"policy": "ConsistentHash"}})),
        ),
        (
            rule(&json!({"loadBalancing": {"policy": "EWMA", "slowStart": "30s"}})),
            rule(&json!({"loadBalancing": {"policy": "EWMA", "slowStart": "30ms"}})),
        ),
        (
            rule(
                &json!({"loadBalancing": {"policy": "ConsistentHash", "hashOn": {"type": "Cookie", "name": "s"}}}),
            ),
            rule(&json!({"loadBalancing": {"policy": "ConsistentHash", "hashOn": {"type": "Cookie"}}})),
        ),
        (
            rule(&json!({"loadBalancing": {"policy": "ConsistentHash", "hashOn": {"type": "URI"}}})),
            rule(
                &json!({"loadBalancing": {"policy": "ConsistentHash", "hashOn": {"type": "URI", "name": "x"}}}),
            ),
        ),
        (rule(&json!({"loadBalancing": {}})), rule(&json!({"loadBalancing": {"hashOn": {"type": "Path"}}}))),
        (
            rule(&json!({"affinity": {"cookie": {"sameSite": "None"}}})),
            rule(&json!({"affinity": {"cookie": {"sameSite": "None", "secure": false}}})),
        ),
        (
            rule(&json!({"affinity": {"cookie": {"path": "/a", "domain": ""}}})),
            rule(&json!({"affinity": {"cookie": {"path": "/a;b"}}})),
        ),
        (
            rule(&json!({"affinity": {"cookie": {"ttl": "9600h"}}})),
            rule(&json!({"affinity": {"cookie": {"ttl": "9601h"}}})),
        ),
    ]);
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
            "loadBalancing": {"policy": "RoundRobin", "zone": "Any"},
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
