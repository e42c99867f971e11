//! Budgets of the process: over one new load is turned away, and taken again when there is room.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use e2e::backend::Backend;
use e2e::client::{self, Connection, Request};
use e2e::folder::route;
use e2e::until::{until, until_within};

use crate::site::{HOST, site, site_with, spec};

#[test]
fn connections_over_their_bound_get_503_and_are_taken_again_when_one_ends() {
    let web = Backend::named("web");
    let site = site_with(&route("shop", &spec(web.address, "")), &["--max-connections", "3"]);
    let open = || Connection::open(site.gateway.http).unwrap();
    let mut held = [open(), open(), open()];
    for connection in &mut held {
        assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().status, 200);
    }
    let refused = site.gateway.get(HOST, "/");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.closes());
    // One that wants TLS is closed.
    let mut tls = TcpStream::connect(site.gateway.https).unwrap();
    tls.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(matches!(tls.read(&mut [0; 1]), Ok(0) | Err(_)));
    for connection in &mut held {
        assert_eq!(
            connection.ask(&Request::get(HOST, "/")).unwrap().status,
            200,
            "those that are open go on"
        );
    }
    assert_eq!(site.gateway.ask_admin("/readyz").unwrap().status, 200);
    assert!(site.gateway.metric("baribhara_shed_total{what=\"connection\",budget=\"connections\"}") >= 2.0);
    drop(held);
    site.gateway.until_status(HOST, "/", 200);
}

/// What the gateway takes while it has nothing to do.
fn idle_bytes() -> u64 {
    let web = Backend::named("web");
    let site = site(&route("shop", &spec(web.address, "")));
    site.gateway.until_status(HOST, "/", 200);
    site.gateway.metric("memory_usage_bytes") as u64
}

#[test]
fn a_process_over_its_memory_budget_turns_load_away_and_recovers() {
    let budget = idle_bytes() + (24 << 20);
    let web = Backend::named("web");
    let flags = ["--memory-budget", &budget.to_string(), "--read-timeout", "1h"];
    let site = site_with(&route("shop", &spec(web.address, "")), &flags);
    let mut kept = Connection::open(site.gateway.http).unwrap();
    assert_eq!(kept.ask(&Request::get(HOST, "/")).unwrap().status, 200);
    // Heads that are not whole: each is kept in memory.
    let part = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Large: {}", "x".repeat(900 << 10)).into_bytes();
    let mut large = Vec::new();
    let overloaded = || site.gateway.metric("baribhara_overloaded") == 1.0;
    while !overloaded() {
        assert!(large.len() < 200, "{}", site.gateway.admin_text("/metrics"));
        let mut connection = Connection::open(site.gateway.http).unwrap();
        // It may be turned away just now.
        drop(connection.send(&part));
        large.push(connection);
    }
    let refused = kept.ask(&Request::get(HOST, "/")).unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    let line = site.gateway.access_line("the refusal", |line| line["reason"] == "overloaded");
    assert_eq!(line["status"], 503);
    let new = client::ask(site.gateway.http, &Request::get(HOST, "/")).unwrap();
    assert_eq!((new.status, new.header("retry-after")), (503, Some("1")));
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(site.gateway.ask_admin(path).unwrap().status, 200, "{path}");
    }
    for what in ["request", "connection"] {
        let shed = format!("baribhara_shed_total{{what=\"{what}\",budget=\"memory\"}}");
        assert!(site.gateway.metric(&shed) >= 1.0, "{what}");
    }
    drop(large);
    until_within(Duration::from_secs(30), "the memory is given back", || (!overloaded()).then_some(()));
    until("load is taken again", || (kept.ask(&Request::get(HOST, "/")).ok()?.status == 200).then_some(()));
    site.gateway.until_status(HOST, "/", 200);
}
