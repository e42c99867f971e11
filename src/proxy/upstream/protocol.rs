//! How backends are spoken to, ready for use: made when a generation is built, shared as long as it stays the same.

use std::sync::Arc;

use hashbrown::HashMap;
use http::uri::Scheme;
use ir::{BackendId, UpstreamProtocol, UpstreamTls, UpstreamVersion};
use tracing::error;

use super::backend::next_key;
use super::tls::{ClientTls, SystemTrust};

/// How a backend is spoken to. Connections belong to one of these: two routes that speak differently to one backend
/// share none.
#[derive(Debug)]
pub(crate) struct Protocol {
    /// Tells connections apart in the workers' pools.
    pub(super) key: u64,
    pub(super) version: UpstreamVersion,
    pub(super) security: Security,
}

#[derive(Debug)]
pub(super) enum Security {
    Plain,
    Tls(ClientTls),
    /// It could not be made, which was said when it was tried: nothing is sent.
    Invalid,
}

impl Protocol {
    /// Whether nothing may be sent: what TLS needs could not be made.
    pub(super) fn is_invalid(&self) -> bool {
        matches!(self.security, Security::Invalid)
    }

    /// Whether a connection can become a tunnel (RFC 9110 §7.8); HTTP/2 has no upgrades (RFC 9113 §8.6).
    pub(crate) fn has_upgrades(&self) -> bool {
        self.version == UpstreamVersion::Http1
    }

    pub(super) fn is_secure(&self) -> bool {
        !matches!(self.security, Security::Plain)
    }

    pub(super) fn version(&self) -> UpstreamVersion {
        self.version
    }

    /// What requests say of it (RFC 9113 §8.3.1).
    pub(super) fn scheme(&self) -> Scheme {
        if self.is_secure() { Scheme::HTTPS } else { Scheme::HTTP }
    }

    fn new(version: UpstreamVersion, security: Security) -> Arc<Self> {
        Arc::new(Self { key: next_key(), version, security })
    }
}

/// All ways to speak, by what they were made of. Belongs to the control thread.
#[derive(Debug)]
pub(crate) struct Protocols {
    http1: Arc<Protocol>,
    http2: Arc<Protocol>,
    /// By server name.
    secured: HashMap<Arc<str>, Vec<Secured>>,
    system: SystemTrust,
}

#[derive(Debug)]
struct Secured {
    written: Arc<UpstreamTls>,
    protocol: Arc<Protocol>,
}

impl Default for Protocols {
    fn default() -> Self {
        Self {
            http1: Protocol::new(UpstreamVersion::Http1, Security::Plain),
            http2: Protocol::new(UpstreamVersion::Http2, Security::Plain),
            secured: HashMap::new(),
            system: SystemTrust::default(),
        }
    }
}

impl Protocols {
    /// The same again for what is equal, and with it its connections and sessions. `backend` is for the log.
    pub(crate) fn get(&mut self, backend: &BackendId, wanted: &UpstreamProtocol) -> Arc<Protocol> {
        let Some(tls) = &wanted.tls else {
            return Arc::clone(match wanted.version {
                UpstreamVersion::Http1 => &self.http1,
                UpstreamVersion::Http2 => &self.http2,
            });
        };
        let alike = self.secured.entry(Arc::clone(&tls.server_name)).or_default();
        let known = alike.iter().find(|known| {
            known.protocol.version == wanted.version
                && (Arc::ptr_eq(&known.written, tls) || known.written == *tls)
        });
        if let Some(known) = known {
            return Arc::clone(&known.protocol);
        }
        let security = match ClientTls::new(tls, wanted.version, &mut self.system) {
            Ok(tls) => Security::Tls(tls),
            Err(reason) => {
                error!(%backend, reason, "TLS to the backend can't be set up; its requests are answered 503");
                Security::Invalid
            }
        };
        let protocol = Protocol::new(wanted.version, security);
        alike.push(Secured { written: Arc::clone(tls), protocol: Arc::clone(&protocol) });
        protocol
    }

    /// Forgets what no route holds any more.
    pub(crate) fn forget_unused(&mut self) {
        self.secured.retain(|_, alike| {
            alike.retain(|known| Arc::strong_count(&known.protocol) > 1);
            !alike.is_empty()
        });
    }
}

#[cfg(test)]
mod tests;
