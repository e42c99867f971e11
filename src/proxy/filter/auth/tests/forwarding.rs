//! What the upstream gets: claims as headers, and tokens only where they may go.

use http::HeaderMap;
use ir::{ClaimToHeader, JwtProvider, TokenSource};
use serde_json::{Value, json};

use super::support::{Gate, auth, bearer_source, claims_with, good_claims, header_map, hs256, provider};

fn to_header(path: &[&str], header: &str) -> ClaimToHeader {
    ClaimToHeader {
        path: path.iter().map(|step| (*step).to_owned()).collect(),
        header: header.parse().expect("a header name"),
        join: ",".to_owned(),
    }
}

fn with_headers(claims: Vec<ClaimToHeader>) -> JwtProvider {
    let mut provider = provider();
    provider.claims_to_headers = claims;
    provider
}

/// The headers as the upstream gets them, sorted, without `authorization`.
fn forwarded(gate: &mut Gate, headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut headers = header_map(headers);
    let identity = gate.ask_all(&headers, None).expect("the request passes");
    gate.stage.apply(&identity, &mut headers);
    pairs(&headers).into_iter().filter(|(name, _)| name != "authorization").collect()
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    pairs.sort();
    pairs
}

#[test]
fn claims_become_headers_by_their_type() {
    let cases: [(Value, Option<&str>); 16] = [
        (json!("alice"), Some("alice")),
        (json!(""), Some("")),
        (json!("Zoë"), Some("Zoë")),
        (json!(7), Some("7")),
        (json!(-1.5), Some("-1.5")),
        (json!(true), Some("true")),
        (json!(["a", 1, false]), Some("a,1,false")),
        (json!([]), Some("")),
        (json!(["a", {"b": 1}, ["c"], null]), Some("a,{\"b\":1},[\"c\"],null")),
        (json!({"a": [1, "x"]}), Some("{\"a\":[1,\"x\"]}")),
        (json!(null), None),
        (json!("a\r\nx-admin: 1"), None),
        (json!("a\nb"), None),
        (json!("a\u{0}b"), None),
        (json!("a\u{7f}b"), None),
        (json!(["a", "b\r\nc"]), None),
    ];
    for (value, want) in cases {
        let mut gate = Gate::of(with_headers(vec![to_header(&["x", "y"], "x-value")]));
        let bearer = format!("Bearer {}", hs256(&claims_with(json!({"x": {"y": value}}))));
        // Twice: the second answer comes from the cache.
        for round in ["fresh", "cached"] {
            let got = forwarded(&mut gate, &[("authorization", &bearer), ("x-value", "spoofed")]);
            let want: Vec<_> = want.map(|want| ("x-value".to_owned(), want.to_owned())).into_iter().collect();
            assert_eq!(got, want, "{value} {round}");
        }
        assert_eq!(gate.cache.stats().hits, 1);
    }
}

#[test]
fn the_clients_copies_are_always_removed() {
    let mut second = with_headers(vec![to_header(&["role"], "x-role")]);
    second.name = "second".into();
    second.issuer = Some("https://second/".to_owned());
    let mut optional = auth(vec![
        with_headers(vec![to_header(&["sub"], "X-User-Id"), to_header(&["gone"], "x-gone")]),
        second,
    ]);
    optional.jwt.as_mut().expect("a requirement").optional = true;
    let mut gate = Gate::new(&[optional]);
    let spoofed = [
        ("x-user-id", "root"),
        ("X-USER-ID", "root"),
        ("x-user-id", ""),
        ("X_User_Id", "root"),
        ("x-user_id", "root"),
        ("x-gone", "1"),
        ("X-Role", "admin"),
        ("x_role", "admin"),
        ("x-user", "kept"),
        ("x_user-id-2", "kept"),
    ];
    let kept = |mut more: Vec<(&str, &str)>| {
        more.extend([("x-user", "kept"), ("x_user-id-2", "kept")]);
        more.sort_unstable();
        more.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(forwarded(&mut gate, &spoofed), kept(vec![]), "no token");
    let bearer = format!("Bearer {}", hs256(&good_claims()));
    let mut with_token = spoofed.to_vec();
    with_token.push(("authorization", &bearer));
    assert_eq!(forwarded(&mut gate, &with_token), kept(vec![("x-user-id", "alice")]), "a token");
    assert_eq!(forwarded(&mut gate, &with_token), kept(vec![("x-user-id", "alice")]), "a cached verdict");
}

#[test]
fn a_later_token_never_overwrites_the_header_of_an_earlier_one() {
    let to_user = || vec![to_header(&["sub"], "x-user"), to_header(&["role"], "x-role")];
    let mut second = with_headers(to_user());
    second.name = "second".into();
    second.from = vec![TokenSource::Cookie { name: "at".to_owned() }];
    let mut gate = Gate::new(&[auth(vec![with_headers(to_user())]), auth(vec![second])]);
    let bearer = format!("Bearer {}", hs256(&good_claims()));
    let cookie = format!("at={}", hs256(&claims_with(json!({"sub": "mallory", "role": "reader"}))));
    let headers = [("authorization", bearer.as_str()), ("cookie", &cookie), ("x-user", "root")];
    for round in ["fresh", "cached"] {
        let mut got = forwarded(&mut gate, &headers);
        got.retain(|(name, _)| name != "cookie");
        // The first token says nothing of a role: then the second one may.
        let want = [("x-role", "reader"), ("x-user", "alice")];
        assert_eq!(got, want.map(|(name, value)| (name.to_owned(), value.to_owned())), "{round}");
    }
}

#[test]
fn claims_never_become_framing_headers() {
    let names = ["connection", "content-length", "host", "transfer-encoding", "upgrade", "te", "keep-alive"];
    let mut gate = Gate::of(with_headers(names.map(|name| to_header(&["sub"], name)).to_vec()));
    let bearer = format!("Bearer {}", hs256(&good_claims()));
    let got = forwarded(&mut gate, &[("authorization", &bearer), ("host", "shop.example.com")]);
    assert_eq!(got, [("host".to_owned(), "shop.example.com".to_owned())]);
}

#[test]
fn a_token_that_must_not_be_forwarded_is_cut_out() {
    let mut private = provider();
    private.forward_token = false;
    private.from = vec![
        bearer_source(),
        TokenSource::Cookie { name: "at".to_owned() },
        TokenSource::Query { name: "access_token".to_owned() },
    ];
    let t = hs256(&good_claims());
    let bearer = format!("Bearer {t}");
    let cookie = |before: &str, after: &str| format!("{before}at={t}{after}");
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<String>, &'a [(&'a str, &'a str)], Option<&'a str>);
    let in_query = |before: &str, after: &str| Some(format!("{before}access_token={t}{after}"));
    let cases: [Case<'_>; 9] = [
        (&[("authorization", &bearer), ("x", "1")], None, &[("x", "1")], None),
        (&[("cookie", &cookie("a=1; ", "; b=2"))], None, &[("cookie", "a=1; b=2")], None),
        (&[("cookie", &cookie("", ";b=\"2\""))], None, &[("cookie", "b=\"2\"")], None),
        (&[("cookie", &cookie("", ""))], None, &[], None),
        (
            &[("cookie", "at2=1; xat=2"), ("cookie", &cookie("", ""))],
            None,
            &[("cookie", "at2=1; xat=2")],
            None,
        ),
        (&[], in_query("", ""), &[], Some("")),
        (&[], in_query("a=1&", "&b=2"), &[], Some("a=1&b=2")),
        (&[], in_query("a=%20&&", "&access_token2=x"), &[], Some("a=%20&&access_token2=x")),
        (&[], Some(format!("a=1&access%5ftoken={t}")), &[], Some("a=1")),
    ];
    let mut gate = Gate::of(private);
    for (headers, query, want, want_query) in cases {
        let mut headers = header_map(headers);
        let identity = gate.ask_all(&headers, query.as_deref()).expect("the request passes");
        let edited = gate.stage.forwarded_query(&identity, query.as_deref().unwrap_or_default());
        gate.stage.apply(&identity, &mut headers);
        assert_eq!(pairs(&headers), pairs(&header_map(want)), "{:?}", query.map(|q| q.replace(&t, "T")));
        assert_eq!(edited.as_deref(), want_query);
    }
}

#[test]
fn a_token_that_may_be_forwarded_stays() {
    let mut open = provider();
    open.from.push(TokenSource::Query { name: "access_token".to_owned() });
    let mut gate = Gate::of(open);
    let t = hs256(&good_claims());
    let mut headers = header_map(&[("authorization", &format!("Bearer {t}"))]);
    let identity = gate.ask_all(&headers, Some("a=1")).expect("the request passes");
    let before = headers.clone();
    gate.stage.apply(&identity, &mut headers);
    assert_eq!(headers, before);
    assert_eq!(gate.stage.forwarded_query(&identity, "a=1"), None);
    let query = format!("access_token={t}");
    let identity = gate.ask_all(&HeaderMap::new(), Some(&query)).expect("the request passes");
    assert_eq!(gate.stage.forwarded_query(&identity, &query), None);
}

#[test]
fn limit_keys_read_claims_by_path_and_pointer() {
    let mut gate = Gate::of(provider());
    let claims = claims_with(json!({
        "n": 7, "b": true, "realm": {"plan": "gold", "tags": ["x", "y"]},
        "https://x.example/tier": "one", "a~b": "tilde", "empty": ""
    }));
    let identity = gate.ask_bearer(&hs256(&claims)).expect("the request passes");
    let cases = [
        ("sub", Some("alice")),
        ("n", Some("7")),
        ("b", Some("true")),
        ("empty", Some("")),
        ("realm.plan", Some("gold")),
        ("/realm/plan", Some("gold")),
        ("/realm/tags/1", Some("y")),
        ("/realm/tags/2", None),
        ("/https:~1~1x.example~1tier", Some("one")),
        ("/a~0b", Some("tilde")),
        ("https://x.example/tier", None),
        ("realm", None),
        ("realm.tags", None),
        ("realm.plan.x", None),
        ("none", None),
        ("", None),
        (".", None),
        ("/", None),
    ];
    for (name, want) in cases {
        assert_eq!(identity.claim(None, name).as_deref(), want, "{name}");
        assert_eq!(identity.claim(Some("corp"), name).as_deref(), want, "{name}");
        assert_eq!(identity.claim(Some("other"), name), None, "{name}");
    }
}
