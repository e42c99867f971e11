//! What gRPC says in its own words: which requests are gRPC, their deadlines, and how an answer of the gateway's own is
//! told so that a gRPC client understands it. Opens nothing, waits for nothing.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use ir::Timeouts;

use crate::answer::Payload;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Status codes of gRPC, as they stand in `grpc-status`.
mod code {
    pub(super) const UNKNOWN: u8 = 2;
    pub(super) const DEADLINE_EXCEEDED: u8 = 4;
    pub(super) const PERMISSION_DENIED: u8 = 7;
    pub(super) const RESOURCE_EXHAUSTED: u8 = 8;
    pub(super) const UNIMPLEMENTED: u8 = 12;
    pub(super) const INTERNAL: u8 = 13;
    pub(super) const UNAVAILABLE: u8 = 14;
    pub(super) const UNAUTHENTICATED: u8 = 16;
}

/// Whether these are fields of a gRPC request or answer: `application/grpc`, with or without a format. gRPC-Web is
/// something else.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return false };
    let expected = APPLICATION_GRPC;
    let Some((start, rest)) = value.as_bytes().split_at_checked(expected.len()) else { return false };
    start.eq_ignore_ascii_case(expected.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// The route's timeouts, with the client's own deadline where that comes first.
pub(crate) fn timeouts<'a>(of_route: &'a Timeouts, headers: &HeaderMap) -> Cow<'a, Timeouts> {
    let Some(deadline) = headers.get(GRPC_TIMEOUT).and_then(|value| parse_timeout(value.as_bytes())) else {
        return Cow::Borrowed(of_route);
    };
    if of_route.request.is_some_and(|request| request <= deadline) {
        return Cow::Borrowed(of_route);
    }
    Cow::Owned(Timeouts { request: Some(deadline), ..of_route.clone() })
}

/// At most eight digits and a unit. What is malformed counts as not said: it is the upstream's to judge.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Whether an answer that consists of its head alone says that the service can't be had now.
pub(crate) fn is_unavailable(headers: &HeaderMap) -> bool {
    headers.get(GRPC_STATUS).is_some_and(|status| status.as_bytes() == b"14")
}

/// Tells an answer of the gateway's own in the words of gRPC: a head alone, with status and message. What else stands in
/// it (the decision, when to come again) stays. `is_late`: a deadline has passed.
pub(crate) fn translate(response: &mut Response<Payload>, message: &str, is_late: bool) {
    // A fixed answer that is gRPC already is its author's own word.
    if is_grpc(response.headers()) {
        return;
    }
    let code = code_of(response.status(), is_late);
    *response.status_mut() = StatusCode::OK;
    *response.body_mut() = Payload::Empty;
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, APPLICATION_GRPC);
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code)));
    if let Ok(message) = HeaderValue::try_from(encode(message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
}

/// An answer of the gateway's own with this status.
pub(crate) fn own_answer(status: u8, message: &str) -> Response<Payload> {
    let mut response = Response::new(Payload::Empty);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, APPLICATION_GRPC);
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status)));
    if let Ok(message) = HeaderValue::try_from(encode(message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}

/// The table of gRPC's "HTTP to gRPC Status Code Mapping", which clients use for answers that are not gRPC; so they see
/// the same as without the translation. Two rows go beyond it, because the gateway knows more than a status tells: a 504
/// by a deadline, and a body that is too large (413), for which gRPC has a word of its own.
fn code_of(status: StatusCode, is_late: bool) -> u8 {
    match status {
        StatusCode::BAD_REQUEST => code::INTERNAL,
        StatusCode::UNAUTHORIZED => code::UNAUTHENTICATED,
        StatusCode::FORBIDDEN => code::PERMISSION_DENIED,
        StatusCode::NOT_FOUND => code::UNIMPLEMENTED,
        StatusCode::PAYLOAD_TOO_LARGE => code::RESOURCE_EXHAUSTED,
        StatusCode::GATEWAY_TIMEOUT if is_late => code::DEADLINE_EXCEEDED,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => code::UNAVAILABLE,
        _ => code::UNKNOWN,
    }
}

/// Percent-encodes what may not stand in `grpc-message`.
fn encode(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | 0..b' ' | 0x7f.. => ir::push_escape(&mut encoded, byte),
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_request_is_grpc_by_its_content_type() {
        for (value, want) in [
            ("application/grpc", true),
            ("Application/gRPC", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("application/g", false),
        ] {
            assert_eq!(is_grpc(&with(header::CONTENT_TYPE, value)), want, "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn timeouts_are_read_as_the_protocol_has_them() {
        for (value, want) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("0S", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000n", None),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            (" 1S", None),
            ("1 S", None),
        ] {
            assert_eq!(parse_timeout(value.as_bytes()), want, "{value:?}");
        }
    }

    #[test]
    fn the_earlier_of_two_deadlines_counts() {
        let second = Duration::from_secs(1);
        for (of_route, said, want) in [
            (None, "2S", Some(2 * second)),
            (Some(second), "2S", Some(second)),
            (Some(3 * second), "2S", Some(2 * second)),
            (Some(3 * second), "soon", Some(3 * second)),
            (None, "soon", None),
        ] {
            let route = Timeouts { request: of_route, ..Timeouts::default() };
            let got = timeouts(&route, &with(GRPC_TIMEOUT, said)).request;
            assert_eq!(got, want, "{of_route:?} {said}");
        }
    }

    #[test]
    fn statuses_become_those_of_grpc() {
        for (status, is_late, want) in [
            (400, false, "13"),
            (401, false, "16"),
            (403, false, "7"),
            (404, false, "12"),
            (413, false, "8"),
            (429, false, "14"),
            (502, false, "14"),
            (503, false, "14"),
            (504, false, "14"),
            (504, true, "4"),
            (500, false, "2"),
            (301, false, "2"),
            (200, false, "2"),
        ] {
            let mut response = Response::new(Payload::Full("text".into()));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            translate(&mut response, "50 % größer\n", is_late);
            assert_eq!(response.status(), 200, "{status}");
            assert!(matches!(response.body(), Payload::Empty), "{status}");
            let field = |name: &str| response.headers()[name].to_str().unwrap();
            assert_eq!(field("content-type"), "application/grpc", "{status}");
            assert_eq!(field("grpc-status"), want, "{status}");
            assert_eq!(field("grpc-message"), "50 %25 gr%C3%B6%C3%9Fer%0A", "{status}");
            assert_eq!(field("retry-after"), "1", "{status}");
        }
    }

    #[test]
    fn a_fixed_answer_that_is_grpc_is_left_alone() {
        let mut response = Response::new(Payload::Full("frame".into()));
        response.headers_mut().insert(header::CONTENT_TYPE, APPLICATION_GRPC);
        translate(&mut response, "", false);
        assert!(matches!(response.body(), Payload::Full(_)));
        assert!(!response.headers().contains_key(GRPC_STATUS));
    }
}
