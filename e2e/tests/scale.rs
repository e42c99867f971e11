//! Ten thousand routes: soon ready, and a change of one of them soon live.

use std::time::{Duration, Instant};

use e2e::backend::Backend;
use e2e::client::{Connection, Request};
use e2e::folder::{Folder, route};
use e2e::gateway::Gateway;
use e2e::until::until_within;

use crate::site::address;

const ROUTES: usize = 10_000;

fn numbered(number: usize, version: usize, to: &str) -> String {
    route(
        &format!("route-{number}"),
        &format!(
            "hostnames: [h{number}.example.com]
rules:
- name: all
  matches: [{{path: {{type: PathPrefix, value: /}}}}]
  filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: X-Version, value: \"{version}\"}}]}}}}]
  backendRefs: [{to}]"
        ),
    )
}

#[test]
fn ten_thousand_routes_are_ready_within_two_seconds_and_a_change_is_live_within_100_ms() {
    let backend = Backend::named("ok");
    let to = address(backend.address);
    let folder = Folder::new();
    for number in 0..ROUTES {
        std::fs::write(folder.path().join(format!("{number}.yaml")), numbered(number, 0, &to)).unwrap();
    }
    let started = Instant::now();
    let gateway = Gateway::launch(folder.path(), &["--access-log", "off"]);
    gateway.wait_ready(Duration::from_secs(60));
    let ready = started.elapsed();
    let mut connection = Connection::open(gateway.http).unwrap();
    for number in [0, 1, ROUTES / 2, ROUTES - 1] {
        let response = connection.ask(&Request::get(&format!("h{number}.example.com"), "/")).unwrap();
        assert_eq!(response.header("x-version"), Some("0"), "route {number}");
    }
    let mut times: Vec<Duration> = (1..=15)
        .map(|version| {
            let number = version * 611;
            let host = format!("h{number}.example.com");
            let changed = Instant::now();
            folder.write(&format!("{number}.yaml"), &numbered(number, version, &to));
            let want = version.to_string();
            until_within(Duration::from_secs(10), "the change is live", || {
                let response = connection.ask(&Request::get(&host, "/")).expect("an answer");
                (response.header("x-version") == Some(&want)).then_some(())
            });
            changed.elapsed()
        })
        .collect();
    times.sort();
    let median = times[times.len() / 2];
    println!("ready after {ready:?}; a change is live after {median:?} (median; {times:?})");
    assert!(ready <= Duration::from_secs(2), "ready after {ready:?}");
    assert!(median <= Duration::from_millis(100), "live after {median:?} of {times:?}");
}
