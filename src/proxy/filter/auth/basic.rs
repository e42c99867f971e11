//! Names and passwords (RFC 7617): reads the header, and says whose password is to be checked and how. An unknown name
//! costs what a known one does. Keeps no password longer than its check.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hashbrown::HashMap;
use http::{HeaderMap, HeaderValue, header};
use ir::{BasicAuth, HashScheme, PasswordHash, Redacted};

use super::credential_cache::CredentialKey;
use super::hashing::HashPool;
use super::password;
use super::refusal::AuthReason;

/// A longer name and password are refused unread: some hashes take time by the square of it.
pub(super) const CREDENTIALS_BYTES_MAX: usize = 1024;

/// RFC 7617 §2 leaves open whether the text is padded, and clients differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Names the users of one version of a Secret for the life of the process: what was found out about others' passwords
/// never counts for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct UsersId(u64);

/// Users, ready to be asked.
pub(super) struct Users {
    id: UsersId,
    basic: Arc<BasicAuth>,
    hashes: HashMap<Box<[u8]>, PasswordHash>,
    /// Checked for names that nobody has, so that these take as long as any.
    costliest: PasswordHash,
    is_quick: bool,
    challenge: HeaderValue,
    pool: Arc<HashPool>,
}

/// A name and a password as the client sent them.
pub(super) struct Credentials {
    bytes: Vec<u8>,
    colon: usize,
}

/// A password that is to be checked beside the worker.
pub(crate) struct PasswordCheck {
    pub(super) key: CredentialKey,
    users: Arc<Users>,
    credentials: Credentials,
}

impl UsersId {
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) const fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }
}

impl Users {
    pub(super) fn new(basic: &Arc<BasicAuth>, pool: &Arc<HashPool>) -> Self {
        let costliest = basic.users.iter().map(|user| &user.hash).max_by_key(|hash| password::cost(hash));
        // Nobody's: the text is no hash.
        let nobody = || PasswordHash { scheme: HashScheme::Sha1, text: Redacted::new(String::new()) };
        let named = |user: &ir::BasicUser| (user.name.expose().as_bytes().into(), user.hash.clone());
        Self {
            id: UsersId::next(),
            basic: Arc::clone(basic),
            hashes: basic.users.iter().map(named).collect(),
            costliest: costliest.cloned().unwrap_or_else(nobody),
            is_quick: basic.users.iter().all(|user| password::is_quick(user.hash.scheme)),
            challenge: challenge(&basic.realm),
            pool: Arc::clone(pool),
        }
    }

    pub(super) const fn id(&self) -> UsersId {
        self.id
    }

    /// What it was made from.
    pub(super) fn basic(&self) -> &Arc<BasicAuth> {
        &self.basic
    }

    /// Whether checking takes so little time that the worker does it itself.
    pub(super) const fn is_quick(&self) -> bool {
        self.is_quick
    }

    pub(super) fn pool(&self) -> &HashPool {
        &self.pool
    }

    /// The header of a 401.
    pub(super) fn challenge(&self) -> HeaderValue {
        self.challenge.clone()
    }

    /// Whether the name has this password.
    pub(super) fn verify(&self, credentials: &Credentials) -> bool {
        let known = self.hashes.get(credentials.name());
        let is_right = password::verify(known.unwrap_or(&self.costliest), credentials.password());
        is_right && known.is_some()
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users")
            .field("source", &self.basic.source)
            .field("users", &self.hashes.len())
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// RFC 7617 §2: the first colon ends the name, and neither part has control characters. `None`: it is none such.
    pub(super) fn new(bytes: Vec<u8>) -> Option<Self> {
        let colon = memchr::memchr(b':', &bytes)?;
        let is_plain = !bytes.iter().any(u8::is_ascii_control);
        is_plain.then_some(Self { bytes, colon })
    }

    pub(super) fn name(&self) -> &[u8] {
        self.bytes.get(..self.colon).unwrap_or_default()
    }

    pub(super) fn password(&self) -> &[u8] {
        self.bytes.get(self.colon + 1..).unwrap_or_default()
    }
}

impl PasswordCheck {
    pub(super) const fn new(key: CredentialKey, users: Arc<Users>, credentials: Credentials) -> Self {
        Self { key, users, credentials }
    }

    /// Checks it in its turn.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) async fn run(self) -> Result<bool, AuthReason> {
        let Self { users, credentials, .. } = self;
        let pool = Arc::clone(&users.pool);
        pool.run(move || users.verify(&credentials)).await.map_err(|_| AuthReason::ChecksBusy)
    }
}

impl fmt::Debug for PasswordCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordCheck").field("users", &self.users).finish_non_exhaustive()
    }
}

/// The name and password of a request; `None`: it brings none.
///
/// # Errors
/// It brings something that is no name and password, or two of them.
pub(super) fn find(headers: &HeaderMap) -> Result<Option<Credentials>, AuthReason> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let Some(encoded) = after_scheme(line) else { return Ok(None) };
    if lines.next().is_some() {
        return Err(AuthReason::CredentialsMalformed);
    }
    // Four characters for three bytes.
    if encoded.len() > CREDENTIALS_BYTES_MAX.div_ceil(3) * 4 {
        return Err(AuthReason::CredentialsMalformed);
    }
    let decoded = BASE64.decode(encoded).ok();
    decoded.and_then(Credentials::new).map(Some).ok_or(AuthReason::CredentialsMalformed)
}

/// Takes names and passwords out of the request: nobody behind the gateway needs them.
pub(super) fn remove(headers: &mut HeaderMap) {
    let is_basic = |line: &HeaderValue| after_scheme(line).is_some();
    if !headers.get_all(header::AUTHORIZATION).iter().any(is_basic) {
        return;
    }
    let kept: Vec<HeaderValue> =
        headers.get_all(header::AUTHORIZATION).iter().filter(|line| !is_basic(line)).cloned().collect();
    headers.remove(header::AUTHORIZATION);
    for line in kept {
        headers.append(header::AUTHORIZATION, line);
    }
}

/// What follows the scheme `Basic`, which is compared without regard to case (RFC 9110 §11.1).
fn after_scheme(line: &HeaderValue) -> Option<&[u8]> {
    let (scheme, rest) = line.as_bytes().split_at_checked(b"Basic".len())?;
    let is_scheme = scheme.eq_ignore_ascii_case(b"Basic") && rest.first().is_none_or(|byte| *byte == b' ');
    is_scheme.then(|| rest.trim_ascii())
}

/// RFC 7617 §2 and §2.1; the realm is a quoted string (RFC 9110 §5.6.4).
fn challenge(realm: &str) -> HeaderValue {
    let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
    HeaderValue::from_str(&format!("Basic realm=\"{quoted}\", charset=\"UTF-8\""))
        .unwrap_or(HeaderValue::from_static("Basic realm=\"Restricted\", charset=\"UTF-8\""))
}
