//! What the gateway itself tells an upstream about the client. A client's own copies never get through.

use std::io::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use ir::HeaderEdit;

use super::h1::is_own;
use crate::request::Asked;
use crate::server::Downstream;

/// The gateway's own fields of one request, as they stand in the head.
#[derive(Debug)]
pub(crate) struct Own {
    /// `name: value\r\n` each.
    lines: Vec<u8>,
}

impl Own {
    /// `X-Forwarded-For`, `-Proto`, `-Host`, `-Port`, `X-Real-IP` and `X-Request-Id`. What a trusted peer says is kept;
    /// `X-Forwarded-For` then grows by the peer.
    pub(crate) fn new(asked: &Asked, downstream: &Downstream, request_id: &HeaderValue) -> Self {
        let mut own = Self { lines: Vec::with_capacity(256) };
        // Not looked for where nobody may say it: that costs more than all else here.
        let said = |name: &str| asked.peer_is_trusted.then(|| asked.headers.get(name)).flatten();
        let peer = downstream.peer_text.as_bytes();
        own.lines.extend_from_slice(b"x-forwarded-for: ");
        if asked.peer_is_trusted && !asked.client_is_unsure {
            for value in asked.headers.get_all("x-forwarded-for") {
                own.lines.extend_from_slice(value.as_bytes());
                own.lines.extend_from_slice(b", ");
            }
        }
        own.lines.extend_from_slice(peer);
        own.lines.extend_from_slice(b"\r\n");
        own.field("x-forwarded-proto", asked.scheme().as_str().as_bytes());
        let is_host = |value: &&HeaderValue| value.to_str().is_ok_and(|host| table::fold(host).is_ok());
        let host = said("x-forwarded-host").filter(is_host);
        own.field("x-forwarded-host", host.map_or(asked.raw_host(), HeaderValue::as_bytes));
        let is_port = |value: &&HeaderValue| value.to_str().is_ok_and(|port| port.parse::<u16>().is_ok());
        match said("x-forwarded-port").filter(is_port) {
            Some(port) => own.field("x-forwarded-port", port.as_bytes()),
            None => {
                let mut digits = itoa::Buffer::new();
                own.field("x-forwarded-port", digits.format(downstream.local_port).as_bytes());
            }
        }
        if asked.client == downstream.peer {
            own.field("x-real-ip", peer);
        } else {
            // Writing to a Vec cannot fail.
            drop(write!(own.lines, "x-real-ip: {}\r\n", asked.client));
        }
        own.field("x-request-id", request_id.as_bytes());
        own
    }

    fn field(&mut self, name: &str, value: &[u8]) {
        self.lines.extend_from_slice(name.as_bytes());
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value);
        self.lines.extend_from_slice(b"\r\n");
    }

    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Puts the fields into the map in the place of the client's, so that a rule can edit them there. Then there are no
    /// lines left.
    pub(crate) fn move_into(&mut self, headers: &mut HeaderMap) {
        let own_names: Vec<HeaderName> =
            headers.keys().filter(|name| is_own(name.as_str())).cloned().collect();
        for name in &own_names {
            headers.remove(name);
        }
        let lines = std::mem::take(&mut self.lines);
        for line in lines.split(|&byte| byte == b'\n') {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                headers.insert(name, value);
            }
        }
    }
}

/// Whether a rule edits fields that the gateway sets itself. Rare, so such requests take the longer way.
pub(crate) fn edits_own(edit: &HeaderEdit) -> bool {
    let written = edit.set.iter().chain(&edit.add).map(|(name, _)| name);
    written.chain(&edit.remove).any(|name| is_own(name.as_str()))
}
