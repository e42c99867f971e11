//! Connections that are passed through with their TLS as it is.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::backend::Backend;
use e2e::certificate::Authority;
use e2e::client::Request;
use e2e::folder::route;
use e2e::sockets::ByHand;
use e2e::tls_backend::{Handshake, TlsBackend, server_config};
use e2e::tls_client::{TlsConnection, config, connect, hello};
use e2e::until::until;
use rustls::AlertDescription;

use crate::site::{HOST, address, site};
use crate::tls_site::{refusal, tls_route};

const POD: &str = "a.pods.example.com";

fn passed(name: &str, host: &str, backend: SocketAddr) -> String {
    let to = address(backend);
    let spec = format!(
        "hostnames: [\"{host}\"]\ntls: {{mode: Passthrough}}\nrules: [{{name: all, backendRefs: [{to}]}}]"
    );
    route(name, &spec)
}

#[test]
fn a_backend_that_serves_tls_by_itself_gets_the_connections_of_its_hosts() {
    let authority = Authority::new();
    let (own, inner) = (authority.issue(&[HOST]), authority.issue(&[POD]));
    let here = Backend::named("here");
    let pod = TlsBackend::start("pod", server_config(&[&inner], &["http/1.1"], None));
    let served = own.secret("own") + &tls_route("own", HOST, "own", "", here.address);
    let site = site(&(served.clone() + &passed("pod", "*.pods.example.com", pod.address)));
    let (https, client) = (site.gateway.https, Arc::new(config(&authority)));

    let mut live = TlsConnection::open(https, POD, &client).unwrap();
    assert!(*live.certificate() == inner.der, "the backend's own certificate");
    assert_eq!(live.ask(&Request::get(POD, "/a")).unwrap().text(), "pod");
    let handshakes = pod.handshakes();
    let [Handshake::Done { server_name, .. }] = handshakes.as_slice() else { panic!("{handshakes:?}") };
    assert_eq!(server_name.as_deref(), Some(POD));
    let head = pod.heads().remove(0).to_ascii_lowercase();
    assert!(!head.contains("forwarded"), "nothing was added to what the client said: {head}");

    let mut ours = TlsConnection::open(https, HOST, &client).unwrap();
    assert!(*ours.certificate() == own.der);
    assert_eq!(ours.ask(&Request::get(HOST, "/")).unwrap().text(), "here");
    assert_eq!(ours.ask(&Request::get(POD, "/")).unwrap().status, 421, "no other connection leads there");
    assert_eq!(site.gateway.ask(&Request::get(POD, "/")).status, 404, "nor a request without TLS");

    site.folder.write("all.yaml", &served);
    until("the host is passed through no more", || {
        (refusal(https, POD, &client) == Ok(AlertDescription::UnrecognisedName)).then_some(())
    });
    assert_eq!(live.ask(&Request::get(POD, "/b")).unwrap().text(), "pod", "a live connection stays");
}

#[test]
fn a_backend_that_is_away_is_told_by_an_alert() {
    let authority = Authority::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let site = site(&passed("pod", POD, nobody));
    let refused = refusal(site.gateway.https, POD, &Arc::new(config(&authority)));
    assert_eq!(refused, Ok(AlertDescription::InternalError));
}

#[test]
fn a_client_that_takes_nothing_stops_the_backend_and_fills_no_memory() {
    let pod = ByHand::start(|mut stream| {
        stream.read_exact(&mut [0])?;
        let block = vec![7; 1 << 20];
        (0..500).try_for_each(|_| stream.write_all(&block))
    });
    let authority = Authority::new();
    let site = site(&passed("pod", POD, pod.address));
    let before = site.gateway.process.resident_kib();
    let (_tls, hello) = hello(POD, &Arc::new(config(&authority)));
    let mut client = connect(site.gateway.https).unwrap();
    client.write_all(&hello).unwrap();
    client.read_exact(&mut [0]).unwrap();
    let started = Instant::now();
    until("a second in which nobody reads", || {
        let grown = site.gateway.process.resident_kib().saturating_sub(before);
        assert!(grown < 8 << 10, "{grown} KiB more while nobody reads");
        (started.elapsed() > Duration::from_secs(1)).then_some(())
    });
    // All of it is still to be had.
    let rest = std::io::copy(&mut client.take(100 << 20), &mut std::io::sink()).unwrap();
    assert_eq!(rest, 100 << 20);
}
