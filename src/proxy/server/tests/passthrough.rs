//! Connections that are passed through: to whom, with what in front, and how they end (hardening TL02, TL03, SL04).

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use ir::TlsVersion::V1_2;
use ir::{
    BackendId, BackendTarget, CircuitBreaker, HostPattern, Passthrough, PassthroughBackend, ProxyVersion,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    AlertDescription, ClientConnection, Error, ServerConfig, ServerConnection, StreamOwned, version,
};

use super::support::{
    Client, Site, certificate_of, dial, get, handshake, hang_up, read_to_end, route, until,
};
use crate::server::proxy_header::encode;
use crate::settings::Settings;
use crate::tls::PROVIDER;
use crate::tls::testing::{Issued, any_client, client, host, tls};

const NO_ENDPOINT: Error = Error::AlertReceived(AlertDescription::InternalError);
const NO_CERTIFICATE: Error = Error::AlertReceived(AlertDescription::UnrecognisedName);

/// Serves TLS by itself.
struct Pod {
    port: u16,
    certificate: Vec<u8>,
    /// What came before TLS.
    headers: Receiver<Vec<u8>>,
}

impl Pod {
    /// Sends back what it gets, and `bye` at its end. Each connection begins with a header of this version.
    fn new(name: &str, header: Option<ProxyVersion>) -> Self {
        let issued = Issued::of(&[name]);
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(issued.chain_der.clone(), key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (said, headers) = mpsc::channel();
        thread::spawn(move || {
            for tcp in listener.incoming() {
                let (mut tcp, config, said) = (tcp.unwrap(), Arc::clone(&config), said.clone());
                thread::spawn(move || {
                    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    let header = read_header(&mut tcp, header);
                    // The test may be over.
                    if header.is_ok_and(|header| said.send(header).is_ok()) {
                        drop(echo(StreamOwned::new(ServerConnection::new(config).unwrap(), tcp)));
                    }
                });
            }
        });
        Self { port, certificate: issued.chain_der[0].to_vec(), headers }
    }
}

/// To its end and not a byte further.
fn read_header(tcp: &mut TcpStream, version: Option<ProxyVersion>) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    let is_whole = |header: &[u8]| match version {
        None => true,
        Some(ProxyVersion::V1) => header.ends_with(b"\r\n"),
        Some(ProxyVersion::V2) => header.len() >= 16 && header.len() == 16 + usize::from(header[15]),
    };
    while !is_whole(&header) {
        let mut byte = [0];
        tcp.read_exact(&mut byte)?;
        header.extend(byte);
    }
    Ok(header)
}

fn echo(mut io: StreamOwned<ServerConnection, TcpStream>) -> io::Result<()> {
    let mut part = [0; 4096];
    loop {
        match io.read(&mut part)? {
            0 => break,
            count => io.write_all(&part[..count])?,
        }
    }
    io.write_all(b"bye")?;
    io.conn.send_close_notify();
    io.flush()?;
    io.sock.shutdown(Shutdown::Write)
}

/// A port on which nobody listens.
fn dead_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn backend(name: &str) -> BackendId {
    BackendId::Service { namespace: "shop".into(), name: name.into(), port: 443 }
}

fn to(name: &str) -> PassthroughBackend {
    PassthroughBackend { target: BackendTarget::Backend(backend(name)), weight: 1, proxy_protocol: None }
}

fn passing(backends: Vec<PassthroughBackend>) -> Passthrough {
    let object = ir::ObjectRef::new(ir::Kind::GatewayRoute, "shop", "passed");
    Passthrough {
        id: ir::RouteId { object, rule: "all".into() },
        backends,
        connect: Duration::from_secs(3),
        stream_idle: Some(Duration::from_secs(60)),
        circuit_breaker: CircuitBreaker::default(),
        load_balancing: ir::LoadBalancing::default(),
        passive_health: None,
    }
}

fn hosts(passed: &[(&str, &Passthrough)]) -> BTreeMap<HostPattern, Arc<Passthrough>> {
    passed.iter().map(|(pattern, passthrough)| (host(pattern), Arc::new((*passthrough).clone()))).collect()
}

fn set_ports(site: &Site, ports: &[(&str, &[u16])]) {
    let backends = ports.iter().map(|(name, ports)| {
        let endpoints = ports.iter().map(|&port| ir::Endpoint { host: "127.0.0.1".into(), port });
        (
            backend(name),
            Arc::new(ir::BackendEndpoints {
                endpoints: endpoints.collect(),
                local: Vec::new(),
                near: Vec::new(),
            }),
        )
    });
    site.set_endpoints(ir::EndpointMap { backends: backends.collect() });
}

/// Passes `a.example` through, and serves `own.example` itself.
fn site(settings: Settings, passthrough: &Passthrough, ports: &[u16]) -> Site {
    let site = Site::unconfigured(settings);
    // Before the configuration, so that the first connection finds them.
    set_ports(&site, &[("pod", ports)]);
    let own = Issued::of(&["own.example"]).secret("own");
    let tls = tls(&[("own.example", Some(&own), V1_2)], None);
    site.publish_all(&[route("all", &[])], &tls, hosts(&[("a.example", passthrough)]));
    site
}

fn results(site: &Site, result: &str) -> f64 {
    site.metric(&format!("baribhara_passthrough_total{{endpoint=\"shop/passed/all\",result=\"{result}\"}}"))
}

fn tunnels(site: &Site) -> f64 {
    site.metric("baribhara_tunnels_open")
}

#[track_caller]
fn says_back(client: &mut Client, text: &str) {
    client.write_all(text.as_bytes()).unwrap();
    let mut back = vec![0; text.len()];
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, text.as_bytes());
}

fn hello(name: &'static str, alpn: &[&[u8]]) -> (ClientConnection, Vec<u8>) {
    let name = ServerName::try_from(name).unwrap();
    let mut connection = ClientConnection::new(client(&[&version::TLS13], alpn), name).unwrap();
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    (connection, bytes)
}

/// Each so many bytes of the message in a record of their own.
fn in_records_of(count: u8, hello: &[u8]) -> Vec<u8> {
    let mut rest = hello;
    let mut records = Vec::new();
    while let [22, _, _, high, low, more @ ..] = rest {
        let (message, next) = more.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        for part in message.chunks(usize::from(count)) {
            records.extend([22, 3, 1, 0, u8::try_from(part.len()).unwrap()]);
            records.extend(part);
        }
        rest = next;
    }
    records
}

#[test]
fn the_most_specific_host_says_who_has_the_handshake() {
    let (one, two) = (Pod::new("a.example", None), Pod::new("wild.example", None));
    let (own, other) = (Issued::of(&["own.example"]), Issued::of(&["other.example"]));
    let (own_secret, other_secret) = (own.secret("own"), other.secret("other"));
    let site = Site::unconfigured(Settings::default());
    set_ports(&site, &[("one", &[one.port]), ("two", &[two.port])]);
    let (to_one, to_two) = (passing(vec![to("one")]), passing(vec![to("two")]));
    let terminated =
        [("own.wild.example", Some(&own_secret), V1_2), ("*.b.example", Some(&other_secret), V1_2)];
    site.publish_all(
        &[route("all", &[])],
        &tls(&terminated, None),
        hosts(&[("a.example", &to_one), ("*.wild.example", &to_two), ("x.b.example", &to_one)]),
    );
    for (name, certificate) in [
        ("a.example", &one.certificate),
        ("A.Example", &one.certificate),
        ("a.example.", &one.certificate),
        ("x.wild.example", &two.certificate),
        ("y.x.wild.example", &two.certificate),
        ("x.b.example", &one.certificate),
    ] {
        let mut client = site.connect(name);
        assert_eq!(certificate_of(&client), certificate, "{name}");
        says_back(&mut client, name);
        assert_eq!((tunnels(&site), site.open_connections()), (1.0, 1.0), "{name}");
        // Each direction ends by itself.
        client.conn.send_close_notify();
        client.flush().unwrap();
        client.sock.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"bye", "{name}");
        until("it is over", || tunnels(&site) == 0.0 && site.open_connections() == 0.0);
    }
    for (name, issued) in [("own.wild.example", &own), ("y.b.example", &other)] {
        let mut client = site.connect(name);
        assert_eq!(certificate_of(&client), &*issued.chain_der[0], "{name}");
        assert_eq!(get(&mut client, name, "/").status, 200, "{name}");
    }
    for name in ["wild.example", "unknown.example", "127.0.0.1"] {
        assert_eq!(site.connect_with(name, &any_client()).unwrap_err(), NO_CERTIFICATE, "{name}");
    }
    // A handshake that is refused is counted when its alert has gone.
    until("all refusals are counted", || site.handshakes("no_certificate") == 3.0);
    assert_eq!((results(&site, "ok"), site.handshakes("ok")), (6.0, 2.0));
}

#[test]
fn a_hello_may_come_in_pieces_and_the_pod_gets_each_byte_of_it() {
    let pod = Pod::new("a.example", None);
    let site = site(Settings::default(), &passing(vec![to("pod")]), &[pod.port]);
    let names: Vec<String> = (0..100).map(|number| format!("{number:0>200}")).collect();
    let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    for (what, alpn) in [("short", &[][..]), ("long", &names[..])] {
        let go_on = |mut connection: ClientConnection, mut tcp: TcpStream| {
            while connection.is_handshaking() {
                connection.complete_io(&mut tcp).unwrap();
            }
            says_back(&mut StreamOwned::new(connection, tcp), what);
        };
        let (connection, bytes) = hello("a.example", alpn);
        assert_eq!(bytes.len() > 16 << 10, what == "long", "{what}");
        let mut tcp = dial(site.https);
        for byte in bytes {
            tcp.write_all(&[byte]).unwrap();
        }
        go_on(connection, tcp);
        let (connection, bytes) = hello("a.example", alpn);
        let records = in_records_of(if what == "short" { 1 } else { 7 }, &bytes);
        let mut tcp = dial(site.https);
        tcp.write_all(&records).unwrap();
        go_on(connection, tcp);
    }
    until("all are over", || tunnels(&site) == 0.0);
}

#[test]
fn a_hello_that_is_too_long_is_not_waited_for() {
    let pod = Pod::new("a.example", None);
    let site = site(Settings::default(), &passing(vec![to("pod")]), &[pod.port]);
    let names: Vec<String> = (0..100).map(|number| format!("{number:0>200}")).collect();
    let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    let (_, bytes) = hello("a.example", &names);
    let records = in_records_of(1, &bytes);
    assert!(records.len() > 64 << 10);
    let mut tcp = dial(site.https);
    // It may be closed before all is written.
    drop(tcp.write_all(&records));
    assert_eq!(read_to_end(&tcp), b"");
    until("it is counted", || site.handshakes("failed") == 1.0);
    assert_eq!(results(&site, "ok"), 0.0);
}

#[test]
fn the_pod_is_told_who_the_client_is() {
    let balanced = Settings { proxy_protocol: vec!["127.0.0.0/8".parse().unwrap()], ..Settings::default() };
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let passthrough = passing(vec![PassthroughBackend { proxy_protocol: Some(version), ..to("pod") }]);
        let pod = Pod::new("a.example", Some(version));
        // Of the client itself.
        let direct = site(Settings::default(), &passthrough, &[pod.port]);
        let tcp = dial(direct.https);
        let want = encode(version, tcp.local_addr().unwrap(), tcp.peer_addr().unwrap());
        says_back(&mut handshake(tcp, "a.example", &any_client()).unwrap(), "hi");
        assert_eq!(pod.headers.recv().unwrap(), want, "{version:?}");
        // Of whom a load balancer names.
        let behind = site(balanced.clone(), &passthrough, &[pod.port]);
        let mut tcp = dial(behind.https);
        tcp.write_all(b"PROXY TCP6 2001:db8::1 2001:db8::2 51000 443\r\n").unwrap();
        says_back(&mut handshake(tcp, "a.example", &any_client()).unwrap(), "hi");
        let want =
            encode(version, "[2001:db8::1]:51000".parse().unwrap(), "[2001:db8::2]:443".parse().unwrap());
        assert_eq!(pod.headers.recv().unwrap(), want, "{version:?}");
    }
}

#[test]
fn where_an_endpoint_is_down_another_one_is_asked() {
    let pod = Pod::new("a.example", None);
    let site = site(Settings::default(), &passing(vec![to("pod")]), &[dead_port(), pod.port, dead_port()]);
    for _ in 0..6 {
        says_back(&mut site.connect("a.example"), "hi");
    }
    assert_eq!(results(&site, "ok"), 6.0);
    let failures = site.metric("baribhara_upstream_connect_failures_total{backend=\"shop/pod:443\"}");
    assert!(failures >= 4.0, "{failures}");
}

#[test]
fn endpoints_that_fail_are_left_alone_for_a_time() {
    let pod = Pod::new("a.example", None);
    let health = ir::PassiveHealth { consecutive_connect_failures: 2, ..ir::PassiveHealth::default() };
    let passthrough = Passthrough { passive_health: Some(health), ..passing(vec![to("pod")]) };
    let site = site(Settings::default(), &passthrough, &[dead_port(), pod.port]);
    for _ in 0..10 {
        says_back(&mut site.connect("a.example"), "hi");
    }
    assert_eq!(site.metric("baribhara_endpoint_ejections_total{backend=\"shop/pod:443\"}"), 1.0);
    assert_eq!(site.metric("baribhara_upstream_connect_failures_total{backend=\"shop/pod:443\"}"), 2.0);
}

#[test]
fn without_an_endpoint_the_client_gets_an_alert() {
    let pod = Pod::new("a.example", None);
    let missing = PassthroughBackend { target: BackendTarget::Missing(backend("pod")), ..to("pod") };
    let without_weight = PassthroughBackend { weight: 0, ..to("pod") };
    let dead = dead_port();
    for (what, backends, ports, result) in [
        ("no endpoint", vec![to("pod")], &[][..], "no_endpoint"),
        ("a missing backend", vec![missing], &[pod.port], "no_endpoint"),
        ("no weight", vec![without_weight], &[pod.port], "no_endpoint"),
        ("no backend", vec![], &[pod.port], "no_endpoint"),
        ("down", vec![to("pod")], &[dead, dead], "connect_failed"),
    ] {
        let site = site(Settings::default(), &passing(backends), ports);
        assert_eq!(site.connect_with("a.example", &any_client()).unwrap_err(), NO_ENDPOINT, "{what}");
        assert_eq!(results(&site, result), 1.0, "{what}");
        until("it is closed", || site.open_connections() == 0.0);
        assert_eq!(tunnels(&site), 0.0, "{what}");
    }
}

#[test]
fn the_breaker_counts_each_connection_as_long_as_it_lives() {
    let pod = Pod::new("a.example", None);
    for (kind, breaker) in [
        ("connections", CircuitBreaker { max_connections: Some(1), ..CircuitBreaker::default() }),
        ("requests", CircuitBreaker { max_requests: Some(1), ..CircuitBreaker::default() }),
    ] {
        let passthrough = Passthrough { circuit_breaker: breaker, ..passing(vec![to("pod")]) };
        let site = site(Settings::default(), &passthrough, &[pod.port]);
        let mut first = site.connect("a.example");
        says_back(&mut first, "hi");
        assert_eq!(site.connect_with("a.example", &any_client()).unwrap_err(), NO_ENDPOINT, "{kind}");
        assert_eq!(results(&site, "breaker_open"), 1.0, "{kind}");
        let rejected =
            format!("baribhara_breaker_rejected_total{{backend=\"shop/pod:443\",kind=\"{kind}\"}}");
        assert_eq!(site.metric(&rejected), 1.0);
        assert_eq!(site.metric("baribhara_upstream_connections{backend=\"shop/pod:443\"}"), 1.0);
        says_back(&mut first, "still here");
        hang_up(&first.sock);
        until("it is over", || tunnels(&site) == 0.0);
        says_back(&mut site.connect("a.example"), "hi");
    }
}

#[test]
fn a_live_connection_outlives_its_route_and_its_handshakes_deadline() {
    let pod = Pod::new("a.example", None);
    let settings = Settings { handshake_timeout: Duration::from_millis(300), ..Settings::default() };
    let site = site(settings, &passing(vec![to("pod")]), &[pod.port]);
    let mut live = site.connect("a.example");
    says_back(&mut live, "hi");
    let (_, bytes) = hello("a.example", &[]);
    let mut half = dial(site.https);
    half.write_all(&bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(read_to_end(&half), b"", "a hello that is not whole in time");
    until("it is counted", || site.handshakes("timeout") == 1.0);
    says_back(&mut live, "still here");
    let own = Issued::of(&["a.example"]);
    let secret = own.secret("own");
    site.publish(&[route("all", &[])], &tls(&[("a.example", Some(&secret), V1_2)], None));
    says_back(&mut live, "and here");
    let mut new = site.connect("a.example");
    assert_eq!(certificate_of(&new), &*own.chain_der[0]);
    assert_eq!(get(&mut new, "a.example", "/").status, 200);
}

#[test]
fn a_connection_on_which_nothing_happens_ends_after_its_idle_time() {
    let pod = Pod::new("a.example", None);
    let idle = Some(Duration::from_millis(300));
    let passthrough = Passthrough { stream_idle: idle, ..passing(vec![to("pod")]) };
    let site = site(Settings::default(), &passthrough, &[pod.port]);
    let mut client = site.connect("a.example");
    says_back(&mut client, "hi");
    let began = Instant::now();
    let mut rest = Vec::new();
    // The gateway has no word for it that the client would believe.
    client.sock.read_to_end(&mut rest).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    until("it is over", || tunnels(&site) == 0.0);
}

#[test]
fn a_drain_leaves_a_connection_its_first_half_and_then_ends_it() {
    let pod = Pod::new("a.example", None);
    let settings = Settings { drain: Duration::from_secs(3), ..Settings::default() };
    let mut site = site(settings, &passing(vec![to("pod")]), &[pod.port]);
    let mut client = site.connect("a.example");
    says_back(&mut client, "hi");
    let https = site.https;
    let began = Instant::now();
    let stopped = site.stop();
    until("the listener is closed", || TcpStream::connect(https).is_err());
    says_back(&mut client, "still here");
    let mut rest = Vec::new();
    client.sock.read_to_end(&mut rest).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(1500), "in the second half of the drain");
    stopped.join().unwrap();
}

#[test]
fn requests_for_a_host_that_is_passed_through_have_no_other_way_to_it() {
    let pod = Pod::new("a.example", None);
    let wild = Issued::of(&["*.example"]).secret("wild");
    let site = Site::unconfigured(Settings::default());
    set_ports(&site, &[("pod", &[pod.port])]);
    let passthrough = passing(vec![to("pod")]);
    site.publish_all(
        &[route("other", &["other.example"]), route("all", &["*.example"])],
        &tls(&[("*.example", Some(&wild), V1_2)], None),
        hosts(&[("a.example", &passthrough)]),
    );
    let mut client = site.connect("other.example");
    for (name, want) in [("other.example", 200), ("b.example", 200), ("a.example", 421), ("A.EXAMPLE", 421)] {
        assert_eq!(get(&mut client, name, "/").status, want, "{name}");
    }
}
