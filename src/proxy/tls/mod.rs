//! TLS as the data plane needs it: certificates made of PEM, the store that finds them by host, and what handshakes
//! keep to. Opens no socket.

mod builder;
mod by_host;
mod certificate;
mod client;
mod ocsp;
mod store;
mod subject;
#[cfg(test)]
pub(crate) mod testing;
mod validity;

pub(crate) use builder::{Selected, TlsBuilder, TlsRuntime};
pub(crate) use by_host::ByHost;
pub(crate) use certificate::{Loaded, PROVIDER};
pub use certificate::{check_certificate, check_ocsp_response};
pub(crate) use client::Client;
pub(crate) use store::fold_server_name;
