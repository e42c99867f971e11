//! A small API server for tests: objects, lists in pages, watches, and every way in which these can fail. HTTP/1.1 over
//! a real socket, so that the client is the real one.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// How the server treats requests to one collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    #[default]
    Well,
    /// Answers with this status.
    Status(u16),
    /// Takes the request and never answers.
    Silent,
}

/// What the server knows; every change wakes the watches.
#[derive(Clone, Debug, Default)]
struct World {
    version: u64,
    /// By the path of the collection, then `namespace/name`.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    events: Vec<(u64, String, Value)>,
    moods: HashMap<String, Mood>,
    /// Watches from versions before this one are answered with 410.
    oldest: u64,
    /// Counts up to cut all watches.
    cut: u64,
    requests: Vec<String>,
}

/// A running server. Dropping it ends its thread.
#[derive(Debug)]
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    world: watch::Sender<World>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fake {
    pub(super) fn start() -> Self {
        let world = watch::Sender::new(World { version: 100, ..World::default() });
        let (stop, stopped) = oneshot::channel();
        let (sender, address) = std::sync::mpsc::sync_channel(1);
        let shared = world.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                let mut connections = JoinSet::new();
                let accept = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        connections.spawn(serve(stream, shared.clone()));
                    }
                };
                tokio::select! {
                    () = accept => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address: address.recv().unwrap(), world, stop: Some(stop), thread: Some(thread) }
    }

    /// A kubeconfig that leads here.
    pub(super) fn kubeconfig(&self) -> String {
        let server = format!("http://{}", self.address);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "c", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        })
        .to_string()
    }

    /// Puts an object into its collection with a new version, or an old one in its place.
    pub(super) fn apply(&self, collection: &str, mut object: Value) {
        self.world.send_modify(|world| {
            world.version += 1;
            object["metadata"]["resourceVersion"] = json!(world.version.to_string());
            let objects = world.objects.entry(collection.to_owned()).or_default();
            let old = objects.insert(key(&object), object.clone());
            let what = if old.is_some() { "MODIFIED" } else { "ADDED" };
            let event = json!({"type": what, "object": object});
            world.events.push((world.version, collection.to_owned(), event));
        });
    }

    pub(super) fn delete(&self, collection: &str, namespace: &str, name: &str) {
        self.world.send_modify(|world| {
            world.version += 1;
            let objects = world.objects.entry(collection.to_owned()).or_default();
            let mut object = objects.remove(&format!("{namespace}/{name}")).unwrap();
            object["metadata"]["resourceVersion"] = json!(world.version.to_string());
            world.events.push((
                world.version,
                collection.to_owned(),
                json!({"type": "DELETED", "object": object}),
            ));
        });
    }

    pub(super) fn mood(&self, collection: &str, mood: Mood) {
        self.world.send_modify(|world| {
            world.moods.insert(collection.to_owned(), mood);
        });
    }

    /// Ends all watches, as a restart does.
    pub(super) fn cut_watches(&self) {
        self.world.send_modify(|world| world.cut += 1);
    }

    /// Forgets everything up to now: watches from there on get 410.
    pub(super) fn forget(&self) {
        self.world.send_modify(|world| {
            world.version += 1;
            world.oldest = world.version;
            world.events.clear();
        });
    }

    /// Changes objects without telling the watches, as what happens while a watch is away.
    pub(super) fn silently(&self, change: impl FnOnce(&Self)) {
        let events = self.world.borrow().events.clone();
        change(self);
        self.world.send_modify(|world| world.events = events);
    }

    /// The paths that were asked for, with their queries.
    pub(super) fn requests(&self) -> Vec<String> {
        self.world.borrow().requests.clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.take().unwrap().send(()).ok();
        drop(self.thread.take().unwrap().join());
    }
}

fn key(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!("{}/{}", metadata["namespace"].as_str().unwrap_or_default(), metadata["name"].as_str().unwrap())
}

async fn serve(stream: TcpStream, world: watch::Sender<World>) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(first)) = lines.next_line().await {
        let metadata_only = {
            let mut metadata_only = false;
            while let Ok(Some(line)) = lines.next_line().await {
                if line.is_empty() {
                    break;
                }
                metadata_only |= line.to_lowercase().starts_with("accept:") && line.contains("PartialObject");
            }
            metadata_only
        };
        let target = first.split(' ').nth(1).unwrap().to_owned();
        world.send_modify(|world| world.requests.push(target.clone()));
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query: HashMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let request = Request { path, query, metadata_only };
        if request.answer(&mut writer, &world).await.is_err() {
            return;
        }
    }
}

struct Request<'a> {
    path: &'a str,
    query: HashMap<&'a str, &'a str>,
    metadata_only: bool,
}

type Writer = tokio::net::tcp::OwnedWriteHalf;

impl Request<'_> {
    async fn answer(&self, writer: &mut Writer, world: &watch::Sender<World>) -> std::io::Result<()> {
        let now = world.borrow().clone();
        let moods = &now.moods;
        let mood = moods.iter().find(|(path, _)| self.path.starts_with(path.as_str())).map(|(_, mood)| *mood);
        match mood.unwrap_or_default() {
            Mood::Well => {}
            Mood::Status(code) => return status(writer, code).await,
            Mood::Silent => return std::future::pending().await,
        }
        if self.query.contains_key("watch") {
            return self.watch(writer, world).await;
        }
        if let Some(objects) = now.objects.get(self.path) {
            return self.list(writer, objects, now.version).await;
        }
        let known = ["ingresses", "ingressclasses", "services", "endpointslices", "secrets", "configmaps"];
        let own = ["gatewayroutes", "ratelimitpolicies", "authpolicies"];
        let plural = self.path.rsplit('/').next().unwrap();
        if known.contains(&plural) || own.contains(&plural) {
            return self.list(writer, &BTreeMap::new(), now.version).await;
        }
        match self.one(&now) {
            Some(object) => body(writer, 200, &object).await,
            None => status(writer, 404).await,
        }
    }

    /// `/api/v1/namespaces/NS/PLURAL/NAME`
    fn one(&self, now: &World) -> Option<Value> {
        let parts: Vec<&str> = self.path.split('/').collect();
        let at = parts.iter().position(|part| *part == "namespaces")?;
        let collection = format!("{}/{}", parts[..at].join("/"), parts.get(at + 2)?);
        let key = format!("{}/{}", parts.get(at + 1)?, parts.get(at + 3)?);
        now.objects.get(&collection)?.get(&key).cloned()
    }

    async fn list(
        &self,
        writer: &mut Writer,
        objects: &BTreeMap<String, Value>,
        version: u64,
    ) -> std::io::Result<()> {
        // Small pages, so that tests see more than one.
        const PAGE: usize = 2;
        let from: usize = self.query.get("continue").map_or(0, |from| from.parse().unwrap());
        let items: Vec<Value> =
            objects.values().skip(from).take(PAGE).map(|object| self.part(object)).collect();
        let next = if from + PAGE < objects.len() { (from + PAGE).to_string() } else { String::new() };
        let metadata = json!({"resourceVersion": version.to_string(), "continue": next});
        body(writer, 200, &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
            .await
    }

    async fn watch(&self, writer: &mut Writer, world: &watch::Sender<World>) -> std::io::Result<()> {
        let mut worlds = world.subscribe();
        let mut version: u64 = self.query["resourceVersion"].parse().unwrap();
        let (oldest, cut) = (worlds.borrow().oldest, worlds.borrow().cut);
        if version < oldest {
            return status(writer, 410).await;
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        writer.write_all(head.as_bytes()).await?;
        loop {
            let now: World = worlds.borrow_and_update().clone();
            for (at, collection, event) in &now.events {
                if *at > version && collection == self.path {
                    let event = json!({"type": event["type"], "object": self.part(&event["object"])});
                    chunk(writer, &format!("{event}\n")).await?;
                }
            }
            version = version.max(now.version);
            if now.cut > cut || worlds.changed().await.is_err() {
                return writer.write_all(b"0\r\n\r\n").await;
            }
        }
    }

    fn part(&self, object: &Value) -> Value {
        if self.metadata_only { json!({"metadata": object["metadata"]}) } else { object.clone() }
    }
}

async fn chunk(writer: &mut Writer, text: &str) -> std::io::Result<()> {
    writer.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await
}

async fn status(writer: &mut Writer, code: u16) -> std::io::Result<()> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "as the test wants it",
    });
    body(writer, code, &status).await
}

async fn body(writer: &mut Writer, code: u16, value: &Value) -> std::io::Result<()> {
    let text = value.to_string();
    let head = format!(
        "HTTP/1.1 {code} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    writer.write_all(head.as_bytes()).await?;
    writer.write_all(text.as_bytes()).await
}

/// Where objects of the kinds stand that tests use.
pub(super) const ROUTES: &str = "/apis/gateway.baribhara.io/v1alpha1/gatewayroutes";
pub(super) const LIMITS: &str = "/apis/gateway.baribhara.io/v1alpha1/ratelimitpolicies";
pub(super) const SERVICES: &str = "/api/v1/services";
pub(super) const SECRETS: &str = "/api/v1/secrets";
pub(super) const GRANTS: &str = "/apis/gateway.networking.k8s.io/v1/referencegrants";
pub(super) const OLD_GRANTS: &str = "/apis/gateway.networking.k8s.io/v1beta1/referencegrants";
