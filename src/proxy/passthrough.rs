//! Which connections are passed through with their TLS as it is, and to whom, by the name that the client asks for. Opens
//! no socket.

use std::collections::BTreeMap;
use std::sync::Arc;

use ir::{BackendTarget, Config, HostPattern, Passthrough, ProxyVersion, Tls};

use crate::observe::{Metrics, PassthroughMetrics};
use crate::tls::{ByHost, fold_server_name};
use crate::upstream::{Backend, Backends};

/// Those of one generation.
#[derive(Debug, Default)]
pub(crate) struct Passthroughs {
    /// `None`: the host is served here, and stands among them because it may be the more specific one. Empty where no
    /// host is passed through.
    hosts: ByHost<Option<Arc<PassedHost>>>,
    made_of: Option<MadeOf>,
}

type Hosts = BTreeMap<HostPattern, Arc<Passthrough>>;

#[derive(Debug)]
struct MadeOf {
    passthrough: Arc<Hosts>,
    tls: Arc<Tls>,
}

/// A host whose connections are passed through.
#[derive(Debug)]
pub(crate) struct PassedHost {
    pub(crate) config: Arc<Passthrough>,
    pub(crate) metrics: Arc<PassthroughMetrics>,
    /// `None`: its share is refused.
    backends: Vec<Option<(Arc<Backend>, Option<ProxyVersion>)>>,
    /// The running sums of the weights.
    weights: Vec<u64>,
}

impl Passthroughs {
    /// The last ones again where nothing changed.
    pub(crate) fn build(
        config: &Config,
        last: Option<&Arc<Self>>,
        backends: &mut Backends,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let same = |made: &MadeOf| {
            Arc::ptr_eq(&made.passthrough, &config.passthrough) && Arc::ptr_eq(&made.tls, &config.tls)
        };
        if let Some(last) = last.filter(|last| last.made_of.as_ref().is_some_and(same)) {
            return Arc::clone(last);
        }
        let mut hosts = ByHost::default();
        if !config.passthrough.is_empty() {
            for host in config.tls.hosts.keys() {
                hosts.insert(host, None);
            }
        }
        for (host, passthrough) in &*config.passthrough {
            hosts.insert(host, Some(Arc::new(PassedHost::new(passthrough, backends, metrics))));
        }
        let made_of = MadeOf { passthrough: Arc::clone(&config.passthrough), tls: Arc::clone(&config.tls) };
        Arc::new(Self { hosts, made_of: Some(made_of) })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Whom a connection belongs to whose client asks for this server. A name that is none counts as not given.
    pub(crate) fn select(&self, server_name: Option<&str>) -> Option<&Arc<PassedHost>> {
        if self.is_empty() {
            return None;
        }
        self.hosts.find(&server_name.and_then(fold_server_name)?)?.as_ref()
    }

    /// Whether connections for this host are passed through, so that no request for it belongs on another's. `host` is
    /// folded.
    pub(crate) fn takes(&self, host: &str) -> bool {
        !self.is_empty() && self.hosts.find(host).is_some_and(Option::is_some)
    }
}

impl PassedHost {
    fn new(passthrough: &Arc<Passthrough>, backends: &mut Backends, metrics: &Metrics) -> Self {
        let mut sum = 0;
        let weights = passthrough.backends.iter().map(|backend| {
            sum += u64::from(backend.weight);
            sum
        });
        let weights = weights.collect();
        let targets = passthrough.backends.iter().map(|backend| match &backend.target {
            BackendTarget::Backend(id) => {
                let found = backends.get_for(id, &passthrough.load_balancing, metrics);
                Some((found, backend.proxy_protocol))
            }
            BackendTarget::Missing(_) => None,
        });
        Self {
            config: Arc::clone(passthrough),
            metrics: metrics.passthrough(&passthrough.id.label()),
            backends: targets.collect(),
            weights,
        }
    }

    /// The backend that an evenly drawn number picks, and how it is told of the client. `None`: there is none, or the
    /// one that it would be is missing.
    pub(crate) fn pick(&self, random: u64) -> Option<(&Arc<Backend>, Option<ProxyVersion>)> {
        let index = traffic::weighted(&self.weights, random)?;
        let (backend, proxy) = self.backends.get(index)?.as_ref()?;
        Some((backend, *proxy))
    }
}

#[cfg(test)]
mod tests;
