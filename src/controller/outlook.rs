//! What the event loop tells those who speak about the objects (status, the replica's Lease, the last good copy): the
//! objects, how each stands, and how far each published generation goes. Talks to nobody.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ir::{Kind, ObjectRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use translate::{Snapshot, Standing};

#[cfg(test)]
mod tests;

/// How many published generations are remembered with their marks. A data plane that is further behind is spoken of
/// again when it has caught up.
const PUBLISHED_MAX: usize = 16;

/// The objects after one publication.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outlook {
    /// All objects of the moment.
    pub(crate) snapshot: Arc<Snapshot>,
    /// How each Ingress, GatewayRoute and policy of ours stands.
    pub(crate) standings: Arc<BTreeMap<ObjectRef, Arc<Standing>>>,
    /// How far each of the last generations goes, oldest first.
    published: VecDeque<(u64, Marks)>,
}

/// The highest resourceVersion that was taken in, by kind (`GatewayRoute`), or by kind and namespace
/// (`GatewayRoute/shop`) where only some namespaces are watched, because versions in different watches do not follow one
/// another. Only of kinds whose status says whether they are live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Marks {
    highest: BTreeMap<String, u64>,
}

/// How marks are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MarkScope {
    #[default]
    Kind,
    KindAndNamespace,
}

impl Outlook {
    /// The one that follows.
    pub(crate) fn next(
        &self,
        generation: u64,
        marks: &Marks,
        snapshot: &Snapshot,
        standings: Arc<BTreeMap<ObjectRef, Arc<Standing>>>,
    ) -> Self {
        let mut published = self.published.clone();
        // Objects that changed nothing about the config are live with the generation that is there.
        while published.back().is_some_and(|(last, _)| *last >= generation) {
            published.pop_back();
        }
        published.push_back((generation, marks.clone()));
        while published.len() > PUBLISHED_MAX {
            published.pop_front();
        }
        Self { snapshot: Arc::new(snapshot.clone()), standings, published }
    }

    /// How far a data plane has come that serves this generation. `None`: further behind than is remembered.
    pub(crate) fn marks_of(&self, generation: u64) -> Option<&Marks> {
        self.published.iter().rev().find(|(published, _)| *published <= generation).map(|(_, marks)| marks)
    }
}

impl Marks {
    /// Notes the version of an object that was taken in.
    pub(crate) fn take(&mut self, scope: MarkScope, object: &ObjectRef, metadata: &ObjectMeta) {
        if !is_marked(object.kind) {
            return;
        }
        let Some(version) = version(metadata) else { return };
        let mark = self.highest.entry(scope.key(object)).or_default();
        *mark = version.max(*mark);
    }

    /// Whether this version of the object is among what was taken in.
    pub(crate) fn reach(&self, scope: MarkScope, object: &ObjectRef, version: u64) -> bool {
        self.highest.get(&scope.key(object)).is_some_and(|mark| *mark >= version)
    }
}

impl MarkScope {
    fn key(self, object: &ObjectRef) -> String {
        match self {
            Self::Kind => object.kind.as_str().to_owned(),
            Self::KindAndNamespace => format!("{}/{}", object.kind, object.namespace),
        }
    }
}

/// The resourceVersion as a number: since Kubernetes 1.35 those of one kind can be compared as such.
pub(crate) fn version(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_deref()?.parse().ok()
}

/// Whether the status of this kind says if the object is live.
pub(crate) const fn is_marked(kind: Kind) -> bool {
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
