//! Cross-origin resource sharing as it stands in objects.

use api::Cors as CorsSpec;
use ir::{Cors, CorsOrigin, HostName};

use crate::report::{Field, Lines, Refused};
use crate::value;

const ORIGIN_REMEDY: &str =
    "write '*', 'https://shop.example.com', 'https://*.example.com' or either with a port";

/// A whole CORS configuration; one bad part refuses it.
pub(crate) fn cors(spec: &CorsSpec, field: Field<'_>, lines: &mut Lines) -> Result<Cors, Refused> {
    let allow_origins = value::all(&spec.allow_origins, field.key("allowOrigins"), |text, field| {
        origin(text)
            .map_err(|reason| lines.error(field, format!("'{text}' is no origin: {reason}"), ORIGIN_REMEDY))
    });
    let allow_methods = value::methods(&spec.allow_methods, field.key("allowMethods"), lines);
    let allow_headers = value::header_names(&spec.allow_headers, field.key("allowHeaders"), lines);
    let expose_headers = value::header_names(&spec.expose_headers, field.key("exposeHeaders"), lines);
    let cors = Cors {
        allow_origins: allow_origins?,
        allow_methods: allow_methods?,
        allow_headers: allow_headers?,
        expose_headers: expose_headers?,
        allow_credentials: spec.allow_credentials,
        max_age: spec.max_age.map(api::Duration::get),
    };
    if cors.allow_credentials && cors.allow_origins.contains(&CorsOrigin::Any) {
        let message = "every site may read answers with its visitors' cookies: allowCredentials stands beside the origin '*'";
        lines.warning(field.key("allowOrigins"), message, "name the origins that may");
    }
    Ok(cors)
}

/// Reads an origin into the form in which browsers send it: lower case, no default port.
fn origin(text: &str) -> Result<CorsOrigin, String> {
    if text == "*" {
        return Ok(CorsOrigin::Any);
    }
    let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
    let scheme = scheme.to_ascii_lowercase();
    let mut letters = scheme.bytes();
    let sound = letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.' | b'-'));
    if !sound {
        return Err("its scheme has forbidden characters".to_owned());
    }
    let (host, port) = split_port(rest)?;
    let port = port.filter(|port| !matches!((scheme.as_str(), port), ("http", 80) | ("https", 443)));
    if let Some(suffix) = host.strip_prefix("*.") {
        let suffix = HostName::parse(suffix).map_err(|error| error.to_string())?;
        return Ok(CorsOrigin::Subdomains { scheme, suffix: suffix.as_str().to_owned(), port });
    }
    let host = HostName::parse(host).map_err(|error| error.to_string())?;
    Ok(CorsOrigin::Exact(match port {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }))
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let bracket = text.rfind(']').unwrap_or(0);
    match text.rfind(':').filter(|colon| *colon > bracket || bracket == 0) {
        None => Ok((text, None)),
        Some(colon) => {
            let (host, port) = text.split_at(colon);
            let port = port.strip_prefix(':').unwrap_or(port);
            match port.parse::<u16>() {
                Ok(number) if number != 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                    Ok((host, Some(number)))
                }
                Ok(_) | Err(_) => Err("its port is no number from 1 to 65535".to_owned()),
            }
        }
    }
}
