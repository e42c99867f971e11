//! Error pages, by filter and by annotation.

use ir::{ErrorPage, StatusRange};

use crate::reader::Reader;
use crate::report::{Field, Lines, Refused};
use crate::side_backend::side_backend;
use crate::value;

/// What follows where the Service of a page is not there.
pub(crate) const NO_PAGE: &str = "errors keep the answer that they have";

/// The pages of a filter.
pub(crate) fn error_pages(
    specs: &[api::ErrorPage],
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Vec<ErrorPage>, Refused> {
    value::all(specs, field, |spec, field| {
        let statuses = value::all(&spec.status_codes, field.key("statusCodes"), |text, field| {
            status_range(text).ok_or_else(|| {
                let message = format!("'{text}' is no status of an error; the rule answers 500");
                lines.error(field, message, "write a status like 404 or a range like 500-599")
            })
        });
        let backend = side_backend(&spec.backend_ref, NO_PAGE, field.key("backendRef"), reader, lines);
        Ok(ErrorPage { statuses: statuses?, without_endpoints: false, backend })
    })
}

/// `404` or `500-599`, from 400 to 599.
pub(crate) fn status_range(text: &str) -> Option<StatusRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        let status = text.parse::<u16>().ok().filter(|status| (400..=599).contains(status));
        status.filter(|_| text.len() == 3)
    };
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some(StatusRange { first, last })
}
