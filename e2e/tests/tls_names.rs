//! Which certificate a client gets by the name that it asks for, and which requests it may send on that
//! connection.

use std::sync::Arc;

use e2e::backend::Backend;
use e2e::certificate::{Authority, Issued};
use e2e::client::Request;
use e2e::folder::{Folder, route, service};
use e2e::gateway::Gateway;
use e2e::tls_client::{TlsConnection, ask, config, config_without_trust, openssl, without_line_ends};
use rustls::AlertDescription;

use crate::site::{HOST, site, site_with, spec};
use crate::tls_site::{ingress, refusal, tls_route};

#[test]
fn the_most_specific_name_decides_and_a_star_is_one_label_in_an_ingress_and_more_in_a_route() {
    let authority = Authority::new();
    let exact = authority.issue(&[HOST]);
    let wild = authority.issue(&["*.example.com"]);
    let deep = authority.issue(&["*.example.org", "*.b.example.org"]);
    let backend = Backend::named("ok");
    let yaml = [
        service("web", &[backend.address]),
        exact.secret("exact"),
        wild.secret("wild"),
        deep.secret("deep"),
        tls_route("exact", HOST, "exact", "", backend.address),
        ingress("wild", "", "[{hosts: [\"*.example.com\"], secretName: wild}]", &["*.example.com"]),
        tls_route("deep", "*.example.org", "deep", "", backend.address),
    ];
    let site = site(&yaml.concat());
    let https = site.gateway.https;
    let client = Arc::new(config(&authority));
    let cases: [(&str, Option<&Issued>); 9] = [
        (HOST, Some(&exact)),
        ("other.example.com", Some(&wild)),
        ("a.b.example.com", None),
        ("a.shop.example.com", None),
        ("example.com", None),
        ("a.example.org", Some(&deep)),
        ("a.b.example.org", Some(&deep)),
        ("example.org", None),
        ("unknown.example.net", None),
    ];
    for (name, want) in cases {
        let Some(want) = want else {
            assert_eq!(refusal(https, name, &client), Ok(AlertDescription::UnrecognisedName), "{name}");
            continue;
        };
        let mut connection =
            TlsConnection::open(https, name, &client).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(*connection.certificate() == want.der, "{name}");
        assert_eq!(connection.ask(&Request::get(name, "/")).unwrap().text(), "ok", "{name}");
    }
}

#[test]
fn a_name_in_other_case_or_with_a_last_dot_is_the_same_name() {
    // Hardening TL02. openssl sends the name as it is given; rustls would tidy it.
    let authority = Authority::new();
    let exact = authority.issue(&[HOST]);
    let wild = authority.issue(&["*.example.com"]);
    let backends = [Backend::named("exact"), Backend::named("wild")];
    let yaml = [
        exact.secret("exact"),
        wild.secret("wild"),
        tls_route("exact", HOST, "exact", ", minVersion: \"1.3\"", backends[0].address),
        tls_route("wild", "*.example.com", "wild", "", backends[1].address),
    ];
    let site = site(&yaml.concat());
    let names = ["shop.example.com", "SHOP.example.COM", "shop.example.com.", "Shop.Example.Com."];
    for name in names {
        for host in names {
            let request = Request::get(host, "/").header("Connection", "close");
            let text = String::from_utf8(request.bytes()).unwrap();
            let output = openssl(site.gateway.https, &["-servername", name], &text);
            assert_eq!(output.certificate(), without_line_ends(&exact.certificate_pem), "{name}: {output:?}");
            let whole = output.stdout.contains("HTTP/1.1 200 ") && output.stdout.contains("\r\n\r\nexact");
            assert!(whole, "{name}, Host {host}: {output:?}");
        }
        // The policy is found by the same name.
        let older = openssl(site.gateway.https, &["-servername", name, "-tls1_2"], "");
        assert!(older.stderr.contains("alert protocol version"), "{name}: {older:?}");
    }
    let other = openssl(site.gateway.https, &["-servername", "OTHER.example.com.", "-tls1_2"], "x\r\n\r\n");
    assert_eq!(other.certificate(), without_line_ends(&wild.certificate_pem), "{other:?}");
}

#[test]
fn without_a_default_certificate_no_name_and_unknown_names_are_unrecognized() {
    // Hardening TL02.
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let yaml = authority.issue(&[HOST]).secret("one") + &tls_route("one", HOST, "one", "", backend.address);
    let site = site(&yaml);
    let client = Arc::new(config_without_trust());
    // No name is sent for an address.
    for name in ["unknown.example.com", "com", "127.0.0.1", "::1"] {
        let refused = refusal(site.gateway.https, name, &client);
        assert_eq!(refused, Ok(AlertDescription::UnrecognisedName), "{name}");
    }
    let by_address = openssl(site.gateway.https, &["-servername", "127.0.0.1"], "");
    assert_eq!(by_address.certificate(), "", "{by_address:?}");
    assert_eq!(ask(site.gateway.https, &client, &Request::get(HOST, "/")).unwrap().status, 200);
}

#[test]
fn the_default_certificate_is_for_no_name_unknown_names_and_hosts_without_a_secret() {
    // Hardening TL02.
    let authority = Authority::new();
    let default = authority.issue(&["default.example.com", "without.example.com"]);
    let named = authority.issue(&[HOST]);
    let backend = Backend::named("ok");
    let yaml = [
        service("web", &[backend.address]),
        default.secret("default"),
        named.secret("named"),
        tls_route("named", HOST, "named", "", backend.address),
        ingress("without", "", "[{hosts: [without.example.com]}]", &["without.example.com"]),
        route("plain", &spec(backend.address, "").replace(HOST, "plain.example.com")),
    ];
    let site = site_with(&yaml.concat(), &["--default-tls-secret", "shop/default"]);
    let https = site.gateway.https;
    let client = Arc::new(config_without_trust());
    for name in ["unknown.example.com", "plain.example.com", "without.example.com", "127.0.0.1"] {
        let mut connection =
            TlsConnection::open(https, name, &client).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(*connection.certificate() == default.der, "{name}");
        // A host that no object asks TLS for has the default's certificate and policy.
        let response = connection.ask(&Request::get("plain.example.com", "/")).unwrap();
        assert_eq!(response.text(), "ok", "{name}: {response:?}");
    }
    let by_address = openssl(https, &["-servername", "127.0.0.1"], "x\r\n\r\n");
    assert_eq!(by_address.certificate(), without_line_ends(&default.certificate_pem), "{by_address:?}");
    let trusting = Arc::new(config(&authority));
    let without = ask(https, &trusting, &Request::get("without.example.com", "/")).unwrap();
    assert_eq!(without.text(), "ok");
    assert!(*TlsConnection::open(https, HOST, &trusting).unwrap().certificate() == named.der);
}

#[test]
fn a_default_certificate_that_comes_later_is_used_from_then_on() {
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let folder = Folder::with(&route("plain", &spec(backend.address, "")));
    let gateway = Gateway::start(folder.path(), &["--default-tls-secret", "shop/default"]);
    let client = Arc::new(config(&authority));
    assert_eq!(refusal(gateway.https, HOST, &client), Ok(AlertDescription::UnrecognisedName));
    folder.write("default.yaml", &authority.issue(&[HOST]).secret("default"));
    e2e::until::until("the default certificate is there", || {
        ask(gateway.https, &client, &Request::get(HOST, "/")).ok().filter(|response| response.status == 200)
    });
}

#[test]
fn a_request_for_a_host_of_another_certificate_or_policy_is_misdirected() {
    // Hardening TL01.
    let authority = Authority::new();
    let first = authority.issue(&["a.example.com", "c.example.com", "d.example.com"]);
    let second = authority.issue(&["b.example.com"]);
    let backend = Backend::named("ok");
    let yaml = [
        first.secret("first"),
        second.secret("second"),
        tls_route("a", "a.example.com", "first", "", backend.address),
        tls_route("b", "b.example.com", "second", "", backend.address),
        tls_route("c", "c.example.com", "first", "", backend.address),
        tls_route("d", "d.example.com", "first", ", minVersion: \"1.3\"", backend.address),
    ];
    let site = site(&yaml.concat());
    let client = Arc::new(config(&authority));
    let cases = [
        ("a.example.com", "a.example.com", 200),
        ("a.example.com", "A.Example.com.", 200),
        ("a.example.com", "a.example.com:8443", 200),
        ("a.example.com", "c.example.com", 200),
        ("c.example.com", "a.example.com", 200),
        ("a.example.com", "b.example.com", 421),
        ("a.example.com", "B.EXAMPLE.COM.", 421),
        ("a.example.com", "b.example.com:443", 421),
        ("b.example.com", "a.example.com", 421),
        ("a.example.com", "d.example.com", 421),
        ("d.example.com", "a.example.com", 421),
        ("d.example.com", "d.example.com", 200),
    ];
    for (name, host, status) in cases {
        let before = backend.arrived().len();
        let mut connection = TlsConnection::open(site.gateway.https, name, &client).unwrap();
        let response = connection.ask(&Request::get(host, "/")).unwrap();
        assert_eq!(response.status, status, "{name}, Host {host}: {}", response.text());
        let passed = backend.arrived().len() - before;
        assert_eq!(passed, usize::from(status == 200), "{name}, Host {host}");
    }
    // The target's authority counts, not the line beside it (RFC 9112 §3.2.2).
    let absolute = Request::get("b.example.com", "https://b.example.com/");
    let mut connection = TlsConnection::open(site.gateway.https, "a.example.com", &client).unwrap();
    assert_eq!(connection.ask(&absolute).unwrap().status, 421);
    // Without TLS there is no name to compare with.
    assert_eq!(site.gateway.get("b.example.com", "/").status, 200);
}
