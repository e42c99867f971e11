//! What is left of a request to an upstream after 101: the connection and what it holds of its backend.

use bytes::BytesMut;

use super::forward::Held;
use super::h1::{Exchange, Upgraded};

/// An endpoint that has changed the protocol of its connection.
#[derive(Debug)]
pub(crate) struct Switched {
    pub(crate) io: Upgraded,
    /// What the endpoint has said behind its answer's head.
    pub(crate) ahead: BytesMut,
    /// For as long as the connection is used.
    pub(crate) held: Held,
}

impl Switched {
    pub(super) fn new(exchange: Exchange, held: Held) -> Self {
        let (io, ahead) = exchange.into_upgraded();
        Self { io, ahead, held }
    }
}
