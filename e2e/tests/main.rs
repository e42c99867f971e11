//! Tests of the gateway over real sockets, from outside: the binary, its folder, its listeners.

mod answers;
mod bodies;
mod connecting;
mod cors;
mod drain;
mod filters;
mod folder;
mod forwarding;
mod jwt;
mod limits;
mod observe;
mod paths;
mod policies;
mod protocol;
mod refusals;
mod reload;
mod scale;
mod site;
mod tls_handshake;
mod tls_http;
mod tls_names;
mod tls_redirect;
mod tls_rotation;
mod tls_site;
mod upstream;
