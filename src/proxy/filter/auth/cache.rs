//! Verdicts of one worker by token, bounded in number and bytes. Holds only tokens that were found good: a flood of bad
//! ones neither costs memory nor drives good ones out.

use std::fmt;
use std::hash::BuildHasher;
use std::rc::Rc;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::credential_cache::CredentialCache;
use super::verifier::{JudgeId, Verdict};

/// Tokens kept by one worker unless it is told otherwise.
const ENTRIES_MAX: usize = 4096;
/// Bytes kept by one worker unless it is told otherwise, counted roughly.
const BYTES_MAX: usize = 16 << 20;

/// What became of look-ups, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheStats {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Good verdicts that had to go because a bound was reached.
    pub(crate) evicted: u64,
}

/// A verdict holds for one verifier and one token, byte for byte, inside its time window, and only where exactly those
/// verifiers are asked before it that are known to refuse the token: whom a token names never depends on what happens to
/// be kept. The hash is keyed by a random seed of this cache and only narrows the search; equality is always that of all
/// bytes.
pub(crate) struct VerdictCache {
    hasher: DefaultHashBuilder,
    /// Places in `slots`.
    index: HashTable<usize>,
    slots: Vec<Slot>,
    /// Where the search for a victim goes on (CLOCK: whoever was used since the last round gets one more).
    hand: usize,
    entries_max: usize,
    bytes_max: usize,
    stats: CacheStats,
    /// Those of names and passwords.
    pub(super) credentials: CredentialCache,
}

struct Slot {
    hash: u64,
    token: Box<[u8]>,
    verdict: Rc<Verdict>,
    /// The verifiers that were asked before and refused, in order; nearly always none, which allocates nothing.
    refused_by: Box<[JudgeId]>,
    bytes: usize,
    used: bool,
}

impl Slot {
    /// Whether these verifiers, asked in order, come to this verdict.
    fn answers(&self, mut candidates: impl Iterator<Item = JudgeId>) -> bool {
        self.refused_by.iter().all(|refused| candidates.next() == Some(*refused))
            && candidates.next() == Some(self.verdict.judge)
    }
}

/// A token with its hash in one cache.
#[derive(Clone, Copy)]
pub(super) struct HashedToken<'t> {
    hash: u64,
    token: &'t [u8],
}

impl Default for VerdictCache {
    fn default() -> Self {
        Self::new(ENTRIES_MAX, BYTES_MAX)
    }
}

impl VerdictCache {
    /// Bounds of 0 keep nothing.
    pub(crate) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            index: HashTable::new(),
            slots: Vec::new(),
            hand: 0,
            entries_max,
            bytes_max,
            stats: CacheStats::default(),
            credentials: CredentialCache::default(),
        }
    }

    pub(crate) fn stats(&self) -> CacheStats {
        CacheStats { entries: self.slots.len(), ..self.stats }
    }

    pub(super) fn hash<'t>(&self, token: &'t [u8]) -> HashedToken<'t> {
        HashedToken { hash: self.hasher.hash_one(token), token }
    }

    /// The verdict of these verifiers, asked in order, on this very token, if it holds at this time.
    pub(super) fn get(
        &mut self,
        token: HashedToken<'_>,
        candidates: &(impl Iterator<Item = JudgeId> + Clone),
        now_unix_s: u64,
    ) -> Option<Rc<Verdict>> {
        let slots = &self.slots;
        let found = self.index.find(token.hash, |place| {
            slots
                .get(*place)
                .is_some_and(|slot| slot.answers(candidates.clone()) && *slot.token == *token.token)
        });
        let place = found.copied();
        if let Some(place) = place
            && let Some(slot) = self.slots.get_mut(place)
        {
            if slot.verdict.window.contains(now_unix_s) {
                slot.used = true;
                self.stats.hits += 1;
                return Some(Rc::clone(&slot.verdict));
            }
            self.remove(place);
        }
        self.stats.misses += 1;
        None
    }

    /// Keeps a fresh verdict of these verifiers. The caller has just missed it, so it does not stand here yet.
    pub(super) fn insert(
        &mut self,
        token: HashedToken<'_>,
        candidates: impl Iterator<Item = JudgeId>,
        verdict: &Rc<Verdict>,
        now_unix_s: u64,
    ) {
        let HashedToken { hash, token } = token;
        let refused_by: Box<[JudgeId]> = candidates.take_while(|id| *id != verdict.judge).collect();
        let bytes = size_of::<Slot>() + token.len() + size_of_val(&*refused_by) + verdict.weight();
        if self.entries_max == 0 || bytes > self.bytes_max {
            return;
        }
        while self.slots.len() >= self.entries_max || self.stats.bytes + bytes > self.bytes_max {
            self.evict_one(now_unix_s);
        }
        let place = self.slots.len();
        let verdict = Rc::clone(verdict);
        let slot = Slot { hash, token: token.into(), verdict, refused_by, bytes, used: false };
        self.slots.push(slot);
        self.stats.bytes += bytes;
        let slots = &self.slots;
        self.index.insert_unique(hash, place, |place| slots.get(*place).map_or(0, |slot| slot.hash));
    }

    /// Ends after at most two rounds: the first takes every second chance away.
    fn evict_one(&mut self, now_unix_s: u64) {
        while !self.slots.is_empty() {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let Some(slot) = self.slots.get_mut(self.hand) else { return };
            let holds = slot.verdict.window.contains(now_unix_s);
            if !holds || !slot.used {
                self.stats.evicted += u64::from(holds);
                self.remove(self.hand);
                return;
            }
            slot.used = false;
            self.hand += 1;
        }
    }

    /// The last slot takes the place of the removed one.
    fn remove(&mut self, place: usize) {
        let Some(hash) = self.slots.get(place).map(|slot| slot.hash) else { return };
        if let Ok(entry) = self.index.find_entry(hash, |known| *known == place) {
            entry.remove();
        }
        let removed = self.slots.swap_remove(place);
        self.stats.bytes -= removed.bytes;
        let was_at = self.slots.len();
        if let Some(moved) = self.slots.get(place)
            && let Some(known) = self.index.find_mut(moved.hash, |known| *known == was_at)
        {
            *known = place;
        }
    }
}

impl fmt::Debug for VerdictCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerdictCache")
            .field("stats", &self.stats())
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}
