//! A route's counts: nothing lost, nothing mixed up, nothing made before its first use.

use super::*;

fn totals(route: &RouteMetrics) -> Vec<(MethodLabel, MethodTotals)> {
    route.totals().collect()
}

#[test]
fn methods_have_a_closed_set_of_labels() {
    for label in MethodLabel::ALL.into_iter().filter(|label| *label != MethodLabel::Other) {
        assert_eq!(MethodLabel::from(&Method::from_bytes(label.as_str().as_bytes()).unwrap()), label);
    }
    for other in ["get", "PROPFIND", "GETX", "other"] {
        assert_eq!(
            MethodLabel::from(&Method::from_bytes(other.as_bytes()).unwrap()),
            MethodLabel::Other,
            "{other}"
        );
    }
    for (index, label) in MethodLabel::ALL.into_iter().enumerate() {
        assert_eq!(label as usize, index);
    }
}

#[test]
fn a_route_without_traffic_has_no_series_and_is_small() {
    let route = RouteMetrics::new("a/b/c".into(), 8);
    assert_eq!(totals(&route).len(), 0);
    assert!(size_of::<RouteMetrics>() <= 512, "{}", size_of::<RouteMetrics>());
}

#[test]
fn requests_are_counted_by_method_and_status() {
    let route = RouteMetrics::new("a/b/c".into(), 2);
    let requests = [(MethodLabel::Get, 200, 3), (MethodLabel::Get, 404, 1), (MethodLabel::Post, 200, 2)];
    for (method, status, count) in requests {
        for _ in 0..count {
            route.record(method, status, 1);
        }
    }
    let totals = totals(&route);
    assert_eq!(totals.len(), 2);
    assert_eq!((totals[0].0, &totals[0].1.statuses[..]), (MethodLabel::Get, &[(200, 3), (404, 1)][..]));
    assert_eq!((totals[1].0, &totals[1].1.statuses[..]), (MethodLabel::Post, &[(200, 2)][..]));
}

#[test]
fn every_status_code_finds_a_place() {
    let route = RouteMetrics::new("a/b/c".into(), 1);
    for round in 0..2u64 {
        for status in 100..1000u16 {
            for _ in 0..=u64::from(status % 3) * (1 - round) {
                route.record(MethodLabel::Get, status, 1);
            }
        }
    }
    let want: Vec<(u32, u64)> = (100..1000).map(|status| (status, u64::from(status % 3) + 2)).collect();
    assert_eq!(totals(&route)[0].1.statuses, want);
}

#[test]
fn durations_fall_into_the_bucket_that_ends_at_or_after_them() {
    let cases = [
        (0, 0),
        (500_000, 0),
        (500_001, 1),
        (1_000_000, 1),
        (7_000_000, 4),
        (10_000_000_000, 13),
        (10_000_000_001, 14),
        (u64::MAX / 2, 14),
    ];
    for (duration_ns, bucket) in cases {
        let route = RouteMetrics::new("a/b/c".into(), 1);
        route.record(MethodLabel::Get, 200, duration_ns);
        let totals = &totals(&route)[0].1;
        assert_eq!(totals.buckets.iter().position(|n| *n == 1), Some(bucket), "{duration_ns}");
        assert_eq!(totals.buckets.iter().sum::<u64>(), 1);
        assert_eq!(totals.sum_ns, duration_ns);
    }
}

#[test]
fn the_bounds_in_seconds_are_those_in_nanoseconds() {
    for (ns, seconds) in BUCKET_BOUNDS_NS.iter().zip(BUCKET_BOUNDS_SECONDS) {
        assert!((seconds * 1e9 - *ns as f64).abs() < 1.0, "{ns}");
    }
    assert!(BUCKET_BOUNDS_NS.is_sorted());
}

#[test]
fn eight_threads_lose_no_request() {
    let route = RouteMetrics::new("a/b/c".into(), 4);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..9_000u16 {
                    route.record(MethodLabel::Put, 100 + n % 9, 10);
                }
            });
        }
    });
    let totals = &totals(&route)[0].1;
    assert_eq!(totals.statuses, (100..109).map(|status| (status, 8_000)).collect::<Vec<_>>());
    assert_eq!((totals.buckets[0], totals.sum_ns), (72_000, 720_000));
}
