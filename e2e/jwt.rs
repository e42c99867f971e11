//! Tokens, good and bad, and the keys for them. Builds every part by hand, so that a test can bend each.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// base64url without padding.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970.
///
/// # Panics
/// When the clock stands before 1970.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

/// What a good token of the tests' issuer says: valid for an hour.
pub fn claims() -> Value {
    json!({"iss": "https://id.example.com/", "aud": "shop-api", "sub": "ada", "exp": now() + 3600})
}

/// A token of these parts, signed by the function.
pub fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    token_of_bytes(&header.to_string(), &claims.to_string(), sign)
}

/// As [`token`], of raw texts that need not be JSON.
pub fn token_of_bytes(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let input = format!("{}.{}", encode(header), encode(claims));
    let signature = sign(input.as_bytes());
    format!("{input}.{}", encode(signature))
}

/// An HS256 token.
pub fn hs256(secret: &[u8], claims: &Value) -> String {
    token(&json!({"alg": "HS256", "typ": "JWT"}), claims, |input| hmac_sha256(secret, input))
}

pub fn hmac_sha256(secret: &[u8], input: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input).as_ref().to_vec()
}

/// A pair of keys that signs, with its public half as a JWK.
#[derive(Debug)]
pub enum Signer {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    /// # Panics
    /// When the system gives no random bytes.
    pub fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key")))
    }

    /// # Panics
    /// When the system gives no random bytes.
    pub fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key"))
    }

    /// # Panics
    /// When the system gives no random bytes.
    pub fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().expect("an Ed25519 key"))
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    /// # Panics
    /// When signing fails.
    pub fn sign(&self, input: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input, &mut signature)
                    .expect("a signature");
                signature
            }
            Self::P256(pair) => {
                pair.sign(&SystemRandom::new(), input).expect("a signature").as_ref().to_vec()
            }
            Self::Ed25519(pair) => pair.sign(input).as_ref().to_vec(),
        }
    }

    /// A good token of this key.
    pub fn token(&self, kid: &str, claims: &Value) -> String {
        token(&json!({"alg": self.algorithm(), "kid": kid}), claims, |input| self.sign(input))
    }

    /// The public key as the attacker of JW02 would use it as an HMAC secret: DER, or the bytes of the JWK.
    ///
    /// # Panics
    /// Never for keys made here.
    pub fn public_bytes(&self) -> Vec<Vec<u8>> {
        let der = match self {
            Self::Rsa(pair) => pair.public_key().as_der().map(|der| der.as_ref().to_vec()).ok(),
            Self::P256(pair) => pair.public_key().as_der().map(|der| der.as_ref().to_vec()).ok(),
            Self::Ed25519(pair) => pair.public_key().as_der().map(|der| der.as_ref().to_vec()).ok(),
        };
        let raw = match self {
            Self::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            Self::P256(pair) => pair.public_key().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        };
        let der = der.expect("a public key in DER");
        let base64 = base64::engine::general_purpose::STANDARD.encode(&der);
        let lines: Vec<&str> =
            base64.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
        vec![
            raw,
            der,
            pem.clone().into_bytes(),
            pem.trim_end().into(),
            self.jwk("k").to_string().into_bytes(),
        ]
    }

    /// The public half (RFC 7517).
    pub fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                let public = pair.public_key();
                json!({
                    "kty": "RSA", "kid": kid, "alg": "RS256", "use": "sig",
                    "n": encode(public.modulus().big_endian_without_leading_zero()),
                    "e": encode(public.exponent().big_endian_without_leading_zero()),
                })
            }
            Self::P256(pair) => {
                // An uncompressed point: 04, x, y.
                let point = pair.public_key().as_ref();
                json!({
                    "kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig",
                    "x": encode(&point[1..33]), "y": encode(&point[33..65]),
                })
            }
            Self::Ed25519(pair) => json!({
                "kty": "OKP", "crv": "Ed25519", "kid": kid, "alg": "EdDSA", "use": "sig",
                "x": encode(pair.public_key().as_ref()),
            }),
        }
    }
}

/// A key set of these keys, named `k0`, `k1` and so on.
pub fn jwks(signers: &[&Signer]) -> String {
    let keys: Vec<Value> =
        signers.iter().enumerate().map(|(i, signer)| signer.jwk(&format!("k{i}"))).collect();
    json!({"keys": keys}).to_string()
}
