//! Names and passwords over the wire: who passes, what reaches the backend, and that a changed Secret counts at once.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::backend::Backend;
use e2e::client::{Request, Response};
use e2e::folder::{auth_policy, route, secret};
use e2e::jwt;
use e2e::until::until;

use crate::site::{HOST, Site, address, site};

/// Of `password`: bcrypt, and MD5-crypt as old files of ingress-nginx have it.
const ADA: &str = "ada:$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";
const BOB: &str = "bob:$apr1$r31.....$ARC3pREO82RIm0aQ2zszC0";
const KEY: &str = "a secret of the basic tests, long enough for HS256";

fn password(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

fn ask(site: &Site, path: &str, authorization: &str) -> Response {
    site.gateway.ask(&Request::get(HOST, path).header("Authorization", authorization))
}

/// `/wiki` takes passwords, `/either` passwords or tokens, and `/open` nothing of its own.
fn routes(backend: &Backend) -> String {
    let to = address(backend.address);
    route(
        "shop",
        &format!(
            "hostnames: [{HOST}]
jwtProviders:
- {{name: corp, issuer: \"https://id.example.com/\", audiences: [shop-api], algorithms: [HS256], jwks: {{secretRef: {{name: key, key: secret}}}}}}
rules:
- name: wiki
  matches: [{{path: {{type: PathPrefix, value: /wiki}}}}]
  auth: {{basic: {{secretRef: {{name: users}}, realm: Wiki}}}}
  backendRefs: [{to}]
- name: either
  matches: [{{path: {{type: PathPrefix, value: /either}}}}]
  auth: {{mode: Any, jwt: {{providers: [corp]}}, basic: {{secretRef: {{name: users}}, realm: Wiki}}}}
  backendRefs: [{to}]
- name: open
  matches: [{{path: {{type: PathPrefix, value: /open}}}}]
  auth: {{disabled: true}}
  backendRefs: [{to}]"
        ),
    ) + &secret("key", "secret", KEY)
}

fn users(lines: &[&str]) -> String {
    secret("users", "auth", &lines.join("\n"))
}

#[test]
fn a_known_name_with_its_password_passes_and_the_password_goes_no_further() {
    let backend = Backend::named("ok");
    let site = site(&(routes(&backend) + &users(&[ADA, BOB])));
    for name in ["ada", "bob"] {
        // The second time it is known already.
        for _ in 0..2 {
            let response = ask(&site, "/wiki", &password(name, "password"));
            assert_eq!(response.status, 200, "{name}: {}", response.text());
        }
    }
    assert!(backend.arrived().iter().all(|arrived| arrived.all("authorization").is_empty()));
    let arrived = backend.arrived().len();
    for (what, authorization) in [
        ("a wrong password", password("ada", "Password")),
        ("an unknown name", password("eve", "password")),
        ("no password at all", "Basic".to_owned()),
        ("a token", format!("Bearer {}", jwt::hs256(KEY.as_bytes(), &jwt::claims()))),
    ] {
        let response = ask(&site, "/wiki", &authorization);
        assert_eq!(response.status, 401, "{what}");
        assert_eq!(response.all("www-authenticate"), ["Basic realm=\"Wiki\", charset=\"UTF-8\""], "{what}");
    }
    assert_eq!(site.gateway.get(HOST, "/wiki").status, 401);
    assert_eq!(backend.arrived().len(), arrived, "the backend was asked");
    let log = site.gateway.access_line("a refusal", |line| line["reason"] == "password_wrong");
    assert!(!log.to_string().contains(&STANDARD.encode("ada:Password")), "{log}");
    // Two good ones and two bad ones were hashed; a worker that had not seen one before does so again.
    assert!(site.gateway.metric("baribhara_password_checks_total{result=\"checked\"}") >= 4.0);
}

#[test]
fn either_a_token_or_a_password_is_enough_where_the_route_says_any() {
    let backend = Backend::named("ok");
    let site = site(&(routes(&backend) + &users(&[ADA])));
    let token = format!("Bearer {}", jwt::hs256(KEY.as_bytes(), &jwt::claims()));
    assert_eq!(ask(&site, "/either", &token).status, 200);
    assert_eq!(backend.arrived().last().unwrap().all("authorization"), [token.as_str()]);
    assert_eq!(ask(&site, "/either", &password("ada", "password")).status, 200);
    let refused = site.gateway.get(HOST, "/either");
    assert_eq!(refused.status, 401);
    assert_eq!(refused.all("www-authenticate"), ["Bearer", "Basic realm=\"Wiki\", charset=\"UTF-8\""]);
}

#[test]
fn a_changed_secret_counts_at_once() {
    let backend = Backend::named("ok");
    let site = site(&(routes(&backend) + &users(&[ADA, BOB])));
    let ada = password("ada", "password");
    assert_eq!(ask(&site, "/wiki", &ada).status, 200);
    site.folder.write("all.yaml", &(routes(&backend) + &users(&[BOB])));
    until("ada is out", || (ask(&site, "/wiki", &ada).status == 401).then_some(()));
    assert_eq!(ask(&site, "/wiki", &password("bob", "password")).status, 200);
    // Without any user nobody passes, and it is the configuration that is wrong.
    site.folder.write("all.yaml", &(routes(&backend) + &users(&["bob:password"])));
    until("plain text is refused", || {
        (ask(&site, "/wiki", &password("bob", "password")).status == 500).then_some(())
    });
}

#[test]
fn an_ingress_asks_by_annotation_and_a_policy_on_a_route_cannot_be_dropped_below() {
    let backend = Backend::named("ok");
    let policy = auth_policy(
        "floor",
        "targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop}]
auth: {basic: {secretRef: {name: users}, realm: Floor}}",
    );
    let ingress = "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: old
  namespace: shop
  annotations:
    gateway.baribhara.io/auth-type: basic
    gateway.baribhara.io/auth-secret: users
    gateway.baribhara.io/auth-realm: Old
spec:
  ingressClassName: baribhara
  rules: [{host: old.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
";
    let service = e2e::folder::service("web", &[backend.address]);
    let site = site(&(routes(&backend) + &users(&[ADA]) + &policy + ingress + &service));
    let ada = password("ada", "password");
    // `disabled: true` of the rule, and the token that would do for it, take nothing from the policy.
    let open = site.gateway.get(HOST, "/open");
    assert_eq!(open.status, 401);
    assert_eq!(open.header("www-authenticate"), Some("Basic realm=\"Floor\", charset=\"UTF-8\""));
    let token = format!("Bearer {}", jwt::hs256(KEY.as_bytes(), &jwt::claims()));
    assert_eq!(ask(&site, "/either", &token).status, 401);
    assert_eq!(ask(&site, "/open", &ada).status, 200);

    let old = site.gateway.get("old.example.com", "/");
    assert_eq!(old.status, 401);
    assert_eq!(old.header("www-authenticate"), Some("Basic realm=\"Old\", charset=\"UTF-8\""));
    let good = Request::get("old.example.com", "/").header("Authorization", &ada);
    assert_eq!(site.gateway.ask(&good).status, 200);
}
