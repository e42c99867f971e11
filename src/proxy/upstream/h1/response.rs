//! The head of an answer from an upstream: parsed strictly, hop-by-hop fields taken out, the framing decided once.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

/// The longest head in bytes and the most fields that an upstream may send (hardening BE08).
const HEAD_BYTES_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 128;

/// An answer's head, ready to be sent on.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) framing: Framing,
    /// The upstream will take another request on this connection.
    pub(crate) keep_alive: bool,
}

impl ResponseHead {
    /// Whether the upstream changes to this protocol and no other (RFC 9110 §15.2.2).
    pub(crate) fn switches_to(&self, protocol: &str) -> bool {
        let mut named = self.headers.get_all(header::UPGRADE).iter();
        self.status == StatusCode::SWITCHING_PROTOCOLS
            && named.next().is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()))
            && named.next().is_none()
    }
}

/// How the end of a body is known (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// Why a head was refused. The connection is closed, the client gets 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("the answer's head is malformed")]
    Malformed,
    #[error("the answer's head is larger than 64 KiB or has more than 128 fields")]
    TooLarge,
    #[error("the answer's framing is ambiguous")]
    Framing,
}

/// Takes one whole head off the front of `buffer`; `None`: more bytes are needed.
pub(crate) fn parse(buffer: &mut BytesMut, method: &Method) -> Result<Option<ResponseHead>, HeadError> {
    let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") else {
        // A head whose lines end in a bare LF never gets an end that counts: it need not be waited for.
        if memchr::memmem::find(buffer, b"\n\n").is_some() {
            return Err(HeadError::Malformed);
        }
        return if buffer.len() > HEAD_BYTES_MAX { Err(HeadError::TooLarge) } else { Ok(None) };
    };
    if end + 4 > HEAD_BYTES_MAX {
        return Err(HeadError::TooLarge);
    }
    let bytes = buffer.split_to(end + 4).freeze();
    if has_bare_lf(&bytes) {
        return Err(HeadError::Malformed);
    }
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        &bytes,
        &mut fields,
    ) {
        Ok(httparse::Status::Complete(used)) if used == bytes.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Ok(_) | Err(_) => return Err(HeadError::Malformed),
    }
    let status =
        response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(HeadError::Malformed)?;
    let http11 = response.version == Some(1);
    collect(&bytes, response.headers, status, http11, method).map(Some)
}

/// httparse takes a bare LF for the end of a line; others do not, and would see other fields.
fn has_bare_lf(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head.get(at - 1) != Some(&b'\r'))
}

/// What the hop-by-hop fields said.
#[derive(Default)]
struct Hop {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    chunked: bool,
    length: Option<u64>,
    named: Vec<HeaderName>,
}

fn collect(
    bytes: &Bytes,
    fields: &[httparse::Header<'_>],
    status: StatusCode,
    http11: bool,
    method: &Method,
) -> Result<ResponseHead, HeadError> {
    let mut headers = HeaderMap::with_capacity(fields.len() + 4);
    let mut hop = Hop::default();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadError::Malformed)?;
        match name {
            header::CONNECTION => hop.connection(field.value),
            header::TRANSFER_ENCODING => {
                if hop.chunked || !field.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(HeadError::Framing);
                }
                hop.chunked = true;
            }
            header::CONTENT_LENGTH => {
                if hop.length.is_some() {
                    return Err(HeadError::Framing);
                }
                hop.length = Some(parse_length(field.value).ok_or(HeadError::Framing)?);
            }
            // Elsewhere it only advertises, and to this hop (RFC 9110 §7.8).
            header::UPGRADE if !is_about_upgrade(status) => {}
            header::TE => {}
            _ if name == "keep-alive" || name.as_str().starts_with("proxy-") => {}
            _ => {
                let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value))
                    .map_err(|_| HeadError::Malformed)?;
                headers.append(name, value);
            }
        }
    }
    if hop.chunked && hop.length.is_some() {
        return Err(HeadError::Framing);
    }
    for name in &hop.named {
        headers.remove(name);
    }
    if status == StatusCode::SWITCHING_PROTOCOLS && !hop.upgrade {
        headers.remove(header::UPGRADE);
    }
    // RFC 9110 §15.5.22: it says what would be accepted, which this hop can pass on.
    if status == StatusCode::UPGRADE_REQUIRED && headers.contains_key(header::UPGRADE) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let framing = hop.framing(status, method);
    let has_no_length = status == StatusCode::NO_CONTENT || status.is_informational();
    if let (Some(length), false) = (hop.length, has_no_length) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    // Bytes of a body that must not be there would be taken for the next answer.
    let stray_body = match status {
        StatusCode::NO_CONTENT => hop.chunked || hop.length.is_some_and(|length| length > 0),
        StatusCode::NOT_MODIFIED => hop.chunked,
        _ => false,
    };
    let persistent = if http11 { !hop.close } else { hop.keep_alive && !hop.close };
    let keep_alive = persistent && framing != Framing::UntilClose && !stray_body;
    Ok(ResponseHead { status, headers, framing, keep_alive })
}

/// The answers whose `Upgrade` counts for the request.
fn is_about_upgrade(status: StatusCode) -> bool {
    matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED)
}

impl Hop {
    fn connection(&mut self, value: &[u8]) {
        for token in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if let Ok(name) = HeaderName::from_bytes(token) {
                self.named.push(name);
            }
        }
    }

    fn framing(&self, status: StatusCode, method: &Method) -> Framing {
        let bodiless = method == Method::HEAD
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        match (bodiless, self.chunked, self.length) {
            (true, ..) | (false, false, Some(0)) => Framing::None,
            (false, true, _) => Framing::Chunked,
            (false, false, Some(length)) => Framing::Length(length),
            (false, false, None) => Framing::UntilClose,
        }
    }
}

/// Digits only, at most 19 of them.
fn parse_length(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str, method: &Method) -> Result<Option<ResponseHead>, HeadError> {
        parse(&mut BytesMut::from(text.as_bytes()), method)
    }

    #[test]
    fn framing_follows_the_table_of_rfc_9112() {
        let cases = [
            ("length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Method::GET, Framing::Length(5), true),
            (
                "chunked",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                Method::GET,
                Framing::Chunked,
                true,
            ),
            ("until close", "HTTP/1.1 200 OK\r\n\r\n", Method::GET, Framing::UntilClose, false),
            ("head", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Method::HEAD, Framing::None, true),
            ("204", "HTTP/1.1 204 No Content\r\n\r\n", Method::GET, Framing::None, true),
            (
                "204 with a body",
                "HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n",
                Method::GET,
                Framing::None,
                false,
            ),
            (
                "304",
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
                Method::GET,
                Framing::None,
                true,
            ),
            (
                "close",
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                Method::GET,
                Framing::None,
                false,
            ),
            ("1.0", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", Method::GET, Framing::Length(1), false),
            (
                "1.0 keep",
                "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\n",
                Method::GET,
                Framing::Length(1),
                true,
            ),
        ];
        for (name, text, method, framing, keep_alive) in cases {
            let head = head(text, &method).unwrap().unwrap();
            assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{name}");
        }
    }

    #[test]
    fn ambiguous_or_malformed_heads_are_refused() {
        for (text, want) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                HeadError::Framing,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", HeadError::Framing),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", HeadError::Framing),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", HeadError::Framing),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                HeadError::Framing,
            ),
            ("HTTP/1.1 200 OK\r\nbad header\r\n\r\n", HeadError::Malformed),
            ("SSH-2.0\r\n\r\n", HeadError::Malformed),
            ("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", HeadError::Malformed),
            ("HTTP/1.1 200 OK\nA: b\n\n", HeadError::Malformed),
        ] {
            assert_eq!(head(text, &Method::GET).unwrap_err(), want, "{text:?}");
        }
    }

    #[test]
    fn hop_by_hop_fields_and_what_connection_names_stay_behind() {
        let text = "HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nX-Stay: 2\r\nContent-Length: 0\r\n\r\n";
        let head = head(text, &Method::GET).unwrap().unwrap();
        let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-stay", "content-length"]);
    }

    #[test]
    fn upgrade_counts_only_where_the_answer_is_about_it() {
        for (name, text, switches, upgrade) in [
            ("as it should be", "101 S\r\nConnection: Upgrade\r\nUpgrade: WebSocket", true, true),
            ("among others", "101 S\r\nConnection: keep-alive, upgrade\r\nUpgrade: websocket", true, true),
            ("no Connection", "101 S\r\nUpgrade: websocket", false, false),
            ("no Upgrade", "101 S\r\nConnection: upgrade", false, false),
            ("another one", "101 S\r\nConnection: upgrade\r\nUpgrade: h2c", false, true),
            ("two", "101 S\r\nConnection: upgrade\r\nUpgrade: websocket, h2c", false, true),
            ("twice", "101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c", false, true),
            ("200", "200 OK\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0", false, false),
            ("426", "426 No\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0", false, true),
        ] {
            let head = head(&format!("HTTP/1.1 {text}\r\n\r\n"), &Method::GET).unwrap().unwrap();
            assert_eq!(head.switches_to("websocket"), switches, "{name}");
            assert_eq!(head.headers.contains_key(header::UPGRADE), upgrade, "{name}");
            assert_eq!(head.headers.contains_key(header::CONNECTION), head.status.as_u16() == 426, "{name}");
        }
    }

    #[test]
    fn a_101_has_no_length() {
        let text = "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 7\r\n\r\n";
        let head = head(text, &Method::GET).unwrap().unwrap();
        assert_eq!(head.framing, Framing::None);
        assert!(!head.headers.contains_key(header::CONTENT_LENGTH));
    }

    #[test]
    fn a_partial_head_waits_and_a_huge_one_is_refused() {
        assert!(head("HTTP/1.1 200 OK\r\nA: b\r\n", &Method::GET).unwrap().is_none());
        let huge = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(head(&huge, &Method::GET).unwrap_err(), HeadError::TooLarge);
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1));
        assert_eq!(head(&many, &Method::GET).unwrap_err(), HeadError::TooLarge);
    }
}
