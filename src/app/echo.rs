//! `baribhara echo`: a small HTTP/1.1 upstream for the demo and the tests, which answers a request with the request.
//! Shares nothing with the data plane, so that a fault there cannot hide itself here.

use std::cell::Cell;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::digest;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinSet, LocalSet};

use crate::cli::EchoArgs;
use crate::values::{parse_duration, parse_size};

mod answer;

use answer::Answer;

/// Bodies up to this many bytes stand as text in the answer; of longer ones only length and digest.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Serves until SIGTERM or SIGINT, and after SIGTERM for the drain time, with answers that close their connections.
///
/// # Errors
/// The address cannot be bound.
pub(crate) fn run(args: &EchoArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(args))
}

/// What all connections share.
#[derive(Debug)]
struct Upstream {
    pod: String,
    listen: SocketAddr,
    connections: Cell<u64>,
    /// Answers say that their connection ends.
    draining: Cell<bool>,
    /// What requests are answered that ask for no status: set by `POST /mood?status=500`.
    mood: Cell<StatusCode>,
}

/// The request as it arrived.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Echo<'a> {
    pod: &'a str,
    listen: SocketAddr,
    /// Counts the connections of this process from 1.
    connection: u64,
    /// Counts the requests of this connection from 1.
    request: u64,
    method: &'a str,
    /// With the query.
    path: &'a str,
    version: String,
    headers: Vec<(String, String)>,
    trailers: Vec<(String, String)>,
    /// `None`: longer than 64 KiB or not UTF-8.
    body: Option<&'a str>,
    body_bytes: u64,
    body_sha256: String,
}

/// What the query asks of the answer.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    status: StatusCode,
    delay: Duration,
    /// Send this many bytes of a fixed pattern instead of the request.
    pattern_bytes: Option<u64>,
    /// Without a content length.
    chunked: bool,
    close: bool,
}

async fn serve(args: &EchoArgs) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let listen = listener.local_addr()?;
    let pod = args.name.clone().unwrap_or_else(|| format!("echo-{}", listen.port()));
    {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{pod} listening on {listen}")?;
        out.flush()?;
    }
    let upstream = Rc::new(Upstream {
        pod,
        listen,
        connections: Cell::new(0),
        draining: Cell::new(false),
        mood: Cell::new(StatusCode::OK),
    });
    let mut connections = JoinSet::new();
    let mut end = None;
    loop {
        let ended = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {
                if end.is_some() || args.drain.is_zero() {
                    return Ok(ExitCode::SUCCESS);
                }
                upstream.draining.set(true);
                end = Some(tokio::time::Instant::now() + args.drain);
            }
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
            () = ended => return Ok(ExitCode::SUCCESS),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn_local(serve_connection(Rc::clone(&upstream), stream));
                }
                // Out of file descriptors or a connection that is gone already: the next may do better, but
                // not in a tight loop.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            // Only reaps; cancel-safe as documented by tokio.
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn serve_connection(upstream: Rc<Upstream>, stream: TcpStream) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let connection = upstream.connections.get() + 1;
    upstream.connections.set(connection);
    let requests = Cell::new(0u64);
    let service = hyper::service::service_fn(|request| {
        requests.set(requests.get() + 1);
        answer(Rc::clone(&upstream), connection, requests.get(), request)
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(2 << 20)
        .max_headers(1000)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    // A client that goes away in the middle is none of this upstream's business.
    drop(served);
}

async fn answer(
    upstream: Rc<Upstream>,
    connection: u64,
    request_number: u64,
    request: Request<Incoming>,
) -> Result<Response<Answer>, hyper::Error> {
    let (head, body) = request.into_parts();
    let mut wish = match Wish::read(head.uri.query().unwrap_or_default()) {
        Ok(wish) => wish,
        Err(reason) => return Ok(text(StatusCode::BAD_REQUEST, reason)),
    };
    let received = Received::read(body).await?;
    if !wish.delay.is_zero() {
        tokio::time::sleep(wish.delay).await;
    }
    if head.uri.path() == "/mood" && head.method == Method::POST {
        upstream.mood.set(wish.status);
        return Ok(text(StatusCode::OK, "ok\n"));
    }
    if head.uri.path() == "/healthz" {
        return Ok(text(wish.status, "ok\n"));
    }
    if wish.status == StatusCode::OK {
        wish.status = upstream.mood.get();
    }
    let (content_type, body) = match wish.pattern_bytes {
        Some(bytes) => ("application/octet-stream", Answer::pattern(bytes, wish.chunked)),
        None => {
            let echo = Echo {
                pod: &upstream.pod,
                listen: upstream.listen,
                connection,
                request: request_number,
                method: head.method.as_str(),
                path: head.uri.path_and_query().map_or("", |path| path.as_str()),
                version: format!("{:?}", head.version),
                headers: pairs(&head.headers),
                trailers: pairs(&received.trailers),
                body: received.text.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()),
                body_bytes: received.bytes,
                body_sha256: received.sha256,
            };
            let mut json = serde_json::to_vec(&echo).unwrap_or_default();
            json.push(b'\n');
            ("application/json", Answer::whole(json.into(), wish.chunked))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = wish.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(pod) = HeaderValue::from_str(&upstream.pod) {
        response.headers_mut().insert("x-echo-pod", pod);
    }
    if wish.close || upstream.draining.get() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

impl Wish {
    fn read(query: &str) -> Result<Self, &'static str> {
        let mut wish = Self {
            status: StatusCode::OK,
            delay: Duration::ZERO,
            pattern_bytes: None,
            chunked: false,
            close: false,
        };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "status" => {
                    wish.status = value
                        .parse::<u16>()
                        .ok()
                        .filter(|code| (200..=599).contains(code))
                        .and_then(|code| StatusCode::from_u16(code).ok())
                        .ok_or("status must be 200 to 599\n")?;
                }
                "delay" => wish.delay = parse_duration(value).map_err(|_| "delay must be like 200ms\n")?,
                "bytes" => {
                    wish.pattern_bytes = Some(parse_size(value).map_err(|_| "bytes must be like 20Mi\n")?);
                }
                "chunked" => wish.chunked = true,
                "close" => wish.close = true,
                _ => {}
            }
        }
        Ok(wish)
    }
}

/// A request body, read to its end.
struct Received {
    bytes: u64,
    /// `None` once it is too long.
    text: Option<Vec<u8>>,
    sha256: String,
    trailers: HeaderMap,
}

impl Received {
    async fn read(mut body: Incoming) -> Result<Self, hyper::Error> {
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut received =
            Self { bytes: 0, text: Some(Vec::new()), sha256: String::new(), trailers: HeaderMap::new() };
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(chunk) => received.take(&chunk, &mut hash),
                Err(other) => {
                    if let Ok(trailers) = other.into_trailers() {
                        received.trailers = trailers;
                    }
                }
            }
        }
        received.sha256 = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(received)
    }

    fn take(&mut self, chunk: &[u8], hash: &mut digest::Context) {
        hash.update(chunk);
        self.bytes += chunk.len() as u64;
        self.text = match self.text.take() {
            Some(mut text) if text.len() + chunk.len() <= TEXT_BYTES_MAX => {
                text.extend_from_slice(chunk);
                Some(text)
            }
            Some(_) | None => None,
        };
    }
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect()
}

fn text(status: StatusCode, body: &'static str) -> Response<Answer> {
    let mut response = Response::new(Answer::whole(Bytes::from_static(body.as_bytes()), false));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

#[cfg(test)]
mod tests;
