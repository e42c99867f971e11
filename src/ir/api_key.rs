//! Who may pass by a key that a client was given. No key is ever printed.

use std::sync::Arc;

use http::HeaderName;
use serde::Serialize;

use crate::{ObjectRef, Redacted, TokenSource, ser};

/// One of these keys is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiKeys {
    /// The labels by which the Secrets with the keys were found, as `name=value`.
    pub selector: Vec<String>,
    /// No key stands twice. Empty: nobody has one.
    pub keys: Vec<ApiKey>,
    /// Where a key may stand; more than one key in a request is refused.
    pub from: Vec<TokenSource>,
    /// The upstream gets the client's id by this header. The client's own copies are always removed first.
    #[serde(serialize_with = "ser::opt_header_name")]
    pub client_id_header: Option<HeaderName>,
}

/// The key of one client, which may have several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiKey {
    /// Letters, digits, `-`, `_` and `.`.
    pub client: Arc<str>,
    /// The Secret that it stands in.
    pub source: ObjectRef,
    pub key: Redacted<String>,
}
