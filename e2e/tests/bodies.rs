//! Bodies: every byte of them, in both directions, in every framing, without filling memory.

use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use e2e::backend::{Backend, Reply};
use e2e::client::{Connection, Request};
use e2e::echo::Echo;
use e2e::folder::route;
use e2e::sockets::{ByHand, read_head};

use crate::site::{HOST, site, spec};

const BYTES: usize = 20 << 20;

/// Not periodic in any power of two, so that lost or swapped blocks show.
fn body() -> Vec<u8> {
    pattern(BYTES)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn twenty_mebibytes_go_up_bit_exact_with_a_length_and_in_chunks() {
    let upstream = Echo::start("a");
    let site = site(&route("shop", &spec(upstream.address, "")));
    let body = body();
    let want = sha256(&body);
    let with_length = site.gateway.ask(&Request::new("POST", HOST, "/").body(body.clone())).json();
    assert_eq!(with_length["bodyBytes"], BYTES);
    assert_eq!(with_length["bodySha256"], want.as_str());

    let mut connection = Connection::open(site.gateway.http).unwrap();
    let head = Request::new("POST", HOST, "/").header("Transfer-Encoding", "chunked").head();
    let mut writer = connection.writer().unwrap();
    let sender = thread::spawn(move || {
        writer.write_all(&head).unwrap();
        // Chunks of odd and growing sizes, the first of one byte.
        let mut rest = body.as_slice();
        let mut size = 1;
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at(size.min(rest.len()));
            write!(writer, "{:x}\r\n", chunk.len()).unwrap();
            writer.write_all(chunk).unwrap();
            writer.write_all(b"\r\n").unwrap();
            rest = tail;
            size = (size * 3 + 1) % 300_007;
        }
        writer.write_all(b"0\r\n\r\n").unwrap();
    });
    let chunked = connection.response("POST").unwrap().json();
    sender.join().unwrap();
    assert_eq!(chunked["bodyBytes"], BYTES);
    assert_eq!(chunked["bodySha256"], want.as_str());
}

#[test]
fn twenty_mebibytes_come_down_bit_exact_with_a_length_and_in_chunks() {
    let upstream = Echo::start("a");
    let site = site(&route("shop", &spec(upstream.address, "")));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for (query, framing) in [("bytes=20Mi", "content-length"), ("bytes=20Mi&chunked", "transfer-encoding")] {
        let response = connection.ask(&Request::get(HOST, &format!("/?{query}"))).unwrap();
        assert_eq!(response.status, 200);
        assert!(response.header(framing).is_some(), "{query}: {:?}", response.headers);
        assert_eq!(response.body.len(), BYTES, "{query}");
        let wrong = response.body.iter().enumerate().find(|(i, byte)| usize::from(**byte) != i % 251);
        assert_eq!(wrong, None, "{query}");
    }
}

#[test]
fn a_body_that_ends_with_the_upstreams_connection_arrives_whole() {
    let backend = Backend::start(|_| {
        Reply::BytesThenClose(b"HTTP/1.1 200 OK\r\nX-Old: yes\r\n\r\nuntil the end".to_vec())
    });
    let site = site(&route("shop", &spec(backend.address, "")));
    let response = site.gateway.get(HOST, "/");
    assert_eq!((response.status, response.text().as_str()), (200, "until the end"));
}

#[test]
fn be03_an_upstream_that_breaks_in_the_middle_of_a_body_never_looks_like_a_clean_end() {
    // Hardening BE03.
    let cases: [(&str, &[u8], bool); 4] = [
        ("length, closed", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", false),
        ("length, reset", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", true),
        ("chunked, closed", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", false),
        (
            "chunked, closed in a chunk",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nhalf",
            false,
        ),
    ];
    for (name, bytes, resets) in cases {
        let reply = if resets {
            Reply::BytesThenReset(bytes.to_vec())
        } else {
            Reply::BytesThenClose(bytes.to_vec())
        };
        let backend = Backend::start(move |_| reply.clone());
        let site = site(&route("shop", &spec(backend.address, "")));
        let mut connection = Connection::open(site.gateway.http).unwrap();
        match connection.ask(&Request::get(HOST, "/")) {
            Err(_) => {}
            // Where nothing has been sent yet the gateway may still say so itself.
            Ok(response) => assert_eq!(response.status, 502, "{name}: {response:?}"),
        }
    }
}

#[test]
fn a_client_that_reads_slowly_does_not_fill_the_gateways_memory() {
    let upstream = Echo::start("a");
    let site = site(&route("shop", &spec(upstream.address, "")));
    site.gateway.get(HOST, "/");
    let before = site.gateway.process.resident_kib();
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&Request::get(HOST, "/?bytes=200Mi").bytes()).unwrap();
    assert_eq!(connection.response_head().unwrap().0, 200);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        let grown = site.gateway.process.resident_kib().saturating_sub(before);
        assert!(grown < 32 * 1024, "{grown} KiB more while nobody reads");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn trailers_pass_in_both_directions() {
    let backend = Backend::start(|_| {
        let bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                     3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n";
        Reply::Bytes(bytes.into())
    });
    let site = site(&route("shop", &spec(backend.address, "")));
    let request = Request::new("POST", HOST, "/")
        .header("TE", "trailers")
        .header("Trailer", "X-Request-Sum")
        .header("Transfer-Encoding", "chunked");
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&request.head()).unwrap();
    connection.send(b"4\r\nbody\r\n0\r\nX-Request-Sum: 7\r\n\r\n").unwrap();
    let response = connection.response("POST").unwrap();
    assert_eq!(response.text(), "abc");
    let want = ("x-sum".to_owned(), "42".to_owned());
    assert!(response.trailers.iter().any(|(n, v)| (n.to_lowercase(), v.clone()) == want), "{response:?}");
    let arrived = &backend.arrived()[0];
    let wire = String::from_utf8_lossy(&arrived.body).to_lowercase();
    assert!(wire.contains("body") && wire.contains("x-request-sum: 7\r\n"), "{wire:?}");
}

#[test]
fn trailers_cannot_smuggle_what_belongs_into_the_head() {
    // Hardening SM16.
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    let request = Request::new("POST", HOST, "/").header("Transfer-Encoding", "chunked");
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&request.head()).unwrap();
    let trailers = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nAuthorization: x\r\n\
                    X-Forwarded-For: 9.9.9.9\r\nX-Ok: 1\r\n";
    connection.send(format!("1\r\nb\r\n0\r\n{trailers}\r\n").as_bytes()).unwrap();
    let answered = connection.response("POST");
    for arrived in backend.arrived() {
        let wire = String::from_utf8_lossy(&arrived.body).to_lowercase();
        for name in ["content-length", "transfer-encoding", "host", "authorization", "x-forwarded-for"] {
            assert!(!wire.contains(name), "{name} in {wire:?}");
        }
        assert!(!arrived.head.contains("evil"), "{}", arrived.head);
    }
    assert!(matches!(answered.map(|response| response.status), Ok(200 | 400)));
}

#[test]
fn be07_an_answer_that_comes_before_the_body_was_sent_reaches_the_client() {
    // Hardening BE07.
    let backend = Backend::start_hasty(|_| {
        Reply::BytesThenClose(
            b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig".to_vec(),
        )
    });
    let site = site(&route("shop", &spec(backend.address, "")));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let head = Request::new("POST", HOST, "/").header("Content-Length", &(100 << 20).to_string()).head();
    let mut writer = connection.writer().unwrap();
    let sender = thread::spawn(move || {
        let block = vec![b'x'; 1 << 20];
        // Whether it can be sent to its end is the gateway's choice.
        let _ended =
            writer.write_all(&head).and_then(|()| (0..100).try_for_each(|_| writer.write_all(&block)));
    });
    let response = connection.response("POST").unwrap();
    assert!(matches!(response.status, 413 | 502), "{response:?}");
    drop(connection);
    sender.join().unwrap();
}

#[test]
fn be07_an_upload_goes_on_while_the_client_does_not_read_the_answer() {
    // Hardening BE07. More comes down than sockets hold, and more goes up.
    const DOWN: usize = 12 << 20;
    const UP: usize = 30 << 20;
    let (uploaded, arrived) = mpsc::channel();
    let upstream = ByHand::start(move |mut stream| {
        let mut body = read_head(&mut stream)?;
        let mut writer = stream.try_clone()?;
        let down = thread::spawn(move || {
            write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {DOWN}\r\n\r\n")?;
            writer.write_all(&pattern(DOWN))
        });
        let left = UP - body.len();
        (&mut stream).take(left as u64).read_to_end(&mut body)?;
        drop(uploaded.send(body));
        drop(down.join());
        Ok(())
    });
    let site = site(&route("shop", &spec(upstream.address, "")));
    let up: Vec<u8> = pattern(UP);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&Request::new("POST", HOST, "/").body(up.clone()).bytes()).expect("all of it is taken");
    let received = arrived.recv_timeout(Duration::from_secs(20)).expect("the upload came to its end");
    assert!(received == up, "{} bytes came up, not the same {UP}", received.len());
    let response = connection.response("POST").unwrap();
    assert_eq!(response.status, 200);
    assert!(response.body == pattern(DOWN), "{} bytes came down, not the same {DOWN}", response.body.len());
}
