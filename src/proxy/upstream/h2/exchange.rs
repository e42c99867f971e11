//! One request and its answer on a connection that others use, too. Takes from the client only what the peer has room
//! for, and gives the peer room only for what the client has taken.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;

use super::head;
use super::link::Claim;
use crate::body::{BodyError, RequestBody, RequestFraming};
use crate::timer::Timer;
use crate::upstream::h1::{ExchangeError, ResponseHead, is_trailer_allowed};

/// How many interim answers (1xx) an upstream may send before its answer (hardening BE06).
const INFORMATIONAL_MAX: u8 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upload {
    Streaming,
    Done,
    /// The upstream takes no more; its answer may still come.
    Broken,
}

#[derive(Debug)]
enum Download {
    Head(ResponseFuture),
    Data(RecvStream),
    Trailers(RecvStream),
    Done,
}

/// A request on its way and its answer. Dropped before its end, it is cancelled, and the connection goes on.
#[derive(Debug)]
pub(crate) struct Exchange {
    download: Download,
    send: SendStream<Bytes>,
    body: RequestBody,
    /// What was taken from the client and the peer has no room for yet: one part of the body at most.
    data: Bytes,
    upload: Upload,
    method: Method,
    idle: Timer,
    idle_timeout: Option<Duration>,
    /// What had come from the peer when the head was sent.
    heard_at_first: u64,
    /// What had come from the peer at the last progress.
    heard: u64,
    informational: u8,
    waits_for_client: bool,
    // After the streams above, so that the place is free when they are gone.
    claim: Claim,
}

impl Exchange {
    /// Sends the head.
    ///
    /// # Errors
    /// The connection takes no requests any more. The body comes back unread.
    #[expect(clippy::result_large_err, reason = "the body goes back to be sent again; that is rare")]
    pub(crate) fn new(
        claim: Claim,
        request: Request<()>,
        body: RequestBody,
        idle_timeout: Option<Duration>,
    ) -> Result<Self, (ExchangeError, RequestBody)> {
        let method = request.method().clone();
        let is_whole = body.framing() == RequestFraming::None;
        let begun = claim.sender().and_then(|mut sender| sender.send_request(request, is_whole).ok());
        let Some((response, send)) = begun else {
            claim.link.retire();
            return Err((ExchangeError::Refused, body));
        };
        let mut exchange = Self {
            download: Download::Head(response),
            send,
            body,
            data: Bytes::new(),
            upload: if is_whole { Upload::Done } else { Upload::Streaming },
            method,
            idle: Timer::new(),
            idle_timeout,
            heard_at_first: claim.link.heard(),
            heard: 0,
            informational: 0,
            waits_for_client: false,
            claim,
        };
        exchange.progress();
        Ok(exchange)
    }

    pub(crate) fn can_replay(&self) -> bool {
        self.body.can_rewind()
    }

    pub(crate) fn into_body(self) -> RequestBody {
        self.body
    }

    pub(crate) fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.idle_timeout = timeout;
        match timeout {
            Some(_) => self.progress(),
            None => self.idle.disarm(),
        }
    }

    pub(crate) fn is_uploading(&self) -> bool {
        self.upload == Upload::Streaming
    }

    pub(crate) fn waits_for_client(&self) -> bool {
        self.waits_for_client
    }

    /// See [`Link::waited_in_vain`](super::link::Link::waited_in_vain).
    pub(crate) fn waited_in_vain(&self, began: Instant) {
        self.claim.link.waited_in_vain(self.heard_at_first, began);
    }

    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, ExchangeError>> {
        self.drive_upload(cx)?;
        loop {
            let Download::Head(response) = &mut self.download else {
                return Poll::Ready(Err(ExchangeError::Malformed));
            };
            match response.poll_informational(cx) {
                Poll::Ready(Some(Ok(_))) => {
                    self.informational += 1;
                    if self.informational > INFORMATIONAL_MAX {
                        return Poll::Ready(Err(ExchangeError::Malformed));
                    }
                    self.progress();
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(before_head(&error))),
                Poll::Ready(None) => {}
                Poll::Pending => return self.pending(cx),
            }
            match Pin::new(response).poll(cx) {
                Poll::Ready(Ok(response)) => return Poll::Ready(self.on_head(response)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(before_head(&error))),
                Poll::Pending => return self.pending(cx),
            }
        }
    }

    /// A failure of the client's body cancels the request.
    pub(crate) fn upload_on(&mut self, cx: &mut Context<'_>) {
        if self.drive_upload(cx).is_err() {
            self.break_upload();
        }
    }

    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        if let Err(error) = self.drive_upload(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match &mut self.download {
                Download::Head(_) => return Poll::Ready(Some(Err(ExchangeError::Malformed))),
                Download::Done => return Poll::Ready(None),
                Download::Data(receive) => match receive.poll_data(cx) {
                    Poll::Ready(Some(Ok(data))) => {
                        // The client takes it now, so the peer may send as much again. Fails only where the stream is
                        // over, which the next call tells.
                        drop(receive.flow_control().release_capacity(data.len()));
                        self.progress();
                        if !data.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(data))));
                        }
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(after_head(&error)))),
                    Poll::Ready(None) => self.end_data(),
                    Poll::Pending => return self.pending(cx).map(Some),
                },
                Download::Trailers(receive) => match receive.poll_trailers(cx) {
                    Poll::Ready(Ok(trailers)) => {
                        self.download = Download::Done;
                        return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(screen(trailers)))));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(after_head(&error)))),
                    Poll::Pending => return self.pending(cx).map(Some),
                },
            }
        }
    }

    pub(crate) fn is_at_end(&mut self) -> bool {
        if matches!(&self.download, Download::Data(receive) if receive.is_end_stream()) {
            self.download = Download::Done;
        }
        matches!(self.download, Download::Done)
    }

    fn end_data(&mut self) {
        self.download = match std::mem::replace(&mut self.download, Download::Done) {
            Download::Data(receive) => Download::Trailers(receive),
            other @ (Download::Head(_) | Download::Trailers(_) | Download::Done) => other,
        };
    }

    fn on_head(&mut self, response: Response<RecvStream>) -> Result<ResponseHead, ExchangeError> {
        self.progress();
        let (parts, receive) = response.into_parts();
        let head = head::response(parts.status, parts.headers, &self.method, receive.is_end_stream());
        self.download = Download::Data(receive);
        head.ok_or(ExchangeError::Malformed)
    }

    fn progress(&mut self) {
        self.heard = self.claim.link.heard();
        if let Some(timeout) = self.idle_timeout {
            self.idle.arm(timeout);
        }
    }

    /// Nothing can be done now. Waiting for the client is not the upstream's fault: its body has a timer of its own.
    fn pending<T>(&self, cx: &mut Context<'_>) -> Poll<Result<T, ExchangeError>> {
        if !self.waits_for_client && self.idle.poll_expired(cx) {
            // A peer that says nothing to anybody is gone: nobody else shall wait for it.
            if self.heard == self.claim.link.heard() {
                self.claim.link.retire();
            }
            return Poll::Ready(Err(ExchangeError::Timeout));
        }
        Poll::Pending
    }

    /// Sends as much of the request as goes now. Fails only where the client's body fails: a broken upstream shows
    /// itself when its answer is read.
    fn drive_upload(&mut self, cx: &mut Context<'_>) -> Result<(), ExchangeError> {
        while self.upload == Upload::Streaming {
            if !self.data.is_empty() {
                if self.poll_send(cx).is_pending() {
                    return Ok(());
                }
                continue;
            }
            let polled = self.body.poll_frame(cx);
            self.waits_for_client = polled.is_pending();
            match polled {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Err(error))) => return Err(self.cancel(error)),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.data = data,
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.finish_upload(Some(trailers));
                        }
                    }
                },
                Poll::Ready(None) => self.finish_upload(None),
            }
        }
        Ok(())
    }

    fn cancel(&mut self, error: BodyError) -> ExchangeError {
        self.upload = Upload::Broken;
        self.send.send_reset(Reason::CANCEL);
        ExchangeError::Client(error)
    }

    /// Hands on what the peer has room for.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.send.reserve_capacity(self.data.len());
        let room = match self.send.capacity() {
            // Only tells of a change.
            0 => match self.send.poll_capacity(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(room))) => room,
                Poll::Ready(Some(Err(_)) | None) => {
                    self.break_upload();
                    return Poll::Ready(());
                }
            },
            room => room,
        };
        let part = self.data.split_to(room.min(self.data.len()));
        if !part.is_empty() {
            if self.send.send_data(part, false).is_err() {
                self.break_upload();
            }
            self.progress();
        }
        Poll::Ready(())
    }

    fn finish_upload(&mut self, trailers: Option<HeaderMap>) {
        let sent = match trailers {
            Some(trailers) => self.send.send_trailers(trailers),
            None => self.send.send_data(Bytes::new(), true),
        };
        self.upload = if sent.is_ok() { Upload::Done } else { Upload::Broken };
    }

    fn break_upload(&mut self) {
        self.upload = Upload::Broken;
        self.data = Bytes::new();
    }
}

/// Trailer fields that may be sent on.
fn screen(trailers: HeaderMap) -> HeaderMap {
    if trailers.keys().all(is_trailer_allowed) {
        return trailers;
    }
    let mut screened = HeaderMap::with_capacity(trailers.len());
    for (name, value) in trailers.iter().filter(|(name, _)| is_trailer_allowed(name)) {
        screened.append(name.clone(), value.clone());
    }
    screened
}

/// What a failure before the answer's head means for another try.
fn before_head(error: &h2::Error) -> ExchangeError {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    // h2 ends with a peer's GOAWAY only streams above the last one that it names (RFC 9113 §6.8).
    if error.is_remote() && (refused || error.is_go_away()) {
        ExchangeError::Refused
    } else if error.is_remote() {
        ExchangeError::Reset
    } else if error.is_io() {
        ExchangeError::Closed { nothing_sent: false }
    } else {
        ExchangeError::Malformed
    }
}

fn after_head(error: &h2::Error) -> ExchangeError {
    if error.is_library() { ExchangeError::Malformed } else { ExchangeError::Truncated }
}
