//! What of a request its endpoint is chosen by. Knows no endpoint.

use std::net::IpAddr;

use ir::{BalancePolicy, HashOn, LoadBalancing};
use traffic::stable_hash;

use crate::request::Asked;

/// The hash of what a rule hashes; `None`: it hashes nothing, or the request has none of it.
pub(crate) fn hash_key(load_balancing: &LoadBalancing, asked: &Asked) -> Option<u64> {
    let BalancePolicy::ConsistentHash(on) = &load_balancing.policy else { return None };
    let of = |bytes: &[u8]| (!bytes.is_empty()).then(|| stable_hash(&[bytes]));
    match on {
        HashOn::Header { name } => of(asked.headers.get(name)?.as_bytes()),
        HashOn::Cookie { name } => of(table::cookie(&asked.headers, name)?),
        HashOn::QueryParam { name } => of(&table::query(asked.query(), name)?),
        HashOn::SourceIp => Some(address_key(asked.client)),
        HashOn::Host => of(asked.host().as_bytes()),
        HashOn::Path => of(asked.path().as_bytes()),
        HashOn::Uri => {
            let (mark, query) = asked.query().map_or(("", ""), |query| ("?", query));
            Some(stable_hash(&[asked.path().as_bytes(), mark.as_bytes(), query.as_bytes()]))
        }
    }
}

/// The same for an IPv4 address and what stands for it in IPv6.
pub(crate) fn address_key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => stable_hash(&[&address.octets()]),
        IpAddr::V6(address) => stable_hash(&[&address.octets()]),
    }
}
