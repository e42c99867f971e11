//! A service decides who may pass: what it is asked, what its answers do, and what becomes of requests without it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use e2e::backend::{Arrived, Backend, Reply};
use e2e::client::{self, Request, Response};
use e2e::folder::{auth_policy, limit_policy, route, secret, service};
use e2e::h2_client::{H2Connection, H2Request};
use e2e::jwt;
use e2e::until::until;
use e2e::websocket::{EchoSocket, TEXT, WebSocket, handshake, refused};

use crate::site::{HOST, Site, address, site, site_with, spec};

const KEY: &str = "a secret of the external tests, long enough for HS256";

fn answer(status: u16, fields: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(
        format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {length}\r\n\r\n{body}").into_bytes(),
    )
}

/// Lets whoever has the cookie `who` pass, under that name, and refuses others as a real service does.
fn decide(arrived: &Arrived) -> Reply {
    let cookies = arrived.all("cookie").join("; ");
    let who = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("who="));
    match who {
        Some("banned") => answer(403, "X-Why: banned\r\nX-User: banned\r\n", "not you"),
        Some(who) => answer(202, &format!("X-User: {who}\r\nX-Groups: a\r\nX-Groups: b\r\n"), "welcome"),
        None => answer(
            401,
            "WWW-Authenticate: Custom realm=\"x\"\r\nSet-Cookie: state=1\r\nContent-Type: text/html\r\n",
            "<p>who are you?</p>",
        ),
    }
}

/// All requests of [`HOST`] to `backend`, if `service` lets them pass.
fn guarded(backend: SocketAddr, service: SocketAddr, fields: &str) -> String {
    let (ip, port) = (service.ip(), service.port());
    let auth = format!(
        "auth:\n  external:\n    backendRef: {{address: \"{ip}\", port: {port}}}\n    path: /check?a=b\n    \
         responseHeadersToUpstream: [X-User, X-Groups]\n{fields}"
    );
    route("shop", &spec(backend, &auth))
}

fn guard(backend: SocketAddr, service: SocketAddr, fields: &str) -> Site {
    site(&guarded(backend, service, fields))
}

fn as_user(site: &Site, who: &str, path: &str) -> Response {
    site.gateway.ask(&Request::get(HOST, path).header("Cookie", &format!("who={who}")))
}

fn result(site: &Site, result: &str) -> f64 {
    let labels = format!("endpoint=\"shop/shop/all\",result=\"{result}\"");
    site.gateway.metric(&format!("baribhara_external_auth_total{{{labels}}}"))
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn the_service_sees_the_whole_request_and_the_backend_what_the_service_says() {
    let (backend, service) = (Backend::named("ok"), Backend::start(decide));
    let site = guard(backend.address, service.address, "");
    let request = Request::new("POST", HOST, "/a%20b?q=1&r=%2F")
        .header("Cookie", "who=ada")
        .header("Authorization", "Bearer x")
        .header("X-User", "root")
        .header("X-Groups", "root")
        .header("X-Forwarded-Uri", "/elsewhere")
        .header("X-Original-URL", "http://elsewhere/")
        .header("X-Original-Method", "GET")
        .header("X-Forwarded-For", "192.0.2.9")
        .header("If-None-Match", "\"x\"")
        .header("Range", "bytes=0-1")
        .body("the body");
    assert_eq!(site.gateway.ask(&request).status, 200);

    let asked = service.arrived().pop().unwrap();
    assert!(asked.head.starts_with("GET /check?a=b HTTP/1.1\r\n"), "{}", asked.head);
    assert!(asked.body.is_empty() && asked.all("content-length").is_empty(), "{}", asked.head);
    for (name, want) in [
        ("host", vec![service.address.to_string()]),
        ("cookie", vec!["who=ada".to_owned()]),
        ("authorization", vec!["Bearer x".to_owned()]),
        ("x-forwarded-method", vec!["POST".to_owned()]),
        ("x-original-method", vec!["POST".to_owned()]),
        ("x-forwarded-proto", vec!["http".to_owned()]),
        ("x-forwarded-host", vec![HOST.to_owned()]),
        ("x-forwarded-for", vec!["127.0.0.1".to_owned()]),
        ("x-real-ip", vec!["127.0.0.1".to_owned()]),
        ("x-forwarded-uri", vec!["/a%20b?q=1&r=%2F".to_owned()]),
        ("x-auth-request-redirect", vec!["/a%20b?q=1&r=%2F".to_owned()]),
        ("x-original-url", vec![format!("http://{HOST}/a%20b?q=1&r=%2F")]),
        ("x-user", vec![]),
        ("x-groups", vec![]),
        ("if-none-match", vec![]),
        ("range", vec![]),
    ] {
        assert_eq!(asked.all(name), want, "{name}: {}", asked.head);
    }
    let got = backend.arrived().pop().unwrap();
    assert_eq!((got.all("x-user"), got.all("x-groups")), (vec!["ada"], vec!["a", "b"]));
    assert_eq!(got.body, b"the body");
    assert_eq!(got.all("x-request-id"), asked.all("x-request-id"), "one id for both");
    assert_eq!((result(&site, "passed"), result(&site, "refused")), (1.0, 0.0));
    let took = "baribhara_external_auth_duration_seconds_count{endpoint=\"shop/shop/all\"}";
    assert_eq!(site.gateway.metric(took), 1.0);
}

#[test]
fn only_the_headers_that_are_named_are_sent() {
    let (backend, service) = (Backend::named("ok"), Backend::start(decide));
    let site = guard(backend.address, service.address, "    requestHeaders: [Cookie]\n    method: HEAD");
    let request = Request::get(HOST, "/")
        .header("Cookie", "who=ada")
        .header("Authorization", "Bearer x")
        .header("X-Other", "1");
    assert_eq!(site.gateway.ask(&request).status, 200);
    let asked = service.arrived().pop().unwrap();
    assert!(asked.head.starts_with("HEAD /check?a=b "), "{}", asked.head);
    assert_eq!(asked.all("cookie"), ["who=ada"]);
    assert!(asked.all("authorization").is_empty() && asked.all("x-other").is_empty(), "{}", asked.head);
    assert_eq!(asked.all("x-forwarded-method"), ["GET"]);
}

#[test]
fn what_a_client_writes_with_an_underscore_is_not_taken_for_the_gateways_word() {
    let (backend, service) = (Backend::named("ok"), Backend::start(decide));
    let yaml = guarded(backend.address, service.address, "");
    let site = site_with(&yaml, &["--underscore-headers", "keep"]);
    let request = Request::get(HOST, "/")
        .header("Cookie", "who=ada")
        .header("X_Original_URL", "/admin")
        .header("X_Forwarded_Uri", "/admin")
        .header("X_User", "root")
        .header("X_Own", "1");
    assert_eq!(site.gateway.ask(&request).status, 200);
    let (asked, got) = (service.arrived().pop().unwrap(), backend.arrived().pop().unwrap());
    for name in ["x_original_url", "x_forwarded_uri", "x_user"] {
        assert!(asked.all(name).is_empty(), "{name}: {}", asked.head);
    }
    assert_eq!((asked.all("x_own"), got.all("x_own"), got.all("x_user").len()), (vec!["1"], vec!["1"], 0));
}

#[test]
fn a_refusal_is_the_services_own_answer() {
    let (backend, service) = (Backend::named("ok"), Backend::start(decide));
    let site = guard(backend.address, service.address, "");
    let refused = site.gateway.get(HOST, "/");
    assert_eq!((refused.status, refused.text().as_str()), (401, "<p>who are you?</p>"));
    assert_eq!(refused.header("www-authenticate"), Some("Custom realm=\"x\""));
    assert_eq!(refused.header("set-cookie"), Some("state=1"));
    assert_eq!(refused.header("content-type"), Some("text/html"));
    let decision = refused.header("x-baribhara-decision").unwrap().to_owned();
    let line = site.gateway.access_line("the refusal", |line| line["decision"] == decision.as_str());
    assert_eq!((&line["reason"], &line["status"]), (&"external_refused".into(), &401.into()));

    let banned = as_user(&site, "banned", "/");
    assert_eq!((banned.status, banned.text().as_str()), (403, "not you"));
    assert_eq!((banned.header("x-why"), banned.header("x-user")), (Some("banned"), None));
    let head = site.gateway.ask(&Request::new("HEAD", HOST, "/"));
    assert_eq!((head.status, head.body.len()), (401, 0));
    assert!(backend.arrived().is_empty(), "the backend was asked");
    assert_eq!(result(&site, "refused"), 3.0);
}

#[test]
fn browsers_are_sent_to_sign_in_and_never_in_a_circle() {
    let (backend, service) = (Backend::named("ok"), Backend::start(decide));
    let page = "    signIn: {url: \"https://sso.example.com/start?x=1\", redirectParam: back}";
    let site = guard(backend.address, service.address, page);
    let sent = site.gateway.get(HOST, "/shop/?q=a+b&r=1");
    assert_eq!(sent.status, 302);
    assert_eq!(
        sent.header("location"),
        Some(
            "https://sso.example.com/start?x=1&back=http%3A%2F%2Fshop.example.com%2Fshop%2F%3Fq%3Da%2Bb%26r%3D1"
        )
    );
    assert_eq!(sent.header("set-cookie"), Some("state=1"), "the state of the sign-in");
    assert_eq!(result(&site, "sign_in"), 1.0);
    for (what, request, status) in [
        ("a script", Request::get(HOST, "/").header("Sec-Fetch-Mode", "cors"), 401),
        ("an old script", Request::get(HOST, "/").header("X-Requested-With", "XMLHttpRequest"), 401),
        ("a form", Request::new("POST", HOST, "/").header("Sec-Fetch-Mode", "navigate").body("a=b"), 302),
        ("a program", Request::new("POST", HOST, "/").body("a=b"), 401),
        ("who is known and not let in", Request::get(HOST, "/").header("Cookie", "who=banned"), 403),
    ] {
        assert_eq!(site.gateway.ask(&request).status, status, "{what}");
    }

    let own = guard(backend.address, service.address, "    signIn: {url: /oauth2/start}");
    let sent = own.gateway.get(HOST, "/a");
    assert_eq!(sent.header("location"), Some("/oauth2/start?rd=http%3A%2F%2Fshop.example.com%2Fa"));
    let there = own.gateway.get(HOST, "/oauth2/start?rd=%2Fa");
    assert_eq!(there.status, 401, "the page itself is guarded: {:?}", there.header("location"));
}

#[test]
fn a_redirect_of_the_service_is_passed_on_and_nothing_else_is_taken_for_a_word() {
    let backend = Backend::named("ok");
    let service = Backend::start(|arrived| match arrived.all("x-want").first() {
        Some(&"302") => answer(302, "Location: https://sso.example.com/\r\nSet-Cookie: a=1\r\n", ""),
        Some(want) => answer(want.parse().unwrap(), "", "whatever"),
        None => answer(200, "", ""),
    });
    for (mode, failed) in [("Closed", 503), ("Open", 200)] {
        let site = guard(backend.address, service.address, &format!("    failureMode: {mode}"));
        let want = |status: &str| site.gateway.ask(&Request::get(HOST, "/").header("X-Want", status));
        let sent = want("302");
        assert_eq!((sent.status, sent.header("location")), (302, Some("https://sso.example.com/")));
        assert_eq!(sent.header("set-cookie"), Some("a=1"));
        for status in ["204", "200", "299"] {
            assert_eq!(want(status).status, 200, "{mode} {status}");
        }
        // The client may have brought these about, so that not even an open route takes them for a failure.
        for status in ["304", "301", "400", "404", "429", "431"] {
            assert_eq!(want(status).status, 503, "{mode} {status}");
        }
        for status in ["500", "503", "599"] {
            assert_eq!(want(status).status, failed, "{mode} {status}");
        }
    }
}

#[test]
fn without_an_answer_nobody_passes_unless_the_route_says_so() {
    let backend = Backend::named("ok");
    let silent = Backend::start(|_| Reply::Silence);
    let garbage = Backend::start(|_| Reply::BytesThenClose(b"SSH-2.0-x\r\n\r\n".to_vec()));
    let breaks = Backend::start(|_| Reply::BytesThenReset(b"HTTP/1.1 200 OK\r\nX-User: root".to_vec()));
    for (what, service) in [
        ("silence", silent.address),
        ("garbage", garbage.address),
        ("half a head", breaks.address),
        ("nobody", nobody()),
    ] {
        let closed = guard(backend.address, service, "    timeout: 300ms");
        let began = Instant::now();
        let refused = as_user(&closed, "ada", "/");
        assert_eq!(refused.status, 503, "{what}");
        assert_eq!(refused.header("retry-after"), Some("1"), "{what}");
        assert!(began.elapsed() < Duration::from_secs(5), "{what}: {:?}", began.elapsed());
        assert_eq!(result(&closed, "unavailable"), 1.0, "{what}");
        closed.gateway.access_line(what, |line| line["reason"] == "external_unavailable");
        assert!(backend.arrived().is_empty(), "{what}: the backend was asked");
    }
    let open = guard(backend.address, silent.address, "    timeout: 300ms\n    failureMode: Open");
    let request = Request::get(HOST, "/").header("X-User", "root").header("X-Groups", "root");
    assert_eq!(open.gateway.ask(&request).status, 200);
    let got = backend.arrived().pop().unwrap();
    assert!(got.all("x-user").is_empty() && got.all("x-groups").is_empty(), "{}", got.head);
    assert_eq!(result(&open, "opened"), 1.0);
}

#[test]
fn a_long_or_slow_body_of_an_answer_holds_nobody_up() {
    let backend = Backend::named("ok");
    let service = Backend::start(|arrived| match arrived.target() {
        target if target.ends_with("a=b") && arrived.all("x-want").is_empty() => {
            // Lets pass, and never ends.
            Reply::BytesThen(
                b"HTTP/1.1 200 OK\r\nX-User: ada\r\nContent-Length: 9\r\n\r\n1".to_vec(),
                Box::new(Reply::Silence),
            )
        }
        _ => answer(401, "Content-Type: text/html\r\n", &"x".repeat(200 << 10)),
    });
    let site = guard(backend.address, service.address, "    timeout: 5s");
    let began = Instant::now();
    assert_eq!(site.gateway.get(HOST, "/").status, 200);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let refused = site.gateway.ask(&Request::get(HOST, "/").header("X-Want", "401"));
    assert_eq!((refused.status, refused.body.len()), (401, 0), "a body over the bound is left out");
    assert_eq!(refused.header("content-type"), None);
}

#[test]
fn an_answer_is_kept_by_the_key_and_no_longer_than_it_may_be() {
    let (backend, service) = (Backend::named("ok"), Backend::start(decide));
    let cache = "    cache: {key: [\"cookie:who\"], ttl: 4s}";
    let folder = guarded(backend.address, service.address, cache);
    let site = site_with(&folder, &["--workers", "1"]);
    for _ in 0..5 {
        assert_eq!(as_user(&site, "ada", "/").status, 200);
    }
    assert_eq!(service.arrived().len(), 1, "the same cookie was asked about again");
    assert!(
        backend.arrived().iter().all(|got| got.all("x-user") == ["ada"] && got.all("x-groups") == ["a", "b"])
    );
    assert_eq!(as_user(&site, "bob", "/").status, 200);
    assert_eq!(backend.arrived().last().unwrap().all("x-user"), ["bob"]);
    assert_eq!(service.arrived().len(), 2);
    assert_eq!((result(&site, "cached"), result(&site, "passed")), (4.0, 2.0));
    // Refusals are not kept, and who has no cookie has no key.
    for _ in 0..2 {
        assert_eq!(as_user(&site, "banned", "/").status, 403);
        assert_eq!(site.gateway.get(HOST, "/").status, 401);
    }
    assert_eq!(service.arrived().len(), 6);
    until("the answer has ended", || {
        assert_eq!(as_user(&site, "ada", "/").status, 200);
        (service.arrived().len() == 7).then_some(())
    });
}

#[test]
fn requests_that_are_alike_ask_once() {
    let backend = Backend::named("ok");
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let service = Backend::start(move |arrived| {
        counted.fetch_add(1, Ordering::SeqCst);
        Reply::After(Duration::from_millis(500), Box::new(decide(arrived)))
    });
    let yaml = guarded(backend.address, service.address, "    cache: {key: [Cookie], ttl: 1m}");
    let site = site_with(&yaml, &["--workers", "1"]);
    let (gateway, start) = (site.gateway.http, Arc::new(Barrier::new(8)));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let start = Arc::clone(&start);
            thread::spawn(move || {
                start.wait();
                client::ask(gateway, &Request::get(HOST, "/").header("Cookie", "who=ada")).unwrap().status
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 200);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn who_waited_for_the_answer_of_another_has_the_whole_time_for_his_own() {
    let backend = Backend::named("ok");
    // An answer that is for one client alone, and takes more than half of the time.
    let service = Backend::start(|_| {
        Reply::After(Duration::from_millis(1200), Box::new(answer(200, "Set-Cookie: session=2\r\n", "")))
    });
    let yaml = guarded(backend.address, service.address, "    cache: {key: [Cookie], ttl: 1m}");
    let site = site_with(&yaml, &["--workers", "1"]);
    thread::scope(|scope| {
        let asks: Vec<_> = (0..4).map(|_| scope.spawn(|| as_user(&site, "ada", "/").status)).collect();
        let statuses: Vec<u16> = asks.into_iter().map(|ask| ask.join().unwrap()).collect();
        assert_eq!(statuses, [200; 4]);
    });
    assert_eq!(service.arrived().len(), 4);
}

#[test]
fn cookies_of_an_answer_that_lets_pass_reach_the_client_and_are_not_kept() {
    let backend = Backend::start(|_| answer(404, "Set-Cookie: own=1\r\n", "nothing"));
    let service = Backend::start(|_| answer(200, "Set-Cookie: session=2\r\n", ""));
    let site = guard(backend.address, service.address, "    cache: {key: [Cookie], ttl: 1m}");
    for _ in 0..2 {
        let response = as_user(&site, "ada", "/");
        assert_eq!(response.status, 404);
        assert_eq!(response.all("set-cookie"), ["own=1", "session=2"]);
    }
    assert_eq!(service.arrived().len(), 2);
}

#[test]
fn with_any_a_token_is_enough_and_the_service_is_not_asked() {
    let (backend, service) = (Backend::named("ok"), Backend::start(decide));
    let (ip, port) = (service.address.ip(), service.address.port());
    let either = format!(
        "hostnames: [{HOST}]
jwtProviders:
- {{name: corp, issuer: \"https://id.example.com/\", audiences: [shop-api], algorithms: [HS256], jwks: {{secretRef: {{name: key, key: secret}}}}}}
rules:
- name: all
  auth: {{mode: Any, jwt: {{providers: [corp]}}, external: {{backendRef: {{address: \"{ip}\", port: {port}}}, responseHeadersToUpstream: [X-User]}}}}
  backendRefs: [{}]",
        address(backend.address)
    );
    let site = site(&(route("shop", &either) + &secret("key", "secret", KEY)));
    let token = format!("Bearer {}", jwt::hs256(KEY.as_bytes(), &jwt::claims()));
    let request = Request::get(HOST, "/").header("Authorization", &token).header("X-User", "root");
    assert_eq!(site.gateway.ask(&request).status, 200);
    assert!(service.arrived().is_empty(), "a good token needs no other word");
    assert!(backend.arrived().pop().unwrap().all("x-user").is_empty());
    assert_eq!(as_user(&site, "ada", "/").status, 200);
    let refused = site.gateway.get(HOST, "/");
    assert_eq!(refused.status, 401);
    assert_eq!(refused.all("www-authenticate"), ["Custom realm=\"x\"", "Bearer"]);
    // A bad token says more than none: the program that sent it is not shown a page for people.
    let bad = site.gateway.ask(&Request::get(HOST, "/").header("Authorization", "Bearer a.b.c"));
    assert_eq!(bad.all("www-authenticate"), ["Bearer error=\"invalid_token\""]);
}

#[test]
fn a_policy_asks_beside_the_route_and_both_must_let_pass() {
    let backend = Backend::named("ok");
    let (own, floor) = (
        Backend::start(decide),
        Backend::start(|arrived| match arrived.all("x-floor").first() {
            Some(_) => answer(200, "X-Floor-User: f\r\n", ""),
            None => answer(403, "", "floor"),
        }),
    );
    let policy = auth_policy(
        "floor",
        "targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop}]
auth: {external: {backendRef: {name: floor, port: 80}, responseHeadersToUpstream: [X-Floor-User, X-User]}}",
    );
    let yaml = guarded(backend.address, own.address, "") + &policy + &service("floor", &[floor.address]);
    let site = site(&yaml);
    assert_eq!(as_user(&site, "ada", "/").status, 403);
    let both = Request::get(HOST, "/").header("Cookie", "who=ada").header("X-Floor", "1");
    assert_eq!(site.gateway.ask(&both).status, 200);
    assert_eq!(floor.arrived().pop().unwrap().all("host"), ["floor.shop.svc"]);
    let got = backend.arrived().pop().unwrap();
    assert_eq!((got.all("x-user"), got.all("x-floor-user")), (vec!["ada"], vec!["f"]));
    let alone = Request::get(HOST, "/").header("X-Floor", "1");
    assert_eq!(site.gateway.ask(&alone).status, 401);
}

#[test]
fn hb08_nothing_that_decides_is_told_by_the_client_who_it_is() {
    let (backend, decider) = (Backend::named("ok"), Backend::start(decide));
    let floor = Backend::start(|_| answer(200, "", ""));
    let (ip, port) = (decider.address.ip(), decider.address.port());
    let both = format!(
        "hostnames: [{HOST}]
jwtProviders:
- name: corp
  issuer: https://id.example.com/
  audiences: [shop-api]
  algorithms: [HS256]
  jwks: {{secretRef: {{name: key, key: secret}}}}
  claimsToHeaders: [{{claim: sub, header: X-Subject}}]
rules:
- name: all
  auth: {{jwt: {{providers: [corp]}}, external: {{backendRef: {{address: \"{ip}\", port: {port}}}, responseHeadersToUpstream: [X-User]}}}}
  backendRefs: [{0}]
- name: open
  matches: [{{path: {{value: /open}}}}]
  backendRefs: [{0}]",
        address(backend.address)
    );
    let target = "targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop}]";
    let policy = auth_policy(
        "floor",
        &format!("{target}\nauth: {{external: {{backendRef: {{name: floor, port: 80}}}}}}"),
    );
    let limits = limit_policy(
        "few",
        &format!(
            "{}\nlimits: [{{name: a, keys: [{{type: Header, name: X-Subject}}], rates: [{{requests: 3, per: 1h}}]}}]",
            target.replace("}]", ", sectionName: all}]")
        ),
    );
    let yaml = route("shop", &both)
        + &secret("key", "secret", KEY)
        + &policy
        + &limits
        + &service("floor", &[floor.address]);
    let site = site(&yaml);
    let token = format!("Bearer {}", jwt::hs256(KEY.as_bytes(), &jwt::claims()));
    let statuses: Vec<u16> = (0..4)
        .map(|number| {
            let forged = format!("root-{number}");
            let request = Request::get(HOST, "/").header("Authorization", &token).header("Cookie", "who=ada");
            let request =
                request.header("X-Subject", &forged).header("X-User", &forged).header("x_subject", &forged);
            site.gateway.ask(&request).status
        })
        .collect();
    assert_eq!(statuses, [200, 200, 200, 429], "a new name is no new bucket");
    for asked in decider.arrived().iter().chain(&floor.arrived()) {
        assert!(asked.all("x-subject").is_empty() && asked.all("x-user").is_empty(), "{asked:?}");
    }
    let got = backend.arrived().pop().unwrap();
    assert_eq!(got.all("x-user"), ["ada"]);
    assert_eq!(got.all("x-subject").len(), 1);
    assert!(!got.all("x-subject")[0].starts_with("root"), "{got:?}");
    // A rule beside it has the same backend, which believes the same headers.
    let open = Request::get(HOST, "/open")
        .header("X-Subject", "root")
        .header("X-User", "root")
        .header("X-Other", "1");
    assert_eq!(site.gateway.ask(&open).status, 200);
    let got = backend.arrived().pop().unwrap();
    assert!(got.all("x-subject").is_empty() && got.all("x-user").is_empty(), "{got:?}");
    assert_eq!(got.all("x-other"), ["1"]);
}

#[test]
fn bodies_upgrades_and_http2_pass_as_they_are_and_preflights_are_not_asked_about() {
    let (backend, service) = (Backend::named("ok"), Backend::start(decide));
    let cors = "filters: [{type: CORS, cors: {allowOrigins: [\"https://a.example\"]}}]\n";
    let (ip, port) = (service.address.ip(), service.address.port());
    let auth = format!("{cors}auth: {{external: {{backendRef: {{address: \"{ip}\", port: {port}}}}}}}");
    let site = site(&route("shop", &spec(backend.address, &auth)));
    let body = vec![b'x'; 20 << 20];
    let large = Request::new("POST", HOST, "/").header("Cookie", "who=ada").body(body.clone());
    assert_eq!(site.gateway.ask(&large).status, 200);
    assert!(backend.arrived().pop().unwrap().body == body, "the body was changed");

    let mut h2 = H2Connection::plain(site.gateway.http).unwrap();
    let good = H2Request::new("POST", HOST, "/h2").header("cookie", "who=ada").body("hello");
    assert_eq!(h2.ask(&good).unwrap().status, 200);
    // Of unknown length, and so in chunks.
    assert_eq!(backend.arrived().pop().unwrap().body, b"5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(service.arrived().pop().unwrap().all("x-forwarded-uri"), ["/h2"]);
    let refused_h2 = h2.ask(&H2Request::get(HOST, "/h2")).unwrap();
    assert_eq!((refused_h2.status, refused_h2.text().as_str()), (401, "<p>who are you?</p>"));

    let before = service.arrived().len();
    let preflight = Request::new("OPTIONS", HOST, "/")
        .header("Origin", "https://a.example")
        .header("Access-Control-Request-Method", "GET");
    assert_eq!(site.gateway.ask(&preflight).status, 204);
    assert_eq!(service.arrived().len(), before);
    let crossed = site.gateway.ask(&Request::get(HOST, "/").header("Origin", "https://a.example"));
    assert_eq!(crossed.status, 401);
    assert_eq!(crossed.header("access-control-allow-origin"), Some("https://a.example"));
}

#[test]
fn a_websocket_is_let_in_or_refused_like_any_request() {
    let (upstream, service) = (EchoSocket::start(), Backend::start(decide));
    let site = guard(upstream.address, service.address, "    signIn: {url: /start}");
    let asks = handshake(HOST, "/chat").header("Cookie", "who=ada");
    let stream = std::net::TcpStream::connect(site.gateway.http).unwrap();
    let mut tunnel = WebSocket::open_over(stream, &asks).unwrap();
    tunnel.echo(TEXT, b"hello").unwrap();
    assert!(upstream.heads().pop().unwrap().to_ascii_lowercase().contains("x-user: ada"));
    let refusal = refused(site.gateway.http, &handshake(HOST, "/chat")).unwrap();
    assert_eq!(refusal.status, 401);
    let asked = service.arrived().pop().unwrap();
    assert!(asked.all("upgrade").is_empty() && asked.all("connection").is_empty(), "{}", asked.head);
}

#[test]
fn a_client_that_leaves_takes_its_question_with_it() {
    let backend = Backend::named("ok");
    let service = Backend::start(|_| Reply::Silence);
    let site = guard(backend.address, service.address, "    timeout: 60s");
    let mut connection = client::Connection::open(site.gateway.http).unwrap();
    connection.send(&Request::get(HOST, "/").bytes()).unwrap();
    until("the question is asked", || (service.connections() == 1).then_some(()));
    let label = format!("baribhara_upstream_connections{{backend=\"{}\"}}", service.address);
    until("it is counted", || (site.gateway.metric(&label) == 1.0).then_some(()));
    drop(connection);
    until("it is given up", || (site.gateway.metric(&label) == 0.0).then_some(()));
}

#[test]
fn an_ingress_asks_by_annotation_with_the_variables_of_nginx() {
    let (backend, auth) = (Backend::named("ok"), Backend::start(decide));
    let ingress = |annotations: &str| {
        format!(
            "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: old
  namespace: shop
  annotations:
{annotations}spec:
  ingressClassName: baribhara
  rules: [{{host: old.example.com, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}}}]
"
        )
    };
    let services = service("web", &[backend.address]) + &service("auth", &[auth.address]);
    let annotations =
        "    gateway.baribhara.io/auth-url: http://auth.shop.svc.cluster.local/check?to=$escaped_request_uri
    gateway.baribhara.io/auth-signin: https://$host/oauth2/start?rd=$escaped_request_uri
    gateway.baribhara.io/auth-response-headers: X-User, X-Groups
    gateway.baribhara.io/auth-cache-key: $cookie_who$request_uri
    gateway.baribhara.io/auth-cache-duration: 200 202 401 1m
";
    let site = site_with(&(ingress(annotations) + &services), &["--workers", "1"]);
    let old = "old.example.com";
    let sent = site.gateway.get(old, "/a?b=c");
    assert_eq!(sent.status, 302, "{}", sent.text());
    assert_eq!(sent.header("location"), Some("https://old.example.com/oauth2/start?rd=%2Fa%3Fb%3Dc"));
    let asked = auth.arrived().pop().unwrap();
    assert!(asked.head.starts_with("GET /check?to=%2Fa%3Fb%3Dc HTTP/1.1"), "{}", asked.head);
    assert_eq!(asked.all("host"), ["auth.shop.svc.cluster.local"]);
    let good = |path: &str| Request::get(old, path).header("Cookie", "who=ada");
    for path in ["/a", "/a", "/b"] {
        assert_eq!(site.gateway.ask(&good(path)).status, 200);
    }
    assert_eq!(auth.arrived().len(), 3, "kept by cookie and path");
    assert_eq!(backend.arrived().pop().unwrap().all("x-user"), ["ada"]);

    for broken in [
        "    gateway.baribhara.io/auth-url: http://$host/check\n",
        "    gateway.baribhara.io/auth-url: http://auth.shop.svc/$remote_user\n",
        "    gateway.baribhara.io/auth-url: http://nobody.shop.svc/\n",
        "    gateway.baribhara.io/auth-signin: https://sso.example.com/\n",
    ] {
        site.folder.write("all.yaml", &(ingress(broken) + &services));
        site.gateway.until_status(old, "/", 500);
        site.folder.write("all.yaml", &(ingress(annotations) + &services));
        site.gateway.until_status(old, "/", 302);
    }
}

#[test]
fn an_ingress_says_how_long_what_then_and_where_to() {
    let (backend, auth) = (Backend::named("ok"), Backend::start(decide));
    let silent = Backend::start(|_| Reply::Silence);
    let yaml = |who: &str, more: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: old\n  namespace: shop\n  annotations:\n    \
             gateway.baribhara.io/auth-url: http://{who}.shop.svc/check\n{more}spec:\n  ingressClassName: baribhara\n  \
             defaultBackend: {{service: {{name: web, port: {{number: 80}}}}}}\n"
        ) + &service("web", &[backend.address])
            + &service("auth", &[auth.address])
            + &service("silent", &[silent.address])
    };
    let timeout = "    gateway.baribhara.io/auth-timeout: 300ms\n";
    let site = site(&yaml("silent", timeout));
    let started = Instant::now();
    assert_eq!(site.gateway.get(HOST, "/").status, 503);
    assert!(started.elapsed() < Duration::from_millis(1900), "{:?}", started.elapsed());
    let open = format!("{timeout}    gateway.baribhara.io/auth-failure-mode: Open\n");
    site.folder.write("all.yaml", &yaml("silent", &open));
    site.gateway.until_status(HOST, "/", 200);
    let redirect = "    gateway.baribhara.io/auth-request-redirect: https://shop.example.com/back?to=$escaped_request_uri\n";
    for (more, want) in [("", "/a?b=c"), (redirect, "https://shop.example.com/back?to=%2Fa%3Fb%3Dc")] {
        site.folder.write("all.yaml", &yaml("auth", more));
        until("the service is told so", || {
            let spoof =
                Request::get(HOST, "/a?b=c").header("X-Auth-Request-Redirect", "https://evil.example.com/");
            site.gateway.ask(&spoof);
            let asked = auth.arrived().pop()?;
            (asked.all("x-auth-request-redirect") == [want]).then_some(())
        });
    }
}

#[test]
fn the_example_does_what_its_comments_say() {
    let (backend, auth) = (Backend::named("ok"), Backend::start(decide));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let example = fs::read_to_string(root.join("manifests/examples/external-auth.yaml")).unwrap();
    let here = |yaml: String| yaml.replace("namespace: shop", "namespace: examples");
    // The example has the Service, and whoever applies it the pods.
    let pods = service("oauth2-proxy", &[auth.address]);
    let pods: String = pods
        .split("---\n")
        .filter(|part| part.contains("kind: EndpointSlice"))
        .map(|part| format!("---\n{part}"))
        .collect();
    let site = site(&(example + &here(service("web", &[backend.address]) + &pods)));
    let host = "app.example.com";
    let sent = site.gateway.get(host, "/");
    assert_eq!(
        sent.header("location"),
        Some("https://sso.example.com/oauth2/start?rd=http%3A%2F%2Fapp.example.com%2F")
    );
    let known = Request::get(host, "/").header("Cookie", "_oauth2_proxy=x; who=ada");
    assert_eq!(site.gateway.ask(&known).status, 200);
    assert!(auth.arrived().pop().unwrap().head.starts_with("GET /oauth2/auth "));
    assert_eq!(site.gateway.get(host, "/public/").status, 200);
    assert_eq!(site.gateway.get("old-app.example.com", "/").status, 302);
}

/// A guarded site with limits.
fn guarded_and_limited(backend: &Backend, service: &Backend, limits: &str) -> Site {
    let target = "targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop}]";
    let policy = limit_policy("few", &format!("{target}\nlimits:\n{limits}"));
    site(&(guarded(backend.address, service.address, "") + &policy))
}

#[test]
fn who_has_waited_for_the_service_meets_the_rate_as_it_is_then() {
    let backend = Backend::named("ok");
    let service = Backend::start(|arrived| match decide(arrived) {
        told if arrived.all("cookie").contains(&"who=slow") => {
            Reply::After(Duration::from_millis(400), Box::new(told))
        }
        told => told,
    });
    let limits = "- {name: few, phase: PostAuth, rates: [{requests: 4, per: 1s, burst: 1}]}";
    let site = guarded_and_limited(&backend, &service, limits);
    assert_eq!(as_user(&site, "ada", "/").status, 200);
    // It begins while nothing is left, and is known when something is.
    assert_eq!(as_user(&site, "slow", "/").status, 200);
}

#[test]
fn what_is_given_back_is_what_was_charged_whatever_the_request_has_become() {
    let (backend, service) = (Backend::named("ok"), Backend::start(decide));
    // While the service is asked the request gets an id.
    let limits = "
- {name: ids, keys: [{type: Header, name: X-Request-Id}], rates: [{requests: 2, per: 1h}]}
- {name: once, phase: PostAuth, keys: [{type: Header, name: Cookie}], rates: [{requests: 1, per: 1h}]}";
    let site = guarded_and_limited(&backend, &service, limits);
    let seen: Vec<u16> =
        ["ada", "ada", "ada", "bob", "eve"].map(|who| as_user(&site, who, "/").status).into();
    assert_eq!(seen, [200, 429, 429, 200, 429]);
}
