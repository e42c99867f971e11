//! HTTP/2 with clients: how it is chosen, what requests become, and how connections end.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use ir::Route;
use ir::TlsVersion::V1_2;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinHandle, LocalSet};

use super::support::{Site, dial, get, read_to_end, route, until};
use super::upstream::{HTTP1, backend, forwarding};
use crate::settings::Settings;
use crate::tls::testing::{Issued, client, tls};

/// A client's connection.
struct Client {
    send: SendRequest<Bytes>,
    /// Comes back when the connection has ended.
    ended: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn over(io: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Self {
        let (send, connection) = h2::client::handshake(io).await.unwrap();
        Self { send, ended: tokio::task::spawn_local(connection) }
    }

    async fn plain(address: SocketAddr) -> Self {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self::over(tcp).await
    }

    async fn ask(&mut self, request: Request<()>) -> Result<Answer, h2::Error> {
        self.send.clone().ready().await?;
        let (answer, _) = self.send.send_request(request, true)?;
        Answer::read(answer.await?).await
    }

    /// Comes back when the connection takes no more requests, with the reason.
    async fn refused(&self) -> h2::Error {
        loop {
            match self.send.clone().ready().await {
                Ok(_) => tokio::task::yield_now().await,
                Err(refused) => return refused,
            }
        }
    }

    async fn get(&mut self, url: &str) -> Result<Answer, h2::Error> {
        self.ask(Request::get(url).body(()).unwrap()).await
    }
}

/// A whole answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
    trailers: Option<HeaderMap>,
}

impl Answer {
    async fn read(answer: Response<RecvStream>) -> Result<Self, h2::Error> {
        let (head, mut stream) = answer.into_parts();
        let mut body = Vec::new();
        while let Some(part) = stream.data().await {
            let part = part?;
            stream.flow_control().release_capacity(part.len())?;
            body.extend_from_slice(&part);
        }
        let trailers = stream.trailers().await?;
        let body = String::from_utf8(body).unwrap();
        Ok(Self { status: head.status, headers: head.headers, body, trailers })
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let in_time = async {
        let patience = Duration::from_secs(20);
        tokio::time::timeout(patience, test).await.expect("the test waits in vain")
    };
    LocalSet::new().block_on(&runtime, in_time)
}

/// An upstream of HTTP/1.1 whose answers are what `answer` makes of the requests' heads.
fn upstream(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let (mut tcp, answer) = (tcp.unwrap(), Arc::clone(&answer));
            tcp.set_nodelay(true).unwrap();
            thread::spawn(move || {
                while let Some(head) = read_head(&mut tcp) {
                    answer(&head, &mut tcp);
                }
            });
        }
    });
    port
}

fn read_head(tcp: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0u8];
        if tcp.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).unwrap())
}

/// A gateway all of whose requests go to this port.
fn site_for(port: u16, settings: Settings) -> Site {
    let routes = [Route { hosts: Vec::new(), ..forwarding("web", HTTP1) }];
    let site = Site::with(settings, &routes, &tls(&[], None));
    let endpoint = ir::Endpoint { host: "127.0.0.1".into(), port };
    let endpoints =
        Arc::new(ir::BackendEndpoints { endpoints: vec![endpoint], local: Vec::new(), near: Vec::new() });
    site.set_endpoints(ir::EndpointMap { backends: BTreeMap::from([(backend("web"), endpoints)]) });
    // Endpoints come beside the configuration.
    until("there is an endpoint", || get(&mut dial(site.http), "a.example", "/ready").status != 503);
    site
}

fn say(tcp: &mut TcpStream, body: &str) {
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    tcp.write_all(answer.as_bytes()).unwrap();
}

#[test]
fn the_protocol_is_chosen_by_alpn_and_by_the_first_bytes() {
    let one = Issued::of(&["a.example"]).secret("one");
    let site = Site::start(&[route("all", &[])], &tls(&[("a.example", Some(&one), V1_2)], None));
    run(async {
        let mut plain = Client::plain(site.http).await;
        let answer = plain.get("http://a.example/").await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "all"));
        assert!(answer.headers.contains_key("x-baribhara-decision"), "{answer:?}");

        let config = client(rustls::ALL_VERSIONS, &[b"h2", b"http/1.1"]);
        let tcp = tokio::net::TcpStream::connect(site.https).await.unwrap();
        let name = ServerName::try_from("a.example").unwrap();
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let mut secure = Client::over(stream).await;
        assert_eq!(secure.get("https://a.example/").await.unwrap().body, "all");
    });
    // The preface in two parts, and a head that begins like it.
    let mut slow = dial(site.http);
    slow.write_all(b"PRI * HT").unwrap();
    slow.write_all(b"TP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut settings = [0u8; 9];
    slow.read_exact(&mut settings).unwrap();
    assert_eq!(settings[3], 4, "a SETTINGS frame");
    let mut other = dial(site.http);
    other.write_all(b"PR").unwrap();
    other.write_all(b"OPFIND / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n").unwrap();
    assert!(read_to_end(&other).starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[test]
fn without_leave_for_it_a_preface_is_no_request() {
    let settings = Settings { h2c: false, ..Settings::default() };
    let site = Site::with(settings, &[route("all", &[])], &tls(&[], None));
    let mut tcp = dial(site.http);
    tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let said = read_to_end(&tcp);
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 400 "), "{said:?}");
    assert_eq!(get(&mut dial(site.http), "a.example", "/").status, 200);
}

#[test]
fn requests_for_an_upstream_of_http_1_are_made_whole() {
    let port = upstream(|head, tcp| say(tcp, head));
    let site = site_for(port, Settings::default());
    run(async {
        let mut client = Client::plain(site.http).await;
        let request = Request::get("http://A.Example:8080/x//y?q=1")
            .header("cookie", "a=1")
            .header("te", "trailers")
            .header("cookie", "b=2")
            .header("expect", "100-continue");
        let head = client.ask(request.body(()).unwrap()).await.unwrap().body;
        for line in [
            "GET /x/y?q=1 HTTP/1.1\r\n",
            "\r\nhost: A.Example:8080\r\n",
            "\r\ncookie: a=1; b=2\r\n",
            "\r\nte: trailers\r\n",
            "\r\nx-forwarded-host: A.Example:8080\r\n",
            "\r\nx-forwarded-proto: http\r\n",
        ] {
            assert!(head.contains(line), "{line:?} in {head}");
        }
        assert_eq!(head.matches("cookie").count(), 1, "{head}");
        assert!(!head.contains("expect"), "{head}");
        for (host, want) in [("a.example", 200), ("A.EXAMPLE", 200), ("b.example", 400), ("a example", 400)] {
            let request = Request::get("http://a.example/").header("host", host).body(()).unwrap();
            assert_eq!(client.ask(request).await.unwrap().status.as_u16(), want, "{host}");
        }
        // Whatever is wrong with a request, the connection goes on.
        let head = Request::head("http://a.example/").body(()).unwrap();
        let answer = client.ask(head).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, ""));
        assert!(answer.headers.contains_key("content-length"));
        let connect = Request::builder().method(Method::CONNECT).uri("a.example:443").body(()).unwrap();
        assert_eq!(client.ask(connect).await.unwrap().status, StatusCode::METHOD_NOT_ALLOWED);
    });
}

#[test]
fn a_hundred_requests_at_once_each_get_their_own_answer_with_trailers() {
    let port = upstream(|head, tcp| {
        let path = head.split(' ').nth(1).unwrap();
        let body = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n{:x}\r\n",
            path.len()
        );
        tcp.write_all(format!("{body}{path}\r\n0\r\nx-sum: {path}\r\n\r\n").as_bytes()).unwrap();
    });
    let site = site_for(port, Settings::default());
    run(async {
        let client = Client::plain(site.http).await;
        let answers: Vec<_> = (0..100)
            .map(|number| {
                let mut send = client.send.clone();
                tokio::task::spawn_local(async move {
                    let request = Request::get(format!("http://a.example/{number}")).body(()).unwrap();
                    let (answer, _) = send.send_request(request, true).unwrap();
                    Answer::read(answer.await.unwrap()).await.unwrap()
                })
            })
            .collect();
        for (number, answer) in answers.into_iter().enumerate() {
            let (answer, path) = (answer.await.unwrap(), format!("/{number}"));
            assert_eq!(answer.body, path);
            assert_eq!(answer.trailers.unwrap()["x-sum"], path.as_str());
        }
    });
}

#[test]
fn an_answer_that_breaks_off_resets_its_stream_and_no_other() {
    let port = upstream(|head, tcp| {
        if head.starts_with("GET /broken") {
            tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart").unwrap();
            tcp.shutdown(std::net::Shutdown::Both).unwrap();
        } else {
            say(tcp, "whole");
        }
    });
    let site = site_for(port, Settings::default());
    run(async {
        let mut client = Client::plain(site.http).await;
        let error = client.get("http://a.example/broken").await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{error}");
        assert_eq!(client.get("http://a.example/").await.unwrap().body, "whole");
    });
}

#[test]
fn a_body_flows_as_the_upstream_takes_it_and_a_refused_one_ends_its_stream_alone() {
    let port = upstream(|head, tcp| {
        let chunked = head.contains("transfer-encoding: chunked");
        assert!(chunked, "no length was said: {head}");
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n0\r\n\r\n") {
            let mut part = [0u8; 4096];
            let count = tcp.read(&mut part).unwrap();
            body.extend_from_slice(&part[..count]);
        }
        let count = body.iter().filter(|&&byte| byte == b'u').count();
        say(tcp, &count.to_string());
    });
    let site = site_for(port, Settings::default());
    run(async {
        let mut client = Client::plain(site.http).await;
        let request = Request::post("http://a.example/").body(()).unwrap();
        let (answer, mut body) = client.send.send_request(request, false).unwrap();
        // More than all windows together.
        for _ in 0..64 {
            let mut part = Bytes::from(vec![b'u'; 64 << 10]);
            while !part.is_empty() {
                body.reserve_capacity(part.len());
                let granted = std::future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
                body.send_data(part.split_to(granted.min(part.len())), false).unwrap();
            }
        }
        body.send_data(Bytes::new(), true).unwrap();
        let answer = Answer::read(answer.await.unwrap()).await.unwrap();
        assert_eq!(answer.body, (64 * (64 << 10)).to_string());

        let request = Request::post("http://a.example/%zz").body(()).unwrap();
        let (answer, mut body) = client.send.send_request(request, false).unwrap();
        let answer = Answer::read(answer.await.unwrap()).await.unwrap();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        let reason = std::future::poll_fn(|cx| body.poll_reset(cx)).await.unwrap();
        assert_eq!(reason, Reason::NO_ERROR, "the answer was whole");
        assert_eq!(client.get("http://a.example/%zz").await.unwrap().status, StatusCode::BAD_REQUEST);
    });
}

#[test]
fn an_idle_connection_is_told_of_its_end() {
    let settings = Settings { idle_timeout: Duration::from_millis(200), ..Settings::default() };
    let site = Site::with(settings, &[route("all", &[])], &tls(&[], None));
    run(async {
        let mut client = Client::plain(site.http).await;
        assert_eq!(client.get("http://a.example/").await.unwrap().status, StatusCode::OK);
        // An abrupt end would be an error.
        client.ended.await.unwrap().unwrap();
        let refused = client.send.ready().await.map(drop).unwrap_err();
        assert!(refused.is_go_away() && refused.reason() == Some(Reason::NO_ERROR), "{refused:?}");
    });
}

/// An upstream that answers `/slow` when it is let, and all else at once.
fn slow_upstream() -> (mpsc::Sender<()>, u16) {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let port = upstream(move |head, tcp| {
        if head.starts_with("GET /slow") {
            released.lock().unwrap().recv().unwrap();
        }
        say(tcp, "done");
    });
    (release, port)
}

#[test]
fn a_connection_ends_with_its_age_and_its_requests_do_not() {
    let (release, port) = slow_upstream();
    let settings = Settings { connection_age_max: Duration::ZERO, ..Settings::default() };
    let site = site_for(port, settings);
    run(async {
        let mut client = Client::plain(site.http).await;
        let slow = Request::get("http://a.example/slow").body(()).unwrap();
        let (slow, _) = client.send.send_request(slow, true).unwrap();
        assert_eq!(client.get("http://a.example/").await.unwrap().body, "done");
        // That answer told the client to go elsewhere.
        let refused = client.refused().await;
        assert_eq!(refused.reason(), Some(Reason::NO_ERROR), "{refused:?}");
        release.send(()).unwrap();
        assert_eq!(Answer::read(slow.await.unwrap()).await.unwrap().body, "done");
        client.ended.await.unwrap().unwrap();
    });
}

#[test]
fn a_drain_lets_streams_end_and_takes_no_new_ones() {
    let (release, port) = slow_upstream();
    let mut site = site_for(port, Settings::default());
    run(async {
        let mut busy = Client::plain(site.http).await;
        let mut idle = Client::plain(site.http).await;
        assert_eq!(idle.get("http://a.example/").await.unwrap().body, "done");
        let slow = Request::get("http://a.example/slow").body(()).unwrap();
        let (slow, _) = busy.send.send_request(slow, true).unwrap();
        // One after it, so that it has come for sure.
        assert_eq!(busy.get("http://a.example/").await.unwrap().body, "done");
        let stopped = site.stop();
        idle.ended.await.unwrap().unwrap();
        let refused = busy.refused().await;
        assert_eq!(refused.reason(), Some(Reason::NO_ERROR), "{refused:?}");
        assert!(!stopped.is_finished());
        release.send(()).unwrap();
        assert_eq!(Answer::read(slow.await.unwrap()).await.unwrap().body, "done");
        busy.ended.await.unwrap().unwrap();
        stopped.join().unwrap();
    });
}

/// What a client of HTTP/2 asks for a WebSocket with (RFC 8441 §5).
fn websocket(path: &str) -> Request<()> {
    let url = format!("http://a.example{path}");
    let mut request = Request::builder().method(Method::CONNECT).uri(url);
    request = request.header("sec-websocket-version", "13").header("sec-websocket-protocol", "chat");
    let mut request = request.body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    request
}

/// An upstream that changes the protocol where it is asked well, and then says everything again.
fn echo() -> u16 {
    upstream(|head, tcp| {
        let field = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
        };
        if head.starts_with("GET /refused ") {
            tcp.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").unwrap();
            return;
        }
        let asked = head.starts_with("GET /") && field("upgrade") == ["websocket"];
        if !asked || field("connection") != ["upgrade"] || field("sec-websocket-key").len() != 1 {
            return say(tcp, head);
        }
        let key = [field("sec-websocket-key").concat().as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"]
            .concat();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &key);
        let accept = if head.starts_with("GET /liar ") {
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned()
        } else {
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest)
        };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: \
             {accept}\r\nsec-websocket-protocol: chat\r\n\r\n\x01\x03hey"
        );
        tcp.write_all(answer.as_bytes()).unwrap();
        let mut part = [0u8; 4096];
        while let Ok(count @ 1..) = tcp.read(&mut part) {
            tcp.write_all(&part[..count]).unwrap();
        }
    })
}

async fn hear(stream: &mut RecvStream, bytes: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < bytes {
        let part = stream.data().await.unwrap().unwrap();
        stream.flow_control().release_capacity(part.len()).unwrap();
        heard.extend_from_slice(&part);
    }
    heard
}

#[test]
fn a_stream_becomes_a_websocket_and_its_connection_stays_http_2() {
    let mut site = site_for(echo(), Settings { drain: Duration::from_secs(4), ..Settings::default() });
    run(async {
        let mut client = Client::plain(site.http).await;
        assert!(client.get("http://a.example/").await.unwrap().body.starts_with("GET / "));
        assert!(client.send.is_extended_connect_protocol_enabled());
        let (answer, mut up) = client.send.send_request(websocket("/chat"), false).unwrap();
        let (head, mut down) = answer.await.unwrap().into_parts();
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(head.headers["sec-websocket-protocol"], "chat");
        for gone in ["sec-websocket-accept", "upgrade", "connection"] {
            assert!(!head.headers.contains_key(gone), "{gone}");
        }
        assert_eq!(hear(&mut down, 5).await, b"\x01\x03hey");
        up.send_data(Bytes::from_static(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']), false).unwrap();
        assert_eq!(hear(&mut down, 8).await, [0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
        assert_eq!(site.metric("baribhara_tunnels_open"), 1.0);
        // Others go on beside it.
        assert!(client.get("http://a.example/").await.unwrap().body.starts_with("GET / "));
        let stopped = site.stop();
        // The drain says goodbye between two frames, and lets the connection end.
        assert_eq!(hear(&mut down, 4).await, [0x88, 0x02, 0x03, 0xe9]);
        up.send_data(Bytes::from_static(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xe9]), true).unwrap();
        while let Some(Ok(rest)) = down.data().await {
            assert_eq!(rest, Bytes::new());
        }
        drop((up, down, client.send));
        stopped.join().unwrap();
    });
}

#[test]
fn what_is_no_tunnel_never_looks_like_one() {
    let site = site_for(echo(), Settings::default());
    let direct = Site::start(&[route("all", &[])], &tls(&[], None));
    run(async {
        let mut client = Client::plain(site.http).await;
        client.get("http://a.example/").await.unwrap();
        let other = |protocol| {
            let mut request = websocket("/other");
            request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
            request
        };
        for (name, request, want) in [
            ("the upstream refuses", websocket("/refused"), StatusCode::FORBIDDEN),
            ("the upstream does not know WebSocket", websocket("/liar"), StatusCode::BAD_GATEWAY),
            ("another protocol", other("connect-udp"), StatusCode::NOT_IMPLEMENTED),
            ("h2c", other("h2c"), StatusCode::NOT_IMPLEMENTED),
        ] {
            let (answer, _up) = client.send.send_request(request, false).unwrap();
            assert_eq!(Answer::read(answer.await.unwrap()).await.unwrap().status, want, "{name}");
        }
        let mut client = Client::plain(direct.http).await;
        client.get("http://a.example/").await.unwrap();
        let (answer, _up) = client.send.send_request(websocket("/"), false).unwrap();
        let answer = Answer::read(answer.await.unwrap()).await.unwrap();
        assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
        assert!(answer.body.contains("urn:baribhara:problem:upgrade-refused"), "{answer:?}");
    });
}
