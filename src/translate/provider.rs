//! JWT providers: where keys come from, which algorithms they allow and where tokens stand. Must not put a byte of a
//! Secret into a message.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Jwks, JwtAlgorithm, KeyRef};
use ir::{
    Algorithm, ClaimToHeader, HMAC_BYTES_ADVISED, JWKS_BYTES_MAX, Jwk, JwkMaterial, JwtProvider, KeySet,
    KeySetError, KeySource, Kind, Redacted, TokenSource, key_fits, parse_jwks, was_meant_as_json,
};

use crate::reader::Reader;
use crate::remote_keys::remote_keys;
use crate::report::{Fault, Field, Lines, Refused};
use crate::value::{self, Entries};

/// The providers of one object by name. `None`: there is one of that name, but it cannot be used.
#[derive(Debug, Default)]
pub(crate) struct Providers {
    by_name: BTreeMap<String, Option<Arc<JwtProvider>>>,
}

/// More would make an expired token too long-lived.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(60);
/// The claim that every token must have.
const EXPIRY_CLAIM: &str = "exp";

impl Providers {
    /// `None`: no provider has the name. `Some(None)`: it has a provider that cannot be used.
    pub(crate) fn get(&self, name: &str) -> Option<Option<Arc<JwtProvider>>> {
        self.by_name.get(name).cloned()
    }
}

/// Reads all providers of an object.
pub(crate) fn providers(
    specs: &[api::JwtProvider],
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Providers {
    let mut providers = Providers::default();
    for (index, spec) in specs.iter().enumerate() {
        let field = field.index(index);
        let read = provider(spec, field, reader, lines).map(Arc::new).ok();
        if providers.by_name.insert(spec.name.clone(), read).is_some() {
            let message = format!("the provider '{}' stands twice; neither is used", spec.name);
            lines.error(field.key("name"), message, "give it another name");
            providers.by_name.insert(spec.name.clone(), None);
        }
    }
    providers
}

fn provider(
    spec: &api::JwtProvider,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<JwtProvider, Refused> {
    if spec.issuer.is_some() == spec.any_issuer {
        let message = "exactly one of issuer and anyIssuer must be set; the provider cannot be used";
        return Err(lines.error(field.key("issuer"), message, "name the exact iss of the tokens"));
    }
    if spec.audiences.is_empty() {
        let message = "aud is not checked: tokens that the issuer made for others pass too";
        lines.warning(field.key("audiences"), message, "name this API's audience");
    }
    let from_secret = spec.jwks.secret_ref.is_some();
    let asked = allowed_algorithms(&spec.algorithms, from_secret, field.key("algorithms"), lines)?;
    let keys = key_source(&spec.jwks, &asked, field.key("jwks"), reader, lines);
    let from = value::all(&spec.from, field.key("from"), |source, field| token_source(source, field, lines));
    let claims = value::all(&spec.claims_to_headers, field.key("claimsToHeaders"), |claim, field| {
        let path = value::claim_path(&claim.claim, field.key("claim"), lines);
        let header = value::own_header_name(&claim.header, field.key("header"), lines);
        Ok(ClaimToHeader { path: path?, header: header?, join: claim.join.clone() })
    });
    let keys = keys?;
    let algorithms = usable_algorithms(asked, &keys, field, lines)?;
    let mut from = from?;
    if from.is_empty() {
        from.push(TokenSource::Header { name: http::header::AUTHORIZATION, prefix: "Bearer ".to_owned() });
    }
    let mut required_claims = vec![EXPIRY_CLAIM.to_owned()];
    for claim in &spec.required_claims {
        if !required_claims.contains(claim) {
            required_claims.push(claim.clone());
        }
    }
    let clock_skew = spec.clock_skew.get();
    if clock_skew > CLOCK_SKEW_MAX {
        lines.warning(field.key("clockSkew"), "the clock skew is taken as 60s", "write at most 60s");
    }
    Ok(JwtProvider {
        source: lines.object().clone(),
        name: spec.name.as_str().into(),
        issuer: spec.issuer.clone(),
        audiences: spec.audiences.clone(),
        keys,
        algorithms,
        from,
        clock_skew: clock_skew.min(CLOCK_SKEW_MAX),
        required_claims,
        claims_to_headers: claims?,
        forward_token: spec.forward_token,
    })
}

/// The list without what is not allowed. Stays empty where it was empty: then the keys decide.
fn allowed_algorithms(
    specs: &[JwtAlgorithm],
    from_secret: bool,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Vec<Algorithm>, Refused> {
    let mut allowed = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let algorithm = algorithm(*spec);
        if algorithm.is_hmac() && !from_secret {
            let message = "an HMAC algorithm needs a key that is secret; the algorithm is left out";
            lines.error(field.index(index), message, "use jwks.secretRef, or another algorithm");
        } else if !allowed.contains(&algorithm) {
            allowed.push(algorithm);
        }
    }
    if allowed.is_empty() && !specs.is_empty() {
        let message = "no algorithm is left; the provider cannot be used";
        return Err(lines.error(field, message, "allow an algorithm that fits the keys"));
    }
    allowed.sort_unstable();
    Ok(allowed)
}

/// The allow-list, or where it is empty everything that fits the keys.
fn usable_algorithms(
    asked: Vec<Algorithm>,
    keys: &KeySource,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Vec<Algorithm>, Refused> {
    let keys = match keys {
        KeySource::Given(set) => &set.keys,
        // What its keys fit is not known before they come; an HMAC key is never among them.
        KeySource::Remote(_) if asked.is_empty() => {
            return Ok(Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_hmac()).collect());
        }
        KeySource::Remote(_) => return Ok(asked),
    };
    let fits = |algorithm: &Algorithm| keys.iter().any(|key| key_fits(key, *algorithm));
    if asked.is_empty() {
        // HMAC keys are only ever read from a Secret, so what fits a key is allowed.
        return Ok(Algorithm::ALL.into_iter().filter(fits).collect());
    }
    if !asked.iter().any(fits) {
        let message = "no key fits an allowed algorithm; the provider cannot be used";
        return Err(lines.error(field.key("algorithms"), message, "allow the algorithm of a key"));
    }
    Ok(asked)
}

/// Exactly one source.
fn key_source(
    spec: &Jwks,
    asked: &[Algorithm],
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<KeySource, Refused> {
    match (&spec.remote, &spec.secret_ref, &spec.config_map_ref, &spec.inline) {
        (Some(remote), None, None, None) => {
            let remote = remote_keys(remote, field.key("remote"), reader, lines)?;
            Ok(KeySource::Remote(Arc::new(remote)))
        }
        (Some(_), ..) => Err(not_one_source(field, lines)),
        (None, ..) => Ok(KeySource::Given(KeySet { keys: keys(spec, asked, field, reader, lines)? })),
    }
}

fn not_one_source(field: Field<'_>, lines: &mut Lines) -> Refused {
    let message = "exactly one source of keys must be set; the provider cannot be used";
    lines.error(field, message, "set one of remote, secretRef, configMapRef and inline")
}

/// Keys that objects hold: at least one usable key.
fn keys(
    spec: &Jwks,
    asked: &[Algorithm],
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Vec<Jwk>, Refused> {
    let parsed = match (&spec.secret_ref, &spec.config_map_ref, &spec.inline) {
        (Some(reference), None, None) => {
            let field = field.key("secretRef");
            let bytes = secret_bytes(reference, field, reader, lines)?;
            let only_hmac = !asked.is_empty() && asked.iter().copied().all(Algorithm::is_hmac);
            match parse_jwks(&bytes, true) {
                Err(KeySetError::NotAKeySet) if only_hmac && !was_meant_as_json(&bytes) => {
                    return raw_hmac(bytes, field, lines);
                }
                parsed => parsed,
            }
        }
        (None, Some(reference), None) => {
            let bytes = config_map_bytes(reference, field.key("configMapRef"), reader, lines)?;
            parse_jwks(&bytes, false)
        }
        (None, None, Some(text)) => parse_jwks(text.as_bytes(), false),
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) | (None, None, None) => {
            return Err(not_one_source(field, lines));
        }
    };
    // What another object holds is not for this one's author to correct.
    let (member, fault) = match (&spec.secret_ref, &spec.config_map_ref) {
        (Some(_), _) => ("secretRef", Fault::InvalidReference),
        (None, Some(_)) => ("configMapRef", Fault::InvalidReference),
        (None, None) => ("inline", Fault::Invalid),
    };
    let field = field.key(member);
    let parsed = parsed.map_err(|error| {
        let message = format!("{}; the provider cannot be used", error.message());
        let remedy = "store a JSON Web Key Set (RFC 7517), or list only HS* for a raw key of a Secret";
        lines.fault(fault, field, message, remedy)
    })?;
    for finding in parsed.findings {
        let keys = field.key("keys");
        let field = keys.index(finding.index);
        if finding.refused {
            let message = format!("{}; the key is not used", finding.message);
            lines.fault(fault, field, message, "replace the key");
        } else {
            lines.warning(field, finding.message, "use a longer random key");
        }
    }
    if parsed.keys.is_empty() {
        let message = "the key set has no key that can verify; the provider cannot be used";
        return Err(lines.fault(fault, field, message, "add a key for signatures"));
    }
    Ok(parsed.keys)
}

fn raw_hmac(bytes: Vec<u8>, field: Field<'_>, lines: &mut Lines) -> Result<Vec<Jwk>, Refused> {
    if bytes.is_empty() {
        let message = "the key is empty; the provider cannot be used";
        return Err(lines.fault(Fault::InvalidReference, field, message, "store at least 32 random bytes"));
    }
    if bytes.len() < HMAC_BYTES_ADVISED {
        let message = "the HMAC key is shorter than 32 bytes and can be guessed";
        lines.warning(field, message, "store at least 32 random bytes");
    }
    Ok(vec![Jwk { kid: None, algorithm: None, material: JwkMaterial::Symmetric(Redacted::new(bytes)) }])
}

fn secret_bytes(
    reference: &KeyRef,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Vec<u8>, Refused> {
    let namespace = Arc::clone(&lines.object().namespace);
    let secret = reader.secret(&namespace, &reference.name);
    let entries = secret.map(|secret| (secret.string_data.as_ref(), secret.data.as_ref()));
    entry_bytes(Kind::Secret, entries, reference, field, lines)
}

fn config_map_bytes(
    reference: &KeyRef,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Vec<u8>, Refused> {
    let namespace = Arc::clone(&lines.object().namespace);
    let map = reader.config_map(&namespace, &reference.name);
    let entries = map.map(|map| (map.data.as_ref(), map.binary_data.as_ref()));
    entry_bytes(Kind::ConfigMap, entries, reference, field, lines)
}

/// The entry that the reference names, text first. `None`: there is no such object.
fn entry_bytes(
    kind: Kind,
    entries: Option<Entries<'_>>,
    reference: &KeyRef,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Vec<u8>, Refused> {
    let KeyRef { name, key } = reference;
    let Some(entries) = entries else {
        let namespace = &lines.object().namespace;
        let message = format!("there is no {kind} '{namespace}/{name}'; the provider cannot be used");
        let remedy = format!("create the {kind} or correct the name");
        return Err(lines.fault(Fault::InvalidReference, field.key("name"), message, &remedy));
    };
    let Some(bytes) = value::entry(entries, key) else {
        let message = format!("the {kind} '{name}' has no entry '{key}'; the provider cannot be used");
        let remedy = "add the entry or name another key";
        return Err(lines.fault(Fault::InvalidReference, field.key("key"), message, remedy));
    };
    bounded(bytes, field, lines)
}

/// Copies no more than a key set may have.
fn bounded(bytes: &[u8], field: Field<'_>, lines: &mut Lines) -> Result<Vec<u8>, Refused> {
    if bytes.len() > JWKS_BYTES_MAX {
        let message = format!("{}; the provider cannot be used", KeySetError::TooLarge.message());
        return Err(lines.fault(Fault::InvalidReference, field, message, "store fewer keys"));
    }
    Ok(bytes.to_vec())
}

pub(crate) fn token_source(
    spec: &api::TokenSource,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<TokenSource, Refused> {
    match (&spec.header, &spec.cookie, &spec.query) {
        (Some(header), None, None) => {
            let field = field.key("header");
            let name = value::header_name(&header.name, field.key("name"), lines)?;
            Ok(TokenSource::Header { name, prefix: header.prefix.clone() })
        }
        (None, Some(cookie), None) => Ok(TokenSource::Cookie { name: cookie.name.clone() }),
        (None, None, Some(query)) => Ok(TokenSource::Query { name: query.name.clone() }),
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) | (None, None, None) => {
            let message = "exactly one of header, cookie and query must be set; the place cannot be read";
            Err(lines.error(field, message, "make one list item of each"))
        }
    }
}

const fn algorithm(spec: JwtAlgorithm) -> Algorithm {
    match spec {
        JwtAlgorithm::HS256 => Algorithm::HS256,
        JwtAlgorithm::HS384 => Algorithm::HS384,
        JwtAlgorithm::HS512 => Algorithm::HS512,
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::RS384 => Algorithm::RS384,
        JwtAlgorithm::RS512 => Algorithm::RS512,
        JwtAlgorithm::PS256 => Algorithm::PS256,
        JwtAlgorithm::PS384 => Algorithm::PS384,
        JwtAlgorithm::PS512 => Algorithm::PS512,
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::ES384 => Algorithm::ES384,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}
