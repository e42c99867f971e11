//! Reads a cluster once, for commands that look and do not serve. Everything is listed, nothing is watched.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use ir::{Kind, ObjectRef};
use kube::Client;
use tokio::time::timeout;
use translate::{Selection, Settings};

use super::intake::{self, Ledger};
use super::keeper::labels_of;
use super::request::{self, Part};
use super::resource::{Resource, Target};
use super::stream::Event;
use super::trouble::Trouble;
use super::{ClusterSettings, client, is_optional, runtime};
use crate::document;
use crate::error::ControllerError;
use crate::folder_source::Loaded;
use crate::schema::{CertificateCheck, Schemas};
use crate::source::{Batch, Change};

/// How long a command waits for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How many requests are made at once.
const REQUESTS_MAX: usize = 16;

/// Lists all objects of a cluster.
///
/// # Errors
/// There is no way to the cluster, it does not answer, or it does not allow to read something.
pub fn load_cluster(
    cluster: &ClusterSettings,
    settings: Settings,
    check: CertificateCheck,
) -> Result<Loaded, ControllerError> {
    let runtime = runtime()?;
    let (client, url) = client::client(cluster.kubeconfig.as_deref(), &runtime)?;
    let batch = runtime.block_on(read(&client, cluster, &settings, check)).map_err(|trouble| {
        if let Trouble::Forbidden(permission) = &trouble {
            return ControllerError::PermissionMissing { url, permission: permission.to_string() };
        }
        ControllerError::ClusterUnreadable { url, reason: trouble.to_string() }
    })?;
    Ok(Loaded::of(batch, settings))
}

async fn read(
    client: &Client,
    cluster: &ClusterSettings,
    settings: &Settings,
    check: CertificateCheck,
) -> Result<Batch, Trouble> {
    let schemas = Arc::new(Schemas::compile(check));
    let targets = Target::all(&cluster.watch_namespaces, None);
    let targets = targets.into_iter().filter(|target| match target.kind {
        // Only those that are named are read.
        Kind::Secret | Kind::ConfigMap => false,
        Kind::Ingress
        | Kind::IngressClass
        | Kind::GatewayRoute
        | Kind::RateLimitPolicy
        | Kind::AuthPolicy
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::ReferenceGrant => true,
    });
    let mut batch = Batch::new();
    let mut selections: BTreeSet<Selection> = BTreeSet::new();
    let mut names: BTreeSet<ObjectRef> = settings.named_secrets().into_iter().collect();
    for target in targets {
        let mut ledger = Ledger::new(target.kind, Arc::clone(&schemas));
        let step = match list(client, &target, &mut ledger).await {
            Ok(()) => ledger.take(Event::ListEnds),
            Err(Trouble::Absent) => ledger.take(Event::NoKind),
            Err(Trouble::Forbidden(_)) if is_optional(&target, cluster) => ledger.take(Event::NoKind),
            Err(trouble) => return Err(trouble),
        };
        batch.extend(step.batch);
        names.extend(step.gained);
        selections.extend(step.selected);
    }
    for target in Target::all(&cluster.watch_namespaces, None) {
        if target.kind == Kind::Secret && !selections.is_empty() {
            names.extend(selected(client, &target, &selections).await?);
        }
    }
    let fetches = stream::iter(names).map(|object| fetch(client, object)).buffer_unordered(REQUESTS_MAX);
    for fetched in fetches.collect::<Vec<_>>().await {
        let Some((object, value)) = fetched? else { continue };
        batch.extend(intake::fetched(&object, value, &schemas));
    }
    batch.push(Change::Synced);
    Ok(batch)
}

async fn list(client: &Client, target: &Target, ledger: &mut Ledger) -> Result<(), Trouble> {
    for resource in Resource::versions(target.kind) {
        let mut next = None;
        ledger.take(Event::ListBegins);
        loop {
            let request = request::list(client, *resource, target, Part::Whole, next);
            let page = match timeout(ANSWER_MAX, request).await.unwrap_or(Err(Trouble::Silent)) {
                Ok(page) => page,
                Err(Trouble::Absent) => break,
                Err(trouble) => return Err(trouble),
            };
            ledger.take(Event::Page(page.objects));
            next = page.next;
            if next.is_none() {
                return Ok(());
            }
        }
    }
    Err(Trouble::Absent)
}

/// The Secrets that one of these takes by their labels. Only metadata is read.
async fn selected(
    client: &Client,
    target: &Target,
    selections: &BTreeSet<Selection>,
) -> Result<Vec<ObjectRef>, Trouble> {
    let Some(resource) = Resource::versions(target.kind).first().copied() else { return Ok(Vec::new()) };
    let (mut found, mut next) = (Vec::new(), None);
    loop {
        let request = request::list(client, resource, target, Part::Metadata, next);
        let page = timeout(ANSWER_MAX, request).await.unwrap_or(Err(Trouble::Silent))?;
        for value in &page.objects {
            let Some(secret) = document::object_ref(target.kind, value) else { continue };
            let labels = labels_of(value);
            if selections.iter().any(|one| one.takes(&secret.namespace, &labels)) {
                found.push(secret);
            }
        }
        next = page.next;
        if next.is_none() {
            return Ok(found);
        }
    }
}

async fn fetch(
    client: &Client,
    object: ObjectRef,
) -> Result<Option<(ObjectRef, serde_json::Value)>, Trouble> {
    let Some(resource) = Resource::versions(object.kind).first().copied() else { return Ok(None) };
    let request = request::get(client, resource, &object);
    let value = timeout(ANSWER_MAX, request).await.unwrap_or(Err(Trouble::Silent))?;
    Ok(value.map(|value| (object, value)))
}
