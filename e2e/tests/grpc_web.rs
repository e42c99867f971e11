//! gRPC-Web as browsers speak it, in both forms and over both versions of HTTP, before a backend that speaks gRPC.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::client::{Connection, Request, Response, ask};
use e2e::folder::route;
use e2e::h2_backend::H2Backend;
use e2e::h2_client::{H2Request, grpc_message};

use crate::h2_site::{H2Site, h2_site_of};
use crate::site::HOST;

const UNARY: &str = "/test.Echo/Unary";
const ORIGIN: &str = "https://app.example.com";
const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";

fn site_before(backend: &H2Backend) -> H2Site {
    let to = backend.address;
    let spec = format!(
        "hostnames: [{HOST}]
tls: {{secretRef: {{name: shop}}}}
rules:
- name: web
  filters:
  - type: GRPCWeb
  - {{type: CORS, cors: {{allowOrigins: [\"{ORIGIN}\"], allowHeaders: [x-mine]}}}}
  backendRefs: [{{address: \"{}\", port: {}, protocol: GRPC}}]",
        to.ip(),
        to.port()
    );
    h2_site_of(&route("shop", &spec), &[])
}

/// The messages and the trailers of a body.
#[track_caller]
fn parts(content_type: &str, body: &[u8]) -> (Vec<u8>, String) {
    let mut bytes = Vec::new();
    if content_type.starts_with(TEXT) {
        // Each four letters stand for themselves, for padding may be anywhere.
        body.chunks(4).for_each(|four| bytes.extend(STANDARD.decode(four).expect("base64")));
    } else {
        bytes.extend_from_slice(body);
    }
    let (mut messages, mut rest) = (Vec::new(), bytes.as_slice());
    loop {
        let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
        let (part, next) = rest.split_at(5 + length);
        if part[0] == 0x80 {
            assert!(next.is_empty(), "trailers end it: {next:?}");
            return (messages, String::from_utf8(part[5..].to_vec()).unwrap());
        }
        messages.extend_from_slice(part);
        rest = next;
    }
}

#[track_caller]
fn assert_echo(what: &str, content_type: &str, response: &Response, want: &[u8]) {
    assert_eq!(response.status, 200, "{what}: {response:?}");
    assert!(response.trailers.is_empty(), "{what}: a browser can't read these: {response:?}");
    let said = response.header("content-type").unwrap_or_default();
    let form = content_type.split('+').next().unwrap();
    // The backend answers with application/grpc, without a format.
    assert_eq!(said, form, "{what}");
    let (messages, trailers) = parts(said, &response.body);
    assert_eq!(messages, want, "{what}");
    assert_eq!(trailers, "grpc-status: 0\r\n", "{what}");
}

#[test]
fn a_call_of_either_form_passes_over_either_version_of_http() {
    let backend = H2Backend::start();
    let site = site_before(&backend);
    for length in [0, 1, 2, 3, 5, 100_000] {
        let message = grpc_message(&vec![7; length]);
        for (content_type, body) in
            [(BINARY, message.clone()), (TEXT, STANDARD.encode(&message).into_bytes())]
        {
            let what = format!("{content_type} {length}");
            let fields = [("content-type", content_type), ("x-grpc-web", "1"), ("accept", content_type)];
            let mut request = Request::new("POST", HOST, UNARY);
            let mut h2 = H2Request::new("POST", HOST, UNARY);
            for (name, value) in fields {
                (request, h2) = (request.header(name, value), h2.header(name, value));
            }
            let response = ask(site.site.gateway.http, &request.body(body.clone())).unwrap();
            assert_echo(&what, content_type, &response, &message);
            for mut connection in [site.plain(), site.tls()] {
                let response = connection.ask(&h2.clone().body(body.clone())).unwrap();
                assert_echo(&what, content_type, &response, &message);
            }
        }
    }
    for seen in backend.seen() {
        assert!(seen.all("content-type")[0].starts_with("application/grpc"), "{seen:?}");
        assert!(!seen.all("content-type")[0].contains("web"), "{seen:?}");
        assert_eq!(seen.all("te"), ["trailers"]);
    }
    // Calls of gRPC itself pass as they are.
    let response = site.tls().ask(&H2Request::grpc(HOST, UNARY, &[b"x"])).unwrap();
    assert_eq!(response.header("content-type"), Some("application/grpc"));
    assert!(response.trailers.contains(&("grpc-status".to_owned(), "0".to_owned())), "{response:?}");
}

#[test]
fn each_message_of_a_stream_comes_when_it_is_sent() {
    let backend = H2Backend::start();
    let site = site_before(&backend);
    for content_type in [BINARY, TEXT] {
        let mut connection = site.tls();
        let call = H2Request::new("POST", HOST, "/test.Echo/Stream").header("content-type", content_type);
        let stream = connection.open(&call, false).unwrap();
        assert_eq!(connection.head(stream).unwrap().0, 200);
        for number in 0..10_usize {
            let message = grpc_message(&vec![b'x'; number]);
            let sent = if content_type == TEXT { STANDARD.encode(&message).into_bytes() } else { message };
            connection.send_data(stream, &sent, false).unwrap();
            assert_eq!(connection.data(stream, sent.len()).unwrap(), sent, "{content_type} {number}");
        }
        connection.send_data(stream, &[], true).unwrap();
        let ended = connection.response(stream).unwrap();
        let (_, trailers) = parts(content_type, &ended.body);
        assert_eq!(trailers, "grpc-status: 0\r\n");
    }
}

#[test]
fn a_browser_may_ask_and_may_read_how_a_call_ended() {
    let backend = H2Backend::start();
    let site = site_before(&backend);
    let mut connection = Connection::open(site.site.gateway.http).unwrap();
    let preflight = Request::new("OPTIONS", HOST, UNARY)
        .header("origin", ORIGIN)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-grpc-web,x-user-agent");
    let response = connection.ask(&preflight).unwrap();
    let allowed = response.header("access-control-allow-headers").unwrap_or_default().to_owned();
    for name in ["x-mine", "content-type", "x-grpc-web", "x-user-agent", "grpc-timeout"] {
        assert!(allowed.split(", ").any(|one| one == name), "{name} in {allowed}");
    }
    let failing = Request::new("POST", HOST, "/test.Echo/Fail")
        .header("origin", ORIGIN)
        .header("content-type", BINARY)
        .body(grpc_message(b"x"));
    let response = connection.ask(&failing).unwrap();
    assert_eq!((response.status, response.header("grpc-status")), (200, Some("5")), "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/grpc-web"), "{response:?}");
    assert!(response.body.is_empty(), "{response:?}");
    let exposed = response.header("access-control-expose-headers").unwrap_or_default();
    assert!(exposed.contains("grpc-status") && exposed.contains("grpc-message"), "{response:?}");
    // A deadline that passes is a status of gRPC, too.
    let late = Request::new("POST", HOST, "/silent")
        .header("content-type", TEXT)
        .header("grpc-timeout", "200m")
        .body(STANDARD.encode(grpc_message(b"x")));
    let response = connection.ask(&late).unwrap();
    assert_eq!((response.status, response.header("grpc-status")), (200, Some("4")), "{response:?}");
    assert_eq!(response.header("content-type"), Some(TEXT), "{response:?}");
}
