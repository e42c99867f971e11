//! The handshake itself: versions, protocols by ALPN, pieces, deadlines, and resumption.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use e2e::backend::Backend;
use e2e::certificate::Authority;
use e2e::client::Request;
use e2e::folder::route;
use e2e::tls_client::{
    TlsConnection, ask, config, config_of, config_without_trust, connect, hello, openssl, without_line_ends,
};
use e2e::until::until;
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConfig, HandshakeKind, ProtocolVersion};

use crate::site::{HOST, Site, site, site_with, spec};
use crate::tls_site::{is_silence, refusal, shows, tls_route};

/// One host with a certificate of this authority.
fn one_host(authority: &Authority, more: &str, backend: &Backend) -> String {
    authority.issue(&[HOST]).secret("one") + &tls_route("one", HOST, "one", more, backend.address)
}

/// How the bytes of a ClientHello are cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    BytesOnTheWire,
    /// Each byte of the message as a record of its own (RFC 8446 §5.1).
    BytesInRecords,
}

fn send_hello(stream: &mut TcpStream, records: &[u8], cut: Cut) {
    match cut {
        Cut::Whole => stream.write_all(records).unwrap(),
        Cut::BytesOnTheWire => records.chunks(1).for_each(|byte| stream.write_all(byte).unwrap()),
        Cut::BytesInRecords => {
            let mut rest = records;
            let mut cut = Vec::new();
            while let [kind, major, minor, high, low, message @ ..] = rest {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let (message, next) = message.split_at(length);
                for byte in message {
                    cut.extend([*kind, *major, *minor, 0, 1, *byte]);
                }
                rest = next;
            }
            stream.write_all(&cut).unwrap();
        }
    }
}

#[test]
fn a_client_hello_in_pieces_or_of_twenty_kilobytes_is_understood() {
    // Hardening TL03.
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let site = site(&one_host(&authority, ", minVersion: \"1.3\"", &backend));
    let small = Arc::new(config(&authority));
    let mut long = config(&authority);
    // 250 bytes a name, and the one that is spoken last.
    long.alpn_protocols = (0..80).map(|i| format!("{i:0>250}").into_bytes()).collect();
    long.alpn_protocols.push(b"http/1.1".to_vec());
    let long = Arc::new(long);
    for (what, client, cut) in [
        ("small", &small, Cut::BytesOnTheWire),
        ("small", &small, Cut::BytesInRecords),
        ("long", &long, Cut::Whole),
        ("long", &long, Cut::BytesOnTheWire),
    ] {
        let (tls, records) = hello(HOST, client);
        assert_eq!(records.len() > 20_000, what == "long", "{} bytes", records.len());
        let mut stream = connect(site.gateway.https).unwrap();
        send_hello(&mut stream, &records, cut);
        let mut connection = TlsConnection::shake_hands(tls, stream)
            .unwrap_or_else(|error| panic!("{what}, {cut:?}: {error}"));
        assert_eq!(connection.tls().protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().text(), "ok", "{what}, {cut:?}");
    }
}

#[test]
fn what_is_older_than_tls_1_2_or_has_no_forward_secrecy_is_refused_with_an_alert() {
    // Hardening TL04.
    let authority = Authority::new();
    let rsa = authority.issue_rsa(&[HOST]);
    let backend = Backend::named("ok");
    let yaml = rsa.secret("one") + &tls_route("one", HOST, "one", "", backend.address);
    let site = site(&yaml);
    let cases: [(&[&str], &str); 5] = [
        // No suite of these versions is spoken, which is found first.
        (&["-tls1", "-cipher", "ALL:@SECLEVEL=0"], "alert handshake failure"),
        (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "alert handshake failure"),
        (&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256"], "alert handshake failure"),
        (&["-tls1_2", "-cipher", "AES128-GCM-SHA256"], "alert handshake failure"),
        (&["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"], "alert handshake failure"),
    ];
    for (args, want) in cases {
        let output = openssl(site.gateway.https, &[&["-servername", HOST], args].concat(), "");
        assert!(output.stderr.contains(want), "{args:?}: {output:?}");
    }
    let good = ["-servername", HOST, "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"];
    let output = openssl(site.gateway.https, &good, "x\r\n\r\n");
    assert_eq!(output.certificate(), without_line_ends(&rsa.certificate_pem), "{output:?}");
    assert!(output.stdout.contains("Secure Renegotiation IS supported"), "{output:?}");
    assert!(output.stdout.contains("Compression: NONE"), "{output:?}");
}

#[test]
fn both_versions_work_with_keys_of_both_kinds_and_a_minimum_of_1_3_refuses_1_2() {
    // Hardening TL04.
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let yaml = [
        authority.issue(&["ecdsa.example.com", "new.example.com"]).secret("ecdsa"),
        authority.issue_rsa(&["rsa.example.com"]).secret("rsa"),
        tls_route("ecdsa", "ecdsa.example.com", "ecdsa", ", minVersion: \"1.2\"", backend.address),
        tls_route("rsa", "rsa.example.com", "rsa", "", backend.address),
        tls_route("new", "new.example.com", "ecdsa", ", minVersion: \"1.3\"", backend.address),
    ];
    let site = site(&yaml.concat());
    for (version, number) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let client = Arc::new(config_of(&authority, &[version]));
        for host in ["ecdsa.example.com", "rsa.example.com"] {
            let mut connection = TlsConnection::open(site.gateway.https, host, &client)
                .unwrap_or_else(|error| panic!("{host}, {number:?}: {error}"));
            assert_eq!(connection.tls().protocol_version(), Some(number), "{host}");
            assert_eq!(connection.ask(&Request::get(host, "/")).unwrap().text(), "ok", "{host}, {number:?}");
        }
    }
    let old = Arc::new(config_of(&authority, &[&TLS12]));
    let refused = refusal(site.gateway.https, "new.example.com", &old);
    assert_eq!(refused, Ok(AlertDescription::ProtocolVersion));
    let new = Arc::new(config_of(&authority, &[&TLS13]));
    let response = ask(site.gateway.https, &new, &Request::get("new.example.com", "/")).unwrap();
    assert_eq!(response.text(), "ok");
}

#[test]
fn a_client_that_offers_protocols_gets_one_that_is_spoken_or_an_alert() {
    // Hardening TL05, RFC 7301 §3.2.
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let site = site(&one_host(&authority, "", &backend));
    let client = |protocols: &[&str]| {
        let mut config = config(&authority);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    };
    let cases: [(&[&str], Option<&[u8]>); 3] =
        [(&["http/1.1"], Some(b"http/1.1")), (&["spdy/3", "http/1.1"], Some(b"http/1.1")), (&[], None)];
    for (offered, want) in cases {
        let mut connection = TlsConnection::open(site.gateway.https, HOST, &client(offered)).unwrap();
        assert_eq!(connection.tls().alpn_protocol(), want, "{offered:?}");
        assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().text(), "ok", "{offered:?}");
    }
    for offered in [&["spdy/3"][..], &["http/1.10", "HTTP/1.1"]] {
        let refused = refusal(site.gateway.https, HOST, &client(offered));
        assert_eq!(refused, Ok(AlertDescription::NoApplicationProtocol), "{offered:?}");
    }
}

#[test]
fn half_a_client_hello_silence_and_dripping_bytes_are_closed_within_the_deadline() {
    // Hardening SL04.
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let site = site_with(&one_host(&authority, "", &backend), &["--handshake-timeout", "1s"]);
    let https = site.gateway.https;
    let client = Arc::new(config(&authority));
    let (_tls, records) = hello(HOST, &client);
    let started = Instant::now();
    let wait = |mut stream: TcpStream, drips: Vec<u8>| {
        thread::spawn(move || {
            // Shorter than the deadline, so that a drip is what comes next.
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let mut drips = drips.into_iter();
            loop {
                match stream.read(&mut [0; 4096]) {
                    Err(error) if is_silence(&error) => {
                        // After the close this fails, and the next read tells it.
                        drop(drips.next().map(|byte| stream.write_all(&[byte])));
                    }
                    // An alert may come first.
                    Ok(count) if count > 0 => {}
                    Ok(_) | Err(_) => return started.elapsed(),
                }
                assert!(started.elapsed() < Duration::from_secs(10), "not closed");
            }
        })
    };
    let silent = wait(connect(https).unwrap(), Vec::new());
    let mut half = connect(https).unwrap();
    half.write_all(&records[..records.len() / 2]).unwrap();
    let half = wait(half, Vec::new());
    let dripping = wait(connect(https).unwrap(), records);
    for (what, thread) in [("silent", silent), ("half", half), ("dripping", dripping)] {
        let closed = thread.join().unwrap();
        let fits = closed > Duration::from_millis(800) && closed < Duration::from_secs(3);
        assert!(fits, "{what}: closed after {closed:?}");
    }
    // The deadline is the handshake's and not the connection's.
    let mut connection = TlsConnection::open(https, HOST, &client).unwrap();
    let opened = Instant::now();
    until("longer than the deadline", || (opened.elapsed() > Duration::from_millis(1300)).then_some(()));
    assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().text(), "ok");
}

#[test]
fn bytes_that_are_no_tls_harm_nobody() {
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let site = site(&one_host(&authority, "", &backend));
    let client = Arc::new(config(&authority));
    let mut open = TlsConnection::open(site.gateway.https, HOST, &client).unwrap();
    let plain = Request::get(HOST, "/").bytes();
    let record_of_64_kib = [0x16, 3, 1, 0xff, 0xff].repeat(20_000);
    for bytes in [&plain[..], &[0; 4096], &record_of_64_kib] {
        let mut stream = connect(site.gateway.https).unwrap();
        // It may be closed before all of it is sent.
        drop(stream.write_all(bytes));
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert!(!is_silence(&error), "not closed"),
        }
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains("HTTP/1.1 200"), "{text}");
    }
    assert_eq!(open.ask(&Request::get(HOST, "/")).unwrap().text(), "ok");
    assert!(backend.arrived().len() == 1);
}

/// A client that keeps tickets.
fn resuming(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.resumption = Resumption::in_memory_sessions(64);
    Arc::new(config)
}

/// The kind of a handshake whose connection then gets an answer, and with it tickets.
fn kind(site: &Site, client: &Arc<ClientConfig>) -> HandshakeKind {
    let (mut tls, records) = hello(HOST, client);
    assert!(tls.early_data().is_none(), "early data may be sent");
    let mut stream = connect(site.gateway.https).unwrap();
    stream.write_all(&records).unwrap();
    let mut connection = TlsConnection::shake_hands(tls, stream).unwrap();
    assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().status, 200);
    connection.tls().handshake_kind().expect("a handshake that is over")
}

#[test]
fn connections_resume_on_every_worker_and_early_data_is_never_offered() {
    // Hardening TL07.
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let site = site_with(&one_host(&authority, "", &backend), &["--workers", "4"]);
    for version in [&TLS12, &TLS13] {
        let mut config = config_of(&authority, &[version]);
        config.enable_early_data = true;
        let client = resuming(config);
        assert_eq!(kind(&site, &client), HandshakeKind::Full);
        for number in 0..12 {
            assert_eq!(kind(&site, &client), HandshakeKind::Resumed, "{version:?}, connection {number}");
        }
    }
}

#[test]
fn tickets_outlive_changes_of_routes_and_of_other_certificates() {
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let site = site(&one_host(&authority, "", &backend));
    let other = "other.example.com";
    let names = [other];
    let add_other = |issued: &e2e::certificate::Issued| {
        let yaml = issued.secret("other") + &tls_route("other", other, "other", "", backend.address);
        site.folder.write("other.yaml", &yaml);
    };
    let client = resuming(config(&authority));
    let probe = Arc::new(config_without_trust());
    let https = site.gateway.https;
    assert_eq!(kind(&site, &client), HandshakeKind::Full);
    // A new host, then its certificate, then a route that has nothing to do with TLS.
    for _ in 0..2 {
        let issued = authority.issue(&names);
        add_other(&issued);
        until("the other certificate is live", || shows(https, other, &probe, &issued).then_some(()));
        assert_eq!(kind(&site, &client), HandshakeKind::Resumed);
    }
    let plain = spec(backend.address, "").replace(HOST, "plain.example.com");
    site.folder.write("plain.yaml", &route("plain", &plain));
    site.gateway.until_status("plain.example.com", "/", 200);
    assert_eq!(kind(&site, &client), HandshakeKind::Resumed);
}
