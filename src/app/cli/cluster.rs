//! Flags about the cluster that objects come from and that status goes to. Does nothing with them.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};

use crate::values::{parse_namespace, parse_service};

/// Flags of `run` that matter only in a cluster.
#[derive(Args, Debug)]
#[command(next_help_heading = "In a cluster (without --config)")]
pub(crate) struct ClusterArgs {
    /// File that says how to reach the cluster [default: the service account of the pod]
    #[arg(long, value_name = "FILE", env = "BARIBHARA_KUBECONFIG", conflicts_with = "config")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Namespace whose objects are read; may be given several times or with commas between [default: all]
    #[arg(long, value_name = "NAMESPACE", env = "BARIBHARA_WATCH_NAMESPACE", value_delimiter = ',',
          value_parser = parse_namespace, conflicts_with = "config")]
    pub(crate) watch_namespace: Vec<String>,

    /// Service whose address Ingresses show in their status: its load balancer's, else its cluster IP
    #[arg(long, value_name = "NAMESPACE/NAME", env = "BARIBHARA_PUBLISH_SERVICE", value_parser = parse_service,
          conflicts_with = "config")]
    pub(crate) publish_service: Option<(String, String)>,

    /// Address that Ingresses show in their status, instead of a Service's; IP or name, may be given several times
    #[arg(long, value_name = "ADDRESS", env = "BARIBHARA_PUBLISH_ADDRESS", value_delimiter = ',',
          conflicts_with_all = ["config", "publish_service"])]
    pub(crate) publish_address: Vec<String>,

    /// Directory for a copy of the objects in use (Secrets among them), from which a restarted container serves while
    /// the API server is away; meant for a volume in memory [default: none is kept]
    #[arg(long, value_name = "DIR", env = "BARIBHARA_LAST_GOOD", conflicts_with = "config")]
    pub(crate) last_good: Option<PathBuf>,

    /// Let objects lead out of the cluster: ExternalName Services and backendRefs with an address
    #[arg(long, env = "BARIBHARA_ALLOW_EXTERNAL_BACKENDS", action = ArgAction::SetTrue,
          value_parser = FalseyValueParser::new())]
    pub(crate) allow_external_backends: bool,

    /// Let endpoints lead to loopback and link-local addresses and to the gateway's own
    #[arg(long, env = "BARIBHARA_ALLOW_LOCAL_ENDPOINTS", action = ArgAction::SetTrue,
          value_parser = FalseyValueParser::new())]
    pub(crate) allow_local_endpoints: bool,

    /// Let the keys of tokens be fetched over http, and from addresses that are not public, such as Services of the cluster
    #[arg(long, env = "BARIBHARA_ALLOW_PRIVATE_JWKS", action = ArgAction::SetTrue,
          value_parser = FalseyValueParser::new())]
    pub(crate) allow_private_jwks: bool,

    /// The Lease by which replicas agree who writes status; it stands in the pod's namespace
    #[arg(long, value_name = "NAME", env = "BARIBHARA_LEASE_NAME", default_value = "baribhara-gateway")]
    pub(crate) lease_name: String,

    /// The Deployment that owns that Lease, so that the Lease ends with it [default: nobody owns it]
    #[arg(long, value_name = "NAME", env = "BARIBHARA_OWNER_DEPLOYMENT")]
    pub(crate) owner_deployment: Option<String>,
}

/// Where the commands that only look take the routes from.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["config", "kubeconfig", "gateway"]))]
pub(crate) struct SourceArgs {
    /// Folder of Kubernetes YAML
    #[arg(long, value_name = "DIR", env = "BARIBHARA_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// File that says how to reach a cluster, whose objects are read once as a gateway there would read them
    #[arg(long, value_name = "FILE", env = "BARIBHARA_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Admin address of a gateway that runs, HOST:PORT, which is asked instead of the objects (kubectl port-forward)
    #[arg(long, value_name = "ADDR", env = "BARIBHARA_GATEWAY")]
    pub(crate) gateway: Option<String>,

    /// The ingress class that the gateway serves
    #[arg(long, value_name = "CLASS", env = "BARIBHARA_INGRESS_CLASS", default_value = "baribhara")]
    pub(crate) ingress_class: String,

    /// With --kubeconfig: namespace whose objects are read; may be given several times [default: all]
    #[arg(long, value_name = "NAMESPACE", env = "BARIBHARA_WATCH_NAMESPACE", value_delimiter = ',',
          value_parser = parse_namespace)]
    pub(crate) watch_namespace: Vec<String>,

    /// With --kubeconfig: as of the gateway there
    #[arg(long, env = "BARIBHARA_ALLOW_EXTERNAL_BACKENDS", action = ArgAction::SetTrue,
          value_parser = FalseyValueParser::new())]
    pub(crate) allow_external_backends: bool,

    /// With --kubeconfig: as of the gateway there
    #[arg(long, env = "BARIBHARA_ALLOW_PRIVATE_JWKS", action = ArgAction::SetTrue,
          value_parser = FalseyValueParser::new())]
    pub(crate) allow_private_jwks: bool,
}
