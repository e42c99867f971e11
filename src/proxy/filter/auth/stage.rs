//! The authentication and authorization stage of a route: which tokens a request needs, whether it may pass, and what
//! the upstream gets to see. Reads no clock and waits for nothing.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use ir::{Auth, ClaimCondition, Kind};

use super::authorize::{self, Rules, Trusted};
use super::basic;
use super::cache::VerdictCache;
use super::claims;
use super::demand::{AuthAnswer, AuthNeed, Check, Demand, ExternalNeed, Stop};
use super::external::{External, Pass};
use super::extract::Place;
use super::refusal::AuthRefusal;
use super::verifier::{Verdict, Verifier, Verifiers, may_carry_claim};

/// What the stage looks at. Borrowed from the request as it came, before any edit.
#[derive(Clone, Copy)]
pub(crate) struct AuthRequest<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: Option<&'a str>,
    pub(crate) method: &'a Method,
    /// `None`: it can't be told.
    pub(crate) client: Option<IpAddr>,
}

impl fmt::Debug for AuthRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRequest").field("method", self.method).finish_non_exhaustive()
    }
}

/// Everything that a route asks for. Immutable, shared by all workers.
#[derive(Default)]
pub(crate) struct AuthStage {
    /// One for each object that has methods; all must pass.
    demands: Vec<Demand>,
    /// All must pass, after the demands.
    rules: Vec<Rules>,
    /// Headers that only a verified token, a client's key or a service that is asked may fill.
    claim_headers: Vec<HeaderName>,
    /// Those of them that nothing after the routing sees as the client sent them: neither limits nor a service that is asked.
    /// The others may hold what a client proves itself by.
    hidden: Vec<HeaderName>,
}

/// Why a request does not pass yet.
#[derive(Debug)]
pub(crate) enum AuthStop {
    Refused(AuthRefusal),
    /// Ask again with the answer to this.
    Needs(Box<AuthNeed>),
    /// The same, of another service.
    Asks(ExternalNeed),
}

impl AuthStage {
    /// Prepares the requirements of a route; equal providers share a verifier over routes and generations.
    pub(crate) fn new(auths: &[Auth], verifiers: &mut Verifiers) -> Self {
        let of_objects: Vec<Vec<Arc<Verifier>>> = auths
            .iter()
            .map(|auth| auth.jwt.iter().flat_map(|jwt| &jwt.providers).map(|p| verifiers.get(p)).collect())
            .collect();
        let mut stage = Self::default();
        stage.hold(auths.iter().flat_map(Auth::identity_headers));
        let policies: Vec<&Arc<Verifier>> = auths
            .iter()
            .zip(&of_objects)
            .filter(|(auth, _)| auth.source.kind == Kind::AuthPolicy)
            .flat_map(|(_, own)| own)
            .collect();
        let mut demand_of = Vec::with_capacity(auths.len());
        for (auth, own) in auths.iter().zip(&of_objects) {
            let demand = Demand::new(auth, own, verifiers);
            demand_of.push(demand.is_some().then_some(stage.demands.len()));
            stage.demands.extend(demand);
        }
        for (index, (auth, own)) in auths.iter().zip(&of_objects).enumerate() {
            stage.rules.extend(auth.authorization.iter().map(|authorization| {
                // Without tokens of its own a route speaks of any token, but a policy never of the route's: whoever writes
                // the route would say himself who he is. The same holds for clients and users.
                let is_policy = auth.source.kind == Kind::AuthPolicy;
                let trusted: Vec<&Arc<Verifier>> = match (&auth.jwt, is_policy) {
                    (Some(_), _) => own.iter().collect(),
                    (None, true) => policies.clone(),
                    (None, false) => of_objects.iter().flatten().collect(),
                };
                Rules::new((authorization, &auth.source), trust(auths, index, &demand_of), |provider| {
                    let named = |verifier: &&&Arc<Verifier>| {
                        provider.is_none_or(|name| *verifier.provider().name == *name)
                    };
                    trusted.iter().filter(named).map(|verifier| verifier.id()).collect()
                })
            }));
        }
        if stage.rules.iter().any(Rules::name_users) {
            stage.demands.iter_mut().for_each(Demand::note_users);
        }
        stage.hiding(&[])
    }

    /// The same, which takes these headers off requests, too.
    pub(crate) fn hiding(mut self, headers: &[HeaderName]) -> Self {
        self.hold(headers);
        let hidden = self.claim_headers.iter().filter(|name| !self.reads(name)).cloned().collect();
        Self { hidden, ..self }
    }

    fn hold<'a>(&mut self, headers: impl IntoIterator<Item = &'a HeaderName>) {
        for name in headers {
            if may_carry_claim(name) && !self.claim_headers.contains(name) {
                self.claim_headers.push(name.clone());
            }
        }
    }

    /// Whether the stage looks at what the client sends in this header.
    fn reads(&self, name: &HeaderName) -> bool {
        let is_asked_of_client = |demand: &Demand| {
            let tokens = demand.tokens.iter().flat_map(|tokens| &tokens.places);
            let keys = demand.keys.iter().flat_map(|keys| &keys.places);
            let wanted = demand.external.iter().flat_map(|external| &external.spec.request_headers);
            tokens.chain(keys).any(|place| place.is_header(name))
                || wanted.flatten().any(|wanted| wanted == name)
        };
        matches!(*name, header::AUTHORIZATION | header::COOKIE) || self.demands.iter().any(is_asked_of_client)
    }

    /// Takes off what a client says of itself in the place of those who may. Call it before anything looks at headers, but
    /// for the routing.
    pub(crate) fn hide(&self, headers: &mut HeaderMap) {
        remove_all(&self.hidden, headers);
    }

    /// Whether every request passes unchanged.
    pub(crate) fn is_empty(&self) -> bool {
        self.demands.is_empty() && self.rules.is_empty()
    }

    /// The services that are asked, each with the place of its demand.
    pub(crate) fn services(&self) -> impl Iterator<Item = (usize, &External)> {
        let all = self.demands.iter().enumerate();
        all.filter_map(|(index, demand)| Some((index, demand.external.as_deref()?)))
    }

    /// Headers that only a verified token may fill.
    pub(crate) fn claim_headers(&self) -> &[HeaderName] {
        &self.claim_headers
    }

    /// Whether the request may pass, and as whom. `now_unix_s` is the wall clock in seconds since 1970; `answers` are those
    /// to the needs of this very request.
    ///
    /// # Errors
    /// Why not, where the first demand that fails speaks; or what must be found out first.
    pub(crate) fn check(
        &self,
        request: AuthRequest<'_>,
        now_unix_s: u64,
        cache: &mut VerdictCache,
        answers: &[AuthAnswer],
    ) -> Result<Identity, AuthStop> {
        let mut identity = Identity::default();
        let mut check = Check { request, now_unix_s, cache, answers };
        for (index, demand) in self.demands.iter().enumerate() {
            demand.check(index, &mut check, &mut identity).map_err(|stop| match stop {
                Stop::Refused(reason) => AuthStop::Refused(AuthRefusal::by_demand(reason, index)),
                Stop::Needs(need) => AuthStop::Needs(need),
                Stop::Asks(need) => AuthStop::Asks(need),
            })?;
        }
        for (index, rules) in self.rules.iter().enumerate() {
            rules
                .allow(request.method, request.client, &identity)
                .map_err(|rule| AuthStop::Refused(AuthRefusal::by_rules(index, rule)))?;
        }
        Ok(identity)
    }

    /// The object that refused, and the rule of it, for the access log.
    pub(crate) fn refused_by(&self, refusal: AuthRefusal) -> Option<String> {
        match (refusal.demand, refusal.rules) {
            (Some(demand), _) => Some(self.demands.get(demand)?.source.to_string()),
            (None, Some((rules, rule))) => Some(self.rules.get(rules)?.describe(rule)),
            (None, None) => None,
        }
    }

    /// What a refused client is told to bring. None on a 403 of a route that takes no tokens: nothing would help.
    pub(crate) fn challenges(&self, refusal: AuthRefusal) -> Vec<HeaderValue> {
        match refusal.demand.and_then(|index| self.demands.get(index)) {
            Some(demand) => demand.challenges(refusal.reason),
            None if self.demands.iter().any(|demand| demand.tokens.is_some()) => {
                vec![refusal.reason.bearer_challenge()]
            }
            None => Vec::new(),
        }
    }

    /// Edits the headers for the upstream: tokens that must not be forwarded go, and API keys and passwords; the headers that
    /// carry claims hold what the tokens say or nothing; where several tokens fill one header, the first demand's stands. Call it for
    /// every request of the route, an anonymous one too, and before any header that the gateway itself sets.
    pub(crate) fn apply(&self, identity: &Identity, headers: &mut HeaderMap) {
        for place in self.private_places(identity) {
            place.remove_token(headers);
        }
        if self.demands.iter().any(|demand| demand.users.is_some()) {
            basic::remove(headers);
        }
        remove_all(&self.claim_headers, headers);
        for (name, value) in identity.verdicts().flat_map(|verdict| &verdict.headers) {
            // The headers of clients are gone, so whatever stands here is of an earlier token, and that one wins.
            if let Entry::Vacant(free) = headers.entry(name) {
                free.insert(value.clone());
            }
        }
        for (index, client) in &identity.clients {
            let keys = self.demands.get(*index).and_then(|demand| demand.keys.as_ref());
            if let Some(name) = keys.and_then(|keys| keys.client_id_header())
                && self.claim_headers.contains(name)
                && let Entry::Vacant(free) = headers.entry(name)
            {
                free.insert(client.clone());
            }
        }
        for pass in identity.rare.iter().flat_map(|rare| &rare.passes) {
            self.tell_pass(pass, headers);
        }
    }

    /// As with tokens, whoever fills a header first has it.
    fn tell_pass(&self, pass: &Pass, headers: &mut HeaderMap) {
        let mut last: Option<&HeaderName> = None;
        for (name, value) in &pass.headers {
            if last == Some(name) || (self.claim_headers.contains(name) && !headers.contains_key(name)) {
                headers.append(name.clone(), value.clone());
                last = Some(name);
            }
        }
    }

    /// The query for the upstream, where a token stands in it that must not be forwarded; `None` leaves it as it is. May
    /// be empty: then the `?` goes too.
    pub(crate) fn forwarded_query(&self, identity: &Identity, query: &str) -> Option<String> {
        self.private_places(identity).fold(None, |edited: Option<String>, place| {
            place.without_token(edited.as_deref().unwrap_or(query)).or(edited)
        })
    }

    /// Where tokens stand that must not be forwarded, and API keys, none of which are.
    fn private_places<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = &'a Place> {
        let places = |index| self.demands.get(index).and_then(|demand: &Demand| demand.tokens.as_ref());
        let verified = identity.tokens().filter(|token| !token.verdict.forward_token);
        let verified = verified.filter_map(move |token| places(token.demand)?.places.get(token.place));
        let is_verified = |index| identity.tokens().any(|token| token.demand == index);
        let others = self.demands.iter().enumerate();
        let others =
            others.filter(move |(index, demand)| demand.hides_unverified_token() && !is_verified(*index));
        let others = others.flat_map(|(_, demand)| demand.tokens.iter().flat_map(|tokens| &tokens.places));
        let keys = self.demands.iter().flat_map(|demand| demand.keys.iter().flat_map(|keys| &keys.places));
        verified.chain(others).chain(keys)
    }
}

/// Removes these headers in every spelling.
fn remove_all(names: &[HeaderName], headers: &mut HeaderMap) {
    if names.is_empty() {
        return;
    }
    for name in names {
        headers.remove(name);
    }
    // Many upstreams (CGI, WSGI) read `X_User_Id` as `X-User-Id`.
    let aliases: Vec<HeaderName> = headers.keys().filter(|name| is_alias_of(names, name)).cloned().collect();
    for name in aliases {
        headers.remove(name);
    }
}

fn is_alias_of(names: &[HeaderName], name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    memchr::memchr(b'_', name).is_some()
        && names.iter().any(|other| {
            let other = other.as_str().as_bytes();
            other.len() == name.len() && other.iter().zip(name).all(|(a, b)| dashed(*a) == dashed(*b))
        })
}

impl fmt::Debug for AuthStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthStage")
            .field("demands", &self.demands.len())
            .field("rules", &self.rules.len())
            .field("claim_headers", &self.claim_headers)
            .finish()
    }
}

/// Whose clients and users the rules of this object speak of. `demand_of` has the place of each object's demand.
fn trust(auths: &[Auth], index: usize, demand_of: &[Option<usize>]) -> Trusted {
    let is_policy = auths.get(index).is_some_and(|auth| auth.source.kind == Kind::AuthPolicy);
    let demands = |asks: fn(&Auth) -> bool| {
        let has_own = auths.get(index).is_some_and(asks);
        let counts = |(other, auth): &(usize, &Auth)| {
            if has_own { *other == index } else { !is_policy || auth.source.kind == Kind::AuthPolicy }
        };
        let trusted = auths.iter().enumerate().filter(counts);
        trusted.filter_map(|(other, _)| *demand_of.get(other)?).collect()
    };
    Trusted { clients: demands(|auth| auth.api_key.is_some()), users: demands(|auth| auth.basic.is_some()) }
}

const fn dashed(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte }
}

/// Whom the verified tokens of a request name; empty for an anonymous one. Belongs to one worker. Prints no claim.
#[derive(Default)]
pub(crate) struct Identity {
    /// Nearly every route asks for one token; an empty list allocates nothing.
    first: Option<Verified>,
    more: Vec<Verified>,
    /// The ids of clients by their keys, each with its demand.
    pub(super) clients: Vec<(usize, HeaderValue)>,
    /// What most requests have nothing of.
    rare: Option<Box<Rare>>,
}

#[derive(Default)]
struct Rare {
    /// What services said that were asked.
    passes: Vec<Rc<Pass>>,
    /// The names of users by their passwords, each with its demand. Only where a rule asks.
    users: Vec<(usize, Box<[u8]>)>,
}

pub(super) struct Verified {
    pub(super) verdict: Rc<Verdict>,
    pub(super) demand: usize,
    pub(super) place: usize,
}

impl Identity {
    /// Whether no token was verified, and no key.
    #[cfg(test)]
    pub(crate) fn is_anonymous(&self) -> bool {
        self.first.is_none() && self.clients.is_empty()
    }

    /// A claim as text, for a limit key: `realm.roles` or a JSON pointer, of this provider's token or of the first that
    /// has it. `None` where it is missing or is no string, number or boolean.
    pub(crate) fn claim(&self, provider: Option<&str>, name: &str) -> Option<Cow<'_, str>> {
        self.verdicts()
            .filter(|verdict| provider.is_none_or(|wanted| *verdict.provider == *wanted))
            .find_map(|verdict| claims::named(&verdict.claims, name).and_then(claims::text))
    }

    /// Whether one of the tokens says what is asked for; an anonymous request says nothing.
    pub(crate) fn fulfils(&self, condition: &ClaimCondition) -> bool {
        self.verdicts()
            .filter(|verdict| condition.provider.as_ref().is_none_or(|wanted| *verdict.provider == **wanted))
            .any(|verdict| authorize::holds(condition, verdict))
    }

    /// The id of the client by its API key; that of the first object that asked for one.
    pub(crate) fn api_key_client(&self) -> Option<&HeaderValue> {
        self.clients.first().map(|(_, client)| client)
    }

    pub(super) fn push(&mut self, token: Verified) {
        if self.first.is_none() {
            self.first = Some(token);
        } else {
            self.more.push(token);
        }
    }

    pub(super) fn let_pass(&mut self, pass: &Rc<Pass>) {
        self.rare.get_or_insert_default().passes.push(Rc::clone(pass));
    }

    pub(super) fn push_user(&mut self, demand: usize, name: &[u8]) {
        self.rare.get_or_insert_default().users.push((demand, name.into()));
    }

    /// The names of users, each with its demand.
    pub(super) fn users(&self) -> impl Iterator<Item = &(usize, Box<[u8]>)> {
        self.rare.iter().flat_map(|rare| &rare.users)
    }

    fn tokens(&self) -> impl Iterator<Item = &Verified> + Clone {
        self.first.iter().chain(&self.more)
    }

    pub(super) fn verdicts(&self) -> impl Iterator<Item = &Verdict> + Clone {
        self.tokens().map(|token| &*token.verdict)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.verdicts()).finish()
    }
}
