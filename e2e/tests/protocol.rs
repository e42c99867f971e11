//! HTTP/1.1 itself: framing, pipelining, keep-alive, interim answers, limits of the server, listeners.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use e2e::backend::{Backend, Reply};
use e2e::client::{self, Connection, Request};
use e2e::echo::Echo;
use e2e::folder::route;
use e2e::until::until;

use crate::site::{HOST, site, site_with, spec};

#[test]
fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let upstream = Echo::start("a");
    let site = site(&route("shop", &spec(upstream.address, "")));
    let request = Request::new("POST", HOST, "/").header("Expect", "100-continue").body("late");
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&request.head()).unwrap();
    assert_eq!(connection.response_head().unwrap().0, 100);
    connection.send(&request.body).unwrap();
    let echo = connection.response("POST").unwrap().json();
    assert_eq!(echo["body"], "late");
    // The connection is still good.
    assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().status, 200);
}

#[test]
fn a_refused_request_with_expect_gets_the_refusal_instead_of_a_100() {
    let upstream = Echo::start("a");
    let site = site(&route("shop", &spec(upstream.address, "maxRequestBody: 1Ki")));
    let request =
        Request::new("POST", HOST, "/").header("Expect", "100-continue").header("Content-Length", "2048");
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&request.head()).unwrap();
    let response = connection.response("POST").unwrap();
    assert_eq!((response.status, response.interim), (413, vec![]));
}

#[test]
fn head_204_and_304_have_no_body_and_leave_the_connection_usable() {
    let backend = Backend::start(|arrived| match arrived.target() {
        "/head" => Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n".into()),
        "/head-chunked" => Reply::Bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into()),
        "/204" => Reply::Bytes(b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n".into()),
        "/304" => {
            Reply::Bytes(b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 10\r\n\r\n".into())
        }
        _ => Reply::ok("plain"),
    });
    let site = site(&route("shop", &spec(backend.address, "")));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for (method, path, status) in
        [("HEAD", "/head", 200), ("HEAD", "/head-chunked", 200), ("GET", "/204", 204), ("GET", "/304", 304)]
    {
        let response = connection.ask(&Request::new(method, HOST, path)).unwrap();
        assert_eq!(response.status, status, "{method} {path}");
        if path == "/head" {
            assert_eq!(response.header("content-length"), Some("10"));
        }
        if path == "/204" {
            assert_eq!(response.header("content-length"), None, "RFC 9110 §8.6");
        }
        // Had a body been sent, it would stand in front of this answer.
        let next = connection.ask(&Request::get(HOST, "/plain")).unwrap();
        assert_eq!(next.text(), "plain", "after {method} {path}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Echo::start("a");
    let site = site(&route("shop", &spec(upstream.address, "")));
    let mut bytes = Vec::new();
    for number in 0..20 {
        // The first ones take longest.
        let request = Request::new("POST", HOST, &format!("/{number}?delay={}ms", 20 - number))
            .body(number.to_string());
        bytes.extend(request.bytes());
    }
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&bytes).unwrap();
    for number in 0..20 {
        let echo = connection.response("POST").unwrap().json();
        assert_eq!(echo["body"], number.to_string());
    }
}

#[test]
fn connections_are_kept_on_both_sides() {
    let backend = Backend::named("ok");
    let site = site_with(&route("shop", &spec(backend.address, "")), &["--workers", "1"]);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for _ in 0..50 {
        assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().status, 200);
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_client_that_asks_for_a_close_gets_one() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let response = connection.ask(&Request::get(HOST, "/").header("Connection", "close")).unwrap();
    assert_eq!(response.status, 200);
    assert!(response.closes());
    assert!(connection.rest().unwrap().is_empty());
}

#[test]
fn be04_an_upstream_connection_that_went_stale_is_replaced_without_a_trace() {
    // Hardening BE04: the backend closes as soon as it has answered, without saying so.
    let backend =
        Backend::start(|_| Reply::BytesThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()));
    let site = site_with(&route("shop", &spec(backend.address, "")), &["--workers", "1"]);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for number in 0..100 {
        let response = connection.ask(&Request::get(HOST, "/")).unwrap();
        assert_eq!(response.status, 200, "request {number}: {}", response.text());
    }
}

#[test]
fn bytes_that_an_upstream_sends_after_its_answer_reach_nobody() {
    // Hardening SM31.
    let backend = Backend::start(|_| {
        Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
                .to_vec(),
        )
    });
    let site = site_with(&route("shop", &spec(backend.address, "")), &["--workers", "1"]);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for _ in 0..10 {
        let response = connection.ask(&Request::get(HOST, "/")).unwrap();
        assert_eq!(response.text(), "ok");
    }
}

#[test]
fn an_answer_that_is_not_http_is_a_502() {
    let cases: [(&str, &[u8]); 4] = [
        ("garbage", b"hello\r\n\r\n"),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("bad length", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab"),
        ("nothing", b""),
    ];
    for (name, bytes) in cases {
        let backend = Backend::start(move |_| Reply::BytesThenClose(bytes.to_vec()));
        let site = site(&route("shop", &spec(backend.address, "")));
        let response = site.gateway.ask(&Request::new("POST", HOST, "/").body("x"));
        assert_eq!(response.status, 502, "{name}: {response:?}");
        assert!(!response.text().contains("127.0.0.1"), "{name} leaks the upstream: {}", response.text());
    }
}

#[test]
fn be06_interim_answers_of_an_upstream_do_not_disturb_the_final_one() {
    let backend = Backend::start(|_| {
        Reply::Bytes(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                .to_vec(),
        )
    });
    let site = site(&route("shop", &spec(backend.address, "")));
    let response = site.gateway.get(HOST, "/");
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
}

#[test]
fn a_head_over_the_limit_is_refused_and_one_under_it_passes() {
    let upstream = Echo::start("a");
    let small = site_with(&route("shop", &spec(upstream.address, "")), &["--max-head", "8Ki"]);
    let mut connection = Connection::open(small.gateway.http).unwrap();
    // The server may close before it has read all, so that the write may fail.
    drop(connection.send(&Request::get(HOST, "/").header("X-Big", &"x".repeat(64 << 10)).bytes()));
    if let Ok(response) = connection.response("GET") {
        assert_eq!(response.status, 431);
    }
    let default = site(&route("shop", &spec(upstream.address, "")));
    let value = "x".repeat(512 << 10);
    let response = default.gateway.ask(&Request::get(HOST, "/").header("X-Big", &value));
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.echoed("x-big"), [value]);
}

#[test]
fn a_head_that_never_ends_is_cut_off_by_the_read_timeout() {
    let upstream = Echo::start("a");
    let site = site_with(&route("shop", &spec(upstream.address, "")), &["--read-timeout", "300ms"]);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let started = Instant::now();
    connection.send(b"GET / HTTP/1.1\r\nHost: shop").unwrap();
    connection.rest().unwrap();
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_body_that_stalls_is_cut_off_by_the_read_timeout() {
    let backend = Backend::named("ok");
    let site = site_with(&route("shop", &spec(backend.address, "")), &["--read-timeout", "300ms"]);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let started = Instant::now();
    connection.send(&Request::new("POST", HOST, "/").header("Content-Length", "10").head()).unwrap();
    connection.send(b"half").unwrap();
    match connection.response("POST") {
        Ok(response) => assert_eq!(response.status, 408),
        Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "still open"),
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(5), "{took:?}");
    assert!(backend.arrived().is_empty(), "half a request reached the backend as a whole one");
}

#[test]
fn an_idle_connection_is_closed_after_the_idle_timeout() {
    let backend = Backend::named("ok");
    let site = site_with(&route("shop", &spec(backend.address, "")), &["--idle-timeout", "300ms"]);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.ask(&Request::get(HOST, "/")).unwrap();
    let started = Instant::now();
    assert!(connection.rest().unwrap().is_empty());
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_client_that_takes_no_byte_is_cut_off_by_the_write_timeout() {
    let upstream = Echo::start("a");
    let site = site_with(&route("shop", &spec(upstream.address, "")), &["--write-timeout", "500ms"]);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&Request::get(HOST, "/?bytes=200Mi").bytes()).unwrap();
    until("the request is in flight", || {
        (site.gateway.metric("http_requests_in_flight") >= 1.0).then_some(())
    });
    until("the request is given up", || {
        (site.gateway.metric("http_requests_in_flight") == 0.0).then_some(())
    });
    // What comes is not the whole.
    let rest = connection.rest().unwrap();
    assert!(rest.len() < 100 << 20, "{} bytes", rest.len());
}

#[test]
fn the_default_listener_takes_both_families() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    let upstream = Echo::start("a");
    let site = site_with(&route("shop", &spec(upstream.address, "")), &["--http", "[::]:0"]);
    let port = site.gateway.http.port();
    for (address, client_address) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")] {
        let to: SocketAddr = format!("{address}:{port}").parse().unwrap();
        let response = client::ask(to, &Request::get(HOST, "/")).unwrap();
        assert_eq!(response.status, 200, "{address}");
        // IPv4 over the dual-stack socket is folded: no ::ffff:127.0.0.1 anywhere.
        assert_eq!(response.echoed("x-forwarded-for"), [client_address]);
    }
}

#[test]
fn upstreams_on_ipv6_are_reached() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    let upstream = Echo::start_on("six", "[::1]:0");
    let yaml = e2e::folder::service("web", &[upstream.address]);
    let spec = format!("hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]");
    let site = site(&(yaml + &route("shop", &spec)));
    assert_eq!(site.gateway.get(HOST, "/").json()["pod"], "six");
}

#[test]
fn requests_without_a_usable_host_are_refused() {
    // Hardening SM21.
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "").replace(&format!("[{HOST}]"), "[]")));
    let cases = [
        ("none", "GET / HTTP/1.1\r\n\r\n"),
        ("two that differ", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("two alike", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        ("a list", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"),
        ("a path", "GET / HTTP/1.1\r\nHost: a/x\r\n\r\n"),
        ("userinfo", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
        ("absolute form that differs", "GET http://b/ HTTP/1.1\r\nHost: a/\r\n\r\n"),
    ];
    for (name, bytes) in cases {
        let mut connection = Connection::open(site.gateway.http).unwrap();
        connection.send(bytes.as_bytes()).unwrap();
        let response = connection.response("GET").unwrap();
        assert_eq!(response.status, 400, "{name}: {response:?}");
    }
    assert!(backend.arrived().is_empty());
}

#[test]
fn the_host_of_an_absolute_target_counts_and_goes_upstream() {
    // Hardening SM22: never route one host and send another.
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection
        .send(format!("GET http://{HOST}/x HTTP/1.1\r\nHost: other.example.com\r\n\r\n").as_bytes())
        .unwrap();
    let response = connection.response("GET").unwrap();
    if response.status == 200 {
        assert_eq!(backend.arrived()[0].all("host"), [HOST]);
    } else {
        assert_eq!(response.status, 400);
        assert!(backend.arrived().is_empty());
    }
}

#[test]
fn a_smuggled_request_is_never_dispatched() {
    // Hardening SM01, SM02, SM09, SM17.
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
    let cases = [
        format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\nContent-Length: 60\r\n\r\n{smuggled}"
        ),
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len()),
    ];
    for bytes in cases {
        let backend = Backend::named("ok");
        let site = site(&route("shop", &spec(backend.address, "")));
        let mut connection = Connection::open(site.gateway.http).unwrap();
        connection.send(bytes.as_bytes()).unwrap();
        connection.finish().unwrap();
        connection.rest().unwrap();
        for arrived in backend.arrived() {
            assert_ne!(arrived.target(), "/smuggled", "{bytes:?}");
            let framings = arrived.all("content-length").len() + arrived.all("transfer-encoding").len();
            assert!(framings <= 1, "{bytes:?} arrived as {arrived:?}");
        }
    }
}

#[test]
fn connect_and_trace_are_not_served() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n").as_bytes()).unwrap();
    let (status, _) = connection.response_head().unwrap();
    assert!((400..=599).contains(&status), "CONNECT: {status}");
    assert!(backend.arrived().is_empty());
}

#[test]
fn many_connections_at_once_are_all_served() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    let http = site.gateway.http;
    let mut connections: Vec<_> = (0..300).map(|_| Connection::open(http).unwrap()).collect();
    for connection in &mut connections {
        connection.send(&Request::get(HOST, "/").bytes()).unwrap();
    }
    for connection in &mut connections {
        assert_eq!(connection.response("GET").unwrap().status, 200);
    }
    let threads: Vec<_> = connections
        .into_iter()
        .take(50)
        .map(|mut connection| {
            thread::spawn(move || connection.ask(&Request::get(HOST, "/")).map(|r| r.status))
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap().unwrap(), 200);
    }
}

#[test]
fn a_client_of_http_1_0_is_served_and_its_connection_closed() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
    let answer = String::from_utf8(connection.rest().unwrap()).unwrap();
    assert!(
        answer.starts_with("HTTP/1.") && answer.contains(" 200 ") && answer.ends_with("\r\n\r\nok"),
        "{answer}"
    );
    assert!(!answer.to_lowercase().contains("transfer-encoding"), "{answer}");
}

#[test]
fn an_answer_that_comes_at_once_instead_of_a_100_arrives_whole() {
    // Slower than the second for which a 100 is waited for and the time in which the body would have to come.
    let backend = Backend::start_hasty(|_| {
        let later = |reply| Box::new(Reply::After(Duration::from_millis(800), Box::new(reply)));
        let end = later(Reply::BytesThenClose(b" the end".to_vec()));
        let middle = later(Reply::BytesThen(b" the middle".to_vec(), end));
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\nbeginning,";
        Reply::BytesThen(head.to_vec(), middle)
    });
    let site = site_with(&route("shop", &spec(backend.address, "")), &["--read-timeout", "300ms"]);
    let request = Request::new("POST", HOST, "/").header("Expect", "100-continue").body("never sent");
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&request.head()).unwrap();
    let response = connection.response("POST").unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "beginning, the middle the end"));
    assert!(response.interim.is_empty(), "nobody asked for the body: {:?}", response.interim);
}

#[test]
fn a_204_or_304_with_a_coding_whose_end_comes_late_poisons_no_later_request() {
    let backend = Backend::start(|arrived| {
        let head: &[u8] = match arrived.target() {
            "/204" => b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
            "/304" => b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
            _ => return Reply::ok("plain"),
        };
        let end = Box::new(Reply::Bytes(b"0\r\n\r\n".to_vec()));
        Reply::BytesThen(head.to_vec(), Box::new(Reply::After(Duration::from_millis(100), end)))
    });
    let site = site_with(&route("shop", &spec(backend.address, "")), &["--workers", "1"]);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for (path, status) in [("/204", 204), ("/304", 304)] {
        assert_eq!(connection.ask(&Request::get(HOST, path)).unwrap().status, status);
        // POST is not repeated, so that a poisoned connection would show.
        let next = connection.ask(&Request::new("POST", HOST, "/plain").body("x")).unwrap();
        assert_eq!((next.status, next.text().as_str()), (200, "plain"), "after {path}");
        let arrived = backend.arrived();
        let [.., before, after] = arrived.as_slice() else { panic!("{arrived:?}") };
        assert_ne!(before.connection, after.connection, "the connection of {path} was used again");
    }
}
