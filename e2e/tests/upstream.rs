//! Backends: weights, what is missing, retries, breaker, ejection, timeouts, balance.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use e2e::backend::{Backend, Reply};
use e2e::client::{self, Connection, Request};
use e2e::folder::{route, service};
use e2e::port::Port;
use e2e::until::until;

use crate::site::{HOST, address, site, site_with, spec};

fn counts(bodies: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for body in bodies {
        *counts.entry(body).or_default() += 1;
    }
    counts
}

#[test]
fn weights_divide_the_requests() {
    let (nine, one, none) = (Backend::named("nine"), Backend::named("one"), Backend::named("none"));
    let refs = [(&nine, 90), (&one, 10), (&none, 0)].map(|(backend, weight)| {
        format!("{{address: 127.0.0.1, port: {}, weight: {weight}}}", backend.address.port())
    });
    let spec = format!("hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{}]", refs.join(", "));
    let site = site(&route("shop", &spec));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let counts = counts((0..1000).map(|_| connection.ask(&Request::get(HOST, "/")).unwrap().text()));
    assert_eq!(counts.get("none"), None);
    // Five standard deviations of a binomial distribution on either side.
    assert!((52..=148).contains(&counts["one"]), "{counts:?}");
}

#[test]
fn round_robin_asks_every_endpoint_in_turn() {
    let backends = [Backend::named("a"), Backend::named("b"), Backend::named("c")];
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let spec = format!("hostnames: [{HOST}]\nrules: [{{name: all, backendRefs: [{{name: web, port: 80}}]}}]");
    let site = site_with(&(service("web", &addresses) + &route("shop", &spec)), &["--workers", "1"]);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let counts = counts((0..300).map(|_| connection.ask(&Request::get(HOST, "/")).unwrap().text()));
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [100, 100, 100], "{counts:?}");
}

#[test]
fn least_request_prefers_the_endpoint_with_fewer_requests_in_flight() {
    let fast = Backend::named("fast");
    let slow = Backend::start(|_| Reply::After(Duration::from_millis(300), Box::new(Reply::ok("slow"))));
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  loadBalancing: {{policy: LeastRequest}}"
    );
    let site = site(&(service("web", &[fast.address, slow.address]) + &route("shop", &spec)));
    let http = site.gateway.http;
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let mut connection = Connection::open(http).unwrap();
                for _ in 0..25 {
                    assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().status, 200);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let (fast, slow) = (fast.arrived().len(), slow.arrived().len());
    assert_eq!(fast + slow, 100);
    assert!(fast > 2 * slow, "fast {fast}, slow {slow}");
}

#[test]
fn a_missing_service_is_500_for_its_share_and_no_endpoint_is_503_only_there() {
    let backend = Backend::named("ok");
    let to = address(backend.address);
    let yaml = service("empty", &[])
        + &route(
            "shop",
            &format!(
                "hostnames: [{HOST}]
rules:
- {{name: gone, matches: [{{path: {{type: PathPrefix, value: /gone}}}}], backendRefs: [{{name: gone, port: 80}}]}}
- {{name: port, matches: [{{path: {{type: PathPrefix, value: /port}}}}], backendRefs: [{{name: empty, port: 81}}]}}
- {{name: empty, matches: [{{path: {{type: PathPrefix, value: /empty}}}}], backendRefs: [{{name: empty, port: 80}}]}}
- {{name: half, matches: [{{path: {{type: PathPrefix, value: /half}}}}], backendRefs: [{{name: gone, port: 80}}, {to}]}}
- {{name: nowhere, matches: [{{path: {{type: PathPrefix, value: /nowhere}}}}]}}
- {{name: ok, matches: [{{path: {{type: PathPrefix, value: /ok}}}}], backendRefs: [{to}]}}"
            ),
        );
    let site = site(&yaml);
    for (path, status) in
        [("/gone", 500), ("/port", 500), ("/empty", 503), ("/nowhere", 500), ("/ok", 200), ("/", 404)]
    {
        let response = site.gateway.get(HOST, path);
        assert_eq!(response.status, status, "{path}: {}", response.text());
    }
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let counts =
        counts((0..200).map(|_| connection.ask(&Request::get(HOST, "/half")).unwrap().status.to_string()));
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["200", "500"], "{counts:?}");
    assert!((60..=140).contains(&counts["200"]), "{counts:?}");
}

#[test]
fn endpoints_that_are_not_ready_are_not_asked_and_terminating_ones_only_where_none_is_ready() {
    let (ready, other) = (Backend::named("ready"), Backend::named("other"));
    let slice = |name: &str, backend: &Backend, conditions: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-{name}\n  namespace: shop\n  \
             labels: {{kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{{name: http, port: {}}}]\n\
             endpoints: [{{addresses: [127.0.0.1], conditions: {conditions}}}]\n",
            backend.address.port()
        )
    };
    let spec = format!("hostnames: [{HOST}]\nrules: [{{name: all, backendRefs: [{{name: web, port: 80}}]}}]");
    let fixed = service("web", &[]) + &route("shop", &spec);
    let site = site(&fixed);
    let who = |want: &[&str]| {
        until(&format!("{want:?} are asked"), || {
            let answers = counts((0..20).map(|_| {
                let response = site.gateway.get(HOST, "/");
                if response.status == 200 { response.text() } else { response.status.to_string() }
            }));
            let got: Vec<&str> = answers.keys().map(String::as_str).collect();
            (got == want).then_some(())
        });
    };
    who(&["503"]);
    site.folder
        .write("slices.yaml", &(slice("a", &ready, "{ready: true}") + &slice("b", &other, "{ready: false}")));
    who(&["ready"]);
    site.folder
        .write("slices.yaml", &(slice("a", &ready, "{ready: true}") + &slice("b", &other, "{ready: true}")));
    who(&["other", "ready"]);
    let terminating = "{ready: false, serving: true, terminating: true}";
    site.folder
        .write("slices.yaml", &(slice("a", &ready, "{ready: true}") + &slice("b", &other, terminating)));
    who(&["ready"]);
    site.folder
        .write("slices.yaml", &(slice("a", &ready, "{ready: false}") + &slice("b", &other, terminating)));
    who(&["other"]);
    // The same address in two slices counts once, and unset conditions mean ready.
    site.folder.write("slices.yaml", &(slice("a", &ready, "{}") + &slice("b", &ready, "{ready: true}")));
    who(&["ready"]);
}

#[test]
fn what_is_safe_to_repeat_is_repeated_and_nothing_else() {
    let executions = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&executions);
    // Takes the whole request, then breaks the connection: the work may have been done.
    let breaks = Backend::start(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        Reply::BytesThenReset(Vec::new())
    });
    let good = Backend::named("good");
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  \
         healthCheck: {{passive: {{consecutive5xx: 0, consecutiveConnectFailures: 0}}}}\n  retry: {{attempts: 1, budgetPercent: 100}}"
    );
    let yaml = service("web", &[breaks.address, good.address]) + &route("shop", &spec);
    let site = site_with(&yaml, &["--workers", "1"]);
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        for _ in 0..4 {
            let response = site.gateway.ask(&Request::new(method, HOST, "/"));
            assert_eq!(response.status, 200, "{method}: {}", response.text());
        }
    }
    let before = executions.load(Ordering::SeqCst);
    assert!(before > 0, "the breaking backend was never asked");
    let statuses: Vec<u16> =
        (0..10).map(|_| site.gateway.ask(&Request::new("POST", HOST, "/").body("x")).status).collect();
    let broken = statuses.iter().filter(|status| **status == 502).count();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 502)), "{statuses:?}");
    assert!(broken > 0, "{statuses:?}");
    assert_eq!(executions.load(Ordering::SeqCst) - before, broken, "each POST ran at most once");
}

#[test]
fn statuses_are_retried_where_that_is_asked_for() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let backend = Backend::start(move |_| match counter.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Reply::status(503, "not yet"),
        _ => Reply::ok("now"),
    });
    let retry = "retry: {attempts: 2, on: [\"503\"], budgetPercent: 100, differentEndpoint: false, backoff: {base: 1ms, max: 5ms}}";
    let site = site(&route("shop", &spec(backend.address, retry)));
    let response = site.gateway.get(HOST, "/");
    assert_eq!((response.status, response.text().as_str()), (200, "now"));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    // Without the wish the answer is the backend's own.
    let always = Backend::start(|_| Reply::status(503, "down"));
    site.folder.write("all.yaml", &route("shop", &spec(always.address, "")));
    until("the second backend is asked", || (site.gateway.get(HOST, "/").text() == "down").then_some(()));
}

#[test]
fn a_request_whose_endpoints_are_all_dead_is_a_503_with_no_inner_name() {
    let (dead, gone) = (Port::reserve(), Port::reserve());
    let spec = format!("hostnames: [{HOST}]\nrules: [{{name: all, backendRefs: [{{name: web, port: 80}}]}}]");
    let site = site(&(service("web", &[dead.loopback(), gone.loopback()]) + &route("shop", &spec)));
    let started = Instant::now();
    let response = site.gateway.get(HOST, "/");
    assert_eq!(response.status, 503);
    assert!(started.elapsed() < Duration::from_secs(2));
    let said = format!("{response:?}");
    for inner in ["127.0.0.1", &dead.number.to_string(), "web", "refused"] {
        assert!(!said.contains(inner), "{inner:?} in {said}");
    }
}

#[test]
fn the_breaker_answers_503_at_once_over_its_maximum_of_requests() {
    let gate = Arc::new(Barrier::new(3));
    let waiting = Arc::clone(&gate);
    let backend = Backend::start(move |arrived| {
        if arrived.target() == "/slow" {
            waiting.wait();
        }
        Reply::ok("ok")
    });
    let site = site(&route("shop", &spec(backend.address, "circuitBreaker: {maxRequests: 2}")));
    let http = site.gateway.http;
    let slow: Vec<_> = (0..2)
        .map(|_| thread::spawn(move || client::ask(http, &Request::get(HOST, "/slow")).unwrap().status))
        .collect();
    until("two requests are in flight", || {
        (site.gateway.metric("http_requests_in_flight") >= 2.0).then_some(())
    });
    until("the breaker is full", || {
        let started = Instant::now();
        let response = site.gateway.get(HOST, "/fast");
        assert!(started.elapsed() < Duration::from_secs(1), "not at once");
        (response.status == 503).then_some(())
    });
    gate.wait();
    for thread in slow {
        assert_eq!(thread.join().unwrap(), 200);
    }
    site.gateway.until_status(HOST, "/fast", 200);
}

#[test]
fn connections_over_the_maximum_wait_and_over_the_waiting_room_are_refused() {
    let backend = Backend::start(|_| Reply::After(Duration::from_millis(700), Box::new(Reply::ok("ok"))));
    let breaker = "circuitBreaker: {maxConnections: 1, maxPendingRequests: 1}";
    let site = site_with(&route("shop", &spec(backend.address, breaker)), &["--workers", "1"]);
    let http = site.gateway.http;
    let start = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let start = Arc::clone(&start);
            thread::spawn(move || {
                start.wait();
                client::ask(http, &Request::get(HOST, "/")).unwrap().status
            })
        })
        .collect();
    let mut statuses: Vec<u16> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503, 503]);
}

#[test]
fn an_endpoint_that_fails_again_and_again_is_ejected_for_a_time() {
    let healthy = Arc::new(AtomicUsize::new(0));
    let state = Arc::clone(&healthy);
    let bad = Backend::start(move |_| match state.load(Ordering::SeqCst) {
        0 => Reply::status(500, "bad"),
        _ => Reply::ok("well again"),
    });
    let good = Backend::named("good");
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  \
         healthCheck: {{passive: {{consecutive5xx: 3, ejectFor: 2s, maxEjectedPercent: 50}}}}"
    );
    let site = site_with(
        &(service("web", &[bad.address, good.address]) + &route("shop", &spec)),
        &["--workers", "1"],
    );
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let mut ask = || connection.ask(&Request::get(HOST, "/")).unwrap();
    let failures = (0..50).filter(|_| ask().status == 500).count();
    assert!((3..=4).contains(&failures), "{failures} requests were given to the failing endpoint");
    healthy.store(1, Ordering::SeqCst);
    until("the endpoint is asked again", || (ask().text() == "well again").then_some(()));
}

#[test]
fn at_most_the_named_share_of_endpoints_is_ejected() {
    let backends: Vec<_> = (0..4).map(|_| Backend::start(|_| Reply::status(500, "bad"))).collect();
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  \
         healthCheck: {{passive: {{consecutive5xx: 1, ejectFor: 60s, maxEjectedPercent: 50}}}}"
    );
    let site = site_with(&(service("web", &addresses) + &route("shop", &spec)), &["--workers", "1"]);
    for _ in 0..40 {
        assert_eq!(site.gateway.get(HOST, "/").status, 500, "the backend's own answer, not an empty set");
    }
    let asked: Vec<usize> = backends.iter().map(|backend| backend.arrived().len()).collect();
    let still = asked.iter().filter(|count| **count > 5).count();
    assert!(still >= 2, "{asked:?}");
}

#[test]
fn timeouts_answer_504() {
    let silent = Backend::start(|_| Reply::Silence);
    let to = address(silent.address);
    let yaml = route(
        "shop",
        &format!(
            "hostnames: [{HOST}]
rules:
- {{name: request, matches: [{{path: {{type: PathPrefix, value: /request}}}}], timeouts: {{request: 300ms}}, backendRefs: [{to}]}}
- {{name: try, matches: [{{path: {{type: PathPrefix, value: /try}}}}], timeouts: {{perTry: 300ms, request: 10s}}, retry: {{attempts: 0}}, backendRefs: [{to}]}}
- {{name: idle, matches: [{{path: {{type: PathPrefix, value: /idle}}}}], timeouts: {{idle: 300ms}}, backendRefs: [{to}]}}"
        ),
    );
    let site = site(&yaml);
    for path in ["/request", "/try", "/idle"] {
        for method in ["GET", "POST"] {
            let started = Instant::now();
            let response = site.gateway.ask(&Request::new(method, HOST, path));
            let took = started.elapsed();
            assert_eq!(response.status, 504, "{method} {path}");
            assert!(
                took >= Duration::from_millis(280) && took < Duration::from_secs(3),
                "{method} {path}: {took:?}"
            );
        }
    }
}

#[test]
fn an_upstream_that_stops_in_the_middle_of_a_body_is_cut_off_by_the_idle_timeout() {
    let backend = Backend::start(|arrived| {
        let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec();
        if arrived.target() == "/" {
            return Reply::BytesThen(half, Box::new(Reply::Silence));
        }
        Reply::ok("ok")
    });
    let site = site(&route("shop", &spec(backend.address, "timeouts: {idle: 300ms}")));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let started = Instant::now();
    let answered = connection.ask(&Request::get(HOST, "/"));
    let took = started.elapsed();
    assert!(answered.is_err(), "half a body looks whole: {answered:?}");
    assert!(took >= Duration::from_millis(280) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_changed_endpoint_is_used_at_once_and_the_old_one_no_more() {
    let (old, new) = (Backend::named("old"), Backend::named("new"));
    let spec = format!("hostnames: [{HOST}]\nrules: [{{name: all, backendRefs: [{{name: web, port: 80}}]}}]");
    let site = site(&route("shop", &spec));
    site.folder.write("web.yaml", &service("web", &[old.address]));
    until("the old endpoint", || (site.gateway.get(HOST, "/").text() == "old").then_some(()));
    site.folder.write("web.yaml", &service("web", &[new.address]));
    until("the new endpoint", || (site.gateway.get(HOST, "/").text() == "new").then_some(()));
    let before = old.arrived().len();
    for _ in 0..50 {
        assert_eq!(site.gateway.get(HOST, "/").text(), "new");
    }
    assert_eq!(old.arrived().len(), before);
}

#[test]
fn be05_connections_that_an_upstream_closes_when_idle_are_given_up_before_it_does() {
    // Hardening BE05, twenty times as fast: the upstream closes after 250 ms, the gateway lets go after 100 ms. POST
    // is not repeated once it was sent, so that a connection which is kept too long would show.
    let backend = Backend::start_closing(Duration::from_millis(250), |_| Reply::ok("ok"));
    let site = site_with(&route("shop", &spec(backend.address, "")), &["--upstream-idle", "100ms"]);
    let http = site.gateway.http;
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            thread::spawn(move || {
                let mut connection = Connection::open(http).unwrap();
                for number in 0..20u64 {
                    let response = connection.ask(&Request::new("POST", HOST, "/").body("x")).unwrap();
                    assert_eq!(response.status, 200, "thread {thread}, request {number}");
                    // Not to wait for something: the spacing is what is tested.
                    thread::sleep(Duration::from_millis((thread * 37 + number * 53) % 290));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_request_in_flight_ends_well_although_its_endpoint_and_its_route_are_removed() {
    let gate = Arc::new(Barrier::new(2));
    let waiting = Arc::clone(&gate);
    let backend = Backend::start(move |arrived| {
        if arrived.target() == "/slow" {
            waiting.wait();
        }
        Reply::ok("ok")
    });
    let spec = format!("hostnames: [{HOST}]\nrules: [{{name: all, backendRefs: [{{name: web, port: 80}}]}}]");
    let site = site(&route("shop", &spec));
    site.folder.write("web.yaml", &service("web", &[backend.address]));
    site.gateway.until_status(HOST, "/", 200);
    let http = site.gateway.http;
    let slow = thread::spawn(move || client::ask(http, &Request::get(HOST, "/slow")).unwrap());
    until("the slow request is in flight", || {
        (site.gateway.metric("http_requests_in_flight") >= 1.0).then_some(())
    });
    site.folder.write("web.yaml", &service("web", &[]));
    site.gateway.until_status(HOST, "/", 503);
    site.folder.remove("all.yaml");
    site.gateway.until_status(HOST, "/", 404);
    gate.wait();
    assert_eq!(slow.join().unwrap().status, 200);
}

#[test]
fn round_robin_keeps_a_turn_for_each_backend() {
    let backends = ["a0", "a1", "b0", "b1"].map(Backend::named);
    let [a0, a1, b0, b1] = backends.each_ref().map(|backend| backend.address);
    let spec = format!(
        "hostnames: [{HOST}]
rules:
- {{name: a, matches: [{{path: {{type: PathPrefix, value: /a}}}}], backendRefs: [{{name: a, port: 80}}]}}
- {{name: b, matches: [{{path: {{type: PathPrefix, value: /b}}}}], backendRefs: [{{name: b, port: 80}}]}}"
    );
    let yaml = service("a", &[a0, a1]) + &service("b", &[b0, b1]) + &route("shop", &spec);
    let site = site_with(&yaml, &["--workers", "1"]);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let paths = ["/a", "/b"].into_iter().cycle().take(80);
    let counts = counts(paths.map(|path| connection.ask(&Request::get(HOST, path)).unwrap().text()));
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [20; 4], "{counts:?}");
}
