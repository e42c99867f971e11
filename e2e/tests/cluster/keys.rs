//! Keys in Secrets: a rotation is live within a second, and a deleted Secret closes its route and no other.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::client::Request;
use e2e::cluster_api::{core, until_condition};
use e2e::cluster_pod::Pod;
use e2e::cluster_release::Release;
use e2e::cluster_report::{measured, ms, percentile};
use e2e::cluster_scene::{End, Scene, route, until_all};
use e2e::jwt::{Signer, claims, encode, hs256, jwks};
use e2e::until::until_within;
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(1);
const ROTATIONS: usize = 10;
/// A secret key that must stand in no log.
const CANARY: &str = "canary-3f9b1c-this-key-must-never-be-logged";

fn secret(name: &str, keys: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"jwks.json": STANDARD.encode(keys)}})
}

/// A route whose tokens are checked with the keys of a Secret.
fn guarded(name: &str, host: &str, algorithm: &str) -> Value {
    let mut object = route(name, host, "web", &json!({"auth": {"jwt": {"providers": ["corp"]}}}));
    object["spec"]["jwtProviders"] = json!([{
        "name": "corp", "issuer": "https://id.example.com/", "audiences": ["shop-api"],
        "algorithms": [algorithm], "jwks": {"secretRef": {"name": name}},
    }]);
    object
}

fn with_token(host: &str, token: &str) -> Request {
    Request::get(host, "/").header("Authorization", &format!("Bearer {token}"))
}

/// Waits until every pod takes the one and refuses the other; how long that took.
fn rotated(pods: &[Pod], since: Instant, taken: &Request, refused: &Request) -> Duration {
    for pod in pods {
        until_within(Duration::from_secs(30), "the rotation is live", || {
            let statuses = [taken, refused].map(|request| pod.ask(request).map(|answer| answer.status).ok());
            (statuses == [Some(200), Some(401)]).then_some(())
        });
    }
    since.elapsed()
}

#[test]
fn rotated_keys_are_live_within_a_second_and_a_deleted_secret_closes_its_route_alone() {
    let release = Release::shared();
    let scene = Scene::new("keys");
    let secrets = core(&scene.namespace, "secrets", "").trim_end_matches('/').to_owned();
    let routes = e2e::cluster_api::routes_path(&scene.namespace);
    let mut old = Signer::p256();
    let mut old_token = old.token("k0", &claims());
    scene.echo("web", 1, End::Drains);
    scene.api.create(&secrets, &secret("shop", &jwks(&[&old])));
    let oct = json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": "k0", "k": encode(CANARY)}]});
    scene.api.create(&secrets, &secret("other", &oct.to_string()));
    scene.api.create(&routes, &guarded("shop", "keys.example.com", "ES256"));
    scene.api.create(&routes, &guarded("other", "other-keys.example.com", "HS256"));
    scene.route("open", "open.example.com", "web", &json!({}));
    for name in ["shop", "other", "open"] {
        until_condition(&scene.api, &scene.path(name), "Programmed", "True");
    }

    let pods = release.settled(3);
    until_all(&pods, &with_token("keys.example.com", &old_token), 200);
    let mut times = Vec::new();
    for _ in 0..ROTATIONS {
        let new = Signer::p256();
        let new_token = new.token("k0", &claims());
        let since = Instant::now();
        scene.api.patch(
            &core(&scene.namespace, "secrets", "shop"),
            &json!({"data": {"jwks.json": STANDARD.encode(jwks(&[&new]))}}),
        );
        let taken = with_token("keys.example.com", &new_token);
        times.push(rotated(&pods, since, &taken, &with_token("keys.example.com", &old_token)));
        (old, old_token) = (new, new_token);
    }
    let (median, longest) = (percentile(&times, 0.5), percentile(&times, 1.0));
    measured(
        "JWKS Secret rotated to new tokens taken and old refused on 3 pods",
        format!("p50 {}, max {} of {ROTATIONS}", ms(median), ms(longest)),
        "<= 1 s",
    );
    assert!(longest <= BOUND, "a rotation took {longest:?}: {times:?}");

    let since = Instant::now();
    scene.api.delete(&core(&scene.namespace, "secrets", "shop"));
    until_all(&pods, &with_token("keys.example.com", &old.token("k0", &claims())), 500);
    measured("JWKS Secret deleted to its route closed on 3 pods", ms(since.elapsed()), "fails closed");
    let condition = until_condition(&scene.api, &scene.path("shop"), "ResolvedRefs", "False");
    assert_eq!(condition["reason"], "InvalidReference", "{condition}");
    let other = with_token("other-keys.example.com", &hs256(CANARY.as_bytes(), &claims()));
    until_all(&pods, &other, 200);
    until_all(&pods, &Request::get("open.example.com", "/"), 200);
    scene.api.create(&secrets, &secret("shop", &jwks(&[&old])));
    until_all(&pods, &with_token("keys.example.com", &old_token), 200);

    let config = pods[0].admin("/config").expect("the live config").text();
    for (what, text) in [("a log", release.logs()), ("/config", config)] {
        for canary in [CANARY.to_owned(), encode(CANARY), STANDARD.encode(CANARY)] {
            assert!(!text.contains(&canary), "the secret key stands in {what}");
        }
    }
}
