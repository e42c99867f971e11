//! Bad objects: refused by the API server with our words, or taken and reported in their conditions and once in an
//! Event, while their neighbours live.

use e2e::client::Request;
use e2e::cluster_api::{condition, ours, until_condition};
use e2e::cluster_release::Release;
use e2e::cluster_report::measured;
use e2e::cluster_scene::{End, Scene, until_all, version};
use e2e::cluster_tools::refused;
use e2e::until::until;
use serde_json::{Value, json};

const MESSAGE_BYTES_MAX: usize = 1024;

fn route(name: &str, rule: &str) -> String {
    format!(
        "apiVersion: gateway.baribhara.io/v1alpha1
kind: GatewayRoute
metadata: {{name: {name}, namespace: default}}
spec:
  hostnames: [{name}.example.com]
  rules:
  - name: all
    {rule}
"
    )
}

#[test]
fn the_api_server_refuses_what_the_rules_of_the_crds_refuse_in_our_words() {
    Release::shared();
    let redirect = "{type: RequestRedirect, requestRedirect: {scheme: https}}";
    let direct = "{type: DirectResponse, directResponse: {statusCode: 200}}";
    let cases = [
        (
            route("both", &format!("filters: [{redirect}]\n    backendRefs: [{{name: web, port: 80}}]")),
            "answers by itself; remove backendRefs or that filter",
        ),
        (
            route("two", &format!("filters: [{redirect}, {direct}]")),
            "at most one of RequestRedirect, DirectResponse and URLRewrite",
        ),
        (
            route(
                "prefix",
                "matches: [{path: {type: Exact, value: /a}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]",
            ),
            "ReplacePrefixMatch needs every match of its rule to be a PathPrefix",
        ),
        (route("name", "unknown: 1"), "unknown"),
        (
            route("a", "backendRefs: [{name: web, port: 80}]").replace("name: all", "name: Not_A_Label"),
            "spec.rules[0].name",
        ),
        (
            "apiVersion: gateway.baribhara.io/v1alpha1
kind: GatewayRoute
metadata: {name: defaults, namespace: default}
spec:
  defaults: {auth: {disabled: true}}
  rules: [{name: all, backendRefs: [{name: web, port: 80}]}]
"
            .to_owned(),
            "defaults.auth cannot be disabled, for it has no parent",
        ),
    ];
    for (yaml, want) in &cases {
        let said = refused(yaml);
        assert!(said.contains(want), "{want:?} is not in {said}\n{yaml}");
    }
    measured("bad objects refused by the API server with our words", cases.len(), "all");
}

/// Objects that the API server takes and the gateway cannot serve, wholly or in part.
const BAD: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: keys, namespace: @NAMESPACE@}
data:
  jwks.json: |
    {\"keys\": [{\"kty\": \"EC\", \"crv\": \"P-256\", \"kid\": \"1\",
               \"x\": \"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\",
               \"y\": \"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\"}]}
---
apiVersion: gateway.baribhara.io/v1alpha1
kind: GatewayRoute
metadata: {name: no-service, namespace: @NAMESPACE@}
spec:
  hostnames: [no-service.example.com]
  rules: [{name: all, backendRefs: [{name: nobody, port: 80}]}]
---
apiVersion: gateway.baribhara.io/v1alpha1
kind: GatewayRoute
metadata: {name: bad-regex, namespace: @NAMESPACE@}
spec:
  hostnames: [bad-regex.example.com]
  rules:
  - name: bad
    matches: [{path: {type: RegularExpression, value: \"/a(\"}}]
    backendRefs: [{name: web, port: 80}]
  - name: good
    matches: [{path: {type: PathPrefix, value: /good}}]
    backendRefs: [{name: web, port: 80}]
---
apiVersion: gateway.baribhara.io/v1alpha1
kind: GatewayRoute
metadata: {name: no-keys, namespace: @NAMESPACE@}
spec:
  hostnames: [no-keys.example.com]
  jwtProviders:
  - {name: corp, issuer: \"https://id.example.com/\", algorithms: [ES256], jwks: {secretRef: {name: nowhere}}}
  rules: [{name: all, auth: {jwt: {providers: [corp]}}, backendRefs: [{name: web, port: 80}]}]
---
apiVersion: gateway.baribhara.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: no-target, namespace: @NAMESPACE@}
spec:
  targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: nobody}]
  limits: [{name: one, keys: [{type: ClientIP}], rates: [{requests: 1, per: 1s}]}]
---
apiVersion: gateway.baribhara.io/v1alpha1
kind: AuthPolicy
metadata: {name: no-target, namespace: @NAMESPACE@}
spec:
  targetRefs: [{group: networking.k8s.io, kind: Ingress, name: nobody}]
  jwtProviders:
  - {name: corp, issuer: \"https://id.example.com/\", algorithms: [ES256], jwks: {configMapRef: {name: keys}}}
  auth: {jwt: {providers: [corp]}}
";

/// Kind, name, condition and its reason, and what the message names.
const VERDICTS: [(&str, &str, &str, &str, &str); 5] = [
    ("gatewayroutes", "no-service", "ResolvedRefs", "BackendNotFound", "nobody"),
    ("gatewayroutes", "bad-regex", "Accepted", "PartiallyInvalid", "spec.rules[0].matches[0].path"),
    ("gatewayroutes", "no-keys", "ResolvedRefs", "InvalidReference", "nowhere"),
    ("ratelimitpolicies", "no-target", "Accepted", "TargetNotFound", "nobody"),
    ("authpolicies", "no-target", "Accepted", "TargetNotFound", "nobody"),
];

fn events(scene: &Scene, plural: &str, name: &str) -> Vec<Value> {
    let kind = match plural {
        "gatewayroutes" => "GatewayRoute",
        "ratelimitpolicies" => "RateLimitPolicy",
        _ => "AuthPolicy",
    };
    let all = scene.api.list(&format!("/apis/events.k8s.io/v1/namespaces/{}/events", scene.namespace));
    all.into_iter().filter(|e| e["regarding"]["kind"] == kind && e["regarding"]["name"] == name).collect()
}

#[test]
fn what_the_api_server_takes_and_the_gateway_refuses_stands_in_conditions_and_one_event() {
    let release = Release::shared();
    let scene = Scene::new("refusals");
    scene.echo("web", 1, End::Drains);
    scene.route("neighbour", "neighbour.example.com", "web", &version(1));
    scene.apply(BAD);
    for (plural, name, kind, reason, named) in VERDICTS {
        let path = ours(&scene.namespace, plural, name);
        // A part of a route may still be accepted: then the reason says that it is a part.
        let status = if reason == "PartiallyInvalid" { "True" } else { "False" };
        // A verdict on an object that came before what it names is corrected a second later.
        let found = until(&format!("{plural}/{name}: {kind} is {status}, {reason}"), || {
            let found = condition(&scene.api.get(&path), kind)?.clone();
            (found["status"] == status && found["reason"] == reason).then_some(found)
        });
        let message = found["message"].as_str().unwrap_or_default();
        assert!(message.contains(named), "{plural}/{name}: {message:?} does not name {named:?}");
        assert!(message.len() < MESSAGE_BYTES_MAX, "{plural}/{name}: {} bytes", message.len());
    }

    let pods = release.settled(3);
    let get = |host: &str, path: &str| Request::get(&format!("{host}.example.com"), path);
    until_all(&pods, &get("neighbour", "/"), 200);
    until_all(&pods, &get("bad-regex", "/good"), 200);
    // What cannot be checked lets nobody through.
    until_all(&pods, &get("no-keys", "/"), 500);
    until_all(&pods, &get("no-service", "/"), 500);

    for (plural, name, ..) in VERDICTS {
        until("an Event", || (!events(&scene, plural, name).is_empty()).then_some(()));
    }
    // Later changes elsewhere say nothing again.
    for number in 2..12 {
        scene.api.patch(&scene.path("neighbour"), &json!({"spec": {"rules": [rule(number)]}}));
    }
    until_condition(&scene.api, &scene.path("neighbour"), "Programmed", "True");
    for (plural, name, kind, ..) in VERDICTS {
        let events = events(&scene, plural, name);
        let mut reasons: Vec<_> = events.iter().map(|event| event["reason"].to_string()).collect();
        reasons.sort();
        reasons.dedup();
        // An object with two faults has two Events; none says anything twice.
        assert_eq!(reasons.len(), events.len(), "{plural}/{name}: {events:#?}");
        for event in &events {
            assert_eq!(event["type"], "Warning", "{event:#}");
            assert_eq!(event["series"]["count"].as_u64().unwrap_or(1), 1, "it was said again: {event:#}");
        }
        let object = scene.api.get(&ours(&scene.namespace, plural, name));
        assert!(condition(&object, kind).is_some(), "{object}");
    }
    measured("bad objects reported in a condition and one Event, neighbours live", VERDICTS.len(), "all");
}

fn rule(number: usize) -> Value {
    let mut rule = version(number);
    rule["name"] = json!("all");
    rule["backendRefs"] = json!([{"name": "web", "port": 80}]);
    rule
}

#[test]
fn a_service_that_comes_later_makes_its_route_live() {
    let release = Release::shared();
    let scene = Scene::new("later");
    scene.route("shop", "later.example.com", "web", &json!({}));
    until_condition(&scene.api, &scene.path("shop"), "ResolvedRefs", "False");
    scene.echo("web", 1, End::Drains);
    until_condition(&scene.api, &scene.path("shop"), "ResolvedRefs", "True");
    until_all(&release.settled(3), &Request::get("later.example.com", "/"), 200);
}
