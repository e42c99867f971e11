//! The form of a token: three strict base64url parts and the protected header (RFC 7515 §3.1). Trusts nothing in it:
//! `alg` and `kid` only choose among configured keys, and everything else that could name a key is never read.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ir::Algorithm;
use serde_json::{Map, Value};

use super::json;
use super::refusal::AuthReason;

/// The longest token that is looked at, in bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// A well-formed token that nobody has verified yet.
pub(super) struct UnverifiedToken<'a> {
    /// What the signature covers: the first two parts and the dot between them.
    pub(super) signed: &'a str,
    /// Still base64url.
    pub(super) signature: &'a str,
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    payload: &'a str,
}

impl<'a> UnverifiedToken<'a> {
    /// # Errors
    /// `TokenTooLong`, `TokenMalformed`, `HeaderUnsupported` or `AlgorithmNotAllowed`.
    pub(super) fn parse(token: &'a [u8]) -> Result<Self, AuthReason> {
        // First, so that a huge token costs one comparison.
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthReason::TokenTooLong);
        }
        let text = std::str::from_utf8(token).map_err(|_| AuthReason::TokenMalformed)?;
        let (signed, signature) = text.rsplit_once('.').ok_or(AuthReason::TokenMalformed)?;
        let (header, payload) = signed.split_once('.').ok_or(AuthReason::TokenMalformed)?;
        if payload.contains('.') || header.is_empty() || payload.is_empty() {
            return Err(AuthReason::TokenMalformed);
        }
        let header = decode(header).ok_or(AuthReason::TokenMalformed)?;
        let header = json::parse_object(&header).ok_or(AuthReason::TokenMalformed)?;
        let (algorithm, kid) = read_header(&header)?;
        // After the header, so that `alg: none` is called by its name whatever its signature.
        // To its end in any case: how long it takes hangs on the length alone.
        let is_sound =
            signature.bytes().fold(!signature.is_empty(), |sound, byte| sound & is_base64url(byte));
        if !is_sound {
            return Err(AuthReason::TokenMalformed);
        }
        Ok(Self { signed, signature, algorithm, kid, payload })
    }

    /// The claims. Asked for only once the signature is known to be good, so that nobody but an issuer has them parsed.
    ///
    /// # Errors
    /// `ClaimsMalformed`.
    pub(super) fn claims(&self) -> Result<Map<String, Value>, AuthReason> {
        let payload = decode(self.payload).ok_or(AuthReason::ClaimsMalformed)?;
        json::parse_object(&payload).ok_or(AuthReason::ClaimsMalformed)
    }
}

/// Strict: no padding, no white space, no bits left over (RFC 7515 §2).
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// One load for each byte: comparisons would take as long as their branches are guessed wrong.
static BASE64URL: [bool; 256] = {
    let mut table = [false; 256];
    let mut rest: &mut [bool] = &mut table;
    let mut byte: u8 = 0;
    while let [is_one, after @ ..] = rest {
        *is_one = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        byte = byte.wrapping_add(1);
        rest = after;
    }
    table
};

fn is_base64url(byte: u8) -> bool {
    BASE64URL.get(usize::from(byte)).copied().unwrap_or(false)
}

fn read_header(header: &Map<String, Value>) -> Result<(Algorithm, Option<String>), AuthReason> {
    // RFC 7515 §4.1.11: we understand no extension, so whatever `crit` names is not understood.
    if header.contains_key("crit") {
        return Err(AuthReason::HeaderUnsupported);
    }
    // RFC 7797: an unencoded payload would make the signature cover other bytes than those that are read here.
    if header.get("b64").is_some_and(|b64| *b64 != Value::Bool(true)) {
        return Err(AuthReason::HeaderUnsupported);
    }
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or(AuthReason::TokenMalformed)?;
    let algorithm = Algorithm::named(algorithm).ok_or(AuthReason::AlgorithmNotAllowed)?;
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.clone()),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            return Err(AuthReason::TokenMalformed);
        }
    };
    Ok((algorithm, kid))
}
