//! References to Services into backends. A reference that leads nowhere stays in the route as missing, so that its
//! share of the traffic is answered 500 and no other backend silently takes it.

use std::sync::Arc;

use ir::BackendId;

use crate::address::{self, Leads};
use crate::endpoint;
use crate::protocol::{Offer, of_app_protocol};
use crate::reader::Reader;
use crate::report::{Fault, Field, Lines};

/// A port of a Service as an object names it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PortRef<'a> {
    Number(u16),
    Name(&'a str),
}

/// What a reference to a Service leads to.
#[derive(Debug)]
pub(crate) enum Resolved {
    Found(BackendId, Offer),
    /// No such Service; it may still come.
    NoService(BackendId),
    /// The Service has no such TCP port.
    NoPort(BackendId),
    /// An ExternalName Service that the install does not let objects lead to.
    NotPermitted {
        id: BackendId,
        host: String,
        leads: Leads,
    },
}

/// Looks a Service and its port up.
pub(crate) fn service_target(
    namespace: &Arc<str>,
    name: &str,
    port: PortRef<'_>,
    reader: &mut Reader<'_>,
) -> Resolved {
    let id = |port| BackendId::Service { namespace: Arc::clone(namespace), name: name.into(), port };
    let asked = match port {
        PortRef::Number(number) => number,
        PortRef::Name(_) => 0,
    };
    let Some(service) = reader.service(namespace, name) else { return Resolved::NoService(id(asked)) };
    let found = match port {
        PortRef::Number(number) => endpoint::service_port(service, number),
        PortRef::Name(name) => endpoint::service_port_named(service, name),
    };
    let number = found.and_then(|port| u16::try_from(port.port).ok()).filter(|number| *number != 0);
    let external = endpoint::external_name(service);
    if let Some(host) = external {
        match address::external_leads(host, reader.settings()) {
            Leads::Anywhere => {}
            leads @ (Leads::Home(_) | Leads::Outside) => {
                return Resolved::NotPermitted { id: id(asked), host: host.to_owned(), leads };
            }
        }
    }
    let offer = || Offer {
        protocol: of_app_protocol(found.and_then(|port| port.app_protocol.as_deref())),
        server_name: match external {
            Some(host) => host.trim_end_matches('.').to_ascii_lowercase().into(),
            None => format!("{name}.{namespace}.svc").into(),
        },
    };
    match (number, port) {
        (Some(number), _) => Resolved::Found(id(number), offer()),
        // An ExternalName Service need not list its ports.
        (None, PortRef::Number(number)) if external.is_some() && number != 0 => {
            Resolved::Found(id(number), offer())
        }
        (None, PortRef::Number(_) | PortRef::Name(_)) => Resolved::NoPort(id(asked)),
    }
}

/// The backend and what it offers, or, after a line that says what is missing, what stands for it.
pub(crate) fn resolved(
    resolved: Resolved,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<(BackendId, Offer), BackendId> {
    match resolved {
        Resolved::Found(id, offer) => Ok((id, offer)),
        Resolved::NoService(id) => {
            let message =
                format!("there is no Service '{}'; its share of requests is answered 500", service_name(&id));
            let remedy = "create the Service or correct the name";
            lines.fault(Fault::BackendNotFound, field.key("name"), message, remedy);
            Err(id)
        }
        Resolved::NoPort(id) => {
            let name = service_name(&id);
            let message =
                format!("the Service '{name}' has no such TCP port; its share of requests is answered 500");
            let remedy = "name a port of the Service, not of its pods";
            lines.fault(Fault::BackendNotFound, field.key("port"), message, remedy);
            Err(id)
        }
        Resolved::NotPermitted { id, host, leads } => {
            let name = service_name(&id);
            let what = match leads {
                Leads::Home(home) => format!("leads to '{host}', {}", home.meaning()),
                Leads::Anywhere | Leads::Outside => {
                    "is an ExternalName, which could lead anywhere".to_owned()
                }
            };
            let message = format!("the Service '{name}' {what}; its share of requests is answered 500");
            let remedy = endpoint::remedy(leads);
            lines.fault(Fault::AddressNotPermitted, field.key("name"), message, remedy);
            Err(id)
        }
    }
}

pub(crate) fn service_name(id: &BackendId) -> String {
    match id {
        BackendId::Service { namespace, name, .. } => format!("{namespace}/{name}"),
        BackendId::Address { host, .. } => host.as_ref().to_owned(),
    }
}
