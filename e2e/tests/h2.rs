//! HTTP/2 from clients: how it is agreed on, many streams at once, flow control, and that everything else is as it is
//! over HTTP/1.1.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use e2e::backend::{Backend, Reply};
use e2e::client::{Connection, Request};
use e2e::echo::Echo;
use e2e::folder::{limit_policy, route, secret};
use e2e::h2_client::{
    CANCEL, H2Connection, H2Request, INITIAL_WINDOW_SIZE, NO_ERROR, Outcome, PREFACE, REFUSED_STREAM,
};
use e2e::jwt;
use e2e::sockets::{ByHand, read_head_text};
use e2e::tls_client::{TlsConnection, config};
use e2e::until::until;
use serde_json::json;

use crate::h2_site::{h2_site, h2_site_of};
use crate::site::{HOST, address, site, site_with, spec};
use crate::tls_site::{is_silence, tls_route};

#[test]
fn http2_is_agreed_on_by_alpn_and_spoken_by_prior_knowledge() {
    // Hardening TL05, H209.
    let upstream = Echo::start("a");
    let site = h2_site(upstream.address, &[]);
    for (what, mut connection, scheme) in [("TLS", site.tls(), "https"), ("plain", site.plain(), "http")] {
        let response = connection.ask(&H2Request::new("POST", HOST, "/a?b=c").body("hello")).unwrap();
        assert_eq!(response.status, 200, "{what}");
        let echo = response.json();
        assert_eq!((&echo["path"], &echo["body"]), (&"/a?b=c".into(), &"hello".into()), "{what}");
        assert_eq!(response.echoed("host"), [HOST], "{what}");
        assert_eq!(response.echoed("x-forwarded-proto"), [scheme], "{what}");
        assert_eq!(connection.peer.streams_max, Some(100), "{what}");
        assert_eq!(connection.peer.header_list_bytes_max, Some(64 << 10), "{what}");
    }
    // A client that can do both gets HTTP/2, and one that cannot is served as before.
    for (offered, agreed) in
        [(&["http/1.1", "h2"][..], "h2"), (&["h2", "http/1.1"], "h2"), (&["http/1.1"], "http/1.1")]
    {
        let mut client = config(&site.authority);
        client.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let connection = TlsConnection::open(site.site.gateway.https, HOST, &Arc::new(client)).unwrap();
        assert_eq!(connection.tls().alpn_protocol(), Some(agreed.as_bytes()), "{offered:?}");
    }
}

#[test]
fn http1_where_http2_was_agreed_on_is_closed() {
    // Hardening TL05.
    let backend = Backend::named("ok");
    let site = h2_site(backend.address, &[]);
    let mut connection = TlsConnection::open(site.site.gateway.https, HOST, &site.client).unwrap();
    connection.send(&Request::get(HOST, "/").bytes()).unwrap();
    let answer = connection.rest().unwrap_or_else(|error| {
        assert!(!is_silence(&error), "not closed");
        Vec::new()
    });
    assert!(!answer.windows(9).any(|window| window == b"HTTP/1.1 "), "{answer:?}");
    assert!(backend.arrived().is_empty());
}

#[test]
fn without_h2c_a_preface_on_the_plain_port_is_refused_and_http1_is_served() {
    let backend = Backend::named("ok");
    let site = h2_site(backend.address, &["--h2c", "off"]);
    let mut connection = Connection::open(site.site.gateway.http).unwrap();
    connection.send(PREFACE).unwrap();
    connection.send(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    let answer = connection.rest().expect("the connection is closed");
    let text = String::from_utf8_lossy(&answer);
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 4") || text.starts_with("HTTP/1.1 505"),
        "{text:?}"
    );
    assert_eq!(site.site.gateway.get(HOST, "/").text(), "ok");
    assert_eq!(site.tls().get(HOST, "/").unwrap().text(), "ok");
    assert_eq!(backend.arrived().len(), 2);
}

#[test]
fn an_upgrade_to_h2c_is_ignored() {
    // Hardening H209, WS03: RFC 9113 §3.1 has done away with it.
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "upgrades: [websocket]")));
    let request = Request::get(HOST, "/")
        .header("Connection", "Upgrade, HTTP2-Settings")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "AAMAAABkAAQAAP__");
    let response = site.gateway.ask(&request);
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    let arrived = &backend.arrived()[0];
    for name in ["upgrade", "http2-settings"] {
        assert!(arrived.all(name).is_empty(), "{name} in {}", arrived.head);
    }
    assert!(!arrived.head.to_ascii_lowercase().contains("h2c"), "{}", arrived.head);
}

#[test]
fn a_hundred_streams_share_one_connection_and_one_more_is_refused() {
    // Hardening H207.
    let upstream = Echo::start("a");
    let site = h2_site(upstream.address, &[]);
    let mut connection = site.tls();
    connection.settle().unwrap();
    let started = Instant::now();
    let streams: Vec<u32> = (0..100)
        .map(|number| connection.send(&H2Request::get(HOST, &format!("/{number}?delay=1s"))).unwrap())
        .collect();
    let over = connection.send(&H2Request::get(HOST, "/over")).unwrap();
    assert_eq!(connection.outcome(over).unwrap().code(), Some(REFUSED_STREAM));
    for (number, stream) in streams.iter().enumerate() {
        let echo = connection.response(*stream).unwrap().json();
        assert_eq!(echo["path"], format!("/{number}?delay=1s"));
    }
    assert!(started.elapsed() < Duration::from_secs(8), "one after the other: {:?}", started.elapsed());
    // There is room again.
    assert_eq!(connection.get(HOST, "/after").unwrap().status, 200);
}

/// Not periodic in any power of two, so that lost or swapped blocks show.
fn pattern(length: u64) -> Vec<u8> {
    (0..length).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn twenty_mebibytes_go_up_and_down_bit_exact() {
    const BYTES: usize = 20 << 20;
    let upstream = Echo::start("a");
    let site = h2_site(upstream.address, &[]);
    let body = pattern(BYTES as u64);
    let digest = digest::digest(&digest::SHA256, &body);
    let want: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let upload = H2Request::new("POST", HOST, "/").body(body);
    let with_length = upload.clone().header("content-length", BYTES.to_string());
    for mut connection in [site.tls(), site.plain()] {
        for request in [&upload, &with_length] {
            let echo = connection.ask(request).unwrap().json();
            assert_eq!((&echo["bodyBytes"], &echo["bodySha256"]), (&BYTES.into(), &want.clone().into()));
        }
        for query in ["bytes=20Mi", "bytes=20Mi&chunked"] {
            let down = connection.get(HOST, &format!("/?{query}")).unwrap();
            assert_eq!((down.status, down.body.len()), (200, BYTES), "{query}");
            let wrong = down.body.iter().enumerate().find(|(i, byte)| usize::from(**byte) != i % 251);
            assert_eq!(wrong, None, "{query}");
        }
    }
}

#[test]
fn a_stream_whose_window_is_used_up_stops_no_other_and_fills_no_memory() {
    let upstream = Echo::start("a");
    let site = h2_site(upstream.address, &[]);
    let mut connection = site.plain();
    assert_eq!(connection.get(HOST, "/").unwrap().status, 200);
    let before = site.site.gateway.process.resident_kib();
    // Room for all of them in the connection, and never more than the first 64 KiB for each.
    connection.grant(0, 64 << 20).unwrap();
    let starved: Vec<u32> = (0..10)
        .map(|_| {
            let stream = connection.send(&H2Request::get(HOST, "/?bytes=200Mi")).unwrap();
            connection.starved.push(stream);
            stream
        })
        .collect();
    for stream in &starved {
        connection.wait_for("a full window", |c| (c.held(*stream) == 65_535).then_some(())).unwrap();
    }
    for number in 0..200 {
        let path = format!("/?bytes={}Ki", 1 + number);
        let response = connection.get(HOST, &path).unwrap();
        assert_eq!(response.body.len(), (1 + number) << 10, "request {number}");
    }
    let grown = site.site.gateway.process.resident_kib().saturating_sub(before);
    assert!(grown < 48 << 10, "{grown} KiB more while nobody takes 2,000 MiB");
    assert!(
        starved.iter().all(|stream| connection.held(*stream) == 65_535 && !connection.has_ended(*stream))
    );
    // One that is granted again goes on where it was.
    connection.starved.clear();
    connection.grant(starved[0], 1 << 20).unwrap();
    let more = connection.data(starved[0], 65_535 + (1 << 20)).unwrap();
    assert!(more.iter().enumerate().all(|(i, byte)| usize::from(*byte) == i % 251));
    for stream in starved {
        connection.reset(stream, CANCEL).unwrap();
    }
    until("what was given up has ended", || {
        (site.site.gateway.metric("http_requests_in_flight") == 0.0).then_some(())
    });
}

#[test]
fn an_upload_that_the_upstream_does_not_take_stops_no_other_stream() {
    let opened = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&opened);
    let upstream = ByHand::start(move |mut stream| {
        let (head, first) = read_head_text(&mut stream)?;
        if head.starts_with("GET ") {
            return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
        until("the gate opens", || gate.load(Ordering::SeqCst).then_some(()));
        let left = (30 << 20) - first.len() as u64;
        io::copy(&mut (&mut stream).take(left), &mut io::sink())?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
    });
    let site = h2_site(upstream.address, &[]);
    let mut connection = site.plain();
    let head = H2Request::new("POST", HOST, "/").header("content-length", (30u32 << 20).to_string());
    let upload = connection.open(&head, false).unwrap();
    let block = vec![b'x'; 32 << 10];
    connection.send_data(upload, &block, false).unwrap();
    for number in 0..50 {
        let response = connection.get(HOST, "/").unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "request {number}");
    }
    opened.store(true, Ordering::SeqCst);
    for number in 1..(30 << 20) / block.len() {
        connection.send_data(upload, &block, number + 1 == (30 << 20) / block.len()).unwrap();
    }
    assert_eq!(connection.response(upload).unwrap().text(), "late");
}

#[test]
fn trailers_pass_in_both_directions() {
    let backend = Backend::start(|_| {
        let bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                     3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n";
        Reply::Bytes(bytes.into())
    });
    let site = h2_site(backend.address, &[]);
    let request = H2Request::new("POST", HOST, "/")
        .header("te", "trailers")
        .header("trailer", "x-request-sum")
        .body("body")
        .trailer("x-request-sum", "7");
    let response = site.tls().ask(&request).unwrap();
    assert_eq!(response.text(), "abc");
    assert!(response.trailers.contains(&("x-sum".to_owned(), "42".to_owned())), "{response:?}");
    let wire = String::from_utf8_lossy(&backend.arrived()[0].body).to_lowercase();
    assert!(wire.contains("body") && wire.contains("x-request-sum: 7\r\n"), "{wire:?}");
}

#[test]
fn head_204_and_304_have_no_body() {
    let backend = Backend::start(|arrived| match arrived.target() {
        "/head" => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n".into()),
        "/204" => Reply::Bytes(b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n".into()),
        "/304" => Reply::Bytes(b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".into()),
        _ => Reply::ok("plain"),
    });
    let site = h2_site(backend.address, &[]);
    let mut connection = site.plain();
    for (method, path, status) in [("HEAD", "/head", 200), ("GET", "/204", 204), ("GET", "/304", 304)] {
        let response = connection.ask(&H2Request::new(method, HOST, path)).unwrap();
        assert_eq!((response.status, response.body.len()), (status, 0), "{method} {path}");
        let want = if path == "/head" { Some("10") } else { None };
        assert_eq!(response.header("content-length"), want, "{method} {path}");
        assert_eq!(connection.get(HOST, "/plain").unwrap().text(), "plain", "after {method} {path}");
    }
}

#[test]
fn what_belongs_to_a_connection_of_http1_does_not_stand_in_an_answer() {
    // RFC 9113 §8.2.2.
    let backend = Backend::start(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\n\
                    Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nX-End: 1\r\n\r\nok";
        Reply::Bytes(head.into())
    });
    let site = h2_site(backend.address, &[]);
    let response = site.plain().get(HOST, "/").unwrap();
    assert_eq!(response.header("x-end"), Some("1"));
    for (name, _) in &response.headers {
        assert_eq!(*name, name.to_ascii_lowercase());
        let hop = ["connection", "x-hop", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding"];
        assert!(!hop.contains(&name.as_str()), "{:?}", response.headers);
    }
}

#[test]
fn cookies_in_crumbs_are_one_line_for_an_upstream_of_http1() {
    // RFC 9113 §8.2.3.
    let backend = Backend::named("ok");
    let site = h2_site(backend.address, &[]);
    let request = H2Request::get(HOST, "/")
        .header("cookie", "a=1")
        .header("x-between", "1")
        .header("cookie", "b=2; c=3")
        .header("cookie", "d=4");
    assert_eq!(site.tls().ask(&request).unwrap().status, 200);
    assert_eq!(backend.arrived()[0].all("cookie"), ["a=1; b=2; c=3; d=4"]);
}

#[test]
fn the_authority_is_the_host_with_its_case_and_port_folded_for_the_match() {
    let backend = Backend::named("ok");
    let site = h2_site(backend.address, &[]);
    let mut connection = site.plain();
    let shop = || H2Request::get(HOST, "/");
    let cases = [
        ("as it is", shop(), 200),
        ("with a port", shop().set(":authority", format!("{HOST}:8080")), 200),
        ("in capitals", shop().set(":authority", HOST.to_uppercase()), 200),
        ("with a last dot", shop().set(":authority", format!("{HOST}.")), 200),
        ("only a host", shop().without(":authority").header("host", HOST), 200),
        ("both, the same", shop().header("host", HOST), 200),
        ("another", shop().set(":authority", "other.example.com"), 404),
    ];
    for (what, request, status) in cases {
        let before = backend.arrived().len();
        let outcome = connection.outcome_of(&request);
        assert_eq!(outcome.status(), Some(status), "{what}: {outcome:?}");
        let arrived = backend.arrived();
        assert_eq!(arrived.len() - before, usize::from(status == 200), "{what}");
        for arrived in &arrived[before..] {
            let hosts = arrived.all("host");
            let folded = hosts.iter().all(|host| host.to_lowercase().starts_with(HOST));
            assert!(hosts.len() == 1 && folded, "{what}: {}", arrived.head);
        }
    }
}

#[test]
fn the_access_log_names_the_version_and_counts_bodies() {
    let backend = Backend::named("hello");
    let site = h2_site(backend.address, &[]);
    let request = H2Request::new("POST", HOST, "/a?b=c").header("x-request-id", "two").body("12345");
    assert_eq!(site.tls().ask(&request).unwrap().status, 200);
    site.site.gateway.ask(&Request::get(HOST, "/").header("X-Request-Id", "one"));
    let two = site.site.gateway.access_line("the line of HTTP/2", |line| line["request_id"] == "two");
    assert!(two.to_string().contains("\"HTTP/2.0\""), "{two}");
    for (field, want) in [
        ("method", json!("POST")),
        ("host", json!(HOST)),
        ("path", json!("/a")),
        ("status", json!(200)),
        ("route", json!("shop/shop/all")),
        ("bytes_in", json!(5)),
        ("bytes_out", json!(5)),
    ] {
        assert_eq!(two[field], want, "{field} in {two}");
    }
    let one = site.site.gateway.access_line("the line of HTTP/1.1", |line| line["request_id"] == "one");
    assert!(!one.to_string().contains("HTTP/2"), "{one}");
    assert_eq!(site.site.gateway.access_log().len(), 2);
}

/// Redirects under `/old`, CORS and a token under `/token`, two requests an hour under `/few`.
fn features(to: &str) -> String {
    let spec = format!(
        "hostnames: [{HOST}]
tls: {{secretRef: {{name: shop}}}}
jwtProviders:
- {{name: p, anyIssuer: true, algorithms: [HS256], jwks: {{secretRef: {{name: key, key: secret}}}}}}
rules:
- name: old
  matches: [{{path: {{type: PathPrefix, value: /old}}}}]
  filters: [{{type: RequestRedirect, requestRedirect: {{scheme: https, statusCode: 301, path: {{type: ReplacePrefixMatch, replacePrefixMatch: /new}}}}}}]
- name: token
  matches: [{{path: {{type: PathPrefix, value: /token}}}}]
  filters:
  - {{type: CORS, cors: {{allowOrigins: [\"https://app.example.com\"], allowMethods: [GET, PUT], allowHeaders: [x-token]}}}}
  auth: {{jwt: {{providers: [p]}}}}
  backendRefs: [{to}]
- name: few
  matches: [{{path: {{type: PathPrefix, value: /few}}}}]
  backendRefs: [{to}]"
    );
    let limit = limit_policy(
        "few",
        "targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop, sectionName: few}]
limits: [{name: few, rates: [{requests: 2, per: 1h}]}]",
    );
    secret("key", "secret", "s") + &route("shop", &spec) + &limit
}

#[test]
fn redirects_cors_limits_and_tokens_work_as_over_http1() {
    let backend = Backend::named("ok");
    let site = h2_site_of(&features(&address(backend.address)), &[]);
    let mut connection = site.tls();
    let redirect = connection.get(HOST, "/old/x?y=z").unwrap();
    assert_eq!(redirect.status, 301);
    let location = redirect.header("location").unwrap_or_default();
    assert!(
        location.starts_with("https://shop.example.com") && location.ends_with("/new/x?y=z"),
        "{location}"
    );

    let origin = "https://app.example.com";
    let preflight = H2Request::new("OPTIONS", HOST, "/token")
        .header("origin", origin)
        .header("access-control-request-method", "PUT");
    let preflight = connection.ask(&preflight).unwrap();
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some(origin));

    let refused = connection.ask(&H2Request::get(HOST, "/token").header("origin", origin)).unwrap();
    assert_eq!(refused.status, 401);
    assert!(
        refused.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")),
        "{refused:?}"
    );
    assert_eq!(refused.header("access-control-allow-origin"), Some(origin));
    let token = jwt::hs256(b"s", &jwt::claims());
    let bearer = H2Request::get(HOST, "/token").header("authorization", format!("Bearer {token}"));
    assert_eq!(connection.ask(&bearer).unwrap().status, 200);

    let statuses: Vec<u16> = (0..3).map(|_| connection.get(HOST, "/few").unwrap().status).collect();
    assert_eq!(statuses, [200, 200, 429]);
    // The same bucket, whatever the version.
    assert_eq!(site.site.gateway.get(HOST, "/few").status, 429);
    assert_eq!(backend.arrived().len(), 3);
}

#[test]
fn a_request_for_a_host_of_another_certificate_is_misdirected_and_the_connection_lives_on() {
    // Hardening TL01: browsers coalesce connections (RFC 9113 §9.1.1).
    let backend = Backend::named("ok");
    let authority = e2e::certificate::Authority::new();
    let yaml = [
        authority.issue(&["a.example.com", "b.example.com"]).secret("first"),
        authority.issue(&["b.example.com"]).secret("second"),
        tls_route("a", "a.example.com", "first", "", backend.address),
        tls_route("b", "b.example.com", "second", "", backend.address),
        tls_route("c", "c.example.com", "first", "", backend.address),
    ];
    let site = site(&yaml.concat());
    let client = e2e::tls_client::offering_h2(config(&authority));
    let mut connection = H2Connection::tls(site.gateway.https, "a.example.com", &client).unwrap();
    for (host, status) in
        [("a.example.com", 200), ("b.example.com", 421), ("c.example.com", 200), ("a.example.com", 200)]
    {
        let response = connection.get(host, "/").unwrap();
        assert_eq!(response.status, status, "{host}: {}", response.text());
    }
    assert_eq!(backend.arrived().len(), 3);
}

#[test]
fn a_header_list_over_64_kib_is_refused_and_one_under_it_passes() {
    let upstream = Echo::start("a");
    let site = h2_site(upstream.address, &[]);
    let mut connection = site.plain();
    let value = "x".repeat(48 << 10);
    let response = connection.ask(&H2Request::get(HOST, "/").header("x-big", &value)).unwrap();
    assert_eq!(response.echoed("x-big"), [value]);
    let over = H2Request::get(HOST, "/").header("x-big", "x".repeat(80 << 10));
    let outcome = connection.outcome_of(&over);
    assert!(matches!(outcome.status(), None | Some(431)), "{outcome:?}");
    assert_eq!(site.plain().get(HOST, "/").unwrap().status, 200);
}

#[test]
fn an_upstream_that_breaks_in_the_middle_of_a_body_is_a_reset_and_no_clean_end() {
    // Hardening BE03.
    let backend = Backend::start(|arrived| match arrived.target() {
        "/length" => Reply::BytesThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".into()),
        "/chunked" => Reply::BytesThenClose(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".into(),
        ),
        _ => Reply::ok("ok"),
    });
    let site = h2_site(backend.address, &[]);
    let mut connection = site.plain();
    for path in ["/length", "/chunked"] {
        match connection.outcome_of(&H2Request::get(HOST, path)) {
            Outcome::Reset(code) => assert_ne!(code, NO_ERROR, "{path}"),
            Outcome::Answer(response) => assert_eq!(response.status, 502, "{path}: {response:?}"),
            other @ (Outcome::GoneAway(_) | Outcome::Closed) => panic!("{path}: {other:?}"),
        }
        assert_eq!(connection.get(HOST, "/").unwrap().text(), "ok", "after {path}");
    }
}

#[test]
fn a_drain_says_goaway_finishes_what_runs_and_takes_nothing_new() {
    // Hardening DR01.
    let backend = Backend::start(|arrived| match arrived.target() {
        "/slow" => Reply::After(Duration::from_secs(3), Box::new(Reply::ok("slow"))),
        _ => Reply::ok("ok"),
    });
    let mut site = h2_site(backend.address, &["--lame-duck", "1s", "--drain", "20s"]);
    let (mut busy, mut idle) = (site.tls(), site.plain());
    assert_eq!(busy.get(HOST, "/").unwrap().status, 200);
    assert_eq!(idle.get(HOST, "/").unwrap().status, 200);
    let slow: Vec<u32> = (0..5).map(|_| busy.send(&H2Request::get(HOST, "/slow")).unwrap()).collect();
    until("all of them have arrived", || {
        let at_work = site.site.gateway.metric("http_requests_in_flight");
        (at_work >= 5.0).then_some(())
    });
    site.site.gateway.process.signal("TERM");
    // In the lame-duck time the first GOAWAY may allow all streams; the last one names the last stream.
    busy.wait_for("the last GOAWAY", |c| c.goaways.iter().any(|g| g.last_stream < 1 << 30).then_some(()))
        .unwrap();
    drop(busy.send(&H2Request::get(HOST, "/late")));
    for stream in slow {
        assert_eq!(busy.response(stream).unwrap().text(), "slow");
    }
    busy.until_closed().unwrap();
    idle.until_closed().unwrap();
    for goaway in busy.goaways.iter().chain(&idle.goaways) {
        assert_eq!(goaway.code, NO_ERROR, "{goaway:?}");
    }
    assert!(!idle.goaways.is_empty());
    let (status, _) = site.site.gateway.process.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{:#?}", site.site.gateway.process.stderr());
    assert!(backend.arrived().iter().all(|arrived| arrived.target() != "/late"));
}

/// Asks until it is told to stop, and on a new connection after a GOAWAY, as clients do: what the server says it will
/// not serve goes again (RFC 9113 §6.8). Counts connections.
fn keep_asking(http: SocketAddr, stop: &AtomicBool, done: &AtomicU64) -> Result<u64, String> {
    let mut connections = 0;
    while !stop.load(Ordering::SeqCst) {
        let mut connection = H2Connection::plain(http).map_err(|error| format!("connect: {error}"))?;
        connections += 1;
        while !stop.load(Ordering::SeqCst) && connection.goaways.is_empty() {
            match connection.outcome_of(&H2Request::new("POST", HOST, "/").body(vec![b'x'; 3000])) {
                Outcome::Answer(response) if response.status == 200 => {
                    done.fetch_add(1, Ordering::SeqCst);
                }
                Outcome::GoneAway(NO_ERROR) | Outcome::Reset(REFUSED_STREAM) => break,
                other @ (Outcome::Answer(_) | Outcome::GoneAway(_) | Outcome::Reset(_) | Outcome::Closed) => {
                    return Err(format!("{other:?} after {:?}", connection.goaways));
                }
            }
        }
    }
    Ok(connections)
}

#[test]
fn a_sigterm_under_load_loses_no_request() {
    // Hardening DR01.
    let upstream = Echo::start("a");
    let flags = ["--lame-duck", "2s", "--drain", "10s", "--access-log", "off"];
    let mut site = h2_site(upstream.address, &flags);
    let http = site.site.gateway.http;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || keep_asking(http, &stop, &done))
        })
        .collect();
    let count = || done.load(Ordering::SeqCst);
    until("the load runs", || (count() > 100).then_some(()));
    site.site.gateway.process.signal("TERM");
    let signalled = Instant::now();
    let seen = count();
    until("the load goes on while draining", || {
        (count() > seen + 100 && signalled.elapsed() > Duration::from_millis(500)).then_some(())
    });
    stop.store(true, Ordering::SeqCst);
    let ended: Result<Vec<u64>, String> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(signalled.elapsed() < Duration::from_secs(2), "too slow a machine for this test");
    ended.expect("no request fails");
    let (status, _) = site.site.gateway.process.wait(Duration::from_secs(15));
    assert_eq!(status.code(), Some(0), "{:#?}", site.site.gateway.process.stderr());
}

#[test]
fn connections_that_age_under_load_cost_no_request() {
    let upstream = Echo::start("a");
    let site = h2_site(upstream.address, &["--max-connection-age", "1s", "--access-log", "off"]);
    let http = site.site.gateway.http;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || keep_asking(http, &stop, &done))
        })
        .collect();
    let started = Instant::now();
    until("each connection has aged three times", || {
        (started.elapsed() > Duration::from_secs(4)).then_some(())
    });
    stop.store(true, Ordering::SeqCst);
    let connections: Result<Vec<u64>, String> =
        threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let connections: u64 = connections.expect("no request fails").iter().sum();
    assert!((8..=24).contains(&connections), "{connections} connections of 4 threads in four seconds");
}

#[test]
fn an_idle_connection_ends_with_goaway_after_the_idle_timeout() {
    let backend = Backend::named("ok");
    let site = h2_site(backend.address, &["--idle-timeout", "500ms"]);
    for what in ["TLS", "plain"] {
        let mut connection = if what == "TLS" { site.tls() } else { site.plain() };
        assert_eq!(connection.get(HOST, "/").unwrap().status, 200, "{what}");
        let asked = Instant::now();
        connection.until_closed().unwrap();
        let took = asked.elapsed();
        assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(5), "{what}: {took:?}");
        assert!(connection.goaways.iter().all(|goaway| goaway.code == NO_ERROR), "{what}");
        assert!(!connection.goaways.is_empty(), "{what}");
    }
}

#[test]
fn a_connection_of_the_maximum_age_says_goaway_and_its_streams_finish() {
    let upstream = Echo::start("a");
    let site = h2_site(upstream.address, &["--max-connection-age", "1s"]);
    let mut connection = site.tls();
    let opened = Instant::now();
    let streams: Vec<u32> =
        (0..5).map(|_| connection.send(&H2Request::get(HOST, "/?delay=3s")).unwrap()).collect();
    connection.wait_for("GOAWAY", |c| (!c.goaways.is_empty()).then_some(())).unwrap();
    let age = opened.elapsed();
    assert!(age >= Duration::from_millis(700) && age < Duration::from_millis(2900), "{age:?}");
    for stream in streams {
        assert_eq!(connection.response(stream).unwrap().status, 200);
    }
    connection.until_closed().unwrap();
    assert!(connection.goaways.iter().all(|goaway| goaway.code == NO_ERROR), "{:?}", connection.goaways);
}

#[test]
fn settings_of_the_client_are_obeyed() {
    let upstream = Echo::start("a");
    let site = site_with(&route("shop", &spec(upstream.address, "")), &[]);
    let settings = [(INITIAL_WINDOW_SIZE, 100)];
    let mut connection = H2Connection::plain_with(site.gateway.http, &settings).unwrap();
    connection.grants = false;
    let stream = connection.send(&H2Request::get(HOST, "/?bytes=1000")).unwrap();
    connection.wait_for("the first window", |c| (c.held(stream) == 100).then_some(())).unwrap();
    connection.ping().unwrap();
    assert_eq!(connection.held(stream), 100);
    connection.grant(stream, 900).unwrap();
    assert_eq!(connection.response(stream).unwrap().body.len(), 1000);
}
