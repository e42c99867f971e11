//! Policies that are attached by reference: RateLimitPolicy and AuthPolicy.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::{Auth, JwtProvider};
use crate::condition::Status;
use crate::limit::{CounterScope, Limit, LimitMode, LimitResponse};
use crate::text::{DNS_LABEL, DNS_SUBDOMAIN};

/// What a RateLimitPolicy says.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "gateway.baribhara.io",
    version = "v1alpha1",
    kind = "RateLimitPolicy",
    plural = "ratelimitpolicies",
    shortname = "rlp",
    category = "baribhara",
    namespaced,
    derive = "PartialEq",
    status = "Status",
    doc = "Limits how many requests its targets take in a time. Several policies on one target all apply.",
    label("gateway.networking.k8s.io/policy", "inherited"),
    printcolumn(name = "Targets", type_ = "string", json_path = ".spec.targetRefs[*].name"),
    printcolumn = r#"{"name": "Mode", "type": "string", "jsonPath": ".spec.mode"}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Accepted')].status"}"#,
    printcolumn = r#"{"name": "Programmed", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Programmed')].status"}"#,
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitPolicySpec {
    /// What is limited: 1 to 16 objects of the same namespace.
    #[schemars(length(min = 1, max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "self.all(a, self.exists_one(b, a.kind == b.kind && a.name == b.name \
                     && has(a.sectionName) == has(b.sectionName) \
                     && (!has(a.sectionName) || a.sectionName == b.sectionName)))",
            "message": "a target stands twice in targetRefs; remove one of them",
        },
    ]))]
    pub target_refs: Vec<TargetRef>,
    /// Enforce; Shadow: counts and reports, but never refuses and sends no header; or Disabled: is not asked. Default
    /// Enforce.
    #[serde(default)]
    pub mode: LimitMode,
    /// What shares the counters: PerPolicy (all targets), PerTarget (the rules of one target) or PerRule. Default
    /// PerPolicy. `maxKeys` bounds each of them.
    #[serde(default)]
    pub counter_scope: CounterScope,
    /// How limits show in answers.
    #[serde(default)]
    pub response: LimitResponse,
    /// The limits: 1 to 32. All of them must pass.
    #[schemars(length(min = 1, max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub limits: Vec<Limit>,
}

/// What an AuthPolicy says.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "gateway.baribhara.io",
    version = "v1alpha1",
    kind = "AuthPolicy",
    plural = "authpolicies",
    shortname = "ap",
    category = "baribhara",
    namespaced,
    derive = "PartialEq",
    status = "Status",
    doc = "Says who may pass its targets. Several policies on one target, and its own `auth`, must all pass.",
    label("gateway.networking.k8s.io/policy", "inherited"),
    printcolumn(name = "Targets", type_ = "string", json_path = ".spec.targetRefs[*].name"),
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Accepted')].status"}"#,
    printcolumn = r#"{"name": "Programmed", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Programmed')].status"}"#,
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.auth.disabled) || !self.auth.disabled",
        "message": "a policy adds requirements and cannot be disabled; remove the policy or auth.disabled",
    },
]))]
pub struct AuthPolicySpec {
    /// What is protected: 1 to 16 objects of the same namespace.
    #[schemars(length(min = 1, max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "self.all(a, self.exists_one(b, a.kind == b.kind && a.name == b.name \
                     && has(a.sectionName) == has(b.sectionName) \
                     && (!has(a.sectionName) || a.sectionName == b.sectionName)))",
            "message": "a target stands twice in targetRefs; remove one of them",
        },
    ]))]
    pub target_refs: Vec<TargetRef>,
    /// Issuers of tokens that `auth` may name. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub jwt_providers: Vec<JwtProvider>,
    /// What a request must bring.
    pub auth: Auth,
}

/// An object of the same namespace that a policy applies to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(self.kind == 'Ingress') == (self.group == 'networking.k8s.io')",
        "message": "group does not fit kind; GatewayRoute is of gateway.baribhara.io and Ingress of networking.k8s.io",
    },
]))]
pub struct TargetRef {
    /// `gateway.baribhara.io` or `networking.k8s.io`.
    pub group: TargetGroup,
    /// GatewayRoute or Ingress.
    pub kind: TargetKind,
    /// The object's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub name: String,
    /// One rule of it: its name in a GatewayRoute; in an Ingress the index of the path, counted from 0 over
    /// all rules, or `default` for the default backend. Unset: the whole object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub section_name: Option<String>,
}

/// The groups of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TargetGroup {
    #[serde(rename = "gateway.baribhara.io")]
    Baribhara,
    #[serde(rename = "networking.k8s.io")]
    Networking,
}

/// The kinds of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TargetKind {
    GatewayRoute,
    Ingress,
}
