//! Key sets that are fetched, without the fetching: what each state of one means for requests (JW10 to JW17).

use std::sync::Arc;
use std::time::{Duration, Instant};

use ir::{Algorithm, Jwk, JwtProvider, KeySetPhase, KeySource, KeysUri, RemoteKeys, Trust};
use serde_json::json;
use tokio::time::timeout;

use super::support::{
    Gate, NOW, auth, claims_with, good_claims, header_map, hs256, jwk, material, provider, provider_with,
    raw_token, token,
};
use crate::filter::auth::demand::AuthNeed;
use crate::filter::auth::refusal::AuthReason;
use crate::filter::auth::{AuthAnswer, AuthRequest, AuthStage, AuthStop, RemoteKeySet, Verifiers};

fn spec() -> Arc<RemoteKeys> {
    Arc::new(RemoteKeys {
        uri: KeysUri::parse("https://id.example.com/jwks?key=canary-uri").expect("a URL"),
        cache_duration: Duration::from_secs(600),
        max_stale: Duration::from_secs(3600),
        timeout: Duration::from_secs(3),
        trust: Trust::System,
        allow_private: false,
    })
}

fn remote() -> JwtProvider {
    let given = provider_with(&[Algorithm::ES256, Algorithm::EdDSA], Vec::new());
    JwtProvider { keys: KeySource::Remote(spec()), ..given }
}

fn set_of(verifiers: &Verifiers) -> Arc<RemoteKeySet> {
    let (_, set) = verifiers.remote().next().expect("a key set that is fetched");
    Arc::clone(set)
}

/// As the keeper does after a fetch that nobody asked for.
fn fetched(set: &RemoteKeySet, keys: Vec<Jwk>) {
    set.begin();
    set.install(keys, Instant::now()).expect("usable keys");
    set.end(true);
}

fn failed(set: &RemoteKeySet, may_ask: bool) {
    set.begin();
    set.fail("no connection: refused");
    set.end(may_ask);
}

fn p256(kid: &str) -> Jwk {
    jwk(Some(kid), material(Algorithm::ES256))
}

fn ed(kid: &str) -> Jwk {
    jwk(Some(kid), material(Algorithm::EdDSA))
}

fn signed(algorithm: Algorithm, kid: &str) -> String {
    raw_token(
        algorithm,
        &json!({"alg": algorithm.as_str(), "kid": kid}).to_string(),
        &good_claims().to_string(),
    )
}

/// What a bearer of the token meets: good, refused, or told to wait.
fn ask(gate: &mut Gate, token: &str, answers: &[AuthAnswer]) -> Result<(), Met> {
    let headers = header_map(&[("authorization", &format!("Bearer {token}"))]);
    let request =
        AuthRequest { headers: &headers, query: None, method: &gate.method, client: Some(gate.client) };
    match gate.stage.check(request, gate.now, &mut gate.cache, answers) {
        Ok(_) => Ok(()),
        Err(AuthStop::Refused(refusal)) => Err(Met::Refused(refusal.reason)),
        Err(AuthStop::Needs(need)) => Err(Met::Waits(need)),
        Err(AuthStop::Asks(question)) => panic!("{question:?}"),
    }
}

#[derive(Debug)]
enum Met {
    Refused(AuthReason),
    Waits(Box<AuthNeed>),
}

fn refused(met: Result<(), Met>) -> AuthReason {
    match met {
        Err(Met::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

fn waits(met: Result<(), Met>) -> Box<AuthNeed> {
    match met {
        Err(Met::Waits(need)) => need,
        other => panic!("{other:?}"),
    }
}

#[test]
fn jw10_a_route_whose_keys_never_came_is_unavailable_to_everybody() {
    let mut gate = Gate::of(remote());
    let set = set_of(&gate.verifiers);
    assert_eq!(set.state().phase, KeySetPhase::Waiting);
    drop(waits(ask(&mut gate, &signed(Algorithm::ES256, "a"), &[])));
    failed(&set, true);
    assert_eq!(set.state().phase, KeySetPhase::Unavailable);
    assert_eq!(refused(ask(&mut gate, &signed(Algorithm::ES256, "a"), &[])), AuthReason::KeysUnavailable);
    assert_eq!(gate.reason("no token"), Some(AuthReason::KeysUnavailable));
    assert_eq!(gate.ask(&[]).err(), Some(AuthReason::KeysUnavailable), "nor is anybody sent to sign in");
    let two = [("authorization", "Bearer a.b.c"), ("authorization", "Bearer a.b.c")];
    assert_eq!(gate.ask(&two).err(), Some(AuthReason::KeysUnavailable));
    fetched(&set, vec![p256("a")]);
    assert_eq!(set.state().phase, KeySetPhase::Ready);
    assert!(ask(&mut gate, &signed(Algorithm::ES256, "a"), &[]).is_ok());
    assert_eq!(gate.ask(&[]).err(), Some(AuthReason::TokenMissing));
}

#[test]
fn an_optional_token_may_be_missing_whatever_the_keys() {
    let mut auth = auth(vec![remote()]);
    if let Some(jwt) = &mut auth.jwt {
        jwt.optional = true;
    }
    let mut gate = Gate::new(&[auth]);
    failed(&set_of(&gate.verifiers), true);
    assert!(gate.ask(&[]).is_ok());
    assert_eq!(refused(ask(&mut gate, &signed(Algorithm::ES256, "a"), &[])), AuthReason::KeysUnavailable);
}

#[test]
fn jw11_old_keys_hold_while_the_provider_fails_and_nothing_passes_when_they_are_too_old() {
    let mut gate = Gate::of(remote());
    let set = set_of(&gate.verifiers);
    fetched(&set, vec![p256("a")]);
    let good = signed(Algorithm::ES256, "a");
    assert!(ask(&mut gate, &good, &[]).is_ok());
    for _ in 0..3 {
        failed(&set, true);
        assert!(ask(&mut gate, &good, &[]).is_ok());
        let other = raw_token(
            Algorithm::ES256,
            r#"{"alg":"ES256","kid":"a"}"#,
            &claims_with(json!({"sub": "bob"})).to_string(),
        );
        assert!(ask(&mut gate, &other, &[]).is_ok(), "one that was not met before passes too");
    }
    assert_eq!((set.state().phase, set.state().keys), (KeySetPhase::Failing, 1));
    assert_eq!(set.metrics().failures.get(), 3);
    assert!(set.expire(), "it says once that keys went");
    assert!(!set.expire());
    assert_eq!(
        refused(ask(&mut gate, &good, &[])),
        AuthReason::KeysUnavailable,
        "verdicts go with their keys"
    );
    fetched(&set, vec![p256("a")]);
    assert!(ask(&mut gate, &good, &[]).is_ok());
}

#[test]
fn jw13_a_flood_of_unknown_key_ids_asks_once_and_keeps_no_known_one_waiting() {
    let mut gate = Gate::of(remote());
    let set = set_of(&gate.verifiers);
    fetched(&set, vec![p256("a")]);
    let good = signed(Algorithm::ES256, "a");
    let first = waits(ask(&mut gate, &signed(Algorithm::ES256, "x"), &[]));
    let held: Vec<_> =
        (0..100).map(|n| waits(ask(&mut gate, &signed(Algorithm::EdDSA, &n.to_string()), &[]))).collect();
    assert!(ask(&mut gate, &good, &[]).is_ok(), "nobody who is known waits");
    assert_eq!(set.metrics().refetches.get(), 1);
    // The keeper's fetch ends, and for a while there is no other.
    set.begin();
    set.install(vec![p256("a")], Instant::now()).unwrap();
    set.end(false);
    drop((first, held));
    let unknown = signed(Algorithm::EdDSA, "z");
    for _ in 0..10_000 {
        assert_eq!(refused(ask(&mut gate, &unknown, &[])), AuthReason::KeyUnknown);
    }
    assert!(ask(&mut gate, &good, &[]).is_ok());
    assert_eq!(set.metrics().refetches.get(), 1);
    set.free();
    drop(waits(ask(&mut gate, &signed(Algorithm::EdDSA, "y"), &[])));
    assert_eq!(set.metrics().refetches.get(), 2, "then there may be one more");
}

#[tokio::test]
async fn jw14_the_first_token_of_a_new_key_waits_for_it_and_the_old_key_is_out_with_its_set() {
    let mut gate = Gate::of(remote());
    let set = set_of(&gate.verifiers);
    fetched(&set, vec![p256("old")]);
    let (old, new) = (signed(Algorithm::ES256, "old"), signed(Algorithm::EdDSA, "new"));
    assert!(ask(&mut gate, &old, &[]).is_ok());
    let need = waits(ask(&mut gate, &new, &[]));
    let keeper = async {
        timeout(Duration::from_secs(5), set.asked()).await.expect("the keeper is asked");
        set.begin();
        set.install(vec![ed("new")], Instant::now()).unwrap();
        set.end(false);
    };
    let (answer, ()) = tokio::join!(need.answer(), keeper);
    assert!(ask(&mut gate, &new, &[answer]).is_ok());
    assert!(ask(&mut gate, &new, &[]).is_ok());
    assert_eq!(refused(ask(&mut gate, &old, &[])), AuthReason::KeyUnknown, "JW17: its verdict is not kept");
}

#[tokio::test]
async fn jw15_an_unknown_key_id_while_the_provider_says_nothing_or_fails_is_unavailable_and_never_waits_twice()
 {
    let mut gate = Gate::of(remote());
    let set = set_of(&gate.verifiers);
    fetched(&set, vec![p256("a")]);
    let unknown = signed(Algorithm::EdDSA, "b");
    let need = waits(ask(&mut gate, &unknown, &[]));
    let started = Instant::now();
    let answer = need.answer().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(refused(ask(&mut gate, &unknown, &[answer])), AuthReason::KeysUnavailable, "no answer yet");
    failed(&set, false);
    assert_eq!(refused(ask(&mut gate, &unknown, &[])), AuthReason::KeysUnavailable, "nobody can tell");
    assert!(ask(&mut gate, &signed(Algorithm::ES256, "a"), &[]).is_ok());
    // Two tokens at once, of which nobody takes any.
    let bearer = format!("Bearer {unknown}");
    let two = [("authorization", bearer.as_str()), ("authorization", bearer.as_str())];
    assert_eq!(gate.ask(&two).err(), Some(AuthReason::SeveralTokens));
}

#[test]
fn more_than_so_many_do_not_wait() {
    let mut gate = Gate::of(remote());
    let set = set_of(&gate.verifiers);
    fetched(&set, vec![p256("a")]);
    let unknown = signed(Algorithm::EdDSA, "b");
    let mut held: Vec<_> = (0..1024).map(|_| waits(ask(&mut gate, &unknown, &[]))).collect();
    assert_eq!(refused(ask(&mut gate, &unknown, &[])), AuthReason::KeysUnavailable);
    held.pop();
    held.push(waits(ask(&mut gate, &unknown, &[])));
}

#[test]
fn jw17_verdicts_hold_for_one_set_of_keys_and_an_equal_set_changes_nothing() {
    let mut gate = Gate::of(remote());
    let set = set_of(&gate.verifiers);
    fetched(&set, vec![p256("a"), ed("b")]);
    let good = signed(Algorithm::ES256, "a");
    assert!(ask(&mut gate, &good, &[]).is_ok());
    fetched(&set, vec![p256("a"), ed("b")]);
    assert!(ask(&mut gate, &good, &[]).is_ok());
    assert_eq!(gate.cache.stats().hits, 1, "the same keys, the same verdict");
    fetched(&set, vec![ed("b")]);
    assert_eq!(refused_after_wait(&mut gate, &set, &good), AuthReason::KeyUnknown);
    // The name of a key says nothing about who made the signature.
    fetched(&set, vec![jwk(Some("a"), material(Algorithm::EdDSA))]);
    assert_eq!(refused(ask(&mut gate, &good, &[])), AuthReason::AlgorithmNotAllowed);
}

/// The token's key is asked for once more, in vain.
fn refused_after_wait(gate: &mut Gate, set: &RemoteKeySet, token: &str) -> AuthReason {
    drop(waits(ask(gate, token, &[])));
    set.end(false);
    refused(ask(gate, token, &[]))
}

#[test]
fn a_set_without_a_usable_key_leaves_the_old_one() {
    let gate = Gate::of(remote());
    let set = set_of(&gate.verifiers);
    fetched(&set, vec![p256("a")]);
    let weak = jwk(None, ir::JwkMaterial::Ed25519 { x: vec![0; 32] });
    assert!(set.install(vec![weak], Instant::now()).is_err());
    assert!(set.install(Vec::new(), Instant::now()).is_err());
    assert_eq!(set.state().keys, 1);
}

#[test]
fn providers_of_one_source_share_its_keys_and_each_keeps_to_its_own_algorithms() {
    let other = JwtProvider { name: "other".into(), algorithms: vec![Algorithm::EdDSA], ..remote() };
    let mut gate = Gate::of(remote());
    gate.stage = AuthStage::new(&[auth(vec![other])], &mut gate.verifiers);
    let sets: Vec<Arc<RemoteKeySet>> = gate.verifiers.remote().map(|(_, set)| Arc::clone(set)).collect();
    assert_eq!(sets.len(), 2);
    assert!(Arc::ptr_eq(&sets[0], &sets[1]));
    fetched(&sets[0], vec![p256("a"), ed("b")]);
    assert!(ask(&mut gate, &signed(Algorithm::EdDSA, "b"), &[]).is_ok());
    assert_eq!(refused(ask(&mut gate, &signed(Algorithm::ES256, "a"), &[])), AuthReason::AlgorithmNotAllowed);
}

#[test]
fn another_schedule_goes_on_with_the_keys_and_another_source_does_not() {
    let mut verifiers = Verifiers::new(Arc::default());
    let stage = AuthStage::new(&[auth(vec![remote()])], &mut verifiers);
    fetched(&set_of(&verifiers), vec![p256("a")]);
    let changed = |change: fn(&mut RemoteKeys)| {
        let mut spec = (*spec()).clone();
        change(&mut spec);
        JwtProvider { keys: KeySource::Remote(Arc::new(spec)), ..remote() }
    };
    let faster = AuthStage::new(&[auth(vec![changed(|spec| spec.timeout /= 2)])], &mut verifiers);
    let elsewhere = AuthStage::new(
        &[auth(vec![changed(|spec| spec.uri = KeysUri::parse("https://id.example.com/other").unwrap())])],
        &mut verifiers,
    );
    let mut phases: Vec<String> =
        verifiers.remote().map(|(_, set)| format!("{:?} {}", set.state().phase, set.spec().uri)).collect();
    phases.sort();
    assert_eq!(
        phases,
        [
            "Ready https://id.example.com/jwks?[redacted]",
            "Ready https://id.example.com/jwks?[redacted]",
            "Waiting https://id.example.com/other",
        ]
    );
    drop((stage, elsewhere));
    verifiers.retain_used();
    assert_eq!(verifiers.remote().count(), 1, "what nobody uses is not fetched");
    drop(faster);
}

#[test]
fn a_token_of_a_provider_with_keys_passes_beside_one_without() {
    let mut gate = Gate::new(&[auth(vec![remote(), provider()])]);
    failed(&set_of(&gate.verifiers), true);
    assert_eq!(gate.reason(&hs256(&good_claims())), None);
    let late = hs256(&claims_with(json!({"exp": NOW - 100})));
    assert_eq!(gate.reason(&late), Some(AuthReason::TokenExpired), "whose it is was found out");
    let theirs = signed(Algorithm::ES256, "a");
    assert_eq!(refused(ask(&mut gate, &theirs, &[])), AuthReason::KeysUnavailable);
    assert_eq!(gate.ask(&[]).err(), Some(AuthReason::TokenMissing), "with the right token one would pass");
}

#[test]
fn a_key_of_another_issuer_with_the_same_name_hides_no_missing_one() {
    let other = "https://other.example.com/";
    let given = provider_with(&[Algorithm::EdDSA], vec![ed("1")]);
    let theirs = JwtProvider { name: "other".into(), issuer: Some(other.to_owned()), ..given };
    let mut gate = Gate::new(&[auth(vec![remote(), theirs])]);
    let set = set_of(&gate.verifiers);
    failed(&set, true);
    let ours = signed(Algorithm::ES256, "1");
    assert_eq!(refused(ask(&mut gate, &ours, &[])), AuthReason::KeysUnavailable, "no 401 for want of keys");
    fetched(&set, vec![p256("old")]);
    drop(waits(ask(&mut gate, &ours, &[])));
    // Whoever says that the other one made his token waits for no keys of this one, and asks for none.
    let of_other = |kid: &str| {
        let header = json!({"alg": "EdDSA", "kid": kid}).to_string();
        raw_token(Algorithm::EdDSA, &header, &claims_with(json!({"iss": other})).to_string())
    };
    assert!(ask(&mut gate, &of_other("1"), &[]).is_ok());
    failed(&set, true);
    let (good, strange) = (of_other("1"), of_other("2"));
    let (signed_part, _) = good.rsplit_once('.').unwrap();
    let (_, signature) = strange.rsplit_once('.').unwrap();
    let forged = format!("{signed_part}.{signature}");
    assert_eq!(refused(ask(&mut gate, &forged, &[])), AuthReason::KeyUnknown);
}

#[test]
fn jw20_nothing_about_a_key_set_prints_its_query() {
    let gate = Gate::of(remote());
    let set = set_of(&gate.verifiers);
    failed(&set, true);
    let state = serde_json::to_string(&set.state()).unwrap();
    for text in [format!("{set:?}"), format!("{:?}", set.spec()), format!("{:?}", gate.stage), state] {
        assert!(!text.contains("canary"), "{text}");
    }
    let token = token(Algorithm::ES256, &good_claims());
    assert!(!format!("{:?}", set.lack()).contains(&token));
}
