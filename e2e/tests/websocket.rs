//! Tunnels: the handshake is decided like every request, after it every byte passes, and the end of the process is told.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use e2e::backend::{Backend, Reply};
use e2e::certificate::Authority;
use e2e::client::{Connection, Request};
use e2e::folder::{limit_policy, route, secret};
use e2e::h2_client::{H2Connection, H2Request, Tunnel};
use e2e::jwt;
use e2e::sockets::{ByHand, read_head_text};
use e2e::tls_client::{TlsConnection, config, offering_h2};
use e2e::until::until;
use e2e::websocket::{
    BINARY, CLOSE, EchoSocket, GOING_AWAY, KEY, NORMAL, PING, PONG, TEXT, WebSocket, accept, frame,
    handshake, refused,
};

use crate::site::{HOST, Site, address, site, site_with, spec};
use crate::streams::raise_limit;
use crate::tls_site::tls_route;

fn tunnels(upstream: SocketAddr, fields: &str, flags: &[&str]) -> Site {
    site_with(&route("shop", &spec(upstream, fields)), flags)
}

fn open(site: &Site, path: &str) -> WebSocket<TcpStream> {
    WebSocket::open(site.gateway.http, HOST, path).expect("a tunnel")
}

fn switched() -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept(KEY)
    )
}

#[test]
fn messages_of_every_kind_and_size_come_back() {
    let upstream = EchoSocket::start();
    let site = tunnels(upstream.address, "", &[]);
    let mut tunnel = open(&site, "/chat?room=1");
    tunnel.echo(TEXT, "Grüße".as_bytes()).unwrap();
    for length in [0, 1, 125, 126, 65_535, 65_536, 3 << 20] {
        let payload: Vec<u8> = (0..length).map(|i: usize| (i % 251) as u8).collect();
        tunnel.echo(BINARY, &payload).unwrap_or_else(|error| panic!("{length} bytes: {error}"));
    }
    tunnel.send(PING, b"there?").unwrap();
    let pong = tunnel.read().unwrap();
    assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, &b"there?"[..]));
    // A frame of which each byte comes alone.
    for byte in frame(TEXT, b"piece by piece", true) {
        tunnel.send_raw(&[byte]).unwrap();
    }
    assert_eq!(tunnel.read().unwrap().payload, b"piece by piece");
    tunnel.close(NORMAL).unwrap();
    assert_eq!(tunnel.read().unwrap().close_code(), Some(NORMAL));
    assert!(tunnel.rest().unwrap().is_empty());
    assert_eq!((upstream.closes(), upstream.broken()), (vec![NORMAL], 0));
    let head = upstream.heads().remove(0);
    assert!(head.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{head}");
    let lower = head.to_ascii_lowercase();
    for line in [
        "upgrade: websocket\r\n",
        "connection: upgrade\r\n",
        "sec-websocket-version: 13\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
    ] {
        assert!(lower.contains(line), "no {line:?} in {head}");
    }
}

#[test]
fn bytes_that_come_right_behind_the_handshake_reach_the_upstream_after_its_101() {
    // Hardening WS01.
    let upstream = EchoSocket::start();
    let site = tunnels(upstream.address, "", &[]);
    let mut bytes = handshake(HOST, "/").bytes();
    bytes.extend(frame(TEXT, b"early", true));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&bytes).unwrap();
    assert_eq!(connection.response_head().unwrap().0, 101);
    connection.send(&frame(CLOSE, &NORMAL.to_be_bytes(), true)).unwrap();
    let echoed = [frame(TEXT, b"early", false), frame(CLOSE, &NORMAL.to_be_bytes(), false)].concat();
    assert_eq!(connection.rest().unwrap(), echoed);
    // And the other way: bytes of the upstream in one write with its 101.
    let hasty = ByHand::start(|mut stream| {
        read_head_text(&mut stream)?;
        stream.write_all(&[switched().as_bytes(), &frame(TEXT, b"welcome", false)].concat())?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    });
    let site = tunnels(hasty.address, "", &[]);
    assert_eq!(open(&site, "/").read().unwrap().payload, b"welcome");
}

#[test]
fn without_a_101_the_bytes_behind_a_handshake_are_a_request_of_their_own() {
    // Hardening WS01, CVE-2026-2833.
    for status in [200, 404, 426, 500] {
        let backend = Backend::start(move |arrived| match arrived.target() {
            "/ws" => Reply::status(status, "no"),
            _ => Reply::ok("plain"),
        });
        let site = tunnels(backend.address, "retry: {attempts: 0}", &["--workers", "1"]);
        let mut bytes = handshake(HOST, "/ws").bytes();
        bytes.extend(Request::get(HOST, "/behind").header("X-Forwarded-For", "9.9.9.9").bytes());
        let mut connection = Connection::open(site.gateway.http).unwrap();
        connection.send(&bytes).unwrap();
        let response = connection.response("GET").unwrap();
        assert_eq!((response.status, response.text().as_str()), (status, "no"));
        if !response.closes() {
            assert_eq!(connection.response("GET").unwrap().text(), "plain");
        }
        // Raw bytes would have kept the client's own line.
        for arrived in backend.arrived() {
            assert_eq!(arrived.all("x-forwarded-for"), ["127.0.0.1"], "{status}: {}", arrived.head);
        }
    }
}

#[test]
fn while_the_upstream_has_not_answered_no_byte_behind_the_handshake_reaches_it() {
    // Hardening WS01: the upstream hangs.
    let (heard, hears) = mpsc::channel();
    let upstream = ByHand::start(move |mut stream| {
        let (_, mut behind) = read_head_text(&mut stream)?;
        stream.set_read_timeout(Some(Duration::from_millis(700)))?;
        let mut chunk = [0; 4096];
        while let Ok(count) = stream.read(&mut chunk) {
            if count == 0 {
                break;
            }
            behind.extend_from_slice(&chunk[..count]);
        }
        drop(heard.send(behind));
        Ok(())
    });
    let site = tunnels(upstream.address, "timeouts: {request: 2s}\nretry: {attempts: 0}", &[]);
    let mut bytes = handshake(HOST, "/ws").bytes();
    bytes.extend(Request::get(HOST, "/behind").bytes());
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&bytes).unwrap();
    let behind = hears.recv_timeout(Duration::from_secs(10)).expect("the upstream has listened");
    assert!(behind.is_empty(), "{:?}", String::from_utf8_lossy(&behind));
    let response = connection.response("GET").unwrap();
    assert!(matches!(response.status, 502 | 504), "{response:?}");
}

#[test]
fn a_version_that_the_upstream_refuses_makes_no_tunnel() {
    // Hardening WS02.
    let backend = Backend::start(|arrived| match arrived.all("sec-websocket-version").as_slice() {
        ["777"] => Reply::Bytes(
            b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
        ),
        _ => Reply::ok("plain"),
    });
    let site = tunnels(backend.address, "", &[]);
    let mut request = handshake(HOST, "/ws");
    request.headers.retain(|(name, _)| name != "Sec-WebSocket-Version");
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let response = connection.ask(&request.header("Sec-WebSocket-Version", "777")).unwrap();
    assert_eq!((response.status, response.header("sec-websocket-version")), (426, Some("13")));
    if !response.closes() {
        connection.send(&frame(TEXT, b"raw", true)).unwrap();
        connection.finish().unwrap();
        let rest = connection.rest().unwrap();
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400 "), "{rest:?}");
    }
    assert_eq!(backend.arrived().len(), 1);
}

#[test]
fn what_is_no_handshake_goes_on_as_a_plain_request_or_is_refused() {
    // Hardening WS02, WS03.
    let backend = Backend::named("plain");
    let site = tunnels(backend.address, "", &[]);
    let request = |method: &str, fields: &[(&str, &str)]| {
        fields
            .iter()
            .fold(Request::new(method, HOST, "/"), |request, (name, value)| request.header(name, value))
    };
    let websocket = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", KEY)];
    let with_connection = [&[("Connection", "Upgrade")][..], &websocket].concat();
    let of = |protocol: &'static str| [("Connection", "Upgrade"), ("Upgrade", protocol)];
    let cases = [
        ("POST", request("POST", &with_connection).body("x"), &[200, 400, 405][..]),
        ("no Connection", request("GET", &websocket), &[200, 400]),
        (
            "Connection: close",
            request("GET", &[&[("Connection", "close")][..], &websocket].concat()),
            &[200, 400],
        ),
        ("an unknown protocol", request("GET", &of("warp/9")), &[200]),
        ("h2c", request("GET", &of("h2c")), &[200]),
        ("TLS", request("GET", &of("TLS/1.2")), &[200]),
        ("another before it", request("GET", &of("warp/9, h2c")), &[200]),
        ("no protocol", request("GET", &of("")), &[200, 400]),
    ];
    for (what, request, statuses) in cases {
        let before = backend.arrived().len();
        let response = site.gateway.ask(&request);
        assert!(statuses.contains(&response.status), "{what}: {response:?}");
        for arrived in &backend.arrived()[before..] {
            assert!(arrived.all("upgrade").is_empty(), "{what}: {}", arrived.head);
            let connection = arrived.all("connection").join(",").to_ascii_lowercase();
            assert!(!connection.contains("upgrade"), "{what}: {}", arrived.head);
        }
    }
}

#[test]
fn a_route_names_the_protocols_that_may_be_changed_to() {
    // Hardening WS03.
    let switching = |protocol: &'static str| {
        ByHand::start(move |mut stream| {
            let (head, _) = read_head_text(&mut stream)?;
            let asked = head.to_ascii_lowercase().contains("\r\nupgrade:");
            let answer = if asked {
                format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
                )
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
            };
            stream.write_all(answer.as_bytes())?;
            io::copy(&mut stream.try_clone()?, &mut stream).map(drop)
        })
    };
    let cases = [
        ("", "websocket", 101),
        ("upgrades: [websocket]", "WebSocket", 101),
        ("upgrades: []", "websocket", 200),
        ("upgrades: [warp]", "websocket", 200),
        ("upgrades: [warp]", "warp", 101),
        ("", "warp", 200),
    ];
    for (fields, protocol, status) in cases {
        let upstream = switching(protocol);
        let site = tunnels(upstream.address, fields, &[]);
        let mut connection = Connection::open(site.gateway.http).unwrap();
        let request = handshake(HOST, "/");
        let headers = request.headers.into_iter().filter(|(name, _)| name != "Upgrade").collect();
        let request = Request { headers, ..request }.header("Upgrade", protocol);
        connection.send(&request.bytes()).unwrap();
        let (got, _) = connection.response_head().unwrap();
        assert_eq!(got, status, "{fields:?}, Upgrade: {protocol}");
        if status == 101 {
            connection.send(b"any bytes").unwrap();
            connection.finish().unwrap();
            assert_eq!(connection.rest().unwrap(), b"any bytes", "{fields:?}");
        }
    }
}

#[test]
fn a_101_that_nobody_asked_for_or_to_another_protocol_is_a_502() {
    // Hardening WS04, BE06.
    let upstream = ByHand::start(|mut stream| {
        let (head, _) = read_head_text(&mut stream)?;
        let protocol = if head.starts_with("GET /other ") { "warp/9" } else { "websocket" };
        let answer = switched().replace("Upgrade: websocket", &format!("Upgrade: {protocol}"));
        stream
            .write_all(&[answer.as_bytes(), b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"].concat())?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    });
    let site = tunnels(upstream.address, "retry: {attempts: 0}", &["--workers", "1"]);
    for request in [
        Request::get(HOST, "/"),
        Request::new("POST", HOST, "/").body("x"),
        Request::get(HOST, "/").header("Connection", "Upgrade").header("Upgrade", "h2c"),
        handshake(HOST, "/other"),
    ] {
        for _ in 0..2 {
            let mut connection = Connection::open(site.gateway.http).unwrap();
            let response = connection.ask(&request).unwrap();
            assert_eq!(response.status, 502, "{request:?}: {response:?}");
            assert!(!response.text().contains("evil"), "{response:?}");
        }
    }
    let mut h2 = H2Connection::plain(site.gateway.http).unwrap();
    assert_eq!(h2.get(HOST, "/").unwrap().status, 502);
}

#[test]
fn a_tunnel_has_an_idle_time_of_its_own() {
    // Hardening WS05.
    let upstream = EchoSocket::start();
    let flags = ["--idle-timeout", "300ms", "--read-timeout", "300ms", "--write-timeout", "300ms"];
    let fields = "timeouts: {idle: 300ms, request: 400ms, streamIdle: 1500ms}";
    let site = tunnels(upstream.address, fields, &flags);
    let mut tunnel = open(&site, "/");
    let opened = Instant::now();
    let mut next = Duration::ZERO;
    // Quiet for longer than every other limit, and again; all of it longer than its own.
    until("three seconds of a message each half second", || {
        if opened.elapsed() >= next {
            tunnel.echo(TEXT, b"alive").expect("the tunnel is open");
            next += Duration::from_millis(700);
        }
        (opened.elapsed() > Duration::from_secs(3)).then_some(())
    });
    let quiet = Instant::now();
    loop {
        match tunnel.read() {
            Ok(frame) => assert_eq!(frame.opcode, CLOSE, "{frame:?}"),
            Err(error) => {
                let ended = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
                assert!(ended.contains(&error.kind()), "{error}");
                break;
            }
        }
    }
    let took = quiet.elapsed();
    assert!(took > Duration::from_millis(700) && took < Duration::from_secs(6), "{took:?}");
    until("the upstream's side has ended", || (upstream.open() == 0).then_some(()));
}

#[test]
fn who_has_said_all_can_still_listen() {
    // Hardening WS05: half-closed on either side.
    let (heard, hears) = mpsc::channel();
    let upstream = ByHand::start(move |mut stream| {
        let (head, _) = read_head_text(&mut stream)?;
        stream.write_all(switched().as_bytes())?;
        if head.starts_with("GET /server ") {
            stream.write_all(b"all that I have")?;
            stream.shutdown(Shutdown::Write)?;
        }
        let mut said = Vec::new();
        stream.read_to_end(&mut said)?;
        drop(heard.send(said.clone()));
        drop(stream.write_all(&[b"you said: ", said.as_slice()].concat()));
        Ok(())
    });
    let site = tunnels(upstream.address, "", &[]);
    let mut client = open(&site, "/client");
    client.send_raw(b"one more thing").unwrap();
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest().unwrap(), b"you said: one more thing");
    assert_eq!(hears.recv_timeout(Duration::from_secs(10)).unwrap(), b"one more thing");

    let mut server = open(&site, "/server");
    let mut said = Vec::new();
    server.stream.read_to_end(&mut said).unwrap();
    assert!(b"all that I have".ends_with(&said), "{said:?}");
    server.send_raw(b"I still talk").unwrap();
    server.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(hears.recv_timeout(Duration::from_secs(10)).unwrap(), b"I still talk");
}

#[test]
fn a_side_that_breaks_ends_the_other() {
    let upstream = EchoSocket::start();
    let site = tunnels(upstream.address, "", &[]);
    let tunnel = open(&site, "/");
    until("the tunnel is open", || (upstream.open() == 1).then_some(()));
    drop(tunnel);
    until("the upstream's side has ended", || (upstream.open() == 0).then_some(()));
    let breaking = ByHand::start(|mut stream| {
        read_head_text(&mut stream)?;
        stream.write_all(switched().as_bytes())?;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    });
    let site = tunnels(breaking.address, "", &[]);
    let started = Instant::now();
    let mut tunnel = open(&site, "/");
    assert!(tunnel.read().is_err());
    assert!(started.elapsed() < Duration::from_secs(5));
    until("nothing is in flight", || (site.gateway.metric("http_requests_in_flight") == 0.0).then_some(()));
}

/// Sends this many blocks of 1 MiB and reads them back beside that; returns how much memory the gateway took, in KiB.
fn echo_blocks(blocks: u64) -> u64 {
    let upstream = EchoSocket::start();
    let site = tunnels(upstream.address, "", &["--access-log", "off"]);
    let mut tunnel = open(&site, "/");
    tunnel.echo(BINARY, b"first").unwrap();
    let before = site.gateway.process.resident_kib();
    let block = |number: u64| -> Vec<u8> {
        (0..1u64 << 20).map(|i| ((i + number).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    };
    let mut writer = tunnel.stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        (0..blocks).try_for_each(|number| writer.write_all(&frame(BINARY, &block(number), true)))
    });
    let mut most = before;
    for number in 0..blocks {
        let frame = tunnel.read().unwrap_or_else(|error| panic!("block {number}: {error}"));
        assert!(frame.payload == block(number), "block {number} is another");
        most = most.max(site.gateway.process.resident_kib());
    }
    sender.join().unwrap().unwrap();
    most - before
}

#[test]
fn a_quarter_of_a_gibibyte_comes_back_bit_exact_and_fills_no_memory() {
    // Hardening WS05.
    let grown = echo_blocks(256);
    assert!(grown < 8 << 10, "{grown} KiB");
}

#[test]
fn all_a_gibibyte_comes_back_bit_exact_and_fills_no_memory() {
    let grown = echo_blocks(1024);
    assert!(grown < 8 << 10, "{grown} KiB");
}

#[test]
fn a_client_that_takes_nothing_stops_the_upstream_and_fills_no_memory() {
    let upstream = ByHand::start(|mut stream| {
        read_head_text(&mut stream)?;
        stream.write_all(switched().as_bytes())?;
        let block = frame(BINARY, &vec![7; 1 << 20], false);
        (0..500).try_for_each(|_| stream.write_all(&block))
    });
    let site = tunnels(upstream.address, "", &[]);
    site.gateway.get("nobody.example.com", "/");
    let before = site.gateway.process.resident_kib();
    let _tunnel = open(&site, "/");
    let started = Instant::now();
    until("a second in which nobody reads", || {
        let grown = site.gateway.process.resident_kib().saturating_sub(before);
        assert!(grown < 8 << 10, "{grown} KiB more while nobody reads");
        (started.elapsed() > Duration::from_secs(1)).then_some(())
    });
}

#[test]
fn a_thousand_tunnels_on_which_nothing_happens_take_little_memory() {
    raise_limit(8_000);
    let upstream = EchoSocket::start();
    let site = tunnels(upstream.address, "", &["--access-log", "off"]);
    // What the first connections bring with them is there already.
    let mut first: Vec<_> = (0..50).map(|_| open(&site, "/")).collect();
    for tunnel in &mut first {
        tunnel.echo(BINARY, &[7; 4096]).unwrap();
    }
    let before = site.gateway.process.resident_kib();
    let mut idle: Vec<_> = (0..1000).map(|_| open(&site, "/")).collect();
    for tunnel in &mut idle {
        tunnel.echo(BINARY, &[7; 4096]).unwrap();
    }
    let grown = site.gateway.process.resident_kib().saturating_sub(before);
    println!("measured: {grown} KiB for a thousand idle tunnels");
    assert!(grown < 16 << 10, "{grown} KiB");
    assert_eq!(upstream.open(), 1050);
}

#[test]
fn tokens_and_limits_are_asked_of_the_handshake_once() {
    // Hardening WS06.
    let upstream = EchoSocket::start();
    let spec = format!(
        "hostnames: [{HOST}]
jwtProviders:
- {{name: p, anyIssuer: true, algorithms: [HS256], clockSkew: 0s, jwks: {{secretRef: {{name: key, key: secret}}}}}}
rules:
- {{name: token, matches: [{{path: {{type: PathPrefix, value: /token}}}}], auth: {{jwt: {{providers: [p]}}}}, backendRefs: [{to}]}}
- {{name: few, matches: [{{path: {{type: PathPrefix, value: /few}}}}], backendRefs: [{to}]}}",
        to = address(upstream.address)
    );
    let limit = limit_policy(
        "few",
        "targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop, sectionName: few}]
limits: [{name: few, rates: [{requests: 2, per: 1h}]}]",
    );
    let site = site(&(secret("key", "secret", "s") + &route("shop", &spec) + &limit));
    let http = site.gateway.http;
    assert_eq!(refused(http, &handshake(HOST, "/token")).unwrap().status, 401);
    let bad = handshake(HOST, "/token").header("Authorization", "Bearer x.y.z");
    assert_eq!(refused(http, &bad).unwrap().status, 401);
    assert_eq!(upstream.heads().len(), 0, "no refused handshake reaches the upstream");
    let mut claims = jwt::claims();
    claims["exp"] = (jwt::now() + 2).into();
    let bearer = format!("Bearer {}", jwt::hs256(b"s", &claims));
    let request = handshake(HOST, "/token").header("Authorization", &bearer);
    let stream = e2e::tls_client::connect(http).unwrap();
    let mut tunnel = WebSocket::open_over(stream, &request).unwrap();
    until("the token has expired", || {
        tunnel.echo(TEXT, b"still here").expect("the tunnel outlives its token");
        (refused(http, &request).is_ok_and(|response| response.status == 401)).then_some(())
    });
    tunnel.echo(TEXT, b"and now").unwrap();

    let mut first = open(&site, "/few");
    let mut second = open(&site, "/few");
    let third = refused(http, &handshake(HOST, "/few")).unwrap();
    assert_eq!(third.status, 429);
    assert!(third.header("retry-after").is_some());
    for number in 0..20 {
        first.echo(TEXT, b"x").unwrap_or_else(|error| panic!("message {number}: {error}"));
        second.echo(TEXT, b"y").unwrap_or_else(|error| panic!("message {number}: {error}"));
    }
}

#[test]
fn tunnels_survive_twenty_changes_of_their_route() {
    let upstream = EchoSocket::start();
    let site = tunnels(upstream.address, "", &[]);
    let mut tunnels: Vec<_> = (0..10).map(|_| open(&site, "/")).collect();
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for version in 1..=20 {
        let filter = format!(
            "filters: [{{type: DirectResponse, directResponse: {{statusCode: 200, body: \"{version}\"}}}}]"
        );
        // The tunnel's own rule is gone: it answers itself now.
        let spec = crate::site::spec_without_backend(&filter);
        site.folder.write("all.yaml", &route("shop", &spec));
        until("the change is live", || {
            let response = connection.ask(&Request::get(HOST, "/")).expect("an answer");
            (response.text() == version.to_string()).then_some(())
        });
        for (number, tunnel) in tunnels.iter_mut().enumerate() {
            let text = format!("tunnel {number}, version {version}");
            tunnel.echo(TEXT, text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }
    site.folder.remove("all.yaml");
    until("the route is gone", || {
        let response = connection.ask(&Request::get(HOST, "/")).expect("an answer");
        (response.status == 404).then_some(())
    });
    for tunnel in &mut tunnels {
        tunnel.echo(TEXT, b"the last").unwrap();
    }
    assert_eq!((upstream.opened(), upstream.broken()), (10, 0));
}

#[test]
fn a_drain_closes_tunnels_with_1001_in_its_second_half_and_ends_then() {
    // Hardening DR02.
    let upstream = EchoSocket::start();
    let flags = ["--lame-duck", "0s", "--drain", "4s"];
    let mut site = tunnels(upstream.address, "", &flags);
    let mut tunnels: Vec<_> = (0..20).map(|_| open(&site, "/")).collect();
    for tunnel in &mut tunnels {
        tunnel.echo(TEXT, b"before").unwrap();
    }
    site.gateway.process.signal("TERM");
    let signalled = Instant::now();
    until("the first half of the drain", || {
        for tunnel in &mut tunnels {
            tunnel.echo(TEXT, b"while draining").expect("a tunnel in the first half");
        }
        (signalled.elapsed() > Duration::from_millis(1300)).then_some(())
    });
    for (number, tunnel) in tunnels.iter_mut().enumerate() {
        let close = tunnel.read().unwrap_or_else(|error| panic!("tunnel {number}: {error}"));
        assert_eq!(close.close_code(), Some(GOING_AWAY), "tunnel {number}: {close:?}");
        let took = signalled.elapsed();
        assert!(
            took > Duration::from_millis(1800) && took < Duration::from_secs(6),
            "tunnel {number}: {took:?}"
        );
        // As a client should (RFC 6455 §5.5.1).
        drop(tunnel.close(GOING_AWAY));
    }
    let (status, _) = site.gateway.process.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{:#?}", site.gateway.process.stderr());
}

#[test]
fn a_drain_waits_no_longer_than_for_the_last_tunnel() {
    let upstream = EchoSocket::start();
    let mut site = tunnels(upstream.address, "", &["--lame-duck", "0s", "--drain", "60s"]);
    let mut tunnel = open(&site, "/");
    tunnel.echo(TEXT, b"before").unwrap();
    site.gateway.process.signal("TERM");
    tunnel.echo(TEXT, b"while draining").unwrap();
    tunnel.close(NORMAL).unwrap();
    assert_eq!(tunnel.read().unwrap().close_code(), Some(NORMAL));
    let (status, took) = site.gateway.process.wait(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn tunnels_go_over_tls() {
    let authority = Authority::new();
    let upstream = EchoSocket::start();
    let yaml =
        authority.issue(&[HOST]).secret("shop") + &tls_route("shop", HOST, "shop", "", upstream.address);
    let site = site(&yaml);
    let client = Arc::new(config(&authority));
    let stream = TlsConnection::open(site.gateway.https, HOST, &client).unwrap().into_stream();
    let mut tunnel = WebSocket::open_over(stream, &handshake(HOST, "/")).unwrap();
    for length in [1, 16 << 10, 200 << 10] {
        tunnel.echo(BINARY, &vec![3; length]).unwrap_or_else(|error| panic!("{length} bytes: {error}"));
    }
    tunnel.close(NORMAL).unwrap();
    assert_eq!(tunnel.read().unwrap().close_code(), Some(NORMAL));
    assert!(tunnel.rest().expect("a close_notify").is_empty());
    assert!(upstream.heads()[0].to_ascii_lowercase().contains("x-forwarded-proto: https\r\n"));
}

#[test]
fn a_tunnel_is_a_stream_of_http2_with_extended_connect() {
    // RFC 8441, hardening WS05.
    let authority = Authority::new();
    let upstream = EchoSocket::start();
    let yaml =
        authority.issue(&[HOST]).secret("shop") + &tls_route("shop", HOST, "shop", "", upstream.address);
    let site = site(&yaml);
    let client = offering_h2(config(&authority));
    for mut connection in [
        H2Connection::tls(site.gateway.https, HOST, &client).unwrap(),
        H2Connection::plain(site.gateway.http).unwrap(),
    ] {
        connection.settle().unwrap();
        assert!(connection.peer.connect_protocol, "SETTINGS_ENABLE_CONNECT_PROTOCOL");
        let stream = connection.open(&H2Request::websocket(HOST, "/chat?room=1"), false).unwrap();
        let (status, headers) = connection.head(stream).unwrap();
        assert_eq!(status, 200, "{headers:?}");
        for (name, _) in &headers {
            assert!(
                !["upgrade", "connection", "sec-websocket-accept"].contains(&name.as_str()),
                "{headers:?}"
            );
        }
        let mut tunnel = WebSocket::over(Tunnel { connection, stream });
        for length in [0, 1, 126, 65_536, 300 << 10] {
            tunnel.echo(BINARY, &vec![5; length]).unwrap_or_else(|error| panic!("{length} bytes: {error}"));
        }
        // Beside it, on the same connection.
        let other = tunnel.stream.connection.open(&H2Request::websocket(HOST, "/other"), false).unwrap();
        assert_eq!(tunnel.stream.connection.head(other).unwrap().0, 200);
        tunnel.close(NORMAL).unwrap();
        assert_eq!(tunnel.read().unwrap().close_code(), Some(NORMAL));
        assert!(tunnel.rest().unwrap().is_empty());
    }
    let heads = upstream.heads();
    assert!(heads[0].starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{}", heads[0]);
    let lower = heads[0].to_ascii_lowercase();
    for line in [
        "upgrade: websocket\r\n",
        "connection: upgrade\r\n",
        "sec-websocket-version: 13\r\n",
        "sec-websocket-key: ",
    ] {
        assert!(lower.contains(line), "no {line:?} in {}", heads[0]);
    }
    assert!(!lower.contains(":protocol"), "{}", heads[0]);
}

#[test]
fn an_extended_connect_that_is_not_taken_is_an_answer() {
    let backend = Backend::start(|_| Reply::status(404, "no such room"));
    let site = tunnels(backend.address, "", &[]);
    let mut connection = H2Connection::plain(site.gateway.http).unwrap();
    connection.settle().unwrap();
    let stream = connection.open(&H2Request::websocket(HOST, "/"), false).unwrap();
    connection.send_data(stream, &frame(TEXT, b"early", true), false).unwrap();
    let response = connection.response(stream).unwrap();
    assert_eq!((response.status, response.text().as_str()), (404, "no such room"));
    let arrived = backend.arrived();
    assert!(arrived.len() == 1 && arrived[0].body.is_empty(), "{arrived:?}");
    let mut other = H2Request::websocket(HOST, "/");
    other = other.set(":protocol", "warp");
    let outcome = connection.outcome_of(&other);
    assert!(!matches!(outcome.status(), Some(200)), "{outcome:?}");
    let unmatched = connection.outcome_of(&H2Request::websocket("nobody.example.com", "/"));
    assert_eq!(unmatched.status(), Some(404));
}

#[test]
fn a_tunnel_is_one_line_of_the_access_log_when_it_ends() {
    let upstream = EchoSocket::start();
    let site = tunnels(upstream.address, "", &[]);
    let mut tunnel = open(&site, "/chat");
    tunnel.echo(TEXT, b"hello").unwrap();
    tunnel.close(NORMAL).unwrap();
    tunnel.read().unwrap();
    drop(tunnel);
    let line = site.gateway.access_line("the tunnel's line", |line| line["path"] == "/chat");
    assert_eq!((&line["status"], &line["route"]), (&101.into(), &"shop/shop/all".into()), "{line}");
    let series = "http_requests_total{method=\"GET\",endpoint=\"shop/shop/all\",status_code=\"101\"}";
    until("it is counted", || (site.gateway.metric(series) == 1.0).then_some(()));
}
