//! What a decision is made from. Must not hold a body, a time or a connection.

use std::net::IpAddr;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, Method};

/// The head of one request, in the forms that are compared.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    pub method: &'a Method,
    /// As [`crate::fold`] returns it; empty where the request names no host.
    pub host: &'a str,
    /// As [`crate::canonical`] returns it.
    pub path: &'a str,
    /// Without `?`, as it was sent.
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// The client's address, an IPv4-mapped one as IPv4.
    pub client: IpAddr,
    /// The address is only that of a proxy that can't tell whom it speaks for: a condition on addresses does not take
    /// it, and an exception for addresses does not hold.
    pub client_is_unsure: bool,
}

impl RequestHead<'_> {
    /// The method that a browser asks for beforehand (Fetch standard §3.2.2): of an OPTIONS request with `Origin` and
    /// `Access-Control-Request-Method`.
    pub fn preflight(&self) -> Option<Method> {
        if *self.method != Method::OPTIONS || !self.headers.contains_key(ORIGIN) {
            return None;
        }
        Method::from_bytes(self.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
    }
}
