//! Answers: the body that hyper sends, whatever it comes from, and the gateway's own small ones.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};

use crate::error::Reason;
use crate::filter::grpc_web::WebBody;
use crate::record::Record;
use crate::upstream::UpstreamBody;

/// The header that names a refusal; the access log has the same id.
pub(crate) const DECISION: HeaderName = HeaderName::from_static("x-baribhara-decision");
/// The winning route, only with `--debug-errors`.
pub(crate) const ROUTE: HeaderName = HeaderName::from_static("x-baribhara-route");

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What an answer carries.
#[derive(Debug)]
pub(crate) enum Payload {
    Empty,
    Full(Bytes),
    /// Shared with the connection only while the request is still being sent upstream.
    Upstream(Rc<RefCell<UpstreamBody>>),
    GrpcWeb(WebBody),
}

/// The body of an answer and the record that is finished with it.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    payload: Payload,
    /// `None`: a tunnel follows, which finishes it.
    record: Option<Record>,
}

/// The upstream broke off within its body. hyper cuts the client's connection, so that nobody takes the part for the
/// whole (hardening BE03).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream broke off")]
pub(crate) struct Truncated;

impl AnswerBody {
    pub(crate) fn new(payload: Payload, record: Record) -> Self {
        Self { payload, record: Some(record) }
    }

    /// That of 101.
    pub(crate) fn before_tunnel() -> Self {
        Self { payload: Payload::Empty, record: None }
    }

    /// Whether more may be handed to hyper now.
    fn may_go_on(&self) -> bool {
        self.record.as_ref().is_none_or(|record| record.downstream().may_buffer_more())
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Truncated;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Truncated>>> {
        let may_go_on = self.may_go_on();
        let this = &mut *self;
        let polled = match &mut this.payload {
            Payload::Empty => Poll::Ready(None),
            Payload::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.payload = Payload::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Payload::Upstream(_) | Payload::GrpcWeb(_) if !may_go_on => return Poll::Pending,
            Payload::Upstream(body) => body.borrow_mut().poll_frame(cx).map_err(|_| Truncated),
            Payload::GrpcWeb(body) => body.poll_frame(cx).map_err(|_| Truncated),
        };
        let Some(record) = &mut this.record else { return polled };
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    record.on_data(data.len());
                }
            }
            Poll::Ready(Some(Err(_)) | None) => record.finish(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.payload {
            Payload::Empty => true,
            Payload::Full(bytes) => bytes.is_empty(),
            Payload::Upstream(body) => body.borrow().is_finished(),
            Payload::GrpcWeb(body) => body.is_finished(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.payload {
            Payload::Empty => SizeHint::with_exact(0),
            Payload::Full(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Payload::Upstream(body) => {
                body.borrow().left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Payload::GrpcWeb(_) => SizeHint::default(),
        }
    }
}

/// Names an answer that the gateway made itself.
pub(crate) fn insert_decision(headers: &mut HeaderMap, decision: &[u8; 16]) {
    if let Ok(id) = HeaderValue::from_bytes(decision) {
        headers.insert(DECISION, id);
    }
}

/// What a refusal says to the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem<'a> {
    pub(crate) reason: Reason,
    /// Another status than the reason's.
    pub(crate) status: Option<StatusCode>,
    pub(crate) decision: &'a [u8; 16],
    pub(crate) json: bool,
    /// Only with `--debug-errors`: names of routes and what went wrong inside.
    pub(crate) detail: Option<&'a str>,
}

/// A small, typed answer (RFC 9457 for who takes JSON).
pub(crate) fn problem(problem: &Problem<'_>) -> Response<Payload> {
    let Problem { reason, status, decision, json, detail } = *problem;
    let status = status.unwrap_or(reason.status());
    let id = std::str::from_utf8(decision).unwrap_or_default();
    let body = if json {
        json_body(problem, status.as_str(), id)
    } else {
        let detail = detail.map(|detail| format!("{detail}\n")).unwrap_or_default();
        format!("{} {}\n{detail}decision: {id}\n", status.as_str(), reason.title())
    };
    let mut response = Response::new(Payload::Full(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, if json { PROBLEM_JSON } else { PLAIN_TEXT });
    insert_decision(headers, decision);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"));
    }
    response
}

/// Put together by hand: who is refused should cost little, and only `detail` can hold what JSON must escape.
fn json_body(problem: &Problem<'_>, status: &str, decision: &str) -> String {
    let reason = problem.reason;
    let parts = [
        "{\"type\":\"urn:baribhara:problem:",
        reason.name(),
        "\",\"title\":\"",
        reason.title(),
        "\",\"status\":",
        status,
        ",\"decision\":\"",
        decision,
        "\"",
    ];
    debug_assert!(!reason.name().contains(['"', '\\']) && !reason.title().contains(['"', '\\']));
    let mut body = String::with_capacity(parts.iter().map(|part| part.len()).sum::<usize>() + 1);
    body.extend(parts);
    if let Some(detail) = problem.detail {
        body.push_str(",\"detail\":");
        body.push_str(&serde_json::Value::from(detail).to_string());
    }
    body.push('}');
    body
}

#[cfg(test)]
mod tests {
    use super::{Problem, json_body};
    use crate::error::Reason;

    #[test]
    fn what_is_put_together_is_json() {
        for reason in [Reason::RateLimited, Reason::Unauthenticated, Reason::BreakerOpen] {
            for detail in [None, Some("a \"quote\", a \\ and\na line")] {
                let problem =
                    Problem { reason, status: None, decision: b"0123456789abcdef", json: true, detail };
                let body = json_body(&problem, "429", "0123456789abcdef");
                let read: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert_eq!(read["type"], format!("urn:baribhara:problem:{}", reason.name()));
                assert_eq!((&read["title"], &read["status"]), (&reason.title().into(), &429.into()));
                assert_eq!(read["decision"], "0123456789abcdef");
                assert_eq!(read.get("detail").and_then(serde_json::Value::as_str), detail);
            }
        }
    }
}
