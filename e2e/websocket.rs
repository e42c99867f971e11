//! WebSocket (RFC 6455) from both ends: a client over any stream of bytes, and an upstream that echoes and counts its
//! tunnels. Frames are written as the test wants them; what is read must be whole.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::{LocalSet, spawn_local};

use crate::client::{Connection, Request, Response};
use crate::sockets::read_head_text;
use crate::tls_client::connect;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Close codes (RFC 6455 §7.4.1).
pub const NORMAL: u16 = 1000;
pub const GOING_AWAY: u16 = 1001;

/// The nonce of RFC 6455 §1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// The longest payload that is read, in bytes.
const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a Close, where it has one.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk().filter(|_| self.opcode == CLOSE)?;
        Some(u16::from_be_bytes(*code))
    }
}

/// The handshake of a client with this host and path.
pub fn handshake(host: &str, path: &str) -> Request {
    Request::get(host, path)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY)
}

/// What a server must answer to a key (RFC 6455 §4.2.2).
pub fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// The client's side of a tunnel.
#[derive(Debug)]
pub struct WebSocket<S> {
    pub stream: S,
    pending: Vec<u8>,
}

impl WebSocket<TcpStream> {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// Of the connection, or an answer that is no 101 to our key; it stands in the text.
    pub fn open(address: SocketAddr, host: &str, path: &str) -> io::Result<Self> {
        Self::open_over(connect(address)?, &handshake(host, path))
    }
}

impl<S: Read + Write> WebSocket<S> {
    /// Shakes hands with this request.
    ///
    /// # Errors
    /// As [`WebSocket::open`].
    pub fn open_over(mut stream: S, request: &Request) -> io::Result<Self> {
        stream.write_all(&request.bytes())?;
        stream.flush()?;
        let (head, pending) = read_head_text(&mut stream)?;
        let accepted = format!("sec-websocket-accept: {}\r\n", accept(KEY)).to_ascii_lowercase();
        let lower = head.to_ascii_lowercase();
        if !head.starts_with("HTTP/1.1 101 ") || !lower.contains(&accepted) {
            return Err(bad(&format!("no 101: {head}")));
        }
        for line in ["upgrade: websocket\r\n", "connection: upgrade\r\n"] {
            if !lower.contains(line) {
                return Err(bad(&format!("no {line:?} in {head}")));
            }
        }
        Ok(Self { stream, pending })
    }

    /// A tunnel that is open already, as after an extended CONNECT (RFC 8441).
    pub fn over(stream: S) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// A whole frame, masked as a client must.
    ///
    /// # Errors
    /// Of the stream.
    pub fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.send_raw(&frame(opcode, payload, true))
    }

    /// # Errors
    /// Of the stream.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// # Errors
    /// Of the stream.
    pub fn close(&mut self, code: u16) -> io::Result<()> {
        self.send(CLOSE, &code.to_be_bytes())
    }

    /// The next frame, pings among them.
    ///
    /// # Errors
    /// Of the stream or its end, or what a server must not send.
    pub fn read(&mut self) -> io::Result<Frame> {
        loop {
            if let Some((frame, masked, length)) = parse(&self.pending)? {
                self.pending.drain(..length);
                return if masked { Err(bad("a masked frame of a server")) } else { Ok(frame) };
            }
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.pending.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Sends a message and reads it back.
    ///
    /// # Errors
    /// Of the stream, or when something else comes.
    pub fn echo(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.send(opcode, payload)?;
        let frame = self.read()?;
        if frame.opcode == opcode && frame.payload == payload {
            return Ok(());
        }
        Err(bad(&format!("an echo of {} bytes, opcode {}", frame.payload.len(), frame.opcode)))
    }

    /// Whatever still comes as bytes, until the other side ends; a reset is an error.
    ///
    /// # Errors
    /// Of the stream.
    pub fn rest(mut self) -> io::Result<Vec<u8>> {
        self.stream.read_to_end(&mut self.pending)?;
        Ok(self.pending)
    }
}

/// A handshake that is answered with something else than 101, on a connection of its own.
///
/// # Errors
/// Of the connection, or an answer that is not whole.
pub fn refused(address: SocketAddr, request: &Request) -> io::Result<Response> {
    let mut connection = Connection::open(address)?;
    let response = connection.ask(request)?;
    if response.status == 101 { Err(bad("a 101")) } else { Ok(response) }
}

/// The bytes of a frame that is the whole message (RFC 6455 §5.2).
pub fn frame(opcode: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut bytes = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..126 => bytes.push(mask_bit | length as u8),
        length @ 126..0x1_0000 => {
            bytes.push(mask_bit | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(mask_bit | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// The first frame in the bytes, whether it is masked, and how many bytes it takes; `None` while it is not whole.
fn parse(bytes: &[u8]) -> io::Result<Option<(Frame, bool, usize)>> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let masked = second & 0x80 != 0;
    let (length, rest) = match second & 0x7f {
        126 => match rest.split_first_chunk() {
            Some((length, rest)) => (usize::from(u16::from_be_bytes(*length)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((length, rest)) => {
                (usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX), rest)
            }
            None => return Ok(None),
        },
        length => (usize::from(length), rest),
    };
    if length > PAYLOAD_BYTES_MAX {
        return Err(bad(&format!("a payload of {length} bytes")));
    }
    let (mask, rest) = match (masked, rest.split_first_chunk()) {
        (false, _) => ([0; 4], rest),
        (true, Some((mask, rest))) => (*mask, rest),
        (true, None) => return Ok(None),
    };
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let taken = bytes.len() - rest.len() + length;
    Ok(Some((Frame { opcode: first & 0x0f, payload }, masked, taken)))
}

/// An upstream that takes every WebSocket and sends every message back. All tunnels share one thread. Takes no more
/// once it is dropped.
#[derive(Debug)]
pub struct EchoSocket {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    opened: AtomicUsize,
    open: AtomicUsize,
    /// Tunnels that ended without a Close from the client's side.
    broken: AtomicUsize,
    closes: Mutex<Vec<u16>>,
    heads: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

impl Default for EchoSocket {
    fn default() -> Self {
        Self::start()
    }
}

impl EchoSocket {
    /// # Panics
    /// When no port can be had.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared::default());
        let state = Arc::clone(&shared);
        thread::spawn(move || serve_all(listener, &state));
        Self { address, shared }
    }

    /// How many handshakes were answered with 101.
    pub fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }

    /// How many tunnels are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many tunnels ended without a Close.
    pub fn broken(&self) -> usize {
        self.shared.broken.load(Ordering::SeqCst)
    }

    /// The codes of all Closes that came.
    ///
    /// # Panics
    /// Never: nobody panics under the lock.
    pub fn closes(&self) -> Vec<u16> {
        self.shared.closes.lock().expect("no panic under the lock").clone()
    }

    /// The heads of all handshakes.
    ///
    /// # Panics
    /// Never: nobody panics under the lock.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().expect("no panic under the lock").clone()
    }
}

impl Drop for EchoSocket {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn serve_all(listener: TcpListener, shared: &Arc<Shared>) {
    listener.set_nonblocking(true).expect("a listener that does not block");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        while let Ok((stream, _)) = listener.accept().await {
            if shared.stopped.load(Ordering::SeqCst) {
                return;
            }
            let shared = Rc::new(Arc::clone(shared));
            spawn_local(async move {
                drop(serve(stream, &shared).await);
            });
        }
    });
}

async fn serve(mut stream: tokio::net::TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut pending = Vec::new();
    let head_end = loop {
        if let Some(at) = pending.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut pending).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&pending[..head_end]).into_owned();
    pending.drain(..head_end);
    let key = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        .map(|(_, value)| value.trim().to_owned());
    shared.heads.lock().expect("no panic under the lock").push(head);
    let Some(key) = key else {
        return stream.write_all(b"HTTP/1.1 400 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    };
    let accept = accept(&key);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    shared.opened.fetch_add(1, Ordering::SeqCst);
    shared.open.fetch_add(1, Ordering::SeqCst);
    let ended = echo(&mut stream, pending, shared).await;
    shared.open.fetch_sub(1, Ordering::SeqCst);
    if !matches!(ended, Ok(true)) {
        shared.broken.fetch_add(1, Ordering::SeqCst);
    }
    ended.map(drop)
}

/// Whether the client closed as it should.
async fn echo(stream: &mut tokio::net::TcpStream, mut pending: Vec<u8>, shared: &Shared) -> io::Result<bool> {
    loop {
        while let Some((message, masked, length)) = parse(&pending)? {
            let first = pending[0];
            pending.drain(..length);
            if !masked {
                return Err(bad("a frame of a client without a mask"));
            }
            match message.opcode {
                CLOSE => {
                    let code = message.close_code().unwrap_or_default();
                    shared.closes.lock().expect("no panic under the lock").push(code);
                    stream.write_all(&frame(CLOSE, &message.payload, false)).await?;
                    stream.shutdown().await?;
                    return Ok(true);
                }
                PING => stream.write_all(&frame(PONG, &message.payload, false)).await?,
                opcode => {
                    // A message in several frames goes back in as many: who is last says its first bit.
                    let mut echo = frame(opcode, &message.payload, false);
                    echo[0] = first;
                    stream.write_all(&echo).await?;
                }
            }
        }
        if stream.read_buf(&mut pending).await? == 0 {
            return Ok(false);
        }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not WebSocket: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_has_the_answer_of_the_rfc() {
        // RFC 6455 §1.3.
        assert_eq!(accept(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_client_and_the_upstream_understand_each_other() {
        let upstream = EchoSocket::start();
        let mut tunnel = WebSocket::open(upstream.address, "shop.example.com", "/").unwrap();
        for length in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
            tunnel.echo(BINARY, &vec![9; length]).unwrap();
        }
        // A message in two frames comes back in two.
        let mut first = frame(TEXT, b"pie", true);
        first[0] = TEXT;
        tunnel.send_raw(&[first, frame(0, b"ces", true)].concat()).unwrap();
        let mut echoed = [0; 10];
        tunnel.stream.read_exact(&mut echoed).unwrap();
        assert_eq!(&echoed, b"\x01\x03pie\x80\x03ces");
        tunnel.send(PING, b"there?").unwrap();
        assert_eq!(tunnel.read().unwrap(), Frame { opcode: PONG, payload: b"there?".to_vec() });
        assert_eq!((upstream.opened(), upstream.open()), (1, 1));
        tunnel.close(NORMAL).unwrap();
        assert_eq!(tunnel.read().unwrap().close_code(), Some(NORMAL));
        assert!(tunnel.rest().unwrap().is_empty());
        assert_eq!((upstream.closes(), upstream.broken()), (vec![NORMAL], 0));
    }
}
