//! Pods: where they are, what their admin port says, and their processes, which the node (where the tests run) sees.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::client::{self, Request, Response};
use crate::cluster_api::Api;
use crate::until::until_within;

/// The gateway's ports, as the chart has them.
const HTTP: u16 = 8080;
const ADMIN: u16 = 9900;

/// A pod with an address, as it was when it was asked for.
#[derive(Clone, Debug)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub ip: IpAddr,
    pub ready: bool,
    /// It has been deleted and is on its way out.
    pub terminating: bool,
    pub uid: String,
    /// The id of its first container, without the runtime's prefix.
    pub container: String,
    pub restarts: u64,
}

/// The pods of a namespace with this label selector, those without an address yet left out.
///
/// # Panics
/// When the API server fails.
pub fn pods(api: &Api, namespace: &str, selector: &str) -> Vec<Pod> {
    let selector = selector.replace('=', "%3D").replace('/', "%2F").replace(',', "%2C");
    let found = api.list(&format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"));
    found.iter().filter_map(Pod::read).collect()
}

/// Waits until there are exactly so many pods, all of them ready and none on its way out.
///
/// # Panics
/// When it does not come to that, with the pods there are.
pub fn settled(api: &Api, namespace: &str, selector: &str, count: usize) -> Vec<Pod> {
    let mut last = Vec::new();
    let wait = || {
        until_within(Duration::from_secs(120), "the pods", || {
            last = pods(api, namespace, selector);
            let all = last.len() == count && last.iter().all(|pod| pod.ready && !pod.terminating);
            all.then(|| last.clone())
        })
    };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait)) {
        Ok(pods) => pods,
        Err(_) => panic!("{namespace}, {selector}: not {count} ready pods: {last:#?}"),
    }
}

impl Pod {
    fn read(object: &Value) -> Option<Self> {
        let status = &object["status"];
        let container = &status["containerStatuses"][0];
        let id = container["containerID"].as_str().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ready = status["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"));
        Some(Self {
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]),
            ip: status["podIP"].as_str()?.parse().ok()?,
            ready,
            terminating: object["metadata"]["deletionTimestamp"].is_string(),
            uid: text(&object["metadata"]["uid"]),
            container: id.rsplit('/').next().unwrap_or_default().to_owned(),
            restarts: container["restartCount"].as_u64().unwrap_or_default(),
        })
    }

    /// The gateway's listener for HTTP.
    pub fn http(&self) -> SocketAddr {
        SocketAddr::new(self.ip, HTTP)
    }

    /// GET of the gateway's listener.
    ///
    /// # Errors
    /// The connection, or an answer that is not whole.
    pub fn ask(&self, request: &Request) -> io::Result<Response> {
        client::ask(self.http(), request)
    }

    /// GET of the admin port.
    ///
    /// # Errors
    /// The connection, or an answer that is not whole.
    pub fn admin(&self, path: &str) -> io::Result<Response> {
        client::ask(SocketAddr::new(self.ip, ADMIN), &Request::get("admin", path))
    }

    /// # Errors
    /// The connection, or an answer that is not whole.
    pub fn try_metrics(&self) -> io::Result<Metrics> {
        self.admin("/metrics").map(|answer| Metrics(answer.text()))
    }

    /// # Panics
    /// When the pod does not answer.
    pub fn metrics(&self) -> Metrics {
        self.try_metrics().unwrap_or_else(|error| panic!("the metrics of {}: {error}", self.name))
    }

    /// The processes of the pod's container.
    pub fn processes(&self) -> Vec<u32> {
        assert!(!self.container.is_empty(), "{} has no container yet", self.name);
        processes_in(&self.container)
    }

    /// Sends a signal (`KILL`, `STOP`, `CONT`) to the processes of the container, which the kubelet learns afterwards.
    ///
    /// # Panics
    /// When there are none.
    pub fn signal(&self, signal: &str) {
        let processes = self.processes();
        assert!(!processes.is_empty(), "{} has no processes in container {}", self.name, self.container);
        for process in processes {
            let status = Command::new("kill")
                .args([&format!("-{signal}"), &process.to_string()])
                .status()
                .expect("run kill");
            assert!(status.success(), "kill -{signal} {process} of {}", self.name);
        }
    }

    /// Resident memory of the container's processes as the kernel has it, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.processes().iter().filter_map(|process| resident_bytes(*process)).sum()
    }
}

fn resident_bytes(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Processes whose cgroup bears this name.
fn processes_in(container: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("the processes");
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|process| {
            let file = PathBuf::from(format!("/proc/{process}/cgroup"));
            std::fs::read_to_string(file).is_ok_and(|cgroups| cgroups.contains(container))
        })
        .collect()
}

/// A page of `/metrics`.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    pub fn parse(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The value of one series, as it stands before its value; `None` when it is absent.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// The series of one metric with their values.
    pub fn all(&self, metric: &str) -> Vec<(&str, f64)> {
        self.0
            .lines()
            .filter(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                Some((series, value.parse().ok()?))
            })
            .collect()
    }

    /// The sum over the series of one metric.
    pub fn sum(&self, metric: &str) -> f64 {
        self.all(metric).iter().map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_by_its_whole_name() {
        let page = Metrics::parse("# TYPE a gauge\na 1\na_b 2\nc{k=\"x y\"} 3\nc{k=\"z\"} 4.5\n");
        assert_eq!(page.get("a"), Some(1.0));
        assert_eq!(page.get("b"), None);
        assert_eq!(page.get("c{k=\"x y\"}"), Some(3.0));
        assert_eq!(page.all("c"), [("c{k=\"x y\"}", 3.0), ("c{k=\"z\"}", 4.5)]);
        assert!((page.sum("c") - 7.5).abs() < 1e-9);
        assert!((page.sum("a") - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_pod_without_an_address_is_none() {
        assert!(Pod::read(&serde_json::json!({"metadata": {"name": "a"}, "status": {}})).is_none());
    }
}
