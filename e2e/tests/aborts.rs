//! Clients that go away in the middle (hardening BE14): when their upstream hears of it, and that nothing of them stays.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use e2e::client::{Connection, Request};
use e2e::folder::route;
use e2e::gateway::Gateway;
use e2e::h2_backend::H2Backend;
use e2e::h2_client::{CANCEL, DATA, H2Connection, H2Request, frame};
use e2e::sockets::{ByHand, read_head_text};
use e2e::until::{PATIENCE, until};

use crate::site::{HOST, Site, address, site_with, spec};

/// Where a client is when it goes away; the path of its request.
const UPLOADING: &str = "/uploading";
const WAITING: &str = "/waiting";
const READING: &str = "/reading";
const PHASES: [&str; 3] = [UPLOADING, WAITING, READING];
/// What the client says it will send, and what it sends of it.
const SAID_BYTES: usize = 1 << 20;
const SENT_BYTES: usize = 1000;
/// In the middle, for an upstream to hear of it.
const HEARD_WITHIN: Duration = Duration::from_millis(100);
/// At worst, as the machine may stand still.
const HEARD_AT_WORST: Duration = Duration::from_secs(3);

/// What an upstream saw of one request.
enum Saw {
    /// It is where its path says.
    Begun,
    Ended(Instant),
}

/// An upstream of HTTP/1.1 that brings requests to where their paths say and no further, and tells when they end.
fn listening() -> (ByHand, Receiver<Saw>) {
    let (sender, receiver) = channel();
    let upstream = ByHand::start(move |mut stream| {
        let (head, rest) = read_head_text(&mut stream)?;
        let mut bytes = vec![0; 64 << 10];
        if head.contains(UPLOADING) && rest.is_empty() {
            stream.read_exact(&mut bytes[..1])?;
        }
        if head.contains(READING) {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")?;
        }
        let told = sender.send(Saw::Begun);
        // A reset is an end, too.
        while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
        let ended = sender.send(Saw::Ended(Instant::now()));
        // Nobody listens any more when the test is over.
        drop((told, ended));
        Ok(())
    });
    (upstream, receiver)
}

/// A client in the middle of a request. Goes away by [`Client::go`].
enum Client {
    /// By closing its connection.
    Http1(Connection),
    /// By resetting its stream.
    Http2(Box<H2Connection>, u32),
}

impl Client {
    fn over_http1(http: SocketAddr, phase: &str) -> Self {
        let mut connection = Connection::open(http).unwrap();
        let request = match phase {
            UPLOADING => {
                let request = Request::new("POST", HOST, phase);
                let request = request.header("Content-Length", &SAID_BYTES.to_string());
                [request.bytes(), vec![b'x'; SENT_BYTES]].concat()
            }
            _ => Request::get(HOST, phase).bytes(),
        };
        connection.send(&request).unwrap();
        Self::Http1(connection)
    }

    fn over_http2(http: SocketAddr, phase: &str) -> Self {
        let mut connection = H2Connection::plain(http).unwrap();
        let stream = match phase {
            UPLOADING => {
                let request = H2Request::new("POST", HOST, phase);
                let stream = connection.open(&request, false).unwrap();
                connection.send_raw(&frame(DATA, 0, stream, &[b'x'; SENT_BYTES])).unwrap();
                stream
            }
            _ => connection.send(&H2Request::get(HOST, phase)).unwrap(),
        };
        Self::Http2(Box::new(connection), stream)
    }

    /// Reads what there is to read in this phase.
    fn read(&mut self, phase: &str) {
        let status = match self {
            _ if phase != READING => 200,
            Self::Http1(connection) => connection.response_head().unwrap().0,
            Self::Http2(connection, stream) => connection.head(*stream).unwrap().0,
        };
        assert_eq!(status, 200);
    }

    /// Returns what has to be kept for a while, so that only the request ends.
    fn go(self) -> Option<Box<H2Connection>> {
        match self {
            Self::Http1(connection) => {
                drop(connection);
                None
            }
            Self::Http2(mut connection, stream) => {
                connection.reset(stream, CANCEL).unwrap();
                Some(connection)
            }
        }
    }
}

#[track_caller]
fn assert_heard(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    assert!(median <= HEARD_WITHIN && worst <= HEARD_AT_WORST, "{what}: {median:?}, at worst {worst:?}");
}

#[test]
fn be14_an_upstream_hears_within_100_ms_that_its_client_has_gone() {
    let (upstream, saw) = listening();
    let site = site_with(&route("shop", &spec(upstream.address, "")), &[]);
    let next = || saw.recv_timeout(PATIENCE).expect("the upstream sees something");
    for (version, client) in
        [("HTTP/1.1", Client::over_http1 as fn(SocketAddr, &str) -> Client), ("HTTP/2", Client::over_http2)]
    {
        for phase in PHASES {
            let took = (0..15).map(|_| {
                let mut client = client(site.gateway.http, phase);
                assert!(matches!(next(), Saw::Begun), "{version} {phase}");
                client.read(phase);
                let gone = Instant::now();
                let kept = client.go();
                let Saw::Ended(ended) = next() else { panic!("{version} {phase}: another request") };
                drop(kept);
                ended.saturating_duration_since(gone)
            });
            assert_heard(&format!("{version} {phase}"), took.collect());
        }
    }
    until("nothing is in flight", || (site.gateway.metric("http_requests_in_flight") == 0.0).then_some(()));
}

/// A route to an upstream of HTTP/2.
fn to_http2(upstream: &H2Backend, flags: &[&str]) -> Site {
    let backend = address(upstream.address).replace('}', ", protocol: H2C}");
    let spec = format!("hostnames: [{HOST}]\nrules: [{{name: all, backendRefs: [{backend}]}}]");
    site_with(&route("shop", &spec), flags)
}

#[test]
fn be14_a_stream_of_an_upstream_of_http2_is_reset_within_100_ms() {
    let upstream = H2Backend::start();
    let site = to_http2(&upstream, &[]);
    for client in [Client::over_http1 as fn(SocketAddr, &str) -> Client, Client::over_http2] {
        let took = (0..15).map(|_| {
            let before = upstream.cancelled();
            let client = client(site.gateway.http, "/silent");
            until("the request has arrived", || (upstream.open() == 1).then_some(()));
            let gone = Instant::now();
            let kept = client.go();
            until("its stream is reset", || (upstream.cancelled() > before).then_some(()));
            drop(kept);
            gone.elapsed()
        });
        assert_heard("a stream", took.collect());
    }
    assert!(upstream.connections() <= 2, "one connection a worker: {}", upstream.connections());
}

/// What of a gateway could grow.
#[derive(Debug)]
struct Held {
    files: usize,
    kib: u64,
}

impl Held {
    /// Once nothing is in flight.
    fn now(gateway: &Gateway) -> Self {
        until("nothing is in flight", || (gateway.metric("http_requests_in_flight") == 0.0).then_some(()));
        Self { files: gateway.process.open_files(), kib: gateway.process.resident_kib() }
    }

    /// Waits for what ends a moment after its request.
    fn assert_no_more_now(&self, gateway: &Gateway, upstream: SocketAddr, upstream_connections: f64) {
        let connections = format!("baribhara_upstream_connections{{backend=\"{upstream}\"}}");
        until("nothing is in flight", || (gateway.metric("http_requests_in_flight") == 0.0).then_some(()));
        until("the upstream connections are closed", || {
            (gateway.metric(&connections) <= upstream_connections).then_some(())
        });
        // Some for the admin interface that is asked here.
        until("the sockets are closed", || (gateway.process.open_files() <= self.files + 4).then_some(()));
        let grown = gateway.process.resident_kib().saturating_sub(self.kib);
        assert!(grown < 8 * 1024, "{grown} KiB more than {self:?}");
    }
}

/// Streams of HTTP/2 that are reset while their upstream keeps them waiting, in batches of almost a whole connection.
fn reset_streams(http: SocketAddr, upstream: &H2Backend, streams: usize) {
    const BATCH: usize = 90;
    const BATCHES_A_CONNECTION: usize = 25;
    let mut left = streams;
    while left > 0 {
        let mut connection = H2Connection::plain(http).unwrap();
        for _ in 0..BATCHES_A_CONNECTION {
            let batch = BATCH.min(left);
            let opened: Vec<u32> =
                (0..batch).map(|_| connection.send(&H2Request::get(HOST, "/silent")).unwrap()).collect();
            until("all have arrived", || (upstream.open() == batch).then_some(()));
            for stream in opened {
                connection.reset(stream, CANCEL).unwrap();
            }
            until("all are given up", || (upstream.open() == 0).then_some(()));
            left -= batch;
        }
    }
}

#[test]
fn be14_a_hundred_thousand_streams_that_are_reset_leave_nothing() {
    const FIRST: usize = 4_000;
    const STREAMS: usize = 100_000;
    let upstream = H2Backend::start();
    let site = to_http2(&upstream, &["--access-log", "off"]);
    reset_streams(site.gateway.http, &upstream, FIRST);
    let held = Held::now(&site.gateway);
    reset_streams(site.gateway.http, &upstream, STREAMS);
    held.assert_no_more_now(&site.gateway, upstream.address, 2.0);
    println!("measured: {held:?} before {STREAMS} resets, {:?} after", Held::now(&site.gateway));
    assert_eq!(upstream.cancelled(), FIRST + STREAMS);
    assert!(upstream.connections() <= 2, "one connection a worker: {}", upstream.connections());
}

/// Clients on two threads that go away in each phase in turn, with a connection each.
fn close_connections(http: SocketAddr, clients: usize) {
    let threads: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(move || {
                for number in 0..clients / 2 {
                    let phase = PHASES[number % 3];
                    let mut client = Client::over_http1(http, phase);
                    client.read(phase);
                    drop(client.go());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn be14_twenty_thousand_connections_that_are_closed_leave_nothing() {
    const CONNECTIONS: usize = 20_000;
    let (upstream, saw) = listening();
    let site = site_with(&route("shop", &spec(upstream.address, "")), &["--access-log", "off"]);
    close_connections(site.gateway.http, 2_000);
    let held = Held::now(&site.gateway);
    close_connections(site.gateway.http, CONNECTIONS);
    held.assert_no_more_now(&site.gateway, upstream.address, 0.0);
    println!("measured: {held:?} before {CONNECTIONS} closes, {:?} after", Held::now(&site.gateway));
    let (begun, ended): (Vec<Saw>, Vec<Saw>) = saw.try_iter().partition(|saw| matches!(saw, Saw::Begun));
    assert!(
        begun.len() > CONNECTIONS / 3 && ended.len() == begun.len(),
        "{} of {}",
        ended.len(),
        begun.len()
    );
}
