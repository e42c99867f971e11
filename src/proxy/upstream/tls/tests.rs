//! What comes on a connection while nothing is on it, and sessions that are resumed.

use std::net::Ipv4Addr;

use rustls::pki_types::PrivateKeyDer;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, server};

use super::*;
use crate::tls::testing::Issued;
use crate::upstream::io::Io;

struct Pair {
    client: Io,
    server: server::TlsStream<TcpStream>,
}

struct Server {
    config: Arc<ServerConfig>,
    client: ClientTls,
}

impl Server {
    fn new(tickets: usize) -> Self {
        let shown = Issued::of(&["up.example"]);
        let key = PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(shown.chain_der, key)
            .unwrap();
        config.send_tls13_tickets = tickets;
        let tls = UpstreamTls {
            server_name: "up.example".into(),
            subject_alt_names: Vec::new(),
            trust: Trust::Anyone,
            client_certificate: None,
        };
        let client = ClientTls::new(&tls, UpstreamVersion::Http1, &mut SystemTrust::default()).unwrap();
        Self { config: Arc::new(config), client }
    }

    async fn connect(&self) -> Pair {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accept = async {
            let (tcp, _) = listener.accept().await.unwrap();
            TlsAcceptor::from(Arc::clone(&self.config)).accept(tcp).await.unwrap()
        };
        let connect = async {
            let tcp = TcpStream::connect(address).await.unwrap();
            self.client.handshake(tcp).await.unwrap()
        };
        let (server, client) = tokio::join!(accept, connect);
        Pair { client: Io::Tls(Box::new(client)), server }
    }
}

/// Comes back when bytes have arrived.
async fn arrival(io: &Io) {
    let Io::Tls(tls) = io else { unreachable!() };
    tls.get_ref().0.readable().await.unwrap();
}

fn resumed(io: &Io) -> bool {
    let Io::Tls(tls) = io else { unreachable!() };
    tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

#[tokio::test]
async fn tickets_that_come_while_a_connection_is_idle_leave_it_usable_and_are_kept() {
    for ask_kernel in [false, true] {
        let server = Server::new(2);
        let Pair { mut client, .. } = {
            let mut pair = server.connect().await;
            assert!(!resumed(&pair.client));
            // Nothing was read since the handshake, so they still wait.
            arrival(&pair.client).await;
            let is_usable = if ask_kernel { pair.client.is_open_now() } else { pair.client.is_idle() };
            assert!(is_usable, "{ask_kernel}");
            pair
        };
        assert!(!client.is_open_now(), "the server has gone");
        assert!(resumed(&server.connect().await.client), "{ask_kernel}");
    }
}

#[tokio::test]
async fn new_keys_leave_a_connection_usable_and_data_does_not() {
    let mut pair = Server::new(0).connect().await;
    assert!(pair.client.is_idle() && pair.client.is_open_now());
    pair.server.get_mut().1.refresh_traffic_keys().unwrap();
    pair.server.flush().await.unwrap();
    arrival(&pair.client).await;
    assert!(pair.client.is_idle() && pair.client.is_open_now());
    pair.server.write_all(b"x").await.unwrap();
    pair.server.flush().await.unwrap();
    arrival(&pair.client).await;
    assert!(!pair.client.is_idle() && !pair.client.is_open_now());
}

#[tokio::test]
async fn a_closed_connection_is_not_usable() {
    let mut pair = Server::new(0).connect().await;
    // Says goodbye, and leaves its side of the socket half open.
    pair.server.get_mut().1.send_close_notify();
    pair.server.flush().await.unwrap();
    arrival(&pair.client).await;
    assert!(!pair.client.is_idle());
    let mut pair = Server::new(0).connect().await;
    drop(pair.server);
    arrival(&pair.client).await;
    assert!(!pair.client.is_idle());
}
