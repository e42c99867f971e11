//! The circuit breaker of a backend, as clients meet it.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use ir::{Action, BackendEndpoints, BreakerFailures, CircuitBreaker, Endpoint, EndpointMap};
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

/// Answers every request with nothing.
fn well() -> u16 {
    start(None, |Accepted { mut io, .. }| async move {
        let mut head = Vec::new();
        while let Ok(byte) = io.read_u8().await {
            head.push(byte);
            if head.ends_with(b"\r\n\r\n") {
                head.clear();
                io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
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
