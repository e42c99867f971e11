//! What a decision is made from. Must not hold a body, a time or a connection.

use std::net::IpAddr;

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
}
