//! Address lists and body sizes.

use std::time::Duration;

use e2e::backend::Backend;
use e2e::client::{Connection, Request};
use e2e::folder::route;

use crate::site::{HOST, address, site, site_with, spec};

#[test]
fn address_lists_decide_who_may_ask() {
    let backend = Backend::named("ok");
    let to = address(backend.address);
    let yaml = route(
        "shop",
        &format!(
            "hostnames: [{HOST}]
rules:
- {{name: denied, matches: [{{path: {{type: PathPrefix, value: /denied}}}}], ipAccess: {{deny: [127.0.0.0/8, 203.0.113.0/24]}}, backendRefs: [{to}]}}
- {{name: allowed, matches: [{{path: {{type: PathPrefix, value: /allowed}}}}], ipAccess: {{allow: [10.0.0.0/8], deny: [10.9.0.0/16]}}, backendRefs: [{to}]}}
- {{name: all, backendRefs: [{to}]}}"
        ),
    );
    let site = site_with(&yaml, &["--trusted-proxies", "127.0.0.1"]);
    let cases = [
        ("/denied", None, 403),
        ("/denied", Some("203.0.113.9"), 403),
        ("/denied", Some("198.51.100.1"), 200),
        ("/allowed", None, 403),
        ("/allowed", Some("10.1.1.1"), 200),
        ("/allowed", Some("10.9.1.1"), 403),
        ("/allowed", Some("::ffff:10.1.1.1"), 200),
        ("/free", None, 200),
    ];
    for (path, forwarded, status) in cases {
        let mut request = Request::get(HOST, path);
        if let Some(address) = forwarded {
            request = request.header("X-Forwarded-For", address);
        }
        assert_eq!(site.gateway.ask(&request).status, status, "{path} from {forwarded:?}");
    }
}

#[test]
fn defaults_hold_for_rules_that_say_nothing_themselves() {
    let backend = Backend::named("ok");
    let to = address(backend.address);
    let yaml = route(
        "shop",
        &format!(
            "hostnames: [{HOST}]
defaults: {{ipAccess: {{deny: [127.0.0.1]}}, maxRequestBody: \"4\"}}
rules:
- {{name: own, matches: [{{path: {{type: PathPrefix, value: /own}}}}], ipAccess: {{allow: [127.0.0.1]}}, backendRefs: [{to}]}}
- {{name: all, backendRefs: [{to}]}}"
        ),
    );
    let site = site(&yaml);
    assert_eq!(site.gateway.get(HOST, "/").status, 403);
    assert_eq!(site.gateway.get(HOST, "/own").status, 200);
    assert_eq!(site.gateway.ask(&Request::new("POST", HOST, "/own").body("12345")).status, 413);
}

#[test]
fn a_body_over_the_limit_is_refused_by_its_length_before_it_is_read() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "maxRequestBody: 1Ki")));
    let fits = Request::new("POST", HOST, "/").body(vec![b'x'; 1024]);
    assert_eq!(site.gateway.ask(&fits).status, 200);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.set_patience(Duration::from_secs(5)).unwrap();
    // Only the head is sent: the answer must not wait for the body.
    connection.send(&Request::new("POST", HOST, "/").header("Content-Length", "1025").head()).unwrap();
    let response = connection.response("POST").unwrap();
    assert_eq!(response.status, 413);
    assert_eq!(backend.arrived().len(), 1);
}

#[test]
fn a_body_in_chunks_is_refused_where_it_grows_over_the_limit() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "maxRequestBody: 1Ki")));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&Request::new("POST", HOST, "/").header("Transfer-Encoding", "chunked").head()).unwrap();
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    for _ in 0..3 {
        connection.send(chunk.as_bytes()).unwrap();
    }
    assert_eq!(connection.response("POST").unwrap().status, 413);
    assert!(backend.arrived().is_empty(), "the backend took half a body for a whole request");
    // And one that fits passes.
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&Request::new("POST", HOST, "/").header("Transfer-Encoding", "chunked").head()).unwrap();
    connection.send(format!("{chunk}{chunk}0\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(connection.response("POST").unwrap().status, 200);
}

#[test]
fn a_pipelined_request_inside_a_refused_body_is_never_answered() {
    // Hardening SM18.
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "maxRequestBody: \"10\"")));
    let inner = format!("GET /inner HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let outer = Request::new("POST", HOST, "/").body(inner.into_bytes());
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&outer.bytes()).unwrap();
    assert_eq!(connection.response("POST").unwrap().status, 413);
    connection.finish().unwrap();
    let rest = connection.rest().unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    assert!(backend.arrived().is_empty());
}
