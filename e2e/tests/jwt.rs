//! Tokens over the wire. The names JW01 … are those of the catalogue of attacks; the verifier has tests of its own.

use e2e::backend::Backend;
use e2e::client::{Request, Response};
use e2e::folder::{auth_policy, route, secret};
use e2e::jwt::{self, Signer};
use serde_json::{Value, json};

use crate::site::{HOST, Site, address, site, site_with};

const SECRET: &str = "a secret of the token tests, long enough for HS256";

/// `/hs` takes HS256 with a Secret, `/pk` takes RS256, ES256 and EdDSA of an inline key set, `/open` nothing.
struct Guarded {
    site: Site,
    backend: Backend,
    signers: [Signer; 3],
}

fn guarded() -> Guarded {
    let backend = Backend::named("ok");
    let signers = [Signer::rsa(), Signer::p256(), Signer::ed25519()];
    let keys = jwt::jwks(&[&signers[0], &signers[1], &signers[2]]);
    let to = address(backend.address);
    let spec = format!(
        "hostnames: [{HOST}]
jwtProviders:
- name: shared
  issuer: https://id.example.com/
  audiences: [shop-api]
  jwks: {{secretRef: {{name: key, key: secret}}}}
  algorithms: [HS256]
  claimsToHeaders: [{{claim: sub, header: X-User}}, {{claim: realm.roles, header: X-Roles, join: \",\"}}]
- name: public
  issuer: https://id.example.com/
  audiences: [shop-api, other-api]
  jwks: {{inline: '{keys}'}}
  algorithms: [RS256, ES256, EdDSA]
rules:
- name: hs
  matches: [{{path: {{type: PathPrefix, value: /hs}}}}]
  auth: {{jwt: {{providers: [shared]}}}}
  backendRefs: [{to}]
- name: pk
  matches: [{{path: {{type: PathPrefix, value: /pk}}}}]
  auth: {{jwt: {{providers: [public]}}}}
  backendRefs: [{to}]
- name: admin
  matches: [{{path: {{type: PathPrefix, value: /admin}}}}]
  auth:
    jwt: {{providers: [shared]}}
    authorization:
      rules:
      - {{name: admins, action: Allow, claims: [{{claim: realm.roles, operator: ContainsAny, values: [admin]}}]}}
      - {{name: readers, action: Allow, methods: [GET], claims: [{{claim: scope, operator: ContainsAny, values: [read]}}]}}
  backendRefs: [{to}]
- name: maybe
  matches: [{{path: {{type: PathPrefix, value: /maybe}}}}]
  auth: {{jwt: {{providers: [shared], optional: true}}}}
  backendRefs: [{to}]
- name: open
  matches: [{{path: {{type: PathPrefix, value: /open}}}}]
  backendRefs: [{to}]"
    );
    let site = site(&(secret("key", "secret", SECRET) + &route("shop", &spec)));
    Guarded { site, backend, signers }
}

impl Guarded {
    fn ask(&self, path: &str, token: &str) -> Response {
        let bearer = format!("Bearer {token}");
        self.site.gateway.ask(&Request::get(HOST, path).header("Authorization", &bearer))
    }

    #[track_caller]
    fn assert_passes(&self, what: &str, path: &str, token: &str) {
        let response = self.ask(path, token);
        assert_eq!(response.status, 200, "{what}: {}", response.text());
    }

    #[track_caller]
    fn assert_refused(&self, what: &str, path: &str, token: &str) {
        let before = self.backend.arrived().len();
        let response = self.ask(path, token);
        assert_eq!(response.status, 401, "{what}: {}", response.text());
        let challenge = response.header("www-authenticate").unwrap_or_default();
        assert!(challenge.starts_with("Bearer"), "{what}: {challenge:?}");
        assert_eq!(self.backend.arrived().len(), before, "{what}: the backend was asked");
        let said = format!("{response:?}");
        assert!(token.len() < 20 || !said.contains(token), "{what}: the answer repeats the token");
    }
}

fn hs(claims: &Value) -> String {
    jwt::hs256(SECRET.as_bytes(), claims)
}

fn with(change: impl Fn(&mut Value)) -> Value {
    let mut claims = jwt::claims();
    change(&mut claims);
    claims
}

#[test]
fn good_tokens_of_every_kind_of_key_pass_and_none_is_needed_where_none_is_asked() {
    let g = guarded();
    g.assert_passes("HS256", "/hs", &hs(&jwt::claims()));
    for (index, signer) in g.signers.iter().enumerate() {
        g.assert_passes(signer.algorithm(), "/pk", &signer.token(&format!("k{index}"), &jwt::claims()));
    }
    assert_eq!(g.site.gateway.get(HOST, "/open").status, 200);
    let missing = g.site.gateway.get(HOST, "/hs");
    assert_eq!(missing.status, 401);
    assert!(missing.header("www-authenticate").unwrap().starts_with("Bearer"));
}

#[test]
fn claims_become_headers_and_roles_decide() {
    let g = guarded();
    let admin = with(|c| c["realm"] = json!({"roles": ["user", "admin"]}));
    g.assert_passes("claims", "/hs", &hs(&admin));
    let arrived = g.backend.arrived().pop().unwrap();
    assert_eq!(arrived.all("x-user"), ["ada"]);
    assert_eq!(arrived.all("x-roles"), ["user,admin"]);

    g.assert_passes("an admin", "/admin", &hs(&admin));
    let reader = hs(&with(|c| c["scope"] = json!("list read")));
    g.assert_passes("a reader reads", "/admin", &reader);
    let bearer = format!("Bearer {reader}");
    let post = Request::new("POST", HOST, "/admin").header("Authorization", &bearer).body("x");
    assert_eq!(g.site.gateway.ask(&post).status, 403);
    assert_eq!(g.ask("/admin", &hs(&jwt::claims())).status, 403);
    assert_eq!(g.site.gateway.get(HOST, "/admin").status, 401);
}

#[test]
fn an_optional_token_may_be_missing_but_not_wrong() {
    let g = guarded();
    let response = g.site.gateway.ask(&Request::get(HOST, "/maybe").header("X-User", "root"));
    assert_eq!(response.status, 200);
    assert!(g.backend.arrived().pop().unwrap().all("x-user").is_empty(), "without a token nobody is anybody");
    g.assert_passes("good", "/maybe", &hs(&jwt::claims()));
    g.assert_refused("bad", "/maybe", &jwt::hs256(b"wrong", &jwt::claims()));
}

#[test]
fn jw01_unsigned_and_misshapen_tokens_are_refused() {
    let g = guarded();
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let unsigned = jwt::token(&json!({"alg": alg, "typ": "JWT"}), &jwt::claims(), |_| Vec::new());
        g.assert_refused(alg, "/hs", &unsigned);
        g.assert_refused(alg, "/pk", &unsigned);
    }
    let good = hs(&jwt::claims());
    let parts: Vec<&str> = good.split('.').collect();
    // Its first character stands for six bits, and any other one for others.
    let changed = if parts[2].starts_with('A') { 'B' } else { 'A' };
    let cases = [
        ("empty signature", format!("{}.{}.", parts[0], parts[1])),
        ("no signature", format!("{}.{}", parts[0], parts[1])),
        ("two dots only", "..".to_owned()),
        ("nothing", String::new()),
        ("five parts", format!("{good}.a.b")),
        ("four parts", format!("{good}.")),
        ("a padded signature", format!("{good}=")),
        ("a changed signature", format!("{}.{}.{changed}{}", parts[0], parts[1], &parts[2][1..])),
        ("no base64url", format!("{}.{}.!!!!", parts[0], parts[1])),
        (
            "other claims",
            format!(
                "{}.{}.{}",
                parts[0],
                jwt::encode(with(|c| c["sub"] = json!("eve")).to_string()),
                parts[2]
            ),
        ),
    ];
    for (what, token) in cases {
        g.assert_refused(what, "/hs", &token);
    }
}

#[test]
fn jw02_a_public_key_is_never_an_hmac_secret() {
    let g = guarded();
    for (index, signer) in g.signers.iter().enumerate() {
        for secret in signer.public_bytes() {
            for alg in ["HS256", "HS512"] {
                let header = json!({"alg": alg, "kid": format!("k{index}")});
                let forged = jwt::token(&header, &jwt::claims(), |input| jwt::hmac_sha256(&secret, input));
                g.assert_refused(signer.algorithm(), "/pk", &forged);
            }
        }
    }
    // A key is pinned to its algorithm: an RSA key's id in an ES256 token and the like.
    let crossed =
        jwt::token(&json!({"alg": "ES256", "kid": "k0"}), &jwt::claims(), |input| g.signers[0].sign(input));
    g.assert_refused("an RSA signature as ES256", "/pk", &crossed);
    let crossed =
        jwt::token(&json!({"alg": "RS256", "kid": "k1"}), &jwt::claims(), |input| g.signers[1].sign(input));
    g.assert_refused("an EC signature as RS256", "/pk", &crossed);
}

#[test]
fn jw03_keys_and_urls_in_the_tokens_head_are_never_used() {
    let g = guarded();
    let thief = Signer::p256();
    let listener = Backend::named("never asked");
    let url = format!("http://{}/jwks.json", listener.address);
    let cases = [
        json!({"alg": "ES256", "jwk": thief.jwk("k1"), "kid": "k1"}),
        json!({"alg": "ES256", "jku": url, "kid": "k1"}),
        json!({"alg": "ES256", "x5u": url}),
        json!({"alg": "ES256", "x5c": ["MIIB"]}),
        json!({"alg": "ES256", "kid": "../../dev/null"}),
        json!({"alg": "ES256", "kid": "k1' OR '1'='1"}),
        json!({"alg": "ES256", "kid": "k".repeat(10_240)}),
        json!({"alg": "ES256", "kid": 1}),
    ];
    for header in cases {
        let forged = jwt::token(&header, &jwt::claims(), |input| thief.sign(input));
        g.assert_refused(&format!("{:.60}", header.to_string()), "/pk", &forged);
    }
    assert_eq!(listener.connections(), 0);
}

#[test]
fn jw04_critical_extensions_are_refused() {
    let g = guarded();
    for extra in [
        json!({"crit": ["exp"]}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"crit": []}),
        json!({"crit": ["x"], "x": 1}),
    ] {
        let mut header = json!({"alg": "HS256"});
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let token = jwt::token(&header, &jwt::claims(), |input| jwt::hmac_sha256(SECRET.as_bytes(), input));
        g.assert_refused(&extra.to_string(), "/hs", &token);
    }
}

#[test]
fn jw05_times_are_checked_for_value_and_type() {
    let g = guarded();
    let now = jwt::now();
    g.assert_passes("within the leeway", "/hs", &hs(&with(|c| c["exp"] = json!(now - 10))));
    g.assert_passes("not before, within the leeway", "/hs", &hs(&with(|c| c["nbf"] = json!(now + 10))));
    let cases = [
        ("expired", with(|c| c["exp"] = json!(now - 40))),
        ("long expired", with(|c| c["exp"] = json!(0))),
        ("not yet", with(|c| c["nbf"] = json!(now + 60))),
        ("exp as text", with(|c| c["exp"] = json!((now + 3600).to_string()))),
        ("nbf as text", with(|c| c["nbf"] = json!("0"))),
        ("exp negative", with(|c| c["exp"] = json!(-1))),
        ("exp null", with(|c| c["exp"] = Value::Null)),
        ("exp a list", with(|c| c["exp"] = json!([now + 3600]))),
        ("exp a bool", with(|c| c["exp"] = json!(true))),
        ("no exp", with(|c| drop(c.as_object_mut().unwrap().remove("exp")))),
    ];
    for (what, claims) in cases {
        g.assert_refused(what, "/hs", &hs(&claims));
    }
    let head = r#"{"alg":"HS256"}"#;
    let huge = r#"{"iss":"https://id.example.com/","aud":"shop-api","sub":"ada","exp":1e400}"#;
    let token = jwt::token_of_bytes(head, huge, |input| jwt::hmac_sha256(SECRET.as_bytes(), input));
    g.assert_refused("exp 1e400", "/hs", &token);
}

#[test]
fn jw06_issuer_and_audience_must_fit_and_keys_stand_once() {
    let g = guarded();
    g.assert_passes("one of several audiences", "/hs", &hs(&with(|c| c["aud"] = json!(["x", "shop-api"]))));
    let cases = [
        ("another issuer", with(|c| c["iss"] = json!("https://evil.example.com/"))),
        ("issuer without slash", with(|c| c["iss"] = json!("https://id.example.com"))),
        ("no issuer", with(|c| drop(c.as_object_mut().unwrap().remove("iss")))),
        ("issuer in a list", with(|c| c["iss"] = json!(["https://id.example.com/"]))),
        ("another audience", with(|c| c["aud"] = json!("other"))),
        ("audiences without ours", with(|c| c["aud"] = json!(["a", "b"]))),
        ("no audience", with(|c| drop(c.as_object_mut().unwrap().remove("aud")))),
        ("audience null", with(|c| c["aud"] = Value::Null)),
        ("empty audiences", with(|c| c["aud"] = json!([]))),
    ];
    for (what, claims) in cases {
        g.assert_refused(what, "/hs", &hs(&claims));
    }
    let exp = jwt::now() + 3600;
    let doubled = format!(
        r#"{{"iss":"https://evil.example.com/","iss":"https://id.example.com/","aud":"shop-api","exp":{exp}}}"#
    );
    let token = jwt::token_of_bytes(r#"{"alg":"HS256"}"#, &doubled, |input| {
        jwt::hmac_sha256(SECRET.as_bytes(), input)
    });
    g.assert_refused("two issuers", "/hs", &token);
}

#[test]
fn jw07_huge_and_deep_tokens_are_refused_fast() {
    let g = guarded();
    let sign = |input: &[u8]| jwt::hmac_sha256(SECRET.as_bytes(), input);
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let exp = jwt::now() + 3600;
    let deep_claims =
        format!(r#"{{"iss":"https://id.example.com/","aud":"shop-api","exp":{exp},"x":{deep}}}"#);
    let long_signature = {
        let good = g.signers[1].token("k1", &jwt::claims());
        let (input, _) = good.rsplit_once('.').unwrap();
        format!("{input}.{}", "A".repeat(21_830))
    };
    let cases = [
        ("64 KiB of claims", "/hs", hs(&with(|c| c["x"] = json!("x".repeat(64 << 10))))),
        ("deep claims", "/hs", jwt::token_of_bytes(r#"{"alg":"HS256"}"#, &deep_claims, sign)),
        ("a long signature", "/pk", long_signature),
        (
            "a long head",
            "/hs",
            jwt::token_of_bytes(&format!(r#"{{"alg":"HS256","x":"{}"}}"#, "x".repeat(64 << 10)), "{}", sign),
        ),
    ];
    for (what, path, token) in cases {
        let response = g.ask(path, &token);
        assert!(matches!(response.status, 401 | 431), "{what}: {}", response.status);
    }
    // The gateway is as well as before.
    g.assert_passes("after all that", "/hs", &hs(&jwt::claims()));
}

#[test]
fn jw08_two_tokens_are_refused_and_the_scheme_is_read_without_regard_to_case() {
    let g = guarded();
    let good = hs(&jwt::claims());
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let request = Request::get(HOST, "/hs").header("Authorization", &format!("{scheme} {good}"));
        assert_eq!(g.site.gateway.ask(&request).status, 200, "{scheme}");
    }
    let cases = [
        (
            "two headers",
            Request::get(HOST, "/hs")
                .header("Authorization", &format!("Bearer {good}"))
                .header("Authorization", &format!("Bearer {good}")),
        ),
        (
            "a list",
            Request::get(HOST, "/hs").header("Authorization", &format!("Bearer {good}, Bearer {good}")),
        ),
        ("no scheme", Request::get(HOST, "/hs").header("Authorization", &good)),
        ("basic", Request::get(HOST, "/hs").header("Authorization", "Basic YTpi")),
        ("the query, which is off", Request::get(HOST, &format!("/hs?access_token={good}"))),
        ("a cookie, which is off", Request::get(HOST, "/hs").header("Cookie", &format!("at={good}"))),
    ];
    for (what, request) in cases {
        let status = g.site.gateway.ask(&request).status;
        assert!(matches!(status, 400 | 401), "{what}: {status}");
    }
}

#[test]
fn jw08_tokens_come_from_header_cookie_or_query_where_that_is_set_but_only_from_one() {
    let backend = Backend::named("ok");
    let spec = format!(
        "hostnames: [{HOST}]
jwtProviders:
- name: shared
  anyIssuer: true
  jwks: {{secretRef: {{name: key, key: secret}}}}
  algorithms: [HS256]
  from: [{{header: {{name: X-Token}}}}, {{cookie: {{name: at}}}}, {{query: {{name: access_token}}}}]
  forwardToken: false
rules:
- name: all
  auth: {{jwt: {{providers: [shared]}}}}
  backendRefs: [{}]",
        address(backend.address)
    );
    let site = site(&(secret("key", "secret", SECRET) + &route("shop", &spec)));
    let good = hs(&jwt::claims());
    let cases = [
        ("header", Request::get(HOST, "/?a=1").header("X-Token", &good), 200),
        ("cookie", Request::get(HOST, "/?a=1").header("Cookie", &format!("x=y; at={good}; z=1")), 200),
        ("query", Request::get(HOST, &format!("/?a=1&access_token={good}")), 200),
        (
            "header and query",
            Request::get(HOST, &format!("/?access_token={good}")).header("X-Token", &good),
            401,
        ),
        (
            "twice in the query",
            Request::get(HOST, &format!("/?access_token={good}&access_token={good}")),
            401,
        ),
        ("nowhere", Request::get(HOST, "/"), 401),
    ];
    for (what, request, status) in cases {
        let response = site.gateway.ask(&request);
        let fits = response.status == status || (status == 401 && response.status == 400);
        assert!(fits, "{what}: {} {}", response.status, response.text());
        if status == 200 {
            let arrived = backend.arrived().pop().unwrap();
            assert!(!arrived.head.contains(&good), "{what}: forwardToken is false\n{}", arrived.head);
            assert!(arrived.target().contains("a=1"), "{what}: {}", arrived.target());
        }
    }
}

#[test]
fn jw09_weak_and_broken_keys_make_their_rule_fail_closed() {
    let small_rsa =
        json!({"kty": "RSA", "kid": "k", "alg": "RS256", "n": jwt::encode([0xc5; 128]), "e": "AQAB"});
    let off_curve = json!({"kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "x": jwt::encode([1; 32]), "y": jwt::encode([2; 32])});
    for (what, key) in [("RSA of 1024 bits", small_rsa), ("a point off the curve", off_curve)] {
        let backend = Backend::named("ok");
        let keys = json!({"keys": [key]});
        let spec = format!(
            "hostnames: [{HOST}]
jwtProviders:
- {{name: p, anyIssuer: true, algorithms: [RS256, ES256], jwks: {{inline: '{keys}'}}}}
rules:
- name: guarded
  auth: {{jwt: {{providers: [p]}}}}
  backendRefs: [{to}]
- name: beside
  matches: [{{path: {{type: Exact, value: /beside}}}}]
  backendRefs: [{to}]",
            to = address(backend.address)
        );
        let site = site(&route("shop", &spec));
        let status = site.gateway.get(HOST, "/").status;
        assert!(matches!(status, 401 | 500 | 503), "{what}: {status}");
        assert!(backend.arrived().is_empty(), "{what}");
        assert_eq!(site.gateway.get(HOST, "/beside").status, 200, "{what}: only its rule is harmed");
    }
    // r = s = 0 is no signature.
    let g = guarded();
    let zero = jwt::token(&json!({"alg": "ES256", "kid": "k1"}), &jwt::claims(), |_| vec![0; 64]);
    g.assert_refused("zeros as ES256", "/pk", &zero);
    let zero = jwt::token(&json!({"alg": "EdDSA", "kid": "k2"}), &jwt::claims(), |_| vec![0; 64]);
    g.assert_refused("zeros as EdDSA", "/pk", &zero);
}

#[test]
fn a_policy_that_cannot_be_built_fails_closed() {
    // Hardening JW19.
    let backend = Backend::named("ok");
    let to = address(backend.address);
    let cases = [
        (
            "a missing Secret",
            "- {name: p, anyIssuer: true, algorithms: [HS256], jwks: {secretRef: {name: gone}}}",
            "[p]",
        ),
        (
            "an unknown provider",
            "- {name: p, anyIssuer: true, algorithms: [HS256], jwks: {secretRef: {name: key, key: secret}}}",
            "[other]",
        ),
        (
            "a key set that is no JSON",
            "- {name: p, anyIssuer: true, algorithms: [RS256], jwks: {inline: '{nonsense'}}",
            "[p]",
        ),
    ];
    for (what, provider, providers) in cases {
        let spec = format!(
            "hostnames: [{HOST}]\njwtProviders:\n{provider}\nrules:\n- name: a\n  auth: {{jwt: {{providers: {providers}}}}}\n  backendRefs: [{to}]"
        );
        let site = site(&(secret("key", "secret", SECRET) + &route("shop", &spec)));
        let request =
            Request::get(HOST, "/").header("Authorization", &format!("Bearer {}", hs(&jwt::claims())));
        let status = site.gateway.ask(&request).status;
        assert!(matches!(status, 500 | 503), "{what}: {status}");
        assert!(backend.arrived().is_empty(), "{what}");
    }
}

#[test]
fn an_auth_policy_guards_an_ingress_and_adds_to_a_routes_own() {
    let backend = Backend::named("ok");
    let service = e2e::folder::service("web", &[backend.address]);
    let ingress = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: plain, namespace: shop}}\nspec:\n  \
         ingressClassName: baribhara\n  rules:\n  - host: {HOST}\n    http:\n      paths:\n      \
         - {{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}\n"
    );
    let policy = auth_policy(
        "guard",
        "targetRefs: [{group: networking.k8s.io, kind: Ingress, name: plain}]
jwtProviders:
- {name: p, anyIssuer: true, algorithms: [HS256], jwks: {secretRef: {name: key, key: secret}}}
auth: {jwt: {providers: [p]}}",
    );
    let site = site_with(&(service + &ingress + &secret("key", "secret", SECRET) + &policy), &[]);
    assert_eq!(site.gateway.get(HOST, "/").status, 401);
    let request = Request::get(HOST, "/").header("Authorization", &format!("Bearer {}", hs(&jwt::claims())));
    assert_eq!(site.gateway.ask(&request).status, 200);
}

#[test]
fn a_rotated_secret_counts_at_once_although_verdicts_are_cached() {
    let backend = Backend::named("ok");
    let spec = format!(
        "hostnames: [{HOST}]
jwtProviders:
- {{name: p, anyIssuer: true, algorithms: [HS256], jwks: {{secretRef: {{name: key, key: secret}}}}}}
rules:
- {{name: a, auth: {{jwt: {{providers: [p]}}}}, backendRefs: [{}]}}",
        address(backend.address)
    );
    let site = site(&route("shop", &spec));
    site.folder.write("key.yaml", &secret("key", "secret", "the old secret"));
    let ask = |secret: &[u8]| {
        let token = jwt::hs256(secret, &json!({"exp": 4_000_000_000u64, "sub": "ada"}));
        site.gateway.ask(&Request::get(HOST, "/").header("Authorization", &format!("Bearer {token}"))).status
    };
    e2e::until::until("the first secret is live", || (ask(b"the old secret") == 200).then_some(()));
    for _ in 0..20 {
        assert_eq!(ask(b"the old secret"), 200);
    }
    site.folder.write("key.yaml", &secret("key", "secret", "the new secret"));
    e2e::until::until("the second secret is live", || (ask(b"the new secret") == 200).then_some(()));
    // On every worker, whatever it had cached.
    for _ in 0..20 {
        assert_eq!(ask(b"the old secret"), 401);
    }
}
