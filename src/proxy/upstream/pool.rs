//! Connections of one worker that may take another request, by endpoint: idle ones, and shared ones of HTTP/2. Bounded
//! for each backend; nothing waits here.

use std::rc::Rc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::h1::Wire;
use super::h2::{Claim, Link};

/// Idle connections of one backend that a worker keeps at most, however short they have waited.
const IDLE_MAX: usize = 4096;
/// A connection that was not needed for so long is not needed for the load as it is now.
const RESTED: Duration = Duration::from_secs(1);

/// Whose connections are alike: those of one backend to one endpoint in one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolKey {
    pub(super) backend: u64,
    pub(super) endpoint: u64,
    pub(super) protocol: u64,
}

impl PoolKey {
    fn within(self) -> (u64, u64) {
        (self.endpoint, self.protocol)
    }
}

/// The connections of a worker that may take another request.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    by_backend: HashMap<u64, BackendPool>,
}

#[derive(Debug, Default)]
struct BackendPool {
    idle: usize,
    by_endpoint: HashMap<(u64, u64), Vec<Idle>>,
    links: HashMap<(u64, u64), Vec<Rc<Link>>>,
}

#[derive(Debug)]
struct Idle {
    wire: Wire,
    since: Instant,
}

impl Pools {
    /// The most recently used connection of its kind that is still alive and has waited less than `idle_for`.
    pub(crate) fn check_out(&mut self, key: PoolKey, now: Instant, idle_for: Duration) -> Option<Wire> {
        let pool = self.by_backend.get_mut(&key.backend)?;
        let idle = pool.by_endpoint.get_mut(&key.within())?;
        while let Some(Idle { mut wire, since }) = idle.pop() {
            pool.idle -= 1;
            if now.saturating_duration_since(since) < idle_for && wire.is_idle() {
                return Some(wire);
            }
        }
        None
    }

    /// Keeps a connection. What is too many is found when [`Self::reap`] next looks: under load that would be closed
    /// only to be opened again for the next request.
    pub(crate) fn check_in(&mut self, key: PoolKey, wire: Wire, now: Instant) {
        let pool = self.by_backend.entry(key.backend).or_default();
        if pool.idle < IDLE_MAX {
            // Who waits on this worker takes it over; for others a tick makes room.
            let wanted = wire.is_wanted().then(|| wire.backend());
            pool.idle += 1;
            pool.by_endpoint.entry(key.within()).or_default().push(Idle { wire, since: now });
            if let Some(backend) = wanted {
                backend.freed.notify_waiters();
            }
        }
    }

    /// A place on a shared connection of its kind, if one has room; but not on the one that is to be avoided.
    pub(super) fn claim(&mut self, key: PoolKey, avoid: Option<&Rc<Link>>) -> Option<Claim> {
        let links = self.by_backend.get_mut(&key.backend)?.links.get_mut(&key.within())?;
        links.retain(|link| !link.has_ended());
        // What the peer takes on one connection it will take on the next: that need not be found out by refusals.
        let streams_max = links.iter().filter_map(|link| link.streams_max()).min();
        let may_take = |link: &&Rc<Link>| !avoid.is_some_and(|avoid| Rc::ptr_eq(avoid, link));
        links.iter().filter(may_take).find_map(|link| link.claim(streams_max))
    }

    /// Lets others have a place on it, too.
    pub(super) fn share(&mut self, key: PoolKey, link: Rc<Link>) {
        let pool = self.by_backend.entry(key.backend).or_default();
        pool.links.entry(key.within()).or_default().push(link);
    }

    /// Closes an idle connection of the backend, if there is one, so that another can be opened. A shared one takes a
    /// moment to close.
    pub(crate) fn evict_one(&mut self, backend: u64) -> bool {
        let Some(pool) = self.by_backend.get_mut(&backend) else { return false };
        let evicted = pool.by_endpoint.values_mut().find_map(Vec::pop).is_some();
        pool.idle -= usize::from(evicted);
        evicted || pool.links.values_mut().any(evict_link)
    }

    /// Closes the idle connections of backends for which requests wait, on this worker or another.
    pub(crate) fn yield_wanted(&mut self) {
        for pool in self.by_backend.values_mut() {
            let wanted = pool.by_endpoint.values().flatten().next().is_some_and(|idle| idle.wire.is_wanted());
            if wanted {
                pool.by_endpoint.clear();
                pool.idle = 0;
            }
            for links in pool.links.values_mut() {
                links.retain(|link| !(link.is_idle() && link.is_wanted()));
            }
        }
    }

    /// Closes what has waited longer than `idle_for`, and of more than `idle_max` of a backend those that were not
    /// needed of late.
    pub(crate) fn reap(&mut self, now: Instant, idle_for: Duration, idle_max: usize) {
        self.by_backend.retain(|_, pool| {
            pool.close_older(now, idle_for, usize::MAX);
            pool.close_older(now, RESTED, pool.idle.saturating_sub(idle_max));
            pool.links.retain(|_, links| {
                links.retain(|link| !link.has_ended() && !link.has_idled(now, idle_for));
                !links.is_empty()
            });
            !(pool.by_endpoint.is_empty() && pool.links.is_empty())
        });
    }
}

impl BackendPool {
    /// Closes at most `count` connections that have waited for `idle_for`, as evenly over the endpoints as may be.
    fn close_older(&mut self, now: Instant, idle_for: Duration, mut count: usize) {
        let mut endpoints_left = self.by_endpoint.len();
        self.by_endpoint.retain(|_, idle| {
            // The oldest stand first: connections are taken from and put to the end.
            let older = idle.iter().take_while(|idle| now.duration_since(idle.since) >= idle_for).count();
            let closed = older.min(count.div_ceil(endpoints_left.max(1)));
            idle.drain(..closed);
            self.idle -= closed;
            count -= closed;
            endpoints_left -= 1;
            !idle.is_empty()
        });
    }
}

fn evict_link(links: &mut Vec<Rc<Link>>) -> bool {
    let idle = links.iter().position(|link| link.is_idle());
    idle.map(|index| drop(links.swap_remove(index))).is_some()
}
