//! Certificates of the tests: an authority of their own, what it signs, and the Secrets that hold them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The year whose first day ends a certificate of which nothing else is said.
const LAST_YEAR: i32 = 2120;

/// A certificate authority with a P-256 key, which nobody trusts but who is told to.
pub struct Authority {
    pub pem: String,
    pub der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A server's certificate with its key, as PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    pub certificate_pem: String,
    pub key_pem: String,
    pub der: CertificateDer<'static>,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// # Panics
    /// When the system gives no random bytes.
    pub fn new() -> Self {
        Self::named("authority of the tests")
    }

    /// As [`Authority::new`], with a name of its own.
    ///
    /// # Panics
    /// When the system gives no random bytes.
    pub fn named(name: &str) -> Self {
        let key = KeyPair::generate().expect("a P-256 key");
        let params = authority_params(name);
        let certificate = params.self_signed(&key).expect("a certificate of the authority");
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// An authority below this one.
    ///
    /// # Panics
    /// When the system gives no random bytes.
    pub fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().expect("a P-256 key");
        let params = authority_params(name);
        let certificate = params.signed_by(&key, &self.issuer).expect("a signed certificate");
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// The certificate itself, to stand in a chain.
    pub fn link(&self) -> Issued {
        Issued { certificate_pem: self.pem.clone(), key_pem: String::new(), der: self.der.clone() }
    }

    /// Its private key, for tools.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A ConfigMap in namespace `shop` that names this authority as `ca.crt`.
    pub fn config_map(&self, name: &str) -> String {
        let pem: String = self.pem.lines().map(|line| format!("    {line}\n")).collect();
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\n\
             data:\n  ca.crt: |\n{pem}"
        )
    }

    /// As [`Authority::config_map`], with a list of these serial numbers as `ca.crl`, which ends with the first day of
    /// this year.
    ///
    /// # Panics
    /// When the list cannot be signed.
    pub fn config_map_revoking(&self, name: &str, serials: &[u64], last_year: i32) -> String {
        let at = rcgen::date_time_ymd(2024, 1, 1);
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: at,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: at,
            next_update: rcgen::date_time_ymd(last_year, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = list.signed_by(&self.issuer).and_then(|list| list.pem()).expect("a revocation list");
        let pem: String = pem.lines().map(|line| format!("    {line}\n")).collect();
        format!("{}  ca.crl: |\n{pem}", self.config_map(name))
    }

    /// A Secret in namespace `shop` that names this authority as `ca.crt`.
    pub fn ca_secret(&self, name: &str) -> String {
        crate::folder::secret(name, "ca.crt", &self.pem)
    }

    /// A certificate for these names with a P-256 key of its own.
    ///
    /// # Panics
    /// When a name is none.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_for(names, &KeyPair::generate().expect("a P-256 key"))
    }

    /// As [`Authority::issue`], with an RSA key of 2048 bits.
    ///
    /// # Panics
    /// When a name is none.
    pub fn issue_rsa(&self, names: &[&str]) -> Issued {
        self.issue_for(names, &KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("an RSA key"))
    }

    /// As [`Authority::issue`], for this key.
    ///
    /// # Panics
    /// When a name is none.
    pub fn issue_for(&self, names: &[&str], key: &KeyPair) -> Issued {
        self.sign(&params(names, LAST_YEAR), key)
    }

    /// As [`Authority::issue`], but it ends with the first day of this year.
    ///
    /// # Panics
    /// When a name is none.
    pub fn issue_until(&self, year: i32, names: &[&str]) -> Issued {
        self.sign(&params(names, year), &KeyPair::generate().expect("a P-256 key"))
    }

    /// A client's certificate with this common name; the closure may bend all of it.
    ///
    /// # Panics
    /// When what it became cannot be signed.
    pub fn issue_client(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = params(&[], LAST_YEAR);
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        self.sign(&params, &KeyPair::generate().expect("a P-256 key"))
    }

    fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Issued {
        let certificate = params.signed_by(key, &self.issuer).expect("a signed certificate");
        Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().clone(),
        }
    }
}

impl Issued {
    /// A Secret in namespace `shop` that holds it.
    pub fn secret(&self, name: &str) -> String {
        tls_secret(name, &self.certificate_pem, &self.key_pem)
    }

    /// The private key.
    ///
    /// # Panics
    /// When it has none.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("a private key in PEM")
    }
}

/// A certificate for these names that nobody signed but itself.
///
/// # Panics
/// When a name is none.
pub fn self_signed(names: &[&str]) -> Issued {
    let key = KeyPair::generate().expect("a P-256 key");
    let certificate = params(names, LAST_YEAR).self_signed(&key).expect("a certificate");
    Issued {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
        der: certificate.der().clone(),
    }
}

/// A Secret of type `kubernetes.io/tls` in namespace `shop` with these texts, whatever they are.
pub fn tls_secret(name: &str, certificate: &str, key: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: shop}}\n\
         type: kubernetes.io/tls\ndata:\n  tls.crt: \"{}\"\n  tls.key: \"{}\"\n",
        STANDARD.encode(certificate),
        STANDARD.encode(key),
    )
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(&[], LAST_YEAR);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn params(names: &[&str], last_year: i32) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names of hosts");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
    params
}
