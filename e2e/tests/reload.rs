//! Changes of the folder while requests are served.

use std::thread;
use std::time::{Duration, Instant};

use e2e::client::{Connection, Request};
use e2e::echo::Echo;
use e2e::folder::{Folder, route, service};
use e2e::gateway::Gateway;
use e2e::load::{Load, Plan, ask_times};
use e2e::port::Port;
use e2e::until::{PATIENCE, until};

use crate::site::HOST;

/// A route of the main host that also sets a header to this number, so that each reload changes what the load uses.
fn numbered(number: usize) -> String {
    let spec = format!(
        "hostnames: [{HOST}]
rules:
- name: all
  backendRefs: [{{name: web, port: 80}}]
  filters:
  - {{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: X-Version, value: \"{number}\"}}]}}}}"
    );
    route("shop", &spec)
}

/// Writes a version and waits, on one connection, until an answer has it. Returns how long that took.
fn change_and_wait(folder: &Folder, connection: &mut Connection, number: usize) -> Duration {
    let started = Instant::now();
    folder.write("route.yaml", &numbered(number));
    let want = number.to_string();
    loop {
        let response = connection.ask(&Request::get(HOST, "/")).expect("an answer while reloading");
        assert_eq!(response.status, 200);
        if response.header("x-version") == Some(&want) {
            return started.elapsed();
        }
        assert!(started.elapsed() < PATIENCE, "version {number} never came");
        thread::sleep(Duration::from_millis(1));
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn fifty_reloads_under_load_lose_no_request() {
    let upstreams = [Echo::start("a"), Echo::start("b"), Echo::start("c")];
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    let folder = Folder::with(&service("web", &addresses));
    folder.write("route.yaml", &numbered(0));
    let gateway = Gateway::start(folder.path(), &["--access-log", "off"]);
    let load = Load::start(gateway.http, 4, &Plan::mixed(HOST, "/load"));
    let mut connection = Connection::open(gateway.http).unwrap();
    for number in 1..=50 {
        change_and_wait(&folder, &mut connection, number);
        // Every other time an endpoint goes or comes as well.
        folder.write("all.yaml", &service("web", &addresses[..2 + number % 2]));
    }
    let tally = load.stop();
    tally.assert_clean();
    assert!(tally.succeeded > 500, "only {} requests came through beside the reloads", tally.succeeded);
}

#[test]
fn a_changed_file_is_live_in_under_100_ms() {
    let upstream = Echo::start("a");
    let folder = Folder::with(&service("web", &[upstream.address]));
    folder.write("route.yaml", &numbered(0));
    let gateway = Gateway::start(folder.path(), &["--access-log", "off"]);
    let mut connection = Connection::open(gateway.http).unwrap();
    let times: Vec<_> = (1..=21).map(|number| change_and_wait(&folder, &mut connection, number)).collect();
    let median = median(times.clone());
    assert!(median < Duration::from_millis(100), "median {median:?} of {times:?}");
}

#[test]
fn an_added_file_adds_its_routes_and_a_removed_one_takes_them_away() {
    let upstream = Echo::start("a");
    let folder = Folder::with(&service("web", &[upstream.address]));
    let gateway = Gateway::start(folder.path(), &[]);
    gateway.until_status(HOST, "/", 404);
    folder.write("route.yaml", &numbered(1));
    gateway.until_status(HOST, "/", 200);
    folder.remove("route.yaml");
    gateway.until_status(HOST, "/", 404);
}

#[test]
fn a_service_of_another_namespace_is_reached_for_as_long_as_a_grant_permits_it() {
    let upstream = Echo::start("a");
    let folder = Folder::with(&service("web", &[upstream.address]));
    let crossing = route(
        "crossing",
        &format!(
            "hostnames: [{HOST}]\nrules: [{{name: all, backendRefs: [{{name: web, namespace: shop, port: 80}}]}}]"
        ),
    );
    folder.write("route.yaml", &crossing.replace("namespace: shop}\nspec", "namespace: front}\nspec"));
    let gateway = Gateway::start(folder.path(), &[]);
    gateway.until_status(HOST, "/", 500);
    // Both versions are in use.
    for version in ["v1", "v1beta1"] {
        let grant = |from: &str| {
            format!(
                "apiVersion: gateway.networking.k8s.io/{version}\nkind: ReferenceGrant\n\
                 metadata: {{name: front, namespace: shop}}\nspec:\n  \
                 from: [{{group: gateway.baribhara.io, kind: GatewayRoute, namespace: {from}}}]\n  \
                 to: [{{group: \"\", kind: Service, name: web}}]\n"
            )
        };
        folder.write("grant.yaml", &grant("front"));
        gateway.until_status(HOST, "/", 200);
        folder.write("grant.yaml", &grant("back"));
        gateway.until_status(HOST, "/", 500);
        folder.write("grant.yaml", &grant("front"));
        gateway.until_status(HOST, "/", 200);
        folder.remove("grant.yaml");
        gateway.until_status(HOST, "/", 500);
    }
}

#[test]
fn a_folder_that_is_swapped_by_symbolic_link_is_read_anew() {
    // As the kubelet mounts a ConfigMap: `..data` is a link to a folder, and each file a link into it.
    let upstream = Echo::start("a");
    let folder = Folder::new();
    let write = |version: usize| {
        let name = format!("..version-{version}");
        std::fs::create_dir(folder.path().join(&name)).unwrap();
        let yaml = service("web", &[upstream.address]) + &numbered(version);
        std::fs::write(folder.path().join(&name).join("all.yaml"), yaml).unwrap();
        std::os::unix::fs::symlink(&name, folder.path().join("..data_tmp")).unwrap();
        std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    };
    write(1);
    std::os::unix::fs::symlink("..data/all.yaml", folder.path().join("all.yaml")).unwrap();
    let gateway = Gateway::start(folder.path(), &[]);
    assert_eq!(gateway.until_status(HOST, "/", 200).header("x-version"), Some("1"));
    write(2);
    until("the second version is served", || {
        (gateway.get(HOST, "/").header("x-version") == Some("2")).then_some(())
    });
}

#[test]
fn a_thousand_requests_with_one_dead_endpoint_of_three_all_succeed() {
    let upstreams = [Echo::start("a"), Echo::start("b")];
    let dead = Port::reserve();
    let addresses = [upstreams[0].address, dead.loopback(), upstreams[1].address];
    let folder = Folder::with(&(service("web", &addresses) + &numbered(0)));
    let gateway = Gateway::start(folder.path(), &["--access-log", "off"]);
    let tally = ask_times(gateway.http, 4, 1000, &Plan::get(HOST, "/"));
    tally.assert_clean();
    assert_eq!(tally.succeeded, 1000);
}

#[test]
fn an_endpoint_that_is_killed_under_load_costs_no_request() {
    let upstreams = [Echo::start("a"), Echo::start("b"), Echo::start("c")];
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    let folder = Folder::with(&(service("web", &addresses) + &numbered(0)));
    let gateway = Gateway::start(folder.path(), &["--access-log", "off"]);
    let load = Load::start(gateway.http, 4, &Plan::get(HOST, "/"));
    until("the load runs", || (load.done() > 200).then_some(()));
    upstreams[1].process.signal("KILL");
    let seen = load.done();
    until("the load goes on", || (load.done() > seen + 1000).then_some(()));
    load.stop().assert_clean();
}
