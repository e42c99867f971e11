//! Look-ups in the snapshot that remember what they found, so that a result can be kept for as long as it holds.

use std::sync::Arc;

use ir::{Certificate, ObjectRef};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};

use crate::certificate::Certificates;
use crate::rule_notes::RuleNotes;
use crate::selection::Selection;
use crate::snapshot::Snapshot;
use crate::{Settings, grant};

/// The only way in which the translation of one object sees other objects.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    snapshot: &'a Snapshot,
    settings: &'a Settings,
    certificates: &'a Certificates,
    dependencies: Vec<Dependency>,
}

/// One look-up and what it found. Holding the `Arc` keeps its address from being used again.
#[derive(Debug)]
pub(crate) struct Dependency {
    namespace: Box<str>,
    name: Box<str>,
    found: Found,
}

#[derive(Debug)]
enum Found {
    Service(Option<Arc<Service>>),
    Secret(Option<Arc<Secret>>),
    ConfigMap(Option<Arc<ConfigMap>>),
    /// Whether an object may name a Service of another namespace.
    Permission {
        from: ObjectRef,
        permitted: bool,
    },
    /// All Secrets that a selection takes.
    Selected(Selection, Vec<Arc<Secret>>),
    /// Why the newest version of a Secret is not used.
    Refusal(Option<Arc<str>>),
    /// Why the OCSP response of a Secret is not stapled.
    Unstapled(Option<Arc<str>>),
}

/// The states of the maps that a [`Reader`] can look into.
#[derive(Clone, Debug)]
pub(crate) struct ReadStamps {
    services: Arc<()>,
    secrets: Arc<()>,
    config_maps: Arc<()>,
    reference_grants: Arc<()>,
    refusals: Arc<()>,
    unstapled: Arc<()>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        settings: &'a Settings,
        certificates: &'a Certificates,
    ) -> Self {
        Self { snapshot, settings, certificates, dependencies: Vec::new() }
    }

    pub(crate) fn settings(&self) -> &'a Settings {
        self.settings
    }

    /// What the annotations of an Ingress say as fields of a rule. They are a part of it, so that nothing is remembered.
    pub(crate) fn rule_notes(&self, ingress: &ObjectRef) -> Option<&'a Arc<RuleNotes>> {
        self.snapshot.rule_notes.get(&ingress.namespace, &ingress.name)
    }

    pub(crate) fn service(&mut self, namespace: &str, name: &str) -> Option<&'a Arc<Service>> {
        let found = self.snapshot.services.get(namespace, name);
        self.remember(namespace, name, Found::Service(found.cloned()));
        found
    }

    pub(crate) fn secret(&mut self, namespace: &str, name: &str) -> Option<&'a Arc<Secret>> {
        let found = self.snapshot.secrets.get(namespace, name);
        self.remember(namespace, name, Found::Secret(found.cloned()));
        found
    }

    /// The Secrets that a selection takes, by name.
    pub(crate) fn selected(&mut self, selection: Selection) -> Vec<Arc<Secret>> {
        let found = selected(self.snapshot, &selection);
        self.remember("", "", Found::Selected(selection, found.clone()));
        found
    }

    /// The certificate of a Secret, which a result depends on by [`Self::secret`].
    pub(crate) fn certificate(&mut self, namespace: &str, name: &str) -> Option<Arc<Certificate>> {
        self.secret(namespace, name)?;
        self.certificates.get(namespace, name).cloned()
    }

    /// Why the newest version of a Secret is not used.
    pub(crate) fn refusal(&mut self, namespace: &str, name: &str) -> Option<&'a Arc<str>> {
        let found = self.snapshot.refusals.get(namespace, name);
        self.remember(namespace, name, Found::Refusal(found.cloned()));
        found
    }

    /// Why the OCSP response of a Secret is not stapled.
    pub(crate) fn unstapled(&mut self, namespace: &str, name: &str) -> Option<&'a Arc<str>> {
        let found = self.snapshot.unstapled.get(namespace, name);
        self.remember(namespace, name, Found::Unstapled(found.cloned()));
        found
    }

    pub(crate) fn config_map(&mut self, namespace: &str, name: &str) -> Option<&'a Arc<ConfigMap>> {
        let found = self.snapshot.config_maps.get(namespace, name);
        self.remember(namespace, name, Found::ConfigMap(found.cloned()));
        found
    }

    /// Whether a ReferenceGrant lets `from` name a Service of another namespace.
    pub(crate) fn permits_service(&mut self, from: &ObjectRef, namespace: &str, name: &str) -> bool {
        let permitted = grant::permits_service(self.snapshot, from, namespace, name);
        self.remember(namespace, name, Found::Permission { from: from.clone(), permitted });
        permitted
    }

    pub(crate) fn into_dependencies(self) -> Vec<Dependency> {
        self.dependencies
    }

    fn remember(&mut self, namespace: &str, name: &str, found: Found) {
        self.dependencies.push(Dependency { namespace: namespace.into(), name: name.into(), found });
    }
}

impl Dependency {
    /// Whether the look-up would find the same object again.
    pub(crate) fn holds(&self, snapshot: &Snapshot) -> bool {
        let (namespace, name) = (&*self.namespace, &*self.name);
        match &self.found {
            Found::Service(found) => same(found.as_ref(), snapshot.services.get(namespace, name)),
            Found::Secret(found) => same(found.as_ref(), snapshot.secrets.get(namespace, name)),
            Found::ConfigMap(found) => same(found.as_ref(), snapshot.config_maps.get(namespace, name)),
            Found::Permission { from, permitted } => {
                grant::permits_service(snapshot, from, namespace, name) == *permitted
            }
            Found::Selected(selection, found) => {
                let now = selected(snapshot, selection);
                now.len() == found.len() && now.iter().zip(found).all(|(now, then)| Arc::ptr_eq(now, then))
            }
            Found::Refusal(found) => found.as_ref() == snapshot.refusals.get(namespace, name),
            Found::Unstapled(found) => found.as_ref() == snapshot.unstapled.get(namespace, name),
        }
    }
}

impl ReadStamps {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        Self {
            services: snapshot.services.stamp(),
            secrets: snapshot.secrets.stamp(),
            config_maps: snapshot.config_maps.stamp(),
            reference_grants: snapshot.reference_grants.stamp(),
            refusals: snapshot.refusals.stamp(),
            unstapled: snapshot.unstapled.stamp(),
        }
    }

    /// Equal stamps: every look-up finds what it found before, so none needs to be made again.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.services, &other.services)
            && Arc::ptr_eq(&self.secrets, &other.secrets)
            && Arc::ptr_eq(&self.config_maps, &other.config_maps)
            && Arc::ptr_eq(&self.reference_grants, &other.reference_grants)
            && Arc::ptr_eq(&self.refusals, &other.refusals)
            && Arc::ptr_eq(&self.unstapled, &other.unstapled)
    }
}

fn selected(snapshot: &Snapshot, selection: &Selection) -> Vec<Arc<Secret>> {
    let is_taken = |secret: &&Arc<Secret>| {
        secret.metadata.labels.as_ref().is_some_and(|labels| selection.takes(&selection.namespace, labels))
    };
    snapshot.secrets.within(&selection.namespace).filter(is_taken).cloned().collect()
}

/// Both missing, or the very same object.
pub(crate) fn same<T>(left: Option<&Arc<T>>, right: Option<&Arc<T>>) -> bool {
    match (left, right) {
        (None, None) => true,
        (Some(left), Some(right)) => Arc::ptr_eq(left, right),
        (None, Some(_)) | (Some(_), None) => false,
    }
}
