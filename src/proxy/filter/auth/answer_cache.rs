//! Answers of services that let requests pass, kept by one worker, bounded in number and bytes; and who is asking now, so
//! that requests that are alike ask once. Keeps no header of a request, only a keyed hash over them.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use hashbrown::HashMap;
use tokio::sync::Notify;

use super::api_key::random_key;
use super::external::Pass;

const ENTRIES_MAX: usize = 4096;
const BYTES_MAX: usize = 4 << 20;

/// Names a service, as one route has it, and what of a request its answers are kept by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AnswerKey([u8; 32]);

/// Makes a key. Each part is told apart from the next by its length.
pub(super) struct AnswerHash(hmac::Context);

/// What one worker keeps.
pub(crate) struct AnswerCache {
    key: hmac::Key,
    kept: HashMap<AnswerKey, Kept>,
    /// Told when the one that asks has its answer, or has given up.
    asking: HashMap<AnswerKey, Rc<Notify>>,
    bytes: usize,
    clock: u64,
    entries_max: usize,
    bytes_max: usize,
}

struct Kept {
    pass: Rc<Pass>,
    until: Instant,
    used: u64,
    bytes: usize,
}

/// What is known about a request.
pub(crate) enum Look<'a> {
    Kept(Rc<Pass>),
    /// Somebody else asks for the same.
    Wait(Rc<Notify>),
    /// Nobody does: whoever holds this.
    Ask(Turn<'a>),
}

/// The right to ask. Those that wait are told when it ends, however it does.
pub(crate) struct Turn<'a> {
    cache: &'a RefCell<AnswerCache>,
    key: AnswerKey,
}

impl Default for AnswerCache {
    fn default() -> Self {
        Self::new(ENTRIES_MAX, BYTES_MAX)
    }
}

impl AnswerCache {
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            key: random_key(),
            kept: HashMap::new(),
            asking: HashMap::new(),
            bytes: 0,
            clock: 0,
            entries_max,
            bytes_max,
        }
    }

    pub(super) fn hash(&self, service: u64) -> AnswerHash {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&service.to_le_bytes());
        AnswerHash(context)
    }

    /// What is known about a request with this key.
    pub(crate) fn look(cache: &RefCell<Self>, key: AnswerKey, now: Instant) -> Look<'_> {
        let mut this = cache.borrow_mut();
        if let Some(pass) = this.get(key, now) {
            return Look::Kept(pass);
        }
        if let Some(other) = this.asking.get(&key) {
            return Look::Wait(Rc::clone(other));
        }
        this.asking.insert(key, Rc::default());
        Look::Ask(Turn { cache, key })
    }

    pub(super) fn get(&mut self, key: AnswerKey, now: Instant) -> Option<Rc<Pass>> {
        self.clock += 1;
        let kept = self.kept.get_mut(&key)?;
        if now >= kept.until {
            self.remove(key);
            return None;
        }
        kept.used = self.clock;
        Some(Rc::clone(&kept.pass))
    }

    /// Keeps an answer. Those that no longer count go first, then the one that was not used for the longest; it is looked for
    /// one by one, as a question has just taken a thousand times as long.
    pub(crate) fn insert(&mut self, key: AnswerKey, pass: &Rc<Pass>, (now, ttl): (Instant, Duration)) {
        let bytes = pass.bytes();
        if bytes > self.bytes_max || self.entries_max == 0 {
            return;
        }
        self.remove(key);
        if self.is_full(bytes) {
            let ended: Vec<AnswerKey> =
                self.kept.iter().filter(|(_, kept)| now >= kept.until).map(|(key, _)| *key).collect();
            ended.into_iter().for_each(|key| self.remove(key));
        }
        while self.is_full(bytes) {
            let Some(oldest) = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| *key) else {
                break;
            };
            self.remove(oldest);
        }
        self.clock += 1;
        self.bytes += bytes;
        let kept = Kept { pass: Rc::clone(pass), until: now + ttl, used: self.clock, bytes };
        self.kept.insert(key, kept);
    }

    fn is_full(&self, more: usize) -> bool {
        self.kept.len() >= self.entries_max || self.bytes + more > self.bytes_max
    }

    fn remove(&mut self, key: AnswerKey) {
        if let Some(kept) = self.kept.remove(&key) {
            self.bytes -= kept.bytes;
        }
    }
}

impl AnswerHash {
    pub(super) fn add(&mut self, part: &[u8]) {
        self.0.update(&part.len().to_le_bytes());
        self.0.update(part);
    }

    /// All values of one name; `None`: there is none.
    pub(super) fn add_all<'v>(&mut self, values: impl Iterator<Item = &'v [u8]>) -> Option<()> {
        let mut count = 0_usize;
        for value in values {
            self.add(value);
            count += 1;
        }
        // No length of a part is this, so that a list ends where it ends.
        self.0.update(&usize::MAX.to_le_bytes());
        (count > 0).then_some(())
    }

    pub(super) fn finish(self) -> AnswerKey {
        let mut key = [0; 32];
        key.iter_mut().zip(self.0.sign().as_ref()).for_each(|(to, from)| *to = *from);
        AnswerKey(key)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let waiting = self.cache.borrow_mut().asking.remove(&self.key);
        if let Some(waiting) = waiting {
            waiting.notify_waiters();
        }
    }
}

impl fmt::Debug for AnswerCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerCache")
            .field("kept", &self.kept.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}
