//! Sessions by rules and by annotations, and what their cookies are sealed with.

use std::time::Duration;

use api::RouteRule;
use ir::{Affinity, AffinityCookie, AffinityFailure, AffinityMode, Redacted, RouteId, SameSite};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::reader::Reader;
use crate::report::{Field, Lines, Refused};
use crate::value;

/// The longest time that browsers keep a cookie.
const TTL_MAX: Duration = Duration::from_hours(400 * 24);
/// A key that is easily guessed is none.
const KEY_BYTES_MIN: usize = 16;

/// What the cookies of one object are sealed with. A replica that starts later makes the same of the same objects.
#[derive(Clone, Debug)]
pub(crate) struct SealMaterial(Redacted<Vec<u8>>);

impl SealMaterial {
    /// Of the operator's Secret (`--affinity-key-secret`), or else of the object's uid, which clients cannot guess. Objects
    /// of a folder have neither; then only the names are left, and the seal keeps nobody out who knows them.
    pub(crate) fn read(metadata: &ObjectMeta, reader: &mut Reader<'_>, lines: &mut Lines) -> Self {
        let mut material = format!("{}\0", lines.object()).into_bytes();
        match secret_key(reader, lines) {
            Some(key) => material.extend(key),
            None => material.extend(metadata.uid.iter().flat_map(|uid| uid.bytes())),
        }
        Self(Redacted::new(material))
    }
}

fn secret_key(reader: &mut Reader<'_>, lines: &mut Lines) -> Option<Vec<u8>> {
    let source = reader.settings().affinity_key_secret()?;
    let secret = reader.secret(&source.namespace, &source.name);
    let entries = secret.map(|secret| (secret.string_data.as_ref(), secret.data.as_ref()));
    let key = entries.and_then(|entries| value::entry(entries, api::AFFINITY_KEY));
    if key.is_none_or(|key| key.len() < KEY_BYTES_MIN) {
        let message = format!(
            "the Secret of --affinity-key-secret has no entry '{}' of {KEY_BYTES_MIN} bytes or more; cookies are sealed by \
             the object's uid",
            api::AFFINITY_KEY
        );
        lines.warning(Field::root("spec"), message, "create it, or correct the flag");
        return None;
    }
    key.map(<[u8]>::to_vec)
}

/// The sessions that a rule asks for.
pub(crate) fn affinity(
    rule: &RouteRule,
    (id, material): (&RouteId, &SealMaterial),
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Option<Affinity>, Refused> {
    let Some(spec) = &rule.affinity else { return Ok(None) };
    let api::AffinityType::Cookie = spec.r#type;
    let field = field.key("affinity");
    let field = field.key("cookie");
    let cookie = &spec.cookie;
    let mut affinity = default(id, material);
    affinity.mode = match spec.mode {
        api::AffinityMode::Balanced => AffinityMode::Balanced,
        api::AffinityMode::Persistent => AffinityMode::Persistent,
    };
    affinity.on_failure = match spec.on_failure {
        api::AffinityFailure::Repick => AffinityFailure::Repick,
        api::AffinityFailure::Fail => AffinityFailure::Fail,
    };
    affinity.keeps_backend = spec.sticky_to_canary;
    let same_site = match cookie.same_site {
        api::SameSite::Strict => SameSite::Strict,
        api::SameSite::Lax => SameSite::Lax,
        api::SameSite::None => SameSite::None,
    };
    if let Some(name) = &cookie.name {
        affinity.cookie.name.clone_from(name);
    }
    affinity.cookie.path.clone_from(&cookie.path);
    affinity.cookie.domain = cookie.domain.clone().filter(|domain| !domain.is_empty());
    affinity.cookie.ttl = cookie.ttl.map(api::Duration::get).filter(|ttl| !ttl.is_zero());
    affinity.cookie.secure = cookie.secure;
    affinity.cookie.same_site = same_site;
    check(&mut affinity.cookie).map_err(|(key, what, remedy)| {
        lines.error(field.key(key), format!("{what}; the rule answers 500"), remedy)
    })?;
    Ok(Some(affinity))
}

/// Sessions of which nothing more is said.
pub(crate) fn default(id: &RouteId, material: &SealMaterial) -> Affinity {
    Affinity {
        cookie: AffinityCookie {
            name: own_name(id),
            path: "/".to_owned(),
            domain: None,
            ttl: None,
            same_site: SameSite::Lax,
            secure: None,
        },
        mode: AffinityMode::Balanced,
        on_failure: AffinityFailure::Repick,
        keeps_backend: true,
        key: material.0.clone(),
    }
}

/// A name that no other rule's cookie has.
pub(crate) fn own_name(id: &RouteId) -> String {
    format!("SRV-{}", id.tag())
}

/// What would make `Set-Cookie` something else (RFC 6265 §4.1.1), and what browsers refuse: the field, what is wrong with
/// it and what to do.
pub(crate) fn check(cookie: &mut AffinityCookie) -> Result<(), (&'static str, String, &'static str)> {
    let is_token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    let is_attribute = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    if !is_token(&cookie.name) {
        let what = format!("'{}' is no name of a cookie", cookie.name);
        return Err(("name", what, "use letters, digits and '-' only"));
    }
    if !cookie.path.starts_with('/') || !is_attribute(&cookie.path) {
        let what = format!("'{}' is no path of a cookie", cookie.path);
        return Err(("path", what, "write a path like /shop"));
    }
    if let Some(domain) = cookie.domain.as_deref().filter(|domain| ir::HostName::parse(domain).is_err()) {
        return Err(("domain", format!("'{domain}' is no domain"), "write a name like example.com"));
    }
    if cookie.same_site == SameSite::None && !*cookie.secure.get_or_insert(true) {
        let what = "browsers take sameSite None with secure alone".to_owned();
        return Err(("secure", what, "set secure to true"));
    }
    cookie.ttl = cookie.ttl.map(|ttl| ttl.clamp(Duration::from_secs(1), TTL_MAX));
    Ok(())
}
