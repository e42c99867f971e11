//! Health of endpoints under load: who is asked while one of several is dead or answers badly, and when it is asked again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::backend::{Backend, Reply};
use e2e::certificate::{Authority, Issued};
use e2e::client::{Connection, Request};
use e2e::folder::{route, service};
use e2e::h2_backend::H2Backend;
use e2e::tls_backend::{TlsBackend, server_config};
use e2e::until::{until, until_within};

use crate::site::{HOST, Site, site};

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

#[test]
fn be11_one_of_three_that_answers_500_gets_five_requests_at_most_and_no_client_sees_one() {
    let (moody, bad) = Backend::moody();
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

/// A route to the Service `web` with this active check.
fn checked(active: &str, fields: &str, endpoints: &[SocketAddr]) -> String {
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  retry: {{attempts: 0}}\n  \
         healthCheck: {{active: {active}{fields}}}"
    );
    service("web", endpoints) + &route("shop", &spec)
}

#[test]
fn an_endpoint_whose_checks_fail_gets_no_request_until_they_pass_again() {
    let (moody, bad) = Backend::moody();
    let good = Backend::named("good");
    let active = "{path: \"/healthz?deep=1\", host: shop.internal, headers: [{name: X-Check, value: \"yes\"}], interval: \
                  100ms, timeout: 1s, healthy: 2, unhealthy: 2}";
    let site = site(&checked(active, "", &[moody.address, good.address]));
    let who = || {
        let mut names: Vec<String> = (0..20).map(|_| site.gateway.get(HOST, "/").text()).collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(who(), ["good", "moody"], "nothing is known yet, so all are asked");
    until("both are checked", || {
        let checks = good.arrived().into_iter().filter(|arrived| arrived.target().starts_with("/healthz"));
        (checks.count() > 2).then_some(())
    });
    let check = good.arrived().into_iter().find(|arrived| arrived.target() == "/healthz?deep=1").unwrap();
    assert_eq!((check.all("host"), check.all("x-check")), (vec!["shop.internal"], vec!["yes"]));
    assert!(check.all("user-agent")[0].starts_with("baribhara-health/"), "{}", check.head);
    let state = |state: &str| {
        site.gateway
            .metric(&format!("baribhara_backend_endpoints{{backend=\"shop/web:80\",state=\"{state}\"}}"))
    };
    bad.store(true, Ordering::SeqCst);
    until("it is out", || (who() == ["good"]).then_some(()));
    until("the metrics say so", || (state("failing") == 1.0 && state("healthy") == 1.0).then_some(()));
    let config: serde_json::Value = serde_json::from_str(&site.gateway.admin_text("/config")).unwrap();
    assert_eq!(config["endpoint_health"]["shop/web:80"][moody.address.to_string()], "failing");
    assert_eq!(who(), ["good"]);
    bad.store(false, Ordering::SeqCst);
    until("it is in again", || (who() == ["good", "moody"]).then_some(()));
    let changes = |to: &str| {
        site.gateway.metric(&format!("baribhara_health_changes_total{{backend=\"shop/web:80\",to=\"{to}\"}}"))
    };
    assert_eq!((changes("failing"), changes("healthy")), (1.0, 1.0));
    // Nobody asks for checks any more.
    site.folder.write("all.yaml", &watched("{}", &[moody.address, good.address]));
    let checks = |backend: &Backend| {
        backend.arrived().iter().filter(|arrived| arrived.target().starts_with("/healthz")).count()
    };
    until("the checks end", || {
        let before = checks(&good);
        thread::sleep(Duration::from_millis(400));
        (checks(&good) == before).then_some(())
    });
}

#[test]
fn checks_follow_the_endpoints_and_one_that_can_not_be_reached_fails() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let dead = e2e::port::Port::reserve();
    let active = "{type: TCP, interval: 100ms, unhealthy: 1, healthy: 1}";
    let site = site(&checked(active, "", &[a.address, dead.loopback()]));
    let failing =
        || site.gateway.metric("baribhara_backend_endpoints{backend=\"shop/web:80\",state=\"failing\"}");
    until("the dead one fails", || (failing() == 1.0).then_some(()));
    for _ in 0..20 {
        assert_eq!(site.gateway.get(HOST, "/").text(), "a");
    }
    let before = b.connections();
    site.folder.write("all.yaml", &checked(active, "", &[a.address, b.address]));
    until("the new one is checked", || (b.connections() > before + 2).then_some(()));
    until("nobody fails", || (failing() == 0.0).then_some(()));
    assert!(!site.gateway.admin_text("/config").contains("endpoint_health"));
}

/// The name that certificates of backends are for.
const INNER: &str = "cart.internal";

/// A certificate that is believed, and two that are not: for another name, of another authority.
fn certificates(authority: &Authority) -> [Issued; 3] {
    let stranger = Authority::named("another authority");
    [authority.issue(&[INNER]), authority.issue(&["other.internal"]), stranger.issue(&[INNER])]
}

/// As [`checked`], over TLS of this protocol and verification.
fn checked_over_tls(authority: &Authority, tls: &str, active: &str, endpoints: &[SocketAddr]) -> Site {
    let yaml = checked(active, "", endpoints)
        .replace("{name: web, port: 80}", &format!("{{name: web, port: 80, {tls}}}"));
    site(&(authority.config_map("ca") + &yaml))
}

fn verified(protocol: &str) -> String {
    format!(
        "protocol: {protocol}, tls: {{validation: {{caRef: {{kind: ConfigMap, name: ca}}, hostname: {INNER}}}}}"
    )
}

fn until_counted(site: &Site, state: &str, count: f64) {
    let series = format!("baribhara_backend_endpoints{{backend=\"shop/web:80\",state=\"{state}\"}}");
    until(&format!("{count} are {state}"), || (site.gateway.metric(&series) == count).then_some(()));
}

#[test]
fn over_https_an_endpoint_with_a_wrong_certificate_fails_its_checks_and_is_sent_nothing() {
    let authority = Authority::new();
    let backends = certificates(&authority)
        .map(|issued| TlsBackend::start("ok", server_config(&[&issued], &["http/1.1"], None)));
    let addresses = backends.each_ref().map(|backend| backend.address);
    let active = "{path: /healthz, interval: 100ms, timeout: 1s, healthy: 1, unhealthy: 2}";
    let site = checked_over_tls(&authority, &verified("HTTPS"), active, &addresses);
    until_counted(&site, "failing", 2.0);
    until("the right one is checked", || (backends[0].heads().len() > 2).then_some(()));
    assert!(backends[0].heads()[0].starts_with("GET /healthz HTTP/1.1\r\n"), "{:?}", backends[0].heads());
    for _ in 0..20 {
        let response = site.gateway.get(HOST, "/");
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }
    until_counted(&site, "healthy", 1.0);
    for stranger in &backends[1..] {
        assert!(stranger.heads().is_empty(), "a stranger was asked: {:?}", stranger.heads());
        assert!(stranger.handshakes().len() > 1, "nobody tried");
    }
    site.gateway.process.until_told("endpoint fails its health checks");
}

#[test]
fn over_https_without_verification_every_certificate_passes_the_checks() {
    let authority = Authority::new();
    let backends = certificates(&authority)
        .map(|issued| TlsBackend::start("ok", server_config(&[&issued], &["http/1.1"], None)));
    let addresses = backends.each_ref().map(|backend| backend.address);
    let active = "{path: /healthz, interval: 100ms, timeout: 1s, healthy: 1, unhealthy: 1}";
    let tls = "protocol: HTTPS, tls: {insecureSkipVerify: true}";
    let site = checked_over_tls(&authority, tls, active, &addresses);
    for backend in &backends {
        until("it is checked", || (backend.heads().len() > 2).then_some(()));
    }
    until_counted(&site, "healthy", 3.0);
    until_counted(&site, "failing", 0.0);
}

#[test]
fn over_grpcs_only_who_is_believed_and_speaks_http2_passes_the_checks() {
    let authority = Authority::new();
    let start = |issued: Issued| H2Backend::start_tls(server_config(&[&issued], &["h2"], None));
    let [right, other_name, stranger] = certificates(&authority).map(start);
    let no_http2 = TlsBackend::start("ok", server_config(&[&authority.issue(&[INNER])], &["http/1.1"], None));
    let addresses = [right.address, other_name.address, stranger.address, no_http2.address];
    let active = "{type: GRPC, service: shop.Cart, interval: 100ms, timeout: 1s, healthy: 1, unhealthy: 2}";
    let site = checked_over_tls(&authority, &verified("GRPCS"), active, &addresses);
    until_counted(&site, "failing", 3.0);
    until("the right one is checked", || (right.seen().len() > 2).then_some(()));
    let check = &right.seen()[0];
    assert_eq!((&*check.path, &*check.scheme), ("/grpc.health.v1.Health/Check", "https"));
    assert_eq!(check.body, b"\0\0\0\0\x0b\x0a\x09shop.Cart");
    for _ in 0..20 {
        assert_eq!(site.gateway.get(HOST, "/").status, 200);
    }
    until_counted(&site, "healthy", 1.0);
    assert!(other_name.seen().is_empty() && stranger.seen().is_empty() && no_http2.heads().is_empty());
    // Without verification only who speaks something else fails.
    let tls = "protocol: GRPCS, tls: {insecureSkipVerify: true}";
    let site = checked_over_tls(&authority, tls, active, &addresses);
    until_counted(&site, "failing", 1.0);
    until("the others are checked", || {
        (other_name.seen().len() > 2 && stranger.seen().len() > 2).then_some(())
    });
    until_counted(&site, "healthy", 3.0);
}

#[test]
fn in_panic_the_failing_are_asked_too() {
    let backends: Vec<_> = (0..5)
        .map(|_| {
            Backend::start(|arrived| match arrived.target() {
                "/healthz" => Reply::status(503, "no"),
                _ => Reply::ok("served"),
            })
        })
        .collect();
    let good = Backend::named("good");
    let mut addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    addresses.push(good.address);
    let active = "{path: /healthz, interval: 100ms, unhealthy: 1}";
    // One of six is well: 16 per cent.
    for (threshold, all) in [(0, false), (50, true)] {
        let site = site(&checked(active, &format!(", panicThreshold: {threshold}"), &addresses));
        until("five fail", || {
            let failing = "baribhara_backend_endpoints{backend=\"shop/web:80\",state=\"failing\"}";
            (site.gateway.metric(failing) == 5.0).then_some(())
        });
        let others = (0..30).filter(|_| site.gateway.get(HOST, "/").text() == "served").count();
        assert_eq!(others, if all { 25 } else { 0 }, "threshold {threshold}");
    }
}

#[test]
fn the_breaker_opens_on_failures_and_closes_after_probes() {
    let (moody, bad) = Backend::moody();
    let breaker = "circuitBreaker: {failures: {consecutive: 3, openFor: 1s, probes: 2}}";
    let site = site(&route("shop", &crate::site::spec(moody.address, breaker)));
    assert_eq!(site.gateway.get(HOST, "/").status, 200);
    bad.store(true, Ordering::SeqCst);
    let statuses: Vec<u16> = (0..3).map(|_| site.gateway.get(HOST, "/").status).collect();
    assert_eq!(statuses, [500, 500, 500], "the backend's own word");
    let asked = moody.arrived().len();
    let refused = site.gateway.get(HOST, "/");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(moody.arrived().len(), asked, "nothing is sent");
    site.gateway.access_line("the reason", |line| line.to_string().contains("breaker-open"));
    until("the metrics say so", || {
        let state = format!("baribhara_breaker_state{{backend=\"{}\"}}", moody.address);
        (site.gateway.metric(&state) > 0.0).then_some(())
    });
    until("a probe", || {
        site.gateway.get(HOST, "/");
        (moody.arrived().len() > asked).then_some(())
    });
    assert_eq!(site.gateway.get(HOST, "/").status, 503, "which failed");
    assert_eq!(moody.arrived().len(), asked + 1);
    bad.store(false, Ordering::SeqCst);
    site.gateway.until_status(HOST, "/", 200);
    let closed = (0..20).all(|_| site.gateway.get(HOST, "/").status == 200);
    assert!(closed, "it is closed");
}
