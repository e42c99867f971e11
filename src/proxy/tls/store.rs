//! Finds what a host is served with, as [`ir::Tls`] has it. Makes no certificate and reads no PEM.

use std::borrow::Cow;
use std::sync::Arc;

use ir::HostPattern;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::by_host::{ByHost, is_address};
use super::certificate::Loaded;

/// What a name is served with.
#[derive(Clone, Debug)]
pub(super) struct Served {
    /// The host's own or the default one; `None`: there is neither, and handshakes are refused.
    pub(super) certificate: Option<Arc<Loaded>>,
    /// Its place among those of the generation, where each stands once.
    pub(super) policy: usize,
}

impl Served {
    /// Whether a client could not tell the two apart.
    fn is_like(&self, other: &Self) -> bool {
        let same_chain = match (&self.certificate, &other.certificate) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two) || one.key.cert == two.key.cert,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same_chain && self.policy == other.policy
    }
}

/// By name, in a time that does not grow with the number of names.
#[derive(Debug)]
pub(super) struct Store {
    hosts: ByHost<Served>,
    /// For clients that name no host, or none of these.
    default: Served,
}

impl Store {
    /// The default certificate is served with the first policy.
    pub(super) fn new(default: Option<Arc<Loaded>>) -> Self {
        Self { hosts: ByHost::default(), default: Served { certificate: default, policy: 0 } }
    }

    /// `certificate`: the host's own; `None`: the default one. A literal address is left out: requests for it come over the
    /// default one.
    pub(super) fn insert(&mut self, host: &HostPattern, certificate: Option<Arc<Loaded>>, policy: usize) {
        let certificate = certificate.or_else(|| self.default.certificate.clone());
        let served = Served { certificate, policy };
        self.hosts.insert(host, served);
    }

    /// `name` is folded as the router folds it.
    pub(super) fn find(&self, name: Option<&str>) -> &Served {
        name.and_then(|name| self.hosts.find(name)).unwrap_or(&self.default)
    }

    /// Whether two names are served alike, so that a connection for one may carry requests for the other.
    pub(super) fn serves_alike(&self, one: Option<&str>, two: Option<&str>) -> bool {
        self.find(one).is_like(self.find(two))
    }
}

impl ResolvesServerCert for Store {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(fold_server_name);
        let certificate = self.find(name.as_deref()).certificate.as_ref()?;
        Some(Arc::clone(certificate.key_now()))
    }
}

/// The name in a handshake in the form that the router compares. `None`: it is no name, and counts as not given.
pub(crate) fn fold_server_name(name: &str) -> Option<Cow<'_, str>> {
    table::fold(name).ok().filter(|name| !is_address(name))
}

#[cfg(test)]
mod tests;
