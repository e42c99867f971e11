//! Handshakes that are made to harm: very many that never end, messages that are bent, renegotiation, names with a NUL.
//! Nobody else notices.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use e2e::backend::Backend;
use e2e::certificate::{Authority, Issued};
use e2e::client::Request;
use e2e::folder::route;
use e2e::tls_backend::{TlsBackend, server_config};
use e2e::tls_client::{TlsConnection, ask, config, config_with_certificate, connect, hello};
use rcgen::{DnType, SanType};

use crate::site::{HOST, address, site, site_with};
use crate::streams::raise_limit;
use crate::tls_site::{is_silence, tls_route};

const POD: &str = "pod.example.com";

#[test]
fn a_thousand_handshakes_that_never_end_keep_nobody_from_his() {
    const STUCK: usize = 1000;
    raise_limit(8_000);
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let yaml = authority.issue(&[HOST]).secret("one") + &tls_route("one", HOST, "one", "", backend.address);
    let site = site_with(&yaml, &["--handshake-timeout", "6s", "--access-log", "off"]);
    let https = site.gateway.https;
    let client = Arc::new(config(&authority));
    assert_eq!(ask(https, &client, &Request::get(HOST, "/")).unwrap().text(), "ok");
    let before = site.gateway.process.resident_kib();
    let (_tls, records) = hello(HOST, &client);
    // Nothing; half a message; a record that is only announced; all but its last byte.
    let starts = [&[][..], &records[..records.len() / 2], &[22, 3, 1, 64, 0], &records[..records.len() - 1]];
    let mut stuck: Vec<TcpStream> = (0..STUCK)
        .map(|number| {
            let mut stream = connect(https).unwrap();
            stream.write_all(starts[number % starts.len()]).unwrap();
            stream
        })
        .collect();
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(ask(https, &client, &Request::get(HOST, "/")).unwrap().text(), "ok");
            begun.elapsed()
        })
        .collect();
    let grown = site.gateway.process.resident_kib().saturating_sub(before);
    let last = stuck.last_mut().unwrap();
    last.set_nonblocking(true).unwrap();
    assert!(last.read(&mut [0; 8]).is_err_and(|error| is_silence(&error)), "closed before its time");
    last.set_nonblocking(false).unwrap();
    times.sort();
    println!(
        "measured: {:?} a request beside them, {:?} at most, {grown} KiB for them",
        times[50], times[99]
    );
    assert!(times[50] < Duration::from_millis(100) && times[99] < Duration::from_secs(1), "{times:?}");
    assert!(grown < 32 << 10, "{grown} KiB");
    // Each ends with its time, and not one stays.
    for (number, mut stream) in stuck.into_iter().enumerate() {
        let mut rest = Vec::new();
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert!(!is_silence(&error), "connection {number} is still open");
        }
    }
    assert_eq!(ask(https, &client, &Request::get(HOST, "/")).unwrap().text(), "ok");
}

/// The parts of a ClientHello (RFC 8446 §4.1.2) that are bent here.
struct Bent {
    /// Version, random and session id.
    start: Vec<u8>,
    suites: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
}

const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const SUPPORTED_VERSIONS: u16 = 43;

/// Two bytes as a number.
fn number(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Two bytes of length before the bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

impl Bent {
    /// One that is well-formed and asks for this host.
    fn of(host: &str) -> Self {
        let (_tls, records) = hello(host, &Arc::new(config(&Authority::new())));
        // Behind the heads of the record and of the message.
        let body = &records[9..];
        let (start, rest) = body.split_at(35 + usize::from(body[34]));
        let (suites, rest) = rest[2..].split_at(number(rest));
        // One way of no compression.
        let mut rest = &rest[4..];
        let mut extensions = Vec::new();
        while !rest.is_empty() {
            let (payload, tail) = rest[4..].split_at(number(&rest[2..]));
            extensions.push((number(rest) as u16, payload.to_vec()));
            rest = tail;
        }
        Self { start: start.to_vec(), suites: suites.to_vec(), extensions }
    }

    fn with(mut self, kind: u16, payload: impl Into<Vec<u8>>) -> Self {
        self.extensions.push((kind, payload.into()));
        self
    }

    fn set(mut self, kind: u16, payload: impl Into<Vec<u8>>) -> Self {
        self.extensions.retain(|(k, _)| *k != kind);
        self.with(kind, payload)
    }

    /// Asks for these bytes as names of hosts (RFC 6066 §3).
    fn names(self, names: &[&[u8]]) -> Self {
        let list: Vec<u8> = names.iter().flat_map(|name| [vec![0], sized(name)].concat()).collect();
        self.set(SERVER_NAME, sized(&list))
    }

    /// What RFC 8701 has clients put in so that nobody relies on knowing everything.
    fn greased(mut self) -> Self {
        self.suites.splice(0..0, [0x0a, 0x0a]);
        for (kind, payload) in &mut self.extensions {
            match *kind {
                SUPPORTED_GROUPS => *payload = sized(&[&[0x2a, 0x2a], &payload[2..]].concat()),
                SUPPORTED_VERSIONS => {
                    let list = [&[0x7a, 0x7a], &payload[1..]].concat();
                    *payload = [&[list.len() as u8], &list[..]].concat();
                }
                _ => {}
            }
        }
        self.extensions.insert(0, (0x1a1a, Vec::new()));
        self.with(0xdada, [0])
    }

    /// As one record, or more where it is longer.
    fn records(&self) -> Vec<u8> {
        let extension =
            |(kind, payload): &(u16, Vec<u8>)| [&kind.to_be_bytes()[..], &sized(payload)].concat();
        let extensions: Vec<u8> = self.extensions.iter().flat_map(extension).collect();
        let body = [&self.start, &sized(&self.suites)[..], &[1, 0], &sized(&extensions)].concat();
        let length = (body.len() as u32).to_be_bytes();
        let message = [&[1, length[1], length[2], length[3]], &body[..]].concat();
        message.chunks(16_384).flat_map(|piece| [&[22, 3, 1], &sized(piece)[..]].concat()).collect()
    }
}

/// How a server begins to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    ServerHello,
    Alert(u8),
    Closed,
}

fn answer(https: SocketAddr, records: &[u8]) -> Answer {
    let mut stream = connect(https).unwrap();
    stream.write_all(records).unwrap();
    let mut head = [0; 7];
    match stream.read_exact(&mut head) {
        Ok(()) if head[0] == 22 && head[5] == 2 => Answer::ServerHello,
        Ok(()) if head[0] == 21 => Answer::Alert(head[6]),
        Ok(()) => panic!("{head:?}"),
        Err(error) => {
            assert!(!is_silence(&error), "no answer");
            Answer::Closed
        }
    }
}

#[test]
fn a_client_hello_with_what_nobody_knows_is_understood_and_a_bent_one_is_an_alert() {
    // Hardening TL03. With a host that is passed through, the name is looked for before rustls has its say.
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let terminated =
        authority.issue(&[HOST]).secret("one") + &tls_route("one", HOST, "one", "", backend.address);
    let spec = format!(
        "hostnames: [{POD}]\ntls: {{mode: Passthrough}}\nrules: [{{name: all, backendRefs: [{}]}}]",
        address(backend.address)
    );
    let passing = terminated.clone() + &route("pod", &spec);
    // RFC 8446 §6.
    let (decode_error, illegal_parameter) = (Answer::Alert(50), Answer::Alert(47));
    let (handshake_failure, protocol_version) = (Answer::Alert(40), Answer::Alert(70));
    let of = || Bent::of(HOST);
    let long =
        [b"a".repeat(60), b"b".repeat(60), b"c".repeat(60), b"d".repeat(60), b"e".repeat(60)].join(&b'.');
    let with_nul = [HOST.as_bytes(), b"\0.evil.example"].concat();
    let cases: [(&str, Bent, Answer); 12] = [
        ("as it is", of(), Answer::ServerHello),
        ("GREASE everywhere", of().greased(), Answer::ServerHello),
        ("an unknown extension of 20 KiB", of().with(0x5555, vec![7; 20_000]), Answer::ServerHello),
        ("no suite that is known", Bent { suites: vec![0x0a, 0x0a], ..of() }, handshake_failure),
        ("no version that is known", of().set(SUPPORTED_VERSIONS, [2, 0x7a, 0x7a]), protocol_version),
        ("an extension twice", of().with(0x5555, [1]).with(0x5555, [1]), decode_error),
        ("two names", of().names(&[HOST.as_bytes(), b"b.example.com"]), decode_error),
        ("an empty list of names", of().names(&[]), decode_error),
        ("an empty name", of().names(&[b""]), decode_error),
        ("a name with a NUL", of().names(&[&with_nul]), illegal_parameter),
        ("a name of 304 bytes", of().names(&[&long]), illegal_parameter),
        ("a name with a line", of().names(&[b"shop.example.com\r\nX-Evil: 1"]), illegal_parameter),
    ];
    for (what, yaml) in [("alone", terminated), ("beside a host that is passed through", passing)] {
        let site = site(&yaml);
        for (bent, hello, want) in &cases {
            let got = answer(site.gateway.https, &hello.records());
            assert_eq!(got, *want, "{bent}, {what}");
        }
        // Single bytes are wrong in turn, those of lengths among them: whatever is said, it ends.
        let records = of().records();
        for at in [3, 6, 7, 44, 78] {
            let mut records = records.clone();
            records[at] ^= 0x40;
            let mut stream = connect(site.gateway.https).unwrap();
            stream.write_all(&records).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            if let Err(error) = stream.read_to_end(&mut rest) {
                assert!(!is_silence(&error), "byte {at}, {what}: not closed");
            }
        }
        let client = Arc::new(config(&authority));
        assert_eq!(
            ask(site.gateway.https, &client, &Request::get(HOST, "/")).unwrap().text(),
            "ok",
            "{what}"
        );
    }
}

#[test]
fn a_client_that_wants_to_renegotiate_is_told_that_nobody_does() {
    // Hardening TL04.
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let yaml = authority.issue(&[HOST]).secret("one") + &tls_route("one", HOST, "one", "", backend.address);
    let site = site(&yaml);
    let https = site.gateway.https;
    let client = Arc::new(config(&authority));
    let mut open = TlsConnection::open(https, HOST, &client).unwrap();
    let mut child = Command::new("timeout")
        .args(["20", "openssl", "s_client", "-tls1_2", "-servername", HOST, "-connect", &https.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl (.ci/tools openssl)");
    // A line of this letter alone is a command. The input stays open: its end would end the connection.
    let mut input = child.stdin.take().expect("piped");
    input.write_all(b"R\n").unwrap();
    let output = child.wait_with_output().expect("the output of openssl");
    drop(input);
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(said.contains("no renegotiation"), "{said}");
    assert_eq!(open.ask(&Request::get(HOST, "/")).unwrap().text(), "ok");
}

/// A certificate whose subject and only name go on behind a NUL.
fn with_nul(authority: &Authority, name: &str) -> Issued {
    let bent = format!("{name}\0.evil.example");
    authority.issue_client(&bent, |params| {
        params.extended_key_usages.clear();
        params.subject_alt_names = vec![SanType::DnsName(bent.clone().try_into().expect("ASCII"))];
        params.distinguished_name.push(DnType::OrganizationName, "a\0b");
    })
}

#[test]
fn a_name_with_a_nul_in_a_certificate_is_no_shorter_name() {
    // Hardening TL08.
    let (authority, clients) = (Authority::new(), Authority::named("authority of clients"));
    let plain = Backend::named("ok");
    // Of an upstream: it is not the one before the NUL.
    let upstream =
        TlsBackend::start("ok", server_config(&[&with_nul(&authority, HOST)], &["http/1.1"], None));
    let tls = format!("tls: {{validation: {{caRef: {{kind: ConfigMap, name: ca}}, hostname: {HOST}}}}}");
    let to = format!(
        "{{address: \"{}\", port: {}, protocol: HTTPS, {tls}}}",
        upstream.address.ip(),
        upstream.address.port()
    );
    let inner = format!("hostnames: [inner.example.com]\nrules: [{{name: all, backendRefs: [{to}]}}]");
    let auth =
        ", clientAuth: {mode: Require, caRef: {kind: ConfigMap, name: clients}, forward: [Subject, Verify]}";
    let yaml = [
        authority.config_map("ca"),
        clients.config_map("clients"),
        authority.issue(&[HOST]).secret("good"),
        route("inner", &inner),
        tls_route("guarded", HOST, "good", auth, plain.address),
    ];
    let site = site(&yaml.concat());
    assert_eq!(site.gateway.get("inner.example.com", "/").status, 502);
    assert!(upstream.heads().is_empty(), "a request went to a stranger");

    // Of a client: its authority has signed it, and what the upstream is told has the NUL as text.
    let shown = with_nul(&clients, "ada");
    let client = Arc::new(config_with_certificate(&authority, &[&shown]));
    assert_eq!(ask(site.gateway.https, &client, &Request::get(HOST, "/")).unwrap().status, 200);
    let arrived = &plain.arrived()[0];
    assert_eq!(arrived.all("x-client-subject"), [r"O=a\00b,CN=ada\00.evil.example"], "{}", arrived.head);
    assert!(!arrived.head.contains('\0'), "{}", arrived.head);
}
