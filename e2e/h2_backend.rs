//! An HTTP/2 upstream, with and without TLS, that keeps what it got; the path says what becomes of a request. All of it
//! runs on one thread.
//!
//! | path | does |
//! |---|---|
//! | `/echo`, `/test.Echo/Stream` | sends the body back as it comes, and the trailers behind it |
//! | `/test.Echo/Unary` | sends the body back once it is whole |
//! | `/test.Echo/Fail` | trailers only: `grpc-status: 5` |
//! | `/grpc.health.v1.Health/Check` | says that it serves, whatever service is asked after |
//! | `/test.Echo/UnavailableOnce` | trailers only `grpc-status: 14` to the first, then as `Unary` |
//! | `/bytes?N` | N bytes, the n-th of them n modulo 251 |
//! | `/slow` | reads no body before [`H2Backend::release`] |
//! | `/silent` | answers nothing |
//! | `/reset`, `/refused`, `/refused-once` | RST_STREAM: INTERNAL_ERROR, REFUSED_STREAM |
//! | `/broken` | a head, half a body, then RST_STREAM |
//! | `/goaway` | 200, and GOAWAY for the connection |
//! | else | 200 with the request as JSON |
//!
//! Calls of `/test.Echo` end with `grpc-status: 0` where nothing else is said.

use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use rustls::ServerConfig;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

/// How often a waiting stream looks whether it is released.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    pub method: String,
    pub scheme: String,
    pub authority: String,
    /// With the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The whole body came.
    pub whole: bool,
}

impl Seen {
    /// The values of all headers of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// Takes no more connections once it is dropped; those that are open end with the process.
#[derive(Debug)]
pub struct H2Backend {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    cancelled: AtomicUsize,
    failures: AtomicUsize,
    released: AtomicBool,
    stopped: AtomicBool,
}

/// What a stream needs to know.
struct Context {
    shared: Arc<Shared>,
    /// Its number among the requests.
    number: usize,
}

impl H2Backend {
    /// By prior knowledge, without TLS.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start() -> Self {
        Self::listen(None, None)
    }

    /// As [`H2Backend::start`], with this many streams a connection at most.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start_narrow(streams_max: u32) -> Self {
        Self::listen(None, Some(streams_max))
    }

    /// With TLS; the configuration should name `h2`.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start_tls(config: Arc<ServerConfig>) -> Self {
        Self::listen(Some(config), None)
    }

    fn listen(tls: Option<Arc<ServerConfig>>, streams_max: Option<u32>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared::default());
        let state = Arc::clone(&shared);
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            LocalSet::new().block_on(&runtime, accept_all(listener, tls, streams_max, &state));
        });
        Self { address, shared }
    }

    /// All requests so far, in the order of their heads.
    ///
    /// # Panics
    /// Never: nobody panics under the lock.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("no panic under the lock").clone()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many streams are being served.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many streams of `/silent` the other side has given up.
    pub fn cancelled(&self) -> usize {
        self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// Lets `/slow` read.
    pub fn release(&self) {
        self.shared.released.store(true, Ordering::SeqCst);
    }
}

impl Drop for H2Backend {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

async fn accept_all(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    streams_max: Option<u32>,
    shared: &Arc<Shared>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    let mut builder = Builder::new();
    if let Some(streams_max) = streams_max {
        builder.max_concurrent_streams(streams_max);
    }
    let builder = Rc::new(builder);
    while let Ok((stream, _)) = listener.accept().await {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        drop(stream.set_nodelay(true));
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        let (shared, tls, builder) = (Arc::clone(shared), tls.clone(), Rc::clone(&builder));
        spawn_local(async move {
            // The gateway may close at any time: that is for the test to judge by what arrived.
            match tls {
                None => drop(serve(stream, &builder, number, &shared).await),
                Some(config) => {
                    if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                        drop(serve(stream, &builder, number, &shared).await);
                    }
                }
            }
        });
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    builder: &Builder,
    connection: usize,
    shared: &Arc<Shared>,
) -> Result<(), h2::Error> {
    let mut server = builder.handshake::<_, Bytes>(stream).await?;
    while let Some(accepted) = server.accept().await {
        let (request, respond) = accepted?;
        let goes_away = request.uri().path() == "/goaway";
        let number = {
            let mut seen = shared.seen.lock().expect("no panic under the lock");
            seen.push(seen_of(&request, connection));
            seen.len() - 1
        };
        let context = Context { shared: Arc::clone(shared), number };
        spawn_local(async move {
            context.shared.open.fetch_add(1, Ordering::SeqCst);
            let shared = Arc::clone(&context.shared);
            drop(answer(request, respond, &context).await);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
        if goes_away {
            server.graceful_shutdown();
        }
    }
    Ok(())
}

fn seen_of(request: &Request<RecvStream>, connection: usize) -> Seen {
    let uri = request.uri();
    Seen {
        connection,
        method: request.method().to_string(),
        scheme: uri.scheme_str().unwrap_or_default().to_owned(),
        authority: uri.authority().map(ToString::to_string).unwrap_or_default(),
        path: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: listed(request.headers()),
        ..Seen::default()
    }
}

fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    context: &Context,
) -> Result<(), h2::Error> {
    let (parts, body) = request.into_parts();
    let first = || context.shared.failures.fetch_add(1, Ordering::SeqCst) == 0;
    match parts.uri.path() {
        "/echo" | "/test.Echo/Stream" => stream_back(&parts, body, respond, context).await,
        "/test.Echo/UnavailableOnce" if first() => trailers_only(&mut respond, "14"),
        "/test.Echo/Fail" => trailers_only(&mut respond, "5"),
        "/test.Echo/Unary" | "/test.Echo/UnavailableOnce" => {
            let (bytes, trailers) = take(body, context).await?;
            let mut stream = respond.send_response(head(&parts), false)?;
            send(&mut stream, bytes.into()).await?;
            stream.send_trailers(status_trailers(trailers))
        }
        "/grpc.health.v1.Health/Check" => {
            take(body, context).await?;
            let mut stream = respond.send_response(head(&parts), false)?;
            // `status: SERVING`, in a frame.
            send(&mut stream, Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1])).await?;
            stream.send_trailers(status_trailers(None))
        }
        "/slow" => {
            while !context.shared.released.load(Ordering::SeqCst) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            let (bytes, _) = take(body, context).await?;
            let mut stream = respond.send_response(head(&parts), false)?;
            stream.send_data(bytes.len().to_string().into(), true)
        }
        "/silent" => {
            poll_fn(|cx| respond.poll_reset(cx)).await?;
            context.shared.cancelled.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
        "/reset" => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        "/refused-once" if !first() => described(&parts, body, respond, context).await,
        "/refused" | "/refused-once" => {
            respond.send_reset(Reason::REFUSED_STREAM);
            Ok(())
        }
        "/broken" => {
            let mut stream = respond.send_response(head(&parts), false)?;
            send(&mut stream, Bytes::from_static(b"half")).await?;
            // So that the half is on its way before the reset may overtake it.
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        "/bytes" => {
            let length = parts.uri.query().and_then(|query| query.parse().ok()).unwrap_or(0);
            let mut stream = respond.send_response(head(&parts), false)?;
            let bytes: Vec<u8> = (0..length).map(|at: usize| (at % 251) as u8).collect();
            send(&mut stream, bytes.into()).await?;
            stream.send_data(Bytes::new(), true)
        }
        _ => described(&parts, body, respond, context).await,
    }
}

/// Sends back what comes while it comes.
async fn stream_back(
    parts: &Parts,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    context: &Context,
) -> Result<(), h2::Error> {
    let mut stream = respond.send_response(head(parts), false)?;
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        send(&mut stream, piece).await?;
    }
    let trailers = body.trailers().await?;
    context.note(|seen| {
        seen.trailers = trailers.as_ref().map(listed).unwrap_or_default();
        seen.whole = true;
    });
    match trailers {
        None if !is_grpc(parts) => stream.send_data(Bytes::new(), true),
        trailers if is_grpc(parts) => stream.send_trailers(status_trailers(trailers)),
        trailers => stream.send_trailers(trailers.unwrap_or_default()),
    }
}

/// The request as JSON, as `baribhara echo` tells it.
async fn described(
    parts: &Parts,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
    context: &Context,
) -> Result<(), h2::Error> {
    let (bytes, trailers) = take(body, context).await?;
    let text = json!({
        "method": parts.method.as_str(),
        "path": parts.uri.path_and_query().map(ToString::to_string),
        "version": format!("{:?}", parts.version),
        "headers": listed(&parts.headers),
        "trailers": trailers.as_ref().map(listed).unwrap_or_default(),
        "bodyBytes": bytes.len(),
    })
    .to_string();
    if parts.method == "HEAD" {
        respond.send_response(head(parts), true)?;
        return Ok(());
    }
    let mut stream = respond.send_response(head(parts), false)?;
    send(&mut stream, text.into()).await?;
    stream.send_data(Bytes::new(), true)
}

impl Context {
    fn note(&self, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.shared.seen.lock().expect("no panic under the lock");
        if let Some(seen) = seen.get_mut(self.number) {
            change(seen);
        }
    }
}

/// The whole body.
async fn take(mut body: RecvStream, context: &Context) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await?;
    context.note(|seen| {
        seen.body.clone_from(&bytes);
        seen.trailers = trailers.as_ref().map(listed).unwrap_or_default();
        seen.whole = true;
    });
    Ok((bytes, trailers))
}

/// Sends within the window.
async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(capacity) => stream.send_data(bytes.split_to(capacity?.min(bytes.len())), false)?,
            None => return Err(Reason::CANCEL.into()),
        }
    }
    Ok(())
}

fn is_grpc(parts: &Parts) -> bool {
    ["/test.Echo/", "/grpc.health.v1.Health/"].iter().any(|service| parts.uri.path().starts_with(service))
}

fn head(parts: &Parts) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::OK;
    let content_type = if is_grpc(parts) { "application/grpc" } else { "text/plain" };
    response.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    response
}

fn trailers_only(respond: &mut SendResponse<Bytes>, status: &'static str) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(status));
    headers.insert("grpc-message", HeaderValue::from_static("as asked"));
    respond.send_response(response, true).map(drop)
}

/// The trailers of the request with `grpc-status: 0`.
fn status_trailers(trailers: Option<HeaderMap>) -> HeaderMap {
    let mut trailers = trailers.unwrap_or_default();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}
