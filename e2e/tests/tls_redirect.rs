//! Requests that come without TLS to hosts that have it: where they are sent, and which are served all the
//! same.

use std::sync::Arc;

use e2e::backend::Backend;
use e2e::certificate::Authority;
use e2e::client::Request;
use e2e::cluster_tools::root;
use e2e::folder::service;
use e2e::tls_client::{ask, config, config_without_trust};
use e2e::until::until;

use crate::site::{HOST, site};
use crate::tls_site::{ingress, tls_route};

const CHALLENGE: &str = "/.well-known/acme-challenge/sd9-Yb_token";

#[test]
fn a_route_redirects_only_when_it_says_so_and_with_the_status_it_says() {
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let client = Arc::new(config(&authority));
    let cases = [
        ("", None),
        (", redirectHTTP: {}", Some(308)),
        (", redirectHTTP: {statusCode: 301}", Some(301)),
        (", redirectHTTP: {statusCode: 302}", Some(302)),
        (", redirectHTTP: {statusCode: 303}", Some(303)),
        (", redirectHTTP: {statusCode: 307}", Some(307)),
        (", redirectHTTP: {statusCode: 308}", Some(308)),
    ];
    let site = site(&authority.issue(&[HOST]).secret("shop"));
    for (more, want) in cases {
        site.folder.write("route.yaml", &tls_route("shop", HOST, "shop", more, backend.address));
        site.gateway.until_status(HOST, "/", want.unwrap_or(200));
        let before = backend.arrived().len();
        for (method, host, target, location) in [
            ("GET", HOST, "/cart/a%20b?q=a%2Fb&x=1", "https://shop.example.com/cart/a%20b?q=a%2Fb&x=1"),
            ("GET", "shop.example.com:80", "/?", "https://shop.example.com/?"),
            ("HEAD", "shop.example.com:8080", "/", "https://shop.example.com/"),
            ("POST", HOST, "/.well-known/other", "https://shop.example.com/.well-known/other"),
        ] {
            let response = site.gateway.ask(&Request::new(method, host, target));
            let case = format!("{more}: {method} {host}{target}");
            assert_eq!(response.status, want.unwrap_or(200), "{case}");
            assert_eq!(response.header("location"), want.map(|_| location), "{case}");
        }
        let passed = backend.arrived().len() - before;
        assert_eq!(passed, if want.is_some() { 0 } else { 4 }, "{more}");
        assert_eq!(site.gateway.get(HOST, CHALLENGE).text(), "ok", "{more}: a challenge is redirected");
        // No loop: over TLS it is served.
        assert_eq!(
            ask(site.gateway.https, &client, &Request::get(HOST, "/")).unwrap().text(),
            "ok",
            "{more}"
        );
    }
}

#[test]
fn what_only_looks_like_a_challenge_is_redirected() {
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let yaml = authority.issue(&[HOST]).secret("shop")
        + &tls_route("shop", HOST, "shop", ", redirectHTTP: {}", backend.address);
    let site = site(&yaml);
    for path in [
        "/.well-known/acme-challenge",
        "/.well-known/acme-challenges/x",
        "/x/.well-known/acme-challenge/x",
        "/.well-known/acme-challenge/../../admin",
        "/.well-known/acme-challenge/%2e%2e/%2e%2e/admin",
        "/?/.well-known/acme-challenge/x",
    ] {
        let response = site.gateway.get(HOST, path);
        assert_ne!(response.status, 200, "{path} is served without TLS");
    }
    assert!(backend.arrived().is_empty(), "{:#?}", backend.arrived());
    assert_eq!(site.gateway.get(HOST, CHALLENGE).text(), "ok");
}

#[test]
fn an_ingress_redirects_its_hosts_with_tls_unless_its_annotation_says_otherwise() {
    let authority = Authority::new();
    let backend = Backend::named("ok");
    let client = Arc::new(config(&authority));
    let (with, without) = ("with.example.com", "without.example.com");
    let yaml = service("web", &[backend.address]) + &authority.issue(&[with, without]).secret("shop");
    let site = site(&yaml);
    let named = format!("[{{hosts: [{with}], secretName: shop}}]");
    let cases = [
        ("", named.as_str(), 308, 200),
        ("gateway.baribhara.io/redirect-http: \"false\"", &named, 200, 200),
        ("gateway.baribhara.io/redirect-http: \"301\"", &named, 301, 200),
        ("gateway.baribhara.io/redirect-http: \"302\"", &named, 302, 200),
        ("gateway.baribhara.io/redirect-http: \"303\"", &named, 303, 200),
        ("gateway.baribhara.io/redirect-http: \"307\"", &named, 307, 200),
        ("gateway.baribhara.io/redirect-http: \"308\"", &named, 308, 200),
        // No hosts: those of all rules.
        ("", "[{secretName: shop}]", 308, 308),
    ];
    for (annotation, tls, status, other) in cases {
        let case = format!("{annotation} {tls}");
        site.folder.write("ingress.yaml", &ingress("shop", annotation, tls, &[with, without]));
        until(&format!("{case}: live"), || {
            let answers = [with, without].map(|host| site.gateway.get(host, "/").status);
            (answers == [status, other]).then_some(())
        });
        let response = site.gateway.get(with, "/a?b=c");
        let location = (status != 200).then_some("https://with.example.com/a?b=c");
        assert_eq!(response.header("location"), location, "{case}");
        assert_eq!(site.gateway.get(with, CHALLENGE).text(), "ok", "{case}");
        let over_tls = ask(site.gateway.https, &client, &Request::get(with, "/")).unwrap();
        assert_eq!(over_tls.text(), "ok", "{case}");
    }
}

#[test]
fn the_example_answers_as_its_comments_say() {
    let backend = Backend::named("ok");
    let example = std::fs::read_to_string(root().join("manifests/examples/tls.yaml")).unwrap();
    let service = service("web", &[backend.address]).replace("namespace: shop", "namespace: examples");
    let site = site(&(service + "---\n" + &example));
    assert_eq!(site.gateway.metric("baribhara_config_rejected_objects"), 0.0);
    // It signs itself, so that nobody trusts it.
    let client = Arc::new(config_without_trust());
    let hsts = Some("max-age=31536000; includeSubDomains");
    for (host, status, hsts) in [(HOST, 301, hsts), ("www.shop.example.com", 307, None)] {
        let plain = site.gateway.get(host, "/x");
        assert_eq!(plain.status, status, "{host}");
        assert_eq!(plain.header("location"), Some(&*format!("https://{host}/x")));
        let over_tls = ask(site.gateway.https, &client, &Request::get(host, "/x")).unwrap();
        assert_eq!(over_tls.text(), "ok", "{host}");
        assert_eq!(over_tls.header("strict-transport-security"), hsts, "{host}");
    }
}

#[test]
fn a_challenge_of_cert_manager_reaches_its_solver_beside_an_ingress_that_redirects() {
    let authority = Authority::new();
    let (shop, solver) = (Backend::named("shop"), Backend::named("key-authorization"));
    let tls = format!("[{{hosts: [{HOST}], secretName: shop}}]");
    let yaml = [
        service("web", &[shop.address]),
        service("cm-acme-http-solver-x7k2p", &[solver.address]),
        ingress("shop", "cert-manager.io/issuer: letsencrypt", &tls, &[HOST]),
    ];
    // The Secret is not there yet: that is what the challenge is for.
    let site = site(&yaml.concat());
    assert_eq!(site.gateway.get(HOST, CHALLENGE).text(), "shop");
    for path_type in ["ImplementationSpecific", "Exact", "Prefix"] {
        let solving = format!(
            "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: cm-acme-http-solver-h2v9q
  namespace: shop
  annotations:
    kubernetes.io/ingress.class: baribhara
    nginx.ingress.kubernetes.io/whitelist-source-range: 0.0.0.0/0,::/0
  labels: {{acme.cert-manager.io/http01-solver: \"true\"}}
spec:
  rules:
  - host: {HOST}
    http:
      paths:
      - path: {CHALLENGE}
        pathType: {path_type}
        backend: {{service: {{name: cm-acme-http-solver-x7k2p, port: {{number: 80}}}}}}
"
        );
        site.folder.write("solver.yaml", &solving);
        until(&format!("{path_type}: the solver answers"), || {
            let response = site.gateway.get(HOST, CHALLENGE);
            assert_eq!(response.status, 200, "{path_type}: {response:?}");
            (response.text() == "key-authorization").then_some(())
        });
        let redirected = site.gateway.get(HOST, "/");
        assert_eq!(redirected.status, 308, "{path_type}");
        assert_eq!(redirected.header("location"), Some("https://shop.example.com/"), "{path_type}");
        site.folder.remove("solver.yaml");
        until(&format!("{path_type}: the solver is gone"), || {
            (site.gateway.get(HOST, CHALLENGE).text() == "shop").then_some(())
        });
    }
    // cert-manager writes the Secret, and the host is served.
    site.folder.write("secret.yaml", &authority.issue(&[HOST]).secret("shop"));
    let client = Arc::new(config(&authority));
    until("the issued certificate is live", || {
        ask(site.gateway.https, &client, &Request::get(HOST, "/")).ok().filter(|r| r.text() == "shop")
    });
}
