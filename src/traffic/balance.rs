//! Picks an endpoint of a backend, and a backend by weight. Connects to nothing and remembers no request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::chance;
use crate::outlier::{EndpointHealth, Outlier};

/// What all workers know about one endpoint. Belongs to the endpoint (backend and address), not to a generation.
#[derive(Debug, Default)]
pub struct EndpointState {
    in_flight: AtomicU32,
    health: EndpointHealth,
}

impl EndpointState {
    /// Requests that are at the endpoint now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn health(&self) -> &EndpointHealth {
        &self.health
    }
}

impl AsRef<Self> for EndpointState {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// One request at an endpoint, from its start to its drop.
#[derive(Debug)]
pub struct InFlight(Arc<EndpointState>);

impl InFlight {
    pub fn start(endpoint: &Arc<EndpointState>) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let before = self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "more requests ended than started");
    }
}

/// The endpoints that this request was tried at: indices into one and the same slice. Holds the last eight, which
/// is more than a request has tries worth telling apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct TriedSet {
    indices: [Option<usize>; 8],
    added: usize,
}

impl TriedSet {
    pub fn insert(&mut self, index: usize) {
        let place = self.added % self.indices.len();
        if let Some(slot) = self.indices.get_mut(place) {
            *slot = Some(index);
        }
        self.added += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.added == 0
    }

    pub fn contains(&self, index: usize) -> bool {
        self.added > 0 && self.indices.contains(&Some(index))
    }
}

/// One question to the balancer.
#[derive(Clone, Copy, Debug)]
pub struct Pick<'a> {
    pub policy: ir::LoadBalancing,
    /// Counts up by one with each pick of this backend: of the process, or of the worker (then start at a
    /// different number in each, or they all begin with the same endpoint).
    pub turn: u64,
    pub random: u64,
    pub now_ns: u64,
    pub tried: &'a TriedSet,
    /// Of the backend.
    pub outlier: &'a Outlier,
}

/// Picks an endpoint by its index; `None` only when there is none at all.
///
/// Taken from the first of these groups that has anyone: healthy and untried; untried (the panic mode: when all are
/// ejected, all are asked, since an ejected endpoint may be well again and a refusal never is); healthy; everyone.
///
/// Round robin gives each of k endpoints one of every k turns as long as the group stays the same. Least request
/// takes two of the group at random and then the one with fewer requests in flight.
pub fn pick<E: AsRef<EndpointState>>(endpoints: &[E], ask: &Pick<'_>) -> Option<usize> {
    let all = endpoints.len();
    if all == 0 {
        return None;
    }
    if ask.tried.is_empty() && ask.outlier.is_calm(ask.now_ns) {
        return choose(endpoints, ask, all, Some);
    }
    let healthy = |index: usize| {
        endpoints.get(index).is_some_and(|endpoint| !endpoint.as_ref().health.is_ejected(ask.now_ns))
    };
    let untried = |index: usize| !ask.tried.contains(index);
    pick_among(endpoints, ask, |index| healthy(index) && untried(index))
        .or_else(|| pick_among(endpoints, ask, untried))
        .or_else(|| pick_among(endpoints, ask, healthy))
        .or_else(|| choose(endpoints, ask, all, Some))
}

/// The index of a weighted choice. `cumulative` holds the running sums of the weights; `None` when it is empty or
/// sums up to 0.
pub fn weighted(cumulative: &[u64], random: u64) -> Option<usize> {
    let total = cumulative.last().copied().filter(|total| *total > 0)?;
    let point = chance::below(random, total);
    Some(cumulative.partition_point(|sum| *sum <= point))
}

/// Picks among the endpoints that `member` names; `None` when it names nobody.
fn pick_among<E: AsRef<EndpointState>>(
    endpoints: &[E],
    ask: &Pick<'_>,
    member: impl Fn(usize) -> bool,
) -> Option<usize> {
    let members = (0..endpoints.len()).filter(|index| member(*index)).count();
    if members == 0 {
        return None;
    }
    // Another worker may eject a member in between; then the last one that is left takes its turn.
    let nth = |n: usize| {
        let mut last = None;
        for index in (0..endpoints.len()).filter(|index| member(*index)).take(n + 1) {
            last = Some(index);
        }
        last
    };
    choose(endpoints, ask, members, nth)
}

/// Applies the policy to a group of `members` (not 0), whose n-th has the index `nth(n)`.
fn choose<E: AsRef<EndpointState>>(
    endpoints: &[E],
    ask: &Pick<'_>,
    members: usize,
    nth: impl Fn(usize) -> Option<usize>,
) -> Option<usize> {
    match ask.policy {
        ir::LoadBalancing::RoundRobin => {
            let len = u64::try_from(members).unwrap_or(u64::MAX);
            nth(usize::try_from(ask.turn % len).unwrap_or(0))
        }
        ir::LoadBalancing::LeastRequest => {
            let first = chance::index_below(ask.random, members);
            if members == 1 {
                return nth(first);
            }
            // The second is another one: drawn from the rest with the bits that the first draw used least.
            let rest = chance::index_below(ask.random.rotate_left(32), members - 1);
            let second = if rest >= first { rest + 1 } else { rest };
            let (first, second) = (nth(first)?, nth(second)?);
            let load = |index: usize| endpoints.get(index).map_or(u32::MAX, |e| e.as_ref().in_flight());
            Some(if load(second) < load(first) { second } else { first })
        }
    }
}

#[cfg(test)]
mod tests;
