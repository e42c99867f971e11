//! What the balancer is asked for one try, as a rule wants it and as its backend stands. Picks nobody.

use std::time::Duration;

use ir::{BalancePolicy, LoadBalancing, PassiveHealth, ZonePreference};
use traffic::{BreakerKind, Choice, Outcome, Session, SessionPlace};

use super::backend::{Backend, Target};

/// Where a request of a session belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sticky {
    pub(crate) place: StickyPlace,
    /// See [`Session`].
    pub(crate) is_strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StickyPlace {
    /// The endpoint with this [`Target::tag`].
    Endpoint(u64),
    Key(u64),
}

/// Where that is among these endpoints now.
pub(super) fn session(targets: &[Target], sticky: Sticky) -> Session {
    let place = match sticky.place {
        StickyPlace::Endpoint(tag) => {
            let index = targets.iter().position(|target| target.tag == tag);
            index.map_or(SessionPlace::None, SessionPlace::Endpoint)
        }
        StickyPlace::Key(key) => SessionPlace::Key(key),
    };
    Session { place, is_strict: sticky.is_strict }
}

/// `key` is the hash of what the policy looks at, if the request has it.
pub(super) fn choice(backend: &Backend, load_balancing: &LoadBalancing, key: Option<u64>) -> Choice {
    match load_balancing.policy {
        BalancePolicy::RoundRobin => Choice::RoundRobin { turn: backend.next_turn() },
        BalancePolicy::LeastRequest => Choice::LeastRequest,
        BalancePolicy::Ewma => Choice::Ewma,
        BalancePolicy::Random => Choice::Random,
        BalancePolicy::ConsistentHash(_) => {
            Choice::ConsistentHash { key, under_way: backend.breaker.in_use(BreakerKind::Requests) }
        }
    }
}

pub(super) fn prefers_local(load_balancing: &LoadBalancing) -> bool {
    load_balancing.zone == ZonePreference::PreferLocal
}

pub(super) fn panic_percent(health: Option<&PassiveHealth>) -> u8 {
    health.map_or(0, |health| health.panic_percent)
}

pub(super) fn slow_start_ns(load_balancing: &LoadBalancing) -> u64 {
    load_balancing.slow_start.map_or(0, nanos)
}

/// Whether [`measure`] is to be told how tries end. Others need not read the clock for it.
pub(super) fn is_measured(load_balancing: &LoadBalancing) -> bool {
    load_balancing.policy == BalancePolicy::Ewma
}

/// A try at an endpoint that began so long ago has ended at `now_ns`.
pub(super) fn measure(target: &Target, now_ns: u64, took: Duration, outcome: Outcome) {
    let latency = target.state.latency();
    match outcome {
        Outcome::Success | Outcome::ServerError => latency.on_answer(now_ns, nanos(took)),
        Outcome::NoAnswer | Outcome::ConnectFailure => latency.on_failure(now_ns, nanos(took)),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
