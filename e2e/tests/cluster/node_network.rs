//! The chart as a DaemonSet on the nodes' network, for clusters without load balancers.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use e2e::client::Request;
use e2e::cluster_api::Api;
use e2e::cluster_release::{CHART, Release};
use e2e::cluster_scene::{End, Scene, until_status};
use e2e::cluster_tools::{kubectl, root, try_helm};
use e2e::until::until_within;
use serde_json::json;

const NAME: &str = "edge-node";
const HOST: &str = "node.example.com";
/// The node, and the port that the chart's example values give the pod there.
const NODE: &str = "10.250.0.1:18080";
const DEADLINE: Duration = Duration::from_secs(30);

struct Uninstall;

impl Drop for Uninstall {
    fn drop(&mut self) {
        drop(try_helm(&["uninstall", NAME, "-n", NAME, "--ignore-not-found", "--wait"]));
    }
}

fn values(file: &str) -> std::path::PathBuf {
    root().join(Path::new(CHART)).join("ci").join(file)
}

#[test]
fn a_daemonset_serves_on_the_nodes_address_and_publishes_what_it_is_told_for_as_long_as_it_is_asked() {
    Release::shared();
    let scene = Scene::new(NAME);
    scene.echo("web", 1, End::Drains);
    let release =
        Release { api: Api::connect(), name: NAME.to_owned(), namespace: NAME.to_owned(), replicas: 1 };
    let uninstall = Uninstall;
    let settings = [
        "crds.install=false".to_owned(),
        format!("fullnameOverride={NAME}"),
        format!("ingressClass.name={NAME}"),
        "publish.addresses={203.0.113.10,edge.example.com}".to_owned(),
    ];
    release.upgrade(CHART, &[values("daemonset.yaml")], &settings);
    kubectl(&["-n", NAME, "rollout", "status", &format!("daemonset/{NAME}"), "--timeout=120s"]);

    let ingress = |class: &str| {
        scene.apply(&format!(
            "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: site, namespace: @NAMESPACE@}}
spec:
  ingressClassName: {class}
  rules:
  - host: {HOST}
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}
"
        ));
    };
    let shown = || {
        let path = format!("/apis/networking.k8s.io/v1/namespaces/{NAME}/ingresses/site");
        scene.api.get(&path)["status"]["loadBalancer"]["ingress"].clone()
    };
    ingress(NAME);
    let node: SocketAddr = NODE.parse().expect("an address");
    until_status(node, &Request::get(HOST, "/"), 200);
    until_within(DEADLINE, "the addresses stand in the status", || {
        (shown() == json!([{"ip": "203.0.113.10"}, {"hostname": "edge.example.com"}])).then_some(())
    });
    ingress("somebody-else");
    until_within(DEADLINE, "the addresses are taken away from what is served no more", || {
        shown().is_null().then_some(())
    });
    until_status(node, &Request::get(HOST, "/"), 404);
    drop(uninstall);
}
