//! The compiled form of one node of a schema. Refuses every keyword that it could not enforce, so that
//! nothing in a definition is silently without effect here.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use super::rule::Rules;

/// One node: what a value must be, what it is by default, and the rules that look at it.
pub(super) struct Node {
    pub(super) shape: Shape,
    pub(super) default: Option<Value>,
    pub(super) rules: Rules,
    /// What the field means; that of the list, for its elements.
    pub(super) description: String,
}

/// What a value must be.
pub(super) enum Shape {
    Object {
        properties: BTreeMap<String, Node>,
        required: Vec<String>,
    },
    /// Names that the user chooses.
    Map {
        values: Box<Node>,
        count: Bounds,
    },
    List {
        items: Box<Node>,
        count: Bounds,
        unique: Unique,
    },
    Text(Text),
    Integer(Integer),
    IntOrString(Integer, Text),
    Boolean,
}

/// Least and most, ends included.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) min: u64,
    pub(super) max: u64,
}

/// Which elements of a list may not be equal.
pub(super) enum Unique {
    Nothing,
    /// No element twice (`x-kubernetes-list-type: set`).
    Elements,
    /// No two elements that agree in all of these fields (`x-kubernetes-list-type: map`).
    Keys(Vec<String>),
}

/// What a text must be.
pub(super) struct Text {
    /// In characters.
    pub(super) length: Bounds,
    pub(super) pattern: Option<Regex>,
    /// Empty: any.
    pub(super) choices: Vec<String>,
}

/// What a whole number must be.
pub(super) struct Integer {
    pub(super) min: i64,
    pub(super) max: i64,
    /// Empty: any.
    pub(super) choices: Vec<i64>,
}

impl Node {
    /// Compiles a schema; `place` names it in errors, `description` is that of the list around it.
    pub(super) fn compile(schema: &Value, place: &str, description: &str) -> Result<Self, String> {
        let mut keywords = Keywords::of(schema, place)?;
        let description = keywords.text("description")?.unwrap_or_else(|| description.to_owned());
        let shape = Shape::compile(&mut keywords, &description)?;
        let default = keywords.take("default");
        let rules = match keywords.take("x-kubernetes-validations") {
            Some(rules) => Rules::compile(&rules, &shape).map_err(|error| format!("{place}: {error}"))?,
            None => Rules::default(),
        };
        // Only names the definition; and an integer's format says less than its bounds.
        keywords.take("title");
        keywords.take("format");
        keywords.finish()?;
        Ok(Self { shape, default, rules, description })
    }

    /// What the elements of a list must be.
    pub(super) fn element(&self) -> Option<&Self> {
        match &self.shape {
            Shape::List { items, .. } => Some(items),
            Shape::Object { .. }
            | Shape::Map { .. }
            | Shape::Text(_)
            | Shape::Integer(_)
            | Shape::IntOrString(..)
            | Shape::Boolean => None,
        }
    }

    /// One of the fields of an object.
    pub(super) fn property(&self, name: &str) -> Option<&Self> {
        match &self.shape {
            Shape::Object { properties, .. } => properties.get(name),
            Shape::Map { .. }
            | Shape::List { .. }
            | Shape::Text(_)
            | Shape::Integer(_)
            | Shape::IntOrString(..)
            | Shape::Boolean => None,
        }
    }
}

impl Shape {
    fn compile(keywords: &mut Keywords<'_>, description: &str) -> Result<Self, String> {
        if keywords.take("x-kubernetes-int-or-string") == Some(Value::Bool(true)) {
            return Ok(Self::IntOrString(Integer::compile(keywords)?, Text::compile(keywords)?));
        }
        match keywords.text("type")?.as_deref() {
            Some("object") => Self::object(keywords, description),
            Some("array") => Self::list(keywords, description),
            Some("string") => Ok(Self::Text(Text::compile(keywords)?)),
            Some("integer") => Ok(Self::Integer(Integer::compile(keywords)?)),
            Some("boolean") => Ok(Self::Boolean),
            other => Err(format!("{}: type {other:?} is not known", keywords.place)),
        }
    }

    fn object(keywords: &mut Keywords<'_>, description: &str) -> Result<Self, String> {
        if let Some(schema) = keywords.take("additionalProperties") {
            let values = Box::new(Node::compile(&schema, &format!("{}.*", keywords.place), description)?);
            let count = Bounds {
                min: keywords.unsigned("minProperties")?.unwrap_or(0),
                max: keywords.unsigned("maxProperties")?.unwrap_or(u64::MAX),
            };
            return Ok(Self::Map { values, count });
        }
        let mut properties = BTreeMap::new();
        let Some(Value::Object(schemas)) = keywords.take("properties") else {
            return Err(format!("{}: an object without properties", keywords.place));
        };
        for (name, schema) in &schemas {
            let node = Node::compile(schema, &format!("{}.{name}", keywords.place), "")?;
            properties.insert(name.clone(), node);
        }
        Ok(Self::Object { properties, required: keywords.texts("required")? })
    }

    fn list(keywords: &mut Keywords<'_>, description: &str) -> Result<Self, String> {
        let schema = keywords.take("items").unwrap_or_default();
        let items = Node::compile(&schema, &format!("{}[]", keywords.place), description)?;
        let keys = keywords.texts("x-kubernetes-list-map-keys")?;
        let unique = match keywords.text("x-kubernetes-list-type")?.as_deref() {
            None | Some("atomic") => Unique::Nothing,
            Some("set") => Unique::Elements,
            Some("map") => Unique::Keys(keys),
            Some(other) => return Err(format!("{}: list type {other} is not known", keywords.place)),
        };
        let count = Bounds {
            min: keywords.unsigned("minItems")?.unwrap_or(0),
            max: keywords.unsigned("maxItems")?.unwrap_or(u64::MAX),
        };
        Ok(Self::List { items: Box::new(items), count, unique })
    }
}

impl Text {
    fn compile(keywords: &mut Keywords<'_>) -> Result<Self, String> {
        let pattern = match keywords.text("pattern")? {
            Some(pattern) => {
                Some(Regex::new(&pattern).map_err(|error| format!("{}: {error}", keywords.place))?)
            }
            None => None,
        };
        let length = Bounds {
            min: keywords.unsigned("minLength")?.unwrap_or(0),
            max: keywords.unsigned("maxLength")?.unwrap_or(u64::MAX),
        };
        Ok(Self { length, pattern, choices: keywords.texts("enum")? })
    }
}

impl Integer {
    fn compile(keywords: &mut Keywords<'_>) -> Result<Self, String> {
        let mut choices = Vec::new();
        if let Some(Value::Array(values)) = keywords.take("enum") {
            for value in values {
                choices.push(value.as_i64().ok_or_else(|| format!("{}: enum {value}", keywords.place))?);
            }
        }
        Ok(Self {
            min: keywords.integer("minimum")?.unwrap_or(i64::MIN),
            max: keywords.integer("maximum")?.unwrap_or(i64::MAX),
            choices,
        })
    }
}

/// The keywords of one schema; those that nobody took are refused at the end.
struct Keywords<'p> {
    rest: Map<String, Value>,
    place: &'p str,
}

impl<'p> Keywords<'p> {
    fn of(schema: &Value, place: &'p str) -> Result<Self, String> {
        match schema.as_object() {
            Some(rest) => Ok(Self { rest: rest.clone(), place }),
            None => Err(format!("{place}: the schema is no object")),
        }
    }

    fn take(&mut self, keyword: &str) -> Option<Value> {
        self.rest.shift_remove(keyword)
    }

    fn text(&mut self, keyword: &str) -> Result<Option<String>, String> {
        match self.take(keyword) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("{}: {keyword} is {other}, not text", self.place)),
        }
    }

    fn texts(&mut self, keyword: &str) -> Result<Vec<String>, String> {
        match self.take(keyword) {
            None => Ok(Vec::new()),
            Some(value) => {
                serde_json::from_value(value).map_err(|error| format!("{}: {keyword}: {error}", self.place))
            }
        }
    }

    fn unsigned(&mut self, keyword: &str) -> Result<Option<u64>, String> {
        match self.take(keyword) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) => Ok(Some(number)),
                None => Err(format!("{}: {keyword} is {value}, not a count", self.place)),
            },
        }
    }

    fn integer(&mut self, keyword: &str) -> Result<Option<i64>, String> {
        match self.take(keyword) {
            None => Ok(None),
            Some(value) => match super::prepare::whole(&value) {
                Some(number) => Ok(Some(number)),
                None => Err(format!("{}: {keyword} is {value}, not a whole number", self.place)),
            },
        }
    }

    fn finish(self) -> Result<(), String> {
        match self.rest.keys().next() {
            None => Ok(()),
            Some(keyword) => Err(format!("{}: the keyword {keyword} is not enforced", self.place)),
        }
    }
}
