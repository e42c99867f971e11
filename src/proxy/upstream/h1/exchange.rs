//! One request and its answer on one connection: writing and reading at the same time, in the caller's own task.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use http_body::Frame;
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::chunked::{Chunked, Step};
use super::response::{self, Framing, HeadError, ResponseHead};
use super::upgraded::Upgraded;
use super::wire::{READ_BYTES_MIN, Wire};
use crate::body::{BodyError, RequestBody, RequestFraming};
use crate::timer::Timer;

/// How many interim answers (1xx) an upstream may send before its answer (hardening BE06).
const INFORMATIONAL_MAX: u8 = 8;
/// How long a body waits for `100 Continue` before it is sent anyway (RFC 9110 §10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);
const READ_BYTES_BODY: usize = 64 << 10;

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeError {
    /// The connection broke before a byte of the answer.
    Closed {
        /// Not one byte of the request was taken by the network.
        nothing_sent: bool,
    },
    /// The upstream says that it did not process the request (RFC 9113 §8.7).
    Refused,
    /// The upstream broke off this request alone, before its answer.
    Reset,
    /// The connection broke within the answer's head or body.
    Truncated,
    /// The answer is no HTTP that can be sent on.
    Malformed,
    /// No progress for the idle time.
    Timeout,
    /// The client's body failed.
    Client(BodyError),
}

impl From<HeadError> for ExchangeError {
    fn from(_: HeadError) -> Self {
        Self::Malformed
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upload {
    AwaitContinue,
    Streaming,
    Done,
    /// The upstream takes no more; its answer may still come.
    Broken,
}

#[derive(Debug)]
enum Download {
    Head,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Done,
}

/// What is still to be written: the head or a chunk's size line, the data, and what ends the chunk.
#[derive(Debug, Default)]
struct Outgoing {
    written: usize,
    data: Bytes,
    tail: &'static [u8],
}

/// A request on its way and its answer.
#[derive(Debug)]
pub(crate) struct Exchange {
    wire: Wire,
    out: Outgoing,
    body: RequestBody,
    upload: Upload,
    download: Download,
    method: Method,
    idle_timeout: Option<Duration>,
    sent_any: bool,
    received_any: bool,
    informational: u8,
    keep_alive: bool,
    waits_for_client: bool,
    continue_wait: Option<Timer>,
    /// The protocol that was asked for.
    upgrade: Option<Box<str>>,
}

impl Exchange {
    /// `wire.write` holds the encoded head.
    pub(crate) fn new(
        wire: Wire,
        body: RequestBody,
        method: Method,
        expects_continue: bool,
        idle_timeout: Option<Duration>,
    ) -> Self {
        let upload = match body.framing() {
            RequestFraming::None => Upload::Done,
            _ if expects_continue => Upload::AwaitContinue,
            RequestFraming::Length(_) | RequestFraming::Chunked => Upload::Streaming,
        };
        let exchange = Self {
            wire,
            out: Outgoing::default(),
            body,
            upload,
            download: Download::Head,
            method,
            idle_timeout,
            sent_any: false,
            received_any: false,
            informational: 0,
            keep_alive: false,
            waits_for_client: false,
            continue_wait: None,
            upgrade: None,
        };
        exchange.progress();
        exchange
    }

    /// The head asks for this protocol, so that 101 is an answer.
    pub(crate) fn asks_for(&mut self, protocol: &str) {
        self.upgrade = Some(protocol.into());
    }

    /// What there is after 101: the connection, and what came on it behind the answer's head.
    pub(crate) fn into_upgraded(self) -> (Upgraded, BytesMut) {
        Upgraded::new(self.wire)
    }

    /// Whether the request's body could be sent once more.
    pub(crate) fn can_replay(&self) -> bool {
        self.body.can_rewind()
    }

    /// The request's body, for another try.
    pub(crate) fn into_body(self) -> RequestBody {
        self.body
    }

    /// From now on the time that may pass without progress.
    pub(crate) fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.idle_timeout = timeout;
        match timeout {
            Some(_) => self.progress(),
            None => self.wire.idle.disarm(),
        }
    }

    /// The connection, if the exchange left it fit for another request.
    pub(crate) fn into_reusable(self) -> Option<Wire> {
        let whole =
            matches!(self.download, Download::Done) && self.upload == Upload::Done && !self.has_output();
        let clean = self.keep_alive && self.wire.read.is_empty();
        self.wire.idle.disarm();
        (whole && clean).then_some(self.wire)
    }

    fn progress(&self) {
        if let Some(timeout) = self.idle_timeout {
            self.wire.idle.arm(timeout);
        }
    }

    /// Sends the request and waits for the head of the final answer.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, ExchangeError>> {
        loop {
            self.drive_upload(cx)?;
            while let Some(head) = self.parse_head()? {
                if let Some(head) = self.on_head(head)? {
                    return Poll::Ready(Ok(head));
                }
                self.drive_upload(cx)?;
            }
            match self.poll_fill(cx, READ_BYTES_MIN) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(self.closed())),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return self.pending(cx),
            }
        }
    }

    pub(crate) fn is_uploading(&self) -> bool {
        matches!(self.upload, Upload::Streaming | Upload::AwaitContinue) || self.has_output()
    }

    /// Nothing can be done before the client sends more.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.waits_for_client || self.upload == Upload::AwaitContinue
    }

    /// Sends more of the request. A failure of the client's body ends the upload, and with it the connection.
    pub(crate) fn upload_on(&mut self, cx: &mut Context<'_>) {
        if self.drive_upload(cx).is_err() {
            self.upload = Upload::Broken;
            self.clear_output();
        }
    }

    /// The next part of the answer's body. `None` is its end.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        loop {
            if let Err(error) = self.drive_upload(cx) {
                return Poll::Ready(Some(Err(error)));
            }
            match self.decode() {
                Ok(Step::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Step::Trailers(trailers)) => {
                    self.download = Download::Done;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Step::End) => {
                    self.download = Download::Done;
                    return Poll::Ready(None);
                }
                Ok(Step::More) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match self.poll_fill(cx, self.read_size()) {
                Poll::Ready(Ok(0)) if matches!(self.download, Download::UntilClose) => {
                    self.download = Download::Done;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Some(Err(ExchangeError::Truncated))),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return self.pending(cx).map(Some),
            }
        }
    }

    /// The whole answer has been read: no later call will give more.
    pub(crate) fn is_at_end(&mut self) -> bool {
        if matches!(self.download, Download::Length(0)) {
            self.download = Download::Done;
        }
        matches!(self.download, Download::Done)
    }

    fn parse_head(&mut self) -> Result<Option<ResponseHead>, HeadError> {
        if self.wire.read.is_empty() {
            return Ok(None);
        }
        response::parse(&mut self.wire.read, &self.method)
    }

    /// Nothing can be done now. Waiting for the client is not the upstream's fault: its body has a timer of its own.
    fn pending<T>(&self, cx: &mut Context<'_>) -> Poll<Result<T, ExchangeError>> {
        if !self.waits_for_client && self.wire.idle.poll_expired(cx) {
            return Poll::Ready(Err(ExchangeError::Timeout));
        }
        Poll::Pending
    }

    fn closed(&self) -> ExchangeError {
        if self.received_any {
            ExchangeError::Truncated
        } else {
            ExchangeError::Closed { nothing_sent: !self.sent_any }
        }
    }

    /// Takes an interim answer away, or settles how the final one is read.
    fn on_head(&mut self, head: ResponseHead) -> Result<Option<ResponseHead>, ExchangeError> {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let asked = self.upgrade.as_ref().is_some_and(|protocol| head.switches_to(protocol));
            // Nobody can have answered a head that was not sent whole.
            return if asked && !self.has_output() { Ok(Some(head)) } else { Err(ExchangeError::Malformed) };
        }
        if head.status.is_informational() {
            self.informational += 1;
            if self.informational > INFORMATIONAL_MAX {
                return Err(ExchangeError::Malformed);
            }
            if head.status == StatusCode::CONTINUE && self.upload == Upload::AwaitContinue {
                self.upload = Upload::Streaming;
            }
            return Ok(None);
        }
        // A final answer without `100 Continue`: the client need not send the body any more, nor is it asked to.
        if self.upload == Upload::AwaitContinue {
            self.upload = Upload::Broken;
        }
        self.keep_alive = head.keep_alive;
        self.download = match head.framing {
            Framing::None => Download::Done,
            Framing::Length(length) => Download::Length(length),
            Framing::Chunked => Download::Chunked(Chunked::new()),
            Framing::UntilClose => Download::UntilClose,
        };
        Ok(Some(head))
    }

    fn read_size(&self) -> usize {
        match self.download {
            Download::Length(left) => {
                usize::try_from(left).unwrap_or(READ_BYTES_BODY).clamp(READ_BYTES_MIN, READ_BYTES_BODY)
            }
            Download::Head | Download::Chunked(_) | Download::UntilClose | Download::Done => {
                READ_BYTES_BODY / 4
            }
        }
    }

    fn decode(&mut self) -> Result<Step, ExchangeError> {
        let buffer = &mut self.wire.read;
        match &mut self.download {
            Download::Head => Err(ExchangeError::Malformed),
            Download::Done | Download::Length(0) => Ok(Step::End),
            Download::Chunked(decoder) => decoder.step(buffer).map_err(|_| ExchangeError::Malformed),
            Download::Length(_) | Download::UntilClose if buffer.is_empty() => Ok(Step::More),
            Download::UntilClose => Ok(Step::Data(buffer.split().freeze())),
            Download::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= u64::try_from(taken).unwrap_or(0);
                Ok(Step::Data(buffer.split_to(taken).freeze()))
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<io::Result<usize>> {
        self.wire.read.reserve(bytes);
        let read = ready!(pin!(self.wire.io.read_buf(&mut self.wire.read)).poll(cx))?;
        self.received_any |= read > 0;
        self.progress();
        Poll::Ready(Ok(read))
    }

    /// Writes as much of the request as goes now. Fails only where the client's body fails: a broken upstream shows
    /// itself when its answer is read.
    fn drive_upload(&mut self, cx: &mut Context<'_>) -> Result<(), ExchangeError> {
        loop {
            match self.poll_flush(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => {
                    self.upload = Upload::Broken;
                    self.clear_output();
                    return Ok(());
                }
                Poll::Ready(Ok(())) => {}
            }
            match self.upload {
                Upload::Done | Upload::Broken => return Ok(()),
                Upload::AwaitContinue => {
                    if !self.continue_wait_is_over(cx) {
                        return Ok(());
                    }
                    self.upload = Upload::Streaming;
                }
                Upload::Streaming => match self.poll_client(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Some(Err(error))) => return Err(ExchangeError::Client(error)),
                    Poll::Ready(Some(Ok(frame))) => self.queue(frame),
                    Poll::Ready(None) => {
                        self.upload = Upload::Done;
                        if self.body.framing() == RequestFraming::Chunked {
                            self.wire.write.extend_from_slice(b"0\r\n\r\n");
                        }
                    }
                },
            }
        }
    }

    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.body.poll_frame(cx);
        self.waits_for_client = polled.is_pending();
        polled
    }

    fn continue_wait_is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let timer = self.continue_wait.get_or_insert_with(|| {
            let timer = Timer::new();
            timer.arm(CONTINUE_WAIT);
            timer
        });
        timer.poll_expired(cx)
    }

    fn queue(&mut self, frame: Frame<Bytes>) {
        let chunked = self.body.framing() == RequestFraming::Chunked;
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                if chunked {
                    push_hex(&mut self.wire.write, data.len());
                    self.wire.write.extend_from_slice(b"\r\n");
                    self.out.tail = b"\r\n";
                }
                self.out.data = data;
            }
            Err(frame) => {
                if let (true, Ok(trailers)) = (chunked, frame.into_trailers()) {
                    push_trailers(&mut self.wire.write, &trailers);
                    self.upload = Upload::Done;
                }
            }
        }
    }

    fn has_output(&self) -> bool {
        self.out.written < self.wire.write.len() || self.out.data.has_remaining() || self.wire.io.holds_back()
    }

    fn clear_output(&mut self) {
        self.wire.write.clear();
        self.out = Outgoing::default();
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let head = self.wire.write.get(self.out.written..).unwrap_or_default();
            let total = head.len() + self.out.data.len() + self.out.tail.len();
            if total == 0 {
                self.wire.write.clear();
                self.out.written = 0;
                // What TLS has taken may not be on its way yet; without TLS this is nothing.
                return Pin::new(&mut self.wire.io).poll_flush(cx);
            }
            let io = Pin::new(&mut self.wire.io);
            let written = if self.out.data.is_empty() && self.out.tail.is_empty() {
                ready!(io.poll_write(cx, head))?
            } else {
                let slices = [IoSlice::new(head), IoSlice::new(&self.out.data), IoSlice::new(self.out.tail)];
                ready!(io.poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent_any = true;
            self.advance(written);
            self.progress();
        }
    }

    fn advance(&mut self, mut written: usize) {
        let of_head = written.min(self.wire.write.len() - self.out.written);
        self.out.written += of_head;
        written -= of_head;
        let of_data = written.min(self.out.data.len());
        self.out.data.advance(of_data);
        self.out.tail = self.out.tail.get(written - of_data..).unwrap_or_default();
    }
}

fn push_hex(out: &mut Vec<u8>, value: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut started = false;
    for shift in (0..usize::BITS / 4).rev() {
        let digit = (value >> (shift * 4)) & 0xf;
        started |= digit != 0;
        if started && let Some(&byte) = DIGITS.get(digit) {
            out.push(byte);
        }
    }
}

fn push_trailers(out: &mut Vec<u8>, trailers: &HeaderMap) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}
