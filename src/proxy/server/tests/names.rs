//! Names of backends that lead to the gateway's own surroundings when they are resolved.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::support::{ask, dial};
use super::upstream::{HTTP1, HTTP2, answer_with, forwarding, site_at, speak_h2, start};
use crate::settings::{BackendNames, Settings};

#[test]
fn a_name_that_leads_home_is_asked_only_where_names_may_lead_anywhere() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let port = start(None, move |accepted| {
        counter.fetch_add(1, Ordering::SeqCst);
        speak_h2(accepted, |number, asked| async move { answer_with(number, asked, "asked") })
    });
    let routes = [forwarding("one.example", HTTP1), forwarding("two.example", HTTP2)];
    // Whatever address of loopback the name has on this machine.
    let upstreams = [("one.example", "localhost", port), ("two.example", "localhost", port)];
    let away = Settings { backend_names: BackendNames::Away(Vec::new()), ..Settings::default() };
    let site = site_at(away, &routes, &upstreams);
    for host in ["one.example", "two.example"] {
        let answer = ask(&mut dial(site.http), "GET", host, "/", &[]).unwrap();
        assert_eq!(answer.status, 503, "{host}: {}", answer.body);
        assert!(answer.body.contains("connect-failed"), "{host}: {}", answer.body);
        let failures = format!("baribhara_upstream_connect_failures_total{{backend=\"shop/{host}:80\"}}");
        assert!(site.metric(&failures) >= 1.0, "{host}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0, "not even a connection");
    let site = site_at(Settings::default(), &routes, &upstreams);
    let answer = ask(&mut dial(site.http), "GET", "two.example", "/", &[]).unwrap();
    assert!(answer.status == 200 && answer.body.contains("asked"), "{}", answer.body);
}
