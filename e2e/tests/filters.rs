//! Filters: headers, rewrites, redirects, direct answers; and which rule takes a request.

use std::collections::BTreeSet;

use e2e::backend::{Backend, Reply};
use e2e::client::Request;
use e2e::folder::{route, service};

use crate::site::{HOST, address, site, site_with, spec, spec_without_backend};

#[test]
fn header_modifiers_remove_set_and_add_on_both_ways() {
    let backend = Backend::start(|_| {
        Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Gone: 1\r\nX-Set: old\r\nX-Add: one\r\n\r\nok"
                .to_vec(),
        )
    });
    let filters = "filters:
- {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: new}], add: [{name: X-Add, value: two}], remove: [X-Gone]}}
- {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Set, value: new}], add: [{name: X-Add, value: two}], remove: [X-Gone]}}";
    let site = site(&route("shop", &spec(backend.address, filters)));
    let request = Request::get(HOST, "/")
        .header("X-Gone", "1")
        .header("X-Set", "old")
        .header("X-Set", "older")
        .header("X-Add", "one");
    let response = site.gateway.ask(&request);
    let arrived = backend.arrived().pop().unwrap();
    assert!(arrived.all("x-gone").is_empty());
    assert_eq!(arrived.all("x-set"), ["new"]);
    assert_eq!(arrived.all("x-add"), ["one", "two"]);
    assert_eq!(response.header("x-gone"), None);
    assert_eq!(response.all("x-set"), ["new"]);
    assert_eq!(response.all("x-add"), ["one", "two"]);
}

#[test]
fn rewrites_change_host_and_path_and_keep_the_query() {
    let cases = [
        (
            "prefix",
            "{type: ReplacePrefixMatch, replacePrefixMatch: /new/root}",
            "/old/a/b?q=1",
            "/new/root/a/b?q=1",
        ),
        ("prefix alone", "{type: ReplacePrefixMatch, replacePrefixMatch: /new}", "/old", "/new"),
        ("full", "{type: ReplaceFullPath, replaceFullPath: /fixed}", "/old/a?q=1", "/fixed?q=1"),
        (
            "regex",
            "{type: ReplaceRegex, regex: \"^/old/([a-z]+)/([0-9]+)$\", substitution: \"/${2}/of/${1}\"}",
            "/old/cart/42?q=1",
            "/42/of/cart?q=1",
        ),
        (
            "regex that does not match",
            "{type: ReplaceRegex, regex: \"^/old/([0-9]+)$\", substitution: \"/${1}\"}",
            "/old/x",
            "/old/x",
        ),
    ];
    for (what, path, asked, want) in cases {
        let backend = Backend::named("ok");
        let fields = format!(
            "matches: [{{path: {{type: PathPrefix, value: /old}}}}]\nfilters:\n- type: URLRewrite\n  urlRewrite: {{hostname: inner.internal, path: {path}}}"
        );
        let site = site(&route("shop", &spec(backend.address, &fields)));
        assert_eq!(site.gateway.get(HOST, asked).status, 200, "{what}");
        let arrived = backend.arrived().pop().unwrap();
        assert_eq!(arrived.target(), want, "{what}");
        assert_eq!(arrived.all("host"), ["inner.internal"], "{what}");
        assert_eq!(arrived.all("x-forwarded-host"), [HOST], "{what}");
    }
}

#[test]
fn redirects_say_where_to_go() {
    let cases = [
        ("{scheme: https, statusCode: 308}", "/a/b?x=1", 308, format!("https://{HOST}/a/b?x=1")),
        (
            "{scheme: https, hostname: other.example.com, port: 8443, statusCode: 301}",
            "/a",
            301,
            "https://other.example.com:8443/a".to_owned(),
        ),
        ("{scheme: https, port: 443, statusCode: 302}", "/a", 302, format!("https://{HOST}/a")),
        (
            "{statusCode: 307, scheme: https, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}",
            "/a/b?x=1",
            307,
            format!("https://{HOST}/new/b?x=1"),
        ),
        (
            "{statusCode: 303, scheme: https, path: {type: ReplaceFullPath, replaceFullPath: /done}}",
            "/a",
            303,
            format!("https://{HOST}/done"),
        ),
    ];
    for (redirect, path, status, location) in cases {
        let fields = format!(
            "matches: [{{path: {{type: PathPrefix, value: /a}}}}]\nfilters: [{{type: RequestRedirect, requestRedirect: {redirect}}}]"
        );
        let site = site(&route("shop", &spec_without_backend(&fields)));
        let response = site.gateway.get(HOST, path);
        assert_eq!(response.status, status, "{redirect}");
        assert_eq!(response.header("location"), Some(location.as_str()), "{redirect}");
    }
}

#[test]
fn a_direct_response_is_sent_as_it_stands() {
    let fields = "filters: [{type: DirectResponse, directResponse: {statusCode: 503, contentType: text/html, body: <h1>maintenance</h1>}}]";
    let site = site(&route("shop", &spec_without_backend(fields)));
    let response = site.gateway.ask(&Request::new("POST", HOST, "/").body("x"));
    assert_eq!(response.status, 503);
    assert_eq!(response.header("content-type"), Some("text/html"));
    assert_eq!(response.text(), "<h1>maintenance</h1>");
    let head = site.gateway.ask(&Request::new("HEAD", HOST, "/"));
    assert_eq!((head.status, head.body.len()), (503, 0));
}

#[test]
fn the_most_specific_rule_takes_a_request() {
    let names = ["exact", "long", "short", "regex", "method", "header", "query", "cookie", "rest"];
    let backends: Vec<_> = names.iter().map(|name| Backend::named(name)).collect();
    let conditions = [
        "path: {type: Exact, value: /a/b}",
        "path: {type: PathPrefix, value: /a/b}",
        "path: {type: PathPrefix, value: /a}",
        "path: {type: RegularExpression, value: \"/r/[0-9]+\"}",
        "path: {type: PathPrefix, value: /a}, methods: [POST, PUT]",
        "path: {type: PathPrefix, value: /a}, headers: [{name: X-Version, value: \"2\"}]",
        "path: {type: PathPrefix, value: /a}, queryParams: [{name: beta, type: Present}]",
        "path: {type: PathPrefix, value: /a}, cookies: [{name: canary, value: always}]",
        "path: {type: PathPrefix, value: /zzz}",
    ];
    let mut spec = format!("hostnames: [{HOST}]\nrules:\n");
    for ((name, conditions), backend) in names.iter().zip(conditions).zip(&backends) {
        spec += &format!(
            "- {{name: {name}, matches: [{{{conditions}}}], backendRefs: [{}]}}\n",
            address(backend.address)
        );
    }
    let site = site(&route("shop", &spec));
    let get = |path: &str| Request::get(HOST, path);
    let cases = [
        (get("/a/b"), "exact"),
        (get("/a/b/c"), "long"),
        (get("/a/x"), "short"),
        (get("/r/12"), "regex"),
        (Request::new("POST", HOST, "/a/x"), "method"),
        (get("/a/x").header("X-Version", "2"), "header"),
        (get("/a/x").header("X-Version", "22"), "short"),
        (get("/a/x?beta"), "query"),
        (get("/a/x").header("Cookie", "x=y; canary=always"), "cookie"),
        (get("/zzz"), "rest"),
        (Request::new("POST", HOST, "/a/x").header("X-Version", "2"), "method"),
    ];
    for (request, want) in cases {
        assert_eq!(site.gateway.ask(&request).text(), want, "{request:?}");
    }
    assert_eq!(site.gateway.get(HOST, "/r/12x").status, 404, "expressions match the whole path");
}

#[test]
fn an_ingress_is_served_with_its_path_types_hosts_ports_and_default_backend() {
    let backends = ["exact", "prefix", "wild", "default"].map(|name| (name, Backend::named(name)));
    let services: String = backends.iter().map(|(name, backend)| service(name, &[backend.address])).collect();
    let ingress = format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: plain, namespace: shop}}
spec:
  ingressClassName: baribhara
  defaultBackend: {{service: {{name: default, port: {{number: 80}}}}}}
  rules:
  - host: {HOST}
    http:
      paths:
      - {{path: /exact, pathType: Exact, backend: {{service: {{name: exact, port: {{number: 80}}}}}}}}
      - {{path: /prefix, pathType: Prefix, backend: {{service: {{name: prefix, port: {{name: http}}}}}}}}
  - host: \"*.wild.example.com\"
    http:
      paths:
      - {{path: /, pathType: ImplementationSpecific, backend: {{service: {{name: wild, port: {{number: 80}}}}}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: foreign, namespace: shop}}
spec:
  ingressClassName: other
  rules:
  - host: foreign.example.com
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: exact, port: {{number: 80}}}}}}}}]}}
"
    );
    let site = site(&(services + &ingress));
    let cases = [
        (HOST, "/exact", "exact"),
        (HOST, "/exact/", "default"),
        (HOST, "/prefix", "prefix"),
        (HOST, "/prefix/x", "prefix"),
        (HOST, "/prefixx", "default"),
        ("a.wild.example.com", "/x", "wild"),
        ("a.b.wild.example.com", "/x", "default"),
        ("wild.example.com", "/x", "default"),
        ("foreign.example.com", "/", "default"),
        ("anything.example.org", "/", "default"),
    ];
    for (host, path, want) in cases {
        assert_eq!(site.gateway.get(host, path).text(), want, "{host}{path}");
    }
}

/// Fields of a request: names and values.
type Fields = &'static [(&'static str, &'static str)];

#[test]
fn redirects_name_the_public_address_that_a_trusted_proxy_or_the_client_named() {
    let fields = "filters: [{type: RequestRedirect, requestRedirect: {statusCode: 302, path: {type: ReplaceFullPath, replaceFullPath: /to}}}]";
    let yaml = route("shop", &spec_without_backend(fields));
    let trusting = site_with(&yaml, &["--trusted-proxies", "127.0.0.1"]);
    let plain = site(&yaml);
    let with_port = format!("{HOST}:8080");
    let cases: [(&str, Fields, &str, String); 8] = [
        (HOST, &[], "http://shop.example.com/to", format!("http://{HOST}/to")),
        (&with_port, &[], "http://shop.example.com:8080/to", format!("http://{HOST}:8080/to")),
        (HOST, &[("X-Forwarded-Proto", "https")], "https://shop.example.com/to", format!("http://{HOST}/to")),
        (
            HOST,
            &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "443")],
            "https://shop.example.com/to",
            format!("http://{HOST}/to"),
        ),
        (
            HOST,
            &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "8443")],
            "https://shop.example.com:8443/to",
            format!("http://{HOST}/to"),
        ),
        (
            HOST,
            &[("X-Forwarded-Host", "public.example.org")],
            "http://public.example.org/to",
            format!("http://{HOST}/to"),
        ),
        (
            HOST,
            &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "public.example.org:9443")],
            "https://public.example.org:9443/to",
            format!("http://{HOST}/to"),
        ),
        (
            &with_port,
            &[
                ("X-Forwarded-Proto", "https"),
                ("X-Forwarded-Host", "public.example.org"),
                ("X-Forwarded-Port", "8443"),
            ],
            "https://public.example.org:8443/to",
            format!("http://{HOST}:8080/to"),
        ),
    ];
    for (asked, said, behind_a_proxy, alone) in cases {
        let request = said
            .iter()
            .fold(Request::get(asked, "/from"), |request, (name, value)| request.header(name, value));
        for (site, want) in [(&trusting, behind_a_proxy), (&plain, alone.as_str())] {
            let response = site.gateway.ask(&request);
            assert_eq!(response.header("location"), Some(want), "{asked} {said:?}");
        }
    }
}

#[test]
fn answers_of_the_gateways_own_have_a_decision_id_and_take_response_headers() {
    let backend = Backend::named("ok");
    let to = address(backend.address);
    let modify = "{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Set, value: new}, {name: Content-Type, value: text/x-set}]}}";
    let spec = format!(
        "hostnames: [{HOST}]
rules:
- name: redirect
  matches: [{{path: {{type: PathPrefix, value: /redirect}}}}]
  filters: [{modify}, {{type: RequestRedirect, requestRedirect: {{scheme: https, statusCode: 301}}}}]
- name: direct
  matches: [{{path: {{type: PathPrefix, value: /direct}}}}]
  filters: [{modify}, {{type: DirectResponse, directResponse: {{statusCode: 200, contentType: text/plain, body: here}}}}]
- name: cors
  matches: [{{path: {{type: PathPrefix, value: /cors}}}}]
  filters: [{{type: CORS, cors: {{allowOrigins: [\"https://app.example.com\"], allowMethods: [PUT]}}}}]
  backendRefs: [{to}]"
    );
    let site = site(&route("shop", &spec));
    let preflight = Request::new("OPTIONS", HOST, "/cors")
        .header("Origin", "https://app.example.com")
        .header("Access-Control-Request-Method", "PUT");
    let cases = [
        (Request::get(HOST, "/redirect"), 301, true),
        (Request::get(HOST, "/direct"), 200, true),
        (preflight, 204, false),
    ];
    let mut ids = BTreeSet::new();
    for (request, status, is_modified) in cases {
        let response = site.gateway.ask(&request);
        let target = &request.target;
        assert_eq!(response.status, status, "{target}");
        let id =
            response.header("x-baribhara-decision").unwrap_or_else(|| panic!("{target}: no id")).to_owned();
        let line = site.gateway.access_line("the request's line", |line| line["path"] == target.as_str());
        assert_eq!(line["decision"], id.as_str(), "{target}: {line}");
        assert!(ids.insert(id), "{target}: an id that another answer has");
        assert_eq!(response.header("x-set"), is_modified.then_some("new"), "{target}");
        if status == 200 {
            assert_eq!(response.all("content-type"), ["text/x-set"]);
        }
    }
    assert!(backend.arrived().is_empty());
}
