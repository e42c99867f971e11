//! One shard of a limit's buckets: open addressing with linear probing over one flat array of words. Knows which bucket
//! is worth least, not how it counts.

use std::sync::atomic::{AtomicU32, Ordering};

use super::rate::Counter;

/// The buckets of one shard. A slot is the tag (0: the slot is free) and then the words of each rate. The number of slots
/// is a power of two, and at most seven eighths of them are taken.
///
/// The tag is the lower 58 bits of the fingerprint; the upper ones named the shard. In their place stands how often the
/// key was asked for lately: one more with every request after the first, up to 63, and half of it as
/// often as the shard has taken as many keys as it holds.
#[derive(Debug)]
pub(super) struct Shard {
    words: Vec<u64>,
    stride: usize,
    slots: usize,
    taken: usize,
    /// Where the search for a bucket to give up goes on, and how often it has gone round: it is never wrapped.
    hand: usize,
}

/// What an insertion needs to know about the whole store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) now_ns: u64,
    pub(super) rates: &'a [Counter],
    /// Buckets in all shards.
    pub(super) keys: &'a AtomicU32,
    pub(super) keys_max: u32,
}

impl Shard {
    pub(super) fn new(rates: &[Counter]) -> Self {
        let stride = 1 + rates.iter().map(|rate| rate.words()).sum::<usize>();
        Self { words: Vec::new(), stride, slots: 0, taken: 0, hand: 0 }
    }

    pub(super) fn find(&self, fingerprint: u64) -> Option<usize> {
        if self.slots == 0 {
            return None;
        }
        let tag = tag(fingerprint);
        let mut slot = self.home(tag);
        loop {
            match self.tag(slot) {
                0 => return None,
                found if found == tag => return Some(slot),
                _ => slot = self.next(slot),
            }
        }
    }

    /// The states of a slot, rate by rate; empty for a slot that does not exist.
    pub(super) fn words_mut(&mut self, slot: usize) -> &mut [u64] {
        let start = slot * self.stride;
        self.words.get_mut(start + 1..start + self.stride).unwrap_or_default()
    }

    /// The key of this slot was asked for again.
    pub(super) fn on_hit(&mut self, slot: usize) {
        if let Some(word) = self.words.get_mut(slot * self.stride)
            && *word >> TAG_BITS < HITS_MAX
        {
            *word += 1 << TAG_BITS;
        }
    }

    /// Adds a bucket that is full. Where the store holds `keys_max` already, another bucket of this shard goes:
    /// every one that the hand meets full again, or else the one (of up to [`SWEEP_MAX`]) that is worth least. So keys
    /// made up by an attacker push out each other: not a drained bucket, whose key would have a new burst, and not a hot
    /// one. An empty shard has nobody to push out and takes the
    /// bucket all the same: at most one too many per shard.
    ///
    /// Returns the slot, and whether a bucket that was not full again was pushed out.
    pub(super) fn insert(&mut self, fingerprint: u64, place: Place<'_>) -> (usize, bool) {
        let mut evicted = false;
        let reserved = place.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |keys| {
            (keys < place.keys_max).then_some(keys + 1)
        });
        if reserved.is_err() {
            let (freed, least) = self.sweep(place, SWEEP_MAX);
            match (freed, least.and_then(|tag| self.find(tag))) {
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
            let (freed, _) = self.sweep(place, usize::MAX);
            place.keys.fetch_sub(count(freed), Ordering::Relaxed);
            // Growing while much is free would double the memory for buckets that come and go.
            if self.taken >= self.slots / 2 {
                self.grow();
            }
        }
        (self.put(tag(fingerprint)), evicted)
    }

    /// Moves the hand over up to `buckets_max` buckets and removes those that are full again. Returns how many,
    /// and the tag of the one that is worth least among the rest.
    fn sweep(&mut self, place: Place<'_>, buckets_max: usize) -> (usize, Option<u64>) {
        let (mut freed, mut met, mut passed) = (0, 0, 0);
        let mut least: Option<(u32, u64)> = None;
        while met < buckets_max && passed < self.slots {
            let slot = self.hand & (self.slots - 1);
            let tag = self.tag(slot);
            if tag != 0 {
                met += 1;
                let Some(worth) = self.worth(slot, place) else {
                    // Its successor may have moved into the slot, so the hand stays.
                    self.remove(slot);
                    freed += 1;
                    continue;
                };
                if least.is_none_or(|(found, _)| worth < found) {
                    least = Some((worth, tag));
                }
                // An insertion moves the hand so far that only so many rounds are as many insertions as keys.
                if (self.hand / self.slots).is_multiple_of(SWEEP_MAX)
                    && let Some(word) = self.words.get_mut(slot * self.stride)
                {
                    let hits = *word >> TAG_BITS;
                    *word = tag | ((hits / 2) << TAG_BITS);
                }
            }
            self.hand = self.hand.wrapping_add(1);
            passed += 1;
        }
        (freed, least.map(|(_, tag)| tag))
    }

    /// Frees a slot and closes the gap: what stands behind it moves up as far as its home allows.
    fn remove(&mut self, slot: usize) {
        let mask = self.slots - 1;
        let (mut hole, mut slot) = (slot, slot);
        loop {
            slot = self.next(slot);
            let tag = self.tag(slot);
            if tag == 0 {
                break;
            }
            let from_home = slot.wrapping_sub(self.home(tag)) & mask;
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
            if let Some((word, states)) = old.split_first().filter(|(word, _)| **word != 0) {
                let slot = self.put(*word);
                self.words_mut(slot).copy_from_slice(states);
            }
        }
    }

    /// Takes the first free slot from home on. There is one: see [`Shard::taken_max`].
    fn put(&mut self, tag_and_hits: u64) -> usize {
        debug_assert!(self.taken < self.slots, "a shard always has a free slot");
        let mut slot = self.home(tag_and_hits);
        while self.tag(slot) != 0 {
            slot = self.next(slot);
        }
        if let Some(word) = self.words.get_mut(slot * self.stride) {
            *word = tag_and_hits;
            self.taken += 1;
        }
        slot
    }

    fn taken_max(&self) -> usize {
        self.slots - self.slots / 8
    }

    /// What would be lost with a bucket: eighths of its rate that is used up most, and as much as half of all that for every
    /// time that its requests of late have doubled. `None`: nothing, it is full again.
    fn worth(&self, slot: usize, place: Place<'_>) -> Option<u32> {
        let start = slot * self.stride;
        let mut rest = self.words.get(start + 1..start + self.stride).unwrap_or_default();
        let (mut used, mut is_full) = (0, true);
        for rate in place.rates {
            let (state, others) = rest.split_at(rate.words().min(rest.len()));
            rest = others;
            if state.first().is_some_and(|full_at| *full_at > place.now_ns) {
                is_full = false;
                used = used.max(rate.used(state, place.now_ns));
            }
        }
        let hits = self.words.get(start).map_or(0, |word| word >> TAG_BITS);
        (!is_full).then_some(used + 4 * (hits + 1).ilog2())
    }

    fn tag(&self, slot: usize) -> u64 {
        self.words.get(slot * self.stride).map_or(0, |word| word & TAG_MASK)
    }

    /// The hits in the upper bits, if any, are not looked at.
    fn home(&self, tag: u64) -> usize {
        let mask = u64::try_from(self.slots - 1).unwrap_or(u64::MAX) & TAG_MASK;
        usize::try_from(tag & mask).unwrap_or(0)
    }

    fn next(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots - 1)
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        let taken = (0..self.slots).filter(|slot| self.tag(*slot) != 0).count();
        assert_eq!(taken, self.taken);
        (taken, self.words.capacity() * size_of::<u64>())
    }
}

/// 0 marks a free slot; the key that would have it shares the bucket of tag 1.
fn tag(fingerprint: u64) -> u64 {
    (fingerprint & TAG_MASK).max(1)
}

fn count(buckets: usize) -> u32 {
    u32::try_from(buckets).unwrap_or(u32::MAX)
}

/// How many buckets one insertion looks at when the store is full.
const SWEEP_MAX: usize = 32;
const SLOTS_MIN: usize = 8;
const TAG_BITS: u32 = 58;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
const HITS_MAX: u64 = 63;
