//! Services and EndpointSlices into the endpoints of backends. Must not look at routes beyond the backends they name.

use std::collections::BTreeMap;
use std::sync::Arc;

use ir::{BackendEndpoints, BackendId, Endpoint, Kind, ObjectRef};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};

use crate::Settings;
use crate::address::{self, Leads};
use crate::object_ref;
use crate::report::{Fault, Field, Lines, ReportLine};
use crate::zone::{self, Nearness};

/// What a Service's port leads to now, and what was found on the way.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) endpoints: BackendEndpoints,
    pub(crate) lines: Vec<ReportLine>,
}

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
) -> Found {
    if let Some(host) = external_name(service) {
        // What is not allowed stands in the report of the routes.
        let endpoints = match address::external_leads(host, settings) {
            Leads::Anywhere => vec![Endpoint { host: host.trim_end_matches('.').into(), port }],
            Leads::Home(_) | Leads::Outside => Vec::new(),
        };
        return Found {
            endpoints: BackendEndpoints { endpoints, local: Vec::new(), near: Vec::new() },
            lines: Vec::new(),
        };
    }
    let Some(service_port) = service_port(service, port) else { return Found::default() };
    let port_name = service_port.name.as_deref().unwrap_or_default();
    let mut usable = Usable::default();
    let mut lines = Vec::new();
    for slice in slices {
        let refused = usable.take(slice, port_name, settings);
        lines.extend(refused.into_iter().flat_map(|refused| refused.report(slice)));
    }
    let endpoints = if usable.ready.is_empty() { usable.draining } else { usable.ready };
    let local = zone::local(endpoints.values());
    let near = zone::near(endpoints.values());
    Found { endpoints: BackendEndpoints { endpoints: endpoints.into_keys().collect(), local, near }, lines }
}

/// A fixed address is its own only endpoint.
pub(crate) fn address_endpoints(id: &BackendId) -> BackendEndpoints {
    match id {
        BackendId::Address { host, port } => {
            let endpoints = vec![Endpoint { host: Arc::clone(host), port: *port }];
            BackendEndpoints { endpoints, local: Vec::new(), near: Vec::new() }
        }
        BackendId::Service { .. } => BackendEndpoints::default(),
    }
}

/// The endpoints of some slices.
#[derive(Default)]
struct Usable {
    ready: BTreeMap<Endpoint, Nearness>,
    draining: BTreeMap<Endpoint, Nearness>,
}

/// The addresses of one slice that are not asked because of where they lead.
struct RefusedAddresses {
    count: usize,
    /// The first: places of endpoint and address, and why.
    first: (usize, usize, Leads),
}

impl Usable {
    fn take(
        &mut self,
        slice: &EndpointSlice,
        port_name: &str,
        settings: &Settings,
    ) -> Option<RefusedAddresses> {
        let ports: Vec<u16> = slice_ports(slice, port_name).collect();
        let mut refused: Option<RefusedAddresses> = None;
        for (index, endpoint) in slice.endpoints.iter().flatten().enumerate() {
            let into = match state(endpoint) {
                State::Ready => &mut self.ready,
                State::ServingWhileTerminating => &mut self.draining,
                State::Unusable => continue,
            };
            let nearness = Nearness::of(endpoint, settings.zone.as_deref(), &settings.regions);
            // The cluster's own slices have one address an endpoint; people who write slices list several.
            for (address_index, address) in endpoint.addresses.iter().enumerate() {
                let host = address_text(address);
                let leads = address::endpoint_leads(&host, settings);
                if leads == Leads::Anywhere {
                    for port in &ports {
                        let endpoint = Endpoint { host: Arc::clone(&host), port: *port };
                        into.entry(endpoint).or_default().add(nearness);
                    }
                } else {
                    let first = (index, address_index, leads);
                    refused.get_or_insert(RefusedAddresses { count: 0, first }).count += 1;
                }
            }
        }
        refused
    }
}

impl RefusedAddresses {
    /// One line a slice, however many there are: a slice has up to 1000 endpoints.
    fn report(&self, slice: &EndpointSlice) -> Vec<ReportLine> {
        let (endpoint, address, leads) = self.first;
        let text =
            slice.endpoints.as_ref().and_then(|endpoints| endpoints.get(endpoint)?.addresses.get(address));
        let text = text.map(String::as_str).unwrap_or_default();
        let mut message = match leads {
            Leads::Home(home) => format!("the endpoint is '{text}', {}; it is not asked", home.meaning()),
            Leads::Anywhere | Leads::Outside => {
                format!(
                    "the endpoint is the name '{text}', which may lead out of the cluster; it is not asked"
                )
            }
        };
        if self.count > 1 {
            message.push_str(&format!(", nor are {} others of the slice", self.count - 1));
        }
        let mut lines = Lines::new(slice_ref(slice));
        let root = Field::root("endpoints");
        let field = root.index(endpoint);
        let field = field.key("addresses");
        lines.fault(Fault::AddressNotPermitted, field.index(address), message, remedy(leads));
        lines.into_vec()
    }
}

/// What is to be done about an address that is not permitted.
pub(crate) const fn remedy(leads: Leads) -> &'static str {
    match leads {
        Leads::Home(_) => "name another address, or run the gateway with --allow-local-endpoints",
        Leads::Anywhere | Leads::Outside => {
            "use a Service with endpoints, or run the gateway with --allow-external-backends"
        }
    }
}

fn slice_ref(slice: &EndpointSlice) -> ObjectRef {
    let metadata = &slice.metadata;
    object_ref(
        Kind::EndpointSlice,
        metadata.namespace.as_deref(),
        metadata.name.as_deref().unwrap_or_default(),
    )
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
