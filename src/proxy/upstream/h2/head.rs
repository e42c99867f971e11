//! Heads over HTTP/2: the request's made of what the gateway would send in HTTP/1.1, the answer's brought into the form
//! that is sent on.

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header};

use crate::body::RequestFraming;
use crate::upstream::h1::{Framing, OutgoingHead, ResponseHead, is_forwarded, is_own, takes_trailers};

/// The most fields that an upstream may send (hardening BE08).
const FIELDS_MAX: usize = 128;

/// The request without its body. `None`: its host or path can't stand in one (RFC 9113 §8.3.1).
pub(crate) fn request(head: &OutgoingHead<'_>, scheme: Scheme, endpoint: &str) -> Option<Request<()>> {
    // HTTP/1.0 may name no host; HTTP/2 must.
    let host = if head.host.is_empty() { endpoint.as_bytes() } else { head.host };
    let path = match head.query {
        None => Bytes::copy_from_slice(head.path.as_bytes()),
        Some(query) => [head.path, "?", query].concat().into(),
    };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(Authority::try_from(host).ok()?)
        .path_and_query(PathAndQuery::from_maybe_shared(path).ok()?)
        .build()
        .ok()?;
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = fields(head);
    Some(request)
}

fn fields(head: &OutgoingHead<'_>) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(head.headers.len() + 10);
    for (name, value) in head.headers {
        // Bodies are sent without being asked for: an expectation has nothing to say here.
        let passes = is_forwarded(name, value) && name != header::EXPECT;
        if passes && (head.own.is_empty() || !is_own(name.as_str())) {
            fields.append(name.clone(), value.clone());
        }
    }
    for line in head.own.split(|&byte| byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    if takes_trailers(head.headers) {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    match head.framing {
        RequestFraming::Length(length) => {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        // RFC 9110 §8.6: a method that gives a body a meaning says that there is none.
        RequestFraming::None if matches!(*head.method, Method::POST | Method::PUT | Method::PATCH) => {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        }
        RequestFraming::None | RequestFraming::Chunked => {}
    }
    fields
}

/// The answer's head. h2 has refused what frames a connection and pseudo-header fields where none may be. `None`: it
/// can't be sent on.
pub(super) fn response(
    status: StatusCode,
    mut headers: HeaderMap,
    method: &Method,
    has_ended: bool,
) -> Option<ResponseHead> {
    if headers.len() > FIELDS_MAX {
        return None;
    }
    let length = length(&headers)?;
    let hop: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("proxy-")).cloned().collect();
    for name in hop.iter().chain([&header::TE, &header::CONTENT_LENGTH]) {
        headers.remove(name);
    }
    if let (Some(length), false) = (length, status == StatusCode::NO_CONTENT) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let bodiless = has_ended
        || method == Method::HEAD
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match length {
        _ if bodiless => Framing::None,
        // Trailers may follow an empty body all the same.
        None | Some(0) => Framing::Chunked,
        Some(length) => Framing::Length(length),
    };
    Some(ResponseHead { status, headers, framing, keep_alive: true })
}

/// What `Content-Length` says, if anything; `None`: nothing that can be sent on.
#[expect(clippy::option_option, reason = "the outer one is the fault")]
fn length(headers: &HeaderMap) -> Option<Option<u64>> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Some(None) };
    let digits = value.to_str().ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let length = digits.parse().ok().filter(|_| is_number && values.next().is_none())?;
    Some(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing<'a>(method: &'a Method, headers: &'a HeaderMap, framing: RequestFraming) -> OutgoingHead<'a> {
        OutgoingHead {
            method,
            path: "/a",
            query: Some("b=1"),
            host: b"shop.example:81",
            headers,
            own: b"x-forwarded-for: 192.0.2.1\r\nx-request-id: 7\r\n",
            framing,
            upgrade: None,
        }
    }

    #[test]
    fn a_request_carries_what_belongs_to_it_and_nothing_of_the_clients_connection() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "shop.example:81"),
            ("connection", "close"),
            ("keep-alive", "1"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-connection", "close"),
            ("expect", "100-continue"),
            ("te", "gzip, trailers"),
            ("x-forwarded-for", "6.6.6.6"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("x-mine", "1"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let head = outgoing(&Method::POST, &headers, RequestFraming::Chunked);
        let request = request(&head, Scheme::HTTPS, "192.0.2.9:80").unwrap();
        assert_eq!(request.uri(), "https://shop.example:81/a?b=1");
        let mut names: Vec<_> = request.headers().iter().collect();
        names.sort_by_key(|(name, _)| name.as_str());
        let want = [
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("te", "trailers"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-mine", "1"),
            ("x-request-id", "7"),
        ];
        let got: Vec<_> =
            names.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn a_request_without_a_host_names_the_endpoint_and_a_bad_host_is_refused() {
        let headers = HeaderMap::new();
        for (host, want) in [("", Some("192.0.2.9:80")), ("a.example", Some("a.example")), ("a b", None)] {
            let head = OutgoingHead {
                host: host.as_bytes(),
                ..outgoing(&Method::GET, &headers, RequestFraming::None)
            };
            let request = request(&head, Scheme::HTTP, "192.0.2.9:80");
            let got = request.as_ref().and_then(|request| request.uri().authority()).map(Authority::as_str);
            assert_eq!(got, want, "{host:?}");
        }
    }

    #[test]
    fn an_answers_framing_follows_from_its_head() {
        for (name, status, lengths, method, ended, want) in [
            ("length", 200, &["5"][..], Method::GET, false, Some(Framing::Length(5))),
            ("no length", 200, &[], Method::GET, false, Some(Framing::Chunked)),
            ("head only", 200, &[], Method::GET, true, Some(Framing::None)),
            ("head", 200, &["5"], Method::HEAD, false, Some(Framing::None)),
            ("204", 204, &[], Method::GET, false, Some(Framing::None)),
            ("304", 304, &["5"], Method::GET, false, Some(Framing::None)),
            ("two lengths", 200, &["5", "5"], Method::GET, false, None),
            ("no number", 200, &["+5"], Method::GET, false, None),
            ("too large", 200, &["99999999999999999999"], Method::GET, false, None),
        ] {
            let mut headers = HeaderMap::new();
            for length in lengths {
                headers.append(header::CONTENT_LENGTH, HeaderValue::from_static(length));
            }
            let status = StatusCode::from_u16(status).unwrap();
            let got = response(status, headers, &method, ended).map(|head| head.framing);
            assert_eq!(got, want, "{name}");
        }
    }
}
