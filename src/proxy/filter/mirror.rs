//! Mirrors: a copy of a request goes to another Service beside the one that answers. Nothing that becomes of it reaches
//! the client, and nothing waits for it.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, header};
use ir::{CircuitBreaker, Retry, Timeouts};
use traffic::BreakerKind;

use crate::body::{CopyFate, RequestBody};
use crate::error::Reason;
use crate::generation::RouteBackend;
use crate::observe::ExtraMetrics;
use crate::server::Worker;
use crate::upstream::{Aside, AsideTerms, Forward, Forwarded, Trail, forward};

/// Requests that the backend of a mirror may have under way, over all workers; more are not mirrored.
const IN_FLIGHT_MAX: u32 = 256;
/// The longest time without progress.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How much of an answer is read away for how long, so that its connection can be kept.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Where copies of a rule's requests go.
#[derive(Debug)]
pub(crate) struct MirrorStage {
    percent: u8,
    includes_body: bool,
    /// `None`: it is missing.
    upstream: Option<RouteBackend>,
    terms: Arc<AsideTerms>,
}

/// What is sent, kept apart from the client's request, which may be over before.
#[derive(Debug)]
struct Copied {
    method: Method,
    path: String,
    query: Option<String>,
    host: Vec<u8>,
    headers: HeaderMap,
    own: Vec<u8>,
}

impl MirrorStage {
    pub(super) fn new(mirror: &ir::Mirror, upstream: Option<RouteBackend>) -> Self {
        let terms = AsideTerms {
            timeouts: Timeouts { idle: Some(IDLE_MAX), stream_idle: Some(IDLE_MAX), ..Timeouts::default() },
            retry: Retry { attempts: 0, on: Vec::new(), methods: Vec::new(), ..Retry::default() },
            circuit_breaker: CircuitBreaker {
                max_requests: Some(IN_FLIGHT_MAX),
                ..CircuitBreaker::default()
            },
            ..AsideTerms::default()
        };
        Self {
            percent: mirror.percent,
            includes_body: mirror.includes_body,
            upstream,
            terms: Arc::new(terms),
        }
    }

    /// Begins a copy of a request that is about to be sent, and of its body as that is read. `host`: the client's own.
    pub(crate) fn begin(
        &self,
        metrics: &Arc<ExtraMetrics>,
        ask: &Forward<'_>,
        body: &mut RequestBody,
        host: &[u8],
    ) {
        let Some(upstream) = &self.upstream else { return };
        // A tunnel has two sides that talk to each other: nothing of it can be copied.
        if ask.upgrade.is_some() || !traffic::happens(self.percent, ask.worker.random.next()) {
            return;
        }
        // The request itself goes nowhere.
        if ask.is_over(Instant::now()) {
            return;
        }
        if upstream.backend.breaker.in_use(BreakerKind::Requests) >= IN_FLIGHT_MAX {
            metrics.mirrors_dropped.inc();
            return;
        }
        let mut headers = ask.headers.clone();
        headers.remove(header::EXPECT);
        let copied = Copied {
            method: ask.method.clone(),
            path: ask.path.to_owned(),
            query: ask.query.map(str::to_owned),
            host: host.to_owned(),
            headers,
            own: ask.own.to_owned(),
        };
        let (body, fate) = body.copy(self.includes_body);
        let upstream =
            RouteBackend { backend: Arc::clone(&upstream.backend), protocol: Arc::clone(&upstream.protocol) };
        let (worker, metrics) = (Rc::clone(ask.worker), Arc::clone(metrics));
        let terms = Arc::clone(&self.terms);
        ask.worker.spawn(async move {
            let sent = send((&worker, &metrics), &upstream, &terms, (&copied, body)).await;
            let fell_behind = fate.as_ref().is_some_and(CopyFate::fell_behind);
            match sent {
                _ if fell_behind => metrics.mirrors_dropped.inc(),
                Ok(()) => metrics.mirrors_sent.inc(),
                Err(Reason::BreakerOpen) => metrics.mirrors_dropped.inc(),
                Err(_) => metrics.mirrors_failed.inc(),
            }
        });
    }
}

async fn send(
    (worker, metrics): (&Rc<Worker>, &ExtraMetrics),
    upstream: &RouteBackend,
    terms: &AsideTerms,
    (copied, body): (&Copied, RequestBody),
) -> Result<(), Reason> {
    let ask = Aside {
        worker,
        upstream: (&upstream.backend, &upstream.protocol),
        route_metrics: &metrics.unshown,
        method: &copied.method,
        path: &copied.path,
        query: copied.query.as_deref(),
        host: &copied.host,
        headers: &copied.headers,
        own: &copied.own,
        started: Instant::now(),
    };
    let forwarded = forward(&ask.on(terms), &mut Some(body), &mut Trail::default()).await?;
    // That it has answered is enough; how, and whether to the end, is of no interest.
    drop(tokio::time::timeout(ANSWER_TIME_MAX, read_away(forwarded)).await);
    Ok(())
}

async fn read_away(forwarded: Forwarded) {
    let Some(body) = forwarded.body else { return };
    let mut bytes = 0;
    while bytes < ANSWER_BYTES_MAX {
        match poll_fn(|cx| body.borrow_mut().poll_frame(cx)).await {
            Some(Ok(frame)) => bytes += frame.data_ref().map_or(1, |data| data.len().max(1)),
            Some(Err(_)) | None => return,
        }
    }
}
