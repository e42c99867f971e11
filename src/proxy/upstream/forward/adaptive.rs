//! The bound on requests under way that follows a backend's latency, where a rule asks for it.

use std::num::NonZeroU64;
use std::time::Instant;

use traffic::AdaptivePermit;

use super::{Forward, TryError};
use crate::error::Reason;

/// `None`: the rule asks for no such bound.
pub(super) fn permit(ask: &Forward<'_>) -> Result<Option<AdaptivePermit>, Reason> {
    let Some(bounds) = ask.circuit_breaker.adaptive else { return Ok(None) };
    let adaptive = &ask.backend.adaptive;
    let permit = adaptive.try_acquire(ask.worker.nanos(ask.started), bounds);
    if permit.is_none() {
        ask.backend.metrics.adaptive_rejected();
        ask.backend.metrics.set_adaptive_limit(adaptive.limit(bounds));
        return Err(Reason::BreakerOpen);
    }
    Ok(permit)
}

/// When a try begins on the worker's clock, if that is measured.
pub(super) fn began(ask: &Forward<'_>) -> Option<NonZeroU64> {
    ask.circuit_breaker.adaptive.and_then(|_| NonZeroU64::new(ask.worker.nanos(Instant::now())))
}

/// A try has ended. Only what the backend had a part in counts.
pub(super) fn measure(ask: &Forward<'_>, began_ns: Option<NonZeroU64>, error: Option<TryError>) {
    let (Some(bounds), Some(began_ns)) = (ask.circuit_breaker.adaptive, began_ns) else { return };
    let now_ns = ask.worker.nanos(Instant::now());
    let took_ns = now_ns.saturating_sub(began_ns.get());
    let latency_ns = match error {
        None | Some(TryError::Status) => Some(took_ns),
        Some(TryError::Tls) => return,
        Some(error) if error.outcome().is_some() => None,
        Some(_) => return,
    };
    ask.backend.adaptive.on_answer(now_ns, latency_ns, bounds);
    ask.backend.metrics.set_adaptive_limit(ask.backend.adaptive.limit(bounds));
}
