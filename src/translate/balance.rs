//! How the endpoints of a backend are chosen among, by rules and by annotations.

use std::time::Duration;

use api::{HashOnType, LoadBalancingPolicy};
use ir::{BalancePolicy, HashOn, LoadBalancing, ZonePreference};

use crate::report::{Field, Lines, Refused};
use crate::value;

/// The longest time that a share may grow.
const SLOW_START_MAX: Duration = Duration::from_hours(1);

/// The choice that is asked for. `field`: that of the load balancing.
pub(crate) fn load_balancing(
    spec: Option<&api::LoadBalancing>,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<LoadBalancing, Refused> {
    let Some(spec) = spec else { return Ok(LoadBalancing::default()) };
    let policy = match (spec.policy, &spec.hash_on) {
        (LoadBalancingPolicy::ConsistentHash, Some(on)) => {
            BalancePolicy::ConsistentHash(hash_on(on, field.key("hashOn"), lines)?)
        }
        (LoadBalancingPolicy::ConsistentHash, None) => {
            let message = "nothing is named that ConsistentHash could look at; the rule answers 500";
            return Err(lines.error(field, message, "set hashOn"));
        }
        (_, Some(_)) => {
            let message = "hashOn is for the policy ConsistentHash alone; the rule answers 500";
            return Err(lines.error(field.key("hashOn"), message, "remove it, or set the policy"));
        }
        (LoadBalancingPolicy::RoundRobin, None) => BalancePolicy::RoundRobin,
        (LoadBalancingPolicy::LeastRequest, None) => BalancePolicy::LeastRequest,
        (LoadBalancingPolicy::Ewma, None) => BalancePolicy::Ewma,
        (LoadBalancingPolicy::Random, None) => BalancePolicy::Random,
    };
    let slow_start = spec.slow_start.map(api::Duration::get).filter(|time| !time.is_zero());
    if slow_start.is_some_and(|time| time > SLOW_START_MAX) {
        lines.warning(field.key("slowStart"), "slowStart is taken as 1h", "write 1s to 1h");
    }
    let zone = match spec.zone {
        api::ZonePreference::Any => ZonePreference::Any,
        api::ZonePreference::PreferLocal => ZonePreference::PreferLocal,
    };
    Ok(LoadBalancing {
        policy,
        slow_start: slow_start.map(|time| time.min(SLOW_START_MAX)),
        zone,
        affinity: None,
    })
}

fn hash_on(spec: &api::HashOn, field: Field<'_>, lines: &mut Lines) -> Result<HashOn, Refused> {
    let name = spec.name.as_deref().filter(|name| !name.is_empty());
    match (spec.r#type, name) {
        (HashOnType::Header, Some(name)) => {
            let name = value::header_name(name, field.key("name"), lines)?;
            Ok(HashOn::Header { name })
        }
        (HashOnType::Cookie, Some(name)) => Ok(HashOn::Cookie { name: name.to_owned() }),
        (HashOnType::QueryParam, Some(name)) => Ok(HashOn::QueryParam { name: name.to_owned() }),
        (HashOnType::Header | HashOnType::Cookie | HashOnType::QueryParam, None) => {
            let message = "hashOn names nothing; the rule answers 500";
            Err(lines.error(field.key("name"), message, "add name"))
        }
        (HashOnType::SourceIp, _) => Ok(HashOn::SourceIp),
        (HashOnType::Host, _) => Ok(HashOn::Host),
        (HashOnType::Path, _) => Ok(HashOn::Path),
        (HashOnType::Uri, _) => Ok(HashOn::Uri),
    }
}

/// The words of the annotation `load-balance`.
pub(crate) fn named_policy(text: &str) -> Option<BalancePolicy> {
    match text {
        "RoundRobin" => Some(BalancePolicy::RoundRobin),
        "LeastRequest" => Some(BalancePolicy::LeastRequest),
        "EWMA" => Some(BalancePolicy::Ewma),
        "Random" => Some(BalancePolicy::Random),
        _ => None,
    }
}

/// The words of the annotation `upstream-hash-by`: a kind, and a name where the kind has one.
pub(crate) fn named_hash(text: &str) -> Option<HashOn> {
    let mut words = text.split_ascii_whitespace();
    let (kind, name) = (words.next()?, words.next());
    if words.next().is_some() {
        return None;
    }
    match (kind, name) {
        ("Header", Some(name)) => Some(HashOn::Header { name: name.parse().ok()? }),
        ("Cookie", Some(name)) => Some(HashOn::Cookie { name: name.to_owned() }),
        ("QueryParam", Some(name)) => Some(HashOn::QueryParam { name: name.to_owned() }),
        ("SourceIP", None) => Some(HashOn::SourceIp),
        ("Host", None) => Some(HashOn::Host),
        ("Path", None) => Some(HashOn::Path),
        ("URI", None) => Some(HashOn::Uri),
        _ => None,
    }
}
