//! Tests on a real Kubernetes: the chart installed with Helm, objects applied, everything restarted, killed and scaled.
//! They run inside the cluster's namespaces (`.ci/cluster`), one at a time, and end with a table of numbers.

mod all_keda;
mod certificates;
mod examples;
mod health;
mod identity;
mod install;
mod keys;
mod latency;
mod leader;
mod memory;
mod node_network;
mod outage;
mod refusals;
mod rollout;
mod scaling;
mod scope;
mod uninstall;
