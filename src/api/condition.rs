//! Conditions: what the status of our objects says, each type and reason once. Computes nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The status of GatewayRoute, RateLimitPolicy and AuthPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The `metadata.generation` that the conditions were made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `ResolvedRefs`, `Programmed` and, where keys are fetched by URL, `JWKSReady`, beside those that others may
    /// have written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// The types of conditions that we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The object is ours and can be served, at least in part (Gateway API: `Accepted`).
    Accepted,
    /// Everything that the object names exists and may be named (Gateway API: `ResolvedRefs`).
    ResolvedRefs,
    /// The object is live on every ready replica as it is written.
    Programmed,
    /// The key sets that the object's providers name by URL are there. Only where a rule uses such a provider.
    JwksReady,
}

/// Why a condition is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionReason {
    /// `Accepted` holds.
    Accepted,
    /// `Accepted` holds, and some part of the object is refused: it answers 500.
    PartiallyInvalid,
    /// The object, or each part of it, is refused.
    Invalid,
    /// A policy names no object that is there.
    TargetNotFound,
    /// `ResolvedRefs` holds.
    ResolvedRefs,
    /// A Service, or its port, is not there.
    BackendNotFound,
    /// A Secret, ConfigMap or policy that is named, or an entry in it, is not there or cannot be read.
    InvalidReference,
    /// A reference to another namespace that no ReferenceGrant permits.
    RefNotPermitted,
    /// A Service or address that the install does not let objects lead to.
    AddressNotPermitted,
    /// `Programmed` holds.
    Programmed,
    /// Some ready replica does not serve the object yet.
    Pending,
    /// `JWKSReady` holds.
    JwksReady,
    /// `JWKSReady` holds by keys that came before the provider began to fail.
    JwksStale,
    /// The first fetch is under way.
    JwksPending,
    /// Keys never came, or are too old: requests are answered 503.
    JwksUnavailable,
}

/// As other Kubernetes APIs have it, so that tools that know conditions know these.
fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "description": "`Accepted`, `ResolvedRefs`, `Programmed` and, where keys are fetched by URL, `JWKSReady`, beside those that others may have written.",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When `status` changed last."},
                "message": {"type": "string", "maxLength": 32768, "description": "For people: what is so, and what to do about it."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "description": "The `metadata.generation` that this was made of."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", "description": "Why, in one word for programs."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it is so."},
                "type": {"type": "string", "maxLength": 316, "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$", "description": "What this is about."},
            },
        },
    })
}

impl ConditionType {
    /// As it stands in the condition's `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Programmed => "Programmed",
            Self::JwksReady => "JWKSReady",
        }
    }
}

impl ConditionReason {
    /// As it stands in the condition's `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::PartiallyInvalid => "PartiallyInvalid",
            Self::Invalid => "Invalid",
            Self::TargetNotFound => "TargetNotFound",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::BackendNotFound => "BackendNotFound",
            Self::InvalidReference => "InvalidReference",
            Self::RefNotPermitted => "RefNotPermitted",
            Self::AddressNotPermitted => "AddressNotPermitted",
            Self::Programmed => "Programmed",
            Self::Pending => "Pending",
            Self::JwksReady => "JWKSReady",
            Self::JwksStale => "JWKSStale",
            Self::JwksPending => "JWKSPending",
            Self::JwksUnavailable => "JWKSUnavailable",
        }
    }
}
