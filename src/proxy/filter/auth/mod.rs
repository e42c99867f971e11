//! Authentication and authorization: JSON Web Tokens (RFC 7515, 7518, 7519, 8725), API keys, names and passwords
//! (RFC 7617), and rules over claims. Never fetches a key, never reads a clock.
//!
//! The way of a request: [`AuthStage::check`] asks each object's methods (`demand`). A token is found (`extract`), looked
//! up in the worker's [`VerdictCache`], else parsed (`token`) and verified (`verifier`, `claims`); an API key is looked up (`api_key`); a password is looked up
//! or handed out to be checked beside the worker (`basic`, `hashing`, `password`); a question to another service is handed
//! out, too (`external`, `answer_cache`, `url`). Keys may come from elsewhere (`remote`). Then the rules decide (`authorize`), and
//! [`AuthStage::apply`] edits the request for the upstream. No text of a refusal reaches the client, only its kind.

mod answer_cache;
mod api_key;
mod authorize;
mod basic;
mod cache;
mod claims;
mod credential_cache;
mod demand;
mod external;
mod extract;
mod hashing;
mod json;
mod key;
mod password;
mod refusal;
mod remote;
mod self_test;
mod sign;
mod stage;
mod token;
mod url;
mod verifier;

pub(crate) use answer_cache::{AnswerCache, Look};
pub(crate) use cache::VerdictCache;
pub(crate) use demand::{AuthAnswer, ExternalNeed};
pub(crate) use external::{External, ExternalVerdict, Meaning, is_navigation, meaning};
pub(crate) use refusal::{AuthReason, AuthRefusal, AuthRefusalKind};
pub(crate) use remote::RemoteKeySet;
pub(crate) use stage::{AuthRequest, AuthStage, AuthStop, Identity};
pub(crate) use url::{render, sign_in};
pub(crate) use verifier::Verifiers;

pub(crate) use self_test::self_test;

pub use self_test::SelfTestError;
pub use sign::{SignError, SigningKey, sign_token};

#[cfg(test)]
mod tests;
