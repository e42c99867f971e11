//! Applies a rule's header changes. Must not know which headers the gateway itself sets.

use http::HeaderMap;

/// Removes, then sets, then adds, as `ir::HeaderEdit` says.
pub fn apply_header_edit(edit: &ir::HeaderEdit, headers: &mut HeaderMap) {
    for name in &edit.remove {
        headers.remove(name);
    }
    for (name, value) in &edit.set {
        headers.insert(name.clone(), value.clone());
    }
    for (name, value) in &edit.add {
        headers.append(name.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests;
