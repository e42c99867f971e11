//! Upstreams below HTTP: one that a closure serves byte by byte, one that counts what is open at once, and one that
//! takes no connection. Knows no more of HTTP than where a head ends.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// An upstream whose connections a closure serves, each on a thread of its own. Takes no more once it is dropped.
#[derive(Debug)]
pub struct ByHand {
    pub address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl ByHand {
    /// Listens on a free port. What the closure returns is for nobody: the test judges by what arrived.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let stopped = Arc::new(AtomicBool::new(false));
        let (stop, serve) = (Arc::clone(&stopped), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let serve = Arc::clone(&serve);
                thread::spawn(move || drop(serve(stream)));
            }
        });
        Self { address, stopped }
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

/// Reads to the end of a head; returns what came behind it in the same reads.
///
/// # Errors
/// Of the socket, or its end before the head's.
pub fn read_head(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    read_head_text(stream).map(|(_, rest)| rest)
}

/// As [`read_head`], with the head, its empty line included, before it.
///
/// # Errors
/// As there.
pub fn read_head_text(stream: &mut impl Read) -> io::Result<(String, Vec<u8>)> {
    let mut pending = Vec::new();
    loop {
        if let Some(end) = head_end(&pending) {
            let rest = pending.split_off(end);
            return Ok((String::from_utf8_lossy(&pending).into_owned(), rest));
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => pending.extend_from_slice(&chunk[..count]),
        }
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// An upstream that answers every request without a body after some time and counts its open connections.
#[derive(Debug)]
pub struct Census {
    pub address: SocketAddr,
    shared: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    most: AtomicUsize,
    accepted: AtomicUsize,
    stopped: AtomicBool,
}

struct Counted {
    stream: TcpStream,
    read: Vec<u8>,
    due: Option<Instant>,
}

impl Census {
    /// # Panics
    /// When no port can be had.
    pub fn start(think: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Counts::default());
        let counts = Arc::clone(&shared);
        thread::spawn(move || {
            let mut open: Vec<Counted> = Vec::new();
            while !counts.stopped.load(Ordering::SeqCst) {
                // First what is new, then what has ended: a connection that was closed before another was opened is
                // never counted beside it.
                while let Ok((stream, _)) = listener.accept() {
                    counts.accepted.fetch_add(1, Ordering::SeqCst);
                    if stream.set_nonblocking(true).is_ok() {
                        open.push(Counted { stream, read: Vec::new(), due: None });
                    }
                }
                open.retain_mut(|connection| connection.turn(think));
                counts.most.fetch_max(open.len(), Ordering::SeqCst);
                thread::sleep(Duration::from_micros(200));
            }
        });
        Self { address, shared }
    }

    /// The most connections that were open at once.
    pub fn most(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
    }
}

impl Counted {
    /// Reads what has come and answers what is due. False: the connection has ended.
    fn turn(&mut self, think: Duration) -> bool {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(count) => self.read.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        if self.due.is_none()
            && let Some(end) = head_end(&self.read)
        {
            self.read.drain(..end);
            self.due = Some(Instant::now() + think);
        }
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.due = None;
            return self.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok();
        }
        true
    }
}

/// A listener whose queue is full and that accepts nothing: the kernel answers no further connection, as a host that
/// has gone does.
#[derive(Debug)]
pub struct Unreachable {
    pub address: SocketAddr,
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

impl Unreachable {
    /// # Panics
    /// When no port can be had, or its queue never fills.
    pub fn start() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        listener.listen(0).expect("a listener");
        let address =
            listener.local_addr().ok().and_then(|address| address.as_socket()).expect("its address");
        let mut queued = Vec::new();
        // One that does not come about in this time is one that the kernel has dropped.
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(150)) {
            queued.push(stream);
            assert!(queued.len() < 64, "the queue of a listener with no room takes every connection");
        }
        Self { address, _listener: listener, _queued: queued }
    }
}
