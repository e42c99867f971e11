//! Tests of the annotations that hold a field of a rule: what they mean, and what refuses them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::json;
use translate::RuleNotes;

use super::*;

static SCHEMAS: LazyLock<Schemas> = LazyLock::new(|| Schemas::compile(|_, _, _| Ok(None)));

fn notes(annotations: &[(&str, &str)]) -> Option<RuleNotes> {
    let all = annotations.iter().map(|(name, text)| (format!("{}/{name}", api::GROUP), (*text).to_owned()));
    read(Some(&all.collect()), &SCHEMAS)
}

/// `annotation: field: message; remedy` of everything that is wrong.
fn wrong(name: &str, text: &str) -> Vec<String> {
    let notes = notes(&[(name, text)]).expect("there is one");
    assert_eq!(notes.rule, api::RouteRule::default(), "{text:?} is refused as a whole");
    let line = |note: &RefusedNote| {
        let name = note.annotation.strip_prefix("gateway.baribhara.io/").unwrap_or_default();
        format!("{name}: {}: {}; {}", note.field, note.message, note.remedy)
    };
    notes.refused.iter().map(line).collect()
}

#[test]
fn an_ingress_without_such_annotations_has_nothing() {
    assert_eq!(read(None, &SCHEMAS), None);
    assert_eq!(read(Some(&BTreeMap::new()), &SCHEMAS), None);
    assert_eq!(notes(&[("backend-protocol", "H2C"), ("auth-type", "basic")]), None);
}

#[test]
fn every_annotation_means_the_field_of_a_rule() {
    let written = notes(&[
        ("timeouts", "{connect: 1s, perTry: 2s}"),
        ("retry", "attempts: 2\non: [Reset, \"503\"]\n"),
        ("circuit-breaker", r#"{"failures": {"consecutive": 50}}"#),
        ("health-check", "active: {path: /healthz, interval: 5s}\npanicThreshold: 40"),
        ("load-balancing", "{policy: ConsistentHash, hashOn: {type: Header, name: X-User}}"),
        ("filters", "- type: CORS\n  cors: {allowOrigins: [\"*\"]}\n- type: GRPCWeb\n"),
        ("ip-access", "{deny: [192.0.2.0/24]}"),
        ("max-request-body", "8Mi"),
    ]);
    let written = written.expect("some are there");
    assert_eq!(written.refused, []);
    let rule = json!({
        "name": "",
        "timeouts": {"connect": "1s", "perTry": "2s"},
        "retry": {"attempts": 2, "on": ["Reset", "503"]},
        "circuitBreaker": {"failures": {"consecutive": 50}},
        "healthCheck": {"active": {"path": "/healthz", "interval": "5s"}, "panicThreshold": 40},
        "loadBalancing": {"policy": "ConsistentHash", "hashOn": {"type": "Header", "name": "X-User"}},
        "filters": [{"type": "CORS", "cors": {"allowOrigins": ["*"]}}, {"type": "GRPCWeb"}],
        "ipAccess": {"deny": ["192.0.2.0/24"]},
        "maxRequestBody": "8Mi",
    });
    let rule: api::RouteRule = serde_json::from_value(rule).expect("a rule");
    assert_eq!(written.rule, rule, "with the defaults that the definition has");
}

#[test]
fn what_the_definition_refuses_is_refused_and_named() {
    let rows: [(&str, &str, &str); 19] = [
        ("retry", "{attemps: 2}", "retry: attemps: unknown field; did you mean attempts?"),
        ("retry", "{attempts: two}", "retry: attempts: must be a whole number, but is a text"),
        ("retry", "{attempts: 11}", "retry: attempts: is 11, more than 10"),
        ("retry", "{on: [Boom]}", "retry: on[0]: does not have the form"),
        ("retry", "[]", "retry: : must be a mapping, but is a list"),
        ("retry", "{backoff: {base: 1s, max: 1ms}}", "retry: backoff: backoff.base is at most backoff.max"),
        ("timeouts", "{request: 10}", "timeouts: request: must be a text, but is a number; put it in quotes"),
        ("timeouts", "{request: soon}", "timeouts: request: "),
        ("timeouts", "", "timeouts: : is empty"),
        ("timeouts", "~", "timeouts: : is empty"),
        ("circuit-breaker", "{failures: {}}", "failures says nothing that could open the breaker"),
        ("circuit-breaker", "{maxRequests: 0}", "circuit-breaker: maxRequests: is 0, less than 1"),
        (
            "health-check",
            "{active: {interval: 1ms}}",
            "health-check: active.interval: interval is 100ms to 1h",
        ),
        ("health-check", "{active: {service: x}}", "health-check: active: service is for the type GRPC"),
        ("load-balancing", "{policy: Fastest}", "load-balancing: policy: \"Fastest\" is not known"),
        ("load-balancing", "{policy: ConsistentHash}", "policy ConsistentHash and hashOn go together"),
        ("filters", "{type: GRPCWeb}", "filters: : must be a list, but is a mapping"),
        ("ip-access", "{deny: [home]}", "ip-access: deny[0]: does not have the form"),
        ("max-request-body", "8 Mi", "max-request-body: : does not have the form"),
    ];
    for (name, text, want) in rows {
        let lines = wrong(name, text);
        assert!(lines.iter().any(|line| line.contains(want)), "{name}: {text}: {lines:?}");
    }
}

#[test]
fn filters_are_judged_one_by_one_and_together() {
    let rows = [
        ("[{type: Fualt}]", "filters: [0].type: \"Fualt\" is not known; did you mean Fault?"),
        ("[{type: CORS}]", "filters: [0]: cors must be set exactly when type is CORS"),
        (
            "[{type: GRPCWeb}, {type: GRPCWeb}]",
            "filters: [1]: has the same type \"GRPCWeb\" as an earlier entry",
        ),
        (
            "[{type: DirectResponse, directResponse: {statusCode: 204}}, {type: URLRewrite, urlRewrite: {hostname: a.b}}]",
            "filters: : at most one of RequestRedirect, DirectResponse and URLRewrite may stand in a rule",
        ),
        (
            "[{type: Fault, fault: {delay: {duration: 1s, percent: 101}}}]",
            "[0].fault.delay.percent: is 101, more than 100",
        ),
    ];
    for (text, want) in rows {
        let lines = wrong("filters", text);
        assert!(lines.iter().any(|line| line.contains(want)), "{text}: {lines:?}");
    }
}

#[test]
fn a_text_that_is_no_sound_yaml_is_refused_with_its_place() {
    let long = format!("{{connect: 1s}} # {}", "x".repeat(16 << 10));
    let rows = [
        ("{connect: 1s", "timeouts: : line 2, column 1: while parsing a flow mapping"),
        ("connect: 1s\nconnect: 2s\n", "timeouts: : line 2, column 1: a key stands twice in this mapping"),
        ("a: &a {connect: 1s}\n<<: *a\n", "timeouts: : line 2, column 1: merge keys"),
        ("connect: &a 1s\nperTry: *a\n", "timeouts: : line 2, column 9: aliases are not supported here"),
        ("connect: !secret x\n", "timeouts: : line 1, column 10: this tag is not supported"),
        ("connect: 1s\n---\nconnect: 2s\n", "timeouts: : line 3, column 1: a second document begins here"),
        (&long, "timeouts: : has 16400 bytes, more than 16384; write less, or use a GatewayRoute"),
    ];
    for (text, want) in rows {
        let lines = wrong("timeouts", text);
        assert!(
            lines.iter().any(|line| line.contains(want)),
            "{}: {lines:?}",
            text.get(..40).unwrap_or(text)
        );
    }
}

#[test]
fn one_that_is_refused_leaves_the_others_as_they_are() {
    let notes = notes(&[("timeouts", "{connect: 1s}"), ("retry", "{attempts: -1}"), ("filters", "[]")]);
    let notes = notes.expect("some are there");
    assert_eq!(notes.rule.timeouts.and_then(|timeouts| timeouts.connect), api::Duration::parse("1s"));
    assert_eq!(notes.rule.retry, None);
    let refused: Vec<_> = notes.refused.iter().map(|note| note.annotation).collect();
    assert_eq!(refused, [api::RETRY_ANNOTATION]);
}

#[test]
fn every_annotation_names_a_field_that_the_definition_has() {
    for (annotation, field) in api::RULE_ANNOTATIONS {
        let violations = SCHEMAS.admit_rule_field(field, Value::Bool(true)).expect_err("no field takes true");
        let said =
            violations.iter().map(|violation| violation.message.as_str()).collect::<Vec<_>>().join(" | ");
        assert!(said.starts_with("must be"), "{annotation}: {field}: {said}");
    }
}
