//! Sessions: requests of one client that go to one endpoint, by a cookie.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use e2e::backend::{Backend, Reply};
use e2e::client::{Request, Response};
use e2e::folder::{route, service};
use e2e::until::until;

use crate::site::{HOST, Site, site, site_with};

/// A route of [`HOST`] to the Service `web` with these endpoints.
fn with_sessions(affinity: &str, endpoints: &[SocketAddr]) -> String {
    let spec = format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{{name: web, port: 80}}]\n  affinity: {affinity}"
    );
    service("web", endpoints) + &route("shop", &spec)
}

fn addresses(backends: &[Backend]) -> Vec<SocketAddr> {
    backends.iter().map(|backend| backend.address).collect()
}

/// The pair of the cookie that an answer sets.
fn cookie(response: &Response) -> Option<String> {
    response.header("set-cookie").map(|set| set.split(';').next().unwrap().to_owned())
}

fn ask(site: &Site, cookie: &str) -> Response {
    site.gateway.ask(&Request::get(HOST, "/").header("Cookie", cookie))
}

/// The cookies of sessions that go to this many different endpoints, with the names of those.
fn sessions(site: &Site, count: usize) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    until("sessions at all endpoints", || {
        let response = site.gateway.get(HOST, "/");
        assert_eq!(response.status, 200);
        let name = response.text();
        if found.iter().all(|(known, _)| *known != name) {
            found.push((name, cookie(&response).expect("the first answer sets a cookie")));
        }
        (found.len() == count).then_some(())
    });
    found
}

#[test]
fn a_session_stays_at_its_endpoint_and_its_cookie_is_set_once() {
    for mode in ["Balanced", "Persistent"] {
        let backends = ["a", "b", "c"].map(Backend::named);
        let site = site(&with_sessions(&format!("{{mode: {mode}}}"), &addresses(&backends)));
        for (name, cookie) in sessions(&site, 3) {
            for _ in 0..10 {
                let response = ask(&site, &format!("theme=dark; {cookie}; lang=en"));
                assert_eq!((response.status, response.text()), (200, name.clone()), "{mode}");
                assert_eq!(response.header("set-cookie"), None, "{mode}");
            }
        }
        let series = "baribhara_affinity_sessions_total{endpoint=\"shop/shop/all\",result=\"new\"}";
        assert!(site.gateway.metric(series) >= 3.0);
    }
}

#[test]
fn the_cookie_is_as_the_rule_says_and_tells_nothing() {
    let backend = [Backend::named("a")];
    let said = "{cookie: {name: SRV, path: /, domain: example.com, ttl: 1h, sameSite: Strict, secure: true}, mode: Persistent}";
    let site = site(&with_sessions(said, &addresses(&backend)));
    let response = site.gateway.get(HOST, "/");
    let set = response.header("set-cookie").unwrap();
    let (pair, attributes) = set.split_once(';').unwrap();
    assert_eq!(attributes, " Path=/; Domain=example.com; Max-Age=3600; SameSite=Strict; HttpOnly; Secure");
    let value = pair.strip_prefix("SRV=").unwrap();
    assert_eq!(value.len(), 44);
    assert!(!value.contains("127.0.0.1") && !value.contains(&backend[0].address.port().to_string()));
    let config = site.gateway.admin_text("/config");
    assert!(config.contains("[redacted]") && !config.contains("GatewayRoute/shop/shop\\u0000"), "{config}");
}

#[test]
fn the_cookie_goes_on_to_the_backend_with_the_others() {
    let backend = Backend::start(|arrived| Reply::ok(&arrived.all("cookie").join("|")));
    let site = site(&with_sessions("{cookie: {name: SRV}}", &[backend.address]));
    let session = cookie(&site.gateway.get(HOST, "/")).unwrap();
    let sent = format!("a=b; {session}");
    assert_eq!(ask(&site, &sent).text(), sent);
}

#[test]
fn a_cookie_that_is_forged_or_anothers_begins_a_new_session() {
    let backends = ["a", "b"].map(Backend::named);
    let site = site(&with_sessions("{cookie: {name: SRV}, mode: Persistent}", &addresses(&backends)));
    let own = cookie(&site.gateway.get(HOST, "/")).unwrap();
    let mut forged = own.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'E' } else { 'A' });
    let other = route(
        "other",
        "hostnames: [other.example.com]\nrules: [{name: all, affinity: {cookie: {name: SRV}}, backendRefs: [{name: web, port: 80}]}]",
    );
    site.folder.write("other.yaml", &other);
    let others = site.gateway.until_status("other.example.com", "/", 200);
    let others = cookie(&others).unwrap();
    let garbage = format!("SRV={}", "%00;".repeat(200));
    for sent in [&*forged, &*others, "SRV=", "SRV=10.0.0.1:80", &*garbage] {
        let response = ask(&site, sent);
        assert_eq!(response.status, 200, "{sent}");
        assert!(cookie(&response).is_some(), "{sent}");
    }
    assert_eq!(cookie(&ask(&site, &own)), None);
}

#[test]
fn another_replica_and_a_restart_know_the_session() {
    let backends = ["a", "b", "c"].map(Backend::named);
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: affinity, namespace: system}\nstringData: {key: \"0123456789abcdef0123\"}\n";
    let yaml = with_sessions("{mode: Persistent}", &addresses(&backends)) + secret;
    let first = site_with(&yaml, &["--affinity-key-secret", "system/affinity"]);
    let known = sessions(&first, 3);
    let second = site_with(&yaml, &["--affinity-key-secret", "system/affinity"]);
    let keyless = site(&yaml);
    for (name, cookie_sent) in known {
        let response = ask(&second, &cookie_sent);
        assert_eq!((response.text(), cookie(&response)), (name, None));
        assert!(cookie(&ask(&keyless, &cookie_sent)).is_some(), "another key");
    }
}

#[test]
fn a_persistent_session_moves_only_when_its_endpoint_goes() {
    let backends = ["a", "b", "c"].map(Backend::named);
    let all = addresses(&backends);
    let yaml = |endpoints: &[SocketAddr]| with_sessions("{mode: Persistent}", endpoints);
    let site = site(&yaml(&all[..2]));
    let known = sessions(&site, 2);
    site.folder.write("all.yaml", &yaml(&all));
    until("the third", || (site.gateway.get(HOST, "/").text() == "c").then_some(()));
    for (name, cookie) in &known {
        assert_eq!(ask(&site, cookie).text(), *name);
    }
    site.folder.write("all.yaml", &yaml(&all[1..]));
    until("the first is gone", || (0..6).all(|_| site.gateway.get(HOST, "/").text() != "a").then_some(()));
    for (name, sent) in &known {
        let response = ask(&site, sent);
        let moved = cookie(&response);
        assert_eq!(moved.is_some(), name == "a", "{name}");
        if let Some(moved) = moved {
            let home = response.text();
            assert_eq!(ask(&site, &moved).text(), home);
        }
    }
    let series = "baribhara_affinity_sessions_total{endpoint=\"shop/shop/all\",result=\"moved\"}";
    assert_eq!(site.gateway.metric(series), 1.0);
}

#[test]
fn few_balanced_sessions_move_when_an_endpoint_comes_and_their_cookie_stays() {
    let backends = ["a", "b", "c", "d"].map(Backend::named);
    let all = addresses(&backends);
    let yaml = |endpoints: &[SocketAddr]| with_sessions("{mode: Balanced}", endpoints);
    let site = site(&yaml(&all[..3]));
    let before: Vec<(String, String)> = (0..60)
        .map(|_| {
            let response = site.gateway.get(HOST, "/");
            (response.text(), cookie(&response).unwrap())
        })
        .collect();
    assert_eq!(before.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), 3);
    site.folder.write("all.yaml", &yaml(&all));
    until("the fourth", || (site.gateway.get(HOST, "/").text() == "d").then_some(()));
    let mut moved = 0;
    for (name, sent) in &before {
        let response = ask(&site, sent);
        let now = response.text();
        assert_eq!(cookie(&response), None);
        assert!(now == *name || now == "d", "{name} moved to {now}");
        moved += usize::from(now == "d");
    }
    assert!((1..40).contains(&moved), "{moved} of 60");
}

#[test]
fn a_session_keeps_to_its_canary() {
    let (main, canary) = (Backend::named("main"), Backend::named("canary"));
    let yaml = |sticky: bool, weight: u32| {
        let spec = format!(
            "hostnames: [{HOST}]\nrules:\n- name: all\n  affinity: {{mode: Persistent, stickyToCanary: {sticky}}}\n  backendRefs:\n  - \
             {{name: main, port: 80, weight: 50}}\n  - {{name: canary, port: 80, weight: {weight}}}"
        );
        service("main", &[main.address]) + &service("canary", &[canary.address]) + &route("shop", &spec)
    };
    let site = site(&yaml(true, 50));
    let known = sessions(&site, 2);
    for (name, cookie) in &known {
        assert!((0..20).all(|_| ask(&site, cookie).text() == *name), "{name}");
    }
    // Who has no weight gets nobody, whoever was there.
    site.folder.write("all.yaml", &yaml(true, 0));
    let (_, canarys) = known.iter().find(|(name, _)| name == "canary").unwrap();
    until("the canary has ended", || (ask(&site, canarys).text() == "main").then_some(()));
    let free = site_with(&yaml(false, 50), &[]);
    let (_, cookie) = sessions(&free, 2).remove(0);
    let asked: BTreeSet<String> = (0..40).map(|_| ask(&free, &cookie).text()).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
}

#[test]
fn what_becomes_of_a_session_whose_endpoint_is_dead_is_as_the_rule_says() {
    for mode in ["Balanced", "Persistent"] {
        for (on_failure, want) in [("Repick", 200), ("Fail", 503)] {
            let [a, b] = ["a", "b"].map(Backend::named);
            let affinity = format!("{{mode: {mode}, onFailure: {on_failure}}}");
            let site = site(&with_sessions(&affinity, &[a.address, b.address]));
            let known = sessions(&site, 2);
            let (_, sent) = known.iter().find(|(name, _)| name == "a").unwrap();
            drop(a);
            for _ in 0..6 {
                let response = ask(&site, sent);
                assert_eq!(response.status, want, "{mode}, {on_failure}: {}", response.text());
                let moves = mode == "Persistent" && on_failure == "Repick";
                assert_eq!(cookie(&response).is_some(), moves, "{mode}, {on_failure}");
            }
            let (_, sent) = known.iter().find(|(name, _)| name == "b").unwrap();
            assert_eq!(ask(&site, sent).text(), "b");
        }
    }
}

#[test]
fn an_ingress_has_sessions_by_annotation() {
    let backends = ["a", "b"].map(Backend::named);
    let ingress = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: web\n  namespace: shop\n  annotations:\n    \
         gateway.baribhara.io/affinity: cookie\n    gateway.baribhara.io/affinity-mode: persistent\n    \
         gateway.baribhara.io/session-cookie-name: SRV\n    gateway.baribhara.io/session-cookie-max-age: \"60\"\nspec:\n  \
         ingressClassName: baribhara\n  rules:\n  - host: {HOST}\n    http:\n      paths:\n      - {{path: /, pathType: Prefix, backend: \
         {{service: {{name: web, port: {{number: 80}}}}}}}}\n"
    );
    let site = site(&(service("web", &addresses(&backends)) + &ingress));
    let set = site.gateway.get(HOST, "/").header("set-cookie").unwrap().to_owned();
    assert!(set.starts_with("SRV=") && set.contains("; Max-Age=60;"), "{set}");
    for (name, cookie) in sessions(&site, 2) {
        assert!((0..5).all(|_| ask(&site, &cookie).text() == name));
    }
}
