//! The head of a request to an upstream, written straight from the client's header map into the connection's buffer.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::body::RequestFraming;

/// Everything that stands in the head beside the client's own fields.
#[derive(Debug)]
pub(crate) struct OutgoingHead<'a> {
    pub(crate) method: &'a Method,
    /// Canonical (or rewritten) path.
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) host: &'a [u8],
    /// The client's fields after all policies. Framing and hop-by-hop fields and what [`Self::own`] sets are left out.
    pub(crate) headers: &'a HeaderMap,
    /// The gateway's own fields as whole lines. Empty: they stand among `headers`, and the rule's edits with them.
    pub(crate) own: &'a [u8],
    pub(crate) framing: RequestFraming,
    /// The protocol to change to.
    pub(crate) upgrade: Option<&'a str>,
}

/// Appends the head to `out`.
pub(crate) fn encode_head(head: &OutgoingHead<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.path.as_bytes());
    if let Some(query) = head.query {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    field(out, b"host", head.host);
    for (name, value) in head.headers {
        if is_forwarded(name, value) && (head.own.is_empty() || !is_own(name.as_str())) {
            field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(head.own);
    if takes_trailers(head.headers) {
        field(out, b"te", b"trailers");
    }
    if let Some(protocol) = head.upgrade {
        field(out, b"connection", b"upgrade");
        field(out, b"upgrade", protocol.as_bytes());
    }
    match head.framing {
        RequestFraming::Length(length) => {
            field(out, b"content-length", itoa::Buffer::new().format(length).as_bytes());
        }
        RequestFraming::Chunked => field(out, b"transfer-encoding", b"chunked"),
        // RFC 9110 §8.6: a method that gives a body a meaning says that there is none.
        RequestFraming::None if matches!(*head.method, Method::POST | Method::PUT | Method::PATCH) => {
            field(out, b"content-length", b"0");
        }
        RequestFraming::None => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Of `TE` only `trailers` goes on.
pub(in crate::upstream) fn takes_trailers(headers: &HeaderMap) -> bool {
    let tokens =
        headers.get_all(header::TE).iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    tokens.map(<[u8]>::trim_ascii).any(|token| token.eq_ignore_ascii_case(b"trailers"))
}

/// Whether a client's field goes on: not what frames this connection (RFC 9110 §7.6.1), nor what the gateway says
/// itself about the client.
pub(in crate::upstream) fn is_forwarded(name: &HeaderName, value: &HeaderValue) -> bool {
    match *name {
        header::HOST
        | header::CONNECTION
        | header::CONTENT_LENGTH
        | header::TRANSFER_ENCODING
        | header::TRAILER
        | header::UPGRADE
        | header::PROXY_AUTHORIZATION
        | header::PROXY_AUTHENTICATE
        | header::FORWARDED => false,
        header::TE => false,
        header::EXPECT => value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
        _ => match name.as_str().as_bytes().first() {
            Some(b'k') => name.as_str() != "keep-alive",
            Some(b'p') => !name.as_str().starts_with("proxy-"),
            Some(_) | None => true,
        },
    }
}

/// The names that only the gateway itself (or a rule) may send upstream.
pub(crate) fn is_own(name: &str) -> bool {
    name.starts_with("x-")
        && matches!(
            name,
            "x-forwarded-for"
                | "x-forwarded-proto"
                | "x-forwarded-host"
                | "x-forwarded-port"
                | "x-forwarded-prefix"
                | "x-forwarded-server"
                | "x-real-ip"
                | "x-request-id"
        )
}
