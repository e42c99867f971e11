//! The reference page of the CRDs, made from their schemas: every field with its type, default, bounds and
//! meaning. Reads nothing but the definitions.

use std::fmt::{self, Write};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// `docs/reference.md`, as Markdown.
///
/// # Errors
/// None that a `String` gives.
pub(super) fn page(crds: &[CustomResourceDefinition]) -> Result<String, fmt::Error> {
    let mut page = Page { text: HEAD.into(), told: Vec::new() };
    for crd in crds {
        page.kind(crd)?;
    }
    Ok(page.text)
}

/// An object of a schema: where it stands, and itself.
pub(super) struct Section<'a> {
    pub(super) path: String,
    pub(super) schema: &'a JSONSchemaProps,
}

/// The objects with named fields under `schema`, it first, each before its children.
pub(super) fn sections<'a>(path: &str, schema: &'a JSONSchemaProps) -> Vec<Section<'a>> {
    let mut all = Vec::new();
    let mut open = vec![Section { path: path.into(), schema }];
    while let Some(section) = open.pop() {
        let children = section.schema.properties.iter().flatten();
        // The last one comes off first.
        for (name, field) in children.rev() {
            let (object, suffix) = innermost(field);
            if object.properties.is_some() {
                open.push(Section { path: format!("{}.{name}{suffix}", section.path), schema: object });
            }
        }
        all.push(section);
    }
    all
}

/// What lists and maps hold in the end, with a mark for each of them.
fn innermost(field: &JSONSchemaProps) -> (&JSONSchemaProps, String) {
    let mut schema = field;
    let mut suffix = String::new();
    loop {
        let held = match (&schema.items, &schema.additional_properties) {
            (Some(JSONSchemaPropsOrArray::Schema(item)), _) => item,
            (_, Some(JSONSchemaPropsOrBool::Schema(value))) => value,
            _ => return (schema, suffix),
        };
        suffix.push_str(if schema.items.is_some() { "[]" } else { "{}" });
        schema = held;
    }
}

/// The same fields under the same rules by the same name, whatever is said of the object that has them.
fn twins(told: &Section<'_>, path: &str, schema: &JSONSchemaProps) -> bool {
    told.path.rsplit('.').next() == path.rsplit('.').next() && same(told.schema, schema)
}

pub(super) fn same(a: &JSONSchemaProps, b: &JSONSchemaProps) -> bool {
    a.properties == b.properties
        && a.required == b.required
        && a.x_kubernetes_validations == b.x_kubernetes_validations
}

struct Page<'a> {
    text: String,
    /// Objects that have a section. One that comes again is a link.
    told: Vec<Section<'a>>,
}

impl<'a> Page<'a> {
    fn kind(&mut self, crd: &'a CustomResourceDefinition) -> fmt::Result {
        let names = &crd.spec.names;
        for version in &crd.spec.versions {
            let Some(schema) = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()) else {
                continue;
            };
            let short = names.short_names.iter().flatten().map(|name| format!("`{name}`"));
            writeln!(self.text, "\n## {}\n", names.kind)?;
            writeln!(self.text, "{}\n", text(schema))?;
            writeln!(
                self.text,
                "`apiVersion: {}/{}`, `kind: {}`, {}; for kubectl also {}.",
                crd.spec.group,
                version.name,
                names.kind,
                crd.spec.scope.to_lowercase(),
                short.collect::<Vec<_>>().join(", ")
            )?;
            for (name, part) in schema.properties.iter().flatten() {
                for section in sections(&format!("{}.{name}", names.kind), part) {
                    self.section(section)?;
                }
            }
        }
        Ok(())
    }

    fn section(&mut self, section: Section<'a>) -> fmt::Result {
        let Section { path, schema } = &section;
        if schema.properties.is_none() || self.link(path, schema).is_some() {
            return Ok(());
        }
        writeln!(self.text, "\n### {path}\n\n{}\n", text(schema))?;
        self.text.push_str("| field | type | default and bounds | meaning |\n|---|---|---|---|\n");
        for (name, field) in schema.properties.iter().flatten() {
            let needed = schema.required.iter().flatten().any(|required| required == name);
            let kind = self.type_of(&format!("{path}.{name}"), field);
            let bounds = bounds(field, needed);
            writeln!(self.text, "| `{name}` | {kind} | {bounds} | {} |", text(field))?;
        }
        let rules = schema.x_kubernetes_validations.iter().flatten();
        for (at, message) in rules.filter_map(|rule| rule.message.as_deref()).enumerate() {
            self.text.push_str(if at == 0 { "\nWhat is refused, and the remedy:\n\n" } else { "" });
            writeln!(self.text, "- {}", cell(message))?;
        }
        self.told.push(section);
        Ok(())
    }

    fn link(&self, path: &str, schema: &JSONSchemaProps) -> Option<&str> {
        self.told.iter().find(|told| twins(told, path, schema)).map(|told| told.path.as_str())
    }

    /// The type in words. An object leads to its section, which may be one that stands above.
    fn type_of(&self, path: &str, field: &JSONSchemaProps) -> String {
        let (inner, suffix) = innermost(field);
        let mut words = String::new();
        if let Some(first) = suffix.get(..2) {
            words.push_str(if first == "[]" { "list of " } else { "map to " });
        }
        if inner.properties.is_some() {
            let own = format!("{path}{suffix}");
            let target = self.link(&own, inner).unwrap_or(&own);
            return format!("{words}[object](#{})", anchor(target));
        }
        let values: Vec<_> =
            inner.enum_.iter().flatten().map(|value| format!("`{}`", plain(&value.0))).collect();
        match (values.is_empty(), inner.x_kubernetes_int_or_string) {
            (false, _) => words + &values.join(", "),
            (true, Some(true)) => words + "integer or string",
            (true, _) => words + inner.type_.as_deref().unwrap_or("any"),
        }
    }
}

fn bounds(field: &JSONSchemaProps, needed: bool) -> String {
    let mut parts = Vec::new();
    if needed {
        parts.push("required".to_owned());
    }
    if let Some(default) = &field.default {
        parts.push(format!("`{}`", cell(&plain(&default.0))));
    }
    let (inner, _) = innermost(field);
    for (least, most, unit) in [
        (field.min_items, field.max_items, " items"),
        (field.min_properties, field.max_properties, " entries"),
        (inner.min_length, inner.max_length, " characters"),
    ] {
        parts.extend(range(least.map(|n| n.to_string()), most.map(|n| n.to_string()), unit));
    }
    let numbers = [inner.minimum, inner.maximum].map(|bound| bound.map(|number| number.to_string()));
    let [least, most] = numbers;
    parts.extend(range(least, most, ""));
    parts.join("; ")
}

fn range(least: Option<String>, most: Option<String>, unit: &str) -> Option<String> {
    match (least, most) {
        (None, None) => None,
        (Some(least), None) => Some(format!("from {least}{unit}")),
        (None, Some(most)) => Some(format!("up to {most}{unit}")),
        (Some(least), Some(most)) if least == most => Some(format!("{least}{unit}")),
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text(schema: &JSONSchemaProps) -> String {
    cell(schema.description.as_deref().unwrap_or_default())
}

/// What may stand in a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
}

/// As Markdown renderers make it of a heading: small letters, digits, `-` and `_`.
fn anchor(heading: &str) -> String {
    heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

const HEAD: &str = "\
# Reference of the CRDs

Every field of GatewayRoute, RateLimitPolicy and AuthPolicy, made from the schemas in `crds/` by `make crds`. A list is
`[]` in a heading, a map `{}`. Durations are those of the Gateway API, like `1h30m` or `250ms`. A field that is not set
and has no default is off, or inherits, as its line says. The pages beside this one tell how the parts are used:
[authentication](authentication.md), [rate limits](rate-limits.md), [load balancing](load-balancing.md),
[protocols](protocols.md), [TLS](tls.md).
";

#[cfg(test)]
mod tests;
