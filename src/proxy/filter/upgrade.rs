//! Whether a request asks to change to another protocol on its connection, and may (RFC 9110 §7.8). What asks wrongly
//! is an ordinary request.

use http::{HeaderMap, HeaderName, Method, header};
use ir::Upgrades;

use super::websocket::SEC_WEBSOCKET_KEY;

const SEC_WEBSOCKET_VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");

/// What of a request counts.
#[derive(Debug)]
pub(crate) struct UpgradeRequest<'a> {
    pub(crate) method: &'a Method,
    /// `Connection` names `upgrade` over HTTP/1.1, or a stream of HTTP/2 is to be one of the protocol's (RFC 8441).
    pub(crate) is_asked: bool,
    /// With the `Upgrade` fields.
    pub(crate) headers: &'a HeaderMap,
    pub(crate) has_body: bool,
}

/// The protocol to ask the upstream for: the first one that the client names and the route allows.
pub(crate) fn protocol<'a>(request: &UpgradeRequest<'_>, allowed: &'a Upgrades) -> Option<&'a str> {
    let may_ask = request.is_asked && *request.method == Method::GET && !request.has_body;
    if !may_ask {
        return None;
    }
    let named = request.headers.get_all(header::UPGRADE).iter();
    let mut tokens = named.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let protocol = tokens.find_map(|token| {
        let token = token.trim_ascii();
        allowed.names().iter().find(|name| name.as_bytes().eq_ignore_ascii_case(token))
    })?;
    (!is_websocket(protocol) || is_handshake(request.headers)).then_some(protocol)
}

pub(crate) fn is_websocket(protocol: impl AsRef<[u8]>) -> bool {
    protocol.as_ref().eq_ignore_ascii_case(b"websocket")
}

/// RFC 6455 §4.1: one key and a version. Whether the version is a good one the upstream says (§4.4: by 426).
fn is_handshake(headers: &HeaderMap) -> bool {
    headers.get_all(SEC_WEBSOCKET_KEY).iter().count() == 1 && headers.contains_key(SEC_WEBSOCKET_VERSION)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    type Field = (&'static str, &'static str);

    fn headers(fields: &[Field]) -> HeaderMap {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        // Not collected: that would keep one of those that have the same name.
        fields.fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
    }

    const KEY: Field = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const VERSION: Field = ("sec-websocket-version", "13");

    #[test]
    fn what_is_named_and_allowed_is_asked_for_and_nothing_else() {
        let (default, many, none) =
            (Upgrades::default(), Upgrades::new(["spdy/3.1", "websocket", "h2c"]), Upgrades::new([]));
        let cases: &[(&str, &[Field], &Upgrades, Option<&str>)] = &[
            ("as browsers ask", &[("upgrade", "websocket"), KEY, VERSION], &default, Some("websocket")),
            ("in any case", &[("upgrade", " WebSocket "), KEY, VERSION], &default, Some("websocket")),
            (
                "another version",
                &[("upgrade", "websocket"), KEY, ("sec-websocket-version", "777")],
                &default,
                Some("websocket"),
            ),
            ("no key", &[("upgrade", "websocket"), VERSION], &default, None),
            ("two keys", &[("upgrade", "websocket"), KEY, KEY, VERSION], &default, None),
            ("no version", &[("upgrade", "websocket"), KEY], &default, None),
            ("not named", &[KEY, VERSION], &default, None),
            ("unknown", &[("upgrade", "tls/1.0")], &many, None),
            ("only a part of the name", &[("upgrade", "spdy")], &many, None),
            ("not allowed", &[("upgrade", "spdy/3.1")], &default, None),
            ("nothing is allowed", &[("upgrade", "websocket"), KEY, VERSION], &none, None),
            ("h2c", &[("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQ")], &many, None),
            ("the first allowed", &[("upgrade", "h2c, SPDY/3.1, websocket")], &many, Some("spdy/3.1")),
            (
                "in the client's order",
                &[("upgrade", "h2c"), ("upgrade", "websocket,spdy/3.1"), KEY, VERSION],
                &many,
                Some("websocket"),
            ),
        ];
        for (name, fields, allowed, want) in cases {
            let request = UpgradeRequest {
                method: &Method::GET,
                is_asked: true,
                headers: &headers(fields),
                has_body: false,
            };
            assert_eq!(protocol(&request, allowed), *want, "{name}");
        }
    }

    #[test]
    fn a_request_that_cannot_change_its_protocol_is_an_ordinary_one() {
        let headers = headers(&[("upgrade", "websocket"), KEY, VERSION]);
        let good =
            || UpgradeRequest { method: &Method::GET, is_asked: true, headers: &headers, has_body: false };
        let allowed = Upgrades::default();
        assert!(protocol(&good(), &allowed).is_some());
        for (name, request) in [
            ("POST", UpgradeRequest { method: &Method::POST, ..good() }),
            ("not asked", UpgradeRequest { is_asked: false, ..good() }),
            ("with a body", UpgradeRequest { has_body: true, ..good() }),
        ] {
            assert_eq!(protocol(&request, &allowed), None, "{name}");
        }
    }
}
