//! Rate limits over the wire.

use std::time::{Duration, Instant};

use e2e::backend::Backend;
use e2e::client::{Connection, Request, Response};
use e2e::folder::{limit_policy, route, secret, service};
use e2e::jwt;
use e2e::until::until;
use serde_json::json;

use crate::site::{HOST, Site, address, site, site_with, spec};

const TARGET: &str = "targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop}]";

fn limited(backend: &Backend, limits: &str, flags: &[&str]) -> Site {
    let policy = limit_policy("few", &format!("{TARGET}\nlimits:\n{limits}"));
    site_with(&(route("shop", &spec(backend.address, "")) + &policy), flags)
}

fn statuses(site: &Site, count: usize, request: &Request) -> Vec<u16> {
    (0..count).map(|_| site.gateway.ask(request).status).collect()
}

#[test]
fn over_the_burst_comes_a_429_that_says_when_to_come_back() {
    let backend = Backend::named("ok");
    let site = limited(
        &backend,
        "- {name: per-client, keys: [{type: ClientIP}], rates: [{requests: 5, per: 1h}]}",
        &[],
    );
    let passed: Vec<Response> = (0..5).map(|_| site.gateway.get(HOST, "/")).collect();
    for (number, response) in passed.iter().enumerate() {
        assert_eq!(response.status, 200, "request {number}");
        let policy = response.header("ratelimit-policy").unwrap();
        assert!(
            policy.starts_with("\"per-client\"") && policy.contains("q=5") && policy.contains("w=3600"),
            "{policy}"
        );
        let left = response.header("ratelimit").unwrap();
        assert!(
            left.contains(&format!("r={}", 4 - number)) && left.contains("t="),
            "request {number}: {left}"
        );
        assert_eq!(response.header("retry-after"), None);
    }
    let refused = site.gateway.get(HOST, "/");
    assert_eq!(refused.status, 429);
    let retry_after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(
        (600..=720).contains(&retry_after),
        "five an hour are one in twelve minutes, not {retry_after} s"
    );
    assert!(refused.header("ratelimit").unwrap().contains("r=0"));
    assert!(refused.header("ratelimit-policy").is_some());
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert!(refused.header("x-baribhara-decision").is_some());
    assert_eq!(backend.arrived().len(), 5);
}

#[test]
fn buckets_refill_evenly() {
    let backend = Backend::named("ok");
    let site = limited(&backend, "- {name: fast, rates: [{requests: 10, per: 1s, burst: 1}]}", &[]);
    assert_eq!(site.gateway.get(HOST, "/").status, 200);
    let started = Instant::now();
    let mut passed = 0;
    while started.elapsed() < Duration::from_secs(2) {
        passed += u32::from(site.gateway.get(HOST, "/").status == 200);
    }
    let most = started.elapsed().as_secs_f64() * 10.0 + 1.0;
    assert!(f64::from(passed) <= most, "{passed} of at most {most}");
    assert!(passed >= 10, "{passed} in two seconds at ten a second");
}

#[test]
fn each_value_of_a_header_has_a_bucket_of_its_own() {
    let backend = Backend::named("ok");
    let limits = "- {name: per-key, keys: [{type: Header, name: X-Key}], rates: [{requests: 2, per: 1h}]}";
    let site = limited(&backend, limits, &[]);
    for key in ["a", "b", "A"] {
        assert_eq!(
            statuses(&site, 3, &Request::get(HOST, "/").header("X-Key", key)),
            [200, 200, 429],
            "{key}"
        );
    }
    assert_eq!(statuses(&site, 3, &Request::get(HOST, "/")), [200, 200, 429], "without the header");
}

#[test]
fn rl02_a_client_cannot_get_a_fresh_bucket_by_spelling_its_request_differently() {
    let backend = Backend::named("ok");
    let limits = "- {name: one, keys: [{type: ClientIP}, {type: Path}, {type: Host}, {type: Method}], rates: [{requests: 1, per: 1h}]}";
    let site = limited(&backend, limits, &[]);
    assert_eq!(site.gateway.get(HOST, "/a/b").status, 200);
    let spellings = [
        Request::get(HOST, "/a/b"),
        Request::get(HOST, "/a//b"),
        Request::get(HOST, "/x/../a/./b"),
        Request::get(HOST, "/%61/b"),
        Request::get(HOST, "/a/b?x=1"),
        Request::get("SHOP.EXAMPLE.COM.", "/a/b"),
        Request::get("shop.example.com:80", "/a/b"),
        Request::get(HOST, "/a/b").header("X-Forwarded-For", "9.9.9.9"),
        Request::get(HOST, "/a/b").header("X-Real-IP", "9.9.9.9"),
        Request::get(HOST, "/a/b").header("X-Forwarded-For", "9.9.9.9, 8.8.8.8"),
        Request::get(HOST, "/a/b").header("Forwarded", "for=9.9.9.9"),
        Request::get(HOST, "/a/b").header("True-Client-IP", "9.9.9.9"),
        Request::get(HOST, "/a/b?y=2&x=1"),
        Request::get(HOST, "/a/b?x=1&y=2"),
        Request::get(HOST, "/a/b").header("X-HTTP-Method-Override", "POST"),
        Request::get(HOST, "/a/b").header("X-HTTP-Method", "PUT"),
        Request::get(HOST, "/a/b").header("X-Method-Override", "DELETE"),
    ];
    for request in spellings {
        assert_eq!(site.gateway.ask(&request).status, 429, "{request:?}");
    }
    assert_eq!(site.gateway.get(HOST, "/a/c").status, 200, "another path is another bucket");
    assert_eq!(site.gateway.ask(&Request::new("HEAD", HOST, "/a/b")).status, 200, "another method too");
}

#[test]
fn rl02_the_case_of_a_header_and_the_order_of_a_query_are_no_other_key() {
    let backend = Backend::named("ok");
    let limits = "- {name: one, keys: [{type: Header, name: X-Key}, {type: QueryParam, name: q}], rates: [{requests: 1, per: 1h}]}";
    let site = limited(&backend, limits, &[]);
    assert_eq!(site.gateway.ask(&Request::get(HOST, "/?q=a&z=1").header("X-Key", "k")).status, 200);
    for (target, name) in
        [("/?z=1&q=a", "x-key"), ("/?q=%61", "X-KEY"), ("/?q=a&q=b", "x-KEY"), ("/other?q=a", "X-Key")]
    {
        assert_eq!(
            site.gateway.ask(&Request::get(HOST, target).header(name, "k")).status,
            429,
            "{target} {name}"
        );
    }
}

#[test]
fn rl03_one_bucket_holds_all_addresses_of_an_ipv6_network() {
    let backend = Backend::named("ok");
    let limits = "- {name: per-client, keys: [{type: ClientIP}], rates: [{requests: 1, per: 1h}]}";
    let site = limited(&backend, limits, &["--trusted-proxies", "127.0.0.0/8"]);
    let from =
        |address: &str| site.gateway.ask(&Request::get(HOST, "/").header("X-Forwarded-For", address)).status;
    assert_eq!(from("2001:db8:0:1::1"), 200);
    assert_eq!(from("2001:db8:0:1:ffff::2"), 429);
    assert_eq!(from("2001:db8:0:2::1"), 200);
    assert_eq!(from("192.0.2.1"), 200);
    assert_eq!(from("::ffff:192.0.2.1"), 429, "an IPv4 address in IPv6 clothes is the same client");
    assert_eq!(from("192.0.2.2"), 200);
}

#[test]
fn every_rate_and_every_policy_must_pass() {
    let backend = Backend::named("ok");
    let target = format!("{TARGET}\nlimits:\n");
    let yaml = route("shop", &spec(backend.address, ""))
        + &limit_policy(
            "wide",
            &format!(
                "{target}- {{name: wide, rates: [{{requests: 100, per: 1h}}, {{requests: 4, per: 1h}}]}}"
            ),
        )
        + &limit_policy(
            "narrow",
            &format!(
                "{target}- {{name: narrow, keys: [{{type: Header, name: X-Key}}], rates: [{{requests: 3, per: 1h}}]}}"
            ),
        );
    let site = site(&yaml);
    assert_eq!(statuses(&site, 4, &Request::get(HOST, "/").header("X-Key", "a")), [200, 200, 200, 429]);
    let other = statuses(&site, 3, &Request::get(HOST, "/").header("X-Key", "b"));
    assert_eq!(other[0], 200);
    assert_eq!(other[2], 429, "the second rate of the first policy: {other:?}");
}

#[test]
fn a_shadow_limit_counts_and_never_refuses() {
    let backend = Backend::named("ok");
    let site = limited(&backend, "- {name: quiet, mode: Shadow, rates: [{requests: 1, per: 1h}]}", &[]);
    for _ in 0..5 {
        let response = site.gateway.get(HOST, "/");
        assert_eq!(response.status, 200);
        assert_eq!(response.header("ratelimit"), None);
        assert_eq!(response.header("ratelimit-policy"), None);
    }
    let metrics = site.gateway.admin_text("/metrics");
    let line = metrics
        .lines()
        .find(|line| line.starts_with("baribhara_ratelimit_shadowed_total{"))
        .expect("the metric");
    assert!(line.ends_with(" 4"), "{line}");
}

#[test]
fn a_policy_may_target_one_rule_only() {
    let backend = Backend::named("ok");
    let to = address(backend.address);
    let yaml = route(
        "shop",
        &format!(
            "hostnames: [{HOST}]
rules:
- {{name: limited, matches: [{{path: {{type: PathPrefix, value: /limited}}}}], backendRefs: [{to}]}}
- {{name: free, backendRefs: [{to}]}}"
        ),
    ) + &limit_policy(
        "few",
        "targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop, sectionName: limited}]
limits: [{name: few, rates: [{requests: 1, per: 1h}]}]",
    );
    let site = site(&yaml);
    assert_eq!(statuses(&site, 2, &Request::get(HOST, "/limited")), [200, 429]);
    assert_eq!(statuses(&site, 5, &Request::get(HOST, "/free")), [200; 5]);
}

#[test]
fn a_policy_shares_its_counters_among_its_targets_and_may_target_an_ingress() {
    let backend = Backend::named("ok");
    let ingress = "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: plain, namespace: shop}\nspec:\n  \
         ingressClassName: baribhara\n  rules:\n  - host: plain.example.com\n    http:\n      paths:\n      \
         - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}\n";
    let yaml = service("web", &[backend.address])
        + ingress
        + &route("shop", &spec(backend.address, ""))
        + &limit_policy(
            "few",
            "targetRefs:
- {group: gateway.baribhara.io, kind: GatewayRoute, name: shop}
- {group: networking.k8s.io, kind: Ingress, name: plain}
limits: [{name: few, rates: [{requests: 3, per: 1h}]}]",
        );
    let site = site(&yaml);
    assert_eq!(site.gateway.get(HOST, "/").status, 200);
    assert_eq!(site.gateway.get("plain.example.com", "/").status, 200);
    assert_eq!(site.gateway.get(HOST, "/").status, 200);
    assert_eq!(site.gateway.get("plain.example.com", "/").status, 429);
    assert_eq!(site.gateway.get(HOST, "/").status, 429);
}

#[test]
fn each_user_of_a_token_has_a_bucket_and_a_bad_token_costs_none() {
    let backend = Backend::named("ok");
    let spec = format!(
        "hostnames: [{HOST}]
jwtProviders:
- {{name: p, anyIssuer: true, algorithms: [HS256], jwks: {{secretRef: {{name: key, key: secret}}}}}}
rules:
- {{name: all, auth: {{jwt: {{providers: [p]}}}}, backendRefs: [{}]}}",
        address(backend.address)
    );
    let policy = limit_policy(
        "few",
        &format!(
            "{TARGET}\nlimits: [{{name: per-user, keys: [{{type: JWTClaim, provider: p, claim: sub}}], rates: [{{requests: 2, per: 1h}}]}}]"
        ),
    );
    let site = site(&(secret("key", "secret", "s") + &route("shop", &spec) + &policy));
    let token = |secret: &[u8], user: &str| {
        let token = jwt::hs256(secret, &json!({"sub": user, "exp": jwt::now() + 600}));
        Request::get(HOST, "/").header("Authorization", &format!("Bearer {token}"))
    };
    assert_eq!(statuses(&site, 5, &token(b"wrong", "ada")), [401; 5]);
    assert_eq!(statuses(&site, 3, &token(b"s", "ada")), [200, 200, 429]);
    assert_eq!(statuses(&site, 3, &token(b"s", "bob")), [200, 200, 429]);
}

#[test]
fn a_limit_of_claims_counts_only_tokens_that_say_so() {
    let backend = Backend::named("ok");
    let spec = format!(
        "hostnames: [{HOST}]
jwtProviders:
- {{name: p, anyIssuer: true, algorithms: [HS256], jwks: {{secretRef: {{name: key, key: secret}}}}}}
rules:
- {{name: all, auth: {{jwt: {{providers: [p], optional: true}}}}, backendRefs: [{}]}}",
        address(backend.address)
    );
    let limits = "
- name: free
  when: {claims: [{provider: p, claim: plan, operator: In, values: [free, trial]}]}
  keys: [{type: JWTClaim, claim: sub}]
  rates: [{requests: 2, per: 1h}]";
    let policy = limit_policy("few", &format!("{TARGET}\nlimits:{limits}"));
    let site = site(&(secret("key", "secret", "s") + &route("shop", &spec) + &policy));
    let token = |claims: serde_json::Value| {
        let token = jwt::hs256(b"s", &claims);
        Request::get(HOST, "/").header("Authorization", &format!("Bearer {token}"))
    };
    let exp = jwt::now() + 600;
    let free = token(json!({"sub": "ada", "plan": "free", "exp": exp}));
    assert_eq!(statuses(&site, 3, &free), [200, 200, 429]);
    let listed = token(json!({"sub": "bob", "plan": ["x", "trial"], "exp": exp}));
    assert_eq!(statuses(&site, 3, &listed), [200, 200, 429], "a list counts by its elements");
    for (what, claims) in [
        ("who pays", json!({"sub": "ada", "plan": "paid", "exp": exp})),
        ("no such claim", json!({"sub": "ada", "exp": exp})),
    ] {
        assert_eq!(statuses(&site, 4, &token(claims)), [200; 4], "{what}");
    }
    assert_eq!(statuses(&site, 4, &Request::get(HOST, "/")), [200; 4], "nobody has no claims");
}

#[test]
fn each_client_of_an_api_key_has_a_bucket_whatever_its_key() {
    let backend = Backend::named("ok");
    let auth = "auth: {apiKey: {secretSelector: {matchLabels: {tier: gold}}}}";
    let keys = |name: &str, client: &str, key: &str| {
        secret(name, client, key).replace("namespace: shop}", "namespace: shop, labels: {tier: gold}}")
    };
    let limits = "- {name: few, keys: [{type: APIKeyClient}], rates: [{requests: 2, per: 1h}]}";
    let (first, second, other) =
        ("key-of-acme-0123456789", "next-key-of-acme-0123456789", "key-of-bolt-0123456789");
    let yaml = route("shop", &spec(backend.address, auth))
        + &limit_policy("few", &format!("{TARGET}\nlimits:\n{limits}"))
        + &keys("a", "acme", first)
        + &keys("b", "acme", second)
        + &keys("c", "bolt", other);
    let site = site(&yaml);
    let ask = |key: &str| site.gateway.ask(&Request::get(HOST, "/").header("X-API-Key", key)).status;
    assert_eq!([ask(first), ask(second), ask(first), ask(second)], [200, 200, 429, 429]);
    assert_eq!([ask(other), ask(other), ask(other)], [200, 200, 429]);
    assert_eq!(ask("key-of-nobody-0123456789"), 401);
}

#[test]
fn a_limit_after_authentication_costs_nothing_to_who_is_turned_away() {
    let backend = Backend::named("ok");
    let auth = "auth: {apiKey: {secretSelector: {matchLabels: {tier: gold}}}}";
    let key = secret("a", "acme", "key-of-acme-0123456789")
        .replace("namespace: shop}", "namespace: shop, labels: {tier: gold}}");
    for (phase, want) in [("PostAuth", [401, 401, 401]), ("PreAuth", [401, 401, 429])] {
        let limits = format!("- {{name: few, phase: {phase}, rates: [{{requests: 2, per: 1h}}]}}");
        let yaml = route("shop", &spec(backend.address, auth))
            + &limit_policy("few", &format!("{TARGET}\nlimits:\n{limits}"))
            + &key;
        let site = site(&yaml);
        assert_eq!(statuses(&site, 3, &Request::get(HOST, "/")), want, "{phase}");
    }
}

#[test]
fn counters_outlive_a_reload_of_something_else() {
    let backend = Backend::named("ok");
    let site = limited(&backend, "- {name: few, rates: [{requests: 2, per: 1h}]}", &[]);
    assert_eq!(statuses(&site, 3, &Request::get(HOST, "/")), [200, 200, 429]);
    let other = format!(
        "hostnames: [other.example.com]\nrules: [{{name: a, backendRefs: [{}]}}]",
        address(backend.address)
    );
    site.folder.write("other.yaml", &route("other", &other));
    site.gateway.until_status("other.example.com", "/", 200);
    assert_eq!(site.gateway.get(HOST, "/").status, 429);
}

#[test]
fn a_limit_holds_over_all_workers() {
    // Hardening RL01 in small: one bucket, whichever worker takes the connection.
    let backend = Backend::named("ok");
    let site = limited(&backend, "- {name: few, rates: [{requests: 50, per: 1h}]}", &["--workers", "4"]);
    let mut connections: Vec<_> = (0..20).map(|_| Connection::open(site.gateway.http).unwrap()).collect();
    let mut passed = 0;
    for _ in 0..5 {
        for connection in &mut connections {
            passed += usize::from(connection.ask(&Request::get(HOST, "/")).unwrap().status == 200);
        }
    }
    assert_eq!(passed, 50);
}

#[test]
fn a_request_that_one_limit_refuses_uses_up_no_other() {
    let backend = Backend::named("ok");
    let shared = "- {name: shared, rates: [{requests: 10, per: 1h}]}";
    let own = "- {name: own, keys: [{type: Header, name: X-Key}], rates: [{requests: 1, per: 1h}]}";
    for limits in [[shared, own], [own, shared]] {
        let site = limited(&backend, &limits.join("\n"), &[]);
        let with_key = |key: &str| site.gateway.ask(&Request::get(HOST, "/").header("X-Key", key)).status;
        assert_eq!(with_key("greedy"), 200, "{limits:?}");
        for _ in 0..20 {
            assert_eq!(with_key("greedy"), 429, "{limits:?}");
        }
        let others: Vec<u16> = (0..10).map(|number| with_key(&format!("other-{number}"))).collect();
        assert_eq!(others[..9], [200; 9], "{limits:?}");
        assert_eq!(others[9], 429, "the shared limit is of ten, {limits:?}");
    }
}

#[test]
fn who_is_refused_by_a_shared_limit_keeps_what_is_his_own() {
    let backend = Backend::named("ok");
    let shared = "- {name: shared, rates: [{requests: 2, per: 1s, burst: 1}]}";
    let own = "- {name: own, keys: [{type: Header, name: X-Key}], rates: [{requests: 1, per: 1h}]}";
    for limits in [[shared, own], [own, shared]] {
        let site = limited(&backend, &limits.join("\n"), &[]);
        let with_key = |key: &str| site.gateway.ask(&Request::get(HOST, "/").header("X-Key", key)).status;
        assert_eq!(with_key("first"), 200);
        let mut refused = 0;
        until("the second one's turn", || {
            let status = with_key("second");
            refused += usize::from(status == 429);
            (status == 200).then_some(())
        });
        assert!(refused > 0, "the shared limit was never in the way");
    }
}

#[test]
fn a_limit_by_claim_that_refuses_gives_back_what_a_limit_before_it_took() {
    let backend = Backend::named("ok");
    let spec = format!(
        "hostnames: [{HOST}]
jwtProviders:
- {{name: p, anyIssuer: true, algorithms: [HS256], jwks: {{secretRef: {{name: key, key: secret}}}}}}
rules:
- {{name: all, auth: {{jwt: {{providers: [p]}}}}, backendRefs: [{}]}}",
        address(backend.address)
    );
    let policy = limit_policy(
        "few",
        &format!(
            "{TARGET}\nlimits:
- {{name: shared, rates: [{{requests: 3, per: 1h}}]}}
- {{name: per-user, keys: [{{type: JWTClaim, provider: p, claim: sub}}], rates: [{{requests: 1, per: 1h}}]}}"
        ),
    );
    let site = site(&(secret("key", "secret", "s") + &route("shop", &spec) + &policy));
    let of = |user: &str| {
        let token = jwt::hs256(b"s", &json!({"sub": user, "exp": jwt::now() + 600}));
        Request::get(HOST, "/").header("Authorization", &format!("Bearer {token}"))
    };
    assert_eq!(statuses(&site, 6, &of("ada")), [200, 429, 429, 429, 429, 429]);
    assert_eq!(statuses(&site, 1, &of("bob")), [200]);
    assert_eq!(statuses(&site, 1, &of("cat")), [200]);
    assert_eq!(statuses(&site, 1, &of("dan")), [429], "the shared limit is of three");
}

#[test]
fn a_limit_counts_only_what_its_conditions_take() {
    let backend = Backend::named("ok");
    let limits = "- name: posts\n  when: {methods: [POST], paths: [{value: /a}, {value: /b}], headers: [{name: X-Plan, value: free}], \
                  exceptClientCIDRs: [10.0.0.0/8]}\n  rates: [{requests: 1, per: 1h}]";
    let site = limited(&backend, limits, &["--trusted-proxies", "127.0.0.0/8"]);
    let post = |path: &str| Request::new("POST", HOST, path).header("X-Plan", "free");
    let office = |request: Request| request.header("X-Forwarded-For", "10.1.2.3");
    assert_eq!(statuses(&site, 2, &post("/a/x")), [200, 429]);
    assert_eq!(site.gateway.ask(&post("/b")).status, 429, "both paths are one limit's");
    let free = [
        post("/ab"),
        Request::get(HOST, "/a").header("X-Plan", "free"),
        Request::new("POST", HOST, "/a").header("X-Plan", "paid"),
        office(post("/a")),
    ];
    for request in free {
        let response = site.gateway.ask(&request);
        assert_eq!((response.status, response.header("ratelimit")), (200, None), "{request:?}");
    }
}

#[test]
fn what_a_key_lacks_is_skipped_shared_refused_or_counted_by_address() {
    let backend = Backend::named("ok");
    let key = |name: &str, key: &str| {
        format!(
            "- {{name: {name}, when: {{paths: [{{value: /{name}}}]}}, keys: [{key}], rates: [{{requests: 1, per: 1h}}]}}\n"
        )
    };
    let limits = key("skip", "{type: Cookie, name: s, onMissing: Skip}")
        + &key("shared", "{type: QueryParam, name: s}")
        + &key("reject", "{type: Header, name: S, onMissing: Reject}")
        + &key("address", "{type: Cookie, name: s, onMissing: UseClientIP}");
    let site = limited(&backend, &limits, &["--trusted-proxies", "127.0.0.0/8"]);
    let from = |address: &str, path: &str| Request::get(HOST, path).header("X-Forwarded-For", address);
    assert_eq!(statuses(&site, 3, &Request::get(HOST, "/skip")), [200, 200, 200]);
    assert_eq!(statuses(&site, 2, &Request::get(HOST, "/skip").header("Cookie", "a=b; s=1")), [200, 429]);
    assert_eq!(site.gateway.ask(&from("192.0.2.1", "/shared")).status, 200);
    assert_eq!(site.gateway.ask(&from("192.0.2.2", "/shared")).status, 429);
    assert_eq!(statuses(&site, 2, &Request::get(HOST, "/shared?x=1&%73=a%20b")), [200, 429]);
    assert_eq!(site.gateway.ask(&Request::get(HOST, "/shared?s=a+b")).status, 429, "spelt in another way");
    let refused = site.gateway.ask(&Request::get(HOST, "/reject"));
    assert_eq!((refused.status, refused.header("retry-after")), (429, None), "waiting does not help");
    assert_eq!(statuses(&site, 2, &Request::get(HOST, "/reject").header("S", "1")), [200, 429]);
    assert_eq!(statuses(&site, 2, &from("192.0.2.1", "/address")), [200, 429]);
    assert_eq!(site.gateway.ask(&from("192.0.2.2", "/address")).status, 200);
    assert_eq!(site.gateway.ask(&from("192.0.2.1", "/address").header("Cookie", "s=1")).status, 200);
}

#[test]
fn counters_are_shared_as_far_as_the_policy_says() {
    let backend = Backend::named("ok");
    let rules = |name: &str| {
        let rule = |rule: &str| {
            let to = address(backend.address);
            format!(
                "- {{name: {rule}, matches: [{{path: {{value: /{name}/{rule}}}}}], backendRefs: [{to}]}}\n"
            )
        };
        route(name, &format!("hostnames: [{HOST}]\nrules:\n{}{}", rule("one"), rule("two")))
    };
    let targets = "targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop}, \
                   {group: gateway.baribhara.io, kind: GatewayRoute, name: pub}]";
    for (scope, free) in [("PerPolicy", 0), ("PerTarget", 1), ("PerRule", 3)] {
        let limits = "limits: [{name: all, rates: [{requests: 1, per: 1h}]}]";
        let policy = limit_policy("few", &format!("{targets}\ncounterScope: {scope}\n{limits}"));
        let site = site_with(&(rules("shop") + &rules("pub") + &policy), &[]);
        let ask = |path: &str| site.gateway.get(HOST, path).status;
        assert_eq!(ask("/shop/one"), 200, "{scope}");
        assert_eq!(ask("/shop/one"), 429, "{scope}");
        let others = ["/pub/one", "/pub/two", "/shop/two"].map(ask);
        assert_eq!(others.iter().filter(|status| **status == 200).count(), free, "{scope}: {others:?}");
    }
    // The key RouteRule does it for one limit of several.
    let limits = "limits: [{name: all, keys: [{type: RouteRule}], rates: [{requests: 1, per: 1h}]}]";
    let site = site_with(
        &(rules("shop") + &rules("pub") + &limit_policy("few", &format!("{targets}\n{limits}"))),
        &[],
    );
    let statuses =
        ["/shop/one", "/shop/two", "/pub/one", "/shop/one"].map(|path| site.gateway.get(HOST, path).status);
    assert_eq!(statuses, [200, 200, 200, 429]);
}

#[test]
fn limits_show_in_the_old_fields_or_not_at_all_where_the_policy_says_so() {
    let backend = Backend::named("ok");
    let site = |headers: &str| {
        let limits = "limits: [{name: wide, rates: [{requests: 100, per: 1h}]}, {name: narrow, rates: [{requests: 2, per: 1h}]}]";
        let policy = limit_policy("few", &format!("{TARGET}\nresponse: {{headers: {headers}}}\n{limits}"));
        site_with(&(route("shop", &spec(backend.address, "")) + &policy), &[])
    };
    let legacy = site("Legacy");
    for (status, left) in [(200, "1"), (200, "0"), (429, "0")] {
        let response = legacy.gateway.get(HOST, "/");
        assert_eq!(response.status, status);
        assert_eq!(response.header("x-ratelimit-limit"), Some("2"), "the limit that has the least left");
        assert_eq!(response.header("x-ratelimit-remaining"), Some(left));
        let reset: u64 = response.header("x-ratelimit-reset").unwrap().parse().unwrap();
        assert!((1_000..=3_600).contains(&reset), "{reset}");
        assert_eq!(response.header("ratelimit"), None);
        assert_eq!(response.header("retry-after").is_some(), status == 429);
    }
    let none = site("None");
    let answers: Vec<Response> = (0..3).map(|_| none.gateway.get(HOST, "/")).collect();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200, 429]);
    for name in ["ratelimit", "ratelimit-policy", "x-ratelimit-limit", "retry-after"] {
        assert!(answers.iter().all(|answer| answer.header(name).is_none()), "{name}");
    }
}

#[test]
fn what_is_disabled_is_not_asked() {
    let backend = Backend::named("ok");
    let limits = "- {name: paused, mode: Disabled, rates: [{requests: 0, per: 1h}]}\n- {name: kept, rates: [{requests: 2, per: 1h}]}";
    let site = limited(&backend, limits, &[]);
    assert_eq!(statuses(&site, 3, &Request::get(HOST, "/")), [200, 200, 429]);
}
