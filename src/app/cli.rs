//! The command line: every command, flag, default and bound. Does nothing with them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use ir::Algorithm;
use proxy::AccessLogTarget;

use crate::memory::parse_budget;
use crate::values::{
    MaybeListen, MemoryBudget, duration, parse_access_log, parse_algorithm, parse_listen, parse_maybe_listen,
    parse_network, parse_secret, parse_statuses, size,
};

mod cluster;

pub(crate) use cluster::{ClusterArgs, SourceArgs};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Baribhara Gateway: Kubernetes ingress controller and API gateway in one binary.
#[derive(Debug, Parser)]
#[command(name = "baribhara", version, max_term_width = 110)]
#[command(after_help = "Durations are written 1h30m, 30s, 500ms; sizes 4096, 64Ki, 1Mi. \
                  Every flag can be given as an environment variable: --max-head is BARIBHARA_MAX_HEAD.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve traffic by the objects of a cluster or a folder, and follow their changes
    #[command(
        after_help = "In a pod, POD_NAME, POD_NAMESPACE, POD_UID and POD_IP (or POD_IPS) say which one it is; \
                          without POD_NAME no status is written."
    )]
    Run(Box<RunArgs>),
    /// Validate the YAML of folders as the API server and the gateway would
    Check(CheckArgs),
    /// Say which route takes a request and why, and what would be done with it
    Explain(ExplainArgs),
    /// List the routes, most specific first
    Routes(RoutesArgs),
    /// Print the CustomResourceDefinitions as YAML
    Crds(CrdsArgs),
    /// Ask a URL once, for probes and tests of an install: exit code 0 when the status is an expected one
    Probe(ProbeArgs),
    /// Run a small upstream that answers every request with the request as JSON
    Echo(EchoArgs),
    /// Sign a JSON Web Token for trying things out
    Token(TokenArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// What is wrong with the command line although clap took it: exit code 2.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) &'static str);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for UsageError {}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Folder of Kubernetes YAML to serve instead of a cluster's objects; changes are live at once
    #[arg(long, value_name = "DIR", env = "BARIBHARA_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Where to serve HTTP; [::] takes IPv4 too, and falls back to 0.0.0.0 on a machine without IPv6
    #[arg(long, value_name = "ADDR", env = "BARIBHARA_HTTP", default_value = "[::]:8080",
          value_parser = parse_listen)]
    pub(crate) http: SocketAddr,

    /// Where to serve HTTPS (an address as for --http), or off
    #[arg(long, value_name = "ADDR", env = "BARIBHARA_HTTPS", default_value = "[::]:8443",
          value_parser = parse_maybe_listen)]
    pub(crate) https: MaybeListen,

    /// Secret whose certificate is served to clients that name no host or an unknown one [default: they are refused]
    #[arg(long, value_name = "NAMESPACE/NAME", env = "BARIBHARA_DEFAULT_TLS_SECRET", value_parser = parse_secret)]
    pub(crate) default_tls_secret: Option<(String, String)>,

    /// Where to serve /livez, /readyz, /metrics, /config, /routes and /explain
    #[arg(long, value_name = "ADDR", env = "BARIBHARA_ADMIN", default_value = "127.0.0.1:9900",
          value_parser = parse_listen)]
    pub(crate) admin: SocketAddr,

    /// Worker threads that serve traffic, 1 to 1024 [default: one a core]
    #[arg(long, value_name = "N", env = "BARIBHARA_WORKERS",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,

    /// The ingress class that this gateway serves
    #[arg(long, value_name = "CLASS", env = "BARIBHARA_INGRESS_CLASS", default_value = "baribhara")]
    pub(crate) ingress_class: String,

    /// Secret whose entry `key` seals the cookies of sessions, 16 bytes or more [default: the uid of each object]
    #[arg(long, value_name = "NAMESPACE/NAME", env = "BARIBHARA_AFFINITY_KEY_SECRET", value_parser = parse_secret)]
    pub(crate) affinity_key_secret: Option<(String, String)>,

    /// The zone that this runs in, for rules whose loadBalancing prefers it [default: not known]
    #[arg(long, value_name = "ZONE", env = "BARIBHARA_ZONE")]
    pub(crate) zone: Option<String>,

    /// The region that this runs in, or zones of it, with commas between: asked after the own zone and before others. A zone
    /// is of a region if its name begins with the region's [default: not known]
    #[arg(long, value_name = "REGION,...", env = "BARIBHARA_REGION", value_delimiter = ',')]
    pub(crate) region: Vec<String>,

    /// Networks whose X-Forwarded-* headers are believed, with commas between [default: none]
    #[arg(long, value_name = "CIDR,...", env = "BARIBHARA_TRUSTED_PROXIES", value_delimiter = ',',
          value_parser = parse_network)]
    pub(crate) trusted_proxies: Vec<IpNet>,

    /// Networks of load balancers whose connections must begin with a PROXY protocol header (version 1 or 2), with commas
    /// between; connections of others must not [default: none]
    #[arg(long, value_name = "CIDR,...", env = "BARIBHARA_PROXY_PROTOCOL", value_delimiter = ',',
          value_parser = parse_network)]
    pub(crate) proxy_protocol: Vec<IpNet>,

    /// Longest time for a request's head, and for each gap in its body (100ms to 1h)
    #[arg(long, value_name = "DURATION", env = "BARIBHARA_READ_TIMEOUT", default_value = "30s",
          value_parser = duration(MS * 100..=HOUR))]
    pub(crate) read_timeout: Duration,

    /// Longest time without progress while an answer is written (100ms to 1h)
    #[arg(long, value_name = "DURATION", env = "BARIBHARA_WRITE_TIMEOUT", default_value = "30s",
          value_parser = duration(MS * 100..=HOUR))]
    pub(crate) write_timeout: Duration,

    /// How long a TLS handshake may take (100ms to 1m)
    #[arg(long, value_name = "DURATION", env = "BARIBHARA_HANDSHAKE_TIMEOUT", default_value = "10s",
          value_parser = duration(MS * 100..=SECOND * 60))]
    pub(crate) handshake_timeout: Duration,

    /// How long a client's connection may be idle between requests (100ms to 24h)
    #[arg(long, value_name = "DURATION", env = "BARIBHARA_IDLE_TIMEOUT", default_value = "120s",
          value_parser = duration(MS * 100..=DAY))]
    pub(crate) idle_timeout: Duration,

    /// Largest head of a request in bytes (8Ki to 16Mi); a head has at most 100 fields
    #[arg(long, value_name = "SIZE", env = "BARIBHARA_MAX_HEAD", default_value = "1Mi",
          value_parser = size(8 * KIB..=16 * MIB))]
    pub(crate) max_head: u64,

    /// On SIGTERM: how long new connections are still accepted while readiness is already off (0s to 10m)
    #[arg(long, value_name = "DURATION", env = "BARIBHARA_LAME_DUCK", default_value = "5s",
          value_parser = duration(Duration::ZERO..=SECOND * 600))]
    pub(crate) lame_duck: Duration,

    /// After the lame-duck time: how long requests in flight may take to finish (0s to 1h)
    #[arg(long, value_name = "DURATION", env = "BARIBHARA_DRAIN", default_value = "30s",
          value_parser = duration(Duration::ZERO..=HOUR))]
    pub(crate) drain: Duration,

    /// Age at which a client's connection is closed after an answer, give or take a tenth (1s to 24h)
    #[arg(long, value_name = "DURATION", env = "BARIBHARA_MAX_CONNECTION_AGE", default_value = "10m",
          value_parser = duration(SECOND..=DAY))]
    pub(crate) max_connection_age: Duration,

    /// How long an idle connection to an upstream is kept (100ms to 1h)
    #[arg(long, value_name = "DURATION", env = "BARIBHARA_UPSTREAM_IDLE", default_value = "4s",
          value_parser = duration(MS * 100..=HOUR))]
    pub(crate) upstream_idle: Duration,

    /// Memory (resident, without pages of files) from which on new requests and connections get 503: a size (16Mi or more), a share of the memory
    /// limit of the container (10% to 100%; nothing where there is no limit), or off
    #[arg(long, value_name = "SIZE|PERCENT%|off", env = "BARIBHARA_MEMORY_BUDGET", default_value = "85%",
          value_parser = parse_budget)]
    pub(crate) memory_budget: MemoryBudget,

    /// Open connections of clients from which on new ones are turned away with 503, or closed where they want TLS
    /// [default: no bound]
    #[arg(long, value_name = "N", env = "BARIBHARA_MAX_CONNECTIONS",
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) max_connections: Option<u64>,

    /// Where the access log (one JSON line a request) goes: off, stdout or a file, which is appended to and kept open
    #[arg(long, value_name = "off|stdout|FILE", env = "BARIBHARA_ACCESS_LOG", default_value = "stdout",
          value_parser = parse_access_log)]
    pub(crate) access_log: AccessLogTarget,

    /// Say in answers and headers why a request was refused and which route took it
    #[arg(long, env = "BARIBHARA_DEBUG_ERRORS", action = ArgAction::SetTrue,
          value_parser = FalseyValueParser::new())]
    pub(crate) debug_errors: bool,

    /// Form of the log on standard error; its level is set by RUST_LOG, default info
    #[arg(long, value_name = "FORMAT", env = "BARIBHARA_LOG_FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,

    /// Whether clients may begin with HTTP/2 where HTTP is served without TLS
    #[arg(long, value_name = "WHAT", env = "BARIBHARA_H2C", default_value = "auto")]
    pub(crate) h2c: H2c,

    /// What becomes of request headers with _ in their name
    #[arg(long, value_name = "WHAT", env = "BARIBHARA_UNDERSCORE_HEADERS", default_value = "drop")]
    pub(crate) underscore_headers: UnderscoreHeaders,

    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum H2c {
    /// HTTP/2 for those that begin with its preface, HTTP/1.1 for the others
    Auto,
    /// HTTP/1.1 alone
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UnderscoreHeaders {
    /// They are taken off the request
    Drop,
    /// They go upstream
    Keep,
    /// The request is answered 400
    Reject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Text,
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Folders of Kubernetes YAML, read as one
    #[arg(value_name = "DIR", required = true)]
    pub(crate) folders: Vec<PathBuf>,

    /// The ingress class that the gateway serves
    #[arg(long, value_name = "CLASS", env = "BARIBHARA_INGRESS_CLASS", default_value = "baribhara")]
    pub(crate) ingress_class: String,

    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", env = "BARIBHARA_OUTPUT", default_value = "text")]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// Method of the request
    #[arg(value_name = "METHOD")]
    pub(crate) method: String,

    /// Absolute URL, or a path (then the host comes from -H 'Host: …')
    #[arg(value_name = "URL")]
    pub(crate) url: String,

    /// A header of the request; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", env = "BARIBHARA_HEADER")]
    pub(crate) headers: Vec<String>,

    /// Address that the request comes from
    #[arg(long, value_name = "IP", env = "BARIBHARA_CLIENT_IP", default_value = "127.0.0.1")]
    pub(crate) client_ip: IpAddr,

    #[command(flatten)]
    pub(crate) source: SourceArgs,

    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", env = "BARIBHARA_OUTPUT", default_value = "text")]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct CrdsArgs {
    /// Print what every field means instead, as Markdown
    #[arg(long, env = "BARIBHARA_REFERENCE")]
    pub(crate) reference: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RoutesArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,

    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", env = "BARIBHARA_OUTPUT", default_value = "text")]
    pub(crate) output: OutputFormat,
}

#[derive(Args, Debug)]
pub(crate) struct ProbeArgs {
    /// What is asked with GET; http only
    #[arg(value_name = "URL")]
    pub(crate) url: String,

    /// Statuses that are expected, as one or as a range
    #[arg(long, value_name = "FROM-TO", env = "BARIBHARA_EXPECT", default_value = "200-399",
          value_parser = parse_statuses)]
    pub(crate) expect: RangeInclusive<u16>,

    /// A header of the request; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", env = "BARIBHARA_HEADER")]
    pub(crate) headers: Vec<String>,

    /// How long the answer may take (100ms to 10m)
    #[arg(long, value_name = "DURATION", env = "BARIBHARA_TIMEOUT", default_value = "5s",
          value_parser = duration(MS * 100..=SECOND * 600))]
    pub(crate) timeout: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct EchoArgs {
    /// Where to listen; port 0 takes a free one, which the first line of output names
    #[arg(long, value_name = "ADDR", env = "BARIBHARA_LISTEN", default_value = "127.0.0.1:9000",
          value_parser = parse_listen)]
    pub(crate) listen: SocketAddr,

    /// The name that stands as `pod` in the answers [default: echo-PORT]
    #[arg(long, value_name = "NAME", env = "BARIBHARA_NAME")]
    pub(crate) name: Option<String>,

    /// On SIGTERM: how long to serve on, with answers that close their connections (0s to 10m)
    #[arg(long, value_name = "DURATION", env = "BARIBHARA_DRAIN", default_value = "0s",
          value_parser = duration(Duration::ZERO..=SECOND * 600))]
    pub(crate) drain: Duration,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("material").required(true).args(["key", "secret"]))]
pub(crate) struct TokenArgs {
    /// Signature algorithm: HS256, HS384, HS512, RS256 to RS512, PS256 to PS512, ES256, ES384 or EdDSA
    #[arg(long, value_name = "ALGORITHM", env = "BARIBHARA_ALG", default_value = "HS256",
          value_parser = parse_algorithm)]
    pub(crate) alg: Algorithm,

    /// File with the private key as PEM, or for HS* with the bytes of the secret
    #[arg(long, value_name = "FILE", env = "BARIBHARA_KEY")]
    pub(crate) key: Option<PathBuf>,

    /// The secret of HS* as text; better through the environment than in the shell's history
    #[arg(long, value_name = "TEXT", env = "BARIBHARA_SECRET", hide_env_values = true)]
    pub(crate) secret: Option<String>,

    /// Key id for the token's head
    #[arg(long, value_name = "KID", env = "BARIBHARA_KID")]
    pub(crate) kid: Option<String>,

    /// A claim; the value is taken as JSON where it is JSON, else as text; may be given several times
    #[arg(long = "claim", value_name = "NAME=VALUE", env = "BARIBHARA_CLAIM")]
    pub(crate) claims: Vec<String>,

    /// How long the token lasts, for `iat` and `exp` (0s to 10000h)
    #[arg(long, value_name = "DURATION", env = "BARIBHARA_EXPIRES_IN", default_value = "1h",
          value_parser = duration(Duration::ZERO..=HOUR * 10_000))]
    pub(crate) expires_in: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: CompletionShell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompletionShell {
    Bash,
    Zsh,
    Fish,
}

#[cfg(test)]
mod tests;
