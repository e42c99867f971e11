//! A folder with a gateway that serves it, as most tests need one.

use std::net::SocketAddr;

use e2e::folder::Folder;
use e2e::gateway::Gateway;

/// The host that the routes of most tests take.
pub(crate) const HOST: &str = "shop.example.com";

pub(crate) struct Site {
    pub(crate) gateway: Gateway,
    pub(crate) folder: Folder,
}

/// Serves this YAML.
pub(crate) fn site(yaml: &str) -> Site {
    site_with(yaml, &[])
}

/// Serves this YAML with more flags.
pub(crate) fn site_with(yaml: &str, flags: &[&str]) -> Site {
    let folder = Folder::with(yaml);
    let gateway = Gateway::start(folder.path(), flags);
    Site { gateway, folder }
}

/// A backendRef to a fixed address.
pub(crate) fn address(backend: SocketAddr) -> String {
    format!("{{address: \"{}\", port: {}}}", backend.ip(), backend.port())
}

/// The `spec` of a route of [`HOST`] that sends everything to this address, with more fields of its one rule
/// (each line not indented).
pub(crate) fn spec(backend: SocketAddr, fields: &str) -> String {
    format!(
        "hostnames: [{HOST}]\nrules:\n- name: all\n  backendRefs: [{}]\n{}",
        address(backend),
        indented(fields)
    )
}

/// As [`spec`], for a rule that answers itself.
pub(crate) fn spec_without_backend(fields: &str) -> String {
    format!("hostnames: [{HOST}]\nrules:\n- name: all\n{}", indented(fields))
}

fn indented(fields: &str) -> String {
    fields.trim_matches('\n').lines().map(|line| format!("  {line}\n")).collect()
}
