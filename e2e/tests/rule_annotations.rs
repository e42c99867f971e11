//! An Ingress with fields of a rule by annotation: each does what it does in a GatewayRoute, and one that is refused harms
//! nobody else.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use e2e::backend::{Backend, Reply};
use e2e::client::Request;
use e2e::folder::{Folder, route, service};
use e2e::process::command;
use e2e::until::until;

use crate::site::{HOST, Site, site, site_with};

/// An Ingress of this host before the Service `web`, with these annotations, each `name: value` in one line.
fn ingress(name: &str, host: &str, annotations: &[(&str, &str)]) -> String {
    let annotations: String = annotations
        .iter()
        .map(|(name, value)| format!("    gateway.baribhara.io/{name}: '{}'\n", value.replace('\'', "''")))
        .collect();
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  namespace: shop\n  \
         annotations:\n    example.com/team: web\n{annotations}spec:\n  ingressClassName: baribhara\n  rules:\n  \
         - host: {host}\n    http:\n      paths:\n      - {{path: /, pathType: Prefix, backend: {{service: {{name: web, \
         port: {{number: 80}}}}}}}}\n"
    )
}

fn before(endpoints: &[SocketAddr], annotations: &[(&str, &str)]) -> Site {
    site(&(service("web", endpoints) + &ingress("web", HOST, annotations)))
}

#[test]
fn a_retry_hides_the_backend_that_fails() {
    let (busy, good) = (Backend::start(|_| Reply::status(503, "busy")), Backend::named("good"));
    let endpoints = [busy.address, good.address];
    let retry = r#"{attempts: 1, on: ["503"], backoff: {base: 1ms, max: 1ms}, budgetPercent: 100}"#;
    let statuses = |site: &Site| (0..20).map(|_| site.gateway.get(HOST, "/").status).collect::<Vec<_>>();
    assert!(statuses(&before(&endpoints, &[])).contains(&503), "without it the failures are seen");
    assert_eq!(statuses(&before(&endpoints, &[("retry", retry)])), [200; 20]);
    assert!(!busy.arrived().is_empty());
}

#[test]
fn the_breaker_opens_and_says_so() {
    let (moody, bad) = Backend::moody();
    bad.store(true, Ordering::SeqCst);
    let site = before(
        &[moody.address],
        &[("circuit-breaker", "{failures: {consecutive: 3, openFor: 1s, probes: 1}}")],
    );
    let statuses: Vec<u16> = (0..3).map(|_| site.gateway.get(HOST, "/").status).collect();
    assert_eq!(statuses, [500, 500, 500], "the backend's own word");
    let asked = moody.arrived().len();
    let refused = site.gateway.get(HOST, "/");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(moody.arrived().len(), asked, "nothing is sent");
    site.gateway.access_line("the reason", |line| line.to_string().contains("breaker-open"));
    bad.store(false, Ordering::SeqCst);
    site.gateway.until_status(HOST, "/", 200);
}

#[test]
fn an_active_check_takes_an_endpoint_out_and_the_first_by_name_has_the_word() {
    let (moody, bad) = Backend::moody();
    let good = Backend::named("good");
    let check =
        |path: &str| format!("{{active: {{path: {path}, interval: 100ms, healthy: 1, unhealthy: 1}}}}");
    // The route comes after the Ingress by name, and would find everybody well.
    let other = format!(
        "hostnames: [other.example.com]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  healthCheck: {}",
        check("/other")
    );
    let yaml = service("web", &[moody.address, good.address])
        + &ingress("web", HOST, &[("health-check", &check("/healthz")), ("retry", "{attempts: 0}")])
        + &route("zoo", &other);
    let site = site(&yaml);
    until("it is checked", || {
        good.arrived().iter().any(|arrived| arrived.target() == "/healthz").then_some(())
    });
    assert!(!good.arrived().iter().any(|arrived| arrived.target() == "/other"), "one check a backend");
    bad.store(true, Ordering::SeqCst);
    let who = || (0..10).map(|_| site.gateway.get(HOST, "/").text()).collect::<Vec<_>>();
    until("it is out", || (who() == ["good"; 10]).then_some(()));
    bad.store(false, Ordering::SeqCst);
    until("it is in again", || who().contains(&"moody".to_owned()).then_some(()));
    // A route that comes before it by name takes the word.
    site.folder.write("all.yaml", &yaml.replace("name: zoo,", "name: ape,"));
    until("the other check", || {
        good.arrived().iter().any(|arrived| arrived.target() == "/other").then_some(())
    });
}

#[test]
fn an_endpoint_that_fails_twice_is_ejected() {
    let (moody, bad) = Backend::moody();
    bad.store(true, Ordering::SeqCst);
    let good = Backend::named("good");
    let check = "{passive: {consecutive5xx: 2, ejectFor: 60s}}";
    let site = before(&[moody.address, good.address], &[("health-check", check), ("retry", "{attempts: 0}")]);
    let failed = (0..30).filter(|_| site.gateway.get(HOST, "/").status == 500).count();
    assert_eq!(failed, 2);
    assert_eq!(moody.arrived().len(), 2);
}

#[test]
fn timeouts_end_a_request_that_nobody_answers() {
    let silent = Backend::start(|_| Reply::Silence);
    let site = before(&[silent.address], &[("timeouts", r#"{"request": "300ms"}"#)]);
    let started = Instant::now();
    assert_eq!(site.gateway.get(HOST, "/").status, 504);
    assert!((Duration::from_millis(280)..Duration::from_secs(5)).contains(&started.elapsed()));
}

#[test]
fn filters_change_answer_and_abort() {
    let web = Backend::named("web");
    let filters = r#"[
        {type: CORS, cors: {allowOrigins: ["https://app.example.com"], allowMethods: [PUT]}},
        {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Site, value: shop}]}},
        {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Answer, value: "42"}]}},
        {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}},
        {type: Fault, fault: {header: {name: X-Chaos}, abort: {statusCode: 418}}}
    ]"#;
    let site = before(&[web.address], &[("filters", &filters.replace('\n', " "))]);
    let answer = site.gateway.ask(&Request::get(HOST, "/a").header("Origin", "https://app.example.com"));
    assert_eq!((answer.status, answer.header("x-answer")), (200, Some("42")));
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
    let arrived = web.arrived().pop().unwrap();
    assert_eq!((arrived.target(), arrived.all("x-site")), ("/v2/a", vec!["shop"]));
    let preflight = Request::new("OPTIONS", HOST, "/")
        .header("Origin", "https://app.example.com")
        .header("Access-Control-Request-Method", "PUT");
    let answer = site.gateway.ask(&preflight);
    assert_eq!((answer.status, answer.header("access-control-allow-methods")), (204, Some("PUT")));
    let answer = site.gateway.ask(&Request::get(HOST, "/").header("X-Chaos", "1"));
    assert_eq!((answer.status, web.arrived().len()), (418, 1));
}

#[test]
fn a_filter_that_answers_leaves_the_backend_alone() {
    let web = Backend::named("web");
    let filters = "[{type: RequestRedirect, requestRedirect: {hostname: new.example.com, statusCode: 308}}]";
    let site = before(&[web.address], &[("filters", filters)]);
    let answer = site.gateway.get(HOST, "/a?b");
    assert_eq!(answer.status, 308);
    assert!(answer.header("location").unwrap().ends_with("://new.example.com/a?b"), "{answer:?}");
    assert_eq!(web.connections(), 0);
}

#[test]
fn addresses_and_large_bodies_are_refused() {
    let web = Backend::named("web");
    let site = before(&[web.address], &[("max-request-body", "1Ki")]);
    let with_body = |bytes| Request::new("POST", HOST, "/").body(vec![b'x'; bytes]);
    assert_eq!(site.gateway.ask(&with_body(1024)).status, 200);
    assert_eq!(site.gateway.ask(&with_body(1025)).status, 413);
    let site = before(&[web.address], &[("ip-access", "{deny: [127.0.0.0/8, \"::1\"]}")]);
    assert_eq!(site.gateway.get(HOST, "/").status, 403);
}

#[test]
fn what_is_refused_is_named_and_harms_only_its_ingress() {
    let web = Backend::named("web");
    let yaml = service("web", &[web.address])
        + &ingress("good", "good.example.com", &[("retry", "{attempts: 2}")])
        + &ingress(
            "tuned",
            "tuned.example.com",
            &[("retry", "{attempts: 11}"), ("timeouts", "connect: 1s: 2s")],
        )
        + &ingress("closed", "closed.example.com", &[("filters", "[{type: CORS, cors: {maxAge: 25h}}]")]);
    let folder = Folder::with(&yaml);
    let checked = command(&["check", &folder.path().display().to_string()]).output().unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    let wants = [
        "Ingress/shop/tuned: metadata.annotations['gateway.baribhara.io/retry'].attempts: is 11, more than 10; the default \
         holds; Tries after the first",
        "Ingress/shop/tuned: metadata.annotations['gateway.baribhara.io/timeouts']: line 1, column ",
        "Ingress/shop/closed: metadata.annotations['gateway.baribhara.io/filters'][0].cors.maxAge: maxAge is at most 24h; \
         the Ingress answers 500; write a shorter time",
    ];
    for want in wants {
        assert!(said.contains(want), "{want}\nis not in\n{said}");
    }
    assert!(!said.contains("Ingress/shop/good"), "{said}");
    // At the line of the annotation.
    let line = 1 + yaml.lines().position(|line| line.contains("attempts: 11")).unwrap();
    assert!(said.contains(&format!("all.yaml:{line}: Ingress/shop/tuned")), "{said}");
    let site = site(&yaml);
    for (host, status) in [("good", 200), ("tuned", 200), ("closed", 500)] {
        assert_eq!(site.gateway.get(&format!("{host}.example.com"), "/").status, status, "{host}");
    }
    // Corrected, it serves.
    site.folder.write("all.yaml", &yaml.replace("25h", "24h"));
    site.gateway.until_status("closed.example.com", "/", 200);
}

#[test]
fn explain_shows_an_ingress_as_it_shows_a_route() {
    let rule = [
        ("timeouts", "timeouts", "{connect: 1s, request: 10s}"),
        ("retry", "retry", "{attempts: 3}"),
        ("circuit-breaker", "circuitBreaker", "{maxRequests: 7, failures: {consecutive: 50}}"),
        (
            "health-check",
            "healthCheck",
            "{active: {path: /healthz}, passive: {consecutive5xx: 3}, panicThreshold: 40}",
        ),
        ("load-balancing", "loadBalancing", "{policy: LeastRequest, slowStart: 30s, zone: PreferLocal}"),
        (
            "filters",
            "filters",
            "[{type: CORS, cors: {allowOrigins: [\"*\"]}}, {type: Fault, fault: {abort: {statusCode: 503}}}]",
        ),
        ("ip-access", "ipAccess", "{deny: [192.0.2.0/24]}"),
        ("max-request-body", "maxRequestBody", "8Mi"),
    ];
    let annotations: Vec<_> = rule.iter().map(|(annotation, _, value)| (*annotation, *value)).collect();
    let fields: String = rule.iter().map(|(_, field, value)| format!("  {field}: {value}\n")).collect();
    let spec = format!(
        "hostnames: [route.example.com]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n{fields}"
    );
    let web = Backend::named("web");
    let folder = Folder::with(
        &(service("web", &[web.address]) + &ingress("web", HOST, &annotations) + &route("route", &spec)),
    );
    let steps = |host: &str| {
        let (url, path) = (format!("http://{host}/"), folder.path().display().to_string());
        let out = command(&["explain", "GET", &url, "--config", &path, "-o", "json"]).output().unwrap();
        let explained: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let winner = &explained["winner"];
        let text = format!("{} {}", winner["filters"], winner["policies"]);
        assert!(text.contains("CircuitBreaker") && text.contains("ActiveHealth"), "{explained}");
        text.replace("Ingress/shop/web", "OBJECT").replace("GatewayRoute/shop/route", "OBJECT")
    };
    assert_eq!(steps(HOST), steps("route.example.com"));
}

#[test]
fn the_example_does_what_it_says() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let example = std::fs::read_to_string(root.join("manifests/examples/ingress-resilience.yaml")).unwrap();
    let (busy, good) = (
        Backend::start(|arrived| match arrived.target() {
            "/healthz" => Reply::ok("well"),
            _ => Reply::status(503, "busy"),
        }),
        Backend::named("good"),
    );
    let web = service("web", &[busy.address, good.address]).replace("namespace: shop", "namespace: examples");
    let site = site_with(&(example + &web), &["--zone", "a"]);
    let host = "ingress-resilience.example.com";
    for _ in 0..10 {
        let answer = site.gateway.get(host, "/");
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
    }
    assert_eq!(site.gateway.ask(&Request::get(host, "/").header("X-Chaos", "1")).status, 503);
}
