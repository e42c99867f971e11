//! A connection to an endpoint while nothing is on it: its buffers, and whether it can still be used.

use std::sync::Arc;

use bytes::BytesMut;

use crate::timer::Timer;
use crate::upstream::backend::{Backend, ConnectionPermit};
use crate::upstream::io::Io;

/// What a new connection's buffer holds at first.
pub(super) const READ_BYTES_MIN: usize = 4 << 10;

/// A connection to an endpoint with its buffers.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(super) io: Io,
    pub(super) read: BytesMut,
    /// Reused for every head.
    pub(crate) write: Vec<u8>,
    pub(super) idle: Timer,
    permit: ConnectionPermit,
}

impl Wire {
    pub(crate) fn new(io: Io, permit: ConnectionPermit) -> Self {
        Self {
            io,
            read: BytesMut::with_capacity(READ_BYTES_MIN),
            write: Vec::with_capacity(1024),
            idle: Timer::new(),
            permit,
        }
    }

    /// Whether requests wait for a connection of this one's backend.
    pub(crate) fn is_wanted(&self) -> bool {
        self.permit.is_wanted()
    }

    pub(crate) fn backend(&self) -> Arc<Backend> {
        self.permit.backend()
    }

    /// Asks the kernel whether the peer has closed: the reactor may not have heard of it yet. For requests that can't be
    /// sent twice, so that they meet a stale connection as seldom as can be.
    pub(crate) fn is_open_now(&mut self) -> bool {
        self.io.is_open_now()
    }

    /// Whether the connection can still be used: nothing unasked has come and the peer has not closed. Costs a system
    /// call only if the reactor has seen something happen.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.read.is_empty() && self.io.is_idle()
    }
}
