//! Names and passwords (RFC 7617): users from Secrets, and what an Ingress says by annotation. Judges the form of each
//! hash; computes none. Must not put a byte of a Secret into a message.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ir::{Auth, AuthMode, BasicAuth, BasicUser, HashScheme, Kind, ObjectRef, PasswordHash, Redacted};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::Ingress;

use crate::reader::Reader;
use crate::report::{Fault, Field, Lines, Refused};
use crate::value;

/// What follows where the users cannot be had.
const FAILS_CLOSED: &str = "what needs a password of them answers 500";
/// Each step doubles the time of one check; at 14 it is about a second.
const BCRYPT_COST_MAX: u32 = 14;
const BCRYPT_COST_MIN: u32 = 4;
/// About as long as bcrypt at its highest cost.
const SHA_CRYPT_ROUNDS_MAX: u32 = 1_000_000;
const SHA_CRYPT_ROUNDS_MIN: u32 = 1_000;
const CRYPT_SALT_CHARS_MAX: usize = 16;
const MD5_SALT_CHARS_MAX: usize = 8;
const SHA1_BYTES: usize = 20;

/// How a Secret holds users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretForm {
    /// One entry is a file with one `name:hash` a line.
    File,
    /// Each entry is a name and its hash.
    Map,
}

/// Why a hash is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HashFault {
    /// Plain text, or a scheme that is none of ours (the old DES crypt).
    Unknown,
    /// It begins as one of ours and goes on otherwise.
    Malformed,
    TooCostly,
}

/// Reads `auth.basic`.
pub(crate) fn basic(
    spec: &api::BasicAuth,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Arc<BasicAuth>, Refused> {
    let realm = realm(&spec.realm, field.key("realm"), lines);
    let field = field.key("secretRef");
    let users = users((&spec.secret_ref.name, SecretForm::File), field.key("name"), reader, lines);
    Ok(Arc::new(BasicAuth { source: secret(&spec.secret_ref.name, lines), realm: realm?, users: users? }))
}

/// Reads the annotations `auth-…` of an Ingress. `None`: it needs no password.
pub(crate) fn ingress_basic(
    ingress: &Ingress,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Option<Auth>, Refused> {
    let Some(annotations) = &ingress.metadata.annotations else { return Ok(None) };
    let root = Field::root("metadata");
    let root = root.key("annotations");
    let get = |name| annotations.get(name).map(|text| text.trim());
    let named = get(api::AUTH_SECRET_ANNOTATION);
    match get(api::AUTH_TYPE_ANNOTATION) {
        Some("basic") => {}
        Some(text) => {
            let message = format!("'{text}' is no type of authentication; the Ingress answers 500");
            return Err(lines.error(root.quoted(api::AUTH_TYPE_ANNOTATION), message, "write basic"));
        }
        // Whoever names users wants them asked.
        None if named.is_some() => {
            let message = "users are named, and no type of authentication; the Ingress answers 500";
            let remedy = "add gateway.baribhara.io/auth-type: basic";
            return Err(lines.error(root.quoted(api::AUTH_SECRET_ANNOTATION), message, remedy));
        }
        None => return Ok(None),
    }
    let field = root.quoted(api::AUTH_SECRET_ANNOTATION);
    let Some(name) = named.filter(|name| !name.is_empty()) else {
        let message = "a password is needed, and no Secret with users is named; the Ingress answers 500";
        return Err(lines.error(field, message, "name a Secret of this namespace"));
    };
    if name.contains('/') {
        let message = "a Secret of another namespace cannot be named; the Ingress answers 500";
        return Err(lines.error(field, message, "name a Secret of this namespace, without a slash"));
    }
    let form = match get(api::AUTH_SECRET_TYPE_ANNOTATION) {
        None | Some("auth-file") => SecretForm::File,
        Some("auth-map") => SecretForm::Map,
        Some(text) => {
            let message = format!("'{text}' is no form of a Secret with users; the Ingress answers 500");
            let field = root.quoted(api::AUTH_SECRET_TYPE_ANNOTATION);
            return Err(lines.error(field, message, "write auth-file or auth-map"));
        }
    };
    let text = get(api::AUTH_REALM_ANNOTATION).unwrap_or(api::DEFAULT_REALM);
    let realm = realm(text, root.quoted(api::AUTH_REALM_ANNOTATION), lines);
    let users = users((name, form), field, reader, lines);
    let basic = BasicAuth { source: secret(name, lines), realm: realm?, users: users? };
    Ok(Some(Auth {
        source: lines.object().clone(),
        mode: AuthMode::All,
        jwt: None,
        api_key: None,
        basic: Some(Arc::new(basic)),
        external: None,
        authorization: None,
    }))
}

/// The Secret that an Ingress's annotations name.
pub(crate) fn named(ingress: &Ingress, namespace: &Arc<str>) -> Option<ObjectRef> {
    let name = ingress.metadata.annotations.as_ref()?.get(api::AUTH_SECRET_ANNOTATION)?.trim();
    let is_name = !name.is_empty() && !name.contains('/');
    is_name.then(|| ObjectRef::new(Kind::Secret, Arc::clone(namespace), name))
}

fn secret(name: &str, lines: &Lines) -> ObjectRef {
    ObjectRef::new(Kind::Secret, Arc::clone(&lines.object().namespace), name)
}

fn realm(text: &str, field: Field<'_>, lines: &mut Lines) -> Result<String, Refused> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if is_plain {
        return Ok(text.to_owned());
    }
    Err(lines.error(
        field,
        "the realm has characters that no header can carry",
        "use visible ASCII and blanks",
    ))
}

/// The users of a Secret. One that cannot be used is left out with a line; without any the whole is refused.
fn users(
    (name, form): (&str, SecretForm),
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Vec<BasicUser>, Refused> {
    let namespace = Arc::clone(&lines.object().namespace);
    let Some(secret) = reader.secret(&namespace, name) else {
        let message = format!("there is no Secret '{namespace}/{name}'; {FAILS_CLOSED}");
        let remedy = "create the Secret or correct the name";
        return Err(lines.fault(Fault::InvalidReference, field, message, remedy));
    };
    let mut found = Users { users: Vec::new(), names: HashSet::new(), secret: name, field };
    match form {
        SecretForm::File => {
            let entries = (secret.string_data.as_ref(), secret.data.as_ref());
            let Some(file) = value::entry(entries, api::HTPASSWD_KEY) else {
                let key = api::HTPASSWD_KEY;
                let message = format!("the Secret '{name}' has no entry '{key}'; {FAILS_CLOSED}");
                let remedy = "store what htpasswd -B writes under this name";
                return Err(lines.fault(Fault::InvalidReference, field, message, remedy));
            };
            found.read_file(file, lines);
        }
        SecretForm::Map => found.read_map(secret, lines),
    }
    if found.users.is_empty() {
        let message = format!("the Secret '{name}' has no user that can be used; {FAILS_CLOSED}");
        return Err(lines.fault(Fault::InvalidReference, field, message, "add a user with htpasswd -B"));
    }
    Ok(found.users)
}

/// What was read of one Secret.
struct Users<'a> {
    users: Vec<BasicUser>,
    names: HashSet<String>,
    secret: &'a str,
    field: Field<'a>,
}

impl Users<'_> {
    fn read_file(&mut self, file: &[u8], lines: &mut Lines) {
        for (index, line) in file.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.trim_ascii().is_empty() || line.first() == Some(&b'#') {
                continue;
            }
            let place = format!("line {} of the Secret '{}'", index + 1, self.secret);
            let parts = std::str::from_utf8(line).ok().and_then(|line| line.split_once(':'));
            let Some((name, rest)) = parts.filter(|(name, _)| !name.is_empty()) else {
                let message = format!("{place} is no name and hash with a colon between; it is left out");
                let remedy = "write the file with htpasswd -B";
                lines.fault(Fault::InvalidReference, self.field, message, remedy);
                continue;
            };
            // What may follow after a second colon is a comment.
            let hash = rest.split(':').next().unwrap_or_default();
            self.add(name, hash.trim_ascii(), &place, lines);
        }
    }

    fn read_map(&mut self, secret: &Secret, lines: &mut Lines) {
        let texts = secret.string_data.iter().flat_map(|entries| entries.keys());
        let names: BTreeSet<&String> =
            texts.chain(secret.data.iter().flat_map(|entries| entries.keys())).collect();
        for name in names {
            let entries = (secret.string_data.as_ref(), secret.data.as_ref());
            let hash = value::entry(entries, name).and_then(|hash| std::str::from_utf8(hash).ok());
            let place = format!("the entry '{name}' of the Secret '{}'", self.secret);
            self.add(name, hash.unwrap_or_default().trim_ascii(), &place, lines);
        }
    }

    fn add(&mut self, name: &str, hash: &str, place: &str, lines: &mut Lines) {
        let scheme = match scheme(hash) {
            Ok(scheme) => scheme,
            Err(fault) => {
                let (why, remedy) = match fault {
                    HashFault::Unknown => (
                        "has a password in plain text or a hash that is not supported",
                        "hash it with htpasswd -B (bcrypt)",
                    ),
                    HashFault::Malformed => ("has a malformed hash", "hash it anew with htpasswd -B"),
                    HashFault::TooCostly => (
                        "has a hash that takes too long to check (bcrypt: cost 14 at most; SHA-crypt: a million rounds)",
                        "hash it anew with a lower cost, such as htpasswd -B -C 10",
                    ),
                };
                let message = format!("{place} {why}; its user is left out");
                lines.fault(Fault::InvalidReference, self.field, message, remedy);
                return;
            }
        };
        if !self.names.insert(name.to_owned()) {
            let message = format!("{place} names a user that stands there before; the first one counts");
            lines.warning(self.field, message, "remove one of them");
            return;
        }
        if scheme == HashScheme::Sha1 {
            let message = format!("{place} has an unsalted SHA-1 hash, which is guessed quickly");
            lines.warning(self.field, message, "hash it anew with htpasswd -B");
        }
        let hash = PasswordHash { scheme, text: Redacted::new(hash.to_owned()) };
        self.users.push(BasicUser { name: Redacted::new(name.to_owned()), hash });
    }
}

/// Which scheme a hash is of, its form checked to the last character.
fn scheme(hash: &str) -> Result<HashScheme, HashFault> {
    let well_formed = |is_so, scheme| if is_so { Ok(scheme) } else { Err(HashFault::Malformed) };
    if let Some(digest) = hash.strip_prefix("{SHA}") {
        let is_digest = STANDARD.decode(digest).is_ok_and(|digest| digest.len() == SHA1_BYTES);
        return well_formed(is_digest, HashScheme::Sha1);
    }
    let Some((id, rest)) = hash.strip_prefix('$').and_then(|rest| rest.split_once('$')) else {
        return Err(HashFault::Unknown);
    };
    match id {
        "2a" | "2b" | "2y" => bcrypt(rest),
        "apr1" | "1" => {
            let sound = rest.split_once('$').is_some_and(|(salt, digest)| {
                is_crypt64(salt, 1..=MD5_SALT_CHARS_MAX) && is_crypt64(digest, 22..=22)
            });
            well_formed(sound, HashScheme::Md5Crypt)
        }
        "5" => sha_crypt(rest, 43).map(|()| HashScheme::Sha256Crypt),
        "6" => sha_crypt(rest, 86).map(|()| HashScheme::Sha512Crypt),
        _ => Err(HashFault::Unknown),
    }
}

fn bcrypt(rest: &str) -> Result<HashScheme, HashFault> {
    let (cost, digest) = rest.split_once('$').ok_or(HashFault::Malformed)?;
    let is_number = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
    let cost: u32 = if is_number { cost.parse().unwrap_or_default() } else { 0 };
    if cost < BCRYPT_COST_MIN || !is_crypt64(digest, 53..=53) {
        return Err(HashFault::Malformed);
    }
    if cost > BCRYPT_COST_MAX { Err(HashFault::TooCostly) } else { Ok(HashScheme::Bcrypt) }
}

fn sha_crypt(rest: &str, digest_chars: usize) -> Result<(), HashFault> {
    let (rounds, rest) = match rest.strip_prefix("rounds=") {
        Some(rest) => {
            let (rounds, rest) = rest.split_once('$').ok_or(HashFault::Malformed)?;
            (Some(rounds.parse::<u32>().map_err(|_| HashFault::Malformed)?), rest)
        }
        None => (None, rest),
    };
    let (salt, digest) = rest.split_once('$').ok_or(HashFault::Malformed)?;
    let sound = is_crypt64(salt, 1..=CRYPT_SALT_CHARS_MAX) && is_crypt64(digest, digest_chars..=digest_chars);
    if !sound || rounds.is_some_and(|rounds| rounds < SHA_CRYPT_ROUNDS_MIN) {
        return Err(HashFault::Malformed);
    }
    if rounds.is_some_and(|rounds| rounds > SHA_CRYPT_ROUNDS_MAX) {
        Err(HashFault::TooCostly)
    } else {
        Ok(())
    }
}

/// Whether it is so many characters of crypt's own alphabet.
fn is_crypt64(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    length.contains(&text.len()) && text.bytes().all(in_alphabet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_taken_only_whole_and_of_a_known_scheme() {
        let bcrypt = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";
        let sha512 = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";
        let cases = [
            (bcrypt, Ok(HashScheme::Bcrypt)),
            (&bcrypt[..59], Err(HashFault::Malformed)),
            ("$2y$15$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe", Err(HashFault::TooCostly)),
            ("$2y$03$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe", Err(HashFault::Malformed)),
            ("$2y$+5$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe", Err(HashFault::Malformed)),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", Ok(HashScheme::Sha1)),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g", Err(HashFault::Malformed)),
            ("$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", Ok(HashScheme::Md5Crypt)),
            ("$1$r31.....$HqJZimcKQFAMYayBlzkrA/", Ok(HashScheme::Md5Crypt)),
            ("$apr1$r31......$HqJZimcKQFAMYayBlzkrA/", Err(HashFault::Malformed)),
            ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", Ok(HashScheme::Sha256Crypt)),
            (sha512, Ok(HashScheme::Sha512Crypt)),
            ("$5$rounds=2000000$a$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8", Err(HashFault::TooCostly)),
            ("$5$rounds=10$a$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8", Err(HashFault::Malformed)),
            ("secret", Err(HashFault::Unknown)),
            ("rqXexS6ZhobKA", Err(HashFault::Unknown)),
            ("{PLAIN}secret", Err(HashFault::Unknown)),
            ("$argon2id$v=19$m=65536", Err(HashFault::Unknown)),
            ("", Err(HashFault::Unknown)),
        ];
        for (hash, want) in cases {
            assert_eq!(scheme(hash), want, "{hash}");
        }
    }
}
