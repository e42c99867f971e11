//! Objects are pruned, defaulted and refused as the definitions say. Here is what the files below stand on, and what
//! holds for objects as a whole.

mod any;
mod auth;
mod compile;
mod health;
mod limits;
mod routes;
mod structure;
mod tls;

use serde_json::json;

use super::*;

fn schemas() -> &'static Schemas {
    static SCHEMAS: std::sync::LazyLock<Schemas> =
        std::sync::LazyLock::new(|| Schemas::compile(|_, _, _| Ok(None)));
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
type Row<'a> = (&'a str, Kind, Value, Value, &'a str);

fn check(rows: &[Row<'_>]) {
    // Twice, because answers are remembered.
    for (name, kind, good, bad, want) in rows.iter().chain(rows) {
        assert_eq!(errors(*kind, good), Vec::<String>::new(), "{name}: admitted");
        assert_eq!(errors(*kind, bad), [*want], "{name}: refused");
    }
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
