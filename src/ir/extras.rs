//! What a rule may do beside sending a request to its backend. Seldom used, so a route keeps it apart.

use std::time::Duration;

use http::HeaderName;
use serde::Serialize;

use crate::{BackendTarget, UpstreamProtocol, ser};

/// The parts that most rules have none of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RouteExtras {
    /// The first that names an answer's status makes its page.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub error_pages: Vec<ErrorPage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

impl RouteExtras {
    pub fn is_empty(&self) -> bool {
        let Self { error_pages, mirror, fault } = self;
        error_pages.is_empty() && mirror.is_none() && fault.is_none()
    }

    /// The backends that are asked beside the rule's own.
    pub fn targets(&self) -> impl Iterator<Item = &BackendTarget> {
        let mirror = self.mirror.iter().map(|mirror| &mirror.backend);
        self.error_pages.iter().map(|page| &page.backend).chain(mirror).map(|backend| &backend.target)
    }
}

/// A Service that is asked beside the rule's backends, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SideBackend {
    pub target: BackendTarget,
    #[serde(skip_serializing_if = "UpstreamProtocol::is_plain_http1")]
    pub protocol: UpstreamProtocol,
}

/// Answers whose place the page of a Service takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorPage {
    pub statuses: Vec<StatusRange>,
    /// Whatever `statuses` says, also where the rule's backend has no endpoint (ingress-nginx `default-backend`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_endpoints: bool,
    pub backend: SideBackend,
}

/// Requests that a Service gets a copy of, whose answer nobody sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mirror {
    pub backend: SideBackend,
    /// 0 to 100.
    pub percent: u8,
    pub includes_body: bool,
}

/// What is done to requests on purpose, so that their clients can be tested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Only requests that have it. `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<FaultHeader>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<FaultDelay>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<FaultAbort>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultHeader {
    #[serde(serialize_with = "ser::header_name")]
    pub name: HeaderName,
    /// `None`: any value.
    pub value: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FaultDelay {
    #[serde(serialize_with = "ser::millis")]
    pub duration: Duration,
    /// 0 to 100.
    pub percent: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FaultAbort {
    pub answer: FaultAnswer,
    /// 0 to 100.
    pub percent: u8,
}

/// What an aborted request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum FaultAnswer {
    /// 200 to 599.
    Status(u16),
    /// A status of gRPC, 1 to 16. Only requests of gRPC are aborted.
    Grpc(u8),
}

/// From 400 to 599, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StatusRange {
    pub first: u16,
    pub last: u16,
}

impl StatusRange {
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}
