//! Bodies on their way through: the client's with its bounds, and the answer's, whatever it comes from.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame};
use hyper::body::Incoming;

use crate::filter::client_cert::speaks_of_certificate;
use crate::filter::grpc_web::Base64Reader;
use crate::server::Stream;
use crate::upstream::h1::is_trailer_allowed;

mod copy;

pub(crate) use copy::{CopyFate, CopyReader, CopyWriter};

/// How much of a request body is kept so that the request can be sent again (hardening BE16).
const REPLAY_BYTES_MAX: usize = 64 << 10;

/// How much of a body that nobody wants is read for how long.
const DISCARD_BYTES_MAX: u64 = 64 << 10;
const DISCARD_TIME_MAX: Duration = Duration::from_millis(250);

/// A hundred years.
const FOREVER: Duration = Duration::from_secs(3_155_760_000);

/// How the length of a request body is told to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestFraming {
    None,
    Length(u64),
    Chunked,
}

/// Why a client's body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Larger than the route allows.
    TooLarge,
    /// The client sent nothing for the read timeout.
    Timeout,
    /// The client broke off or sent a malformed coding.
    Broken,
}

/// A client's body: bounded in size and in the gaps between its parts, and kept for another try while it is small.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Option<Source>,
    framing: RequestFraming,
    again: VecDeque<Part>,
    sent: Option<Vec<Part>>,
    sent_bytes: usize,
    received_bytes: u64,
    bytes_max: u64,
    read_timeout: Duration,
    stream: Rc<Stream>,
    /// Only where what arrives is base64.
    base64: Option<Base64Reader>,
    /// Trailer names that would spoof what the gateway sets.
    forbidden_trailers: Vec<HeaderName>,
    /// What is read is written there, too.
    copy: Option<Box<CopyWriter>>,
}

/// A part of a body that may be sent again.
#[derive(Clone, Debug)]
enum Part {
    Data(Bytes),
    Trailers(Box<HeaderMap>),
}

impl Part {
    fn bytes(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(fields) => {
                fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
            }
        }
    }

    fn into_frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(fields) => Frame::trailers(*fields),
        }
    }
}

/// Where a body comes from.
#[derive(Debug)]
enum Source {
    Client(Incoming),
    /// What is read of another body.
    Copy(CopyReader),
}

impl Source {
    /// `Err`: it breaks off.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
        match self {
            Self::Client(incoming) => Pin::new(incoming).poll_frame(cx).map_err(|_| ()),
            Self::Copy(copy) => copy.poll_frame(cx).map_err(|_| ()),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Client(incoming) => incoming.is_end_stream(),
            Self::Copy(copy) => copy.is_end_stream(),
        }
    }
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, stream: Rc<Stream>, read_timeout: Duration) -> Self {
        stream.body_unread.set(!incoming.is_end_stream());
        let framing = if incoming.is_end_stream() {
            RequestFraming::None
        } else {
            incoming.size_hint().exact().map_or(RequestFraming::Chunked, RequestFraming::Length)
        };
        Self {
            incoming: (framing != RequestFraming::None).then_some(Source::Client(incoming)),
            framing,
            again: VecDeque::new(),
            sent: None,
            sent_bytes: 0,
            received_bytes: 0,
            bytes_max: u64::MAX,
            read_timeout,
            stream,
            base64: None,
            forbidden_trailers: Vec::new(),
            copy: None,
        }
    }

    /// No body at all, for a request that is made beside this one. It leaves the client's where it is.
    pub(crate) fn nothing_beside(&self) -> Self {
        Self::empty(Rc::clone(&self.stream))
    }

    /// That of a request which has none.
    pub(crate) fn empty(stream: Rc<Stream>) -> Self {
        Self {
            incoming: None,
            framing: RequestFraming::None,
            again: VecDeque::new(),
            sent: None,
            sent_bytes: 0,
            received_bytes: 0,
            bytes_max: u64::MAX,
            read_timeout: FOREVER,
            stream,
            base64: None,
            forbidden_trailers: Vec::new(),
            copy: None,
        }
    }

    /// A request's body for a copy of the request, `whole` or none at all, and what tells afterwards whether it fell
    /// behind. Of a body that is being read there is no copy.
    pub(crate) fn copy(&mut self, whole: bool) -> (Self, Option<CopyFate>) {
        let stream = Rc::new(self.stream.beside());
        if !whole || self.framing == RequestFraming::None {
            return (Self::empty(stream), None);
        }
        let length = match self.framing {
            RequestFraming::Length(length) => Some(length),
            RequestFraming::Chunked | RequestFraming::None => None,
        };
        let (writer, reader, fate) = copy::copy(length);
        self.copy = Some(Box::new(writer));
        let body =
            Self { incoming: Some(Source::Copy(reader)), framing: self.framing, ..Self::empty(stream) };
        (body, Some(fate))
    }

    pub(crate) fn framing(&self) -> RequestFraming {
        self.framing
    }

    /// The longest gap between two parts of the body; `None`: no bound.
    pub(crate) fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout.unwrap_or(FOREVER);
    }

    /// Bounds the body; false if it is known to be larger already.
    pub(crate) fn limit(&mut self, bytes_max: u64) -> bool {
        self.bytes_max = bytes_max;
        !matches!(self.framing, RequestFraming::Length(length) if length > bytes_max)
    }

    pub(crate) fn forbid_trailers(&mut self, names: Vec<HeaderName>) {
        self.forbidden_trailers = names;
    }

    /// What arrives is base64, and the bytes are passed on. Its own length still counts against [`Self::limit`].
    pub(crate) fn decode_base64(&mut self) {
        if self.framing != RequestFraming::None {
            self.framing = RequestFraming::Chunked;
            self.base64 = Some(Base64Reader::default());
        }
    }

    /// From now on keeps what is sent, so that it can be sent again.
    pub(crate) fn keep_for_replay(&mut self) {
        if self.framing != RequestFraming::None && self.sent.is_none() && self.received_bytes == 0 {
            self.sent = Some(Vec::new());
        }
    }

    /// Whether [`Self::rewind`] would work.
    pub(crate) fn can_rewind(&self) -> bool {
        self.sent.is_some() || self.is_untouched()
    }

    /// Makes the body start over. False if what was sent is gone: the request can't be repeated.
    pub(crate) fn rewind(&mut self) -> bool {
        let Some(sent) = self.sent.take() else { return self.is_untouched() };
        for part in sent.into_iter().rev() {
            self.again.push_front(part);
        }
        self.sent = Some(Vec::new());
        self.sent_bytes = 0;
        true
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(part) = self.again.pop_front() {
            self.remember(&part);
            return Poll::Ready(Some(Ok(part.into_frame())));
        }
        loop {
            let Some(incoming) = self.incoming.as_mut() else { return Poll::Ready(None) };
            let Poll::Ready(frame) = incoming.poll_frame(cx) else { break };
            self.stream.on_body_moved();
            let frame = self.on_frame(frame);
            // Less than four letters of base64 may be nothing yet, and an empty part would be taken for an end.
            let is_nothing = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
            if self.base64.is_none() || !matches!(&frame, Some(Ok(frame)) if is_nothing(frame)) {
                return Poll::Ready(frame);
            }
        }
        let timer = self.stream.body_timer();
        if timer.poll_expired(cx) {
            self.incoming = None;
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        if !timer.is_armed() {
            timer.arm(self.read_timeout);
            timer.poll_expired(cx);
        }
        Poll::Pending
    }

    fn on_frame(
        &mut self,
        frame: Option<Result<Frame<Bytes>, ()>>,
    ) -> Option<Result<Frame<Bytes>, BodyError>> {
        match frame {
            None => {
                let is_whole = self.is_whole();
                self.on_end();
                (!is_whole).then_some(Err(BodyError::Broken))
            }
            Some(Err(_)) => {
                self.incoming = None;
                Some(Err(BodyError::Broken))
            }
            Some(Ok(frame)) => Some(match frame.into_data() {
                Ok(data) => self.on_data(data),
                Err(frame) => Ok(match frame.into_trailers() {
                    Ok(trailers) => {
                        let trailers = self.screen_trailers(&trailers);
                        if let Some(copy) = &self.copy {
                            copy.trailers(&trailers);
                        }
                        let part = Part::Trailers(Box::new(trailers));
                        self.remember(&part);
                        part.into_frame()
                    }
                    Err(frame) => frame,
                }),
            }),
        }
    }

    fn on_end(&mut self) {
        self.incoming = None;
        if let Some(copy) = self.copy.take() {
            copy.end();
        }
        self.stream.body_unread.set(false);
    }

    /// Reads a small body away, so that its connection can be kept although nobody wanted it (hardening SM18). False:
    /// the rest is too large or too slow.
    pub(crate) async fn discard(&mut self) -> bool {
        if matches!(self.framing, RequestFraming::Length(length) if length > DISCARD_BYTES_MAX) {
            return false;
        }
        self.sent = None;
        self.bytes_max = DISCARD_BYTES_MAX;
        let read = async {
            while let Some(frame) = poll_fn(|cx| self.poll_frame(cx)).await {
                if frame.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(DISCARD_TIME_MAX, read).await.unwrap_or(false)
    }

    fn on_data(&mut self, data: Bytes) -> Result<Frame<Bytes>, BodyError> {
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.received_bytes = self.received_bytes.saturating_add(length);
        self.stream.request_bytes.set(self.received_bytes);
        if self.received_bytes > self.bytes_max {
            self.incoming = None;
            return Err(BodyError::TooLarge);
        }
        let has_ended = self.incoming.as_ref().is_some_and(Source::is_end_stream);
        let data = match &mut self.base64 {
            None => data,
            Some(base64) => match base64.read(&data) {
                Some(bytes) if !has_ended || base64.is_whole() => bytes.into(),
                Some(_) | None => {
                    self.incoming = None;
                    return Err(BodyError::Broken);
                }
            },
        };
        if let Some(copy) = &mut self.copy
            && !copy.data(&data)
        {
            self.copy = None;
        }
        if has_ended {
            self.on_end();
        }
        let part = Part::Data(data);
        self.remember(&part);
        Ok(part.into_frame())
    }

    /// Whether the body may end here.
    fn is_whole(&self) -> bool {
        self.base64.as_ref().is_none_or(Base64Reader::is_whole)
    }

    /// Nothing of it was passed on.
    fn is_untouched(&self) -> bool {
        // Of trailers alone only what is sent is counted.
        self.received_bytes == 0 && self.sent_bytes == 0 && self.again.is_empty()
    }

    fn remember(&mut self, part: &Part) {
        self.sent_bytes = self.sent_bytes.saturating_add(part.bytes());
        if self.sent_bytes > REPLAY_BYTES_MAX {
            self.sent = None;
        } else if let Some(sent) = &mut self.sent {
            sent.push(part.clone());
        }
    }

    /// Servers that turn `-` into `_` would take `x_user` for the `x-user` that the gateway sets.
    fn is_forbidden(&self, name: &HeaderName) -> bool {
        let alike = |forbidden: &HeaderName| {
            let (left, right) = (forbidden.as_str().bytes(), name.as_str().bytes());
            left.len() == right.len()
                && left.zip(right).all(|(a, b)| a == b || matches!((a, b), (b'-', b'_')))
        };
        self.forbidden_trailers.iter().any(alike)
    }

    fn screen_trailers(&self, trailers: &HeaderMap) -> HeaderMap {
        let mut screened = HeaderMap::with_capacity(trailers.len());
        for (name, value) in trailers {
            // Nobody may speak of a certificate behind the body, where no filter looks.
            let of_certificate = speaks_of_certificate(&name.as_str().replace('_', "-"));
            if is_trailer_allowed(name) && !of_certificate && !self.is_forbidden(name) {
                screened.append(name.clone(), value.clone());
            }
        }
        screened
    }
}
