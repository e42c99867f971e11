//! Annotations of an Ingress that hold a field of a GatewayRoute's rule: reads each as YAML and has it judged by the
//! definition of GatewayRoute. Decides nothing about what follows.

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use serde_json::{Map, Value};
use translate::{RefusedNote, RuleNotes};

use crate::schema::{Schemas, Violation};
use crate::yaml;

/// The longest value in bytes.
const VALUE_BYTES_MAX: usize = 16 << 10;
const NO_YAML: &str = "write YAML or JSON, as it would stand in a GatewayRoute";

/// What the annotations say. `None`: none of them is there.
pub(crate) fn read(annotations: Option<&BTreeMap<String, String>>, schemas: &Schemas) -> Option<RuleNotes> {
    let annotations = annotations?;
    let written = |(annotation, field)| Some((annotation, field, annotations.get(annotation)?));
    let mut written = api::RULE_ANNOTATIONS.into_iter().filter_map(written).peekable();
    written.peek()?;
    let mut notes = RuleNotes::default();
    // All that was admitted so far.
    let mut rule = Map::from_iter([("name".to_owned(), Value::String(String::new()))]);
    for (annotation, field, text) in written {
        let admitted = value(text).and_then(|value| schemas.admit_rule_field(field, value));
        let built = admitted.and_then(|value| {
            rule.insert(field.to_owned(), value);
            serde_json::from_value(Value::Object(rule.clone())).map_err(|error| {
                rule.remove(field);
                vec![violation(error.to_string(), NO_YAML)]
            })
        });
        match built {
            Ok(built) => notes.rule = built,
            Err(violations) => notes.refused.extend(violations.into_iter().map(|violation| {
                let Violation { path, message, remedy } = violation;
                RefusedNote { annotation, field: path, message, remedy }
            })),
        }
    }
    Some(notes)
}

fn value(text: &str) -> Result<Value, Vec<Violation>> {
    if text.len() > VALUE_BYTES_MAX {
        let message = format!("has {} bytes, more than {VALUE_BYTES_MAX}", text.len());
        return Err(vec![violation(message, "write less, or use a GatewayRoute")]);
    }
    // A panic in the parser costs this annotation, not the source of all objects.
    let parsed = catch_unwind(|| yaml::parse_value(text));
    let error = match parsed {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => format!("line {}, column {}: {}", error.line, error.column, error.message),
        Err(_) => "the text cannot be parsed".to_owned(),
    };
    Err(vec![violation(error, NO_YAML)])
}

fn violation(message: String, remedy: &str) -> Violation {
    Violation { path: String::new(), message, remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests;
