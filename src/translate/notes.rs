//! The annotations of one Ingress and where they stand. What their texts mean is for whoever reads them.

use std::collections::BTreeMap;

use crate::report::Field;

/// Each module that reads some of them has its own methods of it.
pub(crate) struct Notes<'a> {
    pub(crate) annotations: &'a BTreeMap<String, String>,
    pub(crate) field: Field<'a>,
}

impl<'a> Notes<'a> {
    /// The annotation's text without blanks at its ends, and its place.
    pub(crate) fn get(&'a self, name: &'a str) -> Option<(&'a str, Field<'a>)> {
        self.annotations.get(name).map(|text| (text.trim(), self.field.quoted(name)))
    }
}
