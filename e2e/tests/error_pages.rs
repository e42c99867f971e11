//! Error pages: what the Service is asked, what the client gets, and that a Service that fails harms nothing.

use std::time::{Duration, Instant};

use e2e::backend::{Arrived, Backend, Reply};
use e2e::client::{Connection, Request};
use e2e::folder::{limit_policy, route, service};
use e2e::h2_client::{H2Connection, H2Request};

use crate::site::{HOST, Site, site};

const PAGES: &str = "filters: [{type: ErrorPages, errorPages: [{statusCodes: [\"404\", \"500-599\"], backendRef: {name: errors, port: 80}}]}]";

fn served(web: &Backend, errors: &Backend, fields: &str) -> Site {
    let fields: String = fields.lines().map(|line| format!("  {line}\n")).collect();
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  {PAGES}\n  backendRefs: [{{name: web, port: 80}}]\n{fields}"
    );
    site(&(service("web", &[web.address]) + &service("errors", &[errors.address]) + &route("shop", &spec)))
}

/// Answers with the status that the path names, and a body, cookie and coding of its own.
fn failing(arrived: &Arrived) -> Reply {
    let status: u16 =
        arrived.target().trim_start_matches('/').split('?').next().unwrap_or("").parse().unwrap_or(200);
    Reply::Bytes(
        format!(
            "HTTP/1.1 {status} X\r\nContent-Length: 5\r\nContent-Encoding: br\r\nSet-Cookie: a=b\r\nWWW-Authenticate: Basic\r\n\r\nplain"
        )
        .into_bytes(),
    )
}

fn page(_: &Arrived) -> Reply {
    Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\npage".to_vec())
}

#[test]
fn an_error_gets_its_page_and_the_service_learns_of_the_error() {
    let (web, errors) = (Backend::start(failing), Backend::start(page));
    let site = served(&web, &errors, "");
    let request = Request::get(HOST, "/404?q=1")
        .header("Accept", "text/html")
        .header("Accept-Language", "de")
        .header("X-Request-ID", "abc")
        .header("Cookie", "secret=1")
        .header("Authorization", "Bearer secret");
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for _ in 0..3 {
        let response = connection.ask(&request).unwrap();
        assert_eq!((response.status, response.text().as_str()), (404, "page"));
        assert_eq!(response.header("content-type"), Some("text/html"));
        assert_eq!(response.header("www-authenticate"), Some("Basic"), "{:?}", response.headers);
        for gone in ["set-cookie", "content-encoding", "x-baribhara-decision"] {
            assert_eq!(response.header(gone), None, "{gone}");
        }
    }
    assert_eq!(web.connections(), 1, "the first answer's connection is kept");
    let asked = errors.arrived().remove(0);
    assert!(asked.head.starts_with("GET / HTTP/1.1\r\n"), "{}", asked.head);
    for (name, value) in [
        ("Host", HOST),
        ("X-Code", "404"),
        ("X-Format", "text/html"),
        ("Accept", "text/html"),
        ("Accept-Language", "de"),
        ("X-Original-URI", "/404?q=1"),
        ("X-Namespace", "shop"),
        ("X-Ingress-Name", "shop"),
        ("X-Service-Name", "web"),
        ("X-Service-Port", "80"),
        ("X-Request-ID", "abc"),
        ("X-Forwarded-For", "127.0.0.1"),
    ] {
        assert_eq!(asked.all(name), [value], "{name} in {}", asked.head);
    }
    assert!(asked.all("cookie").is_empty() && asked.all("authorization").is_empty(), "{}", asked.head);
    // What is not named stays as it is.
    let other = connection.ask(&Request::get(HOST, "/403")).unwrap();
    assert_eq!((other.status, other.text().as_str()), (403, "plain"));
    let line = site.gateway.access_line("the error", |line| line["status"] == 404);
    assert_eq!(line["upstream"], web.address.to_string());
    assert_eq!(
        site.gateway.metric("baribhara_error_pages_total{endpoint=\"shop/shop/all\",result=\"shown\"}"),
        3.0
    );
}

#[test]
fn the_gateways_own_errors_get_pages_and_keep_their_decision() {
    let errors = Backend::start(page);
    let dead = Backend::named("dead");
    let site = served(&dead, &errors, "");
    drop(dead);
    let response = site.gateway.get(HOST, "/");
    assert_eq!((response.status, response.text().as_str()), (503, "page"));
    let decision = response.header("x-baribhara-decision").expect("a decision").to_owned();
    let line = site.gateway.access_line("the refusal", |line| line["decision"] == decision.as_str());
    assert_eq!(line["reason"], "connect-failed");
    assert_eq!(errors.arrived()[0].all("x-code"), ["503"]);
    assert_eq!(errors.arrived()[0].all("x-request-id"), [line["request_id"].as_str().unwrap()]);
}

#[test]
fn a_page_sets_the_cookie_of_the_session_that_the_error_began() {
    let (web, errors) = (Backend::start(failing), Backend::start(page));
    let site = served(&web, &errors, "affinity: {cookie: {name: SRV}}");
    let own_cookie = |set: &str| set.starts_with("SRV=") && set.ends_with("; HttpOnly");
    let response = site.gateway.get(HOST, "/404");
    assert_eq!((response.status, response.text().as_str()), (404, "page"));
    let set = response.all("set-cookie");
    // The backend's own cookie goes with its answer.
    assert!(set.len() == 1 && own_cookie(set[0]), "{set:?}");
    let session = set[0].split(';').next().unwrap();
    let again = site.gateway.ask(&Request::get(HOST, "/404").header("Cookie", session));
    assert_eq!((again.text().as_str(), again.header("set-cookie")), ("page", None), "it has the right one");
    // Beside the backend's where the answer stays.
    let plain = site.gateway.get(HOST, "/403");
    let set = plain.all("set-cookie");
    assert!(set.len() == 2 && set[0] == "a=b" && own_cookie(set[1]), "{set:?}");
}

#[test]
fn what_a_page_cannot_be_shown_for_is_left_alone() {
    let (web, errors) = (Backend::start(failing), Backend::start(page));
    let site = served(&web, &errors, "");
    // gRPC is told in its own words, and who asks for a page gets none: nothing loops.
    for (name, value) in [("Content-Type", "application/grpc"), ("X-Code", "500")] {
        let response = site.gateway.ask(&Request::new("POST", HOST, "/500").header(name, value).body("x"));
        assert_eq!((response.status, response.text().as_str()), (500, "plain"), "{name}");
    }
    let upgrade = Request::get(HOST, "/500").header("Connection", "upgrade").header("Upgrade", "websocket");
    let response = site.gateway.ask(
        &upgrade
            .header("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
            .header("Sec-WebSocket-Version", "13"),
    );
    assert_eq!(response.text(), "plain");
    assert!(errors.arrived().is_empty(), "{:?}", errors.arrived());
    // HEAD asks by HEAD, and no body is waited for.
    let head = Backend::start(|_| Reply::Bytes(b"HTTP/1.1 404 X\r\nContent-Length: 4\r\n\r\n".to_vec()));
    let site = served(&head, &head, "");
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for _ in 0..2 {
        let response = connection.ask(&Request::new("HEAD", HOST, "/404")).unwrap();
        assert_eq!((response.status, response.header("content-length")), (404, Some("4")));
    }
    assert_eq!(head.arrived()[1].all("x-code"), ["404"]);
    assert!(head.arrived()[1].head.starts_with("HEAD / "), "{}", head.arrived()[1].head);
}

#[test]
fn a_service_that_is_dead_slow_or_talks_garbage_leaves_the_answer_as_it_was() {
    let web = Backend::start(failing);
    type Case = (&'static str, fn(&Arrived) -> Reply);
    let replies: [Case; 4] = [
        ("slow", |_| Reply::Silence),
        ("garbage", |_| Reply::BytesThenClose(b"no HTTP at all\r\n\r\n".to_vec())),
        ("broken", |_| Reply::BytesThenReset(Vec::new())),
        ("failing", |_| Reply::status(500, "worse")),
    ];
    for (name, reply) in replies {
        let errors = Backend::start(reply);
        let site = served(&web, &errors, "");
        let began = Instant::now();
        let response = site.gateway.get(HOST, "/404");
        assert_eq!((response.status, response.text().as_str()), (404, "plain"), "{name}");
        assert_eq!(response.header("set-cookie"), Some("a=b"), "{name}");
        assert!(began.elapsed() < Duration::from_secs(6), "{name} took {:?}", began.elapsed());
        let failed = "baribhara_error_pages_total{endpoint=\"shop/shop/all\",result=\"failed\"}";
        assert_eq!(site.gateway.metric(failed), 1.0, "{name}");
    }
    let errors = Backend::named("dead");
    let site = served(&web, &errors, "");
    drop(errors);
    assert_eq!(site.gateway.get(HOST, "/404").text(), "plain");
}

#[test]
fn the_service_may_have_a_word_of_its_own() {
    let web = Backend::start(failing);
    for (own, want) in [(200, 404), (404, 404), (302, 302), (403, 403)] {
        let errors = Backend::start(move |_| Reply::status(own, "page"));
        let site = served(&web, &errors, "");
        let response = site.gateway.get(HOST, "/404");
        assert_eq!((response.status, response.text().as_str()), (want, "page"), "{own}");
    }
}

#[test]
fn a_large_error_is_dropped_and_a_large_page_comes_whole_over_both_protocols() {
    const MIB: usize = 1 << 20;
    let web = Backend::start(|_| Reply::status(500, &"x".repeat(20 * MIB)));
    let errors = Backend::start(|_| Reply::status(200, &"y".repeat(3 * MIB)));
    let site = served(&web, &errors, "");
    let mut connection = Connection::open(site.gateway.http).unwrap();
    for _ in 0..2 {
        let response = connection.ask(&Request::get(HOST, "/")).unwrap();
        assert_eq!((response.status, response.body.len()), (500, 3 * MIB));
        assert!(response.body.iter().all(|byte| *byte == b'y'));
    }
    let mut client = H2Connection::plain(site.gateway.http).unwrap();
    let response = client.ask(&H2Request::get(HOST, "/")).unwrap();
    assert_eq!((response.status, response.body.len()), (500, 3 * MIB));
}

#[test]
fn an_ingress_names_its_pages_by_annotation_and_a_backend_without_endpoints_has_one() {
    let (web, errors) = (Backend::start(failing), Backend::start(page));
    let ingress = |name: &str, host: &str, service: &str, annotations: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  namespace: shop\n  \
             annotations: {{{annotations}}}\nspec:\n  ingressClassName: baribhara\n  rules:\n  - host: {host}\n    \
             http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}\n"
        )
    };
    let nginx = "nginx.ingress.kubernetes.io/custom-http-errors: \"404,410\", nginx.ingress.kubernetes.io/default-backend: errors";
    let ours = "gateway.baribhara.io/default-backend: errors";
    let yaml = service("web", &[web.address])
        + &service("empty", &[])
        + &service("errors", &[errors.address])
        + &ingress("shop", HOST, "web", nginx)
        + &ingress("empty", "empty.example.com", "empty", ours);
    let site = site(&yaml);
    for (path, status, body) in [("/404", 404, "page"), ("/410", 410, "page"), ("/503", 503, "plain")] {
        let response = site.gateway.get(HOST, path);
        assert_eq!((response.status, response.text().as_str()), (status, body), "{path}");
    }
    let response = site.gateway.get("empty.example.com", "/x");
    assert_eq!((response.status, response.text().as_str()), (503, "page"));
    let asked = errors.arrived().pop().unwrap();
    for (name, value) in [("X-Code", "503"), ("X-Service-Name", "empty"), ("X-Ingress-Name", "empty")] {
        assert_eq!(asked.all(name), [value], "{name}");
    }
}

#[test]
fn a_limit_that_answers_in_its_own_way_gets_the_page_of_its_status_and_its_text_gets_none() {
    let (web, errors) = (Backend::named("ok"), Backend::start(page));
    let to = "targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop}]";
    for (response, want) in [
        ("{statusCode: 503}", (503, "page")),
        ("{statusCode: 503, body: {contentType: text/plain, text: later}}", (503, "later")),
        ("{statusCode: 420, body: {contentType: text/plain, text: later}}", (420, "later")),
    ] {
        let limits = "limits: [{name: block, rates: [{requests: 0, per: 60s}]}]";
        let policy = limit_policy("few", &format!("{to}\nresponse: {response}\n{limits}"));
        let spec = format!(
            "hostnames: [{HOST}]\nrules:\n- name: all\n  {PAGES}\n  backendRefs: [{{name: web, port: 80}}]\n"
        );
        let services = service("web", &[web.address]) + &service("errors", &[errors.address]);
        let site = site(&(services + &route("shop", &spec) + &policy));
        let answer = site.gateway.get(HOST, "/");
        assert_eq!((answer.status, answer.text().as_str()), want, "{response}");
        assert_eq!(answer.header("retry-after"), Some("60"), "{response}");
    }
    let asked = errors.arrived();
    assert_eq!((asked.len(), asked[0].all("x-code")), (1, vec!["503"]));
    assert_eq!(web.arrived().len(), 0);
}
