//! gRPC-Web in front of gRPC (grpc/doc/PROTOCOL-WEB.md): a browser's request becomes one of gRPC, and the answer's trailers
//! become the last part of its body. Sends nothing itself, and keeps no message: parts go on as they come.

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Response, header};
use http_body::Frame;

use super::grpc;
use crate::answer::Payload;
use crate::body::RequestBody;
use crate::upstream::UpstreamBody;
use crate::upstream::h1::ExchangeError;

const WEB: &str = "application/grpc-web";
const WEB_TEXT: &str = "application/grpc-web-text";
const GRPC: &str = "application/grpc";

/// The first byte of the part that holds trailers, where messages have 0 or 1.
const TRAILERS: u8 = 0x80;

/// A request of gRPC-Web: which of the two forms it has, and which its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GrpcWeb {
    /// Its body is base64.
    is_text: bool,
    /// The answer's body is to be base64.
    wants_text: bool,
}

impl GrpcWeb {
    /// `None`: the request is none of gRPC-Web.
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Option<Self> {
        let content_type = headers.get(header::CONTENT_TYPE).filter(|_| method == Method::POST)?;
        let (is_text, _) = form(content_type.as_bytes())?;
        let accepted = headers.get(header::ACCEPT).and_then(|accept| form(accept.as_bytes()));
        Some(Self { is_text, wants_text: accepted.map_or(is_text, |(wants_text, _)| wants_text) })
    }

    /// Makes gRPC of the request.
    pub(crate) fn begin(self, headers: &mut HeaderMap, body: &mut RequestBody) {
        let content_type = headers.get(header::CONTENT_TYPE);
        let content_type = content_type
            .and_then(|value| form(value.as_bytes()))
            .and_then(|(_, rest)| HeaderValue::from_bytes(&[GRPC.as_bytes(), rest].concat()).ok());
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        // Without it servers send no trailers, and those that go by the book refuse the call.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if self.is_text {
            headers.remove(header::CONTENT_LENGTH);
            body.decode_base64();
        }
    }

    /// Makes gRPC-Web of an answer of gRPC; others are left alone. Trailers that stand in the head stay there.
    pub(crate) fn end(self, response: &mut Response<Payload>) {
        if !grpc::is_grpc(response.headers()) {
            return;
        }
        let web = if self.wants_text { WEB_TEXT } else { WEB };
        let headers = response.headers_mut();
        let format = headers.get(header::CONTENT_TYPE).and_then(|value| value.as_bytes().get(GRPC.len()..));
        let content_type = [web.as_bytes(), format.unwrap_or_default()].concat();
        if let Ok(content_type) = HeaderValue::from_bytes(&content_type) {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRAILER);
        let payload = mem::replace(response.body_mut(), Payload::Empty);
        *response.body_mut() = match payload {
            Payload::Full(bytes) => Payload::Full(self.written(bytes)),
            Payload::Upstream(body) => Payload::GrpcWeb(WebBody { body, web: self }),
            payload @ (Payload::Empty | Payload::GrpcWeb(_)) => payload,
        };
    }

    /// Each part is base64 for itself, with its padding, so that none waits for the next (PROTOCOL-WEB.md allows that
    /// wherever a server flushes).
    fn written(self, part: Bytes) -> Bytes {
        if self.wants_text { STANDARD.encode(part).into() } else { part }
    }
}

/// The answer's body. What its reader does not take stays upstream.
#[derive(Debug)]
pub(crate) struct WebBody {
    /// Shared as [`Payload::Upstream`] is.
    body: Rc<RefCell<UpstreamBody>>,
    web: GrpcWeb,
}

impl WebBody {
    pub(crate) fn is_finished(&self) -> bool {
        self.body.borrow().is_finished()
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let Some(frame) = ready!(self.body.borrow_mut().poll_frame(cx)) else { return Poll::Ready(None) };
        Poll::Ready(Some(frame.map(|frame| match frame.into_data() {
            Ok(data) => Frame::data(self.web.written(data)),
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => Frame::data(self.web.written(trailers_part(&trailers))),
                Err(frame) => frame,
            },
        })))
    }
}

/// Trailers as a part of the body: a block of fields as in HTTP/1.1 with names in lower case, without the empty line.
fn trailers_part(trailers: &HeaderMap) -> Bytes {
    let mut block = BytesMut::new();
    for (name, value) in trailers {
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            block.put_slice(piece);
        }
    }
    let mut part = BytesMut::with_capacity(block.len().saturating_add(5));
    part.put_u8(TRAILERS);
    // Trailers are bounded where they are read, far below 4 GiB.
    part.put_u32(u32::try_from(block.len()).unwrap_or(u32::MAX));
    part.put_slice(&block);
    part.freeze()
}

/// Whether it is the form in base64, and what follows: a format like `+proto`, parameters, or nothing. `None`: it is not
/// gRPC-Web.
fn form(content_type: &[u8]) -> Option<(bool, &[u8])> {
    for (is_text, name) in [(true, WEB_TEXT), (false, WEB)] {
        if let Some((start, rest)) = content_type.split_at_checked(name.len())
            && start.eq_ignore_ascii_case(name.as_bytes())
            && matches!(rest.first(), None | Some(b'+' | b';' | b',' | b' '))
        {
            return Some((is_text, rest));
        }
    }
    None
}

/// Reads base64 that comes in parts (RFC 4648 §4), whatever their borders. Padding may stand wherever a client flushed.
/// Keeps three letters at most.
#[derive(Debug, Default)]
pub(crate) struct Base64Reader {
    begun: [u8; 4],
    begun_len: usize,
}

impl Base64Reader {
    /// The bytes that are whole by now. `None`: it is no base64, and nothing more can be read.
    pub(crate) fn read(&mut self, mut part: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(part.len().div_ceil(4).saturating_add(1).saturating_mul(3));
        if self.begun_len > 0 {
            let (taken, rest) = part.split_at(part.len().min(4 - self.begun_len));
            self.keep(taken)?;
            part = rest;
            if self.begun_len < 4 {
                return Some(bytes);
            }
            STANDARD.decode_vec(self.begun, &mut bytes).ok()?;
            self.begun_len = 0;
        }
        let (mut whole, rest) = part.split_at(part.len() - part.len() % 4);
        while !whole.is_empty() {
            // Four letters with padding end what was written at once.
            let end = memchr::memchr(b'=', whole).map_or(whole.len(), |at| at - at % 4 + 4);
            let (run, next) = whole.split_at_checked(end)?;
            STANDARD.decode_vec(run, &mut bytes).ok()?;
            whole = next;
        }
        self.keep(rest)?;
        Some(bytes)
    }

    /// Whether the text may end here.
    pub(crate) fn is_whole(&self) -> bool {
        self.begun_len == 0
    }

    fn keep(&mut self, letters: &[u8]) -> Option<()> {
        let end = self.begun_len + letters.len();
        self.begun.get_mut(self.begun_len..end)?.copy_from_slice(letters);
        self.begun_len = end;
        Some(())
    }
}

#[cfg(test)]
mod tests;
