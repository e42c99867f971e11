//! Makes a chain and its key of PEM (RFC 7468), and says what is wrong with them. Quotes no byte of either.

use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

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
}

impl Loaded {
    /// # Errors
    /// A text for people.
    pub(crate) fn new(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, String> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain_pem)
            .collect::<Result<_, _>>()
            .map_err(|_| "the certificate is not PEM (RFC 7468)")?;
        if chain.is_empty() {
            return Err("there is no certificate in the chain".to_owned());
        }
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
        Ok(Self { key: Arc::new(certified), validity })
    }
}

/// Whether a server can use this chain and this key at `now`. The chain begins with the server's own certificate.
///
/// # Errors
/// A text for people that names the cause and holds nothing of the two: PEM that is none, no certificate, no key, a key
/// that can't sign or belongs to another certificate (a chain in the wrong order, too), not valid for an hour to come, or
/// not any more.
pub fn check_certificate(chain_pem: &[u8], key_pem: &[u8], now: SystemTime) -> Result<(), String> {
    let Validity { not_before_s, not_after_s } = Loaded::new(chain_pem, key_pem)?.validity;
    let now_s = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let now_s = i64::try_from(now_s).unwrap_or(i64::MAX);
    if now_s.saturating_add(CLOCK_SKEW_S) < not_before_s {
        return Err("the certificate is not valid yet".to_owned());
    }
    if now_s > not_after_s {
        return Err("the certificate has expired".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
