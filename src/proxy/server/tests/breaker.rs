//! The circuit breaker of a backend, as clients meet it.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use ir::{Action, AdaptiveLimit, BackendEndpoints, BreakerFailures, CircuitBreaker, Endpoint, EndpointMap};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Answer, Site, ask, dial, until};
use super::upstream::{Accepted, HTTP1, backend, forwarding, start};
use crate::settings::Settings;
use crate::tls::testing::tls;

const HOST: &str = "web.example";

/// A gateway with one backend, under this breaker.
fn site(breaker: CircuitBreaker) -> Site {
    let mut route = forwarding(HOST, HTTP1);
    if let Action::Forward { circuit_breaker, .. } = &mut route.action {
        *circuit_breaker = breaker;
    }
    Site::with(Settings::default(), &[route], &tls(&[], None))
}

fn set_ports(site: &Site, ports: &[u16]) {
    let endpoint = |port: &u16| Endpoint { host: "127.0.0.1".into(), port: *port };
    let endpoints = ports.iter().map(endpoint).collect();
    let endpoints = Arc::new(BackendEndpoints { endpoints, local: Vec::new(), near: Vec::new() });
    site.set_endpoints(EndpointMap { backends: BTreeMap::from([(backend(HOST), endpoints)]) });
}

fn get(site: &Site) -> Answer {
    ask(&mut dial(site.http), "GET", HOST, "/", &[]).unwrap()
}

/// The path of a request, its fields, and the head of its answer.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

/// Answers that go on for ever.
const ENDLESS: [Case; 2] = [
    ("/events", &[], "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"),
    (
        "/tunnel",
        &[
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ],
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    ),
];

/// Answers every request with nothing, but those that want it for ever.
fn well() -> u16 {
    start(None, |Accepted { mut io, .. }| async move {
        let mut head = Vec::new();
        while let Ok(byte) = io.read_u8().await {
            head.push(byte);
            if head.ends_with(b"\r\n\r\n") {
                let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
                let endless = ENDLESS.iter().find(|(of, ..)| *of == path).map(|(.., answer)| *answer);
                let answer = endless.unwrap_or("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                io.write_all(answer.as_bytes()).await.unwrap();
                head.clear();
            }
        }
    })
}

#[test]
fn a_probe_that_finds_no_endpoint_gives_its_place_to_the_next() {
    let failures =
        BreakerFailures { consecutive: 1, rate: None, open_for: Duration::from_secs(1), probes: 1 };
    let site = site(CircuitBreaker { failures: Some(failures), ..CircuitBreaker::default() });
    let port = well();
    let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    set_ports(&site, &[closed]);
    until("a failure", || get(&site).body.contains("connect-failed"));
    assert!(get(&site).body.contains("breaker-open"));
    set_ports(&site, &[]);
    until("it is half open", || get(&site).body.contains("no-endpoint"));
    // Far more than there are places, in less time than a lost one would take to be replaced.
    for _ in 0..5 {
        let answer = get(&site);
        assert!(answer.body.contains("no-endpoint"), "{}", answer.body);
    }
    set_ports(&site, &[port]);
    until("an endpoint", || get(&site).status == 200);
    for _ in 0..5 {
        assert_eq!(get(&site).status, 200, "it is closed");
    }
}

#[test]
fn answers_that_go_on_for_ever_do_not_fill_an_adaptive_bound() {
    let adaptive = Some(AdaptiveLimit { min: 1, max: 2 });
    let site = site(CircuitBreaker { adaptive, ..CircuitBreaker::default() });
    set_ports(&site, &[well()]);
    until("an endpoint", || get(&site).status == 200);
    let mut held = Vec::new();
    for (path, headers, answer) in ENDLESS {
        for _ in 0..3 {
            let mut client = dial(site.http);
            let begun = ask(&mut client, "GET", HOST, path, headers).unwrap();
            assert!(answer.contains(&begun.status.to_string()), "{path}: {} {}", begun.status, begun.body);
            held.push(client);
        }
    }
    assert_eq!(get(&site).status, 200);
}
