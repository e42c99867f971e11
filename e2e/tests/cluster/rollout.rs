//! Pods come and go under load, those of a backend and those of the gateway, and no request is lost.

use std::time::Instant;

use e2e::cluster_api::until_condition;
use e2e::cluster_load::{Aim, Load, Tally};
use e2e::cluster_pod::Pod;
use e2e::cluster_release::{NAME, NAMESPACE, Release};
use e2e::cluster_report::{measured, ms};
use e2e::cluster_scene::{End, Scene, roll};
use e2e::cluster_tools::kubectl;
use serde_json::json;

const REQUESTS: u64 = 20_000;

/// A host of its own for each scene: the objects of one that has ended may still be there for a moment, and win.
fn host(scene: &Scene) -> String {
    format!("{}.example.com", scene.namespace)
}

/// A route to three pods, live.
fn scene(namespace: &str, end: End) -> Scene {
    let scene = Scene::new(namespace);
    scene.echo("web", 3, end);
    scene.route("web", &host(&scene), "web", &json!({}));
    until_condition(&scene.api, &scene.path("web"), "Programmed", "True");
    scene
}

/// Runs something under load, and at least so many requests.
fn under_load(aim: Aim, work: impl FnOnce(&Load)) -> Tally {
    let load = Load::start(aim);
    load.reach(500);
    work(&load);
    load.reach(REQUESTS);
    load.stop()
}

fn names(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(|pod| pod.name.clone()).collect()
}

fn roll_a_backend(namespace: &str, end: End, aim: impl Fn(&Release, &str) -> Aim, what: &str) {
    let release = Release::shared();
    let scene = scene(namespace, end);
    let before = names(&scene.pods("web"));
    let mut after = Vec::new();
    let tally = under_load(aim(&release, &host(&scene)), |load| {
        after = names(&scene.roll("web", 3));
        load.go_on_for(1000);
    });
    tally.assert_clean(what, REQUESTS);
    for pod in &after {
        assert!(!before.contains(pod), "{pod} was not replaced");
        assert!(tally.pods.contains_key(pod), "{pod} answered nothing: {:?}", tally.pods);
    }
    for pod in &before {
        assert!(tally.pods.contains_key(pod), "{pod} answered nothing before: {:?}", tally.pods);
    }
}

#[test]
fn a_backend_that_drains_is_replaced_under_load_without_a_lost_request() {
    let aim = |release: &Release, host: &str| Aim::mixed(release.service(), host, "/load");
    roll_a_backend("rollout-drains", End::Drains, aim, "backend rolled, pods drain, GET and POST");
}

#[test]
fn a_backend_whose_pods_die_at_once_is_replaced_under_load_without_a_lost_request() {
    // A POST that a pod has taken into its grave may have had its effect: nobody can repeat it. So only GET.
    let aim = |release: &Release, host: &str| Aim::get(release.service(), host, "/load");
    roll_a_backend("rollout-dies", End::DiesAtOnce, aim, "backend rolled, pods die at once, GET");
}

#[test]
fn the_gateway_is_rolled_scaled_and_loses_pods_under_load_without_a_lost_request() {
    let release = Release::shared();
    let scene = scene("rollout-gateway", End::Drains);
    let aim = || Aim::mixed(release.service(), &host(&scene), "/load");

    let before = names(&release.settled(3));
    let started = Instant::now();
    let tally = under_load(aim(), |_| {
        roll(NAMESPACE, NAME);
        release.settled(3);
    });
    assert!(names(&release.pods()).iter().all(|pod| !before.contains(pod)), "the old pods are still there");
    measured("gateway rolled, 3 pods, until the old ones have gone", ms(started.elapsed()), "");
    tally.assert_clean("gateway rolled, GET and POST", REQUESTS);

    let tally = under_load(aim(), |load| {
        scale(&release, 1);
        load.go_on_for(1000);
        scale(&release, 3);
        load.go_on_for(1000);
    });
    tally.assert_clean("gateway scaled 3, 1, 3, GET and POST", REQUESTS);

    let tally = under_load(aim(), |load| {
        for pod in release.settled(3) {
            kubectl(&["-n", NAMESPACE, "delete", "pod", &pod.name, "--wait=false"]);
            // The next goes when this one has been replaced, as an eviction with the budget of the chart would do it.
            let deployment = format!("deployment/{NAME}");
            kubectl(&["-n", NAMESPACE, "rollout", "status", &deployment, "--timeout=60s"]);
            load.go_on_for(1000);
        }
        release.settled(3);
    });
    tally.assert_clean("gateway pods deleted one by one, GET and POST", REQUESTS);
}

fn scale(release: &Release, replicas: usize) {
    let count = format!("--replicas={replicas}");
    kubectl(&["-n", NAMESPACE, "scale", &format!("deployment/{NAME}"), &count]);
    release.settled(replicas);
}
