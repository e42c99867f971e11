//! The API server away: traffic goes on, endpoints that die are avoided, a container that restarts serves its last good
//! copy, and afterwards all is as it was within seconds.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use e2e::client::Request;
use e2e::cluster_api::{is_away, until_condition};
use e2e::cluster_load::{Aim, Load};
use e2e::cluster_pod::Pod;
use e2e::cluster_release::Release;
use e2e::cluster_report::{measured, ms};
use e2e::cluster_scene::{End, Scene, lone_echo, until_status, version};
use e2e::cluster_tools::{cluster, kubectl};
use e2e::until::until_within;
use serde_json::json;

const OUTAGE: Duration = Duration::from_secs(60);
const BACK: Duration = Duration::from_secs(10);
const HOST: &str = "outage.example.com";
const DYING: &str = "dying.example.com";
const API_SERVER: &str = "kube-apiserver";

/// Brings the API server back, whatever becomes of the test: all tests after it need one.
struct Outage {
    over: bool,
    began: Instant,
}

impl Outage {
    fn begin() -> Self {
        cluster(&["kill-component", API_SERVER]);
        Self { over: false, began: Instant::now() }
    }

    /// Returns when it has been ready for no longer than a moment.
    fn end(mut self) -> Duration {
        self.over = true;
        let lasted = self.began.elapsed();
        cluster(&["start-component", API_SERVER]);
        lasted
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        if !self.over {
            cluster(&["start-component", API_SERVER]);
        }
    }
}

/// A route to four pods that nobody replaces. Two of them will die: as many as may be ejected at once.
fn dying_backend(scene: &Scene) -> Vec<Pod> {
    scene.apply(
        "apiVersion: v1
kind: Service
metadata: {name: dying, namespace: @NAMESPACE@}
spec: {selector: {app: dying}, ports: [{name: http, port: 80, targetPort: http}]}
",
    );
    for number in 0..4 {
        scene.apply(&lone_echo("dying", number));
    }
    scene.route("dying", DYING, "dying", &json!({}));
    scene.settled("dying", 4)
}

fn get(address: SocketAddr, host: &str) -> Option<(u16, String)> {
    let answer = e2e::client::ask(address, &Request::get(host, "/")).ok()?;
    Some((answer.status, answer.header("x-version").unwrap_or_default().to_owned()))
}

fn watches_up(pod: &Pod) -> Option<(usize, usize)> {
    let metrics = pod.try_metrics().ok()?;
    let all = metrics.all("baribhara_watch_up");
    Some((all.iter().filter(|(_, up)| *up > 0.5).count(), all.len()))
}

#[test]
fn without_the_api_server_traffic_goes_on_and_a_restarted_gateway_serves_its_last_good_copy() {
    let release = Release::shared();
    let scene = Scene::new("outage");
    scene.echo("web", 3, End::Drains);
    scene.route("web", HOST, "web", &version(1));
    let dying = dying_backend(&scene);
    for name in ["web", "dying"] {
        until_condition(&scene.api, &scene.path(name), "Programmed", "True");
    }
    let mut pods = release.settled(3);
    // The kubelet waits longer each time before it restarts the container of one pod.
    pods.sort_by_key(|pod| pod.restarts);
    for pod in &pods {
        let (up, all) = watches_up(pod).expect("metrics");
        assert!(all >= 8 && up == all, "{}: {up} of {all} watches stand before the outage", pod.name);
        assert_eq!(pod.metrics().get("baribhara_last_good_in_use"), Some(0.0), "{}", pod.name);
    }

    // The pod that will be killed takes no load: requests in it die with it, which nothing can change.
    let (victim, survivors) = (&pods[0], [pods[1].http(), pods[2].http()]);
    let mixed = Aim { addresses: survivors.into(), ..Aim::mixed(survivors[0], HOST, "/load") };
    let mixed = Load::start(mixed.rate(1500));
    let gets = Aim { addresses: survivors.into(), ..Aim::get(survivors[0], DYING, "/load") };
    let gets = Load::start(gets.rate(1500));
    mixed.reach(500);
    gets.reach(500);

    let outage = Outage::begin();
    assert!(
        scene.api.try_get("/readyz").is_err_and(|error| is_away(&error)),
        "the API server is still there"
    );
    gets.go_on_for(1000);
    dying[0].signal("KILL");
    gets.go_on_for(3000);
    dying[1].signal("KILL");
    kill_a_gateway(victim, &scene);
    let ejections: f64 =
        pods[1..].iter().map(|pod| pod.metrics().sum("baribhara_endpoint_ejections_total")).sum();
    until_within(OUTAGE * 2, "the outage has lasted long enough", || {
        for pod in &pods[1..] {
            let ready = pod.admin("/readyz").expect("the admin port").status;
            assert_eq!(ready, 200, "{} is not ready without the API server", pod.name);
        }
        // The pace of these questions: the load's.
        mixed.go_on_for(750);
        (outage.began.elapsed() >= OUTAGE).then_some(())
    });
    let (down, _) = watches_up(&pods[1]).expect("metrics");
    assert_eq!(down, 0, "watches that stand without an API server");

    let lasted = outage.end();
    let back = Instant::now();
    catches_up(&pods, back);
    change_is_live(&scene, &pods);
    let (mixed, gets) = (mixed.stop(), gets.stop());
    measured("API server away", ms(lasted), ">= 60 s");
    measured("ejections of endpoints that died meanwhile", ejections, "> 0");
    mixed.assert_clean("API server away, GET and POST", 20_000);
    gets.assert_clean("API server away and 2 of 4 endpoints dead, GET", 20_000);
    assert!(ejections > 0.0, "no endpoint was ejected");
    new_pods_are_served(&scene, &pods, back);
}

/// The cluster is as it was: a Deployment made now is served. Kubernetes' own controllers wait for up to a minute before
/// they ask an API server again that was away so long.
fn new_pods_are_served(scene: &Scene, pods: &[Pod], back: Instant) {
    scene.echo("after", 1, End::Drains);
    scene.route("after", "after.example.com", "after", &json!({}));
    for pod in pods {
        until_within(Duration::from_secs(90), "a Deployment made after the outage is served", || {
            get(pod.http(), "after.example.com").filter(|(status, _)| *status == 200)
        });
    }
    measured(
        "API server back to a new Deployment served, Kubernetes' own controllers included",
        ms(back.elapsed()),
        "",
    );
}

/// SIGKILL to its container; the kubelet starts another, which finds no API server.
fn kill_a_gateway(victim: &Pod, scene: &Scene) {
    victim.signal("KILL");
    let killed = Instant::now();
    until_within(Duration::from_secs(30), "the killed container is gone", || {
        victim.processes().is_empty().then_some(())
    });
    let answer = until_within(Duration::from_secs(30), "the restarted gateway serves", || {
        get(victim.http(), HOST).filter(|(status, _)| *status == 200)
    });
    measured(
        "gateway container killed meanwhile to first answer from the last good copy",
        ms(killed.elapsed()),
        "",
    );
    assert_eq!(answer.1, "1", "the answer is not that of the route");
    assert!(scene.api.try_get("/readyz").is_err(), "the API server came back on its own");
    assert_eq!(victim.metrics().get("baribhara_last_good_in_use"), Some(1.0));
    assert_eq!(victim.admin("/readyz").expect("the admin port").status, 200);
}

/// All watches of all pods stand again, and nobody serves the copy.
fn catches_up(pods: &[Pod], back: Instant) {
    let mut slowest = Duration::ZERO;
    for pod in pods {
        until_within(Duration::from_secs(60), "the watches are back", || {
            let (up, all) = watches_up(pod)?;
            (up == all && all >= 8).then_some(())
        });
        slowest = slowest.max(back.elapsed());
    }
    until_within(Duration::from_secs(60), "the last good copy is not needed", || {
        (pods[0].metrics().get("baribhara_last_good_in_use") == Some(0.0)).then_some(())
    });
    measured("API server back to all watches of 3 pods standing", ms(slowest), "<= 10 s");
    assert!(slowest <= BACK, "the watches were back after {slowest:?}");
}

fn change_is_live(scene: &Scene, pods: &[Pod]) {
    let changed = Instant::now();
    let mut rule = version(2);
    rule["name"] = json!("all");
    rule["backendRefs"] = json!([{"name": "web", "port": 80}]);
    scene.api.patch(&scene.path("web"), &json!({"spec": {"rules": [rule]}}));
    // An API server that has just started may take its time.
    let written = changed.elapsed();
    for pod in pods {
        until_within(Duration::from_secs(10), "a change after the outage is live", || {
            (get(pod.http(), HOST)? == (200, "2".to_owned())).then_some(())
        });
    }
    let live = changed.elapsed();
    measured(
        "change after the outage live on 3 pods",
        format!("{}, {} of it for the write", ms(live), ms(written)),
        "",
    );
    until_condition(&scene.api, &scene.path("web"), "Programmed", "True");
}

#[test]
fn an_api_server_that_answers_nothing_is_noticed_within_a_minute() {
    let release = Release::shared();
    let pods = release.settled(3);
    let resume = Resume;
    cluster(&["pause", API_SERVER]);
    let paused = Instant::now();
    for pod in &pods {
        until_within(Duration::from_secs(75), "a silent API server is noticed", || {
            let (up, _) = watches_up(pod)?;
            (up == 0).then_some(())
        });
    }
    let noticed = paused.elapsed();
    measured("silent API server noticed by all watches of 3 pods", ms(noticed), "<= 60 s");
    drop(resume);
    let back = Instant::now();
    for pod in &pods {
        until_within(Duration::from_secs(60), "the watches are back", || {
            let (up, all) = watches_up(pod)?;
            (up == all).then_some(())
        });
    }
    measured("API server speaks again to all watches standing", ms(back.elapsed()), "<= 10 s");
    assert!(noticed <= Duration::from_secs(60), "noticed after {noticed:?}");
    assert!(back.elapsed() <= BACK, "back after {:?}", back.elapsed());
    let listed = kubectl(&["get", "--raw", "/readyz"]);
    assert_eq!(listed, "ok");
    until_status(release.service(), &Request::get("nobody.example.com", "/"), 404);
}

struct Resume;

impl Drop for Resume {
    fn drop(&mut self) {
        cluster(&["resume", API_SERVER]);
    }
}
