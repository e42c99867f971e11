//! What one object asks for: its methods of authentication, and how many of them must succeed. Reads no clock and waits
//! for nothing: what takes long is handed out as a need, and asked again with the answer.

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use ir::{Auth, AuthMode, JwtRequirement, ObjectRef};

use super::api_key::KeyRing;
use super::basic::{self, PasswordCheck, Users};
use super::cache::VerdictCache;
use super::credential_cache::CredentialKey;
use super::external::{External, ExternalVerdict};
use super::extract::{self, Found, Place};
use super::refusal::{AuthReason, AuthRefusalKind, Scheme};
use super::remote::{KeysWait, Lack};
use super::stage::{AuthRequest, Identity, Verified};
use super::verifier::{self, Verdict, Verifier, Verifiers};

/// RFC 9110 §11.6.1 asks for a challenge. There is no scheme of this name that browsers know, so that none asks its user.
const API_KEY: HeaderValue = HeaderValue::from_static("ApiKey");

/// The methods of one object; at least one.
pub(super) struct Demand {
    pub(super) source: ObjectRef,
    mode: AuthMode,
    pub(super) tokens: Option<Tokens>,
    pub(super) keys: Option<Arc<KeyRing>>,
    pub(super) users: Option<Arc<Users>>,
    /// A rule asks who the user is.
    notes_users: bool,
    pub(super) external: Option<Arc<External>>,
}

/// A token of one of these is needed.
pub(super) struct Tokens {
    verifiers: Vec<Arc<Verifier>>,
    pub(super) places: Vec<Place>,
    optional: bool,
}

/// Everything that one look at a request has at hand.
pub(super) struct Check<'a> {
    pub(super) request: AuthRequest<'a>,
    pub(super) now_unix_s: u64,
    pub(super) cache: &'a mut VerdictCache,
    pub(super) answers: &'a [AuthAnswer],
}

/// Why a look ended before the identity was known.
#[derive(Debug)]
pub(super) enum Stop {
    Refused(AuthReason),
    Needs(Box<AuthNeed>),
    Asks(ExternalNeed),
}

/// Something that takes too long for a worker to do by the way.
#[derive(Debug)]
pub(crate) struct AuthNeed {
    demand: usize,
    wait: Wait,
}

#[derive(Debug)]
enum Wait {
    Password(PasswordCheck),
    Keys(Vec<KeysWait>),
}

/// A question to another service.
#[derive(Debug)]
pub(crate) struct ExternalNeed {
    pub(crate) demand: usize,
    pub(crate) external: Arc<External>,
}

/// What came of a need.
#[derive(Debug)]
pub(crate) struct AuthAnswer {
    demand: usize,
    answer: Answer,
}

enum Answer {
    Password {
        key: CredentialKey,
        result: Result<bool, AuthReason>,
    },
    /// The keys are as new as they get.
    Keys,
    External(ExternalVerdict),
}

impl AuthNeed {
    /// Waits for it. Comes back in bounded time.
    pub(crate) async fn answer(self) -> AuthAnswer {
        let Self { demand, wait } = self;
        let answer = match wait {
            Wait::Password(check) => Answer::Password { key: check.key, result: check.run().await },
            Wait::Keys(waits) => {
                KeysWait::run(waits).await;
                Answer::Keys
            }
        };
        AuthAnswer { demand, answer }
    }
}

impl ExternalNeed {
    pub(crate) fn answered(&self, verdict: ExternalVerdict) -> AuthAnswer {
        AuthAnswer { demand: self.demand, answer: Answer::External(verdict) }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { result, .. } => {
                f.debug_struct("Password").field("result", result).finish_non_exhaustive()
            }
            Self::Keys => f.write_str("Keys"),
            Self::External(verdict) => f.debug_tuple("External").field(verdict).finish(),
        }
    }
}

impl Demand {
    /// `None`: the object has rules only. `own` are the verifiers of its providers.
    pub(super) fn new(auth: &Auth, own: &[Arc<Verifier>], verifiers: &mut Verifiers) -> Option<Self> {
        let demand = Self {
            source: auth.source.clone(),
            mode: auth.mode,
            tokens: auth.jwt.as_ref().map(|jwt| Tokens::new(jwt, own)),
            keys: auth.api_key.as_ref().map(|keys| verifiers.keys(keys)),
            users: auth.basic.as_ref().map(|basic| verifiers.users(basic)),
            notes_users: false,
            external: auth.external.as_ref().map(|spec| Arc::new(External::new(spec))),
        };
        let is_local = demand.tokens.is_some() || demand.keys.is_some() || demand.users.is_some();
        (is_local || demand.external.is_some()).then_some(demand)
    }

    /// From now on the names of users are noted.
    pub(super) fn note_users(&mut self) {
        self.notes_users = true;
    }

    /// Whether the request satisfies it; who asks is noted. `index` is the demand's own.
    pub(super) fn check(
        &self,
        index: usize,
        check: &mut Check<'_>,
        identity: &mut Identity,
    ) -> Result<(), Stop> {
        let mut refusal: Option<AuthReason> = None;
        let methods = [Self::check_token, Self::check_api_key, Self::check_password, Self::check_external];
        for method in methods {
            match (method(self, index, check, identity), self.mode) {
                (None, _) => {}
                (Some(Ok(())), AuthMode::All) => {}
                (Some(Ok(())), AuthMode::Any) => return Ok(()),
                (Some(Err(Stop::Refused(reason))), AuthMode::Any) => {
                    refusal = Some(refusal.map_or(reason, |first| first.or_weightier(reason)));
                }
                (Some(Err(stop)), AuthMode::All | AuthMode::Any) => return Err(stop),
            }
        }
        refusal.map_or(Ok(()), |reason| Err(Stop::Refused(reason)))
    }

    /// The challenges of a 401 (RFC 9110 §11.6.1): of every method that would have been enough.
    pub(super) fn challenges(&self, reason: AuthReason) -> Vec<HeaderValue> {
        let mut challenges = Vec::new();
        if reason.kind() != AuthRefusalKind::Unauthenticated {
            return challenges;
        }
        let asks = |scheme| self.mode == AuthMode::Any || reason.scheme() == Some(scheme);
        if self.tokens.is_some() && asks(Scheme::Token) {
            challenges.push(reason.bearer_challenge());
        }
        if self.keys.is_some() && asks(Scheme::ApiKey) {
            challenges.push(API_KEY);
        }
        challenges
            .extend(self.users.iter().filter(|_| asks(Scheme::Password)).map(|users| users.challenge()));
        challenges
    }

    /// Whether a token that was not looked at, or found bad while another method succeeded, must go no further.
    pub(super) fn hides_unverified_token(&self) -> bool {
        let hides = |verifier: &Arc<Verifier>| !verifier.provider().forward_token;
        self.mode == AuthMode::Any
            && self.tokens.as_ref().is_some_and(|tokens| tokens.verifiers.iter().any(hides))
    }

    fn check_token(
        &self,
        index: usize,
        check: &mut Check<'_>,
        identity: &mut Identity,
    ) -> Option<Result<(), Stop>> {
        let tokens = self.tokens.as_ref()?;
        let request = check.request;
        let found = match extract::find(&tokens.places, request.headers, request.query) {
            Ok(Some(found)) => found,
            Ok(None) if tokens.optional => return Some(Ok(())),
            // Whoever is told to bring a token could not pass with it either.
            Ok(None) | Err(_) if self.mode.is_all() && tokens.is_without_keys() => {
                return Some(Err(Stop::Refused(AuthReason::KeysUnavailable)));
            }
            Ok(None) => return Some(Err(Stop::Refused(AuthReason::TokenMissing))),
            Err(reason) => return Some(Err(Stop::Refused(reason))),
        };
        let verified = tokens.verify(&found, check.now_unix_s, check.cache);
        Some(match verified {
            Ok(verdict) => {
                identity.push(Verified { verdict, demand: index, place: found.place });
                Ok(())
            }
            Err(reason) => {
                let has_waited = check
                    .answers
                    .iter()
                    .any(|given| given.demand == index && matches!(given.answer, Answer::Keys));
                Err(tokens.refuse(&found, reason, has_waited).map_or_else(Stop::Refused, |waits| {
                    Stop::Needs(Box::new(AuthNeed { demand: index, wait: Wait::Keys(waits) }))
                }))
            }
        })
    }

    fn check_api_key(
        &self,
        index: usize,
        check: &mut Check<'_>,
        identity: &mut Identity,
    ) -> Option<Result<(), Stop>> {
        let keys = self.keys.as_ref()?;
        let client = keys.client(check.request.headers, check.request.query);
        Some(client.map(|client| identity.clients.push((index, client))).map_err(Stop::Refused))
    }

    fn check_password(
        &self,
        index: usize,
        check: &mut Check<'_>,
        identity: &mut Identity,
    ) -> Option<Result<(), Stop>> {
        let users = self.users.as_ref()?;
        let credentials = match basic::find(check.request.headers) {
            Ok(Some(credentials)) => credentials,
            Ok(None) => return Some(Err(Stop::Refused(AuthReason::PasswordMissing))),
            Err(reason) => return Some(Err(Stop::Refused(reason))),
        };
        let mut judged = |is_good: bool| {
            if !is_good {
                return Err(Stop::Refused(AuthReason::PasswordWrong));
            }
            if self.notes_users {
                identity.push_user(index, credentials.name());
            }
            Ok(())
        };
        if users.is_quick() {
            return Some(judged(users.verify(&credentials)));
        }
        let cache = &mut check.cache.credentials;
        let answer = check.answers.iter().find_map(|given| match given.answer {
            Answer::Password { key, result } if given.demand == index => Some((key, result)),
            Answer::Password { .. } | Answer::Keys | Answer::External(_) => None,
        });
        if let Some((key, result)) = answer {
            return Some(result.map_err(Stop::Refused).and_then(|is_good| {
                cache.insert(key, is_good);
                judged(is_good)
            }));
        }
        let key = cache.key(users.id(), &credentials);
        if let Some(is_good) = cache.get(key) {
            users.pool().count_cached();
            return Some(judged(is_good));
        }
        let check = PasswordCheck::new(key, Arc::clone(users), credentials);
        Some(Err(Stop::Needs(Box::new(AuthNeed { demand: index, wait: Wait::Password(check) }))))
    }

    fn check_external(
        &self,
        index: usize,
        check: &mut Check<'_>,
        identity: &mut Identity,
    ) -> Option<Result<(), Stop>> {
        let external = self.external.as_ref()?;
        let verdict = check.answers.iter().find_map(|given| match &given.answer {
            Answer::External(verdict) if given.demand == index => Some(verdict),
            Answer::Password { .. } | Answer::Keys | Answer::External(_) => None,
        });
        Some(match verdict {
            None => Err(Stop::Asks(ExternalNeed { demand: index, external: Arc::clone(external) })),
            Some(ExternalVerdict::Passed(pass)) => {
                identity.let_pass(pass);
                Ok(())
            }
            Some(ExternalVerdict::Opened) => Ok(()),
            Some(ExternalVerdict::Refused) => Err(Stop::Refused(AuthReason::ExternalRefused)),
            Some(ExternalVerdict::Unavailable) => Err(Stop::Refused(AuthReason::ExternalUnavailable)),
        })
    }
}

impl Tokens {
    fn new(jwt: &JwtRequirement, verifiers: &[Arc<Verifier>]) -> Self {
        Self {
            verifiers: verifiers.to_vec(),
            places: extract::places(jwt.providers.iter().map(|provider| provider.from.as_slice())),
            optional: jwt.optional,
        }
    }

    /// Whether no token whatever could be verified now.
    fn is_without_keys(&self) -> bool {
        self.verifiers.iter().all(|verifier| verifier.is_without_keys())
    }

    /// What becomes of a token that was not found good: `Ok` says what to wait for first, because its key may be on its way.
    /// Nobody waits twice.
    ///
    /// # Errors
    /// Why it is refused.
    #[cold]
    fn refuse(
        &self,
        found: &Found<'_, '_>,
        reason: AuthReason,
        has_waited: bool,
    ) -> Result<Vec<KeysWait>, AuthReason> {
        let is_of_keys = matches!(
            reason,
            AuthReason::KeyUnknown
                | AuthReason::KeysUnavailable
                | AuthReason::SignatureInvalid
                | AuthReason::AlgorithmNotAllowed
        );
        let candidates = found.providers.iter().filter_map(|index| self.verifiers.get(*index));
        let lacking = if is_of_keys { verifier::lacking(candidates, &found.token) } else { Vec::new() };
        let mut waits = Vec::new();
        let mut is_unavailable = false;
        for set in &lacking {
            match if has_waited { set.settled() } else { set.lack() } {
                Lack::Settled => {}
                Lack::Unavailable => is_unavailable = true,
                Lack::Wait(wait) => waits.push(wait),
            }
        }
        if !waits.is_empty() {
            return Ok(waits);
        }
        if is_unavailable || self.is_without_keys() {
            return Err(AuthReason::KeysUnavailable);
        }
        // It is another provider's token whose keys are not there.
        Err(if reason == AuthReason::KeysUnavailable { AuthReason::KeyUnknown } else { reason })
    }

    fn verify(
        &self,
        found: &Found<'_, '_>,
        now_unix_s: u64,
        cache: &mut VerdictCache,
    ) -> Result<Rc<Verdict>, AuthReason> {
        let candidates = || found.providers.iter().filter_map(|index| self.verifiers.get(*index));
        let ids = || candidates().map(|verifier| verifier.judge());
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
