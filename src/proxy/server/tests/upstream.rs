//! Upstreams for tests: a thread that accepts connections, with TLS or without, and does with each what the test says.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{Request, Response};
use ir::{Action, BackendId, BackendTarget, UpstreamProtocol, WeightedBackend};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;

use super::support::{Site, ask, dial, route, until};
use crate::settings::Settings;
use crate::tls::testing::tls;

/// A connection from the gateway.
pub(super) struct Accepted {
    /// Counts from 0.
    pub(super) number: usize,
    pub(super) io: Box<dyn Io>,
    pub(super) resumed: bool,
}

pub(super) trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// Serves on a free port. Handshakes that fail are forgotten.
pub(super) fn start<F: Future<Output = ()> + 'static>(
    tls: Option<Arc<ServerConfig>>,
    serve: impl Fn(Accepted) -> F + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut number = 0;
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let accepted = match &tls {
                    None => Accepted { number, io: Box::new(tcp), resumed: false },
                    Some(config) => match TlsAcceptor::from(Arc::clone(config)).accept(tcp).await {
                        Ok(stream) => {
                            let kind = stream.get_ref().1.handshake_kind();
                            let resumed = kind == Some(rustls::HandshakeKind::Resumed);
                            Accepted { number, io: Box::new(stream), resumed }
                        }
                        Err(_) => continue,
                    },
                };
                number += 1;
                tokio::task::spawn_local(serve(accepted));
            }
        })
    });
    port
}

/// A request that came over HTTP/2, and where its answer goes.
pub(super) type Asked = (Request<h2::RecvStream>, SendResponse<Bytes>);

/// Speaks HTTP/2 on the connection: each request is told with the connection's number.
pub(super) async fn speak_h2<F: Future<Output = ()> + 'static>(
    accepted: Accepted,
    answer: impl Fn(usize, Asked) -> F,
) {
    let Accepted { number, io, .. } = accepted;
    let Ok(mut connection) = h2::server::handshake(io).await else { return };
    while let Some(Ok(asked)) = connection.accept().await {
        tokio::task::spawn_local(answer(number, asked));
    }
}

/// The whole body, room for more being given at once.
pub(super) async fn read_body(body: &mut h2::RecvStream) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(Ok(part)) = body.data().await {
        body.flow_control().release_capacity(part.len()).unwrap();
        whole.extend_from_slice(&part);
    }
    whole
}

/// 200 with the connection's number and a text.
pub(super) fn answer_with(number: usize, (_, mut respond): Asked, text: impl Into<Bytes>) {
    let response = Response::builder().header("x-connection", number).body(()).unwrap();
    let Ok(mut send) = respond.send_response(response, false) else { return };
    // The gateway may be gone.
    drop(send.send_data(text.into(), true));
}

pub(super) const HTTP1: UpstreamProtocol =
    UpstreamProtocol { version: ir::UpstreamVersion::Http1, tls: None };
pub(super) const HTTP2: UpstreamProtocol =
    UpstreamProtocol { version: ir::UpstreamVersion::Http2, tls: None };

/// The backend of this name.
pub(super) fn backend(name: &str) -> BackendId {
    BackendId::Service { namespace: "shop".into(), name: name.into(), port: 80 }
}

/// A route for a host to the backend of the same name.
pub(super) fn forwarding(host: &str, protocol: UpstreamProtocol) -> ir::Route {
    let target = BackendTarget::Backend(backend(host));
    let action = Action::Forward {
        backends: vec![WeightedBackend { target, weight: 1, protocol }],
        rewrite: None,
        retry: ir::Retry::default(),
        circuit_breaker: ir::CircuitBreaker::default(),
        load_balancing: ir::LoadBalancing::default(),
        passive_health: None,
        active_health: None,
        upgrades: ir::Upgrades::default(),
        grpc_web: false,
    };
    ir::Route { action, ..route(host, &[host]) }
}

/// A data plane in front of upstreams, each an endpoint of the backend of this name.
pub(super) fn site(routes: &[ir::Route], upstreams: &[(&str, u16)]) -> Site {
    let upstreams: Vec<_> = upstreams.iter().map(|(name, port)| (*name, "127.0.0.1", *port)).collect();
    site_at(Settings::default(), routes, &upstreams)
}

/// The same with these settings, and upstreams by address or name.
pub(super) fn site_at(settings: Settings, routes: &[ir::Route], upstreams: &[(&str, &str, u16)]) -> Site {
    let mut routes = routes.to_vec();
    // Nobody listens there; the answer tells that the endpoints have arrived.
    routes.push(forwarding("last.example", HTTP1));
    let site = Site::with(settings, &routes, &tls(&[], None));
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let mut by_name: BTreeMap<BackendId, ir::BackendEndpoints> = BTreeMap::new();
    for (name, host, port) in upstreams.iter().copied().chain([("last.example", "127.0.0.1", closed)]) {
        let endpoints = &mut by_name.entry(backend(name)).or_default().endpoints;
        endpoints.push(ir::Endpoint { host: host.into(), port });
        endpoints.sort();
    }
    let backends = by_name.into_iter().map(|(id, endpoints)| (id, Arc::new(endpoints)));
    site.set_endpoints(ir::EndpointMap { backends: backends.collect() });
    until("the endpoints have arrived", || {
        let answer = ask(&mut dial(site.http), "GET", "last.example", "/", &[]).unwrap();
        answer.body.contains("connect-failed")
    });
    site
}
