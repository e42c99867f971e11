//! How much of the traffic stays in the zone, or in the region, while some of its endpoints are out. Knows no zones, only
//! who is near.

use super::ring::mixed;
use super::{Choice, Pick};
use crate::chance;

/// A zone is full as long as so many in a hundred of what it needs are healthy, where it needs all of its endpoints over
/// 1.4 (as Envoy's overprovisioning factor).
const FACTOR_PERCENT: usize = 140;

/// Whether this request stays among the near ones. All do while five of seven are healthy; with fewer the rest goes to all
/// zones, in proportion. A key always goes the same way while as many are healthy.
pub(super) fn stays(ask: &Pick<'_>, local: &[usize], healthy: impl Fn(usize) -> bool) -> bool {
    let well = local.iter().filter(|index| healthy(**index)).count();
    let drawn = match ask.choice {
        Choice::ConsistentHash { key: Some(key), .. } => mixed(key),
        Choice::RoundRobin { .. }
        | Choice::LeastRequest
        | Choice::Ewma
        | Choice::Random
        | Choice::ConsistentHash { key: None, .. } => mixed(ask.random),
    };
    chance::index_below(drawn, local.len().saturating_mul(100)) < well.saturating_mul(FACTOR_PERCENT)
}
