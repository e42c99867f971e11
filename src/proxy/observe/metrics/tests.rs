//! What `/metrics` says, line by line, and how long it takes with very many routes.

use std::time::{Duration, Instant};

use super::super::overload::SHED;
use super::super::passthrough::{PASSTHROUGH_RESULTS, PassthroughResult};
use super::super::{ExternalResult, MethodLabel, ProviderKeys, names};
use super::*;

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|l| l == line)
}

/// Metrics with everything used once, and what must be held for it to stay.
fn all_used() -> (Arc<Metrics>, [Arc<dyn std::any::Any + Send + Sync>; 6]) {
    let metrics = Metrics::new();
    let policy = ir::ObjectRef::new(ir::Kind::RateLimitPolicy, "ns", "rlp");
    let (route, limit) = (metrics.route("ns/shop/0"), metrics.limit(&policy, &"per-user".into()));
    let (backend, listener) = (metrics.backend("ns/svc:80"), metrics.listener("[::]:8080"));
    route.record(MethodLabel::Get, 200, 2_000_000);
    route.record(MethodLabel::Get, 200, 20_000_000_000);
    metrics.unmatched().record(MethodLabel::Other, 404, 1);
    limit.rejected.inc();
    limit.shadowed.add(2);
    limit.evicted.add(3);
    limit.places.set(9);
    limit.in_flight.inc();
    limit.queued.inc();
    limit.queued.inc();
    metrics.passwords.cached.add(2);
    metrics.passwords.checked.inc();
    metrics.passwords.busy.add(3);
    let keys = Arc::new(crate::observe::KeySetMetrics::default());
    keys.fetched(Instant::now());
    keys.keys.set(1);
    keys.refetches.inc();
    metrics.set_key_sets(vec![ProviderKeys { label: Arc::from("shop/shop/corp"), metrics: keys }]);
    route.retried();
    route.external().count(ExternalResult::Cached);
    route.external().took(Duration::from_millis(30));
    route.session_begun();
    use_backend(&backend);
    listener.connection_opened();
    listener.connection_opened();
    listener.connection_closed();
    for (result, _) in HANDSHAKE_RESULTS {
        listener.handshake_ended(result);
    }
    listener.handshake_ended(HandshakeResult::Timeout);
    listener.proxy_header_refused();
    let passed = metrics.passthrough("ns/pass/0");
    for (result, _) in PASSTHROUGH_RESULTS {
        passed.ended(result);
    }
    passed.ended(PassthroughResult::BreakerOpen);
    let extras = metrics.extras("ns/shop/0");
    use_extras(&extras);
    metrics.overload.set_budgets(Some(7), None);
    metrics.overload.on_memory(8);
    for (shed, _, _) in SHED {
        metrics.overload.shed(shed);
    }
    metrics.tunnel_opened();
    metrics.set_certificates(12, 1_800_000_000);
    metrics.set_stapled_until(1_700_000_000);
    metrics.set_revocation_ends(1_600_000_000);
    metrics.set_generation(6);
    let watches = [(ir::Kind::Ingress, true), (ir::Kind::Secret, false)].into();
    metrics.set_control_state(ControlState { rejected_objects: 2, watches, ..Default::default() });
    metrics.set_generation(7);
    metrics.set_generation(8);
    metrics.access_log_dropped.add(3);
    metrics.task_panicked(LastingTask::KeySet);
    metrics.request_started();
    metrics.request_started();
    metrics.request_finished();
    (metrics, [route, limit, backend, listener, passed, extras])
}

fn use_backend(backend: &BackendMetrics) {
    backend.connection_opened();
    backend.connection_opened();
    backend.connection_closed();
    backend.connect_failed();
    backend.ejected();
    backend.set_endpoints([3, 0, 1, 2]);
    backend.set_breaker(2);
    backend.breaker_was_open();
    backend.checked(true);
    backend.checked(false);
    backend.checked(true);
    backend.check_changed(true);
    backend.check_changed(false);
    backend.check_changed(false);
    for (kind, _) in BREAKER_KINDS {
        backend.breaker_rejected(kind);
    }
    backend.breaker_rejected(BreakerKind::Retries);
    backend.adaptive_rejected();
    backend.set_adaptive_limit(21);
}

fn use_extras(extras: &ExtraMetrics) {
    extras.pages_shown.inc();
    extras.pages_failed.add(2);
    extras.mirrors_sent.inc();
    extras.mirrors_failed.add(2);
    extras.mirrors_dropped.add(3);
    extras.faults_delayed.inc();
    extras.faults_aborted.add(2);
}

/// What [`all_used`] shows.
const LINES: &[&str] = &[
    "http_requests_total{method=\"GET\",endpoint=\"ns/shop/0\",status_code=\"200\"} 2",
    "http_requests_total{method=\"other\",endpoint=\"unmatched\",status_code=\"404\"} 1",
    "http_request_duration_seconds_bucket{method=\"GET\",endpoint=\"ns/shop/0\",le=\"0.001\"} 0",
    "http_request_duration_seconds_bucket{method=\"GET\",endpoint=\"ns/shop/0\",le=\"0.0025\"} 1",
    "http_request_duration_seconds_bucket{method=\"GET\",endpoint=\"ns/shop/0\",le=\"10\"} 1",
    "http_request_duration_seconds_bucket{method=\"GET\",endpoint=\"ns/shop/0\",le=\"+Inf\"} 2",
    "http_request_duration_seconds_sum{method=\"GET\",endpoint=\"ns/shop/0\"} 20.002",
    "http_request_duration_seconds_count{method=\"GET\",endpoint=\"ns/shop/0\"} 2",
    "http_requests_in_flight 1",
    concat!("baribhara_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    "baribhara_config_generation 8",
    "baribhara_config_rejected_objects 2",
    "baribhara_watch_up{kind=\"Ingress\"} 1",
    "baribhara_watch_up{kind=\"Secret\"} 0",
    "baribhara_config_reloads_total{result=\"applied\"} 1",
    "baribhara_config_reloads_total{result=\"partial\"} 2",
    "baribhara_connections{listener=\"[::]:8080\"} 1",
    "baribhara_tls_handshakes_total{listener=\"[::]:8080\",result=\"ok\"} 1",
    "baribhara_tls_handshakes_total{listener=\"[::]:8080\",result=\"resumed\"} 1",
    "baribhara_tls_handshakes_total{listener=\"[::]:8080\",result=\"no_certificate\"} 1",
    "baribhara_tls_handshakes_total{listener=\"[::]:8080\",result=\"timeout\"} 2",
    "baribhara_tls_handshakes_total{listener=\"[::]:8080\",result=\"failed\"} 1",
    "baribhara_proxy_protocol_refused_total{listener=\"[::]:8080\"} 1",
    "baribhara_tunnels_open 1",
    "baribhara_passthrough_total{endpoint=\"ns/pass/0\",result=\"ok\"} 1",
    "baribhara_passthrough_total{endpoint=\"ns/pass/0\",result=\"no_endpoint\"} 1",
    "baribhara_passthrough_total{endpoint=\"ns/pass/0\",result=\"connect_failed\"} 1",
    "baribhara_passthrough_total{endpoint=\"ns/pass/0\",result=\"breaker_open\"} 2",
    "baribhara_error_pages_total{endpoint=\"ns/shop/0\",result=\"shown\"} 1",
    "baribhara_error_pages_total{endpoint=\"ns/shop/0\",result=\"failed\"} 2",
    "baribhara_mirrored_requests_total{endpoint=\"ns/shop/0\",result=\"sent\"} 1",
    "baribhara_mirrored_requests_total{endpoint=\"ns/shop/0\",result=\"failed\"} 2",
    "baribhara_mirrored_requests_total{endpoint=\"ns/shop/0\",result=\"dropped\"} 3",
    "baribhara_faults_injected_total{endpoint=\"ns/shop/0\",fault=\"delay\"} 1",
    "baribhara_faults_injected_total{endpoint=\"ns/shop/0\",fault=\"abort\"} 2",
    "baribhara_memory_held_bytes 0",
    "baribhara_memory_budget_bytes 7",
    "baribhara_overloaded 1",
    "baribhara_shed_total{what=\"request\",budget=\"memory\"} 1",
    "baribhara_shed_total{what=\"connection\",budget=\"memory\"} 1",
    "baribhara_shed_total{what=\"connection\",budget=\"connections\"} 1",
    "baribhara_breaker_rejected_total{backend=\"ns/svc:80\",kind=\"adaptive\"} 1",
    "baribhara_adaptive_limit{backend=\"ns/svc:80\"} 21",
    "baribhara_tls_certificates 12",
    "baribhara_tls_certificate_not_after_seconds 1800000000",
    "baribhara_tls_ocsp_next_update_seconds 1700000000",
    "baribhara_tls_crl_next_update_seconds 1600000000",
    "baribhara_upstream_connections{backend=\"ns/svc:80\"} 1",
    "baribhara_upstream_connect_failures_total{backend=\"ns/svc:80\"} 1",
    "baribhara_retries_total{endpoint=\"ns/shop/0\"} 1",
    "baribhara_endpoint_ejections_total{backend=\"ns/svc:80\"} 1",
    "baribhara_backend_endpoints{backend=\"ns/svc:80\",state=\"healthy\"} 3",
    "baribhara_backend_endpoints{backend=\"ns/svc:80\",state=\"ejected\"} 1",
    "baribhara_backend_endpoints{backend=\"ns/svc:80\",state=\"failing\"} 2",
    "baribhara_health_checks_total{backend=\"ns/svc:80\",result=\"pass\"} 2",
    "baribhara_health_checks_total{backend=\"ns/svc:80\",result=\"fail\"} 1",
    "baribhara_health_changes_total{backend=\"ns/svc:80\",to=\"healthy\"} 1",
    "baribhara_health_changes_total{backend=\"ns/svc:80\",to=\"failing\"} 2",
    "baribhara_breaker_state{backend=\"ns/svc:80\"} 2",
    "baribhara_breaker_rejected_total{backend=\"ns/svc:80\",kind=\"failures\"} 1",
    "baribhara_breaker_rejected_total{backend=\"ns/svc:80\",kind=\"requests\"} 1",
    "baribhara_breaker_rejected_total{backend=\"ns/svc:80\",kind=\"pending\"} 1",
    "baribhara_breaker_rejected_total{backend=\"ns/svc:80\",kind=\"connections\"} 1",
    "baribhara_breaker_rejected_total{backend=\"ns/svc:80\",kind=\"retries\"} 2",
    "baribhara_ratelimit_rejected_total{policy=\"ns/rlp\",limit=\"per-user\"} 1",
    "baribhara_ratelimit_shadowed_total{policy=\"ns/rlp\",limit=\"per-user\"} 2",
    "baribhara_ratelimit_evicted_keys_total{policy=\"ns/rlp\",limit=\"per-user\"} 3",
    "baribhara_ratelimit_in_flight{policy=\"ns/rlp\",limit=\"per-user\"} 1",
    "baribhara_ratelimit_queued{policy=\"ns/rlp\",limit=\"per-user\"} 2",
    "baribhara_password_checks_total{result=\"cached\"} 2",
    "baribhara_password_checks_total{result=\"checked\"} 1",
    "baribhara_password_checks_total{result=\"busy\"} 3",
    "baribhara_external_auth_total{endpoint=\"ns/shop/0\",result=\"cached\"} 1",
    "baribhara_external_auth_duration_seconds_bucket{endpoint=\"ns/shop/0\",le=\"0.025\"} 0",
    "baribhara_external_auth_duration_seconds_bucket{endpoint=\"ns/shop/0\",le=\"0.05\"} 1",
    "baribhara_external_auth_duration_seconds_count{endpoint=\"ns/shop/0\"} 1",
    "baribhara_access_log_dropped_total 3",
    "baribhara_task_restarts_total{task=\"key_set\"} 1",
    "baribhara_panics_total 1",
];

#[test]
fn every_handle_moves_its_own_series() {
    let (metrics, _held) = all_used();
    let text = metrics.render();
    for line in LINES {
        assert!(has(&text, line), "no line {line} in\n{text}");
    }
}

#[test]
fn every_named_metric_is_exposed_with_its_type_and_help_and_no_other_is() {
    let (metrics, _held) = all_used();
    let text = metrics.render();
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let want: Vec<String> =
        names::ALL.iter().map(|f| format!("{} {}", f.name, format!("{:?}", f.kind).to_lowercase())).collect();
    assert_eq!(types, want);
    for family in names::ALL {
        assert!(has(&text, &format!("# HELP {} {}", family.name, family.help)), "{}", family.name);
    }
}

#[test]
fn the_handshake_results_stand_in_the_order_of_their_enum() {
    for (index, (result, _)) in HANDSHAKE_RESULTS.into_iter().enumerate() {
        assert_eq!(result as usize, index);
    }
}

#[test]
fn the_breaker_kinds_stand_in_the_order_of_their_enum() {
    for (index, (kind, _)) in BREAKER_KINDS.into_iter().enumerate() {
        assert_eq!(kind as usize, index);
    }
}

#[test]
fn a_route_that_changes_keeps_its_series_and_one_that_comes_back_starts_anew() {
    let metrics = Metrics::new();
    let line = |count| {
        format!("http_requests_total{{method=\"GET\",endpoint=\"a/b/c\",status_code=\"200\"}} {count}")
    };
    let old = metrics.route("a/b/c");
    old.record(MethodLabel::Get, 200, 1);
    // The next generation is built while the old one still lives.
    let new = metrics.route("a/b/c");
    drop(old);
    new.record(MethodLabel::Get, 200, 1);
    assert!(has(&metrics.render(), &line(2)));
    drop(new);
    assert!(!metrics.render().contains("a/b/c"), "the series end with the route");
    let back = metrics.route("a/b/c");
    assert!(!metrics.render().contains("a/b/c"), "made on first use");
    back.record(MethodLabel::Get, 200, 1);
    assert!(has(&metrics.render(), &line(1)));
}

#[test]
fn label_values_are_escaped() {
    let metrics = Metrics::new();
    let route = metrics.route("a/\"b\\\n/c");
    route.record(MethodLabel::Get, 200, 1);
    let text = metrics.render();
    assert!(text.contains("endpoint=\"a/\\\"b\\\\\\n/c\""), "{text}");
}

#[test]
fn requests_in_flight_are_summed_over_workers_and_never_below_none() {
    let metrics = Metrics::new();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    metrics.request_started();
                    assert!(metrics.requests_in_flight() <= 8);
                    metrics.request_finished();
                }
                metrics.request_started();
            });
        }
    });
    assert_eq!((metrics.requests_in_flight(), metrics.requests_finished()), (8, 8_000));
}

#[test]
fn ten_thousand_routes_with_traffic_render_soon() {
    let metrics = Metrics::new();
    let routes: Vec<_> =
        (0..10_000).map(|n| metrics.route(&format!("namespace/route-{n:05}/rule"))).collect();
    for route in &routes {
        route.record(MethodLabel::Get, 200, 3_000_000);
    }
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let started = Instant::now();
        let text = metrics.render();
        best = best.min(started.elapsed());
        assert_eq!(text.lines().filter(|line| line.starts_with("http_requests_total{")).count(), 10_000);
    }
    println!("rendered 10,000 routes in {best:?}");
    // The goal is 300 ms; a build without optimisation on a busy machine gets five times that.
    assert!(best < Duration::from_millis(1500), "{best:?}");
}
