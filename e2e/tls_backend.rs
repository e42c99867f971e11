//! An HTTP/1.1 upstream behind TLS that shows what each handshake came to and answers with what it saw. It closes
//! nothing on its own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use crate::certificate::{Authority, Issued};
use crate::tls_client::roots;

/// A server with this chain, its own certificate first, that speaks these protocols.
///
/// # Panics
/// Never for certificates of [`crate::certificate`].
pub fn server_config(
    chain: &[&Issued],
    protocols: &[&str],
    clients: Option<&Authority>,
) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().expect("versions that the provider has");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(roots(&[&authority.der]));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier of clients"))
        }
    };
    let own = chain.first().expect("a certificate");
    let certificates = chain.iter().map(|issued| issued.der.clone()).collect();
    let mut config = builder.with_single_cert(certificates, own.key()).expect("a key that fits");
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// What a handshake came to.
#[derive(Clone, Debug)]
pub enum Handshake {
    Done {
        /// The name that the client asked for (RFC 6066 §3).
        server_name: Option<String>,
        protocol: Option<String>,
        resumed: bool,
        client: Option<CertificateDer<'static>>,
    },
    Failed(String),
}

/// Stops when dropped.
#[derive(Debug)]
pub struct TlsBackend {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    handshakes: Mutex<Vec<Handshake>>,
    heads: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

impl TlsBackend {
    /// Answers every request with 200 and `name`.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn start(name: &'static str, config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared::default());
        let state = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if state.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (state, config) = (Arc::clone(&state), Arc::clone(&config));
                // Ends with the client's connection: that is for the test to judge by what arrived.
                thread::spawn(move || drop(serve(&state, config, stream, name)));
            }
        });
        Self { address, shared }
    }

    /// All handshakes so far.
    ///
    /// # Panics
    /// Never: nobody panics under the lock.
    pub fn handshakes(&self) -> Vec<Handshake> {
        self.shared.handshakes.lock().expect("no panic under the lock").clone()
    }

    /// The heads of all requests so far.
    ///
    /// # Panics
    /// Never: nobody panics under the lock.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().expect("no panic under the lock").clone()
    }
}

impl Drop for TlsBackend {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(shared: &Shared, config: Arc<ServerConfig>, mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        if let Err(error) = tls.complete_io(&mut stream) {
            // The alert that says why.
            drop(tls.write_tls(&mut stream));
            let failed = Handshake::Failed(error.to_string());
            shared.handshakes.lock().expect("no panic under the lock").push(failed);
            return Err(error);
        }
    }
    let done = Handshake::Done {
        server_name: tls.server_name().map(str::to_owned),
        protocol: tls.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
        client: tls.peer_certificates().and_then(<[_]>::first).cloned().map(CertificateDer::into_owned),
    };
    shared.handshakes.lock().expect("no panic under the lock").push(done);
    let mut stream = BufReader::new(StreamOwned::new(tls, stream));
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok());
        io::copy(&mut (&mut stream).take(length.unwrap_or(0)), &mut io::sink())?;
        shared.heads.lock().expect("no panic under the lock").push(head);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        stream.get_mut().write_all(answer.as_bytes())?;
        stream.get_mut().flush()?;
    }
}
