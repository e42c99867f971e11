//! One shard of a limit's buckets: open addressing with linear probing over one flat array of words. Knows when a
//! bucket is full again, nothing else about rates.

use std::sync::atomic::{AtomicU32, Ordering};

/// The buckets of one shard. A slot is `1 + rates` words: the fingerprint (0: the slot is free), then one arrival
/// time per rate. The number of slots is a power of two, and at most seven eighths of them are taken.
#[derive(Debug)]
pub(super) struct Shard {
    words: Vec<u64>,
    stride: usize,
    slots: usize,
    taken: usize,
    /// Where the search for a bucket to give up goes on.
    hand: usize,
}

/// What an insertion needs to know about the whole store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) now_ns: u64,
    /// Buckets in all shards.
    pub(super) keys: &'a AtomicU32,
    pub(super) keys_max: u32,
}

impl Shard {
    pub(super) fn new(rates: usize) -> Self {
        Self { words: Vec::new(), stride: rates + 1, slots: 0, taken: 0, hand: 0 }
    }

    pub(super) fn find(&self, fingerprint: u64) -> Option<usize> {
        if self.slots == 0 {
            return None;
        }
        let fingerprint = nonzero(fingerprint);
        let mut slot = self.home(fingerprint);
        loop {
            match self.fingerprint(slot) {
                0 => return None,
                found if found == fingerprint => return Some(slot),
                _ => slot = self.next(slot),
            }
        }
    }

    /// The arrival times of a slot, one per rate; empty for a slot that does not exist.
    pub(super) fn arrivals_mut(&mut self, slot: usize) -> &mut [u64] {
        let start = slot * self.stride;
        self.words.get_mut(start + 1..start + self.stride).unwrap_or_default()
    }

    /// Adds a bucket that is full. Where the store holds `keys_max` already, another bucket of this shard goes:
    /// every one that the hand meets full again, or else the one that is full again soonest (of up to
    /// [`SWEEP_MAX`]). So keys made up by an attacker push out each other, not the drained buckets. An empty shard
    /// has nobody to push out and takes the bucket all the same: at most one too many per shard.
    ///
    /// Returns the slot, and whether a bucket that was not full again was pushed out.
    pub(super) fn insert(&mut self, fingerprint: u64, place: Place<'_>) -> (usize, bool) {
        let mut evicted = false;
        let reserved = place.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |keys| {
            (keys < place.keys_max).then_some(keys + 1)
        });
        if reserved.is_err() {
            let (freed, soonest) = self.sweep(place.now_ns, SWEEP_MAX);
            match (freed, soonest.and_then(|fingerprint| self.find(fingerprint))) {
                (0, None) => {
                    place.keys.fetch_add(1, Ordering::Relaxed);
                }
                (0, Some(slot)) => {
                    self.remove(slot);
                    evicted = true;
                }
                // The new bucket takes the place of one that was freed.
                (freed, _) => {
                    place.keys.fetch_sub(count(freed) - 1, Ordering::Relaxed);
                }
            }
        }
        if self.taken + 1 > self.taken_max() {
            let (freed, _) = self.sweep(place.now_ns, usize::MAX);
            place.keys.fetch_sub(count(freed), Ordering::Relaxed);
            // Growing while much is free would double the memory for buckets that come and go.
            if self.taken >= self.slots / 2 {
                self.grow();
            }
        }
        (self.put(nonzero(fingerprint)), evicted)
    }

    /// Moves the hand over up to `buckets_max` buckets and removes those that are full again. Returns how many,
    /// and the fingerprint of the one that is full again soonest among the rest.
    fn sweep(&mut self, now_ns: u64, buckets_max: usize) -> (usize, Option<u64>) {
        let (mut freed, mut met, mut passed) = (0, 0, 0);
        let mut soonest: Option<(u64, u64)> = None;
        while met < buckets_max && passed < self.slots {
            let fingerprint = self.fingerprint(self.hand);
            if fingerprint != 0 {
                met += 1;
                let full_at = self.full_at(self.hand);
                if full_at <= now_ns {
                    // Its successor may have moved into the slot, so the hand stays.
                    self.remove(self.hand);
                    freed += 1;
                    continue;
                }
                if soonest.is_none_or(|(least, _)| full_at < least) {
                    soonest = Some((full_at, fingerprint));
                }
            }
            self.hand = self.next(self.hand);
            passed += 1;
        }
        (freed, soonest.map(|(_, fingerprint)| fingerprint))
    }

    /// Frees a slot and closes the gap: what stands behind it moves up as far as its home allows.
    fn remove(&mut self, slot: usize) {
        let mask = self.slots - 1;
        let (mut hole, mut slot) = (slot, slot);
        loop {
            slot = self.next(slot);
            let fingerprint = self.fingerprint(slot);
            if fingerprint == 0 {
                break;
            }
            let from_home = slot.wrapping_sub(self.home(fingerprint)) & mask;
            let from_hole = slot.wrapping_sub(hole) & mask;
            if from_home >= from_hole {
                let start = slot * self.stride;
                self.words.copy_within(start..start + self.stride, hole * self.stride);
                hole = slot;
            }
        }
        let start = hole * self.stride;
        self.words.get_mut(start..start + self.stride).unwrap_or_default().fill(0);
        self.taken -= 1;
    }

    fn grow(&mut self) {
        let slots = (self.slots * 2).max(SLOTS_MIN);
        let words = std::mem::replace(&mut self.words, vec![0; slots * self.stride]);
        (self.slots, self.taken, self.hand) = (slots, 0, 0);
        for old in words.chunks_exact(self.stride) {
            if let Some((fingerprint, arrivals)) =
                old.split_first().filter(|(fingerprint, _)| **fingerprint != 0)
            {
                let slot = self.put(*fingerprint);
                self.arrivals_mut(slot).copy_from_slice(arrivals);
            }
        }
    }

    /// Takes the first free slot from home on. There is one: see [`Shard::taken_max`].
    fn put(&mut self, fingerprint: u64) -> usize {
        debug_assert!(self.taken < self.slots, "a shard always has a free slot");
        let mut slot = self.home(fingerprint);
        while self.fingerprint(slot) != 0 {
            slot = self.next(slot);
        }
        if let Some(word) = self.words.get_mut(slot * self.stride) {
            *word = fingerprint;
            self.taken += 1;
        }
        slot
    }

    fn taken_max(&self) -> usize {
        self.slots - self.slots / 8
    }

    /// The latest arrival time: from then on the bucket says no more than one that was never seen.
    fn full_at(&self, slot: usize) -> u64 {
        let start = slot * self.stride;
        let arrivals = self.words.get(start + 1..start + self.stride).unwrap_or_default();
        arrivals.iter().copied().max().unwrap_or(0)
    }

    fn fingerprint(&self, slot: usize) -> u64 {
        self.words.get(slot * self.stride).copied().unwrap_or(0)
    }

    fn home(&self, fingerprint: u64) -> usize {
        let mask = u64::try_from(self.slots - 1).unwrap_or(u64::MAX);
        usize::try_from(fingerprint & mask).unwrap_or(0)
    }

    fn next(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots - 1)
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        let taken = (0..self.slots).filter(|slot| self.fingerprint(*slot) != 0).count();
        assert_eq!(taken, self.taken);
        (taken, self.words.capacity() * size_of::<u64>())
    }
}

/// 0 marks a free slot; the key that would have it shares the bucket of fingerprint 1.
fn nonzero(fingerprint: u64) -> u64 {
    fingerprint.max(1)
}

fn count(buckets: usize) -> u32 {
    u32::try_from(buckets).unwrap_or(u32::MAX)
}

/// How many buckets one insertion looks at when the store is full.
const SWEEP_MAX: usize = 32;
const SLOTS_MIN: usize = 8;
