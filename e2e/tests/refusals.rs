//! Refusals of requests whose body has not come: the answer can be read, and what becomes of the connection is said.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use e2e::backend::Backend;
use e2e::client::{Connection, Request};
use e2e::folder::route;

use crate::site::{HOST, address, site, spec};

#[test]
fn a_refusal_whose_small_body_comes_late_keeps_the_connection_or_says_that_it_does_not() {
    let backend = Backend::named("ok");
    let denied = format!(
        "hostnames: [{HOST}]
rules:
- {{name: denied, matches: [{{path: {{type: PathPrefix, value: /denied}}}}], ipAccess: {{deny: [127.0.0.1]}}, backendRefs: [{to}]}}
- {{name: ok, matches: [{{path: {{type: PathPrefix, value: /ok}}}}], backendRefs: [{to}]}}",
        to = address(backend.address)
    );
    let site = site(&route("shop", &denied));
    for (path, status) in [("/denied", 403), ("/nowhere", 404)] {
        for wait_ms in [0, 30, 600] {
            let case = format!("{path} with its body after {wait_ms} ms");
            let request = Request::new("POST", HOST, path).body("small");
            let mut connection = Connection::open(site.gateway.http).unwrap();
            let mut writer = connection.writer().unwrap();
            let sender = thread::spawn(move || {
                writer.write_all(&request.head())?;
                // Not to wait for something: that the body comes in a segment of its own is what is tested.
                thread::sleep(Duration::from_millis(wait_ms));
                writer.write_all(&request.body)
            });
            let response = connection.response("POST").unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(response.status, status, "{case}");
            let sent = sender.join().unwrap();
            if response.closes() {
                assert!(connection.rest().unwrap().is_empty(), "{case}");
                continue;
            }
            sent.unwrap_or_else(|error| panic!("{case}: {error} although nothing was said of a close"));
            for next in 0..2 {
                let response = connection.ask(&Request::get(HOST, "/ok"));
                assert!(
                    matches!(&response, Ok(r) if r.status == 200),
                    "{case}, request {next}: {response:?}"
                );
            }
        }
    }
    assert_eq!(backend.arrived().iter().filter(|arrived| arrived.target() != "/ok").count(), 0);
}

#[test]
fn a_small_body_that_comes_soon_after_its_head_costs_a_refused_request_no_connection() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "ipAccess: {deny: [127.0.0.1]}")));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for _ in 0..5 {
        let request = Request::new("POST", HOST, "/").body("small");
        connection.send(&request.head()).unwrap();
        thread::sleep(Duration::from_millis(5));
        connection.send(&request.body).unwrap();
        let response = connection.response("POST").unwrap();
        assert_eq!((response.status, response.closes()), (403, false));
    }
}

#[test]
fn who_goes_on_sending_a_large_body_can_still_read_that_it_was_refused() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "maxRequestBody: 1Ki")));
    let request = Request::new("POST", HOST, "/").body(vec![b'x'; 20 << 20]);
    for _ in 0..3 {
        let mut connection = Connection::open(site.gateway.http).unwrap();
        // All of it first: a reset would end the sending, and could take the answer along.
        connection.send(&request.bytes()).expect("the whole body is taken");
        let response = connection.response("POST").expect("the answer is there");
        assert_eq!(response.status, 413);
        assert!(response.closes());
    }
    assert!(backend.arrived().is_empty());
}

#[test]
fn a_transfer_coding_other_than_one_chunked_is_a_400_and_goes_nowhere() {
    // Hardening SM04.
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    let cases: [&[&str]; 11] = [
        &["gzip, chunked"],
        &["gzip"],
        &["identity"],
        &["chunked, identity"],
        &["chunked, chunked"],
        &["chunked", "chunked"],
        &["gzip", "chunked"],
        &["chunked", "identity"],
        &["xchunked"],
        &["chunked;q=1"],
        &[""],
    ];
    for codings in cases {
        let mut request = Request::new("POST", HOST, "/");
        for coding in codings {
            request = request.header("Transfer-Encoding", coding);
        }
        let mut connection = Connection::open(site.gateway.http).unwrap();
        connection.send(&request.head()).unwrap();
        connection.send(b"4\r\nbody\r\n0\r\n\r\n").unwrap();
        let response = connection.response("POST").unwrap_or_else(|error| panic!("{codings:?}: {error}"));
        assert_eq!(response.status, 400, "{codings:?}");
        assert!(response.closes(), "{codings:?}: {response:?}");
        assert!(connection.rest().unwrap().is_empty(), "{codings:?}");
    }
    assert!(backend.arrived().is_empty(), "{:#?}", backend.arrived());
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&Request::new("POST", HOST, "/").header("Transfer-Encoding", "Chunked").head()).unwrap();
    connection.send(b"4\r\nbody\r\n0\r\n\r\n").unwrap();
    assert_eq!(connection.response("POST").unwrap().status, 200, "the name in any case");
}
