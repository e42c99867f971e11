//! Certificates of clients: whose are believed, and what a connection has proved. Opens no socket.

use std::cell::RefCell;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use ir::{ClientAuth, ClientAuthMode};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tracing::warn;

use super::certificate::PROVIDER;
use super::subject::subject;
use super::validity::{INTEGER, Reader, SEQUENCE};

/// A larger one would make heads that backends refuse. Usual ones have 1 to 2 KiB.
const CERTIFICATE_BYTES_MAX: usize = 16 << 10;

/// Asks for certificates as one policy wants.
///
/// # Errors
/// A text for people: there is no authority that can be used, or a revocation list that can't be.
pub(super) fn verifier(auth: &ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let authorities: Vec<_> = CertificateDer::pem_slice_iter(&auth.ca_pem)
        .collect::<Result<_, _>>()
        .map_err(|_| "the authorities are not PEM (RFC 7468)")?;
    let mut roots = RootCertStore::empty();
    let (_, ignored) = roots.add_parsable_certificates(authorities);
    if ignored > 0 {
        warn!(authorities = %auth.source, ignored, "authorities of clients can't be read; theirs are refused");
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&PROVIDER));
    let builder = match auth.mode {
        ClientAuthMode::Require => builder,
        ClientAuthMode::Optional => builder.allow_unauthenticated(),
    };
    // Where there are lists, each authority of a chain must have one, and it must be current: a list that is old says
    // nothing of who was revoked since.
    let builder = builder.with_crls(revocation_lists(auth)?).enforce_revocation_expiration();
    builder.build().map_err(|error| error.to_string())
}

fn revocation_lists(auth: &ClientAuth) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&auth.crl_pem)
        .collect::<Result<_, _>>()
        .map_err(|_| "the revocation lists are not PEM (RFC 7468)")?;
    // Something was there, so somebody wants to have it heeded.
    if lists.is_empty() && !auth.crl_pem.is_empty() {
        return Err("there is no revocation list in what should hold them".to_owned());
    }
    Ok(lists)
}

/// When the first of a policy's revocation lists ends, in seconds since 1970. `None`: there are none that can be read.
pub(super) fn revocation_ends_s(auth: &ClientAuth) -> Option<i64> {
    revocation_lists(auth).ok()?.iter().filter_map(|list| next_update_s(list)).min()
}

/// RFC 5280 §5.1: version, algorithm and issuer stand before the two times.
fn next_update_s(list_der: &[u8]) -> Option<i64> {
    let mut outer = Reader(list_der);
    let mut list = Reader(outer.expect(SEQUENCE)?);
    let mut signed = Reader(list.expect(SEQUENCE)?);
    if signed.0.first() == Some(&INTEGER) {
        signed.expect(INTEGER)?;
    }
    signed.expect(SEQUENCE)?;
    signed.expect(SEQUENCE)?;
    signed.time()?;
    signed.time()
}

/// Whom a policy asks for a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Asks {
    pub(super) auth: Arc<ClientAuth>,
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
}

impl Asks {
    /// Whether these certificates would do in a handshake now.
    fn takes(&self, shown: Option<&ClientCertificate>) -> bool {
        let Some(ClientCertificate { chain, .. }) = shown else {
            return !self.verifier.client_auth_mandatory();
        };
        let Some((own, others)) = chain.split_first() else { return false };
        self.verifier.verify_client_cert(own, others, UnixTime::now()).is_ok()
    }
}

/// What a connection has proved of its client.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Its key has signed the handshake, or one that this one resumes.
    certificate: Option<ClientCertificate>,
    /// By which authorities that was last found good; `None`: nobody has asked.
    stands_by: RefCell<Option<Arc<ClientAuth>>>,
    /// By which it was last found bad, so that asking again costs no signature.
    fails_by: RefCell<Option<Arc<ClientAuth>>>,
}

/// A client's certificate in the forms in which backends are told of it.
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    /// The client's own first.
    chain: Vec<CertificateDer<'static>>,
    /// RFC 4514.
    pub(crate) subject: HeaderValue,
    /// RFC 9440 §2.2.
    pub(crate) field: HeaderValue,
}

impl Client {
    /// After a handshake in which the client showed this chain. `None`: it must not be served. A `resumed` session is
    /// verified anew: its certificate may have expired since.
    pub(crate) fn new(
        asks: Option<&Asks>,
        chain: Option<&[CertificateDer<'static>]>,
        resumed: bool,
    ) -> Option<Self> {
        let Some(asks) = asks else { return Some(Self::default()) };
        let certificate = match chain {
            Some(chain) => Some(ClientCertificate::new(chain)?),
            None => None,
        };
        let good = !resumed || asks.takes(certificate.as_ref());
        let stands_by = RefCell::new(Some(Arc::clone(&asks.auth)));
        good.then(|| Self { certificate, stands_by, fails_by: RefCell::default() })
    }

    /// Whether a connection may go on where this is asked now. What was verified by other authorities is verified by
    /// these once.
    pub(super) fn meets(&self, asks: &Asks) -> bool {
        let is_it = |by: &RefCell<Option<Arc<ClientAuth>>>| {
            by.borrow().as_ref().is_some_and(|by| Arc::ptr_eq(by, &asks.auth) || *by == asks.auth)
        };
        if is_it(&self.stands_by) {
            return true;
        }
        if is_it(&self.fails_by) {
            return false;
        }
        let good = asks.takes(self.certificate.as_ref());
        let verdict = if good { &self.stands_by } else { &self.fails_by };
        *verdict.borrow_mut() = Some(Arc::clone(&asks.auth));
        good
    }

    /// The certificate, if these very authorities have verified it, by the same revocation lists.
    pub(crate) fn verified_by(&self, auth: &Arc<ClientAuth>) -> Option<&ClientCertificate> {
        let by = self.stands_by.borrow();
        let same = |by: &Arc<ClientAuth>| {
            Arc::ptr_eq(by, auth) || (by.ca_pem == auth.ca_pem && by.crl_pem == auth.crl_pem)
        };
        self.certificate.as_ref().filter(|_| by.as_ref().is_some_and(same))
    }
}

impl ClientCertificate {
    /// `None`: it is too large to tell of, or its subject can't be read.
    fn new(chain: &[CertificateDer<'static>]) -> Option<Self> {
        let own = chain.first().filter(|own| own.len() <= CERTIFICATE_BYTES_MAX)?;
        let subject = HeaderValue::try_from(subject(own)?).ok()?;
        let field = HeaderValue::try_from(format!(":{}:", STANDARD.encode(own))).ok()?;
        Some(Self { chain: chain.to_vec(), subject, field })
    }
}

#[cfg(test)]
mod tests;
