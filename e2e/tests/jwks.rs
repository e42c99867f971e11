//! Keys by URL over the wire, from an identity provider that does what the test tells it to. The names JW10 … are those of
//! the catalogue of attacks.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::backend::{Backend, Reply};
use e2e::certificate::Authority;
use e2e::client::{Request, Response};
use e2e::folder::{auth_policy, route, secret};
use e2e::jwt::{self, Signer};
use e2e::load::{Load, Plan};
use e2e::tls_backend::{TlsBackend, server_config};
use e2e::until::until;
use serde_json::{Value, json};

use crate::site::{HOST, Site, address, site};

const OWN: &str = "a secret of the key set tests, long enough for HS256";

/// An identity provider.
struct Issuer {
    backend: Backend,
    reply: Arc<Mutex<Reply>>,
}

impl Issuer {
    fn start(first: Reply) -> Self {
        let reply = Arc::new(Mutex::new(first));
        let script = Arc::clone(&reply);
        Self { backend: Backend::start(move |_| script.lock().unwrap().clone()), reply }
    }

    fn with(keys: &[(&Signer, &str)]) -> Self {
        Self::start(set(keys))
    }

    fn now(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    fn asked(&self) -> usize {
        self.backend.arrived().len()
    }

    fn uri(&self) -> String {
        format!("http://{}/jwks?client=uri-canary", self.backend.address)
    }
}

fn set(keys: &[(&Signer, &str)]) -> Reply {
    let keys: Vec<Value> = keys.iter().map(|(signer, kid)| signer.jwk(kid)).collect();
    Reply::ok(&json!({"keys": keys}).to_string())
}

/// The connection breaks as soon as something is asked.
fn dead() -> Reply {
    Reply::BytesThenReset(Vec::new())
}

/// `/corp` takes tokens whose keys are fetched, `/own` those of a Secret, `/open` everybody.
fn routes(backend: &Backend, uri: &str, more: &str) -> String {
    let to = address(backend.address);
    route(
        "shop",
        &format!(
            "hostnames: [{HOST}]
jwtProviders:
- name: corp
  issuer: https://id.example.com/
  audiences: [shop-api]
  jwks: {{remote: {{uri: \"{uri}\", timeout: 500ms{more}}}}}
- name: own
  issuer: https://id.example.com/
  audiences: [shop-api]
  algorithms: [HS256]
  jwks: {{secretRef: {{name: key, key: secret}}}}
rules:
- name: corp
  matches: [{{path: {{type: PathPrefix, value: /corp}}}}]
  auth: {{jwt: {{providers: [corp]}}}}
  backendRefs: [{to}]
- name: own
  matches: [{{path: {{type: PathPrefix, value: /own}}}}]
  auth: {{jwt: {{providers: [own]}}}}
  backendRefs: [{to}]
- name: open
  matches: [{{path: {{type: PathPrefix, value: /open}}}}]
  backendRefs: [{to}]"
        ),
    ) + &secret("key", "secret", OWN)
}

fn bearer(path: &str, token: &str) -> Request {
    Request::get(HOST, path).header("Authorization", &format!("Bearer {token}"))
}

fn ask(site: &Site, path: &str, token: &str) -> Response {
    site.gateway.ask(&bearer(path, token))
}

fn assert_unavailable(response: &Response) {
    assert_eq!(response.status, 503, "{}", response.text());
    assert_eq!(response.header("retry-after"), Some("5"));
    assert!(response.header("www-authenticate").is_none(), "nothing would help");
}

fn until_keys(site: &Site, signer: &Signer, kid: &str) {
    let token = signer.token(kid, &jwt::claims());
    until("the keys are there", || (ask(site, "/corp", &token).status == 200).then_some(()));
}

const KEYS: &str = "baribhara_jwks_keys{provider=\"shop/shop/corp\"}";
const FAILURES: &str = "baribhara_jwks_fetch_failures_total{provider=\"shop/shop/corp\"}";
const REFETCHES: &str = "baribhara_jwks_refetches_total{provider=\"shop/shop/corp\"}";

#[test]
fn jw10_a_provider_that_is_down_at_the_start_closes_its_route_and_no_other() {
    let (backend, issuer, signer) = (Backend::named("ok"), Issuer::start(dead()), Signer::p256());
    let site = site(&routes(&backend, &issuer.uri(), ""));
    let token = signer.token("a", &jwt::claims());
    assert_unavailable(&ask(&site, "/corp", &token));
    assert_unavailable(&site.gateway.get(HOST, "/corp"));
    assert_eq!(ask(&site, "/own", &jwt::hs256(OWN.as_bytes(), &jwt::claims())).status, 200);
    assert_eq!(site.gateway.get(HOST, "/open").status, 200);
    let line = site.gateway.access_line("a refusal", |line| line["reason"] == "keys_unavailable");
    assert_eq!(line["status"], 503);
    let shown = until("the failure is shown", || {
        let config: Value = serde_json::from_str(&site.gateway.admin_text("/config")).unwrap();
        let shown = config["key_sets"]["GatewayRoute/shop/shop"]["corp"].clone();
        (shown["phase"] == "Unavailable").then_some(shown)
    });
    assert!(shown["error"].as_str().is_some_and(|error| !error.is_empty()), "{shown}");
    let question = json!({"method": "GET", "url": format!("http://{HOST}/corp")}).to_string();
    let explained = Request::new("POST", "admin", "/explain").body(question);
    let explained = e2e::client::ask(site.gateway.admin, &explained).unwrap().text();
    for part in [
        &format!("corp from http://{}/jwks?[redacted]", issuer.backend.address),
        "corp Unavailable, 0 keys: ",
    ] {
        assert!(explained.contains(part), "{part}: {explained}");
    }
    assert_eq!(site.gateway.metric(KEYS) as u32, 0);
    assert!(site.gateway.metric(FAILURES) >= 1.0);
    assert!(
        !backend.arrived().iter().any(|arrived| arrived.target().starts_with("/corp")),
        "nothing got through"
    );
    // By itself, with nobody touching anything.
    issuer.now(set(&[(&signer, "a")]));
    until_keys(&site, &signer, "a");
    assert_eq!(site.gateway.get(HOST, "/corp").status, 401);
    assert_eq!(site.gateway.metric(KEYS) as u32, 1);
    assert!(site.gateway.metric("baribhara_jwks_age_seconds{provider=\"shop/shop/corp\"}") < 60.0);
}

#[test]
fn keys_are_there_before_the_first_request_asks_for_them() {
    let (backend, signer) = (Backend::named("ok"), Signer::ed25519());
    let issuer = Issuer::with(&[(&signer, "a")]);
    let site = site(&routes(&backend, &issuer.uri(), ""));
    until("the keys are fetched, and nobody asked", || (site.gateway.metric(KEYS) >= 1.0).then_some(()));
    assert_eq!(issuer.asked(), 1);
    let token = signer.token("a", &jwt::claims());
    for _ in 0..50 {
        assert_eq!(ask(&site, "/corp", &token).status, 200);
    }
    assert_eq!(issuer.asked(), 1, "one set for both workers");
    // A change of the route that is none of the keys' costs nobody anything.
    site.folder.write(
        "all.yaml",
        &routes(&backend, &issuer.uri(), ", cacheDuration: 5m").replace("/open", "/opened"),
    );
    until("the change is live", || (site.gateway.get(HOST, "/opened").status == 200).then_some(()));
    assert_eq!(ask(&site, "/corp", &token).status, 200);
}

#[test]
fn jw11_a_provider_that_dies_refuses_nobody_until_its_keys_are_too_old() {
    let (backend, signer) = (Backend::named("ok"), Signer::p256());
    let issuer = Issuer::with(&[(&signer, "a")]);
    let site = site(&routes(&backend, &issuer.uri(), ", cacheDuration: 10s, maxStale: 20s"));
    until_keys(&site, &signer, "a");
    let fetched = Instant::now();
    // Tokens that were seen before and tokens that were not, from the moment the provider dies on.
    let tokens: Vec<String> = (0..2000)
        .map(|n| {
            let mut claims = jwt::claims();
            claims["sub"] = json!(format!("user-{n}"));
            signer.token("a", &claims)
        })
        .collect();
    issuer.now(dead());
    let plan = Plan {
        request: Arc::new(move |n| bearer("/corp", &tokens[n as usize % 2000])),
        ..Plan::get(HOST, "/corp")
    };
    let load = Load::start(site.gateway.http, 2, &plan);
    // A refresh comes due and fails, again and again; then the provider says nothing at all.
    until("refreshes fail", || (site.gateway.metric(FAILURES) >= 2.0).then_some(()));
    issuer.now(Reply::Silence);
    until("most of the time has passed", || (fetched.elapsed() > Duration::from_secs(12)).then_some(()));
    let tally = load.stop();
    tally.assert_clean();
    assert!(tally.succeeded > 1000, "{tally:?}");
    assert!(site.gateway.metric(KEYS) >= 1.0);
    // Then they are too old: closed, not open, and not 401.
    let token = signer.token("a", &jwt::claims());
    let response = until("the keys are too old", || {
        let response = ask(&site, "/corp", &token);
        (response.status != 200).then_some(response)
    });
    assert_unavailable(&response);
    assert!(fetched.elapsed() > Duration::from_secs(18), "{:?}", fetched.elapsed());
    issuer.now(set(&[(&signer, "a")]));
    until_keys(&site, &signer, "a");
}

#[test]
fn jw12_hostile_answers_leave_the_old_keys() {
    let (backend, signer, eve) = (Backend::named("ok"), Signer::p256(), Signer::p256());
    let issuer = Issuer::with(&[(&signer, "a")]);
    let other = Issuer::with(&[(&eve, "e")]);
    let site = site(&routes(&backend, &issuer.uri(), ", cacheDuration: 10s"));
    until_keys(&site, &signer, "a");
    let huge =
        format!("HTTP/1.1 200 X\r\nContent-Length: 10485760\r\n\r\n{}", " ".repeat(300 << 10)).into_bytes();
    let away =
        format!("HTTP/1.1 302 X\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", other.uri()).into_bytes();
    let zipped = "HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x08\x08".into();
    for (name, reply) in [
        ("10 MB", Reply::BytesThenClose(huge)),
        ("another host", Reply::Bytes(away)),
        ("gzip", Reply::Bytes(zipped)),
        ("HTML", Reply::ok("<html>sign in</html>")),
    ] {
        let failures = site.gateway.metric(FAILURES);
        issuer.now(reply);
        // An unknown key asks for a fetch at once; without it the next one comes by itself.
        let token = eve.token("e", &jwt::claims());
        assert_ne!(ask(&site, "/corp", &token).status, 200, "{name}");
        until(name, || (site.gateway.metric(FAILURES) > failures).then_some(()));
        assert_eq!(ask(&site, "/corp", &signer.token("a", &jwt::claims())).status, 200, "{name}");
    }
    assert_eq!(other.asked(), 0, "nobody else is asked");
}

#[test]
fn jw13_a_flood_of_unknown_keys_asks_the_provider_once_and_keeps_nobody_waiting() {
    let (backend, signer, eve) = (Backend::named("ok"), Signer::p256(), Signer::ed25519());
    let issuer = Issuer::with(&[(&signer, "a")]);
    let site = site(&routes(&backend, &issuer.uri(), ""));
    until_keys(&site, &signer, "a");
    assert_eq!(issuer.asked(), 1);
    let tokens: Vec<String> = (0..500).map(|n| eve.token(&format!("unknown-{n}"), &jwt::claims())).collect();
    let is_refused = |response: &Response| match response.status {
        401 => Ok(()),
        status => Err(format!("status {status}: {}", response.text())),
    };
    let flood = Plan {
        request: Arc::new(move |n| bearer("/corp", &tokens[n as usize % 500])),
        judge: Arc::new(is_refused),
    };
    let began = Instant::now();
    let flood = Load::start(site.gateway.http, 4, &flood);
    let token = signer.token("a", &jwt::claims());
    let mut took = Vec::new();
    while began.elapsed() < Duration::from_secs(4) {
        let asked = Instant::now();
        assert_eq!(ask(&site, "/corp", &token).status, 200);
        took.push(asked.elapsed());
    }
    let flood = flood.stop();
    let seconds = began.elapsed().as_secs();
    flood.assert_clean();
    assert!(flood.succeeded > 1000, "{flood:?}");
    let most = 1 + 1 + seconds / 10;
    assert!(issuer.asked() as u64 <= most, "{} fetches in {seconds} s", issuer.asked());
    assert!((site.gateway.metric(REFETCHES) as u64) < most);
    // One in a hundred may meet a machine that stands still for a moment.
    took.sort();
    let slow = took[took.len() * 99 / 100];
    assert!(slow < Duration::from_millis(250), "a known token waited {slow:?}, {} times", took.len());
}

#[test]
fn jw14_a_new_key_is_taken_within_a_second_of_its_first_use_and_an_old_one_is_out() {
    let (backend, old, new) = (Backend::named("ok"), Signer::p256(), Signer::ed25519());
    let issuer = Issuer::with(&[(&old, "old")]);
    let site = site(&routes(&backend, &issuer.uri(), ""));
    until_keys(&site, &old, "old");
    issuer.now(set(&[(&new, "new")]));
    let began = Instant::now();
    let first = ask(&site, "/corp", &new.token("new", &jwt::claims()));
    assert_eq!(first.status, 200, "{}", first.text());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(issuer.asked(), 2);
    // JW17: the token's verdict was known, and goes with its key.
    assert_eq!(ask(&site, "/corp", &old.token("old", &jwt::claims())).status, 401);
    assert_eq!(site.gateway.metric(REFETCHES) as u32, 1);
}

#[test]
fn jw15_tokens_that_nobody_can_judge_are_refused_in_a_second_whatever_the_provider_does() {
    let (backend, signer, new) = (Backend::named("ok"), Signer::p256(), Signer::p256());
    let issuer = Issuer::with(&[(&signer, "a")]);
    let site = site(&routes(&backend, &issuer.uri(), ""));
    until_keys(&site, &signer, "a");
    let (known, unknown) = (signer.token("a", &jwt::claims()), new.token("b", &jwt::claims()));
    issuer.now(dead());
    let began = Instant::now();
    // Its key may be new: a 401 would be wrong, and nobody can tell.
    assert_unavailable(&ask(&site, "/corp", &unknown));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_unavailable(&ask(&site, "/corp", &unknown));
    assert_eq!(ask(&site, "/corp", &known).status, 200);
    let two = bearer("/corp", &known).header("Authorization", &format!("Bearer {unknown}"));
    assert_eq!(site.gateway.ask(&two).status, 401, "two tokens are none");
    let both = bearer(&format!("/corp?access_token={unknown}"), &known);
    assert_eq!(site.gateway.ask(&both).status, 200, "only places that are configured count");
    assert_eq!(site.gateway.metric("baribhara_panics_total") as u32, 0);
}

#[test]
fn jw16_urls_that_lead_where_none_may_are_refused_before_anything_is_asked() {
    let backend = Backend::named("ok");
    for uri in [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "https://[fe80::1]/jwks",
        "file:///etc/passwd",
        "https://user:password-canary@id.example.com/jwks",
    ] {
        let site = site(&routes(&backend, uri, ""));
        let token = Signer::p256().token("a", &jwt::claims());
        assert_eq!(ask(&site, "/corp", &token).status, 500, "{uri}");
        assert_eq!(site.gateway.get(HOST, "/open").status, 200, "{uri}");
        site.gateway.process.until_told("jwtProviders[0].jwks.remote.uri");
        let said = site.gateway.process.stderr().join("\n");
        assert!(!said.contains("password-canary"), "{said}");
    }
}

#[test]
fn a_private_authority_vouches_for_the_provider_and_nobody_else_does() {
    let (backend, signer) = (Backend::named("ok"), Signer::p256());
    let (authority, stranger) = (Authority::new(), Authority::named("stranger"));
    let own = authority.issue(&["localhost"]);
    let body: &'static str = Box::leak(jwt::jwks(&[&signer]).into_boxed_str());
    let issuer = TlsBackend::start(body, server_config(&[&own], &["http/1.1"], None));
    let uri = format!("https://localhost:{}/jwks", issuer.address.port());
    let with = |name: &str| {
        routes(&backend, &uri, &format!(", caRef: {{kind: ConfigMap, name: {name}}}"))
            + &authority.config_map("good")
            + &stranger.config_map("bad")
    };
    let site = site(&with("good"));
    until_keys(&site, &signer, "k0");
    assert!(issuer.heads().iter().all(|head| head.starts_with("GET /jwks HTTP/1.1\r\n")));
    site.folder.write("all.yaml", &with("bad"));
    let token = signer.token("k0", &jwt::claims());
    let refused = until("the keys of the other are not believed", || {
        let response = ask(&site, "/corp", &token);
        (response.status != 200).then_some(response)
    });
    assert_unavailable(&refused);
    let shown = until("why", || {
        let shown = site.gateway.admin_text("/config");
        shown.contains("UnknownIssuer").then_some(shown)
    });
    assert!(shown.contains("\"phase\":\"Unavailable\""), "{shown}");
    site.folder.write("all.yaml", &with("good"));
    until_keys(&site, &signer, "k0");
}

#[test]
fn an_ingress_is_guarded_by_a_policy_with_keys_by_url() {
    let (backend, signer) = (Backend::named("ok"), Signer::ed25519());
    let issuer = Issuer::with(&[(&signer, "a")]);
    let policy = auth_policy(
        "corp",
        &format!(
            "targetRefs: [{{group: networking.k8s.io, kind: Ingress, name: web}}]
jwtProviders:
- name: corp
  issuer: https://id.example.com/
  audiences: [shop-api]
  jwks: {{remote: {{uri: \"{}\"}}}}
auth: {{jwt: {{providers: [corp]}}}}",
            issuer.uri()
        ),
    );
    let ingress = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: web, namespace: shop}}\n\
         spec:\n  ingressClassName: baribhara\n  rules:\n  - host: {HOST}\n    http: {{paths: [{{path: /, pathType: Prefix, \
         backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}\n"
    );
    let site = site(&(ingress + &policy + &e2e::folder::service("web", &[backend.address])));
    until_keys(&site, &signer, "a");
    assert_eq!(site.gateway.get(HOST, "/corp").status, 401);
    assert!(site.gateway.metric("baribhara_jwks_keys{provider=\"shop/corp/corp\"}") >= 1.0);
}

#[test]
fn jw20_neither_log_nor_metrics_nor_the_admin_interface_show_a_token_or_the_query_of_the_url() {
    let (backend, signer) = (Backend::named("ok"), Signer::p256());
    let issuer = Issuer::with(&[(&signer, "a")]);
    let site = site(&routes(&backend, &issuer.uri(), ""));
    until_keys(&site, &signer, "a");
    let secret = "token-canary-7f3a";
    let mut claims = jwt::claims();
    claims["sub"] = json!(secret);
    let (good, bad) = (signer.token("a", &claims), Signer::p256().token("canary-kid", &claims));
    assert_eq!(ask(&site, "/corp", &good).status, 200);
    assert_eq!(ask(&site, "/corp", &bad).status, 401);
    issuer.now(Reply::ok("body-canary"));
    until("a fetch fails", || {
        ask(&site, "/corp", &Signer::p256().token("other", &claims));
        (site.gateway.metric(FAILURES) >= 1.0).then_some(())
    });
    let mut shown = site.gateway.process.stderr().join("\n");
    shown.push_str(&site.gateway.process.stdout().join("\n"));
    for path in ["/metrics", "/config", "/routes"] {
        shown.push_str(&site.gateway.admin_text(path));
    }
    for canary in ["canary", good.rsplit('.').next().unwrap(), &jwt::encode(claims.to_string())] {
        assert!(!shown.contains(canary), "{canary} is shown");
    }
}

#[test]
fn jw19_what_cannot_be_built_closes_its_route_and_never_opens_it() {
    let backend = Backend::named("ok");
    let to = address(backend.address);
    let rules: String = [
        ("unknown", "jwt: {providers: [nobody]}"),
        ("no-secret", "jwt: {providers: [gone]}"),
        ("no-authority", "jwt: {providers: [untrusted]}"),
        ("no-users", "basic: {secretRef: {name: gone}}"),
        ("policy", "disabled: true"),
        ("open", "disabled: true"),
    ]
    .iter()
    .map(|(name, auth)| {
        format!(
            "- name: {name}\n  matches: [{{path: {{type: PathPrefix, value: /{name}}}}}]\n  auth: {{{auth}}}\n  \
             backendRefs: [{to}]\n"
        )
    })
    .collect();
    let spec = format!(
        "hostnames: [{HOST}]
jwtProviders:
- {{name: gone, issuer: \"https://i/\", audiences: [a], algorithms: [HS256], jwks: {{secretRef: {{name: gone}}}}}}
- {{name: untrusted, issuer: \"https://i/\", audiences: [a], jwks: {{remote: {{uri: \"https://id.example.com/\", caRef: {{kind: Secret, name: gone}}}}}}}}
rules:
{rules}"
    );
    let policy = auth_policy(
        "floor",
        "targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop, sectionName: policy}]
jwtProviders:
- {name: gone, issuer: \"https://i/\", audiences: [a], jwks: {configMapRef: {name: gone}}}
auth: {jwt: {providers: [gone]}}",
    );
    let site = site(&(route("shop", &spec) + &policy));
    let token = jwt::hs256(OWN.as_bytes(), &jwt::claims());
    assert_eq!(site.gateway.get(HOST, "/open").status, 200);
    for path in ["/unknown", "/no-secret", "/no-authority", "/no-users", "/policy"] {
        for response in [site.gateway.get(HOST, path), ask(&site, path, &token)] {
            assert_eq!(response.status, 500, "{path}");
        }
    }
    assert_eq!(backend.arrived().len(), 1, "only the open path got through");
}

/// Each line of the catalogue has at least one test that carries its name.
#[test]
fn every_line_of_the_catalogue_of_tokens_has_a_test() {
    let root = e2e::cluster_tools::root();
    let mut left: Vec<String> = (1..=20).map(|line| format!("fn jw{line:02}_")).collect();
    let mut folders = vec![root.join("src"), root.join("e2e")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                left.retain(|name| !text.contains(name));
            }
        }
    }
    assert!(left.is_empty(), "no test for {left:?}");
}
