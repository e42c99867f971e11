//! TLS towards upstreams: who is believed, what is answered otherwise, and how connections and sessions are used again.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use ir::{Action, Kind, ObjectRef, Redacted, Trust, UpstreamProtocol, UpstreamTls, UpstreamVersion};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{dial, get};
use super::upstream::{Accepted, HTTP1, answer_with, forwarding, site, speak_h2, start};
use crate::tls::PROVIDER;
use UpstreamVersion::{Http1, Http2};

/// Issues certificates that are valid now, unless they shall not be.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut own = CertificateParams::new(Vec::new()).unwrap();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = own.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(own, key) }
    }

    fn issue(&self, name: &str, is_expired: bool) -> (String, String) {
        let mut own = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if is_expired {
            own.not_before = rcgen::date_time_ymd(2020, 1, 1);
            own.not_after = rcgen::date_time_ymd(2020, 1, 31);
        }
        let key = KeyPair::generate().unwrap();
        (own.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn trust(&self) -> Trust {
        let source = ObjectRef::new(Kind::ConfigMap, "shop", "authorities");
        Trust::Authorities { source, pem: self.pem.clone().into_bytes() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        Arc::new(roots)
    }
}

/// What an upstream shows, and whose certificates it asks for.
fn server(
    (chain, key): &(String, String),
    alpn: &[&[u8]],
    clients: Option<&Authority>,
) -> Option<Arc<ServerConfig>> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(clients.roots(), Arc::clone(&PROVIDER))
                .build()
                .unwrap(),
        ),
    };
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Some(Arc::new(config))
}

fn over_tls(version: UpstreamVersion, server_name: &str, trust: Trust) -> UpstreamProtocol {
    let tls = UpstreamTls {
        server_name: server_name.into(),
        subject_alt_names: Vec::new(),
        trust,
        client_certificate: None,
    };
    UpstreamProtocol { version, tls: Some(Arc::new(tls)) }
}

fn with(protocol: &UpstreamProtocol, change: impl FnOnce(&mut UpstreamTls)) -> UpstreamProtocol {
    let mut tls = UpstreamTls::clone(protocol.tls.as_ref().unwrap());
    change(&mut tls);
    UpstreamProtocol { tls: Some(Arc::new(tls)), ..protocol.clone() }
}

/// Answers one request after the other; `/close` ends the connection.
async fn speak_h1(mut accepted: Accepted) {
    let mut head = Vec::new();
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            match accepted.io.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let close = if head.starts_with(b"GET /close") { "connection: close\r\n" } else { "" };
        let (number, resumed) = (accepted.number, accepted.resumed);
        let answer = format!(
            "HTTP/1.1 200 OK\r\n{close}x-connection: {number}\r\nx-resumed: {resumed}\r\ncontent-length: 2\r\n\r\nok"
        );
        if accepted.io.write_all(answer.as_bytes()).await.is_err() || accepted.io.flush().await.is_err() {
            return;
        }
        if !close.is_empty() {
            // The gateway may have gone before.
            drop(accepted.io.shutdown().await);
            return;
        }
        head.clear();
    }
}

async fn speak(version: UpstreamVersion, accepted: Accepted) {
    match version {
        Http1 => speak_h1(accepted).await,
        Http2 => speak_h2(accepted, |number, asked| async move { answer_with(number, asked, "ok") }).await,
    }
}

#[test]
fn only_whom_the_route_believes_is_sent_a_request() {
    let (ours, others) = (Authority::new(), Authority::new());
    let good = ours.issue("up.example", false);
    for version in [Http1, Http2] {
        let trusting = over_tls(version, "up.example", ours.trust());
        let failed = Some("upstream-tls-failed");
        let names = |names: &[&str]| {
            with(&trusting, |tls| {
                tls.server_name = "sent.example".into();
                tls.subject_alt_names = names.iter().map(|&name| name.into()).collect();
            })
        };
        let anyone = over_tls(version, "wrong.example", Trust::Anyone);
        for (name, shown, protocol, want) in [
            ("good", &good, trusting.clone(), None),
            ("wrong name", &good, over_tls(version, "wrong.example", ours.trust()), failed),
            ("one of two names", &good, names(&["a.example", "up.example"]), None),
            ("none of the names", &good, names(&["a.example", "sent.example"]), failed),
            ("unknown authority", &others.issue("up.example", false), trusting.clone(), failed),
            (
                "names of an unknown authority",
                &others.issue("up.example", false),
                names(&["up.example"]),
                failed,
            ),
            ("expired", &ours.issue("up.example", true), trusting.clone(), failed),
            ("expired with names", &ours.issue("up.example", true), names(&["up.example"]), failed),
            ("system", &good, over_tls(version, "up.example", Trust::System), failed),
            ("anyone", &good, anyone.clone(), None),
            ("anyone, expired", &others.issue("up.example", true), anyone, None),
        ] {
            let tls = server(shown, &[b"h2", b"http/1.1"], None);
            let port = start(tls, move |accepted| speak(version, accepted));
            let site = site(&[forwarding("a.example", protocol)], &[("a.example", port)]);
            let answer = get(&mut dial(site.http), "a.example", "/");
            match want {
                None => assert_eq!(answer.status, 200, "{version:?} {name}: {answer:?}"),
                Some(reason) => {
                    assert_eq!(answer.status, 502, "{version:?} {name}: {answer:?}");
                    assert!(answer.body.contains(reason), "{version:?} {name}: {answer:?}");
                    let failures = "baribhara_upstream_connect_failures_total{backend=\"shop/a.example:80\"}";
                    assert!(site.metric(failures) >= 1.0, "{version:?} {name}");
                }
            }
        }
    }
}

#[test]
fn the_gateway_shows_its_own_certificate_where_it_has_one() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let shown = servers.issue("up.example", false);
    let (chain_pem, key_pem) = clients.issue("gateway.example", false);
    let own = ir::Certificate {
        source: ObjectRef::new(Kind::Secret, "shop", "own"),
        chain_pem: chain_pem.into_bytes(),
        key_pem: Redacted::new(key_pem.into_bytes()),
        ocsp_response: None,
    };
    let own = Arc::new(own);
    for version in [Http1, Http2] {
        let port = start(server(&shown, &[b"h2", b"http/1.1"], Some(&clients)), move |accepted| {
            speak(version, accepted)
        });
        let without = over_tls(version, "up.example", servers.trust());
        let owned = with(&without, |tls| tls.client_certificate = Some(Arc::clone(&own)));
        let routes = [forwarding("without.example", without), forwarding("with.example", owned)];
        let site = site(&routes, &[("without.example", port), ("with.example", port)]);
        for (host, want) in [("with.example", 200), ("without.example", 502), ("with.example", 200)] {
            assert_eq!(get(&mut dial(site.http), host, "/").status, want, "{version:?} {host}");
        }
    }
}

#[test]
fn http2_over_tls_must_be_agreed_on_and_http1_need_not_be() {
    let authority = Authority::new();
    let shown = authority.issue("up.example", false);
    for (version, offered, want) in [
        (Http2, &[&b"h2"[..]][..], 200),
        (Http2, &[b"http/1.1"], 502),
        (Http2, &[], 502),
        (Http1, &[b"http/1.1"], 200),
        (Http1, &[], 200),
        (Http1, &[b"h2"], 502),
    ] {
        let port = start(server(&shown, offered, None), move |accepted| speak(version, accepted));
        let protocol = over_tls(version, "up.example", authority.trust());
        let site = site(&[forwarding("a.example", protocol)], &[("a.example", port)]);
        let answer = get(&mut dial(site.http), "a.example", "/");
        assert_eq!(answer.status, want, "{version:?} {offered:?}: {answer:?}");
    }
}

#[test]
fn tls_that_cannot_be_made_fails_closed() {
    let authority = Authority::new();
    let good = over_tls(Http1, "up.example", authority.trust());
    let pem = |pem: &str| {
        with(&good, |tls| {
            let source = ObjectRef::new(Kind::ConfigMap, "shop", "authorities");
            tls.trust = Trust::Authorities { source, pem: pem.as_bytes().to_vec() };
        })
    };
    let begin = "-----BEGIN CERTIFICATE-----\n";
    let end = "-----END CERTIFICATE-----\n";
    let broken = ir::Certificate {
        source: ObjectRef::new(Kind::Secret, "shop", "own"),
        chain_pem: b"none".to_vec(),
        key_pem: Redacted::new(b"none".to_vec()),
        ocsp_response: None,
    };
    let (arrived, arrivals) = mpsc::channel();
    let port = start(None, move |_| {
        arrived.send(()).unwrap();
        std::future::ready(())
    });
    for (name, protocol) in [
        ("no authority", pem("")),
        ("no PEM", pem(&format!("{begin}?{end}"))),
        ("no certificate", pem(&format!("{begin}MTIz\n{end}"))),
        ("one good, one bad", pem(&format!("{}{begin}MTIz\n{end}", authority.pem))),
        ("server name", with(&good, |tls| tls.server_name = "a b".into())),
        ("other names", with(&good, |tls| tls.subject_alt_names = vec!["a b".into()])),
        ("own certificate", with(&good, |tls| tls.client_certificate = Some(Arc::new(broken.clone())))),
    ] {
        let site = site(&[forwarding("a.example", protocol)], &[("a.example", port)]);
        let answer = get(&mut dial(site.http), "a.example", "/");
        assert_eq!(answer.status, 503, "{name}: {answer:?}");
        assert!(answer.body.contains("upstream-tls-invalid"), "{name}: {answer:?}");
    }
    assert_eq!(arrivals.try_iter().count(), 0, "a connection was opened");
}

#[test]
fn a_pooled_connection_is_used_again_and_a_session_is_resumed() {
    let authority = Authority::new();
    let shown = authority.issue("up.example", false);
    let port = start(server(&shown, &[b"http/1.1"], None), speak_h1);
    let protocol = over_tls(Http1, "up.example", authority.trust());
    let site = site(&[forwarding("a.example", protocol)], &[("a.example", port)]);
    let mut client = dial(site.http);
    for (path, connection, resumed) in [
        ("/", "0", "false"),
        ("/", "0", "false"),
        ("/close", "0", "false"),
        ("/", "1", "true"),
        ("/", "1", "true"),
    ] {
        let answer = get(&mut client, "a.example", path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let got = (answer.header("x-connection"), answer.header("x-resumed"));
        assert_eq!(got, (Some(connection), Some(resumed)), "{path}");
    }
}

#[test]
fn a_large_body_goes_out_whole_over_tls() {
    let authority = Authority::new();
    let shown = authority.issue("up.example", false);
    const BYTES: usize = 8 << 20;
    let port = start(server(&shown, &[b"http/1.1"], None), |mut accepted: Accepted| async move {
        let (mut read, mut part) = (Vec::new(), vec![0u8; 64 << 10]);
        while !read.windows(4).rev().take(64 << 10).any(|end| end == b"done") {
            match accepted.io.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(count) => read.extend_from_slice(&part[..count]),
            }
        }
        drop(accepted.io.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await);
        drop(accepted.io.flush().await);
    });
    let protocol = over_tls(Http1, "up.example", authority.trust());
    let site = site(&[forwarding("a.example", protocol)], &[("a.example", port)]);
    let mut client = dial(site.http);
    let mut request =
        format!("PUT / HTTP/1.1\r\nhost: a.example\r\ncontent-length: {BYTES}\r\n\r\n").into_bytes();
    request.resize(request.len() + BYTES - 4, b'x');
    request.extend_from_slice(b"done");
    std::io::Write::write_all(&mut client, &request).unwrap();
    let mut answer = [0u8; 15];
    std::io::Read::read_exact(&mut client, &mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[test]
fn two_routes_that_speak_differently_to_one_backend_share_no_connection() {
    let port = start(None, speak_h1);
    let mut secured = forwarding("tls.example", over_tls(Http1, "up.example", Trust::Anyone));
    let (Action::Forward { backends, .. }, Action::Forward { backends: others, .. }) =
        (&mut secured.action, forwarding("a.example", HTTP1).action)
    else {
        unreachable!()
    };
    backends[0].target = others[0].target.clone();
    secured.timeouts.connect = Duration::from_millis(200);
    let site = site(&[forwarding("a.example", HTTP1), secured], &[("a.example", port)]);
    let mut client = dial(site.http);
    assert_eq!(get(&mut client, "a.example", "/").status, 200);
    // The idle connection is without TLS, and nobody answers a handshake.
    let answer = get(&mut client, "tls.example", "/");
    assert_eq!(answer.status, 503, "{answer:?}");
}

#[test]
fn an_upstream_that_never_ends_its_handshake_is_given_up_in_time() {
    let port = start(None, |accepted| async move {
        std::future::pending::<()>().await;
        drop(accepted);
    });
    for version in [Http1, Http2] {
        let mut route = forwarding("a.example", over_tls(version, "up.example", Trust::Anyone));
        route.timeouts.connect = Duration::from_millis(100);
        let site = site(&[route], &[("a.example", port)]);
        let answer = get(&mut dial(site.http), "a.example", "/");
        assert_eq!(answer.status, 503, "{version:?}: {answer:?}");
        assert!(answer.body.contains("connect-failed"), "{version:?}: {answer:?}");
    }
}
