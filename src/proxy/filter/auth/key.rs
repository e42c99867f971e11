//! Keys that tokens are verified with: checked once when a provider is loaded, pinned to their algorithms. Never takes
//! an algorithm or a key from a token.

use std::sync::Once;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use ir::{Algorithm, Jwk, JwkMaterial};
use jsonwebtoken::DecodingKey;
use thiserror::Error;

/// Why a key of a set is not used. The other keys of the set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum KeyRefusal {
    #[error("the provider allows none of the algorithms that the key can be used with")]
    NoFittingAlgorithm,
    #[error("the secret is empty")]
    EmptySecret,
    #[error("the RSA modulus must have 2048 to 8192 bits")]
    RsaModulusSize,
    #[error("the RSA exponent must be odd, at least 3 and have at most 32 bits")]
    RsaExponent,
    #[error("the RSA numbers do not make a key")]
    RsaInvalid,
    #[error("the point does not lie on the curve")]
    NotOnCurve,
    #[error("an Ed25519 key must have 32 bytes")]
    Ed25519Length,
    #[error("the Ed25519 key has a small order: anybody could sign for it")]
    Ed25519SmallOrder,
}

/// One usable key and what it may verify.
pub(super) struct VerifyingKey {
    pub(super) kid: Option<String>,
    /// Never empty.
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

impl VerifyingKey {
    /// The key, pinned to those algorithms that its type, its own `alg` and the provider's list all allow.
    pub(super) fn new(jwk: &Jwk, allowed: &[Algorithm]) -> Result<Self, KeyRefusal> {
        let algorithms: Vec<Algorithm> = family(&jwk.material)
            .iter()
            .copied()
            .filter(|fits| allowed.contains(fits) && jwk.algorithm.is_none_or(|own| own == *fits))
            .collect();
        if algorithms.is_empty() {
            return Err(KeyRefusal::NoFittingAlgorithm);
        }
        let decoding = match &jwk.material {
            JwkMaterial::Symmetric(secret) => symmetric(secret.expose())?,
            JwkMaterial::Rsa { n, e } => rsa(n, e)?,
            JwkMaterial::P256 { x, y } => elliptic(&ECDSA_P256_SHA256_FIXED, 32, x, y)?,
            JwkMaterial::P384 { x, y } => elliptic(&ECDSA_P384_SHA384_FIXED, 48, x, y)?,
            JwkMaterial::Ed25519 { x } => ed25519(x)?,
        };
        install_provider();
        Ok(Self { kid: jwk.kid.clone(), algorithms, decoding })
    }

    pub(super) fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether the key made the signature (base64url) over `signed`. False, too, where the algorithm is not the key's.
    pub(super) fn verifies(&self, algorithm: Algorithm, signed: &str, signature: &str) -> bool {
        self.allows(algorithm)
            && jsonwebtoken::crypto::verify(
                signature,
                signed.as_bytes(),
                &self.decoding,
                library_algorithm(algorithm),
            )
            .unwrap_or(false)
    }
}

/// Makes aws-lc-rs the library's backend. Without it the library guesses from its features and panics at first use
/// where these are ambiguous, so no key exists before this was called.
pub(super) fn install_provider() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // An error means that a provider stands already; the self test shows whether it works.
        jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default().ok();
    });
}

/// The same algorithm in the library's words.
pub(super) const fn library_algorithm(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::HS384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::HS512 => jsonwebtoken::Algorithm::HS512,
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
    }
}

/// Every algorithm that a key of this type can be used with (RFC 7518 §3.1, RFC 8037 §3.1).
const fn family(material: &JwkMaterial) -> &'static [Algorithm] {
    match material {
        JwkMaterial::Symmetric(_) => &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
        JwkMaterial::Rsa { .. } => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        JwkMaterial::P256 { .. } => &[Algorithm::ES256],
        JwkMaterial::P384 { .. } => &[Algorithm::ES384],
        JwkMaterial::Ed25519 { .. } => &[Algorithm::EdDSA],
    }
}

fn symmetric(secret: &[u8]) -> Result<DecodingKey, KeyRefusal> {
    if secret.is_empty() {
        return Err(KeyRefusal::EmptySecret);
    }
    Ok(DecodingKey::from_secret(secret))
}

fn rsa(n: &[u8], e: &[u8]) -> Result<DecodingKey, KeyRefusal> {
    let (n, e) = (without_leading_zeros(n), without_leading_zeros(e));
    let bits = n.len() * 8 - n.first().map_or(0, |first| usize::try_from(first.leading_zeros()).unwrap_or(0));
    if !(2048..=8192).contains(&bits) {
        return Err(KeyRefusal::RsaModulusSize);
    }
    let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    // With e = 1 the signature is the padded digest itself, which anybody can write down. A long e is slow and no
    // issuer has one.
    if !odd(e) || e == [1] || e.len() > size_of::<u32>() {
        return Err(KeyRefusal::RsaExponent);
    }
    if !odd(n) {
        return Err(KeyRefusal::RsaInvalid);
    }
    RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .map_err(|_| KeyRefusal::RsaInvalid)?;
    Ok(DecodingKey::from_rsa_raw_components(n, e))
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// `length` is that of one coordinate in bytes; RFC 7518 §6.2.1.2 wants leading zeros kept.
fn elliptic(
    curve: &'static dyn VerificationAlgorithm,
    length: usize,
    x: &[u8],
    y: &[u8],
) -> Result<DecodingKey, KeyRefusal> {
    if x.len() != length || y.len() != length {
        return Err(KeyRefusal::NotOnCurve);
    }
    // SEC 1 §2.3.3: 4 means both coordinates follow.
    let point = [&[4], x, y].concat();
    ParsedPublicKey::new(curve, &point).map_err(|_| KeyRefusal::NotOnCurve)?;
    Ok(DecodingKey::from_ec_der(&point))
}

fn ed25519(x: &[u8]) -> Result<DecodingKey, KeyRefusal> {
    let point = <&[u8; 32]>::try_from(x).map_err(|_| KeyRefusal::Ed25519Length)?;
    if has_small_order(point) {
        return Err(KeyRefusal::Ed25519SmallOrder);
    }
    Ok(DecodingKey::from_ed_der(point))
}

/// RFC 8032 §5.1: p = 2²⁵⁵ − 19, little-endian.
const ED25519_PRIME: [u8; 32] = [
    0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
];

/// The y of the four points of order 8; the sign of x makes two of each.
const ED25519_ORDER_8: [[u8; 32]; 2] = [
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
];

/// The eight points of the torsion group and their encodings that are not reduced modulo p: y is 0 (order 4), 1 (the
/// neutral element), p − 1 (order 2), p and p + 1 (0 and 1 once more), or one of [`ED25519_ORDER_8`].
fn has_small_order(point: &[u8; 32]) -> bool {
    let mut y = *point;
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    let (low, rest) = (y[0], &y[1..]);
    let near_zero = low <= 1 && rest.iter().all(|byte| *byte == 0);
    let near_prime = (0xec..=0xee).contains(&low) && *rest == ED25519_PRIME[1..];
    near_zero || near_prime || ED25519_ORDER_8.contains(&y)
}
