//! What a gateway may read and lead to: only its namespaces, other namespaces with a ReferenceGrant, and nothing
//! outside of the cluster.

use std::time::{Duration, Instant};

use e2e::client::Request;
use e2e::cluster_api::{condition, routes_path, until_condition};
use e2e::cluster_release::{NAMESPACE, Release};
use e2e::cluster_report::{measured, ms};
use e2e::cluster_scene::{End, Scene, echo, route, until_all};
use e2e::cluster_tools::{apply, helm, kubectl, try_kubectl};
use e2e::until::until_within;
use serde_json::json;

/// ReferenceGrant as the Gateway API has it, with what is read of it; both versions have the same fields.
const GRANTS: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: referencegrants.gateway.networking.k8s.io
  annotations: {api-approved.kubernetes.io: \"https://github.com/kubernetes-sigs/gateway-api/pull/4288\"}
spec:
  group: gateway.networking.k8s.io
  names: {kind: ReferenceGrant, plural: referencegrants, singular: referencegrant, listKind: ReferenceGrantList}
  scope: Namespaced
  versions:
  - {name: v1, served: true, storage: false, schema: @SCHEMA@}
  - {name: v1beta1, served: true, storage: true, schema: @SCHEMA@}
";
const SCHEMA: &str = "{openAPIV3Schema: {type: object, properties: {spec: {type: object, \
                      x-kubernetes-preserve-unknown-fields: true}}}}";
const CRD: &str = "referencegrants.gateway.networking.k8s.io";

fn grant(version: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/{version}
kind: ReferenceGrant
metadata: {{name: shop, namespace: grants-to}}
spec:
  from: [{{group: gateway.baribhara.io, kind: GatewayRoute, namespace: grants-from}}]
  to: [{{group: \"\", kind: Service, name: web}}]
"
    )
}

#[test]
fn a_reference_to_another_namespace_needs_a_grant_which_may_come_and_go() {
    let release = Release::shared();
    // Their absence is no error: until now the cluster did not know this kind.
    kubectl(&["delete", "crd", CRD, "--ignore-not-found"]);
    let mut scene = Scene::new("grants-from");
    scene.also("grants-to");
    apply(&echo("web", 1, End::Drains).replace("@NAMESPACE@", "grants-to"));
    kubectl(&["-n", "grants-to", "rollout", "status", "deployment/web", "--timeout=60s"]);
    let mut object = route("shop", "grants.example.com", "web", &json!({}));
    object["spec"]["rules"][0]["backendRefs"][0]["namespace"] = json!("grants-to");
    scene.api.create(&routes_path("grants-from"), &object);

    let path = scene.path("shop");
    let pods = release.settled(3);
    let request = Request::get("grants.example.com", "/");
    let refused = until_condition(&scene.api, &path, "ResolvedRefs", "False");
    assert_eq!(refused["reason"], "RefNotPermitted", "{refused}");
    until_all(&pods, &request, 500);

    let cleanup = Crd;
    apply(&GRANTS.replace("@SCHEMA@", SCHEMA));
    kubectl(&["wait", "--for=condition=Established", "crd", CRD, "--timeout=30s"]);
    until_applied(&grant("v1"));
    let since = Instant::now();
    until_within(Duration::from_secs(120), "the first grant permits the reference", || {
        let object = scene.api.get(&path);
        (condition(&object, "ResolvedRefs")?["status"] == "True").then_some(())
    });
    until_all(&pods, &request, 200);
    measured("first ReferenceGrant of a new CRD to its reference live", ms(since.elapsed()), "");

    let since = Instant::now();
    kubectl(&["-n", "grants-to", "delete", CRD, "shop"]);
    until_all(&pods, &request, 500);
    measured("ReferenceGrant deleted to its reference refused on 3 pods", ms(since.elapsed()), "");
    until_applied(&grant("v1beta1"));
    let since = Instant::now();
    until_all(&pods, &request, 200);
    measured("ReferenceGrant (v1beta1) back to its reference live on 3 pods", ms(since.elapsed()), "");
    until_condition(&scene.api, &path, "ResolvedRefs", "True");
    drop(cleanup);
    until_condition(&scene.api, &path, "ResolvedRefs", "False");
    until_all(&pods, &request, 500);
}

/// A kind that is new may need a moment until the API server takes objects of it.
fn until_applied(yaml: &str) {
    until_within(Duration::from_secs(20), "the grant is taken", || e2e::cluster_tools::try_apply(yaml).ok());
}

struct Crd;

impl Drop for Crd {
    fn drop(&mut self) {
        drop(try_kubectl(&["delete", "crd", CRD, "--ignore-not-found"]));
    }
}

#[test]
fn with_watch_namespaces_only_they_are_served_and_only_they_can_be_read() {
    Release::shared();
    let mut scene = Scene::new("scope-release");
    for namespace in ["scope-in", "scope-out"] {
        scene.also(namespace);
        apply(&echo("web", 1, End::Drains).replace("@NAMESPACE@", namespace));
    }
    let uninstall = Uninstall;
    let release = Release::own("scope", "scope-release", 1, &["watchNamespaces={scope-in}"]);
    for namespace in ["scope-in", "scope-out"] {
        kubectl(&["-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s"]);
        let mut object = route("shop", &format!("{namespace}.example.com"), "web", &json!({}));
        object["spec"]["ingressClassName"] = json!("scope");
        scene.api.create(&routes_path(namespace), &object);
    }
    let inside = e2e::cluster_api::route_path("scope-in", "shop");
    until_condition(&scene.api, &inside, "Programmed", "True");
    let pods = release.settled(1);
    until_all(&pods, &Request::get("scope-in.example.com", "/"), 200);
    until_all(&pods, &Request::get("scope-out.example.com", "/"), 404);
    let outside = scene.api.get(&e2e::cluster_api::route_path("scope-out", "shop"));
    assert!(condition(&outside, "Accepted").is_none(), "a route out of scope has a status: {outside}");
    let account = "--as=system:serviceaccount:scope-release:scope";
    let may = |namespace: &str| {
        try_kubectl(&["auth", "can-i", "list", "secrets", account, "-n", namespace]).is_ok()
    };
    assert!(may("scope-in"), "it may not read what it serves");
    for namespace in ["scope-out", "scope-release", "default", NAMESPACE] {
        assert!(!may(namespace), "it may read Secrets in {namespace}");
    }
    drop(uninstall);
}

struct Uninstall;

impl Drop for Uninstall {
    fn drop(&mut self) {
        drop(e2e::cluster_tools::try_helm(&[
            "uninstall",
            "scope",
            "-n",
            "scope-release",
            "--ignore-not-found",
        ]));
    }
}

#[test]
fn objects_lead_nowhere_outside_of_the_cluster_nor_to_the_node_itself() {
    let release = Release::shared();
    let scene = Scene::new("outside");
    scene.apply(
        "apiVersion: v1
kind: Service
metadata: {name: external, namespace: @NAMESPACE@}
spec: {type: ExternalName, externalName: example.com, ports: [{port: 80}]}
---
apiVersion: gateway.baribhara.io/v1alpha1
kind: GatewayRoute
metadata: {name: address, namespace: @NAMESPACE@}
spec:
  hostnames: [address.example.com]
  rules: [{name: all, backendRefs: [{address: 10.250.0.1, port: 10250}]}]
---
apiVersion: v1
kind: Service
metadata: {name: metadata, namespace: @NAMESPACE@}
spec: {ports: [{name: http, port: 80}]}
",
    );
    scene.route("external", "external.example.com", "external", &json!({}));
    scene.route("own", "own.example.com", "own", &json!({}));
    let pods = release.settled(3);
    // Endpoints that the gateway could reach and nobody should by it: its own admin port.
    let own = pods[0].ip;
    scene.apply(&format!(
        "apiVersion: v1
kind: Service
metadata: {{name: own, namespace: @NAMESPACE@}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: own-1, namespace: @NAMESPACE@, labels: {{kubernetes.io/service-name: own}}}}
addressType: IPv4
ports: [{{name: http, port: 9900}}]
endpoints: [{{addresses: [\"{own}\"], conditions: {{ready: true}}}}]
"
    ));
    for name in ["external", "address"] {
        let refused = until_condition(&scene.api, &scene.path(name), "ResolvedRefs", "False");
        assert_eq!(refused["reason"], "AddressNotPermitted", "{name}: {refused}");
        until_all(&pods, &Request::get(&format!("{name}.example.com"), "/"), 500);
    }
    // Of the three pods only the first has this address: it has no endpoint then.
    until_all(&pods[..1], &Request::get("own.example.com", "/metrics"), 503);
    helm(&["status", &release.name, "-n", NAMESPACE]);
}
