//! Takes a peer's certificate otherwise than by the name that was sent: for one of several names, or whatever it is. Where
//! the name counts, rustls' own verifier does.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::tls::PROVIDER;

/// Whose certificate is taken. That the peer holds its key is checked in any case, since that is the protocol.
#[derive(Debug)]
pub(crate) enum Takes {
    /// A chain of these authorities, verified as ever, whose certificate is for one of these names, whichever was sent
    /// (Gateway API BackendTLSPolicy `subjectAltNames`).
    OneOf { roots: Arc<RootCertStore>, names: Vec<ServerName<'static>> },
    /// **Verifies nothing about the peer.** Any certificate of anyone is taken, expired or made up: whoever stands between
    /// the gateway and the backend can read and change everything. Only where a route asks for it in so many words.
    Anyone,
}

impl ServerCertVerifier for Takes {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (roots, names) = match self {
            Self::OneOf { roots, names } => (roots, names),
            Self::Anyone => return Ok(ServerCertVerified::assertion()),
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = PROVIDER.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        if names.iter().any(|name| verify_server_name(&certificate, name).is_ok()) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
