//! The API server through one open client: objects as JSON by their paths, and watches with the time of each event.
//! What takes part in a measurement goes this way; the rest is kubectl's (`cluster_tools`).

use std::future::Future;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _};
// Only for its feature, which says to the client what version of Kubernetes it speaks to.
use k8s_openapi as _;
use kube::core::WatchEvent;
use serde_json::Value;
use tokio::runtime::{Builder, Handle};

use crate::cluster_tools::script;
use crate::until::until_within;

/// The longest wait for an answer. A client that is asked while the API server is away fails at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests at a time when many objects are made.
const AT_ONCE: usize = 16;
/// Events that may wait for the test.
const EVENTS_MAX: usize = 100_000;

/// One client, with its connection kept open.
#[derive(Clone, Debug)]
pub struct Api {
    client: Client,
    handle: Handle,
}

#[derive(Clone)]
struct Client(kube::Client);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    pub change: Change,
    pub object: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

/// The events of one collection, from the moment of [`Api::watch`] on.
#[derive(Debug)]
pub struct Watch(Receiver<Seen>);

impl Api {
    /// # Panics
    /// Outside of the cluster, or without its kubeconfig.
    pub fn connect() -> Self {
        script();
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        // Drives what the client and its watches do beside the thread that asks.
        thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        let client = handle.block_on(async {
            let mut config = kube::Config::infer().await.expect("a kubeconfig");
            config.default_retry = false;
            kube::Client::try_from(config).expect("a client")
        });
        Self { client: Client(client), handle }
    }

    /// # Errors
    /// As the API server or the connection has it.
    pub fn try_get(&self, path: &str) -> Result<Value, kube::Error> {
        self.handle.block_on(self.send("GET", path, None))
    }

    /// # Panics
    /// When there is no such object.
    pub fn get(&self, path: &str) -> Value {
        self.try_get(path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// `None`: there is no such object (or no such kind).
    ///
    /// # Panics
    /// When the API server fails.
    pub fn find(&self, path: &str) -> Option<Value> {
        match self.try_get(path) {
            Ok(object) => Some(object),
            Err(error) if is_not_found(&error) => None,
            Err(error) => panic!("GET {path}: {error}"),
        }
    }

    /// The objects of a collection.
    ///
    /// # Panics
    /// When the API server fails.
    pub fn list(&self, path: &str) -> Vec<Value> {
        let mut list = self.get(path);
        let Value::Array(items) = list["items"].take() else { panic!("GET {path}: not a list: {list}") };
        items
    }

    /// # Panics
    /// When it is refused.
    pub fn create(&self, collection: &str, object: &Value) -> Value {
        self.handle
            .block_on(self.send("POST", collection, Some(("application/json", object))))
            .unwrap_or_else(|error| panic!("POST {collection}: {error}\n{object}"))
    }

    /// Creates these objects, many at a time.
    ///
    /// # Panics
    /// When one is refused.
    pub fn create_all(&self, collection: &str, objects: &[Value]) {
        let requests = futures_util::stream::iter(objects)
            .map(|object| self.send("POST", collection, Some(("application/json", object))))
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| async { Ok(()) });
        self.handle.block_on(requests).unwrap_or_else(|error| panic!("POST {collection}: {error}"));
    }

    /// # Errors
    /// As the API server or the connection has it.
    pub fn try_patch(&self, path: &str, patch: &Value) -> Result<Value, kube::Error> {
        self.handle.block_on(self.send("PATCH", path, Some(("application/merge-patch+json", patch))))
    }

    /// A merge patch.
    ///
    /// # Panics
    /// When it is refused.
    pub fn patch(&self, path: &str, patch: &Value) -> Value {
        self.try_patch(path, patch).unwrap_or_else(|error| panic!("PATCH {path}: {error}\n{patch}"))
    }

    /// Writes a part of the status as another controller would: applied on the server, by a field manager of its own.
    ///
    /// # Panics
    /// When it is refused.
    pub fn apply_status(&self, path: &str, part: &Value) {
        let whole = self.get(path);
        let mut object = part.clone();
        for field in ["apiVersion", "kind"] {
            object[field] = whole[field].clone();
        }
        let path = format!("{path}/status?fieldManager=another-controller&force=true");
        self.handle
            .block_on(self.send("PATCH", &path, Some(("application/apply-patch+yaml", &object))))
            .unwrap_or_else(|error| panic!("PATCH {path}: {error}\n{object}"));
    }

    /// Deletes an object, if it is there.
    ///
    /// # Panics
    /// When the API server fails.
    pub fn delete(&self, path: &str) {
        match self.handle.block_on(self.send("DELETE", path, None)) {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => {}
            Err(error) => panic!("DELETE {path}: {error}"),
        }
    }

    /// Watches a collection from now on.
    ///
    /// # Panics
    /// When it cannot be listed.
    pub fn watch(&self, path: &str) -> Watch {
        let now = self.get(path)["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}watch=true&timeoutSeconds=3600&resourceVersion={now}");
        let (sender, events) = sync_channel(EVENTS_MAX);
        self.handle.spawn(follow(self.client.0.clone(), path, sender));
        Watch(events)
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Value, kube::Error> {
        let mut request = http::Request::builder().method(method).uri(path);
        if let Some((kind, _)) = body {
            request = request.header("content-type", kind);
        }
        let bytes = body.map(|(_, object)| object.to_string().into_bytes()).unwrap_or_default();
        let request = request.body(bytes).expect("a request");
        within(self.client.0.request(request)).await
    }
}

/// An API server that takes connections and says nothing is a failure too.
async fn within<T>(answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    tokio::time::timeout(PATIENCE, answer)
        .await
        .unwrap_or_else(|_| Err(kube::Error::Service("no answer of the API server".into())))
}

/// Ends with the connection, or when nobody listens.
async fn follow(client: kube::Client, path: String, sender: SyncSender<Seen>) {
    let request = http::Request::get(&path).body(Vec::new()).expect("a request");
    let Ok(events) = client.request_events::<Value>(request).await else { return };
    let mut events = std::pin::pin!(events);
    while let Some(Ok(event)) = events.next().await {
        let (change, object) = match event {
            WatchEvent::Added(object) => (Change::Added, object),
            WatchEvent::Modified(object) => (Change::Modified, object),
            WatchEvent::Deleted(object) => (Change::Deleted, object),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(_) => return,
        };
        if sender.try_send(Seen { at: Instant::now(), change, object }).is_err() {
            return;
        }
    }
}

impl Watch {
    /// The events that have arrived.
    pub fn so_far(&self) -> Vec<Seen> {
        self.0.try_iter().collect()
    }

    /// The next event for which this holds.
    ///
    /// # Panics
    /// When none comes in time, or the watch has ended.
    pub fn next(&self, patience: Duration, what: &str, holds: impl Fn(&Seen) -> bool) -> Seen {
        let deadline = Instant::now() + patience;
        loop {
            match self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(seen) if holds(&seen) => return seen,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("waited {patience:?} in vain for an event: {what}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the watch ended before the event: {what}"),
            }
        }
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether nobody answers: the API server is away, which is not the same as a refusal.
pub fn is_away(error: &kube::Error) -> bool {
    !matches!(error, kube::Error::Api(_))
}

/// The path of one of our objects.
pub fn ours(namespace: &str, plural: &str, name: &str) -> String {
    format!("/apis/gateway.baribhara.io/v1alpha1/namespaces/{namespace}/{plural}/{name}")
}

/// The path of a GatewayRoute.
pub fn route_path(namespace: &str, name: &str) -> String {
    ours(namespace, "gatewayroutes", name)
}

/// The path of the GatewayRoutes of a namespace.
pub fn routes_path(namespace: &str) -> String {
    ours(namespace, "gatewayroutes", "").trim_end_matches('/').to_owned()
}

/// The path of an object of the core group: `core("shop", "services", "web")`.
pub fn core(namespace: &str, plural: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/{plural}/{name}")
}

/// A condition of an object's status.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Waits until a condition of the object has this status *and* is about the object as it stands now; returns it.
///
/// # Panics
/// When it does not come, with the status that stands there instead.
pub fn until_condition(api: &Api, path: &str, kind: &str, status: &str) -> Value {
    let mut last = Value::Null;
    let wait = || {
        until_within(PATIENCE, "the condition", || {
            last = api.get(path);
            let found = condition(&last, kind)?;
            let now = found["observedGeneration"] == last["metadata"]["generation"];
            (now && found["status"] == status).then(|| found.clone())
        })
    };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait)) {
        Ok(found) => found,
        Err(_) => panic!("{path}: {kind} is not {status}: {}", last["status"]),
    }
}
