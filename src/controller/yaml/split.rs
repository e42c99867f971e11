//! Cuts a file into chunks that can be parsed apart from each other. Builds no values.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::de::IgnoredAny;

use super::{count_lines, number};

/// How a chunk is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Yaml,
    Json,
}

/// A piece of a file that holds whole documents: one, as a rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk<'a> {
    pub(crate) text: &'a str,
    /// The file's line on which the chunk begins, from 1.
    pub(crate) line: u32,
    pub(crate) format: Format,
}

impl Chunk<'_> {
    /// Equal for equal text, wherever it stands.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.text.hash(&mut hasher);
        hasher.finish()
    }
}

/// Cuts YAML at each `---` that starts a line: that is a separator wherever it stands, inside block and quoted
/// scalars too (YAML 1.2.2 §9.1.2, c-forbidden). Chunks of nothing but comments, blank lines and directives are
/// left out. JSON is cut after each value, as far as it is JSON.
pub(crate) fn split(text: &str, format: Format) -> Vec<Chunk<'_>> {
    match format {
        Format::Yaml => split_yaml(text),
        Format::Json => split_json(text),
    }
}

fn split_yaml(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let mut start = 0;
    let mut start_line = 1;
    let mut offset = 0;
    for (line, piece) in (1..).zip(text.split_inclusive('\n')) {
        if offset > start && is_separator(piece) {
            push(&mut chunks, text.get(start..offset).unwrap_or_default(), start_line);
            start = offset;
            start_line = line;
        }
        offset += piece.len();
    }
    push(&mut chunks, text.get(start..).unwrap_or_default(), start_line);
    chunks
}

fn split_json(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let mut rest = text;
    let mut line = 1;
    loop {
        let trimmed = rest.trim_start();
        line += count_lines(rest.get(..rest.len() - trimmed.len()).unwrap_or_default());
        if trimmed.is_empty() {
            return chunks;
        }
        let mut values = serde_json::Deserializer::from_str(trimmed).into_iter::<IgnoredAny>();
        let end = match values.next() {
            Some(Ok(_)) => values.byte_offset(),
            Some(Err(_)) | None => trimmed.len(),
        };
        let (text, after) = trimmed.split_at_checked(end).unwrap_or((trimmed, ""));
        chunks.push(Chunk { text, line: number(line), format: Format::Json });
        line += count_lines(text);
        rest = after;
    }
}

fn push<'a>(chunks: &mut Vec<Chunk<'a>>, text: &'a str, line: usize) {
    if !is_blank(text) {
        chunks.push(Chunk { text, line: number(line), format: Format::Yaml });
    }
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// A directive (`%YAML 1.2`) would belong to the next chunk; none of them changes what the core schema reads.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line.starts_with('%') || line == "---" || line == "..."
    })
}
