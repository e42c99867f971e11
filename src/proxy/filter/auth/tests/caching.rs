//! Verdicts hold for one verifier, one token and one time window, within bounds.

use std::sync::Arc;

use ir::Algorithm;
use serde_json::json;

use super::support::{
    Gate, NOW, auth, claims_with, given, good_claims, hs256, jwk, material, provider, provider_with, secret,
    token,
};
use crate::filter::auth::refusal::AuthReason;
use crate::filter::auth::{AuthStage, VerdictCache, Verifiers};

#[test]
fn a_verdict_dies_with_exp_to_the_second() {
    let mut gate = Gate::of(provider());
    let good = hs256(&claims_with(json!({"exp": NOW + 10})));
    assert_eq!(gate.reason(&good), None);
    assert_eq!(gate.reason(&good), None);
    assert_eq!(gate.cache.stats().hits, 1);
    gate.now = NOW + 39;
    assert_eq!(gate.reason(&good), None, "exp + 30 s of skew is not reached");
    assert_eq!(gate.cache.stats().hits, 2);
    gate.now = NOW + 40;
    assert_eq!(gate.reason(&good), Some(AuthReason::TokenExpired));
    assert_eq!(gate.cache.stats().entries, 0, "the dead verdict is gone");
}

#[test]
fn a_verdict_does_not_hold_before_nbf_when_the_clock_goes_back() {
    let mut gate = Gate::of(provider());
    let good = hs256(&claims_with(json!({"nbf": NOW})));
    assert_eq!(gate.reason(&good), None);
    gate.now = NOW - 30;
    assert_eq!(gate.reason(&good), None);
    gate.now = NOW - 31;
    assert_eq!(gate.reason(&good), Some(AuthReason::TokenNotYetValid));
}

#[test]
fn verdicts_are_not_shared_between_providers_audiences_or_issuers() {
    let good = hs256(&good_claims());
    let base = Gate::of(provider());
    let (mut cache, mut verifiers) = (base.cache, base.verifiers);
    let ask = |provider: ir::JwtProvider, cache: &mut VerdictCache, verifiers: &mut Verifiers| {
        let mut gate = Gate::of(provider.clone());
        gate.stage = AuthStage::new(&[auth(vec![provider])], verifiers);
        std::mem::swap(&mut gate.cache, cache);
        let reason = gate.reason(&good);
        std::mem::swap(&mut gate.cache, cache);
        reason
    };
    assert_eq!(ask(provider(), &mut cache, &mut verifiers), None);
    let mut other = provider();
    other.audiences = vec!["other".to_owned()];
    assert_eq!(ask(other, &mut cache, &mut verifiers), Some(AuthReason::AudienceMismatch));
    let mut other = provider();
    other.issuer = Some("https://other/".to_owned());
    assert_eq!(ask(other, &mut cache, &mut verifiers), Some(AuthReason::IssuerMismatch));
    let mut other = provider();
    other.required_claims.push("email".to_owned());
    assert_eq!(ask(other, &mut cache, &mut verifiers), Some(AuthReason::ClaimMissing));
    let mut other = provider();
    other.keys = given(vec![jwk(None, secret(b"another key"))]);
    assert_eq!(ask(other, &mut cache, &mut verifiers), Some(AuthReason::SignatureInvalid));
    assert_eq!(cache.stats().hits, 0);
    // The same provider on another route shares its verdict.
    assert_eq!(ask(provider(), &mut cache, &mut verifiers), None);
    assert_eq!(cache.stats().hits, 1);
}

/// Two providers that take the same tokens.
fn first_and_second() -> (ir::JwtProvider, ir::JwtProvider) {
    let named = |name: &str| ir::JwtProvider { name: name.into(), ..provider() };
    (named("first"), named("second"))
}

/// Whom a token names on a route with these providers; the cache and the verifiers are those of the gate.
fn provider_of(gate: &mut Gate, providers: &[&ir::JwtProvider], token: &str) -> &'static str {
    let providers = providers.iter().map(|provider| (*provider).clone()).collect();
    gate.stage = AuthStage::new(&[auth(providers)], &mut gate.verifiers);
    let identity = gate.ask_bearer(token).expect("the request passes");
    let says = |name| identity.claim(Some(name), "sub").is_some();
    match (says("first"), says("second")) {
        (true, false) => "first",
        (false, true) => "second",
        other => panic!("one token is of one provider, not {other:?}"),
    }
}

#[test]
fn the_first_provider_that_takes_a_token_wins_whatever_is_cached() {
    let (first, second) = first_and_second();
    let routes: [(&[&ir::JwtProvider], &str); 4] = [
        (&[&first], "first"),
        (&[&second], "second"),
        (&[&first, &second], "first"),
        (&[&second, &first], "second"),
    ];
    let good = hs256(&good_claims());
    // Each route after each other one, so that either verdict stands in the cache before the other.
    for (before, _) in routes {
        for (providers, want) in routes {
            let mut gate = Gate::of(provider());
            provider_of(&mut gate, before, &good);
            for round in ["fresh", "cached"] {
                assert_eq!(provider_of(&mut gate, providers, &good), want, "{round}");
            }
            assert!(gate.cache.stats().hits > 0);
        }
    }
}

#[test]
fn a_verdict_of_a_later_provider_is_found_again_behind_the_same_refusals_only() {
    let (mut first, second) = first_and_second();
    first.keys = given(vec![jwk(None, secret(b"of the first"))]);
    let good = hs256(&good_claims());
    let mut gate = Gate::of(provider());
    for hits in 0..3 {
        assert_eq!(provider_of(&mut gate, &[&first, &second], &good), "second");
        assert_eq!((gate.cache.stats().hits, gate.cache.stats().misses), (hits, 1));
    }
    // Another provider before it has not refused the token yet; this one takes it.
    let other = ir::JwtProvider { name: "first".into(), audiences: Vec::new(), ..provider() };
    assert_eq!(provider_of(&mut gate, &[&other, &second], &good), "first");
    assert_eq!(provider_of(&mut gate, &[&first, &other, &second], &good), "first");
    assert_eq!(gate.cache.stats().hits, 2);
}

#[test]
fn a_refusal_by_time_of_an_earlier_provider_is_not_remembered() {
    let (mut first, second) = first_and_second();
    first.clock_skew = std::time::Duration::ZERO;
    let mut gate = Gate::of(provider());
    // Not yet valid for the first, then valid for both, then expired for the first; and the clock goes back.
    let good = hs256(&claims_with(json!({"iat": NOW, "exp": NOW + 100})));
    for (now, want) in [(NOW - 10, "second"), (NOW, "first"), (NOW + 100, "second"), (NOW + 99, "first")] {
        gate.now = now;
        for round in ["fresh", "again"] {
            assert_eq!(provider_of(&mut gate, &[&first, &second], &good), want, "{round} {now}");
        }
    }
}

#[test]
fn a_verdict_dies_with_the_key_that_made_it() {
    let mut gate = Gate::of(provider());
    let good = hs256(&good_claims());
    assert_eq!(gate.reason(&good), None);
    assert_eq!(gate.reason(&good), None);
    let replaced = provider_with(&[Algorithm::HS256], vec![jwk(None, secret(b"rotated"))]);
    gate.stage = AuthStage::new(&[auth(vec![replaced])], &mut gate.verifiers);
    assert_eq!(gate.reason(&good), Some(AuthReason::SignatureInvalid), "the key is revoked");
    // An equal provider of the next generation keeps its verdicts.
    gate.stage = AuthStage::new(&[auth(vec![provider()])], &mut gate.verifiers);
    let misses = gate.cache.stats().misses;
    assert_eq!(gate.reason(&good), None);
    assert_eq!(gate.cache.stats().misses, misses, "the same key, the same verdict");
    // Once the registry has forgotten it, the verifier that comes back is a new one.
    gate.stage = AuthStage::default();
    gate.verifiers.retain_used();
    gate.stage = AuthStage::new(&[auth(vec![provider()])], &mut gate.verifiers);
    assert_eq!(gate.reason(&good), None);
    assert_eq!(gate.cache.stats().misses, misses + 1);
}

#[test]
fn equal_providers_share_a_verifier_until_nobody_uses_it() {
    let mut verifiers = Verifiers::new(Arc::default());
    let first = verifiers.get(&Arc::new(provider()));
    assert!(Arc::ptr_eq(&first, &verifiers.get(&Arc::new(provider()))));
    let mut other = provider();
    other.name = "other".into();
    let second = verifiers.get(&Arc::new(other));
    assert!(!Arc::ptr_eq(&first, &second));
    verifiers.retain_used();
    assert_eq!(verifiers.len(), 2);
    drop(second);
    verifiers.retain_used();
    assert_eq!(verifiers.len(), 1);
    assert!(Arc::ptr_eq(&first, &verifiers.get(&Arc::new(provider()))));
    drop(first);
    verifiers.retain_used();
    assert_eq!(verifiers.len(), 0);
}

#[test]
fn one_changed_byte_is_another_token() {
    let mut gate = Gate::of(provider_with(&[Algorithm::ES256], vec![jwk(None, material(Algorithm::ES256))]));
    let good = token(Algorithm::ES256, &good_claims());
    assert_eq!(gate.reason(&good), None);
    for index in 0..good.len() {
        let mut forged = good.clone().into_bytes();
        forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).expect("ASCII");
        assert!(gate.reason(&forged).is_some(), "byte {index}");
    }
    assert!(gate.reason(&good[..good.len() - 1]).is_some());
    assert_eq!(gate.cache.stats().hits, 0);
}

#[test]
fn the_cache_is_bounded_in_number_and_bytes() {
    let numbered = |n: u64| hs256(&claims_with(json!({"sub": format!("user-{n}")})));
    let mut gate = Gate::of(provider());
    gate.cache = VerdictCache::new(8, 1 << 20);
    for n in 0..100 {
        assert_eq!(gate.reason(&numbered(n)), None);
        assert_eq!(gate.reason(&numbered(n)), None, "found again at once");
        assert!(gate.cache.stats().entries <= 8);
    }
    let stats = gate.cache.stats();
    assert_eq!((stats.entries, stats.hits, stats.misses, stats.evicted), (8, 100, 100, 92));

    let mut gate = Gate::of(provider());
    gate.cache = VerdictCache::new(1000, 20_000);
    for n in 0..100 {
        assert_eq!(gate.reason(&numbered(n)), None);
        assert!(gate.cache.stats().bytes <= 20_000);
    }
    assert!(gate.cache.stats().entries > 4);
    for (entries, bytes) in [(0, 1 << 20), (8, 0), (8, 100)] {
        gate.cache = VerdictCache::new(entries, bytes);
        assert_eq!(gate.reason(&numbered(0)), None);
        assert_eq!(gate.cache.stats().entries, 0, "{entries} {bytes}");
    }
}

#[test]
fn tokens_in_use_outlive_tokens_seen_once_and_bad_ones_take_no_place() {
    let mut gate = Gate::of(provider());
    gate.cache = VerdictCache::new(8, 1 << 20);
    let busy = hs256(&claims_with(json!({"sub": "busy"})));
    assert_eq!(gate.reason(&busy), None);
    for n in 0..50 {
        let once = hs256(&claims_with(json!({"sub": format!("once-{n}")})));
        assert_eq!(gate.reason(&once), None);
        assert!(gate.reason(&format!("{busy}x")).is_some());
        let hits = gate.cache.stats().hits;
        assert_eq!(gate.reason(&busy), None);
        assert_eq!(gate.cache.stats().hits, hits + 1, "after {n}");
    }
}

#[test]
fn the_index_stays_right_under_a_random_mix() {
    // A reference of what may stand: a found verdict must be that of its own token.
    let mut gate = Gate::of(provider());
    gate.cache = VerdictCache::new(16, 1 << 20);
    let tokens: Vec<(String, String)> = (0..40)
        .map(|n| {
            let subject = format!("user-{n}");
            (hs256(&claims_with(json!({"sub": subject, "exp": NOW + n}))), subject)
        })
        .collect();
    let mut state = 1_u64;
    for step in 0..4000_u64 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let index = usize::try_from(state >> 33).expect("an index") % tokens.len();
        gate.now = NOW + step / 70;
        let (token, subject) = &tokens[index];
        let alive = gate.now < NOW + u64::try_from(index).expect("small") + 30;
        match gate.ask_bearer(token) {
            Ok(identity) => {
                assert!(alive, "step {step}");
                assert_eq!(identity.claim(None, "sub").as_deref(), Some(subject.as_str()), "step {step}");
            }
            Err(reason) => {
                assert_eq!(reason, AuthReason::TokenExpired);
                assert!(!alive, "step {step}");
            }
        }
    }
    assert!(gate.cache.stats().hits > 500, "{:?}", gate.cache.stats());
}
