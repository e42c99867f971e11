//! Concurrency limits: how many requests of a key are in flight at once, and who waits for a place, in order. Wakes nobody
//! itself and knows no time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The requests in flight of one limit, by key, shared by all worker threads. `W` is what wakes one that waits.
///
/// Only keys with requests in flight are kept, so that there are never more than requests in the process. A key always
/// meets the same shard, which is locked for one step. Nothing is allocated before the first request.
#[derive(Debug)]
pub struct ConcurrencyStore<W> {
    max: u32,
    queue_max: usize,
    shards: OnceLock<Box<[PaddedShard<W>]>>,
}

/// What a request is told that asks for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It has one, and must give it back.
    Taken,
    /// It waits under this number. The place comes with its waker, which [`ConcurrencyStore::give_back`] returns.
    Queued(u64),
    /// All places are taken, and as many wait as may.
    Full,
}

impl<W> ConcurrencyStore<W> {
    /// Places for this limit; at least one.
    pub fn new(concurrency: &ir::Concurrency) -> Self {
        Self {
            max: concurrency.max.max(1),
            queue_max: usize::try_from(concurrency.queue).unwrap_or(0),
            shards: OnceLock::new(),
        }
    }

    /// Asks for a place. `waker` is made only for a request that waits.
    pub fn take(&self, fingerprint: u64, waker: impl FnOnce() -> W) -> Place {
        let Some(mut shard) = self.shard(fingerprint) else { return Place::Full };
        let entry = shard.keys.entry(fingerprint).or_default();
        if entry.in_flight < self.max {
            entry.in_flight += 1;
            return Place::Taken;
        }
        if entry.waiting.len() >= self.queue_max {
            return Place::Full;
        }
        let ticket = shard.next_ticket;
        shard.next_ticket += 1;
        if let Some(entry) = shard.keys.get_mut(&fingerprint) {
            entry.waiting.push_back((ticket, waker()));
        }
        Place::Queued(ticket)
    }

    /// Takes a place even where all are taken; false if they were.
    pub fn take_any(&self, fingerprint: u64) -> bool {
        let Some(mut shard) = self.shard(fingerprint) else { return true };
        let entry = shard.keys.entry(fingerprint).or_default();
        entry.in_flight = entry.in_flight.saturating_add(1);
        entry.in_flight <= self.max
    }

    /// Gives a place back. Where somebody waits the place is his, and his waker is returned; if he is gone, give it back
    /// once more.
    #[must_use = "whoever waits has the place now and must hear of it"]
    pub fn give_back(&self, fingerprint: u64) -> Option<W> {
        let mut shard = self.shard(fingerprint)?;
        let entry = shard.keys.get_mut(&fingerprint)?;
        if entry.in_flight <= self.max
            && let Some((_, waker)) = entry.waiting.pop_front()
        {
            return Some(waker);
        }
        entry.in_flight = entry.in_flight.saturating_sub(1);
        if entry.in_flight == 0 && entry.waiting.is_empty() {
            shard.keys.remove(&fingerprint);
        }
        None
    }

    /// Waits no longer. False: it does not wait any more, because the place is its own already.
    pub fn leave(&self, fingerprint: u64, ticket: u64) -> bool {
        let Some(mut shard) = self.shard(fingerprint) else { return false };
        let Some(entry) = shard.keys.get_mut(&fingerprint) else { return false };
        // Tickets stand in order, and mostly the oldest runs out of time.
        let Some(at) = entry.waiting.iter().position(|(waiting, _)| *waiting == ticket) else { return false };
        entry.waiting.remove(at);
        true
    }

    fn shard(&self, fingerprint: u64) -> Option<MutexGuard<'_, Shard<W>>> {
        let shards = self.shards.get_or_init(|| (0..SHARDS).map(|_| PaddedShard::default()).collect());
        let index = usize::try_from(fingerprint >> (u64::BITS - SHARDS.ilog2())).unwrap_or(0);
        Some(shards.get(index)?.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many keys have requests in flight.
    #[cfg(test)]
    fn keys(&self) -> usize {
        self.shards
            .get()
            .map_or(0, |shards| shards.iter().map(|shard| shard.0.lock().unwrap().keys.len()).sum())
    }
}

#[derive(Debug)]
struct Shard<W> {
    keys: BTreeMap<u64, Entry<W>>,
    next_ticket: u64,
}

/// On a cache line of its own, so that neighbours do not slow each other down.
#[derive(Debug)]
#[repr(align(64))]
struct PaddedShard<W>(Mutex<Shard<W>>);

#[derive(Debug)]
struct Entry<W> {
    in_flight: u32,
    waiting: VecDeque<(u64, W)>,
}

impl<W> Default for PaddedShard<W> {
    fn default() -> Self {
        Self(Mutex::new(Shard { keys: BTreeMap::new(), next_ticket: 0 }))
    }
}

impl<W> Default for Entry<W> {
    fn default() -> Self {
        Self { in_flight: 0, waiting: VecDeque::new() }
    }
}

const SHARDS: usize = 32;

#[cfg(test)]
mod tests;
