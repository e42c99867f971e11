//! What backends do wrong, line by line of the hardening list (BE): what the client gets, and what is sent again.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::backend::{Backend, Reply};
use e2e::client::{Connection, Request};
use e2e::folder::{route, service};
use e2e::h2_client::{H2Connection, H2Request, NO_ERROR, Outcome};
use e2e::port::Port;
use e2e::sockets::{ByHand, read_head_text};

use crate::site::{HOST, Site, site, spec};

/// A route to the Service `web` with more fields of its rule.
fn before(endpoints: &[SocketAddr], fields: &str) -> String {
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  {fields}"
    );
    service("web", endpoints) + &route("shop", &spec)
}

fn answering(bytes: impl Into<Vec<u8>>) -> (Backend, Site) {
    let bytes = bytes.into();
    let backend = Backend::start(move |_| Reply::Bytes(bytes.clone()));
    let site = site(&route("shop", &spec(backend.address, "timeouts: {idle: 2s}")));
    (backend, site)
}

#[test]
fn be01_a_refused_connection_goes_to_another_pod_and_is_503_only_where_all_refuse() {
    let (good, dead) = (Backend::named("good"), [Port::reserve(), Port::reserve()]);
    let addresses = [dead[0].loopback(), good.address, dead[1].loopback()];
    let site = site(&before(&addresses, "retry: {attempts: 0}"));
    for method in ["GET", "POST"].repeat(10) {
        assert_eq!(site.gateway.ask(&Request::new(method, HOST, "/")).status, 200, "{method}");
    }
    site.folder.write("all.yaml", &before(&[dead[0].loopback(), dead[1].loopback()], "retry: {attempts: 0}"));
    site.gateway.until_status(HOST, "/", 503);
}

#[test]
fn be02_a_backend_that_never_answers_is_a_504_and_nothing_is_sent_twice_that_may_not_be() {
    let silent = Backend::start(|_| Reply::Silence);
    let site = site(&before(&[silent.address], "timeouts: {idle: 300ms}"));
    let started = Instant::now();
    assert_eq!(site.gateway.ask(&Request::new("POST", HOST, "/").body("x")).status, 504);
    assert!(started.elapsed() >= Duration::from_millis(280), "{:?}", started.elapsed());
    assert_eq!(silent.arrived().len(), 1);
}

#[test]
fn be06_too_many_interim_answers_and_a_101_that_nobody_asked_for_are_502() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for (count, status) in [(1, 200), (8, 200), (50, 502)] {
        let (_backend, site) = answering(interim.repeat(count) + last);
        assert_eq!(site.gateway.get(HOST, "/").status, status, "{count} interim answers");
    }
    let unasked = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    let (_backend, site) = answering(unasked);
    assert_eq!(site.gateway.get(HOST, "/").status, 502);
}

#[test]
fn be08_a_head_that_is_too_large_or_malformed_is_a_502_and_its_connection_is_closed() {
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
    let cases = [
        ("65 KiB", head(&format!("A: {}\r\n", "x".repeat(65 << 10)))),
        ("500 fields", head(&"A: b\r\n".repeat(500))),
        ("NUL", head("A: b\0c\r\n")),
        ("a bare CR", head("A: b\rc\r\n")),
    ];
    for (what, bytes) in cases {
        let (backend, site) = answering(bytes);
        for _ in 0..2 {
            assert_eq!(site.gateway.ask(&Request::new("POST", HOST, "/").body("x")).status, 502, "{what}");
        }
        assert_eq!(backend.connections(), 2, "{what}: the connection was used again");
    }
}

#[test]
fn be09_a_length_that_is_none_or_two_is_a_502() {
    for length in ["x", "-1", "2\r\nContent-Length: 3", "99999999999999999999999"] {
        let (_backend, site) = answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nok"));
        assert_eq!(site.gateway.get(HOST, "/").status, 502, "{length}");
    }
}

#[test]
fn be10_a_body_that_drips_is_sent_on_as_long_as_something_comes_in_time() {
    let backend = Backend::start(|_| {
        let byte = || Reply::Bytes(b"x".to_vec());
        let drip = (0..8).fold(byte(), |rest, _| {
            Reply::BytesThen(
                b"x".to_vec(),
                Box::new(Reply::After(Duration::from_millis(150), Box::new(rest))),
            )
        });
        Reply::BytesThen(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec(), Box::new(drip))
    });
    let site = site(&route("shop", &spec(backend.address, "timeouts: {idle: 700ms}")));
    let started = Instant::now();
    assert_eq!(site.gateway.get(HOST, "/").text(), "x".repeat(9));
    assert!(started.elapsed() > Duration::from_millis(1100), "longer than the idle timeout as a whole");
}

/// Answers with this many bytes, one each tenth of a second; of `/stall` the fifth never comes.
fn dripping(bytes: usize) -> ByHand {
    ByHand::start(move |mut stream| {
        let (head, _) = read_head_text(&mut stream)?;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n")?;
        let comes = if head.starts_with("GET /stall ") { 4 } else { bytes };
        for _ in 0..comes {
            stream.write_all(b"x")?;
            thread::sleep(Duration::from_millis(100));
        }
        // Until the gateway lets go of it.
        io::copy(&mut stream, &mut io::sink()).map(drop)
    })
}

#[test]
fn be10_two_hundred_bodies_that_drip_take_no_more_memory_and_one_that_stalls_is_cut() {
    const BYTES: usize = 60;
    const IDLE: Duration = Duration::from_secs(2);
    let backend = dripping(BYTES);
    let site = site(&route("shop", &spec(backend.address, "timeouts: {idle: 2s}")));
    let mut over_http1: Vec<Connection> = (0..100)
        .map(|_| {
            let mut connection = Connection::open(site.gateway.http).unwrap();
            connection.send(&Request::get(HOST, "/").bytes()).unwrap();
            connection
        })
        .collect();
    let mut over_http2 = H2Connection::plain(site.gateway.http).unwrap();
    let streams: Vec<u32> = (0..100).map(|_| over_http2.send(&H2Request::get(HOST, "/")).unwrap()).collect();
    // All have begun, so that what they need is there.
    for stream in &streams {
        assert_eq!(over_http2.head(*stream).unwrap().0, 200);
    }
    e2e::until::until("all are in flight", || {
        (site.gateway.metric("http_requests_in_flight") >= 200.0).then_some(())
    });
    let (begun, before) = (Instant::now(), site.gateway.process.resident_kib());
    let mut most = before;
    while begun.elapsed() < Duration::from_secs(4) {
        most = most.max(site.gateway.process.resident_kib());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(most - before < 4 * 1024, "{} KiB more for 200 bodies that drip", most - before);
    for connection in &mut over_http1 {
        assert_eq!(connection.response("GET").unwrap().text(), "x".repeat(BYTES));
    }
    for stream in streams {
        assert_eq!(over_http2.response(stream).unwrap().text(), "x".repeat(BYTES));
    }
    let asked = Instant::now();
    let stalled = Connection::open(site.gateway.http).unwrap().ask(&Request::get(HOST, "/stall"));
    assert!(stalled.is_err(), "four bytes look whole: {stalled:?}");
    assert!(asked.elapsed() >= IDLE && asked.elapsed() < IDLE * 3, "{:?}", asked.elapsed());
    match over_http2.outcome_of(&H2Request::get(HOST, "/stall")) {
        Outcome::Reset(code) => assert_ne!(code, NO_ERROR),
        other @ (Outcome::Answer(_) | Outcome::GoneAway(_) | Outcome::Closed) => panic!("{other:?}"),
    }
}

#[test]
fn be12_retries_multiply_the_load_by_no_more_than_the_budget() {
    let overloaded = [0; 3].map(|_| Backend::start(|_| Reply::status(503, "busy")));
    let addresses: Vec<_> = overloaded.iter().map(|backend| backend.address).collect();
    let fields = "retry: {attempts: 3, \"on\": [\"503\"], budgetPercent: 20, backoff: {base: 1ms, max: 1ms}}";
    let site = site(&before(&addresses, fields));
    let (http, started) = (site.gateway.http, Instant::now());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let mut connection = Connection::open(http).unwrap();
                for _ in 0..1000 {
                    assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().status, 503);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let tries: usize = overloaded.iter().map(|backend| backend.arrived().len()).sum();
    // Ten a second are always free.
    let free = 10 * (usize::try_from(started.elapsed().as_secs()).unwrap() + 1);
    assert!(tries > 4000 && tries <= 4800 + free, "{tries} tries of 4000 requests, {free} free");
}

#[test]
fn be13_pods_that_stop_before_they_are_taken_out_cost_no_request() {
    let mut pods: Vec<Backend> = ["a", "b", "c"].map(Backend::named).into();
    let addresses = |pods: &[Backend]| pods.iter().map(|pod| pod.address).collect::<Vec<_>>();
    let site = site(&before(&addresses(&pods), "loadBalancing: {policy: LeastRequest}"));
    let http = site.gateway.http;
    let (stop, count) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&count));
    let load = thread::spawn(move || {
        let mut connection = Connection::open(http).unwrap();
        while stopped.load(Ordering::SeqCst) == 0 {
            assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().status, 200);
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let go_on = |answers: usize| {
        let end = count.load(Ordering::SeqCst) + answers;
        e2e::until::until("the load goes on", || (count.load(Ordering::SeqCst) >= end).then_some(()));
    };
    for name in ["d", "e", "f"] {
        go_on(100);
        pods.push(Backend::named(name));
        site.folder.write("all.yaml", &before(&addresses(&pods), "loadBalancing: {policy: LeastRequest}"));
        go_on(100);
        // It stops while requests are still sent to it.
        drop(pods.remove(0));
        go_on(100);
        site.folder.write("all.yaml", &before(&addresses(&pods), "loadBalancing: {policy: LeastRequest}"));
    }
    go_on(100);
    stop.store(1, Ordering::SeqCst);
    load.join().unwrap();
}

#[test]
fn be16_a_body_is_sent_again_where_it_was_small_enough_to_be_kept() {
    for (bytes, status) in [(60 << 10, 200), (100 << 10, 502)] {
        let breaks = Backend::start(|_| Reply::BytesThenReset(Vec::new()));
        let good = Backend::named("good");
        let fields = "retry: {attempts: 1, budgetPercent: 100}\n  healthCheck: {passive: {consecutive5xx: 0, consecutiveConnectFailures: 0}}";
        let site = site(&before(&[breaks.address, good.address], fields));
        let body = "x".repeat(bytes);
        let statuses: Vec<u16> = (0..6)
            .map(|_| site.gateway.ask(&Request::new("PUT", HOST, "/").body(body.as_str())).status)
            .collect();
        assert!(statuses.iter().all(|got| *got == 200 || *got == status), "{bytes}: {statuses:?}");
        assert!(statuses.contains(&status) && !breaks.arrived().is_empty(), "{bytes}: {statuses:?}");
    }
}
