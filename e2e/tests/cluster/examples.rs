//! The example files: applied with kubectl they answer as from a folder, and their status says so.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::client::{self, Connection, Request, Response};
use e2e::cluster_api::{Api, condition};
use e2e::cluster_release::Release;
use e2e::cluster_report::measured;
use e2e::cluster_scene::{End, Scene, echo};
use e2e::cluster_tools::{apply_file, kubectl, root};
use e2e::echo::Echo;
use e2e::folder::{Folder, service};
use e2e::gateway::Gateway;
use e2e::jwt::{Signer, hs256, now};
use e2e::until::until;
use serde_json::{Value, json};

/// The secret of the demo, which its file says is public.
const DEMO_SECRET: &[u8] = b"this-demo-key-is-public-and-protects-nothing";

/// The time in which the limit of the Ingress, ten a second, gives back all that the cases have used.
const REFILL: Duration = Duration::from_millis(1100);

/// One request and what its answer must be.
struct Case {
    name: &'static str,
    request: Request,
    status: u16,
    check: fn(&Response) -> Result<(), String>,
}

fn case(
    name: &'static str,
    request: Request,
    status: u16,
    check: fn(&Response) -> Result<(), String>,
) -> Case {
    Case { name, request, status, check }
}

fn nothing_more(_: &Response) -> Result<(), String> {
    Ok(())
}

fn header(response: &Response, name: &str, want: &str) -> Result<(), String> {
    let got = response.header(name);
    // Names of headers stand in values too, and these are the same in any case.
    if got.is_some_and(|got| got.eq_ignore_ascii_case(want)) {
        Ok(())
    } else {
        Err(format!("{name} is {got:?}, not {want:?}"))
    }
}

fn path(response: &Response, want: &str) -> Result<(), String> {
    let got = &response.json()["path"];
    if got == want { Ok(()) } else { Err(format!("the upstream saw {got}, not {want}")) }
}

fn seen(response: &Response, name: &str, want: &[&str]) -> Result<(), String> {
    let got = response.echoed(name);
    if got == want { Ok(()) } else { Err(format!("the upstream saw {name}: {got:?}, not {want:?}")) }
}

fn from_the_canary(response: &Response) -> Result<(), String> {
    let pod = response.header("x-echo-pod").unwrap_or_default();
    if pod.starts_with("web-canary") { Ok(()) } else { Err(format!("{pod} answered")) }
}

/// The key pair of RFC 7517, appendix A: its private half stands there too.
fn corp() -> Signer {
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
    let private = decode("870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE");
    let mut public = vec![4];
    public.extend(decode("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"));
    public.extend(decode("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"));
    let pair =
        EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &private, &public);
    Signer::P256(pair.expect("a key pair"))
}

fn token(audience: &str, more: &Value) -> String {
    let mut claims =
        json!({"iss": "https://id.example.com/", "aud": audience, "sub": "ada", "exp": now() + 3600});
    for (name, value) in more.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    corp().token("1", &claims)
}

fn bearer(request: Request, audience: &str, more: &Value) -> Request {
    request.header("Authorization", &format!("Bearer {}", token(audience, more)))
}

/// What the files of `manifests/examples` promise in their comments.
fn cases() -> Vec<Case> {
    let mut cases = routing_cases();
    cases.extend(filter_cases());
    cases.extend(token_cases());
    cases
}

fn routing_cases() -> Vec<Case> {
    let get = Request::get;
    vec![
        case("ingress", get("site.example.com", "/"), 200, |r| path(r, "/")),
        case("ingress wildcard", get("a.site.example.com", "/x?y=1"), 200, |r| path(r, "/x?y=1")),
        case("ingress, other host", get("other.example.com", "/"), 404, nothing_more),
        case(
            "canary by header",
            get("canary.example.com", "/").header("X-Canary", "1"),
            200,
            from_the_canary,
        ),
        case(
            "canary by cookie",
            get("canary.example.com", "/").header("Cookie", "a=b; canary=always"),
            200,
            from_the_canary,
        ),
        // Nobody stands behind the Service that is to be asked, so that nobody passes.
        case("external auth", get("app.example.com", "/"), 503, nothing_more),
        case("external auth, an open path", get("app.example.com", "/public/a"), 200, |r| {
            path(r, "/public/a")
        }),
        case("external auth of an ingress", get("old-app.example.com", "/"), 503, nothing_more),
        case("resilience", get("resilience.example.com", "/"), 200, nothing_more),
        case(
            "matching by path in any case, header and query",
            get("matching.example.com", "/SEARCH?beta&page=3").header("X-Version", "2"),
            200,
            |r| header(r, "x-rule", "beta"),
        ),
        case("matching, another version", get("matching.example.com", "/search?beta&page=3"), 200, |r| {
            if r.header("x-rule").is_none() { Ok(()) } else { Err("the beta answered".into()) }
        }),
        case("matching by expression", get("matching.example.com", "/items/pear"), 302, |r| {
            header(r, "location", "https://shop.example.com:8443/items/pear")
        }),
        case(
            "load balancing by user",
            get("balancing.example.com", "/profile").header("X-User-Id", "7"),
            200,
            nothing_more,
        ),
        case("load balancing", get("balancing.example.com", "/"), 200, nothing_more),
        case("a session", get("sessions.example.com", "/"), 200, |r| {
            let set = r.header("set-cookie").unwrap_or_default();
            if set.starts_with("SRV=") { Ok(()) } else { Err(format!("set-cookie {set}")) }
        }),
        case("a session by annotation", get("hashed.example.com", "/"), 200, |r| {
            let set = r.header("set-cookie").unwrap_or_default();
            if set.starts_with("SRV-") { Ok(()) } else { Err(format!("set-cookie {set}")) }
        }),
        case("no error, no page", get("tools.example.com", "/"), 200, nothing_more),
        case("mirrored", get("tools.example.com", "/mirrored"), 200, nothing_more),
        case("no fault without the header", get("tools.example.com", "/faulty"), 200, nothing_more),
        case("no error, no page, by annotation", get("pages.example.com", "/"), 200, nothing_more),
        case("redirect to another host", get("old.example.com", "/x"), 308, |r| {
            header(r, "location", "https://new.example.com/x")
        }),
        case("redirect of a prefix", get("old.example.com", "/manual/a"), 301, |r| {
            let location = r.header("location").unwrap_or_default();
            if location.ends_with("/docs/a") { Ok(()) } else { Err(format!("location {location}")) }
        }),
        case("direct answer", get("old.example.com", "/beta"), 503, |r| {
            if r.text() == "The beta is closed.\n" { Ok(()) } else { Err(r.text()) }
        }),
    ]
}

fn filter_cases() -> Vec<Case> {
    let get = Request::get;
    let preflight = Request::new("OPTIONS", "cors.example.com", "/api/items")
        .header("Origin", "https://app.example.com")
        .header("Access-Control-Request-Method", "DELETE");
    let shop = get("rewrite.example.com", "/shop/cart").header("X-Debug", "1");
    vec![
        case("cors preflight", preflight, 204, |r| {
            header(r, "access-control-allow-origin", "https://app.example.com")?;
            header(r, "access-control-allow-credentials", "true")?;
            header(r, "access-control-max-age", "600")
        }),
        case(
            "cors answer",
            get("cors.example.com", "/api/items").header("Origin", "https://a.preview.example.com"),
            200,
            |r| {
                header(r, "access-control-allow-origin", "https://a.preview.example.com")?;
                header(r, "access-control-expose-headers", "X-Total-Count")
            },
        ),
        case(
            "cors, a foreign origin",
            get("cors.example.com", "/api/items").header("Origin", "https://evil.example.net"),
            200,
            |r| match r.header("access-control-allow-origin") {
                None => Ok(()),
                Some(origin) => Err(format!("{origin} may read it")),
            },
        ),
        case("rewrite of a prefix", shop, 200, |r| {
            path(r, "/cart")?;
            seen(r, "host", &["web.internal"])?;
            seen(r, "x-shop", &["main"])?;
            seen(r, "x-debug", &[])?;
            header(r, "cache-control", "no-store")
        }),
        case("resilience of an ingress", get("ingress-resilience.example.com", "/"), 200, |r| {
            header(r, "cache-control", "no-store")
        }),
        case(
            "a fault of an ingress",
            get("ingress-resilience.example.com", "/").header("X-Chaos", "1"),
            503,
            nothing_more,
        ),
        case("rewrite of a path", get("rewrite.example.com", "/old/a"), 200, |r| path(r, "/new")),
        case("rewrite by expression", get("rewrite.example.com", "/users/7/posts"), 200, |r| {
            path(r, "/posts/7")
        }),
    ]
}

fn token_cases() -> Vec<Case> {
    let orders = |method| Request::new(method, "orders.example.com", "/orders");
    let admin = || Request::get("site.example.com", "/admin");
    let public = |query: &str| Request::get("tokens.example.com", &format!("/public{query}"));
    let query = format!("?access_token={}", token("tokens", &json!({})));
    let invoices = |path| Request::get("invoices.example.com", path);
    let writer = json!({"scope": "orders.read orders.write", "realm": {"roles": ["a", "b"]}});
    vec![
        case("no token", orders("GET"), 401, |r| {
            let challenge = r.header("www-authenticate").unwrap_or_default();
            if challenge.starts_with("Bearer") { Ok(()) } else { Err(format!("challenge {challenge:?}")) }
        }),
        case("a token", bearer(orders("GET").header("X-User-Id", "eve"), "orders", &json!({})), 200, |r| {
            seen(r, "x-user-id", &["ada"])
        }),
        case("a token for others", bearer(orders("GET"), "site", &json!({})), 401, nothing_more),
        case("a token without the scope", bearer(orders("POST"), "orders", &json!({})), 403, nothing_more),
        case("a token with the scope", bearer(orders("POST"), "orders", &writer), 200, |r| {
            seen(r, "x-roles", &["a,b"])
        }),
        case("open path", Request::get("orders.example.com", "/health"), 200, nothing_more),
        case("no token where it is optional", public(""), 200, nothing_more),
        case("a token in the query", public(&query), 200, nothing_more),
        case("a bad token where it is optional", public("?access_token=a.b.c"), 401, nothing_more),
        case("two tokens", bearer(public(&query), "tokens", &json!({})), 401, nothing_more),
        case(
            "keys by URL that never came",
            bearer(invoices("/invoices"), "invoices", &json!({})),
            503,
            |r| header(r, "retry-after", "5"),
        ),
        case("keys by URL, open path", invoices("/health"), 200, nothing_more),
        case("ingress, no token", admin(), 401, nothing_more),
        case("ingress, no admin", bearer(admin(), "site", &json!({"role": "user"})), 403, nothing_more),
        case("ingress, admin", bearer(admin(), "site", &json!({"role": "admin"})), 200, nothing_more),
    ]
}

/// The demo's cases, as `make run` prints them.
fn demo_cases() -> Vec<Case> {
    let get = |host, path| Request::get(host, path);
    let token = |role: &str| {
        let claims = json!({
            "iss": "https://id.demo.localhost", "aud": "shop", "sub": "alice", "role": role, "exp": now() + 3600,
        });
        format!("Bearer {}", hs256(DEMO_SECRET, &claims))
    };
    let account = || get("shop.localhost", "/account");
    let admin = || get("admin.localhost", "/");
    vec![
        case("demo", get("shop.localhost", "/hello"), 200, |r| path(r, "/hello")),
        case("demo, no token", account(), 401, nothing_more),
        case("demo, a token", account().header("Authorization", &token("user")), 200, |r| {
            seen(r, "x-user-id", &["alice"])
        }),
        case("demo, no admin", admin().header("Authorization", &token("user")), 403, nothing_more),
        case("demo, admin", admin().header("Authorization", &token("admin")), 200, nothing_more),
    ]
}

/// Everything that does not answer as it should, one line each.
fn wrong(address: SocketAddr, cases: &[Case]) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases {
        let answer = client::ask(address, &case.request).map_err(|error| error.to_string());
        let verdict = answer.and_then(|response| {
            if response.status == case.status {
                (case.check)(&response)
            } else {
                Err(format!("status {}, not {}: {}", response.status, case.status, response.text()))
            }
        });
        if let Err(why) = verdict {
            wrong.push(format!("{}: {why}", case.name));
        }
    }
    wrong
}

/// How many of these requests, asked in a row on one connection, pass.
fn passed_of(address: SocketAddr, request: &Request, times: usize) -> usize {
    let mut connection = Connection::open(address).expect("a connection");
    let statuses = (0..times).map(|_| connection.ask(request).expect("an answer").status);
    statuses.filter(|status| *status == 200).count()
}

/// The limits of the examples, of one gateway.
fn wrong_limits(address: SocketAddr) -> Vec<String> {
    thread::sleep(REFILL);
    let user = Request::get("search.example.com", "/search").header("X-User-Id", "grace");
    let search = Request::get("shop.localhost", "/search");
    let site = Request::get("site.example.com", "/limit");
    let mut wrong = Vec::new();
    // Each with what passes at once, and what may be given back while the test asks.
    for (name, request, burst, refilled) in
        [("per user", &user, 20, 3), ("demo", &search, 5, 1), ("ingress", &site, 10, 10)]
    {
        let passed = passed_of(address, request, 60);
        if !(burst..=burst + refilled).contains(&passed) {
            wrong.push(format!("limit {name}: {passed} of 60 passed, not {burst}"));
        }
    }
    wrong
}

/// The files of a folder of examples, without those that hold the upstreams.
fn example_files(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).expect("the examples").flatten();
    let mut files: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".yaml") && name != "services.yaml" && name != "upstreams.yaml")
        .map(|name| format!("{folder}/{name}"))
        .collect();
    files.sort();
    files
}

/// The examples from a folder, with upstreams of our own on the loopback.
fn folder_mode() -> (Gateway, Folder, Vec<Echo>) {
    let folder = Folder::new();
    let upstreams: Vec<_> = ["web-1", "web-canary-1", "shop-1"].map(Echo::start).into();
    for (name, namespace, upstream) in
        [("web", "examples", 0), ("web-canary", "examples", 1), ("shop", "demo", 2)]
    {
        let yaml = service(name, &[upstreams[upstream].address]);
        let yaml = yaml.replace("namespace: shop", &format!("namespace: {namespace}"));
        folder.write(&format!("{name}-upstreams.yaml"), &yaml);
    }
    for file in [example_files("manifests/examples"), example_files("manifests/examples/demo")].concat() {
        let text = fs::read_to_string(root().join(&file)).expect("an example");
        folder.write(&file.replace('/', "-"), &text);
    }
    let gateway = Gateway::start(folder.path(), &["--access-log", "off"]);
    (gateway, folder, upstreams)
}

/// The examples in the cluster, with Deployments behind their Services.
fn cluster_mode() -> Scene {
    let mut scene = Scene::new("examples");
    scene.also("demo");
    scene.apply(&echo("web", 2, End::Drains));
    scene.apply(&echo("web-canary", 1, End::Drains));
    scene.apply(&echo("shop", 1, End::Drains).replace("@NAMESPACE@", "demo"));
    for file in [example_files("manifests/examples"), example_files("manifests/examples/demo")].concat() {
        apply_file(&file);
    }
    scene.settled("web", 2);
    scene.settled("web-canary", 1);
    kubectl(&["-n", "demo", "rollout", "status", "deployment/shop", "--timeout=60s"]);
    scene
}

/// `kubectl wait`, as a script of a user would.
fn wait_programmed() {
    for namespace in ["examples", "demo"] {
        for kind in ["gatewayroutes", "ratelimitpolicies", "authpolicies"] {
            let args = ["--for=condition=Programmed", kind, "--all", "-n", namespace, "--timeout=30s"];
            kubectl(&[&["wait"], &args[..]].concat());
        }
    }
}

fn assert_conditions(api: &Api) -> usize {
    let mut objects = 0;
    for namespace in ["examples", "demo"] {
        for plural in ["gatewayroutes", "ratelimitpolicies", "authpolicies"] {
            let path = format!("/apis/gateway.baribhara.io/v1alpha1/namespaces/{namespace}/{plural}");
            for object in api.list(&path) {
                let status = &object["status"];
                assert_eq!(status["observedGeneration"], object["metadata"]["generation"], "{object}");
                for kind in ["Accepted", "ResolvedRefs", "Programmed"] {
                    let found = condition(&object, kind).unwrap_or_else(|| panic!("no {kind}: {object}"));
                    assert_eq!(found["status"], "True", "{kind} of {object}");
                }
                let live = &condition(&object, "Programmed").expect("just seen")["message"];
                assert_eq!(live, "live on 3/3 replicas", "{object}");
                objects += 1;
            }
        }
    }
    objects
}

#[test]
fn the_examples_answer_on_the_cluster_as_from_a_folder() {
    let release = Release::shared();
    let cases: Vec<_> = cases().into_iter().chain(demo_cases()).collect();

    let (gateway, _folder, _upstreams) = folder_mode();
    let from_folder = [wrong(gateway.http, &cases), wrong_limits(gateway.http)].concat();
    assert!(from_folder.is_empty(), "from the folder:\n{}", from_folder.join("\n"));

    let scene = cluster_mode();
    wait_programmed();
    let objects = assert_conditions(&scene.api);
    // Programmed means live: nothing is waited for from here on.
    let service = release.service();
    let mut on_cluster = wrong(service, &cases);
    let pods = release.settled(3);
    for pod in &pods {
        on_cluster.extend(wrong(pod.http(), &routing_cases()).iter().map(|w| format!("{}: {w}", pod.name)));
    }
    on_cluster.extend(wrong_limits(pods[0].http()));
    assert!(on_cluster.is_empty(), "on the cluster:\n{}", on_cluster.join("\n"));
    let count = cases.len() + 3;
    measured("examples that answer as from a folder", format!("{count} of {count}"), "all");
    measured("objects of the examples live on 3/3 replicas", objects, "all");
}

#[test]
fn the_status_of_an_ingress_shows_the_address_of_the_gateways_service() {
    let release = Release::shared();
    let scene = Scene::new("ingress-status");
    scene.apply(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: site, namespace: @NAMESPACE@}
spec:
  ingressClassName: baribhara
  rules:
  - host: status.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: theirs, namespace: @NAMESPACE@}
spec:
  ingressClassName: somebody-else
  defaultBackend: {service: {name: web, port: {number: 80}}}
",
    );
    let ingress = format!("/apis/networking.k8s.io/v1/namespaces/{}/ingresses/site", scene.namespace);
    let shown = || scene.api.get(&ingress)["status"]["loadBalancer"]["ingress"].clone();
    let cluster_ip = release.service().ip().to_string();
    until("the ClusterIP stands in the status", || (shown() == json!([{"ip": cluster_ip}])).then_some(()));

    // What a load balancer's controller would write.
    let service = format!("/api/v1/namespaces/{}/services/{}/status", release.namespace, release.name);
    scene.api.patch(&service, &json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.250.1.7"}]}}}));
    until("the load balancer's address stands in the status", || {
        let addresses = shown();
        (addresses[0]["ip"] == "10.250.1.7" && addresses[1].is_null()).then_some(())
    });
    scene.api.patch(&service, &json!({"status": {"loadBalancer": {"ingress": null}}}));
    until("the ClusterIP is back", || (shown()[0]["ip"] == json!(cluster_ip)).then_some(()));
    let theirs = scene.api.get(&ingress.replace("/site", "/theirs"));
    assert!(theirs["status"]["loadBalancer"]["ingress"].is_null(), "an Ingress of others: {theirs}");
}
