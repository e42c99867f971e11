//! The breaker that opens on failures, as requests meet it. Sends nothing.

use std::time::Instant;

use ir::BreakerFailures;
use tracing::{info, warn};
use traffic::TripState;

use super::backend::Backend;
use super::forward::{Forward, Trail};
use crate::error::Reason;

impl Forward<'_> {
    /// Whether the breaker that opens on failures lets the request through.
    pub(super) fn admitted(&self, trail: &mut Trail) -> Result<(), Reason> {
        let Some(failures) = &self.circuit_breaker.failures else { return Ok(()) };
        self.backend.admit(self.worker.nanos(self.started), failures).map_err(|retry_after_s| {
            trail.retry_after_s = retry_after_s;
            Reason::BreakerOpen
        })
    }

    /// The request has ended. The clock is only read where somebody counts.
    pub(super) fn ended(&self, failed: impl FnOnce() -> Option<bool>) {
        let Some(failures) = &self.circuit_breaker.failures else { return };
        if let Some(failed) = failed() {
            self.backend.request_ended(self.worker.nanos(Instant::now()), failed, failures);
        }
    }
}

impl Backend {
    /// Lets a request through.
    ///
    /// # Errors
    /// The breaker is open: after so many seconds it may be otherwise.
    pub(super) fn admit(&self, now_ns: u64, failures: &BreakerFailures) -> Result<(), u16> {
        self.trip.admit(now_ns, failures).map_err(|wait_ns| {
            self.metrics.breaker_was_open();
            u16::try_from(wait_ns.div_ceil(1_000_000_000).max(1)).unwrap_or(u16::MAX)
        })
    }

    /// Counts how a request ended.
    pub(super) fn request_ended(&self, now_ns: u64, failed: bool, failures: &BreakerFailures) {
        let Some(state) = self.trip.on_result(now_ns, failed, failures) else { return };
        let backend = self.metrics.label();
        match state {
            TripState::Open => warn!(backend, open_for = ?failures.open_for, "circuit breaker opens"),
            TripState::HalfOpen | TripState::Closed => info!(backend, "circuit breaker closes"),
        }
    }
}
