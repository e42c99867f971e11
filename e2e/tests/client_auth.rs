//! Certificates of clients: who gets in, what the upstream is told about them, and that a ticket gets nobody in.

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::backend::{Arrived, Backend};
use e2e::certificate::{Authority, Issued, self_signed};
use e2e::client::{Request, Response};
use e2e::folder::{Folder, route};
use e2e::gateway::Gateway;
use e2e::h2_client::H2Connection;
use e2e::tls_client::{TlsConnection, ask, config, config_with_certificate, offering_h2};
use e2e::until::until;
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind};

use crate::site::{HOST, Site, address, site, site_with};
use crate::tls_site::tls_route;

const OPEN: &str = "open.example.com";

/// The headers that tell the upstream who the client is.
const IDENTITY: [&str; 3] = ["client-cert", "x-client-subject", "x-client-verify"];

struct Guarded {
    site: Site,
    /// Signs the server's certificates.
    authority: Authority,
    /// Signs the clients'.
    clients: Authority,
    backend: Backend,
}

fn auth(mode: &str) -> String {
    format!(
        ", clientAuth: {{mode: {mode}, caRef: {{kind: ConfigMap, name: clients}}, forward: [Subject, Verify, Certificate]}}"
    )
}

/// [`HOST`] asks for certificates in this mode; [`OPEN`] does not, with the same certificate of the server.
fn guarded(mode: &str) -> Guarded {
    let (authority, clients) = (Authority::new(), Authority::named("authority of clients"));
    let backend = Backend::named("ok");
    let yaml = [
        authority.issue(&[HOST, OPEN]).secret("both"),
        clients.config_map("clients"),
        tls_route("guarded", HOST, "both", &auth(mode), backend.address),
        tls_route("open", OPEN, "both", "", backend.address),
    ];
    Guarded { site: site(&yaml.concat()), authority, clients, backend }
}

impl Guarded {
    fn showing(&self, chain: &[&Issued]) -> Arc<ClientConfig> {
        Arc::new(config_with_certificate(&self.authority, chain))
    }

    fn ask(&self, host: &str, client: &Arc<ClientConfig>) -> io::Result<Response> {
        ask(self.site.gateway.https, client, &Request::get(host, "/"))
    }
}

/// With TLS 1.3 a client learns of a refused certificate only when it reads (RFC 8446 §4.4.2.4).
#[track_caller]
fn assert_alert(what: &str, answer: &io::Result<Response>) {
    let error = answer.as_ref().expect_err(what);
    let said = format!("{error:?} {error}").to_lowercase();
    assert!(said.contains("alert"), "{what}: {error:?}");
}

#[test]
fn a_certificate_of_the_named_authority_gets_in_and_the_upstream_is_told_whose_it_is() {
    let guarded = guarded("Require");
    let ours = guarded.clients.issue_client("ada", |params| {
        params.distinguished_name.push(DnType::OrganizationName, "Engines");
    });
    let response = guarded.ask(HOST, &guarded.showing(&[&ours])).unwrap();
    assert_eq!(response.text(), "ok");
    let arrived = &guarded.backend.arrived()[0];
    let [subject] = arrived.all("x-client-subject")[..] else { panic!("{}", arrived.head) };
    assert!(subject.contains("CN=ada") && subject.contains("O=Engines"), "{subject}");
    assert_eq!(arrived.all("x-client-verify"), ["SUCCESS"]);
    // RFC 9440 §2.2: a byte sequence of structured fields.
    assert_eq!(arrived.all("client-cert"), [format!(":{}:", STANDARD.encode(&ours.der))]);
}

#[test]
fn what_is_not_asked_for_is_not_forwarded() {
    let (authority, clients) = (Authority::new(), Authority::named("authority of clients"));
    let backend = Backend::named("ok");
    let yaml = [
        authority.issue(&[HOST]).secret("shop"),
        clients.config_map("clients"),
        tls_route(
            "shop",
            HOST,
            "shop",
            &auth("Require").replace(", forward: [Subject, Verify, Certificate]", ""),
            backend.address,
        ),
    ];
    let site = site(&yaml.concat());
    let client = Arc::new(config_with_certificate(&authority, &[&clients.issue_client("ada", |_| {})]));
    let mut request = Request::get(HOST, "/");
    for name in IDENTITY {
        request = request.header(name, "forged");
    }
    assert_eq!(ask(site.gateway.https, &client, &request).unwrap().status, 200);
    assert_no_identity(&backend.arrived()[0]);
}

#[track_caller]
fn assert_no_identity(arrived: &Arrived) {
    for name in IDENTITY {
        assert!(arrived.all(name).iter().all(|value| *value == "NONE"), "{name} in {}", arrived.head);
    }
    assert!(!arrived.head.contains("forged"), "{}", arrived.head);
}

#[test]
fn certificates_that_are_none_of_the_authoritys_are_refused_with_an_alert() {
    // Hardening TL08.
    let guarded = guarded("Require");
    let clients = &guarded.clients;
    let stranger = Authority::named("another authority");
    let same_name = Authority::named("authority of clients");
    let cases: Vec<(&str, Arc<ClientConfig>)> =
        vec![
            ("none", Arc::new(config(&guarded.authority))),
            ("of another authority", guarded.showing(&[&stranger.issue_client("ada", |_| {})])),
            ("of an authority of the same name", guarded.showing(&[&same_name.issue_client("ada", |_| {})])),
            ("of the server's authority", guarded.showing(&[&guarded.authority.issue_client("ada", |_| {})])),
            ("self-signed", guarded.showing(&[&self_signed(&["ada"])])),
            (
                "expired",
                guarded.showing(&[&clients
                    .issue_client("ada", |params| params.not_after = rcgen::date_time_ymd(2021, 1, 1))]),
            ),
            (
                "not yet valid",
                guarded.showing(&[&clients
                    .issue_client("ada", |params| params.not_before = rcgen::date_time_ymd(2110, 1, 1))]),
            ),
            (
                "for servers",
                guarded.showing(&[&clients.issue_client("ada", |params| {
                    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                })]),
            ),
            (
                "for signing code",
                guarded.showing(&[&clients.issue_client("ada", |params| {
                    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
                })]),
            ),
        ];
    for (what, client) in &cases {
        assert_alert(what, &guarded.ask(HOST, client));
    }
    assert!(guarded.backend.arrived().is_empty());
    // Nobody else is harmed.
    assert_eq!(guarded.ask(OPEN, &cases[0].1).unwrap().status, 200);
    let good = guarded.showing(&[&clients.issue_client("ada", |_| {})]);
    assert_eq!(guarded.ask(HOST, &good).unwrap().status, 200);
}

#[test]
fn a_chain_may_have_links_and_not_too_many() {
    // Hardening TL08: ten intermediates.
    let guarded = guarded("Require");
    let chain_of = |links: usize| {
        let mut authorities = vec![guarded.clients.intermediate("link 0")];
        for number in 1..links {
            let next = authorities.last().unwrap().intermediate(&format!("link {number}"));
            authorities.push(next);
        }
        let own = authorities.last().unwrap().issue_client("ada", |_| {});
        let mut chain = vec![own];
        chain.extend(authorities.iter().rev().map(Authority::link));
        chain
    };
    let short = chain_of(2);
    let client = guarded.showing(&short.iter().collect::<Vec<_>>());
    assert_eq!(guarded.ask(HOST, &client).unwrap().status, 200);
    let without_links = guarded.showing(&[&short[0]]);
    assert_alert("without its links", &guarded.ask(HOST, &without_links));
    let long = chain_of(10);
    let client = guarded.showing(&long.iter().collect::<Vec<_>>());
    // Either is well; what must not be is a gateway that hangs or falls.
    if let Err(error) = guarded.ask(HOST, &client) {
        assert!(!matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    }
    assert_eq!(guarded.ask(OPEN, &client).unwrap().status, 200);
}

#[test]
fn where_a_certificate_is_optional_none_passes_a_bad_one_never_does_and_the_upstream_knows() {
    let guarded = guarded("Optional");
    let anonymous = Arc::new(config(&guarded.authority));
    let mut request = Request::get(HOST, "/");
    for name in IDENTITY {
        request = request.header(name, "forged").header(&name.to_uppercase(), "forged");
    }
    let https = guarded.site.gateway.https;
    assert_eq!(ask(https, &anonymous, &request).unwrap().status, 200);
    assert_no_identity(&guarded.backend.arrived()[0]);
    let bad = Authority::named("another authority").issue_client("ada", |_| {});
    assert_alert("a bad one", &guarded.ask(HOST, &guarded.showing(&[&bad])));
    let good = guarded.clients.issue_client("ada", |_| {});
    assert_eq!(ask(https, &guarded.showing(&[&good]), &request).unwrap().status, 200);
    let arrived = guarded.backend.arrived();
    assert_eq!(arrived.len(), 2);
    let known = &arrived[1];
    assert_eq!(known.all("x-client-verify"), ["SUCCESS"], "{}", known.head);
    assert_eq!(known.all("client-cert").len(), 1, "{}", known.head);
    assert!(!known.head.contains("forged"), "{}", known.head);
}

#[test]
fn what_a_client_says_of_itself_is_removed_on_every_route() {
    // Hardening TL08: identity only from a verified certificate; over TLS without it, and without TLS.
    let guarded = guarded("Require");
    let mut request = Request::get(OPEN, "/");
    for name in IDENTITY {
        request = request.header(name, "forged").header(&name.replace('-', "_"), "forged");
    }
    let anonymous = Arc::new(config(&guarded.authority));
    assert_eq!(ask(guarded.site.gateway.https, &anonymous, &request).unwrap().status, 200);
    assert_eq!(guarded.site.gateway.ask(&request).status, 200);
    // A host that asks for certificates asks without TLS in vain: there is nobody to verify.
    let arrived_before = guarded.backend.arrived().len();
    let without_tls = guarded.site.gateway.get(HOST, "/");
    assert!(matches!(without_tls.status, 301 | 308 | 400 | 403 | 404 | 421 | 496), "{without_tls:?}");
    let arrived = guarded.backend.arrived();
    assert_eq!(arrived.len(), arrived_before);
    for arrived in &arrived {
        assert!(!arrived.head.contains("forged"), "{}", arrived.head);
        assert!(IDENTITY.iter().all(|name| arrived.all(name).is_empty()), "{}", arrived.head);
    }
}

#[test]
fn a_connection_of_an_open_host_asks_a_guarded_one_in_vain() {
    // Hardening TL01: the same certificate of the server, another policy.
    let guarded = guarded("Require");
    let anonymous = Arc::new(config(&guarded.authority));
    let mut connection = TlsConnection::open(guarded.site.gateway.https, OPEN, &anonymous).unwrap();
    assert_eq!(connection.ask(&Request::get(OPEN, "/")).unwrap().status, 200);
    assert_eq!(connection.ask(&Request::get(HOST, "/")).unwrap().status, 421);
    let h2 = offering_h2(config(&guarded.authority));
    let mut connection = H2Connection::tls(guarded.site.gateway.https, OPEN, &h2).unwrap();
    assert_eq!(connection.get(HOST, "/").unwrap().status, 421);
    assert_eq!(connection.get(OPEN, "/").unwrap().status, 200);
    assert_eq!(guarded.backend.arrived().len(), 2);
}

#[test]
fn over_http2_it_is_the_same() {
    let guarded = guarded("Require");
    let ours = guarded.clients.issue_client("ada", |_| {});
    let client = offering_h2(config_with_certificate(&guarded.authority, &[&ours]));
    let mut connection = H2Connection::tls(guarded.site.gateway.https, HOST, &client).unwrap();
    for _ in 0..3 {
        assert_eq!(connection.get(HOST, "/").unwrap().text(), "ok");
    }
    for arrived in guarded.backend.arrived() {
        assert_eq!(arrived.all("x-client-verify"), ["SUCCESS"]);
    }
    let anonymous = offering_h2(config(&guarded.authority));
    let refused = H2Connection::tls(guarded.site.gateway.https, HOST, &anonymous)
        .and_then(|mut connection| connection.get(HOST, "/"));
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(guarded.backend.arrived().len(), 3);
}

/// A client that keeps tickets, whatever host they are from: it asks every host under one name.
fn hoarding(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.resumption = Resumption::in_memory_sessions(64);
    Arc::new(config)
}

/// The kind of a handshake whose connection then gets an answer, and with it tickets.
fn kind(gateway: &Gateway, host: &str, client: &Arc<ClientConfig>) -> io::Result<HandshakeKind> {
    let mut connection = TlsConnection::open(gateway.https, host, client)?;
    let response = connection.ask(&Request::get(host, "/"))?;
    assert_eq!(response.status, 200, "{response:?}");
    Ok(connection.tls().handshake_kind().expect("a handshake that is over"))
}

#[test]
fn a_ticket_of_one_policy_is_worth_nothing_under_another() {
    // Hardening TL06, CVE-2025-23419: the host stays, its policy changes under the ticket.
    let (authority, clients) = (Authority::new(), Authority::named("authority of clients"));
    let other_clients = Authority::named("other clients");
    let backend = Backend::named("ok");
    let fixed = [
        authority.issue(&[HOST]).secret("shop"),
        clients.config_map("clients"),
        other_clients.config_map("others"),
    ];
    let with = |more: &str| fixed.concat() + &tls_route("shop", HOST, "shop", more, backend.address);
    let site = site_with(&with(""), &["--workers", "1"]);
    let gateway = &site.gateway;

    let anonymous = hoarding(config(&authority));
    assert_eq!(kind(gateway, HOST, &anonymous).unwrap(), HandshakeKind::Full);
    assert_eq!(kind(gateway, HOST, &anonymous).unwrap(), HandshakeKind::Resumed);
    site.folder.write("all.yaml", &with(&auth("Require")));
    until("a certificate is asked for", || {
        ask(gateway.https, &Arc::new(config(&authority)), &Request::get(HOST, "/")).is_err().then_some(())
    });
    let before = backend.arrived().len();
    let refused = kind(gateway, HOST, &anonymous);
    assert!(refused.is_err(), "a ticket without a certificate got in: {refused:?}");
    assert_eq!(backend.arrived().len(), before);

    let ours = hoarding(config_with_certificate(&authority, &[&clients.issue_client("ada", |_| {})]));
    assert_eq!(kind(gateway, HOST, &ours).unwrap(), HandshakeKind::Full);
    let again = kind(gateway, HOST, &ours).unwrap();
    let last = backend.arrived().pop().expect("a request");
    assert_eq!(last.all("x-client-verify"), ["SUCCESS"], "{again:?}: {}", last.head);
    // Another authority: who got in by the first one is a stranger now.
    site.folder.write("all.yaml", &with(&auth("Require").replace("name: clients", "name: others")));
    let theirs = config_with_certificate(&authority, &[&other_clients.issue_client("bob", |_| {})]);
    let theirs = Arc::new(theirs);
    until("the other authority counts", || {
        ask(gateway.https, &theirs, &Request::get(HOST, "/")).is_ok().then_some(())
    });
    let before = backend.arrived().len();
    let refused = kind(gateway, HOST, &ours);
    assert!(refused.is_err(), "a ticket of another authority got in: {refused:?}");
    assert_eq!(backend.arrived().len(), before);
}

#[test]
fn an_authority_that_is_missing_or_none_fails_closed_and_comes_alive_later() {
    let (authority, clients) = (Authority::new(), Authority::named("authority of clients"));
    let backend = Backend::named("ok");
    let yaml = authority.issue(&[HOST, OPEN]).secret("both")
        + &tls_route("guarded", HOST, "both", &auth("Require"), backend.address)
        + &tls_route("open", OPEN, "both", "", backend.address);
    let folder = Folder::with(&yaml);
    let gateway = Gateway::start(folder.path(), &[]);
    let good = Arc::new(config_with_certificate(&authority, &[&clients.issue_client("ada", |_| {})]));
    let anonymous = Arc::new(config(&authority));
    let passes = |client| {
        ask(gateway.https, client, &Request::get(HOST, "/")).is_ok_and(|response| response.status == 200)
    };
    for (what, object) in [
        ("missing", String::new()),
        ("no PEM", "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: clients, namespace: shop}\ndata: {ca.crt: none}\n".to_owned()),
        ("no key", "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: clients, namespace: shop}\ndata: {other: x}\n".to_owned()),
    ] {
        folder.write("clients.yaml", &object);
        until("the other host is served", || {
            ask(gateway.https, &anonymous, &Request::get(OPEN, "/")).ok().filter(|response| response.status == 200)
        });
        assert!(!passes(&anonymous) && !passes(&good), "{what}: open");
    }
    assert!(backend.arrived().iter().all(|arrived| arrived.all("host") == [OPEN]));
    folder.write("clients.yaml", &clients.config_map("clients"));
    until("it is served", || passes(&good).then_some(()));
    assert!(!passes(&anonymous));
}

#[test]
fn an_authority_in_a_secret_is_as_good_and_rotates() {
    let authority = Authority::new();
    let (first, second) = (Authority::named("first clients"), Authority::named("second clients"));
    let backend = Backend::named("ok");
    let in_secret = auth("Require").replace("ConfigMap", "Secret");
    let yaml = authority.issue(&[HOST]).secret("shop")
        + &tls_route("shop", HOST, "shop", &in_secret, backend.address);
    let folder = Folder::with(&yaml);
    folder.write("clients.yaml", &first.ca_secret("clients"));
    let gateway = Gateway::start(folder.path(), &[]);
    let of = |clients: &Authority| {
        Arc::new(config_with_certificate(&authority, &[&clients.issue_client("ada", |_| {})]))
    };
    let (ada, bob) = (of(&first), of(&second));
    let passes = |client| {
        ask(gateway.https, client, &Request::get(HOST, "/")).is_ok_and(|response| response.status == 200)
    };
    assert!(passes(&ada) && !passes(&bob));
    folder.write("clients.yaml", &second.ca_secret("clients"));
    until("the second one counts", || passes(&bob).then_some(()));
    assert!(!passes(&ada));
}

#[test]
fn rules_after_the_certificate_hold_as_ever() {
    let guarded = guarded("Require");
    let spec = format!(
        "hostnames: [{HOST}]\ntls: {{secretRef: {{name: both}}{}}}\nrules:\n\
         - {{name: denied, ipAccess: {{deny: [127.0.0.1]}}, backendRefs: [{}]}}",
        auth("Require"),
        address(guarded.backend.address),
    );
    let yaml = [
        guarded.authority.issue(&[HOST, OPEN]).secret("both"),
        guarded.clients.config_map("clients"),
        route("guarded", &spec),
    ];
    guarded.site.folder.write("all.yaml", &yaml.concat());
    let client = guarded.showing(&[&guarded.clients.issue_client("ada", |_| {})]);
    until("it is denied", || guarded.ask(HOST, &client).ok().filter(|response| response.status == 403));
}

#[test]
fn a_revoked_certificate_is_refused_from_the_next_request_on_and_a_bad_list_lets_nobody_in() {
    // Hardening TL08.
    let guarded = guarded("Require");
    let clients = &guarded.clients;
    let issue = |name: &str, serial: u64| {
        clients.issue_client(name, |params| params.serial_number = Some(serial.into()))
    };
    let (ada, bob) = (guarded.showing(&[&issue("ada", 7)]), guarded.showing(&[&issue("bob", 8)]));
    let https = guarded.site.gateway.https;
    let mut live = TlsConnection::open(https, HOST, &bob).unwrap();
    assert_eq!(live.ask(&Request::get(HOST, "/")).unwrap().status, 200);
    let says = |text: String| guarded.site.folder.write("clients.yaml", &text);
    let yaml = std::fs::read_to_string(guarded.site.folder.path().join("all.yaml")).unwrap();
    let rest = yaml.replace(&clients.config_map("clients"), "");
    assert_ne!(rest, yaml);
    says(clients.config_map_revoking("clients", &[], 2120));
    guarded.site.folder.write("all.yaml", &rest);
    until("a list that revokes nobody", || {
        guarded.ask(HOST, &ada).is_ok_and(|it| it.status == 200).then_some(())
    });
    assert_eq!(guarded.ask(HOST, &bob).unwrap().status, 200);

    says(clients.config_map_revoking("clients", &[8], 2120));
    until("bob is refused", || guarded.ask(HOST, &bob).is_err().then_some(()));
    assert_alert("revoked", &guarded.ask(HOST, &bob));
    // Its worker may be the last to know.
    until("he is refused on the connection that he has", || {
        (live.ask(&Request::get(HOST, "/")).unwrap().status == 421).then_some(())
    });
    assert_eq!(guarded.ask(HOST, &ada).unwrap().status, 200);
    assert!(guarded.site.gateway.metric("baribhara_tls_crl_next_update_seconds") > 4.7e9);

    says(clients.config_map_revoking("clients", &[], 2025));
    until("a list that has ended refuses all", || guarded.ask(HOST, &ada).is_err().then_some(()));
    says(clients.config_map_revoking("clients", &[], 2120));
    until("a current one", || guarded.ask(HOST, &ada).is_ok().then_some(()));
    let good = clients.config_map_revoking("clients", &[], 2120);
    says(good.replace("BEGIN X509 CRL", "BEGIN LIST"));
    until("a list that is none refuses all", || guarded.ask(HOST, &ada).is_err().then_some(()));
    let folder = guarded.site.folder.path().display().to_string();
    let checked = e2e::process::command(&["check", &folder]).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(!checked.status.success(), "{said}");
    assert!(said.contains("'ca.crl' of the ConfigMap 'clients' holds no revocation list as PEM"), "{said}");
    assert_eq!(guarded.ask(OPEN, &ada).unwrap().status, 200);
}
