//! The stage of authentication and authorization: what it looks at, and who waits where something takes long. The
//! judgement itself is `filter::auth`'s.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Notes;
use super::external::Told;
use super::{Refusal, Stage};
use crate::body::RequestBody;
use crate::error::Reason;
use crate::filter::auth::{
    AuthAnswer, AuthReason, AuthRefusal, AuthRefusalKind, AuthRequest, AuthStop, Identity,
};
use crate::generation::RouteRuntime;
use crate::request::Asked;

impl From<AuthRefusal> for Refusal {
    fn from(refusal: AuthRefusal) -> Self {
        let reason = match refusal.kind() {
            AuthRefusalKind::Forbidden => Reason::Unauthorized,
            AuthRefusalKind::Unauthenticated => Reason::Unauthenticated,
            AuthRefusalKind::Unavailable if refusal.reason == AuthReason::ExternalUnavailable => {
                Reason::AuthUnavailable
            }
            AuthRefusalKind::Unavailable => Reason::AuthBusy,
            AuthRefusalKind::KeysUnavailable => Reason::KeysUnavailable,
        };
        Self { reason, auth: Some(refusal), response: None }
    }
}

impl Stage<'_> {
    /// Who asks, if the route wants to know.
    pub(super) fn authenticate(
        &self,
        asked: &Asked,
        runtime: &RouteRuntime,
        answers: &[AuthAnswer],
    ) -> Result<Identity, AuthStop> {
        if runtime.auth.is_empty() {
            return Ok(Identity::default());
        }
        let request = AuthRequest {
            headers: &asked.headers,
            query: asked.query(),
            method: &asked.method,
            client: asked.client_for_rules(),
        };
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        runtime.auth.check(request, now_s, &mut self.worker.verdicts.borrow_mut(), answers)
    }

    /// Who asks, where it takes long to find out. Ends: each need is another object's or of another kind, and is answered once.
    pub(super) async fn authenticate_slowly(
        &self,
        (asked, body): (&mut Asked, &RequestBody),
        runtime: &RouteRuntime,
        mut stop: AuthStop,
        notes: &mut Notes,
    ) -> Result<Identity, Refusal> {
        notes.limits.has_waited = true;
        let mut answers = Vec::new();
        // What the last service said that refused.
        let mut said = None;
        loop {
            match stop {
                AuthStop::Refused(refusal) => {
                    let response = said.filter(|_| refusal.reason == AuthReason::ExternalRefused);
                    return Err(Refusal { response, ..refusal.into() });
                }
                AuthStop::Needs(need) => answers.push(need.answer().await),
                AuthStop::Asks(need) => {
                    let Told { answer, response } =
                        self.ask_external((asked, body), runtime, &need, notes).await;
                    answers.push(answer);
                    said = response;
                }
            }
            stop = match self.authenticate(asked, runtime, &answers) {
                Ok(identity) => return Ok(identity),
                Err(next) => next,
            };
        }
    }
}
