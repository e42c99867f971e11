//! What the operator decided, as far as translation depends on it.

use std::net::IpAddr;

use ir::{Kind, ObjectRef};

/// How an install reads its objects. Plain values, set once from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The class of this install (`--ingress-class`).
    pub ingress_class: String,
    /// Whether `backendRefs[].address`, ExternalName Services and EndpointSlices of names may lead out of the cluster
    /// (`--allow-external-backends`). True for a folder.
    pub allow_external_backends: bool,
    /// Whether backends may lead to loopback, link-local and the like, or to `own_addresses`
    /// (`--allow-local-endpoints`). True for a folder.
    pub allow_local_endpoints: bool,
    /// Whether key sets may be fetched over `http` and from addresses that are not public (`--allow-private-jwks`). True for a
    /// folder.
    pub allow_private_jwks: bool,
    /// The addresses of the pod that this runs in.
    pub own_addresses: Vec<IpAddr>,
    /// Namespace and name of the Secret whose certificate is served to clients that name no host or an unknown one
    /// (`--default-tls-secret`).
    pub default_tls_secret: Option<(String, String)>,
    /// Namespace and name of the Secret that cookies of sessions are sealed by (`--affinity-key-secret`); `None`: by the uid
    /// of each object.
    pub affinity_key_secret: Option<(String, String)>,
    /// The zone that this runs in (`--zone`); `None`: not known, so that no endpoint is nearer than another.
    pub zone: Option<String>,
    /// The region that this runs in, or zones of it (`--region`). Empty: not known.
    pub regions: Vec<String>,
    /// Whether GatewayRoutes without a class are served where no IngressClass object gives them to another. True for a
    /// folder, where this install is alone.
    pub default_class_if_lone: bool,
}

impl Settings {
    /// The Secret of the default certificate.
    pub fn default_tls_secret(&self) -> Option<ObjectRef> {
        let (namespace, name) = self.default_tls_secret.as_ref()?;
        Some(ObjectRef::new(Kind::Secret, namespace.as_str(), name.as_str()))
    }

    /// The Secret that cookies of sessions are sealed by.
    pub fn affinity_key_secret(&self) -> Option<ObjectRef> {
        let (namespace, name) = self.affinity_key_secret.as_ref()?;
        Some(ObjectRef::new(Kind::Secret, namespace.as_str(), name.as_str()))
    }

    /// The Secrets that are read although no object names them.
    pub fn named_secrets(&self) -> Vec<ObjectRef> {
        self.default_tls_secret().into_iter().chain(self.affinity_key_secret()).collect()
    }

    /// What a folder of YAML is read with.
    pub fn folder() -> Self {
        Self {
            ingress_class: api::DEFAULT_INGRESS_CLASS.to_owned(),
            allow_external_backends: true,
            allow_local_endpoints: true,
            allow_private_jwks: true,
            own_addresses: Vec::new(),
            default_tls_secret: None,
            affinity_key_secret: None,
            zone: None,
            regions: Vec::new(),
            default_class_if_lone: true,
        }
    }

    /// What a cluster's objects are read with, where the operator allows nothing beyond.
    pub fn cluster(ingress_class: impl Into<String>) -> Self {
        Self {
            ingress_class: ingress_class.into(),
            allow_external_backends: false,
            allow_local_endpoints: false,
            allow_private_jwks: false,
            own_addresses: Vec::new(),
            default_tls_secret: None,
            affinity_key_secret: None,
            zone: None,
            regions: Vec::new(),
            default_class_if_lone: false,
        }
    }
}
