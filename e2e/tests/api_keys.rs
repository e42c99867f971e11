//! Keys of clients over the wire: who passes, what the backend learns, and that keys come and go without a restart.

use e2e::backend::Backend;
use e2e::client::{Request, Response};
use e2e::folder::{route, secret};
use e2e::until::until;

use crate::site::{HOST, Site, site, spec};

const ACME: &str = "key-of-acme-0123456789abcdef";
const NEXT: &str = "next-key-of-acme-0123456789abcdef";

const AUTH: &str = "auth:
  apiKey:
    secretSelector: {matchLabels: {tier: gold}}
    from: [{header: {name: X-API-Key}}, {query: {name: api_key}}]
    clientIdHeader: X-Client";

fn labelled(name: &str, tier: &str, client: &str, key: &str) -> String {
    secret(name, client, key)
        .replace("namespace: shop}", &format!("namespace: shop, labels: {{tier: {tier}}}}}"))
}

fn ask(site: &Site, key: &str) -> Response {
    site.gateway.ask(&Request::get(HOST, "/").header("X-API-Key", key).header("X-Client", "root"))
}

#[test]
fn a_client_is_known_by_its_key_and_the_key_goes_no_further() {
    let backend = Backend::named("ok");
    let yaml = route("shop", &spec(backend.address, AUTH)) + &labelled("keys", "gold", "acme", ACME);
    let site = site(&yaml);
    assert_eq!(ask(&site, ACME).status, 200);
    let arrived = backend.arrived().pop().unwrap();
    assert_eq!(arrived.all("x-client"), ["acme"]);
    assert!(arrived.all("x-api-key").is_empty(), "{}", arrived.head);

    assert_eq!(site.gateway.get(HOST, &format!("/?a=1&api_key={ACME}")).status, 200);
    let arrived = backend.arrived().pop().unwrap();
    assert!(arrived.head.starts_with("GET /?a=1 HTTP/1.1"), "{}", arrived.head);

    let before = backend.arrived().len();
    for (what, key) in [("unknown", NEXT), ("the client's name", "acme"), ("empty", "")] {
        let response = ask(&site, key);
        assert_eq!(response.status, 401, "{what}");
        assert_eq!(response.header("www-authenticate"), Some("ApiKey"), "{what}");
    }
    assert_eq!(site.gateway.get(HOST, "/").status, 401);
    assert_eq!(backend.arrived().len(), before, "the backend was asked");
    for line in site.gateway.access_log() {
        assert!(!line.to_string().contains(ACME), "a key stands in the log: {line}");
    }
}

#[test]
fn keys_come_and_go_with_their_secrets_and_with_the_labels_of_these() {
    let backend = Backend::named("ok");
    let route = route("shop", &spec(backend.address, AUTH));
    let site = site(&(route.clone() + &labelled("keys", "gold", "acme", ACME)));
    assert_eq!((ask(&site, ACME).status, ask(&site, NEXT).status), (200, 401));
    // The next key beside the old one, which then goes: the client is never locked out.
    site.folder.write("next.yaml", &labelled("next", "gold", "acme", NEXT));
    until("the next key counts", || (ask(&site, NEXT).status == 200).then_some(()));
    assert_eq!(ask(&site, ACME).status, 200);
    site.folder.write("all.yaml", &(route + &labelled("keys", "silver", "acme", ACME)));
    until("the old key is nobody's", || (ask(&site, ACME).status == 401).then_some(()));
    assert_eq!(ask(&site, NEXT).status, 200);
    // Two clients with one key: it tells nothing of who asks.
    site.folder.write("other.yaml", &labelled("other", "gold", "eve", NEXT));
    until("a shared key is nobody's", || (ask(&site, NEXT).status == 401).then_some(()));
}

#[test]
fn a_rule_lets_in_the_clients_that_it_names_and_the_log_says_which_did_not() {
    let backend = Backend::named("ok");
    let auth = format!(
        "{AUTH}\n  authorization: {{rules: [{{name: partners, action: Allow, clients: [acme]}}, {{name: rest, action: Deny}}]}}"
    );
    let yaml = route("shop", &spec(backend.address, &auth))
        + &labelled("keys", "gold", "acme", ACME)
        + &labelled("others", "gold", "globex", NEXT);
    let site = site(&yaml);
    assert_eq!((ask(&site, ACME).status, ask(&site, NEXT).status), (200, 403));
    let line = site.gateway.access_line("the refusal", |line| line["status"] == 403);
    assert_eq!(line["refused_by"], "GatewayRoute/shop/shop rest", "{line}");
    let line = site.gateway.access_line("the other", |line| line["status"] == 200);
    assert!(line["refused_by"].is_null(), "{line}");
}
