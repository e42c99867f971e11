//! Certificates of clients: who gets in, who stays in, and what backends are told.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ir::ClientAuthMode::{Optional, Require};
use ir::TlsVersion::V1_2;
use ir::{
    Action, BackendId, BackendTarget, ClientAuth, ClientForward, RouteClient, RouteTls, WeightedBackend,
};
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::{AlertDescription, ClientConfig, Error, HandshakeKind, SupportedProtocolVersion, version};

use super::support::{Client, Site, ask, dial, get, route, until};
use crate::settings::Settings;
use crate::tls::testing::{Authority, Issued, Shown, asking, client_auth, client_with, tls};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

fn showing(version: &'static SupportedProtocolVersion, shown: Option<&Shown>) -> Arc<ClientConfig> {
    client_with(&[version], &[], shown)
}

/// With TLS 1.3 the client is done before the server has seen its certificate.
fn refusal(site: &Site, config: &Arc<ClientConfig>) -> Error {
    let mut client = match site.connect_with("a.example", config) {
        Ok(client) => client,
        Err(error) => return error,
    };
    let error = client.read(&mut [0]).expect_err("the handshake is refused");
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>())
        .unwrap_or_else(|| panic!("{error}"))
        .clone()
}

fn one_host() -> Arc<ir::Tls> {
    let one = Issued::of(&["a.example"]).secret("one");
    tls(&[("a.example", Some(&one), V1_2)], None)
}

#[test]
fn only_a_certificate_of_the_authorities_gets_in_and_none_where_that_is_optional() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let (below, intermediate) = ours.below("below");
    let mut long = below.issue("chain");
    long.0.push(intermediate);
    let good = ours.issue("ada");
    let expired = ours.issue_with("ada", |params| params.not_after = date_time_ymd(2020, 1, 1));
    let early = ours.issue_with("ada", |params| params.not_before = date_time_ymd(2090, 1, 1));
    let server = ours.issue_with("ada", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let wrong = others.issue("ada");
    for mode in [Require, Optional] {
        let site = Site::start(&[route("all", &[])], &asking(&one_host(), &ours.auth(mode)));
        let nothing = (mode == Require).then_some(AlertDescription::CertificateRequired);
        let mut refused = 0.0;
        for (name, shown, want) in [
            ("good", Some(&good), None),
            ("with an intermediate", Some(&long), None),
            ("none", None, nothing),
            ("expired", Some(&expired), Some(AlertDescription::CertificateExpired)),
            ("not valid yet", Some(&early), Some(AlertDescription::CertificateExpired)),
            ("for servers", Some(&server), Some(AlertDescription::UnsupportedCertificate)),
            ("of another authority", Some(&wrong), Some(AlertDescription::UnknownCA)),
        ] {
            for version in VERSIONS {
                let config = showing(version, shown);
                let Some(want) = want else {
                    let mut client = site.connect_with("a.example", &config).unwrap();
                    assert_eq!(get(&mut client, "a.example", "/").status, 200, "{mode:?} {name}");
                    continue;
                };
                refused += 1.0;
                let got = refusal(&site, &config);
                assert_eq!(got, Error::AlertReceived(want), "{mode:?} {name} {version:?}");
            }
        }
        until("all are counted", || site.handshakes("failed") == refused);
    }
}

#[test]
fn without_authorities_every_handshake_is_refused() {
    let good = Authority::new("ours").issue("ada");
    for mode in [Require, Optional] {
        let site = Site::start(&[route("all", &[])], &asking(&one_host(), &client_auth(mode, "")));
        for shown in [None, Some(&good)] {
            let refused = Error::AlertReceived(AlertDescription::UnrecognisedName);
            assert_eq!(refusal(&site, &showing(&version::TLS13, shown)), refused);
        }
        until("both are counted", || site.handshakes("no_certificate") == 2.0);
    }
}

/// What came of a handshake, and that it serves.
fn kind(site: &Site, config: &Arc<ClientConfig>) -> HandshakeKind {
    let mut client = site.connect_with("a.example", config).unwrap();
    // The ticket comes with the answer.
    assert_eq!(get(&mut client, "a.example", "/").status, 200);
    client.conn.handshake_kind().unwrap()
}

#[test]
fn a_ticket_is_worth_nothing_where_other_certificates_are_asked_for() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let good = ours.issue("ada");
    let routes = [route("all", &[])];
    let plain = one_host();
    for version in VERSIONS {
        let site = Site::start(&routes, &plain);
        let (with, without) = (showing(version, Some(&good)), showing(version, None));
        assert_eq!(
            (kind(&site, &without), kind(&site, &without)),
            (HandshakeKind::Full, HandshakeKind::Resumed)
        );
        assert_eq!(kind(&site, &with), HandshakeKind::Full);
        site.publish(&routes, &asking(&plain, &ours.auth(Require)));
        let required = Error::AlertReceived(AlertDescription::CertificateRequired);
        assert_eq!(refusal(&site, &without), required);
        assert_eq!((kind(&site, &with), kind(&site, &with)), (HandshakeKind::Full, HandshakeKind::Resumed));
        // The authority is exchanged: a ticket of the old one must not stand for a certificate of the new one.
        site.publish(&routes, &asking(&plain, &others.auth(Require)));
        assert_eq!(refusal(&site, &with), Error::AlertReceived(AlertDescription::UnknownCA));
    }
}

#[test]
fn a_live_connection_must_meet_what_its_host_has_come_to_want() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let (routes, plain) = ([route("all", &[])], one_host());
    let site = Site::start(&routes, &plain);
    let good = ours.issue("ada");
    let status = |client: &mut Client| get(client, "a.example", "/").status;
    let mut unasked = site.connect("a.example");
    assert_eq!(status(&mut unasked), 200);
    site.publish(&routes, &asking(&plain, &ours.auth(Require)));
    assert_eq!(status(&mut unasked), 421);
    let mut shown = site.connect_with("a.example", &showing(&version::TLS13, Some(&good))).unwrap();
    assert_eq!(status(&mut shown), 200);
    // The authority is changed by way of both.
    let both = client_auth(Require, &[&*ours.pem, &others.pem].concat());
    site.publish(&routes, &asking(&plain, &both));
    assert_eq!((status(&mut shown), status(&mut unasked)), (200, 421));
    site.publish(&routes, &asking(&plain, &others.auth(Require)));
    assert_eq!((status(&mut shown), status(&mut unasked)), (421, 421));
    site.publish(&routes, &asking(&plain, &client_auth(Optional, "")));
    assert_eq!((status(&mut shown), status(&mut unasked)), (421, 421), "nobody can be verified");
    site.publish(&routes, &plain);
    assert_eq!((status(&mut shown), status(&mut unasked)), (200, 200));
}

fn client_of(auth: &Arc<ClientAuth>, forward: ClientForward) -> Option<RouteTls> {
    let client = Some(RouteClient { auth: Arc::clone(auth), forward });
    Some(RouteTls { client, ..RouteTls::default() })
}

#[test]
fn a_route_that_requires_a_certificate_serves_nobody_without_one_whoever_speaks_for_its_host() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let strict = client_of(&ours.auth(Require), ClientForward::default());
    let routes = [ir::Route { tls: strict, ..route("strict", &[]) }];
    let plain = one_host();
    let site = Site::start(&routes, &plain);
    let good = ours.issue("ada");
    let mut without = site.connect("a.example");
    assert_eq!(get(&mut without, "a.example", "/").status, 421, "the host asks nobody");
    assert_eq!(get(&mut dial(site.http), "a.example", "/").status, 421, "without TLS");
    site.publish(&routes, &asking(&plain, &others.auth(Require)));
    let config = showing(&version::TLS13, Some(&others.issue("ada")));
    let mut other = site.connect_with("a.example", &config).unwrap();
    assert_eq!(get(&mut other, "a.example", "/").status, 421, "the host asks for others");
    site.publish(&routes, &asking(&plain, &ours.auth(Optional)));
    let config = showing(&version::TLS13, Some(&good));
    assert_eq!(get(&mut site.connect_with("a.example", &config).unwrap(), "a.example", "/").status, 200);
    assert_eq!(get(&mut site.connect("a.example"), "a.example", "/").status, 421, "none was shown");
}

/// Answers each request with its own head, and with a chunked body if it has one.
fn mirror() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0u8]);
                while tcp.read_exact(&mut byte).is_ok() {
                    head.extend_from_slice(&byte);
                    let chunked = head.windows(18).any(|part| part == b"transfer-encoding:");
                    let ends = head.windows(4).filter(|part| part == b"\r\n\r\n").count();
                    if ends == 1 + usize::from(chunked) {
                        write!(tcp, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", head.len()).unwrap();
                        tcp.write_all(&head).unwrap();
                        head.clear();
                    }
                }
            });
        }
    });
    port
}

/// Routes to an upstream that mirrors heads: of one that forwards, and of one that knows no certificates.
fn mirrored(auth: &Arc<ClientAuth>, forward: ClientForward) -> ([ir::Route; 2], ir::EndpointMap) {
    let id = BackendId::Service { namespace: "shop".into(), name: "web".into(), port: 80 };
    let target = BackendTarget::Backend(id.clone());
    let backend = WeightedBackend { target, weight: 1, protocol: ir::UpstreamProtocol::default() };
    let action = Action::Forward {
        backends: vec![backend],
        rewrite: None,
        retry: ir::Retry::default(),
        circuit_breaker: ir::CircuitBreaker::default(),
        load_balancing: ir::LoadBalancing::default(),
        passive_health: None,
        active_health: None,
        upgrades: ir::Upgrades::default(),
        grpc_web: false,
    };
    let tells =
        ir::Route { tls: client_of(auth, forward), action: action.clone(), ..route("tells", &["a.example"]) };
    let bare = ir::Route { action, ..route("bare", &["b.example"]) };
    let endpoint = ir::Endpoint { host: "127.0.0.1".into(), port: mirror() };
    let endpoints =
        Arc::new(ir::BackendEndpoints { endpoints: vec![endpoint], local: Vec::new(), near: Vec::new() });
    ([tells, bare], ir::EndpointMap { backends: BTreeMap::from([(id, endpoints)]) })
}

/// What the upstream was told of a certificate, while the client told all of this.
fn told(io: &mut (impl Read + Write), host: &str) -> Vec<String> {
    let lies = [
        ("client-cert", ":bGll:"),
        ("Client-Cert-Chain", ":bGll:"),
        ("X-Client-Subject", "CN=root"),
        ("X-Client-Verify", "SUCCESS"),
        ("X-SSL-Client-S-DN", "CN=root"),
        ("ssl-client-verify", "SUCCESS"),
        ("x-other", "stays"),
    ];
    let answer = loop {
        let answer = ask(io, "GET", host, "/", &lies).unwrap();
        // Endpoints come beside the configuration.
        if answer.status != 503 {
            break answer;
        }
    };
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains("x-other: stays"), "{answer:?}");
    let of_certificate = |line: &&str| line.contains("client-");
    answer.body.lines().filter(of_certificate).map(str::to_owned).collect()
}

#[test]
fn backends_are_told_of_the_certificate_that_was_verified_and_of_no_other() {
    let ours = Authority::new("ours");
    let good = ours.issue("ada");
    let auth = ours.auth(Optional);
    let all = ClientForward { subject: true, verify: true, certificate: true };
    let (routes, endpoints) = mirrored(&auth, all);
    let one = Issued::of(&["a.example", "b.example"]).secret("one");
    let asked =
        asking(&tls(&[("a.example", Some(&one), V1_2), ("b.example", Some(&one), V1_2)], None), &auth);
    let site = Site::start(&routes, &asked);
    site.set_endpoints(endpoints);
    let der = good.0[0].to_vec();
    for version in VERSIONS {
        let config = showing(version, Some(&good));
        // The second time its session is resumed.
        for _ in 0..2 {
            let mut client = site.connect_with("a.example", &config).unwrap();
            let got = told(&mut client, "a.example");
            let field = STANDARD.encode(&der);
            let want = [
                "x-client-verify: SUCCESS".to_owned(),
                "x-client-subject: CN=ada".to_owned(),
                format!("client-cert: :{field}:"),
            ];
            assert_eq!(got.len(), 3, "{got:?}");
            assert!(want.iter().all(|line| got.contains(line)), "{got:?}");
            assert!(told(&mut client, "b.example").is_empty(), "a route that forwards nothing");
        }
    }
    let mut without = site.connect("a.example");
    assert_eq!(told(&mut without, "a.example"), ["x-client-verify: NONE"]);
    assert_eq!(told(&mut dial(site.http), "a.example"), ["x-client-verify: NONE"]);
}

#[test]
fn no_client_speaks_of_a_certificate_behind_its_body() {
    let (routes, endpoints) = mirrored(&Authority::new("ours").auth(Optional), ClientForward::default());
    let site = Site::start(&routes, &one_host());
    site.set_endpoints(endpoints);
    let mut plain = dial(site.http);
    assert!(told(&mut plain, "b.example").is_empty());
    let request = "POST / HTTP/1.1\r\nhost: b.example\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\
                   X-Client-Subject: CN=root\r\nx_client_verify: SUCCESS\r\nx-other: stays\r\n\r\n";
    plain.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    while !answer.contains("x-other") || !answer.ends_with("\r\n\r\n") {
        let mut part = [0u8; 4096];
        let count = plain.read(&mut part).unwrap();
        assert!(count > 0, "{answer}");
        answer.push_str(std::str::from_utf8(&part[..count]).unwrap());
    }
    assert!(answer.contains("x-other: stays"), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("root") && !answer.contains("SUCCESS"), "{answer}");
}

#[test]
fn a_trusted_proxy_may_speak_of_its_clients_certificate_but_not_where_the_gateway_asks_itself() {
    let auth = Authority::new("ours").auth(Optional);
    let forward = ClientForward { subject: true, ..ClientForward::default() };
    let (routes, endpoints) = mirrored(&auth, forward);
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let settings = Settings { trusted_proxies, ..Settings::default() };
    let site = Site::with(settings, &routes, &one_host());
    site.set_endpoints(endpoints);
    let mut plain = dial(site.http);
    assert_eq!(told(&mut plain, "b.example").len(), 6);
    assert!(told(&mut plain, "a.example").is_empty());
}
