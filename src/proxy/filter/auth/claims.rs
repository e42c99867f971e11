//! The registered claims (RFC 7519 §4.1) against a provider, and claims as text. Strict about types: a claim of the wrong
//! type refuses the token instead of being skipped.

use std::borrow::Cow;

use http::HeaderValue;
use ir::JwtProvider;
use serde_json::{Map, Value};

use super::refusal::AuthReason;

/// The claims of one token.
pub(super) type Claims = Map<String, Value>;

/// Clock skew above this is cut, whatever the configuration says (hardening JW05), in seconds.
const CLOCK_SKEW_S_MAX: u64 = 60;

/// When a token may be used, in seconds since 1970, clock skew included: `from <= now < until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: u64,
    pub(super) until: u64,
}

impl Window {
    pub(super) const fn contains(self, now_unix_s: u64) -> bool {
        self.from <= now_unix_s && now_unix_s < self.until
    }
}

/// Whether the provider takes these claims at this time; the window tells how long the answer holds.
///
/// # Errors
/// `ClaimWrongType`, `ClaimMissing`, `TokenExpired`, `TokenNotYetValid`, `IssuerMismatch` or `AudienceMismatch`.
pub(super) fn check(provider: &JwtProvider, claims: &Claims, now_unix_s: u64) -> Result<Window, AuthReason> {
    check_subject(claims)?;
    for name in &provider.required_claims {
        if claims.get(name).is_none_or(Value::is_null) {
            return Err(AuthReason::ClaimMissing);
        }
    }
    check_issuer(provider.issuer.as_deref(), claims)?;
    check_audience(&provider.audiences, claims)?;
    let window = window(claims, provider.clock_skew.as_secs().min(CLOCK_SKEW_S_MAX))?;
    if now_unix_s >= window.until {
        return Err(AuthReason::TokenExpired);
    }
    if now_unix_s < window.from {
        return Err(AuthReason::TokenNotYetValid);
    }
    Ok(window)
}

fn window(claims: &Claims, skew_s: u64) -> Result<Window, AuthReason> {
    let expires = instant(claims, "exp")?.ok_or(AuthReason::ClaimMissing)?;
    let not_before = instant(claims, "nbf")?.unwrap_or(0);
    let issued = instant(claims, "iat")?.unwrap_or(0);
    Ok(Window { from: not_before.max(issued).saturating_sub(skew_s), until: expires.saturating_add(skew_s) })
}

/// A NumericDate (RFC 7519 §2) in whole seconds since 1970. A string, a fraction, a negative number, one beyond 64 bits
/// or null is refused (hardening JW05): what an issuer does not write plainly is not guessed.
fn instant(claims: &Claims, name: &str) -> Result<Option<u64>, AuthReason> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let Value::Number(number) = value else {
        return Err(if value.is_null() && name == "exp" {
            AuthReason::ClaimMissing
        } else {
            AuthReason::ClaimWrongType
        });
    };
    number.as_u64().map(Some).ok_or(AuthReason::ClaimWrongType)
}

/// `sub` must be a string where it stands; null counts as missing where somebody relied on it being there.
fn check_subject(claims: &Claims) -> Result<(), AuthReason> {
    match claims.get("sub") {
        None | Some(Value::String(_)) => Ok(()),
        Some(Value::Null) => Err(AuthReason::ClaimMissing),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(AuthReason::ClaimWrongType)
        }
    }
}

fn check_issuer(wanted: Option<&str>, claims: &Claims) -> Result<(), AuthReason> {
    let issuer = match claims.get("iss") {
        None | Some(Value::Null) => None,
        Some(Value::String(issuer)) => Some(issuer.as_str()),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            return Err(AuthReason::ClaimWrongType);
        }
    };
    match (wanted, issuer) {
        (None, _) => Ok(()),
        (Some(wanted), Some(issuer)) if wanted == issuer => Ok(()),
        (Some(_), Some(_) | None) => Err(AuthReason::IssuerMismatch),
    }
}

/// `aud` is a string or an array of strings (RFC 7519 §4.1.3), of any other type even where it is not compared.
fn check_audience(wanted: &[String], claims: &Claims) -> Result<(), AuthReason> {
    let is_wanted = |audience: &str| wanted.iter().any(|wanted| wanted == audience);
    let named = match claims.get("aud") {
        None | Some(Value::Null) => false,
        Some(Value::String(audience)) => is_wanted(audience),
        Some(Value::Array(audiences)) => {
            if !audiences.iter().all(Value::is_string) {
                return Err(AuthReason::ClaimWrongType);
            }
            audiences.iter().filter_map(Value::as_str).any(is_wanted)
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            return Err(AuthReason::ClaimWrongType);
        }
    };
    if named || wanted.is_empty() { Ok(()) } else { Err(AuthReason::AudienceMismatch) }
}

/// The claim at the end of a way that is already split. `None` where it is missing or null.
pub(super) fn at<S: AsRef<str>>(claims: &Claims, path: impl IntoIterator<Item = S>) -> Option<&Value> {
    let mut steps = path.into_iter();
    let mut value = claims.get(steps.next()?.as_ref())?;
    for step in steps {
        value = match value {
            Value::Object(object) => object.get(step.as_ref())?,
            // RFC 6901 §4: an element of an array goes by its index.
            Value::Array(list) => list.get(step.as_ref().parse::<usize>().ok()?)?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
        };
    }
    (!value.is_null()).then_some(value)
}

/// The claim that a policy names in one string: `realm.roles`, or a JSON pointer `/https:~1~1example.com~1tier`.
pub(super) fn named<'c>(claims: &'c Claims, name: &str) -> Option<&'c Value> {
    match name.strip_prefix('/') {
        Some(pointer) => at(claims, pointer.split('/').map(unescape)),
        None => at(claims, name.split('.')),
    }
}

/// RFC 6901 §4: `~1` is `/` and `~0` is `~`, in this order.
fn unescape(step: &str) -> Cow<'_, str> {
    if step.contains('~') {
        Cow::Owned(step.replace("~1", "/").replace("~0", "~"))
    } else {
        Cow::Borrowed(step)
    }
}

/// A string, number or boolean as text; `None` for what has no one text.
pub(super) fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(true) => Some(Cow::Borrowed("true")),
        Value::Bool(false) => Some(Cow::Borrowed("false")),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The claim as an upstream gets it: arrays joined, objects as compact JSON. `None` where that is no header value.
pub(super) fn header_value(value: &Value, join: &str) -> Option<HeaderValue> {
    let whole = |value: &Value| text(value).map_or_else(|| value.to_string(), Cow::into_owned);
    let text = match value {
        Value::Array(elements) => elements.iter().map(whole).collect::<Vec<_>>().join(join),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => whole(value),
    };
    // Text beyond ASCII passes as UTF-8; line breaks and other control characters do not.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
}

/// About how many bytes the claims take in memory.
pub(super) fn weight(claims: &Claims) -> usize {
    claims.iter().map(|(name, value)| MEMBER_BYTES + name.len() + value_weight(value)).sum()
}

/// An entry of a map with its hash and its place in the index.
const MEMBER_BYTES: usize = 64;

fn value_weight(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(elements) => elements.iter().map(value_weight).sum(),
            Value::Object(object) => weight(object),
        }
}
