//! Services that decide: what their answers mean beside the other methods, and for how long they are kept.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use ir::{
    Auth, AuthMode, BackendId, ExternalAuth, FailureMode, Kind, ObjectRef, UpstreamProtocol, UrlTemplate,
};

use super::support::*;
use crate::filter::auth::answer_cache::{AnswerCache, AnswerKey, Look};
use crate::filter::auth::external::{External, Pass};
use crate::filter::auth::refusal::AuthReason;
use crate::filter::auth::{
    AuthAnswer, AuthRequest, AuthStop, ExternalVerdict, Identity, Meaning, is_navigation, meaning,
};

fn spec(failure_mode: FailureMode, response_headers: &[&'static str]) -> Arc<ExternalAuth> {
    Arc::new(ExternalAuth {
        backend: BackendId::Service { namespace: "shop".into(), name: "auth".into(), port: 80 },
        protocol: UpstreamProtocol::default(),
        host: "auth.shop.svc".into(),
        path: UrlTemplate::text("/"),
        method: Method::GET,
        timeout: Duration::from_secs(2),
        failure_mode,
        request_headers: None,
        request_redirect: None,
        response_headers: response_headers.iter().map(|name| HeaderName::from_static(name)).collect(),
        sign_in: None,
        cache: None,
    })
}

fn auth(mode: AuthMode, response_headers: &[&'static str]) -> Auth {
    Auth {
        source: ObjectRef::new(Kind::AuthPolicy, "shop", "outside"),
        mode,
        jwt: None,
        api_key: None,
        basic: None,
        external: Some(spec(FailureMode::Closed, response_headers)),
        authorization: None,
    }
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(field).collect()
}

/// Asks as the pipeline does; every service says this.
fn ask(
    gate: &mut Gate,
    headers: &HeaderMap,
    verdict: &ExternalVerdict,
) -> (Result<Identity, AuthReason>, usize) {
    let mut answers: Vec<AuthAnswer> = Vec::new();
    loop {
        let request = AuthRequest { headers, query: None, method: &gate.method, client: Some(gate.client) };
        match gate.stage.check(request, gate.now, &mut gate.cache, &answers) {
            Ok(identity) => return (Ok(identity), answers.len()),
            Err(AuthStop::Refused(refusal)) => return (Err(refusal.reason), answers.len()),
            Err(AuthStop::Needs(need)) => panic!("{need:?}"),
            Err(AuthStop::Asks(need)) => answers.push(need.answered(verdict.clone())),
        }
    }
}

fn passed(fields: &[(&'static str, &str)]) -> ExternalVerdict {
    let external = External::new(&spec(FailureMode::Closed, &["x-user", "x-groups"]));
    ExternalVerdict::Passed(Rc::new(external.pass(&headers(fields))))
}

#[test]
fn only_what_the_service_says_fills_its_headers() {
    let mut gate = Gate::new(&[auth(AuthMode::All, &["x-user", "x-groups"])]);
    let sent = headers(&[("x-user", "root"), ("x-groups", "root"), ("x_user", "root"), ("x-other", "1")]);
    let said = passed(&[("x-groups", "a"), ("x-groups", "b"), ("x-secret", "1"), ("x-other", "2")]);
    let (identity, asked) = ask(&mut gate, &sent, &said);
    let mut upstream = sent.clone();
    gate.stage.apply(&identity.unwrap(), &mut upstream);
    assert_eq!(asked, 1);
    assert_eq!(upstream, headers(&[("x-other", "1"), ("x-groups", "a"), ("x-groups", "b")]));

    let (opened, _) = ask(&mut gate, &sent, &ExternalVerdict::Opened);
    let mut upstream = sent;
    gate.stage.apply(&opened.unwrap(), &mut upstream);
    assert_eq!(upstream, headers(&[("x-other", "1")]));
}

#[test]
fn of_two_services_the_first_fills_a_header_and_both_must_let_pass() {
    let mut gate =
        Gate::new(&[auth(AuthMode::All, &["x-user"]), auth(AuthMode::All, &["x-user", "x-groups"])]);
    let said = passed(&[("x-user", "ada"), ("x-groups", "a")]);
    let (identity, asked) = ask(&mut gate, &HeaderMap::new(), &said);
    let mut upstream = HeaderMap::new();
    gate.stage.apply(&identity.unwrap(), &mut upstream);
    assert_eq!((asked, upstream), (2, headers(&[("x-user", "ada"), ("x-groups", "a")])));
    let (refused, asked) = ask(&mut gate, &HeaderMap::new(), &ExternalVerdict::Refused);
    assert_eq!((refused.err(), asked), (Some(AuthReason::ExternalRefused), 1));
}

#[test]
fn beside_other_methods_it_is_asked_last_and_what_is_not_known_outweighs_what_is_bad() {
    use AuthReason::{ApiKeyMissing, ApiKeyUnknown, ExternalRefused, ExternalUnavailable};
    let keys = Arc::new(ir::ApiKeys {
        selector: Vec::new(),
        keys: vec![ir::ApiKey {
            client: "acme".into(),
            source: ObjectRef::new(Kind::Secret, "shop", "keys"),
            key: ir::Redacted::new("right".to_owned()),
        }],
        from: vec![ir::TokenSource::Header {
            name: HeaderName::from_static("x-api-key"),
            prefix: String::new(),
        }],
        client_id_header: None,
    });
    let (yes, no, unknown) = (passed(&[]), ExternalVerdict::Refused, ExternalVerdict::Unavailable);
    for (mode, key, verdict, want, times) in [
        (AuthMode::All, Some("right"), &yes, None, 1),
        (AuthMode::All, Some("right"), &no, Some(ExternalRefused), 1),
        (AuthMode::All, Some("wrong"), &yes, Some(ApiKeyUnknown), 0),
        (AuthMode::All, None, &yes, Some(ApiKeyMissing), 0),
        (AuthMode::Any, Some("right"), &no, None, 0),
        (AuthMode::Any, Some("wrong"), &yes, None, 1),
        (AuthMode::Any, None, &yes, None, 1),
        (AuthMode::Any, None, &no, Some(ExternalRefused), 1),
        (AuthMode::Any, Some("wrong"), &no, Some(ApiKeyUnknown), 1),
        (AuthMode::Any, Some("wrong"), &unknown, Some(ExternalUnavailable), 1),
        (AuthMode::Any, None, &unknown, Some(ExternalUnavailable), 1),
    ] {
        let mut gate = Gate::new(&[Auth { api_key: Some(Arc::clone(&keys)), ..auth(mode, &[]) }]);
        let sent = key.map_or_else(HeaderMap::new, |key| headers(&[("x-api-key", key)]));
        let (result, asked) = ask(&mut gate, &sent, verdict);
        assert_eq!((result.err(), asked), (want, times), "{mode:?} {key:?} {verdict:?}");
    }
}

#[test]
fn only_a_success_passes_and_only_the_services_own_failure_may_be_overlooked() {
    let location = headers(&[("location", "/x")]);
    for (status, fields, want) in [
        (200, None, Meaning::Passes),
        (204, None, Meaning::Passes),
        (299, None, Meaning::Passes),
        (401, None, Meaning::Refused),
        (403, None, Meaning::Refused),
        (302, Some(&location), Meaning::Refused),
        (302, None, Meaning::Unclear),
        (304, Some(&location), Meaning::Unclear),
        (101, None, Meaning::Unclear),
        (400, None, Meaning::Unclear),
        (404, None, Meaning::Unclear),
        (431, None, Meaning::Unclear),
        (500, None, Meaning::Failed),
        (503, None, Meaning::Failed),
        (600, None, Meaning::Unclear),
    ] {
        let got = meaning(StatusCode::from_u16(status).unwrap(), fields.unwrap_or(&HeaderMap::new()));
        assert_eq!(got, want, "{status} {fields:?}");
    }
}

#[test]
fn only_a_browser_that_shows_a_page_is_sent_elsewhere() {
    for (method, fields, want) in [
        (Method::GET, &[][..], true),
        (Method::HEAD, &[], true),
        (Method::POST, &[], false),
        (Method::POST, &[("sec-fetch-mode", "navigate")], true),
        (Method::GET, &[("sec-fetch-mode", "cors")], false),
        (Method::GET, &[("x-requested-with", "xmlhttprequest")], false),
        (Method::GET, &[("upgrade", "websocket")], false),
    ] {
        let headers = headers(fields);
        let client = IpAddr::from([192, 0, 2, 1]);
        let request = AuthRequest { headers: &headers, query: None, method: &method, client: Some(client) };
        assert_eq!(is_navigation(&request), want, "{method} {fields:?}");
    }
}

fn key(cache: &AnswerCache, parts: &[&[u8]]) -> AnswerKey {
    let mut hash = cache.hash(7);
    for part in parts {
        hash.add(part);
    }
    hash.finish()
}

const MINUTE: Duration = Duration::from_mins(1);

#[test]
fn keys_differ_by_each_part_by_service_and_by_worker() {
    let cache = AnswerCache::default();
    let of = |parts: &[&[u8]]| key(&cache, parts);
    assert!(of(&[b"a", b"bc"]) == of(&[b"a", b"bc"]));
    for other in [&[&b"ab"[..], b"c"][..], &[b"abc"], &[b"a", b"bc", b""], &[b"bc", b"a"]] {
        assert!(of(&[b"a", b"bc"]) != of(other));
    }
    assert!(key(&AnswerCache::default(), &[b"a"]) != of(&[b"a"]), "each worker has a key of its own");
    assert!(cache.hash(8).finish() != cache.hash(7).finish());
    let list = |values: &[&'static [u8]]| {
        let mut hash = cache.hash(7);
        let found = hash.add_all(values.iter().copied());
        (found.is_some(), hash.finish())
    };
    assert!(!list(&[]).0, "a header that is missing makes no key");
    assert!(list(&[b""]).0 && list(&[b"a", b"b"]).1 != list(&[b"a,b"]).1);
}

#[test]
fn answers_end_with_their_time_and_the_longest_unused_makes_room() {
    let now = Instant::now();
    let mut cache = AnswerCache::new(2, 1 << 20);
    let [a, b, c] = [b"a", b"b", b"c"].map(|name| key(&cache, &[name]));
    let pass = Rc::new(Pass::default());
    cache.insert(a, &pass, (now, MINUTE));
    cache.insert(b, &pass, (now, MINUTE * 2));
    assert!(cache.get(a, now).is_some() && cache.get(b, now).is_some());
    assert!(cache.get(a, now + MINUTE).is_none() && cache.get(b, now + MINUTE).is_some());
    cache.insert(a, &pass, (now, MINUTE));
    assert!(cache.get(b, now).is_some());
    cache.insert(c, &pass, (now, MINUTE));
    assert_eq!([a, b, c].map(|key| cache.get(key, now).is_some()), [false, true, true]);
    // One that has ended goes first, however lately it was used.
    let mut cache = AnswerCache::new(2, 1 << 20);
    let [a, b, c] = [b"a", b"b", b"c"].map(|name| key(&cache, &[name]));
    cache.insert(a, &pass, (now, MINUTE * 3));
    cache.insert(b, &pass, (now, MINUTE));
    cache.insert(c, &pass, (now + MINUTE, MINUTE));
    assert_eq!([a, b, c].map(|key| cache.get(key, now + MINUTE).is_some()), [true, false, true]);
}

#[test]
fn the_bytes_of_kept_answers_are_bounded() {
    let now = Instant::now();
    let mut cache = AnswerCache::new(100, 4096);
    let long = "x".repeat(1500);
    let external = External::new(&spec(FailureMode::Closed, &["x-user"]));
    let pass = Rc::new(external.pass(&headers(&[("x-user", &long)])));
    let keys: Vec<AnswerKey> = (0_u8..5).map(|name| key(&cache, &[&[name]])).collect();
    for of in &keys {
        cache.insert(*of, &pass, (now, MINUTE));
    }
    let kept = keys.iter().filter(|of| cache.get(**of, now).is_some()).count();
    assert_eq!(kept, 2);
    let huge = "x".repeat(8192);
    let huge = Rc::new(external.pass(&headers(&[("x-user", &huge)])));
    let other = key(&cache, &[b"huge"]);
    cache.insert(other, &huge, (now, MINUTE));
    assert!(cache.get(other, now).is_none(), "one that is larger than all may be is not kept");
}

#[tokio::test]
async fn who_waits_is_told_when_the_one_that_asks_ends_however_it_does() {
    let (cache, now) = (RefCell::new(AnswerCache::default()), Instant::now());
    let of = key(&cache.borrow(), &[b"a"]);
    let Look::Ask(turn) = AnswerCache::look(&cache, of, now) else { panic!("nobody asks yet") };
    let Look::Wait(other) = AnswerCache::look(&cache, of, now) else { panic!("somebody asks") };
    let told = other.notified();
    drop(turn);
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("to be told");
    let Look::Ask(turn) = AnswerCache::look(&cache, of, now) else { panic!("there was no answer") };
    cache.borrow_mut().insert(of, &Rc::new(Pass::default()), (now, MINUTE));
    drop(turn);
    assert!(matches!(AnswerCache::look(&cache, of, now), Look::Kept(_)));
}
