//! A namespace of a test with backends in it, gone when the test ends; and what to look at when it fails.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{self, Request, Response};
use crate::cluster_api::{Api, route_path, routes_path};
use crate::cluster_pod::{Pod, pods, settled};
use crate::cluster_release::{NAME, NAMESPACE};
use crate::cluster_tools::{apply, image, kubectl, try_kubectl};
use crate::until::until_within;

/// How long a namespace may take to go.
const GONE: &str = "--timeout=120s";

/// Deleted when dropped. When the test fails, what the cluster looks like is printed first.
#[derive(Debug)]
pub struct Scene {
    pub api: Api,
    pub namespace: String,
    /// More namespaces, deleted too.
    others: Vec<String>,
}

/// How a backend ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// On SIGTERM it serves on for some seconds, with answers that close their connections.
    Drains,
    /// On SIGTERM it is gone, with all that was in flight.
    DiesAtOnce,
}

impl Scene {
    /// A new, empty namespace; one that a run before has left is deleted first.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(namespace: &str) -> Self {
        let api = Api::connect();
        make(namespace);
        Self { api, namespace: namespace.to_owned(), others: Vec::new() }
    }

    /// One more namespace.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn also(&mut self, namespace: &str) {
        make(namespace);
        self.others.push(namespace.to_owned());
    }

    /// Applies YAML in the namespace of the scene, unless it names another.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub fn apply(&self, yaml: &str) {
        apply(&yaml.replace("@NAMESPACE@", &self.namespace));
    }

    /// A Deployment of echo upstreams with its Service (port 80, named http), ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn echo(&self, name: &str, replicas: usize, end: End) -> Vec<Pod> {
        self.apply(&echo(name, replicas, end));
        self.settled(name, replicas)
    }

    /// Waits until there are exactly so many pods of a Deployment, all ready.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn settled(&self, name: &str, replicas: usize) -> Vec<Pod> {
        settled(&self.api, &self.namespace, &format!("app={name}"), replicas)
    }

    pub fn pods(&self, name: &str) -> Vec<Pod> {
        pods(&self.api, &self.namespace, &format!("app={name}"))
    }

    /// A GatewayRoute that sends a host to a Service, with more fields of its one rule.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub fn route(&self, name: &str, host: &str, service: &str, rule: &Value) {
        self.api.create(&routes_path(&self.namespace), &route(name, host, service, rule));
    }

    /// The path of a GatewayRoute of the scene.
    pub fn path(&self, route: &str) -> String {
        route_path(&self.namespace, route)
    }

    /// Restarts a Deployment pod by pod and waits until the old pods have gone.
    ///
    /// # Panics
    /// When it does not come to its end.
    pub fn roll(&self, name: &str, replicas: usize) -> Vec<Pod> {
        roll(&self.namespace, name);
        self.settled(name, replicas)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if thread::panicking() {
            describe(&self.namespace);
        }
        for namespace in self.others.iter().chain([&self.namespace]) {
            drop(try_kubectl(&["delete", "namespace", namespace, "--ignore-not-found", "--wait=false"]));
        }
    }
}

fn make(namespace: &str) {
    kubectl(&["delete", "namespace", namespace, "--ignore-not-found", GONE]);
    kubectl(&["create", "namespace", namespace]);
}

/// What a person would ask first.
fn describe(namespace: &str) {
    let gateways = format!("app.kubernetes.io/instance={NAME}");
    let questions: [&[&str]; 4] = [
        &["get", "pods", "-A", "-o", "wide"],
        &["-n", namespace, "get", "events", "--sort-by=.lastTimestamp"],
        &["-n", namespace, "get", "gatewayroutes,ratelimitpolicies,authpolicies,ingresses,services"],
        &["-n", NAMESPACE, "logs", "-l", &gateways, "--prefix", "--tail=15"],
    ];
    for question in questions {
        let answer = try_kubectl(question).unwrap_or_else(|said| said);
        eprintln!("--- kubectl {}\n{answer}", question.join(" "));
    }
}

/// Restarts the pods of a Deployment one by one and waits until the new ones are there.
///
/// # Panics
/// When it does not come to its end.
pub fn roll(namespace: &str, name: &str) {
    let deployment = format!("deployment/{name}");
    kubectl(&["-n", namespace, "rollout", "restart", &deployment]);
    kubectl(&["-n", namespace, "rollout", "status", &deployment, "--timeout=180s"]);
}

/// The YAML of [`Scene::echo`], with `@NAMESPACE@` for the namespace.
pub fn echo(name: &str, replicas: usize, end: End) -> String {
    let (repository, tag) = image();
    let drain = match end {
        End::Drains => ", --drain=5s",
        End::DiesAtOnce => "",
    };
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: @NAMESPACE@}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: http}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: @NAMESPACE@}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
{}",
        indented(&echo_pod(&format!("{repository}:{tag}"), drain), 6)
    )
}

/// One pod of echo that is never started again, beside others behind the Service `name`.
pub fn lone_echo(name: &str, number: usize) -> String {
    let (repository, tag) = image();
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}-{number}, namespace: @NAMESPACE@, labels: {{app: {name}}}}}
spec:
  restartPolicy: Never
{}",
        indented(&echo_pod(&format!("{repository}:{tag}"), ""), 2)
    )
}

/// The `spec` of a pod that runs `baribhara echo` and passes Pod Security *restricted*.
fn echo_pod(image: &str, more: &str) -> String {
    format!(
        "terminationGracePeriodSeconds: 15
enableServiceLinks: false
automountServiceAccountToken: false
securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
containers:
- name: echo
  image: \"{image}\"
  imagePullPolicy: IfNotPresent
  args: [echo, \"--listen=0.0.0.0:8080\", --name=$(POD_NAME){more}]
  env: [{{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
  ports: [{{name: http, containerPort: 8080}}]
  readinessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 1}}
  securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
"
    )
}

fn indented(text: &str, by: usize) -> String {
    let space = " ".repeat(by);
    text.lines().map(|line| format!("{space}{line}\n")).collect()
}

/// A GatewayRoute with one rule, to Service port 80, and more fields of that rule.
///
/// # Panics
/// When `rule` is not an object.
pub fn route(name: &str, host: &str, service: &str, rule: &Value) -> Value {
    let mut all = json!({"name": "all", "backendRefs": [{"name": service, "port": 80}]});
    for (field, value) in rule.as_object().expect("fields of a rule") {
        all[field] = value.clone();
    }
    json!({
        "apiVersion": "gateway.baribhara.io/v1alpha1",
        "kind": "GatewayRoute",
        "metadata": {"name": name},
        "spec": {"hostnames": [host], "rules": [all]},
    })
}

/// Fields of a rule whose answers bear a number, by which a change is seen.
pub fn version(number: usize) -> Value {
    let set = json!([{"name": "X-Version", "value": number.to_string()}]);
    json!({"filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": set}}]})
}

/// Asks again and again until the answer has this status.
///
/// # Panics
/// When it does not come, with what came instead.
pub fn until_status(address: SocketAddr, request: &Request, status: u16) -> Response {
    let mut last = String::new();
    let wait = || {
        until_within(Duration::from_secs(30), "an answer", || match client::ask(address, request) {
            Ok(response) if response.status == status => Some(response),
            Ok(response) => {
                last = format!("{} {:?} {}", response.status, response.headers, response.text());
                None
            }
            Err(error) => {
                last = error.to_string();
                None
            }
        })
    };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait)) {
        Ok(response) => response,
        Err(_) => panic!("{address} {request:?} does not answer {status}: {last}"),
    }
}

/// Waits until each of these pods of the gateway answers with this status.
///
/// # Panics
/// When one does not.
pub fn until_all(pods: &[Pod], request: &Request, status: u16) {
    for pod in pods {
        until_status(pod.http(), request, status);
    }
}
