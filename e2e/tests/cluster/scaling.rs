//! Autoscaling: load raises the number of gateways and quiet lowers it, by a Prometheus metric of the gateway and by
//! CPU alone; no request is lost on the way.

use std::time::{Duration, Instant};

use e2e::cluster_api::until_condition;
use e2e::cluster_load::{Aim, Load};
use e2e::cluster_release::{NAME, NAMESPACE, Release};
use e2e::cluster_report::{measured, ms};
use e2e::cluster_scene::{End, Scene};
use e2e::cluster_tools::cluster;
use e2e::until::until_within;
use serde_json::{Value, json};

const REQUESTS: u64 = 5_000;

fn deployment(release: &Release) -> Value {
    release.api.get(&format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}"))
}

fn replicas(release: &Release, of: &str) -> u64 {
    deployment(release)["status"][of].as_u64().unwrap_or_default()
}

/// Waits until the autoscaler reads its metric: before that it says nothing about quiet or load.
fn until_it_reads(release: &Release) {
    until_within(Duration::from_secs(120), "the autoscaler reads its metric", || {
        let hpas = format!("/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers");
        let hpas = release.api.list(&hpas);
        let hpa = hpas.first()?;
        let conditions = hpa["status"]["conditions"].as_array()?;
        let reads = conditions.iter().any(|c| c["type"] == "ScalingActive" && c["status"] == "True");
        (reads && hpa["status"]["currentMetrics"].is_array()).then_some(())
    });
}

/// Load raises the replicas from `least`, quiet brings them back.
pub(crate) fn up_and_down(namespace: &str, least: u64, busy: u64, what: &str) {
    let release = &Release::as_it_is(0);
    let scene = Scene::new(namespace);
    let host = format!("{namespace}.example.com");
    scene.echo("web", 3, End::Drains);
    scene.route("web", &host, "web", &json!({}));
    until_condition(&scene.api, &scene.path("web"), "Programmed", "True");
    until_it_reads(release);
    let before = replicas(release, "replicas");
    assert_eq!(before, least, "{what}: replicas before the load");

    let aim = || Aim::mixed(release.service(), &host, "/load");
    let load = Load::start(aim().rate(busy));
    let started = Instant::now();
    let most = until_within(Duration::from_secs(180), "load raises the replicas", || {
        let ready = replicas(release, "readyReplicas");
        (ready > least).then_some(ready)
    });
    let raised = started.elapsed();
    // New connections, which reach the new pods too: their end must lose nothing.
    let light = Load::start(aim().rate(90));
    load.go_on_for(1000);
    let most = most.max(replicas(release, "readyReplicas"));
    let busy = load.stop();

    let quiet = Instant::now();
    until_within(Duration::from_secs(240), "quiet lowers the replicas", || {
        let now = deployment(release);
        let settled = now["spec"]["replicas"] == least && now["status"]["replicas"] == least;
        settled.then_some(())
    });
    let lowered = quiet.elapsed();
    // Until the pods that were taken away have really gone.
    release.settled(least as usize);
    let light = light.stop();
    let value = format!("{before} -> {most} after {}, -> {least} {} after the load", ms(raised), ms(lowered));
    measured(&format!("HPA {what}"), value, &format!("raised and back to {least}"));
    busy.assert_clean(&format!("HPA {what}, load"), REQUESTS);
    light.assert_clean(&format!("HPA {what}, light load while it goes down"), 100);
}

#[test]
fn an_hpa_on_a_prometheus_metric_of_the_gateway_scales_up_and_down_without_a_lost_request() {
    cluster(&["addon", "prometheus", "adapter"]);
    let release = Release::with_values("hpa-pods.yaml", 0);
    release.settled(3);
    up_and_down("scaling-metric", 3, 1500, "by requests per second of Prometheus");
}

#[test]
fn an_hpa_on_cpu_needs_only_metrics_server() {
    cluster(&["addon", "metrics-server"]);
    let release = Release::with_values("hpa-cpu.yaml", 0);
    release.settled(3);
    up_and_down("scaling-cpu", 3, 3000, "by CPU");
}
