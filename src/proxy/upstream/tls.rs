//! TLS towards upstreams: makes of what a route says what a handshake needs, once, beside the path of requests. Knows no
//! HTTP.

use std::io;
use std::sync::Arc;

use ir::{Trust, UpstreamTls, UpstreamVersion};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, version};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) use self::verifier::Takes;
use crate::tls::{Loaded, PROVIDER};

mod verifier;

/// Sessions of one configuration that can be resumed.
const SESSIONS_MAX: usize = 256;

/// What a handshake with a backend is led with.
#[derive(Debug)]
pub(crate) struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl ClientTls {
    /// # Errors
    /// A text for people. Nothing is sent to a backend whose TLS can't be made.
    pub(crate) fn new(
        tls: &UpstreamTls,
        version: UpstreamVersion,
        system: &mut SystemTrust,
    ) -> Result<Self, String> {
        let name = server_name(&tls.server_name)?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|error| error.to_string())?;
        let roots = match &tls.trust {
            Trust::System => Some(system.roots()?),
            Trust::Authorities { pem, .. } => Some(authorities(pem)?),
            Trust::Anyone => None,
        };
        let builder = match roots {
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Takes::Anyone)),
            Some(roots) if tls.subject_alt_names.is_empty() => builder.with_root_certificates(roots),
            Some(roots) => {
                let names = tls.subject_alt_names.iter().map(|name| server_name(name));
                let takes = Takes::OneOf { roots, names: names.collect::<Result<_, _>>()? };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(takes))
            }
        };
        let mut config = match &tls.client_certificate {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let loaded = Loaded::new(&own.chain_pem, own.key_pem.expose())?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(loaded.key)))
            }
        };
        config.alpn_protocols = vec![alpn(version).to_vec()];
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(Self { config: Arc::new(config), name })
    }

    /// Its time is the caller's to bound.
    ///
    /// # Errors
    /// The peer is not who it should be, or does not speak what it is asked to.
    pub(crate) async fn handshake(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(self.name.clone(), tcp).await?;
        let agreed = stream.get_ref().1.alpn_protocol();
        // Without ALPN both sides speak HTTP/1.1; HTTP/2 over TLS must be agreed on (RFC 9113 §3.3).
        let wants_h2 = self.config.alpn_protocols.iter().any(|name| name == H2);
        if wants_h2 && agreed != Some(H2) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the upstream does not agree on h2"));
        }
        Ok(stream)
    }
}

/// The authorities of the system, read when they are first asked for.
#[derive(Debug, Default)]
pub(crate) struct SystemTrust(Option<Arc<RootCertStore>>);

impl SystemTrust {
    /// Authorities that can't be read are left out, as everybody does; that there is none at all is an error.
    fn roots(&mut self) -> Result<Arc<RootCertStore>, String> {
        if let Some(roots) = &self.0 {
            return Ok(Arc::clone(roots));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("the system has no authorities (SSL_CERT_FILE names a file of them)".to_owned());
        }
        Ok(Arc::clone(self.0.insert(Arc::new(roots))))
    }
}

const H2: &[u8] = b"h2";

fn alpn(version: UpstreamVersion) -> &'static [u8] {
    match version {
        UpstreamVersion::Http1 => b"http/1.1",
        UpstreamVersion::Http2 => H2,
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| format!("`{name}` is neither a DNS name nor an address"))
}

/// All of them must be good: leaving one out would refuse what the author meant to trust, and nobody would know why.
fn authorities(pem: &[u8]) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let certificate = certificate.map_err(|_| "the authorities are not PEM (RFC 7468)")?;
        roots.add(certificate).map_err(|_| format!("authority {} can't be read", index + 1))?;
    }
    if roots.is_empty() {
        return Err("there is no certificate among the authorities".to_owned());
    }
    Ok(Arc::new(roots))
}

#[cfg(test)]
mod tests;
