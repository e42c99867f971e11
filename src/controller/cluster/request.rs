//! The requests that are made of the API server: lists in pages, watches, single objects. Each has an end in time.
//! Decides nothing about what the answers mean.
//!
//! Why not the ready-made watcher of kube-runtime: it tells nobody when a watch stands again after an error, takes the
//! status of a watch's answer for an event, and its client logs the body of an answer that it cannot read, which may be
//! a Secret's.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use kube::Client;
use kube::api::{GetParams, ListParams, WatchParams};
use kube::core::Request;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::resource::{Resource, Target};
use super::trouble::Trouble;

/// How many objects come in one answer to a list.
const PAGE_OBJECTS: u32 = 500;
/// How long a page of a list or a single object may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long it may take to open a watch. Short, so that a connection that died with an outage is given up soon.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// After so many seconds the API server ends a watch, which is then opened again.
const WATCH_SECONDS: u32 = 50;
/// A watch that is silent for longer than this is dead: the API server would have ended it before.
const SILENCE_MAX: Duration = Duration::from_secs(55);
/// The longest event; an object in etcd is smaller than 2 MiB by far.
const EVENT_BYTES_MAX: u64 = 64 << 20;

/// Whether objects are asked for, or only their metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Metadata,
}

/// One page of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) objects: Vec<Value>,
    /// The version of the whole list.
    pub(super) version: String,
    pub(super) next: Option<String>,
}

/// What a watch tells.
#[derive(Debug)]
pub(super) enum WatchEvent {
    Applied(Value),
    Deleted(Value),
    /// Nothing happened up to this version.
    Bookmark(Value),
    /// The watch ended for this reason.
    Trouble(Trouble),
}

/// An open watch.
pub(super) struct Watch {
    lines: Pin<Box<dyn AsyncBufRead + Send>>,
    resource: Resource,
    target: Target,
}

#[derive(Debug, Deserialize)]
struct ListAnswer {
    #[serde(default)]
    metadata: ListMetadata,
    /// Null where there are none.
    #[serde(default)]
    items: Option<Vec<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "type")]
    what: String,
    object: Value,
}

/// Asks for one page.
pub(super) async fn list(
    client: &Client,
    resource: Resource,
    target: &Target,
    part: Part,
    page: Option<String>,
) -> Result<Page, Trouble> {
    let params = ListParams {
        limit: Some(PAGE_OBJECTS),
        continue_token: page,
        field_selector: target.field_selector(),
        ..ListParams::default()
    };
    let request = Request::new(resource.path(target.namespace.as_deref()));
    let request = match part {
        Part::Whole => request.list(&params),
        Part::Metadata => request.list_metadata(&params),
    };
    let request = request.map_err(|_| Trouble::Garbled)?;
    let text = timeout(ANSWER_MAX, client.request_text(request)).await.map_err(|_| Trouble::Silent)?;
    let permission = || resource.permission("list", target.namespace.clone());
    let text = text.map_err(|error| Trouble::of(&error, permission))?;
    let answer: ListAnswer = serde_json::from_str(&text).map_err(|_| Trouble::Garbled)?;
    let version = answer.metadata.resource_version.filter(|version| !version.is_empty());
    Ok(Page {
        objects: answer.items.unwrap_or_default(),
        version: version.ok_or(Trouble::Garbled)?,
        next: answer.metadata.next.filter(|next| !next.is_empty()),
    })
}

/// Opens a watch from this version on. It stands when this returns.
pub(super) async fn watch(
    client: &Client,
    resource: Resource,
    target: &Target,
    part: Part,
    version: &str,
) -> Result<Watch, Trouble> {
    let params = WatchParams {
        timeout: Some(WATCH_SECONDS),
        bookmarks: true,
        field_selector: target.field_selector(),
        ..WatchParams::default()
    };
    let request = Request::new(resource.path(target.namespace.as_deref()));
    let request = match part {
        Part::Whole => request.watch(&params, version),
        Part::Metadata => request.watch_metadata(&params, version),
    };
    let request = request.map_err(|_| Trouble::Garbled)?;
    let lines = timeout(OPEN_MAX, client.request_stream(request)).await.map_err(|_| Trouble::Silent)?;
    let permission = || resource.permission("watch", target.namespace.clone());
    let lines = lines.map_err(|error| Trouble::of(&error, permission))?;
    Ok(Watch { lines: Box::pin(lines), resource, target: target.clone() })
}

impl Watch {
    /// The next event; `None` when the API server ended the watch, which it does from time to time. Not cancel-safe:
    /// part of a line may be lost.
    pub(super) async fn next(&mut self) -> Option<WatchEvent> {
        let mut line = Vec::new();
        let mut limited = (&mut self.lines).take(EVENT_BYTES_MAX);
        match timeout(SILENCE_MAX, limited.read_until(b'\n', &mut line)).await {
            Err(_) => Some(WatchEvent::Trouble(Trouble::Silent)),
            Ok(Err(error)) => Some(WatchEvent::Trouble(Trouble::Unreachable(error.to_string()))),
            Ok(Ok(0)) => None,
            Ok(Ok(_)) => Some(self.read(&line)),
        }
    }

    fn read(&self, line: &[u8]) -> WatchEvent {
        let Ok(Line { what, object }) = serde_json::from_slice(line) else {
            return WatchEvent::Trouble(Trouble::Garbled);
        };
        match what.as_str() {
            "ADDED" | "MODIFIED" => WatchEvent::Applied(object),
            "DELETED" => WatchEvent::Deleted(object),
            "BOOKMARK" => WatchEvent::Bookmark(object),
            "ERROR" => {
                let code = object.get("code").and_then(Value::as_u64).unwrap_or(500);
                let words = object.get("message").and_then(Value::as_str).unwrap_or_default();
                let permission = || self.resource.permission("watch", self.target.namespace.clone());
                let status = u16::try_from(code).unwrap_or(500);
                WatchEvent::Trouble(Trouble::of_status(status, words, permission))
            }
            _ => WatchEvent::Trouble(Trouble::Garbled),
        }
    }
}

/// Asks for one object of this kind; `None`: there is none.
pub(super) async fn get(
    client: &Client,
    resource: Resource,
    object: &ir::ObjectRef,
) -> Result<Option<Value>, Trouble> {
    let namespace = object.kind.is_namespaced().then_some(&*object.namespace);
    let request = Request::new(resource.path(namespace)).get(&object.name, &GetParams::default());
    let request = request.map_err(|_| Trouble::Garbled)?;
    let text = timeout(ANSWER_MAX, client.request_text(request)).await.map_err(|_| Trouble::Silent)?;
    let permission = || resource.permission("get", namespace.map(|_| object.namespace.clone()));
    match text.map_err(|error| Trouble::of(&error, permission)) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|_| Trouble::Garbled),
        Err(Trouble::Absent) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}
