//! Key sets by URL: where they may be fetched from. Resolves no name: the data plane looks at each address that it is
//! about to ask.

use std::time::Duration;

use api::RemoteJwks;
use ir::{AddressRange, KeysUri, RemoteKeys, Scheme, Trust};

use crate::authority::authorities;
use crate::reader::Reader;
use crate::report::{Fault, Field, Lines, Refused};

/// The bounds of the schema, for objects that were stored before it held them.
const CACHE_DURATION: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(24 * 3600));
const MAX_STALE_MOST: Duration = Duration::from_secs(744 * 3600);
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

const NO_PROVIDER: &str = "the provider cannot be used";
const PRIVATE_REMEDY: &str = "take a public https URL, or run the gateway with --allow-private-jwks";

/// Reads where the keys are, and how they are kept fresh.
pub(crate) fn remote_keys(
    spec: &RemoteJwks,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<RemoteKeys, Refused> {
    let allow_private = reader.settings().allow_private_jwks;
    let uri = uri(&spec.uri, allow_private, field.key("uri"), lines);
    let trust = match &spec.ca_ref {
        None => Ok(Trust::System),
        Some(reference) => {
            let field = field.key("caRef");
            let fields = (field.key("name"), field.key("key"));
            authorities(reference, fields, NO_PROVIDER, reader, lines)
                .map(|found| Trust::Authorities { source: found.source, pem: found.pem })
        }
    };
    let cache_duration = spec.cache_duration.get().clamp(CACHE_DURATION.0, CACHE_DURATION.1);
    let max_stale = spec.max_stale.get().min(MAX_STALE_MOST).max(cache_duration);
    let timeout = spec.timeout.get().clamp(TIMEOUT.0, TIMEOUT.1);
    Ok(RemoteKeys { uri: uri?, cache_duration, max_stale, timeout, trust: trust?, allow_private })
}

/// What a name leads to shows when it is resolved; what stands there in digits shows here.
fn uri(text: &str, allow_private: bool, field: Field<'_>, lines: &mut Lines) -> Result<KeysUri, Refused> {
    let uri = KeysUri::parse(text).map_err(|error| {
        let message = format!("{}; {NO_PROVIDER}", error.message());
        lines.error(field, message, "write a URL like https://id.example.com/jwks")
    })?;
    let range = uri.address().map_or(AddressRange::Public, AddressRange::of);
    let refused = match (range, uri.scheme()) {
        (AddressRange::Never, _) => {
            let message =
                format!("the address '{}' is one that is never asked for keys; {NO_PROVIDER}", uri.host());
            Some((message, "name the identity provider's own address"))
        }
        (_, Scheme::Http) if !allow_private => {
            let message = format!("keys that come over http can be anybody's; {NO_PROVIDER}");
            Some((message, PRIVATE_REMEDY))
        }
        (AddressRange::Private, _) if !allow_private => {
            let message = format!("the address '{}' is not public; {NO_PROVIDER}", uri.host());
            Some((message, PRIVATE_REMEDY))
        }
        (AddressRange::Public | AddressRange::Private, Scheme::Http | Scheme::Https) => None,
    };
    match refused {
        Some((message, remedy)) => Err(lines.fault(Fault::AddressNotPermitted, field, message, remedy)),
        None => Ok(uri),
    }
}
