//! Asks a service whether a request may pass: by the way that requests to backends go, polled by that very request, so
//! that the question ends with it. What an answer means is `filter::auth`'s.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio::time;

use super::{Notes, Stage};
use crate::answer::Payload;
use crate::body::RequestBody;
use crate::filter::auth::{
    AnswerCache, AuthAnswer, AuthRequest, External, ExternalNeed, ExternalVerdict, Look, Meaning,
    is_navigation, meaning, render, sign_in,
};
use crate::filter::client_cert;
use crate::generation::{RouteBackend, RouteRuntime};
use crate::observe::ExternalResult;
use crate::request::Asked;
use crate::upstream::{Aside, Forwarded, Own, Trail, UpstreamBody, forward};

/// A longer body of a refusal is left out.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// How long the rest of an answer that lets a request pass is waited for, so that its connection can be used again.
const REST_TIME_MAX: Duration = Duration::from_millis(50);

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a question brought.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) answer: AuthAnswer,
    /// What the client gets, where the service refuses.
    pub(super) response: Option<Box<Response<Payload>>>,
}

/// An answer as it is judged.
struct Judged {
    verdict: ExternalVerdict,
    response: Option<Box<Response<Payload>>>,
    result: ExternalResult,
}

impl Stage<'_> {
    /// Asks, unless an answer is kept that counts for the request.
    pub(super) async fn ask_external(
        &self,
        (asked, body): (&mut Asked, &RequestBody),
        runtime: &RouteRuntime,
        need: &ExternalNeed,
        notes: &mut Notes,
    ) -> Told {
        let (external, answers) = (&need.external, &self.worker.auth_answers);
        let metrics = runtime.metrics.external();
        let key = external.key(asked, &answers.borrow());
        let mut look = key.map(|key| AnswerCache::look(answers, key, Instant::now()));
        if let (Some(Look::Wait(other)), Some(key)) = (&look, key) {
            let told = other.notified();
            // It may have ended without an answer: then everybody asks for himself, rather than one after the other.
            drop(time::timeout(external.spec.timeout, told).await);
            look = Some(AnswerCache::look(answers, key, Instant::now()));
        }
        let turn = match look {
            Some(Look::Kept(pass)) => {
                metrics.count(ExternalResult::Cached);
                return Told { answer: need.answered(ExternalVerdict::Passed(pass)), response: None };
            }
            Some(Look::Ask(turn)) => Some(turn),
            Some(Look::Wait(_)) | None => None,
        };
        let judged = match runtime.auth_service(need.demand) {
            Some(service) => {
                let asked_at = Instant::now();
                let judged = self.ask((asked, body), (runtime, service), (external, asked_at), notes).await;
                metrics.took(asked_at.elapsed());
                judged
            }
            None => unanswered(external),
        };
        metrics.count(judged.result);
        if let (Some(key), ExternalVerdict::Passed(pass), Some(cache), true) =
            (key, &judged.verdict, &external.spec.cache, notes.cookies.is_empty())
        {
            // One that sets a cookie is for this client alone.
            answers.borrow_mut().insert(key, pass, (Instant::now(), cache.ttl));
        }
        drop(turn);
        Told { answer: need.answered(judged.verdict), response: judged.response }
    }

    async fn ask(
        &self,
        (asked, body): (&mut Asked, &RequestBody),
        (runtime, service): (&RouteRuntime, &RouteBackend),
        (external, asked_at): (&External, Instant),
        notes: &mut Notes,
    ) -> Judged {
        // The upstream gets the same one.
        let request_id = asked.request_id(&self.worker.random);
        asked.headers.insert(X_REQUEST_ID, request_id.clone());
        let mut headers = external.headers(asked);
        if let Some(client) = runtime.compiled.route.tls.as_ref().and_then(|tls| tls.client.as_ref()) {
            client_cert::tell(client, self.downstream, &mut headers);
        }
        let own = Own::new(asked, self.downstream, &request_id);
        let url = render(&external.spec.path, asked);
        let (path, query) = url.split_once('?').map_or((&*url, None), |(path, query)| (path, Some(query)));
        let question = Aside {
            worker: self.worker,
            upstream: (&service.backend, &service.protocol),
            route_metrics: &runtime.metrics,
            method: &external.spec.method,
            path,
            query,
            host: external.spec.host.as_bytes(),
            headers: &headers,
            own: own.lines(),
            started: asked_at,
        };
        // The request's own body is the backend's.
        let mut nothing = Some(body.nothing_beside());
        let Ok(forwarded) = forward(&question.on(&external.terms), &mut nothing, &mut Trail::default()).await
        else {
            return unanswered(external);
        };
        let Forwarded { head, body, .. } = forwarded;
        match meaning(head.status, &head.headers) {
            Meaning::Passes => {
                let cookies = head.headers.get_all(header::SET_COOKIE).iter().cloned();
                notes.cookies.extend(cookies);
                drop(time::timeout(REST_TIME_MAX, read(body)).await);
                Judged {
                    verdict: ExternalVerdict::Passed(Rc::new(external.pass(&head.headers))),
                    response: None,
                    result: ExternalResult::Passed,
                }
            }
            Meaning::Refused => refused(external, asked, (head.status, head.headers), body).await,
            Meaning::Failed => unanswered(external),
            Meaning::Unclear => Judged {
                verdict: ExternalVerdict::Unavailable,
                response: None,
                result: ExternalResult::Unavailable,
            },
        }
    }
}

fn unanswered(external: &External) -> Judged {
    let verdict = external.unanswered();
    let result = match verdict {
        ExternalVerdict::Opened => ExternalResult::Opened,
        ExternalVerdict::Passed(_) | ExternalVerdict::Refused | ExternalVerdict::Unavailable => {
            ExternalResult::Unavailable
        }
    };
    Judged { verdict, response: None, result }
}

/// The service's answer for the client, or the way to where people sign in.
async fn refused(
    external: &External,
    asked: &Asked,
    (status, mut headers): (StatusCode, HeaderMap),
    body: Option<Rc<RefCell<UpstreamBody>>>,
) -> Judged {
    let judged = |result, response| Judged {
        verdict: ExternalVerdict::Refused,
        response: Some(Box::new(response)),
        result,
    };
    // What it says of clients is between it and the upstream.
    for name in &external.spec.response_headers {
        if *name != header::SET_COOKIE && *name != header::WWW_AUTHENTICATE {
            headers.remove(name);
        }
    }
    let location = sign_in_location(external, asked, status);
    let bytes = read(body).await;
    if let Some(location) = location {
        let mut response = Response::new(Payload::Empty);
        *response.status_mut() = StatusCode::FOUND;
        response.headers_mut().insert(header::LOCATION, location);
        for cookie in headers.get_all(header::SET_COOKIE) {
            response.headers_mut().append(header::SET_COOKIE, cookie.clone());
        }
        return judged(ExternalResult::SignIn, response);
    }
    // The body is framed anew.
    headers.remove(header::CONTENT_LENGTH);
    let payload = match bytes {
        Some(bytes) => Payload::Full(bytes),
        None => {
            for name in
                [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE, header::ETAG]
            {
                headers.remove(name);
            }
            Payload::Empty
        }
    };
    let mut response = Response::new(payload);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    judged(ExternalResult::Refused, response)
}

fn sign_in_location(external: &External, asked: &Asked, status: StatusCode) -> Option<HeaderValue> {
    let page = external.spec.sign_in.as_ref().filter(|_| status == StatusCode::UNAUTHORIZED)?;
    let request = AuthRequest {
        headers: &asked.headers,
        query: asked.query(),
        method: &asked.method,
        client: asked.client_for_rules(),
    };
    if is_navigation(&request) { sign_in(page, asked) } else { None }
}

/// The whole of a body. `None`: it is too long, or broke off; its connection is closed then.
async fn read(body: Option<Rc<RefCell<UpstreamBody>>>) -> Option<Bytes> {
    let Some(body) = body else { return Some(Bytes::new()) };
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.borrow_mut().poll_frame(cx)).await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if whole.len() + data.len() > REFUSAL_BYTES_MAX {
            return None;
        }
        whole.extend_from_slice(&data);
    }
    Some(whole.freeze())
}
