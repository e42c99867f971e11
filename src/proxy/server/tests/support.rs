//! A data plane on free ports and a plain client for it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ir::{
    Action, Applied, Config, ControlState, DirectResponse, EndpointMap, HostPattern, Passthrough, Route,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tokio::sync::watch;

use crate::settings::{AccessLogTarget, Settings};
use crate::tls::testing::host;
use crate::{Feeds, Server};

/// How long anything may take that has no bound of its own; long, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until it is so.
pub(super) fn until(what: &str, mut probe: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !probe() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A running data plane.
pub(super) struct Site {
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) admin: SocketAddr,
    server: Option<Server>,
    applied: watch::Receiver<Applied>,
    config: watch::Sender<Arc<Config>>,
    endpoints: watch::Sender<Arc<EndpointMap>>,
    _state: watch::Sender<ControlState>,
}

impl Site {
    pub(super) fn start(routes: &[Route], tls: &Arc<ir::Tls>) -> Self {
        Self::with(Settings::default(), routes, tls)
    }

    pub(super) fn with(settings: Settings, routes: &[Route], tls: &Arc<ir::Tls>) -> Self {
        let site = Self::unconfigured(settings);
        site.publish(routes, tls);
        site
    }

    /// Serves nothing yet. Addresses and the lame-duck time of `settings` do not count, nor does a log to the standard
    /// output.
    pub(super) fn unconfigured(settings: Settings) -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let settings = Settings {
            http: free,
            https: Some(free),
            admin: free,
            lame_duck: Duration::ZERO,
            access_log: match settings.access_log {
                AccessLogTarget::Stdout => AccessLogTarget::Off,
                other @ (AccessLogTarget::Off | AccessLogTarget::File(_)) => other,
            },
            ..settings
        };
        let (config, config_feed) = watch::channel(Arc::default());
        let (endpoints, endpoints_feed) = watch::channel(Arc::default());
        let (state, state_feed) = watch::channel(ControlState::default());
        let feeds = Feeds { config: config_feed, endpoints: endpoints_feed, state: state_feed };
        let server = Server::start(settings, feeds).unwrap();
        Self {
            http: server.http,
            https: server.https.unwrap(),
            admin: server.admin,
            applied: server.applied.clone(),
            server: Some(server),
            config,
            endpoints,
            _state: state,
        }
    }

    /// Comes back when all workers serve it.
    pub(super) fn publish(&self, routes: &[Route], tls: &Arc<ir::Tls>) {
        self.publish_all(routes, tls, BTreeMap::new());
    }

    /// The same with hosts whose connections are passed through.
    pub(super) fn publish_all(
        &self,
        routes: &[Route],
        tls: &Arc<ir::Tls>,
        passthrough: BTreeMap<HostPattern, Arc<Passthrough>>,
    ) {
        let generation = self.config.borrow().generation + 1;
        let routes = routes.iter().map(|route| (route.id.clone(), Arc::new(route.clone())));
        let (routes, tls, passthrough) = (routes.collect(), Arc::clone(tls), Arc::new(passthrough));
        self.config.send_replace(Arc::new(Config { generation, routes, tls, passthrough }));
        until("the generation is served", || self.applied.borrow().generation == generation);
    }

    pub(super) fn set_endpoints(&self, endpoints: EndpointMap) {
        self.endpoints.send_replace(Arc::new(endpoints));
    }

    /// The value of one line of `/metrics`; 0 where there is none.
    pub(super) fn metric(&self, series: &str) -> f64 {
        let mut admin = TcpStream::connect(self.admin).unwrap();
        let text = ask(&mut admin, "GET", "admin", "/metrics", &[]).unwrap().body;
        let prefix = format!("{series} ");
        text.lines().find_map(|line| line.strip_prefix(&prefix)).map_or(0.0, |value| value.parse().unwrap())
    }

    /// Handshakes that ended so.
    pub(super) fn handshakes(&self, result: &str) -> f64 {
        let https = self.https;
        self.metric(&format!("baribhara_tls_handshakes_total{{listener=\"{https}\",result=\"{result}\"}}"))
    }

    pub(super) fn open_connections(&self) -> f64 {
        self.metric(&format!("baribhara_connections{{listener=\"{}\"}}", self.https))
    }

    /// Begins the end; the thread comes back with it.
    pub(super) fn stop(&mut self) -> thread::JoinHandle<()> {
        let server = self.server.take().unwrap();
        thread::spawn(|| server.stop())
    }

    pub(super) fn connect(&self, name: &str) -> Client {
        self.connect_with(name, &crate::tls::testing::any_client()).unwrap()
    }

    /// With a name (or an address, which is not sent) and the client's settings.
    pub(super) fn connect_with(
        &self,
        name: &str,
        config: &Arc<ClientConfig>,
    ) -> Result<Client, rustls::Error> {
        handshake(dial(self.https), name, config)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

pub(super) fn dial(address: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp
}

pub(super) type Client = StreamOwned<ClientConnection, TcpStream>;

/// What rustls says of a failure.
pub(super) fn handshake(
    mut tcp: TcpStream,
    name: &str,
    config: &Arc<ClientConfig>,
) -> Result<Client, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut tcp) {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            return Err(inner.cloned().unwrap_or_else(|| panic!("{error}")));
        }
    }
    Ok(StreamOwned::new(connection, tcp))
}

/// The server's own certificate.
pub(super) fn certificate_of(client: &Client) -> &[u8] {
    &client.conn.peer_certificates().unwrap()[0]
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

pub(super) fn get(io: &mut (impl Read + Write), host: &str, path: &str) -> Answer {
    ask(io, "GET", host, path, &[]).unwrap()
}

/// Asks and reads the whole answer.
pub(super) fn ask(
    io: &mut (impl Read + Write),
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> io::Result<Answer> {
    let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    io.write_all(format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    let head_bytes = loop {
        read_more(io, &mut bytes)?;
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8(bytes[..head_bytes].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let fields = lines.filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> =
        fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head_bytes + length {
        read_more(io, &mut bytes)?;
    }
    let body = String::from_utf8(bytes[head_bytes..].to_vec()).unwrap();
    Ok(Answer { status, headers, body })
}

fn read_more(io: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut part = [0u8; 16 << 10];
    match io.read(&mut part)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => {
            bytes.extend_from_slice(&part[..count]);
            Ok(())
        }
    }
}

/// Whatever still comes until the peer closes.
pub(super) fn read_to_end(mut tcp: &TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    match tcp.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
    }
    rest
}

pub(super) fn hang_up(tcp: &TcpStream) {
    tcp.shutdown(Shutdown::Both).unwrap();
}

/// A route for every path of these hosts that answers 200 with its own name.
pub(super) fn route(name: &str, hosts: &[&str]) -> Route {
    let action =
        Action::Respond(DirectResponse { status: 200, content_type: None, body: name.as_bytes().to_vec() });
    Route {
        id: ir::RouteId {
            object: ir::ObjectRef::new(ir::Kind::GatewayRoute, "shop", name),
            rule: "r".into(),
        },
        created: None,
        rule_index: 0,
        hosts: hosts.iter().map(|pattern| host(pattern)).collect(),
        matches: vec![ir::Match {
            path: ir::PathMatch::Prefix { value: "/".to_owned(), case_sensitive: true },
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
            client_cidrs: Vec::new(),
        }],
        last_resort: false,
        tls: None,
        cors: None,
        ip_access: ir::IpAccess::default(),
        request_body_bytes_max: None,
        limits: Vec::new(),
        auth: Vec::new(),
        identity_headers: Vec::new(),
        header_edits: ir::HeaderEdits::default(),
        timeouts: ir::Timeouts::default(),
        action,
        extras: None,
    }
}
