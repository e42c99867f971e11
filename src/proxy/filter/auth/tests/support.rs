//! Keys, raw tokens and a route to send them to.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaKeyPair, RsaPublicKeyComponents,
};
use aws_lc_rs::{hmac, rsa};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use ir::{
    Algorithm, Auth, AuthMode, Jwk, JwkMaterial, JwtProvider, JwtRequirement, KeySet, KeySource, Kind,
    ObjectRef, Redacted, TokenSource,
};
use serde_json::{Value, json};

use crate::filter::auth::refusal::AuthReason;
use crate::filter::auth::{AuthRefusal, AuthRequest, AuthStage, AuthStop, Identity, VerdictCache, Verifiers};

pub(super) const NOW: u64 = 1_800_000_000;
pub(super) const ISSUER: &str = "https://id.example.com/";
pub(super) const AUDIENCE: &str = "shop-api";
pub(super) const SECRET: &[u8] = b"an-hmac-secret-of-some-length-canary-7f3a";

pub(super) struct Keys {
    pub(super) rsa: RsaKeyPair,
    pub(super) p256: EcdsaKeyPair,
    pub(super) p384: EcdsaKeyPair,
    pub(super) ed25519: Ed25519KeyPair,
}

/// Made once a process.
pub(super) static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    rsa: RsaKeyPair::generate(rsa::KeySize::Rsa2048).expect("RSA key"),
    p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("P-256 key"),
    p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("P-384 key"),
    ed25519: Ed25519KeyPair::generate().expect("Ed25519 key"),
});

pub(super) const ALL: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn un64(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

/// The DER of a PEM file.
pub(super) fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).expect("base64")
}

/// The public half of the key that signs with this algorithm.
pub(super) fn material(algorithm: Algorithm) -> JwkMaterial {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => secret(SECRET),
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => {
            let public = RsaPublicKeyComponents::<Vec<u8>>::from(KEYS.rsa.public_key());
            JwkMaterial::Rsa { n: public.n, e: public.e }
        }
        Algorithm::ES256 => {
            let (x, y) = coordinates(KEYS.p256.public_key().as_ref());
            JwkMaterial::P256 { x, y }
        }
        Algorithm::ES384 => {
            let (x, y) = coordinates(KEYS.p384.public_key().as_ref());
            JwkMaterial::P384 { x, y }
        }
        Algorithm::EdDSA => JwkMaterial::Ed25519 { x: KEYS.ed25519.public_key().as_ref().to_vec() },
    }
}

pub(super) fn coordinates(point: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    (x.to_vec(), y.to_vec())
}

pub(super) fn secret(bytes: &[u8]) -> JwkMaterial {
    JwkMaterial::Symmetric(Redacted::new(bytes.to_vec()))
}

pub(super) fn jwk(kid: Option<&str>, material: JwkMaterial) -> Jwk {
    Jwk { kid: kid.map(str::to_owned), algorithm: None, material }
}

pub(super) fn raw_signature(algorithm: Algorithm, message: &str) -> Vec<u8> {
    let (message, random) = (message.as_bytes(), SystemRandom::new());
    let hmac = |kind| hmac::sign(&hmac::Key::new(kind, SECRET), message).as_ref().to_vec();
    let rsa = |padding| {
        let mut signature = vec![0; KEYS.rsa.public_modulus_len()];
        KEYS.rsa.sign(padding, &random, message, &mut signature).expect("RSA signature");
        signature
    };
    match algorithm {
        Algorithm::HS256 => hmac(hmac::HMAC_SHA256),
        Algorithm::HS384 => hmac(hmac::HMAC_SHA384),
        Algorithm::HS512 => hmac(hmac::HMAC_SHA512),
        Algorithm::RS256 => rsa(&RSA_PKCS1_SHA256),
        Algorithm::RS384 => rsa(&RSA_PKCS1_SHA384),
        Algorithm::RS512 => rsa(&RSA_PKCS1_SHA512),
        Algorithm::PS256 => rsa(&RSA_PSS_SHA256),
        Algorithm::PS384 => rsa(&RSA_PSS_SHA384),
        Algorithm::PS512 => rsa(&RSA_PSS_SHA512),
        Algorithm::ES256 => KEYS.p256.sign(&random, message).expect("P-256 signature").as_ref().to_vec(),
        Algorithm::ES384 => KEYS.p384.sign(&random, message).expect("P-384 signature").as_ref().to_vec(),
        Algorithm::EdDSA => KEYS.ed25519.sign(message).as_ref().to_vec(),
    }
}

/// A token of exactly this header and payload, signed by the key of the algorithm.
pub(super) fn raw_token(algorithm: Algorithm, header: &str, payload: &str) -> String {
    let message = format!("{}.{}", b64(header), b64(payload));
    let signature = b64(raw_signature(algorithm, &message));
    format!("{message}.{signature}")
}

pub(super) fn hmac_token(secret: &[u8], header: &str, payload: &str) -> String {
    let message = format!("{}.{}", b64(header), b64(payload));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", b64(signature.as_ref()))
}

pub(super) fn good_claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 600, "iat": NOW - 5})
}

/// The good claims with these in place of theirs; null takes one away.
#[expect(clippy::needless_pass_by_value, reason = "every caller writes the changes in place")]
pub(super) fn claims_with(changes: Value) -> Value {
    let mut claims = good_claims();
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

pub(super) fn token(algorithm: Algorithm, claims: &Value) -> String {
    raw_token(algorithm, &format!("{{\"alg\":\"{algorithm:?}\",\"typ\":\"JWT\"}}"), &claims.to_string())
}

/// An HS256 token: the cheap kind where the kind of key does not matter.
pub(super) fn hs256(claims: &Value) -> String {
    token(Algorithm::HS256, claims)
}

pub(super) fn bearer_source() -> TokenSource {
    TokenSource::Header { name: header::AUTHORIZATION, prefix: "Bearer ".to_owned() }
}

pub(super) fn given(keys: Vec<Jwk>) -> KeySource {
    KeySource::Given(KeySet { keys })
}

pub(super) fn provider_with(algorithms: &[Algorithm], keys: Vec<Jwk>) -> JwtProvider {
    JwtProvider {
        source: ObjectRef::new(Kind::GatewayRoute, "shop", "shop"),
        name: "corp".into(),
        issuer: Some(ISSUER.to_owned()),
        audiences: vec![AUDIENCE.to_owned()],
        keys: given(keys),
        algorithms: algorithms.to_vec(),
        from: vec![bearer_source()],
        clock_skew: Duration::from_secs(30),
        required_claims: vec!["exp".to_owned()],
        claims_to_headers: Vec::new(),
        forward_token: true,
    }
}

pub(super) fn provider() -> JwtProvider {
    provider_with(&[Algorithm::HS256], vec![jwk(None, secret(SECRET))])
}

pub(super) fn auth(providers: Vec<JwtProvider>) -> Auth {
    Auth {
        source: ObjectRef::new(Kind::GatewayRoute, "shop", "shop"),
        jwt: Some(JwtRequirement {
            providers: providers.into_iter().map(Arc::new).collect(),
            optional: false,
        }),
        mode: AuthMode::All,
        api_key: None,
        basic: None,
        external: None,
        authorization: None,
    }
}

/// Header lines of one request.
pub(super) type Lines<'a> = &'a [(&'a str, &'a str)];

/// A route with a worker's cache.
pub(super) struct Gate {
    pub(super) stage: AuthStage,
    pub(super) cache: VerdictCache,
    pub(super) verifiers: Verifiers,
    pub(super) now: u64,
    pub(super) method: Method,
    pub(super) client: IpAddr,
}

impl Gate {
    pub(super) fn new(auths: &[Auth]) -> Self {
        let mut verifiers = Verifiers::new(Arc::default());
        Self {
            stage: AuthStage::new(auths, &mut verifiers),
            cache: VerdictCache::default(),
            verifiers,
            now: NOW,
            method: Method::GET,
            client: "192.0.2.7".parse().expect("an address"),
        }
    }

    pub(super) fn of(provider: JwtProvider) -> Self {
        Self::new(&[auth(vec![provider])])
    }

    pub(super) fn ask_all(
        &mut self,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<Identity, AuthRefusal> {
        let request = AuthRequest { headers, query, method: &self.method, client: Some(self.client) };
        self.stage.check(request, self.now, &mut self.cache, &[]).map_err(|stop| match stop {
            AuthStop::Refused(refusal) => refusal,
            AuthStop::Needs(need) => panic!("{need:?}"),
            AuthStop::Asks(need) => panic!("{need:?}"),
        })
    }

    pub(super) fn ask(&mut self, headers: &[(&str, &str)]) -> Result<Identity, AuthReason> {
        self.ask_all(&header_map(headers), None).map_err(|refusal| refusal.reason)
    }

    pub(super) fn ask_bearer(&mut self, token: &str) -> Result<Identity, AuthReason> {
        self.ask(&[("authorization", &format!("Bearer {token}"))])
    }

    pub(super) fn reason(&mut self, token: &str) -> Option<AuthReason> {
        self.ask_bearer(token).err()
    }
}

pub(super) fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    headers
        .iter()
        .map(|(name, value)| {
            (
                name.parse::<HeaderName>().expect("a header name"),
                HeaderValue::from_bytes(value.as_bytes()).expect("a header value"),
            )
        })
        .fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
}
