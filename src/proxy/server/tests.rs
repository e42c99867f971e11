//! The data plane as a whole over real sockets: TLS, tunnels.

mod ending;
mod handshake;
mod http2;
mod proxy_protocol;
mod request;
mod support;
mod tunnel;
