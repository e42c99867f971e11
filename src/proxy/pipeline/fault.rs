//! Faults that a rule injects on purpose: a wait, or an answer in the place of the backend's.

use std::time::Instant;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use ir::{Action, Fault, FaultAnswer, FaultHeader};

use super::{Notes, Stage, new_decision};
use crate::answer::{Payload, insert_decision};
use crate::filter::extras::ExtrasStage;
use crate::filter::grpc;
use crate::request::Asked;

impl Stage<'_> {
    /// Waits where that falls to the request; the answer where that does.
    pub(super) async fn inject(
        &self,
        extras: &ExtrasStage,
        asked: &Asked,
        notes: &mut Notes,
    ) -> Option<Box<Response<Payload>>> {
        let Fault { header, delay, abort } = extras.fault.as_ref()?;
        if !header.as_ref().is_none_or(|header| is_there(header, &asked.headers)) {
            return None;
        }
        let random = &self.worker.random;
        if let Some(delay) = delay.filter(|delay| traffic::happens(delay.percent, random.next())) {
            extras.metrics.faults_delayed.inc();
            notes.record.on_fault("fault-delay");
            let until = Instant::now() + delay.duration;
            let cut = self.deadline(asked, notes).filter(|deadline| *deadline < until);
            tokio::time::sleep_until(cut.unwrap_or(until).into()).await;
            if cut.is_some() {
                // Nothing is sent any more: it is told so.
                return None;
            }
        }
        let abort = abort.filter(|abort| traffic::happens(abort.percent, random.next()))?;
        if matches!(abort.answer, FaultAnswer::Grpc(_)) && !notes.is_grpc(asked) {
            return None;
        }
        extras.metrics.faults_aborted.inc();
        let decision = new_decision(self.worker);
        notes.record.on_own_answer(Some("fault-abort"), decision);
        let mut response = answer(abort.answer);
        insert_decision(response.headers_mut(), &decision);
        Some(Box::new(response))
    }

    /// When a request that a backend is to be asked for must be over.
    fn deadline(&self, asked: &Asked, notes: &Notes) -> Option<Instant> {
        let route = &notes.route.as_ref()?.compiled.route;
        let Action::Forward { .. } = route.action else { return None };
        let timeout = if notes.is_grpc(asked) {
            grpc::timeouts(&route.timeouts, &asked.headers).request
        } else {
            route.timeouts.request
        };
        timeout.map(|timeout| self.started + timeout)
    }
}

fn is_there(header: &FaultHeader, headers: &HeaderMap) -> bool {
    let is_it = |value: &HeaderValue| {
        header.value.as_ref().is_none_or(|wanted| value.as_bytes() == wanted.as_bytes())
    };
    headers.get_all(&header.name).iter().any(is_it)
}

fn answer(answer: FaultAnswer) -> Response<Payload> {
    match answer {
        FaultAnswer::Grpc(status) => grpc::own_answer(status, "fault injected"),
        FaultAnswer::Status(status) => {
            let mut response = Response::new(Payload::Empty);
            *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            // RFC 9110 §15.3.5, §15.3.6 and §15.4.5: these answers have no content.
            if !matches!(status, 204 | 205 | 304) {
                *response.body_mut() = Payload::Full("fault injected\n".into());
                let text = HeaderValue::from_static("text/plain; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, text);
            }
            response
        }
    }
}
