//! Fetching over real sockets, from servers that do what they should not.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ir::{
    Algorithm, Jwk, JwtProvider, KeySetPhase, KeySetStates, KeySource, KeysUri, Kind, ObjectRef, RemoteKeys,
    TokenSource, Trust,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::fetch::{FetchError, fetch, refusal};
use super::keeper::Keepers;
use crate::filter::auth::Verifiers;
use crate::observe::Metrics;
use crate::upstream::SystemTrust;

const KEY: &str =
    r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn set_of(keys: &[&str]) -> String {
    format!("{{\"keys\":[{}]}}", keys.join(","))
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

fn spec(uri: &str) -> RemoteKeys {
    RemoteKeys {
        uri: KeysUri::parse(uri).expect("a URL"),
        cache_duration: Duration::from_secs(600),
        max_stale: Duration::from_secs(3600),
        timeout: Duration::from_secs(3),
        trust: Trust::System,
        allow_private: true,
    }
}

/// A server that gives each request, by its path, to `script`; the answer is written in these pieces, with a pause of
/// 50 ms before each but the first.
struct Issuer {
    port: u16,
    asked: Rc<RefCell<Vec<String>>>,
}

impl Issuer {
    async fn start(script: impl Fn(&str) -> Vec<Vec<u8>> + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Rc::new(RefCell::new(Vec::new()));
        let heads = Rc::clone(&asked);
        let script = Rc::new(script);
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (script, heads) = (Rc::clone(&script), Rc::clone(&heads));
                tokio::task::spawn_local(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let pieces = script(head.split(' ').nth(1).unwrap_or_default());
                    heads.borrow_mut().push(head);
                    for (index, piece) in pieces.iter().enumerate() {
                        if index > 0 {
                            sleep(Duration::from_millis(50)).await;
                        }
                        if stream.write_all(piece).await.is_err() {
                            return;
                        }
                    }
                    // What is not whole by now stays so.
                    sleep(Duration::from_secs(30)).await;
                });
            }
        });
        Self { port, asked }
    }

    fn uri(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn asked(&self) -> usize {
        self.asked.borrow().len()
    }
}

async fn get(spec: &RemoteKeys) -> Result<Vec<Jwk>, FetchError> {
    fetch(spec, &RefCell::<SystemTrust>::default()).await
}

/// Runs on a local set, as the control thread does.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async move {
        timeout(Duration::from_secs(60), test).await.expect("the test ends");
    });
}

#[test]
fn a_key_set_is_fetched_by_one_plain_request() {
    run(async {
        let issuer = Issuer::start(|_| vec![answer("200 OK", "", &set_of(&[KEY]))]).await;
        let keys = get(&spec(&issuer.uri("/realms/shop/jwks?a=b"))).await.expect("keys");
        assert_eq!(keys.len(), 1);
        let heads = issuer.asked.borrow();
        let head = heads.first().expect("a request");
        assert!(head.starts_with("GET /realms/shop/jwks?a=b HTTP/1.1\r\n"), "{head}");
        for line in
            [&format!("host: 127.0.0.1:{}", issuer.port), "accept-encoding: identity", "connection: close"]
        {
            assert!(head.to_ascii_lowercase().contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
        }
    });
}

#[test]
fn jw12_what_a_server_may_not_do_is_refused_with_a_reason() {
    run(async {
        let many = set_of(&vec![KEY; 10_000]);
        let over = set_of(&vec![KEY; 101]);
        let chunk = |bytes: usize| format!("{bytes:x}\r\n{}\r\n", " ".repeat(bytes)).into_bytes();
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let endless: Vec<Vec<u8>> = std::iter::once(chunked).chain((0..8).map(|_| chunk(64 << 10))).collect();
        let slow: Vec<Vec<u8>> = std::iter::once(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec())
            .chain((0..1000).map(|_| b" ".to_vec()))
            .collect();
        let broken = b"HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n".to_vec();
        let keys = set_of(&[KEY]);
        let cases: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
            ("10 MB by its length", vec![broken], "the key set is larger than 256 KiB"),
            ("10 MB without one", endless, "the key set is larger than 256 KiB"),
            ("10,000 keys", vec![answer("200 OK", "", &many)], "the key set is larger than 256 KiB"),
            ("101 keys", vec![answer("200 OK", "", &over)], "the key set has more than 100 keys"),
            (
                "HTML",
                vec![answer("200 OK", "Content-Type: text/html\r\n", "<html>sign in</html>")],
                "no JSON Web Key Set",
            ),
            ("no JSON", vec![answer("200 OK", "", "{\"keys\":[")], "no JSON Web Key Set"),
            ("gzip", vec![answer("200 OK", "Content-Encoding: gzip\r\n", &keys)], "compressed"),
            (
                "twice gzip",
                vec![answer("200 OK", "Content-Encoding: identity, gzip\r\n", &keys)],
                "compressed",
            ),
            ("an error", vec![answer("500 X", "", &keys)], "the status 500"),
            ("no content", vec![answer("204 X", "", "")], "the status 204"),
            ("not HTTP", vec![b"SSH-2.0-x\r\n\r\n".to_vec()], "no HTTP"),
            ("one byte now and then", slow, "no whole answer within 400 ms"),
            ("nothing", vec![], "no whole answer within 400 ms"),
        ];
        for (name, pieces, want) in cases {
            let issuer = Issuer::start(move |_| pieces.clone()).await;
            let limit =
                if want.contains("400 ms") { Duration::from_millis(400) } else { Duration::from_secs(5) };
            let spec = RemoteKeys { timeout: limit, ..spec(&issuer.uri("/jwks?key=canary")) };
            let started = Instant::now();
            let error = get(&spec).await.expect_err(name).to_string();
            assert!(error.contains(want), "{name}: {error}");
            assert!(!error.contains("canary") && !error.contains("sign in"), "{name}: {error}");
            assert!(started.elapsed() < limit + Duration::from_secs(2), "{name}");
        }
    });
}

#[test]
fn jw12_redirects_stay_with_one_server_and_end() {
    run(async {
        let other = Issuer::start(|_| vec![answer("200 OK", "", &set_of(&[KEY]))]).await;
        let elsewhere = other.uri("/jwks");
        let issuer = Issuer::start(move |path| {
            let to = |location: &str| vec![answer("302 Found", &format!("Location: {location}\r\n"), "")];
            match path {
                "/ok" => vec![answer("200 OK", "", &set_of(&[KEY]))],
                "/three" => to("/two"),
                "/two" => to("one"),
                "/one" => to("?"),
                "/?" => to("/ok"),
                "/elsewhere" => to(&elsewhere),
                "/file" => to("file:///etc/passwd"),
                "/metadata" => to("http://169.254.169.254/latest"),
                "/nowhere" => vec![answer("302 Found", "", "")],
                _ => to(path),
            }
        })
        .await;
        assert_eq!(
            get(&spec(&issuer.uri("/two"))).await.map(|keys| keys.len()).ok(),
            None,
            "/one? leads to itself"
        );
        for (path, want) in [
            ("/for-ever", "more than 3 redirects"),
            ("/elsewhere", "another host"),
            ("/metadata", "another host"),
            ("/file", "leads to no URL"),
            ("/nowhere", "leads to no URL"),
        ] {
            let error = get(&spec(&issuer.uri(path))).await.expect_err(path).to_string();
            assert!(error.contains(want), "{path}: {error}");
        }
        assert_eq!(other.asked(), 0, "nobody else is asked");
        let issuer = Issuer::start(|path| match path {
            "/a" => vec![answer("301 X", "Location: /b\r\n", "")],
            "/b" => vec![answer("307 X", "Location: c\r\n", "")],
            "/c" => vec![answer("308 X", "Location: /d?e\r\n", "")],
            _ => vec![answer("200 OK", "", &set_of(&[KEY]))],
        })
        .await;
        assert_eq!(get(&spec(&issuer.uri("/a"))).await.map(|keys| keys.len()).ok(), Some(1));
        assert_eq!(issuer.asked(), 4);
    });
}

#[test]
fn jw16_addresses_are_looked_at_when_they_are_about_to_be_asked() {
    run(async {
        let issuer = Issuer::start(|_| vec![answer("200 OK", "", &set_of(&[KEY]))]).await;
        let by_name = format!("http://localhost:{}/jwks", issuer.port);
        // A name that leads to loopback, whoever says so at that moment.
        let refused = RemoteKeys { allow_private: false, ..spec(&by_name) };
        let error = get(&refused).await.expect_err("loopback").to_string();
        assert!(error.contains("not public") && error.contains("--allow-private-jwks"), "{error}");
        assert_eq!(issuer.asked(), 0, "not even a connection");
        assert_eq!(get(&spec(&by_name)).await.map(|keys| keys.len()).ok(), Some(1));
        for never in [
            "http://169.254.169.254/",
            "http://[fe80::1]/",
            "http://0.0.0.0:1/",
            "http://[::ffff:a9fe:a9fe]/",
        ] {
            let error = get(&spec(never)).await.expect_err(never).to_string();
            assert!(error.contains("never asked"), "{never}: {error}");
        }
    });
    assert!(
        refusal("10.96.0.1".parse().expect("an address"), false).is_some(),
        "the API server of a cluster"
    );
    assert!(refusal("10.96.0.1".parse().expect("an address"), true).is_none());
    assert!(refusal("192.0.3.1".parse().expect("an address"), false).is_none());
}

fn provider(keys: RemoteKeys) -> Arc<JwtProvider> {
    Arc::new(JwtProvider {
        source: ObjectRef::new(Kind::GatewayRoute, "shop", "shop"),
        name: "corp".into(),
        issuer: None,
        audiences: Vec::new(),
        keys: KeySource::Remote(Arc::new(keys)),
        algorithms: vec![Algorithm::EdDSA],
        from: vec![TokenSource::Query { name: "t".to_owned() }],
        clock_skew: Duration::ZERO,
        required_claims: Vec::new(),
        claims_to_headers: Vec::new(),
        forward_token: true,
    })
}

/// Waits until the one key set is so.
async fn until(keepers: &Keepers, what: &str, is_so: impl Fn(KeySetPhase, usize) -> bool) -> KeySetStates {
    let waited = timeout(Duration::from_secs(20), async {
        loop {
            let states = keepers.states();
            let state = states.values().flat_map(|providers| providers.values()).next().expect("a key set");
            if is_so(state.phase, state.keys) {
                return states;
            }
            keepers.changed().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

#[test]
#[expect(
    clippy::await_holding_refcell_ref,
    reason = "that it is held while the task runs makes the task panic"
)]
fn a_keeper_that_panics_begins_again_and_fetches_on() {
    run(async {
        let issuer = Issuer::start(|_| Vec::new()).await;
        let metrics = Metrics::new();
        let mut verifiers = Verifiers::new(Arc::default());
        let mut keepers = Keepers::new(Arc::clone(&metrics));
        let uri = issuer.uri("/jwks").replace("http:", "https:");
        let _verifier = verifiers.get(&provider(RemoteKeys {
            trust: Trust::Anyone,
            timeout: Duration::from_millis(400),
            ..spec(&uri)
        }));
        keepers.follow(verifiers.remote());
        let restarted = "baribhara_task_restarts_total{task=\"key_set\"} 1\n";
        let panics = async {
            while !metrics.render().contains(restarted) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        {
            // The task has not run yet. With what a fetch needs in other hands it panics.
            let _held = keepers.system().borrow_mut();
            timeout(Duration::from_secs(20), panics).await.expect("a panic that is counted");
        }
        let states = until(&keepers, "a fetch that ends", |phase, _| phase == KeySetPhase::Unavailable).await;
        assert!(format!("{states:?}").contains("no whole answer within 400 ms"), "{states:?}");
    });
}

#[test]
fn jw12_a_key_set_is_fetched_before_anybody_asks_and_kept_when_the_next_one_is_bad() {
    run(async {
        let body = Rc::new(RefCell::new("<html>".to_owned()));
        let script = Rc::clone(&body);
        let issuer = Issuer::start(move |_| vec![answer("200 OK", "", &script.borrow())]).await;
        let mut verifiers = Verifiers::new(Arc::default());
        let mut keepers = Keepers::new(Metrics::new());
        let verifier = verifiers.get(&provider(spec(&issuer.uri("/jwks?key=canary"))));
        keepers.follow(verifiers.remote());
        let states = until(&keepers, "no keys", |phase, _| phase == KeySetPhase::Unavailable).await;
        assert!(
            format!("{states:?}").contains("no JSON Web Key Set")
                && !format!("{states:?}").contains("canary")
        );
        // It is tried again by itself.
        *body.borrow_mut() = set_of(&[KEY]);
        until(&keepers, "keys", |phase, keys| phase == KeySetPhase::Ready && keys == 1).await;
        let set = verifiers.remote().next().map(|(_, set)| Arc::clone(set)).expect("a key set");
        let (failures, fetches) = (set.metrics().failures.get(), issuer.asked());
        assert!(failures >= 1 && fetches >= 2, "{failures} {fetches}");
        assert!(set.metrics().fetched_at().is_some());
        // Nothing is fetched again before its time, or for another generation that names it too.
        keepers.follow(verifiers.remote());
        assert_eq!(keepers.metrics().len(), 1);
        assert_eq!(issuer.asked(), fetches);
        drop(verifier);
        verifiers.retain_used();
        keepers.follow(verifiers.remote());
        assert!(keepers.states().is_empty(), "what nobody uses is not fetched");
        assert!(keepers.metrics().is_empty());
    });
}

#[test]
fn jw12_the_old_keys_stay_whatever_comes_next() {
    run(async {
        let body = Rc::new(RefCell::new(set_of(&[KEY])));
        let script = Rc::clone(&body);
        let issuer = Issuer::start(move |_| vec![answer("200 OK", "", &script.borrow())]).await;
        let mut verifiers = Verifiers::new(Arc::default());
        let mut keepers = Keepers::new(Metrics::new());
        let often = RemoteKeys { cache_duration: Duration::from_millis(200), ..spec(&issuer.uri("/")) };
        let verifier = verifiers.get(&provider(often));
        keepers.follow(verifiers.remote());
        until(&keepers, "keys", |phase, _| phase == KeySetPhase::Ready).await;
        for bad in ["<html>", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"] {
            *body.borrow_mut() = bad.to_owned();
            until(&keepers, bad, |phase, keys| phase == KeySetPhase::Failing && keys == 1).await;
            *body.borrow_mut() = set_of(&[KEY]);
            until(&keepers, "keys again", |phase, _| phase == KeySetPhase::Ready).await;
        }
        drop(verifier);
    });
}

#[test]
fn jw11_keys_that_are_too_old_are_let_go_of_and_come_back() {
    run(async {
        let body = Rc::new(RefCell::new(set_of(&[KEY])));
        let script = Rc::clone(&body);
        let issuer = Issuer::start(move |_| vec![answer("200 OK", "", &script.borrow())]).await;
        let mut verifiers = Verifiers::new(Arc::default());
        let mut keepers = Keepers::new(Metrics::new());
        let (cache_duration, max_stale) = (Duration::from_millis(200), Duration::from_secs(1));
        let short = RemoteKeys { cache_duration, max_stale, ..spec(&issuer.uri("/")) };
        let verifier = verifiers.get(&provider(short));
        keepers.follow(verifiers.remote());
        until(&keepers, "keys", |phase, _| phase == KeySetPhase::Ready).await;
        *body.borrow_mut() = "<html>".to_owned();
        until(&keepers, "the last good keys", |phase, keys| phase == KeySetPhase::Failing && keys == 1).await;
        until(&keepers, "no keys", |phase, keys| phase == KeySetPhase::Unavailable && keys == 0).await;
        *body.borrow_mut() = set_of(&[KEY]);
        until(&keepers, "keys again", |phase, keys| phase == KeySetPhase::Ready && keys == 1).await;
        drop(verifier);
    });
}
