//! Active checks of endpoints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::filter::HttpHeader;
use crate::text::FIELD_VALUE;
use crate::value::Duration;

/// Requests of the gateway's own by which each endpoint is checked: once a replica, whatever the number of cores. An endpoint
/// that nothing is known of yet is asked like a healthy one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.type) || self.type == 'HTTP' \
                 || !(has(self.path) || has(self.host) || has(self.headers) || has(self.expected))",
        "message": "path, host, headers and expected are for the type HTTP; remove them, or the type",
    },
    {
        "rule": "!has(self.service) || (has(self.type) && self.type == 'GRPC')",
        "message": "service is for the type GRPC; write type GRPC, or remove service",
    },
]))]
pub struct ActiveHealthCheck {
    /// HTTP (a GET in the backend's protocol and with its TLS), TCP (a connection, without TLS) or GRPC
    /// (`grpc.health.v1.Health/Check`; needs a backend that is spoken to in HTTP/2). Default HTTP.
    #[serde(default)]
    pub r#type: ActiveCheckType,
    /// What is asked for, with a query if need be: at most 1024 characters. Default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/[!-\"$-~]*$"))]
    pub path: Option<String>,
    /// The Host. Unset: the endpoint's address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = FIELD_VALUE))]
    pub host: Option<String>,
    /// More headers. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<HttpHeader>,
    /// The status codes that pass, like `200` or `200-299`. At most 16. Default `200-299`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(inner(length(min = 3, max = 7), regex(pattern = "^[2-5][0-9]{2}(-[2-5][0-9]{2})?$")))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub expected: Vec<String>,
    /// The service that is asked after. Unset: the server as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), regex(pattern = "^[A-Za-z0-9_./-]+$"))]
    pub service: Option<String>,
    /// The port that is asked, on the endpoint's address: 1 to 65535. Unset: the endpoint's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// From one check to the next: 100ms to 1h. Default 10s.
    #[serde(default = "interval")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) >= duration('100ms') && duration(self) <= duration('1h')",
            "message": "interval is 100ms to 1h; write a time between them",
        },
    ]))]
    pub interval: Duration,
    /// How long a check may take: 1ms to 1m. Default 1s.
    #[serde(default = "timeout")]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "duration(self) >= duration('1ms') && duration(self) <= duration('1m')",
            "message": "timeout is 1ms to 1m; write a time between them",
        },
    ]))]
    pub timeout: Duration,
    /// So many checks in a row must pass until an endpoint that failed is asked again: 1 to 100. Default 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub healthy: u32,
    /// So many in a row must fail until an endpoint is left out: 1 to 100. Default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy: u32,
}

/// How an endpoint is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ActiveCheckType {
    #[default]
    Http,
    Tcp,
    Grpc,
}

fn interval() -> Duration {
    Duration::from_millis(10_000)
}

fn timeout() -> Duration {
    Duration::from_millis(1000)
}

fn two() -> u32 {
    2
}

fn three() -> u32 {
    3
}
