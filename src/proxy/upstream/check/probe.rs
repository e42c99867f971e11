//! One check of one endpoint, from the connection to the verdict. Remembers nothing.

use std::future::Future;
use std::io;
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, Request, header};
use ir::{Probe, UpstreamVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time;
use tracing::debug;
use traffic::CheckOutcome;

use super::Check;
use crate::upstream::backend::Target;
use crate::upstream::connect::{connect, dial};
use crate::upstream::io::Io;

/// The longest head of an answer, and the most fields in it.
const HEAD_BYTES_MAX: usize = 16 << 10;
const FIELDS_MAX: usize = 64;
/// The longest answer of `grpc.health.v1`.
const MESSAGE_BYTES_MAX: usize = 1 << 10;
const GRPC_PATH: &str = "/grpc.health.v1.Health/Check";
/// `HealthCheckResponse` with `status: SERVING`, after its five bytes of frame.
const SERVING: &[u8] = &[0x08, 0x01];
const USER_AGENT: &str = concat!("baribhara-health/", env!("CARGO_PKG_VERSION"));

/// What is asked over HTTP.
struct Question<'a> {
    path: &'a str,
    host: &'a [u8],
    headers: &'a [(HeaderName, HeaderValue)],
    expected: &'a [(u16, u16)],
}

/// Checks the endpoint within the time that a check may take.
pub(super) async fn ask(check: &Check, target: &Target) -> CheckOutcome {
    let timeout = check.config.timeout;
    let checked = async {
        let (path, host, headers, expected) = match &check.config.probe {
            Probe::Tcp => {
                let reached = dial(target, timeout).await;
                return if reached.is_ok() { CheckOutcome::Passed } else { CheckOutcome::Unreachable };
            }
            Probe::Http { path, host, headers, expected } => (path, host, headers, expected),
            Probe::Grpc { service } => {
                let Ok(io) = connect(target, &check.protocol, timeout).await else {
                    return CheckOutcome::Unreachable;
                };
                let to = (check.protocol.scheme(), &*target.label);
                return verdict(target, grpc(io, to, service).await);
            }
        };
        let Ok(io) = connect(target, &check.protocol, timeout).await else {
            return CheckOutcome::Unreachable;
        };
        let host = host.as_ref().map_or(target.label.as_bytes(), HeaderValue::as_bytes);
        let question = Question { path, host, headers, expected };
        let status = match check.protocol.version() {
            UpstreamVersion::Http1 => http1(io, &question).await,
            UpstreamVersion::Http2 => http2(io, check.protocol.scheme(), &question).await,
        };
        let is_expected =
            |status: u16| question.expected.iter().any(|(first, last)| (*first..=*last).contains(&status));
        verdict(target, status.map(is_expected))
    };
    time::timeout(timeout, checked).await.unwrap_or(CheckOutcome::Failed)
}

fn verdict(target: &Target, passed: io::Result<bool>) -> CheckOutcome {
    match passed {
        Ok(true) => CheckOutcome::Passed,
        Ok(false) => CheckOutcome::Failed,
        Err(error) => {
            debug!(endpoint = %target.endpoint, %error, "a health check got no answer");
            CheckOutcome::Failed
        }
    }
}

/// The status of a GET. The connection is not used again.
async fn http1(mut io: Io, question: &Question<'_>) -> io::Result<u16> {
    let mut head = Vec::with_capacity(256);
    head.extend_from_slice(b"GET ");
    head.extend_from_slice(question.path.as_bytes());
    head.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    head.extend_from_slice(question.host);
    for (name, value) in question.headers {
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
    }
    if !question.headers.iter().any(|(name, _)| name == header::USER_AGENT) {
        head.extend_from_slice(b"\r\nUser-Agent: ");
        head.extend_from_slice(USER_AGENT.as_bytes());
    }
    head.extend_from_slice(b"\r\nConnection: close\r\n\r\n");
    io.write_all(&head).await?;
    io.flush().await?;
    let mut read = BytesMut::with_capacity(1 << 10);
    loop {
        if let Some((status, length)) = status_of(&read)? {
            if status >= 200 || status == 101 {
                return Ok(status);
            }
            drop(read.split_to(length));
            continue;
        }
        if read.len() >= HEAD_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the head is too long"));
        }
        if io.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The status of the answer and the length of its head; `None`: there must be more.
fn status_of(read: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(read) {
        Ok(httparse::Status::Complete(length)) => Ok(response.code.map(|code| (code, length))),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
    }
}

async fn http2(io: Io, scheme: Scheme, question: &Question<'_>) -> io::Result<u16> {
    let host = std::str::from_utf8(question.host).unwrap_or_default();
    let mut request = request(Method::GET, (scheme, host), question.path)?;
    for (name, value) in question.headers {
        request.headers_mut().append(name, value.clone());
    }
    exchange(io, request, None, async |response| Ok(response.status().as_u16())).await
}

/// Whether the service says that it serves.
async fn grpc(io: Io, to: (Scheme, &str), service: &str) -> io::Result<bool> {
    let mut request = request(Method::POST, to, GRPC_PATH)?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    exchange(io, request, Some(asked_after(service)), async |response| {
        let mut body = response.into_body();
        let mut message = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(io::Error::other)?;
            message.extend_from_slice(&data);
            body.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
            if message.len() > MESSAGE_BYTES_MAX {
                return Ok(false);
            }
        }
        let trailers = body.trailers().await.map_err(io::Error::other)?.unwrap_or_default();
        let is_ok = trailers.get("grpc-status").is_some_and(|status| status == "0");
        Ok(is_ok && message.get(5..) == Some(SERVING))
    })
    .await
}

/// `HealthCheckRequest` in its frame. The name is short enough for a length of one byte.
fn asked_after(service: &str) -> Bytes {
    let length = u8::try_from(service.len()).unwrap_or(0);
    let mut frame = BytesMut::with_capacity(7 + service.len());
    frame.put_u8(0);
    if length == 0 {
        frame.put_u32(0);
    } else {
        frame.put_u32(u32::from(length) + 2);
        frame.put_slice(&[0x0a, length]);
        frame.put_slice(service.as_bytes());
    }
    frame.freeze()
}

fn request(method: Method, (scheme, host): (Scheme, &str), path: &str) -> io::Result<Request<()>> {
    Request::builder()
        .method(method)
        .uri(format!("{scheme}://{host}{path}"))
        .header(header::USER_AGENT, USER_AGENT)
        .body(())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// One request on a connection of its own, which ends with it.
async fn exchange<T>(
    io: Io,
    request: Request<()>,
    body: Option<Bytes>,
    read: impl AsyncFnOnce(http::Response<h2::RecvStream>) -> io::Result<T>,
) -> io::Result<T> {
    let (sender, connection) =
        h2::client::Builder::new().handshake::<_, Bytes>(io).await.map_err(io::Error::other)?;
    let asked = async {
        let mut sender = sender.ready().await.map_err(io::Error::other)?;
        let (response, mut stream) =
            sender.send_request(request, body.is_none()).map_err(io::Error::other)?;
        if let Some(body) = body {
            stream.send_data(body, true).map_err(io::Error::other)?;
        }
        read(response.await.map_err(io::Error::other)?).await
    };
    driven(asked, connection).await
}

/// Lets the connection go on until the answer is there. What came before its end still counts.
async fn driven<T>(asked: impl Future<Output = io::Result<T>>, connection: impl Future) -> io::Result<T> {
    let mut asked = pin!(asked);
    tokio::select! {
        biased;
        answer = &mut asked => return answer,
        _ = connection => {}
    }
    asked.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_after_a_service_is_one_frame() {
        assert_eq!(&*asked_after(""), [0, 0, 0, 0, 0]);
        assert_eq!(&*asked_after("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
    }

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        /// What was read, and what it is; `None`: no HTTP.
        type Case<'a> = (&'a [u8], Option<Option<(u16, usize)>>);
        let cases: &[Case<'_>] = &[
            (b"HTTP/1.1 20", Some(None)),
            (b"HTTP/1.1 204 No Content\r\n\r\nrest", Some(Some((204, 27)))),
            (b"HTTP/1.0 503 X\r\nA: b\r\n\r\n", Some(Some((503, 24)))),
            (b"SSH-2.0-x\r\n", None),
        ];
        for (read, want) in cases {
            assert_eq!(status_of(read).ok(), *want, "{}", String::from_utf8_lossy(read));
        }
    }

    /// What a server of HTTP/2 makes of one request: its path and body are told, and these are answered.
    async fn over_http2(
        message: &'static [u8],
        status: &'static str,
        ask: impl AsyncFnOnce(Io) -> io::Result<bool>,
    ) -> (io::Result<bool>, String, Bytes) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(tcp).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            let path = request.uri().path().to_owned();
            let mut body = request.into_body();
            let asked = async {
                let asked = match body.data().await {
                    Some(data) => data.unwrap(),
                    None => Bytes::new(),
                };
                let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
                stream.send_data(Bytes::from_static(message), false).unwrap();
                let trailers = [(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))];
                stream.send_trailers(trailers.into_iter().collect()).unwrap();
                asked
            };
            let mut asked = pin!(asked);
            let mut got = None;
            loop {
                tokio::select! {
                    done = &mut asked, if got.is_none() => got = Some(done),
                    next = connection.accept() => if next.is_none() { break },
                }
            }
            (path, got.unwrap_or_default())
        };
        let asking = async {
            let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
            ask(Io::Plain(tcp)).await
        };
        let (passed, (path, body)) = tokio::join!(asking, serve);
        (passed, path, body)
    }

    #[tokio::test]
    async fn a_grpc_service_passes_that_says_it_serves() {
        let cases: [(&[u8], &str, bool); 5] = [
            (&[0, 0, 0, 0, 2, 8, 1], "0", true),
            (&[0, 0, 0, 0, 2, 8, 2], "0", false),
            (&[0, 0, 0, 0, 0], "0", false),
            (&[0, 0, 0, 0, 2, 8, 1], "14", false),
            (&[], "5", false),
        ];
        for (message, status, want) in cases {
            let ask = async |io| grpc(io, (Scheme::HTTP, "192.0.2.1:50051"), "shop.Cart").await;
            let (passed, path, body) = over_http2(message, status, ask).await;
            assert_eq!(passed.unwrap(), want, "{message:?} {status}");
            assert_eq!((&*path, &*body), (GRPC_PATH, &b"\0\0\0\0\x0b\x0a\x09shop.Cart"[..]));
        }
    }

    #[tokio::test]
    async fn a_get_goes_over_http2_where_the_backend_speaks_it() {
        let ask = async |io| {
            let question = Question { path: "/healthz?x=1", host: b"shop", headers: &[], expected: &[] };
            Ok(http2(io, Scheme::HTTP, &question).await? == 200)
        };
        let (passed, path, _) = over_http2(b"ok", "0", ask).await;
        assert_eq!((passed.unwrap(), &*path), (true, "/healthz"));
    }
}
