//! Memory of the gateway at a thousand routes, and after two thousand changes.

use std::time::Duration;

use e2e::client::Request;
use e2e::cluster_api::{condition, routes_path};
use e2e::cluster_pod::Pod;
use e2e::cluster_release::{NAME, NAMESPACE, Release};
use e2e::cluster_report::{measured, slope};
use e2e::cluster_scene::{End, Scene, roll, route, until_all, version};
use e2e::until::until_within;
use serde_json::{Value, json};

const ROUTES: usize = 1000;
/// The first half is warming up: what grows there once does not grow again.
const EDITS: usize = 2000;
/// Edits between two looks at the memory.
const STRIDE: usize = 20;
const BYTES_MAX: f64 = 60.0 * MIB;
/// Growth for a thousand edits that is noise of the allocator, not a leak.
const GROWTH_MAX: f64 = 1.0 * MIB;
const MIB: f64 = 1024.0 * 1024.0;

fn numbered(number: usize, revision: usize) -> Value {
    let host = format!("h{number}.memory.example.com");
    route(&format!("route-{number}"), &host, "web", &version(revision))
}

fn mib(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / MIB)
}

/// What each pod says of itself and the kernel of it, whichever is more.
fn memory(pods: &[Pod]) -> Vec<f64> {
    pods.iter()
        .map(|pod| {
            let said = pod.metrics().get("memory_usage_bytes").expect("memory_usage_bytes");
            said.max(pod.resident_bytes() as f64)
        })
        .collect()
}

fn until_live(scene: &Scene, pods: &[Pod], number: usize, revision: usize) {
    let want = revision.to_string();
    let request = Request::get(&format!("h{number}.memory.example.com"), "/");
    for pod in pods {
        until_within(Duration::from_secs(60), "the route is live", || {
            let answer = pod.ask(&request).ok()?;
            (answer.header("x-version") == Some(&want)).then_some(())
        });
    }
    let path = scene.path(&format!("route-{number}"));
    until_within(Duration::from_secs(120), "the route is programmed", || {
        (condition(&scene.api.get(&path), "Programmed")?["status"] == "True").then_some(())
    });
}

#[test]
fn three_replicas_stay_under_60_mib_at_a_thousand_routes_and_do_not_grow_with_edits() {
    let release = Release::shared();
    let scene = Scene::new("memory");
    scene.echo("web", 1, End::Drains);
    // Fresh pods that have known no other objects: those of tests before may still be on their way out.
    until_within(Duration::from_secs(120), "the routes of other tests are gone", || {
        let others = scene.api.list("/apis/gateway.baribhara.io/v1alpha1/gatewayroutes");
        others.is_empty().then_some(())
    });
    roll(NAMESPACE, NAME);
    let pods = release.settled(3);
    let idle = memory(&pods);
    measured("memory of 3 replicas without routes", each(&idle), "");

    let objects: Vec<_> = (0..ROUTES).map(|number| numbered(number, 0)).collect();
    scene.api.create_all(&routes_path(&scene.namespace), &objects);
    until_live(&scene, &pods, ROUTES - 1, 0);
    for number in (0..ROUTES).step_by(100) {
        until_all(&pods, &Request::get(&format!("h{number}.memory.example.com"), "/"), 200);
    }
    let loaded = memory(&pods);
    measured("memory of 3 replicas at 1,000 routes", each(&loaded), "< 60 MiB each");

    let mut samples: Vec<Vec<(f64, f64)>> = vec![Vec::new(); pods.len()];
    for edit in 1..=EDITS {
        let number = edit * 7919 % ROUTES;
        let rules = numbered(number, edit)["spec"]["rules"].take();
        scene.api.patch(&scene.path(&format!("route-{number}")), &json!({"spec": {"rules": rules}}));
        if edit.is_multiple_of(STRIDE) {
            for (points, bytes) in samples.iter_mut().zip(memory(&pods)) {
                points.push((edit as f64, bytes));
            }
        }
    }
    until_live(&scene, &pods, EDITS * 7919 % ROUTES, EDITS);
    let edited = memory(&pods);
    measured("memory of 3 replicas after 2,000 edits", each(&edited), "< 60 MiB each");
    let growth: Vec<f64> = samples.iter().map(|points| slope(&points[points.len() / 2..]) * 1000.0).collect();
    measured("growth for 1,000 edits by the slope of the second 1,000", each(&growth), "<= 1 MiB each");
    for bytes in loaded.iter().chain(&edited) {
        assert!(*bytes < BYTES_MAX, "a replica has {}: {loaded:?} {edited:?}", mib(*bytes));
    }
    for (pod, growth) in pods.iter().zip(&growth) {
        assert!(*growth <= GROWTH_MAX, "{} grows by {}: {samples:?}", pod.name, mib(*growth));
    }
}

fn each(bytes: &[f64]) -> String {
    bytes.iter().map(|bytes| mib(*bytes)).collect::<Vec<_>>().join(", ")
}
