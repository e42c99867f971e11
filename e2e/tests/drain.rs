//! The end of the process: nobody notices it who follows readiness and `Connection: close`.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use e2e::backend::Backend;
use e2e::client::{self, Connection, Request};
use e2e::echo::Echo;
use e2e::folder::{Folder, route};
use e2e::load::{Load, Plan};
use e2e::until::until;

use crate::site::{HOST, site, site_with, spec};

#[test]
fn a_sigterm_under_load_loses_no_request_and_ends_with_success() {
    let upstream = Echo::start("a");
    let mut site = site_with(
        &route("shop", &spec(upstream.address, "")),
        &["--lame-duck", "4s", "--drain", "10s", "--access-log", "off"],
    );
    let http = site.gateway.http;
    let load = Load::start(http, 4, &Plan::mixed(HOST, "/"));
    until("the load runs", || (load.done() > 100).then_some(()));
    site.gateway.process.signal("TERM");
    let signalled = Instant::now();
    until("readiness is off", || {
        let status = site.gateway.ask_admin("/readyz").map(|response| response.status);
        matches!(status, Ok(503)).then_some(())
    });
    assert!(signalled.elapsed() < Duration::from_secs(1), "readiness took {:?}", signalled.elapsed());
    // One slow request begins in the lame-duck time and ends after it.
    let slow = thread::spawn(move || client::ask(http, &Request::get(HOST, "/slow?delay=5s")));
    // As a load balancer does: it stops some time after readiness went off, and before the lame-duck time is over.
    let seen = load.done();
    until("the load goes on while draining", || (load.done() > seen + 100).then_some(()));
    let tally = load.stop();
    assert!(signalled.elapsed() < Duration::from_secs(4), "too slow a machine for this test");
    tally.assert_clean();
    assert!(tally.connections > 4, "no answer said `Connection: close`");
    assert_eq!(slow.join().unwrap().expect("the slow request ends well").status, 200);
    let (status, _) = site.gateway.process.wait(Duration::from_secs(15));
    assert_eq!(status.code(), Some(0), "{:#?}", site.gateway.process.stderr());
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let upstream = Echo::start("a");
    let mut site =
        site_with(&route("shop", &spec(upstream.address, "")), &["--lame-duck", "60s", "--drain", "60s"]);
    let mut hanging = Connection::open(site.gateway.http).unwrap();
    hanging.send(&Request::get(HOST, "/?delay=60s").bytes()).unwrap();
    site.gateway.process.signal("TERM");
    until("readiness is off", || {
        let status = site.gateway.ask_admin("/readyz").map(|response| response.status);
        matches!(status, Ok(503)).then_some(())
    });
    assert!(site.gateway.process.ended().is_none());
    site.gateway.process.signal("INT");
    let (_, took) = site.gateway.process.wait(Duration::from_secs(5));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn the_drain_time_bounds_requests_that_never_end() {
    let upstream = Echo::start("a");
    let mut site =
        site_with(&route("shop", &spec(upstream.address, "")), &["--lame-duck", "0s", "--drain", "500ms"]);
    let mut hanging = Connection::open(site.gateway.http).unwrap();
    hanging.send(&Request::get(HOST, "/?delay=60s").bytes()).unwrap();
    until("the request is in flight", || {
        (site.gateway.metric("http_requests_in_flight") >= 1.0).then_some(())
    });
    site.gateway.process.signal("TERM");
    let (status, took) = site.gateway.process.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0));
    assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    let upstream = Echo::start("a");
    let mut site =
        site_with(&route("shop", &spec(upstream.address, "")), &["--lame-duck", "0s", "--drain", "30s"]);
    let mut idle = Connection::open(site.gateway.http).unwrap();
    assert_eq!(idle.ask(&Request::get(HOST, "/")).unwrap().status, 200);
    let _untouched = Connection::open(site.gateway.http).unwrap();
    site.gateway.process.signal("TERM");
    let (status, took) = site.gateway.process.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(idle.rest().unwrap().is_empty());
}

#[test]
fn a_connection_of_the_maximum_age_is_closed_with_an_answer() {
    let upstream = Echo::start("a");
    let site = site_with(&route("shop", &spec(upstream.address, "")), &["--max-connection-age", "1s"]);
    let mut connection = Connection::open(site.gateway.http).unwrap();
    let opened = Instant::now();
    until("an answer says close", || {
        let response = connection.ask(&Request::get(HOST, "/")).expect("no answer is lost");
        assert_eq!(response.status, 200);
        response.closes().then_some(())
    });
    assert!(opened.elapsed() >= Duration::from_millis(800), "{:?}", opened.elapsed());
    assert!(connection.rest().unwrap().is_empty());
}

#[test]
fn connections_that_age_under_load_cost_no_request() {
    let upstream = Echo::start("a");
    let flags = ["--max-connection-age", "1s", "--access-log", "off"];
    let site = site_with(&route("shop", &spec(upstream.address, "")), &flags);
    let opened = Instant::now();
    let load = Load::start(site.gateway.http, 4, &Plan::mixed(HOST, "/"));
    until("each connection has aged three times", || {
        (opened.elapsed() > Duration::from_secs(3)).then_some(())
    });
    let tally = load.stop();
    tally.assert_clean();
    assert!(
        (8..=20).contains(&tally.connections),
        "{} connections of 4 threads in three seconds",
        tally.connections
    );
}

#[test]
fn connections_that_wait_to_be_accepted_at_the_end_get_their_answers() {
    let backend = Backend::named("ok");
    let flags = ["--lame-duck", "0s", "--drain", "20s", "--access-log", "off"];
    let mut site = site_with(&route("shop", &spec(backend.address, "")), &flags);
    // While the process stands still the kernel completes connections that it has not accepted.
    site.gateway.process.signal("STOP");
    let mut connections: Vec<_> = (0..300).map(|_| Connection::open(site.gateway.http).unwrap()).collect();
    for connection in &mut connections {
        connection.send(&Request::get(HOST, "/").bytes()).unwrap();
    }
    site.gateway.process.signal("TERM");
    site.gateway.process.signal("CONT");
    let answers = connections.iter_mut().map(|connection| connection.response("GET"));
    let failed: Vec<_> = answers.filter(|answer| !matches!(answer, Ok(r) if r.status == 200)).collect();
    assert!(failed.is_empty(), "{} of 300 failed, the first with {:?}", failed.len(), failed[0]);
    drop(connections);
    let (status, _) = site.gateway.process.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{:#?}", site.gateway.process.stderr());
}

#[test]
fn jw20_a_gateway_that_crashes_leaves_no_core_dump_with_its_keys() {
    let folder = Folder::new();
    // Whether this machine writes any at all: otherwise there is nothing to be seen.
    let control = Command::new("sh")
        .args(["-c", "ulimit -c unlimited; kill -ABRT $$"])
        .current_dir(folder.path())
        .status()
        .unwrap();
    if !control.core_dumped() {
        println!("skipped: this machine writes no core dumps");
        return;
    }
    let backend = Backend::named("ok");
    let mut site = site(&route("shop", &spec(backend.address, "")));
    let process = site.gateway.process.id().to_string();
    let limit = Command::new("prlimit").args(["--core=unlimited", "--pid", &process]).status();
    assert!(limit.unwrap().success());
    site.gateway.process.signal("ABRT");
    let (status, _) = site.gateway.process.wait(Duration::from_secs(15));
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
}
