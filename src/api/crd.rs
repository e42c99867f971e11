//! The CustomResourceDefinitions, made from the types, in the form that an API server takes without a
//! warning.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde::ser::Error as _;
use serde_json::Value;

use crate::{AuthPolicy, GatewayRoute, RateLimitPolicy};

mod reference;

/// The definitions of all kinds: GatewayRoute, RateLimitPolicy, AuthPolicy.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut all = vec![GatewayRoute::crd(), RateLimitPolicy::crd(), AuthPolicy::crd()];
    for crd in &mut all {
        for version in &mut crd.spec.versions {
            if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
                tidy(schema);
            }
        }
    }
    all
}

/// Each definition as YAML, with the name of its file in `crds/`.
///
/// # Errors
/// Where a definition cannot be written as YAML.
pub fn crds_yaml() -> Result<Vec<(String, String)>, serde_saphyr::ser::Error> {
    let mut files = Vec::new();
    for crd in crds() {
        let mut value = serde_json::to_value(&crd).map_err(serde_saphyr::ser::Error::custom)?;
        whole_numbers(&mut value);
        files.push((format!("{}.yaml", crd.spec.names.plural), serde_saphyr::to_string(&value)?));
    }
    Ok(files)
}

/// `docs/reference.md`: every field of the definitions, as Markdown.
///
/// # Errors
/// None that writing into a `String` gives.
pub fn crds_reference() -> Result<String, std::fmt::Error> {
    reference::page(&crds())
}

/// The bounds of a schema are floating-point numbers in the type; all of ours are whole and read better as
/// such.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < MAX_EXACT);
            if let Some(whole) = whole.and_then(|float| format!("{float:.0}").parse::<i64>().ok()) {
                *number = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Below this (2⁵³) every whole number has its own floating-point number.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Takes out what the generator writes and an API server warns of or reads otherwise.
///
/// `nullable` goes because the API server then removes an explicit null before it validates: null means "not
/// set" everywhere, and no rule has to think of it. `format: uint32` and its like are unknown to Kubernetes;
/// every number has its own bounds instead.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    // The line breaks are those of the source, which mean nothing to a reader of the definition.
    schema.description = schema.description.take().map(|text| text.replace('\n', " "));
    if let Some(values) = schema.enum_.as_mut() {
        values.retain(|value| !value.0.is_null());
    }
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = Some("int32".into());
    }
    for child in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        tidy(child);
    }
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(child)) => tidy(child),
        Some(JSONSchemaPropsOrArray::Schemas(children)) => children.iter_mut().for_each(tidy),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(child)) = schema.additional_properties.as_mut() {
        tidy(child);
    }
}

#[cfg(test)]
mod tests;
