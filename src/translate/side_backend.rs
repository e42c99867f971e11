//! References to Services that are asked beside a rule's backends. One that leads nowhere takes nothing from the rule
//! but what the Service was for.

use std::sync::Arc;

use api::ServiceRef;
use ir::{BackendId, BackendTarget, SideBackend, UpstreamProtocol};

use crate::backend::{self, PortRef, Resolved, service_name};
use crate::endpoint;
use crate::protocol;
use crate::reader::Reader;
use crate::report::{Fault, Field, Lines};

/// What a rule's own reference leads to. `so`: what follows where it leads nowhere.
pub(crate) fn side_backend(
    reference: &ServiceRef,
    so: &str,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> SideBackend {
    let own: Arc<str> = Arc::clone(&lines.object().namespace);
    let name = reference.name.as_str();
    let namespace: Arc<str> = match reference.namespace.as_deref().filter(|namespace| **namespace != *own) {
        Some(other) if reader.permits_service(lines.object(), other, name) => other.into(),
        Some(other) => {
            let message = format!(
                "the Service '{other}/{name}' is of another namespace, and nothing there grants this reference; {so}"
            );
            let remedy = format!(
                "add a ReferenceGrant to the namespace '{other}', or name a Service of the object's own namespace"
            );
            lines.fault(Fault::RefNotPermitted, field.key("namespace"), message, &remedy);
            let id = BackendId::Service { namespace: other.into(), name: name.into(), port: reference.port };
            return missing(id);
        }
        None => own,
    };
    let resolved = backend::service_target(&namespace, name, PortRef::Number(reference.port), reader);
    found(resolved, so, (field.key("name"), field.key("port")), lines)
}

/// What a look-up came to. `fields`: where the name and the port stand.
pub(crate) fn found(
    resolved: Resolved,
    so: &str,
    (name_field, port_field): (Field<'_>, Field<'_>),
    lines: &mut Lines,
) -> SideBackend {
    match resolved {
        Resolved::Found(id, offer) => SideBackend {
            target: BackendTarget::Backend(id),
            protocol: protocol::protocol(None, None, &offer),
        },
        Resolved::NoService(id) => {
            let message = format!("there is no Service '{}'; {so}", service_name(&id));
            let remedy = "create the Service or correct the name";
            lines.fault(Fault::BackendNotFound, name_field, message, remedy);
            missing(id)
        }
        Resolved::NoPort(id) => {
            let message = format!("the Service '{}' has no such TCP port; {so}", service_name(&id));
            let remedy = "name a port of the Service, not of its pods";
            lines.fault(Fault::BackendNotFound, port_field, message, remedy);
            missing(id)
        }
        Resolved::NotPermitted { id, host: _, leads } => {
            let message = format!("the Service '{}' leads where none may; {so}", service_name(&id));
            lines.fault(Fault::AddressNotPermitted, name_field, message, endpoint::remedy(leads));
            missing(id)
        }
    }
}

fn missing(id: BackendId) -> SideBackend {
    SideBackend { target: BackendTarget::Missing(id), protocol: UpstreamProtocol::default() }
}
