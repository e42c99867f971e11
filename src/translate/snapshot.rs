//! All objects of the user's, by kind and name. Owned by one task of the controller; must not interpret them.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use api::{AuthPolicy, GatewayRoute, RateLimitPolicy, ReferenceGrant, Status};
use ir::{Kind, ObjectRef};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::certificate::{chain_and_key, ocsp_response};
use crate::rule_notes::RuleNotes;

/// The namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The label by which an EndpointSlice names its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Base64 in a block scalar has line ends, which Kubernetes' decoder passes over.
fn without_line_ends(mut secret: serde_json::Value) -> serde_json::Value {
    let entries = secret.get_mut("data").and_then(serde_json::Value::as_object_mut);
    for entry in entries.into_iter().flatten().map(|(_, entry)| entry) {
        if let serde_json::Value::String(text) = entry {
            text.retain(|letter| !matches!(letter, '\r' | '\n'));
        }
    }
    secret
}

const SECRET_SHAPE: &str = "this is no Secret: data takes base64 and stringData takes text";

/// Values by namespace and name, in that order.
#[derive(Clone, Debug)]
pub(crate) struct ByName<V> {
    namespaces: BTreeMap<Arc<str>, BTreeMap<Arc<str>, V>>,
    /// Replaced with each change: two states with the same stamp are the same state.
    stamp: Arc<()>,
}

/// One object of any kind that is read.
#[derive(Clone, Debug)]
pub enum Object {
    /// With what its annotations say as fields of a rule; `None`: nothing, or nobody read them.
    Ingress(Arc<Ingress>, Option<Arc<RuleNotes>>),
    IngressClass(Arc<IngressClass>),
    GatewayRoute(Arc<GatewayRoute>),
    RateLimitPolicy(Arc<RateLimitPolicy>),
    AuthPolicy(Arc<AuthPolicy>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    Secret(Arc<Secret>),
    ConfigMap(Arc<ConfigMap>),
    ReferenceGrant(Arc<ReferenceGrant>),
}

/// A RateLimitPolicy or AuthPolicy that was refused before it got here and of which there is no last good version.
/// Its targets fail closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedPolicy {
    /// What could still be read of `spec.targetRefs`.
    pub targets: Vec<RefusedTarget>,
}

/// One target of a refused policy, in the policy's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedTarget {
    pub kind: Kind,
    pub name: String,
    /// `sectionName`; `None`: the whole object.
    pub section: Option<String>,
}

/// Everything that translation reads.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Policies without any good version.
    pub refused: BTreeMap<ObjectRef, RefusedPolicy>,
    pub(crate) ingresses: ByName<Arc<Ingress>>,
    pub(crate) ingress_classes: ByName<Arc<IngressClass>>,
    pub(crate) gateway_routes: ByName<Arc<GatewayRoute>>,
    pub(crate) rate_limit_policies: ByName<Arc<RateLimitPolicy>>,
    pub(crate) auth_policies: ByName<Arc<AuthPolicy>>,
    pub(crate) services: ByName<Arc<Service>>,
    pub(crate) endpoint_slices: ByName<Arc<EndpointSlice>>,
    pub(crate) secrets: ByName<Arc<Secret>>,
    pub(crate) config_maps: ByName<Arc<ConfigMap>>,
    pub(crate) reference_grants: ByName<Arc<ReferenceGrant>>,
    /// Why the newest version of a Secret is not used; the last good one, if there is one, still is.
    pub(crate) refusals: ByName<Arc<str>>,
    /// Why the OCSP response of a Secret in use is not stapled.
    pub(crate) unstapled: ByName<Arc<str>>,
    /// What annotations of Ingresses say as fields of a rule; kept in step with `ingresses`.
    pub(crate) rule_notes: ByName<Arc<RuleNotes>>,
    /// The slices of each Service by their names; kept in step with `endpoint_slices`.
    slices_by_service: ByName<BTreeMap<Arc<str>, Arc<EndpointSlice>>>,
}

impl Object {
    /// Reads an object of this kind.
    ///
    /// # Errors
    /// A text for people: what does not fit the kind's shape, or that the object has no name. For a Secret it says
    /// nothing of what stands in it.
    pub fn from_json(kind: Kind, value: serde_json::Value) -> Result<Self, String> {
        fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<Arc<T>, String> {
            serde_json::from_value(value).map(Arc::new).map_err(|error| error.to_string())
        }
        let object = match kind {
            Kind::Ingress => Self::Ingress(read(value)?, None),
            Kind::IngressClass => Self::IngressClass(read(value)?),
            Kind::GatewayRoute => Self::GatewayRoute(read(value)?),
            Kind::RateLimitPolicy => Self::RateLimitPolicy(read(value)?),
            Kind::AuthPolicy => Self::AuthPolicy(read(value)?),
            Kind::Service => Self::Service(read(value)?),
            Kind::EndpointSlice => Self::EndpointSlice(read(value)?),
            // The parser's message could quote a value.
            Kind::Secret => {
                Self::Secret(read(without_line_ends(value)).map_err(|_| SECRET_SHAPE.to_owned())?)
            }
            Kind::ConfigMap => Self::ConfigMap(read(value)?),
            Kind::ReferenceGrant => Self::ReferenceGrant(read(value)?),
        };
        if object.metadata().name.as_deref().is_none_or(str::is_empty) {
            return Err("metadata.name is missing".to_owned());
        }
        Ok(object)
    }

    /// The object's kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Ingress(..) => Kind::Ingress,
            Self::IngressClass(_) => Kind::IngressClass,
            Self::GatewayRoute(_) => Kind::GatewayRoute,
            Self::RateLimitPolicy(_) => Kind::RateLimitPolicy,
            Self::AuthPolicy(_) => Kind::AuthPolicy,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Secret(_) => Kind::Secret,
            Self::ConfigMap(_) => Kind::ConfigMap,
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
        }
    }

    /// The object's metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Ingress(object, _) => &object.metadata,
            Self::IngressClass(object) => &object.metadata,
            Self::GatewayRoute(object) => &object.metadata,
            Self::RateLimitPolicy(object) => &object.metadata,
            Self::AuthPolicy(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::ConfigMap(object) => &object.metadata,
            Self::ReferenceGrant(object) => &object.metadata,
        }
    }

    /// Chain and key (PEM) of a Secret that has both entries of the type `kubernetes.io/tls`.
    pub fn certificate(&self) -> Option<(&[u8], &[u8])> {
        let Self::Secret(secret) = self else { return None };
        chain_and_key(secret)
    }

    /// The OCSP response (DER, not looked at) of a Secret that [`Self::certificate`] finds a certificate in.
    pub fn ocsp_response(&self) -> Option<&[u8]> {
        let Self::Secret(secret) = self else { return None };
        chain_and_key(secret).and_then(|_| ocsp_response(secret))
    }

    /// Sets what a controller said of the object; only a kind of ours has such a status.
    pub fn set_status(&mut self, status: Option<Status>) {
        match self {
            Self::GatewayRoute(object) => Arc::make_mut(object).status = status,
            Self::RateLimitPolicy(object) => Arc::make_mut(object).status = status,
            Self::AuthPolicy(object) => Arc::make_mut(object).status = status,
            Self::Ingress(..)
            | Self::IngressClass(_)
            | Self::Service(_)
            | Self::EndpointSlice(_)
            | Self::Secret(_)
            | Self::ConfigMap(_)
            | Self::ReferenceGrant(_) => {}
        }
    }

    /// Sets what its annotations say as fields of a rule; only an Ingress has such.
    pub fn set_rule_notes(&mut self, read: Option<RuleNotes>) {
        if let Self::Ingress(_, notes) = self {
            *notes = read.map(Arc::new);
        }
    }

    /// Whether this object differs from an earlier state of it only in what a controller said of it, so that
    /// translation makes the same of both. It may say no where that is so.
    pub fn differs_in_status_only(&self, earlier: &Self) -> bool {
        let same_spec = match (self, earlier) {
            (Self::Ingress(now, _), Self::Ingress(was, _)) => now.spec == was.spec,
            (Self::GatewayRoute(now), Self::GatewayRoute(was)) => now.spec == was.spec,
            (Self::RateLimitPolicy(now), Self::RateLimitPolicy(was)) => now.spec == was.spec,
            (Self::AuthPolicy(now), Self::AuthPolicy(was)) => now.spec == was.spec,
            _ => false,
        };
        let (now, was) = (self.metadata(), earlier.metadata());
        same_spec
            && now.uid == was.uid
            && now.generation == was.generation
            && now.annotations == was.annotations
            && now.labels == was.labels
            && now.creation_timestamp == was.creation_timestamp
    }

    /// The object as it is written, apart from `apiVersion` and `kind` where its type does not hold them. Holds a
    /// Secret's bytes.
    ///
    /// # Errors
    /// A value that JSON cannot hold; none of these types has one.
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        match self {
            Self::Ingress(object, _) => serde_json::to_value(&**object),
            Self::IngressClass(object) => serde_json::to_value(&**object),
            Self::GatewayRoute(object) => serde_json::to_value(&**object),
            Self::RateLimitPolicy(object) => serde_json::to_value(&**object),
            Self::AuthPolicy(object) => serde_json::to_value(&**object),
            Self::Service(object) => serde_json::to_value(&**object),
            Self::EndpointSlice(object) => serde_json::to_value(&**object),
            Self::Secret(object) => serde_json::to_value(&**object),
            Self::ConfigMap(object) => serde_json::to_value(&**object),
            Self::ReferenceGrant(object) => serde_json::to_value(&**object),
        }
    }

    /// Kind, namespace (`default` where none is named; empty for an IngressClass) and name.
    pub fn object_ref(&self) -> ObjectRef {
        let metadata = self.metadata();
        let name = metadata.name.as_deref().unwrap_or_default();
        object_ref(self.kind(), metadata.namespace.as_deref(), name)
    }
}

/// The object of this name, in the namespace that an object of this kind with this `metadata.namespace` belongs to.
pub fn object_ref(kind: Kind, namespace: Option<&str>, name: &str) -> ObjectRef {
    let namespace = if kind.is_namespaced() {
        namespace.filter(|namespace| !namespace.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
    } else {
        ""
    };
    ObjectRef::new(kind, namespace, name)
}

impl Snapshot {
    /// Puts an object in the place of the one with the same name. A policy is no longer among the refused ones.
    pub fn apply(&mut self, object: Object) {
        let id = object.object_ref();
        self.refused.remove(&id);
        if id.kind == Kind::Secret {
            self.refusals.remove(&id);
            self.unstapled.remove(&id);
        }
        match object {
            Object::Ingress(object, notes) => {
                match notes {
                    Some(notes) => drop(self.rule_notes.insert(&id, notes)),
                    None => drop(self.rule_notes.remove(&id)),
                }
                self.ingresses.insert(&id, object);
            }
            Object::IngressClass(object) => drop(self.ingress_classes.insert(&id, object)),
            Object::GatewayRoute(object) => drop(self.gateway_routes.insert(&id, object)),
            Object::RateLimitPolicy(object) => drop(self.rate_limit_policies.insert(&id, object)),
            Object::AuthPolicy(object) => drop(self.auth_policies.insert(&id, object)),
            Object::Service(object) => drop(self.services.insert(&id, object)),
            Object::EndpointSlice(object) => self.apply_slice(&id, object),
            Object::Secret(object) => drop(self.secrets.insert(&id, object)),
            Object::ConfigMap(object) => drop(self.config_maps.insert(&id, object)),
            Object::ReferenceGrant(object) => drop(self.reference_grants.insert(&id, object)),
        }
    }

    /// Takes an object away, and a refused policy too. Unknown names change nothing.
    pub fn delete(&mut self, id: &ObjectRef) {
        self.refused.remove(id);
        if id.kind == Kind::Secret {
            self.refusals.remove(id);
            self.unstapled.remove(id);
        }
        match id.kind {
            Kind::Ingress => {
                self.rule_notes.remove(id);
                self.ingresses.remove(id);
            }
            Kind::IngressClass => drop(self.ingress_classes.remove(id)),
            Kind::GatewayRoute => drop(self.gateway_routes.remove(id)),
            Kind::RateLimitPolicy => drop(self.rate_limit_policies.remove(id)),
            Kind::AuthPolicy => drop(self.auth_policies.remove(id)),
            Kind::Service => drop(self.services.remove(id)),
            Kind::EndpointSlice => {
                if let Some(old) = self.endpoint_slices.remove(id) {
                    self.unindex_slice(id, &old);
                }
            }
            Kind::Secret => drop(self.secrets.remove(id)),
            Kind::ConfigMap => drop(self.config_maps.remove(id)),
            Kind::ReferenceGrant => drop(self.reference_grants.remove(id)),
        }
    }

    /// Notes that the newest version of a Secret cannot be used, until another comes. The one before stays.
    pub fn refuse_secret(&mut self, id: &ObjectRef, reason: impl Into<Arc<str>>) {
        self.refusals.insert(id, reason.into());
    }

    /// Notes that the OCSP response of a Secret in use is not stapled, until another version of it comes.
    pub fn leave_unstapled(&mut self, id: &ObjectRef, reason: impl Into<Arc<str>>) {
        self.unstapled.insert(id, reason.into());
    }

    /// The object of this name, if it is there.
    pub fn object(&self, id: &ObjectRef) -> Option<Object> {
        let (namespace, name) = (&*id.namespace, &*id.name);
        match id.kind {
            Kind::Ingress => {
                let notes = self.rule_notes.get(namespace, name);
                self.ingresses.get(namespace, name).map(|o| Object::Ingress(Arc::clone(o), notes.cloned()))
            }
            Kind::IngressClass => {
                self.ingress_classes.get(namespace, name).cloned().map(Object::IngressClass)
            }
            Kind::GatewayRoute => self.gateway_routes.get(namespace, name).cloned().map(Object::GatewayRoute),
            Kind::RateLimitPolicy => {
                self.rate_limit_policies.get(namespace, name).cloned().map(Object::RateLimitPolicy)
            }
            Kind::AuthPolicy => self.auth_policies.get(namespace, name).cloned().map(Object::AuthPolicy),
            Kind::Service => self.services.get(namespace, name).cloned().map(Object::Service),
            Kind::EndpointSlice => {
                self.endpoint_slices.get(namespace, name).cloned().map(Object::EndpointSlice)
            }
            Kind::Secret => self.secrets.get(namespace, name).cloned().map(Object::Secret),
            Kind::ConfigMap => self.config_maps.get(namespace, name).cloned().map(Object::ConfigMap),
            Kind::ReferenceGrant => {
                self.reference_grants.get(namespace, name).cloned().map(Object::ReferenceGrant)
            }
        }
    }

    /// All objects, by kind, namespace and name. Refused policies are not among them.
    pub fn objects(&self) -> impl Iterator<Item = Object> {
        let ingresses = self.ingresses.iter_with(&self.rule_notes);
        let ingresses = ingresses.map(|(_, _, o, notes)| Object::Ingress(Arc::clone(o), notes.cloned()));
        let classes =
            self.ingress_classes.iter().map(|(_, _, object)| Object::IngressClass(Arc::clone(object)));
        let routes =
            self.gateway_routes.iter().map(|(_, _, object)| Object::GatewayRoute(Arc::clone(object)));
        let limits =
            self.rate_limit_policies.iter().map(|(_, _, object)| Object::RateLimitPolicy(Arc::clone(object)));
        let auths = self.auth_policies.iter().map(|(_, _, object)| Object::AuthPolicy(Arc::clone(object)));
        let services = self.services.iter().map(|(_, _, object)| Object::Service(Arc::clone(object)));
        let slices =
            self.endpoint_slices.iter().map(|(_, _, object)| Object::EndpointSlice(Arc::clone(object)));
        let secrets = self.secrets.iter().map(|(_, _, object)| Object::Secret(Arc::clone(object)));
        let config_maps = self.config_maps.iter().map(|(_, _, object)| Object::ConfigMap(Arc::clone(object)));
        let grants =
            self.reference_grants.iter().map(|(_, _, object)| Object::ReferenceGrant(Arc::clone(object)));
        let ours = ingresses.chain(classes).chain(routes).chain(limits).chain(auths);
        ours.chain(services).chain(slices).chain(secrets).chain(config_maps).chain(grants)
    }

    /// The EndpointSlices of a Service, by name.
    pub(crate) fn slices_of(
        &self,
        namespace: &str,
        service: &str,
    ) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.slices_by_service.get(namespace, service).into_iter().flat_map(BTreeMap::values)
    }

    fn apply_slice(&mut self, id: &ObjectRef, slice: Arc<EndpointSlice>) {
        if let Some(old) = self.endpoint_slices.insert(id, Arc::clone(&slice)) {
            self.unindex_slice(id, &old);
        }
        if let Some(service) = service_of(&slice) {
            let service = ObjectRef::new(Kind::Service, Arc::clone(&id.namespace), service);
            let mut slices = self.slices_by_service.remove(&service).unwrap_or_default();
            slices.insert(Arc::clone(&id.name), slice);
            self.slices_by_service.insert(&service, slices);
        }
    }

    fn unindex_slice(&mut self, id: &ObjectRef, slice: &EndpointSlice) {
        if let Some(service) = service_of(slice) {
            let service = ObjectRef::new(Kind::Service, Arc::clone(&id.namespace), service);
            if let Some(mut slices) = self.slices_by_service.remove(&service) {
                slices.remove(&id.name);
                if !slices.is_empty() {
                    self.slices_by_service.insert(&service, slices);
                }
            }
        }
    }
}

impl<V> ByName<V> {
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&V> {
        self.namespaces.get(namespace)?.get(name)
    }

    pub(crate) fn get_mut(&mut self, id: &ObjectRef) -> Option<&mut V> {
        self.namespaces.get_mut::<str>(id.namespace.borrow())?.get_mut::<str>(id.name.borrow())
    }

    /// The values of one namespace.
    pub(crate) fn within(&self, namespace: &str) -> impl Iterator<Item = &V> {
        self.namespaces.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// All values, to be changed in place. The stamp stays.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &mut V)> {
        self.namespaces.iter_mut().flat_map(|(namespace, names)| {
            names.iter_mut().map(move |(name, value)| (namespace, name, value))
        })
    }

    /// All values in the order of namespace and name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &V)> {
        self.namespaces
            .iter()
            .flat_map(|(namespace, names)| names.iter().map(move |(name, value)| (namespace, name, value)))
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.namespaces.values().map(BTreeMap::len).sum()
    }

    /// All values with those that `other` has under the same names. Both are sorted, so this is one walk along both
    /// and no look-up.
    pub(crate) fn iter_with<'a, W>(
        &'a self,
        other: &'a ByName<W>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>, &'a V, Option<&'a W>)> {
        let mut others = other.iter().peekable();
        self.iter().map(move |(namespace, name, value)| {
            while others.next_if(|(ns, n, _)| (*ns, *n) < (namespace, name)).is_some() {}
            let same = others.next_if(|(ns, n, _)| (*ns, *n) == (namespace, name));
            (namespace, name, value, same.map(|(_, _, other)| other))
        })
    }

    /// Stands for the present state; equal pointers mean equal states.
    pub(crate) fn stamp(&self) -> Arc<()> {
        Arc::clone(&self.stamp)
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&str, &str, &V) -> bool) {
        for (namespace, names) in &mut self.namespaces {
            names.retain(|name, value| keep(namespace, name, value));
        }
        self.namespaces.retain(|_, names| !names.is_empty());
        self.stamp = Arc::new(());
    }

    pub(crate) fn insert(&mut self, id: &ObjectRef, value: V) -> Option<V> {
        self.stamp = Arc::new(());
        if let Some(names) = self.namespaces.get_mut::<str>(id.namespace.borrow()) {
            return names.insert(Arc::clone(&id.name), value);
        }
        self.namespaces.entry(Arc::clone(&id.namespace)).or_default().insert(Arc::clone(&id.name), value)
    }

    pub(crate) fn remove(&mut self, id: &ObjectRef) -> Option<V> {
        let names = self.namespaces.get_mut::<str>(id.namespace.borrow())?;
        let old = names.remove::<str>(id.name.borrow());
        if names.is_empty() {
            self.namespaces.remove::<str>(id.namespace.borrow());
        }
        if old.is_some() {
            self.stamp = Arc::new(());
        }
        old
    }
}

impl<V> Default for ByName<V> {
    fn default() -> Self {
        Self { namespaces: BTreeMap::new(), stamp: Arc::new(()) }
    }
}

fn service_of(slice: &EndpointSlice) -> Option<&str> {
    slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL).map(String::as_str)
}
