//! What can be seen from outside: access log, metrics, admin listener, and what must never be seen.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::backend::{Backend, Reply};
use e2e::client::{self, Connection, Request};
use e2e::folder::{limit_policy, route, secret};
use e2e::jwt;
use e2e::until::until;
use serde_json::{Value, json};

use crate::site::{HOST, address, site, site_with, spec};

#[test]
fn the_access_log_has_one_json_line_a_request() {
    let backend = Backend::named("hello");
    let site = site(&route("shop", &spec(backend.address, "")));
    let request = Request::new("POST", HOST, "/a/b?secret=1")
        .header("User-Agent", "a \"quoted\" browser")
        .header("X-Request-Id", "id-1")
        .body("12345");
    assert_eq!(site.gateway.ask(&request).status, 200);
    site.gateway.get("nobody.example.com", "/");
    let line = site.gateway.access_line("the request's line", |line| line["request_id"] == "id-1");
    assert_eq!(line["method"], "POST");
    assert_eq!(line["host"], HOST);
    assert_eq!(line["path"], "/a/b", "the query may hold tokens and stays out");
    assert_eq!(line["status"], 200);
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["route"], "shop/shop/all");
    assert_eq!(line["upstream"], backend.address.to_string());
    assert_eq!(line["user_agent"], "a \"quoted\" browser");
    assert_eq!(line["bytes_in"], 5);
    assert_eq!(line["bytes_out"], 5);
    assert_eq!(line["attempts"], 1);
    assert!(line["duration_us"].as_u64().is_some_and(|us| us > 0), "{line}");
    assert!(line["time"].as_str().is_some_and(|time| time.starts_with("20")), "{line}");
    let other = site.gateway.access_line("the refused request's line", |line| line["status"] == 404);
    assert!(other.get("route").is_none_or(|route| route == "unmatched"), "{other}");
    assert_eq!(site.gateway.access_log().len(), 2);
}

#[test]
fn the_access_log_can_go_to_a_file_or_nowhere() {
    let backend = Backend::named("ok");
    let yaml = route("shop", &spec(backend.address, ""));
    let folder = e2e::folder::Folder::new();
    let file = folder.path().join("access.log");
    let to_file = site_with(&yaml, &["--access-log", &file.display().to_string()]);
    to_file.gateway.get(HOST, "/in-a-file");
    until("the line is in the file", || {
        std::fs::read_to_string(&file).ok().filter(|text| text.contains("/in-a-file") && text.ends_with('\n'))
    });
    assert!(to_file.gateway.process.stdout().is_empty());
    let off = site_with(&yaml, &["--access-log", "off"]);
    off.gateway.get(HOST, "/");
    until("the request is counted", || {
        let series = "http_requests_total{method=\"GET\",endpoint=\"shop/shop/all\",status_code=\"200\"}";
        (off.gateway.metric(series) == 1.0).then_some(())
    });
    assert!(off.gateway.process.stdout().is_empty());
}

#[test]
fn the_metrics_have_the_exact_names_and_labels() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    site.gateway.get(HOST, "/");
    site.gateway.get(HOST, "/any/path/at/all");
    site.gateway.get("nobody.example.com", "/");
    site.gateway.ask(&Request::new("BREW", HOST, "/"));
    for series in [
        "http_requests_total{method=\"GET\",endpoint=\"shop/shop/all\",status_code=\"200\"}",
        "http_requests_total{method=\"GET\",endpoint=\"unmatched\",status_code=\"404\"}",
        "http_requests_total{method=\"other\",endpoint=\"shop/shop/all\",status_code=\"200\"}",
        "http_request_duration_seconds_count{method=\"GET\",endpoint=\"shop/shop/all\"}",
        "http_request_duration_seconds_sum{method=\"GET\",endpoint=\"shop/shop/all\"}",
        "memory_usage_bytes",
    ] {
        until(series, || (site.gateway.metric(series) > 0.0).then_some(()));
    }
    assert_eq!(
        site.gateway
            .metric("http_requests_total{method=\"GET\",endpoint=\"shop/shop/all\",status_code=\"200\"}"),
        2.0
    );
    let text = site.gateway.admin_text("/metrics");
    let types: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    for want in [
        "http_requests_total counter",
        "http_request_duration_seconds histogram",
        "http_requests_in_flight gauge",
        "http_requests_per_second gauge",
        "memory_usage_bytes gauge",
        "cpu_usage_percent gauge",
    ] {
        assert!(types.contains(want), "{want} is not in {types:?}");
    }
    assert!(text.contains(
        "http_request_duration_seconds_bucket{method=\"GET\",endpoint=\"shop/shop/all\",le=\"+Inf\"} 2"
    ));
    for name in types.iter().map(|line| line.split(' ').next().unwrap_or_default()) {
        let of_the_mission =
            name.starts_with("http_request") || ["memory_usage_bytes", "cpu_usage_percent"].contains(&name);
        assert!(of_the_mission || name.starts_with("baribhara_"), "{name}");
    }
    assert!(
        !text.contains("nobody.example.com") && !text.contains("BREW") && !text.contains("/any/path"),
        "labels come from the configuration only"
    );
}

#[test]
fn a_removed_route_takes_its_series_along() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    site.folder
        .write("other.yaml", &route("other", &spec(backend.address, "").replace(HOST, "other.example.com")));
    site.gateway.until_status("other.example.com", "/", 200);
    until("the series is there", || {
        site.gateway.admin_text("/metrics").contains("shop/other/all").then_some(())
    });
    site.folder.remove("other.yaml");
    site.gateway.until_status("other.example.com", "/", 404);
    until("the series is gone", || {
        (!site.gateway.admin_text("/metrics").contains("shop/other/all")).then_some(())
    });
}

#[test]
fn the_admin_listener_answers_what_it_should_and_nothing_else() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    for path in ["/livez", "/readyz", "/metrics", "/config", "/routes"] {
        assert_eq!(site.gateway.ask_admin(path).unwrap().status, 200, "{path}");
    }
    let config: Value = serde_json::from_str(&site.gateway.admin_text("/config")).unwrap();
    assert!(config["routes"].to_string().contains("shop"), "{config}");
    let routes: Value = serde_json::from_str(&site.gateway.admin_text("/routes")).unwrap();
    assert!(routes.to_string().contains("shop/shop/all"), "{routes}");
    assert_eq!(site.gateway.ask_admin("/nothing").unwrap().status, 404);
    for (method, path) in
        [("POST", "/config"), ("DELETE", "/routes"), ("PUT", "/readyz"), ("GET", "/explain")]
    {
        let response = client::ask(site.gateway.admin, &Request::new(method, "admin", path)).unwrap();
        assert_eq!(response.status, 405, "{method} {path}");
    }
}

#[test]
fn a_gateway_is_alive_but_not_ready_before_its_folder_was_read() {
    // A folder that cannot be read to its end would be another matter: here it is only empty.
    let folder = e2e::folder::Folder::new();
    let gateway = e2e::gateway::Gateway::start(folder.path(), &[]);
    assert_eq!(gateway.ask_admin("/livez").unwrap().status, 200);
    assert_eq!(gateway.get(HOST, "/").status, 404);
}

#[test]
fn explain_over_http_says_the_same_as_the_command() {
    let backend = Backend::named("ok");
    let to = address(backend.address);
    let yaml = route(
        "shop",
        &format!(
            "hostnames: [{HOST}]
rules:
- {{name: post, matches: [{{path: {{type: PathPrefix, value: /a}}, methods: [POST]}}], backendRefs: [{to}]}}
- {{name: all, backendRefs: [{to}]}}"
        ),
    ) + &limit_policy(
        "few",
        "targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop}]
limits: [{name: few, keys: [{type: ClientIP}], rates: [{requests: 5, per: 1h}]}]",
    );
    let site = site(&yaml);
    let url = format!("http://{HOST}/a/../a//b?x=1");
    let question = json!({"method": "GET", "url": url, "headers": [["X-A", "b"]], "clientIp": "192.0.2.7"});
    let request = Request::new("POST", "admin", "/explain").body(question.to_string());
    let over_http = client::ask(site.gateway.admin, &request).unwrap();
    assert_eq!(over_http.status, 200, "{}", over_http.text());
    let folder = site.folder.path().display().to_string();
    let command = e2e::process::command(&[
        "explain",
        "GET",
        &url,
        "-H",
        "X-A: b",
        "--client-ip",
        "192.0.2.7",
        "--config",
        &folder,
        "-o",
        "json",
    ])
    .output()
    .unwrap();
    let by_command: Value = serde_json::from_slice(&command.stdout).unwrap();
    assert_eq!(over_http.json(), by_command);
    assert_eq!(by_command["winner"]["route"], "shop/shop/all");
    assert_eq!(by_command["request"]["path"], "/a/b");
    let loser = &by_command["losers"][0];
    assert_eq!(loser["route"], "shop/shop/post");
    assert!(loser["reason"].as_str().unwrap().contains("method"), "{loser}");
    assert!(by_command["winner"]["limitKeys"].to_string().contains("192.0.2.7"), "{by_command}");
    // And it is what the proxy does.
    let served = site_with(&yaml, &["--debug-errors"]);
    let response = served.gateway.get(HOST, "/a/../a//b?x=1");
    assert_eq!(response.header("x-baribhara-route"), by_command["winner"]["route"].as_str());
}

#[test]
fn explain_and_the_proxy_never_disagree() {
    let backend = Backend::named("ok");
    let conditions = [
        "path: {type: Exact, value: /a}",
        "path: {type: PathPrefix, value: /a}",
        "path: {type: PathPrefix, value: /a/b}",
        "path: {type: RegularExpression, value: \"/[a-z]/c\"}",
        "methods: [POST]",
        "path: {type: PathPrefix, value: /a}, headers: [{name: X-A, value: \"1\"}]",
        "queryParams: [{name: q, type: Present}]",
        "cookies: [{name: c, value: \"1\"}]",
        "clientCIDRs: [10.0.0.0/8]",
    ];
    let mut yaml = String::new();
    for (number, hosts) in
        ["[]", "[a.example.com]", "[\"*.example.com\"]", "[\"*.b.example.com\", a.example.com]"]
            .iter()
            .enumerate()
    {
        let mut spec = format!("hostnames: {hosts}\nrules:\n");
        for (rule, conditions) in conditions.iter().enumerate().filter(|(rule, _)| (rule + number) % 3 != 0) {
            spec += &format!(
                "- {{name: r{rule}, matches: [{{{conditions}}}], backendRefs: [{}]}}\n",
                address(backend.address)
            );
        }
        yaml += &route(&format!("route-{number}"), &spec);
    }
    let site = site_with(&yaml, &["--debug-errors", "--trusted-proxies", "127.0.0.1", "--access-log", "off"]);
    let mut served = Connection::open(site.gateway.http).unwrap();
    let mut state = 42u64;
    let mut pick = |count: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % count
    };
    let mut taken = BTreeSet::new();
    for _ in 0..500 {
        let method = ["GET", "POST", "PUT"][pick(3)];
        let host =
            ["a.example.com", "x.example.com", "x.b.example.com", "other.org", "A.Example.com.:80"][pick(5)];
        let path =
            ["/", "/a", "/a/", "/a/b", "/a/bb", "/x/../a/b/c", "/z/c", "/a/c", "//a", "/%61"][pick(10)];
        let query = ["", "?q", "?q=1&x", "?x=q"][pick(4)];
        let client = ["10.1.1.1", "192.0.2.1"][pick(2)];
        let mut headers = Vec::new();
        if pick(2) == 0 {
            headers.push(("X-A", ["1", "2"][pick(2)]));
        }
        if pick(2) == 0 {
            headers.push(("Cookie", ["c=1", "d=1; c=1", "c=2"][pick(3)]));
        }
        let mut request =
            Request::new(method, host, &format!("{path}{query}")).header("X-Forwarded-For", client);
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let answer = served.ask(&request).unwrap();
        let question = json!({"method": method, "url": format!("http://{host}{path}{query}"), "headers": headers, "clientIp": client});
        let asked = Request::new("POST", "admin", "/explain").body(question.to_string());
        let explained = client::ask(site.gateway.admin, &asked).unwrap().json();
        let route = answer.header("x-baribhara-route");
        assert_eq!(explained["winner"]["route"].as_str(), route, "{question}: {explained}");
        assert_eq!(answer.status, if route.is_some() { 200 } else { 404 }, "{question}");
        taken.insert(route.map(str::to_owned));
    }
    assert!(taken.len() > 15, "too few routes were reached to prove anything: {taken:?}");
}

#[test]
fn a_log_that_nobody_reads_costs_lines_and_no_request() {
    let backend = Backend::named("ok");
    let folder = e2e::folder::Folder::with(&route("shop", &spec(backend.address, "")));
    let gateway = e2e::gateway::Gateway::start_unread(folder.path(), &[]);
    let mut connection = Connection::open(gateway.http).unwrap();
    let long = format!("/{}", "x".repeat(4000));
    until("lines are dropped", || {
        for _ in 0..100 {
            assert_eq!(connection.ask(&Request::get(HOST, &long)).unwrap().status, 200);
        }
        (gateway.metric("baribhara_access_log_dropped_total") > 0.0).then_some(())
    });
}

#[test]
fn no_secret_is_ever_shown() {
    const CANARY: &str = "canary-4f1a9c-do-not-print";
    let backend = Backend::named("ok");
    let spec = format!(
        "hostnames: [{HOST}]
jwtProviders:
- name: p
  anyIssuer: true
  algorithms: [HS256]
  jwks: {{secretRef: {{name: key, key: secret}}}}
  from: [{{header: {{name: Authorization, prefix: \"Bearer \"}}}}, {{query: {{name: token}}}}, {{cookie: {{name: at}}}}]
rules:
- {{name: all, auth: {{jwt: {{providers: [p]}}}}, backendRefs: [{}]}}",
        address(backend.address)
    );
    let folder = e2e::folder::Folder::with(&(secret("key", "secret", CANARY) + &route("shop", &spec)));
    let mut command = e2e::process::command(&["check", &folder.path().display().to_string()]);
    let checked = command.output().unwrap();
    // Every level of the log, as someone who looks for a fault would have it.
    let gateway =
        e2e::gateway::Gateway::start_with_env(folder.path(), &["--debug-errors"], &[("RUST_LOG", "trace")]);
    let good = jwt::hs256(CANARY.as_bytes(), &json!({"exp": jwt::now() + 600, "sub": "ada"}));
    let bad = jwt::hs256(b"wrong", &json!({"exp": jwt::now() + 600}));
    let signature = |token: &str| token.rsplit_once('.').unwrap().1.to_owned();
    let mut answers = String::new();
    for token in [&good, &bad] {
        for request in [
            Request::get(HOST, "/").header("Authorization", &format!("Bearer {token}")),
            Request::get(HOST, &format!("/?token={token}")),
            Request::get(HOST, "/").header("Cookie", &format!("at={token}")),
        ] {
            answers += &format!("{:?}", gateway.ask(&request));
        }
    }
    // A broken object next to the secret must not quote it in its complaint either.
    let broken = secret("key", "secret", CANARY).replace("apiVersion: v1", "apiVersion: v1\nimmutable: 5");
    folder.write("broken.yaml", &broken);
    folder.write("worse.yaml", &format!("kind: Secret\napiVersion: v1\nmetadata: {{name: x, namespace: shop}}\nstringData: {{a: {CANARY}\n"));
    until("the broken file is known", || {
        (gateway.metric("baribhara_config_rejected_objects") > 0.0).then_some(())
    });
    let again = e2e::process::command(&["check", &folder.path().display().to_string()]).output().unwrap();
    let question = json!({"method": "GET", "url": format!("http://{HOST}/?token={good}"), "headers": [["Authorization", format!("Bearer {good}")]]});
    let explained =
        client::ask(gateway.admin, &Request::new("POST", "admin", "/explain").body(question.to_string()))
            .unwrap();
    let mut shown = answers;
    for output in [&checked, &again] {
        shown += &String::from_utf8_lossy(&output.stdout);
        shown += &String::from_utf8_lossy(&output.stderr);
    }
    for path in ["/config", "/metrics", "/routes"] {
        shown += &gateway.admin_text(path);
    }
    shown += &explained.text();
    until("six lines of the access log", || (gateway.process.stdout().len() >= 6).then_some(()));
    shown += &gateway.process.stdout().join("\n");
    shown += &gateway.process.stderr().join("\n");
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(CANARY);
    for hidden in [CANARY, &encoded, jwt::encode(CANARY).as_str(), &good, &signature(&good), &signature(&bad)]
    {
        let place = shown.find(hidden).map(|at| shown[at.saturating_sub(200)..at].to_owned());
        assert_eq!(place, None, "{hidden:.12}… stands behind this");
    }
    assert!(shown.contains("[redacted]"), "the key is configured and hidden, not missing");
}

#[test]
fn a_client_that_goes_away_before_its_answer_is_counted_as_499_under_its_route() {
    let backend = Backend::start(|_| Reply::Silence);
    let site = site(&route("shop", &spec(backend.address, "")));
    let mut connection = Connection::open(site.gateway.http).unwrap();
    connection.send(&Request::get(HOST, "/left").bytes()).unwrap();
    until("the request is upstream", || (backend.arrived().len() == 1).then_some(()));
    drop(connection);
    let series = |endpoint: &str, status: u16| {
        format!("http_requests_total{{method=\"GET\",endpoint=\"{endpoint}\",status_code=\"{status}\"}}")
    };
    until("it is counted", || (site.gateway.metric(&series("shop/shop/all", 499)) == 1.0).then_some(()));
    let line = site.gateway.access_line("its line", |line| line["path"] == "/left");
    assert_eq!(line["status"], 499, "{line}");
    assert_eq!(line["route"], "shop/shop/all", "{line}");
    let metrics = site.gateway.admin_text("/metrics");
    let counted: Vec<_> = metrics.lines().filter(|line| line.starts_with("http_requests_total{")).collect();
    assert_eq!(counted.len(), 1, "{counted:?}");
}

#[test]
fn silent_connections_do_not_keep_probes_out() {
    let backend = Backend::named("ok");
    let site = site(&route("shop", &spec(backend.address, "")));
    let silent: Vec<_> = (0..64).map(|_| Connection::open(site.gateway.admin).unwrap()).collect();
    let started = Instant::now();
    assert_eq!(site.gateway.ask_admin("/livez").unwrap().status, 200);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    drop(silent);
}
