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
    /// The most recently used connection to the endpoint that is still alive.
    pub(crate) fn check_out(&mut self, backend: u64, endpoint: u64) -> Option<Wire> {
        let pool = self.by_backend.get_mut(&backend)?;
        let idle = pool.by_endpoint.get_mut(&endpoint)?;
        while let Some(Idle { wire, .. }) = idle.pop() {
            pool.idle -= 1;
            if wire.is_idle() {
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
            pool.idle += 1;
            pool.by_endpoint.entry(endpoint).or_default().push(Idle { wire, since: now });
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
