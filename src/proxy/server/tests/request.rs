//! What TLS means for requests: 421, the way to `https`, HSTS, and what upstreams are told.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use http::HeaderValue;
use ir::TlsVersion::{V1_2, V1_3};
use ir::{Action, RouteTls};

use super::support::{Site, ask, dial, get, route};
use super::upstream::{HTTP1, backend, forwarding};
use crate::settings::Settings;
use crate::tls::testing::{Issued, tls};

#[test]
fn a_request_for_a_host_with_other_tls_is_misdirected() {
    let (one, two) = (Issued::of(&["a.example", "b.example"]), Issued::of(&["c.example"]));
    let (one, two) = (one.secret("one"), two.secret("two"));
    let hosts = [
        ("a.example", Some(&one), V1_2),
        ("b.example", Some(&one), V1_2),
        ("strict.example", Some(&one), V1_3),
        ("c.example", Some(&two), V1_2),
    ];
    let site = Site::start(&[route("all", &[])], &tls(&hosts, Some(&two)));
    let mut client = site.connect("a.example");
    for (host, want) in [
        ("a.example", 200),
        ("A.Example.:8443", 200),
        ("b.example", 200),
        ("strict.example", 421),
        ("c.example", 421),
        ("unknown.example", 421),
        ("a.example", 200),
    ] {
        // All on one connection: a refusal leaves it open.
        let answer = get(&mut client, host, "/");
        assert_eq!(answer.status, want, "{host}: {answer:?}");
        assert_eq!(answer.header("connection"), None, "{host}");
        if want == 421 {
            assert!(answer.body.contains("urn:baribhara:problem:misdirected-request"), "{answer:?}");
        }
    }
    let mut nameless = site.connect("127.0.0.1");
    for (host, want) in [("127.0.0.1", 200), ("unknown.example", 200), ("c.example", 200), ("a.example", 421)]
    {
        assert_eq!(get(&mut nameless, host, "/").status, want, "{host}");
    }
    let mut plain = dial(site.http);
    for host in ["a.example", "c.example"] {
        assert_eq!(get(&mut plain, host, "/").status, 200, "{host}");
    }
}

fn secured(name: &str, hosts: &[&str]) -> ir::Route {
    let tls = RouteTls {
        redirect_status: Some(308),
        hsts: Some(HeaderValue::from_static("max-age=63072000")),
        client: None,
    };
    ir::Route { tls: Some(tls), ..route(name, hosts) }
}

#[test]
fn requests_without_tls_are_sent_to_https_but_for_acme_challenges() {
    let one = Issued::of(&["a.example"]).secret("one");
    let broken = ir::Route {
        action: Action::Fail(ir::FailReason::InvalidRule),
        ..secured("broken", &["broken.example"])
    };
    let closed = ir::Route {
        ip_access: ir::IpAccess { deny: vec!["127.0.0.0/8".parse().unwrap()], ..Default::default() },
        ..secured("closed", &["closed.example"])
    };
    let routes = [secured("all", &["a.example"]), broken, closed];
    let names = ["a.example", "closed.example", "broken.example"];
    let hosts = names.map(|name| (name, Some(&one), V1_2));
    let site = Site::start(&routes, &tls(&hosts, None));
    let mut plain = dial(site.http);
    for (host, path, want) in [
        ("a.example", "/", Some("https://a.example/")),
        ("A.Example.:8080", "/x/../y%41?q=1&q=%20", Some("https://a.example/yA?q=1&q=%20")),
        ("a.example", "/.well-known/acme-challenge", Some("https://a.example/.well-known/acme-challenge")),
        ("a.example", "/.well-known/acme-challenge/../x", Some("https://a.example/.well-known/x")),
        ("a.example", "/.well-known/acme-challenge/token", None),
        ("closed.example", "/", Some("https://closed.example/")),
    ] {
        let answer = get(&mut plain, host, path);
        assert_eq!(answer.status, if want.is_some() { 308 } else { 200 }, "{host}{path}: {answer:?}");
        assert_eq!(answer.header("location"), want, "{host}{path}");
        assert_eq!(answer.header("strict-transport-security"), None, "{host}{path}");
    }
    assert_eq!(get(&mut plain, "broken.example", "/").status, 500);
    for (host, want) in [("a.example", 200), ("closed.example", 403), ("broken.example", 500)] {
        let answer = get(&mut site.connect(host), host, "/");
        assert_eq!(answer.status, want, "{host}");
        assert_eq!(answer.header("strict-transport-security"), Some("max-age=63072000"), "{host}");
    }
}

#[test]
fn a_trusted_proxy_says_how_its_client_came() {
    let one = Issued::of(&["a.example"]).secret("one");
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let settings = Settings { trusted_proxies, ..Settings::default() };
    let tls = tls(&[("a.example", Some(&one), V1_2)], None);
    let site = Site::with(settings, &[secured("all", &["a.example"])], &tls);
    for (with_tls, said, want) in [
        (false, "https", 200),
        (false, "http", 308),
        (false, "garbage", 308),
        (true, "http", 308),
        (true, "https", 200),
        (true, "garbage", 200),
    ] {
        let fields = [("x-forwarded-proto", said)];
        let answer = if with_tls {
            ask(&mut site.connect("a.example"), "GET", "a.example", "/", &fields)
        } else {
            ask(&mut dial(site.http), "GET", "a.example", "/", &fields)
        };
        let answer = answer.unwrap();
        assert_eq!(answer.status, want, "{with_tls} {said}");
        assert_eq!(answer.header("strict-transport-security").is_some(), want == 200, "{with_tls} {said}");
    }
}

/// Answers one request with its own head.
fn mirror() -> (u16, thread::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0u8];
            tcp.read_exact(&mut byte).unwrap();
            head.extend_from_slice(&byte);
        }
        write!(tcp, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", head.len()).unwrap();
        tcp.write_all(&head).unwrap();
    });
    (port, thread)
}

#[test]
fn upstreams_are_told_that_the_client_came_over_tls() {
    let one = Issued::of(&["a.example"]).secret("one");
    let (port, upstream) = mirror();
    let routes = [forwarding("a.example", HTTP1)];
    let site = Site::start(&routes, &tls(&[("a.example", Some(&one), V1_2)], None));
    let endpoint = ir::Endpoint { host: "127.0.0.1".into(), port };
    let endpoints =
        Arc::new(ir::BackendEndpoints { endpoints: vec![endpoint], local: Vec::new(), near: Vec::new() });
    site.set_endpoints(ir::EndpointMap { backends: BTreeMap::from([(backend("a.example"), endpoints)]) });
    let mut client = site.connect("a.example");
    let answer = loop {
        let answer = get(&mut client, "a.example", "/");
        // Endpoints come beside the configuration.
        if answer.status != 503 {
            break answer;
        }
    };
    let port = format!("x-forwarded-port: {}\r\n", site.https.port());
    for line in ["x-forwarded-proto: https\r\n", &port, "x-forwarded-host: a.example\r\n"] {
        assert!(answer.body.contains(line), "no {line} in {}", answer.body);
    }
    upstream.join().unwrap();
}
