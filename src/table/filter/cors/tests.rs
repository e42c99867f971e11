//! Origins, preflights and answers of a route with CORS.

use std::time::Duration;

use super::*;

fn cors(origins: &[ir::CorsOrigin]) -> ir::Cors {
    ir::Cors {
        allow_origins: origins.to_vec(),
        allow_methods: Vec::new(),
        allow_headers: Vec::new(),
        expose_headers: Vec::new(),
        allow_credentials: false,
        max_age: None,
    }
}

fn exact(origin: &str) -> ir::CorsOrigin {
    ir::CorsOrigin::Exact(origin.to_owned())
}

fn subdomains(scheme: &str, suffix: &str, port: Option<u16>) -> ir::CorsOrigin {
    ir::CorsOrigin::Subdomains { scheme: scheme.to_owned(), suffix: suffix.to_owned(), port }
}

fn with_methods(methods: &[Method]) -> ir::Match {
    ir::Match {
        path: ir::PathMatch::Prefix { value: "/".to_owned(), case_sensitive: true },
        methods: methods.to_vec(),
        headers: Vec::new(),
        query: Vec::new(),
        cookies: Vec::new(),
        client_cidrs: Vec::new(),
    }
}

fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| value.to_str().expect("text").to_owned())
}

#[test]
fn origins_are_compared_whole() {
    let listed = PreparedCors::new(
        &cors(&[
            exact("https://a.com"),
            exact("null"),
            subdomains("https", "example.com", None),
            subdomains("http", "dev.test", Some(3000)),
            subdomains("https", "std.test", Some(443)),
        ]),
        &[],
    );
    let cases = [
        ("https://a.com", true),
        ("http://a.com", false),
        ("https://a.com:8443", false),
        ("https://a.com.evil.com", false),
        ("https://b.a.com", false),
        ("https://x.example.com", true),
        ("https://x.y.example.com", true),
        ("https://example.com", false),
        ("https://.example.com", false),
        ("https://x..example.com", false),
        ("https://evilexample.com", false),
        ("https://x.example.com:8443", false),
        ("https://evil.com/.example.com", false),
        ("https://evil.com?.example.com", false),
        ("https://evil.com:1.example.com", false),
        ("https://user@x.example.com", false),
        ("http://x.example.com", false),
        ("http://x.dev.test:3000", true),
        ("http://x.dev.test", false),
        ("https://x.std.test", true),
        ("null", false),
        ("", false),
    ];
    for (origin, want) in cases {
        assert_eq!(listed.allows(origin.as_bytes()), want, "{origin}");
    }
    let any = PreparedCors::new(&cors(&[ir::CorsOrigin::Any]), &[]);
    assert!(any.allows(b"null") && any.allows(b"https://who.ever"));
    assert!(!PreparedCors::new(&cors(&[]), &[]).allows(b"https://a.com"));
}

#[test]
fn a_preflight_gets_the_prepared_headers() {
    let full = ir::Cors {
        allow_methods: vec![Method::GET, Method::PUT],
        allow_headers: vec![HeaderName::from_static("x-a"), HeaderName::from_static("x-b")],
        expose_headers: vec![HeaderName::from_static("x-c")],
        allow_credentials: true,
        max_age: Some(Duration::from_secs(600)),
        ..cors(&[exact("https://a.com")])
    };
    let answer =
        PreparedCors::new(&full, &[]).preflight(&value("https://a.com"), &value("PUT"), Some(&value("x-z")));
    assert!(answer.allowed);
    let wanted = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, "https://a.com"),
        (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, PUT"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "x-a, x-b"),
        (ACCESS_CONTROL_MAX_AGE, "600"),
        (VARY, "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    ];
    for (name, want) in &wanted {
        assert_eq!(text(&answer.headers, name).as_deref(), Some(*want), "{name}");
    }
    assert_eq!(answer.headers.len(), wanted.len());
}

#[test]
fn a_preflight_of_an_unknown_origin_gets_only_vary() {
    let prepared = PreparedCors::new(&cors(&[exact("https://a.com")]), &[]);
    let answer = prepared.preflight(&value("https://evil.com"), &value("PUT"), None);
    assert!(!answer.allowed);
    assert_eq!(answer.headers.len(), 1);
    assert!(answer.headers.contains_key(VARY));
}

#[test]
fn what_is_not_listed_is_what_was_asked_for() {
    let cases: [(&str, &[&[Method]], &str); 3] = [
        (
            "methods of the matches",
            &[&[Method::GET, Method::POST], &[Method::POST, Method::PUT]],
            "GET, POST, PUT",
        ),
        ("one match takes any", &[&[Method::GET], &[]], "DELETE"),
        ("no match", &[], "DELETE"),
    ];
    for (name, methods, want) in cases {
        let matches: Vec<_> = methods.iter().map(|methods| with_methods(methods)).collect();
        let prepared = PreparedCors::new(&cors(&[ir::CorsOrigin::Any]), &matches);
        let answer = prepared.preflight(&value("https://a.com"), &value("DELETE"), Some(&value("x-q, x-r")));
        assert_eq!(text(&answer.headers, &ACCESS_CONTROL_ALLOW_METHODS).as_deref(), Some(want), "{name}");
        assert_eq!(
            text(&answer.headers, &ACCESS_CONTROL_ALLOW_HEADERS).as_deref(),
            Some("x-q, x-r"),
            "{name}"
        );
        assert_eq!(text(&answer.headers, &ACCESS_CONTROL_ALLOW_ORIGIN).as_deref(), Some("*"), "{name}");
        assert_eq!(text(&answer.headers, &ACCESS_CONTROL_MAX_AGE), None, "{name}");
    }
}

#[test]
fn a_star_for_methods_or_headers_is_what_was_asked_for() {
    let mut star = cors(&[exact("https://a.com")]);
    star.allow_methods = vec![Method::from_bytes(b"*").unwrap()];
    star.allow_headers = vec![HeaderName::from_static("*")];
    star.allow_credentials = true;
    let prepared = PreparedCors::new(&star, &[with_methods(&[Method::GET])]);
    let answer = prepared.preflight(&value("https://a.com"), &value("PUT"), Some(&value("x-q")));
    assert_eq!(text(&answer.headers, &ACCESS_CONTROL_ALLOW_METHODS).as_deref(), Some("PUT"));
    assert_eq!(text(&answer.headers, &ACCESS_CONTROL_ALLOW_HEADERS).as_deref(), Some("x-q"));
}

#[test]
fn any_origin_with_credentials_is_echoed() {
    let any = ir::Cors { allow_credentials: true, ..cors(&[ir::CorsOrigin::Any]) };
    let mut headers = HeaderMap::new();
    PreparedCors::new(&any, &[]).apply_response(Some(&value("https://a.com")), &mut headers);
    assert_eq!(text(&headers, &ACCESS_CONTROL_ALLOW_ORIGIN).as_deref(), Some("https://a.com"));
    assert_eq!(text(&headers, &ACCESS_CONTROL_ALLOW_CREDENTIALS).as_deref(), Some("true"));
}

#[test]
fn an_answer_carries_only_our_cors_headers() {
    let ours =
        ir::Cors { expose_headers: vec![HeaderName::from_static("x-c")], ..cors(&[exact("https://a.com")]) };
    let prepared = PreparedCors::new(&ours, &[]);
    let cases = [
        ("allowed", Some(value("https://a.com")), Some("https://a.com"), Some("x-c")),
        ("disallowed", Some(value("https://evil.com")), None, None),
        ("no origin", None, None, None),
    ];
    for (name, origin, want_origin, want_expose) in cases {
        let mut headers = HeaderMap::new();
        headers.append(ACCESS_CONTROL_ALLOW_ORIGIN, value("*"));
        headers.append(ACCESS_CONTROL_ALLOW_CREDENTIALS, value("true"));
        headers.append(ACCESS_CONTROL_ALLOW_METHODS, value("DELETE"));
        headers.append(ACCESS_CONTROL_EXPOSE_HEADERS, value("x-backend"));
        headers.append("access-control-allow-private-network", value("true"));
        headers.append("x-other", value("1"));
        prepared.apply_response(origin.as_ref(), &mut headers);
        assert_eq!(text(&headers, &ACCESS_CONTROL_ALLOW_ORIGIN).as_deref(), want_origin, "{name}");
        assert_eq!(text(&headers, &ACCESS_CONTROL_EXPOSE_HEADERS).as_deref(), want_expose, "{name}");
        let ours = usize::from(want_origin.is_some()) + usize::from(want_expose.is_some());
        let left = headers.keys().filter(|name| name.as_str().starts_with("access-control-")).count();
        assert_eq!(left, ours, "{name}");
        assert_eq!(text(&headers, &VARY).as_deref(), Some("Origin"), "{name}");
        assert!(headers.contains_key("x-other"), "{name}");
    }
}

#[test]
fn vary_is_merged_without_a_duplicate() {
    let prepared = PreparedCors::new(&cors(&[]), &[]);
    let cases: [(&[&'static str], &[&str]); 4] = [
        (&["Accept-Encoding"], &["Accept-Encoding", "Origin"]),
        (&["Accept, ORIGIN"], &["Accept, ORIGIN"]),
        (&["Accept", "origin"], &["Accept", "origin"]),
        (&["*"], &["*"]),
    ];
    for (before, want) in cases {
        let mut headers = HeaderMap::new();
        for line in before {
            headers.append(VARY, value(line));
        }
        prepared.apply_response(None, &mut headers);
        let got: Vec<_> = headers.get_all(VARY).iter().collect();
        assert_eq!(got, want, "{before:?}");
    }
}
