//! What a client asked, made canonical once: the same values are matched, limited, authorised, logged and sent on.

use std::borrow::Cow;
use std::net::IpAddr;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use ipnet::IpNet;
use ir::Scheme;
use table::RequestHead;

use crate::error::Reason;
use crate::filter::client_cert::speaks_of_certificate;
use crate::random::Random;
use crate::server::Downstream;
use crate::settings::{Settings, UnderscoreHeaders};

mod forwarded;

use forwarded::forwarded_client;

const REQUEST_ID_BYTES_MAX: usize = 128;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request's head in the one form that every stage sees.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) version: Version,
    uri: Uri,
    /// The folded host where it differs from what was sent.
    host: Host,
    /// The canonical path where it differs from what was sent.
    path: Option<String>,
    /// The client: the peer, or what trusted proxies say.
    pub(crate) client: IpAddr,
    /// What a trusted peer says of its client's address can't be read: the peer stands for it, and proves nothing.
    pub(crate) client_is_unsure: bool,
    /// The peer may speak for its client.
    pub(crate) peer_is_trusted: bool,
    /// How the peer itself asked.
    peer_scheme: Scheme,
    /// `Connection` names `upgrade`: what `Upgrade` says counts, and stays among the headers.
    pub(crate) names_upgrade: bool,
    /// The stream of HTTP/2 on which a tunnel is asked for (RFC 8441); the protocol stands in `Upgrade`.
    pub(crate) tunnel: Option<OnUpgrade>,
}

/// Where the host's text stands.
#[derive(Debug)]
enum Host {
    /// HTTP/1.0 without a Host field.
    None,
    Field(HeaderValue),
    Folded {
        raw: HeaderValue,
        folded: String,
    },
}

impl Asked {
    /// Screens the head. The value can be used for an answer even where there is a fault.
    pub(crate) fn new(
        mut parts: request::Parts,
        downstream: &Downstream,
        settings: &Settings,
    ) -> (Self, Option<Reason>) {
        let mut asked = Self {
            method: parts.method,
            headers: parts.headers,
            version: parts.version,
            uri: parts.uri,
            host: Host::None,
            path: None,
            client: downstream.peer,
            client_is_unsure: false,
            peer_is_trusted: is_in(downstream.peer, &settings.trusted_proxies),
            peer_scheme: if downstream.tls().is_some() { Scheme::Https } else { Scheme::Http },
            names_upgrade: false,
            tunnel: None,
        };
        asked.take_extended_connect(&mut parts.extensions);
        let fault = asked.screen(settings).err();
        (asked, fault)
    }

    /// RFC 8441 §4: CONNECT that names a protocol asks for what a GET with `Upgrade` asks for over HTTP/1.1, and is
    /// treated as that. A plain CONNECT stays one.
    fn take_extended_connect(&mut self, extensions: &mut Extensions) {
        let Some(protocol) = extensions.remove::<Protocol>() else { return };
        let (Some(tunnel), Ok(protocol)) =
            (extensions.remove::<OnUpgrade>(), HeaderValue::from_str(protocol.as_str()))
        else {
            return;
        };
        self.method = Method::GET;
        self.headers.insert(header::UPGRADE, protocol);
        self.tunnel = Some(tunnel);
    }

    fn screen(&mut self, settings: &Settings) -> Result<(), Reason> {
        if self.version == Version::HTTP_2 {
            self.join_cookies();
        }
        self.screen_codings()?;
        self.screen_fields(settings.underscore_headers)?;
        self.host = self.read_host()?;
        if matches!(self.method, Method::CONNECT | Method::TRACE) {
            return Err(Reason::MethodNotAllowed);
        }
        self.screen_expectations()?;
        self.path = match table::canonical(self.uri.path()) {
            Ok(Cow::Borrowed(_)) => None,
            Ok(Cow::Owned(path)) => Some(path),
            Err(_) => return Err(Reason::BadPath),
        };
        if self.peer_is_trusted {
            let said = forwarded_client(&self.headers, &settings.trusted_proxies);
            self.client_is_unsure = said.is_none() && self.headers.contains_key(X_FORWARDED_FOR);
            self.client = said.unwrap_or(self.client);
        }
        Ok(())
    }

    /// RFC 9113 §8.2.3: HTTP/2 may carry a cookie list in parts, which are one list everywhere else.
    fn join_cookies(&mut self) {
        let mut parts = self.headers.get_all(header::COOKIE).iter();
        if parts.nth(1).is_none() {
            return;
        }
        let parts: Vec<&[u8]> =
            self.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        // Parts that are values make a value.
        if let Ok(whole) = HeaderValue::from_bytes(&parts.join(b"; ".as_slice())) {
            self.headers.insert(header::COOKIE, whole);
        }
    }

    /// RFC 9110 §10.1.1: `100-continue` is the only expectation, and one of HTTP/1.0 does not count. A client of HTTP/2
    /// need not be held back by the head of an answer: its window does that.
    fn screen_expectations(&mut self) -> Result<(), Reason> {
        let met = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        if self.version != Version::HTTP_10 && !self.headers.get_all(header::EXPECT).iter().all(met) {
            return Err(Reason::ExpectationFailed);
        }
        if self.version != Version::HTTP_11 {
            self.headers.remove(header::EXPECT);
        }
        Ok(())
    }

    /// RFC 9112 §6.1: one coding, `chunked`. Others would be lost when the body is framed anew (hardening SM04).
    fn screen_codings(&self) -> Result<(), Reason> {
        // HTTP/1.1's parser has looked at lengths already; that of HTTP/2 takes an empty one, and two that are alike
        // (hardening SM28).
        if self.version == Version::HTTP_2 {
            let mut lengths = self.headers.get_all(header::CONTENT_LENGTH).iter();
            let is_number =
                |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
            if !lengths.next().is_none_or(is_number) || lengths.next().is_some() {
                return Err(Reason::BadHeader);
            }
        }
        let mut codings = self.headers.get_all(header::TRANSFER_ENCODING).iter();
        let chunked =
            codings.next().is_none_or(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
        if chunked && codings.next().is_none() { Ok(()) } else { Err(Reason::BadHeader) }
    }

    /// Takes out what `Connection` names (RFC 9110 §7.6.1) but what a client must not be able to take out (hardening
    /// HB01, HB02), names with `_`, and what only a trusted peer may say about its client (HB04).
    fn screen_fields(&mut self, underscores: UnderscoreHeaders) -> Result<(), Reason> {
        let mut named: Vec<HeaderName> = Vec::new();
        for value in self.headers.get_all(header::CONNECTION) {
            let tokens = value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            named.extend(
                tokens.filter(|token| !is_option(token)).filter_map(|t| HeaderName::from_bytes(t).ok()),
            );
        }
        if underscores != UnderscoreHeaders::Keep {
            let with_underscore = self.headers.keys().filter(|name| name.as_str().contains('_'));
            let before = named.len();
            named.extend(with_underscore.cloned());
            if named.len() > before && underscores == UnderscoreHeaders::Reject {
                return Err(Reason::BadHeader);
            }
        }
        let is_named = self.version == Version::HTTP_11 && named.contains(&header::UPGRADE);
        self.names_upgrade = is_named || self.tunnel.is_some();
        named.retain(|name| !is_protected(name));
        if !self.peer_is_trusted {
            named.extend(self.headers.keys().filter(|name| speaks_for_client(name.as_str())).cloned());
        }
        for name in &named {
            self.headers.remove(name);
        }
        Ok(())
    }

    /// RFC 9112 §3.2: exactly one Host, and the target's authority wins over it. RFC 9113 §8.3.1: the authority stands
    /// for Host, and where both are there they must say the same (hardening SM29).
    fn read_host(&self) -> Result<Host, Reason> {
        let mut fields = self.headers.get_all(header::HOST).iter();
        let field = fields.next();
        if fields.next().is_some() || (field.is_none() && self.version == Version::HTTP_11) {
            return Err(Reason::BadHost);
        }
        let raw = match (self.uri.authority(), field) {
            // Not used, but a Host that is none is refused all the same.
            (Some(_), Some(field)) if !field.to_str().is_ok_and(|host| table::fold(host).is_ok()) => {
                return Err(Reason::BadHost);
            }
            (Some(authority), Some(field))
                if self.version == Version::HTTP_2 && !same_authority(authority.as_str(), field) =>
            {
                return Err(Reason::BadHost);
            }
            (None, None) if self.version == Version::HTTP_2 => return Err(Reason::BadHost),
            (Some(authority), _) => HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::BadHost)?,
            (None, Some(field)) => field.clone(),
            (None, None) => return Ok(Host::None),
        };
        let text = raw.to_str().map_err(|_| Reason::BadHost)?;
        match table::fold(text) {
            Ok(Cow::Borrowed(folded)) if folded.len() == text.len() => Ok(Host::Field(raw)),
            Ok(folded) => {
                let folded = folded.into_owned();
                Ok(Host::Folded { raw, folded })
            }
            Err(_) => Err(Reason::BadHost),
        }
    }

    /// The folded host; empty where HTTP/1.0 had none.
    pub(crate) fn host(&self) -> &str {
        match &self.host {
            Host::None => "",
            // The value was text when it was read.
            Host::Field(raw) => raw.to_str().unwrap_or_default(),
            Host::Folded { folded, .. } => folded,
        }
    }

    /// The host as the client wrote it, port and all, for the upstream.
    pub(crate) fn raw_host(&self) -> &[u8] {
        match &self.host {
            Host::None => b"",
            Host::Field(raw) | Host::Folded { raw, .. } => raw.as_bytes(),
        }
    }

    /// A field of a trusted peer about its client.
    fn said(&self, name: &str) -> Option<&str> {
        // Looking a field up by text costs more than all else about it, and most peers may not say such things.
        if !self.peer_is_trusted {
            return None;
        }
        self.headers.get(name)?.to_str().ok()
    }

    /// How the client reached its first proxy, as far as that may say so.
    pub(crate) fn scheme(&self) -> Scheme {
        match self.said("x-forwarded-proto") {
            Some(proto) if proto.eq_ignore_ascii_case("https") => Scheme::Https,
            Some(proto) if proto.eq_ignore_ascii_case("http") => Scheme::Http,
            Some(_) | None => self.peer_scheme,
        }
    }

    /// The host that the client asked its first proxy for; empty where HTTP/1.0 named none.
    pub(crate) fn public_host(&self) -> Cow<'_, str> {
        let said = self.said("x-forwarded-host").and_then(|host| table::fold(host).ok());
        said.unwrap_or(Cow::Borrowed(self.host()))
    }

    /// The port that the client named: in its Host, else that of its scheme. The listener's own may be another, behind
    /// a Service.
    pub(crate) fn public_port(&self) -> u16 {
        if let Some(port) = self.said("x-forwarded-port").and_then(|port| port.parse().ok()) {
            return port;
        }
        let said = self.said("x-forwarded-host").filter(|host| table::fold(host).is_ok());
        let text = said.or_else(|| std::str::from_utf8(self.raw_host()).ok()).unwrap_or_default();
        let named = text.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        named.unwrap_or(match self.scheme() {
            Scheme::Http => 80,
            Scheme::Https => 443,
        })
    }

    /// The canonical path.
    pub(crate) fn path(&self) -> &str {
        self.path.as_deref().unwrap_or_else(|| self.uri.path())
    }

    /// The address that rules look at; `None`: it can't be told.
    pub(crate) fn client_for_rules(&self) -> Option<IpAddr> {
        (!self.client_is_unsure).then_some(self.client)
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    pub(crate) fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            host: self.host(),
            path: self.path(),
            query: self.query(),
            headers: &self.headers,
            client: self.client,
            client_is_unsure: self.client_is_unsure,
        }
    }

    /// The client's own request id if it is one, else a new one.
    pub(crate) fn request_id(&self, random: &Random) -> HeaderValue {
        match self.headers.get(X_REQUEST_ID) {
            Some(id) if is_request_id(id.as_bytes()) => id.clone(),
            Some(_) | None => {
                let mut halves = [[0u8; 16]; 2];
                for half in &mut halves {
                    write_hex(random.next(), half);
                }
                HeaderValue::from_bytes(halves.as_flattened()).unwrap_or(HeaderValue::from_static("-"))
            }
        }
    }

    pub(crate) fn origin(&self) -> Option<&HeaderValue> {
        self.headers.get(header::ORIGIN)
    }

    pub(crate) fn expects_continue(&self) -> bool {
        self.headers.contains_key(header::EXPECT)
    }

    /// Whether the client would rather have a problem as JSON: it does not say, or says so, and is no browser page.
    pub(crate) fn takes_json(&self) -> bool {
        let mut accepts = self.headers.get_all(header::ACCEPT).iter().peekable();
        if accepts.peek().is_none() {
            return true;
        }
        accepts.filter_map(|value| value.to_str().ok()).fold(false, |json, value| {
            let value = value.to_ascii_lowercase();
            let wants = value.contains("json") || value.contains("*/*") || value.contains("application/*");
            json || (wants && !value.contains("text/html"))
        })
    }
}

fn same_authority(authority: &str, host: &HeaderValue) -> bool {
    host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())
}

fn is_option(token: &[u8]) -> bool {
    token.is_empty() || token.eq_ignore_ascii_case(b"close") || token.eq_ignore_ascii_case(b"keep-alive")
}

/// Fields that a client cannot have removed by naming them in `Connection`. `TE` and `Upgrade` are judged when the
/// request is sent on.
fn is_protected(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::HOST
            | header::CONTENT_LENGTH
            | header::TRANSFER_ENCODING
            | header::AUTHORIZATION
            | header::COOKIE
            | header::ORIGIN
            | header::TE
            | header::UPGRADE
            | header::EXPECT
            | header::FORWARDED
    ) || name.as_str().starts_with("x-forwarded-")
        || name.as_str() == "x-real-ip"
}

/// Fields by which a proxy tells what its client asked, or who it is. `X-Request-Id` may come from anyone.
fn speaks_for_client(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || matches!(
            name,
            "forwarded" | "x-real-ip" | "x-original-url" | "x-original-method" | "x-rewrite-url"
        )
        || speaks_of_certificate(name)
}

fn is_in(address: IpAddr, networks: &[IpNet]) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

fn is_request_id(id: &[u8]) -> bool {
    !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.iter().all(|byte| byte.is_ascii_graphic())
}

/// The value as 16 hexadecimal digits.
pub(crate) fn write_hex(value: u64, out: &mut [u8; 16]) {
    let (upper, lower) = out.split_at_mut(8);
    upper.copy_from_slice(&eight_digits(value >> 32));
    lower.copy_from_slice(&eight_digits(value & 0xffff_ffff));
}

/// All digits at once: two of them are part of every request's id.
fn eight_digits(value: u64) -> [u8; 8] {
    // Each nibble into a byte of its own.
    let value = (value | value << 16) & 0x0000_ffff_0000_ffff;
    let value = (value | value << 8) & 0x00ff_00ff_00ff_00ff;
    let value = (value | value << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 where there is a letter: with 6 more it carries into the upper half of its byte.
    let letters = ((value + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (value + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_those_of_the_standard_library() {
        for value in [0, 1, 9, 10, 15, 16, u64::MAX, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210] {
            let mut digits = [0; 16];
            write_hex(value, &mut digits);
            assert_eq!(std::str::from_utf8(&digits).unwrap(), format!("{value:016x}"));
        }
    }

    #[test]
    fn request_ids_are_kept_only_if_they_are_plain() {
        for (id, want) in [("abc-123", true), ("", false), ("with blank", false), ("tab\t", false)] {
            assert_eq!(is_request_id(id.as_bytes()), want, "{id:?}");
        }
        assert!(!is_request_id(&[b'a'; REQUEST_ID_BYTES_MAX + 1]));
    }
}
