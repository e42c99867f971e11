//! Builds values from the parser's events, with the bounds: depth, duplicate keys, expansion of aliases.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};
use serde_json::{Map, Value};

use super::{ALIAS_BYTES_MAX, Chunk, DEPTH_MAX, Document, Parsed, SyntaxError, number, scalar};

/// No message quotes the text, since it may be that of a Secret.
const TAG_UNSUPPORTED: &str = "this tag is not supported";

/// Parses a chunk of YAML.
pub(super) fn parse(chunk: &Chunk<'_>) -> Parsed {
    let mut loader = Loader { line_offset: chunk.line.saturating_sub(1), ..Loader::default() };
    let error = loader.run(&mut Parser::new_from_str(chunk.text)).err();
    if error.is_some() {
        loader.close_all();
    }
    Parsed { documents: loader.documents, error }
}

/// Parses a text of one document without aliases.
pub(super) fn parse_value(text: &str) -> Result<Value, SyntaxError> {
    let mut loader = Loader { refuses_aliases: true, ..Loader::default() };
    loader.run(&mut Parser::new_from_str(text))?;
    let mut documents = loader.documents.into_iter();
    let value = documents.next().map_or(Value::Null, |document| document.value);
    match documents.next() {
        None => Ok(value),
        Some(Document { line, .. }) => {
            Err(SyntaxError { line, column: 1, message: "a second document begins here".to_owned() })
        }
    }
}

#[derive(Default)]
struct Loader {
    line_offset: u32,
    refuses_aliases: bool,
    stack: Vec<Frame>,
    documents: Vec<Document>,
    /// Where the root of the open document stands.
    root_line: Option<u32>,
    anchors: HashMap<usize, Anchor>,
    alias_bytes: usize,
}

struct Anchor {
    value: Value,
    depth: usize,
    bytes: usize,
}

/// An open mapping or list. The number is that of its anchor, 0 for none.
enum Frame {
    List { items: Vec<Value>, anchor: usize },
    Mapping { entries: Map<String, Value>, key: Option<String>, anchor: usize },
}

impl Loader {
    fn run(&mut self, parser: &mut Parser<'_, StrInput<'_>>) -> Result<(), SyntaxError> {
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.scan_error(&error))?;
            self.event(event, &span.start).map_err(|message| self.error(&span.start, message))?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, at: &Marker) -> Result<(), String> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => Ok(()),
            Event::DocumentEnd => {
                self.anchors.clear();
                Ok(())
            }
            Event::Alias(_) if self.refuses_aliases => Err("aliases are not supported here".to_owned()),
            Event::Alias(id) => {
                let value = self.expand(id)?;
                self.node(value, at)
            }
            Event::Scalar(text, style, anchor, tag) => {
                if let Some(Frame::Mapping { key: key @ None, entries, .. }) = self.stack.last_mut() {
                    check_key(&text, style, entries)?;
                    *key = Some(text.clone().into_owned());
                    self.remember(anchor, || Value::String(text.into_owned()));
                    return Ok(());
                }
                let value = scalar_value(&text, style, tag.as_deref())?;
                self.remember(anchor, || value.clone());
                self.node(value, at)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq")?;
                self.open(Frame::List { items: Vec::new(), anchor }, at)
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map")?;
                self.open(Frame::Mapping { entries: Map::new(), key: None, anchor }, at)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.close(at);
                Ok(())
            }
        }
    }

    fn open(&mut self, frame: Frame, at: &Marker) -> Result<(), String> {
        if let Some(Frame::Mapping { key: None, .. }) = self.stack.last() {
            return Err("a key must be a string".to_owned());
        }
        if self.stack.len() >= DEPTH_MAX {
            return Err(format!("nested more than {DEPTH_MAX} levels deep"));
        }
        if self.stack.is_empty() {
            self.root_line = Some(self.line(at));
        }
        self.stack.push(frame);
        Ok(())
    }

    fn close(&mut self, at: &Marker) {
        let (value, anchor) = match self.stack.pop() {
            Some(Frame::List { items, anchor }) => (Value::Array(items), anchor),
            Some(Frame::Mapping { entries, anchor, .. }) => (Value::Object(entries), anchor),
            None => return,
        };
        self.remember(anchor, || value.clone());
        self.place(value, at);
    }

    /// After an error: what was read so far becomes the last document.
    fn close_all(&mut self) {
        let start = Marker::new(0, 1, 0);
        while !self.stack.is_empty() {
            self.close(&start);
        }
    }

    /// A scalar or an alias.
    fn node(&mut self, value: Value, at: &Marker) -> Result<(), String> {
        if let Some(Frame::Mapping { key: key @ None, entries, .. }) = self.stack.last_mut() {
            let Value::String(text) = value else { return Err("a key must be a string".to_owned()) };
            check_key(&text, ScalarStyle::DoubleQuoted, entries)?;
            *key = Some(text);
            return Ok(());
        }
        if self.stack.is_empty() {
            self.root_line = Some(self.line(at));
        }
        self.place(value, at);
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn place(&mut self, value: Value, at: &Marker) {
        match self.stack.last_mut() {
            Some(Frame::List { items, .. }) => items.push(value),
            Some(Frame::Mapping { entries, key, .. }) => {
                if let Some(key) = key.take() {
                    entries.insert(key, value);
                }
            }
            None => {
                let line = self.root_line.take().unwrap_or_else(|| self.line(at));
                self.documents.push(Document { value, line });
            }
        }
    }

    fn remember(&mut self, anchor: usize, value: impl FnOnce() -> Value) {
        if anchor != 0 {
            let value = value();
            let (depth, bytes) = measure(&value);
            self.anchors.insert(anchor, Anchor { value, depth, bytes });
        }
    }

    fn expand(&mut self, id: usize) -> Result<Value, String> {
        let anchor = self.anchors.get(&id).ok_or("the alias stands inside its own anchor")?;
        self.alias_bytes += anchor.bytes;
        if self.alias_bytes > ALIAS_BYTES_MAX {
            return Err(format!("aliases expand to more than {} MiB", ALIAS_BYTES_MAX >> 20));
        }
        if self.stack.len() + anchor.depth > DEPTH_MAX {
            return Err(format!("nested more than {DEPTH_MAX} levels deep"));
        }
        Ok(anchor.value.clone())
    }

    fn line(&self, at: &Marker) -> u32 {
        number(at.line()).saturating_add(self.line_offset)
    }

    fn error(&self, at: &Marker, message: String) -> SyntaxError {
        SyntaxError { line: self.line(at), column: number(at.col() + 1), message }
    }

    fn scan_error(&self, error: &ScanError) -> SyntaxError {
        // One of the scanner's messages ends with the character it met.
        let message = error.info().split_once(": `").map_or(error.info(), |(message, _)| message);
        self.error(error.marker(), message.to_owned())
    }
}

fn check_key(key: &str, style: ScalarStyle, entries: &Map<String, Value>) -> Result<(), String> {
    if entries.contains_key(key) {
        return Err("a key stands twice in this mapping".to_owned());
    }
    if key == "<<" && style == ScalarStyle::Plain {
        return Err("merge keys (`<<`) are not supported".to_owned());
    }
    Ok(())
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let Some(tag) = tag else {
        return match style {
            ScalarStyle::Plain => scalar::plain(text).map_err(str::to_owned),
            ScalarStyle::SingleQuoted
            | ScalarStyle::DoubleQuoted
            | ScalarStyle::Literal
            | ScalarStyle::Folded => Ok(Value::String(text.to_owned())),
        };
    };
    if tag.is_yaml_core_schema() {
        match tag.suffix.as_str() {
            "str" => return Ok(Value::String(text.to_owned())),
            "null" | "bool" | "int" | "float" => return scalar::plain(text).map_err(str::to_owned),
            _ => {}
        }
    } else if tag.handle.is_empty() && tag.suffix == "!" {
        return Ok(Value::String(text.to_owned()));
    }
    Err(TAG_UNSUPPORTED.to_owned())
}

fn check_tag(tag: Option<&Tag>, core: &str) -> Result<(), String> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == core) => Err(TAG_UNSUPPORTED.to_owned()),
        Some(_) | None => Ok(()),
    }
}

/// Depth in levels (a scalar has none) and size in bytes. The recursion is bounded by [`DEPTH_MAX`].
fn measure(value: &Value) -> (usize, usize) {
    let mut depth = 0;
    let mut bytes = 32;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => return (0, bytes),
        Value::String(text) => return (0, bytes + text.len()),
        Value::Array(items) => {
            for item in items {
                let (item_depth, item_bytes) = measure(item);
                depth = depth.max(item_depth);
                bytes += item_bytes;
            }
        }
        Value::Object(entries) => {
            for (key, item) in entries {
                let (item_depth, item_bytes) = measure(item);
                depth = depth.max(item_depth);
                bytes += item_bytes + key.len();
            }
        }
    }
    (depth + 1, bytes)
}
