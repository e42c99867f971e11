//! Health of endpoints under load: who is asked while one of several is dead or answers badly, and when it is asked again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::backend::{Backend, Reply};
use e2e::client::{Connection, Request};
use e2e::folder::{route, service};
use e2e::until::{until, until_within};

use crate::site::{HOST, site};

/// A route to the Service `web` that tries again what fails, with this passive health check.
fn watched(passive: &str, endpoints: &[SocketAddr]) -> String {
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  \
         retry: {{attempts: 2, \"on\": [ConnectFailure, Reset, 500-599], budgetPercent: 100, backoff: {{base: 1ms, max: 5ms}}}}\n  \
         healthCheck: {{passive: {passive}}}"
    );
    service("web", endpoints) + &route("shop", &spec)
}

/// Clients that ask without a pause until they are dropped.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Load {
    fn start(http: SocketAddr, clients: usize) -> Self {
        let (stop, answered, failed) = <(Arc<AtomicBool>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let threads = (0..clients)
            .map(|_| {
                let (stop, answered, failed) =
                    (Arc::clone(&stop), Arc::clone(&answered), Arc::clone(&failed));
                thread::spawn(move || {
                    let mut connection = Connection::open(http).unwrap();
                    while !stop.load(Ordering::SeqCst) {
                        let is_well =
                            connection.ask(&Request::get(HOST, "/")).is_ok_and(|answer| answer.status == 200);
                        answered.fetch_add(1, Ordering::SeqCst);
                        if !is_well {
                            failed.fetch_add(1, Ordering::SeqCst);
                            connection = Connection::open(http).unwrap();
                        }
                    }
                })
            })
            .collect();
        Self { stop, answered, failed, threads }
    }

    /// Waits for so many more answers.
    fn go_on(&self, answers: usize) {
        let end = self.answered.load(Ordering::SeqCst) + answers;
        until("the load goes on", || (self.answered.load(Ordering::SeqCst) >= end).then_some(()));
    }

    /// How many requests failed of how many.
    fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        (self.failed.load(Ordering::SeqCst), self.answered.load(Ordering::SeqCst))
    }
}

/// A backend that can be made to answer 500 to everything.
fn moody() -> (Backend, Arc<AtomicBool>) {
    let bad = Arc::new(AtomicBool::new(false));
    let mood = Arc::clone(&bad);
    let backend = Backend::start(move |_| {
        if mood.load(Ordering::SeqCst) { Reply::status(500, "bad") } else { Reply::ok("moody") }
    });
    (backend, bad)
}

#[test]
fn be11_one_of_three_that_answers_500_gets_five_requests_at_most_and_no_client_sees_one() {
    let (moody, bad) = moody();
    let good = [Backend::named("a"), Backend::named("b")];
    let passive = "{consecutive5xx: 3, ejectFor: 4s, maxEjectedPercent: 50}";
    let site = site(&watched(passive, &[moody.address, good[0].address, good[1].address]));
    let load = Load::start(site.gateway.http, 8);
    load.go_on(300);
    bad.store(true, Ordering::SeqCst);
    let since = Instant::now();
    let failures = || site.gateway.metric("baribhara_retries_total{endpoint=\"shop/shop/all\"}");
    until("it is out", || {
        (site.gateway.metric("baribhara_endpoint_ejections_total{backend=\"shop/web:80\"}") >= 1.0)
            .then_some(())
    });
    until_within(Duration::from_secs(20), "ten seconds of load", || {
        (since.elapsed() > Duration::from_secs(10)).then_some(())
    });
    // Every request that the bad one got was tried again.
    let asked = failures();
    // Three to be sure, one after 4 s; 8 s later comes the next. What was under way when it went bad comes on top.
    assert!((4.0..=5.0 + 2.0).contains(&asked), "{asked} requests in ten seconds");
    bad.store(false, Ordering::SeqCst);
    let well_at = Instant::now();
    let before = moody.arrived().len();
    until_within(Duration::from_secs(12), "it is asked again", || {
        (moody.arrived().len() > before + 50).then_some(())
    });
    assert!(well_at.elapsed() < Duration::from_secs(9), "{:?}", well_at.elapsed());
    let (failed, answered) = load.end();
    assert_eq!(failed, 0, "of {answered}");
}

#[test]
fn be01_two_dead_of_three_are_left_alone_and_no_client_sees_it() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::named);
    let passive = "{consecutiveConnectFailures: 3, ejectFor: 60s, maxEjectedPercent: 50}";
    let site = site(&watched(passive, &[a.address, b.address, c.address]));
    let load = Load::start(site.gateway.http, 8);
    load.go_on(300);
    drop(a);
    drop(b);
    until("both are out", || {
        (site.gateway.metric("baribhara_endpoint_ejections_total{backend=\"shop/web:80\"}") >= 2.0)
            .then_some(())
    });
    let failures =
        || site.gateway.metric("baribhara_upstream_connect_failures_total{backend=\"shop/web:80\"}");
    let known = failures();
    load.go_on(2000);
    assert_eq!(failures(), known, "a dead one is asked");
    assert!(known <= 2.0 * 3.0 + 8.0, "{known}");
    let (failed, answered) = load.end();
    assert_eq!(failed, 0, "of {answered}");
}

#[test]
fn an_endpoint_with_a_low_rate_of_successes_is_ejected() {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    // Never two failures in a row.
    let half = Backend::start(move |_| match counter.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => Reply::status(500, "bad"),
        _ => Reply::ok("half"),
    });
    let good = Backend::named("good");
    let passive =
        "{consecutive5xx: 2, successRate: {minimumPercent: 70, minimumRequests: 20, interval: 60s}}";
    let site = site(&watched(passive, &[half.address, good.address]));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for _ in 0..200 {
        assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().status, 200);
    }
    let asked = half.arrived().len();
    assert!((20..=22).contains(&asked), "{asked} requests");
}
