//! Certificates for tests. Valid in January 2026; who connects with them does not ask.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ir::{Certificate, Kind, ObjectRef, Redacted};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, SupportedProtocolVersion, version};

use super::certificate::PROVIDER;
use crate::upstream::Takes;

/// A chain with its key.
#[derive(Debug)]
pub(crate) struct Issued {
    /// The server's own certificate, then that of its authority.
    pub(crate) chain_der: Vec<CertificateDer<'static>>,
    pub(crate) chain_pem: [String; 2],
    pub(crate) key_pem: String,
}

impl Issued {
    pub(crate) fn of(names: &[&str]) -> Self {
        Self::with_key(names, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    pub(crate) fn with_key(names: &[&str], algorithm: &'static SignatureAlgorithm) -> Self {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let mut own = CertificateParams::new(names).unwrap();
        own.not_before = rcgen::date_time_ymd(2026, 1, 1);
        own.not_after = rcgen::date_time_ymd(2026, 1, 31);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = own.signed_by(&key, &issuer).unwrap();
        Self {
            chain_der: vec![certificate.der().clone(), authority_certificate.der().clone()],
            chain_pem: [certificate.pem(), authority_certificate.pem()],
            key_pem: key.serialize_pem(),
        }
    }

    /// As the Secret `shop/NAME`.
    pub(crate) fn secret(&self, name: &str) -> Arc<Certificate> {
        Arc::new(Certificate {
            source: ObjectRef::new(Kind::Secret, "shop", name),
            chain_pem: self.chain_pem.concat().into_bytes(),
            key_pem: Redacted::new(self.key_pem.clone().into_bytes()),
            ocsp_response: None,
        })
    }
}

/// An authority of clients. What it issues is valid unless said otherwise, whatever the clock says.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A chain and its key.
pub(crate) type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// For a client.
    pub(crate) fn issue(&self, name: &str) -> Shown {
        self.issue_with(name, |_| ())
    }

    pub(crate) fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// An authority below this one, and its certificate.
    pub(crate) fn below(&self, name: &str) -> (Self, CertificateDer<'static>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (Self { issuer: Issuer::new(params, key), pem: certificate.pem() }, certificate.der().clone())
    }

    /// A list of what it has revoked, which ends with the first day of this year, as PEM.
    pub(crate) fn revokes(&self, revoked: &[&Shown], last_year: i32) -> String {
        let at = rcgen::date_time_ymd(2025, 1, 1);
        let entry = |(chain, _): &&Shown| RevokedCertParams {
            serial_number: super::ocsp::serial(&chain[0]).unwrap().to_vec().into(),
            revocation_time: at,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: at,
            next_update: rcgen::date_time_ymd(last_year, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// The authority with these revocation lists.
    pub(crate) fn auth_with(&self, mode: ir::ClientAuthMode, crl_pem: &str) -> Arc<ir::ClientAuth> {
        let auth = ir::ClientAuth { crl_pem: crl_pem.into(), ..(*self.auth(mode)).clone() };
        Arc::new(auth)
    }

    pub(crate) fn auth(&self, mode: ir::ClientAuthMode) -> Arc<ir::ClientAuth> {
        client_auth(mode, &self.pem)
    }
}

pub(crate) fn client_auth(mode: ir::ClientAuthMode, pem: &str) -> Arc<ir::ClientAuth> {
    let source = ObjectRef::new(Kind::ConfigMap, "shop", "clients");
    Arc::new(ir::ClientAuth { mode, source, ca_pem: pem.into(), crl_pem: Vec::new() })
}

/// The same hosts, of which each asks its clients.
pub(crate) fn asking(tls: &ir::Tls, auth: &Arc<ir::ClientAuth>) -> Arc<ir::Tls> {
    let mut tls = tls.clone();
    for settings in tls.hosts.values_mut() {
        Arc::make_mut(settings).policy.client_auth = Some(Arc::clone(auth));
    }
    Arc::new(tls)
}

/// So many days after the begin of the certificates' time.
pub(crate) fn day(days: u64) -> SystemTime {
    const BEGIN_S: u64 = 1_767_225_600;
    SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN_S) + Duration::from_secs(days * 86_400)
}

/// `*.suffix` takes one or more labels, `?.suffix` exactly one.
pub(crate) fn host(pattern: &str) -> ir::HostPattern {
    let name = |text: &str| ir::HostName::parse(text).unwrap();
    match (pattern.strip_prefix("*."), pattern.strip_prefix("?.")) {
        (Some(suffix), _) => ir::HostPattern::Wildcard { suffix: name(suffix), one_label: false },
        (None, Some(suffix)) => ir::HostPattern::Wildcard { suffix: name(suffix), one_label: true },
        (None, None) => ir::HostPattern::Exact(name(pattern)),
    }
}

/// Each pattern with its certificate and the oldest version that it takes.
pub(crate) fn tls(
    hosts: &[(&str, Option<&Arc<Certificate>>, ir::TlsVersion)],
    default: Option<&Arc<Certificate>>,
) -> Arc<ir::Tls> {
    let hosts = hosts.iter().map(|(pattern, certificate, min_version)| {
        let settings = ir::TlsHost {
            source: ObjectRef::new(Kind::GatewayRoute, "shop", *pattern),
            certificate: certificate.cloned(),
            policy: ir::TlsPolicy { min_version: *min_version, client_auth: None },
        };
        (host(pattern), Arc::new(settings))
    });
    Arc::new(ir::Tls { hosts: hosts.collect(), default: default.cloned() })
}

/// A client that takes any certificate, if its key has signed the handshake. Its clones share their tickets.
pub(crate) fn client(versions: &[&'static SupportedProtocolVersion], alpn: &[&[u8]]) -> Arc<ClientConfig> {
    client_with(versions, alpn, None)
}

/// The same with a certificate of its own.
pub(crate) fn client_with(
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
    shown: Option<&Shown>,
) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Takes::Anyone));
    let mut config = match shown {
        Some((chain, key)) => config.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// One of today's clients.
pub(crate) fn any_client() -> Arc<ClientConfig> {
    client(&[&version::TLS13, &version::TLS12], &[b"http/1.1"])
}
