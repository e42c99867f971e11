//! Budgets of the process: over one new load is turned away, and taken again when there is room.

use std::io::Read as _;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use e2e::backend::{Backend, Reply};
use e2e::client::{self, Connection, Request};
use e2e::folder::{route, service};
use e2e::until::until;

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

/// What the gateway holds while it has nothing to do.
fn idle_bytes() -> u64 {
    let web = Backend::named("web");
    let site = site(&route("shop", &spec(web.address, "")));
    site.gateway.until_status(HOST, "/", 200);
    site.gateway.metric("baribhara_memory_held_bytes") as u64
}

#[test]
fn a_process_over_its_memory_budget_turns_load_away_and_recovers() {
    let budget = idle_bytes() + (24 << 20);
    let web = Backend::named("web");
    let flags = ["--memory-budget", &budget.to_string(), "--read-timeout", "1h"];
    let site = site_with(&route("shop", &spec(web.address, "")), &flags);
    let mut kept = Connection::open(site.gateway.http).unwrap();
    assert_eq!(kept.ask(&Request::get(HOST, "/")).unwrap().status, 200);
    // Heads that are not whole: each is kept in memory. Their connections are open before there are too many.
    let mut large: Vec<_> = (0..60).map(|_| Connection::open(site.gateway.http).unwrap()).collect();
    let part = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Large: {}", "x".repeat(900 << 10)).into_bytes();
    for connection in &mut large {
        connection.send(&part).unwrap();
    }
    let overloaded = || site.gateway.metric("baribhara_overloaded") == 1.0;
    until("the budget is used up", || overloaded().then_some(()));
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
    // Nobody asks for anything meanwhile, not even for metrics: it has to come by itself.
    site.gateway.process.until_told("memory is under its budget again");
    assert!(!overloaded());
    until("load is taken again", || (kept.ask(&Request::get(HOST, "/")).ok()?.status == 200).then_some(()));
    site.gateway.until_status(HOST, "/", 200);
}

#[test]
fn an_adaptive_breaker_finds_what_a_backend_can_do_and_lets_go_again() {
    // Four at a time, each in 20 ms; the others wait.
    let free = Arc::new((Mutex::new(4), Condvar::new()));
    let web = Backend::start(move |_| {
        let (places, freed) = &*free;
        let mut left = freed.wait_while(places.lock().unwrap(), |left| *left == 0).unwrap();
        *left -= 1;
        drop(left);
        thread::sleep(Duration::from_millis(20));
        *places.lock().unwrap() += 1;
        freed.notify_one();
        Reply::ok("web")
    });
    let fields = "circuitBreaker: {adaptive: {minRequests: 2, maxRequests: 100}}";
    let yaml = service("web", &[web.address])
        + &route(
            "shop",
            &format!(
                "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  {fields}"
            ),
        );
    let site = site(&yaml);
    let http = site.gateway.http;
    let clients: Vec<_> = (0..40)
        .map(|_| {
            thread::spawn(move || {
                let mut connection = Connection::open(http).unwrap();
                let (mut served, mut refused) = (0, 0);
                let end = Instant::now() + Duration::from_secs(4);
                while Instant::now() < end {
                    let response = connection.ask(&Request::get(HOST, "/")).unwrap();
                    match response.status {
                        200 => served += 1,
                        503 => {
                            assert_eq!(response.header("retry-after"), Some("1"));
                            refused += 1;
                            thread::sleep(Duration::from_millis(10));
                        }
                        other => panic!("{other}"),
                    }
                }
                (served, refused)
            })
        })
        .collect();
    let (mut served, mut refused) = (0, 0);
    for client in clients {
        let (one, other) = client.join().unwrap();
        (served, refused) = (served + one, refused + other);
    }
    assert!(served > 100 && refused > 100, "{served} served, {refused} refused");
    let limit = site.gateway.metric("baribhara_adaptive_limit{backend=\"shop/web:80\"}");
    assert!((2.0..=40.0).contains(&limit), "{limit}");
    let rejected = "baribhara_breaker_rejected_total{backend=\"shop/web:80\",kind=\"adaptive\"}";
    assert_eq!(site.gateway.metric(rejected), f64::from(refused));
    let mut connection = Connection::open(http).unwrap();
    for _ in 0..20 {
        assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().status, 200);
    }
}
