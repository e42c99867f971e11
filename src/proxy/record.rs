//! The one record of a request: begun with it, finished once when its answer ends or is dropped.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Version, header};
use table::RouteSlot;

use crate::filter::limit::LimitHeld;
use crate::generation::WorkerGeneration;
use crate::observe::{AccessRecord, MethodLabel, RouteMetrics};
use crate::request::Asked;
use crate::server::{Downstream, Stream, Worker};
use crate::upstream::Trail;

/// What metrics and the access log get to know of a request.
#[derive(Debug)]
pub(crate) struct Record {
    worker: Rc<Worker>,
    stream: Rc<Stream>,
    /// Where the route's handles are; `None`: in `kept`.
    generation: Option<Rc<WorkerGeneration>>,
    kept: Option<(Arc<RouteMetrics>, Arc<str>)>,
    started: Instant,
    method: MethodLabel,
    pub(crate) slot: Option<RouteSlot>,
    /// 0: the client was gone before there was an answer.
    pub(crate) status: u16,
    pub(crate) trail: Trail,
    bytes_out: u64,
    /// Only where there is an access log.
    log: Option<Box<LogFacts>>,
    /// Dropped at the end: places of concurrency limits are given back then.
    held: Option<Box<LimitHeld>>,
    finished: bool,
}

/// The status of a request whose client was gone before its answer, as nginx writes it.
const CLIENT_GONE: u16 = 499;

/// What only the access log needs.
#[derive(Debug)]
struct LogFacts {
    host: String,
    path: String,
    client: IpAddr,
    version: Version,
    method: http::Method,
    request_id: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    decision: Option<[u8; 16]>,
    reason: Option<&'static str>,
    refused_by: Option<String>,
}

impl Record {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        stream: &Rc<Stream>,
        generation: &Rc<WorkerGeneration>,
        asked: &Asked,
        started: Instant,
    ) -> Self {
        worker.metrics.request_started();
        let log = worker.log.borrow().is_on().then(|| {
            Box::new(LogFacts {
                host: asked.host().to_owned(),
                path: asked.path().to_owned(),
                client: asked.client,
                version: asked.version,
                method: asked.method.clone(),
                request_id: None,
                user_agent: asked.headers.get(header::USER_AGENT).cloned(),
                decision: None,
                reason: None,
                refused_by: None,
            })
        });
        Self {
            worker: Rc::clone(worker),
            stream: Rc::clone(stream),
            generation: Some(Rc::clone(generation)),
            kept: None,
            started,
            method: MethodLabel::from(&asked.method),
            slot: None,
            status: 0,
            trail: Trail::default(),
            bytes_out: 0,
            log,
            held: None,
            finished: false,
        }
    }

    /// The answer's head is made. `request_id` is that which the upstream got, if one was asked.
    pub(crate) fn on_head(&mut self, asked: &Asked, request_id: Option<HeaderValue>) {
        if let Some(log) = &mut self.log {
            log.request_id = request_id.or_else(|| Some(asked.request_id(&self.worker.random)));
        }
    }

    /// What limits keep until the answer has ended.
    pub(crate) fn hold(&mut self, held: Option<Box<LimitHeld>>) {
        self.held = held;
    }

    /// A part of the answer's body was handed to hyper.
    pub(crate) fn on_data(&mut self, bytes: usize) {
        self.bytes_out += u64::try_from(bytes).unwrap_or(0);
        self.downstream().on_answer_part(bytes);
    }

    pub(crate) fn downstream(&self) -> &Downstream {
        self.stream.connection()
    }

    /// The gateway made the answer itself; `reason` is why, where something was wrong.
    pub(crate) fn on_own_answer(&mut self, reason: Option<&'static str>, decision: [u8; 16]) {
        if let Some(log) = &mut self.log {
            (log.reason, log.decision) = (reason, Some(decision));
        }
    }

    /// Something was done to the request on purpose.
    pub(crate) fn on_fault(&mut self, reason: &'static str) {
        if let Some(log) = &mut self.log {
            log.reason = Some(reason);
        }
    }

    /// An object's requirement was not met. Its name is only made where it is written.
    pub(crate) fn on_refusal(&mut self, by: impl FnOnce() -> Option<String>) {
        if let Some(log) = &mut self.log {
            log.refused_by = by();
        }
    }

    /// A tunnel lasts longer than a configuration should be kept for it.
    pub(crate) fn forget_generation(&mut self) {
        let generation = self.generation.take();
        let runtime = generation.as_ref().zip(self.slot).and_then(|(routes, slot)| routes.runtime(slot));
        self.kept = runtime.map(|route| (Arc::clone(&route.metrics), Arc::clone(&route.label)));
    }

    /// So much has passed through the tunnel up to now, from the client and to it.
    pub(crate) fn on_tunnelled(&mut self, bytes_in: u64, bytes_out: u64) {
        self.stream.request_bytes.set(bytes_in);
        self.bytes_out = bytes_out;
    }

    /// Counts the request and writes its line. Later calls do nothing.
    pub(crate) fn finish(&mut self) {
        if self.finished {
            return;
        }
        self.finished = true;
        self.held = None;
        if self.status == 0 {
            self.status = CLIENT_GONE;
        }
        self.downstream().on_answered();
        let duration = self.started.elapsed();
        let runtime = self.generation.as_ref().zip(self.slot).and_then(|(routes, slot)| routes.runtime(slot));
        let route = match (runtime, &self.kept) {
            (Some(runtime), _) => Some((&runtime.metrics, &*runtime.label)),
            (None, kept) => kept.as_ref().map(|(metrics, label)| (metrics, &**label)),
        };
        let metrics = route.map_or_else(|| self.worker.metrics.unmatched(), |(metrics, _)| metrics);
        let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        metrics.record(self.method, self.status, duration_ns);
        self.worker.metrics.request_finished();
        if let Some(log) = self.log.take() {
            let route = route.map_or("unmatched", |(_, label)| label);
            self.write(&log, route, duration_ns / 1000);
        }
    }

    fn write(&self, log: &LogFacts, route: &str, duration_us: u64) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.worker.log.borrow_mut().write(&AccessRecord {
            time_unix_ms: u64::try_from(time.as_millis()).unwrap_or(0),
            method: log.method.as_str(),
            host: &log.host,
            path: &log.path,
            status: self.status,
            duration_us,
            bytes_in: self.stream.request_bytes.get(),
            bytes_out: self.bytes_out,
            client: log.client,
            route,
            upstream: self.trail.upstream.as_deref(),
            attempts: self.trail.tries,
            decision: log.decision.as_ref().and_then(|id| std::str::from_utf8(id).ok()),
            reason: log.reason,
            refused_by: log.refused_by.as_deref(),
            request_id: log.request_id.as_ref().map(HeaderValue::as_bytes),
            protocol: match log.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2.0",
                _ => "HTTP/1.1",
            },
            user_agent: log.user_agent.as_ref().map(HeaderValue::as_bytes),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.finish();
    }
}
