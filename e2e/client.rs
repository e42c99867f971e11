//! An HTTP/1.1 client that sends exactly the bytes it is given and reads answers strictly: what is not HTTP/1.1 to
//! the letter, or ends too early, is an error.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// The longest wait for bytes of an answer.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// A request that is written as it stands here.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, host: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: vec![("Host".to_owned(), host.to_owned())],
            body: Vec::new(),
        }
    }

    pub fn get(host: &str, target: &str) -> Self {
        Self::new("GET", host, target)
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body with its length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("Content-Length", &length)
    }

    /// The head with its last empty line.
    pub fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The statuses of interim answers before this one.
    pub interim: Vec<u16>,
}

impl Response {
    /// The value of the first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All values of headers of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// # Panics
    /// When the body is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// Whether the server closes after this answer.
    pub fn closes(&self) -> bool {
        self.all("connection").iter().any(|value| value.to_ascii_lowercase().contains("close"))
    }

    /// The values of a header of the request as an echo upstream saw it.
    ///
    /// # Panics
    /// When the body is not an echo.
    pub fn echoed(&self, name: &str) -> Vec<String> {
        let echo = self.json();
        let headers = echo["headers"].as_array().unwrap_or_else(|| panic!("no echo: {echo}"));
        headers
            .iter()
            .filter(|pair| pair[0].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)))
            .map(|pair| pair[1].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Bytes that were read and not used.
    pending: Vec<u8>,
    start: usize,
}

impl Connection {
    /// # Errors
    /// Of the connect.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        Ok(Self { stream, pending: Vec::new(), start: 0 })
    }

    /// # Errors
    /// Of the socket.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// A second handle of the same connection, to send from another thread.
    ///
    /// # Errors
    /// Of the system.
    pub fn writer(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }

    /// Sends no more.
    ///
    /// # Errors
    /// Of the socket.
    pub fn finish(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// Of the socket, or an answer that is not whole.
    pub fn ask(&mut self, request: &Request) -> io::Result<Response> {
        self.send(&request.bytes())?;
        self.response(&request.method)
    }

    /// Reads the answer to a request of this method, interim answers before it.
    ///
    /// # Errors
    /// Of the socket, or an answer that is not whole.
    pub fn response(&mut self, method: &str) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let (status, headers) = self.response_head()?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let mut response = Response { status, headers, body: Vec::new(), trailers: Vec::new(), interim };
            self.response_body(method, &mut response)?;
            return Ok(response);
        }
    }

    /// Reads one head: status and headers.
    ///
    /// # Errors
    /// Of the socket, or what is no head.
    pub fn response_head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let line = self.line()?;
        let rest = line.strip_prefix("HTTP/1.1 ").ok_or_else(|| bad(&format!("status line {line:?}")))?;
        let (code, _) = rest.split_once(' ').ok_or_else(|| bad(&format!("status line {line:?}")))?;
        let status = code.parse().map_err(|_| bad(&format!("status {code:?}")))?;
        Ok((status, self.header_lines()?))
    }

    /// Whatever still comes until the server closes. A reset counts as the end.
    ///
    /// # Errors
    /// When the server does not close in time.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.take_pending())
    }

    /// Changes how long a read may wait.
    ///
    /// # Errors
    /// Of the socket.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))
    }

    fn response_body(&mut self, method: &str, response: &mut Response) -> io::Result<()> {
        if method == "HEAD" || response.status == 204 || response.status == 304 || response.status == 101 {
            return Ok(());
        }
        let codings = response.all("transfer-encoding");
        let lengths = response.all("content-length");
        match (codings.as_slice(), lengths.as_slice()) {
            (["chunked"], []) => {
                self.chunks(&mut response.body)?;
                response.trailers = self.header_lines()?;
            }
            ([], [length]) => {
                let length = length.parse().map_err(|_| bad(&format!("content length {length:?}")))?;
                response.body = self.exactly(length)?;
            }
            ([], []) => response.body = self.until_closed()?,
            (codings, lengths) => return Err(bad(&format!("framing {codings:?} with {lengths:?}"))),
        }
        Ok(())
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default().trim_end();
            let size = usize::from_str_radix(digits, 16).map_err(|_| bad(&format!("chunk size {line:?}")))?;
            if size == 0 {
                return Ok(());
            }
            body.extend(self.exactly(size)?);
            if self.exactly(2)? != b"\r\n" {
                return Err(bad("a chunk without its end"));
            }
        }
    }

    fn header_lines(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(headers);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad(&format!("header {line:?}")))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut searched = self.start;
        loop {
            if let Some(at) = self.pending[searched..].iter().position(|byte| *byte == b'\n') {
                let end = searched + at;
                let line = &self.pending[self.start..end];
                let line = line.strip_suffix(b"\r").ok_or_else(|| bad("a line that ends in a bare LF"))?;
                let line = String::from_utf8_lossy(line).into_owned();
                self.start = end + 1;
                return Ok(line);
            }
            let before = self.pending.len() - self.start;
            self.fill_some()?;
            // The buffer may have been moved to its front.
            searched = self.start + before;
        }
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length.min(64 << 20));
        loop {
            let take = (length - bytes.len()).min(self.pending.len() - self.start);
            bytes.extend_from_slice(&self.pending[self.start..self.start + take]);
            self.start += take;
            if bytes.len() == length {
                return Ok(bytes);
            }
            self.fill_some()?;
        }
    }

    fn until_closed(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(self.take_pending())
    }

    fn take_pending(&mut self) -> Vec<u8> {
        let rest = self.pending.split_off(self.start);
        self.pending.clear();
        self.start = 0;
        rest
    }

    fn fill_some(&mut self) -> io::Result<()> {
        if self.fill()? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed in the middle"));
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            self.pending.drain(..self.start);
            self.start = 0;
        }
        let mut chunk = [0; 64 * 1024];
        let count = self.stream.read(&mut chunk)?;
        self.pending.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// Of the connection, or an answer that is not whole.
pub fn ask(address: SocketAddr, request: &Request) -> io::Result<Response> {
    Connection::open(address)?.ask(request)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP/1.1: {what}"))
}
