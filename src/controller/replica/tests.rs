//! Whole replicas against a stand-in for the API server, on a clock that turns by itself.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::task::Poll;

use api::{ConditionReason, GatewayRoute};
use http::{Method, Request, Response};
use ir::ObjectRef;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use translate::{Judgement, Object, Snapshot, Standing};

use super::*;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/gw/leases";
const ROUTE: &str = "/apis/gateway.baribhara.io/v1alpha1/namespaces/shop/gatewayroutes/r/status";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";

/// Keeps objects by their paths, under versions, as an API server does.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Store>>);

#[derive(Default)]
struct Store {
    objects: BTreeMap<String, Value>,
    /// How many writes there were; versions begin far beyond those that objects come with.
    writes: u64,
    /// Method, path and query of all calls.
    calls: Vec<String>,
    /// Calls to paths that begin so are forbidden.
    forbidden: Option<&'static str>,
    /// It takes calls and never answers.
    hangs: bool,
}

impl tower_service::Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, kube::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let store = Arc::clone(&self.0);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let hangs = store.lock().unwrap().hangs;
            if hangs {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let (code, answer) = store.lock().unwrap().answer(&head.method, &head.uri, body);
            Ok(Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap())
        })
    }
}

impl Store {
    fn answer(&mut self, method: &Method, uri: &http::Uri, body: Value) -> (u16, Value) {
        self.calls.push(format!("{method} {uri}"));
        let path = uri.path();
        if self.forbidden.is_some_and(|forbidden| path.starts_with(forbidden)) {
            return refusal(403);
        }
        let there = self.objects.get(path).cloned();
        match (method.as_str(), there) {
            ("GET", Some(object)) => (200, object),
            ("GET", None) if path.ends_with("/leases") => {
                let inside = self.objects.iter().filter(|(key, _)| key.starts_with(path));
                let replicas = inside.filter(|(_, lease)| lease["metadata"].get("labels").is_some());
                let items: Vec<&Value> = replicas.map(|(_, lease)| lease).collect();
                (200, json!({"kind": "LeaseList", "apiVersion": "v1", "metadata": {}, "items": items}))
            }
            ("POST", _) => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) { refusal(409) } else { self.keep(&path, body) }
            }
            ("PUT", Some(there))
                if there["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"] =>
            {
                self.keep(path, body)
            }
            ("PUT", Some(_)) => refusal(409),
            ("PATCH", Some(_)) => self.keep(path, body),
            ("PATCH", None) if path.starts_with(LEASES) => self.keep(path, body),
            ("DELETE", Some(object)) => {
                self.objects.remove(path);
                (200, object)
            }
            _ => refusal(404),
        }
    }

    fn keep(&mut self, path: &str, mut object: Value) -> (u16, Value) {
        self.writes += 1;
        object["metadata"]["resourceVersion"] = (1000 + self.writes).to_string().into();
        self.objects.insert(path.to_owned(), object.clone());
        (200, object)
    }
}

fn refusal(code: u16) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        _ => "Conflict",
    };
    let message = format!("the answer is {reason}");
    (
        code,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
            "reason": reason, "message": message,
        }),
    )
}

impl Server {
    /// With the route there.
    fn new() -> Self {
        let server = Self::default();
        server.0.lock().unwrap().objects.insert(ROUTE.to_owned(), json!({}));
        server
    }

    fn object(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }

    fn holder(&self) -> Value {
        self.object(&format!("{LEASES}/lease"))
            .map_or(Value::Null, |lease| lease["spec"]["holderIdentity"].clone())
    }

    fn calls(&self, with: &str) -> usize {
        self.0.lock().unwrap().calls.iter().filter(|call| call.contains(with)).count()
    }

    fn programmed(&self) -> String {
        let status = self.object(ROUTE).unwrap_or_default();
        status["status"]["conditions"][2]["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// A running replica with one route, which its data plane serves.
struct Running {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    state: watch::Receiver<ControlState>,
    /// Kept open: a sender that is lost says that no more will come.
    _feeds: (watch::Sender<Arc<Outlook>>, watch::Sender<Applied>),
}

impl Running {
    fn start(server: &Server, pod: &str, accepted: bool) -> Self {
        let (outlook, outlook_inlet) = watch::channel(Arc::new(outlook(accepted)));
        let (applied, applied_inlet) = watch::channel(Applied { generation: 1 });
        let (state, state_inlet) = watch::channel(ControlState::default());
        let (stop, stop_inlet) = watch::channel(false);
        let settings = ReplicaSettings {
            pod_name: pod.to_owned(),
            namespace: "gw".to_owned(),
            lease_name: "lease".to_owned(),
            ..ReplicaSettings::default()
        };
        let client = Client::new(server.clone(), "gw");
        let inputs = Inputs {
            outlook: outlook_inlet,
            applied: applied_inlet,
            key_sets: watch::channel(Arc::default()).1,
            state,
            stop: stop_inlet,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(run(settings, client, MarkScope::Kind, inputs));
        Self { tasks, stop, state: state_inlet, _feeds: (outlook, applied) }
    }

    fn leads(&self) -> bool {
        self.state.borrow().is_leader
    }

    async fn end(mut self) {
        self.stop.send_replace(true);
        self.tasks.join_next().await.unwrap().unwrap();
    }
}

fn outlook(accepted: bool) -> Outlook {
    let route: GatewayRoute = serde_json::from_value(json!({
        "metadata": {"name": "r", "namespace": "shop", "uid": "u", "generation": 1, "resourceVersion": "7"},
        "spec": {"rules": []},
    }))
    .unwrap();
    let object = Object::GatewayRoute(Arc::new(route));
    let id = object.object_ref();
    let mut marks = Marks::default();
    marks.take(MarkScope::Kind, &id, object.metadata());
    let mut snapshot = Snapshot::default();
    snapshot.apply(object);
    let judgement = |holds, reason| Judgement { holds, reason, message: "so it is".to_owned() };
    let reason = if accepted { ConditionReason::Accepted } else { ConditionReason::Invalid };
    let standing = Standing {
        accepted: judgement(accepted, reason),
        resolved_refs: judgement(true, ConditionReason::ResolvedRefs),
    };
    let standings: BTreeMap<ObjectRef, Arc<Standing>> = BTreeMap::from([(id, Arc::new(standing))]);
    Outlook::default().next(1, &marks, &snapshot, standings.into())
}

/// Waits for it, and says how long by the turned clock.
async fn until(what: &str, is: impl Fn() -> bool) -> Duration {
    let start = now();
    while !is() {
        assert!(now() < start + Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    now() - start
}

#[tokio::test(start_paused = true)]
async fn replicas_agree_on_one_that_says_on_how_many_an_object_is_live() {
    let server = Server::new();
    let (a, b) = (Running::start(&server, "pod-a", true), Running::start(&server, "pod-b", true));
    until("a status", || server.programmed() == "live on 2/2 replicas").await;
    assert_ne!(a.leads(), b.leads(), "exactly one leads");
    assert_eq!(server.holder(), if a.leads() { "pod-a" } else { "pod-b" });
    let body = server.object(ROUTE).unwrap();
    assert_eq!(body["status"]["observedGeneration"], 1);
    assert_eq!(body["metadata"]["uid"], "u");
    let query = "/status?&force=true&fieldManager=gateway.baribhara.io%2Fcontroller";
    assert_eq!(server.calls(query), server.calls("/status"), "server-side apply, as one manager");
    let lease = server.object(&format!("{LEASES}/lease-pod-a")).unwrap();
    assert_eq!(lease["metadata"]["annotations"]["gateway.baribhara.io/applied"], r#"{"GatewayRoute":7}"#);
    assert_eq!(lease["metadata"]["annotations"]["gateway.baribhara.io/ready"], "true");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(server.calls("/status") <= 2, "at rest nothing is written: {}", server.calls("/status"));
    assert_eq!(server.calls(EVENTS), 0, "that all is well is no news");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_hands_over_at_once_and_takes_its_lease_away() {
    let server = Server::new();
    let a = Running::start(&server, "pod-a", true);
    until("a leads", || a.leads()).await;
    let b = Running::start(&server, "pod-b", true);
    until("both are counted", || server.programmed() == "live on 2/2 replicas").await;
    let start = now();
    a.end().await;
    assert!(now() - start < Duration::from_secs(1), "it has nothing to wait for");
    assert_eq!(server.object(&format!("{LEASES}/lease-pod-a")), None);
    let took = until("b leads", || b.leads()).await;
    assert!(took <= Duration::from_millis(2100), "{took:?}");
    let lease = server.object(&format!("{LEASES}/lease")).unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    until("one is counted", || server.programmed() == "live on 1/1 replicas").await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_killed_is_followed_within_fifteen_seconds() {
    let server = Server::new();
    let mut a = Running::start(&server, "pod-a", true);
    until("a leads", || a.leads()).await;
    let b = Running::start(&server, "pod-b", true);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!b.leads());
    a.tasks.shutdown().await;
    let took = until("b leads", || b.leads()).await;
    assert!((7..=13).contains(&took.as_secs()), "{took:?}");
    until("the dead one is counted no more", || server.programmed() == "live on 1/1 replicas").await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_gets_no_answers_leads_no_more_after_six_seconds_and_can_still_stop() {
    let server = Server::new();
    let a = Running::start(&server, "pod-a", true);
    until("a leads", || a.leads()).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    server.0.lock().unwrap().hangs = true;
    let took = until("a leads no more", || !a.leads()).await;
    assert!((4..=6).contains(&took.as_secs()), "{took:?}");
    server.0.lock().unwrap().hangs = false;
    let took = until("a leads again", || a.leads()).await;
    assert!(took <= Duration::from_secs(14), "{took:?}");
    server.0.lock().unwrap().hangs = true;
    let start = now();
    a.end().await;
    assert!(now() - start <= Duration::from_secs(10), "{:?}", now() - start);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_told_by_one_event_whoever_leads() {
    let server = Server::new();
    let a = Running::start(&server, "pod-a", false);
    until("an event", || server.calls(EVENTS) == 1).await;
    let b = Running::start(&server, "pod-b", false);
    a.end().await;
    until("b leads", || b.leads()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let store = server.0.lock().unwrap();
    let events: Vec<&Value> =
        store.objects.iter().filter(|(path, _)| path.starts_with(EVENTS)).map(|(_, event)| event).collect();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["reason"], "Invalid");
    assert_eq!(events[0]["reportingInstance"], "pod-a");
    assert_eq!(events[0].get("series"), None, "the next leader says nothing that people know");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_may_not_write_status_leads_on_and_does_not_knock_all_the_time() {
    let server = Server::new();
    server.0.lock().unwrap().forbidden = Some("/apis/gateway.baribhara.io");
    let a = Running::start(&server, "pod-a", true);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(a.leads());
    assert!((3..=6).contains(&server.calls("/status")), "{}", server.calls("/status"));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_may_not_use_leases_writes_no_status() {
    let server = Server::new();
    server.0.lock().unwrap().forbidden = Some(LEASES);
    let a = Running::start(&server, "pod-a", true);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(!a.leads());
    assert_eq!(server.calls("/status"), 0);
    a.end().await;
}
