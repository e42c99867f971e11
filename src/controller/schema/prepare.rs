//! What happens to an object before it is validated: unknown fields and nulls go, defaults come in. The order
//! and the effect are those of an API server for a schema without nullable fields.

use serde_json::{Map, Value};

use super::node::{Node, Shape};
use super::path::Path;
use super::{FieldPath, hint};

/// The fields of every object that its schema does not name.
const COMMON: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// What a controller wrote, and what stands in objects that were read out of a cluster: no mistake, and without effect.
const STATUS: &str = "status";

/// The largest number up to which every whole one has its own floating-point form.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Prepares a whole object.
pub(super) fn root(node: &Node, object: &mut Value, pruned: &mut Vec<FieldPath>) {
    if let (Shape::Object { .. }, Value::Object(fields)) = (&node.shape, &mut *object) {
        let mut common = Vec::new();
        for name in COMMON {
            if let Some(entry) = fields.shift_remove_entry(name) {
                common.push(entry);
            }
        }
        fields.shift_remove(STATUS);
        prepare(node, object, Path::Root, pruned);
        if let Value::Object(fields) = object {
            let rest = std::mem::replace(fields, Map::from_iter(common));
            fields.extend(rest);
        }
    }
}

/// Prepares a part of an object.
pub(super) fn part(node: &Node, value: &mut Value, pruned: &mut Vec<FieldPath>) {
    prepare(node, value, Path::Root, pruned);
}

fn prepare(node: &Node, value: &mut Value, path: Path<'_>, pruned: &mut Vec<FieldPath>) {
    match (&node.shape, &mut *value) {
        (Shape::Object { properties, .. }, Value::Object(fields)) => {
            fields.retain(|name, value| match properties.get(name) {
                Some(child) => !value.is_null() || child.default.is_some(),
                None => {
                    let remedy = remedy(name, properties.keys().map(String::as_str));
                    pruned.push(FieldPath { path: path.field(name).to_string(), remedy });
                    false
                }
            });
            for (name, child) in properties {
                if let Some(default) = &child.default {
                    let field = fields.entry(name.as_str()).or_insert(Value::Null);
                    if field.is_null() {
                        *field = default.clone();
                    }
                }
                if let Some(field) = fields.get_mut(name) {
                    prepare(child, field, path.field(name), pruned);
                }
            }
        }
        (Shape::Map { values, .. }, Value::Object(fields)) => {
            fields.retain(|_, value| !value.is_null());
            for (name, field) in fields {
                prepare(values, field, path.field(name), pruned);
            }
        }
        (Shape::List { items, .. }, Value::Array(elements)) => {
            for (index, element) in elements.iter_mut().enumerate() {
                prepare(items, element, path.item(index), pruned);
            }
        }
        // An API server takes 80.0 for 80; the types of the `api` room do not.
        (Shape::Integer(_) | Shape::IntOrString(..), Value::Number(number)) if number.is_f64() => {
            if let Some(whole) = whole(value) {
                *value = whole.into();
            }
        }
        // A value of another type stays as it is, to be refused by the check.
        (
            Shape::Object { .. }
            | Shape::Map { .. }
            | Shape::List { .. }
            | Shape::Text(_)
            | Shape::Integer(_)
            | Shape::IntOrString(..)
            | Shape::Boolean,
            _,
        ) => {}
    }
}

/// The value as a whole number, where it is one.
pub(super) fn whole(value: &Value) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(number);
    }
    let float = value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT_MAX)?;
    format!("{float:.0}").parse().ok()
}

fn remedy<'a>(name: &str, mut known: impl Iterator<Item = &'a str> + Clone) -> String {
    // YAML 1.1 reads a bare `on` as true, and so do kubectl and the tools that print YAML for it.
    if name == "true" && known.clone().any(|field| field == "on") {
        return "write \"on\" in quotes".to_owned();
    }
    match hint::nearest(name, known.by_ref()) {
        Some(field) => format!("did you mean {field}?"),
        None => "remove it or correct its name".to_owned(),
    }
}
