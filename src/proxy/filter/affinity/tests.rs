//! Cookies of sessions: what is read back, what is refused, when one is set and how.

use std::time::Duration;

use http::header;
use ir::{AffinityCookie, BackendId, Redacted, SameSite, UpstreamProtocol};

use super::*;

fn affinity(mode: AffinityMode) -> Affinity {
    Affinity {
        cookie: AffinityCookie {
            name: "SRV".to_owned(),
            path: "/".to_owned(),
            domain: None,
            ttl: None,
            same_site: SameSite::Lax,
            secure: None,
        },
        mode,
        on_failure: AffinityFailure::Repick,
        keeps_backend: true,
        key: Redacted::new(b"GatewayRoute/shop/web and what nobody knows".to_vec()),
    }
}

fn backends(weights: &[u32]) -> Vec<WeightedBackend> {
    let named = weights.iter().enumerate().map(|(index, weight)| WeightedBackend {
        target: BackendTarget::Backend(BackendId::Service {
            namespace: "shop".into(),
            name: format!("web-{index}").into(),
            port: 80,
        }),
        weight: *weight,
        protocol: UpstreamProtocol::default(),
    });
    named.collect()
}

fn stage(affinity: &Affinity, weights: &[u32]) -> AffinityStage {
    AffinityStage::new(affinity, &backends(weights)).unwrap()
}

fn cookies(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(header::COOKIE, HeaderValue::from_str(line).unwrap());
    }
    headers
}

/// The pair that a browser sends back.
fn pair(set: &HeaderValue) -> String {
    set.to_str().unwrap().split(';').next().unwrap().to_owned()
}

const NOBODY: Visit = Visit { said: None, key: 77 };

#[test]
fn a_session_comes_back_to_its_endpoint_and_gets_no_cookie_again() {
    let stage = stage(&affinity(AffinityMode::Persistent), &[1, 1]);
    assert_eq!(stage.sticky(&NOBODY, 0), None);
    let (set, change) = stage.cookie(&NOBODY, (1, 4711), Scheme::Http).unwrap();
    assert_eq!(change, SessionChange::Begun);
    let visit = stage.visit(&cookies(&[&format!("a=b; {}; c", pair(&set))]), 1);
    assert_eq!(stage.backend(&visit), Some(1));
    let sticky = Sticky { place: StickyPlace::Endpoint(4711), is_strict: false };
    assert_eq!(stage.sticky(&visit, 1), Some(sticky));
    assert_eq!(stage.sticky(&visit, 0), None, "at another backend it is nobody's");
    assert_eq!(stage.cookie(&visit, (1, 4711), Scheme::Http), None);
    let (_, change) = stage.cookie(&visit, (1, 4712), Scheme::Http).unwrap();
    assert_eq!(change, SessionChange::Moved);
}

#[test]
fn a_balanced_session_keeps_its_key_wherever_that_leads() {
    let stage = stage(&affinity(AffinityMode::Balanced), &[1]);
    let key = |visit: &Visit| stage.sticky(visit, 0).unwrap().place;
    assert_eq!(key(&NOBODY), StickyPlace::Key(77));
    let (set, _) = stage.cookie(&NOBODY, (0, 1), Scheme::Http).unwrap();
    let visit = stage.visit(&cookies(&[&pair(&set)]), 88);
    assert_eq!(key(&visit), StickyPlace::Key(77));
    assert_eq!(stage.cookie(&visit, (0, 2), Scheme::Http), None, "another endpoint is no change");
}

#[test]
fn what_was_not_sealed_by_this_route_is_no_cookie() {
    let own = stage(&affinity(AffinityMode::Persistent), &[1]);
    let (set, _) = own.cookie(&NOBODY, (0, 4711), Scheme::Http).unwrap();
    let good = pair(&set);
    let says = |stage: &AffinityStage, lines: &[&str]| stage.visit(&cookies(lines), 1).said.is_some();
    assert!(says(&own, &[&good]));
    assert!(says(&own, &["SRV=forged", &good]), "one of another path stands before it");
    let foreign = Affinity { key: Redacted::new(b"other".to_vec()), ..affinity(AffinityMode::Persistent) };
    assert!(!says(&stage(&foreign, &[1]), &[&good]));
    let value = good.strip_prefix("SRV=").unwrap();
    for place in 0..value.len() {
        let mut bytes = value.as_bytes().to_vec();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        let forged = format!("SRV={}", String::from_utf8(bytes).unwrap());
        assert!(!says(&own, &[&forged]), "{forged}");
    }
    let long = "A".repeat(100_000);
    for garbage in
        ["", "=", "SRV", "SRV=", "SRV==", "srv=x", &value[1..], &format!("SRV={long}"), "SRV=\u{fc}"]
    {
        let headers = HeaderValue::from_bytes(garbage.as_bytes()).unwrap();
        let headers = HeaderMap::from_iter([(header::COOKIE, headers)]);
        assert!(own.visit(&headers, 1).said.is_none(), "{garbage}");
    }
    let many = format!("{}{good}", "SRV=x; ".repeat(COOKIES_MAX));
    assert!(!says(&own, &[&many]), "not looked for without end");
}

#[test]
fn a_cookie_of_the_other_mode_keeps_its_backend_and_is_replaced() {
    let before = stage(&affinity(AffinityMode::Persistent), &[1, 1]);
    let (set, _) = before.cookie(&NOBODY, (1, 4711), Scheme::Http).unwrap();
    let now = stage(&affinity(AffinityMode::Balanced), &[1, 1]);
    let visit = now.visit(&cookies(&[&pair(&set)]), 5);
    assert_eq!(now.backend(&visit), Some(1));
    assert_eq!(now.sticky(&visit, 1).unwrap().place, StickyPlace::Key(5));
    assert!(now.cookie(&visit, (1, 4711), Scheme::Http).is_some());
}

#[test]
fn a_backend_without_weight_or_stickiness_keeps_nobody() {
    let config = affinity(AffinityMode::Persistent);
    let (set, _) = stage(&config, &[1, 1]).cookie(&NOBODY, (1, 4711), Scheme::Http).unwrap();
    let visit = |stage: &AffinityStage| stage.visit(&cookies(&[&pair(&set)]), 1);
    for (config, weights, want) in [
        (config.clone(), &[1, 1][..], Some(1)),
        (config.clone(), &[1, 0], None),
        (config.clone(), &[1], None),
        (Affinity { keeps_backend: false, ..config.clone() }, &[1, 1], None),
    ] {
        let stage = stage(&config, weights);
        assert_eq!(stage.backend(&visit(&stage)), want, "{weights:?}");
    }
    let strict = Affinity { on_failure: AffinityFailure::Fail, ..config };
    let strict = stage(&strict, &[1, 1]);
    assert!(strict.sticky(&visit(&strict), 1).unwrap().is_strict);
}

#[test]
fn the_attributes_are_those_that_are_asked_for() {
    let set = |cookie: AffinityCookie, scheme| {
        let config = Affinity { cookie, ..affinity(AffinityMode::Persistent) };
        let (set, _) = stage(&config, &[1]).cookie(&NOBODY, (0, 1), scheme).unwrap();
        let text = set.to_str().unwrap().to_owned();
        let (pair, attributes) = text.split_once(';').unwrap();
        assert_eq!(pair.len(), config.cookie.name.len() + 1 + VALUE_BYTES);
        attributes.to_owned()
    };
    let plain = affinity(AffinityMode::Persistent).cookie;
    assert_eq!(set(plain.clone(), Scheme::Http), " Path=/; SameSite=Lax; HttpOnly");
    assert_eq!(set(plain.clone(), Scheme::Https), " Path=/; SameSite=Lax; HttpOnly; Secure");
    let all = AffinityCookie {
        name: "__Secure-S".to_owned(),
        path: "/shop".to_owned(),
        domain: Some("example.com".to_owned()),
        ttl: Some(Duration::from_secs(3600)),
        same_site: SameSite::None,
        secure: Some(true),
    };
    let want = " Path=/shop; Domain=example.com; Max-Age=3600; SameSite=None; HttpOnly; Secure";
    assert_eq!(set(all, Scheme::Http), want);
    let never = AffinityCookie { secure: Some(false), ..plain };
    assert_eq!(set(never, Scheme::Https), " Path=/; SameSite=Lax; HttpOnly");
}

#[test]
fn a_restarted_gateway_and_another_replica_make_the_same_cookie() {
    let value = || {
        let (set, _) =
            stage(&affinity(AffinityMode::Persistent), &[1]).cookie(&NOBODY, (0, 1), Scheme::Http).unwrap();
        pair(&set)
    };
    assert_eq!(value(), value());
    assert!(!format!("{:?}", stage(&affinity(AffinityMode::Persistent), &[1])).contains("nobody knows"));
}
