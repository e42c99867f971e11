//! What the operator decided, as far as translation depends on it.

/// How an install reads its objects. Plain values, set once from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The class of this install (`--ingress-class`).
    pub ingress_class: String,
    /// Whether `backendRefs[].address` and ExternalName Services may lead out of the cluster. True for a folder.
    pub allow_addresses: bool,
    /// Whether GatewayRoutes without a class are served where no IngressClass object gives them to another. True for a
    /// folder, where this install is alone.
    pub default_class_if_lone: bool,
}

impl Settings {
    /// What a folder of YAML is read with.
    pub fn folder() -> Self {
        Self {
            ingress_class: api::DEFAULT_INGRESS_CLASS.to_owned(),
            allow_addresses: true,
            default_class_if_lone: true,
        }
    }

    /// What a cluster's objects are read with.
    pub fn cluster(ingress_class: impl Into<String>) -> Self {
        Self { ingress_class: ingress_class.into(), allow_addresses: false, default_class_if_lone: false }
    }
}
