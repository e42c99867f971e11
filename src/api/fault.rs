//! Faults that are injected on purpose.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mirror::hundred;
use crate::text::{FIELD_VALUE, TOKEN};
use crate::value::Duration;

/// Delays requests, or answers them without asking the backend, by chance, so that their clients can be tested. It acts
/// on requests that have passed authentication and limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.delay) || has(self.abort)",
        "message": "a Fault must do something; set delay or abort",
    },
]))]
pub struct Fault {
    /// Acts only on requests with this header. Unset: on all requests of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<FaultHeader>,
    /// Makes requests wait before anything is sent. The wait counts against `timeouts.request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<FaultDelay>,
    /// Answers requests without asking the backend, those that were delayed too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<FaultAbort>,
}

/// A header that a request must have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultHeader {
    /// The header's name, without regard to case.
    #[schemars(length(min = 1, max = 256), regex(pattern = TOKEN))]
    pub name: String,
    /// The whole value, with regard to case. Unset: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096), regex(pattern = FIELD_VALUE))]
    pub value: Option<String>,
}

/// A wait.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultDelay {
    /// How long: 1ms to 1m.
    pub duration: Duration,
    /// How many of a hundred requests wait, by chance: 0 to 100. Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: u8,
}

/// An answer in the place of the backend's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.statusCode) != has(self.grpcStatus)",
        "message": "exactly one of statusCode and grpcStatus must be set; keep one of them",
    },
]))]
pub struct FaultAbort {
    /// The status code: 200 to 599. Requests of gRPC get the gRPC status that stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 200, max = 599))]
    pub status_code: Option<u16>,
    /// The status of gRPC: 1 (CANCELLED) to 16 (UNAUTHENTICATED). Only requests of gRPC are aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub grpc_status: Option<u8>,
    /// How many of a hundred requests are aborted, by chance: 0 to 100. Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: u8,
}
