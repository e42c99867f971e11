//! Rules by claims, methods and addresses.

use http::Method;
use ir::{
    Auth, Authorization, AuthorizationAction, AuthorizationRule, ClaimCondition, ClaimOperator, Kind,
    ObjectRef,
};
use serde_json::{Value, json};

use super::support::{Gate, auth, claims_with, hmac_token, hs256, jwk, provider, provider_with, secret};
use crate::filter::auth::refusal::AuthReason;

fn rule(action: AuthorizationAction, claims: Vec<ClaimCondition>) -> AuthorizationRule {
    AuthorizationRule {
        name: "rule".into(),
        action,
        claims,
        methods: Vec::new(),
        client_cidrs: Vec::new(),
        clients: Vec::new(),
        users: Vec::new(),
    }
}

fn claim(path: &[&str], operator: ClaimOperator, values: &[&str]) -> ClaimCondition {
    ClaimCondition {
        provider: None,
        path: path.iter().map(|step| (*step).to_owned()).collect(),
        operator,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    }
}

fn gate(rules: Vec<AuthorizationRule>) -> Gate {
    let mut auth = auth(vec![provider()]);
    auth.authorization = Some(Authorization { rules });
    Gate::new(&[auth])
}

fn allowed(gate: &mut Gate, changes: Value) -> bool {
    match gate.reason(&hs256(&claims_with(changes))) {
        None => true,
        Some(AuthReason::NotAuthorized) => false,
        Some(other) => panic!("unexpected {other:?}"),
    }
}

#[test]
fn operators_compare_claims_as_documented() {
    use ClaimOperator::{ContainsAll, ContainsAny, Exists, In, NotIn};
    let cases: [(ClaimOperator, &[&str], Value, bool); 40] = [
        (In, &["a", "b"], json!("b"), true),
        (In, &["a", "b"], json!("B"), false),
        (In, &["a", "b"], json!("a b"), false),
        (In, &["a"], json!(""), false),
        (In, &[""], json!(""), true),
        (In, &["7"], json!(7), true),
        (In, &["7"], json!(7.5), false),
        (In, &["true"], json!(true), true),
        (In, &["a"], json!(["x", "a"]), true),
        (In, &["a"], json!(["x"]), false),
        (In, &["a"], json!([]), false),
        (In, &["a"], json!({"a": 1}), false),
        (In, &["a"], json!(null), false),
        (In, &[], json!("a"), false),
        (NotIn, &["a"], json!("b"), true),
        (NotIn, &["a"], json!("a"), false),
        (NotIn, &["a"], json!(["a"]), false),
        (NotIn, &["a"], json!(["b"]), true),
        (NotIn, &["a"], json!(null), false),
        (ContainsAny, &["a", "b"], json!("x b"), true),
        (ContainsAny, &["a", "b"], json!("x  y"), false),
        (ContainsAny, &["a"], json!("ab"), false),
        (ContainsAny, &["a"], json!(["x", "a"]), true),
        (ContainsAny, &["a"], json!(["x a"]), false),
        (ContainsAny, &["7"], json!([7]), true),
        (ContainsAny, &["7"], json!(7), true),
        (ContainsAny, &["a"], json!([["a"]]), false),
        (ContainsAny, &["a"], json!({"a": true}), false),
        (ContainsAny, &["a"], json!(null), false),
        (ContainsAll, &["a", "b"], json!("b x a"), true),
        (ContainsAll, &["a", "b"], json!("a"), false),
        (ContainsAll, &["a", "b"], json!(["a", "b"]), true),
        (ContainsAll, &["a", "b"], json!(["a"]), false),
        (ContainsAll, &["a"], json!(null), false),
        (Exists, &[], json!("a"), true),
        (Exists, &[], json!(false), true),
        (Exists, &[], json!([]), true),
        (Exists, &[], json!({}), true),
        (Exists, &[], json!(0), true),
        (Exists, &[], json!(null), false),
    ];
    for (operator, values, value, want) in cases {
        let rules =
            vec![rule(AuthorizationAction::Allow, vec![claim(&["realm", "roles"], operator, values)])];
        let got = allowed(&mut gate(rules), json!({"realm": {"roles": value}}));
        assert_eq!(got, want, "{operator:?} {values:?} on {value}");
    }
}

#[test]
fn the_first_matching_rule_decides_and_none_denies() {
    use AuthorizationAction::{Allow, Deny};
    let admin = || vec![claim(&["role"], ClaimOperator::In, &["admin"])];
    let cases = [
        ("no rule", vec![], false),
        ("allow all", vec![rule(Allow, vec![])], true),
        ("deny all", vec![rule(Deny, vec![])], false),
        ("deny before allow", vec![rule(Deny, admin()), rule(Allow, vec![])], false),
        ("allow before deny", vec![rule(Allow, admin()), rule(Deny, vec![])], true),
        ("no match", vec![rule(Deny, vec![claim(&["role"], ClaimOperator::In, &["x"])])], false),
    ];
    for (name, rules, want) in cases {
        assert_eq!(allowed(&mut gate(rules), json!({"role": "admin"})), want, "{name}");
    }
}

#[test]
fn all_conditions_of_a_rule_must_hold() {
    let mut both = rule(
        AuthorizationAction::Allow,
        vec![
            claim(&["scope"], ClaimOperator::ContainsAny, &["orders.write"]),
            claim(&["plan"], ClaimOperator::Exists, &[]),
        ],
    );
    both.methods = vec![Method::POST];
    let mut gate = gate(vec![both]);
    gate.method = Method::POST;
    assert!(allowed(&mut gate, json!({"scope": "a orders.write", "plan": "free"})));
    assert!(!allowed(&mut gate, json!({"scope": "a orders.write"})));
    assert!(!allowed(&mut gate, json!({"scope": "orders.writer", "plan": "free"})));
    gate.method = Method::GET;
    assert!(!allowed(&mut gate, json!({"scope": "a orders.write", "plan": "free"})));
}

#[test]
fn methods_and_addresses_work_without_tokens() {
    let mut office = rule(AuthorizationAction::Allow, vec![]);
    office.client_cidrs = vec!["192.0.2.0/24".parse().expect("CIDR"), "2001:db8::/32".parse().expect("CIDR")];
    office.methods = vec![Method::GET];
    let open = Auth {
        source: ObjectRef::new(Kind::AuthPolicy, "shop", "office"),
        mode: ir::AuthMode::All,
        jwt: None,
        api_key: None,
        basic: None,
        external: None,
        authorization: Some(Authorization { rules: vec![office] }),
    };
    let mut gate = Gate::new(&[open]);
    let cases = [
        ("192.0.2.1", Method::GET, true),
        ("::ffff:192.0.2.1", Method::GET, true),
        ("192.0.3.1", Method::GET, false),
        ("2001:db8::1", Method::GET, true),
        ("2001:db9::1", Method::GET, false),
        ("192.0.2.1", Method::POST, false),
    ];
    for (client, method, want) in cases {
        gate.client = client.parse().expect("an address");
        gate.method = method.clone();
        assert_eq!(gate.ask(&[]).is_ok(), want, "{client} {method}");
    }
}

#[test]
fn claims_of_a_named_provider_are_those_of_the_objects_own_one() {
    // Two objects, each with a provider called `corp`; the second object's token is optional.
    let mut foreign = provider_with(&[ir::Algorithm::HS256], vec![jwk(None, secret(b"policy"))]);
    foreign.source = ObjectRef::new(Kind::AuthPolicy, "shop", "policy");
    foreign.from = vec![ir::TokenSource::Cookie { name: "at".to_owned() }];
    let mut policy = auth(vec![foreign]);
    policy.jwt.as_mut().expect("a requirement").optional = true;
    let mut condition = claim(&["sub"], ClaimOperator::Exists, &[]);
    condition.provider = Some("corp".into());
    policy.authorization =
        Some(Authorization { rules: vec![rule(AuthorizationAction::Allow, vec![condition.clone()])] });
    let mut gate = Gate::new(&[auth(vec![provider()]), policy.clone()]);
    let good = hs256(&claims_with(json!({})));
    assert_eq!(gate.reason(&good), Some(AuthReason::NotAuthorized), "the route's corp is not the policy's");

    // A policy without a provider of that name means the route's.
    policy.jwt = None;
    let mut gate = Gate::new(&[auth(vec![provider()]), policy.clone()]);
    assert_eq!(gate.reason(&good), None);

    // Nobody has the name: nothing holds.
    condition.provider = Some("nobody".into());
    policy.authorization =
        Some(Authorization { rules: vec![rule(AuthorizationAction::Allow, vec![condition])] });
    let mut gate = Gate::new(&[auth(vec![provider()]), policy]);
    assert_eq!(gate.reason(&good), Some(AuthReason::NotAuthorized));
}

#[test]
fn claims_of_no_named_provider_are_those_of_the_objects_own_ones() {
    // The route's token is in the header; the policy's, of another issuer, in a cookie and optional.
    let mut foreign = provider_with(&[ir::Algorithm::HS256], vec![jwk(None, secret(b"policy"))]);
    foreign.source = ObjectRef::new(Kind::AuthPolicy, "shop", "policy");
    foreign.name = "partner".into();
    foreign.from = vec![ir::TokenSource::Cookie { name: "at".to_owned() }];
    let mut policy = auth(vec![foreign]);
    policy.jwt.as_mut().expect("a requirement").optional = true;
    let admins = vec![claim(&["role"], ClaimOperator::In, &["admin"])];
    policy.authorization =
        Some(Authorization { rules: vec![rule(AuthorizationAction::Allow, admins.clone())] });
    let own = |role: &str| {
        let claims = claims_with(json!({"role": role})).to_string();
        format!("at={}", hmac_token(b"policy", "{\"alg\":\"HS256\"}", &claims))
    };
    let of_route = |role: &str| format!("Bearer {}", hs256(&claims_with(json!({"role": role}))));
    let refused = Some(AuthReason::NotAuthorized);
    let cases = [
        (of_route("admin"), None, refused),
        (of_route("admin"), Some(own("user")), refused),
        (of_route("user"), Some(own("admin")), None),
    ];
    let mut gate = Gate::new(&[auth(vec![provider()]), policy.clone()]);
    for (bearer, cookie, want) in &cases {
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(cookie.as_deref().map(|cookie| ("cookie", cookie)));
        assert_eq!(gate.ask(&headers).err(), *want, "the own token only: {}", cookie.is_some());
    }

    // A policy without tokens of its own takes those of other policies, and never the route's: its author could make
    // himself an admin.
    policy.authorization = None;
    policy.source = ObjectRef::new(Kind::AuthPolicy, "shop", "policy");
    let open = Auth {
        source: ObjectRef::new(Kind::AuthPolicy, "shop", "open"),
        mode: ir::AuthMode::All,
        jwt: None,
        api_key: None,
        basic: None,
        external: None,
        authorization: Some(Authorization { rules: vec![rule(AuthorizationAction::Allow, admins)] }),
    };
    let mut gate = Gate::new(&[auth(vec![provider()]), policy, open]);
    assert_eq!(gate.ask(&[("authorization", &of_route("admin"))]).err(), refused);
    let both = [("authorization", of_route("user")), ("cookie", own("admin"))];
    assert_eq!(gate.ask(&both.each_ref().map(|(name, value)| (*name, value.as_str()))).err(), None);
    assert_eq!(gate.ask(&[("authorization", &of_route("user"))]).err(), refused);
}

#[test]
fn every_authorization_of_a_route_must_allow() {
    let allow = |operator| Authorization {
        rules: vec![rule(AuthorizationAction::Allow, vec![claim(&["plan"], operator, &["gold"])])],
    };
    let mut first = auth(vec![provider()]);
    first.authorization = Some(allow(ClaimOperator::In));
    let second = Auth {
        source: ObjectRef::new(Kind::GatewayRoute, "shop", "shop"),
        mode: ir::AuthMode::All,
        jwt: None,
        api_key: None,
        basic: None,
        external: None,
        authorization: Some(allow(ClaimOperator::NotIn)),
    };
    let mut one = Gate::new(std::slice::from_ref(&first));
    assert!(allowed(&mut one, json!({"plan": "gold"})));
    let mut both = Gate::new(&[first, second]);
    assert!(!allowed(&mut both, json!({"plan": "gold"})));
    assert!(!allowed(&mut both, json!({"plan": "free"})));
}
