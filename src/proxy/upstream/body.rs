//! The body of an answer on its way from an upstream, and what is given back when it ends.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::Sleep;

use super::exchange::Exchange;
use super::forward::Held;
use super::h1::{ExchangeError, Framing};
use crate::server::Worker;

/// Drives its connection while it is read. At its end the connection goes back to the pool.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    /// `None` after the end.
    exchange: Option<Exchange>,
    held: Option<Held>,
    worker: Rc<Worker>,
    /// When the whole request must be over.
    deadline: Option<Pin<Box<Sleep>>>,
    left: Option<u64>,
}

impl UpstreamBody {
    /// `None`: there is nothing to read, and the connection has gone back already.
    pub(super) fn new(
        exchange: Exchange,
        held: Held,
        worker: &Rc<Worker>,
        deadline: Option<Instant>,
        framing: Framing,
    ) -> Option<Rc<RefCell<Self>>> {
        let mut body = Self {
            exchange: Some(exchange),
            held: Some(held),
            worker: Rc::clone(worker),
            deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at.into()))),
            left: match framing {
                Framing::None => Some(0),
                Framing::Length(length) => Some(length),
                Framing::Chunked | Framing::UntilClose => None,
            },
        };
        if framing == Framing::None {
            body.finish();
            return None;
        }
        Some(Rc::new(RefCell::new(body)))
    }

    /// Bytes still to come, where that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        self.left
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.exchange.is_none()
    }

    /// Whether a part of the request is still to be sent.
    pub(crate) fn is_uploading(&self) -> bool {
        self.exchange.as_ref().is_some_and(Exchange::is_uploading)
    }

    /// Sends more of the request while nobody asks for more of the answer. A failure shows when somebody does.
    pub(crate) fn drive_upload(&mut self, cx: &mut Context<'_>) {
        if let Some(exchange) = self.exchange.as_mut() {
            exchange.upload_on(cx);
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let Some(exchange) = self.exchange.as_mut() else { return Poll::Ready(None) };
        if let Some(deadline) = self.deadline.as_mut()
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.abandon();
            return Poll::Ready(Some(Err(ExchangeError::Timeout)));
        }
        let polled = exchange.poll_body(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(left), Some(data)) = (self.left.as_mut(), frame.data_ref()) {
                    *left = left.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
                }
                // With its last byte the connection is free: it need not wait for the client to take it.
                if exchange.is_at_end() {
                    self.finish();
                }
            }
            Poll::Ready(None) => self.finish(),
            Poll::Ready(Some(Err(_))) => self.abandon(),
        }
        polled
    }

    fn finish(&mut self) {
        let wire = self.exchange.take().and_then(Exchange::into_reusable);
        if let (Some(wire), Some(held)) = (wire, &self.held) {
            self.worker.pools.borrow_mut().check_in(held.key(), wire, Instant::now());
        }
        self.held = None;
    }

    /// Closes the connection: what is left on it belongs to nobody.
    fn abandon(&mut self) {
        self.exchange = None;
        self.held = None;
    }
}
