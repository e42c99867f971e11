//! Signing, checked by the verifier: every form of key file, and every misuse refused.

use ir::{Algorithm, JwkMaterial};
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use serde_json::json;

use super::support::{Gate, SECRET, coordinates, der, good_claims, jwk, material, provider_with};
use crate::filter::auth::refusal::AuthReason;
use crate::filter::auth::{SignError, SigningKey, sign_token};

const RSA_PKCS1: &[u8] = include_bytes!("testdata/rsa-pkcs1.pem");
const RSA_PKCS8: &[u8] = include_bytes!("testdata/rsa-pkcs8.pem");
const RSA_ENCRYPTED: &[u8] = include_bytes!("testdata/rsa-encrypted.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("testdata/rsa-public.pem");
const P256_SEC1: &[u8] = include_bytes!("testdata/p256-sec1.pem");
const P256_PKCS8: &[u8] = include_bytes!("testdata/p256-pkcs8.pem");
const P384_SEC1: &[u8] = include_bytes!("testdata/p384-sec1.pem");
const P384_PKCS8: &[u8] = include_bytes!("testdata/p384-pkcs8.pem");
const ED25519_PKCS8: &[u8] = include_bytes!("testdata/ed25519-pkcs8.pem");

/// The public half of a key file, found by the library rather than by the code under test.
fn public(algorithm: Algorithm) -> JwkMaterial {
    use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair};
    let text = |pem| der(std::str::from_utf8(pem).expect("text"));
    let elliptic = |signing, pem| {
        let pair = EcdsaKeyPair::from_pkcs8(signing, &text(pem)).expect("an EC key");
        coordinates(pair.public_key().as_ref())
    };
    match algorithm {
        Algorithm::ES256 => {
            let (x, y) = elliptic(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING, P256_PKCS8);
            JwkMaterial::P256 { x, y }
        }
        Algorithm::ES384 => {
            let (x, y) = elliptic(&aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING, P384_PKCS8);
            JwkMaterial::P384 { x, y }
        }
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&text(ED25519_PKCS8)).expect("a key");
            JwkMaterial::Ed25519 { x: pair.public_key().as_ref().to_vec() }
        }
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => material(algorithm),
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => {
            let components = DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key;
            let (n, e) = components(&text(RSA_PUBLIC)).expect("an RSA key");
            JwkMaterial::Rsa { n, e }
        }
    }
}

#[test]
fn every_form_of_key_file_signs_what_the_verifier_takes() {
    let cases = [
        (Algorithm::HS256, SigningKey::Secret(SECRET)),
        (Algorithm::HS384, SigningKey::Secret(SECRET)),
        (Algorithm::HS512, SigningKey::Secret(SECRET)),
        (Algorithm::RS256, SigningKey::Pem(RSA_PKCS1)),
        (Algorithm::RS256, SigningKey::Pem(RSA_PKCS8)),
        (Algorithm::PS512, SigningKey::Pem(RSA_PKCS8)),
        (Algorithm::ES256, SigningKey::Pem(P256_SEC1)),
        (Algorithm::ES256, SigningKey::Pem(P256_PKCS8)),
        (Algorithm::ES384, SigningKey::Pem(P384_SEC1)),
        (Algorithm::ES384, SigningKey::Pem(P384_PKCS8)),
        (Algorithm::EdDSA, SigningKey::Pem(ED25519_PKCS8)),
    ];
    for (index, (algorithm, key)) in cases.into_iter().enumerate() {
        for kid in [None, Some("k1")] {
            let token = sign_token(algorithm, key, kid, &good_claims());
            let token = token.unwrap_or_else(|error| panic!("case {index} {algorithm:?}: {error}"));
            let mut gate = Gate::of(provider_with(&[algorithm], vec![jwk(kid, public(algorithm))]));
            assert_eq!(gate.reason(&token), None, "case {index} {algorithm:?} {kid:?}");
            let mut other = Gate::of(provider_with(&[algorithm], vec![jwk(Some("k2"), public(algorithm))]));
            let want = kid.map(|_| AuthReason::KeyUnknown);
            assert_eq!(other.reason(&token), want, "case {index}: another kid");
        }
    }
}

#[test]
fn what_cannot_sign_is_refused_with_a_reason() {
    let cut = &RSA_PKCS8[..RSA_PKCS8.len() / 2];
    let claims = good_claims();
    let cases = [
        (Algorithm::HS256, SigningKey::Pem(RSA_PKCS8), SignError::KeyKindMismatch),
        (Algorithm::RS256, SigningKey::Secret(SECRET), SignError::KeyKindMismatch),
        (Algorithm::EdDSA, SigningKey::Secret(SECRET), SignError::KeyKindMismatch),
        (Algorithm::HS256, SigningKey::Secret(b""), SignError::EmptySecret),
        (Algorithm::RS256, SigningKey::Pem(b""), SignError::NoPrivateKey),
        (Algorithm::RS256, SigningKey::Pem(b"-----BEGIN PRIVATE KEY-----"), SignError::NoPrivateKey),
        (Algorithm::RS256, SigningKey::Pem(&[0xff, 0xfe]), SignError::NoPrivateKey),
        (Algorithm::RS256, SigningKey::Pem(cut), SignError::NoPrivateKey),
        (Algorithm::RS256, SigningKey::Pem(RSA_PUBLIC), SignError::NoPrivateKey),
        (Algorithm::RS256, SigningKey::Pem(RSA_ENCRYPTED), SignError::NoPrivateKey),
        (Algorithm::RS256, SigningKey::Pem(P256_PKCS8), SignError::KeyRejected),
        (Algorithm::ES256, SigningKey::Pem(RSA_PKCS8), SignError::KeyRejected),
        (Algorithm::ES256, SigningKey::Pem(P384_PKCS8), SignError::KeyRejected),
        (Algorithm::ES384, SigningKey::Pem(P256_SEC1), SignError::KeyRejected),
        (Algorithm::EdDSA, SigningKey::Pem(P256_PKCS8), SignError::KeyRejected),
    ];
    for (index, (algorithm, key, want)) in cases.into_iter().enumerate() {
        assert_eq!(sign_token(algorithm, key, None, &claims), Err(want), "case {index} {algorithm:?}");
    }
    for claims in [json!([]), json!("x"), json!(null)] {
        let signed = sign_token(Algorithm::HS256, SigningKey::Secret(SECRET), None, &claims);
        assert_eq!(signed, Err(SignError::ClaimsNotObject), "{claims}");
    }
}
