//! The data plane as a whole over real sockets: TLS, both versions of HTTP on both sides, tunnels.

mod breaker;
mod client_cert;
mod ending;
mod grpc;
mod grpc_web;
mod h2_upstream;
mod handshake;
mod http2;
mod names;
mod passthrough;
mod proxy_protocol;
mod request;
mod rest;
mod support;
mod tls_upstream;
mod tunnel;
mod upstream;
