//! HTTP/1.1 to an upstream, driven inline by the request that uses it: no task, no channel, no wake-up in between.

mod chunked;
mod exchange;
mod request;
mod response;
mod upgraded;
mod wire;

pub(crate) use chunked::is_trailer_allowed;
pub(crate) use exchange::{Exchange, ExchangeError};
pub(crate) use request::{OutgoingHead, encode_head, is_own};
pub(super) use request::{is_forwarded, takes_trailers};
pub(crate) use response::{Framing, ResponseHead};
pub(crate) use upgraded::Upgraded;
pub(crate) use wire::Wire;
