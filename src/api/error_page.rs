//! Error pages: answers whose place the page of another Service takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::DNS_LABEL;

/// Answers with one of these statuses get the page of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorPage {
    /// Statuses like `404` or ranges like `500-599`, from 400 to 599. 1 to 16.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 3, max = 7), regex(pattern = "^[45][0-9]{2}(-[45][0-9]{2})?$"))
    )]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub status_codes: Vec<String>,
    /// The Service that is asked for the page: GET (or HEAD) of `/` with the client's Host and Accept fields, and with
    /// `X-Code`, `X-Format`, `X-Original-URI`, `X-Namespace`, `X-Ingress-Name`, `X-Service-Name`, `X-Service-Port` and
    /// `X-Request-ID`. Where it does not answer within 3 s, or answers another 5xx, the answer stays as it was.
    pub backend_ref: ServiceRef,
}

/// A Service that is asked beside the rule's backends. How it is spoken to is what its port's `appProtocol` says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRef {
    /// The Service's name: a DNS label.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// The Service's namespace. Unset: that of this object. Another one needs a ReferenceGrant there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub namespace: Option<String>,
    /// The port of the Service (not of its pods): 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}
