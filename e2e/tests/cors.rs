//! Cross-origin requests: preflights, actual requests, refusals.

use e2e::backend::{Backend, Reply};
use e2e::client::{Request, Response};
use e2e::folder::{limit_policy, route, secret};

use crate::site::{HOST, Site, address, site};

const FILTER: &str = "{type: CORS, cors: {allowOrigins: [\"https://app.example.com\", \"https://*.apps.example.com\"], \
    allowMethods: [GET, PUT], allowHeaders: [X-Token, Content-Type], exposeHeaders: [X-Total], \
    allowCredentials: true, maxAge: 10m}}";

/// A route with CORS that asks for a token and lets two requests an hour pass.
fn guarded(backend: &Backend) -> Site {
    let spec = format!(
        "hostnames: [{HOST}]
jwtProviders:
- {{name: p, anyIssuer: true, algorithms: [HS256], jwks: {{secretRef: {{name: key, key: secret}}}}}}
rules:
- name: all
  filters: [{FILTER}]
  auth: {{jwt: {{providers: [p]}}}}
  backendRefs: [{}]",
        address(backend.address)
    );
    let limit = limit_policy(
        "few",
        "targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop}]
limits: [{name: few, rates: [{requests: 2, per: 1h}]}]",
    );
    site(&(secret("key", "secret", "s") + &route("shop", &spec) + &limit))
}

fn open(backend: &Backend, filter: &str) -> Site {
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  filters: [{filter}]\n  backendRefs: [{}]",
        address(backend.address)
    );
    site(&route("shop", &spec))
}

fn preflight(site: &Site, origin: &str, method: &str) -> Response {
    let request = Request::new("OPTIONS", HOST, "/x")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", method)
        .header("Access-Control-Request-Headers", "x-token");
    site.gateway.ask(&request)
}

fn vary_has_origin(response: &Response) -> bool {
    response.all("vary").iter().any(|value| value.to_ascii_lowercase().contains("origin"))
}

#[test]
fn a_preflight_is_answered_before_limit_and_token_and_never_reaches_the_backend() {
    let backend = Backend::named("ok");
    let site = guarded(&backend);
    for _ in 0..5 {
        let response = preflight(&site, "https://app.example.com", "PUT");
        assert_eq!((response.status, response.body.len()), (204, 0));
        assert_eq!(response.header("access-control-allow-origin"), Some("https://app.example.com"));
        assert_eq!(response.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(response.header("access-control-max-age"), Some("600"));
        let methods = response.header("access-control-allow-methods").unwrap();
        assert!(methods.contains("GET") && methods.contains("PUT"), "{methods}");
        let headers = response.header("access-control-allow-headers").unwrap().to_lowercase();
        assert!(headers.contains("x-token") && headers.contains("content-type"), "{headers}");
        assert!(vary_has_origin(&response), "{response:?}");
    }
    assert!(backend.arrived().is_empty());
}

#[test]
fn origins_are_compared_exactly_and_subdomains_only_below_their_suffix() {
    let backend = Backend::named("ok");
    let site = open(&backend, FILTER);
    let cases = [
        ("https://app.example.com", true),
        ("https://a.apps.example.com", true),
        ("https://a.b.apps.example.com", true),
        ("https://apps.example.com", false),
        ("https://evilapps.example.com", false),
        ("https://app.example.com.evil.com", false),
        ("https://app.example.com:8443", false),
        ("http://app.example.com", false),
        ("http://a.apps.example.com", false),
        ("null", false),
        ("https://a.apps.example.com.evil.com", false),
    ];
    for (origin, allowed) in cases {
        let want = allowed.then_some(origin);
        let flight = preflight(&site, origin, "GET");
        assert_eq!(flight.header("access-control-allow-origin"), want, "preflight of {origin}");
        assert!(vary_has_origin(&flight), "{origin}");
        let actual = site.gateway.ask(&Request::get(HOST, "/").header("Origin", origin));
        assert_eq!(actual.header("access-control-allow-origin"), want, "{origin}");
        assert!(vary_has_origin(&actual), "{origin}");
    }
    let plain = site.gateway.get(HOST, "/");
    assert_eq!(plain.header("access-control-allow-origin"), None);
    assert!(vary_has_origin(&plain), "without an origin too, for caches");
}

#[test]
fn an_actual_answer_has_the_gateways_headers_instead_of_the_backends() {
    let backend = Backend::start(|_| {
        Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: DELETE\r\nVary: Accept\r\n\r\n"
                .to_vec(),
        )
    });
    let site = open(&backend, FILTER);
    let response = site.gateway.ask(&Request::get(HOST, "/").header("Origin", "https://app.example.com"));
    assert_eq!(response.all("access-control-allow-origin"), ["https://app.example.com"]);
    assert!(response.all("access-control-allow-methods").is_empty());
    assert_eq!(
        response.header("access-control-expose-headers").map(str::to_lowercase).as_deref(),
        Some("x-total")
    );
    let vary = response.all("vary").join(",").to_lowercase();
    assert!(vary.contains("accept") && vary.contains("origin"), "{vary}");
}

#[test]
fn a_refusal_can_be_read_by_a_browser_of_an_allowed_origin() {
    let backend = Backend::named("ok");
    let site = guarded(&backend);
    let ask = || site.gateway.ask(&Request::get(HOST, "/").header("Origin", "https://app.example.com"));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let response = ask();
        assert_eq!(
            response.header("access-control-allow-origin"),
            Some("https://app.example.com"),
            "{response:?}"
        );
        assert!(vary_has_origin(&response));
        statuses.push(response.status);
    }
    assert_eq!(statuses, [401, 401, 429]);
}

#[test]
fn any_origin_without_credentials_is_a_star_or_the_origin_itself() {
    let backend = Backend::named("ok");
    let site = open(&backend, "{type: CORS, cors: {allowOrigins: [\"*\"]}}");
    let response = site.gateway.ask(&Request::get(HOST, "/").header("Origin", "https://any.example.org"));
    let allowed = response.header("access-control-allow-origin").unwrap();
    assert!(allowed == "*" || allowed == "https://any.example.org", "{allowed}");
    assert_eq!(response.header("access-control-allow-credentials"), None);
}

#[test]
fn an_options_request_that_is_no_preflight_goes_to_the_backend() {
    let backend = Backend::named("ok");
    let site = open(&backend, FILTER);
    let response =
        site.gateway.ask(&Request::new("OPTIONS", HOST, "/").header("Origin", "https://app.example.com"));
    assert_eq!((response.status, backend.arrived().len()), (200, 1));
}
