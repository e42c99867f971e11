//! Faults that are injected on purpose: so often as was asked for, to whom it was asked for, counted and told.

use std::time::{Duration, Instant};

use e2e::backend::{Backend, Reply};
use e2e::client::{Connection, Request};
use e2e::folder::{route, service};
use e2e::h2_client::{H2Connection, H2Request};

use crate::site::{HOST, Site, site, spec};

const DELAYED: &str = "baribhara_faults_injected_total{endpoint=\"shop/shop/all\",fault=\"delay\"}";
const ABORTED: &str = "baribhara_faults_injected_total{endpoint=\"shop/shop/all\",fault=\"abort\"}";

fn faulty(web: &Backend, fault: &str, more: &str) -> Site {
    site(&route(
        "shop",
        &spec(web.address, &format!("filters: [{{type: Fault, fault: {{{fault}}}}}]\n{more}")),
    ))
}

#[test]
fn a_share_is_aborted_within_the_bounds_of_chance_and_the_backend_sees_none_of_it() {
    let web = Backend::named("web");
    let site = faulty(&web, "abort: {statusCode: 503, percent: 20}", "");
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let mut aborted = 0;
    for _ in 0..2000 {
        let response = connection.ask(&Request::new("POST", HOST, "/").body("some body")).unwrap();
        match response.status {
            200 => assert_eq!(response.text(), "web"),
            503 => {
                aborted += 1;
                assert!(response.header("x-baribhara-decision").is_some(), "{:?}", response.headers);
                assert!(!response.closes(), "the connection is kept");
            }
            other => panic!("{other}"),
        }
    }
    // Five times the deviation of 2000 draws.
    assert!((310..=490).contains(&aborted), "{aborted} of 2000");
    assert_eq!(web.arrived().len(), 2000 - aborted);
    assert_eq!(site.gateway.metric(ABORTED), aborted as f64);
    let line = site.gateway.access_line("an aborted request", |line| line["status"] == 503);
    assert_eq!(line["reason"], "fault-abort");
    assert_eq!(line["attempts"], 0);
}

#[test]
fn only_requests_with_the_header_are_touched() {
    let web = Backend::named("web");
    let site = faulty(&web, "header: {name: X-Fault, value: \"yes\"}, abort: {statusCode: 418}", "");
    for (value, want) in [(None, 200), (Some("no"), 200), (Some("YES"), 200), (Some("yes"), 418)] {
        let mut request = Request::get(HOST, "/");
        if let Some(value) = value {
            request = request.header("x-fault", value);
        }
        assert_eq!(site.gateway.ask(&request).status, want, "{value:?}");
    }
    assert_eq!(web.arrived().len(), 3);
}

#[test]
fn a_delay_is_waited_before_the_backend_is_asked_and_counts_against_the_time_of_the_request() {
    let web = Backend::named("web");
    let site = faulty(&web, "delay: {duration: 300ms}", "");
    let began = Instant::now();
    assert_eq!(site.gateway.get(HOST, "/").status, 200);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(site.gateway.metric(DELAYED), 1.0);
    let line = site.gateway.access_line("the request", |line| line["status"] == 200);
    assert_eq!(line["reason"], "fault-delay");
    let site = faulty(&web, "delay: {duration: 30s}", "timeouts: {request: 100ms}");
    let began = Instant::now();
    assert_eq!(site.gateway.get(HOST, "/").status, 504);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(web.arrived().len(), 1, "nothing is sent when its time is over");
}

#[test]
fn an_endpoint_is_not_blamed_for_the_time_that_was_used_up_before() {
    let silent = [Backend::start(|_| Reply::Silence), Backend::start(|_| Reply::Silence)];
    let endpoints = [silent[0].address, silent[1].address];
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  \
         timeouts: {{request: 600ms}}\n  healthCheck: {{passive: {{consecutiveConnectFailures: 1}}}}\n  \
         filters: [{{type: Fault, fault: {{header: {{name: x-slow}}, delay: {{duration: 400ms}}}}}}]\n"
    );
    let site = site(&(service("web", &endpoints) + &route("shop", &spec)));
    let ejected = || {
        let metrics = site.gateway.admin_text("/metrics");
        let line = metrics.lines().find(|line| line.starts_with("baribhara_endpoint_ejections_total{"));
        line.is_some_and(|line| !line.ends_with(" 0"))
    };
    for _ in 0..3 {
        let slow = Request::get(HOST, "/").header("x-slow", "1");
        assert_eq!(site.gateway.ask(&slow).status, 504);
    }
    let asked: usize = silent.iter().map(|backend| backend.arrived().len()).sum();
    assert_eq!((asked, ejected()), (3, false));
    assert_eq!(site.gateway.get(HOST, "/").status, 504);
    assert!(ejected(), "the whole time was its own");
}

#[test]
fn grpc_is_aborted_in_its_own_words() {
    let web = Backend::start(|_| Reply::ok("web"));
    let call = H2Request::grpc(HOST, "/a.B/C", &[b"x"]);
    for (abort, want) in [("grpcStatus: 8", "8"), ("statusCode: 503", "14")] {
        let site = faulty(&web, &format!("abort: {{{abort}}}"), "");
        let response = H2Connection::plain(site.gateway.http).unwrap().ask(&call).unwrap();
        assert_eq!((response.status, response.header("grpc-status")), (200, Some(want)), "{abort}");
        if want == "8" {
            assert_eq!(site.gateway.get(HOST, "/").status, 200, "another request has no status of gRPC");
        }
    }
}

#[test]
fn who_may_not_pass_meets_no_fault_and_an_error_page_shows_an_abort() {
    let (web, errors) = (Backend::named("web"), Backend::start(|_| Reply::ok("page")));
    let site = faulty(&web, "abort: {statusCode: 503}", "ipAccess: {deny: [127.0.0.0/8]}");
    assert_eq!(site.gateway.get(HOST, "/").status, 403);
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  filters:\n  \
         - {{type: Fault, fault: {{abort: {{statusCode: 503}}}}}}\n  \
         - {{type: ErrorPages, errorPages: [{{statusCodes: [\"503\"], backendRef: {{name: errors, port: 80}}}}]}}\n"
    );
    let yaml = service("web", &[web.address]) + &service("errors", &[errors.address]) + &route("shop", &spec);
    let response = crate::site::site(&yaml).gateway.get(HOST, "/");
    assert_eq!((response.status, response.text().as_str()), (503, "page"));
}
