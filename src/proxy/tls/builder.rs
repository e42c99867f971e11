//! What handshakes of one generation see, built from the one before so that keys are made once. Opens no socket.

use std::sync::Arc;

use hashbrown::HashMap;
use ir::{Certificate, ObjectRef, Tls, TlsPolicy, TlsVersion};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use tracing::{error, warn};

use super::certificate::{Loaded, PROVIDER};
use super::client::{self, Asks, Client};
use super::store::{Store, fold_server_name};

/// TLS of one generation.
#[derive(Debug)]
pub(crate) struct TlsRuntime {
    // Each generation has a `ServerConfig` per policy, whose resolver is the generation's own store: a handshake sees
    // one generation throughout, a new one holds for the next handshake, and no lock or swap is between. What must
    // outlive it, the tickets' keys, is the builder's.
    /// Each policy once, the default one first.
    policies: Vec<Policy>,
    store: Arc<Store>,
    /// Some policy asks clients for certificates.
    asks_clients: bool,
    /// Certificates that can be used.
    pub(crate) certificates: usize,
    /// The earliest end of one of them, in seconds since 1970; 0 where there are none.
    pub(crate) not_after_s: u64,
    /// The earliest end of an OCSP response that is stapled, past ones too; 0 where there are none.
    pub(crate) stapled_until_s: u64,
    /// The earliest end of a revocation list of clients' authorities; 0 where there are none.
    pub(crate) revocation_ends_s: u64,
}

/// What handshakes of one policy are led with.
#[derive(Debug)]
struct Policy {
    /// `None`: it can't be kept, so no handshake is led.
    config: Option<Arc<ServerConfig>>,
    /// Whether clients are asked for certificates, however their connection came to be.
    wants_clients: bool,
    asks: Option<Asks>,
}

/// How a handshake is led.
#[derive(Debug)]
pub(crate) struct Selected {
    pub(crate) config: Arc<ServerConfig>,
    /// The server's name as the router writes it. `None`: the client named none, or none that could be one.
    pub(crate) server_name: Option<Box<str>>,
    /// Whom it asks for a certificate.
    pub(crate) asks: Option<Asks>,
}

impl Default for TlsRuntime {
    fn default() -> Self {
        Self {
            policies: Vec::new(),
            store: Arc::new(Store::new(None)),
            asks_clients: false,
            certificates: 0,
            not_after_s: 0,
            stapled_until_s: 0,
            revocation_ends_s: 0,
        }
    }
}

impl TlsRuntime {
    /// What a handshake that names this server is led with. A name that is none counts as not given. `None`: there is no
    /// certificate for it, or nobody who may connect.
    pub(crate) fn select(&self, server_name: Option<&str>) -> Option<Selected> {
        let name = server_name.and_then(fold_server_name);
        let served = self.store.find(name.as_deref());
        served.certificate.as_ref()?;
        let Policy { config, asks, .. } = self.policies.get(served.policy)?;
        let server_name = name.map(|name| name.into_owned().into());
        Some(Selected { config: Arc::clone(config.as_ref()?), server_name, asks: asks.clone() })
    }

    /// Whether a connection whose handshake named `server_name` may carry requests for `host`. Both are folded.
    pub(crate) fn serves_alike(&self, server_name: Option<&str>, host: &str) -> bool {
        server_name == Some(host) || self.store.serves_alike(server_name, Some(host))
    }

    /// Whether a client may ask for `host` by what its connection has proved. The host may have come to want
    /// certificates, or others, since the handshake.
    pub(crate) fn knows_client(&self, client: &Client, host: &str) -> bool {
        if !self.asks_clients {
            return true;
        }
        match self.policies.get(self.store.find(Some(host)).policy) {
            Some(Policy { asks: Some(asks), .. }) => client.meets(asks),
            Some(policy) => !policy.wants_clients,
            None => false,
        }
    }
}

/// Builds [`TlsRuntime`]s. Belongs to the control thread.
#[derive(Debug, Default)]
pub(crate) struct TlsBuilder {
    /// What tickets are sealed with, for the life of the process: a change of certificates costs no client its
    /// resumption. One per policy, so that a ticket of a laxer one, or of other authorities, is worth nothing at a
    /// stricter (hardening TL06). Those of policies that nobody has any more are forgotten.
    tickets: HashMap<TlsPolicy, Arc<dyn ProducesTickets>>,
    /// The certificates of the last generation, by their Secret.
    known: HashMap<ObjectRef, Known>,
    last: Option<(Arc<Tls>, Arc<TlsRuntime>)>,
}

/// A certificate as it was written and what became of it.
#[derive(Clone, Debug)]
struct Known {
    written: Arc<Certificate>,
    /// `None`: it can't be used, which was said when it came.
    loaded: Option<Arc<Loaded>>,
}

impl TlsBuilder {
    /// The same runtime again where nothing changed.
    pub(crate) fn build(&mut self, tls: &Arc<Tls>) -> Arc<TlsRuntime> {
        if let Some((last, runtime)) = &self.last
            && (Arc::ptr_eq(last, tls) || last == tls)
        {
            return Arc::clone(runtime);
        }
        let mut used = HashMap::new();
        let default = tls.default.as_ref().and_then(|default| self.load(default, &mut used));
        let mut store = Store::new(default);
        let mut places: HashMap<TlsPolicy, usize> = HashMap::new();
        places.insert(TlsPolicy::default(), 0);
        for (host, settings) in &tls.hosts {
            let own = settings.certificate.as_ref().and_then(|own| self.load(own, &mut used));
            let next = places.len();
            store.insert(host, own, *places.entry_ref(&settings.policy).or_insert(next));
        }
        let mut policies: Vec<(TlsPolicy, usize)> = places.into_iter().collect();
        policies.sort_unstable_by_key(|(_, place)| *place);
        let loaded = || used.values().filter_map(|known: &Known| known.loaded.as_ref());
        let not_after_s = loaded().map(|loaded| loaded.validity.not_after_s).min().unwrap_or(0);
        let (certificates, not_after_s) = (loaded().count(), u64::try_from(not_after_s).unwrap_or(0));
        let stapled_until_s = loaded().filter_map(|loaded| loaded.stapled_until_s()).min().unwrap_or(0);
        let stapled_until_s = u64::try_from(stapled_until_s).unwrap_or(0);
        let store = Arc::new(store);
        let auths = policies.iter().filter_map(|(policy, _)| policy.client_auth.as_ref());
        let revocation_ends_s = auths.filter_map(|auth| client::revocation_ends_s(auth)).min().unwrap_or(0);
        let revocation_ends_s = u64::try_from(revocation_ends_s).unwrap_or(0);
        self.tickets.retain(|policy, _| policies.iter().any(|(used, _)| used == policy));
        let policies: Vec<Policy> =
            policies.iter().map(|(policy, _)| self.policy(policy, Arc::clone(&store))).collect();
        let asks_clients = policies.iter().any(|policy| policy.wants_clients);
        let runtime = Arc::new(TlsRuntime {
            policies,
            store,
            asks_clients,
            certificates,
            not_after_s,
            stapled_until_s,
            revocation_ends_s,
        });
        self.known = used;
        self.last = Some((Arc::clone(tls), Arc::clone(&runtime)));
        runtime
    }

    /// A certificate with its key: the one that it had, if it did not change.
    fn load(&self, written: &Arc<Certificate>, used: &mut HashMap<ObjectRef, Known>) -> Option<Arc<Loaded>> {
        let is_it = |known: &&Known| Arc::ptr_eq(&known.written, written) || known.written == *written;
        let known = used.get(&written.source).filter(is_it);
        let known = match known.or_else(|| self.known.get(&written.source).filter(is_it)) {
            Some(known) => known.clone(),
            None => {
                let loaded = load(written).map(Arc::new).inspect_err(
                    |error| error!(secret = %written.source, error, "certificate can't be used"),
                );
                Known { written: Arc::clone(written), loaded: loaded.ok() }
            }
        };
        let loaded = known.loaded.clone();
        used.insert(written.source.clone(), known);
        loaded
    }

    /// Where clients can't be verified there is no config, so that nobody is served.
    fn policy(&mut self, policy: &TlsPolicy, store: Arc<Store>) -> Policy {
        let wants_clients = policy.client_auth.is_some();
        let asks = policy.client_auth.as_ref().and_then(|auth| {
            let verifier = client::verifier(auth).inspect_err(
                |error| error!(authorities = %auth.source, error, "clients can't be verified; all are refused"),
            );
            Some(Asks { auth: Arc::clone(auth), verifier: verifier.ok()? })
        });
        if wants_clients && asks.is_none() {
            return Policy { config: None, wants_clients, asks };
        }
        let config = self.config(policy, asks.as_ref(), store);
        let config = config.inspect_err(|error| error!(%error, "TLS can't be served")).ok();
        Policy { config, wants_clients, asks }
    }

    fn config(
        &mut self,
        policy: &TlsPolicy,
        asks: Option<&Asks>,
        store: Arc<Store>,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let tickets = match self.tickets.get(policy) {
            Some(tickets) => Arc::clone(tickets),
            None => {
                let tickets = Ticketer::new()?;
                self.tickets.insert(policy.clone(), Arc::clone(&tickets));
                tickets
            }
        };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(versions(policy.min_version))?
            .with_client_cert_verifier(match asks {
                Some(asks) => Arc::clone(&asks.verifier),
                None => WebPkiClientVerifier::no_client_auth(),
            })
            .with_cert_resolver(store);
        config.ignore_client_order = true;
        // The server's order counts.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets;
        // Requests before the handshake's end can be replayed (RFC 8446 §8, hardening TL07).
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }
}

/// A response that can't be stapled costs the certificate nothing else.
fn load(written: &Certificate) -> Result<Loaded, String> {
    let mut loaded = Loaded::new(&written.chain_pem, written.key_pem.expose())?;
    if let Some(Err(error)) = written.ocsp_response.as_ref().map(|response| loaded.staple(response)) {
        warn!(secret = %written.source, error, "OCSP response can't be stapled");
    }
    Ok(loaded)
}

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_1_2: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    static FROM_1_3: [&SupportedProtocolVersion; 1] = [&version::TLS13];
    match min {
        TlsVersion::V1_2 => &FROM_1_2,
        TlsVersion::V1_3 => &FROM_1_3,
    }
}

#[cfg(test)]
mod tests;
