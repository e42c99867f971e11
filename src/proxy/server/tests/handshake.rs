//! What a client gets from its handshake: certificate, protocol, ticket or alert.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ir::TlsVersion::{V1_2, V1_3};
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, CipherSuite, ClientConnection, Error, HandshakeKind, NamedGroup, StreamOwned, version,
};

use super::support::{Site, certificate_of, dial, get, hang_up, read_to_end, route, until};
use crate::settings::Settings;
use crate::tls::testing::{Issued, any_client, client, tls};

const REFUSED: Error = Error::AlertReceived(AlertDescription::UnrecognisedName);

#[test]
fn each_name_gets_its_certificate_and_others_the_default_one() {
    let [one, wild, other] =
        [&["a.example"], &["*.b.example"], &["d.example"]].map(|names: &[&str; 1]| Issued::of(names));
    let (one_secret, wild_secret) = (one.secret("one"), wild.secret("wild"));
    let hosts = [("a.example", Some(&one_secret), V1_2), ("?.b.example", Some(&wild_secret), V1_2)];
    let site = Site::start(&[route("all", &[])], &tls(&hosts, Some(&other.secret("default"))));
    for (name, want) in [
        ("a.example", &one),
        ("A.Example", &one),
        ("a.example.", &one),
        ("x.b.example", &wild),
        ("y.x.b.example", &other),
        ("unknown.example", &other),
        ("127.0.0.1", &other),
    ] {
        let mut client = site.connect(name);
        assert_eq!(certificate_of(&client), &*want.chain_der[0], "{name}");
        assert_eq!(client.conn.peer_certificates().unwrap().len(), 2, "the chain is sent whole");
        let answer = get(&mut client, name, "/");
        assert_eq!((answer.status, &*answer.body), (200, "all"), "{name}");
    }
    assert_eq!(site.handshakes("ok"), 7.0);
    assert_eq!(site.metric("baribhara_tls_certificates"), 3.0);
    assert_eq!(site.metric("baribhara_tls_certificate_not_after_seconds"), 1_769_817_600.0);
}

#[test]
fn a_name_without_a_certificate_is_refused_by_an_alert() {
    let one = Issued::of(&["a.example"]).secret("one");
    let hosts = [("a.example", Some(&one), V1_2), ("bare.example", None, V1_2)];
    let site = Site::start(&[route("all", &[])], &tls(&hosts, None));
    for name in ["unknown.example", "bare.example", "127.0.0.1"] {
        assert_eq!(site.connect_with(name, &any_client()).unwrap_err(), REFUSED, "{name}");
    }
    assert_eq!(get(&mut site.connect("a.example"), "a.example", "/").status, 200);
    until("all are counted", || (site.handshakes("no_certificate"), site.handshakes("ok")) == (3.0, 1.0));
}

#[test]
fn nothing_is_served_without_any_certificate_and_the_first_one_is_live_at_once() {
    let site = Site::start(&[route("all", &[])], &tls(&[], None));
    assert_eq!(site.connect_with("a.example", &any_client()).unwrap_err(), REFUSED);
    let one = Issued::of(&["a.example"]).secret("one");
    site.publish(&[route("all", &[])], &tls(&[("a.example", Some(&one), V1_2)], None));
    assert_eq!(get(&mut site.connect("a.example"), "a.example", "/").status, 200);
}

#[test]
fn tickets_are_taken_and_outlive_a_generation() {
    let (one, two) = (Issued::of(&["a.example"]).secret("one"), Issued::of(&["b.example"]).secret("two"));
    for only in [&version::TLS13, &version::TLS12] {
        let hosts = [("a.example", Some(&one), V1_2)];
        let site = Site::start(&[route("all", &[])], &tls(&hosts, None));
        let config = client(&[only], &[]);
        let kind = || {
            let mut client = site.connect_with("a.example", &config).unwrap();
            // The ticket comes with the answer.
            assert_eq!(get(&mut client, "a.example", "/").status, 200);
            client.conn.handshake_kind().unwrap()
        };
        assert_eq!(kind(), HandshakeKind::Full);
        assert_eq!(kind(), HandshakeKind::Resumed);
        let hosts = [("a.example", Some(&one), V1_2), ("b.example", Some(&two), V1_2)];
        site.publish(&[route("all", &[])], &tls(&hosts, None));
        assert_eq!(kind(), HandshakeKind::Resumed);
        assert_eq!((site.handshakes("ok"), site.handshakes("resumed")), (1.0, 2.0));
        // A stricter policy takes no ticket of the laxer one.
        let hosts = [("a.example", Some(&one), V1_3)];
        site.publish(&[route("all", &[])], &tls(&hosts, None));
        match site.connect_with("a.example", &config) {
            Ok(client) => assert_eq!(client.conn.handshake_kind(), Some(HandshakeKind::Full)),
            Err(error) => {
                assert_eq!(error, Error::AlertReceived(AlertDescription::ProtocolVersion));
                assert_eq!(only.version, rustls::ProtocolVersion::TLSv1_2);
            }
        }
    }
}

#[test]
fn a_new_certificate_is_for_new_handshakes_and_leaves_live_connections_alone() {
    let (old, new) = (Issued::of(&["a.example"]), Issued::of(&["a.example"]));
    let with = |issued: &Issued| tls(&[("a.example", Some(&issued.secret("s")), V1_2)], None);
    let site = Site::start(&[route("all", &[])], &with(&old));
    let mut live: Vec<_> = (0..20).map(|_| site.connect("a.example")).collect();
    site.publish(&[route("all", &[])], &with(&new));
    assert_eq!(certificate_of(&site.connect("a.example")), &*new.chain_der[0]);
    for client in &mut live {
        assert_eq!(certificate_of(client), &*old.chain_der[0]);
        assert_eq!(get(client, "a.example", "/").status, 200);
    }
    // A host that loses its TLS is refused, and still no live connection ends.
    site.publish(&[route("all", &[])], &tls(&[], None));
    assert_eq!(site.connect_with("a.example", &any_client()).unwrap_err(), REFUSED);
    assert_eq!(get(&mut live[0], "a.example", "/").status, 200);
}

#[test]
fn a_client_gets_the_best_protocol_that_it_offers_and_http_1_1_without_an_offer() {
    let one = Issued::of(&["a.example"]).secret("one");
    let site = Site::start(&[route("all", &[])], &tls(&[("a.example", Some(&one), V1_2)], None));
    for (offers, want) in [
        (&[&b"http/1.1"[..]][..], Some(&b"http/1.1"[..])),
        (&[b"spdy/3", b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let config = client(&[&version::TLS13], offers);
        let mut client = site.connect_with("a.example", &config).unwrap();
        assert_eq!(client.conn.alpn_protocol(), want);
        assert_eq!(get(&mut client, "a.example", "/").status, 200);
    }
    for offers in [&[&b"h2"[..]][..], &[b"http/1.1", b"h2"], &[b"h2", b"http/1.1"]] {
        let mut client = site.connect_with("a.example", &client(&[&version::TLS13], offers)).unwrap();
        assert_eq!(client.conn.alpn_protocol(), Some(&b"h2"[..]));
        // What it agreed on is what it must speak (hardening TL05).
        client.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
        let mut said = Vec::new();
        // The end may come without close_notify: there is no order to keep with such a client.
        drop(client.read_to_end(&mut said));
        assert!(!said.starts_with(b"HTTP"), "{said:?}");
        assert!(
            client.sock.take_error().unwrap().is_none() && client.read(&mut [0u8; 1]).is_err(),
            "it is over"
        );
    }
    for offers in [&[&b"h3"[..]][..], &[b"unknown", b"h3"]] {
        let refused = site.connect_with("a.example", &client(&[&version::TLS13], offers)).unwrap_err();
        assert_eq!(refused, Error::AlertReceived(AlertDescription::NoApplicationProtocol));
    }
    until("both are counted", || site.handshakes("failed") == 2.0);
}

#[test]
fn the_host_says_how_old_a_version_may_be_and_the_server_chooses() {
    let one = Issued::of(&["a.example", "b.example"]).secret("one");
    let hosts = [("a.example", Some(&one), V1_2), ("b.example", Some(&one), V1_3)];
    let site = Site::start(&[route("all", &[])], &tls(&hosts, None));
    let old = client(&[&version::TLS12], &[]);
    assert!(site.connect_with("a.example", &old).is_ok());
    let refused = site.connect_with("b.example", &old).unwrap_err();
    assert_eq!(refused, Error::AlertReceived(AlertDescription::ProtocolVersion));
    let client = site.connect("b.example");
    assert_eq!(client.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let group = client.conn.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    let suite = client.conn.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS13_AES_256_GCM_SHA384);
}

/// A client's first flight.
fn hello(name: &'static str) -> (ClientConnection, Vec<u8>) {
    let name = ServerName::try_from(name).unwrap();
    let mut connection = ClientConnection::new(any_client(), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    (connection, bytes)
}

/// Goes on after the first flight was sent.
fn go_on(connection: ClientConnection, tcp: TcpStream) {
    let mut client = StreamOwned::new(connection, tcp);
    assert_eq!(get(&mut client, "a.example", "/").status, 200);
}

#[test]
fn a_hello_may_come_in_pieces() {
    let one = Issued::of(&["a.example"]).secret("one");
    let site = Site::start(&[route("all", &[])], &tls(&[("a.example", Some(&one), V1_2)], None));
    // Each byte in a segment of its own.
    let (connection, bytes) = hello("a.example");
    assert!(bytes.len() > 1_200, "with a post-quantum key share");
    let mut tcp = dial(site.https);
    for byte in bytes {
        tcp.write_all(&[byte]).unwrap();
    }
    go_on(connection, tcp);
    // Each byte in a record of its own.
    let (connection, bytes) = hello("a.example");
    let message = bytes.get(5..).unwrap();
    assert_eq!(message.len(), usize::from(u16::from_be_bytes([bytes[3], bytes[4]])), "one record");
    let mut tcp = dial(site.https);
    let records: Vec<u8> = message.iter().flat_map(|&byte| [22, 3, 1, 0, 1, byte]).collect();
    tcp.write_all(&records).unwrap();
    go_on(connection, tcp);
}

#[test]
fn a_handshake_has_its_time_and_a_connection_more() {
    let one = Issued::of(&["a.example"]).secret("one");
    let settings = Settings { handshake_timeout: Duration::from_millis(300), ..Settings::default() };
    let site = Site::with(settings, &[route("all", &[])], &tls(&[("a.example", Some(&one), V1_2)], None));
    let mut live = site.connect("a.example");
    let silent = dial(site.https);
    let mut half = dial(site.https);
    let (_, bytes) = hello("a.example");
    half.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let mut unfinished = dial(site.https);
    unfinished.write_all(&bytes).unwrap();
    until("all have come", || site.open_connections() == 4.0);
    for tcp in [&silent, &half] {
        assert_eq!(read_to_end(tcp), b"");
    }
    assert!(!read_to_end(&unfinished).is_empty(), "the server's part of the handshake");
    until("all are counted", || site.handshakes("timeout") == 3.0);
    assert_eq!(site.open_connections(), 1.0);
    assert_eq!(get(&mut live, "a.example", "/").status, 200);
}

#[test]
fn what_is_no_tls_is_refused() {
    let one = Issued::of(&["a.example"]).secret("one");
    let site = Site::start(&[route("all", &[])], &tls(&[("a.example", Some(&one), V1_2)], None));
    let mut plain = dial(site.https);
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    let answer = read_to_end(&plain);
    assert_eq!(answer.first(), Some(&21), "an alert: {answer:?}");
    let gone = dial(site.https);
    hang_up(&gone);
    until("both are counted", || site.handshakes("failed") == 2.0);
    assert_eq!(site.open_connections(), 0.0);
    assert_eq!(get(&mut site.connect("a.example"), "a.example", "/").status, 200);
}
