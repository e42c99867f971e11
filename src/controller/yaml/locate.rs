//! Finds the line of a field again, from the text. Used only when a message is written.

use saphyr_parser::{Event, Parser, Span};

use super::{Chunk, number};

/// The line of `path` (`spec.rules[2].name`, `metadata.annotations[a/b]`) in document number `document` (from 0) of
/// the chunk, counted from the start of the file; of the deepest parent that is there, where the field itself is
/// not. `None`: the document is not there.
pub(crate) fn locate(chunk: &Chunk<'_>, document: usize, path: &str) -> Option<u32> {
    let mut walk = Walk { path, ..Walk::default() };
    let mut parser = Parser::new_from_str(chunk.text);
    let mut at = None;
    while let Some(Ok((event, span))) = parser.next_event() {
        if at.is_none_or(|at| at < document) && !matches!(event, Event::DocumentStart(_)) {
            continue;
        }
        if matches!(event, Event::DocumentStart(_)) {
            at = Some(at.map_or(0, |at: usize| at + 1));
            continue;
        }
        if matches!(event, Event::DocumentEnd) || walk.event(&event, &span) {
            break;
        }
    }
    walk.best.map(|(_, line)| line.saturating_add(chunk.line.saturating_sub(1)))
}

/// The lines on which the items of the top mapping's list `key` start, counted from the start of the file.
pub(crate) fn item_lines(chunk: &Chunk<'_>, document: usize, key: &str) -> Vec<u32> {
    let mut lines = Vec::new();
    let mut parser = Parser::new_from_str(chunk.text);
    let mut documents = 0;
    let mut depth = 0_usize;
    // Whether the next node at depth 1 is a key, and whether the last key was the one.
    let mut key_next = true;
    let mut inside = false;
    while let Some(Ok((event, span))) = parser.next_event() {
        let opens = matches!(event, Event::SequenceStart(..) | Event::MappingStart(..));
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
        } else if matches!(event, Event::SequenceEnd | Event::MappingEnd) {
            depth = depth.saturating_sub(1);
        } else if documents == document + 1 && (opens || matches!(event, Event::Scalar(..) | Event::Alias(_)))
        {
            if depth == 1 && key_next {
                inside = matches!(&event, Event::Scalar(text, ..) if text == key);
            } else if depth == 2 && inside {
                lines.push(number(span.start.line()).saturating_add(chunk.line.saturating_sub(1)));
            }
            if depth == 1 {
                key_next = !key_next;
            }
            depth += usize::from(opens);
        }
    }
    lines
}

#[derive(Default)]
struct Walk<'p> {
    path: &'p str,
    stack: Vec<Frame<'p>>,
    /// The shortest rest of the path so far and its line.
    best: Option<(usize, u32)>,
}

/// An open mapping or list; `rest` is what the path says below it, `None` off the path.
enum Frame<'p> {
    Mapping { rest: Option<&'p str>, key: Option<Key<'p>> },
    List { rest: Option<&'p str>, index: usize },
}

/// The key whose value comes next.
struct Key<'p> {
    rest: Option<&'p str>,
    line: u32,
}

impl<'p> Walk<'p> {
    /// Returns whether the field was found.
    fn event(&mut self, event: &Event<'_>, span: &Span) -> bool {
        let line = number(span.start.line());
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => false,
            Event::SequenceEnd | Event::MappingEnd => {
                self.stack.pop();
                false
            }
            Event::Scalar(text, ..) => {
                if let Some(Frame::Mapping { rest, key: key @ None }) = self.stack.last_mut() {
                    *key = Some(Key { rest: rest.and_then(|rest| below_key(rest, text)), line });
                    return false;
                }
                self.node(line).1
            }
            Event::Alias(_) => {
                if let Some(Frame::Mapping { key: key @ None, .. }) = self.stack.last_mut() {
                    *key = Some(Key { rest: None, line });
                    return false;
                }
                self.node(line).1
            }
            Event::SequenceStart(..) => {
                let (rest, found) = self.node(line);
                self.stack.push(Frame::List { rest, index: 0 });
                found
            }
            Event::MappingStart(..) => {
                let (rest, found) = self.node(line);
                self.stack.push(Frame::Mapping { rest, key: None });
                found
            }
        }
    }

    /// Takes note of a value that starts at `line`; returns what the path says below it and whether that is nothing.
    fn node(&mut self, line: u32) -> (Option<&'p str>, bool) {
        let (rest, line) = match self.stack.last_mut() {
            None => (Some(self.path), line),
            Some(Frame::Mapping { key, .. }) => match key.take() {
                Some(key) => (key.rest, key.line),
                None => (None, line),
            },
            Some(Frame::List { rest, index }) => {
                let below = rest.and_then(|rest| below_index(rest, *index));
                *index += 1;
                (below, line)
            }
        };
        let Some(rest) = rest else { return (None, false) };
        if self.best.is_none_or(|(length, _)| rest.len() < length) {
            self.best = Some((rest.len(), line));
        }
        (Some(rest), rest.is_empty())
    }
}

/// What is left of `path` below the key, if the path leads through it. Keys may hold dots and slashes.
fn below_key<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    let path = path.strip_prefix('.').unwrap_or(path);
    if let Some(rest) = path.strip_prefix(key)
        && (rest.is_empty() || rest.starts_with(['.', '[']))
    {
        return Some(rest);
    }
    let inner = path.strip_prefix('[')?;
    for quote in ["", "\"", "'"] {
        let rest = inner.strip_prefix(quote).and_then(|rest| rest.strip_prefix(key));
        if let Some(rest) =
            rest.and_then(|rest| rest.strip_prefix(quote)).and_then(|rest| rest.strip_prefix(']'))
        {
            return Some(rest);
        }
    }
    None
}

/// The same for the item of a list: `[2]` or `.2`.
fn below_index(path: &str, index: usize) -> Option<&str> {
    let (digits, rest) = match path.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => {
            let path = path.strip_prefix('.').unwrap_or(path);
            path.split_at_checked(path.find(['.', '[']).unwrap_or(path.len()))?
        }
    };
    (digits.parse() == Ok(index)).then_some(rest)
}
