//! A connection to an endpoint while nothing is on it: its buffers, and whether it can still be used.

use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::timer::Timer;
use crate::upstream::backend::{Backend, ConnectionPermit};

/// What a new connection's buffer holds at first.
pub(super) const READ_BYTES_MIN: usize = 4 << 10;

/// A connection to an endpoint with its buffers.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(super) io: TcpStream,
    pub(super) read: BytesMut,
    /// Reused for every head.
    pub(crate) write: Vec<u8>,
    pub(super) idle: Timer,
    permit: ConnectionPermit,
}

impl Wire {
    pub(crate) fn new(io: TcpStream, permit: ConnectionPermit) -> Self {
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
    pub(crate) fn is_open_now(&self) -> bool {
        let mut byte = [MaybeUninit::uninit(); 1];
        let peeked = SockRef::from(&self.io).peek(&mut byte);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether the connection can still be used: nothing unasked has come and the peer has not closed. Costs a system
    /// call only if the reactor has seen something happen.
    pub(crate) fn is_idle(&self) -> bool {
        let mut byte = [0u8; 1];
        self.read.is_empty()
            && matches!(self.io.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
