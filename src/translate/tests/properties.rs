//! Properties that hold for all objects, however strange: total, deterministic, and each rule for itself.

use ir::{Kind, RouteId};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::build::{plain_route, service, slice, snapshot};
use crate::{Object, Settings, Translator, translate};

/// Texts that have broken parsers before, among good ones.
fn text() -> impl Strategy<Value = String> {
    let known = [
        "",
        "/",
        "//",
        "/a",
        "/a/",
        "/../a",
        "/%",
        "/%zz",
        "/%2e",
        "/a?b",
        "*",
        "*.",
        "*.a",
        "*.example.com",
        "a",
        "a.b",
        "-",
        ".",
        "..",
        "(",
        ")",
        "[",
        "(a+)+$",
        "((a{99}){99}){99}",
        "^/(.*)$",
        "$1",
        "$9",
        "${",
        "${a}",
        "$$",
        "\u{0}",
        "\n",
        "\u{e9}",
        "\u{1f600}",
        "10.0.0.0/8",
        "::1",
        "::/0",
        "1.2.3.4/99",
        "GET",
        "get me",
        "X-User",
        "Host",
        "Connection",
        "503",
        "500-599",
        "599-500",
        "Reset",
        "https://a",
        "https://*.a:1",
        "null",
        "sub",
        "a..b",
        "/~1",
        "exp",
        "{\"keys\":[]}",
        "{\"keys\":[{\"kty\":\"RSA\"}]}",
        "cart",
        "missing",
        "p",
    ];
    prop_oneof![4 => select(known.to_vec()).prop_map(str::to_owned), 1 => ".{0,12}"]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..3)
}

fn duration() -> impl Strategy<Value = &'static str> {
    select(vec!["0s", "1ms", "30s", "1h30m", "99999h99999h", "744h", "60s"])
}

fn kind_of(kinds: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    select(kinds.to_vec())
}

/// Each member stands or does not.
fn some_of(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> impl Strategy<Value = Value> {
    let count = members.len();
    let strategies: Vec<_> = members
        .into_iter()
        .map(|(name, value)| value.prop_map(move |value| (name.to_owned(), value)))
        .collect();
    subsequence((0..count).collect::<Vec<_>>(), 0..=count).prop_flat_map(move |chosen| {
        let chosen: Vec<_> = chosen.into_iter().map(|index| strategies[index].clone()).collect();
        chosen.prop_map(|members| Value::Object(members.into_iter().collect()))
    })
}

fn to_value<T: serde::Serialize + std::fmt::Debug>(
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Value> {
    strategy.prop_map(|value| json!(value)).boxed()
}

fn list(strategy: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    prop::collection::vec(strategy, 0..3).prop_map(Value::Array).boxed()
}

/// Adds members that the shape needs.
fn with(value: Value, members: &[(&str, Value)]) -> Value {
    let Value::Object(mut map) = value else { return value };
    for (name, member) in members {
        map.insert((*name).to_owned(), member.clone());
    }
    Value::Object(map)
}

fn value_match(name: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    let kinds = kind_of(&["Exact", "Prefix", "RegularExpression", "Present", "Absent"]);
    (name, kinds, prop::option::of(text()))
        .prop_map(|(name, kind, value)| match value {
            Some(value) => json!({"name": name, "type": kind, "value": value}),
            None => json!({"name": name, "type": kind}),
        })
        .boxed()
}

fn route_match() -> BoxedStrategy<Value> {
    let path = (kind_of(&["Exact", "PathPrefix", "RegularExpression"]), text(), any::<bool>())
        .prop_map(|(kind, value, case)| json!({"type": kind, "value": value, "caseSensitive": case}));
    some_of(vec![
        ("path", path.boxed()),
        ("methods", to_value(texts())),
        ("headers", list(value_match(to_value(text())))),
        ("queryParams", list(value_match(to_value(text())))),
        ("cookies", list(value_match(to_value(text())))),
        ("clientCIDRs", to_value(texts())),
    ])
    .boxed()
}

fn path_modifier() -> BoxedStrategy<Value> {
    let members = some_of(vec![
        ("replaceFullPath", to_value(text())),
        ("replacePrefixMatch", to_value(text())),
        ("regex", to_value(text())),
        ("substitution", to_value(text())),
    ]);
    (members, kind_of(&["ReplaceFullPath", "ReplacePrefixMatch", "ReplaceRegex"]))
        .prop_map(|(value, kind)| with(value, &[("type", json!(kind))]))
        .boxed()
}

fn cors() -> BoxedStrategy<Value> {
    some_of(vec![
        ("allowOrigins", to_value(texts())),
        ("allowMethods", to_value(texts())),
        ("allowHeaders", to_value(texts())),
        ("allowCredentials", to_value(any::<bool>())),
        ("maxAge", to_value(duration())),
    ])
    .boxed()
}

fn filter() -> BoxedStrategy<Value> {
    let header = (text(), text()).prop_map(|(name, value)| json!({"name": name, "value": value})).boxed();
    let headers =
        some_of(vec![("set", list(header.clone())), ("add", list(header)), ("remove", to_value(texts()))])
            .boxed();
    let rewrite = some_of(vec![("hostname", to_value(text())), ("path", path_modifier())]);
    let redirect = some_of(vec![
        ("hostname", to_value(text())),
        ("path", path_modifier()),
        ("port", to_value(any::<u16>())),
        ("statusCode", to_value(300u16..310)),
    ]);
    let respond = (0u16..700, text()).prop_map(|(status, body)| json!({"statusCode": status, "body": body}));
    let members = some_of(vec![
        ("requestHeaderModifier", headers.clone()),
        ("responseHeaderModifier", headers),
        ("urlRewrite", rewrite.boxed()),
        ("requestRedirect", redirect.boxed()),
        ("directResponse", respond.boxed()),
        ("cors", cors()),
    ]);
    let kinds = kind_of(&[
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
        "URLRewrite",
        "RequestRedirect",
        "DirectResponse",
        "CORS",
    ]);
    (members, kinds).prop_map(|(value, kind)| with(value, &[("type", json!(kind))])).boxed()
}

fn auth() -> BoxedStrategy<Value> {
    let claim = (text(), kind_of(&["In", "NotIn", "ContainsAny", "Exists"]), texts()).prop_map(
        |(claim, operator, values)| json!({"claim": claim, "operator": operator, "values": values}),
    );
    let rule = (text(), kind_of(&["Allow", "Deny"]), list(claim), texts()).prop_map(
        |(name, action, claims, methods)| json!({"name": name, "action": action, "claims": claims, "methods": methods}),
    );
    some_of(vec![
        ("disabled", to_value(any::<bool>())),
        ("jwt", texts().prop_map(|providers| json!({"providers": providers})).boxed()),
        ("authorization", list(rule).prop_map(|rules| json!({"rules": rules})).boxed()),
    ])
    .boxed()
}

fn provider() -> BoxedStrategy<Value> {
    let reference = || text().prop_map(|name| json!({"name": name})).boxed();
    let jwks = some_of(vec![
        ("secretRef", reference()),
        ("configMapRef", reference()),
        ("inline", to_value(text())),
    ]);
    let members = some_of(vec![
        ("issuer", to_value(text())),
        ("anyIssuer", to_value(any::<bool>())),
        ("audiences", to_value(texts())),
        ("clockSkew", to_value(duration())),
        ("requiredClaims", to_value(texts())),
    ]);
    let algorithms = prop::collection::vec(kind_of(&["HS256", "RS256", "ES256", "EdDSA"]), 0..3);
    (members, jwks, text(), algorithms)
        .prop_map(|(value, jwks, name, algorithms)| {
            with(value, &[("jwks", jwks), ("name", json!(name)), ("algorithms", json!(algorithms))])
        })
        .boxed()
}

fn rule() -> BoxedStrategy<Value> {
    let backend = some_of(vec![
        ("name", to_value(text())),
        ("namespace", to_value(prop_oneof![text(), select(vec!["a", "p", "cart"]).prop_map(str::to_owned)])),
        ("address", to_value(text())),
    ]);
    let backend = (backend, any::<u16>(), any::<u32>())
        .prop_map(|(value, port, weight)| with(value, &[("port", json!(port)), ("weight", json!(weight))]));
    let timeouts = some_of(vec![
        ("connect", to_value(duration())),
        ("request", to_value(duration())),
        ("perTry", to_value(duration())),
        ("idle", to_value(duration())),
    ]);
    let retry = some_of(vec![
        ("attempts", to_value(any::<u32>())),
        ("on", to_value(texts())),
        ("methods", to_value(texts())),
    ]);
    let ip = some_of(vec![("allow", to_value(texts())), ("deny", to_value(texts()))]);
    let members = some_of(vec![
        ("matches", list(route_match())),
        ("filters", list(filter())),
        ("auth", auth()),
        ("ipAccess", ip.boxed()),
        ("maxRequestBody", to_value(select(vec!["0", "1Ki", "8Mi"]))),
        ("timeouts", timeouts.boxed()),
        ("retry", retry.boxed()),
        ("backendRefs", list(backend)),
    ]);
    (members, text()).prop_map(|(value, name)| with(value, &[("name", json!(name))])).boxed()
}

fn gateway_route() -> BoxedStrategy<Value> {
    let defaults = some_of(vec![("cors", cors()), ("auth", auth())]);
    let members = some_of(vec![
        ("hostnames", to_value(texts())),
        ("ingressClassName", to_value(select(vec!["baribhara", "other", ""]))),
        ("jwtProviders", list(provider())),
        ("defaults", defaults.boxed()),
    ]);
    (members, list(rule()), select(vec!["r1", "r2", "r3"]))
        .prop_map(|(value, rules, name)| {
            json!({
                "apiVersion": "gateway.baribhara.io/v1alpha1", "kind": "GatewayRoute",
                "metadata": {"name": name}, "spec": with(value, &[("rules", rules)]),
            })
        })
        .boxed()
}

fn ingress() -> BoxedStrategy<Value> {
    let port = prop_oneof![
        any::<i32>().prop_map(|number| json!({"number": number})),
        text().prop_map(|name| json!({"name": name})),
    ];
    let backend = prop_oneof![
        (text(), port).prop_map(|(name, port)| json!({"service": {"name": name, "port": port}})),
        Just(json!({})),
    ]
    .boxed();
    let path = (text(), kind_of(&["Exact", "Prefix", "ImplementationSpecific", "Other"]), backend.clone())
        .prop_map(|(path, kind, backend)| json!({"path": path, "pathType": kind, "backend": backend}));
    let http = list(path).prop_map(|paths| json!({"paths": paths})).boxed();
    let rule = some_of(vec![("host", to_value(text())), ("http", http)]);
    // Without a class nothing is served, and nothing would be tested.
    let class = select(vec!["baribhara", "baribhara", "baribhara", "other"]);
    let class = class.prop_map(|class| json!(class)).boxed();
    let spec = some_of(vec![("ingressClassName", class), ("defaultBackend", backend), ("rules", list(rule))]);
    (spec, text(), select(vec!["i1", "i2"]))
        .prop_map(|(spec, policies, name)| {
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {"name": name, "annotations": {"gateway.baribhara.io/auth-policy": policies}},
                "spec": spec,
            })
        })
        .boxed()
}

fn target() -> BoxedStrategy<Value> {
    let kinds = select(vec![("gateway.baribhara.io", "GatewayRoute"), ("networking.k8s.io", "Ingress")]);
    (kinds, select(vec!["r1", "r2", "i1", "none"]), prop::option::of(text()))
        .prop_map(|((group, kind), name, section)| match section {
            Some(section) => json!({"group": group, "kind": kind, "name": name, "sectionName": section}),
            None => json!({"group": group, "kind": kind, "name": name}),
        })
        .boxed()
}

fn rate_limit_policy() -> BoxedStrategy<Value> {
    let key = some_of(vec![
        ("name", to_value(text())),
        ("claim", to_value(text())),
        ("ipv4Prefix", to_value(any::<u8>())),
    ]);
    let key = (key, kind_of(&["ClientIP", "Header", "Path", "JWTClaim"]))
        .prop_map(|(value, kind)| with(value, &[("type", json!(kind))]));
    let rate = (0u32..3, duration()).prop_map(|(requests, per)| json!({"requests": requests, "per": per}));
    let limit = (text(), list(key), list(rate))
        .prop_map(|(name, keys, rates)| json!({"name": name, "keys": keys, "rates": rates}));
    (list(target()), list(limit), select(vec!["l1", "l2"]))
        .prop_map(|(targets, limits, name)| {
            json!({
                "apiVersion": "gateway.baribhara.io/v1alpha1", "kind": "RateLimitPolicy",
                "metadata": {"name": name}, "spec": {"targetRefs": targets, "limits": limits},
            })
        })
        .boxed()
}

fn auth_policy() -> BoxedStrategy<Value> {
    (list(target()), list(provider()), auth(), select(vec!["p", "a"]))
        .prop_map(|(targets, providers, auth, name)| {
            json!({
                "apiVersion": "gateway.baribhara.io/v1alpha1", "kind": "AuthPolicy",
                "metadata": {"name": name},
                "spec": {"targetRefs": targets, "jwtProviders": providers, "auth": auth},
            })
        })
        .boxed()
}

/// In the namespaces that [`text`] makes rules refer to.
fn reference_grant() -> BoxedStrategy<Value> {
    let to = prop_oneof![
        Just(json!({"group": "", "kind": "Service"})),
        text().prop_map(|name| json!({"group": "", "kind": "Service", "name": name})),
        Just(json!({"group": "", "kind": "Secret"})),
    ];
    let from = select(vec!["default", "other"]).prop_map(
        |namespace| json!({"group": "gateway.baribhara.io", "kind": "GatewayRoute", "namespace": namespace}),
    );
    (list(from), list(to), select(vec!["a", "p", "cart"]))
        .prop_map(|(from, to, namespace)| {
            json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant",
                "metadata": {"name": "g", "namespace": namespace}, "spec": {"from": from, "to": to},
            })
        })
        .boxed()
}

fn any_object() -> impl Strategy<Value = Object> {
    let read = |kind: Kind| move |value: Value| Object::from_json(kind, value).expect("a well-formed object");
    prop_oneof![
        6 => gateway_route().prop_map(read(Kind::GatewayRoute)),
        3 => ingress().prop_map(read(Kind::Ingress)),
        2 => rate_limit_policy().prop_map(read(Kind::RateLimitPolicy)),
        2 => auth_policy().prop_map(read(Kind::AuthPolicy)),
        1 => select(vec!["cart", "a"]).prop_map(service),
        1 => reference_grant().prop_map(read(Kind::ReferenceGrant)),
        1 => select(vec!["s1", "s2"]).prop_map(|name| slice(name, "cart", "10.0.0.1")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn translation_is_total_and_its_memory_never_shows(steps in prop::collection::vec((any_object(), any::<bool>()), 1..8)) {
        let settings = Settings::folder();
        let mut snapshot = crate::Snapshot::default();
        let mut translator = Translator::default();
        for (object, stays) in steps {
            let id = object.object_ref();
            snapshot.apply(object);
            if !stays {
                snapshot.delete(&id);
            }
            let kept = translator.translate_routes(&snapshot, &settings);
            prop_assert_eq!(&kept, &translate(&snapshot, &settings));
            let endpoints = translator.translate_endpoints(&snapshot, &settings, &kept.config);
            let fresh = Translator::default().translate_endpoints(&snapshot, &settings, &kept.config);
            prop_assert_eq!(endpoints, fresh);
            for (id, route) in &kept.config.routes {
                prop_assert_eq!(id, &route.id);
                prop_assert!(!route.matches.is_empty());
            }
        }
    }

    #[test]
    fn the_order_of_objects_changes_nothing(
        (ordered, shuffled) in prop::collection::vec(any_object(), 1..8).prop_flat_map(|objects| {
            // One object a name: of two with the same name the last one stays, so their order must count.
            let unique: std::collections::BTreeMap<_, _> =
                objects.into_iter().map(|object| (object.object_ref(), object)).collect();
            let objects: Vec<Object> = unique.into_values().collect();
            (Just(objects.clone()), Just(objects).prop_shuffle())
        })
    ) {
        let settings = Settings::folder();
        let one = translate(&snapshot(ordered), &settings);
        let other = translate(&snapshot(shuffled), &settings);
        prop_assert_eq!(one, other);
    }

    #[test]
    fn a_strange_rule_leaves_its_siblings_as_they_are(strange in rule()) {
        let settings = Settings::folder();
        let strange = with(strange, &[("name", json!("strange"))]);
        let Object::GatewayRoute(good) = plain_route("r1", "cart") else { unreachable!() };
        let mut both = good.as_ref().clone();
        both.spec.rules.push(serde_json::from_value(strange).expect("a well-formed rule"));
        let alone = translate(&snapshot([service("cart"), Object::GatewayRoute(good)]), &settings);
        let together = translate(&snapshot([service("cart"), Object::GatewayRoute(both.into())]), &settings);
        for (id, route) in &alone.config.routes {
            let sibling = together.config.routes.get::<RouteId>(id);
            prop_assert_eq!(sibling, Some(route));
        }
        prop_assert!(together.config.routes.len() <= 2);
    }
}
