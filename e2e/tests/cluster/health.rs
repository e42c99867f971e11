//! One of three pods of a backend is killed, or answers 500 to everything, under load: who notices, and when it is asked again.

use std::time::{Duration, Instant};

use e2e::client::Request;
use e2e::cluster_api::until_condition;
use e2e::cluster_load::{Aim, Load};
use e2e::cluster_pod::Pod;
use e2e::cluster_release::Release;
use e2e::cluster_report::{measured, ms};
use e2e::cluster_scene::{End, Scene};
use e2e::until::until_within;
use serde_json::json;

const REQUESTS: u64 = 20_000;
/// The ejection time of the scene.
const EJECT_FOR: Duration = Duration::from_secs(6);

/// A route to three pods that ejects the failing and tries again what is safe.
fn scene(namespace: &str) -> (Scene, String) {
    let scene = Scene::new(namespace);
    let host = format!("{namespace}.example.com");
    scene.echo("web", 3, End::DiesAtOnce);
    let rule = json!({
        "retry": {"attempts": 2, "on": ["ConnectFailure", "Reset", "500-599"], "budgetPercent": 20},
        "healthCheck": {"passive": {
            "consecutive5xx": 3, "consecutiveConnectFailures": 3, "ejectFor": "6s", "maxEjectedPercent": 50,
        }},
    });
    scene.route("web", &host, "web", &rule);
    until_condition(&scene.api, &scene.path("web"), "Programmed", "True");
    (scene, host)
}

/// The tries that each pod of the gateway made again, by the name of the pod.
fn retries(gateways: &[Pod]) -> Vec<f64> {
    gateways.iter().map(|pod| pod.metrics().sum("baribhara_retries_total")).collect()
}

#[test]
fn a_pod_that_answers_500_to_everything_gets_five_tries_in_ten_seconds_and_is_used_again() {
    let release = Release::shared();
    let gateways = release.settled(3);
    let (scene, host) = scene("health-500");
    let bad = scene.pods("web").remove(0);
    let mood = |status: u16| {
        let answer =
            bad.ask(&Request::new("POST", "echo", &format!("/mood?status={status}"))).expect("its answer");
        assert_eq!(answer.status, 200);
    };
    let load = Load::start(Aim::get(release.service(), &host, "/load"));
    load.reach(1000);
    let before = retries(&gateways);
    mood(500);
    let since = Instant::now();
    until_within(Duration::from_secs(20), "ten seconds", || {
        (since.elapsed() >= Duration::from_secs(10)).then_some(())
    });
    // Each replica finds out by itself.
    let tries = retries(&gateways).iter().zip(&before).map(|(now, before)| now - before).fold(0.0, f64::max);
    measured("one of three pods answers 500, tries of it in 10 s by one replica", tries, "<= 5");
    mood(200);
    let well = Instant::now();
    // The first time it was out for 6 s, the second time for 12 s.
    let used = format!("\"pod\":\"{}\"", bad.name);
    until_within(EJECT_FOR * 3, "it is used again", || {
        let request = Request::get(&host, "/load");
        let answer = e2e::client::ask(release.service(), &request).ok()?;
        answer.text().contains(&used).then_some(())
    });
    measured("until a pod that is well again is used", ms(well.elapsed()), "<= 12 s");
    load.reach(REQUESTS);
    load.stop().assert_clean("one of three pods answers 500, GET", REQUESTS);
    assert!(tries <= 5.0, "{tries} tries");
}

#[test]
fn a_pod_that_is_killed_hard_costs_no_request_and_is_used_again_when_it_is_back() {
    let release = Release::shared();
    let (scene, host) = scene("health-killed");
    let killed = scene.pods("web").remove(0);
    let load = Load::start(Aim::get(release.service(), &host, "/load"));
    load.reach(1000);
    killed.signal("KILL");
    load.go_on_for(1000);
    // The kubelet starts its container again, in the same pod with the same address.
    scene.settled("web", 3);
    let back = Instant::now();
    let used = format!("\"pod\":\"{}\"", killed.name);
    until_within(EJECT_FOR * 3, "it is used again", || {
        let answer = e2e::client::ask(release.service(), &Request::get(&host, "/load")).ok()?;
        answer.text().contains(&used).then_some(())
    });
    measured("until a killed pod that is ready again is used", ms(back.elapsed()), "<= 12 s");
    load.reach(REQUESTS);
    load.stop().assert_clean("one of three pods killed, GET", REQUESTS);
}
