//! The path of a request in the form in which this room compares it: `ir`'s, under this room's name. Must not add to it.

use std::borrow::Cow;

pub(crate) use ir::PathError;

/// Makes the path of a request (without query) canonical, as [`ir::canonical_path`] does for the paths of objects.
///
/// # Errors
/// See [`ir::PathError`]: the request is answered 400.
#[inline]
pub fn canonical(raw: &str) -> Result<Cow<'_, str>, PathError> {
    ir::canonical_path(raw)
}

#[cfg(test)]
mod tests;
