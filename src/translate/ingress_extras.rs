//! What an Ingress says by annotation of Services beside its backends, by our names and by those of ingress-nginx.

use std::sync::Arc;

use ir::{Action, ErrorPage, Mirror, Route, RouteExtras, SideBackend, StatusRange};
use k8s_openapi::api::networking::v1::Ingress;

use crate::backend::{self, PortRef};
use crate::error_page::{NO_PAGE, status_range};
use crate::mirror::{NO_MIRROR, named_service};
use crate::notes::Notes;
use crate::reader::Reader;
use crate::report::{Field, Lines};
use crate::side_backend;

/// An annotation by our name and by that of ingress-nginx.
type Names = (&'static str, &'static str);

const ERRORS: Names = (api::CUSTOM_HTTP_ERRORS_ANNOTATION, api::NGINX_CUSTOM_HTTP_ERRORS_ANNOTATION);
const DEFAULT_BACKEND: Names = (api::DEFAULT_BACKEND_ANNOTATION, api::NGINX_DEFAULT_BACKEND_ANNOTATION);
const MIRROR_TARGET: Names = (api::MIRROR_TARGET_ANNOTATION, api::NGINX_MIRROR_TARGET_ANNOTATION);
const MIRROR_BODY: Names = (api::MIRROR_REQUEST_BODY_ANNOTATION, api::NGINX_MIRROR_REQUEST_BODY_ANNOTATION);
/// The most statuses that an annotation may name.
const STATUSES_MAX: usize = 64;

/// The same for all paths of one Ingress.
#[derive(Debug, Default)]
pub(crate) struct IngressExtras {
    extras: RouteExtras,
}

impl IngressExtras {
    /// `filters`: what the annotation of that name says of them. It has the word where others say the same.
    pub(crate) fn read(
        ingress: &Ingress,
        filters: &RouteExtras,
        reader: &mut Reader<'_>,
        lines: &mut Lines,
    ) -> Self {
        let Some(annotations) = &ingress.metadata.annotations else { return Self::default() };
        let root = Field::root("metadata");
        let notes = Notes { annotations, field: root.key("annotations") };
        let mut extras = filters.clone();
        let page = notes.error_pages(!filters.error_pages.is_empty(), reader, lines);
        extras.error_pages.extend(page);
        if extras.mirror.is_none() {
            extras.mirror = notes.mirror(reader, lines);
        } else {
            notes.overruled(MIRROR_TARGET, "a RequestMirror", lines);
        }
        Self { extras }
    }

    pub(crate) fn finish(&self, route: &mut Route) {
        if let (Action::Forward { .. }, false) = (&route.action, self.extras.is_empty()) {
            route.extras = Some(Box::new(self.extras.clone()));
        }
    }
}

impl<'a> Notes<'a> {
    /// Ours wins where both are there.
    fn either(&'a self, (ours, nginx): Names) -> Option<(&'a str, Field<'a>)> {
        [ours, nginx].into_iter().find_map(|name| self.get(name))
    }

    fn overruled(&'a self, names: Names, filter: &str, lines: &mut Lines) {
        if let Some((_, field)) = self.either(names) {
            let message = format!("'gateway.baribhara.io/filters' has {filter}, too, and has the word");
            lines.error(field, message, "keep one of them");
        }
    }

    /// `is_overruled`: the statuses are those of filters; the Service still answers where a backend has no endpoint.
    fn error_pages(
        &self,
        is_overruled: bool,
        reader: &mut Reader<'_>,
        lines: &mut Lines,
    ) -> Option<ErrorPage> {
        let statuses = if is_overruled {
            self.overruled(ERRORS, "ErrorPages", lines);
            None
        } else {
            self.either(ERRORS).map(|(text, field)| (statuses(text, field, lines), field))
        };
        let Some((name, field)) = self.either(DEFAULT_BACKEND) else {
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

impl Notes<'_> {
    fn mirror(&self, reader: &mut Reader<'_>, lines: &mut Lines) -> Option<Mirror> {
        let (text, field) = self.either(MIRROR_TARGET)?;
        let own = Arc::clone(&lines.object().namespace);
        let Some(mut service) = named_service(text, &own) else {
            let message = format!("'{text}' names no Service of the cluster; {NO_MIRROR}");
            let remedy = "write the Service's name, NAME:PORT, or http://NAME.NAMESPACE.svc:PORT";
            lines.warning(field, message, remedy);
            return None;
        };
        if service.port == 0 {
            service.port = first_port(&service.name, service.namespace.as_deref().unwrap_or(&own), reader);
        }
        let includes_body = match self.either(MIRROR_BODY) {
            None | Some(("on", _)) => true,
            Some(("off", _)) => false,
            Some((text, field)) => {
                let message = format!("'{text}' is neither on nor off; bodies are not mirrored");
                lines.error(field, message, "write \"on\" or \"off\"");
                false
            }
        };
        let backend = side_backend::side_backend(&service, NO_MIRROR, field, reader, lines);
        Some(Mirror { backend, percent: 100, includes_body })
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
    let port = first_port(name, &namespace, reader);
    let resolved = backend::service_target(&namespace, name, PortRef::Number(port), reader);
    side_backend::found(resolved, NO_PAGE, (field, field), lines)
}

/// 0: it has none.
fn first_port(name: &str, namespace: &str, reader: &mut Reader<'_>) -> u16 {
    let service = reader.service(namespace, name);
    let ports = service.and_then(|service| service.spec.as_ref()?.ports.as_ref());
    ports.and_then(|ports| ports.first()).and_then(|port| u16::try_from(port.port).ok()).unwrap_or(0)
}
