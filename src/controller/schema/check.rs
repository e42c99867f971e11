//! Compares a prepared object with its schema and collects everything that is wrong with it.

use std::collections::HashMap;
use std::fmt;

use kube_cel::cel::Context;
use serde_json::{Map, Value};

use super::node::{Bounds, Integer, Node, Shape, Text, Unique};
use super::path::Path;
use super::{Violation, hint};

/// The longest piece of an object that stands in a message, in characters.
const QUOTED_CHARS_MAX: usize = 64;
/// How many violations of one object are collected; enough for any person, and a bound on memory.
const VIOLATIONS_MAX: usize = 100;

/// Checks a whole object, or a part of one.
pub(super) fn root(node: &Node, object: &Value, context: &Context<'static>) -> Vec<Violation> {
    let mut check = Check { violations: Vec::new(), structural: 0, context };
    check.node(node, object, Path::Root);
    check.violations
}

struct Check<'c> {
    violations: Vec<Violation>,
    /// How many of them make a value unfit for rules: they are about its structure.
    structural: usize,
    context: &'c Context<'static>,
}

impl Check<'_> {
    fn node(&mut self, node: &Node, value: &Value, path: Path<'_>) {
        let before = self.structural;
        match (&node.shape, value) {
            (Shape::Object { properties, required }, Value::Object(fields)) => {
                for name in required {
                    if !fields.contains_key(name) {
                        let meaning = properties.get(name).map_or("", |child| child.description.as_str());
                        self.refuse(path.field(name), "is required", &format!("add it. {meaning}"));
                    }
                }
                for (name, field) in fields {
                    if let Some(child) = properties.get(name) {
                        self.node(child, field, path.field(name));
                    }
                }
            }
            (Shape::Map { values, count }, Value::Object(fields)) => {
                self.count(node, fields.len(), *count, path);
                for (name, field) in fields {
                    self.node(values, field, path.field(name));
                }
            }
            (Shape::List { items, count, unique }, Value::Array(elements)) => {
                self.count(node, elements.len(), *count, path);
                for (index, element) in elements.iter().enumerate() {
                    self.node(items, element, path.item(index));
                }
                self.unique(unique, elements, path);
            }
            (Shape::Text(text) | Shape::IntOrString(_, text), Value::String(value)) => {
                self.text(node, text, value, path);
            }
            (Shape::Integer(integer) | Shape::IntOrString(integer, _), Value::Number(number))
                if number.is_i64() || number.is_u64() =>
            {
                // What is over i64::MAX is over every bound too.
                self.integer(node, integer, number.as_i64().unwrap_or(i64::MAX), path);
            }
            (Shape::Boolean, Value::Bool(_)) => {}
            (
                Shape::Object { .. }
                | Shape::Map { .. }
                | Shape::List { .. }
                | Shape::Text(_)
                | Shape::Integer(_)
                | Shape::IntOrString(..)
                | Shape::Boolean,
                other,
            ) => self.wrong_type(&node.shape, other, path),
        }
        // As in an API server: a rule sees only a value whose structure is right.
        if self.structural == before {
            for (message, remedy) in node.rules.broken(value, self.context) {
                self.push(path, message, remedy);
            }
        }
    }

    fn count(&mut self, node: &Node, items: usize, bounds: Bounds, path: Path<'_>) {
        let items = u64::try_from(items).unwrap_or(u64::MAX);
        if items < bounds.min {
            self.refuse(path, &format!("has {items} items, fewer than {}", bounds.min), &node.description);
        }
        if items > bounds.max {
            self.refuse(path, &format!("has {items} items, more than {}", bounds.max), &node.description);
        }
    }

    fn unique(&mut self, unique: &Unique, elements: &[Value], path: Path<'_>) {
        match unique {
            Unique::Nothing => {}
            Unique::Elements => {
                let texts = elements.iter().map(|element| element.as_str().map(|text| vec![text]));
                self.twice(texts, path, |key| format!("{} stands in the list already", quoted(key.first())));
            }
            Unique::Keys(names) => {
                let keys = elements.iter().map(|element| key(names, element.as_object()?));
                self.twice(keys, path, |key| {
                    let same: Vec<_> =
                        names.iter().zip(key).map(|(n, v)| format!("{n} {}", quoted(Some(v)))).collect();
                    format!("has the same {} as an earlier entry", same.join(", "))
                });
            }
        }
    }

    /// Reports every key that an earlier element has too. An element without a key is refused elsewhere.
    fn twice<'v>(
        &mut self,
        keys: impl Iterator<Item = Option<Vec<&'v str>>>,
        path: Path<'_>,
        message: impl Fn(&[&'v str]) -> String,
    ) {
        // Most lists hold one element or two.
        if keys.size_hint().0 < 2 {
            return;
        }
        let mut seen: HashMap<Vec<&str>, usize> = HashMap::new();
        for (index, key) in keys.enumerate() {
            let Some(key) = key else { continue };
            match seen.get(&key) {
                Some(first) => {
                    let remedy = format!("change or remove it; the first is {}", path.item(*first));
                    self.refuse(path.item(index), &message(&key), &remedy);
                }
                None => {
                    seen.insert(key, index);
                }
            }
        }
    }

    fn text(&mut self, node: &Node, text: &Text, value: &str, path: Path<'_>) {
        if !text.choices.is_empty() && !text.choices.iter().any(|choice| choice == value) {
            let remedy = match hint::nearest(value, text.choices.iter().map(String::as_str)) {
                Some(choice) => format!("did you mean {choice}?"),
                None => format!("use one of {}", text.choices.join(", ")),
            };
            self.refuse(path, &format!("{} is not known", quoted(Some(&value))), &remedy);
        }
        // Bytes are at least characters, so most texts need not be counted.
        let bytes = u64::try_from(value.len()).unwrap_or(u64::MAX);
        if bytes > text.length.max || bytes < text.length.min.saturating_mul(4) {
            let length = u64::try_from(value.chars().count()).unwrap_or(u64::MAX);
            if length > text.length.max {
                let message = format!("has {length} characters, more than {}", text.length.max);
                self.refuse(path, &message, &node.description);
                return;
            }
            if length < text.length.min {
                let message = format!("has {length} characters, fewer than {}", text.length.min);
                self.refuse(path, &message, &node.description);
                return;
            }
        }
        if let Some(pattern) = text.pattern.as_ref().filter(|pattern| !pattern.is_match(value)) {
            self.refuse(path, &format!("does not have the form {pattern}"), &node.description);
        }
    }

    fn integer(&mut self, node: &Node, integer: &Integer, value: i64, path: Path<'_>) {
        if !integer.choices.is_empty() && !integer.choices.contains(&value) {
            let choices: Vec<_> = integer.choices.iter().map(i64::to_string).collect();
            let remedy = format!("use one of {}", choices.join(", "));
            self.refuse(path, &format!("{value} is not among the allowed values"), &remedy);
        }
        if value < integer.min {
            self.refuse(path, &format!("is {value}, less than {}", integer.min), &node.description);
        }
        if value > integer.max {
            self.refuse(path, &format!("is {value}, more than {}", integer.max), &node.description);
        }
    }

    fn wrong_type(&mut self, shape: &Shape, value: &Value, path: Path<'_>) {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "a mapping",
        };
        let (wanted, remedy) = match shape {
            Shape::Object { .. } | Shape::Map { .. } => {
                ("a mapping", "write it as key: value lines below the field")
            }
            Shape::List { .. } => ("a list", "write each entry with a leading '- '"),
            Shape::Text(_) if value.is_number() || value.is_boolean() => ("a text", "put it in quotes"),
            Shape::Text(_) => ("a text", "write a text"),
            Shape::Integer(_) => ("a whole number", "write digits only, without quotes"),
            Shape::IntOrString(..) => ("a whole number or a text", "write it like 8Mi or 1024"),
            Shape::Boolean => ("a boolean", "write true or false, without quotes"),
        };
        self.refuse(path, &format!("must be {wanted}, but is {found}"), remedy);
    }

    fn refuse(&mut self, path: Path<'_>, message: &str, remedy: &str) {
        self.structural += 1;
        self.push(path, message, remedy);
    }

    fn push(&mut self, path: impl fmt::Display, message: &str, remedy: &str) {
        if self.violations.len() < VIOLATIONS_MAX {
            let remedy = remedy.trim().to_owned();
            self.violations.push(Violation { path: path.to_string(), message: message.to_owned(), remedy });
        }
    }
}

/// The element's values of the key fields; `None`: one is missing or no text.
fn key<'v>(names: &[String], element: &'v Map<String, Value>) -> Option<Vec<&'v str>> {
    names.iter().map(|name| element.get(name)?.as_str()).collect()
}

fn quoted(text: Option<&&str>) -> String {
    let text = text.copied().unwrap_or_default();
    let short: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}
