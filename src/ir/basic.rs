//! Who may pass by name and password (RFC 7617). Holds hashes only, and no name or hash is ever printed.

use serde::Serialize;

use crate::{ObjectRef, Redacted};

/// A name and password of one of these users are needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BasicAuth {
    /// The Secret that the users stand in.
    pub source: ObjectRef,
    /// What the client is told that it is asked for. Visible ASCII and blanks.
    pub realm: String,
    /// Never empty; no name stands twice.
    pub users: Vec<BasicUser>,
}

/// One user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BasicUser {
    pub name: Redacted<String>,
    pub hash: PasswordHash,
}

/// A password, hashed; the text has the form of its scheme.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PasswordHash {
    pub scheme: HashScheme,
    pub text: Redacted<String>,
}

/// How a password is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum HashScheme {
    /// `$2y$`, `$2a$` or `$2b$`.
    Bcrypt,
    /// `{SHA}` and base64: SHA-1 without salt.
    Sha1,
    /// `$apr1$` or `$1$`: MD5, 1000 rounds.
    Md5Crypt,
    /// `$5$`.
    Sha256Crypt,
    /// `$6$`.
    Sha512Crypt,
}
