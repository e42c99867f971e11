//! Required claims, optional tokens, and what a refusal tells.

use ir::{Algorithm, TokenSource};
use serde_json::json;

use super::support::{
    Gate, Lines, auth, bearer_source, claims_with, good_claims, header_map, hs256, jwk, material, provider,
    provider_with, secret, token,
};
use crate::filter::auth::AuthRefusalKind;
use crate::filter::auth::refusal::AuthReason;

#[test]
fn required_claims_must_stand_and_not_be_null() {
    let mut strict = provider();
    strict.required_claims = vec!["exp".to_owned(), "https://x.example/a.b".to_owned()];
    let mut gate = Gate::of(strict);
    let missing = Some(AuthReason::ClaimMissing);
    let mut null = good_claims();
    null["https://x.example/a.b"] = serde_json::Value::Null;
    let cases = [
        (good_claims(), missing),
        (null, missing),
        (claims_with(json!({"https://x.example/a.b": false})), None),
        (claims_with(json!({"https://x.example/a": {"b": 1}})), missing),
    ];
    for (claims, want) in cases {
        assert_eq!(gate.reason(&hs256(&claims)), want, "{claims}");
    }
}

#[test]
fn a_provider_without_issuer_or_audiences_takes_any_but_of_the_right_type() {
    let mut any = provider();
    any.issuer = None;
    any.audiences.clear();
    let mut gate = Gate::of(any);
    let wrong = Some(AuthReason::ClaimWrongType);
    let cases = [
        (json!({"iss": "https://other/", "aud": ["x"]}), None),
        (json!({"iss": null, "aud": null}), None),
        (json!({"iss": 1}), wrong),
        (json!({"aud": 1}), wrong),
        (json!({"aud": ["x", null]}), wrong),
    ];
    for (changes, want) in cases {
        assert_eq!(gate.reason(&hs256(&claims_with(changes.clone()))), want, "{changes}");
    }
}

#[test]
fn an_optional_token_may_be_missing_but_not_bad() {
    let mut optional = auth(vec![provider()]);
    optional.jwt.as_mut().expect("a requirement").optional = true;
    let mut gate = Gate::new(&[optional]);
    assert!(gate.ask(&[]).expect("anonymous").is_anonymous());
    assert!(gate.ask(&[("authorization", "Basic YTpi")]).expect("anonymous").is_anonymous());
    let good = format!("Bearer {}", hs256(&good_claims()));
    assert!(!gate.ask(&[("authorization", &good)]).expect("alice").is_anonymous());
    for bad in ["Bearer x", "Bearer", "Bearer\tx", "bearer a.b.c"] {
        assert_eq!(gate.ask(&[("authorization", bad)]).err(), Some(AuthReason::TokenMalformed), "{bad}");
    }
    let twice = [("authorization", good.as_str()), ("authorization", good.as_str())];
    assert_eq!(gate.ask(&twice).err(), Some(AuthReason::SeveralTokens));
}

#[test]
fn all_requirements_of_a_route_must_pass() {
    let mut other = provider_with(&[Algorithm::ES256], vec![jwk(None, material(Algorithm::ES256))]);
    other.name = "partner".into();
    other.from =
        vec![TokenSource::Header { name: "x-partner".parse().expect("a name"), prefix: String::new() }];
    let mut gate = Gate::new(&[auth(vec![provider()]), auth(vec![other])]);
    let bearer = format!("Bearer {}", hs256(&good_claims()));
    let partner = token(Algorithm::ES256, &claims_with(json!({"sub": "bob"})));
    let cases: [(Lines<'_>, Option<AuthReason>); 4] = [
        (&[("authorization", &bearer)], Some(AuthReason::TokenMissing)),
        (&[("x-partner", &partner)], Some(AuthReason::TokenMissing)),
        (&[("authorization", &bearer), ("x-partner", "x.y.z")], Some(AuthReason::TokenMalformed)),
        (&[("authorization", &bearer), ("x-partner", &partner)], None),
    ];
    for (headers, want) in cases {
        assert_eq!(gate.ask(headers).err(), want, "{} headers", headers.len());
    }
    let both = gate.ask(&[("authorization", &bearer), ("x-partner", &partner)]).expect("both");
    assert_eq!(both.claim(Some("corp"), "sub").as_deref(), Some("alice"));
    assert_eq!(both.claim(Some("partner"), "sub").as_deref(), Some("bob"));
}

#[test]
fn a_token_counts_only_for_providers_that_read_its_place() {
    let mut by_cookie = provider_with(&[Algorithm::HS256], vec![jwk(None, secret(b"cookie key"))]);
    by_cookie.from = vec![TokenSource::Cookie { name: "at".to_owned() }];
    by_cookie.name = "cookie".into();
    let mut gate = Gate::new(&[auth(vec![by_cookie, provider()])]);
    let good = hs256(&good_claims());
    assert_eq!(gate.reason(&good), None);
    let in_cookie = gate.ask(&[("cookie", &format!("at={good}"))]);
    assert_eq!(in_cookie.err(), Some(AuthReason::SignatureInvalid));
}

#[test]
fn the_longest_prefix_of_a_header_decides() {
    let mut bare = provider_with(&[Algorithm::HS256], vec![jwk(None, secret(b"bare"))]);
    bare.from = vec![TokenSource::Header { name: http::header::AUTHORIZATION, prefix: String::new() }];
    let mut gate = Gate::new(&[auth(vec![bare, provider()])]);
    assert_eq!(gate.reason(&hs256(&good_claims())), None);
    assert_eq!(gate.ask(&[("authorization", "x")]).err(), Some(AuthReason::TokenMalformed));
}

#[test]
fn a_refusal_has_a_kind_and_a_challenge_without_details() {
    let mut required = auth(vec![provider()]);
    let mut gate = Gate::new(std::slice::from_ref(&required));
    let ask = |gate: &mut Gate, headers: &[(&str, &str)]| {
        let refusal = gate.ask_all(&header_map(headers), None).expect_err("a refusal");
        let challenges = gate.stage.challenges(refusal);
        let challenge = challenges.first().map(|value| value.to_str().expect("ASCII").to_owned());
        (refusal.kind(), challenge)
    };
    let unauthenticated = AuthRefusalKind::Unauthenticated;
    let bearer = format!("Bearer {}", hs256(&good_claims()));
    assert_eq!(ask(&mut gate, &[]), (unauthenticated, Some("Bearer".to_owned())));
    assert_eq!(
        ask(&mut gate, &[("authorization", "Bearer x")]),
        (unauthenticated, Some("Bearer error=\"invalid_token\"".to_owned()))
    );
    assert_eq!(
        ask(&mut gate, &[("authorization", &bearer), ("authorization", &bearer)]),
        (unauthenticated, Some("Bearer error=\"invalid_request\"".to_owned()))
    );
    required.authorization = Some(ir::Authorization { rules: Vec::new() });
    let mut closed = Gate::new(std::slice::from_ref(&required));
    assert_eq!(
        ask(&mut closed, &[("authorization", &bearer)]),
        (AuthRefusalKind::Forbidden, Some("Bearer error=\"insufficient_scope\"".to_owned()))
    );
    required.jwt = None;
    let mut without_tokens = Gate::new(&[required]);
    assert_eq!(ask(&mut without_tokens, &[]), (AuthRefusalKind::Forbidden, None));
}

#[test]
fn a_route_without_policies_takes_everything() {
    let mut gate = Gate::new(&[]);
    assert!(gate.stage.is_empty());
    assert!(gate.ask(&[("authorization", "Bearer x")]).expect("open").is_anonymous());
    assert!(!Gate::of(provider()).stage.is_empty());
    assert_eq!(bearer_source(), provider().from[0]);
}
