//! Reads YAML and JSON text into `serde_json` values, and finds the line of a field again when a message needs it.
//! Knows nothing of Kubernetes kinds; opens no file.

mod json;
mod load;
mod locate;
mod scalar;
mod split;

#[cfg(test)]
mod tests;

use serde_json::Value;

pub(crate) use locate::{item_lines, locate};
pub(crate) use split::{Chunk, Format, split};

/// The largest file in bytes; a larger one is refused unread.
pub(crate) const FILE_BYTES_MAX: u64 = 32 << 20;
/// How deep mappings and lists may nest, aliases expanded.
pub(crate) const DEPTH_MAX: usize = 128;
/// How much text and how many nodes (32 bytes each) aliases may add to one chunk, in bytes.
const ALIAS_BYTES_MAX: usize = 4 << 20;

/// One document of a chunk.
#[derive(Debug)]
pub(crate) struct Document {
    /// `Null` for an empty document.
    pub(crate) value: Value,
    /// The line of its first node, from 1, counted from the start of the file.
    pub(crate) line: u32,
}

/// Where the text stops being YAML or JSON, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// From 1.
    pub(crate) line: u32,
    /// From 1, in characters.
    pub(crate) column: u32,
    pub(crate) message: String,
}

/// What one chunk holds. With an error, the last document is what stood before it, cut off there.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) documents: Vec<Document>,
    pub(crate) error: Option<SyntaxError>,
}

/// Parses one chunk; total.
pub(crate) fn parse(chunk: &Chunk<'_>) -> Parsed {
    match chunk.format {
        Format::Yaml => load::parse(chunk),
        Format::Json => json::parse(chunk),
    }
}

/// Parses a short text that stands inside another and holds one value: no aliases. `Null` for an empty text.
///
/// # Errors
/// Its place in the text.
pub(crate) fn parse_value(text: &str) -> Result<Value, SyntaxError> {
    load::parse_value(text)
}

/// The text of a file without its byte order mark.
///
/// # Errors
/// The place of the first byte that is not UTF-8.
pub(crate) fn decode(bytes: &[u8]) -> Result<&str, SyntaxError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let column =
                String::from_utf8_lossy(before.get(line_start..).unwrap_or_default()).chars().count();
            let line = before.iter().filter(|byte| **byte == b'\n').count();
            let message = "the file is not UTF-8 text".to_owned();
            Err(SyntaxError { line: number(line + 1), column: number(column + 1), message })
        }
    }
}

fn count_lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Lines and columns beyond four billion cannot occur in a file of the allowed size.
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
