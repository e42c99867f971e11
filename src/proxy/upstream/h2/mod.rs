//! HTTP/2 to an upstream (RFC 9113): connections that the requests of a worker share, each driven by a task of its own.

mod exchange;
mod head;
mod link;

pub(super) use exchange::Exchange;
pub(super) use head::request;
pub(super) use link::{Claim, Link, OpenError};
