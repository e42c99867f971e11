//! What the chart installs: that the API server takes it, what it may do, and that the tools around it work.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::client::Request;
use e2e::cluster_api::{condition, core, routes_path, until_condition};
use e2e::cluster_load::{Aim, Load};
use e2e::cluster_release::{CHART, NAME, NAMESPACE, Release};
use e2e::cluster_report::{measured, ms};
use e2e::cluster_scene::{End, Scene};
use e2e::cluster_tools::{cluster, helm, kubectl, root, run, try_baribhara, try_kubectl};
use e2e::until::until_within;
use serde_json::json;

/// How long a route is watched that nothing should happen to.
const QUIET: Duration = Duration::from_secs(6);
/// Values of the chart's `ci` folder that name kinds which this cluster does not have.
const FOREIGN_KINDS: [&str; 2] = ["keda.yaml", "monitoring.yaml"];

fn account() -> String {
    format!("--as=system:serviceaccount:{NAMESPACE}:{NAME}")
}

/// `kubectl auth can-i --list` in the release's namespace and in another, in an order of its own.
fn rights() -> String {
    let mut text = String::new();
    for (title, namespace) in [("in its own namespace", NAMESPACE), ("in any other", "default")] {
        let listed = kubectl(&["auth", "can-i", "--list", &account(), "-n", namespace]);
        let mut lines: Vec<_> = listed
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        lines.sort();
        text.push_str(&format!("# {title}: resources, URLs, names, verbs\n{}\n\n", lines.join("\n")));
    }
    text
}

#[test]
fn the_service_account_may_do_what_is_listed_and_nothing_more() {
    Release::shared();
    let golden = root().join("e2e/tests/cluster/rights.txt");
    let now = rights();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &now).expect("write the golden file");
    }
    let wanted = fs::read_to_string(&golden).expect("rights.txt");
    assert!(now == wanted, "rights.txt is not what the cluster says (UPDATE_GOLDEN=1 rewrites it):\n{now}");
    for (verb, what) in [
        ("create", "pods"),
        ("create", "secrets"),
        ("update", "secrets"),
        ("delete", "secrets"),
        ("update", "ingresses.networking.k8s.io"),
        ("delete", "gatewayroutes.gateway.baribhara.io"),
        ("create", "leases.coordination.k8s.io"),
        ("impersonate", "users"),
        ("*", "*"),
    ] {
        let may = try_kubectl(&["auth", "can-i", verb, what, &account(), "-n", "default"]);
        assert!(may.is_err(), "it may {verb} {what} in other namespaces: {may:?}");
    }
    measured("rights of the ServiceAccount", "as in rights.txt", "golden");
}

/// `kubectl apply --dry-run=server`; what it said of each object.
fn dry_run(yaml: &str) -> Result<String, String> {
    let args = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
    run(Command::new("kubectl").args(args).current_dir(root()), Some(yaml))
}

#[test]
fn the_api_server_takes_the_chart_with_each_of_its_example_values_and_install_yaml() {
    Release::shared();
    let mut namespaces = Scene::new("team-a");
    namespaces.also("team-b");
    let mut objects = 0;
    let mut files: Vec<_> = fs::read_dir(root().join(CHART).join("ci"))
        .expect("the chart's values")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !FOREIGN_KINDS.contains(&name.as_str()))
        .collect();
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    for file in &files {
        let values = format!("{CHART}/ci/{file}");
        let args = ["template", NAME, CHART, "-n", NAMESPACE, "--kube-version", "1.37.0", "-f", &values];
        let said = dry_run(&helm(&args)).unwrap_or_else(|said| panic!("{file}: {said}"));
        objects += said.lines().filter(|line| line.contains("server dry run")).count();
    }
    let install = fs::read_to_string(root().join("manifests/install.yaml")).expect("install.yaml");
    let said = dry_run(&install).unwrap_or_else(|said| panic!("install.yaml: {said}"));
    objects += said.lines().filter(|line| line.contains("server dry run")).count();
    measured(
        "objects of the chart taken by the API server (dry run)",
        format!("{objects} of {} value files and install.yaml", files.len()),
        "all",
    );
}

#[test]
fn helm_test_passes_and_the_pods_pass_pod_security_restricted() {
    cluster(&["addon", "coredns"]);
    let release = Release::shared();
    let namespace = release.api.get(&format!("/api/v1/namespaces/{NAMESPACE}"));
    let level = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    assert_eq!(level, "restricted", "the namespace does not ask for Pod Security restricted");
    assert_eq!(release.settled(3).len(), 3);
    helm(&["test", NAME, "-n", NAMESPACE, "--timeout", "90s"]);
    measured("helm test, in a namespace with Pod Security restricted", "passed", "passes");
}

#[test]
fn explain_and_routes_work_against_the_cluster_and_a_running_pod() {
    let release = Release::shared();
    let scene = Scene::new("explain");
    scene.echo("web", 1, End::Drains);
    scene.route("shop", "explain.example.com", "web", &json!({}));
    until_condition(&scene.api, &scene.path("shop"), "Programmed", "True");
    let kubeconfig = std::env::var("KUBECONFIG").expect("KUBECONFIG");
    let pod = release.settled(3)[0].ip.to_string();
    let admin = format!("{pod}:9900");
    for source in [["--kubeconfig", kubeconfig.as_str()], ["--gateway", admin.as_str()]] {
        let ask = |args: &[&str]| {
            try_baribhara(&[args, &source].concat())
                .unwrap_or_else(|said| panic!("{args:?} {source:?}: {said}"))
        };
        let explained = ask(&["explain", "GET", "http://explain.example.com/x"]);
        assert!(explained.contains("explain/shop/all"), "{source:?} does not name the winner:\n{explained}");
        let routes = ask(&["routes"]);
        assert!(routes.contains("explain.example.com"), "{source:?} does not list the route:\n{routes}");
    }
    for page in ["/config", "/routes", "/livez", "/readyz"] {
        let answer = release.settled(3)[0].admin(page).expect("the admin port");
        assert_eq!(answer.status, 200, "{page}");
    }
}

#[test]
fn every_expression_of_dashboards_and_alerts_finds_data_in_a_prometheus_that_scraped_the_gateway() {
    cluster(&["addon", "prometheus"]);
    let release = Release::shared();
    let scene = Scene::new("dashboards");
    scene.echo("web", 2, End::Drains);
    scene.route("shop", "dashboards.example.com", "web", &json!({}));
    until_condition(&scene.api, &scene.path("shop"), "Programmed", "True");
    let mut aim = Aim::mixed(release.service(), "dashboards.example.com", "/load").rate(200);
    // Errors too: a rate of errors needs some.
    aim.requests.push(Request::get("dashboards.example.com", "/load?status=503"));
    aim.requests.push(Request::get("nobody.example.com", "/"));
    aim.statuses = vec![200, 404, 503];
    let load = Load::start(aim);
    let service = release.api.get(&core("monitoring", "services", "prometheus"));
    let url = format!("http://{}:9090", service["spec"]["clusterIP"].as_str().expect("a ClusterIP"));
    let said = run(
        Command::new("python3")
            .args(["e2e/cluster/dashboard_check.py", &url, "--wait", "90"])
            .current_dir(root()),
        None,
    );
    // Where Prometheus was there already, the check takes a second or two.
    load.reach(500);
    let tally = load.stop();
    let said = said.unwrap_or_else(|said| panic!("dashboard_check.py: {said}"));
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains("with data"), "{said}");
    measured("dashboards and alerts against a real Prometheus", last, "none without data");
    tally.assert_clean("load of the dashboards", 500);
}

#[test]
fn a_status_that_stands_is_not_written_again() {
    let release = Release::shared();
    let scene = Scene::new("quiet");
    scene.route("shop", "quiet.example.com", "nobody", &json!({}));
    until_condition(&scene.api, &scene.path("shop"), "ResolvedRefs", "False");
    let message = "live on 3/3 replicas";
    until_within(Duration::from_secs(30), "the route is programmed on all replicas", || {
        let route = scene.api.get(&scene.path("shop"));
        condition(&route, "Programmed")?["message"].as_str()?.starts_with(message).then_some(())
    });
    let writes = scene.api.watch(&routes_path(&scene.namespace));
    let until = Instant::now() + QUIET;
    until_within(QUIET * 2, "some seconds have passed", || (Instant::now() > until).then_some(()));
    let written = writes.so_far();
    assert!(
        written.is_empty(),
        "{} writes to a route that nobody changed: {}",
        written.len(),
        written.iter().map(|seen| format!("{:?} {:#}\n", seen.change, seen.object)).collect::<String>()
    );
    // Only the gateway's own part is its business.
    let theirs = json!({"status": {"conditions": [{
        "type": "example.com/Theirs", "status": "True", "reason": "Because", "message": "kept",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}});
    release.api.apply_status(&scene.path("shop"), &theirs);
    scene.api.patch(&scene.path("shop"), &json!({"spec": {"hostnames": ["quieter.example.com"]}}));
    until_condition(&scene.api, &scene.path("shop"), "ResolvedRefs", "False");
    let route = scene.api.get(&scene.path("shop"));
    assert_eq!(
        condition(&route, "example.com/Theirs").expect("their condition")["message"],
        "kept",
        "{route}"
    );
}

#[test]
fn a_change_is_programmed_soon_and_no_generation_is_behind() {
    let release = Release::shared();
    let scene = Scene::new("generations");
    scene.echo("web", 1, End::Drains);
    scene.route("shop", "generations.example.com", "web", &json!({}));
    let started = Instant::now();
    until_condition(&scene.api, &scene.path("shop"), "Programmed", "True");
    measured("Programmed after its route was made", ms(started.elapsed()), "");
    for pod in release.settled(3) {
        until_within(Duration::from_secs(10), "the generation is live", || {
            let metrics = pod.metrics();
            let live = metrics.get("baribhara_config_generation")?;
            let published = metrics.get("baribhara_config_generation_published")?;
            (live == published && live > 0.0).then_some(())
        });
        assert_eq!(pod.metrics().get("baribhara_panics_total").unwrap_or(0.0), 0.0, "{} panicked", pod.name);
    }
}
