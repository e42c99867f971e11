//! An HTTP/2 client at the level of frames (RFC 9113), over TCP or TLS. It sends what it is told, allowed or not, obeys
//! the windows of the other side and keeps what every stream came to. It judges nothing: that is for the test.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::client::Response;
use crate::hpack::{self, Decoder, Field};
use crate::tls_client::{TlsConnection, connect};
use crate::until::PATIENCE;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;

/// Error codes (RFC 9113 §7).
pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// Settings (RFC 9113 §6.5.2, RFC 8441 §3).
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;
pub const MAX_HEADER_LIST_SIZE: u16 = 6;
pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// What a window is until something is said (RFC 9113 §6.9.2), in bytes.
const WINDOW_BYTES: i64 = 65_535;
/// The largest payload that a server may send while we say nothing else, in bytes.
const FRAME_BYTES_MAX: usize = 16_384;

/// One frame; of a header block only the piece in it.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A request as it will be written: pseudo-header fields stand among the fields.
#[derive(Clone, Debug)]
pub struct H2Request {
    pub fields: Vec<Field>,
    pub body: Vec<u8>,
    pub trailers: Vec<Field>,
    /// The test says itself what `:scheme` is; otherwise the connection does.
    own_scheme: bool,
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

/// What a stream came to.
#[derive(Clone, Debug)]
pub enum Outcome {
    Answer(Response),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code, and the stream is not among those that will be served.
    GoneAway(u32),
    /// The connection ended.
    Closed,
}

impl Outcome {
    /// The status of an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answer(response) => Some(response.status),
            Self::Reset(_) | Self::GoneAway(_) | Self::Closed => None,
        }
    }

    /// The code of an error, where one was said.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Reset(code) | Self::GoneAway(code) => Some(*code),
            Self::Answer(_) | Self::Closed => None,
        }
    }
}

/// A GOAWAY (RFC 9113 §6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoAway {
    pub last_stream: u32,
    pub code: u32,
}

/// What the server's SETTINGS say.
#[derive(Clone, Copy, Debug)]
pub struct PeerSettings {
    pub initial_window: i64,
    pub frame_bytes_max: usize,
    pub streams_max: Option<u32>,
    pub header_list_bytes_max: Option<u32>,
    pub connect_protocol: bool,
}

/// One connection.
#[derive(Debug)]
pub struct H2Connection {
    wire: Wire,
    secure: bool,
    pending: Vec<u8>,
    decoder: Decoder,
    next_stream: u32,
    streams: BTreeMap<u32, Stream>,
    pub peer: PeerSettings,
    send_window: i64,
    /// Bytes that have come are granted again, for the connection and for their stream. On unless a test says not.
    pub grants: bool,
    /// Streams whose bytes are never granted again.
    pub starved: Vec<u32>,
    pub goaways: Vec<GoAway>,
    pub pongs: usize,
    settled: bool,
    half: Option<HalfBlock>,
}

#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

#[derive(Debug, Default)]
struct Stream {
    interim: Vec<u16>,
    head: Option<(u16, Vec<(String, String)>)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
    ended: bool,
    reset: Option<u32>,
    send_window: i64,
}

/// A header block that CONTINUATION goes on with.
#[derive(Debug)]
struct HalfBlock {
    stream: u32,
    block: Vec<u8>,
    ends: bool,
}

impl H2Connection {
    /// By prior knowledge, without TLS (RFC 9113 §3.3).
    ///
    /// # Errors
    /// Of the connection.
    pub fn plain(address: SocketAddr) -> io::Result<Self> {
        Self::start(Wire::Plain(connect(address)?), &[])
    }

    /// As [`H2Connection::plain`], with settings of our own.
    ///
    /// # Errors
    /// Of the connection.
    pub fn plain_with(address: SocketAddr, settings: &[(u16, u32)]) -> io::Result<Self> {
        Self::start(Wire::Plain(connect(address)?), settings)
    }

    /// Over TLS; the configuration must offer `h2` ([`crate::tls_client::offering_h2`]).
    ///
    /// # Errors
    /// Of the connection, or where the server does not agree on `h2`.
    pub fn tls(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let connection = TlsConnection::open(address, name, config)?;
        if connection.tls().alpn_protocol() != Some(b"h2") {
            return Err(bad(&format!("ALPN {:?}", connection.tls().alpn_protocol())));
        }
        Self::start(Wire::Tls(Box::new(connection.into_stream())), &[])
    }

    fn start(wire: Wire, settings: &[(u16, u32)]) -> io::Result<Self> {
        let secure = matches!(wire, Wire::Tls(_));
        let peer = PeerSettings {
            initial_window: WINDOW_BYTES,
            frame_bytes_max: FRAME_BYTES_MAX,
            streams_max: None,
            header_list_bytes_max: None,
            connect_protocol: false,
        };
        let mut connection = Self {
            wire,
            secure,
            pending: Vec::new(),
            decoder: Decoder::default(),
            next_stream: 1,
            streams: BTreeMap::new(),
            peer,
            send_window: WINDOW_BYTES,
            grants: true,
            starved: Vec::new(),
            goaways: Vec::new(),
            pongs: 0,
            settled: false,
            half: None,
        };
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        connection.send_raw(&[PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat())?;
        Ok(connection)
    }

    /// Reads until the server's settings are known.
    ///
    /// # Errors
    /// Of the connection.
    pub fn settle(&mut self) -> io::Result<()> {
        self.wait_for("the server's SETTINGS", |connection| connection.settled.then_some(()))
    }

    /// Any bytes.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes)?;
        self.wire.flush()
    }

    /// Any frame.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.send_raw(&frame(kind, flags, stream, payload))
    }

    /// Sends a whole request and returns its stream. Reads meanwhile where a window is used up; what the server refuses
    /// in the middle is not sent to its end.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send(&mut self, request: &H2Request) -> io::Result<u32> {
        let ends = request.body.is_empty() && request.trailers.is_empty();
        let stream = self.open(request, ends)?;
        if !request.body.is_empty() {
            self.send_data(stream, &request.body, request.trailers.is_empty())?;
        }
        if !request.trailers.is_empty() {
            self.send_block(stream, &hpack::encode(pairs(&request.trailers)), true)?;
        }
        Ok(stream)
    }

    /// Sends only the head of a request.
    ///
    /// # Errors
    /// Of the connection.
    pub fn open(&mut self, request: &H2Request, ends: bool) -> io::Result<u32> {
        let mut fields = request.fields.clone();
        if !request.own_scheme && self.secure {
            let schemes = fields.iter_mut().filter(|(name, _)| name == b":scheme");
            schemes.for_each(|(_, value)| *value = b"https".to_vec());
        }
        let stream = self.new_stream();
        self.send_block(stream, &hpack::encode(pairs(&fields)), ends)?;
        Ok(stream)
    }

    /// The number of the next stream, which counts as opened.
    pub fn new_stream(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let state = Stream { send_window: self.peer.initial_window, ..Stream::default() };
        self.streams.insert(stream, state);
        stream
    }

    /// A header block in as many frames as it needs.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send_block(&mut self, stream: u32, block: &[u8], ends: bool) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(block.len() + 64);
        let pieces: Vec<&[u8]> = block.chunks(FRAME_BYTES_MAX).collect();
        for (number, piece) in pieces.iter().enumerate() {
            let last = if number + 1 == pieces.len() { END_HEADERS } else { 0 };
            let (kind, flags) = match number {
                0 => (HEADERS, last | if ends { END_STREAM } else { 0 }),
                _ => (CONTINUATION, last),
            };
            bytes.extend(frame(kind, flags, stream, piece));
        }
        self.send_raw(&bytes)
    }

    /// Trailers, which end the stream.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send_trailers(&mut self, stream: u32, trailers: &[(&str, &str)]) -> io::Result<()> {
        self.send_block(stream, &hpack::encode(trailers.iter().copied()), true)
    }

    /// Sends within the windows; reads where they are used up. Gives up where the stream has ended.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send_data(&mut self, stream: u32, bytes: &[u8], ends: bool) -> io::Result<()> {
        let mut rest = bytes;
        loop {
            let state = self.stream(stream);
            if state.reset.is_some() {
                return Ok(());
            }
            let window = state.send_window.min(self.send_window).max(0);
            let room = usize::try_from(window).unwrap_or(0).min(self.peer.frame_bytes_max);
            if room == 0 && !rest.is_empty() {
                self.turn()?;
                continue;
            }
            let (piece, tail) = rest.split_at(room.min(rest.len()));
            rest = tail;
            let flags = if ends && rest.is_empty() { END_STREAM } else { 0 };
            self.send_frame(DATA, flags, stream, piece)?;
            let sent = i64::try_from(piece.len()).unwrap_or(i64::MAX);
            self.send_window -= sent;
            self.stream_mut(stream).send_window -= sent;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// # Errors
    /// Of the connection.
    pub fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.send_frame(RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    /// Grants bytes: to the connection with stream 0.
    ///
    /// # Errors
    /// Of the connection.
    pub fn grant(&mut self, stream: u32, bytes: u32) -> io::Result<()> {
        self.send_frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
    }

    /// Waits until the server has answered a PING: it has then read all that was sent before.
    ///
    /// # Errors
    /// Of the connection.
    pub fn ping(&mut self) -> io::Result<()> {
        let before = self.pongs;
        self.send_frame(PING, 0, 0, b"are you?")?;
        self.wait_for("an answer to PING", |connection| (connection.pongs > before).then_some(()))
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// Of the connection, or what is no whole answer.
    pub fn ask(&mut self, request: &H2Request) -> io::Result<Response> {
        let stream = self.send(request)?;
        self.response(stream)
    }

    /// Sends a request and reads what its stream comes to. A connection that ends meanwhile is an outcome too.
    ///
    /// # Panics
    /// When nothing comes in time, or what comes is not HTTP/2.
    pub fn outcome_of(&mut self, request: &H2Request) -> Outcome {
        let stream = match self.send(request) {
            Ok(stream) => stream,
            Err(error) if is_end(&error) => self.next_stream - 2,
            Err(error) => panic!("{error}"),
        };
        self.outcome(stream).unwrap_or_else(|error| panic!("{error}"))
    }

    /// GET.
    ///
    /// # Errors
    /// As [`H2Connection::ask`].
    pub fn get(&mut self, host: &str, path: &str) -> io::Result<Response> {
        self.ask(&H2Request::get(host, path))
    }

    /// # Errors
    /// Of the connection, or what is no whole answer.
    pub fn response(&mut self, stream: u32) -> io::Result<Response> {
        match self.outcome(stream)? {
            Outcome::Answer(response) => Ok(response),
            other @ (Outcome::Reset(_) | Outcome::GoneAway(_) | Outcome::Closed) => {
                Err(bad(&format!("stream {stream}: {other:?} after {:?}", self.goaways)))
            }
        }
    }

    /// Reads until this stream has come to something.
    ///
    /// # Errors
    /// When nothing comes in time, or what comes is not HTTP/2.
    pub fn outcome(&mut self, stream: u32) -> io::Result<Outcome> {
        loop {
            if let Some(outcome) = self.so_far(stream) {
                return Ok(outcome);
            }
            match self.turn() {
                Ok(_) => {}
                Err(error) if is_end(&error) => {
                    let outcome = self.so_far(stream);
                    let code = self.goaways.last().map(|goaway| Outcome::GoneAway(goaway.code));
                    return Ok(outcome.or(code).unwrap_or(Outcome::Closed));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What a stream has come to without reading more.
    pub fn so_far(&self, stream: u32) -> Option<Outcome> {
        let state = self.stream(stream);
        if state.ended
            && let Some((status, headers)) = &state.head
        {
            return Some(Outcome::Answer(Response {
                status: *status,
                headers: headers.clone(),
                body: state.body.clone(),
                trailers: state.trailers.clone(),
                interim: state.interim.clone(),
            }));
        }
        if let Some(code) = state.reset {
            return Some(Outcome::Reset(code));
        }
        let gone = self.goaways.iter().find(|goaway| goaway.last_stream < stream);
        gone.map(|goaway| Outcome::GoneAway(goaway.code))
    }

    /// Status and headers as soon as they are there.
    ///
    /// # Errors
    /// Of the connection, or when the stream ends without.
    pub fn head(&mut self, stream: u32) -> io::Result<(u16, Vec<(String, String)>)> {
        loop {
            let state = self.stream(stream);
            if let Some(head) = &state.head {
                return Ok(head.clone());
            }
            if let Some(code) = state.reset {
                return Err(bad(&format!("stream {stream} was reset with {code}")));
            }
            self.turn()?;
        }
    }

    /// Reads until this many bytes of a body are there, and takes all that are.
    ///
    /// # Errors
    /// Of the connection, or when the stream ends before.
    pub fn data(&mut self, stream: u32, least: usize) -> io::Result<Vec<u8>> {
        loop {
            let state = self.stream_mut(stream);
            if state.body.len() >= least {
                return Ok(std::mem::take(&mut state.body));
            }
            if state.ended || state.reset.is_some() {
                return Err(bad(&format!("stream {stream} ended: {:?}", state.reset)));
            }
            self.turn()?;
        }
    }

    /// How many bytes of a body have come and not been taken.
    pub fn held(&self, stream: u32) -> usize {
        self.stream(stream).body.len()
    }

    /// Whether the answer's end has come.
    pub fn has_ended(&self, stream: u32) -> bool {
        self.stream(stream).ended
    }

    /// Reads until something holds.
    ///
    /// # Errors
    /// Of the connection, or when it does not hold in time.
    pub fn wait_for<T>(&mut self, what: &str, holds: impl Fn(&Self) -> Option<T>) -> io::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = holds(self) {
                return Ok(value);
            }
            if Instant::now() > deadline {
                return Err(bad(&format!("waited in vain for {what}")));
            }
            self.turn()?;
        }
    }

    /// Reads until the server closes; a reset of the connection counts as that.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn until_closed(&mut self) -> io::Result<()> {
        loop {
            match self.turn() {
                Ok(_) => {}
                Err(error) if is_end(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Changes how long a read may wait.
    ///
    /// # Errors
    /// Of the socket.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.wire.tcp().set_read_timeout(Some(patience))
    }

    /// Reads one frame and does what it asks for.
    ///
    /// # Errors
    /// Of the connection, its end (`UnexpectedEof`), or what is not HTTP/2.
    pub fn turn(&mut self) -> io::Result<Frame> {
        let frame = self.read_frame()?;
        match frame.kind {
            DATA => self.on_data(&frame)?,
            HEADERS | CONTINUATION => self.on_block(&frame)?,
            RST_STREAM => self.stream_mut(frame.stream).reset = Some(number(&frame.payload)?),
            SETTINGS if frame.flags & ACK == 0 => self.on_settings(&frame.payload)?,
            PING if frame.flags & ACK == 0 => self.react(PING, ACK, 0, &frame.payload)?,
            PING => self.pongs += 1,
            GOAWAY => {
                let code = frame.payload.get(4..).ok_or_else(|| bad("a short GOAWAY"))?;
                let last_stream = number(&frame.payload)? & 0x7fff_ffff;
                self.goaways.push(GoAway { last_stream, code: number(code)? });
            }
            WINDOW_UPDATE => {
                let bytes = i64::from(number(&frame.payload)? & 0x7fff_ffff);
                match frame.stream {
                    0 => self.send_window += bytes,
                    stream => self.stream_mut(stream).send_window += bytes,
                }
            }
            PUSH_PROMISE => return Err(bad("a push that nobody asked for")),
            _ => {}
        }
        Ok(frame)
    }

    fn on_data(&mut self, frame: &Frame) -> io::Result<()> {
        let payload = without_padding(frame)?;
        let ends = frame.flags & END_STREAM != 0;
        let state = self.stream_mut(frame.stream);
        if state.head.is_none() || state.ended {
            return Err(bad("DATA outside of an answer"));
        }
        state.body.extend_from_slice(payload);
        state.ended = ends;
        let bytes = u32::try_from(frame.payload.len()).map_err(|_| bad("a long frame"))?;
        if !self.grants || bytes == 0 {
            return Ok(());
        }
        self.react(WINDOW_UPDATE, 0, 0, &bytes.to_be_bytes())?;
        if ends || self.starved.contains(&frame.stream) {
            return Ok(());
        }
        self.react(WINDOW_UPDATE, 0, frame.stream, &bytes.to_be_bytes())
    }

    /// Sends what a frame asks for. A server that has closed meanwhile needs it no more, and what it sent before is
    /// still to be read: the next read tells.
    fn react(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        match self.send_frame(kind, flags, stream, payload) {
            Err(error) if is_end(&error) => Ok(()),
            sent => sent,
        }
    }

    fn on_block(&mut self, frame: &Frame) -> io::Result<()> {
        let mut half = match (frame.kind, self.half.take()) {
            (HEADERS, None) => {
                let mut block = without_padding(frame)?;
                if frame.flags & WITH_PRIORITY != 0 {
                    block = block.get(5..).ok_or_else(|| bad("a short HEADERS"))?;
                }
                let (stream, ends) = (frame.stream, frame.flags & END_STREAM != 0);
                HalfBlock { stream, block: block.to_vec(), ends }
            }
            (CONTINUATION, Some(mut half)) if half.stream == frame.stream => {
                half.block.extend_from_slice(&frame.payload);
                half
            }
            _ => return Err(bad("a header block in disorder")),
        };
        if frame.flags & END_HEADERS == 0 {
            self.half = Some(half);
            return Ok(());
        }
        let mut fields = self.decoder.decode(&std::mem::take(&mut half.block))?;
        let state = self.stream_mut(half.stream);
        if state.ended {
            return Err(bad("HEADERS behind an answer"));
        }
        state.ended = half.ends;
        if state.head.is_some() {
            state.trailers = fields;
            return if half.ends { Ok(()) } else { Err(bad("trailers that do not end the stream")) };
        }
        let status = match fields.first() {
            Some((name, value)) if name == ":status" => value.parse().map_err(|_| bad(value))?,
            _ => return Err(bad(&format!("an answer without a status: {fields:?}"))),
        };
        fields.remove(0);
        match status {
            100..200 => state.interim.push(status),
            _ => state.head = Some((status, fields)),
        }
        Ok(())
    }

    fn on_settings(&mut self, payload: &[u8]) -> io::Result<()> {
        for pair in payload.chunks(6) {
            let [high, low, value @ ..] = pair else { return Err(bad("SETTINGS of a wrong length")) };
            let value = number(value)?;
            match u16::from_be_bytes([*high, *low]) {
                INITIAL_WINDOW_SIZE => {
                    let change = i64::from(value) - self.peer.initial_window;
                    self.peer.initial_window = i64::from(value);
                    self.streams.values_mut().for_each(|stream| stream.send_window += change);
                }
                MAX_CONCURRENT_STREAMS => self.peer.streams_max = Some(value),
                MAX_FRAME_SIZE => self.peer.frame_bytes_max = value as usize,
                MAX_HEADER_LIST_SIZE => self.peer.header_list_bytes_max = Some(value),
                ENABLE_CONNECT_PROTOCOL => self.peer.connect_protocol = value == 1,
                _ => {}
            }
        }
        self.settled = true;
        self.react(SETTINGS, ACK, 0, &[])
    }

    fn read_frame(&mut self) -> io::Result<Frame> {
        self.fill_to(9)?;
        let length = usize::from(self.pending[0]) << 16
            | usize::from(self.pending[1]) << 8
            | usize::from(self.pending[2]);
        if length > FRAME_BYTES_MAX {
            return Err(bad(&format!("a frame of {length} bytes: {:?}", &self.pending[..9])));
        }
        self.fill_to(9 + length)?;
        let (kind, flags) = (self.pending[3], self.pending[4]);
        let stream = number(&self.pending[5..9])? & 0x7fff_ffff;
        let payload = self.pending[9..9 + length].to_vec();
        self.pending.drain(..9 + length);
        Ok(Frame { kind, flags, stream, payload })
    }

    fn fill_to(&mut self, length: usize) -> io::Result<()> {
        let mut chunk = [0; 32 * 1024];
        while self.pending.len() < length {
            match self.wire.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.pending.extend_from_slice(&chunk[..count]),
            }
        }
        Ok(())
    }

    fn stream(&self, stream: u32) -> &Stream {
        self.streams.get(&stream).expect("a stream that was opened")
    }

    fn stream_mut(&mut self, stream: u32) -> &mut Stream {
        let initial_window = self.peer.initial_window;
        self.streams
            .entry(stream)
            .or_insert_with(|| Stream { send_window: initial_window, ..Stream::default() })
    }
}

/// A stream as a tunnel of bytes, in both directions: what an answer of 200 to CONNECT is (RFC 9113 §8.5).
#[derive(Debug)]
pub struct Tunnel {
    pub connection: H2Connection,
    pub stream: u32,
}

impl Read for Tunnel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let state = self.connection.stream_mut(self.stream);
            if !state.body.is_empty() {
                let count = state.body.len().min(buffer.len());
                buffer[..count].copy_from_slice(&state.body[..count]);
                state.body.drain(..count);
                return Ok(count);
            }
            if state.ended {
                return Ok(0);
            }
            if let Some(code) = state.reset {
                let text = format!("stream {} was reset with {code}", self.stream);
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, text));
            }
            self.connection.turn()?;
        }
    }
}

impl Write for Tunnel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.connection.send_data(self.stream, bytes, false)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// The bytes of a frame (RFC 9113 §4.1).
///
/// # Panics
/// When the payload is longer than 16 MiB.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a payload that fits").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// An error that means that the other side has closed, well or not.
pub fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

fn pairs(fields: &[Field]) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
}

fn without_padding(frame: &Frame) -> io::Result<&[u8]> {
    if frame.flags & PADDED == 0 {
        return Ok(&frame.payload);
    }
    let (padding, rest) = frame.payload.split_first().ok_or_else(|| bad("padding of nothing"))?;
    let end = rest.len().checked_sub(usize::from(*padding)).ok_or_else(|| bad("too much padding"))?;
    Ok(&rest[..end])
}

fn number(bytes: &[u8]) -> io::Result<u32> {
    let bytes = bytes.first_chunk().ok_or_else(|| bad("a number that ends too early"))?;
    Ok(u32::from_be_bytes(*bytes))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP/2: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Authority;
    use crate::h2_backend::H2Backend;
    use crate::tls_backend::server_config;
    use crate::tls_client::{config, offering_h2};

    const HOST: &str = "shop.example.com";

    #[test]
    fn the_client_and_the_backend_understand_each_other_with_tls_and_without() {
        let authority = Authority::new();
        let plain = H2Backend::start();
        let secure = H2Backend::start_tls(server_config(&[&authority.issue(&[HOST])], &["h2"], None));
        let client = offering_h2(config(&authority));
        for (backend, mut connection) in [
            (&plain, H2Connection::plain(plain.address).unwrap()),
            (&secure, H2Connection::tls(secure.address, HOST, &client).unwrap()),
        ] {
            let response = connection.ask(&H2Request::get(HOST, "/a?b").header("x-a", "b")).unwrap();
            assert_eq!((response.status, response.echoed("x-a")), (200, vec!["b".to_owned()]));
            let body = vec![7; 3 << 20];
            let echo = H2Request::new("POST", HOST, "/echo").body(body.clone()).trailer("x-late", "1");
            let response = connection.ask(&echo).unwrap();
            assert!(response.body == body, "{} bytes", response.body.len());
            assert_eq!(response.trailers, [("x-late".to_owned(), "1".to_owned())]);
            let call = H2Request::grpc(HOST, "/test.Echo/Unary", &[b"hello"]);
            let response = connection.ask(&call).unwrap();
            assert_eq!(response.trailers, [("grpc-status".to_owned(), "0".to_owned())]);
            let fails = connection.ask(&H2Request::grpc(HOST, "/test.Echo/Fail", &[b"x"])).unwrap();
            assert_eq!((fails.header("grpc-status"), fails.body.len()), (Some("5"), 0));
            let refused = connection.outcome_of(&H2Request::get(HOST, "/refused"));
            assert_eq!(refused.code(), Some(REFUSED_STREAM), "{refused:?}");
            assert_eq!(connection.get(HOST, "/bytes?100000").unwrap().body.len(), 100_000);
            connection.ping().unwrap();
            assert_eq!(connection.get(HOST, "/goaway").unwrap().status, 200);
            connection.until_closed().unwrap();
            assert_eq!(connection.goaways.last().map(|goaway| goaway.code), Some(NO_ERROR));
            assert_eq!(backend.connections(), 1);
            assert!(backend.seen()[1].whole && backend.seen()[1].trailers.len() == 1);
        }
    }

    #[test]
    fn a_window_that_is_used_up_holds_one_stream_and_no_other() {
        let backend = H2Backend::start();
        let mut connection = H2Connection::plain(backend.address).unwrap();
        connection.grant(0, 1 << 20).unwrap();
        let held = connection.send(&H2Request::get(HOST, "/bytes?1000000")).unwrap();
        connection.starved.push(held);
        connection.wait_for("a full window", |c| (c.held(held) == 65_535).then_some(())).unwrap();
        assert_eq!(connection.get(HOST, "/bytes?200000").unwrap().body.len(), 200_000);
        assert_eq!(connection.held(held), 65_535);
    }

    #[test]
    fn what_is_malformed_goes_out_as_it_is() {
        let backend = H2Backend::start();
        for (name, value) in [("X-Upper", "1"), ("x-a", "b\r\nc"), ("connection", "close")] {
            let mut connection = H2Connection::plain(backend.address).unwrap();
            let outcome = connection.outcome_of(&H2Request::get(HOST, "/").header(name, value));
            assert!(outcome.code().is_some(), "{name}: {outcome:?}");
        }
        assert!(backend.seen().is_empty());
    }
}
