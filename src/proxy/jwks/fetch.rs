//! Fetches one key set: resolves the name, looks at each address before it is asked, and takes no more and for no longer
//! than it should. Quotes nothing that came.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ir::{
    AddressRange, JWKS_BYTES_MAX, Jwk, KeySetError, KeysUri, RemoteKeys, Scheme, UpstreamTls,
    UpstreamVersion, parse_jwks,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::upstream::{ClientTls, SystemTrust};

const REDIRECTS_MAX: usize = 3;
/// Of those that a name leads to.
const ADDRESSES_MAX: usize = 8;
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;

/// Why a fetch brought nothing. Said in status, logs and the admin interface, so that it holds no byte of what came and no
/// query of a URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("there was no whole answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    #[error("the name cannot be resolved: {0}")]
    Unresolved(io::Error),
    #[error("the name leads to no address")]
    NoAddress,
    #[error("the name leads to the address {0}, which {1}")]
    AddressRefused(IpAddr, &'static str),
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("TLS cannot be set up: {0}")]
    TlsInvalid(String),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("the answer is no HTTP: {0}")]
    Http(hyper::Error),
    #[error("the answer has the status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("there are more than {REDIRECTS_MAX} redirects")]
    TooManyRedirects,
    #[error("a redirect leads to no URL")]
    RedirectMalformed,
    #[error("a redirect leads to another host, which is not followed")]
    RedirectElsewhere,
    #[error("the answer is compressed although that was not asked for")]
    Compressed,
    #[error("{}", .0.message())]
    KeySet(KeySetError),
    #[error("the answer broke off")]
    BrokeOff,
}

/// What a server said.
enum Said {
    Keys(Bytes),
    Redirect(String),
}

/// Everything within the timeout of the key set.
///
/// # Errors
/// See [`FetchError`].
pub(super) async fn fetch(spec: &RemoteKeys, system: &RefCell<SystemTrust>) -> Result<Vec<Jwk>, FetchError> {
    let bytes = timeout(spec.timeout, follow(spec, system))
        .await
        .map_err(|_| FetchError::TimedOut(spec.timeout))??;
    // Private parts are not read, and a symmetric key that anybody can fetch is no key.
    Ok(parse_jwks(&bytes, false).map_err(FetchError::KeySet)?.keys)
}

async fn follow(spec: &RemoteKeys, system: &RefCell<SystemTrust>) -> Result<Bytes, FetchError> {
    let mut uri = spec.uri.clone();
    for _ in 0..=REDIRECTS_MAX {
        match ask(spec, &uri, system).await? {
            Said::Keys(bytes) => return Ok(bytes),
            Said::Redirect(reference) => {
                let next = uri.join(&reference).map_err(|_| FetchError::RedirectMalformed)?;
                if !next.is_same_server(&spec.uri) {
                    return Err(FetchError::RedirectElsewhere);
                }
                uri = next;
            }
        }
    }
    Err(FetchError::TooManyRedirects)
}

async fn ask(spec: &RemoteKeys, uri: &KeysUri, system: &RefCell<SystemTrust>) -> Result<Said, FetchError> {
    // First, as an address that may not be asked is the better reason.
    let tcp = connect(spec, uri).await?;
    match uri.scheme() {
        Scheme::Http => exchange(tcp, uri).await,
        Scheme::Https => {
            let tls = client_tls(spec, uri, &mut system.borrow_mut())?;
            exchange(tls.handshake(tcp).await.map_err(FetchError::Tls)?, uri).await
        }
    }
}

fn client_tls(spec: &RemoteKeys, uri: &KeysUri, system: &mut SystemTrust) -> Result<ClientTls, FetchError> {
    let tls = UpstreamTls {
        server_name: uri.host().into(),
        subject_alt_names: Vec::new(),
        trust: spec.trust.clone(),
        client_certificate: None,
    };
    ClientTls::new(&tls, UpstreamVersion::Http1, system).map_err(FetchError::TlsInvalid)
}

/// Connects to the first address that takes the connection, of those that may be asked. Each is looked at when it is about
/// to be asked: a name may lead elsewhere by now (hardening JW16).
async fn connect(spec: &RemoteKeys, uri: &KeysUri) -> Result<TcpStream, FetchError> {
    let found = match uri.address() {
        Some(address) => vec![SocketAddr::from((address, uri.port()))],
        None => {
            let found = tokio::net::lookup_host((uri.host(), uri.port())).await;
            found.map_err(FetchError::Unresolved)?.take(ADDRESSES_MAX).collect()
        }
    };
    // An address that says nothing leaves time for the next.
    let share = spec.timeout / u32::try_from(found.len().clamp(1, 3)).unwrap_or(1);
    let mut error = FetchError::NoAddress;
    for address in found {
        if let Some(refusal) = refusal(address.ip(), spec.allow_private) {
            error = FetchError::AddressRefused(address.ip(), refusal);
            continue;
        }
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(failed)) => error = FetchError::Connect(failed),
            Err(_) => error = FetchError::Connect(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(error)
}

/// Why the address is not asked; completes "the address …, which …".
pub(super) fn refusal(address: IpAddr, allow_private: bool) -> Option<&'static str> {
    match AddressRange::of(address) {
        AddressRange::Public => None,
        AddressRange::Private if allow_private => None,
        AddressRange::Private => Some("is not public; --allow-private-jwks lets it be asked"),
        AddressRange::Never => Some("is never asked for keys"),
    }
}

/// One request and its answer. The connection ends with them.
async fn exchange<T>(io: T, uri: &KeysUri) -> Result<Said, FetchError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(FetchError::Http)?;
    let request = request(uri)?;
    let mut answer =
        pin!(async move { read(sender.send_request(request).await.map_err(FetchError::Http)?).await });
    let mut connection = pin!(connection);
    let mut is_open = true;
    loop {
        // Both are polled on after the other arm was taken, so nothing is lost.
        tokio::select! {
            biased;
            said = &mut answer => return said,
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

fn request(uri: &KeysUri) -> Result<Request<Empty<Bytes>>, FetchError> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri.target().parse().map_err(|_| FetchError::RedirectMalformed)?;
    let host = HeaderValue::from_str(&uri.authority()).map_err(|_| FetchError::RedirectMalformed)?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, host);
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("baribhara/", env!("CARGO_PKG_VERSION"))),
    );
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

async fn read(response: Response<Incoming>) -> Result<Said, FetchError> {
    let (head, body) = response.into_parts();
    match head.status {
        StatusCode::OK => {}
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => {
            let location = head.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
            return Ok(Said::Redirect(location.ok_or(FetchError::RedirectMalformed)?.to_owned()));
        }
        status => return Err(FetchError::Status(status)),
    }
    let is_plain = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if !head.headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain) {
        return Err(FetchError::Compressed);
    }
    let most = u64::try_from(JWKS_BYTES_MAX).unwrap_or(u64::MAX);
    if body.size_hint().lower() > most {
        return Err(FetchError::KeySet(KeySetError::TooLarge));
    }
    match Limited::new(body, JWKS_BYTES_MAX).collect().await {
        Ok(body) => Ok(Said::Keys(body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(FetchError::KeySet(KeySetError::TooLarge)),
        Err(_) => Err(FetchError::BrokeOff),
    }
}
