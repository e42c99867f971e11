//! Makes a chain and its key of PEM (RFC 7468), and says what is wrong with them. Quotes no byte of either.

use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::ocsp;
use super::validity::Validity;

/// The one source of cryptography: always given, never that of the process, which others may set.
pub(crate) static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    Arc::new(CryptoProvider {
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
        ..aws_lc_rs::default_provider()
    })
});

/// How far the clock of whoever issues certificates may be ahead. A new one is looked at once, when it comes.
const CLOCK_SKEW_S: i64 = 3600;

/// A chain and its key, ready to sign.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) key: Arc<CertifiedKey>,
    /// Of the server's own certificate.
    pub(super) validity: Validity,
    stapled: Option<Stapled>,
}

/// A key with what its certificate's authority says of it.
#[derive(Debug)]
struct Stapled {
    key: Arc<CertifiedKey>,
    /// Of what is said.
    validity: Validity,
}

impl Loaded {
    /// # Errors
    /// A text for people.
    pub(crate) fn new(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, String> {
        let chain = chain(chain_pem)?;
        let mut validities = Vec::with_capacity(chain.len());
        for (index, der) in chain.iter().enumerate() {
            let read = Validity::read(der);
            validities.push(read.ok_or_else(|| format!("certificate {} can't be read", index + 1))?);
        }
        let key = PrivateKeyDer::pem_slice_iter(key_pem)
            .next()
            .ok_or("there is no private key (PKCS #8, PKCS #1 or SEC 1, not encrypted)")?
            .map_err(|_| "the private key is not PEM (RFC 7468)")?;
        let key = PROVIDER.key_provider.load_private_key(key).map_err(
            |_| "the private key can't sign: damaged, or not RSA from 2048 bits, ECDSA P-256, P-384, P-521 or Ed25519",
        )?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // Some kinds of key don't tell their public half; those of this provider all do.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err("the private key does not belong to the first certificate".to_owned());
            }
            Err(_) => return Err("certificate 1 can't be used (X.509 version 3 is)".to_owned()),
        }
        let validity = *validities.first().ok_or("there is no certificate in the chain")?;
        Ok(Self { key: Arc::new(certified), validity, stapled: None })
    }

    /// Staples an OCSP response (DER) for as long as it holds.
    ///
    /// # Errors
    /// A text for people: it is none, or for another certificate.
    pub(super) fn staple(&mut self, response_der: &[u8]) -> Result<(), &'static str> {
        let validity = ocsp::read(response_der, &self.key.cert)?;
        let mut key = CertifiedKey::clone(&self.key);
        key.ocsp = Some(response_der.to_vec());
        self.stapled = Some(Stapled { key: Arc::new(key), validity });
        Ok(())
    }

    /// What a handshake is led with now. Nobody wakes when a response ends, so each handshake asks.
    pub(super) fn key_now(&self) -> &Arc<CertifiedKey> {
        if self.stapled.is_none() { &self.key } else { self.key_at(seconds(SystemTime::now())) }
    }

    pub(super) fn key_at(&self, now_s: i64) -> &Arc<CertifiedKey> {
        let holds =
            |stapled: &&Stapled| has_begun(stapled.validity, now_s) && now_s <= stapled.validity.not_after_s;
        self.stapled.as_ref().filter(holds).map_or(&self.key, |stapled| &stapled.key)
    }

    /// When what is stapled ends, in seconds since 1970.
    pub(super) fn stapled_until_s(&self) -> Option<i64> {
        self.stapled.as_ref().map(|stapled| stapled.validity.not_after_s)
    }
}

fn chain(chain_pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|_| "the certificate is not PEM (RFC 7468)")?;
    if chain.is_empty() {
        return Err("there is no certificate in the chain".to_owned());
    }
    Ok(chain)
}

fn seconds(now: SystemTime) -> i64 {
    let now_s = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    i64::try_from(now_s).unwrap_or(i64::MAX)
}

fn has_begun(validity: Validity, now_s: i64) -> bool {
    now_s.saturating_add(CLOCK_SKEW_S) >= validity.not_before_s
}

/// Whether a server can use this chain and this key at `now`. The chain begins with the server's own certificate.
///
/// # Errors
/// A text for people that names the cause and holds nothing of the two: PEM that is none, no certificate, no key, a key
/// that can't sign or belongs to another certificate (a chain in the wrong order, too), not valid for an hour to come, or
/// not any more.
pub fn check_certificate(chain_pem: &[u8], key_pem: &[u8], now: SystemTime) -> Result<(), String> {
    let validity = Loaded::new(chain_pem, key_pem)?.validity;
    let now_s = seconds(now);
    if !has_begun(validity, now_s) {
        return Err("the certificate is not valid yet".to_owned());
    }
    if now_s > validity.not_after_s {
        return Err("the certificate has expired".to_owned());
    }
    Ok(())
}

/// Whether an OCSP response (DER, RFC 6960) can be stapled to this chain at `now`. Who signed it is for clients to verify.
///
/// # Errors
/// A text for people: it is no successful response, for another certificate, says that this one is revoked, has no end, is
/// not valid for an hour to come, or not any more.
pub fn check_ocsp_response(chain_pem: &[u8], response_der: &[u8], now: SystemTime) -> Result<(), String> {
    let validity = ocsp::read(response_der, &chain(chain_pem)?)?;
    let now_s = seconds(now);
    if !has_begun(validity, now_s) {
        return Err("it is not valid yet".to_owned());
    }
    if now_s > validity.not_after_s {
        return Err("it has expired".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
