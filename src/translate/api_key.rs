//! Keys that clients were given: read from the Secrets of a namespace that have the named labels. Must not put a byte of
//! a Secret's values into a message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::HeaderName;
use ir::{ApiKey, ApiKeys, Kind, ObjectRef, Redacted, TokenSource};
use k8s_openapi::api::core::v1::Secret;

use crate::provider::token_source;
use crate::reader::Reader;
use crate::report::{Fault, Field, Lines, Refused};
use crate::selection::Selection;
use crate::value;

/// What follows where the keys cannot be had.
const FAILS_CLOSED: &str = "what needs a key answers 500";
/// Where a key stands unless something else is said.
const DEFAULT_HEADER: HeaderName = HeaderName::from_static("x-api-key");
/// All keys of one `apiKey`.
const KEYS_MAX: usize = 100_000;
const KEY_BYTES_MAX: usize = 1024;
/// Shorter ones can be guessed.
const KEY_BYTES_ADVISED: usize = 16;

/// Reads `auth.apiKey`.
pub(crate) fn api_keys(
    spec: &api::ApiKeyAuth,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Arc<ApiKeys>, Refused> {
    let from = value::all(&spec.from, field.key("from"), |source, field| token_source(source, field, lines));
    let header = spec.client_id_header.as_ref();
    let header =
        header.map(|name| value::own_header_name(name, field.key("clientIdHeader"), lines)).transpose();
    let selector = &spec.secret_selector.match_labels;
    let field = field.key("secretSelector");
    if selector.is_empty() {
        let message = format!("a selector without labels would take every Secret; {FAILS_CLOSED}");
        return Err(lines.error(field.key("matchLabels"), message, "name a label of the Secrets"));
    }
    let namespace = Arc::clone(&lines.object().namespace);
    let secrets = reader.selected(Selection { namespace, labels: selector.clone() });
    let mut found = Keys { by_text: BTreeMap::new(), field };
    for secret in &secrets {
        found.read(secret, lines);
    }
    let keys = found.without_shared(lines)?;
    if keys.is_empty() {
        let message = "no Secret of this namespace with these labels holds a key: every request is refused";
        lines.warning(field, message, "label a Secret whose entries are client ids and hold their keys");
    }
    let mut from = from?;
    if from.is_empty() {
        from.push(TokenSource::Header { name: DEFAULT_HEADER, prefix: String::new() });
    }
    Ok(Arc::new(ApiKeys {
        selector: selector.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        keys,
        from,
        client_id_header: header?,
    }))
}

/// The keys that were found, with all entries that hold each.
struct Keys<'a> {
    by_text: BTreeMap<Vec<u8>, Vec<Holder>>,
    field: Field<'a>,
}

#[derive(Clone, Debug)]
struct Holder {
    client: String,
    secret: ObjectRef,
}

impl Keys<'_> {
    fn read(&mut self, secret: &Secret, lines: &mut Lines) {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        let source = ObjectRef::new(Kind::Secret, Arc::clone(&lines.object().namespace), name);
        let entries = (secret.string_data.as_ref(), secret.data.as_ref());
        let texts = entries.0.into_iter().flat_map(|entries| entries.keys());
        let clients: BTreeSet<&String> =
            texts.chain(entries.1.into_iter().flat_map(|entries| entries.keys())).collect();
        let mut short = 0_usize;
        for client in clients {
            let key = value::entry(entries, client).unwrap_or_default().trim_ascii_end();
            if !is_key(key) {
                let message =
                    format!("the entry '{client}' of the Secret '{name}' holds no key; it is left out");
                let remedy =
                    "store 1 to 1024 visible ASCII characters without blank, comma, semicolon and quote";
                lines.fault(Fault::InvalidReference, self.field, message, remedy);
                continue;
            }
            short += usize::from(key.len() < KEY_BYTES_ADVISED);
            let holder = Holder { client: client.clone(), secret: source.clone() };
            self.by_text.entry(key.to_vec()).or_default().push(holder);
        }
        if short > 0 {
            let message = format!(
                "the Secret '{name}' has {short} keys of less than {KEY_BYTES_ADVISED} characters, which can be guessed"
            );
            lines.warning(self.field, message, "make keys of at least 16 random bytes");
        }
    }

    /// A key that two clients have tells nothing of who asks, so that it is neither's.
    fn without_shared(self, lines: &mut Lines) -> Result<Vec<ApiKey>, Refused> {
        let mut keys = Vec::with_capacity(self.by_text.len());
        for (text, holders) in self.by_text {
            let Some(first) = holders.first() else { continue };
            if let Some(other) = holders.iter().find(|holder| holder.client != first.client) {
                let message = format!(
                    "the clients '{}' ({}) and '{}' ({}) have the same key; it is neither's",
                    first.client, first.secret, other.client, other.secret
                );
                lines.fault(
                    Fault::InvalidReference,
                    self.field,
                    message,
                    "give each client a key of its own",
                );
                continue;
            }
            let Ok(text) = String::from_utf8(text) else { continue };
            keys.push(ApiKey {
                client: first.client.as_str().into(),
                source: first.secret.clone(),
                key: Redacted::new(text),
            });
        }
        if keys.len() > KEYS_MAX {
            let message = format!("there are more than {KEYS_MAX} keys; {FAILS_CLOSED}");
            return Err(lines.fault(Fault::InvalidReference, self.field, message, "take fewer Secrets"));
        }
        // By client, so that no order tells anything of the keys themselves.
        keys.sort_by(|left, right| (&left.client, &left.source).cmp(&(&right.client, &right.source)));
        Ok(keys)
    }
}

/// What can stand in a header, a cookie and a query alike.
fn is_key(key: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b',' | b';' | b'"');
    (1..=KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(fits)
}
