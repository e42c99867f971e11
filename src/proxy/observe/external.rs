//! What became of questions to services that decide about a route's requests. Formats nothing (see `collect`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::route::{self, BUCKETS, MethodTotals};
use super::value::Counter;

/// What came of one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExternalResult {
    /// The service let the request pass.
    Passed,
    /// An answer that was kept let it pass.
    Cached,
    /// The client gets the service's own answer.
    Refused,
    /// The client is sent to where people sign in.
    SignIn,
    /// There was no answer that decides: 503.
    Unavailable,
    /// There was no answer, and the route lets requests pass then.
    Opened,
}

/// One for each route that asks a service.
#[derive(Debug, Default)]
pub(crate) struct ExternalMetrics {
    results: [Counter; EXTERNAL_RESULTS.len()],
    buckets: [AtomicU64; BUCKETS + 1],
    sum_ns: AtomicU64,
}

impl ExternalMetrics {
    pub(crate) fn count(&self, result: ExternalResult) {
        if let Some(counter) = self.results.get(result as usize) {
            counter.inc();
        }
    }

    /// A question took so long, whatever came of it.
    pub(crate) fn took(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(route::bucket(ns)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// By the label `result`.
    pub(super) fn results(&self) -> impl Iterator<Item = (&'static str, &Counter)> {
        EXTERNAL_RESULTS.iter().zip(&self.results).map(|((_, name), counter)| (*name, counter))
    }

    pub(super) fn durations(&self) -> MethodTotals {
        let mut totals = MethodTotals { sum_ns: self.sum_ns.load(Ordering::Relaxed), ..Default::default() };
        for (total, bucket) in totals.buckets.iter_mut().zip(&self.buckets) {
            *total = bucket.load(Ordering::Relaxed);
        }
        totals
    }
}

/// In the order of the enum, which is that of the array in [`ExternalMetrics`].
const EXTERNAL_RESULTS: [(ExternalResult, &str); 6] = [
    (ExternalResult::Passed, "passed"),
    (ExternalResult::Cached, "cached"),
    (ExternalResult::Refused, "refused"),
    (ExternalResult::SignIn, "sign_in"),
    (ExternalResult::Unavailable, "unavailable"),
    (ExternalResult::Opened, "opened"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_result_has_its_own_name() {
        for (place, (result, name)) in EXTERNAL_RESULTS.into_iter().enumerate() {
            assert_eq!(result as usize, place, "{name}");
            let metrics = ExternalMetrics::default();
            metrics.count(result);
            let counted: Vec<_> = metrics.results().filter(|(_, counter)| counter.get() > 0).collect();
            assert_eq!(counted.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [name]);
        }
    }
}
