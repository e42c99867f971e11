//! A request as it goes out: pseudo-header fields, fields, body and trailers, allowed or not.

use crate::hpack::Field;

/// A request as it will be written: pseudo-header fields stand among the fields.
#[derive(Clone, Debug)]
pub struct H2Request {
    pub fields: Vec<Field>,
    pub body: Vec<u8>,
    pub trailers: Vec<Field>,
    /// The test says itself what `:scheme` is; otherwise the connection does.
    pub(super) own_scheme: bool,
}

impl H2Request {
    pub fn new(method: &str, host: &str, path: &str) -> Self {
        let fields = [(":method", method), (":scheme", "http"), (":authority", host), (":path", path)];
        let fields = fields.map(|(name, value)| (name.into(), value.into())).to_vec();
        Self { fields, body: Vec::new(), trailers: Vec::new(), own_scheme: false }
    }

    pub fn get(host: &str, path: &str) -> Self {
        Self::new("GET", host, path)
    }

    /// A call of gRPC (grpc/doc/PROTOCOL-HTTP2.md) with these messages.
    pub fn grpc(host: &str, path: &str, messages: &[&[u8]]) -> Self {
        let body: Vec<u8> = messages.iter().flat_map(|message| grpc_message(message)).collect();
        Self::new("POST", host, path)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
    }

    /// An extended CONNECT to a WebSocket (RFC 8441 §4).
    pub fn websocket(host: &str, path: &str) -> Self {
        let mut request = Self::new("CONNECT", host, path);
        request.fields.insert(1, (":protocol".into(), "websocket".into()));
        request.header("sec-websocket-version", "13")
    }

    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Puts this value in the place of the field's own.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.own_scheme |= name == ":scheme";
        let fields = self.fields.iter_mut().filter(|(n, _)| n == name.as_bytes());
        fields.for_each(|(_, v)| *v = value.as_ref().to_vec());
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.own_scheme |= name == ":scheme";
        self.fields.retain(|(n, _)| n != name.as_bytes());
        self
    }

    /// A body, with no word of its length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    #[must_use]
    pub fn trailer(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.trailers.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }
}

/// A message of gRPC with its five bytes before it.
///
/// # Panics
/// When it is longer than 4 GiB.
pub fn grpc_message(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[0][..], &length.to_be_bytes(), message].concat()
}
