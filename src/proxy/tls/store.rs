//! Finds what a host is served with, as [`ir::Tls`] has it. Makes no certificate and reads no PEM.

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashMap;
use ir::HostPattern;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// What a name is served with.
#[derive(Clone, Debug)]
pub(super) struct Served {
    /// The host's own or the default one; `None`: there is neither, and handshakes are refused.
    pub(super) key: Option<Arc<CertifiedKey>>,
    /// Its place among those of the generation, where each stands once.
    pub(super) policy: usize,
}

impl Served {
    /// Whether a client could not tell the two apart.
    fn is_like(&self, other: &Self) -> bool {
        let same_chain = match (&self.key, &other.key) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two) || one.cert == two.cert,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same_chain && self.policy == other.policy
    }
}

/// By name, in a time that does not grow with the number of names.
#[derive(Debug)]
pub(super) struct Store {
    exact: HashMap<Box<str>, Served>,
    /// By suffix.
    wildcards: HashMap<Box<str>, Wildcards>,
    /// For clients that name no host, or none of these.
    default: Served,
}

/// The two kinds of `*.suffix`.
#[derive(Debug, Default)]
struct Wildcards {
    one_label: Option<Served>,
    any: Option<Served>,
}

impl Store {
    /// The default certificate is served with the first policy.
    pub(super) fn new(default: Option<Arc<CertifiedKey>>) -> Self {
        Self { exact: HashMap::new(), wildcards: HashMap::new(), default: Served { key: default, policy: 0 } }
    }

    /// `key`: the host's own; `None`: the default one. A literal address is left out: no client names one in its
    /// handshake (RFC 6066 §3), so requests for it come over the default one.
    pub(super) fn insert(&mut self, host: &HostPattern, key: Option<Arc<CertifiedKey>>, policy: usize) {
        let served = Served { key: key.or_else(|| self.default.key.clone()), policy };
        match host {
            HostPattern::Exact(name) if is_address(name.as_str()) => {}
            HostPattern::Exact(name) => {
                self.exact.insert(name.as_str().into(), served);
            }
            HostPattern::Wildcard { suffix, one_label } => {
                let wildcards = self.wildcards.entry(suffix.as_str().into()).or_default();
                let slot = if *one_label { &mut wildcards.one_label } else { &mut wildcards.any };
                *slot = Some(served);
            }
        }
    }

    /// `name` is folded as the router folds it.
    pub(super) fn find(&self, name: Option<&str>) -> &Served {
        name.and_then(|name| self.find_own(name)).unwrap_or(&self.default)
    }

    fn find_own(&self, name: &str) -> Option<&Served> {
        if let Some(served) = self.exact.get(name) {
            return Some(served);
        }
        let mut one_label = true;
        let mut rest = name;
        // A name has at most 127 labels (RFC 1035 §2.3.4).
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some(wildcards) = self.wildcards.get(suffix) {
                let single = wildcards.one_label.as_ref().filter(|_| one_label);
                if let Some(served) = single.or(wildcards.any.as_ref()) {
                    return Some(served);
                }
            }
            (rest, one_label) = (suffix, false);
        }
        None
    }

    /// Whether two names are served alike, so that a connection for one may carry requests for the other.
    pub(super) fn serves_alike(&self, one: Option<&str>, two: Option<&str>) -> bool {
        self.find(one).is_like(self.find(two))
    }
}

impl ResolvesServerCert for Store {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(fold_server_name);
        self.find(name.as_deref()).key.clone()
    }
}

/// The name in a handshake in the form that the router compares. `None`: it is no name, and counts as not given.
pub(super) fn fold_server_name(name: &str) -> Option<Cow<'_, str>> {
    table::fold(name).ok().filter(|name| !is_address(name))
}

fn is_address(name: &str) -> bool {
    name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests;
