//! The last stage before the upstream's answer: what of the request goes on, by which way, and what comes back. The way
//! itself is `upstream`'s.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, header};
use ir::{Action, Route, Timeouts};

use super::{Matched, Notes, Refusal, Stage, Switch};
use crate::answer::Payload;
use crate::body::{RequestBody, RequestFraming};
use crate::error::Reason;
use crate::filter::affinity::{AffinityStage, SessionChange, Visit};
use crate::filter::auth::Identity;
use crate::filter::upgrade::{self, UpgradeRequest};
use crate::filter::websocket::{self, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use crate::filter::{balance, client_cert, extras, grpc};
use crate::generation::{RouteBackend, RouteRuntime};
use crate::random::Random;
use crate::request::Asked;
use crate::upstream::{Forward, Forwarded, Own, UpstreamBody, edits_own, forward};

impl Stage<'_> {
    /// Sends the request to an endpoint of one of its route's backends.
    pub(super) async fn send(
        &self,
        asked: &mut Asked,
        body: &mut Option<RequestBody>,
        matched: &Matched<'_>,
        notes: &mut Notes,
    ) -> Result<Response<Payload>, Refusal> {
        let Matched { runtime, match_index, identity } = *matched;
        let route = &runtime.compiled.route;
        let Action::Forward { rewrite, retry, circuit_breaker, load_balancing, passive_health, .. } =
            &route.action
        else {
            return Err(Reason::RuleInvalid.into());
        };
        let sent = body.as_mut().ok_or(Reason::RuleInvalid)?;
        if let Some(web) = notes.grpc_web {
            web.begin(&mut asked.headers, sent);
        }
        let key = self.websocket_key(asked);
        let upgrade = upgrade_asked_for(asked, sent, &route.action);
        let session = Visited::of(runtime, &asked.headers, &self.worker.random);
        let (place, upstream) = self.backend(runtime, session.as_ref())?;
        // A rule has 16 at most.
        notes.place = u16::try_from(place).unwrap_or(u16::MAX);
        let query = forwarded_query(runtime, identity, asked.query());
        runtime.auth.apply(identity, &mut asked.headers);
        if !runtime.auth.claim_headers().is_empty() {
            sent.forbid_trailers(runtime.auth.claim_headers().to_vec());
        }
        if let Some(client) = route.tls.as_ref().and_then(|tls| tls.client.as_ref()) {
            client_cert::tell(client, self.downstream, &mut asked.headers);
        }
        // By what the gateway says of its client, too, and before the rule's own changes.
        let hash_key = balance::hash_key(load_balancing, asked);
        let request_id = notes.request_id.insert(asked.request_id(&self.worker.random));
        let mut own = Own::new(asked, self.downstream, request_id);
        if edits_own(&route.header_edits.request) {
            own.move_into(&mut asked.headers);
        }
        table::apply_header_edit(&route.header_edits.request, &mut asked.headers);
        let path =
            runtime.compiled.upstream_path(match_index, asked.path()).map_err(|_| Reason::RewriteFailed)?;
        let is_grpc = grpc::is_grpc(&asked.headers);
        let timeouts =
            if is_grpc { grpc_timeouts(route, asked, sent) } else { Cow::Borrowed(&route.timeouts) };
        let hostname = rewrite.as_ref().and_then(|rewrite| rewrite.hostname.as_ref());
        let ask = Forward {
            worker: self.worker,
            backend: &upstream.backend,
            protocol: &upstream.protocol,
            route_metrics: &runtime.metrics,
            method: &asked.method,
            path: &path,
            query: query.as_deref(),
            host: hostname.map_or(asked.raw_host(), |name| name.as_str().as_bytes()),
            headers: &asked.headers,
            own: own.lines(),
            expects_continue: asked.expects_continue(),
            upgrade: upgrade.filter(|_| upstream.protocol.has_upgrades()),
            started: self.started,
            is_grpc,
            is_hurried: matches!(timeouts, Cow::Owned(_)),
            timeouts: &timeouts,
            retry,
            circuit_breaker,
            load_balancing,
            hash_key,
            sticky: session.as_ref().and_then(|session| session.stage.sticky(&session.visit, place)),
            passive_health: passive_health.as_ref(),
        };
        extras::mirror(runtime.extras.as_deref(), &ask, body.as_mut(), asked.raw_host());
        let forwarded = forward(&ask, body, &mut notes.record.trail).await?;
        let cookie = session.and_then(|session| session.cookie(runtime, (place, &forwarded), asked));
        let response = self.answered(forwarded, key.as_ref(), route.timeouts.stream_idle, notes)?;
        // Not on the answer itself: a page may take its place.
        notes.cookies.extend(cookie);
        Ok(response)
    }

    /// The backend of the session, or one by weight, with its place in the rule.
    fn backend<'r>(
        &self,
        runtime: &'r RouteRuntime,
        session: Option<&Visited<'_>>,
    ) -> Result<(usize, &'r RouteBackend), Reason> {
        let found = |place: usize| Some((place, runtime.backends.get(place)?.as_ref()?));
        let kept = session.and_then(|session| session.stage.backend(&session.visit)).and_then(found);
        // One that has scaled to nothing keeps nobody.
        let kept = kept.filter(|(_, upstream)| !upstream.backend.targets().is_empty());
        kept.or_else(|| found(runtime.compiled.pick_backend(self.worker.random.next())?))
            .ok_or(Reason::BackendMissing)
    }

    /// What the upstream said, ready for the client.
    fn answered(
        &self,
        forwarded: Forwarded,
        key: Option<&HeaderValue>,
        stream_idle: Option<Duration>,
        notes: &mut Notes,
    ) -> Result<Response<Payload>, Refusal> {
        if let (Some(key), Some(_)) = (key, &forwarded.switched)
            && !websocket::accepts(key, forwarded.head.headers.get(SEC_WEBSOCKET_ACCEPT))
        {
            return Err(Reason::UpstreamInvalid.into());
        }
        notes.is_own = false;
        let mut response = Response::new(self.payload(forwarded.body));
        *response.status_mut() = forwarded.head.status;
        *response.headers_mut() = forwarded.head.headers;
        notes.switch = forwarded.switched.and_then(|upstream| {
            let protocol = response.headers().get(header::UPGRADE)?.clone();
            Some(Switch { upstream, protocol, idle: stream_idle })
        });
        Ok(response)
    }

    /// A request that is still being sent goes on while the client does not ask for more of the answer.
    pub(super) fn payload(&self, body: Option<Rc<RefCell<UpstreamBody>>>) -> Payload {
        let Some(body) = body else { return Payload::Empty };
        if body.borrow().is_uploading() && !self.downstream.is_http2() {
            *self.downstream.uploading.borrow_mut() = Rc::downgrade(&body);
        }
        Payload::Upstream(body)
    }

    /// A WebSocket of HTTP/2 has no key of its own, but the upstream's of HTTP/1.1 needs one (RFC 8441 §5.1).
    fn websocket_key(&self, asked: &mut Asked) -> Option<HeaderValue> {
        let asks =
            asked.tunnel.is_some() && asked.headers.get(header::UPGRADE).is_some_and(upgrade::is_websocket);
        if !asks {
            return None;
        }
        let random = &self.worker.random;
        let key = websocket::key([random.next(), random.next()])?;
        asked.headers.insert(SEC_WEBSOCKET_KEY, key.clone());
        Some(key)
    }
}

impl Notes {
    /// Whether the request is one of gRPC, or is sent on as one.
    pub(super) fn is_grpc(&self, asked: &Asked) -> bool {
        self.grpc_web.is_some() || grpc::is_grpc(&asked.headers)
    }
}

/// The times of a call, which the client may have a say in.
fn grpc_timeouts<'r>(route: &'r Route, asked: &Asked, body: &mut RequestBody) -> Cow<'r, Timeouts> {
    let timeouts = grpc::timeouts(&route.timeouts, &asked.headers);
    body.set_read_timeout(timeouts.stream_idle);
    timeouts
}

/// What of the query goes on.
fn forwarded_query(runtime: &RouteRuntime, identity: &Identity, asked: Option<&str>) -> Option<String> {
    let query = asked.map(|query| match runtime.auth.forwarded_query(identity, query) {
        Some(edited) => Cow::Owned(edited),
        None => Cow::Borrowed(query),
    });
    query.filter(|query| !query.is_empty() || asked == Some("")).map(Cow::into_owned)
}

/// A request to a route with sessions.
struct Visited<'a> {
    stage: &'a AffinityStage,
    visit: Visit,
}

impl<'a> Visited<'a> {
    fn of(runtime: &'a RouteRuntime, headers: &HeaderMap, random: &Random) -> Option<Self> {
        let stage = runtime.affinity.as_ref()?;
        Some(Self { stage, visit: stage.visit(headers, random.next()) })
    }

    /// The cookie that the answer sets.
    fn cookie(
        &self,
        runtime: &RouteRuntime,
        (place, forwarded): (usize, &Forwarded),
        asked: &Asked,
    ) -> Option<HeaderValue> {
        let answered_by = (place, forwarded.endpoint_tag);
        let (cookie, change) = self.stage.cookie(&self.visit, answered_by, asked.scheme())?;
        match change {
            SessionChange::Begun => runtime.metrics.session_begun(),
            SessionChange::Moved => runtime.metrics.session_moved(),
        }
        Some(cookie)
    }
}

/// The protocol that the request asks the route for.
fn upgrade_asked_for<'a>(asked: &Asked, body: &RequestBody, action: &'a Action) -> Option<&'a str> {
    let Action::Forward { upgrades, .. } = action else { return None };
    let request = UpgradeRequest {
        method: &asked.method,
        is_asked: asked.names_upgrade,
        headers: &asked.headers,
        has_body: body.framing() != RequestFraming::None,
    };
    upgrade::protocol(&request, upgrades)
}
