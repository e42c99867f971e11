//! Requests over HTTP/2 that are made to become something else over HTTP/1.1: none of their bytes reaches an upstream.

use e2e::backend::Backend;
use e2e::folder::route;
use e2e::h2_client::{COMPRESSION_ERROR, DATA, END_STREAM, H2Connection, H2Request, Outcome, PROTOCOL_ERROR};

use crate::site::{HOST, Site, site_with, spec};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";

/// One worker, so that a poisoned connection to the upstream would be used again.
fn guarded(backend: &Backend) -> Site {
    let any_host = spec(backend.address, "").replace(&format!("[{HOST}]"), "[]");
    site_with(&route("shop", &any_host), &["--workers", "1"])
}

fn connect(site: &Site) -> H2Connection {
    H2Connection::plain(site.gateway.http).expect("a connection")
}

/// As the RFC wants it, for the stream or for the whole connection, or as an answer.
#[track_caller]
fn assert_refused(what: &str, outcome: &Outcome) {
    let refused = match outcome {
        Outcome::Answer(response) => response.status == 400,
        Outcome::Reset(code) => *code == PROTOCOL_ERROR,
        // A name or value that is none may be found while the block is decoded.
        Outcome::GoneAway(code) => matches!(*code, PROTOCOL_ERROR | COMPRESSION_ERROR),
        Outcome::Closed => false,
    };
    assert!(refused, "{what}: {outcome:?}");
}

/// Each request on a connection of its own; none of them reaches the upstream, and it gets nothing else either.
#[track_caller]
fn assert_all_refused(cases: &[(String, H2Request)]) {
    let backend = Backend::named("ok");
    let site = guarded(&backend);
    for (what, request) in cases {
        let outcome = connect(&site).outcome_of(request);
        assert_refused(what, &outcome);
        assert!(backend.arrived().is_empty(), "{what} arrived as {:?}", backend.arrived());
    }
    assert_eq!(backend.connections(), 0, "the upstream got something");
    // The test itself is sound: what is right passes.
    assert_eq!(connect(&site).get(HOST, "/").expect("an answer").status, 200);
}

fn get() -> H2Request {
    H2Request::get(HOST, "/")
}

#[test]
fn sm26_names_and_values_that_http1_would_read_otherwise_are_refused() {
    let mut cases = Vec::new();
    let values: [&[u8]; 7] = [
        b"a\r\nX-Evil: 1",
        b"a\nX-Evil: 1",
        b"a\rb",
        b"a\0b",
        b"a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\n",
        b"a\r\n b",
    ];
    for value in values {
        for name in ["x-a", "cookie", "content-type", "user-agent", "referer"] {
            let what = format!("{name}: {:?}", String::from_utf8_lossy(value));
            cases.push((what, get().header(name, value)));
        }
    }
    let names: [&[u8]; 12] = [
        b"x:a",
        b"X-Upper",
        b"x a",
        b" x",
        b"x ",
        b"",
        b"x\r\ny",
        b"x\0",
        b"x\ty",
        b"transfer-encoding: chunked\r\nx",
        b"host: evil\r\nx",
        b"x\xff",
    ];
    for name in names {
        let what = format!("the name {:?}", String::from_utf8_lossy(name));
        cases.push((what.clone(), get().header(name, "1")));
        cases
            .push((format!("{what} in trailers"), get().body("b").trailer(name, "1").set(":method", "POST")));
    }
    // What is in trailers comes when the request may be on its way, so that these are judged apart.
    let (in_trailers, in_heads): (Vec<_>, Vec<_>) =
        cases.into_iter().partition(|(what, _)| what.ends_with("in trailers"));
    assert_all_refused(&in_heads);
    let backend = Backend::named("ok");
    let site = guarded(&backend);
    for (what, request) in &in_trailers {
        assert_refused(what, &connect(&site).outcome_of(request));
        assert!(backend.arrived().is_empty(), "{what} arrived whole: {:?}", backend.arrived());
    }
}

#[test]
fn sm27_fields_of_a_connection_are_refused() {
    // RFC 9113 §8.2.2.
    let fields = [
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("connection", "close"),
        ("connection", "upgrade"),
        ("connection", "x-forwarded-for"),
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("te", "trailers, deflate"),
        ("te", "chunked"),
    ];
    let mut cases = Vec::new();
    for (name, value) in fields {
        cases.push((format!("GET with {name}: {value}"), get().header(name, value)));
        let post = H2Request::new("POST", HOST, "/").header(name, value).body(SMUGGLED);
        cases.push((format!("POST with {name}: {value}"), post));
    }
    assert_all_refused(&cases);
}

#[test]
fn sm28_a_length_that_is_not_the_bodys_is_refused_and_its_connection_not_used_again() {
    let post = |length: &str| H2Request::new("POST", HOST, "/").header("content-length", length);
    let at_once = [
        ("a length with the end of the stream", post("5"), ""),
        ("two lengths that differ", post("4").header("content-length", "5"), "body"),
        ("two lengths alike", post("4").header("content-length", "4"), "body"),
        ("a list", post("4, 4"), "body"),
        ("a sign", post("+4"), "body"),
        ("a negative one", post("-1"), "body"),
        ("hexadecimal", post("0x4"), "body"),
        ("nothing", post(""), "body"),
        ("twenty digits", post("18446744073709551620"), "body"),
    ];
    let cases: Vec<_> =
        at_once.into_iter().map(|(what, request, body)| (what.to_owned(), request.body(body))).collect();
    assert_all_refused(&cases);

    let longer = format!("abcd{SMUGGLED}");
    let short_of_it = ["ab", "abc"];
    for body in short_of_it.into_iter().chain([longer.as_str()]) {
        let backend = Backend::named("ok");
        let site = guarded(&backend);
        let mut connection = connect(&site);
        let stream = connection.open(&post("4"), false).expect("a stream");
        // In two pieces, so that the first may be on its way before the fault shows.
        let (first, second) = body.split_at(1);
        connection.send_frame(DATA, 0, stream, first.as_bytes()).expect("sent");
        connection.ping().expect("it has been read");
        drop(connection.send_frame(DATA, END_STREAM, stream, second.as_bytes()));
        let outcome = connection.outcome(stream).expect("an outcome");
        let whole = backend.arrived();
        if body.len() < 4 {
            assert_refused(body, &outcome);
            assert!(whole.is_empty(), "{body:?} arrived whole: {whole:?}");
        } else {
            assert!(!matches!(outcome.status(), Some(200..300)), "{outcome:?}");
            assert!(whole.len() <= 1 && whole.iter().all(|arrived| arrived.body == b"abcd"), "{whole:?}");
        }
        // POST is not repeated, so that a poisoned connection would show.
        let next =
            connect(&site).ask(&H2Request::new("POST", HOST, "/next").body("next")).expect("an answer");
        assert_eq!((next.status, next.text().as_str()), (200, "ok"), "after {body:?}");
        let arrived = backend.arrived();
        let last = arrived.last().expect("the next request");
        assert_eq!(last.target(), "/next", "after {body:?}");
        assert_eq!(
            last.connection,
            backend.connections() - 1,
            "a connection in the middle of a body was used again"
        );
        assert!(arrived.iter().all(|arrived| arrived.target() != "/smuggled"), "{arrived:?}");
    }
}

#[test]
fn sm29_pseudo_header_fields_that_are_none_are_refused() {
    let request = |name: &str, value: &str| get().set(name, value);
    let cases = [
        ("neither authority nor host", get().without(":authority")),
        ("an empty authority", request(":authority", "")),
        ("userinfo", request(":authority", "user@shop.example.com")),
        ("two hosts in one", request(":authority", "a,b")),
        ("an authority with a path", request(":authority", "shop.example.com/x")),
        ("an authority with a space", request(":authority", "shop.example.com evil")),
        ("an authority with a line", request(":authority", "a\r\nX-Evil: 1")),
        ("a path without a slash", request(":path", "x")),
        ("an empty path", request(":path", "")),
        ("a path that is a URL", request(":path", "http://evil/")),
        ("a path with a space", request(":path", "/x HTTP/1.1")),
        ("a path with lines", request(":path", "/ HTTP/1.1\r\nHost: evil\r\n\r\nGET /smuggled")),
        ("a path with NUL", request(":path", "/\0")),
        ("a star", request(":path", "*")),
        ("no path", get().without(":path")),
        ("a scheme that is a URL", request(":scheme", "http://x/?")),
        ("a scheme with a line", request(":scheme", "http\r\nx")),
        ("no scheme", get().without(":scheme")),
        ("a method with a target", request(":method", "GET /smuggled HTTP/1.1")),
        ("a method with a line", request(":method", "GET\r\n")),
        ("an empty method", request(":method", "")),
        ("no method", get().without(":method")),
        ("two paths", get().header(":path", "/second")),
        ("two methods", get().header(":method", "POST")),
        ("two authorities", get().header(":authority", "second.example.com")),
        ("one behind a field", get().without(":path").header("x-a", "1").header(":path", "/late")),
        ("an unknown one", get().header(":evil", "1")),
        ("one of an answer", get().header(":status", "200")),
        ("a protocol without CONNECT", get().header(":protocol", "websocket")),
    ];
    let cases: Vec<_> = cases.into_iter().map(|(what, request)| (what.to_owned(), request)).collect();
    assert_all_refused(&cases);
}

#[test]
fn sm29_pseudo_header_fields_in_trailers_reach_nobody() {
    let backend = Backend::named("ok");
    let site = guarded(&backend);
    for name in [":path", ":status", ":authority"] {
        // The HTTP/2 library drops them and tells nobody, so the request may be answered. It must arrive without them.
        let request = H2Request::new("POST", HOST, "/").body("b").trailer(name, "/x").trailer("x-sum", "1");
        drop(connect(&site).outcome_of(&request));
        for arrived in backend.arrived() {
            let body = String::from_utf8_lossy(&arrived.body);
            assert!(arrived.target() == "/" && !body.contains(name), "{name}: {body}");
        }
    }
}

#[test]
fn sm29_an_authority_and_another_host_are_a_400_or_the_authority_alone() {
    let backend = Backend::named("ok");
    let site = guarded(&backend);
    let evil = "evil.example.com";
    for request in [
        get().header("host", evil),
        get().header("host", HOST).header("host", evil),
        get().without(":authority").header("host", HOST).header("host", evil),
    ] {
        let before = backend.arrived().len();
        let outcome = connect(&site).outcome_of(&request);
        if outcome.status() != Some(200) {
            assert_refused("two hosts", &outcome);
        }
        for arrived in &backend.arrived()[before..] {
            assert_eq!(arrived.all("host"), [HOST], "{}", arrived.head);
            assert!(!arrived.head.contains(evil), "{}", arrived.head);
        }
    }
}

#[test]
fn connect_and_trace_go_nowhere() {
    // Hardening SM23.
    let backend = Backend::named("ok");
    let site = guarded(&backend);
    let connect_to =
        H2Request::new("CONNECT", "shop.example.com:443", "/").without(":path").without(":scheme");
    for request in [connect_to, H2Request::new("TRACE", HOST, "/")] {
        let outcome = connect(&site).outcome_of(&request);
        let refused = match &outcome {
            Outcome::Answer(response) => (400..=599).contains(&response.status),
            Outcome::Reset(_) | Outcome::GoneAway(_) => true,
            Outcome::Closed => false,
        };
        assert!(refused, "{outcome:?}");
    }
    assert!(backend.arrived().is_empty(), "{:?}", backend.arrived());
}
