//! Sessions by cookie: what the cookie of a request says, and which one its answer sets. Chooses no endpoint.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use ir::{Affinity, AffinityFailure, AffinityMode, BackendTarget, Scheme, WeightedBackend};
use traffic::stable_hash;

use crate::upstream::{Sticky, StickyPlace};

/// Cookies of one name that are looked at: a browser sends one for each path and domain that it has one of.
const COOKIES_MAX: usize = 4;
const SAID_BYTES: usize = 17;
const TAG_BYTES: usize = 16;
const SEALED_BYTES: usize = SAID_BYTES + TAG_BYTES;
/// The same in base64url.
const VALUE_BYTES: usize = 44;

/// The sessions of one route.
pub(crate) struct AffinityStage {
    affinity: Affinity,
    key: LessSafeKey,
    /// By their places in the rule: what stands for each, and whether it gets requests at all.
    backends: Vec<(u64, bool)>,
    /// What follows the cookie's value, but for `Secure`.
    attributes: String,
}

/// What a cookie says. Nothing in it means anything but to the rule that set it, or to one with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    mode: AffinityMode,
    /// Stands for the session's backend.
    backend: u64,
    /// The session's key, or what stands for its endpoint.
    value: u64,
}

/// A request of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    /// `None`: the request has no cookie that this route can open.
    said: Option<Said>,
    /// The key of the session if this is its first request.
    key: u64,
}

/// What became of a session with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionChange {
    Begun,
    Moved,
}

impl std::fmt::Debug for AffinityStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AffinityStage").field("affinity", &self.affinity).finish_non_exhaustive()
    }
}

impl AffinityStage {
    /// `None`: there is no key, which cannot be.
    pub(crate) fn new(affinity: &Affinity, backends: &[WeightedBackend]) -> Option<Self> {
        // The material has the entropy; this makes it a key of the right length.
        let label = hmac::Key::new(hmac::HMAC_SHA256, b"baribhara affinity cookie 1");
        let key = hmac::sign(&label, affinity.key.expose());
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key.as_ref()).ok()?);
        let backends = backends.iter().map(|backend| {
            let (BackendTarget::Backend(id) | BackendTarget::Missing(id)) = &backend.target;
            (stable_hash(&[id.to_string().as_bytes()]), backend.weight > 0)
        });
        let cookie = &affinity.cookie;
        let mut attributes = format!("; Path={}", cookie.path);
        if let Some(domain) = &cookie.domain {
            attributes.push_str(&format!("; Domain={domain}"));
        }
        if let Some(ttl) = cookie.ttl {
            attributes.push_str(&format!("; Max-Age={}", ttl.as_secs()));
        }
        attributes.push_str(&format!("; SameSite={}; HttpOnly", cookie.same_site.as_str()));
        Some(Self { affinity: affinity.clone(), key, backends: backends.collect(), attributes })
    }

    /// `random` becomes the key of a session that begins.
    pub(crate) fn visit(&self, headers: &HeaderMap, random: u64) -> Visit {
        let values = table::cookies(headers, &self.affinity.cookie.name);
        Visit { said: values.take(COOKIES_MAX).find_map(|value| self.open(value)), key: random }
    }

    /// The place in the rule of the backend that the session keeps to.
    pub(crate) fn backend(&self, visit: &Visit) -> Option<usize> {
        let said = visit.said.filter(|_| self.keeps_backend())?;
        self.backends.iter().position(|backend| *backend == (said.backend, true))
    }

    /// Where at this backend the request belongs; `None`: nowhere yet.
    pub(crate) fn sticky(&self, visit: &Visit, backend: usize) -> Option<Sticky> {
        let (tag, _) = self.backends.get(backend).copied()?;
        let said = visit.said.filter(|said| said.mode == self.affinity.mode);
        let place = match self.affinity.mode {
            AffinityMode::Balanced => StickyPlace::Key(said.map_or(visit.key, |said| said.value)),
            AffinityMode::Persistent => StickyPlace::Endpoint(said.filter(|said| said.backend == tag)?.value),
        };
        Some(Sticky { place, is_strict: self.affinity.on_failure == AffinityFailure::Fail })
    }

    /// The cookie that an answer of this endpoint of this backend sets; `None`: the client has the right one.
    pub(crate) fn cookie(
        &self,
        visit: &Visit,
        (backend, endpoint): (usize, u64),
        scheme: Scheme,
    ) -> Option<(HeaderValue, SessionChange)> {
        let (tag, _) = self.backends.get(backend).copied()?;
        let before = visit.said.filter(|said| said.mode == self.affinity.mode);
        let now = match self.affinity.mode {
            AffinityMode::Balanced => {
                let key = before.map_or(visit.key, |said| said.value);
                // Whose backend does not matter keeps its cookie: rules may share one.
                let keeps = before.filter(|_| !self.keeps_backend()).map(|said| said.backend);
                Said { mode: AffinityMode::Balanced, backend: keeps.unwrap_or(tag), value: key }
            }
            AffinityMode::Persistent => {
                Said { mode: AffinityMode::Persistent, backend: tag, value: endpoint }
            }
        };
        if visit.said == Some(now) {
            return None;
        }
        let change = if visit.said.is_some() { SessionChange::Moved } else { SessionChange::Begun };
        let secure = match (self.affinity.cookie.secure, scheme) {
            (Some(true), _) | (None, Scheme::Https) => "; Secure",
            (Some(false), _) | (None, Scheme::Http) => "",
        };
        let cookie = format!("{}={}{}{secure}", self.affinity.cookie.name, self.seal(now)?, self.attributes);
        HeaderValue::try_from(cookie).ok().map(|cookie| (cookie, change))
    }

    fn keeps_backend(&self) -> bool {
        self.affinity.keeps_backend && self.backends.len() > 1
    }

    /// RFC 8452: with one nonce for all, equal contents give equal cookies, and nothing else can be told from them.
    fn seal(&self, said: Said) -> Option<String> {
        let mut bytes = said.to_bytes();
        let tag = self.key.seal_in_place_separate_tag(nonce(), Aad::empty(), &mut bytes).ok()?;
        let mut sealed = bytes.to_vec();
        sealed.extend_from_slice(tag.as_ref());
        Some(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// `None`: another's cookie, or nobody's.
    fn open(&self, value: &[u8]) -> Option<Said> {
        if value.len() != VALUE_BYTES {
            return None;
        }
        let mut sealed = [0u8; SEALED_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut sealed).ok()?;
        let sealed = sealed.get_mut(..length)?;
        let said = self.key.open_in_place(nonce(), Aad::empty(), sealed).ok()?;
        Said::from_bytes((&*said).try_into().ok()?)
    }
}

impl Said {
    fn to_bytes(self) -> [u8; SAID_BYTES] {
        let mode = match self.mode {
            AffinityMode::Balanced => 1,
            AffinityMode::Persistent => 2,
        };
        let number = u128::from(self.backend) << 64 | u128::from(self.value);
        let mut bytes = [mode; SAID_BYTES];
        if let Some(place) = bytes.last_chunk_mut() {
            *place = number.to_be_bytes();
        }
        bytes
    }

    fn from_bytes(bytes: [u8; SAID_BYTES]) -> Option<Self> {
        let [mode, number @ ..] = bytes;
        let mode = match mode {
            1 => AffinityMode::Balanced,
            2 => AffinityMode::Persistent,
            _ => return None,
        };
        let number = u128::from_be_bytes(number);
        let backend = u64::try_from(number >> 64).ok()?;
        let value = u64::try_from(number & u128::from(u64::MAX)).ok()?;
        Some(Self { mode, backend, value })
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests;
