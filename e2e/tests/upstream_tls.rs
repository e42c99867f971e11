//! TLS and HTTP/2 towards upstreams: who is believed, what is shown, and what becomes of a backend that is not who it
//! should be.

use std::net::SocketAddr;
use std::sync::Arc;

use e2e::certificate::{Authority, Issued, self_signed};
use e2e::client::{Connection, Request, Response};
use e2e::folder::{Folder, route, service};
use e2e::gateway::Gateway;
use e2e::h2_backend::H2Backend;
use e2e::tls_backend::{Handshake, TlsBackend, server_config};
use e2e::until::until;

use crate::site::{HOST, Site, site, site_with};

/// The name that certificates of backends are for.
const INNER: &str = "cart.internal";

/// A backendRef to this address with more fields.
fn to(backend: SocketAddr, fields: &str) -> String {
    format!("{{address: \"{}\", port: {}, {fields}}}", backend.ip(), backend.port())
}

/// A route whose one rule goes there, tried once.
fn one(backend_ref: &str) -> String {
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- {{name: all, retry: {{attempts: 0}}, backendRefs: [{backend_ref}]}}"
    );
    route("shop", &spec)
}

/// HTTPS that is believed where the ConfigMap `ca` says so, and is for [`INNER`].
fn https(more: &str) -> String {
    let validation = format!("caRef: {{kind: ConfigMap, name: ca}}, hostname: {INNER}");
    format!("protocol: HTTPS, tls: {{validation: {{{validation}}}{more}}}")
}

fn serving(chain: &[&Issued]) -> TlsBackend {
    TlsBackend::start("ok", server_config(chain, &["http/1.1"], None))
}

#[track_caller]
fn assert_leaks_nothing(response: &Response, backend: SocketAddr) {
    let said = format!("{response:?}");
    for inner in ["127.0.0.1", &backend.port().to_string(), INNER, "certificate", "rustls"] {
        assert!(!said.to_lowercase().contains(inner), "{inner:?} in {said}");
    }
}

#[test]
fn a_backend_is_verified_by_an_authority_in_a_config_map_or_a_secret() {
    let authority = Authority::new();
    let backend = serving(&[&authority.issue(&[INNER])]);
    for (kind, object) in [("ConfigMap", authority.config_map("ca")), ("Secret", authority.ca_secret("ca"))] {
        let fields = https("").replace("ConfigMap", kind);
        let site = site(&(object + &one(&to(backend.address, &fields))));
        let response = site.gateway.ask(&Request::new("POST", HOST, "/a?b").body("x"));
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{kind}");
    }
    let handshakes = backend.handshakes();
    let [Handshake::Done { server_name, protocol, client, .. }, ..] = handshakes.as_slice() else {
        panic!("{handshakes:?}")
    };
    assert_eq!(server_name.as_deref(), Some(INNER));
    assert!(matches!(protocol.as_deref(), None | Some("http/1.1")), "{protocol:?}");
    assert!(client.is_none());
    let head = backend.heads().remove(0);
    assert!(head.starts_with("POST /a?b HTTP/1.1\r\n"), "{head}");
    // The name is for the certificate; the host is the client's.
    assert!(head.to_ascii_lowercase().contains(&format!("host: {HOST}\r\n")), "{head}");
}

#[test]
fn a_service_is_spoken_to_as_its_backend_ref_says() {
    let authority = Authority::new();
    let backend = serving(&[&authority.issue(&[INNER])]);
    let yaml = [
        authority.config_map("ca"),
        service("web", &[backend.address]),
        one(&format!("{{name: web, port: 80, {}}}", https(""))),
    ];
    assert_eq!(site(&yaml.concat()).gateway.get(HOST, "/").text(), "ok");
}

#[test]
fn a_backend_that_is_not_who_it_should_be_is_a_502() {
    // Hardening TL12.
    let authority = Authority::new();
    let stranger = Authority::named("another authority");
    let forged = Authority::new();
    let cases = [
        ("another name", authority.issue(&["other.internal"])),
        ("a name below", authority.issue(&["x.cart.internal"])),
        ("a wildcard of two labels", authority.issue(&["*.internal.example"])),
        ("self-signed", self_signed(&[INNER])),
        ("expired", authority.issue_until(2021, &[INNER])),
        ("another authority", stranger.issue(&[INNER])),
        ("an authority of the same name", forged.issue(&[INNER])),
        ("no name at all", authority.issue(&[])),
        ("the address instead of the name", authority.issue(&["127.0.0.1"])),
    ];
    for (what, issued) in cases {
        let backend = serving(&[&issued]);
        let folder = Folder::with(&(authority.config_map("ca") + &one(&to(backend.address, &https("")))));
        let gateway = Gateway::start_with_env(folder.path(), &[], &[("RUST_LOG", "debug")]);
        let response = gateway.get(HOST, "/");
        assert_eq!(response.status, 502, "{what}: {response:?}");
        assert_leaks_nothing(&response, backend.address);
        assert!(backend.heads().is_empty(), "{what}: a request went to a stranger");
        // People who look are told why; the client is not.
        gateway.process.until_told("invalid peer certificate");
    }
}

#[test]
fn a_backend_that_speaks_no_tls_or_breaks_off_is_a_502() {
    // Hardening TL12.
    let authority = Authority::new();
    let plain = e2e::backend::Backend::named("ok");
    let closing = e2e::sockets::ByHand::start(|stream| stream.shutdown(std::net::Shutdown::Both));
    for address in [plain.address, closing.address] {
        let site = site(&(authority.config_map("ca") + &one(&to(address, &https("")))));
        let response = site.gateway.get(HOST, "/");
        assert!(matches!(response.status, 502 | 503), "{response:?}");
        assert_leaks_nothing(&response, address);
    }
    assert!(plain.arrived().is_empty());
}

#[test]
fn other_names_of_the_certificate_can_be_asked_for() {
    let authority = Authority::new();
    let backend = serving(&[&authority.issue(&["one.internal", "two.internal"])]);
    let fields = |names: &str| {
        format!(
            "protocol: HTTPS, tls: {{validation: {{caRef: {{kind: ConfigMap, name: ca}}, hostname: {INNER}, subjectAltNames: {names}}}}}"
        )
    };
    for (names, status) in [
        ("[two.internal]", 200),
        ("[three.internal, one.internal]", 200),
        ("[three.internal]", 502),
        ("[]", 502),
    ] {
        let site = site(&(authority.config_map("ca") + &one(&to(backend.address, &fields(names)))));
        assert_eq!(site.gateway.get(HOST, "/").status, status, "{names}");
    }
    // The name that is asked for stays the same.
    let named = backend.handshakes().iter().all(|handshake| match handshake {
        Handshake::Done { server_name, .. } => server_name.as_deref() == Some(INNER),
        Handshake::Failed(_) => true,
    });
    assert!(named, "{:?}", backend.handshakes());
}

#[test]
fn without_verification_anyone_is_believed() {
    let cases = [self_signed(&["whoever"]), Authority::new().issue_until(2021, &["expired.internal"])];
    for issued in cases {
        let backend = serving(&[&issued]);
        let fields = "protocol: HTTPS, tls: {insecureSkipVerify: true}";
        let site = site(&one(&to(backend.address, fields)));
        assert_eq!(site.gateway.get(HOST, "/").text(), "ok");
    }
}

#[test]
fn without_an_authority_of_its_own_those_of_the_system_are_asked() {
    let authority = Authority::new();
    let backend = serving(&[&authority.issue(&[INNER])]);
    let site = site(&one(&to(
        backend.address,
        &format!("protocol: HTTPS, tls: {{validation: {{hostname: {INNER}}}}}"),
    )));
    assert_eq!(site.gateway.get(HOST, "/").status, 502);
    assert!(backend.heads().is_empty());
}

#[test]
fn an_authority_that_is_missing_or_none_fails_closed_and_harms_no_other_rule() {
    let authority = Authority::new();
    let backend = serving(&[&authority.issue(&[INNER])]);
    let plain = e2e::backend::Backend::named("plain");
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n\
         - {{name: tls, matches: [{{path: {{type: PathPrefix, value: /tls}}}}], backendRefs: [{}]}}\n\
         - {{name: plain, backendRefs: [{}]}}",
        to(backend.address, &https("")),
        crate::site::address(plain.address),
    );
    let folder = Folder::with(&route("shop", &spec));
    let gateway = Gateway::start(folder.path(), &[]);
    let not_a_certificate =
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca, namespace: shop}\ndata: {ca.crt: none}\n";
    for (what, object) in [("missing", ""), ("no PEM", not_a_certificate)] {
        folder.write("ca.yaml", object);
        until(what, || {
            let status = gateway.get(HOST, "/tls").status;
            assert_ne!(status, 200, "{what}");
            matches!(status, 500 | 502 | 503).then_some(())
        });
        assert_eq!(gateway.get(HOST, "/plain").text(), "plain", "{what}");
    }
    folder.write("ca.yaml", &authority.config_map("ca"));
    gateway.until_status(HOST, "/tls", 200);
    assert!(backend.handshakes().iter().all(|handshake| matches!(handshake, Handshake::Done { .. })));
}

#[test]
fn an_upstream_that_asks_for_a_certificate_gets_the_gateways() {
    let authority = Authority::new();
    let clients = Authority::named("authority of clients");
    let ours = clients.issue_client("gateway", |_| {});
    let config = server_config(&[&authority.issue(&[INNER])], &["http/1.1"], Some(&clients));
    let backend = TlsBackend::start("ok", config);
    let yaml = |more: &str| {
        authority.config_map("ca") + &ours.secret("gw-client") + &one(&to(backend.address, &https(more)))
    };
    let site = site(&yaml(", clientCertRef: {name: gw-client}"));
    assert_eq!(site.gateway.get(HOST, "/").text(), "ok");
    let handshakes = backend.handshakes();
    let [Handshake::Done { client: Some(client), .. }] = handshakes.as_slice() else {
        panic!("{handshakes:?}")
    };
    assert!(*client == ours.der);
    // Without it there is no connection.
    site.folder.write("all.yaml", &yaml(""));
    site.gateway.until_status(HOST, "/", 502);
    // Another one is shown from then on.
    let rotated = clients.issue_client("gateway, rotated", |_| {});
    let yaml = yaml(", clientCertRef: {name: gw-client}")
        .replace(&ours.secret("gw-client"), &rotated.secret("gw-client"));
    site.folder.write("all.yaml", &yaml);
    site.gateway.until_status(HOST, "/", 200);
    until("the new one is shown", || {
        site.gateway.get(HOST, "/");
        let handshakes = backend.handshakes();
        let shown = handshakes.last().is_some_and(|handshake| match handshake {
            Handshake::Done { client, .. } => client.as_ref() == Some(&rotated.der),
            Handshake::Failed(_) => false,
        });
        shown.then_some(())
    });
}

/// How many of the handshakes of a backend were resumed.
fn resumed(backend: &TlsBackend) -> (usize, usize) {
    let handshakes = backend.handshakes();
    let resumed =
        handshakes.iter().filter(|one| matches!(one, Handshake::Done { resumed: true, .. })).count();
    (resumed, handshakes.len())
}

#[test]
fn connections_to_an_upstream_are_kept_and_resumed() {
    let authority = Authority::new();
    let backend = serving(&[&authority.issue(&[INNER])]);
    let yaml = authority.config_map("ca") + &one(&to(backend.address, &https("")));
    let flags = ["--workers", "1", "--upstream-idle", "300ms"];
    let site = site_with(&yaml, &flags);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for _ in 0..20 {
        assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().status, 200);
    }
    assert_eq!(resumed(&backend), (0, 1), "twenty requests in one connection");
    until("a connection is opened anew", || {
        // Not to wait for something: the idle time of connections is what is tested.
        std::thread::sleep(std::time::Duration::from_millis(400));
        assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().status, 200);
        (backend.handshakes().len() >= 4).then_some(())
    });
    let (resumed, all) = resumed(&backend);
    assert_eq!(resumed, all - 1, "all but the first are resumed");
}

#[test]
fn a_session_is_not_resumed_with_another_identity_or_trust() {
    let authority = Authority::new();
    let backend = serving(&[&authority.issue(&[INNER])]);
    let stranger = Authority::named("another authority");
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n\
         - {{name: right, matches: [{{path: {{type: PathPrefix, value: /right}}}}], retry: {{attempts: 0}}, backendRefs: [{}]}}\n\
         - {{name: wrong, matches: [{{path: {{type: PathPrefix, value: /wrong}}}}], retry: {{attempts: 0}}, backendRefs: [{}]}}",
        to(backend.address, &https("")),
        to(backend.address, &https("").replace("name: ca", "name: stranger")),
    );
    let yaml = authority.config_map("ca") + &stranger.config_map("stranger") + &route("shop", &spec);
    let site = site_with(&yaml, &["--workers", "1", "--upstream-idle", "100ms"]);
    for _ in 0..5 {
        assert_eq!(site.gateway.get(HOST, "/right").status, 200);
        assert_eq!(
            site.gateway.get(HOST, "/wrong").status,
            502,
            "another rule's trust, connection or ticket"
        );
    }
}

/// Both protocols of HTTP/2 to one backend each.
fn h2_backends(authority: &Authority) -> [(&'static str, H2Backend, String); 2] {
    let config = server_config(&[&authority.issue(&[INNER])], &["h2", "http/1.1"], None);
    let tls = https("").replace("HTTPS", "GRPCS");
    [("H2C", H2Backend::start(), "protocol: H2C".to_owned()), ("GRPCS", H2Backend::start_tls(config), tls)]
}

#[test]
fn backends_are_spoken_to_over_http2_where_that_is_said() {
    let authority = Authority::new();
    for (what, backend, fields) in h2_backends(&authority) {
        let yaml = authority.config_map("ca") + &one(&to(backend.address, &fields));
        let site = site_with(&yaml, &["--workers", "1"]);
        let mut connection = Connection::open(site.gateway.http).unwrap();
        let request = Request::new("POST", HOST, "/a?b=c").header("Cookie", "a=1; b=2").body("hello");
        for _ in 0..10 {
            let response = connection.ask(&request).unwrap();
            assert_eq!(response.status, 200, "{what}: {}", response.text());
            assert_eq!(response.json()["bodyBytes"], 5, "{what}");
        }
        assert_eq!(backend.connections(), 1, "{what}: one connection for all");
        let seen = &backend.seen()[0];
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/a?b=c"), "{what}");
        assert_eq!((seen.authority.as_str(), seen.body.as_slice()), (HOST, &b"hello"[..]), "{what}");
        let scheme = if what == "H2C" { "http" } else { "https" };
        assert_eq!(seen.scheme, scheme, "{what}: RFC 9113 §8.3.1");
        assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"], "{what}");
        for name in ["host", "connection", "transfer-encoding", "keep-alive", "upgrade"] {
            assert!(seen.all(name).iter().all(|value| name == "host" && *value == HOST), "{what}: {seen:?}");
        }
    }
}

#[test]
fn a_port_of_a_service_that_says_h2c_is_spoken_to_over_http2() {
    let backend = H2Backend::start();
    let service = service("web", &[backend.address])
        .replace("targetPort: 8080", "targetPort: 8080, appProtocol: kubernetes.io/h2c");
    let site = site(&(service + &one("{name: web, port: 80}")));
    assert_eq!(site.gateway.get(HOST, "/").status, 200);
    assert_eq!(backend.seen().len(), 1);
}

#[test]
fn a_backend_with_tls_that_does_not_agree_on_http2_is_a_502() {
    let authority = Authority::new();
    let backend = serving(&[&authority.issue(&[INNER])]);
    let fields = https("").replace("HTTPS", "GRPCS");
    let site = site(&(authority.config_map("ca") + &one(&to(backend.address, &fields))));
    assert_eq!(site.gateway.get(HOST, "/").status, 502);
    assert!(backend.heads().is_empty());
}

/// A route to this backend with the default retry.
fn retrying(backend_ref: &str) -> Site {
    let spec = format!("hostnames: [{HOST}]\nrules: [{{name: all, backendRefs: [{backend_ref}]}}]");
    site_with(&route("shop", &spec), &["--workers", "1"])
}

#[test]
fn be15_what_an_upstream_of_http2_has_not_begun_is_sent_again() {
    // Hardening BE15.
    let backend = H2Backend::start();
    let site = retrying(&to(backend.address, "protocol: H2C"));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let mut post = |path: &str| connection.ask(&Request::new("POST", HOST, path).body("x")).unwrap();
    assert_eq!(post("/first").status, 200);
    // REFUSED_STREAM means that nothing was done (RFC 9113 §8.7), so that even a POST goes again.
    let again = post("/refused-once");
    assert_eq!((again.status, &again.json()["bodyBytes"]), (200, &1.into()));
    for number in 0..10 {
        assert_eq!(post("/goaway").status, 200, "request {number}");
        assert_eq!(post("/next").status, 200, "request {number} after GOAWAY");
    }
    assert!(backend.connections() > 5, "{} connections", backend.connections());
    assert!(matches!(post("/refused").status, 502 | 503));
    assert_eq!(post("/reset").status, 502);
    let executions = backend.seen().iter().filter(|seen| seen.path == "/reset").count();
    assert_eq!(executions, 1, "a POST that may have been done is not sent again");
    assert_eq!(post("/last").status, 200);
}

#[test]
fn be15_an_upstream_that_takes_one_stream_at_a_time_is_still_used_by_many() {
    // Hardening BE15: MAX_CONCURRENT_STREAMS 1.
    let backend = H2Backend::start_narrow(1);
    let site = retrying(&to(backend.address, "protocol: H2C"));
    let http = site.gateway.http;
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut connection = Connection::open(http).unwrap();
                (0..20).map(|_| connection.ask(&Request::get(HOST, "/")).unwrap().status).collect::<Vec<_>>()
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), [200; 20]);
    }
}

#[test]
fn a_body_that_breaks_off_over_http2_never_looks_like_a_clean_end() {
    // Hardening BE03.
    let backend = H2Backend::start();
    let site = retrying(&to(backend.address, "protocol: H2C"));
    match e2e::client::ask(site.gateway.http, &Request::get(HOST, "/broken")) {
        Err(_) => {}
        Ok(response) => assert_eq!(response.status, 502, "{response:?}"),
    }
    let mut h2 = e2e::h2_client::H2Connection::plain(site.gateway.http).unwrap();
    let outcome = h2.outcome_of(&e2e::h2_client::H2Request::get(HOST, "/broken"));
    assert!(matches!(outcome.status(), None | Some(502)), "{outcome:?}");
}

#[test]
fn large_bodies_go_through_http2_on_both_sides() {
    const BYTES: usize = 20 << 20;
    let authority = Authority::new();
    let body = Arc::new((0..BYTES).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>());
    for (what, backend, fields) in h2_backends(&authority) {
        let site = site(&(authority.config_map("ca") + &one(&to(backend.address, &fields))));
        let mut h2 = e2e::h2_client::H2Connection::plain(site.gateway.http).unwrap();
        let up = e2e::h2_client::H2Request::new("POST", HOST, "/echo").body(body.to_vec());
        assert!(
            h2.ask(&e2e::h2_client::H2Request::get(HOST, &format!("/bytes?{BYTES}"))).unwrap().body.len()
                == BYTES
        );
        let echoed = h2.ask(&up).unwrap();
        assert!(echoed.body == *body, "{what}: {} bytes came back", echoed.body.len());
        let mut connection = Connection::open(site.gateway.http).unwrap();
        let down = connection.ask(&Request::get(HOST, &format!("/bytes?{BYTES}"))).unwrap();
        let wrong = down.body.iter().enumerate().find(|(i, byte)| usize::from(**byte) != i % 251);
        assert!(wrong.is_none() && down.body.len() == BYTES, "{what}: {wrong:?} of {}", down.body.len());
    }
}
