//! The client against the backend of these tests.

use super::*;
use crate::certificate::Authority;
use crate::h2_backend::H2Backend;
use crate::tls_backend::server_config;
use crate::tls_client::{config, offering_h2};

const HOST: &str = "shop.example.com";

#[test]
fn the_client_and_the_backend_understand_each_other_with_tls_and_without() {
    let authority = Authority::new();
    let plain = H2Backend::start();
    let secure = H2Backend::start_tls(server_config(&[&authority.issue(&[HOST])], &["h2"], None));
    let client = offering_h2(config(&authority));
    for (backend, mut connection) in [
        (&plain, H2Connection::plain(plain.address).unwrap()),
        (&secure, H2Connection::tls(secure.address, HOST, &client).unwrap()),
    ] {
        let response = connection.ask(&H2Request::get(HOST, "/a?b").header("x-a", "b")).unwrap();
        assert_eq!((response.status, response.echoed("x-a")), (200, vec!["b".to_owned()]));
        let body = vec![7; 3 << 20];
        let echo = H2Request::new("POST", HOST, "/echo").body(body.clone()).trailer("x-late", "1");
        let response = connection.ask(&echo).unwrap();
        assert!(response.body == body, "{} bytes", response.body.len());
        assert_eq!(response.trailers, [("x-late".to_owned(), "1".to_owned())]);
        let call = H2Request::grpc(HOST, "/test.Echo/Unary", &[b"hello"]);
        let response = connection.ask(&call).unwrap();
        assert_eq!(response.trailers, [("grpc-status".to_owned(), "0".to_owned())]);
        let fails = connection.ask(&H2Request::grpc(HOST, "/test.Echo/Fail", &[b"x"])).unwrap();
        assert_eq!((fails.header("grpc-status"), fails.body.len()), (Some("5"), 0));
        let refused = connection.outcome_of(&H2Request::get(HOST, "/refused"));
        assert_eq!(refused.code(), Some(REFUSED_STREAM), "{refused:?}");
        assert_eq!(connection.get(HOST, "/bytes?100000").unwrap().body.len(), 100_000);
        connection.ping().unwrap();
        assert_eq!(connection.get(HOST, "/goaway").unwrap().status, 200);
        connection.until_closed().unwrap();
        assert_eq!(connection.goaways.last().map(|goaway| goaway.code), Some(NO_ERROR));
        assert_eq!(backend.connections(), 1);
        assert!(backend.seen()[1].whole && backend.seen()[1].trailers.len() == 1);
    }
}

#[test]
fn a_window_that_is_used_up_holds_one_stream_and_no_other() {
    let backend = H2Backend::start();
    let mut connection = H2Connection::plain(backend.address).unwrap();
    connection.grant(0, 1 << 20).unwrap();
    let held = connection.send(&H2Request::get(HOST, "/bytes?1000000")).unwrap();
    connection.starved.push(held);
    connection.wait_for("a full window", |c| (c.held(held) == 65_535).then_some(())).unwrap();
    assert_eq!(connection.get(HOST, "/bytes?200000").unwrap().body.len(), 200_000);
    assert_eq!(connection.held(held), 65_535);
}

#[test]
fn what_is_malformed_goes_out_as_it_is() {
    let backend = H2Backend::start();
    for (name, value) in [("X-Upper", "1"), ("x-a", "b\r\nc"), ("connection", "close")] {
        let mut connection = H2Connection::plain(backend.address).unwrap();
        let outcome = connection.outcome_of(&H2Request::get(HOST, "/").header(name, value));
        assert!(outcome.code().is_some(), "{name}: {outcome:?}");
    }
    assert!(backend.seen().is_empty());
}
