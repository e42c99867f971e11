//! The authentication and authorization stage of a route: which tokens a request needs, whether it may pass, and what
//! the upstream gets to see. Reads no clock and waits for nothing.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::header::Entry;
use http::{HeaderMap, HeaderName, Method};
use ir::{Auth, JwtRequirement};

use super::authorize::Rules;
use super::cache::VerdictCache;
use super::claims;
use super::extract::{self, Found, Place};
use super::refusal::{AuthReason, AuthRefusal};
use super::verifier::{self, Verdict, Verifier, VerifierId, Verifiers, may_carry_claim};

/// What the stage looks at. Borrowed from the request as it came, before any edit.
#[derive(Clone, Copy)]
pub(crate) struct AuthRequest<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: Option<&'a str>,
    pub(crate) method: &'a Method,
    pub(crate) client: IpAddr,
}

impl fmt::Debug for AuthRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRequest").field("method", self.method).finish_non_exhaustive()
    }
}

/// Everything that a route asks for. Immutable, shared by all workers.
#[derive(Default)]
pub(crate) struct AuthStage {
    /// All must pass.
    requirements: Vec<Requirement>,
    /// All must pass, after the requirements.
    rules: Vec<Rules>,
    /// Headers that only a verified token may fill.
    claim_headers: Vec<HeaderName>,
}

struct Requirement {
    verifiers: Vec<Arc<Verifier>>,
    places: Vec<Place>,
    optional: bool,
}

impl AuthStage {
    /// Prepares the requirements of a route; equal providers share a verifier over routes and generations.
    pub(crate) fn new(auths: &[Auth], verifiers: &mut Verifiers) -> Self {
        let of_objects: Vec<Vec<Arc<Verifier>>> = auths
            .iter()
            .map(|auth| auth.jwt.iter().flat_map(|jwt| &jwt.providers).map(|p| verifiers.get(p)).collect())
            .collect();
        let mut stage = Self::default();
        for verifier in of_objects.iter().flatten() {
            for claim in &verifier.provider().claims_to_headers {
                if may_carry_claim(&claim.header) && !stage.claim_headers.contains(&claim.header) {
                    stage.claim_headers.push(claim.header.clone());
                }
            }
        }
        for (auth, own) in auths.iter().zip(&of_objects) {
            stage.requirements.extend(auth.jwt.iter().map(|jwt| Requirement::new(jwt, own)));
            stage.rules.extend(auth.authorization.iter().map(|authorization| {
                // Without tokens of its own an object speaks of any token of the route.
                let default = auth.jwt.as_ref().map(|_| own.as_slice());
                Rules::new(authorization, |provider| match provider {
                    Some(name) => Some(verifiers_named(name, own, &of_objects)),
                    None => default.map(|own| own.iter().map(|verifier| verifier.id()).collect()),
                })
            }));
        }
        stage
    }

    /// Whether every request passes unchanged.
    pub(crate) fn is_empty(&self) -> bool {
        self.requirements.is_empty() && self.rules.is_empty()
    }

    /// Headers that only a verified token may fill.
    pub(crate) fn claim_headers(&self) -> &[HeaderName] {
        &self.claim_headers
    }

    /// Whether the request may pass, and as whom. `now_unix_s` is the wall clock in seconds since 1970.
    ///
    /// # Errors
    /// Why not; the first requirement that fails speaks.
    pub(crate) fn check(
        &self,
        request: AuthRequest<'_>,
        now_unix_s: u64,
        cache: &mut VerdictCache,
    ) -> Result<Identity, AuthRefusal> {
        let refuse = |reason| AuthRefusal::new(reason, !self.requirements.is_empty());
        let mut identity = Identity::default();
        for (index, requirement) in self.requirements.iter().enumerate() {
            let found = extract::find(&requirement.places, request.headers, request.query).map_err(refuse)?;
            match found {
                Some(found) => {
                    let verdict = requirement.verify(&found, now_unix_s, cache).map_err(refuse)?;
                    identity.push(Verified { verdict, requirement: index, place: found.place });
                }
                None if requirement.optional => {}
                None => return Err(refuse(AuthReason::TokenMissing)),
            }
        }
        let allowed =
            self.rules.iter().all(|rules| rules.allow(request.method, request.client, &identity.verdicts()));
        if allowed { Ok(identity) } else { Err(refuse(AuthReason::NotAuthorized)) }
    }

    /// Edits the headers for the upstream: tokens that must not be forwarded go, and the headers that carry claims hold
    /// what the tokens say or nothing; where several tokens fill one header, the first requirement's stands. Call it for
    /// every request of the route, an anonymous one too, and before any header that the gateway itself sets.
    pub(crate) fn apply(&self, identity: &Identity, headers: &mut HeaderMap) {
        for (place, _) in self.private_places(identity) {
            place.remove_token(headers);
        }
        self.remove_claim_headers(headers);
        for (name, value) in identity.verdicts().flat_map(|verdict| &verdict.headers) {
            // The headers of clients are gone, so whatever stands here is of an earlier token, and that one wins.
            if let Entry::Vacant(free) = headers.entry(name) {
                free.insert(value.clone());
            }
        }
    }

    /// The query for the upstream, where a token stands in it that must not be forwarded; `None` leaves it as it is. May
    /// be empty: then the `?` goes too.
    pub(crate) fn forwarded_query(&self, identity: &Identity, query: &str) -> Option<String> {
        self.private_places(identity).fold(None, |edited: Option<String>, (place, _)| {
            place.without_token(edited.as_deref().unwrap_or(query)).or(edited)
        })
    }

    /// Where tokens stand that their provider does not want forwarded.
    fn private_places<'a>(
        &'a self,
        identity: &'a Identity,
    ) -> impl Iterator<Item = (&'a Place, &'a Verified)> {
        identity.tokens().filter(|token| !token.verdict.forward_token).filter_map(|token| {
            let requirement = self.requirements.get(token.requirement)?;
            Some((requirement.places.get(token.place)?, token))
        })
    }

    fn remove_claim_headers(&self, headers: &mut HeaderMap) {
        if self.claim_headers.is_empty() {
            return;
        }
        for name in &self.claim_headers {
            headers.remove(name);
        }
        // Many upstreams (CGI, WSGI) read `X_User_Id` as `X-User-Id`.
        let aliases: Vec<HeaderName> =
            headers.keys().filter(|name| self.is_alias_of_claim_header(name)).cloned().collect();
        for name in aliases {
            headers.remove(name);
        }
    }

    fn is_alias_of_claim_header(&self, name: &HeaderName) -> bool {
        let name = name.as_str().as_bytes();
        memchr::memchr(b'_', name).is_some()
            && self.claim_headers.iter().any(|claim| {
                let claim = claim.as_str().as_bytes();
                claim.len() == name.len() && claim.iter().zip(name).all(|(a, b)| dashed(*a) == dashed(*b))
            })
    }
}

impl fmt::Debug for AuthStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthStage")
            .field("requirements", &self.requirements.len())
            .field("rules", &self.rules.len())
            .field("claim_headers", &self.claim_headers)
            .finish()
    }
}

const fn dashed(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte }
}

/// An object that names a provider means its own; one that has none of that name means the route's.
fn verifiers_named(name: &str, own: &[Arc<Verifier>], all: &[Vec<Arc<Verifier>>]) -> Vec<VerifierId> {
    let named = |verifier: &&Arc<Verifier>| *verifier.provider().name == *name;
    let of_own: Vec<VerifierId> = own.iter().filter(named).map(|verifier| verifier.id()).collect();
    if !of_own.is_empty() {
        return of_own;
    }
    all.iter().flatten().filter(named).map(|verifier| verifier.id()).collect()
}

impl Requirement {
    fn new(jwt: &JwtRequirement, verifiers: &[Arc<Verifier>]) -> Self {
        Self {
            verifiers: verifiers.to_vec(),
            places: extract::places(jwt.providers.iter().map(|provider| provider.from.as_slice())),
            optional: jwt.optional,
        }
    }

    fn verify(
        &self,
        found: &Found<'_, '_>,
        now_unix_s: u64,
        cache: &mut VerdictCache,
    ) -> Result<Rc<Verdict>, AuthReason> {
        let candidates = || found.providers.iter().filter_map(|index| self.verifiers.get(*index));
        let ids = || candidates().map(|verifier| verifier.id());
        let token = cache.hash(&found.token);
        if let Some(verdict) = cache.get(token, &ids(), now_unix_s) {
            return Ok(verdict);
        }
        let accepted = verifier::verify(candidates(), &found.token, now_unix_s)?;
        let verdict = Rc::new(accepted.verdict);
        if accepted.lasts {
            cache.insert(token, ids(), &verdict, now_unix_s);
        }
        Ok(verdict)
    }
}

/// Whom the verified tokens of a request name; empty for an anonymous one. Belongs to one worker. Prints no claim.
#[derive(Default)]
pub(crate) struct Identity {
    /// Nearly every route asks for one token; an empty list allocates nothing.
    first: Option<Verified>,
    more: Vec<Verified>,
}

struct Verified {
    verdict: Rc<Verdict>,
    requirement: usize,
    place: usize,
}

impl Identity {
    /// Whether no token was verified.
    #[cfg(test)]
    pub(crate) fn is_anonymous(&self) -> bool {
        self.first.is_none()
    }

    /// A claim as text, for a limit key: `realm.roles` or a JSON pointer, of this provider's token or of the first that
    /// has it. `None` where it is missing or is no string, number or boolean.
    pub(crate) fn claim(&self, provider: Option<&str>, name: &str) -> Option<Cow<'_, str>> {
        self.verdicts()
            .filter(|verdict| provider.is_none_or(|wanted| *verdict.provider == *wanted))
            .find_map(|verdict| claims::named(&verdict.claims, name).and_then(claims::text))
    }

    fn push(&mut self, token: Verified) {
        if self.first.is_none() {
            self.first = Some(token);
        } else {
            self.more.push(token);
        }
    }

    fn tokens(&self) -> impl Iterator<Item = &Verified> + Clone {
        self.first.iter().chain(&self.more)
    }

    fn verdicts(&self) -> impl Iterator<Item = &Verdict> + Clone {
        self.tokens().map(|token| &*token.verdict)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.verdicts()).finish()
    }
}
