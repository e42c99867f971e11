//! The data plane as a whole over real sockets, with TLS.

mod ending;
mod handshake;
mod request;
mod support;
