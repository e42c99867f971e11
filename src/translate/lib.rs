//! Objects of users into what the proxy serves. Pure: reads a snapshot, returns values.
//!
//! Invariant: total and deterministic. One bad object harms only itself and gets a line in the report; the order in
//! which objects arrived changes nothing.

mod address;
mod affinity;
mod affinity_annotation;
mod annotation;
mod api_key;
mod attach;
mod auth;
mod authority;
mod backend;
mod balance;
mod basic;
mod certificate;
mod class;
mod client_auth;
mod cors;
mod endpoint;
mod endpoint_map;
mod error_page;
mod expression;
mod external;
mod external_annotation;
mod fault;
mod filter;
mod gateway_route;
mod grant;
mod grpc_web;
mod health;
mod ingress;
mod ingress_extras;
mod limit;
mod limit_annotation;
mod matches;
mod mirror;
mod named;
mod notes;
mod passthrough;
mod path;
mod policy_memo;
mod protocol;
mod provider;
mod reader;
mod remote_keys;
mod report;
mod route;
mod route_memo;
mod rule_annotation;
mod rule_notes;
mod selection;
mod settings;
mod side_backend;
mod snapshot;
mod standing;
mod tls;
mod translator;
mod upstream;
mod value;
mod zone;

pub use named::named_objects;
pub use report::{Fault, Report, ReportLine, Severity};
pub use rule_notes::{RefusedNote, RuleNotes};
pub use selection::{Selection, selected_secrets};
pub use settings::Settings;
pub use snapshot::{DEFAULT_NAMESPACE, Object, RefusedPolicy, RefusedTarget, Snapshot, object_ref};
pub use standing::{Judgement, MESSAGE_BYTES_MAX, Standing};
pub use translator::{Translation, Translator, translate};

#[cfg(test)]
mod tests;
