//! The two fields of a WebSocket's opening handshake that belong to one connection (RFC 6455 §4). HTTP/2 has no need of
//! them (RFC 8441 §5), so the gateway says and checks them itself where it changes the protocol for a stream.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};

pub(crate) const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
pub(crate) const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key from 128 random bits.
pub(crate) fn key(random: [u64; 2]) -> Option<HeaderValue> {
    let bytes: Vec<u8> = random.into_iter().flat_map(u64::to_be_bytes).collect();
    HeaderValue::try_from(STANDARD.encode(bytes)).ok()
}

/// Whether this is the answer to the key: who does not know of WebSocket can't have given it.
pub(crate) fn accepts(key: &HeaderValue, accept: Option<&HeaderValue>) -> bool {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
    accept.is_some_and(|accept| accept.as_bytes() == STANDARD.encode(digest).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_is_accepted_and_nothing_else() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let accept = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(accepts(&key, Some(&accept)));
        assert!(!accepts(&key, Some(&key)) && !accepts(&accept, Some(&accept)) && !accepts(&key, None));
        let own = super::key([0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f]).unwrap();
        assert_eq!(own, "AAECAwQFBgcICQoLDA0ODw==");
    }
}
