//! The data plane as a whole over real sockets, with TLS.

mod ending;
mod handshake;
mod http2;
mod proxy_protocol;
mod request;
mod support;
