//! What is counted of key sets that are fetched by URL. Formats nothing (see `collect`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::value::{Counter, Gauge};

/// One per key set, whatever providers name it.
#[derive(Debug, Default)]
pub(crate) struct KeySetMetrics {
    fetched_at: ArcSwapOption<Instant>,
    /// How many keys are in use.
    pub(crate) keys: Gauge,
    /// Fetches that brought nothing.
    pub(crate) failures: Counter,
    /// Fetches that a request asked for, because its key was not there.
    pub(crate) refetches: Counter,
}

/// A key set under the name of one provider that uses it.
#[derive(Clone, Debug)]
pub(crate) struct ProviderKeys {
    /// `namespace/name/provider`.
    pub(crate) label: Arc<str>,
    pub(crate) metrics: Arc<KeySetMetrics>,
}

impl KeySetMetrics {
    /// A fetch has brought keys.
    pub(crate) fn fetched(&self, now: Instant) {
        self.fetched_at.store(Some(Arc::new(now)));
    }

    /// When keys came last.
    pub(crate) fn fetched_at(&self) -> Option<Instant> {
        self.fetched_at.load().as_deref().copied()
    }

    /// How old the keys are.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.fetched_at().map(|at| now.saturating_duration_since(at))
    }

    /// Goes on where another one of the same source ends.
    pub(crate) fn took_over(&self, known: &Self) {
        self.fetched_at.store(known.fetched_at.load_full());
        self.keys.set(u64::try_from(known.keys.get()).unwrap_or_default());
        self.failures.add(known.failures.get());
        self.refetches.add(known.refetches.get());
    }
}
