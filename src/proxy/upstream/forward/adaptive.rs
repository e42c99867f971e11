//! The bound on requests under way that follows a backend's latency, where a rule asks for it.

use std::time::Instant;

use traffic::AdaptivePermit;

use super::{Forward, TryError, is_upstreams_fault};
use crate::error::Reason;

/// `None`: the rule asks for no such bound.
pub(super) fn permit(ask: &Forward<'_>) -> Result<Option<AdaptivePermit>, Reason> {
    let Some(bounds) = ask.circuit_breaker.adaptive else { return Ok(None) };
    let permit = ask.backend.adaptive.try_acquire(bounds);
    if permit.is_none() {
        ask.backend.metrics.adaptive_rejected();
        return Err(Reason::BreakerOpen);
    }
    Ok(permit)
}

/// When a try begins, if that is measured.
pub(super) fn began(ask: &Forward<'_>) -> Option<Instant> {
    ask.circuit_breaker.adaptive.map(|_| Instant::now())
}

/// A try has ended. Only what the backend had a part in counts.
pub(super) fn measure(ask: &Forward<'_>, began: Option<Instant>, error: Option<TryError>) {
    let (Some(bounds), Some(began)) = (ask.circuit_breaker.adaptive, began) else { return };
    let now = Instant::now();
    let took_ns = u64::try_from((now - began).as_nanos()).unwrap_or(u64::MAX);
    let latency_ns = match error {
        None | Some(TryError::Status) => Some(took_ns),
        Some(TryError::Connect) => None,
        Some(error) if is_upstreams_fault(error) => None,
        Some(_) => return,
    };
    ask.backend.adaptive.on_answer(ask.worker.nanos(now), latency_ns, bounds);
    ask.backend.metrics.set_adaptive_limit(ask.backend.adaptive.limit(bounds));
}
