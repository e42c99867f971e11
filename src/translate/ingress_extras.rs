//! What an Ingress says by annotation of Services beside its backends, by our names and by those of ingress-nginx.

use std::collections::BTreeMap;
use std::sync::Arc;

use ir::{Action, ErrorPage, Route, RouteExtras, SideBackend, StatusRange};
use k8s_openapi::api::networking::v1::Ingress;

use crate::backend::{self, PortRef};
use crate::error_page::{NO_PAGE, status_range};
use crate::reader::Reader;
use crate::report::{Field, Lines};
use crate::side_backend;

/// An annotation by our name and by that of ingress-nginx.
type Names = (&'static str, &'static str);

const ERRORS: Names = (api::CUSTOM_HTTP_ERRORS_ANNOTATION, api::NGINX_CUSTOM_HTTP_ERRORS_ANNOTATION);
const DEFAULT_BACKEND: Names = (api::DEFAULT_BACKEND_ANNOTATION, api::NGINX_DEFAULT_BACKEND_ANNOTATION);
/// The most statuses that an annotation may name.
const STATUSES_MAX: usize = 64;

/// The same for all paths of one Ingress.
#[derive(Debug, Default)]
pub(crate) struct IngressExtras {
    extras: RouteExtras,
}

impl IngressExtras {
    pub(crate) fn read(ingress: &Ingress, reader: &mut Reader<'_>, lines: &mut Lines) -> Self {
        let Some(annotations) = &ingress.metadata.annotations else { return Self::default() };
        let root = Field::root("metadata");
        let notes = Notes { annotations, field: root.key("annotations") };
        let extras = RouteExtras { error_pages: notes.error_pages(reader, lines).into_iter().collect() };
        Self { extras }
    }

    pub(crate) fn finish(&self, route: &mut Route) {
        if let (Action::Forward { .. }, false) = (&route.action, self.extras.is_empty()) {
            route.extras = Some(Box::new(self.extras.clone()));
        }
    }
}

struct Notes<'a> {
    annotations: &'a BTreeMap<String, String>,
    field: Field<'a>,
}

impl<'a> Notes<'a> {
    /// Ours wins where both are there.
    fn get(&'a self, (ours, nginx): Names) -> Option<(&'a str, Field<'a>)> {
        [ours, nginx].into_iter().find_map(|name| {
            let text = self.annotations.get(name)?.trim();
            Some((text, self.field.quoted(name)))
        })
    }

    fn error_pages(&self, reader: &mut Reader<'_>, lines: &mut Lines) -> Option<ErrorPage> {
        let statuses = self.get(ERRORS).map(|(text, field)| (statuses(text, field, lines), field));
        let Some((name, field)) = self.get(DEFAULT_BACKEND) else {
            if let Some((_, field)) = statuses {
                let message = format!("nobody is named who makes the pages; {NO_PAGE}");
                lines.warning(field, message, "add the annotation default-backend with a Service's name");
            }
            return None;
        };
        let backend = default_backend(name, field, reader, lines);
        let statuses = statuses.map(|(statuses, _)| statuses).unwrap_or_default();
        Some(ErrorPage { statuses, without_endpoints: true, backend })
    }
}

/// Nothing is less safe for a status that is not understood, so the others hold.
fn statuses(text: &str, field: Field<'_>, lines: &mut Lines) -> Vec<StatusRange> {
    let mut statuses = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match status_range(part) {
            Some(_) if statuses.len() >= STATUSES_MAX => {
                let message = format!("there are more than {STATUSES_MAX} statuses; the rest is left out");
                lines.error(field, message, "write ranges like 500-599");
                break;
            }
            Some(range) => statuses.push(range),
            None => {
                let message = format!("'{part}' is no status of an error; it is left out");
                lines.error(field, message, "write statuses from 400 to 599, separated by commas");
            }
        }
    }
    statuses
}

/// The first port of a Service of the Ingress's own namespace.
fn default_backend(name: &str, field: Field<'_>, reader: &mut Reader<'_>, lines: &mut Lines) -> SideBackend {
    let namespace: Arc<str> = Arc::clone(&lines.object().namespace);
    let service = reader.service(&namespace, name);
    let ports = service.and_then(|service| service.spec.as_ref()?.ports.as_ref());
    let port = ports.and_then(|ports| ports.first()).and_then(|port| u16::try_from(port.port).ok());
    let resolved = backend::service_target(&namespace, name, PortRef::Number(port.unwrap_or(0)), reader);
    side_backend::found(resolved, NO_PAGE, (field, field), lines)
}
