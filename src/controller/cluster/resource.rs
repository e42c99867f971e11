//! Where the API server keeps each kind: group, version, plural, and the path of a request. Asks nobody.

use std::fmt;
use std::sync::Arc;

use ir::{Kind, ObjectRef};

/// The collection of one kind in one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    /// Empty: the core group.
    group: &'static str,
    version: &'static str,
    plural: &'static str,
}

/// What one stream follows: a kind, everywhere or in one namespace, or a single object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) kind: Kind,
    /// `None`: all namespaces, or a kind that has none.
    pub(super) namespace: Option<Arc<str>>,
    /// `None`: every object.
    pub(super) name: Option<Arc<str>>,
}

/// A right that the API server did not grant, in the words of `kubectl auth can-i`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permission {
    verb: &'static str,
    group: &'static str,
    plural: &'static str,
    namespace: Option<Arc<str>>,
}

impl Resource {
    /// The versions in which a kind may be served, the best first.
    pub(super) const fn versions(kind: Kind) -> &'static [Self] {
        const fn resource(group: &'static str, version: &'static str, plural: &'static str) -> Resource {
            Resource { group, version, plural }
        }
        const NETWORKING: &str = "networking.k8s.io";
        const GRANTS: &str = "gateway.networking.k8s.io";
        match kind {
            Kind::Ingress => &const { [resource(NETWORKING, "v1", "ingresses")] },
            Kind::IngressClass => &const { [resource(NETWORKING, "v1", "ingressclasses")] },
            Kind::GatewayRoute => &const { [resource(api::GROUP, api::VERSION, "gatewayroutes")] },
            Kind::RateLimitPolicy => &const { [resource(api::GROUP, api::VERSION, "ratelimitpolicies")] },
            Kind::AuthPolicy => &const { [resource(api::GROUP, api::VERSION, "authpolicies")] },
            Kind::Service => &const { [resource("", "v1", "services")] },
            Kind::EndpointSlice => &const { [resource("discovery.k8s.io", "v1", "endpointslices")] },
            Kind::Secret => &const { [resource("", "v1", "secrets")] },
            Kind::ConfigMap => &const { [resource("", "v1", "configmaps")] },
            Kind::ReferenceGrant => {
                &const {
                    [
                        resource(GRANTS, "v1", "referencegrants"),
                        resource(GRANTS, "v1beta1", "referencegrants"),
                    ]
                }
            }
        }
    }

    /// The path of the collection.
    pub(super) fn path(self, namespace: Option<&str>) -> String {
        let Self { group, version, plural } = self;
        let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
        match namespace {
            Some(namespace) => format!("{root}/{version}/namespaces/{namespace}/{plural}"),
            None => format!("{root}/{version}/{plural}"),
        }
    }

    /// The right to do this here.
    pub(super) fn permission(self, verb: &'static str, namespace: Option<Arc<str>>) -> Permission {
        Permission { verb, group: self.group, plural: self.plural, namespace }
    }
}

impl Target {
    /// All streams of an install that watches these namespaces (none named: all of them), and of the Service whose address
    /// is published, wherever it is.
    pub(super) fn all(namespaces: &[String], published: Option<&(String, String)>) -> Vec<Self> {
        let mut targets = Vec::new();
        for kind in Kind::ALL {
            if kind.is_namespaced() && !namespaces.is_empty() {
                let mut sorted = namespaces.to_vec();
                sorted.sort_unstable();
                sorted.dedup();
                let of = |namespace: String| Self { kind, namespace: Some(namespace.into()), name: None };
                targets.extend(sorted.into_iter().map(of));
            } else {
                targets.push(Self { kind, namespace: None, name: None });
            }
        }
        if let Some((namespace, name)) = published
            && !namespaces.is_empty()
            && !namespaces.contains(namespace)
        {
            let (namespace, name) = (Some(namespace.as_str().into()), Some(name.as_str().into()));
            targets.push(Self { kind: Kind::Service, namespace, name });
        }
        targets
    }

    /// As the API server takes it, where the stream is of a single object.
    pub(super) fn field_selector(&self) -> Option<String> {
        self.name.as_ref().map(|name| format!("metadata.name={name}"))
    }

    /// Whether this stream tells of the object.
    pub(super) fn covers(&self, object: &ObjectRef) -> bool {
        let here = |namespace: &Arc<str>| *namespace == object.namespace;
        let this = |name: &Arc<str>| *name == object.name;
        self.kind == object.kind
            && self.namespace.as_ref().is_none_or(here)
            && self.name.as_ref().is_none_or(this)
    }
}

/// Whether the kind belongs to this gateway, so that its definition is installed with it.
pub(super) const fn is_own(kind: Kind) -> bool {
    match kind {
        Kind::GatewayRoute | Kind::RateLimitPolicy | Kind::AuthPolicy => true,
        Kind::Ingress
        | Kind::IngressClass
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::ReferenceGrant => false,
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        for part in [&self.namespace, &self.name].into_iter().flatten() {
            write!(f, "/{part}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, group, plural, namespace } = self;
        let dot = if group.is_empty() { "" } else { "." };
        write!(f, "{verb} {plural}{dot}{group}")?;
        match namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => f.write_str(" in the whole cluster"),
        }
    }
}
