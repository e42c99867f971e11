//! Error pages: asks the Service that makes them before the answer goes out. Where none can be had, the answer stays as
//! it was.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{Method, Response, StatusCode};
use ir::{Action, LimitBody};

use super::{Notes, Refusal, Stage};
use crate::answer::Payload;
use crate::body::RequestBody;
use crate::error::Reason;
use crate::filter::error_page::{self, Page, PageSource};
use crate::generation::RouteRuntime;
use crate::request::Asked;
use crate::server::Stream;
use crate::upstream::{Aside, Own, Trail, forward};

/// How long a Service may take until the head of its page. The client waits for it.
const PAGE_TIME_MAX: Duration = Duration::from_secs(3);
/// How much of the body that the page takes the place of is read away, so that its connection can be kept.
const REPLACED_BYTES_MAX: usize = 64 << 10;

impl Stage<'_> {
    /// The outcome, with a page that takes its place in the notes if its route has one for it.
    pub(super) async fn paged(
        &self,
        mut outcome: Box<Result<Response<Payload>, Refusal>>,
        asked: &Asked,
        stream: &Rc<Stream>,
        notes: &mut Notes,
    ) -> Box<Result<Response<Payload>, Refusal>> {
        notes.page = self.page(&mut outcome, asked, stream, notes).await.map(Box::new);
        outcome
    }

    async fn page(
        &self,
        outcome: &mut Result<Response<Payload>, Refusal>,
        asked: &Asked,
        stream: &Rc<Stream>,
        notes: &mut Notes,
    ) -> Option<Page> {
        let (status, refused) = match &*outcome {
            Ok(response) => (response.status(), None),
            Err(refusal) => {
                let limit = notes.limit_answer(refusal.reason);
                // Its policy has a text of its own for this.
                if limit.is_some_and(|answer| matches!(answer.body, Some(LimitBody::Text { .. }))) {
                    return None;
                }
                let status = limit.and_then(|answer| StatusCode::from_u16(answer.status).ok());
                (status.unwrap_or_else(|| refusal.reason.status()), Some(refusal.reason))
            }
        };
        let runtime = notes.route.clone()?;
        let extras = runtime.extras.as_ref()?;
        let source = extras.pages.iter().find(|page| page.takes(status, refused))?;
        let is_grpc = notes.is_grpc(asked);
        if is_grpc || refused == Some(Reason::ClientGone) || !error_page::can_be_shown(asked) {
            return None;
        }
        let asking = self.ask_for_page((source, &runtime), (status, asked), stream, notes);
        let page = tokio::time::timeout(PAGE_TIME_MAX, asking).await.ok().flatten();
        let Some(mut page) = page else {
            extras.metrics.pages_failed.inc();
            return None;
        };
        extras.metrics.pages_shown.inc();
        table::apply_header_edit(&runtime.compiled.route.header_edits.response, &mut page.headers);
        if let Ok(response) = outcome {
            read_away(std::mem::replace(response.body_mut(), Payload::Empty)).await;
        }
        Some(page)
    }

    async fn ask_for_page(
        &self,
        (source, runtime): (&PageSource, &RouteRuntime),
        (error, asked): (StatusCode, &Asked),
        stream: &Rc<Stream>,
        notes: &mut Notes,
    ) -> Option<Page> {
        let (upstream, extras) = (source.upstream.as_ref()?, runtime.extras.as_ref()?);
        let route = &runtime.compiled.route;
        let backend = match &route.action {
            Action::Forward { backends, .. } => {
                backends.get(usize::from(notes.place)).map(|backend| &backend.target)
            }
            Action::Redirect(_) | Action::Respond(_) | Action::Fail(_) => None,
        };
        let headers = error_page::fields(error, asked, &route.id, backend);
        let request_id = notes.request_id.get_or_insert_with(|| asked.request_id(&self.worker.random));
        let own = Own::new(asked, self.downstream, request_id);
        let ask = Aside {
            worker: self.worker,
            upstream: (&upstream.backend, &upstream.protocol),
            route_metrics: &extras.metrics.unshown,
            method: if asked.method == Method::HEAD { &Method::HEAD } else { &Method::GET },
            path: "/",
            query: None,
            host: asked.raw_host(),
            headers: &headers,
            own: own.lines(),
            started: Instant::now(),
        };
        let mut body = Some(RequestBody::empty(Rc::clone(stream)));
        let forwarded = forward(&ask.on(&extras.page_terms), &mut body, &mut Trail::default()).await.ok()?;
        let status = error_page::shown_status(error, forwarded.head.status)?;
        Some(Page { status, headers: forwarded.head.headers, payload: self.payload(forwarded.body) })
    }
}

/// Reads what is there of a body that nobody gets. With its end its connection can be used again; where it does not end
/// at once it is closed.
async fn read_away(payload: Payload) {
    let Payload::Upstream(body) = payload else { return };
    let mut bytes = 0;
    poll_fn(|cx| {
        while bytes < REPLACED_BYTES_MAX {
            match body.borrow_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => bytes += frame.data_ref().map_or(1, |data| data.len().max(1)),
                Poll::Ready(Some(Err(_)) | None) | Poll::Pending => break,
            }
        }
        Poll::Ready(())
    })
    .await;
}
