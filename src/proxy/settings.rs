//! What the operator set on the command line, as the data plane needs it. Nothing here reads the environment.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// Settings of the data plane. [`Settings::default`] holds the documented defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where plain HTTP is served. An unspecified IPv6 address is dual-stack.
    pub http: SocketAddr,
    /// Where HTTP over TLS is served; `None`: nowhere.
    pub https: Option<SocketAddr>,
    /// Where `/metrics`, `/readyz` and the rest of the read-only admin interface are served.
    pub admin: SocketAddr,
    /// Worker threads; each has its own runtime, listeners and upstream pools. At least 1.
    pub workers: usize,
    /// Peers whose connections must begin with a header of the PROXY protocol (version 1 or 2), and count as the client's that
    /// it names. Connections of others must not.
    pub proxy_protocol: Vec<IpNet>,
    /// Peers whose `X-Forwarded-*` headers count.
    pub trusted_proxies: Vec<IpNet>,
    /// For a whole TLS handshake, from the connection on.
    pub handshake_timeout: Duration,
    /// For a whole request head, and for each gap in a request body.
    pub read_timeout: Duration,
    /// The longest time without progress while a client takes an answer.
    pub write_timeout: Duration,
    /// How long a keep-alive connection may wait for its next request.
    pub idle_timeout: Duration,
    /// The largest request head in bytes; 8 KiB to 16 MiB.
    pub head_bytes_max: usize,
    /// How long new connections are still taken after the first signal.
    pub lame_duck: Duration,
    /// How long requests in flight may take after the lame-duck time.
    pub drain: Duration,
    /// After this age (less up to a tenth) a connection is closed with its next answer.
    pub connection_age_max: Duration,
    /// How long an upstream connection may wait in its pool.
    pub upstream_idle: Duration,
    /// Idle upstream connections kept per backend, over all workers. Those that were used within the last second are
    /// kept beside them.
    pub upstream_idle_connections_max: usize,
    /// Resident memory of the process from which on new requests and connections are turned away; `None`: no budget.
    pub memory_bytes_max: Option<u64>,
    /// Open connections of clients from which on new ones are turned away; `None`: no bound.
    pub connections_max: Option<u64>,
    /// Whether a client without TLS may begin with HTTP/2 (RFC 9113 §3.3, prior knowledge).
    pub h2c: bool,
    /// What becomes of header names with `_`.
    pub underscore_headers: UnderscoreHeaders,
    pub access_log: AccessLogTarget,
    /// Answers of the gateway's own name the route and the cause.
    pub debug_errors: bool,
    pub backend_names: BackendNames,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http: SocketAddr::from(([0u16; 8], 8080)),
            https: Some(SocketAddr::from(([0u16; 8], 8443))),
            admin: SocketAddr::from(([127, 0, 0, 1], 9900)),
            workers: 1,
            proxy_protocol: Vec::new(),
            trusted_proxies: Vec::new(),
            handshake_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            head_bytes_max: 1 << 20,
            lame_duck: Duration::from_secs(5),
            drain: Duration::from_secs(30),
            connection_age_max: Duration::from_secs(600),
            upstream_idle: Duration::from_secs(4),
            upstream_idle_connections_max: 100,
            memory_bytes_max: None,
            connections_max: None,
            h2c: true,
            underscore_headers: UnderscoreHeaders::Drop,
            access_log: AccessLogTarget::Stdout,
            debug_errors: false,
            backend_names: BackendNames::Anywhere,
        }
    }
}

/// What becomes of header names with `_`, which many servers confuse with `-` (hardening HB07).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnderscoreHeaders {
    Drop,
    Keep,
    /// 400.
    Reject,
}

/// Where the names of backends may lead, looked at each time that one is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendNames {
    Anywhere,
    /// Not to loopback, link-local addresses and the like ([`ir::Home`]), nor to these, which are the gateway's own.
    Away(Vec<IpAddr>),
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    Off,
    Stdout,
    /// Appended to.
    File(PathBuf),
}
