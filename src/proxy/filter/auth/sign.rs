//! Signing of tokens, for trying things out from the command line. Nothing on the way of a request signs.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ir::Algorithm;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::Value;
use std::fmt;
use thiserror::Error;

use super::key::{install_provider, library_algorithm};

/// What signs. Prints as its kind only.
#[derive(Clone, Copy)]
pub enum SigningKey<'a> {
    /// The shared secret of HS256, HS384 and HS512; at least one byte.
    Secret(&'a [u8]),
    /// The text of a private key file: RSA in PKCS#1 or PKCS#8, EC in SEC 1 or PKCS#8, Ed25519 in PKCS#8. The first
    /// private key in it counts; an encrypted one is refused.
    Pem(&'a [u8]),
}

impl fmt::Debug for SigningKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret([redacted])",
            Self::Pem(_) => "Pem([redacted])",
        })
    }
}

/// Why nothing was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignError {
    /// The claims of a token are one JSON object (RFC 7519 §7.1).
    #[error("the claims must be a JSON object")]
    ClaimsNotObject,
    /// A secret with an asymmetric algorithm, or a key file with HS*.
    #[error("HS256, HS384 and HS512 sign with a secret, all other algorithms with a private key file")]
    KeyKindMismatch,
    /// A secret of no bytes.
    #[error("the secret is empty")]
    EmptySecret,
    /// The file holds no `-----BEGIN … PRIVATE KEY-----` that can be read.
    #[error("the file holds no unencrypted private key in PEM form")]
    NoPrivateKey,
    /// The key is of another type than the algorithm, too short, or damaged.
    #[error("the private key does not fit the algorithm")]
    KeyRejected,
    /// The signature itself failed.
    #[error("signing failed")]
    Failed,
}

/// Signs claims; `kid` goes into the header.
///
/// # Errors
/// See [`SignError`].
pub fn sign_token(
    algorithm: Algorithm,
    key: SigningKey<'_>,
    kid: Option<&str>,
    claims: &Value,
) -> Result<String, SignError> {
    if !claims.is_object() {
        return Err(SignError::ClaimsNotObject);
    }
    let key = encoding_key(algorithm, key)?;
    install_provider();
    let mut header = Header::new(library_algorithm(algorithm));
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &key).map_err(|_| SignError::Failed)
}

fn encoding_key(algorithm: Algorithm, key: SigningKey<'_>) -> Result<EncodingKey, SignError> {
    match (algorithm, key) {
        (Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512, SigningKey::Secret(secret)) => {
            if secret.is_empty() {
                return Err(SignError::EmptySecret);
            }
            Ok(EncodingKey::from_secret(secret))
        }
        (Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512, SigningKey::Pem(_))
        | (
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512
            | Algorithm::ES256
            | Algorithm::ES384
            | Algorithm::EdDSA,
            SigningKey::Secret(_),
        ) => Err(SignError::KeyKindMismatch),
        (Algorithm::ES256, SigningKey::Pem(pem)) => elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING, pem),
        (Algorithm::ES384, SigningKey::Pem(pem)) => elliptic(&ECDSA_P384_SHA384_FIXED_SIGNING, pem),
        (Algorithm::EdDSA, SigningKey::Pem(pem)) => {
            let der = private_key(pem)?;
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| SignError::KeyRejected)?;
            Ok(EncodingKey::from_ed_der(&der))
        }
        (
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512,
            SigningKey::Pem(pem),
        ) => rsa(pem),
    }
}

fn elliptic(algorithm: &'static EcdsaSigningAlgorithm, pem: &[u8]) -> Result<EncodingKey, SignError> {
    let pair = EcdsaKeyPair::from_private_key_der(algorithm, &private_key(pem)?)
        .map_err(|_| SignError::KeyRejected)?;
    // The library takes PKCS#8 only.
    let pkcs8 = pair.to_pkcs8v1().map_err(|_| SignError::KeyRejected)?;
    Ok(EncodingKey::from_ec_der(pkcs8.as_ref()))
}

fn rsa(pem: &[u8]) -> Result<EncodingKey, SignError> {
    let der = private_key(pem)?;
    // The library takes PKCS#1 only, which PKCS#8 carries inside.
    let pkcs1 = if RsaKeyPair::from_pkcs8(&der).is_ok() {
        pkcs8_content(&der).ok_or(SignError::KeyRejected)?
    } else {
        &der
    };
    RsaKeyPair::from_der(pkcs1).map_err(|_| SignError::KeyRejected)?;
    Ok(EncodingKey::from_rsa_der(pkcs1))
}

/// The bytes of the first private key in a PEM file (RFC 7468).
fn private_key(pem: &[u8]) -> Result<Vec<u8>, SignError> {
    const LABELS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];
    let mut rest = std::str::from_utf8(pem).map_err(|_| SignError::NoPrivateKey)?;
    while let Some((_, block)) = rest.split_once("-----BEGIN ") {
        let (label, body) = block.split_once("-----").ok_or(SignError::NoPrivateKey)?;
        let (body, after) = body.split_once("-----END ").ok_or(SignError::NoPrivateKey)?;
        if LABELS.contains(&label) {
            let base64: String = body.split_ascii_whitespace().collect();
            return STANDARD.decode(base64).map_err(|_| SignError::NoPrivateKey);
        }
        rest = after;
    }
    Err(SignError::NoPrivateKey)
}

/// The `privateKey` of a PKCS#8 `PrivateKeyInfo` (RFC 5208 §5): the third element of the outer sequence.
fn pkcs8_content(der: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const OCTET_STRING: u8 = 0x04;
    let (info, _) = element(der, SEQUENCE)?;
    let (_, after_version) = element(info, INTEGER)?;
    let (_, after_algorithm) = element(after_version, SEQUENCE)?;
    element(after_algorithm, OCTET_STRING).map(|(content, _)| content)
}

/// One DER element with this tag: its content and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        // X.690 §8.1.3.5: the low seven bits count the bytes of the length.
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        0..=0x7f => (usize::from(*first), rest),
        _ => return None,
    };
    (*found == tag).then_some(())?;
    rest.split_at_checked(length)
}
