//! Connections to upstreams: how long opening one may take, how many there are, and how old they get.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::backend::{Backend, Reply};
use e2e::client::{self, Connection, Request};
use e2e::folder::{route, service};
use e2e::load::{Load, Plan};
use e2e::sockets::{Census, Unreachable};
use e2e::until::until;

use crate::site::{HOST, Site, address, site, site_with, spec};

#[test]
fn every_timeout_bounds_connecting_too() {
    let upstream = Unreachable::start();
    let to = address(upstream.address);
    let rule = |name: &str, fields: &str| {
        format!(
            "- {{name: {name}, matches: [{{path: {{type: PathPrefix, value: /{name}}}}}], {fields}, backendRefs: [{to}]}}\n"
        )
    };
    let rules = rule("request", "timeouts: {request: 700ms}")
        + &rule("try", "timeouts: {perTry: 400ms, connect: 5s}, retry: {attempts: 0}")
        + &rule("connect", "timeouts: {connect: 500ms}");
    let site = site(&route("shop", &format!("hostnames: [{HOST}]\nrules:\n{rules}")));
    let http = site.gateway.http;
    let cases = [("/request", 504, 700), ("/try", 504, 400), ("/connect", 503, 500)];
    let asked = cases.map(|(path, status, least_ms)| {
        thread::spawn(move || {
            let started = Instant::now();
            let response = client::ask(http, &Request::get(HOST, path)).unwrap();
            (path, (response.status, status), least_ms, started.elapsed())
        })
    });
    for thread in asked {
        let (path, (got, want), least_ms, took) = thread.join().unwrap();
        assert_eq!(got, want, "{path} after {took:?}");
        let bounds = Duration::from_millis(least_ms - 20)..Duration::from_millis(1500);
        assert!(bounds.contains(&took), "{path}: {took:?}");
    }
}

#[test]
fn a_host_that_answers_no_connection_is_avoided_long_before_the_first_has_failed() {
    let (gone, well) = (Unreachable::start(), Backend::named("well"));
    let spec = format!("hostnames: [{HOST}]\nrules: [{{name: all, backendRefs: [{{name: web, port: 80}}]}}]");
    let endpoints = [gone.address, well.address];
    let site = site(&(service("web", &endpoints) + &route("shop", &spec)));
    let http = site.gateway.http;
    let asked: Vec<_> = (0..100)
        .map(|_| {
            // Not to wait for something: the rate is what is tested. All are sent within the timeout of 3 s.
            thread::sleep(Duration::from_millis(20));
            thread::spawn(move || {
                let started = Instant::now();
                assert_eq!(client::ask(http, &Request::get(HOST, "/")).unwrap().status, 200);
                started.elapsed()
            })
        })
        .collect();
    let took: Vec<Duration> = asked.into_iter().map(|thread| thread.join().unwrap()).collect();
    let waited = took.iter().filter(|took| **took > Duration::from_secs(1)).count();
    // Half of those of the first 300 ms, and two more; without that it would be half of all.
    assert!((1..=20).contains(&waited), "{waited} of {} waited: {took:?}", took.len());
}

#[test]
fn a_host_that_answers_no_connection_is_ejected_where_requests_have_less_time_than_connecting() {
    for (timeouts, lost) in [("perTry: 200ms", 0..=0), ("request: 500ms", 2..=5)] {
        let (gone, well) = (Unreachable::start(), Backend::named("well"));
        let spec = format!(
            "hostnames: [{HOST}]\nrules: [{{name: all, timeouts: {{{timeouts}}}, backendRefs: [{{name: web, port: 80}}]}}]"
        );
        let endpoints = [gone.address, well.address];
        let site = site(&(service("web", &endpoints) + &route("shop", &spec)));
        // Nothing was sent: no method forbids to ask somebody else.
        let post = Request::new("POST", HOST, "/").body("some body");
        let failed = (0..30).filter(|_| site.gateway.ask(&post).status != 200).count();
        assert!(lost.contains(&failed), "{timeouts}: {failed} failed");
        let metrics = site.gateway.admin_text("/metrics");
        let line = metrics.lines().find(|line| line.starts_with("baribhara_endpoint_ejections_total{"));
        assert!(line.is_some_and(|line| line.ends_with(" 1")), "{timeouts}: {line:?}");
    }
}

#[test]
fn a_pooled_connection_older_than_the_idle_time_is_not_used_again() {
    let backend = Backend::named("ok");
    let flags = ["--upstream-idle", "300ms", "--workers", "1"];
    let site = site_with(&route("shop", &spec(backend.address, "")), &flags);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let mut ask = || assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().status, 200);
    // Three times, since a sweep that happens to come in between would hide what is tested.
    for round in 1..=3 {
        ask();
        ask();
        assert_eq!(backend.connections(), round, "a fresh connection is used again");
        // Not to wait for something: the age is what is tested.
        thread::sleep(Duration::from_millis(400));
    }
    ask();
    assert_eq!(backend.connections(), 4);
}

/// Asks so many times at once: no request is answered before all have arrived.
fn wave(http: SocketAddr, arrived: &Arc<AtomicUsize>, size: usize) {
    let before = arrived.load(Ordering::SeqCst);
    let asking: Vec<_> = (0..size)
        .map(|_| thread::spawn(move || client::ask(http, &Request::get(HOST, "/")).unwrap().status))
        .collect();
    asking.into_iter().for_each(|asked| assert_eq!(asked.join().unwrap(), 200));
    assert_eq!(arrived.load(Ordering::SeqCst), before + size);
}

#[test]
fn a_burst_keeps_the_connections_it_uses_and_a_second_later_only_the_hundred_are_left() {
    const SIZE: usize = 150;
    let arrived = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&arrived);
    let backend = Backend::start(move |_| {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        let last_of_wave = number - number % SIZE + SIZE;
        until("the whole wave is there", || (counter.load(Ordering::SeqCst) >= last_of_wave).then_some(()));
        Reply::ok("ok")
    });
    let site = site_with(&route("shop", &spec(backend.address, "")), &["--workers", "1"]);
    wave(site.gateway.http, &arrived, SIZE);
    // A wave that comes late finds fewer: but one of ten is in time on any machine.
    let opens_nothing = |_| {
        let before = backend.connections();
        wave(site.gateway.http, &arrived, SIZE);
        backend.connections() == before
    };
    assert!((0..10).any(opens_nothing), "{} connections for {SIZE} at once", backend.connections());
    until("what is too many is closed", || {
        let metrics = site.gateway.admin_text("/metrics");
        let open = metrics.lines().find(|line| line.starts_with("baribhara_upstream_connections{"))?;
        open.ends_with(" 100").then_some(())
    });
}

#[test]
fn the_maximum_of_connections_holds_over_all_workers_and_nobody_fails() {
    let upstream = Census::start(Duration::from_millis(2));
    let breaker = "circuitBreaker: {maxConnections: 2}";
    let site = site_with(&route("shop", &spec(upstream.address, breaker)), &["--access-log", "off"]);
    let load = Load::start(site.gateway.http, 20, &Plan::get(HOST, "/"));
    until("the clients have been served in turn many times", || (load.done() >= 600).then_some(()));
    load.stop().assert_clean();
    assert!(upstream.accepted() >= 1);
    assert_eq!(upstream.most(), 2);
}

#[test]
fn with_one_connection_and_no_waiting_room_only_a_concurrent_request_is_refused() {
    let (slow, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (reached, opened) = (Arc::clone(&slow), Arc::clone(&gate));
    let backend = Backend::start(move |arrived| {
        if arrived.target() == "/slow" {
            reached.fetch_add(1, Ordering::SeqCst);
            until("the gate opens", || (opened.load(Ordering::SeqCst) > 0).then_some(()));
        }
        Reply::ok("ok")
    });
    let breaker = "circuitBreaker: {maxConnections: 1, maxPendingRequests: 0}";
    let site = site(&route("shop", &spec(backend.address, breaker)));
    // Each on a connection of its own, so that both workers get some while the other one's connection lies idle.
    for number in 0..30 {
        let response = site.gateway.get(HOST, "/");
        assert_eq!(response.status, 200, "request {number}: {}", response.text());
    }
    let http = site.gateway.http;
    let waiting = thread::spawn(move || client::ask(http, &Request::get(HOST, "/slow")).unwrap().status);
    until("the slow request has arrived", || (slow.load(Ordering::SeqCst) == 1).then_some(()));
    for _ in 0..4 {
        assert_eq!(site.gateway.get(HOST, "/").status, 503);
    }
    gate.store(1, Ordering::SeqCst);
    assert_eq!(waiting.join().unwrap(), 200);
    assert_eq!(site.gateway.get(HOST, "/").status, 200);
}

fn three_endpoints(bad: &Backend, fields: &str) -> (Site, [Backend; 2]) {
    let good = [Backend::named("a"), Backend::named("b")];
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  {fields}"
    );
    let endpoints = [good[0].address, bad.address, good[1].address];
    (site(&(service("web", &endpoints) + &route("shop", &spec))), good)
}

#[test]
fn an_endpoint_that_gives_no_answer_is_ejected_although_nothing_says_so() {
    let cases = [
        ("hangs", Reply::Silence, "timeouts: {request: 250ms}"),
        ("resets", Reply::BytesThenReset(Vec::new()), "retry: {attempts: 0}"),
    ];
    for (what, reply, fields) in cases {
        let bad = Backend::start(move |_| reply.clone());
        let (site, _good) = three_endpoints(&bad, fields);
        let failed = (0..100).filter(|_| site.gateway.get(HOST, "/").status != 200).count();
        // Three make the row; two workers may have one more on the way.
        assert!((3..=5).contains(&failed), "{what}: {failed} of 100 failed");
        let metrics = site.gateway.admin_text("/metrics");
        let line = metrics.lines().find(|line| line.starts_with("baribhara_endpoint_ejections_total{"));
        assert!(line.is_some_and(|line| line.ends_with(" 1")), "{what}: {line:?}");
    }
}
