//! A request on its way and its answer, whichever protocol is spoken. Decides nothing itself.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Frame;

use super::h1::{self, ExchangeError, ResponseHead, Wire};
use super::h2;
use crate::body::RequestBody;

/// Driven inline by the request that uses it.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is that of HTTP/1.1, whose requests shall cost no allocation"
)]
pub(super) enum Exchange {
    H1(h1::Exchange),
    /// On a connection that it shares.
    H2(Box<h2::Exchange>),
}

impl Exchange {
    /// Sends the request and waits for the head of the final answer.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, ExchangeError>> {
        match self {
            Self::H1(exchange) => exchange.poll_head(cx),
            Self::H2(exchange) => exchange.poll_head(cx),
        }
    }

    /// The next part of the answer's body. `None` is its end.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        match self {
            Self::H1(exchange) => exchange.poll_body(cx),
            Self::H2(exchange) => exchange.poll_body(cx),
        }
    }

    /// The whole answer has been read: no later call will give more.
    pub(super) fn is_at_end(&mut self) -> bool {
        match self {
            Self::H1(exchange) => exchange.is_at_end(),
            Self::H2(exchange) => exchange.is_at_end(),
        }
    }

    /// Whether a part of the request is still to be sent.
    pub(super) fn is_uploading(&self) -> bool {
        match self {
            Self::H1(exchange) => exchange.is_uploading(),
            Self::H2(exchange) => exchange.is_uploading(),
        }
    }

    /// Sends more of the request. A failure shows when more of the answer is asked for.
    pub(super) fn upload_on(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::H1(exchange) => exchange.upload_on(cx),
            Self::H2(exchange) => exchange.upload_on(cx),
        }
    }

    /// Nothing can be done before the client sends more.
    pub(super) fn waits_for_client(&self) -> bool {
        match self {
            Self::H1(exchange) => exchange.waits_for_client(),
            Self::H2(exchange) => exchange.waits_for_client(),
        }
    }

    /// The head of the answer was waited for since `began` and is given up.
    pub(super) fn waited_in_vain(&self, began: Instant) {
        match self {
            // Its connection ends with it.
            Self::H1(_) => {}
            Self::H2(exchange) => exchange.waited_in_vain(began),
        }
    }

    /// Whether the request's body could be sent once more.
    pub(super) fn can_replay(&self) -> bool {
        match self {
            Self::H1(exchange) => exchange.can_replay(),
            Self::H2(exchange) => exchange.can_replay(),
        }
    }

    /// From now on the time that may pass without progress.
    pub(super) fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        match self {
            Self::H1(exchange) => exchange.set_idle_timeout(timeout),
            Self::H2(exchange) => exchange.set_idle_timeout(timeout),
        }
    }

    /// The request's body, for another try. What was under way is broken off.
    pub(super) fn into_body(self) -> RequestBody {
        match self {
            Self::H1(exchange) => exchange.into_body(),
            Self::H2(exchange) => exchange.into_body(),
        }
    }

    /// The connection, if it must be given back and was left fit for another request. A shared one need not be.
    pub(super) fn into_reusable(self) -> Option<Wire> {
        match self {
            Self::H1(exchange) => exchange.into_reusable(),
            Self::H2(_) => None,
        }
    }
}
