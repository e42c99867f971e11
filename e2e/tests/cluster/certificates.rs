//! Certificates in Secrets: served through the Service, exchanged within a second, and kept when the new one is no good.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::certificate::{Authority, Issued};
use e2e::client::{self, Request};
use e2e::cluster_api::{core, routes_path, until_condition};
use e2e::cluster_pod::Pod;
use e2e::cluster_release::Release;
use e2e::cluster_report::{measured, ms, percentile};
use e2e::cluster_scene::{End, Scene, route};
use e2e::tls_client::{TlsConnection, alert, ask, config, without_line_ends};
use e2e::until::until_within;
use rustls::{AlertDescription, ClientConfig};
use serde_json::{Value, json};

const HOST: &str = "certificates.example.com";
const BOUND: Duration = Duration::from_secs(1);
const ROTATIONS: usize = 10;
const DEADLINE: Duration = Duration::from_secs(30);
/// The port of the pods for HTTPS.
const HTTPS: u16 = 8443;

fn data(issued: &Issued, key: &str) -> Value {
    json!({"data": {"tls.crt": STANDARD.encode(&issued.certificate_pem), "tls.key": STANDARD.encode(key)}})
}

fn https(pod: &Pod) -> SocketAddr {
    SocketAddr::new(pod.ip, HTTPS)
}

fn shows(address: SocketAddr, client: &Arc<ClientConfig>, issued: &Issued) -> bool {
    let Ok(connection) = TlsConnection::open(address, HOST, client) else { return false };
    let shown = STANDARD.encode(connection.certificate());
    without_line_ends(&issued.certificate_pem).contains(&shown)
}

fn until_shown(pods: &[Pod], client: &Arc<ClientConfig>, issued: &Issued) {
    for pod in pods {
        until_within(DEADLINE, "the certificate is served", || {
            shows(https(pod), client, issued).then_some(())
        });
    }
}

#[test]
fn a_certificate_is_served_exchanged_within_a_second_and_kept_when_the_new_one_is_no_good() {
    let release = Release::shared();
    let scene = Scene::new("certificates");
    let authority = Authority::new();
    // No resumption: each look is to see the certificate.
    let mut fresh = config(&authority);
    fresh.resumption = rustls::client::Resumption::disabled();
    let client = Arc::new(fresh);
    scene.echo("web", 1, End::Drains);
    let mut issued = authority.issue(&[HOST]);
    let mut secret = data(&issued, &issued.key_pem);
    secret["metadata"] = json!({"name": "shop"});
    secret["type"] = json!("kubernetes.io/tls");
    scene.api.create(core(&scene.namespace, "secrets", "").trim_end_matches('/'), &secret);
    let mut object = route("shop", HOST, "web", &json!({}));
    object["spec"]["tls"] = json!({"secretRef": {"name": "shop"}, "redirectHTTP": {}, "hsts": {}});
    scene.api.create(&routes_path(&scene.namespace), &object);
    until_condition(&scene.api, &scene.path("shop"), "Programmed", "True");
    let pods = release.settled(3);
    until_shown(&pods, &client, &issued);

    let service = SocketAddr::new(release.service().ip(), 443);
    let answer = ask(service, &client, &Request::get(HOST, "/a?b=c")).expect("an answer over TLS");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text().contains("\"x-forwarded-proto\",\"https\""), "{}", answer.text());
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=31536000; includeSubDomains"));
    let plain = client::ask(release.service(), &Request::get(HOST, "/a?b=c")).expect("an answer");
    let location = plain.header("location").map(str::to_owned);
    assert_eq!((plain.status, location), (308, Some(format!("https://{HOST}/a?b=c"))));

    let path = core(&scene.namespace, "secrets", "shop");
    let mut times = Vec::new();
    for _ in 0..ROTATIONS {
        issued = authority.issue(&[HOST]);
        let since = Instant::now();
        scene.api.patch(&path, &data(&issued, &issued.key_pem));
        until_shown(&pods, &client, &issued);
        times.push(since.elapsed());
    }
    let longest = percentile(&times, 1.0);
    measured(
        "certificate rotated to all new handshakes of 3 pods",
        format!("p50 {}, max {} of {ROTATIONS}", ms(percentile(&times, 0.5)), ms(longest)),
        "<= 1 s",
    );
    assert!(longest <= BOUND, "a rotation took {longest:?}: {times:?}");

    let strange = authority.issue(&[HOST]);
    scene.api.patch(&path, &data(&strange, &issued.key_pem));
    let condition = until_condition(&scene.api, &scene.path("shop"), "ResolvedRefs", "False");
    let message = condition["message"].as_str().unwrap_or_default();
    assert!(message.contains("its last good version is served"), "{condition}");
    assert!(shows(service, &client, &issued), "the last good certificate is not served");
    scene.api.patch(&path, &data(&strange, &strange.key_pem));
    until_shown(&pods, &client, &strange);
    until_condition(&scene.api, &scene.path("shop"), "ResolvedRefs", "True");

    scene.api.delete(&path);
    until_condition(&scene.api, &scene.path("shop"), "ResolvedRefs", "False");
    for pod in &pods {
        until_within(DEADLINE, "there is nothing to shake hands with", || {
            let error = TlsConnection::open(https(pod), HOST, &client).err()?;
            (alert(&error) == Some(AlertDescription::UnrecognisedName)).then_some(())
        });
    }
    let logs = release.logs();
    assert!(!logs.contains("PRIVATE KEY"), "a key stands in a log");
}
