//! Tests of the whole source against a small API server.

use std::time::{Duration, Instant};

use ir::{Action, Config, ControlState, Kind};
use serde_json::{Value, json};
use translate::Settings;

use super::super::{ClusterSettings, ClusterSource, load_cluster};
use super::fake::{Fake, GRANTS, LIMITS, Mood, OLD_GRANTS, ROUTES, SECRETS, SERVICES};
use super::{guarded_route, route};
use crate::error::ControllerError;
use crate::running::Running;
use crate::testing::{TempDir, check_certificate};

/// Far longer than anything here takes; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(30);

/// What would have to stay a secret.
const CANARY: &str = "canary-9f2b61";

struct Bench {
    fake: Fake,
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let (fake, dir) = (Fake::start(), TempDir::new());
        dir.write("kubeconfig", &fake.kubeconfig());
        Self { fake, dir }
    }

    fn cluster(&self) -> ClusterSettings {
        let kubeconfig = Some(self.dir.file("kubeconfig"));
        ClusterSettings { kubeconfig, ..ClusterSettings::default() }
    }

    fn start(&self) -> Running {
        ClusterSource::start(self.cluster(), settings(), check_certificate).unwrap()
    }
}

/// Routes of no class are taken, and addresses, so that a route needs nothing else.
fn settings() -> Settings {
    Settings::folder()
}

/// Waits for the condition; `what` is for the message.
fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn names(config: &Config) -> Vec<String> {
    config.routes.keys().map(|id| id.object.name.to_string()).collect()
}

fn wait_for_routes(running: &Running, want: &[&str]) {
    wait(&format!("routes {want:?}"), || {
        let config = running.config.borrow();
        config.generation > 0 && names(&config) == want
    });
}

fn keys(secret: &str) -> Value {
    let key = json!({"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ", "alg": "HS256", "kid": secret});
    let set = json!({"keys": [key]}).to_string();
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "shop"},
        "data": {"jwks.json": base64(set.as_bytes())},
    })
}

fn base64(bytes: &[u8]) -> String {
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())).unwrap().as_str().unwrap().to_owned()
}

/// Whether the only rule of the route fails closed.
fn is_closed(config: &Config, name: &str) -> bool {
    let route = config.routes.iter().find(|(id, _)| &*id.object.name == name).unwrap().1;
    matches!(route.action, Action::Fail(_))
}

#[test]
fn all_pages_of_all_kinds_are_read_before_anything_is_published() {
    let bench = Bench::new();
    for name in ["a", "b", "c", "d", "e"] {
        bench.fake.apply(ROUTES, route(name, 1));
    }
    bench.fake.mood(SERVICES, Mood::Silent);
    let running = bench.start();
    wait("the routes are listed", || bench.fake.requests().iter().any(|path| path.contains("continue=4")));
    assert_eq!(running.config.borrow().generation, 0, "a kind is missing");
    drop(running);
    bench.fake.mood(SERVICES, Mood::Well);
    let running = bench.start();
    wait_for_routes(&running, &["a", "b", "c", "d", "e"]);
    assert_eq!(running.config.borrow().generation, 1);
    running.stop();
}

#[test]
fn a_watch_that_panics_begins_again_and_loses_nothing() {
    let bench = Bench::new();
    bench.fake.apply(ROUTES, route("a", 1));
    let running = bench.start();
    wait_for_routes(&running, &["a"]);
    let mut bad = route("b", 1);
    bad["metadata"]["annotations"] = json!({ super::PANIC: "" });
    bench.fake.apply(ROUTES, bad);
    // The list that follows has it.
    wait_for_routes(&running, &["a", "b"]);
    assert_eq!(running.state.borrow().watch_restarts, 1);
    bench.fake.delete(ROUTES, "shop", "a");
    wait_for_routes(&running, &["b"]);
    wait("all watches stand", || running.state.borrow().watches.values().all(|stands| *stands));
    running.stop();
}

#[test]
fn events_of_a_watch_are_followed() {
    let bench = Bench::new();
    let running = bench.start();
    wait_for_routes(&running, &[]);
    bench.fake.apply(ROUTES, route("a", 1));
    wait_for_routes(&running, &["a"]);
    bench.fake.apply(ROUTES, route("b", 1));
    wait_for_routes(&running, &["a", "b"]);
    bench.fake.delete(ROUTES, "shop", "a");
    wait_for_routes(&running, &["b"]);
    running.stop();
}

#[test]
fn a_forgotten_version_leads_to_one_new_list_and_never_to_a_table_in_between() {
    let bench = Bench::new();
    bench.fake.apply(ROUTES, route("a", 1));
    bench.fake.apply(ROUTES, route("b", 1));
    let running = bench.start();
    wait_for_routes(&running, &["a", "b"]);
    // A watch that begins later would be told of what was done silently.
    wait("the watch stands", || running.state.borrow().watches.get(&Kind::GatewayRoute) == Some(&true));
    let generation = running.config.borrow().generation;
    bench.fake.silently(|fake| {
        fake.delete(ROUTES, "shop", "a");
        fake.apply(ROUTES, route("c", 1));
        fake.apply(ROUTES, route("d", 1));
    });
    bench.fake.forget();
    bench.fake.cut_watches();
    wait_for_routes(&running, &["b", "c", "d"]);
    assert_eq!(running.config.borrow().generation, generation + 1, "all of it at once");
    assert!(running.state.borrow().watches[&Kind::GatewayRoute]);
    running.stop();
}

#[test]
fn a_watch_that_fails_is_down_until_it_stands_again_and_what_was_read_stays() {
    let bench = Bench::new();
    bench.fake.apply(ROUTES, route("a", 1));
    let running = bench.start();
    wait_for_routes(&running, &["a"]);
    let stands = |state: &ControlState, kind: Kind| state.watches.get(&kind).copied();
    wait("all watches stand", || running.state.borrow().watches.values().all(|stands| *stands));
    bench.fake.mood(ROUTES, Mood::Status(503));
    bench.fake.cut_watches();
    wait("the watch is down", || stands(&running.state.borrow(), Kind::GatewayRoute) == Some(false));
    assert_eq!(names(&running.config.borrow()), ["a"]);
    wait("the others stand", || stands(&running.state.borrow(), Kind::Service) == Some(true));
    bench.fake.apply(ROUTES, route("b", 1));
    bench.fake.mood(ROUTES, Mood::Well);
    wait("the watch stands again", || stands(&running.state.borrow(), Kind::GatewayRoute) == Some(true));
    wait_for_routes(&running, &["a", "b"]);
    running.stop();
}

#[test]
fn a_cluster_without_grants_and_without_our_kinds_is_served_and_told_what_to_install() {
    let bench = Bench::new();
    for path in [ROUTES, LIMITS] {
        bench.fake.mood(path, Mood::Status(404));
    }
    let running = bench.start();
    wait_for_routes(&running, &[]);
    wait("it is said", || running.problems.borrow().lines.len() == 2);
    let lines: Vec<String> = running.problems.borrow().lines.iter().map(ToString::to_string).collect();
    assert!(
        lines[0]
            .starts_with("GatewayRoute: the cluster has no GatewayRoute of gateway.baribhara.io/v1alpha1")
    );
    assert!(lines[0].ends_with("`baribhara crds | kubectl apply -f -`"), "{lines:?}");
    assert_eq!(running.problems.borrow().rejected_objects, 0);
    let state = running.state.borrow().clone();
    assert!(state.watches[&Kind::ReferenceGrant], "nothing is missed");
    assert!(!state.watches[&Kind::GatewayRoute]);
    let asked = bench.fake.requests();
    assert!(
        asked.iter().any(|path| path.starts_with(GRANTS))
            && asked.iter().any(|path| path.starts_with(OLD_GRANTS))
    );
    // Installed while the gateway runs.
    bench.fake.apply(ROUTES, route("a", 1));
    bench.fake.mood(ROUTES, Mood::Well);
    wait_for_routes(&running, &["a"]);
    wait("the other one is still missing", || running.problems.borrow().lines.len() == 1);
    running.stop();
}

#[test]
fn grants_of_the_older_version_are_read() {
    let bench = Bench::new();
    let grant = json!({
        "metadata": {"name": "g", "namespace": "shop"},
        "spec": {"from": [{"group": "", "kind": "X", "namespace": "n"}], "to": [{"group": "", "kind": "Service"}]},
    });
    bench.fake.apply(OLD_GRANTS, grant);
    let running = bench.start();
    wait_for_routes(&running, &[]);
    let outlook = running.cluster.as_ref().unwrap().outlook.clone();
    let grants =
        || outlook.borrow().snapshot.objects().filter(|object| object.kind() == Kind::ReferenceGrant).count();
    wait("the grant is there", || grants() == 1);
    running.stop();
}

#[test]
fn a_secret_is_fetched_when_it_is_named_follows_its_rotation_and_closes_its_route_when_it_is_gone() {
    let bench = Bench::new();
    bench.fake.apply(SECRETS, keys("first"));
    let mut other = keys("other");
    other["metadata"]["name"] = json!("other");
    bench.fake.apply(SECRETS, other);
    bench.fake.apply(ROUTES, route("open", 1));
    let running = bench.start();
    wait_for_routes(&running, &["open"]);
    bench.fake.apply(ROUTES, guarded_route("guarded"));
    wait_for_routes(&running, &["guarded", "open"]);
    assert!(!is_closed(&running.config.borrow(), "guarded"), "the key was there before the route");
    let has = |kid: &str| format!("{:?}", running.config.borrow().routes).contains(kid);
    assert!(has("first"));
    bench.fake.apply(SECRETS, keys("second"));
    wait("the new key", || has("second") && !has("first"));
    bench.fake.delete(SECRETS, "shop", "keys");
    wait("closed without its key", || is_closed(&running.config.borrow(), "guarded"));
    assert!(!is_closed(&running.config.borrow(), "open"));
    bench.fake.apply(SECRETS, keys("third"));
    wait("open again", || has("third"));
    let fetched = bench.fake.requests();
    assert!(!fetched.iter().any(|path| path.contains("secrets/other")), "nobody names it");
    running.stop();
}

#[test]
fn a_secret_that_cannot_be_read_is_told_of_without_a_byte_of_it() {
    let bench = Bench::new();
    let mut bad = keys("first");
    bad["data"] = json!({"jwks.json": 7, "other": CANARY});
    bench.fake.apply(SECRETS, bad);
    bench.fake.apply(ROUTES, guarded_route("guarded"));
    let running = bench.start();
    wait_for_routes(&running, &["guarded"]);
    wait("it is said", || {
        running.problems.borrow().lines.iter().any(|line| line.object == "Secret/shop/keys")
    });
    assert_eq!(running.problems.borrow().rejected_objects, 1);
    let said = format!("{:?}", running.problems.borrow());
    assert!(!said.contains(CANARY) && !said.contains("jwks.json\": 7"), "{said}");
    running.stop();
}

/// Starts with a route that has its certificate in the Secret `shop/keys`.
fn start_with_tls(bench: &Bench) -> Running {
    let mut secure = route("secure", 1);
    secure["spec"]["hostnames"] = json!(["secure.example.com"]);
    secure["spec"]["tls"] = json!({"secretRef": {"name": "keys"}});
    bench.fake.apply(ROUTES, secure);
    let running = bench.start();
    wait_for_routes(&running, &["secure"]);
    running
}

#[test]
fn a_certificate_that_cannot_be_served_leaves_the_one_before_it_and_is_told_of() {
    let bench = Bench::new();
    let secret = |chain: &str| {
        json!({
            "metadata": {"name": "keys", "namespace": "shop"},
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": chain, "tls.key": "a2V5"},
        })
    };
    bench.fake.apply(SECRETS, secret("Z29vZA=="));
    let running = start_with_tls(&bench);
    let chains = || {
        let config = running.config.borrow();
        let chain =
            |host: &std::sync::Arc<ir::TlsHost>| host.certificate.as_ref().map(|c| c.chain_pem.clone());
        config.tls.hosts.values().map(chain).collect::<Vec<_>>()
    };
    assert_eq!(chains(), [Some(b"good".to_vec())], "the certificate was there with its route");
    bench.fake.apply(SECRETS, secret("YmFk"));
    let said = |text: &str| running.problems.borrow().lines.iter().any(|line| line.message.contains(text));
    wait("it is said of the Secret and of the route", || {
        said("its certificate cannot be served: it is bad") && said("its last good version is served")
    });
    assert_eq!(chains(), [Some(b"good".to_vec())]);
    // A command that reads the cluster once has no version before it, and says the same of the Secret.
    let once = load_cluster(&bench.cluster(), settings(), check_certificate).unwrap();
    let told =
        |line: &crate::Problem| line.message.contains("the Secret 'keys' cannot be used (its certificate");
    assert!(once.problems.lines.iter().any(told), "{:?}", once.problems.lines);
    bench.fake.apply(SECRETS, secret("YmV0dGVy"));
    wait("the new one", || chains() == [Some(b"better".to_vec())] && !said("last good"));
    bench.fake.delete(SECRETS, "shop", "keys");
    wait("none is left", || chains() == [None] && said("there is no Secret 'shop/keys'"));
    running.stop();
}

#[test]
fn an_ocsp_response_that_is_not_stapled_is_told_of_and_its_certificate_is_served() {
    let bench = Bench::new();
    let secret = |response: &str| {
        json!({
            "metadata": {"name": "keys", "namespace": "shop"},
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": "Z29vZA==", "tls.key": "a2V5", "tls.ocsp-staple": response},
        })
    };
    bench.fake.apply(SECRETS, secret("c3RhbGU="));
    let running = start_with_tls(&bench);
    let certificates = || {
        let config = running.config.borrow();
        config.tls.hosts.values().filter(|host| host.certificate.is_some()).count()
    };
    let said = |object: &str, text: &str| {
        let problems = running.problems.borrow();
        problems.lines.iter().any(|line| line.object == object && line.message.contains(text))
    };
    wait("it is said of the Secret and of the route", || {
        said("Secret/shop/keys", "its OCSP response is not stapled")
            && said(
                "GatewayRoute/shop/secure",
                "'tls.ocsp-staple' of the Secret 'keys' is not stapled (it is stale)",
            )
    });
    assert_eq!(certificates(), 1);
    bench.fake.apply(SECRETS, secret("ZnJlc2g="));
    wait("nothing is said of a fresh one", || running.problems.borrow().lines.is_empty());
    assert_eq!(certificates(), 1);
    running.stop();
}

#[test]
fn the_default_certificate_is_read_though_no_object_names_it() {
    let bench = Bench::new();
    let data = json!({"tls.crt": "Z29vZA==", "tls.key": "a2V5"});
    bench.fake.apply(SECRETS, json!({"metadata": {"name": "keys", "namespace": "shop"}, "data": data}));
    bench.fake.apply(ROUTES, route("open", 1));
    let settings =
        Settings { default_tls_secret: Some(("shop".to_owned(), "keys".to_owned())), ..settings() };
    let running = ClusterSource::start(bench.cluster(), settings.clone(), check_certificate).unwrap();
    wait_for_routes(&running, &["open"]);
    assert!(running.config.borrow().tls.default.is_some(), "the first generation has it");
    running.stop();
    let loaded = load_cluster(&bench.cluster(), settings, check_certificate).unwrap();
    assert!(loaded.config.tls.default.is_some());
}

#[test]
fn an_object_that_does_not_fit_harms_only_itself() {
    let bench = Bench::new();
    let mut bad = route("bad", 1);
    bad["spec"]["rules"] = json!("none");
    bench.fake.apply(ROUTES, bad);
    bench.fake.apply(ROUTES, route("good", 1));
    let running = bench.start();
    wait_for_routes(&running, &["good"]);
    wait("it is said", || running.problems.borrow().rejected_objects == 1);
    assert_eq!(running.problems.borrow().lines[0].object, "GatewayRoute/shop/bad");
    running.stop();
}

#[test]
fn a_restart_without_the_api_server_serves_the_copy_and_the_truth_afterwards() {
    let bench = Bench::new();
    let cluster = ClusterSettings { last_good: Some(bench.dir.file("copy")), ..bench.cluster() };
    bench.fake.apply(SECRETS, keys("first"));
    bench.fake.apply(ROUTES, guarded_route("guarded"));
    let running = ClusterSource::start(cluster.clone(), settings(), check_certificate).unwrap();
    wait_for_routes(&running, &["guarded"]);
    let file = bench.dir.file("copy/objects.json");
    wait("the copy", || file.exists());
    assert!(!running.state.borrow().last_good_in_use);
    running.stop();
    for path in ["/api/", "/apis/"] {
        bench.fake.mood(path, Mood::Status(503));
    }
    let running = ClusterSource::start(cluster, settings(), check_certificate).unwrap();
    wait_for_routes(&running, &["guarded"]);
    assert!(!is_closed(&running.config.borrow(), "guarded"), "its key is in the copy");
    assert!(running.state.borrow().last_good_in_use);
    bench.fake.apply(ROUTES, route("new", 1));
    for path in ["/api/", "/apis/"] {
        bench.fake.mood(path, Mood::Well);
    }
    wait_for_routes(&running, &["guarded", "new"]);
    wait("the truth", || !running.state.borrow().last_good_in_use);
    running.stop();
}

#[test]
fn a_cluster_is_read_once_for_a_command() {
    let bench = Bench::new();
    bench.fake.apply(SECRETS, keys("first"));
    bench.fake.apply(ROUTES, guarded_route("guarded"));
    bench.fake.apply(ROUTES, route("open", 1));
    bench.fake.mood(LIMITS, Mood::Status(404));
    let loaded = load_cluster(&bench.cluster(), settings(), check_certificate).unwrap();
    assert_eq!(names(&loaded.config), ["guarded", "open"]);
    assert!(!is_closed(&loaded.config, "guarded"));
    assert!(
        loaded.problems.lines.iter().any(|line| line.object == "RateLimitPolicy"),
        "{:?}",
        loaded.problems
    );
}

#[test]
fn a_command_says_which_right_is_missing_and_which_server_is_away() {
    let bench = Bench::new();
    bench.fake.mood(ROUTES, Mood::Status(403));
    let error = load_cluster(&bench.cluster(), settings(), check_certificate).unwrap_err();
    let url = format!("http://{}/", bench.fake.address);
    assert_eq!(
        error.to_string(),
        format!(
            "the cluster at {url} does not allow to list gatewayroutes.gateway.baribhara.io in the whole cluster; \
             grant it by a Role or ClusterRole"
        )
    );
    let cluster = bench.cluster();
    let Bench { fake, dir } = bench;
    drop(fake);
    let error = load_cluster(&cluster, settings(), check_certificate).unwrap_err();
    assert!(matches!(error, ControllerError::ClusterUnreadable { .. }), "{error}");
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    drop(dir);
}

#[test]
fn without_a_way_to_a_cluster_nothing_starts() {
    let dir = TempDir::new();
    let cluster = ClusterSettings { kubeconfig: Some(dir.file("none")), ..ClusterSettings::default() };
    let error = ClusterSource::start(cluster, settings(), check_certificate).unwrap_err();
    assert!(matches!(error, ControllerError::KubeconfigUnusable { .. }), "{error}");
}

/// A route for those who have a key in a Secret with the label `tier: gold`.
fn keyed_route(name: &str) -> Value {
    let mut route = route(name, 1);
    let keys = json!({"secretSelector": {"matchLabels": {"tier": "gold"}}});
    route["spec"]["rules"][0]["auth"] = json!({"apiKey": keys});
    route
}

fn client_key(name: &str, tier: &str, client: &str) -> Value {
    let key = base64(format!("{CANARY}-0123456789-{client}").as_bytes());
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": "shop", "labels": {"tier": tier}},
        "data": {client: key},
    })
}

/// The clients that the routes know by their keys.
fn clients(config: &Config) -> Vec<String> {
    let keys = config.routes.values().flat_map(|route| &route.auth).filter_map(|auth| auth.api_key.as_ref());
    keys.flat_map(|keys| &keys.keys).map(|key| key.client.to_string()).collect()
}

#[test]
fn secrets_are_taken_by_their_labels_before_the_first_config_and_followed_after_it() {
    let bench = Bench::new();
    bench.fake.apply(ROUTES, keyed_route("a"));
    bench.fake.apply(SECRETS, client_key("one", "gold", "acme"));
    bench.fake.apply(SECRETS, client_key("two", "silver", "initech"));
    let loaded = load_cluster(&bench.cluster(), settings(), check_certificate).unwrap();
    assert_eq!(clients(&loaded.config), ["acme"]);

    let running = bench.start();
    wait_for_routes(&running, &["a"]);
    assert_eq!(running.config.borrow().generation, 1);
    assert_eq!(clients(&running.config.borrow()), ["acme"], "nobody is refused because the gateway starts");
    let wait_for_clients = |want: &[&str]| {
        wait(&format!("clients {want:?}"), || clients(&running.config.borrow()) == want);
    };
    bench.fake.apply(SECRETS, client_key("two", "gold", "initech"));
    wait_for_clients(&["acme", "initech"]);
    bench.fake.apply(SECRETS, client_key("one", "silver", "acme"));
    wait_for_clients(&["initech"]);
    bench.fake.apply(SECRETS, client_key("three", "gold", "umbrella"));
    wait_for_clients(&["initech", "umbrella"]);
    bench.fake.delete(SECRETS, "shop", "two");
    wait_for_clients(&["umbrella"]);
    let fetched =
        |name: &str| bench.fake.requests().iter().any(|path| path.ends_with(&format!("/secrets/{name}")));
    assert!(fetched("three"));
    bench.fake.apply(SECRETS, client_key("four", "silver", "hooli"));
    bench.fake.apply(SECRETS, client_key("five", "gold", "hooli"));
    wait_for_clients(&["hooli", "umbrella"]);
    assert!(!fetched("four"), "a Secret that nobody takes was read");
    running.stop();
}
