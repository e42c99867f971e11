//! An HTTP/1.1 client over TLS that shows what a handshake came to. Connections end as TLS wants it, with a
//! close_notify: one that only breaks off is an error.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ALL_VERSIONS, AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme, StreamOwned, SupportedProtocolVersion,
};

use crate::certificate::{Authority, Issued};
use crate::client::{Request, Response};

/// The longest wait for bytes.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// A client that trusts this authority, offers no protocol by ALPN and resumes nothing.
///
/// # Panics
/// Never for an authority of [`crate::certificate`].
pub fn config(authority: &Authority) -> ClientConfig {
    config_of(authority, ALL_VERSIONS)
}

/// As [`config`], of these versions of TLS.
///
/// # Panics
/// As there.
pub fn config_of(authority: &Authority, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(versions).expect("versions that the provider has");
    let mut config = builder.with_root_certificates(roots(&[&authority.der])).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

/// As [`config`], but it shows this certificate where the server asks for one. Chains go in as the server should see
/// them: its own certificate first.
///
/// # Panics
/// Never for certificates of [`crate::certificate`].
pub fn config_with_certificate(authority: &Authority, chain: &[&Issued]) -> ClientConfig {
    let own = chain.first().expect("a certificate to show");
    let certificates = chain.iter().map(|issued| issued.der.clone()).collect();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(ALL_VERSIONS).expect("versions that the provider has");
    let builder = builder.with_root_certificates(roots(&[&authority.der]));
    let mut config = builder.with_client_auth_cert(certificates, own.key()).expect("a key that fits");
    config.resumption = Resumption::disabled();
    config
}

/// The same client, but it offers HTTP/2 and nothing else (RFC 9113 §3.2).
#[must_use]
pub fn offering_h2(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// As [`config`], but takes every certificate, whoever signed it and whatever name it is for.
///
/// # Panics
/// Never.
pub fn config_without_trust() -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().expect("versions that the provider has");
    let verifier = Arc::new(AnyCertificate(provider));
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

/// One connection whose handshake is over.
#[derive(Debug)]
pub struct TlsConnection {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl TlsConnection {
    /// Connects and names this host (RFC 6066 §3).
    ///
    /// # Errors
    /// Of the connection or the handshake: [`alert`] says which.
    pub fn open(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let tls = ClientConnection::new(Arc::clone(config), server_name(name)).map_err(io::Error::other)?;
        Self::shake_hands(tls, connect(address)?)
    }

    /// Goes on with a handshake of which the other side may have got a part.
    ///
    /// # Errors
    /// Of the connection or the handshake.
    pub fn shake_hands(mut tls: ClientConnection, mut stream: TcpStream) -> io::Result<Self> {
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(Self { stream: BufReader::with_capacity(64 * 1024, StreamOwned::new(tls, stream)) })
    }

    /// What the handshake came to.
    pub fn tls(&self) -> &ClientConnection {
        &self.stream.get_ref().conn
    }

    /// The certificate of the server itself.
    ///
    /// # Panics
    /// When it sent none.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.tls().peer_certificates().and_then(<[_]>::first).expect("a certificate of the server")
    }

    /// The connection for another protocol than HTTP/1.1. What was read ahead is lost: nothing may have been asked.
    pub fn into_stream(self) -> StreamOwned<ClientConnection, TcpStream> {
        self.stream.into_inner()
    }

    /// # Errors
    /// Of the connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// Of the connection, or an answer that is not whole.
    pub fn ask(&mut self, request: &Request) -> io::Result<Response> {
        self.send(&request.bytes())?;
        self.response(&request.method)
    }

    /// Reads the answer to a request of this method.
    ///
    /// # Errors
    /// Of the connection, or an answer that is not whole.
    pub fn response(&mut self, method: &str) -> io::Result<Response> {
        let line = self.line()?;
        let code = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = code.and_then(|code| code.parse().ok()).ok_or_else(|| bad(&line))?;
        let headers = self.header_lines()?;
        let (body, trailers, interim) = (Vec::new(), Vec::new(), Vec::new());
        let mut response = Response { status, headers, body, trailers, interim };
        if method == "HEAD" || matches!(status, 204 | 304) {
            return Ok(response);
        }
        match (response.header("transfer-encoding"), response.header("content-length")) {
            (Some("chunked"), None) => {
                response.body = self.chunks()?;
                response.trailers = self.header_lines()?;
            }
            (None, Some(length)) => {
                let length = length.parse().map_err(|_| bad(length))?;
                response.body = self.exactly(length)?;
            }
            (coding, length) => return Err(bad(&format!("framing {coding:?} with {length:?}"))),
        }
        Ok(response)
    }

    /// Whatever still comes until the server closes.
    ///
    /// # Errors
    /// When it ends without a close_notify, or not in time.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(&line, 16).map_err(|_| bad(&line))?;
            if size == 0 {
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            if self.exactly(2)? != b"\r\n" {
                return Err(bad("a chunk without its end"));
            }
        }
    }

    fn header_lines(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(headers);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        let text = String::from_utf8_lossy(&line);
        text.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| bad(&text))
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// One request on a connection of its own; the name of the handshake is that of `Host`.
///
/// # Errors
/// Of the connection, the handshake, or an answer that is not whole.
pub fn ask(address: SocketAddr, config: &Arc<ClientConfig>, request: &Request) -> io::Result<Response> {
    let host = request.headers.iter().find(|(name, _)| name == "Host").map_or("", |(_, value)| value);
    TlsConnection::open(address, host, config)?.ask(request)
}

/// The alert by which the other side ended a handshake.
pub fn alert(error: &io::Error) -> Option<AlertDescription> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    if let rustls::Error::AlertReceived(alert) = inner { Some(*alert) } else { None }
}

/// A connection of TCP, as [`TlsConnection::shake_hands`] takes it.
///
/// # Errors
/// Of the connect.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    Ok(stream)
}

/// A client's side before it has sent anything, and its ClientHello as records.
///
/// # Panics
/// When the name is none.
pub fn hello(name: &str, config: &Arc<ClientConfig>) -> (ClientConnection, Vec<u8>) {
    let mut tls = ClientConnection::new(Arc::clone(config), server_name(name)).expect("a client");
    let mut bytes = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).expect("a vector takes everything");
    }
    (tls, bytes)
}

/// What a run of `openssl s_client` wrote to standard output and to standard error.
#[derive(Clone, Debug)]
pub struct OpensslOutput {
    pub stdout: String,
    pub stderr: String,
}

impl OpensslOutput {
    /// The PEM of the server's own certificate without its line ends; empty when there was none.
    pub fn certificate(&self) -> String {
        let begin = self.stdout.find("-----BEGIN CERTIFICATE-----").unwrap_or(self.stdout.len());
        let end = "-----END CERTIFICATE-----";
        let from = &self.stdout[begin..];
        from.find(end).map_or_else(String::new, |at| without_line_ends(&from[..at + end.len()]))
    }
}

/// For comparing PEM.
pub fn without_line_ends(pem: &str) -> String {
    pem.split_whitespace().collect()
}

/// `openssl s_client` with these arguments, for what rustls does not do. Sends the text and waits for
/// the end.
///
/// # Panics
/// When openssl is not there.
pub fn openssl(address: SocketAddr, args: &[&str], text: &str) -> OpensslOutput {
    let mut child = Command::new("timeout")
        .args(["20", "openssl", "s_client", "-ign_eof", "-connect", &address.to_string()])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl (.ci/tools openssl)");
    // A refused handshake ends it before it has read anything.
    drop(child.stdin.take().expect("piped").write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("the output of openssl");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    OpensslOutput { stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A store of these authorities alone.
///
/// # Panics
/// When one is none.
pub fn roots(authorities: &[&CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add((*authority).clone()).expect("the certificate of an authority");
    }
    roots
}

fn server_name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).expect("a name of a server")
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP/1.1: {what:?}"))
}

/// Checks that the server has the key of its certificate, and nothing else.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
