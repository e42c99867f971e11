//! What the data plane tells about itself: metrics and the access log. Decides nothing and delays no request.

mod access_log;
mod collect;
mod external;
mod extras;
mod key_set;
mod lasting;
mod metrics;
mod names;
mod overload;
mod passthrough;
mod password;
mod process;
mod route;
mod value;

pub(crate) use access_log::{AccessLog, AccessRecord, LogBuffer};
pub(crate) use external::ExternalResult;
pub(crate) use extras::ExtraMetrics;
pub(crate) use key_set::{KeySetMetrics, ProviderKeys};
pub(crate) use lasting::LastingTask;
pub(crate) use metrics::{
    BackendMetrics, EndpointCondition, HandshakeResult, LimitMetrics, ListenerMetrics, Metrics,
};
pub(crate) use overload::Shed;
pub(crate) use passthrough::{PassthroughMetrics, PassthroughResult};
pub(crate) use password::PasswordMetrics;
pub(crate) use process::{Memory, Sampler, give_free_memory_back};
pub(crate) use route::{MethodLabel, RouteMetrics};
