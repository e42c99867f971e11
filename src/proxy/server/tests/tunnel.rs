//! Upgrades and the tunnels behind them (hardening WS01 to WS06).

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use ir::TlsVersion::V1_2;
use ir::{Action, BackendId, BackendTarget, Route, Upgrades, WeightedBackend};

use super::support::{Answer, Site, ask, dial, read_to_end, route, until};
use crate::settings::{AccessLogTarget, Settings};
use crate::tls::testing::{Issued, tls};

const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
];
const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nx-hop: 1\r\n\r\n";
const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// An upstream of which each connection is served by the script. The port, and the heads of the requests it gets.
fn upstream(
    script: impl Fn(&mut TcpStream, &str) -> io::Result<()> + Send + Sync + 'static,
) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heads, seen) = mpsc::channel();
    let script = Arc::new(script);
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let (mut tcp, script, heads) = (tcp.unwrap(), Arc::clone(&script), heads.clone());
            tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            thread::spawn(move || {
                while let Ok(head) = read_head(&mut tcp) {
                    if heads.send(head.clone()).is_err() || script(&mut tcp, &head).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (port, seen)
}

/// To the blank line and not a byte further.
fn read_head(io: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0u8];
        io.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    Ok(String::from_utf8(head).unwrap())
}

fn exactly(io: &mut impl Read, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    io.read_exact(&mut bytes).unwrap();
    bytes
}

/// Says that the protocol is changed, and sends back what comes.
fn echo(tcp: &mut TcpStream, _: &str) -> io::Result<()> {
    tcp.write_all(SWITCHED)?;
    let mut part = vec![0; 64 << 10];
    loop {
        match tcp.read(&mut part)? {
            0 => break,
            count => tcp.write_all(&part[..count])?,
        }
    }
    tcp.shutdown(Shutdown::Write)?;
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn to_backend() -> Route {
    let id = BackendId::Service { namespace: "shop".into(), name: "web".into(), port: 80 };
    let target = BackendTarget::Backend(id);
    let action = Action::Forward {
        backends: vec![WeightedBackend { target, weight: 1, protocol: ir::UpstreamProtocol::default() }],
        rewrite: None,
        retry: ir::Retry::default(),
        circuit_breaker: ir::CircuitBreaker::default(),
        load_balancing: ir::LoadBalancing::default(),
        passive_health: None,
        active_health: None,
        upgrades: Upgrades::default(),
        grpc_web: false,
    };
    Route { action, ..route("all", &[]) }
}

fn set_port(site: &Site, port: u16) {
    let id = BackendId::Service { namespace: "shop".into(), name: "web".into(), port: 80 };
    let endpoint = ir::Endpoint { host: "127.0.0.1".into(), port };
    let endpoints =
        Arc::new(ir::BackendEndpoints { endpoints: vec![endpoint], local: Vec::new(), near: Vec::new() });
    site.set_endpoints(ir::EndpointMap { backends: BTreeMap::from([(id, endpoints)]) });
}

fn site(settings: Settings, route: Route, port: u16) -> Site {
    let one = Issued::of(&["a.example"]).secret("one");
    let site = Site::unconfigured(settings);
    // Endpoints come first, or the first request could find none.
    set_port(&site, port);
    site.publish(&[route], &tls(&[("a.example", Some(&one), V1_2)], None));
    let probe = || ask(&mut dial(site.http), "GET", "a.example", "/probe", &[]).unwrap().status;
    until("the endpoint is known", || probe() != 503);
    site
}

fn handshake_text() -> String {
    let fields: String = HANDSHAKE.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET /chat HTTP/1.1\r\nhost: a.example\r\n{fields}\r\n")
}

/// For scripts that answer the probe as an ordinary request.
fn or_probe(
    script: impl Fn(&mut TcpStream, &str) -> io::Result<()> + Send + Sync + 'static,
) -> impl Fn(&mut TcpStream, &str) -> io::Result<()> + Send + Sync + 'static {
    move |tcp, head| if head.starts_with("GET /probe ") { tcp.write_all(EMPTY) } else { script(tcp, head) }
}

/// Opens a WebSocket whose answer's head is given back.
fn open(io: &mut (impl Read + Write)) -> String {
    io.write_all(handshake_text().as_bytes()).unwrap();
    read_head(io).unwrap()
}

fn upgrade(io: &mut (impl Read + Write)) -> Answer {
    ask(io, "GET", "a.example", "/chat", &HANDSHAKE).unwrap()
}

fn tunnels(site: &Site) -> f64 {
    site.metric("baribhara_tunnels_open")
}

fn finished(site: &Site, status: u16) -> f64 {
    let labels = format!("method=\"GET\",endpoint=\"shop/all/r\",status_code=\"{status}\"");
    site.metric(&format!("http_requests_total{{{labels}}}"))
}

#[test]
fn what_both_sides_say_early_waits_for_the_101_and_comes_through() {
    let (port, heads) = upstream(or_probe(|tcp, _| {
        // Nothing of the client's is here before the answer.
        tcp.set_read_timeout(Some(Duration::from_millis(50)))?;
        assert!(tcp.read(&mut [0]).is_err());
        tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
        tcp.write_all(&[SWITCHED, b"early answer"].concat())?;
        assert_eq!(exactly(tcp, 10), b"early word");
        tcp.write_all(b", bye")?;
        Err(io::ErrorKind::UnexpectedEof.into())
    }));
    let site = site(Settings::default(), to_backend(), port);
    let mut client = dial(site.http);
    client.write_all(format!("{}early word", handshake_text()).as_bytes()).unwrap();
    let head = read_head(&mut client).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for line in
        ["connection: upgrade\r\n", "upgrade: WebSocket\r\n", "sec-websocket-accept: s3pP", "x-hop: 1"]
    {
        assert_eq!(head.matches(line).count(), 1, "{line} in {head}");
    }
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    assert_eq!(read_to_end(&client), b"early answer, bye");
    drop(client);
    let head = heads.iter().find(|head| head.contains("/chat")).unwrap();
    for line in ["\r\nconnection: upgrade\r\n", "\r\nupgrade: websocket\r\n", "\r\nsec-websocket-key: dGhl"] {
        assert_eq!(head.matches(line).count(), 1, "{line:?} in {head}");
    }
    until("it is over", || tunnels(&site) == 0.0 && finished(&site, 101) == 1.0);
}

#[test]
fn behind_any_other_answer_comes_the_next_request() {
    for status in
        ["200 OK", "404 Not Found", "426 Upgrade Required\r\nupgrade: websocket\r\nsec-websocket-version: 13"]
    {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nno");
        let (port, heads) = upstream(move |tcp, _| tcp.write_all(answer.as_bytes()));
        let site = site(Settings::default(), to_backend(), port);
        let mut client = dial(site.http);
        let next = "GET /next HTTP/1.1\r\nhost: a.example\r\nx-forwarded-for: 6.6.6.6\r\n\r\n";
        client.write_all(format!("{}{next}", handshake_text()).as_bytes()).unwrap();
        for path in ["/chat", "/next"] {
            let head = read_head(&mut client).unwrap();
            assert!(head.contains(status.split("\r\n").next().unwrap()), "{head}");
            assert_eq!(exactly(&mut client, 2), b"no");
            for line in ["\r\nconnection: upgrade\r\n", "\r\nupgrade: websocket\r\n"] {
                assert_eq!(head.contains(line), status.starts_with("426"), "{line:?} in {head}");
            }
            let asked = heads.iter().find(|head| !head.contains("/probe")).unwrap();
            assert!(asked.starts_with(&format!("GET {path} ")), "{asked}");
            assert!(asked.contains("x-forwarded-for: 127.0.0.1\r\n"), "{asked}");
        }
        assert_eq!(tunnels(&site), 0.0);
    }
}

#[test]
fn an_upstream_that_hangs_is_given_up_and_the_connection_kept() {
    let (port, _heads) = upstream(|tcp, head| {
        if head.contains("/chat") {
            exactly(tcp, 1);
        }
        tcp.write_all(EMPTY)
    });
    let timeouts = ir::Timeouts { request: Some(Duration::from_millis(300)), ..ir::Timeouts::default() };
    let site = site(Settings::default(), Route { timeouts, ..to_backend() }, port);
    let mut client = dial(site.http);
    assert_eq!(upgrade(&mut client).status, 504);
    assert_eq!(ask(&mut client, "GET", "a.example", "/", &[]).unwrap().status, 200);
}

#[test]
fn a_request_timeout_does_not_bound_the_tunnel() {
    let (port, _heads) = upstream(or_probe(echo));
    let timeouts = ir::Timeouts {
        request: Some(Duration::from_millis(200)),
        per_try: Some(Duration::from_millis(200)),
        idle: Some(Duration::from_millis(200)),
        ..ir::Timeouts::default()
    };
    let settings = Settings { read_timeout: Duration::from_millis(600), ..Settings::default() };
    let site = site(settings, Route { timeouts, ..to_backend() }, port);
    let mut client = dial(site.http);
    assert!(open(&mut client).contains(" 101 "));
    // A head that does not come is a clock.
    assert_eq!(read_to_end(&dial(site.http)), b"");
    client.write_all(b"still here").unwrap();
    assert_eq!(exactly(&mut client, 10), b"still here");
}

#[test]
fn a_101_that_was_not_asked_for_is_no_answer() {
    let (port, _heads) = upstream(or_probe(|tcp, head| {
        let text = std::str::from_utf8(SWITCHED).unwrap();
        tcp.write_all(
            if head.contains("/chat") { text.replace("WebSocket", "h2c") } else { text.to_owned() }
                .as_bytes(),
        )
    }));
    let site = site(Settings::default(), to_backend(), port);
    for path in ["/", "/chat"] {
        let fields = if path == "/" { &[][..] } else { &HANDSHAKE[..] };
        let answer = ask(&mut dial(site.http), "GET", "a.example", path, fields).unwrap();
        assert_eq!(answer.status, 502, "{path}: {answer:?}");
        assert!(answer.body.contains("upstream-invalid"), "{answer:?}");
    }
    assert_eq!(tunnels(&site), 0.0);
}

#[test]
fn what_asks_wrongly_is_an_ordinary_request() {
    let (port, heads) = upstream(|tcp, _| tcp.write_all(EMPTY));
    let site = site(Settings::default(), to_backend(), port);
    let with = |name: &str, value: &'static str| {
        HANDSHAKE.map(|(field, old)| if field == name { (field, value) } else { (field, old) })
    };
    for (case, method, fields) in [
        ("POST", "POST", HANDSHAKE),
        ("unknown protocol", "GET", with("upgrade", "tls/1.0")),
        ("h2c", "GET", with("upgrade", "h2c")),
        ("without Connection", "GET", with("connection", "keep-alive")),
    ] {
        assert_eq!(
            ask(&mut dial(site.http), method, "a.example", "/x", &fields).unwrap().status,
            200,
            "{case}"
        );
        let head = heads.iter().find(|head| head.contains(" /x ")).unwrap();
        assert!(!head.contains("\r\nupgrade:") && !head.contains("\r\nconnection:"), "{case}: {head}");
    }
}

#[test]
fn an_upgrade_is_not_sent_twice() {
    let (port, heads) = upstream(or_probe(|_, _| Err(io::ErrorKind::UnexpectedEof.into())));
    let site = site(Settings::default(), to_backend(), port);
    // On the connection of the probe: another GET would get a second try on a new one.
    assert_eq!(upgrade(&mut dial(site.http)).status, 502);
    assert_eq!(ask(&mut dial(site.http), "GET", "a.example", "/last", &[]).unwrap().status, 502);
    let asked: Vec<String> = heads.try_iter().filter(|head| !head.contains("/probe")).collect();
    let count = |path| asked.iter().filter(|head| head.contains(path)).count();
    assert_eq!((count("/chat"), count("/last")), (1, 2), "{asked:?}");
}

#[test]
fn a_route_says_which_protocols_pass_and_the_101_is_edited_like_any_answer() {
    let (port, heads) = upstream(or_probe(|tcp, _| {
        tcp.write_all(
            b"HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: chat/2\r\ncontent-length: 7\r\n\r\n",
        )?;
        let word = exactly(tcp, 4);
        tcp.write_all(&word)?;
        Err(io::ErrorKind::UnexpectedEof.into())
    }));
    let mut route = to_backend();
    if let Action::Forward { upgrades, .. } = &mut route.action {
        *upgrades = Upgrades::new(["chat/2"]);
    }
    route.header_edits.response.set =
        vec![(http::HeaderName::from_static("x-set"), http::HeaderValue::from_static("by a rule"))];
    let site = site(Settings::default(), route, port);
    let mut client = dial(site.http);
    let request = "GET /chat HTTP/1.1\r\nhost: a.example\r\nconnection: close, upgrade\r\n\
        upgrade: websocket, Chat/2\r\n\r\nword";
    client.write_all(request.as_bytes()).unwrap();
    let head = read_head(&mut client).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("\r\nx-set: by a rule\r\n"), "{head}");
    assert!(head.contains("\r\nupgrade: chat/2\r\n") && head.contains("\r\nconnection: upgrade"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    assert_eq!(read_to_end(&client), b"word");
    let asked = heads.iter().find(|head| head.contains("/chat")).unwrap();
    assert!(asked.contains("\r\nupgrade: chat/2\r\n") && !asked.contains("websocket"), "{asked}");
}

#[test]
fn each_direction_ends_on_its_own() {
    let (port, _heads) = upstream(or_probe(|tcp, head| {
        tcp.write_all(SWITCHED)?;
        if head.contains("key-of-the-first") {
            // The client ends first.
            let mut all = Vec::new();
            tcp.read_to_end(&mut all)?;
            tcp.write_all(&all)?;
        } else {
            tcp.write_all(b"all I say")?;
            tcp.shutdown(Shutdown::Write)?;
            let mut all = Vec::new();
            tcp.read_to_end(&mut all)?;
            assert_eq!(all, b"all you say");
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }));
    let site = site(Settings::default(), to_backend(), port);
    let mut client = dial(site.http);
    let handshake = handshake_text().replace("dGhlIHNhbXBsZSBub25jZQ==", "key-of-the-first");
    client.write_all(format!("{handshake}said").as_bytes()).unwrap();
    read_head(&mut client).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&client), b"said");
    let mut client = dial(site.http);
    open(&mut client);
    assert_eq!(read_to_end(&client), b"all I say");
    assert_eq!(tunnels(&site), 1.0);
    client.write_all(b"all you say").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    until("both are over", || tunnels(&site) == 0.0 && finished(&site, 101) == 2.0);
}

/// Bytes that repeat themselves late.
fn noise(part: &mut [u8], state: &mut u64) {
    for byte in part {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = state.to_be_bytes()[0];
    }
}

fn pump(mut to: impl Write, total: usize, seed: u64) -> u64 {
    let (mut part, mut state, mut hash) = (vec![0; 40_000], seed, DefaultHasher::new());
    let mut left = total;
    while left > 0 {
        let count = left.min(part.len());
        noise(&mut part[..count], &mut state);
        hash.write(&part[..count]);
        to.write_all(&part[..count]).unwrap();
        left -= count;
    }
    hash.finish()
}

fn drain_into_hash(mut from: impl Read, total: usize) -> u64 {
    // In the very parts in which they were hashed when they were sent.
    let (mut hash, mut left) = (DefaultHasher::new(), total);
    while left > 0 {
        let part = exactly(&mut from, left.min(40_000));
        hash.write(&part);
        left -= part.len();
    }
    hash.finish()
}

#[test]
fn many_bytes_go_both_ways_at_once_and_arrive_as_they_were() {
    const TOTAL: usize = 64 << 20;
    let (hashes, sent_and_got) = mpsc::channel();
    let (port, _heads) = upstream(or_probe(move |tcp, _| {
        tcp.write_all(SWITCHED)?;
        let (from, to) = (tcp.try_clone()?, tcp.try_clone()?);
        let reader = thread::spawn(move || drain_into_hash(from, TOTAL));
        let sent = pump(to, TOTAL, 1);
        hashes.send((sent, reader.join().unwrap())).unwrap();
        Err(io::ErrorKind::UnexpectedEof.into())
    }));
    let site = site(Settings::default(), to_backend(), port);
    let mut client = dial(site.http);
    open(&mut client);
    let to = client.try_clone().unwrap();
    let writer = thread::spawn(move || pump(to, TOTAL, 2));
    let got = drain_into_hash(&client, TOTAL);
    let (upstream_sent, upstream_got) = sent_and_got.recv().unwrap();
    assert_eq!(got, upstream_sent);
    assert_eq!(upstream_got, writer.join().unwrap());
}

#[test]
fn a_tunnel_on_which_nothing_happens_ends_after_its_idle_time() {
    let (port, _heads) = upstream(or_probe(echo));
    let timeouts = ir::Timeouts { stream_idle: Some(Duration::from_millis(400)), ..ir::Timeouts::default() };
    let site = site(Settings::default(), Route { timeouts, ..to_backend() }, port);
    let mut client = dial(site.http);
    open(&mut client);
    let began = Instant::now();
    assert_eq!(read_to_end(&client), b"");
    assert!(
        began.elapsed() >= Duration::from_millis(300),
        "the clock of the tunnel is a little ahead at most"
    );
    until("it is over", || tunnels(&site) == 0.0 && finished(&site, 101) == 1.0);
    assert_eq!(site.metric("http_requests_in_flight"), 0.0);
}

#[test]
fn a_client_that_takes_nothing_for_a_while_keeps_its_tunnel() {
    const TOTAL: usize = 32 << 20;
    let (port, _heads) = upstream(or_probe(|tcp, _| {
        tcp.write_all(SWITCHED)?;
        pump(&mut *tcp, TOTAL, 3);
        Err(io::ErrorKind::UnexpectedEof.into())
    }));
    let settings = Settings {
        write_timeout: Duration::from_millis(100),
        read_timeout: Duration::from_millis(800),
        ..Settings::default()
    };
    let site = site(settings, to_backend(), port);
    let mut client = dial(site.http);
    open(&mut client);
    // A head that does not come is a clock.
    assert_eq!(read_to_end(&dial(site.http)), b"");
    assert_eq!(tunnels(&site), 1.0);
    assert_eq!(drain_into_hash(&client, TOTAL), pump(io::sink(), TOTAL, 3));
}

#[test]
fn a_drain_says_1001_and_waits_for_the_close() {
    let (closes, close) = mpsc::channel();
    let (port, _heads) = upstream(or_probe(move |tcp, _| {
        tcp.write_all(SWITCHED)?;
        tcp.write_all(&[0x81, 5, b'h', b'e'])?;
        // The rest of the frame comes when the client has said something in the drain.
        assert_eq!(exactly(tcp, 7), [0x81, 0x81, 0, 0, 0, 0, b'x']);
        tcp.write_all(b"llo")?;
        closes.send(exactly(tcp, 8)).unwrap();
        tcp.write_all(&[0x88, 2, 3, 0xe9])?;
        Err(io::ErrorKind::UnexpectedEof.into())
    }));
    let settings = Settings { drain: Duration::from_secs(4), ..Settings::default() };
    let mut site = site(settings, to_backend(), port);
    let mut client = dial(site.http);
    open(&mut client);
    assert_eq!(exactly(&mut client, 4), [0x81, 5, b'h', b'e']);
    let http = site.http;
    let began = Instant::now();
    let stopped = site.stop();
    until("the listener is closed", || TcpStream::connect(http).is_err());
    client.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'x']).unwrap();
    assert_eq!(exactly(&mut client, 3), b"llo");
    assert_eq!(exactly(&mut client, 4), [0x88, 2, 3, 0xe9]);
    assert!(began.elapsed() >= Duration::from_secs(2), "in the second half of the drain");
    let said = close.recv().unwrap();
    let mask = &said[2..6];
    assert_eq!(said[..2], [0x88, 0x82]);
    assert_eq!([said[6] ^ mask[0], said[7] ^ mask[1]], [3, 0xe9]);
    client.write_all(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xe9]).unwrap();
    assert_eq!(read_to_end(&client), b"");
    stopped.join().unwrap();
}

#[test]
fn the_end_of_the_drain_ends_every_tunnel() {
    let (port, _heads) = upstream(or_probe(|tcp, _| {
        tcp.write_all(SWITCHED)?;
        // A frame that never ends: there is no place for a goodbye.
        tcp.write_all(&[0x82, 126, 1, 0, b'x'])?;
        let mut rest = Vec::new();
        tcp.read_to_end(&mut rest)?;
        Err(io::ErrorKind::UnexpectedEof.into())
    }));
    let path = std::env::temp_dir().join(format!("baribhara-cut-log-{}", std::process::id()));
    let access_log = AccessLogTarget::File(path.clone());
    let settings = Settings { drain: Duration::from_millis(500), access_log, ..Settings::default() };
    let mut site = site(settings, to_backend(), port);
    let mut client = dial(site.http);
    open(&mut client);
    site.stop().join().unwrap();
    assert_eq!(read_to_end(&client), [0x82, 126, 1, 0, b'x']);
    let log = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let line = log.lines().find(|line| line.contains("/chat")).unwrap();
    assert!(line.contains("\"status\":101,") && line.contains("\"bytes_out\":5,"), "{line}");
}

/// Lets each path be asked for once, or by one at a time.
fn limited(concurrency: Option<ir::Concurrency>) -> Route {
    let once =
        ir::Rate { requests: 1, per: Duration::from_secs(3600), burst: 1, counting: ir::RateCounting::Gcra };
    let limit = ir::Limit {
        name: "once".into(),
        when: None,
        keys: vec![ir::LimitKey::Path],
        rates: if concurrency.is_none() { vec![once] } else { Vec::new() },
        cost: ir::LimitCost::default(),
        concurrency,
        keys_max: 10,
        mode: ir::LimitMode::Enforce,
        phase: ir::LimitPhase::PreAuth,
    };
    let source = ir::ObjectRef::new(ir::Kind::RateLimitPolicy, "shop", "limit");
    let limits = vec![Arc::new(ir::LimitPolicy {
        source,
        counter_scope: ir::CounterScope::Policy,
        headers: ir::LimitHeaders::Standard,
        answer: None,
        limits: vec![limit],
    })];
    Route { limits, ..to_backend() }
}

#[test]
fn policies_hold_for_the_handshake_and_once() {
    let (port, _heads) = upstream(or_probe(echo));
    let site = site(Settings::default(), limited(None), port);
    let mut first = dial(site.http);
    assert!(open(&mut first).contains(" 101 "));
    assert_eq!(upgrade(&mut dial(site.http)).status, 429);
    // What passes through the tunnel is nobody's request.
    for _ in 0..10 {
        first.write_all(b"word").unwrap();
        assert_eq!(exactly(&mut first, 4), b"word");
    }
}

#[test]
fn a_tunnel_holds_its_place_until_it_is_closed() {
    let (port, _heads) = upstream(or_probe(echo));
    let places = ir::Concurrency { max: 1, queue: 0, queue_timeout: Duration::from_secs(1) };
    let site = site(Settings::default(), limited(Some(places)), port);
    let mut first = dial(site.http);
    assert!(open(&mut first).contains(" 101 "));
    let refused = upgrade(&mut dial(site.http));
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    first.write_all(b"word").unwrap();
    assert_eq!(exactly(&mut first, 4), b"word");
    drop(first);
    until("the place is free", || {
        let mut next = dial(site.http);
        open(&mut next).contains(" 101 ")
    });
}

#[test]
fn a_tunnel_of_a_client_with_tls_ends_in_order() {
    let (port, _heads) = upstream(or_probe(echo));
    let site = site(Settings::default(), to_backend(), port);
    let mut client = site.connect("a.example");
    client.write_all(format!("{}early", handshake_text()).as_bytes()).unwrap();
    assert!(read_head(&mut client).unwrap().contains(" 101 "));
    assert_eq!(exactly(&mut client, 5), b"early");
    let large = vec![7; 1 << 20];
    client.write_all(&large[..100_000]).unwrap();
    assert_eq!(exactly(&mut client, 100_000), large[..100_000]);
    client.conn.send_close_notify();
    client.flush().unwrap();
    // The echo ends, too: by close_notify, or this would be an error.
    assert_eq!(client.read(&mut [0; 10]).unwrap(), 0);
    until("it is over", || tunnels(&site) == 0.0);
}

#[test]
fn a_tunnel_outlives_its_generation_and_does_not_keep_it() {
    let (port, _heads) = upstream(or_probe(echo));
    let site = site(Settings::default(), limited(None), port);
    let mut client = dial(site.http);
    open(&mut client);
    assert_eq!(upgrade(&mut dial(site.http)).status, 429);
    // A series lives as long as something of its route does.
    let refused = || site.metric("baribhara_ratelimit_rejected_total{policy=\"shop/limit\",limit=\"once\"}");
    assert_eq!(refused(), 1.0);
    site.publish(&[route("other", &[])], &tls(&[], None));
    assert_eq!(ask(&mut dial(site.http), "GET", "a.example", "/", &[]).unwrap().body, "other");
    until("the old configuration is gone", || refused() == 0.0);
    client.write_all(b"word").unwrap();
    assert_eq!(exactly(&mut client, 4), b"word");
    // But it is counted for its route.
    assert_eq!((tunnels(&site), finished(&site, 101)), (1.0, 0.0));
    site.publish(&[to_backend()], &tls(&[], None));
    drop(client);
    until("it is counted", || finished(&site, 101) == 1.0);
}

#[test]
fn a_tunnel_has_one_line_in_the_log_at_its_end() {
    let path = std::env::temp_dir().join(format!("baribhara-tunnel-log-{}", std::process::id()));
    let (port, _heads) = upstream(or_probe(|tcp, _| {
        tcp.write_all(SWITCHED)?;
        exactly(tcp, 5);
        tcp.write_all(b"answer")?;
        exactly(tcp, 1);
        Ok(())
    }));
    let settings = Settings { access_log: AccessLogTarget::File(path.clone()), ..Settings::default() };
    let mut site = site(settings, to_backend(), port);
    let mut client = dial(site.http);
    open(&mut client);
    client.write_all(b"words").unwrap();
    assert_eq!(exactly(&mut client, 6), b"answer");
    assert_eq!(site.metric("http_requests_in_flight"), 1.0);
    assert_eq!(finished(&site, 101), 0.0, "not before its end");
    drop(client);
    until("it is over", || tunnels(&site) == 0.0);
    site.stop().join().unwrap();
    let log = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut lines = log.lines().filter(|line| line.contains("/chat"));
    let line: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(lines.next(), None);
    assert_eq!((&line["status"], &line["route"]), (&101.into(), &"shop/all/r".into()), "{line}");
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&5.into(), &6.into()), "{line}");
}

#[test]
fn a_connection_that_named_a_protocol_ends_in_order_all_the_same() {
    let one = Issued::of(&["a.example"]).secret("one");
    let site = Site::start(&[route("all", &[])], &tls(&[("a.example", Some(&one), V1_2)], None));
    let mut client = site.connect("a.example");
    let fields = [("connection", "close, upgrade"), ("upgrade", "h2c")];
    assert_eq!(ask(&mut client, "GET", "a.example", "/", &fields).unwrap().status, 200);
    // By close_notify: without it this would be an error.
    assert_eq!(client.read(&mut [0; 10]).unwrap(), 0);
}
