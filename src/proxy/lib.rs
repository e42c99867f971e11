//! The data plane: listeners, the request pipeline, upstream connections, observation.
//!
//! Invariant: never waits for the control plane; serves the last generation for ever.

mod admin;
mod answer;
mod body;
mod error;
mod filter;
mod generation;
mod jwks;
mod observe;
mod passthrough;
mod pipeline;
mod random;
mod record;
mod request;
mod server;
mod settings;
mod task;
mod timer;
mod tls;
mod tunnel;
mod upstream;

pub use admin::Question;
pub use filter::auth::{SelfTestError, SignError, SigningKey, sign_token};
pub use server::{Feeds, Server, StartError};
pub use settings::{AccessLogTarget, BackendNames, Settings, UnderscoreHeaders};
pub use tls::{check_certificate, check_ocsp_response};
