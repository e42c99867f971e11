//! Keys that clients were given: finds the one of a request and whose it is. Holds only keyed hashes of keys, so that
//! how long a look-up takes tells nothing of them.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use hashbrown::HashMap;
use http::{HeaderMap, HeaderName, HeaderValue};
use ir::ApiKeys;

use super::extract::{self, Place};
use super::refusal::AuthReason;
use crate::random;

/// The keys of one `apiKey`, ready to be asked.
pub(super) struct KeyRing {
    spec: Arc<ApiKeys>,
    hasher: hmac::Key,
    clients: HashMap<[u8; 32], HeaderValue>,
    pub(super) places: Vec<Place>,
}

impl KeyRing {
    pub(super) fn new(spec: &Arc<ApiKeys>) -> Self {
        let hasher = random_key();
        let client = |key: &ir::ApiKey| {
            let client = HeaderValue::from_str(&key.client).ok()?;
            Some((hash(&hasher, key.key.expose().as_bytes()), client))
        };
        Self {
            clients: spec.keys.iter().filter_map(client).collect(),
            places: extract::places([spec.from.as_slice()]),
            spec: Arc::clone(spec),
            hasher,
        }
    }

    /// What it was made from.
    pub(super) const fn spec(&self) -> &Arc<ApiKeys> {
        &self.spec
    }

    /// The header by which the upstream is told whose key it was.
    pub(super) fn client_id_header(&self) -> Option<&HeaderName> {
        self.spec.client_id_header.as_ref()
    }

    /// Whose key the request brings.
    ///
    /// # Errors
    /// It brings none, several, or one that nobody has.
    pub(super) fn client(&self, headers: &HeaderMap, query: Option<&str>) -> Result<HeaderValue, AuthReason> {
        let found = match extract::find(&self.places, headers, query) {
            Ok(Some(found)) => found,
            Ok(None) => return Err(AuthReason::ApiKeyMissing),
            Err(_) => return Err(AuthReason::ApiKeyMalformed),
        };
        self.clients.get(&hash(&self.hasher, &found.token)).cloned().ok_or(AuthReason::ApiKeyUnknown)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("selector", &self.spec.selector)
            .field("keys", &self.clients.len())
            .finish_non_exhaustive()
    }
}

/// A key that no other process has.
pub(super) fn random_key() -> hmac::Key {
    let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
    // It does not fail once the process has started; if it did, the seeds of std would still be nobody's to guess.
    key.unwrap_or_else(|_| {
        hmac::Key::new(hmac::HMAC_SHA256, &[(); 4].map(|()| random::seed().to_le_bytes()).concat())
    })
}

fn hash(key: &hmac::Key, text: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.iter_mut().zip(hmac::sign(key, text).as_ref()).for_each(|(to, from)| *to = *from);
    hash
}
