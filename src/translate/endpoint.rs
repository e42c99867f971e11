//! Services and EndpointSlices into the endpoints of backends. Must not look at routes beyond the backends they name.

use std::collections::BTreeSet;
use std::sync::Arc;

use ir::{BackendEndpoints, BackendId, Endpoint};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};

use crate::Settings;

/// Whether the Service is a name outside of the cluster.
pub(crate) fn external_name(service: &Service) -> Option<&str> {
    let spec = service.spec.as_ref()?;
    (spec.type_.as_deref() == Some("ExternalName")).then_some(spec.external_name.as_deref())?
}

/// The TCP port of a Service with this number.
pub(crate) fn service_port(service: &Service, number: u16) -> Option<&ServicePort> {
    tcp_ports(service).find(|port| port.port == i32::from(number))
}

/// The TCP port of a Service with this name.
pub(crate) fn service_port_named<'a>(service: &'a Service, name: &str) -> Option<&'a ServicePort> {
    tcp_ports(service).find(|port| port.name.as_deref() == Some(name))
}

/// The endpoints of a Service's port that may be asked now.
pub(crate) fn service_endpoints<'a>(
    service: &Service,
    port: u16,
    slices: impl Iterator<Item = &'a Arc<EndpointSlice>>,
    settings: &Settings,
) -> BackendEndpoints {
    if let Some(host) = external_name(service) {
        // A cluster's tenant could reach any address through an ExternalName, so it is for folders only.
        let endpoints = match settings.allow_addresses {
            true => vec![Endpoint { host: host.trim_end_matches('.').into(), port }],
            false => Vec::new(),
        };
        return BackendEndpoints { endpoints };
    }
    let Some(service_port) = service_port(service, port) else { return BackendEndpoints::default() };
    let port_name = service_port.name.as_deref().unwrap_or_default();
    let mut ready = BTreeSet::new();
    let mut draining = BTreeSet::new();
    for slice in slices {
        let ports: Vec<u16> = slice_ports(slice, port_name).collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let into = match state(endpoint) {
                State::Ready => &mut ready,
                State::ServingWhileTerminating => &mut draining,
                State::Unusable => continue,
            };
            // The cluster's own slices have one address an endpoint; people who write slices list several.
            for address in &endpoint.addresses {
                let host = address_text(address);
                into.extend(ports.iter().map(|port| Endpoint { host: Arc::clone(&host), port: *port }));
            }
        }
    }
    let endpoints = if ready.is_empty() { draining } else { ready };
    BackendEndpoints { endpoints: endpoints.into_iter().collect() }
}

/// A fixed address is its own only endpoint.
pub(crate) fn address_endpoints(id: &BackendId) -> BackendEndpoints {
    match id {
        BackendId::Address { host, port } => {
            BackendEndpoints { endpoints: vec![Endpoint { host: Arc::clone(host), port: *port }] }
        }
        BackendId::Service { .. } => BackendEndpoints::default(),
    }
}

enum State {
    Ready,
    ServingWhileTerminating,
    Unusable,
}

/// The API's defaults: unset `ready` is true, unset `serving` is `ready`, unset `terminating` is false.
fn state(endpoint: &SliceEndpoint) -> State {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
    match (ready, serving, terminating) {
        (true, _, false) => State::Ready,
        (_, true, true) => State::ServingWhileTerminating,
        (true, false, true) | (false, _, _) => State::Unusable,
    }
}

/// The numbers under which a slice offers the port of this name. An unset name is the empty one.
fn slice_ports<'a>(slice: &'a EndpointSlice, name: &'a str) -> impl Iterator<Item = u16> + 'a {
    slice
        .ports
        .iter()
        .flatten()
        .filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
        .filter(move |port| port.name.as_deref().unwrap_or_default() == name)
        .filter_map(|port| {
            port.port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0)
        })
}

fn tcp_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
}

/// One text for one address, so that `::1` and `0:0:0:0:0:0:0:1` are one endpoint. Names (FQDN slices) are folded.
fn address_text(address: &str) -> Arc<str> {
    match address.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_string().into(),
        Err(_) => address.to_ascii_lowercase().into(),
    }
}
