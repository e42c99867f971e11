//! Verification of a token by the providers that may have issued it, and the registry that keeps verifiers from
//! generation to generation. Verifies signatures before it reads claims; never fetches a key.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use http::{HeaderName, HeaderValue, header};
use ir::{ApiKeys, BasicAuth, ClaimToHeader, JwtProvider, KeySource, ObjectRef, RemoteKeys};
use tracing::warn;

use super::api_key::KeyRing;
use super::basic::Users;
use super::claims::{self, Claims, Window};
use super::hashing::HashPool;
use super::key::VerifyingKey;
use super::refusal::AuthReason;
use super::remote::{CurrentKeys, RemoteKeySet};
use super::token::UnverifiedToken;
use crate::observe::PasswordMetrics;

/// How many signatures are tried for one token, over all providers and keys: a key without `kid` fits every token of its
/// algorithm, a token without `kid` fits every key, and key sets are long.
const SIGNATURES_TRIED_MAX: usize = 16;

/// Names one verifier for the life of the process. A replaced provider has another id, so its old verdicts never match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct VerifierId(u64);

impl VerifierId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Names a verifier with the keys that it had: a verdict holds no longer than either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct JudgeId {
    pub(super) verifier: VerifierId,
    /// 0 where keys do not change, or are not there.
    keys: u64,
}

/// A provider with its keys ready for use.
pub(crate) struct Verifier {
    id: VerifierId,
    provider: Arc<JwtProvider>,
    keys: Keys,
}

enum Keys {
    Given(Vec<VerifyingKey>),
    Remote(Arc<RemoteKeySet>),
}

/// The keys of a verifier at one moment.
enum Ring<'v> {
    Given(&'v [VerifyingKey]),
    Fetched(CurrentKeys),
}

impl Ring<'_> {
    /// `None`: there are none to be had.
    fn keys(&self) -> Option<&[VerifyingKey]> {
        match self {
            Self::Given(keys) => Some(keys),
            Self::Fetched(current) => current.as_ref().map(|fetched| fetched.keys()),
        }
    }

    fn version(&self) -> u64 {
        match self {
            Self::Given(_) => 0,
            Self::Fetched(current) => current.as_ref().map_or(0, |fetched| fetched.version()),
        }
    }
}

impl Verifier {
    fn new(provider: &Arc<JwtProvider>, remote: impl FnOnce(&Arc<RemoteKeys>) -> Arc<RemoteKeySet>) -> Self {
        let keys = match &provider.keys {
            KeySource::Given(set) => Keys::Given(given(provider, &set.keys)),
            KeySource::Remote(spec) => Keys::Remote(remote(spec)),
        };
        Self { id: VerifierId::next(), provider: Arc::clone(provider), keys }
    }

    pub(super) const fn id(&self) -> VerifierId {
        self.id
    }

    /// What it was made from.
    pub(crate) fn provider(&self) -> &Arc<JwtProvider> {
        &self.provider
    }

    /// Who judges now.
    pub(super) fn judge(&self) -> JudgeId {
        let keys = match &self.keys {
            Keys::Given(_) => 0,
            Keys::Remote(_) => self.ring().version(),
        };
        JudgeId { verifier: self.id, keys }
    }

    /// The key set that is fetched for it.
    pub(super) fn remote(&self) -> Option<&Arc<RemoteKeySet>> {
        match &self.keys {
            Keys::Given(_) => None,
            Keys::Remote(set) => Some(set),
        }
    }

    /// Whether it can verify nothing now.
    pub(super) fn is_without_keys(&self) -> bool {
        self.remote().is_some_and(|set| set.current().is_none())
    }

    fn ring(&self) -> Ring<'_> {
        match &self.keys {
            Keys::Given(keys) => Ring::Given(keys),
            Keys::Remote(set) => Ring::Fetched(set.current()),
        }
    }

    /// Whether one of the keys made the signature.
    fn check_signature(
        &self,
        ring: &Ring<'_>,
        token: &UnverifiedToken<'_>,
        tries_left: &mut usize,
    ) -> Result<(), AuthReason> {
        if !self.provider.algorithms.contains(&token.algorithm) {
            return Err(AuthReason::AlgorithmNotAllowed);
        }
        let keys = ring.keys().ok_or(AuthReason::KeysUnavailable)?;
        let mut refusal = AuthReason::KeyUnknown;
        for key in keys_for(keys, token.kid.as_deref()) {
            if !key.allows(token.algorithm) {
                // Something better known than an unknown key, unless a signature was tried already.
                if refusal == AuthReason::KeyUnknown {
                    refusal = AuthReason::AlgorithmNotAllowed;
                }
                continue;
            }
            let Some(left) = tries_left.checked_sub(1) else { break };
            *tries_left = left;
            if key.verifies(token.algorithm, token.signed, token.signature) {
                return Ok(());
            }
            refusal = AuthReason::SignatureInvalid;
        }
        Err(refusal)
    }

    fn verdict(&self, ring: &Ring<'_>, claims: Claims, window: Window) -> Verdict {
        let headers = self
            .provider
            .claims_to_headers
            .iter()
            .filter(|wanted| may_carry_claim(&wanted.header))
            .filter_map(|wanted| prepare_header(&claims, wanted))
            .collect();
        Verdict {
            judge: JudgeId { verifier: self.id, keys: ring.version() },
            provider: Arc::clone(&self.provider.name),
            forward_token: self.provider.forward_token,
            window,
            claims,
            headers,
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("source", &self.provider.source)
            .field("provider", &self.provider.name)
            .field("keys", &self.ring().keys().map_or(0, <[VerifyingKey]>::len))
            .finish_non_exhaustive()
    }
}

/// A token that was found good, and everything that later stages need of it. Prints no claim.
pub(super) struct Verdict {
    pub(super) judge: JudgeId,
    pub(super) provider: Arc<str>,
    pub(super) forward_token: bool,
    pub(super) window: Window,
    pub(super) claims: Claims,
    /// `claimsToHeaders`, ready to be set.
    pub(super) headers: Box<[(HeaderName, HeaderValue)]>,
}

impl Verdict {
    /// About how many bytes it takes in memory.
    pub(super) fn weight(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        size_of::<Self>() + headers + claims::weight(&self.claims)
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdict")
            .field("provider", &self.provider)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// What came of a verification.
pub(super) struct Accepted {
    pub(super) verdict: Verdict,
    /// Whether the same verifiers come to the same verdict all through its time window. Not so where an earlier one
    /// refused for the time alone: it would take the token at another time, before this one is asked.
    pub(super) lasts: bool,
}

/// Verifies a token by the first of these that made it and takes its claims.
///
/// # Errors
/// Why the token is refused. Of several verifiers one speaks whose key made the signature, else the first.
pub(super) fn verify<'v>(
    verifiers: impl IntoIterator<Item = &'v Arc<Verifier>>,
    token: &[u8],
    now_unix_s: u64,
) -> Result<Accepted, AuthReason> {
    let token = UnverifiedToken::parse(token)?;
    let mut tries_left = SIGNATURES_TRIED_MAX;
    let mut forged = None;
    let mut unfit = None;
    let mut lasts = true;
    let mut parsed: Option<Claims> = None;
    for verifier in verifiers {
        // The same all through: keys may be replaced meanwhile.
        let ring = verifier.ring();
        if let Err(reason) = verifier.check_signature(&ring, &token, &mut tries_left) {
            forged = forged.or(Some(reason));
            continue;
        }
        let claims = match parsed.take() {
            Some(claims) => claims,
            None => token.claims()?,
        };
        match claims::check(&verifier.provider, &claims, now_unix_s) {
            Ok(window) => return Ok(Accepted { verdict: verifier.verdict(&ring, claims, window), lasts }),
            Err(reason) => {
                lasts &= !matches!(reason, AuthReason::TokenExpired | AuthReason::TokenNotYetValid);
                unfit = unfit.or(Some(reason));
            }
        }
        parsed = Some(claims);
    }
    Err(unfit.or(forged).unwrap_or(AuthReason::KeyUnknown))
}

/// The fetched key sets in which the key of a refused token may be missing: of issuers that may have made it, there is none,
/// or none of the token's `kid`. That another set has a key of this name says nothing, since two issuers may give the same.
/// What the token says of its issuer is a hint only: without a key of that issuer it is refused in any case.
pub(super) fn lacking<'v>(
    verifiers: impl IntoIterator<Item = &'v Arc<Verifier>>,
    token: &[u8],
) -> Vec<Arc<RemoteKeySet>> {
    let Ok(token) = UnverifiedToken::parse(token) else { return Vec::new() };
    let claims = token.claims().ok();
    let issuer = claims.as_ref().and_then(|claims| claims.get("iss")?.as_str());
    let made_it = |provider: &JwtProvider| match (provider.issuer.as_deref(), issuer) {
        (Some(wanted), Some(issuer)) => wanted == issuer,
        (None, _) | (_, None) => true,
    };
    let mut lacking: Vec<Arc<RemoteKeySet>> = Vec::new();
    for verifier in verifiers.into_iter().filter(|verifier| made_it(&verifier.provider)) {
        let kid = token.kid.as_deref();
        let ring = verifier.ring();
        let is_named = |key: &VerifyingKey| kid.is_some() && key.kid.as_deref() == kid;
        if ring.keys().is_some_and(|keys| keys.iter().any(is_named)) {
            continue;
        }
        let may_be_missing = ring.keys().is_none() || kid.is_some();
        if let Some(set) = verifier.remote()
            && may_be_missing
            && verifier.provider.algorithms.contains(&token.algorithm)
            && !lacking.iter().any(|known| Arc::ptr_eq(known, set))
        {
            lacking.push(Arc::clone(set));
        }
    }
    lacking
}

/// The keys that may have signed under this `kid`: all without one, else those of the name first, so that they are within
/// the bound of tries, and then those that have no name, like a bare secret (RFC 7515 §4.1.4: a hint only).
fn keys_for<'k>(keys: &'k [VerifyingKey], kid: Option<&'k str>) -> impl Iterator<Item = &'k VerifyingKey> {
    let named = keys.iter().filter(move |key| kid.is_some() && key.kid.as_deref() == kid);
    named.chain(keys.iter().filter(move |key| kid.is_none() || key.kid.is_none()))
}

/// The usable ones among the keys of an object.
fn given(provider: &JwtProvider, set: &[ir::Jwk]) -> Vec<VerifyingKey> {
    let mut keys = Vec::new();
    for (index, jwk) in set.iter().enumerate() {
        match VerifyingKey::new(jwk, &provider.algorithms) {
            Ok(key) => keys.push(key),
            Err(refusal) => warn!(
                source = %provider.source, provider = %provider.name, index, %refusal, "key of a set refused"
            ),
        }
    }
    keys
}

/// Verifiers by what they were made from: an equal provider keeps its verifier, and so its verdicts, over a change of
/// the configuration. Owned by the one thread that builds generations.
#[derive(Debug)]
pub(crate) struct Verifiers {
    /// By object, so that a look-up compares only the few providers of one object.
    by_source: HashMap<ObjectRef, Vec<Arc<Verifier>>>,
    /// By Secret.
    users: HashMap<ObjectRef, Vec<Arc<Users>>>,
    rings: Vec<Arc<KeyRing>>,
    /// By what they are fetched by; equal ones are one.
    remote: Vec<Arc<RemoteKeySet>>,
    pool: Arc<HashPool>,
}

impl Verifiers {
    pub(crate) fn new(passwords: Arc<PasswordMetrics>) -> Self {
        Self {
            by_source: HashMap::new(),
            users: HashMap::new(),
            rings: Vec::new(),
            remote: Vec::new(),
            pool: Arc::new(HashPool::new(passwords)),
        }
    }

    /// The users of an equal Secret and realm, or new ones.
    pub(super) fn users(&mut self, basic: &Arc<BasicAuth>) -> Arc<Users> {
        let of_secret = self.users.entry_ref(&basic.source).or_default();
        if let Some(known) = of_secret.iter().find(|known| known.basic() == basic) {
            return Arc::clone(known);
        }
        let new = Arc::new(Users::new(basic, &self.pool));
        of_secret.push(Arc::clone(&new));
        new
    }

    /// The ring of equal keys, or a new one.
    pub(super) fn keys(&mut self, keys: &Arc<ApiKeys>) -> Arc<KeyRing> {
        let known = self.rings.iter().find(|known| Arc::ptr_eq(known.spec(), keys) || known.spec() == keys);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let new = Arc::new(KeyRing::new(keys));
        self.rings.push(Arc::clone(&new));
        new
    }

    /// The verifier of an equal provider, or a new one.
    pub(crate) fn get(&mut self, provider: &Arc<JwtProvider>) -> Arc<Verifier> {
        let of_object = self.by_source.entry_ref(&provider.source).or_default();
        let known = of_object
            .iter()
            .find(|known| Arc::ptr_eq(&known.provider, provider) || known.provider == *provider);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let new = Arc::new(Verifier::new(provider, |spec| remote_set(&mut self.remote, spec)));
        of_object.push(Arc::clone(&new));
        new
    }

    /// The providers whose keys are fetched, each with its key set, in no order.
    pub(crate) fn remote(&self) -> impl Iterator<Item = (&Arc<JwtProvider>, &Arc<RemoteKeySet>)> {
        let verifiers = self.by_source.values().flatten();
        verifiers.filter_map(|verifier| Some((&verifier.provider, verifier.remote()?)))
    }

    /// Forgets verifiers that no stage holds any more. Call it once the last generation is gone.
    pub(crate) fn retain_used(&mut self) {
        self.by_source.retain(|_, of_object| {
            of_object.retain(|verifier| Arc::strong_count(verifier) > 1);
            !of_object.is_empty()
        });
        let by_source = &self.by_source;
        // Whoever fetches the keys holds them too.
        self.remote.retain(|set| {
            let mut used = by_source.values().flatten().filter_map(|verifier| verifier.remote());
            used.any(|used| Arc::ptr_eq(used, set))
        });
        self.rings.retain(|ring| Arc::strong_count(ring) > 1);
        self.users.retain(|_, of_secret| {
            of_secret.retain(|users| Arc::strong_count(users) > 1);
            !of_secret.is_empty()
        });
    }

    /// How many are kept.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_source.values().map(Vec::len).sum()
    }
}

/// The key set of an equal description, or a new one, which begins with what is known of the same source.
fn remote_set(known: &mut Vec<Arc<RemoteKeySet>>, spec: &Arc<RemoteKeys>) -> Arc<RemoteKeySet> {
    if let Some(same) = known.iter().find(|known| known.spec() == spec) {
        return Arc::clone(same);
    }
    let of_source = known.iter().rev().find(|known| known.spec().is_same_source(spec));
    let new = Arc::new(RemoteKeySet::new(spec, of_source.map(AsRef::as_ref)));
    known.push(Arc::clone(&new));
    new
}

/// Whether a claim may become this header. What frames or routes a message stays out of an issuer's hands (RFC 9110
/// §7.6.1, RFC 9112 §6).
pub(super) fn may_carry_claim(name: &HeaderName) -> bool {
    const FRAMING: [HeaderName; 9] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::EXPECT,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
    ];
    !FRAMING.contains(name)
}

fn prepare_header(claims: &Claims, wanted: &ClaimToHeader) -> Option<(HeaderName, HeaderValue)> {
    let value = claims::header_value(claims::at(claims, &wanted.path)?, &wanted.join)?;
    // A copy of its own: a clone would make all workers count references on the one name of the configuration.
    let name = HeaderName::from_bytes(wanted.header.as_str().as_bytes()).ok()?;
    Some((name, value))
}
