//! gRPC: unary calls and streams in all directions, trailers, refusals as statuses, and what may be tried again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use e2e::certificate::Authority;
use e2e::client::Response;
use e2e::folder::{limit_policy, route, secret, service};
use e2e::h2_backend::H2Backend;
use e2e::h2_client::{CANCEL, H2Connection, H2Request, grpc_message};
use e2e::jwt;
use e2e::port::Port;
use e2e::tls_backend::server_config;
use e2e::until::until;

use crate::h2_site::{H2Site, h2_site_of};
use crate::site::HOST;

/// Statuses of gRPC (grpc/doc/statuscodes.md).
const DEADLINE_EXCEEDED: &str = "4";
const UNIMPLEMENTED: &str = "12";
const UNAVAILABLE: &str = "14";
const UNAUTHENTICATED: &str = "16";

const UNARY: &str = "/test.Echo/Unary";
const STREAM: &str = "/test.Echo/Stream";

fn to(backend: SocketAddr, fields: &str) -> String {
    format!("{{address: \"{}\", port: {}, {fields}}}", backend.ip(), backend.port())
}

fn calls(backend_ref: &str, fields: &str) -> String {
    let spec = format!(
        "hostnames: [{HOST}]
tls: {{secretRef: {{name: shop}}}}
rules:
- name: all
  backendRefs: [{backend_ref}]
{}",
        fields.lines().map(|line| format!("  {line}\n")).collect::<String>()
    );
    route("shop", &spec)
}

/// A site before a backend without TLS.
fn site_before(backend: &H2Backend, fields: &str) -> H2Site {
    h2_site_of(&calls(&to(backend.address, "protocol: GRPC"), fields), &[])
}

/// The status of a call: of its trailers, or of its head where that is all there is.
#[track_caller]
fn status(response: &Response) -> String {
    assert_eq!(response.status, 200, "{response:?}");
    let content_type = response.header("content-type").unwrap_or_default();
    assert!(content_type.starts_with("application/grpc"), "{response:?}");
    let trailer = response.trailers.iter().find(|(name, _)| name == "grpc-status");
    match (trailer, response.header("grpc-status")) {
        (Some((_, status)), None) => status.clone(),
        (None, Some(status)) => {
            assert!(response.body.is_empty(), "trailers only, and a body: {response:?}");
            status.to_owned()
        }
        both => panic!("{both:?} in {response:?}"),
    }
}

#[test]
fn unary_calls_pass_over_every_pair_of_transports() {
    let authority = Authority::new();
    let plain = H2Backend::start();
    let config = server_config(&[&authority.issue(&["echo.internal"])], &["h2"], None);
    let secure = H2Backend::start_tls(config);
    let validation = "validation: {caRef: {kind: ConfigMap, name: ca}, hostname: echo.internal}";
    let backends = [
        (&plain, "protocol: GRPC".to_owned()),
        (&plain, "protocol: H2C".to_owned()),
        (&secure, format!("protocol: GRPCS, tls: {{{validation}}}")),
    ];
    for (backend, fields) in backends {
        let yaml = authority.config_map("ca") + &calls(&to(backend.address, &fields), "");
        let site = h2_site_of(&yaml, &[]);
        for mut connection in [site.plain(), site.tls()] {
            let call = H2Request::grpc(HOST, UNARY, &[b"hello"]).trailer("x-late", "from the client");
            let response = connection.ask(&call).unwrap();
            assert_eq!(status(&response), "0", "{fields}");
            assert_eq!(response.body, grpc_message(b"hello"), "{fields}");
            let late = ("x-late".to_owned(), "from the client".to_owned());
            assert!(response.trailers.contains(&late), "{fields}: {response:?}");
        }
        let seen = backend.seen().pop().expect("a call");
        assert_eq!(seen.all("te"), ["trailers"], "{fields}");
        assert_eq!(seen.all("content-type"), ["application/grpc"], "{fields}");
        assert!(seen.whole);
    }
}

#[test]
fn streams_of_the_client_of_the_server_and_of_both_pass_message_by_message() {
    let backend = H2Backend::start();
    let site = site_before(&backend, "");
    let mut connection = site.tls();
    // Of the client alone.
    let messages: Vec<Vec<u8>> = (0..50).map(|number: usize| vec![number as u8; number * 100]).collect();
    let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    let collected = connection.ask(&H2Request::grpc(HOST, UNARY, &messages)).unwrap();
    assert_eq!(status(&collected), "0");
    assert_eq!(collected.body, H2Request::grpc(HOST, UNARY, &messages).body);
    // Of both: each answer comes before the next message is sent, so nothing is held back.
    let stream = connection.open(&H2Request::grpc(HOST, STREAM, &[]), false).unwrap();
    assert_eq!(connection.head(stream).unwrap().0, 200, "the head comes before any message");
    for number in 0..50 {
        let message = grpc_message(format!("message {number}").as_bytes());
        connection.send_data(stream, &message, false).unwrap();
        assert_eq!(connection.data(stream, message.len()).unwrap(), message);
    }
    connection.send_trailers(stream, &[("x-end", "1")]).unwrap();
    let ended = connection.response(stream).unwrap();
    assert_eq!(status(&ended), "0");
    assert!(ended.trailers.contains(&("x-end".to_owned(), "1".to_owned())), "{ended:?}");
    // Of the server alone: the client says all at once and listens.
    let response = connection.ask(&H2Request::grpc(HOST, STREAM, &messages)).unwrap();
    assert_eq!((status(&response).as_str(), response.body.len()), ("0", collected.body.len()));
}

#[test]
fn a_hundred_calls_at_once_share_one_connection_upstream() {
    let backend = H2Backend::start();
    let yaml = calls(&to(backend.address, "protocol: GRPC"), "");
    let site = h2_site_of(&yaml, &["--workers", "1"]);
    let mut connection = site.plain();
    connection.settle().unwrap();
    let streams: Vec<u32> =
        (0..100).map(|_| connection.open(&H2Request::grpc(HOST, STREAM, &[]), false).unwrap()).collect();
    for round in 0..5 {
        for (number, stream) in streams.iter().enumerate() {
            let message = grpc_message(format!("{round}: {number}").as_bytes());
            connection.send_data(*stream, &message, round == 4).unwrap();
            assert_eq!(connection.data(*stream, message.len()).unwrap(), message);
        }
    }
    for stream in streams {
        assert_eq!(status(&connection.response(stream).unwrap()), "0");
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn trailers_only_of_the_backend_reach_the_client_as_they_are() {
    let backend = H2Backend::start();
    let site = site_before(&backend, "");
    let response = site.plain().ask(&H2Request::grpc(HOST, "/test.Echo/Fail", &[b"x"])).unwrap();
    assert_eq!(status(&response), "5");
    assert_eq!(response.header("grpc-message"), Some("as asked"), "{response:?}");
    assert!(response.trailers.is_empty(), "{response:?}");
}

#[test]
fn a_call_that_passes_its_deadline_or_is_given_up_ends_upstream_too() {
    let backend = H2Backend::start();
    let site = site_before(&backend, "timeouts: {request: 30s}");
    let mut connection = site.plain();
    let started = Instant::now();
    let call = H2Request::grpc(HOST, "/silent", &[b"x"]).header("grpc-timeout", "500m");
    let response = connection.ask(&call).unwrap();
    assert_eq!(status(&response), DEADLINE_EXCEEDED);
    let took = started.elapsed();
    assert!(took > Duration::from_millis(400) && took < Duration::from_secs(5), "{took:?}");
    until("the backend's stream is given up", || (backend.cancelled() == 1).then_some(()));
    assert_eq!(backend.seen()[0].all("grpc-timeout").len(), 1, "the backend knows the deadline");
    let stream = connection.send(&H2Request::grpc(HOST, "/silent", &[b"x"])).unwrap();
    until("the call is there", || (backend.seen().len() == 2).then_some(()));
    connection.reset(stream, CANCEL).unwrap();
    until("it is given up", || (backend.cancelled() == 2).then_some(()));
}

#[test]
fn the_routes_own_timeout_is_a_status_too() {
    let backend = H2Backend::start();
    let site = site_before(&backend, "timeouts: {request: 300ms}");
    let response = site.plain().ask(&H2Request::grpc(HOST, "/silent", &[b"x"])).unwrap();
    // The client set no deadline that could have been exceeded; clients read a 504 as the other one.
    assert!([DEADLINE_EXCEEDED, UNAVAILABLE].contains(&status(&response).as_str()), "{response:?}");
}

#[test]
fn a_stream_that_is_quiet_lives_as_long_as_stream_idle_says() {
    let backend = H2Backend::start();
    let site = site_before(&backend, "timeouts: {idle: 300ms, streamIdle: 20s}");
    let mut connection = site.tls();
    let stream = connection.open(&H2Request::grpc(HOST, STREAM, &[]), false).unwrap();
    let message = grpc_message(b"x");
    for _ in 0..3 {
        connection.send_data(stream, &message, false).unwrap();
        assert_eq!(connection.data(stream, message.len()).unwrap(), message);
        let quiet = Instant::now();
        until("longer than `idle`", || (quiet.elapsed() > Duration::from_millis(600)).then_some(()));
    }
    connection.send_data(stream, &[], true).unwrap();
    assert_eq!(status(&connection.response(stream).unwrap()), "0");
}

#[test]
fn refusals_are_statuses_of_grpc_and_the_words_of_http_elsewhere() {
    let backend = H2Backend::start();
    let dead = Port::reserve();
    let spec = format!(
        "hostnames: [{HOST}]
tls: {{secretRef: {{name: shop}}}}
jwtProviders:
- {{name: p, anyIssuer: true, algorithms: [HS256], jwks: {{secretRef: {{name: key, key: secret}}}}}}
rules:
- {{name: empty, matches: [{{path: {{type: PathPrefix, value: /empty.Echo}}}}], backendRefs: [{{name: empty, port: 80, protocol: GRPC}}]}}
- {{name: dead, matches: [{{path: {{type: PathPrefix, value: /dead.Echo}}}}], backendRefs: [{dead}]}}
- {{name: token, matches: [{{path: {{type: PathPrefix, value: /token.Echo}}}}], auth: {{jwt: {{providers: [p]}}}}, backendRefs: [{to}]}}
- {{name: few, matches: [{{path: {{type: PathPrefix, value: /few.Echo}}}}], backendRefs: [{to}]}}",
        to = to(backend.address, "protocol: GRPC"),
        dead = to(dead.loopback(), "protocol: GRPC"),
    );
    let limit = limit_policy(
        "few",
        "targetRefs: [{group: gateway.baribhara.io, kind: GatewayRoute, name: shop, sectionName: few}]
limits: [{name: few, rates: [{requests: 2, per: 1h}]}]",
    );
    let yaml = secret("key", "secret", "s") + &service("empty", &[]) + &route("shop", &spec) + &limit;
    let site = h2_site_of(&yaml, &[]);
    let mut connection = site.tls();
    let mut ask = |path: &str| connection.ask(&H2Request::grpc(HOST, path, &[b"x"])).unwrap();
    // grpc/doc/http-grpc-status-mapping.md.
    for (path, want) in [
        ("/empty.Echo/Unary", UNAVAILABLE),
        ("/dead.Echo/Unary", UNAVAILABLE),
        ("/token.Echo/Unary", UNAUTHENTICATED),
        ("/unknown.Echo/Unary", UNIMPLEMENTED),
    ] {
        let response = ask(path);
        assert_eq!(status(&response), want, "{path}: {response:?}");
        assert!(
            response.header("grpc-message").is_some_and(|text| !text.contains("127.0.0.1")),
            "{response:?}"
        );
    }
    for _ in 0..2 {
        assert_eq!(ask("/few.Echo/Unary").status, 200);
    }
    assert_eq!(status(&ask("/few.Echo/Unary")), UNAVAILABLE);
    let token = format!("Bearer {}", jwt::hs256(b"s", &jwt::claims()));
    let call = H2Request::grpc(HOST, "/token.Echo/Unary", &[b"x"]).header("authorization", token);
    assert_eq!(connection.ask(&call).unwrap().status, 200);
    // Who does not speak gRPC gets what everybody gets.
    for (path, want) in [("/empty.Echo/Unary", 503), ("/token.Echo/Unary", 401), ("/unknown.Echo/Unary", 404)]
    {
        assert_eq!(connection.get(HOST, path).unwrap().status, want, "{path}");
    }
    // None of them ends the connection of the others.
    assert!(connection.goaways.is_empty());
}

#[test]
fn a_call_that_is_unavailable_is_tried_again_where_the_route_says_so() {
    let backend = H2Backend::start();
    let fields = "retry: {attempts: 2, on: [\"503\"], methods: [POST], budgetPercent: 100, differentEndpoint: false, backoff: {base: 1ms, max: 5ms}}";
    let site = site_before(&backend, fields);
    let mut connection = site.plain();
    let call = H2Request::grpc(HOST, "/test.Echo/UnavailableOnce", &[b"again"]);
    let response = connection.ask(&call).unwrap();
    assert_eq!((status(&response).as_str(), response.body), ("0", grpc_message(b"again")));
    assert_eq!(backend.seen().len(), 2);
}

#[test]
fn a_call_that_is_cut_in_the_middle_is_no_success() {
    let backend = H2Backend::start();
    let site = site_before(&backend, "retry: {attempts: 0}");
    let mut connection: H2Connection = site.plain();
    let outcome = connection.outcome_of(&H2Request::grpc(HOST, "/broken", &[b"x"]));
    match outcome.status() {
        None => {}
        Some(_) => {
            let e2e::h2_client::Outcome::Answer(response) = outcome else { panic!("{outcome:?}") };
            assert_ne!(status(&response), "0", "{response:?}");
        }
    }
    let reset = connection.ask(&H2Request::grpc(HOST, "/reset", &[b"x"])).unwrap();
    assert_ne!(status(&reset), "0");
}
