//! An identity provider of the cluster that dies for a minute: nobody is refused whose token is good, status says how it is,
//! and its keys count again when it is back.

use std::env;
use std::time::{Duration, Instant};

use e2e::client::Request;
use e2e::cluster_api::{Api, condition, route_path, routes_path, until_condition};
use e2e::cluster_load::{Aim, Load};
use e2e::cluster_release::Release;
use e2e::cluster_report::{measured, ms};
use e2e::cluster_scene::{End, Scene, route, until_all};
use e2e::cluster_tools::{cluster, image, kubectl};
use e2e::jwt::{Signer, claims, jwks};
use e2e::until::until_within;
use serde_json::{Value, json};

const HOST: &str = "identity.example.com";
const PATIENCE: Duration = Duration::from_secs(60);

/// A minute, or what `E2E_IDENTITY_OUTAGE_SECONDS` says; at least long enough for a renewal to come due.
fn outage() -> Duration {
    let said = env::var("E2E_IDENTITY_OUTAGE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(said.unwrap_or(60).max(15))
}

/// A gateway of its own that serves nothing but the key set, as a provider's server would.
fn provider(scene: &Scene, keys: &str) {
    let (repository, tag) = image();
    scene.apply(&format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{name: idp, namespace: @NAMESPACE@}}
data:
  idp.yaml: |
    apiVersion: gateway.baribhara.io/v1alpha1
    kind: GatewayRoute
    metadata: {{name: idp}}
    spec:
      rules:
      - name: keys
        filters:
        - type: DirectResponse
          directResponse: {{statusCode: 200, contentType: application/json, body: '{keys}'}}
---
apiVersion: v1
kind: Service
metadata: {{name: idp, namespace: @NAMESPACE@}}
spec:
  selector: {{app: idp}}
  ports: [{{name: http, port: 80, targetPort: http}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: idp, namespace: @NAMESPACE@}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: idp}}}}
  template:
    metadata: {{labels: {{app: idp}}}}
    spec:
      terminationGracePeriodSeconds: 1
      enableServiceLinks: false
      automountServiceAccountToken: false
      securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: idp
        image: \"{repository}:{tag}\"
        imagePullPolicy: IfNotPresent
        args: [run, --config=/etc/idp, \"--http=0.0.0.0:8080\", --https=off, \"--admin=0.0.0.0:9900\", --lame-duck=0s, --drain=1s]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /readyz, port: 9900}}, periodSeconds: 1}}
        securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
        volumeMounts: [{{name: config, mountPath: /etc/idp/idp.yaml, subPath: idp.yaml}}]
      volumes: [{{name: config, configMap: {{name: idp}}}}]
"
    ));
}

fn scale(scene: &Scene, replicas: usize) {
    kubectl(&["-n", &scene.namespace, "scale", "deployment/idp", &format!("--replicas={replicas}")]);
    scene.settled("idp", replicas);
}

fn with_token(token: &str) -> Request {
    Request::get(HOST, "/").header("Authorization", &format!("Bearer {token}"))
}

/// The reason of `JWKSReady`.
fn reason(api: &Api, path: &str) -> Option<String> {
    let object = api.get(path);
    let found = condition(&object, "JWKSReady")?;
    found["reason"].as_str().map(str::to_owned)
}

fn until_reason(api: &Api, path: &str, want: &str) {
    until_within(PATIENCE, want, || (reason(api, path).as_deref() == Some(want)).then_some(()));
}

fn guarded(uri: &str) -> Value {
    let mut object = route("identity", HOST, "web", &json!({"auth": {"jwt": {"providers": ["corp"]}}}));
    object["spec"]["jwtProviders"] = json!([{
        "name": "corp", "issuer": "https://id.example.com/", "audiences": ["shop-api"],
        "jwks": {"remote": {"uri": uri, "cacheDuration": "10s", "timeout": "1s"}},
    }]);
    object
}

#[test]
fn an_identity_provider_that_dies_for_a_minute_refuses_nobody() {
    cluster(&["addon", "coredns"]);
    let release = Release::with_values("private-jwks.yaml", 3);
    let scene = Scene::new("identity");
    let signer = Signer::p256();
    scene.echo("web", 2, End::Drains);
    provider(&scene, &jwks(&[&signer]));
    scene.settled("idp", 1);
    let uri = format!("http://idp.{}.svc.cluster.local/jwks", scene.namespace);
    scene.api.create(&routes_path(&scene.namespace), &guarded(&uri));
    let path = route_path(&scene.namespace, "identity");
    until_condition(&scene.api, &path, "Programmed", "True");
    until_condition(&scene.api, &path, "JWKSReady", "True");
    let pods = release.settled(3);
    let tokens: Vec<String> = (0..50)
        .map(|n| {
            let mut claims = claims();
            claims["sub"] = json!(format!("user-{n}"));
            signer.token("k0", &claims)
        })
        .collect();
    until_all(&pods, &with_token(&tokens[0]), 200);

    let mut aim = Aim::get(release.service(), HOST, "/").rate(1000);
    aim.requests = tokens.iter().map(|token| with_token(token)).collect();
    let load = Load::start(aim);
    load.reach(500);
    scale(&scene, 0);
    let died = Instant::now();
    until_reason(&scene.api, &path, "JWKSStale");
    measured("identity provider dead to JWKSStale in status", ms(died.elapsed()), "a refresh and a second");
    until_within(outage() * 2, "the outage has lasted long enough", || {
        load.go_on_for(500);
        (died.elapsed() >= outage()).then_some(())
    });
    // A key that nobody has seen: it may be new, so that nobody is told that the token is bad.
    let unknown = Signer::p256().token("new", &claims());
    for pod in &pods {
        let answer = pod.ask(&with_token(&unknown)).expect("an answer");
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{}", pod.name);
        assert!(pod.metrics().sum("baribhara_jwks_fetch_failures_total") >= 1.0, "{}", pod.name);
    }
    scale(&scene, 1);
    let back = Instant::now();
    until_reason(&scene.api, &path, "JWKSReady");
    measured("identity provider back to JWKSReady in status", ms(back.elapsed()), "30 s and a second");
    measured("identity provider away", ms(back - died), ">= 60 s");
    // What is no key of the provider is said so again.
    until_all(&pods, &with_token(&unknown), 401);
    load.stop().assert_clean("an identity provider that dies, GET with tokens", 5_000);
}

#[test]
fn a_provider_inside_the_cluster_is_refused_without_the_flag_and_the_route_says_why() {
    cluster(&["addon", "coredns"]);
    let release = Release::shared();
    let scene = Scene::new("identity-refused");
    scene.echo("web", 1, End::Drains);
    // A name that leads to a private address, which shows only when it is resolved.
    let uri = "https://kubernetes.default.svc.cluster.local/openid/v1/jwks";
    scene.api.create(&routes_path(&scene.namespace), &guarded(uri));
    let path = route_path(&scene.namespace, "identity");
    // The first try may meet a DNS that is only starting.
    until_within(PATIENCE, "the remedy is told", || {
        let object = scene.api.get(&path);
        let found = condition(&object, "JWKSReady")?;
        assert_ne!(found["status"], "True", "{found}");
        found["message"].as_str()?.contains("--allow-private-jwks").then_some(())
    });
    let token = Signer::p256().token("k0", &claims());
    until_all(&release.settled(3), &with_token(&token), 503);
}
