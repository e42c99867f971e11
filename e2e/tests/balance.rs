//! Load balancing: which endpoint takes a request, by policy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use e2e::backend::{Backend, Reply};
use e2e::client::{Connection, Request, Response};
use e2e::folder::{route, service};
use e2e::until::until;

use crate::site::{HOST, Site, site, site_with};

/// A route of [`HOST`] to the Service `web` with these endpoints.
fn balanced(load_balancing: &str, endpoints: &[SocketAddr]) -> String {
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  loadBalancing: {load_balancing}"
    );
    service("web", endpoints) + &route("shop", &spec)
}

fn ask(connection: &mut Connection, request: &Request) -> Response {
    let response = connection.ask(request).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    response
}

/// Who answers each of these users.
fn homes(site: &Site, users: usize) -> Vec<String> {
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let request = |user: usize| Request::get(HOST, "/").header("X-User-Id", &format!("user-{user}"));
    (0..users).map(|user| ask(&mut connection, &request(user)).text()).collect()
}

fn counts(names: &[String]) -> BTreeMap<&str, usize> {
    names.iter().fold(BTreeMap::new(), |mut counts, name| {
        *counts.entry(name.as_str()).or_default() += 1;
        counts
    })
}

#[test]
fn requests_that_are_alike_go_to_one_endpoint_and_few_move_when_endpoints_change() {
    let backends = ["a", "b", "c", "d"].map(Backend::named);
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let on = "{policy: ConsistentHash, hashOn: {type: Header, name: X-User-Id}}";
    let site = site_with(&balanced(on, &addresses), &["--workers", "2"]);
    let before = homes(&site, 200);
    assert_eq!(homes(&site, 200), before, "the same users, the same endpoints");
    assert!(counts(&before).len() == 4 && counts(&before).values().all(|n| *n > 15), "{:?}", counts(&before));
    // Another replica agrees.
    let other = site_with(&balanced(on, &addresses), &["--workers", "1"]);
    assert_eq!(homes(&other, 200), before);
    site.folder.write("all.yaml", &balanced(on, &addresses[..3]));
    until("the fourth is gone", || homes(&site, 200).iter().all(|name| name != "d").then_some(()));
    let without = homes(&site, 200);
    for (before, without) in before.iter().zip(&without) {
        assert!(before == without || before == "d", "{before} moved to {without}");
    }
    site.folder.write("all.yaml", &balanced(on, &addresses));
    until("the fourth is back", || (homes(&site, 200) == before).then_some(()));
    // Without the header there is nothing to be alike in.
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let strays: Vec<_> = (0..100).map(|_| ask(&mut connection, &Request::get(HOST, "/")).text()).collect();
    assert_eq!(counts(&strays).len(), 4, "{:?}", counts(&strays));
}

#[test]
fn every_part_of_a_request_that_can_be_hashed_is() {
    let backends = ["a", "b", "c", "d"].map(Backend::named);
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let plain = |n: usize| Request::get(HOST, &format!("/{n}?q={n}")).header("X-Else", &n.to_string());
    for on in ["{type: SourceIP}", "{type: Host}"] {
        let on = format!("{{policy: ConsistentHash, hashOn: {on}}}");
        let site = site(&balanced(&on, &addresses));
        let mut connection = Connection::open(site.gateway.http).unwrap();
        let names: Vec<_> = (0..40).map(|n| ask(&mut connection, &plain(n)).text()).collect();
        assert_eq!(counts(&names).len(), 1, "{on}: {:?}", counts(&names));
    }
    for (on, of) in [
        ("{type: Cookie, name: s}", "cookie"),
        ("{type: QueryParam, name: t}", "query"),
        ("{type: Path}", "path"),
        ("{type: URI}", "uri"),
    ] {
        let site = site(&balanced(&format!("{{policy: ConsistentHash, hashOn: {on}}}"), &addresses));
        let mut connection = Connection::open(site.gateway.http).unwrap();
        let mut name = |value: usize, other: usize| {
            let request = match of {
                "cookie" => Request::get(HOST, &format!("/{other}"))
                    .header("Cookie", &format!("x={other}; s={value}")),
                "query" => Request::get(HOST, &format!("/{other}?x={other}&t={value}")),
                "path" => Request::get(HOST, &format!("/{value}?q={other}")),
                _ => Request::get(HOST, &format!("/p?q={value}")).header("X-Else", &other.to_string()),
            };
            ask(&mut connection, &request).text()
        };
        let homes: Vec<_> = (0..60).map(|value| name(value, 0)).collect();
        assert_eq!((0..60).map(|value| name(value, value + 7)).collect::<Vec<_>>(), homes, "{on}");
        assert_eq!(counts(&homes).len(), 4, "{on}: {:?}", counts(&homes));
    }
}

#[test]
fn a_hashed_request_whose_endpoint_is_dead_goes_to_the_next() {
    let backends = ["a", "b", "c"].map(Backend::named);
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let on = "{policy: ConsistentHash, hashOn: {type: Header, name: X-User-Id}}";
    let site = site(&balanced(on, &addresses));
    let before = homes(&site, 60);
    let [a, b, c] = backends;
    drop(b);
    let after = homes(&site, 60);
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || before == "b", "{before} moved to {after}");
    }
    assert!(counts(&after).keys().all(|name| ["a", "c"].contains(name)));
    drop((a, c));
}

#[test]
fn ewma_leaves_the_slow_endpoint_to_few() {
    let fast = [Backend::named("fast"), Backend::named("fast")];
    let slow = Backend::start(|_| Reply::After(Duration::from_millis(100), Box::new(Reply::ok("slow"))));
    let site = site(&balanced("{policy: EWMA}", &[fast[0].address, fast[1].address, slow.address]));
    let http = site.gateway.http;
    let threads: Vec<_> = (0..2)
        .map(|_| {
            thread::spawn(move || {
                let mut connection = Connection::open(http).unwrap();
                for _ in 0..100 {
                    ask(&mut connection, &Request::get(HOST, "/"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    // Round robin would give it 67.
    assert!(slow.arrived().len() < 15, "{}", slow.arrived().len());
}

#[test]
fn a_new_endpoint_gets_little_at_first() {
    let (old, new) = (Backend::named("old"), Backend::named("new"));
    let policy = "{policy: RoundRobin, slowStart: 1h}";
    let site = site(&balanced(policy, &[old.address]));
    assert_eq!(site.gateway.get(HOST, "/").text(), "old");
    site.folder.write("all.yaml", &balanced(policy, &[old.address, new.address]));
    until("the new endpoint", || (site.gateway.get(HOST, "/").text() == "new").then_some(()));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let names: Vec<_> = (0..500).map(|_| ask(&mut connection, &Request::get(HOST, "/")).text()).collect();
    // A tenth of what the other has: 45, and five standard deviations on either side.
    assert!((13..=78).contains(&counts(&names)["new"]), "{:?}", counts(&names));
}

#[test]
fn endpoints_of_the_own_zone_are_asked_first_and_others_where_none_of_it_is_left() {
    let backends = ["here", "there"].map(Backend::named);
    let slice = |index: usize, zone: &str, ready: bool| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-{index}, namespace: shop, labels: \
             {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\nports: [{{name: http, port: {}}}]\nendpoints: [{{addresses: \
             [127.0.0.1], zone: {zone}, conditions: {{ready: {ready}}}}}]\n",
            backends[index].address.port()
        )
    };
    let yaml = |zone: &str, ready: bool| {
        balanced("{zone: PreferLocal}", &[]) + &slice(0, zone, ready) + &slice(1, "b", true)
    };
    let asked =
        |site: &Site| -> Vec<String> { (0..20).map(|_| site.gateway.get(HOST, "/").text()).collect() };
    let site = site_with(&yaml("a", true), &["--zone", "a"]);
    assert_eq!(counts(&asked(&site)), BTreeMap::from([("here", 20)]));
    site.folder.write("all.yaml", &yaml("a", false));
    until("the only one of the zone is gone", || {
        (site.gateway.get(HOST, "/").text() == "there").then_some(())
    });
    assert_eq!(counts(&asked(&site)), BTreeMap::from([("there", 20)]));
    // The endpoint stays, and its zone is another one.
    site.folder.write("all.yaml", &yaml("b", true));
    until("both are far", || (counts(&asked(&site)).len() == 2).then_some(()));
    // Whoever does not know where it is asks all.
    let lost = site_with(&yaml("a", true), &[]);
    assert_eq!(counts(&asked(&lost)).len(), 2);
}

#[test]
fn an_ingress_says_the_same_by_annotation() {
    let backends = ["a", "b", "c"].map(Backend::named);
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let ingress = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: web\n  namespace: shop\n  annotations: \
         {{gateway.baribhara.io/upstream-hash-by: Cookie s}}\nspec:\n  rules:\n  - host: {HOST}\n    http:\n      paths:\n      - \
         {{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}\n  ingressClassName: baribhara\n"
    );
    let site = site(&(service("web", &addresses) + &ingress));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let mut name = |session: usize| {
        let request = Request::get(HOST, "/").header("Cookie", &format!("s={session}"));
        ask(&mut connection, &request).text()
    };
    let homes: Vec<_> = (0..30).map(&mut name).collect();
    assert_eq!((0..30).map(&mut name).collect::<Vec<_>>(), homes);
    assert_eq!(counts(&homes).len(), 3, "{:?}", counts(&homes));
}
