//! JSON Web Key Sets (RFC 7517, RFC 7518 §6, RFC 8037) into keys: those of objects and those that are fetched. Must not
//! fetch, and must not let a key's bytes into a message. Private parts are never read.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::{Algorithm, Jwk, JwkMaterial, Redacted};

/// The largest key set in bytes and in keys (hardening JW12).
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
pub const JWKS_KEYS_MAX: usize = 100;
/// RSA keys outside these sizes are refused (hardening JW09; the upper bound keeps verification cheap).
const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;
/// HMAC keys shorter than the smallest hash (RFC 7518 §3.2) deserve a warning.
pub const HMAC_BYTES_ADVISED: usize = 32;

/// The keys that can be used, and what is to be said about the others.
#[derive(Debug, Default)]
pub struct ParsedKeys {
    pub keys: Vec<Jwk>,
    pub findings: Vec<KeyFinding>,
}

/// One key that is not used, or used with a doubt.
#[derive(Debug)]
pub struct KeyFinding {
    /// Place in `keys`.
    pub index: usize,
    pub refused: bool,
    pub message: String,
}

/// Why a text is no key set at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySetError {
    TooLarge,
    /// Not JSON, or JSON without an array `keys`.
    NotAKeySet,
    TooManyKeys,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

/// What is read of a key: the public members (and `k`, which is secret).
#[derive(Deserialize)]
struct RawKey {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

/// What becomes of one key.
enum KeyVerdict {
    Use(Jwk),
    /// Meant for something else than signatures: passed over in silence, as RFC 7517 §4.2 intends.
    Skip,
    Refuse(String),
}

impl KeySetError {
    pub const fn message(self) -> &'static str {
        match self {
            Self::TooLarge => "the key set is larger than 256 KiB",
            Self::NotAKeySet => "this is no JSON Web Key Set: a JSON object with an array 'keys' is expected",
            Self::TooManyKeys => "the key set has more than 100 keys",
        }
    }
}

/// Reads a key set. Symmetric keys are taken only where `from_secret`: anywhere else they are no secret.
pub fn parse_jwks(bytes: &[u8], from_secret: bool) -> Result<ParsedKeys, KeySetError> {
    if bytes.len() > JWKS_BYTES_MAX {
        return Err(KeySetError::TooLarge);
    }
    let set: RawSet = serde_json::from_slice(bytes).map_err(|_| KeySetError::NotAKeySet)?;
    if set.keys.len() > JWKS_KEYS_MAX {
        return Err(KeySetError::TooManyKeys);
    }
    let mut parsed = ParsedKeys::default();
    for (index, value) in set.keys.into_iter().enumerate() {
        match read_key(value, from_secret) {
            KeyVerdict::Use(key) => {
                if let JwkMaterial::Symmetric(secret) = &key.material
                    && secret.expose().len() < HMAC_BYTES_ADVISED
                {
                    let message = "the HMAC key is shorter than 32 bytes and can be guessed".to_owned();
                    parsed.findings.push(KeyFinding { index, refused: false, message });
                }
                parsed.keys.push(key);
            }
            KeyVerdict::Skip => {}
            KeyVerdict::Refuse(message) => parsed.findings.push(KeyFinding { index, refused: true, message }),
        }
    }
    Ok(parsed)
}

/// Whether a key may verify this algorithm: its type fits, and its own `alg` (where it has one) is this.
pub fn key_fits(key: &Jwk, algorithm: Algorithm) -> bool {
    material_fits(&key.material, algorithm) && key.algorithm.is_none_or(|own| own == algorithm)
}

/// Whether bytes that are no key set look like an attempt at one, or at a single key: such bytes are no raw key, and to
/// take them for one would hide the mistake. A random key may begin with a brace, but hardly holds one of the words too.
pub fn was_meant_as_json(bytes: &[u8]) -> bool {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes).trim_ascii_start();
    text.first() == Some(&b'{') && text.windows(4).any(|word| word == b"keys" || word == b"\"kty")
}

fn material_fits(material: &JwkMaterial, algorithm: Algorithm) -> bool {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            matches!(material, JwkMaterial::Symmetric(_))
        }
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => matches!(material, JwkMaterial::Rsa { .. }),
        Algorithm::ES256 => matches!(material, JwkMaterial::P256 { .. }),
        Algorithm::ES384 => matches!(material, JwkMaterial::P384 { .. }),
        Algorithm::EdDSA => matches!(material, JwkMaterial::Ed25519 { .. }),
    }
}

fn read_key(value: serde_json::Value, from_secret: bool) -> KeyVerdict {
    // The parser's own message could quote the value, so it is not passed on.
    let Ok(raw) = serde_json::from_value::<RawKey>(value) else {
        return KeyVerdict::Refuse("the key has no text 'kty', or a member of the wrong type".to_owned());
    };
    let for_signatures = raw.usage.as_deref().is_none_or(|usage| usage == "sig")
        && raw.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify" || op == "sign"));
    if !for_signatures {
        return KeyVerdict::Skip;
    }
    let material = match raw.kty.as_str() {
        "RSA" => rsa(&raw),
        "EC" => elliptic(&raw),
        "OKP" => edwards(&raw),
        "oct" => symmetric(&raw, from_secret),
        _ => Err("the key type is none of RSA, EC, OKP and oct".to_owned()),
    };
    let material = match material {
        Ok(material) => material,
        Err(message) => return KeyVerdict::Refuse(message),
    };
    let algorithm = match raw.alg.as_deref() {
        None => None,
        Some(name) => match Algorithm::named(name) {
            Some(algorithm) if material_fits(&material, algorithm) => Some(algorithm),
            Some(_) => return KeyVerdict::Refuse("the key's 'alg' does not fit its type".to_owned()),
            None => return KeyVerdict::Refuse("the key's 'alg' is not supported".to_owned()),
        },
    };
    KeyVerdict::Use(Jwk { kid: raw.kid, algorithm, material })
}

fn rsa(raw: &RawKey) -> Result<JwkMaterial, String> {
    let n = without_leading_zeros(member(raw.n.as_deref(), "n")?);
    let e = without_leading_zeros(member(raw.e.as_deref(), "e")?);
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if bits < RSA_BITS_MIN {
        return Err(format!("the RSA key has {bits} bits; at least {RSA_BITS_MIN} are needed"));
    }
    if bits > RSA_BITS_MAX {
        return Err(format!("the RSA key has {bits} bits; at most {RSA_BITS_MAX} are allowed"));
    }
    let odd = e.last().is_some_and(|last| last & 1 == 1);
    // 33 bits is what aws-lc accepts; 1 would make every signature valid.
    if !odd || e == [1] || e.len() > 4 {
        return Err("the RSA key's exponent 'e' is not an odd number from 3 to 2^32".to_owned());
    }
    Ok(JwkMaterial::Rsa { n, e })
}

fn elliptic(raw: &RawKey) -> Result<JwkMaterial, String> {
    let bytes = match raw.crv.as_deref() {
        Some("P-256") => 32,
        Some("P-384") => 48,
        Some(_) | None => return Err("the key's curve is neither P-256 nor P-384".to_owned()),
    };
    let (x, y) = (member(raw.x.as_deref(), "x")?, member(raw.y.as_deref(), "y")?);
    if x.len() != bytes || y.len() != bytes {
        return Err(format!(
            "the key's coordinates 'x' and 'y' are not {bytes} bytes long (RFC 7518 §6.2.1)"
        ));
    }
    Ok(if bytes == 32 { JwkMaterial::P256 { x, y } } else { JwkMaterial::P384 { x, y } })
}

fn edwards(raw: &RawKey) -> Result<JwkMaterial, String> {
    if raw.crv.as_deref() != Some("Ed25519") {
        return Err("the key's curve is not Ed25519".to_owned());
    }
    let x = member(raw.x.as_deref(), "x")?;
    if x.len() != 32 {
        return Err("the key's 'x' is not 32 bytes long".to_owned());
    }
    Ok(JwkMaterial::Ed25519 { x })
}

fn symmetric(raw: &RawKey, from_secret: bool) -> Result<JwkMaterial, String> {
    if !from_secret {
        return Err("a symmetric key stands outside a Secret, where others can read it".to_owned());
    }
    let k = member(raw.k.as_deref(), "k")?;
    if k.is_empty() {
        return Err("the symmetric key is empty".to_owned());
    }
    Ok(JwkMaterial::Symmetric(Redacted::new(k)))
}

fn member(value: Option<&str>, name: &str) -> Result<Vec<u8>, String> {
    let text = value.ok_or_else(|| format!("the key has no '{name}'"))?;
    // Padding is not allowed by RFC 7515 §2 but harmless, and some issuers write it.
    URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| format!("the key's '{name}' is not base64url"))
}

fn without_leading_zeros(bytes: Vec<u8>) -> Vec<u8> {
    match bytes.iter().position(|byte| *byte != 0) {
        Some(0) => bytes,
        Some(first) => bytes.into_iter().skip(first).collect(),
        None => Vec::new(),
    }
}
