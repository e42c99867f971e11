//! The admin interface: liveness, readiness, metrics, the live configuration, what limits did, and `explain`. Changes nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ir::{Config, KeySetStates};
use serde::{Deserialize, Serialize};
use table::{Detail, Explanation, RequestHead};
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use crate::generation::Generation;
use crate::observe::Metrics;

const BODY_BYTES_MAX: usize = 64 << 10;
/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
const BODY_TIME_MAX: Duration = Duration::from_secs(5);

/// What the admin interface shows.
#[derive(Debug)]
pub(crate) struct Admin {
    metrics: Arc<Metrics>,
    generation: RefCell<Arc<Generation>>,
    key_sets: RefCell<Arc<KeySetStates>>,
    /// The zero of the workers' clock.
    epoch: Instant,
    synced: Cell<bool>,
    draining: Cell<bool>,
}

/// What `/config` shows: what is served, how that is which the configuration only names, and how endpoints are that are not
/// simply healthy.
#[derive(Debug, Serialize)]
struct Live<'g> {
    #[serde(flatten)]
    config: &'g Config,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    key_sets: &'g KeySetStates,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    endpoint_health: BTreeMap<String, BTreeMap<Arc<str>, &'static str>>,
}

/// The body of `POST /explain`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExplainRequest {
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    client_ip: Option<IpAddr>,
}

impl Admin {
    pub(crate) fn new(metrics: Arc<Metrics>, epoch: Instant) -> Self {
        Self {
            metrics,
            generation: RefCell::default(),
            key_sets: RefCell::default(),
            epoch,
            synced: Cell::new(false),
            draining: Cell::new(false),
        }
    }

    pub(crate) fn set_generation(&self, generation: Arc<Generation>) {
        *self.generation.borrow_mut() = generation;
    }

    pub(crate) fn set_key_sets(&self, states: Arc<KeySetStates>) {
        *self.key_sets.borrow_mut() = states;
    }

    pub(crate) fn set_synced(&self) {
        self.synced.set(true);
    }

    pub(crate) fn set_draining(&self) {
        self.draining.set(true);
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let generation = Arc::clone(&self.generation.borrow());
        match (request.method(), &*path) {
            (&Method::GET | &Method::HEAD, "/livez") => text(StatusCode::OK, "ok\n"),
            (&Method::GET | &Method::HEAD, "/readyz") => self.ready(),
            (&Method::GET, "/metrics") => {
                typed("text/plain; version=0.0.4; charset=utf-8", self.metrics.render())
            }
            (&Method::GET, "/config") => self.config(&generation),
            (&Method::GET, "/limits") => json(&generation.limit_rows()),
            (&Method::GET, "/routes") => routes(&generation, wants_text(request.headers())),
            (&Method::POST, "/explain") => self.explain(&generation, request).await,
            (_, "/livez" | "/readyz" | "/metrics" | "/config" | "/limits" | "/routes" | "/explain") => {
                text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n")
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "/livez /readyz /metrics /config /limits /routes, POST /explain\n",
            ),
        }
    }

    fn config(&self, generation: &Generation) -> Response<Full<Bytes>> {
        let now_ns = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        json(&Live {
            config: &generation.config,
            key_sets: &self.key_sets.borrow(),
            endpoint_health: generation.endpoint_health(now_ns),
        })
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        match (self.synced.get(), self.draining.get()) {
            (true, false) => text(StatusCode::OK, "ok\n"),
            (_, true) => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            (false, false) => text(StatusCode::SERVICE_UNAVAILABLE, "not synced\n"),
        }
    }

    async fn explain(&self, generation: &Generation, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let as_text = wants_text(request.headers());
        let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
        let bytes = match tokio::time::timeout(BODY_TIME_MAX, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) | Err(_) => {
                return text(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 64 KiB or broke off\n");
            }
        };
        let asked: ExplainRequest = match serde_json::from_slice(&bytes) {
            Ok(asked) => asked,
            Err(error) => return text(StatusCode::BAD_REQUEST, &format!("{error}\n")),
        };
        match Question::new(&asked.method, &asked.url, &asked.headers) {
            Ok(question) => {
                let client = asked.client_ip.unwrap_or(IpAddr::from([127, 0, 0, 1]));
                let mut explanation = generation.table.explain(&question.head(client));
                tell_key_sets(&mut explanation, &self.key_sets.borrow());
                if as_text { text(StatusCode::OK, &explanation.to_string()) } else { json(&explanation) }
            }
            Err(error) => text(StatusCode::BAD_REQUEST, &format!("{error}\n")),
        }
    }
}

/// Says of each policy whose keys are fetched how they are.
fn tell_key_sets(explanation: &mut Explanation, states: &KeySetStates) {
    let policies = explanation.winner.iter_mut().flat_map(|winner| &mut winner.policies);
    for step in policies.filter(|step| step.kind == "JWT") {
        let Some(providers) = states.get(&step.object) else { continue };
        let texts = providers.iter().map(|(name, state)| {
            let error = state.error.as_deref().map_or(String::new(), |error| format!(": {error}"));
            format!("{name} {:?}, {} keys{error}", state.phase, state.keys)
        });
        step.details.push(("keySets", Detail::List(texts.collect())));
    }
}

/// A made-up request, screened as a real one is.
#[derive(Debug)]
pub struct Question {
    method: Method,
    host: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
}

impl Question {
    /// `url` is absolute, or a path whose host stands in a `Host` header.
    ///
    /// # Errors
    /// What is wrong with the method, the URL or a header: what a real request would be refused for with 400.
    pub fn new(method: &str, url: &str, fields: &[(String, String)]) -> Result<Self, String> {
        let method =
            Method::from_bytes(method.as_bytes()).map_err(|_| format!("method {method:?} is no token"))?;
        let uri: Uri = url.parse().map_err(|error| format!("url {url:?}: {error}"))?;
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("header name {name:?} is not valid"))?;
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("the value of header {name} is not valid"))?;
            headers.append(name, value);
        }
        let authority = uri.authority().map(http::uri::Authority::as_str);
        let host =
            authority.or_else(|| headers.get(header::HOST)?.to_str().ok()).unwrap_or_default().to_owned();
        let host = if host.is_empty() {
            host
        } else {
            table::fold(&host).map_err(|error| format!("host {host:?}: {error}"))?.into_owned()
        };
        let path = table::canonical(uri.path()).map_err(|error| format!("path {:?}: {error}", uri.path()))?;
        let path = path.into_owned();
        Ok(Self { method, host, path, query: uri.query().map(str::to_owned), headers })
    }

    /// The head that the table is asked.
    pub fn head(&self, client: IpAddr) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            client: client.to_canonical(),
            client_is_unsure: false,
        }
    }
}

/// JSON unless text is asked for by name.
fn wants_text(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/plain"))
}

fn routes(generation: &Generation, as_text: bool) -> Response<Full<Bytes>> {
    let rows = generation.table.routes();
    if !as_text {
        return json(&rows);
    }
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    text(StatusCode::OK, &lines)
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = typed("text/plain; charset=utf-8", body.to_owned());
    *response.status_mut() = status;
    response
}

fn typed(content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn json<T: Serialize + ?Sized>(value: &T) -> Response<Full<Bytes>> {
    match serde_json::to_string(value) {
        Ok(body) => typed("application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}

/// Serves the admin interface until its task is dropped.
pub(crate) async fn serve(listener: &TcpListener, admin: &Rc<Admin>) {
    let permits = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = Rc::clone(admin);
                tokio::task::spawn_local(async move {
                    connection(stream, admin).await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "accepting an admin connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, admin: Rc<Admin>) {
    let service = service_fn(move |request| {
        let admin = Rc::clone(&admin);
        async move { Ok::<_, Infallible>(admin.answer(request).await) }
    });
    let mut builder = http1::Builder::new();
    // Connections that say nothing must not keep probes out.
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX);
    let served = builder.serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection broke");
    }
}
