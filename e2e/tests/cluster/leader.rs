//! The leader dies, is frozen, or leaves: another writes status soon, and never do two.

use std::time::{Duration, Instant};

use e2e::cluster_api::{Watch, condition};
use e2e::cluster_pod::Pod;
use e2e::cluster_release::{NAMESPACE, Release};
use e2e::cluster_report::{measured, ms};
use e2e::cluster_scene::{End, Scene, version};
use e2e::cluster_tools::kubectl;
use e2e::until::{until, until_within};
use serde_json::Value;

const BOUND: Duration = Duration::from_secs(15);

fn holder(lease: &Value) -> String {
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

fn transitions(lease: &Value) -> u64 {
    lease["spec"]["leaseTransitions"].as_u64().unwrap_or_default()
}

fn leader(release: &Release) -> Pod {
    let holder = until("somebody leads", || Some(holder(&release.lease())).filter(|name| !name.is_empty()));
    let pods = release.pods();
    pods.into_iter().find(|pod| pod.name == holder).unwrap_or_else(|| panic!("{holder} leads, but is no pod"))
}

/// How long a new route takes until its status says that it is live.
fn programmed_after(scene: &Scene, name: &str) -> Duration {
    let since = Instant::now();
    scene.route(name, &format!("{name}.example.com"), "web", &version(1));
    until_true(scene, name, "Programmed");
    since.elapsed()
}

fn until_true(scene: &Scene, name: &str, kind: &str) {
    let path = scene.path(name);
    until_within(Duration::from_secs(60), "the condition is true", || {
        (condition(&scene.api.get(&path), kind)?["status"] == "True").then_some(())
    });
}

/// Every change of holder that the watch saw since then counts one transition, and nothing else does: no two hold it.
/// How often it changed hands.
fn assert_one_at_a_time(events: &Watch, since: &Value) -> usize {
    let mut before = since.clone();
    let mut changes = 0;
    let leases = events.so_far().into_iter().map(|seen| seen.object);
    for lease in leases.filter(|lease| lease["metadata"]["name"] == since["metadata"]["name"]) {
        let (from, to) = (holder(&before), holder(&lease));
        let counted = transitions(&lease) - transitions(&before);
        // A leader that leaves empties the Lease first.
        let changed = from != to && !to.is_empty();
        changes += usize::from(changed);
        let right = counted == u64::from(changed) || (changed && from.is_empty() && counted == 0);
        assert!(right, "{from} -> {to}, and {counted} transitions:\n{before}\n{lease}");
        before = lease;
    }
    changes
}

/// The pods that say of themselves that they lead.
fn who_lead(pods: &[Pod]) -> Vec<String> {
    let leads = |pod: &&Pod| pod.try_metrics().is_ok_and(|m| m.get("baribhara_leader") == Some(1.0));
    pods.iter().filter(leads).map(|pod| pod.name.clone()).collect()
}

#[test]
fn when_the_leader_dies_status_goes_on_within_15_seconds_by_one_writer() {
    let release = Release::shared();
    let scene = Scene::new("leader");
    scene.echo("web", 1, End::Drains);
    let calm = programmed_after(&scene, "calm");
    measured("new route to Programmed on 3/3 replicas, nothing amiss", ms(calm), "");
    let (lease, events) = (release.lease(), scene.api.watch(&release.leases_path("")));

    let killed = leader(&release);
    killed.signal("KILL");
    let after_kill = programmed_after(&scene, "after-kill");
    measured("leader's container killed to a new route Programmed", ms(after_kill), "<= 15 s");
    release.settled(3);

    let deleted = leader(&release);
    kubectl(&["-n", NAMESPACE, "delete", "pod", &deleted.name, "--force", "--grace-period=0"]);
    let after_delete = programmed_after(&scene, "after-delete");
    measured("leader's pod deleted by force to a new route Programmed", ms(after_delete), "<= 15 s");
    release.settled(3);

    let left = leader(&release);
    kubectl(&["-n", NAMESPACE, "delete", "pod", &left.name, "--wait=false"]);
    let after_leave = programmed_after(&scene, "after-leave");
    measured("leader's pod deleted, it drains, to a new route Programmed", ms(after_leave), "<= 15 s");
    let pods = release.settled(3);

    let changes = assert_one_at_a_time(&events, &lease);
    assert!(changes >= 2, "the Lease changed hands {changes} times");
    let leading = until("one pod leads", || Some(who_lead(&pods)).filter(|leading| leading.len() == 1));
    assert_eq!(leading[0], holder(&release.lease()), "who says that it leads is not who holds the Lease");
    for (what, time) in [("killed", after_kill), ("deleted by force", after_delete), ("left", after_leave)] {
        assert!(time <= BOUND, "{what}: {time:?}");
    }
}

#[test]
fn a_leader_that_was_frozen_finds_another_and_writes_nothing() {
    let release = Release::shared();
    let scene = Scene::new("frozen");
    scene.echo("web", 1, End::Drains);
    programmed_after(&scene, "before");
    let pods = release.settled(3);
    let (lease, events) = (release.lease(), scene.api.watch(&release.leases_path("")));

    let frozen = leader(&release);
    let thaw = Thaw(&frozen);
    frozen.signal("STOP");
    let since = Instant::now();
    scene.route("while-frozen", "while-frozen.example.com", "web", &version(1));
    until_true(&scene, "while-frozen", "Accepted");
    let after = since.elapsed();
    measured("leader frozen to the status of a new route written by another", ms(after), "<= 15 s");
    // Programmed counts replicas: it waits until the frozen one no longer counts as ready.
    until_true(&scene, "while-frozen", "Programmed");
    measured("leader frozen to a new route Programmed on the others", ms(since.elapsed()), "");
    let successor = leader(&release);
    assert_ne!(successor.name, frozen.name);

    // What the old one finds when it wakes: a new object, and watches of its own that lag behind. Its status is
    // right, so whoever writes it now does so without need: the old leader.
    let path = scene.path("while-frozen");
    let version = scene.api.get(&path)["metadata"]["resourceVersion"].clone();
    let writes = scene.api.watch(&e2e::cluster_api::routes_path(&scene.namespace));
    drop(thaw);
    let woke = Instant::now();
    until_within(Duration::from_secs(30), "the frozen one is ready again", || {
        let ready = frozen.admin("/readyz").ok()?.status == 200;
        (ready && frozen.metrics().get("baribhara_leader") == Some(0.0)).then_some(())
    });
    measured("thawed leader to knowing that it leads no more", ms(woke.elapsed()), "");
    until_within(Duration::from_secs(30), "all replicas count again", || {
        let route = scene.api.get(&path);
        let live = condition(&route, "Programmed")?["message"].as_str()?;
        live.contains("3/3").then_some(())
    });
    // The number of replicas changed, so one more write is right: by the successor, who alone knows of all three.
    let written = writes.so_far();
    let of_route = written.iter().filter(|seen| seen.object["metadata"]["name"] == "while-frozen");
    let messages: Vec<_> = of_route
        .filter(|seen| seen.object["metadata"]["resourceVersion"] != version)
        .filter_map(|seen| condition(&seen.object, "Programmed").map(|found| found["message"].clone()))
        .collect();
    assert!(messages.len() <= 2, "{} writes: {messages:?}", messages.len());
    assert_eq!(assert_one_at_a_time(&events, &lease), 1, "the Lease changed hands more than once");
    assert_eq!(holder(&release.lease()), successor.name);
    let leading = who_lead(&pods);
    assert_eq!(leading, std::slice::from_ref(&successor.name), "who leads");
    assert!(after <= BOUND, "status went on after {after:?}");
}

/// Lets the frozen processes run again, whatever becomes of the test.
struct Thaw<'a>(&'a Pod);

impl Drop for Thaw<'_> {
    fn drop(&mut self) {
        self.0.signal("CONT");
    }
}
