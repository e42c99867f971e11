//! Compiles regular expressions with bounds on size and nesting. Must not know what they are compared with.

use ir::{REGEX_CHARS_MAX, REGEX_SIZE_BYTES_MAX};
use regex::{Regex, RegexBuilder, bytes};

/// Groups and repetitions inside each other; more is a sign of an attack on the compiler.
const NEST_MAX: u32 = 64;

/// An expression that matches whole paths. They are canonical: what is no ASCII stands in them as an escape.
#[derive(Clone, Debug)]
pub(crate) struct PathRegex {
    /// What every matching path starts with: most other paths are told apart without running the expression.
    literal: Box<str>,
    regex: Regex,
}

impl PathRegex {
    /// # Errors
    /// A text for people when the expression is not valid or too large.
    pub(crate) fn new(pattern: &str, case_sensitive: bool) -> Result<Self, String> {
        let regex = compile(&anchored(pattern)?, case_sensitive)?;
        let literal = if case_sensitive { literal_prefix(pattern) } else { "" };
        Ok(Self { literal: literal.into(), regex })
    }

    pub(crate) fn takes(&self, path: &str) -> bool {
        path.starts_with(&*self.literal) && self.regex.is_match(path)
    }
}

/// An expression that looks for a part of a text.
///
/// # Errors
/// As for [`PathRegex::new`].
pub(crate) fn part(pattern: &str) -> Result<Regex, String> {
    check_length(pattern)?;
    compile(pattern, true)
}

/// An expression that matches whole values, which may be any bytes.
///
/// # Errors
/// As for [`PathRegex::new`].
pub(crate) fn whole_value(pattern: &str) -> Result<bytes::Regex, String> {
    bytes::RegexBuilder::new(&anchored(pattern)?)
        .size_limit(REGEX_SIZE_BYTES_MAX)
        .dfa_size_limit(REGEX_SIZE_BYTES_MAX)
        .nest_limit(NEST_MAX)
        .build()
        .map_err(|error| reason(&error))
}

/// Ties an expression to both ends. An expression that closes our group itself (`a)|(b`) would come loose, so one
/// with a closing parenthesis must also be valid alone.
fn anchored(pattern: &str) -> Result<String, String> {
    check_length(pattern)?;
    if pattern.contains(')') {
        compile(pattern, true)?;
    }
    Ok(format!(r"\A(?:{pattern})\z"))
}

fn check_length(pattern: &str) -> Result<(), String> {
    if pattern.chars().count() > REGEX_CHARS_MAX {
        return Err(format!("the regular expression is longer than {REGEX_CHARS_MAX} characters"));
    }
    Ok(())
}

fn compile(pattern: &str, case_sensitive: bool) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .case_insensitive(!case_sensitive)
        .size_limit(REGEX_SIZE_BYTES_MAX)
        .dfa_size_limit(REGEX_SIZE_BYTES_MAX)
        .nest_limit(NEST_MAX)
        .build()
        .map_err(|error| reason(&error))
}

/// The last line of a syntax error says what is wrong; those before it draw the expression.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default().trim();
    format!("bad regular expression: {}", line.strip_prefix("error: ").unwrap_or(line))
}

/// The plain characters that every match starts with. Empty where that takes more than a look.
fn literal_prefix(pattern: &str) -> &str {
    if pattern.contains('|') || pattern.contains("(?") {
        return "";
    }
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_');
    let end = pattern.bytes().position(|byte| !plain(byte)).unwrap_or(pattern.len());
    // A repetition may take its character zero times.
    let repeated = matches!(pattern.as_bytes().get(end), Some(b'*' | b'?' | b'{'));
    let end = if repeated { end.saturating_sub(1) } else { end };
    pattern.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
