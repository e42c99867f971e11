//! The stage of authentication and authorization: what it looks at, and who waits where something takes long. The
//! judgement itself is `filter::auth`'s.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Refusal, Stage};
use crate::error::Reason;
use crate::filter::auth::{
    AuthAnswer, AuthNeed, AuthRefusal, AuthRefusalKind, AuthRequest, AuthStop, Identity,
};
use crate::generation::RouteRuntime;
use crate::request::Asked;

impl From<AuthRefusal> for Refusal {
    fn from(refusal: AuthRefusal) -> Self {
        let reason = match refusal.kind() {
            AuthRefusalKind::Forbidden => Reason::Unauthorized,
            AuthRefusalKind::Unauthenticated => Reason::Unauthenticated,
            AuthRefusalKind::Unavailable => Reason::AuthBusy,
        };
        Self { reason, auth: Some(refusal) }
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
            client: asked.client,
        };
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        runtime.auth.check(request, now_s, &mut self.worker.verdicts.borrow_mut(), answers)
    }

    /// Who asks, where it takes long to find out. Ends: each need is another object's, and is answered once.
    pub(super) async fn authenticate_slowly(
        &self,
        asked: &Asked,
        runtime: &RouteRuntime,
        mut need: Box<AuthNeed>,
    ) -> Result<Identity, Refusal> {
        let mut answers = Vec::new();
        loop {
            answers.push(need.answer().await);
            match self.authenticate(asked, runtime, &answers) {
                Ok(identity) => return Ok(identity),
                Err(AuthStop::Refused(refusal)) => return Err(refusal.into()),
                Err(AuthStop::Needs(next)) => need = next,
            }
        }
    }
}
