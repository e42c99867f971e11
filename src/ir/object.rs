//! Names of objects and of what they produce.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// The kinds of Kubernetes objects that the gateway reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    /// networking.k8s.io/v1 Ingress
    Ingress,
    /// networking.k8s.io/v1 IngressClass
    IngressClass,
    /// gateway.baribhara.io/v1alpha1 GatewayRoute
    GatewayRoute,
    /// gateway.baribhara.io/v1alpha1 RateLimitPolicy
    RateLimitPolicy,
    /// gateway.baribhara.io/v1alpha1 AuthPolicy
    AuthPolicy,
    /// v1 Service
    Service,
    /// discovery.k8s.io/v1 EndpointSlice
    EndpointSlice,
    /// v1 Secret
    Secret,
    /// v1 ConfigMap
    ConfigMap,
    /// gateway.networking.k8s.io/v1 (or v1beta1) ReferenceGrant
    ReferenceGrant,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Ingress,
        Self::IngressClass,
        Self::GatewayRoute,
        Self::RateLimitPolicy,
        Self::AuthPolicy,
        Self::Service,
        Self::EndpointSlice,
        Self::Secret,
        Self::ConfigMap,
        Self::ReferenceGrant,
    ];

    /// The kind of this name, with regard to case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether its objects belong to a namespace.
    pub const fn is_namespaced(self) -> bool {
        match self {
            Self::IngressClass => false,
            Self::Ingress
            | Self::GatewayRoute
            | Self::RateLimitPolicy
            | Self::AuthPolicy
            | Self::Service
            | Self::EndpointSlice
            | Self::Secret
            | Self::ConfigMap
            | Self::ReferenceGrant => true,
        }
    }

    /// Whether its objects protect others, which must not be served without them.
    pub const fn is_policy(self) -> bool {
        match self {
            Self::RateLimitPolicy | Self::AuthPolicy => true,
            Self::Ingress
            | Self::IngressClass
            | Self::GatewayRoute
            | Self::Service
            | Self::EndpointSlice
            | Self::Secret
            | Self::ConfigMap
            | Self::ReferenceGrant => false,
        }
    }

    /// The kind as it stands in YAML.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::GatewayRoute => "GatewayRoute",
            Self::RateLimitPolicy => "RateLimitPolicy",
            Self::AuthPolicy => "AuthPolicy",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::ReferenceGrant => "ReferenceGrant",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One object of the user's: kind, namespace and name. Cluster-scoped objects have an empty namespace.
/// Written and serialised as `Kind/namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    pub kind: Kind,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectRef {
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

impl Serialize for ObjectRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One rule of one object. The rule is its name in a GatewayRoute (or its index, where it has none) and the flat
/// index of the path in an Ingress; an Ingress's default backend is the rule `default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId {
    pub object: ObjectRef,
    pub rule: Arc<str>,
}

impl RouteId {
    /// The value of the metric label `endpoint` and the name in `explain`: `namespace/name/rule`.
    pub fn label(&self) -> String {
        format!("{}/{}/{}", self.object.namespace, self.object.name, self.rule)
    }
}

impl RouteId {
    /// Eight digits that stand for the route where its name is nobody's business. Two routes may have the same.
    pub fn tag(&self) -> String {
        // FNV-1a.
        let hash = self
            .to_string()
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        format!("{hash:08x}")
    }
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.object, self.rule)
    }
}

impl Serialize for RouteId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
