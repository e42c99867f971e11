//! JSON Web Tokens and authorization by claims (RFC 7515, 7518, 7519, 8725): finds the token of a request, verifies
//! it with the keys of the route's providers, and decides by its claims. Never fetches a key, never reads a clock.
//!
//! The way of a request: [`AuthStage::check`] finds the token (`extract`), asks the worker's [`VerdictCache`], else
//! parses (`token`), verifies (`verifier`, `claims`) and then authorises (`authorize`); [`AuthStage::apply`] edits the
//! request for the upstream. No text of a refusal reaches the client, only its kind.

mod authorize;
mod cache;
mod claims;
mod extract;
mod json;
mod key;
mod refusal;
mod self_test;
mod sign;
mod stage;
mod token;
mod verifier;

pub(crate) use cache::VerdictCache;
pub(crate) use refusal::{AuthRefusal, AuthRefusalKind};
pub(crate) use stage::{AuthRequest, AuthStage, Identity};
pub(crate) use verifier::Verifiers;

pub(crate) use self_test::self_test;

pub use self_test::SelfTestError;
pub use sign::{SignError, SigningKey, sign_token};

#[cfg(test)]
mod tests;
