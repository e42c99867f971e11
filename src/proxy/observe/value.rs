//! Counters and gauges over relaxed atomics, where a thread counts, and the set of what is alive. Knows no name and no format.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Only goes up.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn inc(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A whole number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A gauge with a fraction.
#[derive(Debug, Default)]
pub(crate) struct FloatGauge(AtomicU64);

impl FloatGauge {
    pub(crate) fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Which of so many copies of a count this thread writes to. Threads take their numbers in turn when they first
/// count, so workers have copies of their own as long as there are enough; shared copies count right, too.
pub(super) fn shard(shards: usize) -> usize {
    THREAD.with(|number| *number) % shards.max(1)
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

/// Values by label, alive as long as somebody outside holds them: the series of a route end with the last
/// generation that has the route, and whoever asks for the same label before that gets the same value.
///
/// The lock is taken when a generation is built and when metrics are read, never by a request.
#[derive(Debug)]
pub(super) struct Alive<K, V>(Mutex<Entries<K, V>>);

#[derive(Debug)]
struct Entries<K, V> {
    by_label: BTreeMap<K, Weak<V>>,
    /// At this size the dead are removed, even if nobody ever reads the metrics.
    prune_at: usize,
}

impl<K: Ord, V> Alive<K, V> {
    pub(super) fn get_or_make(&self, label: K, make: impl FnOnce(&K) -> V) -> Arc<V> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = entries.by_label.get(&label).and_then(Weak::upgrade) {
            return value;
        }
        if entries.by_label.len() >= entries.prune_at {
            entries.by_label.retain(|_, value| value.strong_count() > 0);
            entries.prune_at = (entries.by_label.len() * 2).max(PRUNE_AT_MIN);
        }
        let value = Arc::new(make(&label));
        entries.by_label.insert(label, Arc::downgrade(&value));
        value
    }

    /// Everything that is alive, in the order of its labels.
    pub(super) fn all(&self) -> Vec<Arc<V>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut alive = Vec::with_capacity(entries.by_label.len());
        entries.by_label.retain(|_, value| match value.upgrade() {
            Some(value) => {
                alive.push(value);
                true
            }
            None => false,
        });
        alive
    }
}

impl<K, V> Default for Alive<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Entries { by_label: BTreeMap::new(), prune_at: PRUNE_AT_MIN }))
    }
}

const PRUNE_AT_MIN: usize = 64;

#[cfg(test)]
mod tests;
