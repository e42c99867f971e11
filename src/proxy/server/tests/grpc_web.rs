//! gRPC-Web through the whole data plane: what a backend of gRPC gets, and what the browser does.

use std::io::Write;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Response};
use ir::Action;

use super::support::{Answer, ask, dial, read_to_end};
use super::upstream::{HTTP2, forwarding, read_body, site, speak_h2, start};

const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";
const TRAILERS: &[u8] = b"\x80\0\0\0\x10grpc-status: 0\r\n";

fn web(host: &str) -> ir::Route {
    let mut route = forwarding(host, HTTP2);
    let Action::Forward { grpc_web, .. } = &mut route.action else { unreachable!() };
    *grpc_web = true;
    route
}

/// Content type, `te` and body of each call.
type Seen = Arc<Mutex<Vec<(String, bool, Vec<u8>)>>>;

/// Sends each message back in two parts that end within its bytes, then trailers; with `x-fail` trailers only.
fn backend(seen: &Seen) -> u16 {
    let seen = Arc::clone(seen);
    start(None, move |accepted| {
        let seen = Arc::clone(&seen);
        speak_h2(accepted, move |_, (mut request, mut respond)| {
            let seen = Arc::clone(&seen);
            async move {
                let body = read_body(request.body_mut()).await;
                let headers = request.headers();
                let content_type = headers["content-type"].to_str().unwrap().to_owned();
                let takes_trailers = headers.get("te").is_some_and(|te| te == "trailers");
                seen.lock().unwrap().push((content_type.clone(), takes_trailers, body.clone()));
                let response = Response::builder().header("content-type", content_type);
                if headers.contains_key("x-fail") {
                    let response = response.header("grpc-status", "5").body(()).unwrap();
                    respond.send_response(response, true).unwrap();
                    return;
                }
                let mut send = respond.send_response(response.body(()).unwrap(), false).unwrap();
                let (one, two) = body.split_at(body.len() / 2);
                send.send_data(one.to_vec().into(), false).unwrap();
                send.send_data(two.to_vec().into(), false).unwrap();
                let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
                send.send_trailers(trailers).unwrap();
            }
        })
    })
}

/// The head and the body, its chunks joined. The body is sent in parts of so many bytes.
fn call(address: std::net::SocketAddr, fields: &str, body: &[u8], part_bytes: usize) -> (String, Vec<u8>) {
    let mut client = dial(address);
    let head = format!(
        "POST /a.Echo/Call HTTP/1.1\r\nhost: a.example\r\n{fields}transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes()).unwrap();
    for part in body.chunks(part_bytes) {
        client.write_all(format!("{:x}\r\n", part.len()).as_bytes()).unwrap();
        client.write_all(&[part, b"\r\n"].concat()).unwrap();
    }
    client.write_all(b"0\r\n\r\n").unwrap();
    let answer = read_to_end(&client);
    let at = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(answer[..at].to_vec()).unwrap().to_ascii_lowercase();
    if !head.contains("transfer-encoding: chunked") {
        return (head, answer[at..].to_vec());
    }
    let (mut body, mut rest) = (Vec::new(), &answer[at..]);
    loop {
        let line = rest.windows(2).position(|end| end == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            assert_eq!(rest, b"0\r\n\r\n", "no trailers of HTTP follow");
            return (head, body);
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
    }
}

#[test]
fn a_call_becomes_grpc_and_its_trailers_the_end_of_the_body() {
    let seen = Seen::default();
    let site = site(&[web("a.example")], &[("a.example", backend(&seen))]);
    let want = [MESSAGE, TRAILERS].concat();
    for part_bytes in [1, 3, 1000] {
        let (head, body) =
            call(site.http, "content-type: application/grpc-web+proto\r\n", MESSAGE, part_bytes);
        assert!(head.contains("\r\ncontent-type: application/grpc-web+proto\r\n"), "{head}");
        assert_eq!(body, want, "{part_bytes}");
        let text = STANDARD.encode(MESSAGE);
        let fields = "content-type: application/grpc-web-text\r\n";
        let (head, body) = call(site.http, fields, text.as_bytes(), part_bytes);
        assert!(head.contains("\r\ncontent-type: application/grpc-web-text\r\n"), "{head}");
        // Each part is padded for itself.
        let pieces = [&MESSAGE[..5], &MESSAGE[5..], TRAILERS].map(|piece| STANDARD.encode(piece));
        assert_eq!(String::from_utf8(body).unwrap(), pieces.concat(), "{part_bytes}");
    }
    for (content_type, takes_trailers, body) in seen.lock().unwrap().iter() {
        assert!(
            ["application/grpc", "application/grpc+proto"].contains(&content_type.as_str()),
            "{content_type}"
        );
        assert!(*takes_trailers);
        assert_eq!(body, MESSAGE);
    }
    assert_eq!(seen.lock().unwrap().len(), 6);
}

#[test]
fn trailers_only_stay_in_the_head() {
    let site = site(&[web("a.example")], &[("a.example", backend(&Seen::default()))]);
    for form in ["application/grpc-web", "application/grpc-web-text"] {
        let (head, body) = call(site.http, &format!("content-type: {form}\r\nx-fail: 1\r\n"), b"", 1);
        assert!(head.contains(&format!("\r\ncontent-type: {form}\r\n")), "{head}");
        assert!(head.contains("\r\ngrpc-status: 5\r\n"), "{head}");
        assert_eq!(body, b"", "{head}");
    }
}

#[test]
fn text_that_is_no_base64_ends_the_call() {
    let site = site(&[web("a.example")], &[("a.example", backend(&Seen::default()))]);
    for (name, text) in [("not whole", "AAAAAAVoZWxsb"), ("no base64", "AAAAAAVo!!!!")] {
        let (head, _) = call(site.http, "content-type: application/grpc-web-text\r\n", text.as_bytes(), 5);
        assert!(head.contains("\r\ngrpc-status: 13\r\n"), "{name}: {head}");
        assert!(head.contains("\r\ncontent-type: application/grpc-web-text\r\n"), "{name}: {head}");
    }
}

#[test]
fn what_the_gateway_refuses_is_told_in_the_form_of_the_call_and_only_where_the_route_takes_it() {
    let mut denied = web("denied.example");
    denied.ip_access.deny.push("127.0.0.0/8".parse().unwrap());
    let seen = Seen::default();
    let plain = forwarding("plain.example", HTTP2);
    let site = site(&[denied, plain, web("none.example")], &[("plain.example", backend(&seen))]);
    let ask = |host: &str, content_type: &str| -> Answer {
        ask(&mut dial(site.http), "POST", host, "/a.Echo/Call", &[("content-type", content_type)]).unwrap()
    };
    for (host, form, want) in [
        ("denied.example", "application/grpc-web+proto", "7"),
        ("denied.example", "application/grpc-web-text", "7"),
        ("none.example", "application/grpc-web", "14"),
    ] {
        let answer = ask(host, form);
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{host}: {answer:?}");
        assert_eq!(answer.header("grpc-status"), Some(want), "{host}");
        let want = form.trim_end_matches("+proto");
        assert_eq!(answer.header("content-type"), Some(want), "{host}");
    }
    assert_eq!(ask("denied.example", "application/json").status, 403);
    // Another route passes it on as it is.
    ask("plain.example", "application/grpc-web");
    assert_eq!(seen.lock().unwrap()[0].0, "application/grpc-web");
}
