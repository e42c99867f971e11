//! Live streams, many of them: routes change, a certificate rotates and the upstream's endpoints roll, and none is cut.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use e2e::certificate::Authority;
use e2e::client::{Connection, Request};
use e2e::folder::{Folder, route, service};
use e2e::gateway::Gateway;
use e2e::h2_backend::H2Backend;
use e2e::h2_client::{H2Connection, H2Request};
use e2e::tls_client::{config, offering_h2};
use e2e::until::until;
use e2e::websocket::{EchoSocket, NORMAL, TEXT, WebSocket};
use rustls::ClientConfig;

use crate::site::HOST;
use crate::tls_site::shows;

/// Threads that hold streams.
const THREADS: usize = 4;
/// What a server lets through at once (the gateway's default is 100).
const STREAMS_OF_A_CONNECTION: usize = 50;
const CHANGES: usize = 100;

/// How many of either kind there are.
struct Size {
    streams: usize,
    tunnels: usize,
    patience: Duration,
}

/// The upstreams of one time: the roll brings new ones.
struct Upstreams {
    h2: H2Backend,
    sockets: EchoSocket,
}

impl Upstreams {
    fn start() -> Self {
        Self { h2: H2Backend::start(), sockets: EchoSocket::start() }
    }

    fn services(&self) -> String {
        service("calls", &[self.h2.address]) + &service("sockets", &[self.sockets.address])
    }
}

/// Both kinds of streams, and a rule whose answer tells the version.
fn routes(version: usize) -> String {
    let version_filter =
        format!("{{type: DirectResponse, directResponse: {{statusCode: 200, body: \"{version}\"}}}}");
    let header = format!(
        "{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: X-Version, value: \"{version}\"}}]}}}}"
    );
    let spec = format!(
        "hostnames: [{HOST}]
tls: {{secretRef: {{name: shop}}}}
rules:
- {{name: version, matches: [{{path: {{type: Exact, value: /version}}}}], filters: [{version_filter}]}}
- {{name: calls, matches: [{{path: {{type: PathPrefix, value: /test.Echo}}}}], filters: [{header}], backendRefs: [{{name: calls, port: 80, protocol: GRPC}}]}}
- {{name: sockets, matches: [{{path: {{type: PathPrefix, value: /socket}}}}], filters: [{header}], backendRefs: [{{name: sockets, port: 80}}]}}"
    );
    route("shop", &spec)
}

/// The streams of one thread. Each has an echo of its own: a byte for another one would show.
struct Held {
    connections: Vec<(H2Connection, Vec<u32>)>,
    tunnels: Vec<WebSocket<TcpStream>>,
}

impl Held {
    fn open(
        http: SocketAddr,
        https: SocketAddr,
        client: &Arc<ClientConfig>,
        size: (usize, usize),
    ) -> io::Result<Self> {
        let (streams, tunnels) = size;
        let mut held = Self { connections: Vec::new(), tunnels: Vec::new() };
        let mut left = streams;
        while left > 0 {
            let count = left.min(STREAMS_OF_A_CONNECTION);
            left -= count;
            // Half of the connections with TLS.
            let mut connection = match held.connections.len() % 2 {
                0 => H2Connection::tls(https, HOST, client)?,
                _ => H2Connection::plain(http)?,
            };
            let call = H2Request::grpc(HOST, "/test.Echo/Stream", &[]);
            let streams: Result<Vec<u32>, _> = (0..count).map(|_| connection.open(&call, false)).collect();
            held.connections.push((connection, streams?));
        }
        for _ in 0..tunnels {
            held.tunnels.push(WebSocket::open(http, HOST, "/socket")?);
        }
        Ok(held)
    }

    /// Every stream echoes once.
    fn echo(&mut self, round: usize) -> Result<(), String> {
        for (index, (connection, streams)) in self.connections.iter_mut().enumerate() {
            let what = |stream: u32, error: io::Error| {
                format!("round {round}, connection {index}, stream {stream}: {error}")
            };
            for stream in streams.iter() {
                let text = format!("{round} {index} {stream}");
                connection
                    .send_data(*stream, text.as_bytes(), false)
                    .map_err(|error| what(*stream, error))?;
            }
            for stream in streams.iter() {
                let text = format!("{round} {index} {stream}");
                let echoed = connection.data(*stream, text.len()).map_err(|error| what(*stream, error))?;
                if echoed != text.as_bytes() {
                    return Err(format!("{text} came back as {:?}", String::from_utf8_lossy(&echoed)));
                }
            }
        }
        for (index, tunnel) in self.tunnels.iter_mut().enumerate() {
            let text = format!("{round} {index}");
            let echoed = tunnel.echo(TEXT, text.as_bytes());
            echoed.map_err(|error| format!("round {round}, tunnel {index}: {error}"))?;
        }
        Ok(())
    }

    /// Ends every stream as it should end.
    fn end(&mut self) -> Result<(), String> {
        for (connection, streams) in &mut self.connections {
            for stream in streams.iter() {
                let ended =
                    connection.send_data(*stream, &[], true).and_then(|()| connection.response(*stream));
                let trailers =
                    ended.map_err(|error| format!("the end of stream {stream}: {error}"))?.trailers;
                if !trailers.contains(&("grpc-status".to_owned(), "0".to_owned())) {
                    return Err(format!("stream {stream} ended with {trailers:?}"));
                }
            }
        }
        for (index, tunnel) in self.tunnels.iter_mut().enumerate() {
            let closed = tunnel.close(NORMAL).and_then(|()| tunnel.read());
            let frame = closed.map_err(|error| format!("the end of tunnel {index}: {error}"))?;
            if frame.close_code() != Some(NORMAL) {
                return Err(format!("tunnel {index} ended with {frame:?}"));
            }
        }
        Ok(())
    }
}

/// Threads that echo once each time the barrier opens twice, this many times, and then end their streams.
fn hold(
    gateway: &Gateway,
    client: &Arc<ClientConfig>,
    size: &Size,
    gate: &Arc<Barrier>,
) -> Vec<JoinHandle<Result<(), String>>> {
    let (http, https) = (gateway.http, gateway.https);
    let share = (size.streams / THREADS, size.tunnels / THREADS);
    (0..THREADS)
        .map(|_| {
            let (client, gate) = (Arc::clone(client), Arc::clone(gate));
            thread::spawn(move || {
                let mut held = Held::open(http, https, &client, share).map_err(|error| error.to_string());
                let mut result = held.as_mut().map_err(|error| error.clone()).and_then(|held| held.echo(0));
                for round in 1..=CHANGES / 10 {
                    // All wait, the changes happen, all go on: nobody may be missing at a barrier.
                    gate.wait();
                    gate.wait();
                    if let (Ok(()), Ok(held)) = (&result, &mut held) {
                        result = held.echo(round);
                    }
                }
                gate.wait();
                match held {
                    Ok(mut held) => result.and_then(|()| held.end()),
                    Err(error) => Err(error),
                }
            })
        })
        .collect()
}

/// Writes a version and waits until it is live.
fn change(folder: &Folder, connection: &mut Connection, version: usize) {
    folder.write("routes.yaml", &routes(version));
    let want = version.to_string();
    until("the change is live", || {
        let response = connection.ask(&Request::get(HOST, "/version")).expect("an answer");
        (response.text() == want).then_some(())
    });
}

/// As many file descriptors as the streams need on the way and in this process, both ends of them.
pub(crate) fn raise_limit(descriptors: usize) {
    let process = std::process::id().to_string();
    // The soft limit alone: the hard one is the machine's.
    let status = Command::new("prlimit")
        .args(["--pid", &process, &format!("--nofile={descriptors}:")])
        .status()
        .expect("prlimit (Debian's package util-linux)");
    assert!(status.success(), "{descriptors} file descriptors");
}

fn none_is_cut(size: &Size) {
    let started = Instant::now();
    let authority = Authority::new();
    let (old, new) = (Upstreams::start(), Upstreams::start());
    let folder = Folder::with(&old.services());
    let first = authority.issue(&[HOST]);
    folder.write("certificate.yaml", &first.secret("shop"));
    folder.write("routes.yaml", &routes(0));
    // The age of connections is another test's.
    let flags = ["--access-log", "off", "--max-connection-age", "1h"];
    let gateway = Gateway::start(folder.path(), &flags);
    let plain_client = Arc::new(config(&authority));
    let gate = Arc::new(Barrier::new(THREADS + 1));
    let threads = hold(&gateway, &offering_h2(config(&authority)), size, &gate);
    let mut connection = Connection::open(gateway.http).unwrap();
    let second = authority.issue(&[HOST]);
    for round in 1..=CHANGES / 10 {
        gate.wait();
        for version in (round - 1) * 10 + 1..=round * 10 {
            change(&folder, &mut connection, version);
        }
        if round == 3 {
            folder.write("certificate.yaml", &second.secret("shop"));
            until("the new certificate", || shows(gateway.https, HOST, &plain_client, &second).then_some(()));
        }
        if round == 6 {
            folder.write("all.yaml", &new.services());
            // A new stream goes to the new endpoints.
            until("the new endpoints", || {
                let mut tunnel = WebSocket::open(gateway.http, HOST, "/socket").expect("a tunnel");
                tunnel.close(NORMAL).expect("a tunnel to close");
                (new.sockets.opened() > 0).then_some(())
            });
        }
        gate.wait();
    }
    // Before any of them ends: all are still where they began.
    let (streams, tunnels) = (size.streams / THREADS * THREADS, size.tunnels / THREADS * THREADS);
    until("all are where they began", || {
        ((old.h2.open(), old.sockets.open()) == (streams, tunnels)).then_some(())
    });
    gate.wait();
    let failures: Vec<String> =
        threads.into_iter().filter_map(|thread| thread.join().unwrap().err()).collect();
    assert!(failures.is_empty(), "{failures:#?}");
    until("all have ended", || (old.h2.open() == 0 && old.sockets.open() == 0).then_some(()));
    assert_eq!(old.sockets.broken(), 0, "tunnels that ended without a Close");
    until("nothing is in flight", || (gateway.metric("http_requests_in_flight") == 0.0).then_some(()));
    let took = started.elapsed();
    eprintln!("{streams} streams and {tunnels} tunnels through {CHANGES} changes in {took:?}");
    assert!(took < size.patience, "{took:?}");
}

#[test]
fn a_thousand_live_streams_survive_a_hundred_changes_a_new_certificate_and_a_roll() {
    none_is_cut(&Size { streams: 500, tunnels: 500, patience: Duration::from_secs(60) });
}

#[test]
fn all_ten_thousand_live_streams_survive_a_hundred_changes_a_new_certificate_and_a_roll() {
    raise_limit(16_000);
    none_is_cut(&Size { streams: 5_000, tunnels: 5_000, patience: Duration::from_secs(170) });
}
