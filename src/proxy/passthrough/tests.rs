//! Which host a connection belongs to, and what is kept from one generation to the next.

use ir::{Kind, ObjectRef, PassthroughBackend, RouteId};

use super::*;
use crate::tls::testing::{host, tls};

fn passed(name: &str, weights: &[u32]) -> Arc<Passthrough> {
    let backends = weights.iter().zip(1..).map(|(&weight, port)| {
        let id = ir::BackendId::Service { namespace: "n".into(), name: name.into(), port };
        PassthroughBackend { target: BackendTarget::Backend(id), weight, proxy_protocol: None }
    });
    Arc::new(Passthrough {
        id: RouteId { object: ObjectRef::new(Kind::GatewayRoute, "n", name), rule: "all".into() },
        backends: backends.collect(),
        connect: std::time::Duration::from_secs(3),
        stream_idle: None,
        circuit_breaker: ir::CircuitBreaker::default(),
        load_balancing: ir::LoadBalancing::default(),
        passive_health: None,
    })
}

fn config(passed: &[(&str, &Arc<Passthrough>)], terminated: &[&str]) -> Config {
    let hosts = passed.iter().map(|(pattern, passed)| (host(pattern), Arc::clone(passed)));
    let terminated: Vec<_> =
        terminated.iter().map(|pattern| (*pattern, None, ir::TlsVersion::V1_2)).collect();
    Config { passthrough: Arc::new(hosts.collect()), tls: tls(&terminated, None), ..Config::default() }
}

fn build(config: &Config, last: Option<&Arc<Passthroughs>>) -> Arc<Passthroughs> {
    let names = crate::settings::BackendNames::Anywhere;
    let mut backends = Backends::new(names, std::time::Instant::now());
    Passthroughs::build(config, last, &mut backends, &Metrics::new())
}

#[test]
fn the_most_specific_pattern_of_both_kinds_counts() {
    let (exact, wild, deep) = (passed("exact", &[1]), passed("wild", &[1]), passed("deep", &[1]));
    let config = config(
        &[("a.example", &exact), ("*.example", &wild), ("?.deep.example", &deep), ("192.0.2.1", &exact)],
        &["own.example", "*.own.example", "*.deep.example"],
    );
    let built = build(&config, None);
    for (name, want) in [
        (Some("a.example"), Some("exact")),
        (Some("A.eXample."), Some("exact")),
        (Some("b.example"), Some("wild")),
        (Some("c.b.example"), Some("wild")),
        (Some("b.a.example"), Some("wild")),
        (Some("own.example"), None),
        (Some("x.own.example"), None),
        (Some("x.deep.example"), Some("deep")),
        (Some("y.x.deep.example"), None),
        (Some("example"), None),
        (Some("a.example.org"), None),
        (Some("192.0.2.1"), None),
        (Some(""), None),
        (Some("a_b..example"), None),
        (None, None),
    ] {
        let got = built.select(name).map(|host| &*host.config.id.object.name);
        assert_eq!(got, want, "{name:?}");
    }
    for (name, want) in [("a.example", true), ("x.example", true), ("own.example", false), ("org", false)] {
        assert_eq!(built.takes(name), want, "{name}");
    }
}

#[test]
fn without_such_a_host_nothing_is_looked_for() {
    let built = build(&config(&[], &["own.example"]), None);
    assert!(built.is_empty());
    assert!(built.select(Some("own.example")).is_none());
}

#[test]
fn what_did_not_change_is_kept() {
    let one = passed("one", &[1]);
    let first = config(&[("a.example", &one)], &["own.example"]);
    let built = build(&first, None);
    let renumbered = Config { generation: 2, ..first.clone() };
    assert!(Arc::ptr_eq(&built, &build(&renumbered, Some(&built))));
    let changed = config(&[("b.example", &one)], &["own.example"]);
    let changed = build(&changed, Some(&built));
    assert!(changed.select(Some("b.example")).is_some() && changed.select(Some("a.example")).is_none());
    // A host of its own that comes is as good a reason.
    let with_own = Config { tls: tls(&[("a.example", None, ir::TlsVersion::V1_2)], None), ..first };
    assert!(!Arc::ptr_eq(&built, &build(&with_own, Some(&built))));
}

#[test]
fn backends_have_the_share_of_their_weights() {
    let built = build(&config(&[("a.example", &passed("one", &[1, 0, 3]))], &[]), None);
    let host = built.select(Some("a.example")).unwrap();
    let mut picked = [0; 3];
    for step in 0..400u64 {
        let (backend, _) = host.pick(step * (u64::MAX / 400)).unwrap();
        let at = host.backends.iter().flatten().position(|(known, _)| Arc::ptr_eq(known, backend)).unwrap();
        picked[at] += 1;
    }
    assert!((95..=105).contains(&picked[0]) && picked[1] == 0, "{picked:?}");
    for weights in [&[][..], &[0, 0]] {
        let built = build(&config(&[("a.example", &passed("one", weights))], &[]), None);
        assert!(built.select(Some("a.example")).unwrap().pick(7).is_none(), "{weights:?}");
    }
}
