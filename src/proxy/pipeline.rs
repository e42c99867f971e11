//! The life of a request: one function that reads as the list of stages in their documented order. Any stage may end it
//! with a [`Refusal`]; nothing here knows how a stage does its work.

use std::convert::Infallible;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use ir::{Action, DirectResponse};
use table::RedirectFrom;

use crate::answer::{AnswerBody, DECISION, Payload, Problem, ROUTE, insert_decision, problem};
use crate::body::RequestBody;
use crate::error::Reason;
use crate::filter::auth::{AuthRefusal, AuthStop, Identity};
use crate::filter::error_page::Page;
use crate::filter::grpc_web::GrpcWeb;
use crate::filter::limit::LimitNotes;
use crate::filter::upgrade;
use crate::filter::websocket::SEC_WEBSOCKET_ACCEPT;
use crate::filter::{client_cert, grpc, https};
use crate::generation::{RouteRuntime, WorkerGeneration};
use crate::observe::Shed;
use crate::record::Record;
use crate::request::{Asked, write_hex};
use crate::server::{Downstream, Stream, Worker, begin_stream_tunnel};
use crate::tunnel::Offer;
use crate::upstream::Switched;

mod auth;
mod external;
mod fault;
mod limits;
mod page;
mod send;

/// Why a request got no further, and what its answer must say beside that.
#[derive(Debug)]
pub(crate) struct Refusal {
    reason: Reason,
    auth: Option<AuthRefusal>,
    /// What a service said that decided, for the client.
    response: Option<Box<Response<Payload>>>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, auth: None, response: None }
    }
}

/// What the stages leave behind for whatever answer comes out.
#[derive(Debug)]
struct Notes {
    record: Record,
    route: Option<Arc<RouteRuntime>>,
    limits: LimitNotes,
    request_id: Option<HeaderValue>,
    /// Cookies that any answer sets: of services that let the request pass, and of its session.
    cookies: Vec<HeaderValue>,
    /// The gateway makes the answer itself.
    is_own: bool,
    /// A preflight's answer has its CORS headers already.
    is_preflight: bool,
    /// The request is one of gRPC-Web, and the route takes these.
    grpc_web: Option<GrpcWeb>,
    /// The upstream has changed the protocol.
    switch: Option<Switch>,
    /// The place of the request's backend among those of its rule.
    place: u16,
    /// Takes the place of the answer.
    page: Option<Box<Page>>,
}

/// The upstream's side of a tunnel, and how the route wants it.
#[derive(Debug)]
struct Switch {
    upstream: Box<Switched>,
    protocol: HeaderValue,
    idle: Option<Duration>,
}

/// Serves one request. What it begins with is made here and not in the future, which would keep a place for each value
/// twice: it is moved and kept whole for every request.
pub(crate) fn serve(
    worker: Rc<Worker>,
    stream: Rc<Stream>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> {
    let started = Instant::now();
    let (parts, incoming) = request.into_parts();
    let mut body = Some(RequestBody::new(incoming, Rc::clone(&stream), worker.settings.read_timeout));
    let (mut asked, fault) = Asked::new(parts, stream.connection(), &worker.settings);
    let fault = fault.or_else(|| turned_away(&worker));
    let generation = worker.generation();
    let mut notes = Notes {
        record: Record::new(&worker, &stream, &generation, &asked, started),
        route: None,
        limits: LimitNotes::default(),
        request_id: None,
        cookies: Vec::new(),
        is_own: true,
        is_preflight: false,
        grpc_web: None,
        switch: None,
        place: 0,
        page: None,
    };
    async move {
        let downstream = stream.connection();
        let stage = Stage { worker: &worker, downstream, generation: &generation, started };
        let mut outcome = match fault {
            Some(reason) => Err(Refusal::from(reason)),
            None => stage.run(&mut asked, &mut body, &mut notes).await,
        };
        if notes.route.as_ref().is_some_and(|route| route.has_pages()) {
            // Moved, and not lent: what is lent across a wait has a place of its own in the future.
            outcome = *Box::pin(stage.paged(Box::new(outcome), &asked, &stream, &mut notes)).await;
        }
        let (mut response, closes) = stage.answer(outcome, &asked, &mut notes);
        let ends = worker.is_closing() || downstream.is_retiring(started);
        if downstream.is_http2() {
            // What is left of the body ends with its stream, and no other request waits behind it.
            if ends {
                downstream.retire();
            }
        } else {
            let unread =
                stream.body_unread.get() && Box::pin(is_body_left(&stream, &asked, &mut body, closes)).await;
            downstream.lingers.set(unread);
            if (closes || unread || ends) && notes.switch.is_none() {
                // Beside the `upgrade` of a 426.
                response.headers_mut().append(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        Ok(hand_over(&worker, downstream, &mut asked, notes, response))
    }
}

/// Whether the process can't take one more request.
fn turned_away(worker: &Worker) -> Option<Reason> {
    let overload = &worker.metrics.overload;
    overload.is_over().then(|| {
        overload.shed(Shed::Request);
        Reason::Overloaded
    })
}

/// Gives the answer its record, or begins the tunnel that it announces.
fn hand_over(
    worker: &Rc<Worker>,
    downstream: &Rc<Downstream>,
    asked: &mut Asked,
    notes: Notes,
    mut response: Response<Payload>,
) -> Response<AnswerBody> {
    let Notes { mut record, request_id, switch, .. } = notes;
    record.on_head(asked, request_id);
    record.status = response.status().as_u16();
    let Some(Switch { upstream, protocol, idle }) = switch else {
        return response.map(|payload| AnswerBody::new(payload, record));
    };
    let is_websocket = upgrade::is_websocket(&protocol);
    if let Some(tunnel) = asked.tunnel.take() {
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove(header::CONNECTION);
        response.headers_mut().remove(header::UPGRADE);
        response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
        record.status = response.status().as_u16();
        begin_stream_tunnel(worker, downstream, tunnel, Offer { upstream, is_websocket, idle, record });
        return response.map(|_| AnswerBody::before_tunnel());
    }
    // A rule can't edit them: they are this connection's (RFC 9110 §7.6.1).
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, protocol);
    downstream.offer(Offer { upstream, is_websocket, idle, record });
    response.map(|_| AnswerBody::before_tunnel())
}

/// Tells an answer so that who asked by gRPC or gRPC-Web understands it.
fn speak_grpc(asked: &Asked, notes: &Notes, refused: Option<Reason>, response: &mut Response<Payload>) {
    if notes.is_own && !notes.is_preflight && notes.is_grpc(asked) {
        let message = refused.map_or("The gateway answers this route itself", Reason::title);
        grpc::translate(response, message, notes.record.trail.is_late);
    }
    if let Some(web) = notes.grpc_web {
        web.end(response);
    }
}

/// Whether a part of the request's body stays unread. A small one is read away where that is quick, so that a refusal
/// costs no connection; a client that waits for `100 Continue` would be told to send it.
async fn is_body_left(stream: &Stream, asked: &Asked, body: &mut Option<RequestBody>, closes: bool) -> bool {
    let worth_reading = !closes && !asked.expects_continue();
    if let (true, Some(body)) = (worth_reading, body) {
        return !body.discard().await;
    }
    stream.body_unread.get()
}

/// What every stage may look at.
struct Stage<'a> {
    worker: &'a Rc<Worker>,
    downstream: &'a Rc<Downstream>,
    generation: &'a WorkerGeneration,
    started: Instant,
}

/// What the stages before the upstream found.
struct Matched<'a> {
    runtime: &'a RouteRuntime,
    match_index: usize,
    identity: &'a Identity,
}

impl Stage<'_> {
    /// The stages in the order of the design: match, to `https`, redirect, preflight, address, size, limits before
    /// authentication, authentication and authorization, limits by claim, fixed answer, transform and send, transform
    /// the answer.
    async fn run(
        &self,
        asked: &mut Asked,
        body: &mut Option<RequestBody>,
        notes: &mut Notes,
    ) -> Result<Response<Payload>, Refusal> {
        if self.is_misdirected(asked) {
            return Err(Reason::MisdirectedRequest.into());
        }
        let decision = self.generation.table.decide(&asked.head()).ok_or(Reason::RouteNotFound)?;
        let match_index = decision.match_index;
        let runtime = self.generation.runtime(decision.slot).ok_or(Reason::RuleInvalid)?;
        notes.route = Some(Arc::clone(runtime));
        notes.record.slot = Some(decision.slot);
        let route = &runtime.compiled.route;

        if let Action::Fail(_) = route.action {
            return Err(Reason::RuleInvalid.into());
        }
        if let Action::Forward { grpc_web: true, .. } = route.action {
            notes.grpc_web = GrpcWeb::of(&asked.method, &asked.headers);
        }
        if let Some(status) = https::redirect_status(asked, route) {
            return to_https(asked, status);
        }
        if !client_cert::is_shown(self.downstream, route) {
            return Err(Reason::MisdirectedRequest.into());
        }
        if let Action::Redirect(redirect) = &route.action {
            return redirect_to(asked, runtime, match_index, redirect.status);
        }
        if let Some(answer) = preflight(asked, runtime) {
            notes.is_preflight = true;
            return Ok(answer);
        }
        // No list takes a peer for a client that it may only stand before.
        let unsure = asked.client_is_unsure && !route.ip_access.is_empty();
        if unsure || !route.ip_access.allows(asked.client) {
            return Err(Reason::AddressDenied.into());
        }
        let fits = |bytes_max| body.as_mut().is_none_or(|body| body.limit(bytes_max));
        if !route.request_body_bytes_max.is_none_or(fits) {
            return Err(Reason::BodyTooLarge.into());
        }
        runtime.auth.hide(&mut asked.headers);
        if let Some(turn) = self.ask_early(asked, runtime, notes)? {
            Box::pin(self.wait_early(turn, asked, runtime, notes)).await?;
        }
        let identity = match self.authenticate(asked, runtime, &[]) {
            Ok(identity) => identity,
            Err(AuthStop::Refused(refusal)) => return Err(refusal.into()),
            Err(stop) => {
                let body = body.as_ref().ok_or(Reason::RuleInvalid)?;
                Box::pin(self.authenticate_slowly((asked, body), runtime, stop, notes)).await?
            }
        };
        if let Some(turn) = self.ask_late(asked, &identity, runtime, notes)? {
            Box::pin(self.wait_late(turn, (asked, &identity), runtime, notes)).await?;
        }
        let matched = Matched { runtime, match_index, identity: &identity };
        let injected = match &runtime.extras {
            Some(extras) if extras.fault.is_some() => Box::pin(self.inject(extras, asked, notes)).await,
            Some(_) | None => None,
        };
        let mut response = if let Some(injected) = injected {
            *injected
        } else if let Action::Respond(direct) = &route.action {
            respond(direct)
        } else {
            let sent = self.send(asked, body, &matched, notes).await;
            // What is left of it nobody reads: its upstream may have had a part.
            *body = None;
            sent?
        };
        self.settle(runtime, notes, response.headers_mut());
        table::apply_header_edit(&route.header_edits.response, response.headers_mut());
        Ok(response)
    }

    /// The answer with all that it must carry, and whether the connection ends because of it.
    fn answer(
        &self,
        outcome: Result<Response<Payload>, Refusal>,
        asked: &Asked,
        notes: &mut Notes,
    ) -> (Response<Payload>, bool) {
        let refused = outcome.as_ref().err().map(|refusal| refusal.reason);
        let mut response = outcome.unwrap_or_else(|refusal| refuse(self.worker, asked, notes, refusal));
        if let Some(page) = notes.page.take() {
            page.replace(&mut response);
        }
        // Any success would tell the client of HTTP/2 that its tunnel stands.
        if asked.tunnel.is_some() && notes.switch.is_none() && response.status().is_success() {
            response = refuse(self.worker, asked, notes, Reason::UpgradeRefused.into());
        }
        speak_grpc(asked, notes, refused, &mut response);
        finish_headers(self.worker, asked, notes, response.headers_mut());
        (response, refused.is_some_and(Reason::closes))
    }

    /// Whether the connection's TLS was agreed on for a host that is served otherwise than the request's (hardening
    /// TL01).
    fn is_misdirected(&self, asked: &Asked) -> bool {
        let Some(session) = self.downstream.tls() else { return false };
        !self.generation.tls.serves_alike(session.server_name.as_deref(), asked.host())
            || !self.generation.tls.knows_client(&session.client, asked.host())
            || self.generation.passthroughs.takes(asked.host())
    }
}

fn to_https(asked: &Asked, status: u16) -> Result<Response<Payload>, Refusal> {
    let location = https::location(&asked.public_host(), asked.path(), asked.query());
    let mut response = Response::new(Payload::Empty);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::PERMANENT_REDIRECT);
    response.headers_mut().insert(header::LOCATION, location.ok_or(Reason::BadHost)?);
    Ok(response)
}

fn redirect_to(
    asked: &Asked,
    runtime: &RouteRuntime,
    match_index: usize,
    status: u16,
) -> Result<Response<Payload>, Refusal> {
    let location = runtime.compiled.redirect_location(&RedirectFrom {
        scheme: asked.scheme(),
        host: &asked.public_host(),
        port: asked.public_port(),
        path: asked.path(),
        query: asked.query(),
        matched_prefix_bytes: runtime.compiled.matched_prefix_bytes(match_index, asked.path()),
    });
    let location = location.and_then(Result::ok).ok_or(Reason::RewriteFailed)?;
    let mut response = Response::new(Payload::Empty);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    response.headers_mut().insert(header::LOCATION, location);
    table::apply_header_edit(&runtime.compiled.route.header_edits.response, response.headers_mut());
    Ok(response)
}

/// The answer to a browser that asks beforehand, made of prepared headers.
fn preflight(asked: &Asked, runtime: &RouteRuntime) -> Option<Response<Payload>> {
    let cors = runtime.compiled.cors()?;
    asked.head().preflight()?;
    let origin = asked.origin()?;
    let wanted = asked.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let answer = cors.preflight(origin, wanted, asked.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS));
    let mut response = Response::new(Payload::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = answer.headers;
    Some(response)
}

fn respond(direct: &DirectResponse) -> Response<Payload> {
    let mut response = Response::new(Payload::Full(direct.body.clone().into()));
    *response.status_mut() = StatusCode::from_u16(direct.status).unwrap_or(StatusCode::OK);
    if let Some(content_type) = &direct.content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
    }
    response
}

/// What every answer of a route carries, a refusal too.
fn finish_headers(worker: &Worker, asked: &Asked, notes: &mut Notes, headers: &mut HeaderMap) {
    if notes.is_own && !headers.contains_key(DECISION) {
        let decision = new_decision(worker);
        notes.record.on_own_answer(None, decision);
        insert_decision(headers, &decision);
    }
    let Some(route) = &notes.route else { return };
    let held = mem::take(&mut notes.limits).apply(headers);
    notes.record.hold(held);
    if !notes.cookies.is_empty() {
        for cookie in mem::take(&mut notes.cookies) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    if let Some(hsts) = https::hsts(asked, &route.compiled.route) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    if let Some(cors) = route.compiled.cors().filter(|_| !notes.is_preflight) {
        cors.apply_response(asked.origin(), headers);
    }
    if worker.settings.debug_errors
        && let Ok(label) = HeaderValue::from_str(&route.label)
    {
        headers.insert(ROUTE, label);
    }
}

fn new_decision(worker: &Worker) -> [u8; 16] {
    let mut decision = [0u8; 16];
    write_hex(worker.random.next(), &mut decision);
    decision
}

fn refuse(worker: &Worker, asked: &Asked, notes: &mut Notes, refusal: Refusal) -> Response<Payload> {
    let decision = new_decision(worker);
    let name = refusal.auth.map_or(refusal.reason.name(), |auth| auth.reason.as_str());
    notes.is_own = true;
    notes.record.on_own_answer(Some(name), decision);
    if let (Some(auth), Some(route)) = (refusal.auth, &notes.route) {
        notes.record.on_refusal(|| route.auth.refused_by(auth));
    }
    if let Some(response) = refusal.response {
        return said(*response, &decision, notes, refusal.auth);
    }
    let detail = worker.settings.debug_errors.then(|| {
        let route = notes.route.as_ref().map_or("unmatched", |route| &route.label);
        let trail = &notes.record.trail;
        let upstream = trail.upstream.as_deref().unwrap_or("-");
        format!("{name}: route {route}, upstream {upstream}, tries {}", trail.tries)
    });
    let limit = notes.limit_answer(refusal.reason);
    let mut response = problem(&Problem {
        reason: refusal.reason,
        status: limit.and_then(|answer| StatusCode::from_u16(answer.status).ok()),
        decision: &decision,
        json: match limit.and_then(|answer| answer.body.as_ref()) {
            Some(ir::LimitBody::Problem { is_json }) => *is_json,
            Some(ir::LimitBody::Text { .. }) | None => asked.takes_json(),
        },
        detail: detail.as_deref(),
    });
    if let Some(ir::LimitBody::Text { content_type, text }) = limit.and_then(|answer| answer.body.as_ref()) {
        *response.body_mut() = Payload::Full(text.as_bytes().to_vec().into());
        if let Ok(content_type) = HeaderValue::from_str(content_type) {
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        }
    }
    let headers = response.headers_mut();
    if let (Some(auth), Some(route)) = (refusal.auth, &notes.route) {
        for challenge in route.auth.challenges(auth) {
            headers.append(header::WWW_AUTHENTICATE, challenge);
        }
    }
    if let Some(seconds) = refusal.reason.retry_after() {
        // A breaker may know when it lets somebody through again.
        let seconds = notes.record.trail.retry_after_s.max(seconds);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// What a service said, which the client gets. Where another method would have been enough, it is told that, too.
fn said(
    mut response: Response<Payload>,
    decision: &[u8; 16],
    notes: &Notes,
    auth: Option<AuthRefusal>,
) -> Response<Payload> {
    let is_challenged = response.status() == StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    insert_decision(headers, decision);
    if let (true, Some(auth), Some(route)) = (is_challenged, auth, &notes.route) {
        for challenge in route.auth.challenges(auth) {
            headers.append(header::WWW_AUTHENTICATE, challenge);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::serve;

    fn returned_bytes<A, B, C, R>(_: fn(A, B, C) -> R) -> usize {
        size_of::<R>()
    }

    /// hyper moves it whole for every request, and each connection and stream keeps a place for one. What is seldom
    /// needed belongs in a box.
    #[test]
    fn the_future_of_a_request_stays_small() {
        let bytes = returned_bytes(serve);
        assert!(bytes <= 2816, "{bytes} bytes");
    }
}
