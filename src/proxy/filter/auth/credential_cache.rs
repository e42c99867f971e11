//! Names and passwords of which one worker knows whether they are good, bounded in number. Keeps no password, only a
//! keyed hash over it, and finds nothing without the very same users, name and password.

use std::fmt;

use aws_lc_rs::hmac;
use hashbrown::HashMap;

use super::api_key::random_key;
use super::basic::{Credentials, UsersId};

/// Good ones that one worker keeps.
const GOOD_MAX: usize = 4096;
/// Bad ones: they keep a client that has a wrong password and goes on asking from costing a hash each time.
const BAD_MAX: usize = 512;

/// Names users, a name and a password. HMAC-SHA256 under a key that only this cache has.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CredentialKey([u8; 32]);

/// What one worker remembers. Good and bad ones do not take each other's place.
pub(crate) struct CredentialCache {
    key: hmac::Key,
    good: Recent,
    bad: Recent,
}

/// The keys that were used last.
struct Recent {
    used: HashMap<CredentialKey, u64>,
    clock: u64,
    entries_max: usize,
}

impl Default for CredentialCache {
    fn default() -> Self {
        Self::new(GOOD_MAX, BAD_MAX)
    }
}

impl CredentialCache {
    pub(super) fn new(good_max: usize, bad_max: usize) -> Self {
        Self { key: random_key(), good: Recent::new(good_max), bad: Recent::new(bad_max) }
    }

    pub(super) fn key(&self, users: UsersId, credentials: &Credentials) -> CredentialKey {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&users.to_bytes());
        // A name has no colon, so that nothing else gives the same bytes.
        context.update(credentials.name());
        context.update(b":");
        context.update(credentials.password());
        let mut key = [0; 32];
        key.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        CredentialKey(key)
    }

    /// Whether these are known to be good or bad.
    pub(super) fn get(&mut self, key: CredentialKey) -> Option<bool> {
        if self.good.touch(key) {
            return Some(true);
        }
        self.bad.touch(key).then_some(false)
    }

    pub(super) fn insert(&mut self, key: CredentialKey, is_good: bool) {
        if is_good { self.good.insert(key) } else { self.bad.insert(key) }
    }
}

impl Recent {
    fn new(entries_max: usize) -> Self {
        Self { used: HashMap::new(), clock: 0, entries_max }
    }

    fn touch(&mut self, key: CredentialKey) -> bool {
        self.clock += 1;
        let Some(used) = self.used.get_mut(&key) else { return false };
        *used = self.clock;
        true
    }

    /// The one that was not used for the longest goes. It is looked for one by one: a hash was computed before, which took
    /// a thousand times as long.
    fn insert(&mut self, key: CredentialKey) {
        if self.entries_max == 0 {
            return;
        }
        while self.used.len() >= self.entries_max && !self.used.contains_key(&key) {
            let Some(oldest) = self.used.iter().min_by_key(|(_, used)| **used).map(|(key, _)| *key) else {
                break;
            };
            self.used.remove(&oldest);
        }
        self.clock += 1;
        self.used.insert(key, self.clock);
    }
}

impl fmt::Debug for CredentialCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialCache")
            .field("good", &self.good.used.len())
            .field("bad", &self.bad.used.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(text: &str) -> Credentials {
        Credentials::new(text.as_bytes().to_vec()).expect("a name, a colon and a password")
    }

    #[test]
    fn only_the_same_users_name_and_password_are_found() {
        let (users, others) = (UsersId::next(), UsersId::next());
        let mut cache = CredentialCache::default();
        let key = cache.key(users, &credentials("ada:engine"));
        cache.insert(key, true);
        assert_eq!(cache.get(cache.key(users, &credentials("ada:engine"))), Some(true));
        for (users, text) in [
            (others, "ada:engine"),
            (users, "ada:engin"),
            (users, "adae:ngine"),
            (users, "ada::engine"),
            (users, "ad:aengine"),
        ] {
            assert_eq!(cache.get(cache.key(users, &credentials(text))), None, "{text}");
        }
        let other_worker = CredentialCache::default();
        assert!(other_worker.key(users, &credentials("ada:engine")) != key, "each has a key of its own");
    }

    #[test]
    fn bad_ones_do_not_drive_good_ones_out_and_the_longest_unused_goes_first() {
        let users = UsersId::next();
        let mut cache = CredentialCache::new(2, 2);
        let key = |cache: &CredentialCache, name: &str| cache.key(users, &credentials(&format!("{name}:x")));
        let [a, b, c] = ["a", "b", "c"].map(|name| key(&cache, name));
        cache.insert(a, true);
        cache.insert(b, true);
        for guess in 0..50 {
            cache.insert(key(&cache, &format!("guess{guess}")), false);
        }
        assert_eq!((cache.get(b), cache.get(a)), (Some(true), Some(true)));
        assert_eq!(cache.bad.used.len(), 2);
        cache.insert(c, true);
        assert_eq!((cache.get(a), cache.get(b), cache.get(c)), (Some(true), None, Some(true)));
    }
}
