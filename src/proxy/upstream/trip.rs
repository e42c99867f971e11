//! The breaker that opens on failures, as requests meet it. Sends nothing.

use std::time::Instant;

use ir::BreakerFailures;
use tracing::{info, warn};
use traffic::{TripPermit, TripState};

use super::backend::Backend;
use super::forward::{Forward, Trail};
use crate::error::Reason;

impl<'a> Forward<'a> {
    /// Whether the breaker that opens on failures lets the request through; `None`: the rule wants no such breaker.
    pub(super) fn admitted(&self, trail: &mut Trail) -> Result<Option<TripPermit<'a>>, Reason> {
        let Some(failures) = &self.circuit_breaker.failures else { return Ok(None) };
        let backend: &'a Backend = self.backend;
        backend.admit(self.worker.nanos(self.started), failures).map(Some).map_err(|retry_after_s| {
            trail.retry_after_s = retry_after_s;
            Reason::BreakerOpen
        })
    }

    /// The request has ended; `None`: in a way that says nothing of the backend. The clock is only read where somebody counts.
    pub(super) fn ended(&self, permit: Option<TripPermit<'_>>, failed: impl FnOnce() -> Option<bool>) {
        let (Some(failures), Some(permit)) = (&self.circuit_breaker.failures, permit) else { return };
        if let Some(failed) = failed() {
            self.backend.request_ended(permit, self.worker.nanos(Instant::now()), failed, failures);
        }
    }
}

impl Backend {
    /// Lets a request through.
    ///
    /// # Errors
    /// The breaker is open: after so many seconds it may be otherwise.
    pub(super) fn admit(&self, now_ns: u64, failures: &BreakerFailures) -> Result<TripPermit<'_>, u16> {
        self.trip.admit(now_ns, failures).map_err(|wait_ns| {
            self.metrics.breaker_was_open();
            u16::try_from(wait_ns.div_ceil(1_000_000_000).max(1)).unwrap_or(u16::MAX)
        })
    }

    /// Counts how a request ended.
    pub(super) fn request_ended(
        &self,
        permit: TripPermit<'_>,
        now_ns: u64,
        failed: bool,
        failures: &BreakerFailures,
    ) {
        let Some(state) = permit.on_result(now_ns, failed, failures) else { return };
        let backend = self.metrics.label();
        match state {
            TripState::Open => warn!(backend, open_for = ?failures.open_for, "circuit breaker opens"),
            TripState::HalfOpen | TripState::Closed => info!(backend, "circuit breaker closes"),
        }
    }
}
