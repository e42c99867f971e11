//! The life of an install: from the chart before this one to this one under load, and gone without a trace but CRDs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::cluster_api::{Api, until_condition};
use e2e::cluster_load::{Aim, Load};
use e2e::cluster_release::{CHART, NAME, NAMESPACE, Release};
use e2e::cluster_report::{measured, ms};
use e2e::cluster_scene::{End, Scene};
use e2e::cluster_tools::{helm, kubectl, root};
use e2e::until::until_within;
use serde_json::json;

const HOST: &str = "uninstall.example.com";
const REQUESTS: u64 = 20_000;
const CRDS: [&str; 3] = [
    "authpolicies.gateway.baribhara.io",
    "gatewayroutes.gateway.baribhara.io",
    "ratelimitpolicies.gateway.baribhara.io",
];

/// Every object of the cluster but those that come and go by themselves, and those of our own kinds with the APIService
/// that the API server makes of their CRDs.
fn inventory() -> BTreeSet<String> {
    let kinds = kubectl(&["api-resources", "--verbs=list", "-o", "name"]);
    let passing = ["events", "leases", "metrics.k8s.io", "componentstatuses", "gateway.baribhara.io"];
    let kinds: Vec<_> = kinds.lines().filter(|kind| !passing.iter().any(|one| kind.contains(one))).collect();
    let columns = "custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name";
    let listed = kubectl(&["get", &kinds.join(","), "-A", "--no-headers", "-o", columns]);
    let leases =
        kubectl(&["get", "leases", "-n", NAMESPACE, "--no-headers", "-o", columns, "--ignore-not-found"]);
    let lines = listed.lines().chain(leases.lines());
    let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines
        .filter(|line| !(line.starts_with("APIService") && line.ends_with(".gateway.baribhara.io")))
        .collect()
}

/// The chart as it was one revision ago: an older version, CRDs without a short name that this one has, and an object
/// that this one has no more.
fn chart_before(folder: &Path) -> PathBuf {
    let old = folder.join("before");
    drop(fs::remove_dir_all(&old));
    copy(&root().join(CHART), &old);
    let rewrite = |file: &str, change: &dyn Fn(&str) -> String| {
        let path = old.join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        let changed = change(&text);
        assert_ne!(text, changed, "{file} is as before");
        fs::write(path, changed).expect("write the old chart");
    };
    rewrite("Chart.yaml", &|text| {
        let version = text.lines().find(|line| line.starts_with("version:")).expect("a version");
        text.replace(version, "version: 0.0.9")
    });
    rewrite("files/crds/gatewayroutes.yaml", &|text| text.replace("- gwr\n", "- oldgwr\n"));
    let leftover = "apiVersion: v1
kind: ConfigMap
metadata: {name: of-the-chart-before, namespace: {{ .Release.Namespace }}}
";
    fs::write(old.join("templates/before.yaml"), leftover).expect("write the old chart");
    helm(&["package", &old.display().to_string(), "--destination", &folder.display().to_string()]);
    folder.join(format!("{NAME}-0.0.9.tgz"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the chart").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy a file of the chart");
        }
    }
}

fn short_names(api: &Api) -> String {
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gatewayroutes.gateway.baribhara.io";
    api.get(path)["spec"]["names"]["shortNames"].to_string()
}

/// Nothing of ours is there: no release, no namespace, no CRDs.
fn clear() {
    drop(e2e::cluster_tools::try_helm(&["uninstall", NAME, "-n", NAMESPACE, "--ignore-not-found", "--wait"]));
    kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s"]);
    kubectl(&[&["delete", "crd", "--ignore-not-found", "--timeout=60s"], &CRDS[..]].concat());
}

#[test]
fn helm_upgrade_from_the_chart_before_and_uninstall_leave_nothing_but_crds() {
    let release = Release::as_it_is(3);
    clear();
    let scene = Scene::new("uninstall");
    scene.echo("web", 3, End::Drains);
    release.prepare_namespace();
    // The controller puts its ConfigMap and ServiceAccount into a new namespace a moment later.
    kubectl(&["-n", NAMESPACE, "wait", "--for=create", "serviceaccount/default", "--timeout=30s"]);
    kubectl(&["-n", NAMESPACE, "wait", "--for=create", "configmap/kube-root-ca.crt", "--timeout=30s"]);
    let before = inventory();

    let folder = std::env::temp_dir().join(format!("baribhara-chart-{}", std::process::id()));
    let old = chart_before(&folder);
    let shared = [root().join("e2e/values/shared.yaml")];
    release.upgrade(&old.display().to_string(), &shared, &["podDisruptionBudget.enabled=false".to_owned()]);
    release.settle();
    assert!(short_names(&scene.api).contains("oldgwr"), "the old CRD is not in force");
    scene.route("shop", HOST, "web", &json!({}));
    until_condition(&scene.api, &scene.path("shop"), "Programmed", "True");

    let load = Load::start(Aim::mixed(release.service(), HOST, "/load"));
    load.reach(500);
    let started = Instant::now();
    release.upgrade(CHART, &shared, &["podLabels.revision=new".to_owned()]);
    release.settle();
    let upgraded = started.elapsed();
    load.reach(REQUESTS);
    measured("helm upgrade from the chart before, until the old pods have gone", ms(upgraded), "");
    load.stop().assert_clean("helm upgrade from the chart before, GET and POST", REQUESTS);
    assert!(
        short_names(&scene.api).contains("\"gwr\""),
        "the CRD was not upgraded: {}",
        short_names(&scene.api)
    );
    let now = inventory();
    assert!(
        !now.iter().any(|line| line.contains("of-the-chart-before")),
        "an object of the old chart is left"
    );
    assert!(
        now.iter().any(|line| line.starts_with("PodDisruptionBudget")),
        "an object of the new chart is not there"
    );
    until_condition(&scene.api, &scene.path("shop"), "Programmed", "True");

    helm(&["uninstall", NAME, "-n", NAMESPACE]);
    let wanted: BTreeSet<_> =
        CRDS.iter().map(|name| format!("CustomResourceDefinition <none> {name}")).collect();
    let started = Instant::now();
    let mut left = BTreeSet::new();
    let gone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until_within(Duration::from_secs(90), "everything has gone", || {
            left = inventory().difference(&before).cloned().collect();
            (left == wanted).then_some(())
        });
    }));
    assert!(gone.is_ok(), "helm uninstall leaves {left:#?}");
    measured(
        "helm uninstall to nothing but CRDs",
        format!("{} after {}", wanted.len(), ms(started.elapsed())),
        "3 CRDs",
    );
    // With the CRDs the routes stay, and an install after this one finds them.
    assert_eq!(scene.api.get(&scene.path("shop"))["metadata"]["name"], "shop");
    drop(fs::remove_dir_all(&folder));
    clear();
}
