//! The circuit breaker of one backend: counts what is in use and says no over a bound. Waits for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

mod trip;

pub use trip::{Trip, TripPermit, TripState};

/// What one backend has in use, over all workers of the process. The counters belong to the backend, the bounds to
/// the route that asks: two routes to one backend see the same counters, each with its own bounds. So what a route
/// without bounds uses counts too.
#[derive(Debug, Default)]
pub struct Breaker {
    requests: AtomicU32,
    pending: AtomicU32,
    connections: AtomicU32,
    retries: AtomicU32,
}

/// What a breaker counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerKind {
    /// Requests from pick to the end of the answer.
    Requests,
    /// Requests that wait for a connection. A bound of 0: nobody waits.
    Pending,
    /// Open connections, idle ones among them.
    Connections,
    /// Tries after the first that are in flight.
    Retries,
}

impl Breaker {
    /// Takes one of this kind unless that would pass the bound in `limits`. Who got `true` owes one
    /// [`Breaker::release`]; [`BreakerPermit`] pays it by itself.
    #[must_use = "what was taken must be released"]
    pub fn try_acquire(&self, kind: BreakerKind, limits: &ir::CircuitBreaker) -> bool {
        let counter = self.counter(kind);
        match limit(kind, limits) {
            None => {
                counter.fetch_add(1, Ordering::Relaxed);
                true
            }
            Some(max) => counter
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < max).then_some(used + 1))
                .is_ok(),
        }
    }

    /// Gives back one that was taken.
    pub fn release(&self, kind: BreakerKind) {
        let before = self.counter(kind).fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "released more than was taken");
    }

    /// How many are taken now.
    pub fn in_use(&self, kind: BreakerKind) -> u32 {
        self.counter(kind).load(Ordering::Relaxed)
    }

    fn counter(&self, kind: BreakerKind) -> &AtomicU32 {
        match kind {
            BreakerKind::Requests => &self.requests,
            BreakerKind::Pending => &self.pending,
            BreakerKind::Connections => &self.connections,
            BreakerKind::Retries => &self.retries,
        }
    }
}

/// One of a kind, given back when dropped.
#[derive(Debug)]
pub struct BreakerPermit {
    breaker: Arc<Breaker>,
    kind: BreakerKind,
}

impl BreakerPermit {
    /// As [`Breaker::try_acquire`]; `None` over the bound.
    pub fn try_acquire(
        breaker: &Arc<Breaker>,
        kind: BreakerKind,
        limits: &ir::CircuitBreaker,
    ) -> Option<Self> {
        breaker.try_acquire(kind, limits).then(|| Self { breaker: Arc::clone(breaker), kind })
    }
}

impl Drop for BreakerPermit {
    fn drop(&mut self) {
        self.breaker.release(self.kind);
    }
}

fn limit(kind: BreakerKind, limits: &ir::CircuitBreaker) -> Option<u32> {
    match kind {
        BreakerKind::Requests => limits.max_requests,
        BreakerKind::Pending => limits.max_pending_requests,
        BreakerKind::Connections => limits.max_connections,
        BreakerKind::Retries => limits.max_retries,
    }
}

#[cfg(test)]
mod tests;
