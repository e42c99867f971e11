//! Tells how a route chooses among the endpoints of its backends.

use ir::{BalancePolicy, HashOn, LoadBalancing, ObjectRef, ZonePreference};

use super::policy::{Detail, Step, duration};

/// `None`: as where nothing is said.
pub(super) fn load_balancing_step(load_balancing: &LoadBalancing, object: &ObjectRef) -> Option<Step> {
    let LoadBalancing { policy, slow_start, zone } = load_balancing;
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
