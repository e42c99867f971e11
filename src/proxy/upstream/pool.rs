//! Idle connections of one worker, by endpoint. Bounded for each backend; nothing waits here.

use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::h1::Wire;

/// The idle connections of a worker.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    by_backend: HashMap<u64, BackendPool>,
}

#[derive(Debug, Default)]
struct BackendPool {
    idle: usize,
    by_endpoint: HashMap<u64, Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    wire: Wire,
    since: Instant,
}

impl Pools {
    /// The most recently used connection to the endpoint that is still alive and has waited less than `idle_for`.
    pub(crate) fn check_out(
        &mut self,
        (backend, endpoint): (u64, u64),
        now: Instant,
        idle_for: Duration,
    ) -> Option<Wire> {
        let pool = self.by_backend.get_mut(&backend)?;
        let idle = pool.by_endpoint.get_mut(&endpoint)?;
        while let Some(Idle { wire, since }) = idle.pop() {
            pool.idle -= 1;
            if now.saturating_duration_since(since) < idle_for && wire.is_idle() {
                return Some(wire);
            }
        }
        None
    }

    /// Keeps a connection unless `idle_max` of its backend are kept already: then it is closed.
    pub(crate) fn check_in(
        &mut self,
        (backend, endpoint): (u64, u64),
        wire: Wire,
        now: Instant,
        idle_max: usize,
    ) {
        let pool = self.by_backend.entry(backend).or_default();
        if pool.idle < idle_max {
            // Who waits on this worker takes it over; for others a tick makes room.
            let wanted = wire.is_wanted().then(|| wire.backend());
            pool.idle += 1;
            pool.by_endpoint.entry(endpoint).or_default().push(Idle { wire, since: now });
            if let Some(backend) = wanted {
                backend.freed.notify_waiters();
            }
        }
    }

    /// Closes an idle connection of the backend, if there is one, so that another can be opened.
    pub(crate) fn evict_one(&mut self, backend: u64) -> bool {
        let Some(pool) = self.by_backend.get_mut(&backend) else { return false };
        let evicted = pool.by_endpoint.values_mut().find_map(Vec::pop).is_some();
        pool.idle -= usize::from(evicted);
        evicted
    }

    /// Closes the idle connections of backends for which requests wait, on this worker or another.
    pub(crate) fn yield_wanted(&mut self) {
        for pool in self.by_backend.values_mut() {
            let wanted = pool.by_endpoint.values().flatten().next().is_some_and(|idle| idle.wire.is_wanted());
            if wanted {
                pool.by_endpoint.clear();
                pool.idle = 0;
            }
        }
    }

    /// Closes what has waited longer than `idle_for`.
    pub(crate) fn reap(&mut self, now: Instant, idle_for: Duration) {
        self.by_backend.retain(|_, pool| {
            pool.by_endpoint.retain(|_, idle| {
                // The oldest stand first: connections are taken from and put to the end.
                let expired =
                    idle.iter().take_while(|idle| now.duration_since(idle.since) >= idle_for).count();
                idle.drain(..expired);
                pool.idle -= expired;
                !idle.is_empty()
            });
            !pool.by_endpoint.is_empty()
        });
    }
}
