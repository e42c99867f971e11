//! Chunked transfer coding (RFC 9112 §7.1) of answers, strictly: CRLF only, digits only, bounds on everything.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The longest chunk-size line or trailer section in bytes.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Where in the coding the decoder stands.
#[derive(Debug)]
pub(crate) struct Chunked {
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// What one step of decoding gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    /// The whole body was read.
    End,
    /// More bytes are needed.
    More,
}

/// The bytes are not a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chunked coding is malformed")]
pub(crate) struct Malformed;

impl Chunked {
    pub(crate) fn new() -> Self {
        Self { state: State::Size }
    }

    /// Takes what it can use off the front of `buffer`.
    pub(crate) fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, Malformed> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = take_line(buffer)? else { return Ok(Step::More) };
                    let size = parse_size(&line)?;
                    self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Data(left) => {
                    if buffer.is_empty() {
                        return Ok(Step::More);
                    }
                    let available = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
                    let taken = left.min(available);
                    self.state = if taken == left { State::DataEnd } else { State::Data(left - taken) };
                    let taken = usize::try_from(taken).map_err(|_| Malformed)?;
                    return Ok(Step::Data(buffer.split_to(taken).freeze()));
                }
                State::DataEnd => match buffer.as_ref() {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Step::More),
                    _ => return Err(Malformed),
                },
                State::Trailers => return self.trailers(buffer),
                State::Done => return Ok(Step::End),
            }
        }
    }

    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Step, Malformed> {
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            self.state = State::Done;
            return Ok(Step::End);
        }
        let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") else {
            return if buffer.len() > LINE_BYTES_MAX { Err(Malformed) } else { Ok(Step::More) };
        };
        let section = buffer.split_to(end + 4).freeze();
        self.state = State::Done;
        parse_trailers(&section).map(Step::Trailers)
    }
}

/// Takes a line without its CRLF.
fn take_line(buffer: &mut BytesMut) -> Result<Option<BytesMut>, Malformed> {
    match memchr::memchr(b'\n', buffer) {
        Some(end) if end <= LINE_BYTES_MAX => {
            let mut line = buffer.split_to(end + 1);
            if !line.ends_with(b"\r\n") {
                return Err(Malformed);
            }
            line.truncate(line.len() - 2);
            Ok(Some(line))
        }
        None if buffer.len() <= LINE_BYTES_MAX => Ok(None),
        Some(_) | None => Err(Malformed),
    }
}

/// `1*HEXDIG [ chunk-ext ]`; at most 16 digits, no sign, no blank before an extension's `;` but what RFC 9112 allows.
fn parse_size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at(digits);
    let extension = rest.trim_ascii_start();
    if digits == 0 || digits > 16 || !(extension.is_empty() || extension.starts_with(b";")) {
        return Err(Malformed);
    }
    if extension.iter().any(|&byte| byte == b'\r' || byte == 0) {
        return Err(Malformed);
    }
    let text = std::str::from_utf8(size).map_err(|_| Malformed)?;
    u64::from_str_radix(text, 16).map_err(|_| Malformed)
}

/// Trailer fields; those that frame, route or authorise are dropped (RFC 9110 §6.5.1).
fn parse_trailers(section: &Bytes) -> Result<HeaderMap, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let httparse::Status::Complete((_, fields)) =
        httparse::parse_headers(section, &mut fields).map_err(|_| Malformed)?
    else {
        return Err(Malformed);
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed)?;
        let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value)).map_err(|_| Malformed)?;
        if is_trailer_allowed(&name) {
            trailers.append(name, value);
        }
    }
    Ok(trailers)
}

/// Whether a field may stand in a trailer section: nothing that frames, routes, authorises or says who the client is.
pub(crate) fn is_trailer_allowed(name: &HeaderName) -> bool {
    !matches!(
        name.as_str(),
        "content-length"
            | "transfer-encoding"
            | "content-encoding"
            | "content-type"
            | "content-range"
            | "host"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "upgrade"
            | "authorization"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "www-authenticate"
            | "cookie"
            | "set-cookie"
            | "expect"
            | "forwarded"
            | "x-real-ip"
            | "x-request-id"
            | "cache-control"
            | "max-forwards"
    ) && !name.as_str().starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(parts: &[&[u8]]) -> Result<(Vec<u8>, Option<HeaderMap>, bool), Malformed> {
        let (mut decoder, mut buffer) = (Chunked::new(), BytesMut::new());
        let (mut data, mut trailers, mut ended) = (Vec::new(), None, false);
        for part in parts {
            buffer.extend_from_slice(part);
            loop {
                match decoder.step(&mut buffer)? {
                    Step::Data(bytes) => data.extend_from_slice(&bytes),
                    Step::Trailers(fields) => trailers = Some(fields),
                    Step::End => {
                        ended = true;
                        break;
                    }
                    Step::More => break,
                }
            }
        }
        Ok((data, trailers, ended))
    }

    #[test]
    fn a_body_decodes_the_same_however_it_is_cut() {
        let whole = b"5\r\nhello\r\n1;ext=\"a\"\r\n!\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\n";
        for cut in 0..whole.len() {
            let (left, right) = whole.split_at(cut);
            let (data, trailers, ended) = decode(&[left, right]).unwrap();
            assert_eq!(data, b"hello!", "cut at {cut}");
            let trailers = trailers.unwrap();
            assert_eq!(trailers.get("x-sum").unwrap(), "7");
            assert!(trailers.get("content-length").is_none(), "framing fields are dropped");
            assert!(ended);
        }
    }

    #[test]
    fn malformed_codings_are_refused() {
        for bad in [
            &b"0x5\r\nhello\r\n0\r\n\r\n"[..],
            b"+5\r\nhello\r\n",
            b"-5\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5_\r\nhello\r\n",
            b"\r\n",
            b"11111111111111111\r\n",
            b"5\nhello\n0\n\n",
            b"5\r\nhelloX\r\n0\r\n\r\n",
            b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        ] {
            assert_eq!(decode(&[bad]).unwrap_err(), Malformed, "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn an_endless_size_line_is_refused() {
        let line = vec![b'a'; LINE_BYTES_MAX + 2];
        assert!(decode(&[b"5;", &line]).is_err());
    }
}
