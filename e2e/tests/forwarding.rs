//! Headers on their way to the backend: hop-by-hop ones, the forwarded ones, and what a client may not say.
//! The names HB01 … are those of the catalogue of attacks.

use e2e::backend::{Arrived, Backend};
use e2e::client::{Connection, Request};
use e2e::folder::{route, secret};
use e2e::jwt;

use crate::site::{HOST, Site, address, site, site_with, spec};

const SECRET: &str = "a secret of the forwarding tests";

fn last(backend: &Backend) -> Arrived {
    backend.arrived().pop().expect("a request arrived")
}

/// A route that asks for a token and tells the backend who it is in `X-User`.
fn with_claims(backend: &Backend) -> Site {
    let spec = format!(
        "hostnames: [{HOST}]
jwtProviders:
- name: corp
  issuer: https://id.example.com/
  audiences: [shop-api]
  jwks: {{secretRef: {{name: key, key: secret}}}}
  algorithms: [HS256]
  claimsToHeaders: [{{claim: sub, header: X-User}}]
rules:
- name: all
  auth: {{jwt: {{providers: [corp]}}}}
  backendRefs: [{}]",
        address(backend.address)
    );
    site(&(secret("key", "secret", SECRET) + &route("shop", &spec)))
}

fn with_token(request: Request) -> Request {
    request.header("Authorization", &format!("Bearer {}", jwt::hs256(SECRET.as_bytes(), &jwt::claims())))
}

#[test]
fn hb01_connection_cannot_delete_what_the_gateway_sets_or_authenticates_by() {
    let backend = Backend::named("ok");
    let site = with_claims(&backend);
    let request = with_token(Request::get(HOST, "/")).header("X-User", "root").header(
        "Connection",
        "X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, Authorization, X-User, X-Request-Id",
    );
    let response = site.gateway.ask(&request);
    assert_eq!(response.status, 200, "{}", response.text());
    let arrived = last(&backend);
    assert_eq!(arrived.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(arrived.all("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(arrived.all("x-forwarded-proto"), ["http"]);
    assert_eq!(arrived.all("x-user"), ["ada"]);
    assert_eq!(arrived.all("x-request-id").len(), 1);
    assert_eq!(arrived.all("authorization").len(), 1);
}

#[test]
fn hb02_protected_names_in_connection_are_ignored() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    let request = Request::new("POST", HOST, "/")
        .header("Cookie", "a=b")
        .header("Connection", "Cookie, Host, Content-Length, X-Private")
        .header("X-Private", "hop")
        .body("body");
    assert_eq!(site.gateway.ask(&request).status, 200);
    let arrived = last(&backend);
    assert_eq!(arrived.all("host"), [HOST]);
    assert_eq!(arrived.all("cookie"), ["a=b"]);
    assert_eq!(arrived.body, b"body");
    assert!(arrived.all("x-private").is_empty(), "what Connection names goes: {}", arrived.head);
}

#[test]
fn hb03_hop_by_hop_headers_are_not_forwarded() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    let request = Request::get(HOST, "/")
        .header("TE", "gzip, trailers;q=0.5")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Authorization", "Basic eA==")
        .header("Proxy-Connection", "keep-alive")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "AAMAAABkAAQAAP__")
        .header("Connection", "Upgrade, HTTP2-Settings");
    assert_eq!(site.gateway.ask(&request).status, 200);
    let arrived = last(&backend);
    for name in
        ["keep-alive", "proxy-authorization", "proxy-connection", "upgrade", "http2-settings", "trailer"]
    {
        assert!(arrived.all(name).is_empty(), "{name}: {}", arrived.head);
    }
    let te = arrived.all("te");
    assert!(te.is_empty() || te == ["trailers"], "{te:?}");
}

#[test]
fn hb03_hop_by_hop_headers_of_an_answer_are_not_forwarded() {
    let backend = Backend::start(|_| {
        e2e::backend::Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nX-End: 1\r\n\r\nok"
                .to_vec(),
        )
    });
    let site = site(&route("shop", &spec(backend.address, "")));
    let response = site.gateway.get(HOST, "/");
    assert_eq!(response.header("x-end"), Some("1"));
    for name in ["x-hop", "keep-alive", "proxy-authenticate"] {
        assert_eq!(response.header(name), None, "{response:?}");
    }
}

#[test]
fn hb04_forwarded_headers_of_a_peer_that_is_not_trusted_are_overwritten() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    let request = Request::get(HOST, "/")
        .header("X-Forwarded-For", "9.9.9.9")
        .header("X-Real-IP", "9.9.9.9")
        .header("Forwarded", "for=9.9.9.9;host=evil")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "evil.example.com")
        .header("X-Forwarded-Port", "1")
        .header("X-Forwarded-Prefix", "/evil");
    assert_eq!(site.gateway.ask(&request).status, 200);
    let arrived = last(&backend);
    assert_eq!(arrived.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(arrived.all("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(arrived.all("x-forwarded-proto"), ["http"]);
    assert_eq!(arrived.all("x-forwarded-host"), [HOST]);
    let port = site.gateway.http.port().to_string();
    assert_eq!(arrived.all("x-forwarded-port"), [port.as_str()]);
    assert!(!arrived.head.contains("9.9.9.9") && !arrived.head.contains("evil"), "{}", arrived.head);
}

#[test]
fn hb05_behind_a_trusted_proxy_the_rightmost_untrusted_address_is_the_client() {
    let backend = Backend::named("ok");
    let yaml = route("shop", &spec(backend.address, ""));
    let site = site_with(&yaml, &["--trusted-proxies", "127.0.0.0/8,10.0.0.0/8"]);
    let cases = [
        ("6.6.6.6, 198.51.100.2", "198.51.100.2"),
        ("6.6.6.6, 198.51.100.2, 10.1.1.1", "198.51.100.2"),
        ("6.6.6.6,2001:db8::1 , 10.1.1.1", "2001:db8::1"),
        ("10.2.2.2, 10.1.1.1", "10.2.2.2"),
    ];
    for (sent, client) in cases {
        let request = Request::get(HOST, "/")
            .header("X-Forwarded-For", sent)
            .header("X-Forwarded-Proto", "https")
            .header("X-Real-IP", "6.6.6.6");
        assert_eq!(site.gateway.ask(&request).status, 200);
        let arrived = last(&backend);
        assert_eq!(arrived.all("x-real-ip"), [client], "{sent}: {}", arrived.head);
        assert_eq!(arrived.all("x-forwarded-proto"), ["https"], "{sent}");
    }
}

#[test]
fn behind_a_load_balancer_of_the_proxy_protocol_the_client_is_whom_it_names() {
    let backend = Backend::named("ok");
    let site = site_with(&route("shop", &spec(backend.address, "")), &["--proxy-protocol", "127.0.0.0/8"]);
    let first = b"PROXY TCP4 198.51.100.2 192.0.2.1 51000 443\r\n".to_vec();
    let mut second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    second.extend_from_slice(&[198, 51, 100, 2, 192, 0, 2, 1, 0xc7, 0x38, 0x01, 0xbb]);
    for header in [first, second] {
        let mut connection = Connection::open(site.gateway.http).unwrap();
        connection.send(&header).unwrap();
        let request = Request::get(HOST, "/").header("X-Forwarded-For", "6.6.6.6");
        assert_eq!(connection.ask(&request).unwrap().status, 200);
        let arrived = last(&backend);
        assert_eq!(arrived.all("x-forwarded-for"), ["198.51.100.2"]);
        assert_eq!(arrived.all("x-real-ip"), ["198.51.100.2"]);
        assert_eq!(arrived.all("x-forwarded-port"), ["443"]);
    }
    let mut bare = Connection::open(site.gateway.http).unwrap();
    assert!(bare.ask(&Request::get(HOST, "/")).is_err(), "without a header there is no request");
}

#[test]
fn hb06_a_forwarded_list_that_makes_no_sense_falls_back_to_the_peer() {
    let backend = Backend::named("ok");
    let yaml = route("shop", &spec(backend.address, ""));
    let site = site_with(&yaml, &["--trusted-proxies", "127.0.0.0/8"]);
    let long = vec!["10.0.0.1"; 1200].join(", ");
    for sent in
        ["garbage", "", ",,,", "fe80::1%eth0", "1.2.3.4, garbage", "300.1.1.1", &"x".repeat(10_240), &long]
    {
        let response = site.gateway.ask(&Request::get(HOST, "/").header("X-Forwarded-For", sent));
        assert_eq!(response.status, 200, "{sent:.40}");
        let arrived = last(&backend);
        let client = arrived.all("x-real-ip");
        assert_eq!(client.len(), 1, "{sent:.40}");
        assert!(client[0].parse::<std::net::IpAddr>().is_ok(), "{sent:.40}: {client:?}");
        if !sent.contains("10.0.0.1") {
            assert_eq!(client, ["127.0.0.1"], "{sent:.40}");
        }
    }
}

#[test]
fn hb07_headers_with_an_underscore_are_dropped_kept_or_reason_for_a_400() {
    let cases = [("drop", 200, false), ("keep", 200, true), ("reject", 400, false)];
    for (flag, status, arrives) in cases {
        let backend = Backend::named("ok");
        let yaml = route("shop", &spec(backend.address, ""));
        let site = site_with(&yaml, &["--underscore-headers", flag]);
        let request = Request::get(HOST, "/").header("X_Forwarded_For", "9.9.9.9").header("X_Api", "1");
        assert_eq!(site.gateway.ask(&request).status, status, "{flag}");
        let seen = backend.arrived().iter().any(|arrived| !arrived.all("x_api").is_empty());
        assert_eq!(seen, arrives, "{flag}");
    }
}

#[test]
fn hb08_headers_that_carry_claims_are_taken_off_the_request_in_any_spelling() {
    let backend = Backend::named("ok");
    let site = with_claims(&backend);
    let request = with_token(Request::new("POST", HOST, "/"))
        .header("X-User", "root")
        .header("x-user", "root")
        .header("X-USER", "root")
        .header("X_User", "root")
        .header("Transfer-Encoding", "chunked");
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&request.head()).unwrap();
    connection.send(b"1\r\nb\r\n0\r\nX-User: root\r\nx-forwarded-for: 9.9.9.9\r\n\r\n").unwrap();
    assert_eq!(connection.response("POST").unwrap().status, 200);
    let arrived = last(&backend);
    assert_eq!(arrived.all("x-user"), ["ada"], "{}", arrived.head);
    assert!(!arrived.head.contains("root"), "{}", arrived.head);
    let body = String::from_utf8_lossy(&arrived.body).to_lowercase();
    assert!(!body.contains("root"), "the trailer arrived: {body:?}");
}

#[test]
fn a_request_id_is_kept_or_made() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    site.gateway.ask(&Request::get(HOST, "/").header("X-Request-Id", "abc-123"));
    assert_eq!(last(&backend).all("x-request-id"), ["abc-123"]);
    let mut made = Vec::new();
    for _ in 0..3 {
        site.gateway.get(HOST, "/");
        let arrived = last(&backend);
        let ids = arrived.all("x-request-id");
        assert_eq!(ids.len(), 1);
        assert!(ids[0].len() >= 16, "{ids:?}");
        made.push(ids[0].to_owned());
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 3, "{made:?}");
}

#[test]
fn a_request_goes_upstream_with_its_own_bytes_of_query_and_header_values() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    let request = Request::get(HOST, "/a%20b/c?x=%2F&y=a+b&&z=\u{e9}%zz").header("X-Odd", "a,b;c=\"d\"  e");
    assert_eq!(site.gateway.ask(&request).status, 200);
    let arrived = last(&backend);
    assert!(arrived.target().starts_with("/a%20b/c?x=%2F&y=a+b&&z="), "{}", arrived.head);
    assert_eq!(arrived.all("x-odd"), ["a,b;c=\"d\"  e"]);
    assert_eq!(arrived.all("host"), [HOST]);
}

#[test]
fn hb06_only_what_trusted_proxies_wrote_says_who_the_client_is_and_nobody_unsure_is_let_in() {
    let backend = Backend::named("ok");
    let spec = format!(
        "hostnames: [{HOST}]
rules:
- {{name: inside, matches: [{{path: {{value: /inside}}}}], ipAccess: {{allow: [127.0.0.0/8, 203.0.113.0/24]}}, backendRefs: [{to}]}}
- {{name: outside, matches: [{{path: {{value: /outside}}}}], ipAccess: {{deny: [198.51.100.0/24]}}, backendRefs: [{to}]}}
- name: office
  matches: [{{path: {{value: /office}}}}]
  auth: {{authorization: {{rules: [{{name: office, action: Allow, clientCIDRs: [127.0.0.0/8, 203.0.113.0/24]}}]}}}}
  backendRefs: [{to}]
- name: street
  matches: [{{path: {{value: /street}}}}]
  auth:
    authorization:
      rules: [{{name: block, action: Deny, clientCIDRs: [198.51.100.0/24]}}, {{name: rest, action: Allow}}]
  backendRefs: [{to}]
- {{name: matched, matches: [{{path: {{value: /matched}}, clientCIDRs: [127.0.0.0/8, 203.0.113.0/24]}}], backendRefs: [{to}]}}
- {{name: all, matches: [{{path: {{type: Exact, value: /}}}}], backendRefs: [{to}]}}",
        to = address(backend.address)
    );
    let site = site_with(&route("shop", &spec), &["--trusted-proxies", "127.0.0.1"]);
    let lists = ["/inside", "/outside", "/office", "/street", "/matched"];
    let statuses =
        |request: &dyn Fn(&str) -> Request| lists.map(|path| site.gateway.ask(&request(path)).status);
    let list = |address: &str, count: usize| vec![address; count].join(", ");
    // What stands left of the client's own address says nothing, however much it is.
    let long = list("1.1.1.1", 300);
    for (sent, client, want) in [
        (list("203.0.113.7", 31), "203.0.113.7", [200; 5]),
        (format!("{long}, 203.0.113.7"), "203.0.113.7", [200; 5]),
        (format!("{long}, 198.51.100.9"), "198.51.100.9", [403, 403, 403, 403, 404]),
        (format!("203.0.113.7, {}", list("127.0.0.1", 29)), "203.0.113.7", [200; 5]),
        // Nobody can be told behind so many proxies: the peer stands there, and is in no list that opens.
        (format!("203.0.113.7, {}", list("127.0.0.1", 30)), "127.0.0.1", [403, 403, 403, 403, 404]),
        ("203.0.113.7, unknown".to_owned(), "127.0.0.1", [403, 403, 403, 403, 404]),
    ] {
        let request = |path: &str| Request::get(HOST, path).header("X-Forwarded-For", &sent);
        assert_eq!(site.gateway.ask(&request("/")).status, 200, "{sent:.40}");
        assert_eq!(last(&backend).all("x-real-ip"), [client], "{sent:.40}");
        assert_eq!(statuses(&request), want, "{sent:.40}");
    }
    // The same number in two lines counts the same, and the proxy itself may still come in for itself.
    let two_lines = |path: &str| {
        Request::get(HOST, path)
            .header("X-Forwarded-For", &list("127.0.0.1", 16))
            .header("X-Forwarded-For", &list("127.0.0.1", 15))
    };
    assert_eq!(statuses(&two_lines), [403, 403, 403, 403, 404]);
    assert_eq!(statuses(&|path| Request::get(HOST, path)), [200; 5]);
}
