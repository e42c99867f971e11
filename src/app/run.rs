//! `baribhara run`: wires the folder to the data plane and waits for the end. Serves nothing itself.

use std::env;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::Context as _;
use controller::{ClusterSettings, ClusterSource, FolderSource, ReplicaSettings};
use proxy::{BackendNames, Feeds, Server, Settings};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::cli::{ClusterArgs, H2c, RunArgs, UnderscoreHeaders, UsageError};
use crate::folder::check_certificate;
use crate::{folder, logging, memory};

/// Serves until the first SIGTERM or SIGINT, then drains. A second one ends the process at once.
///
/// # Errors
/// There is neither a folder nor a cluster, the folder cannot be read, or the data plane cannot start.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let origin = Origin::of(args)?;
    logging::start(args.log_format);
    memory::keep_private();
    let source = match &origin {
        Origin::Folder(folder) => {
            let settings = translate::Settings {
                default_tls_secret: args.default_tls_secret.clone(),
                affinity_key_secret: args.affinity_key_secret.clone(),
                zone: args.zone(),
                regions: args.regions(),
                ..folder::settings(&args.ingress_class)
            };
            FolderSource::start(folder.clone(), settings, check_certificate)?
        }
        Origin::Cluster => {
            ClusterSource::start(args.cluster.source(), cluster_settings(args), check_certificate)?
        }
    };
    let first_signal = spawn_watcher()?;
    let feeds = Feeds {
        config: source.config.clone(),
        endpoints: source.endpoints.clone(),
        state: source.state.clone(),
    };
    let settings = Settings { backend_names: origin.backend_names(args), ..args.settings()? };
    let workers = settings.workers;
    let server = Server::start(settings, feeds)?;
    let https = server.https.map_or_else(|| "off".to_owned(), |address| address.to_string());
    info!(http = %server.http, https, admin = %server.admin, workers, objects = %origin, "listening");
    if origin == Origin::Cluster {
        match args.cluster.replica() {
            Some(replica) => source.follow(replica, server.applied.clone(), server.key_sets.clone()),
            None => warn!("POD_NAME is not set: no status is written and no Lease is held"),
        }
    }
    // The sender lives as long as the process: its thread ends only with it.
    let name = first_signal.recv().context("the thread that waits for signals has ended")?;
    info!(signal = name, "stopping; a second signal ends at once");
    // Another replica writes status from now on; objects are followed until the last request is answered.
    source.leave();
    server.stop();
    source.stop();
    Ok(ExitCode::SUCCESS)
}

/// Where the objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Folder(PathBuf),
    Cluster,
}

impl Origin {
    fn of(args: &RunArgs) -> Result<Self, UsageError> {
        match &args.config {
            Some(folder) => Ok(Self::Folder(folder.clone())),
            // The variable is there in every pod.
            None if args.cluster.kubeconfig.is_some() || env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
                Ok(Self::Cluster)
            }
            None => Err(UsageError(
                "there is nothing to serve: name a folder of YAML with --config DIR, or a cluster with --kubeconfig FILE",
            )),
        }
    }

    /// Who may write into the folder may have the gateway ask anything; who may write objects of a cluster may not.
    fn backend_names(&self, args: &RunArgs) -> BackendNames {
        match self {
            Self::Cluster if !args.cluster.allow_local_endpoints => BackendNames::Away(own_addresses()),
            Self::Cluster | Self::Folder(_) => BackendNames::Anywhere,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Cluster => f.write_str("cluster"),
        }
    }
}

impl ClusterArgs {
    fn source(&self) -> ClusterSettings {
        ClusterSettings {
            kubeconfig: self.kubeconfig.clone(),
            watch_namespaces: self.watch_namespace.clone(),
            publish_service: self.publish_service.clone(),
            last_good: self.last_good.clone(),
        }
    }

    /// `None`: this is no pod, or does not know which.
    fn replica(&self) -> Option<ReplicaSettings> {
        Some(ReplicaSettings {
            pod_name: text("POD_NAME")?,
            namespace: text("POD_NAMESPACE").unwrap_or_else(|| translate::DEFAULT_NAMESPACE.to_owned()),
            pod_uid: text("POD_UID"),
            lease_name: self.lease_name.clone(),
            owner_deployment: self.owner_deployment.clone(),
            publish_service: self.publish_service.clone(),
            publish_addresses: self.publish_address.clone(),
        })
    }
}

fn cluster_settings(args: &RunArgs) -> translate::Settings {
    translate::Settings {
        allow_external_backends: args.cluster.allow_external_backends,
        allow_local_endpoints: args.cluster.allow_local_endpoints,
        allow_private_jwks: args.cluster.allow_private_jwks,
        own_addresses: own_addresses(),
        default_tls_secret: args.default_tls_secret.clone(),
        affinity_key_secret: args.affinity_key_secret.clone(),
        zone: args.zone(),
        regions: args.regions(),
        ..translate::Settings::cluster(args.ingress_class.clone())
    }
}

/// With two stacks the variable holds two addresses, with a comma between.
fn own_addresses() -> Vec<IpAddr> {
    let ips = text("POD_IPS").or_else(|| text("POD_IP"));
    ips.iter().flat_map(|ips| ips.split(',')).flat_map(str::parse).collect()
}

/// What the pod was told about itself.
fn text(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|text| !text.is_empty())
}

impl RunArgs {
    /// A pod without the label that the variable is made of has it empty.
    fn zone(&self) -> Option<String> {
        self.zone.clone().filter(|zone| !zone.is_empty())
    }

    /// The same of the region.
    fn regions(&self) -> Vec<String> {
        self.region.iter().filter(|region| !region.is_empty()).cloned().collect()
    }

    /// The flags as the data plane takes them.
    fn settings(&self) -> anyhow::Result<Settings> {
        let workers = match self.workers {
            Some(workers) => workers.into(),
            None => thread::available_parallelism().map_or(1, usize::from),
        };
        Ok(Settings {
            http: self.http,
            https: self.https.0,
            admin: self.admin,
            workers,
            trusted_proxies: self.trusted_proxies.clone(),
            proxy_protocol: self.proxy_protocol.clone(),
            read_timeout: self.read_timeout,
            write_timeout: self.write_timeout,
            idle_timeout: self.idle_timeout,
            handshake_timeout: self.handshake_timeout,
            head_bytes_max: usize::try_from(self.max_head).context("--max-head")?,
            lame_duck: self.lame_duck,
            drain: self.drain,
            connection_age_max: self.max_connection_age,
            upstream_idle: self.upstream_idle,
            upstream_idle_connections_max: Settings::default().upstream_idle_connections_max,
            memory_bytes_max: memory::budget(self.memory_budget),
            connections_max: self.max_connections,
            h2c: match self.h2c {
                H2c::Auto => true,
                H2c::Off => false,
            },
            underscore_headers: match self.underscore_headers {
                UnderscoreHeaders::Drop => proxy::UnderscoreHeaders::Drop,
                UnderscoreHeaders::Keep => proxy::UnderscoreHeaders::Keep,
                UnderscoreHeaders::Reject => proxy::UnderscoreHeaders::Reject,
            },
            access_log: self.access_log.clone(),
            debug_errors: self.debug_errors,
            ..Settings::default()
        })
    }
}

/// Starts the thread that waits for signals. The receiver gets the name of the first one; the second ends the process.
fn spawn_watcher() -> anyhow::Result<Receiver<&'static str>> {
    let (first, first_signal) = sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (terminate, interrupt) = {
        // A signal can only be waited for inside of a runtime.
        let _guard = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(watch_signals(terminate, interrupt, &first));
    })?;
    Ok(first_signal)
}

async fn watch_signals(mut terminate: Signal, mut interrupt: Signal, first: &SyncSender<&'static str>) {
    let mut signals = 0;
    loop {
        // Both arms are cancel-safe: a signal that is not taken now is there the next time.
        let (name, number) = tokio::select! {
            _ = terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
            _ = interrupt.recv() => ("SIGINT", SignalKind::interrupt().as_raw_value()),
        };
        signals += 1;
        if signals > 1 {
            // As a shell names the end by a signal.
            process::exit(128 + number);
        }
        if first.try_send(name).is_err() {
            // Nobody waits any more: the process is ending by itself.
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use proxy::BackendNames;

    use super::Origin;
    use crate::cli::{Cli, Command};

    #[test]
    fn names_of_backends_may_lead_home_in_a_folder_or_where_that_is_allowed() {
        for (line, is_anywhere) in [
            ("baribhara run --config d", true),
            ("baribhara run --kubeconfig c", false),
            ("baribhara run --kubeconfig c --allow-external-backends", false),
            ("baribhara run --kubeconfig c --allow-local-endpoints", true),
        ] {
            let Command::Run(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
                panic!("not run")
            };
            let names = Origin::of(&args).unwrap().backend_names(&args);
            assert_eq!(names == BackendNames::Anywhere, is_anywhere, "{line}: {names:?}");
        }
    }

    #[test]
    fn every_flag_arrives_in_the_settings_of_the_data_plane() {
        let line = "baribhara run --config d --http 127.0.0.1:1 --admin 127.0.0.1:2 --workers 3 \
                    --https 127.0.0.1:3 --handshake-timeout 11s \
                    --trusted-proxies 10.0.0.0/8 --proxy-protocol 10.1.0.0/16 --read-timeout 4s --write-timeout 5s --idle-timeout 6s \
                    --max-head 64Ki --lame-duck 7s --drain 8s --max-connection-age 9s --upstream-idle 10s \
                    --access-log off --debug-errors --underscore-headers reject --h2c off \
                    --memory-budget 64Mi --max-connections 12";
        let Command::Run(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
            panic!("not run")
        };
        let got = args.settings().unwrap();
        assert_eq!(got.http.port(), 1);
        assert_eq!(got.admin.port(), 2);
        assert_eq!(got.workers, 3);
        assert_eq!(got.https.unwrap().port(), 3);
        assert_eq!(got.trusted_proxies, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(got.proxy_protocol, ["10.1.0.0/16".parse().unwrap()]);
        let times = [
            got.read_timeout,
            got.write_timeout,
            got.idle_timeout,
            got.lame_duck,
            got.drain,
            got.connection_age_max,
            got.upstream_idle,
            got.handshake_timeout,
        ];
        assert_eq!(times.map(|time| time.as_secs()), [4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(got.head_bytes_max, 64 << 10);
        assert_eq!(got.access_log, proxy::AccessLogTarget::Off);
        assert!(got.debug_errors);
        assert_eq!(got.underscore_headers, proxy::UnderscoreHeaders::Reject);
        assert!(!got.h2c);
        assert_eq!((got.memory_bytes_max, got.connections_max), (Some(64 << 20), Some(12)));
    }

    #[test]
    fn the_defaults_of_the_command_line_are_those_of_the_data_plane() {
        let Command::Run(args) = Cli::try_parse_from(["baribhara", "run"]).unwrap().command else {
            panic!("not run")
        };
        // What the machine has says what it may take.
        let got = proxy::Settings { workers: 1, memory_bytes_max: None, ..args.settings().unwrap() };
        assert_eq!(format!("{got:?}"), format!("{:?}", proxy::Settings::default()));
        assert_eq!(got.drain, Duration::from_secs(30));
    }
}
