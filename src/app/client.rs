//! One plain HTTP request with its answer, for `probe` and for questions to the admin interface of a running gateway.
//! No TLS, no redirects, no pool.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The longest answer that is read: the table of a very large install.
const BODY_BYTES_MAX: usize = 256 << 20;

/// A request to be sent.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    /// `http://HOST[:PORT]/PATH`.
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(String, String)],
    /// JSON; empty: none.
    pub(crate) body: Vec<u8>,
    /// For everything from the connection to the last byte.
    pub(crate) timeout: Duration,
}

impl Question<'_> {
    /// Sends it and reads the answer.
    ///
    /// # Errors
    /// A URL that is no `http` one, a header that is none, no connection, no answer in time.
    pub(crate) fn ask(self) -> anyhow::Result<Response<Bytes>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (url, timeout) = (self.url.to_owned(), self.timeout);
        let asked = runtime.block_on(async { tokio::time::timeout(timeout, self.exchange()).await });
        match asked {
            Ok(answer) => answer.with_context(|| format!("{url} cannot be asked")),
            Err(_) => bail!("{url} gave no answer within {timeout:?}"),
        }
    }

    async fn exchange(self) -> anyhow::Result<Response<Bytes>> {
        let url: Uri = self.url.parse().context("this is no URL")?;
        let Some(authority) = url.authority().filter(|_| url.scheme() == Some(&Scheme::HTTP)) else {
            bail!("expected http://HOST[:PORT]/PATH");
        };
        let stream = TcpStream::connect((host(authority.host()), authority.port_u16().unwrap_or(80))).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Full::new(Bytes::from(self.body)));
        *request.method_mut() = self.method;
        *request.uri_mut() = path.parse()?;
        let fields = request.headers_mut();
        fields.insert(HOST, HeaderValue::from_str(authority.as_str())?);
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.headers {
            let name: HeaderName = name.parse().with_context(|| format!("header {name:?}"))?;
            fields.insert(name, HeaderValue::from_str(value)?);
        }
        let answered = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
            anyhow::Ok(Response::from_parts(head, body.to_bytes()))
        };
        let mut answered = std::pin::pin!(answered);
        tokio::select! {
            answer = &mut answered => answer,
            // The connection may end together with the answer, which is then read to its end.
            ended = connection => {
                ended?;
                answered.await
            }
        }
    }
}

/// Without the brackets of an IPv6 address.
fn host(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}
