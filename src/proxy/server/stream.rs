//! One request on a client's connection: what is counted while it is served. HTTP/1.1 has one at a time and uses the
//! same value for all of them; HTTP/2 has one for each of its streams.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use super::Downstream;
use crate::timer::Timer;

/// A request that is being served, and the connection it came on.
#[derive(Debug)]
pub(crate) struct Stream {
    connection: Rc<Downstream>,
    /// Bytes of the request's body so far.
    pub(crate) request_bytes: Cell<u64>,
    /// A part of the request's body has not been read.
    pub(crate) body_unread: Cell<bool>,
    /// Made when a body is first waited for.
    body_timer: OnceCell<Timer>,
}

impl Stream {
    pub(super) fn new(connection: &Rc<Downstream>) -> Self {
        Self {
            connection: Rc::clone(connection),
            request_bytes: Cell::new(0),
            body_unread: Cell::new(false),
            body_timer: OnceCell::new(),
        }
    }

    /// For a request of the gateway's own beside this one.
    pub(crate) fn beside(&self) -> Self {
        Self::new(&self.connection)
    }

    /// A request begins.
    pub(super) fn on_request(&self) {
        if let Some(timer) = self.body_timer.get() {
            timer.disarm();
        }
        self.request_bytes.set(0);
        self.body_unread.set(false);
        self.connection.on_request();
    }

    pub(crate) fn connection(&self) -> &Rc<Downstream> {
        &self.connection
    }

    /// Bounds the gaps in the request's body.
    pub(crate) fn body_timer(&self) -> &Timer {
        self.body_timer.get_or_init(Timer::new)
    }

    /// Takes the bound off.
    pub(crate) fn on_body_moved(&self) {
        if let Some(timer) = self.body_timer.get() {
            timer.disarm();
        }
    }
}
