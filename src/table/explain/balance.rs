//! Tells how a route chooses among the endpoints of its backends.

use ir::{Affinity, BalancePolicy, HashOn, LoadBalancing, ObjectRef, ZonePreference};

use super::policy::{Detail, Step, duration};

/// The parts of which something is said.
pub(super) fn steps(load_balancing: &LoadBalancing, object: &ObjectRef) -> Vec<Step> {
    let affinity = load_balancing.affinity.as_ref().map(|affinity| affinity_step(affinity, object));
    load_balancing_step(load_balancing, object).into_iter().chain(affinity).collect()
}

fn load_balancing_step(load_balancing: &LoadBalancing, object: &ObjectRef) -> Option<Step> {
    let LoadBalancing { policy, slow_start, zone, affinity: _ } = load_balancing;
    if *policy == BalancePolicy::RoundRobin && slow_start.is_none() && *zone == ZonePreference::Any {
        return None;
    }
    let (name, hash_on) = match policy {
        BalancePolicy::RoundRobin => ("RoundRobin", None),
        BalancePolicy::LeastRequest => ("LeastRequest", None),
        BalancePolicy::Ewma => ("EWMA", None),
        BalancePolicy::Random => ("Random", None),
        BalancePolicy::ConsistentHash(on) => ("ConsistentHash", Some(hashed(on))),
    };
    let step = Step::new("LoadBalancing", object).with("policy", Detail::Text(name.to_owned()));
    let step = step.text("hashOn", hash_on).text("slowStart", slow_start.map(duration));
    let zone = match zone {
        ZonePreference::Any => None,
        ZonePreference::PreferLocal => Some("PreferLocal".to_owned()),
    };
    Some(step.text("zone", zone))
}

fn affinity_step(affinity: &Affinity, object: &ObjectRef) -> Step {
    let Affinity { cookie, mode, on_failure, keeps_backend, key: _ } = affinity;
    Step::new("Affinity", object)
        .with("cookie", Detail::Text(cookie.name.clone()))
        .text("ttl", cookie.ttl.map(duration))
        .with("mode", Detail::Text(format!("{mode:?}")))
        .with("onFailure", Detail::Text(format!("{on_failure:?}")))
        .with("stickyToCanary", Detail::Flag(*keeps_backend))
}

fn hashed(on: &HashOn) -> String {
    match on {
        HashOn::Header { name } => format!("Header {name}"),
        HashOn::Cookie { name } => format!("Cookie {name}"),
        HashOn::QueryParam { name } => format!("QueryParam {name}"),
        HashOn::SourceIp => "SourceIP".to_owned(),
        HashOn::Host => "Host".to_owned(),
        HashOn::Path => "Path".to_owned(),
        HashOn::Uri => "URI".to_owned(),
    }
}
