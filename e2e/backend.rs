//! An upstream that is a thread: it keeps every byte that it gets and answers what the test tells it to.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request as it arrived, head and body apart, every byte kept.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// Which connection of the backend it came on, counted from 0.
    pub connection: usize,
    /// Up to and with the empty line.
    pub head: String,
    /// As framed on the wire: chunk sizes and trailers are still in it.
    pub body: Vec<u8>,
}

impl Arrived {
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The values of all lines of this name, in any case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.head
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These bytes; the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, then a close.
    BytesThenClose(Vec<u8>),
    /// These bytes, then a reset.
    BytesThenReset(Vec<u8>),
    /// Nothing, for ever.
    Silence,
    /// These bytes, then this reply.
    BytesThen(Vec<u8>, Box<Reply>),
    /// This reply after this time.
    After(Duration, Box<Reply>),
}

impl Reply {
    /// A 200 with this body and its length.
    pub fn ok(body: &str) -> Self {
        Self::status(200, body)
    }

    /// An answer with this status and body.
    pub fn status(status: u16, body: &str) -> Self {
        let length = body.len();
        Self::Bytes(format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes())
    }
}

/// Stops when dropped.
#[derive(Debug)]
pub struct Backend {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

type Script = dyn Fn(&Arrived) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    /// The script is asked as soon as the head is there, and no body is read.
    on_head: bool,
    /// The longest silence on a connection.
    idle: Option<Duration>,
    arrived: Mutex<Vec<Arrived>>,
    accepted: AtomicUsize,
    /// Handles of the open connections, by number, to end them from outside.
    open: Mutex<BTreeMap<usize, TcpStream>>,
    stopped: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("arrived", &self.arrived).finish_non_exhaustive()
    }
}

impl Backend {
    /// Listens on a free port; every request whose body has arrived whole is given to the script.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start(script: impl Fn(&Arrived) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Box::new(script), false, None)
    }

    /// One that can be made to answer 500 to everything, and else says `moody`.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn moody() -> (Self, Arc<AtomicBool>) {
        let bad = Arc::new(AtomicBool::new(false));
        let mood = Arc::clone(&bad);
        let backend = Self::start(move |_| {
            if mood.load(Ordering::SeqCst) { Reply::status(500, "bad") } else { Reply::ok("moody") }
        });
        (backend, bad)
    }

    /// As [`Backend::start`], but answers as soon as the head is there and never reads a body.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start_hasty(script: impl Fn(&Arrived) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Box::new(script), true, None)
    }

    /// As [`Backend::start`], but closes a connection on which nothing has come for this long.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start_closing(idle: Duration, script: impl Fn(&Arrived) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Box::new(script), false, Some(idle))
    }

    fn listen(script: Box<Script>, on_head: bool, idle: Option<Duration>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            script,
            on_head,
            idle,
            arrived: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                accepting.accepted.fetch_add(1, Ordering::SeqCst);
                let Ok(handle) = stream.try_clone() else { continue };
                accepting.open.lock().expect("no panic under the lock").insert(number, handle);
                let shared = Arc::clone(&accepting);
                thread::spawn(move || {
                    // The gateway may close at any time: that is for the test to judge by what arrived.
                    drop(serve(&shared, number, &stream));
                    // The second handle goes first, so that the end of `stream` is the end of the connection.
                    shared.open.lock().expect("no panic under the lock").remove(&number);
                });
            }
        });
        Self { address, shared }
    }

    /// A backend that answers 200 with its name, always.
    pub fn named(name: &'static str) -> Self {
        Self::start(move |_| Reply::ok(name))
    }

    /// All requests so far.
    ///
    /// # Panics
    /// Never: nobody panics under the lock.
    pub fn arrived(&self) -> Vec<Arrived> {
        self.shared.arrived.lock().expect("no panic under the lock").clone()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees that it is over.
        drop(TcpStream::connect(self.address));
        for stream in self.shared.open.lock().expect("no panic under the lock").values() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn serve(shared: &Shared, connection: usize, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(shared.idle)?;
    let mut pending = Vec::new();
    loop {
        let Some(head_end) = read_until(&mut stream, &mut pending, b"\r\n\r\n")? else { return Ok(()) };
        let head = String::from_utf8_lossy(&pending[..head_end]).into_owned();
        pending.drain(..head_end);
        let mut arrived = Arrived { connection, head, body: Vec::new() };
        if shared.on_head {
            let reply = (shared.script)(&arrived);
            shared.arrived.lock().expect("no panic under the lock").push(arrived);
            send(&mut stream, reply)?;
            return Ok(());
        }
        if arrived.all("expect").iter().any(|value| value.eq_ignore_ascii_case("100-continue")) {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let length =
            match (arrived.all("transfer-encoding").is_empty(), arrived.all("content-length").first()) {
                (false, _) => chunked_length(&mut stream, &mut pending)?,
                (true, Some(length)) => {
                    let length = length.parse().unwrap_or(0);
                    fill_to(&mut stream, &mut pending, length)?;
                    length
                }
                (true, None) => 0,
            };
        arrived.body = pending.drain(..length).collect();
        let reply = (shared.script)(&arrived);
        shared.arrived.lock().expect("no panic under the lock").push(arrived);
        if !send(&mut stream, reply)? {
            return Ok(());
        }
    }
}

/// Whether the connection goes on.
fn send(stream: &mut &TcpStream, reply: Reply) -> io::Result<bool> {
    match reply {
        Reply::Bytes(bytes) => {
            stream.write_all(&bytes)?;
            Ok(true)
        }
        Reply::BytesThenClose(bytes) => {
            stream.write_all(&bytes)?;
            stream.shutdown(Shutdown::Both)?;
            Ok(false)
        }
        Reply::BytesThenReset(bytes) => {
            stream.write_all(&bytes)?;
            // With a linger time of zero the close that follows is a reset.
            socket2::SockRef::from(*stream).set_linger(Some(Duration::ZERO))?;
            Ok(false)
        }
        Reply::Silence => {
            let mut sink = [0; 4096];
            while stream.read(&mut sink)? > 0 {}
            Ok(false)
        }
        Reply::BytesThen(bytes, reply) => {
            stream.write_all(&bytes)?;
            send(stream, *reply)
        }
        Reply::After(time, reply) => {
            thread::sleep(time);
            send(stream, *reply)
        }
    }
}

fn read_until(stream: &mut &TcpStream, pending: &mut Vec<u8>, end: &[u8]) -> io::Result<Option<usize>> {
    loop {
        if let Some(at) = pending.windows(end.len()).position(|window| window == end) {
            return Ok(Some(at + end.len()));
        }
        if read_more(stream, pending)? == 0 {
            return Ok(None);
        }
    }
}

fn fill_to(stream: &mut &TcpStream, pending: &mut Vec<u8>, length: usize) -> io::Result<()> {
    while pending.len() < length {
        if read_more(stream, pending)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Reads a chunked body with its trailers; returns how many bytes it takes on the wire.
fn chunked_length(stream: &mut &TcpStream, pending: &mut Vec<u8>) -> io::Result<usize> {
    let mut at = 0;
    loop {
        let line_end = line_end(stream, pending, at)?;
        let line = String::from_utf8_lossy(&pending[at..line_end]).into_owned();
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size =
            usize::from_str_radix(digits, 16).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        at = line_end;
        if size == 0 {
            break;
        }
        at += size + 2;
        fill_to(stream, pending, at)?;
    }
    loop {
        let line_end = line_end(stream, pending, at)?;
        let empty = line_end - at == 2;
        at = line_end;
        if empty {
            return Ok(at);
        }
    }
}

fn line_end(stream: &mut &TcpStream, pending: &mut Vec<u8>, from: usize) -> io::Result<usize> {
    loop {
        if let Some(at) = pending[from.min(pending.len())..].windows(2).position(|window| window == b"\r\n") {
            return Ok(from + at + 2);
        }
        if read_more(stream, pending)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn read_more(stream: &mut &TcpStream, pending: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 64 * 1024];
    let count = stream.read(&mut chunk)?;
    pending.extend_from_slice(&chunk[..count]);
    Ok(count)
}
