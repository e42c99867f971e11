//! Prints how long a look-up takes with 10 and with 10,000 routes, and how long one change takes to compile.
//!
//! Two shapes: every route has its own host, and all routes share one host. Two kinds of traffic: a hundred requests
//! that come again and again, spread over the whole table, which shows what the search itself costs; and requests
//! that go round all routes, which adds the cost of memory that no cache holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use table::{RequestHead, Table};

/// Host and prefix of the route with this number.
type Shape = fn(usize) -> (String, String);

const ROUNDS: usize = 1_001;
const REQUESTS: usize = 100;
/// Shares no factor with the counts of routes, so that its multiples visit all of them in no order.
const STEP: usize = 7_919;

fn main() {
    let path = "/team-7/api/v1/items/7f3a-99/details.json";
    let per_path = median_ns(|| table::canonical(std::hint::black_box(path)).is_ok());
    let per_host = median_ns(|| table::fold(std::hint::black_box("shop-7.example.com:8443")).is_ok());
    print(&format!("canonical path of {} bytes: {per_path:.1} ns, host: {per_host:.1} ns", path.len()));
    let shapes: [(&str, Shape); 2] = [
        ("distinct hosts", |index| (format!("shop-{index}.example.com"), "/api".to_owned())),
        ("distinct prefixes", |index| ("shop.example.com".to_owned(), format!("/team-{index}/api"))),
    ];
    for (shape_name, shape) in shapes {
        for (traffic, fresh) in [("the same requests", false), ("all routes in turn", true)] {
            let few = median_lookup_ns(10, shape, fresh);
            let many = median_lookup_ns(10_000, shape, fresh);
            let ratio = many / few;
            print(&format!(
                "{shape_name}, {traffic}: 10 routes {few:.1} ns, 10000 routes {many:.1} ns, ratio {ratio:.2}"
            ));
        }
        let change = median_change(10_000, shape);
        print(&format!(
            "{shape_name}: one change of 10000 routes compiled in {:.2} ms",
            change.as_secs_f64() * 1e3
        ));
    }
}

fn median_ns(step: impl Fn() -> bool) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = now();
            for _ in 0..REQUESTS {
                assert!(step());
            }
            start.elapsed().as_secs_f64() * 1e9 / REQUESTS as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(ROUNDS / 2).copied().unwrap_or_default()
}

/// `fresh`: every round asks for other routes than the one before.
fn median_lookup_ns(count: usize, shape: Shape, fresh: bool) -> f64 {
    let (table, problems) = Table::compile(None, &config(count, shape));
    assert!(problems.is_empty());
    let headers = HeaderMap::new();
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            // Written anew each time: a request that was just read is in the cache, whatever the table is.
            let first = if fresh { round * REQUESTS } else { 0 };
            let requests: Vec<(String, String)> = (first..first + REQUESTS)
                .map(|index| shape(index * STEP % count))
                .map(|(host, path)| (host, path + "/v1/items/7"))
                .collect();
            let start = now();
            for (host, path) in &requests {
                let head = RequestHead {
                    method: &Method::GET,
                    host,
                    path,
                    query: None,
                    headers: &headers,
                    client: [192, 0, 2, 1].into(),
                    client_is_unsure: false,
                };
                let decision = std::hint::black_box(&table).decide(std::hint::black_box(&head));
                assert!(decision.is_some_and(|decision| decision.match_index == 0));
            }
            start.elapsed().as_secs_f64() * 1e9 / REQUESTS as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(ROUNDS / 2).copied().unwrap_or_default()
}

fn median_change(count: usize, shape: Shape) -> Duration {
    let mut config = config(count, shape);
    let (mut table, _) = Table::compile(None, &config);
    let mut times: Vec<Duration> = (0..21)
        .map(|round| {
            let key = config.routes.keys().nth(round * 97).cloned();
            if let Some(route) = key.and_then(|key| config.routes.get_mut(&key)) {
                *route = Arc::new(ir::Route { request_body_bytes_max: Some(1), ..ir::Route::clone(route) });
            }
            let start = now();
            let (next, _) = Table::compile(Some(&table), &config);
            let taken = start.elapsed();
            table = next;
            taken
        })
        .collect();
    times.sort();
    times.get(10).copied().unwrap_or_default()
}

fn config(count: usize, shape: Shape) -> ir::Config {
    let routes = (0..count).map(|index| {
        let (host, prefix) = shape(index);
        let route = route(index, &host, prefix);
        (route.id.clone(), Arc::new(route))
    });
    ir::Config { generation: 1, routes: routes.collect::<BTreeMap<_, _>>(), ..ir::Config::default() }
}

fn route(index: usize, host: &str, prefix: String) -> ir::Route {
    let object = ir::ObjectRef::new(ir::Kind::GatewayRoute, "shop", format!("route-{index}"));
    let backend = ir::BackendId::Service { namespace: "shop".into(), name: "cart".into(), port: 80 };
    ir::Route {
        id: ir::RouteId { object, rule: "main".into() },
        created: Some(1_700_000_000),
        rule_index: 0,
        hosts: ir::HostName::parse(host).map(ir::HostPattern::Exact).into_iter().collect(),
        matches: vec![ir::Match {
            path: ir::PathMatch::Prefix { value: prefix, case_sensitive: true },
            methods: vec![Method::GET, Method::POST],
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
            client_cidrs: Vec::new(),
        }],
        last_resort: false,
        tls: None,
        cors: None,
        ip_access: ir::IpAccess::default(),
        request_body_bytes_max: None,
        limits: Vec::new(),
        auth: Vec::new(),
        identity_headers: Vec::new(),
        header_edits: ir::HeaderEdits::default(),
        timeouts: ir::Timeouts::default(),
        action: ir::Action::Forward {
            backends: vec![ir::WeightedBackend {
                target: ir::BackendTarget::Backend(backend),
                weight: 1,
                protocol: ir::UpstreamProtocol::default(),
            }],
            rewrite: None,
            retry: ir::Retry::default(),
            circuit_breaker: ir::CircuitBreaker::default(),
            load_balancing: ir::LoadBalancing::default(),
            passive_health: None,
            active_health: None,
            upgrades: ir::Upgrades::default(),
            grpc_web: false,
        },
        extras: None,
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time; the room itself has none")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stdout, reason = "the result of a benchmark is what it prints")]
fn print(line: &str) {
    println!("{line}");
}
