//! The gateway installed with Helm from the chart of the checkout. One release serves most tests: it is installed by
//! the first that needs it, and changed by one that needs other values.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::client::Request;
use crate::cluster_api::{Api, core};
use crate::cluster_pod::{Pod, pods, settled};
use crate::cluster_scene::until_status;
use crate::cluster_tools::{helm, image, kubectl, root, try_kubectl};

/// The chart of the checkout.
pub const CHART: &str = "charts/baribhara-gateway";
/// The name of the release, and of its Deployment, Service and Lease.
pub const NAME: &str = "baribhara-gateway";
/// Its namespace.
pub const NAMESPACE: &str = "baribhara-system";
/// Where the values in force are remembered, so that the next test finds them.
const MARK: &str = "e2e.baribhara.io/values";

/// An installed gateway.
#[derive(Clone, Debug)]
pub struct Release {
    pub api: Api,
    pub name: String,
    pub namespace: String,
    /// `0`: an autoscaler decides.
    pub replicas: usize,
}

impl Release {
    /// As an operator gets it: the chart's defaults, three replicas.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn shared() -> Self {
        Self::with_values("shared.yaml", 3)
    }

    /// The shared release with a file of `e2e/values` on top of `shared.yaml`.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn with_values(file: &str, replicas: usize) -> Self {
        let release =
            Self { api: Api::connect(), name: NAME.to_owned(), namespace: NAMESPACE.to_owned(), replicas };
        let files = values_files(file);
        let key = key_of(&files);
        if release.mark() != key {
            release.prepare_namespace();
            release.upgrade(CHART, &files, &[]);
            kubectl(&["annotate", "--overwrite", "namespace", NAMESPACE, &format!("{MARK}={key}")]);
        }
        release.settle();
        release
    }

    /// A release of its own, in a namespace that the caller has made, without CRDs (which the shared one has brought)
    /// and with an IngressClass of its own name.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn own(name: &str, namespace: &str, replicas: usize, settings: &[&str]) -> Self {
        let release =
            Self { api: Api::connect(), name: name.to_owned(), namespace: namespace.to_owned(), replicas };
        let mut all = vec!["crds.install=false".to_owned(), format!("ingressClass.name={name}")];
        all.push(format!("fullnameOverride={name}"));
        all.push(format!("replicaCount={replicas}"));
        all.extend(settings.iter().map(|&setting| setting.to_owned()));
        release.upgrade(CHART, &values_files("shared.yaml"), &all);
        release.settle();
        release
    }

    /// The shared release as it stands, whatever its values.
    pub fn as_it_is(replicas: usize) -> Self {
        Self { api: Api::connect(), name: NAME.to_owned(), namespace: NAMESPACE.to_owned(), replicas }
    }

    /// `helm upgrade --install` from a chart (folder or archive).
    ///
    /// # Panics
    /// When Helm fails.
    pub fn upgrade(&self, chart: &str, files: &[PathBuf], settings: &[String]) {
        let (repository, tag) = image();
        let mut args = vec!["upgrade", "--install", &self.name, chart, "--namespace", &self.namespace];
        let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        for name in &names {
            args.extend(["--values", name]);
        }
        let image = format!("image.repository={repository},image.tag={tag}");
        args.extend(["--set", &image]);
        for setting in settings {
            args.extend(["--set", setting]);
        }
        helm(&args);
    }

    /// Pod Security *restricted*, as a careful cluster has it: what the chart installs must pass.
    ///
    /// # Panics
    /// When kubectl fails.
    pub fn prepare_namespace(&self) {
        if try_kubectl(&["get", "namespace", &self.namespace]).is_err() {
            kubectl(&["create", "namespace", &self.namespace]);
        }
        kubectl(&[
            "label",
            "--overwrite",
            "namespace",
            &self.namespace,
            "pod-security.kubernetes.io/enforce=restricted",
        ]);
    }

    /// Waits until the Deployment has rolled out, no old pod is left, and the Service leads to the new ones.
    ///
    /// # Panics
    /// When it does not.
    pub fn settle(&self) -> Vec<Pod> {
        let deployment = format!("deployment/{}", self.name);
        kubectl(&["-n", &self.namespace, "rollout", "status", &deployment, "--timeout=120s"]);
        let pods = if self.replicas == 0 { self.pods() } else { self.settled(self.replicas) };
        // The node learns of a new Service a moment later.
        until_status(self.service(), &Request::get("nobody.invalid", "/"), 404);
        pods
    }

    /// Waits until there are exactly so many pods, all ready.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn settled(&self, count: usize) -> Vec<Pod> {
        settled(&self.api, &self.namespace, &self.selector(), count)
    }

    /// The pods that are there, old ones among them.
    ///
    /// # Panics
    /// When the API server fails.
    pub fn pods(&self) -> Vec<Pod> {
        pods(&self.api, &self.namespace, &self.selector())
    }

    /// Label selector of the pods.
    pub fn selector(&self) -> String {
        format!("app.kubernetes.io/instance={}", self.name)
    }

    /// The ClusterIP with the port for HTTP.
    ///
    /// # Panics
    /// When the Service has none.
    pub fn service(&self) -> SocketAddr {
        let service = self.api.get(&core(&self.namespace, "services", &self.name));
        let ip = service["spec"]["clusterIP"].as_str().expect("a ClusterIP");
        SocketAddr::new(ip.parse().expect("an address"), 80)
    }

    /// The leader's Lease.
    ///
    /// # Panics
    /// When there is none.
    pub fn lease(&self) -> Value {
        self.api.get(&self.leases_path(&self.name))
    }

    /// The path of a Lease, or with an empty name that of all.
    pub fn leases_path(&self, name: &str) -> String {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/{name}", self.namespace);
        path.trim_end_matches('/').to_owned()
    }

    /// What the pods have logged, the containers before the present ones too.
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for pod in self.pods() {
            for more in [&["--previous"][..], &[]] {
                let mut args = vec!["-n", &self.namespace, "logs", &pod.name];
                args.extend(more);
                logs.push_str(&try_kubectl(&args).unwrap_or_default());
            }
        }
        logs
    }

    /// Forgets which values are in force, so that the next test installs its own.
    ///
    /// # Panics
    /// When kubectl fails.
    pub fn forget_values(&self) {
        kubectl(&["annotate", "namespace", &self.namespace, &format!("{MARK}-")]);
    }

    fn mark(&self) -> String {
        let namespace = self.api.find(&format!("/api/v1/namespaces/{}", self.namespace));
        let mark = namespace.as_ref().and_then(|found| found["metadata"]["annotations"][MARK].as_str());
        mark.unwrap_or_default().to_owned()
    }
}

/// `shared.yaml` and the file, each once.
fn values_files(file: &str) -> Vec<PathBuf> {
    let folder = root().join("e2e/values");
    let mut files = vec![folder.join("shared.yaml")];
    if file != "shared.yaml" {
        files.push(folder.join(file));
    }
    files
}

/// What an install comes from: image, values and the whole chart.
fn key_of(files: &[PathBuf]) -> String {
    let mut hash = DefaultHasher::new();
    image().hash(&mut hash);
    for file in files {
        fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).hash(&mut hash);
    }
    hash_folder(&root().join(CHART), &mut hash);
    format!("{:016x}", hash.finish())
}

fn hash_folder(folder: &Path, hash: &mut DefaultHasher) {
    let mut entries: Vec<_> = fs::read_dir(folder).expect("the chart").flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            hash_folder(&path, hash);
        } else {
            path.hash(hash);
            fs::read(&path).expect("a file of the chart").hash(hash);
        }
    }
}
