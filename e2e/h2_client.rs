//! An HTTP/2 client at the level of frames (RFC 9113), over TCP or TLS. It sends what it is told, allowed or not, obeys
//! the windows of the other side and keeps what every stream came to. It judges nothing: that is for the test.

mod frame;
mod outcome;
mod receive;
mod request;
mod send;
#[cfg(test)]
mod tests;
mod tunnel;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

pub use self::frame::*;
pub use self::outcome::{GoAway, Outcome, PeerSettings};
pub use self::request::{H2Request, grpc_message};
pub use self::tunnel::Tunnel;
use self::wire::Wire;
use crate::client::Response;
use crate::hpack::Decoder;
use crate::tls_client::{TlsConnection, connect};
use crate::until::PATIENCE;

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

    /// The first stream that the server has reset, and the code.
    pub fn first_reset(&self) -> Option<(u32, u32)> {
        self.streams.iter().find_map(|(stream, state)| Some((*stream, state.reset?)))
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
