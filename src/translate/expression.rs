//! Regular expressions of objects: checked here, compiled again by the table. Must not keep a compiled one.

use ir::{REGEX_CHARS_MAX, REGEX_SIZE_BYTES_MAX};
use regex::{Regex, RegexBuilder};

/// What may stand in an expression.
pub(crate) const REGEX_REMEDY: &str = "use RE2-like syntax without look-around and back-references, at most 1024 \
characters, and nothing that compiles to more than 1 MiB (large counted repetitions)";

/// How an expression is laid over the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchoring {
    /// It must match the whole text.
    Whole,
    /// Its first match anywhere counts.
    Anywhere,
}

/// Why an expression or its substitution is refused, as a text for people. The expression itself is the user's and
/// no secret, so it may be quoted.
pub(crate) type ExpressionError = String;

/// Checks that an expression compiles under our bounds in the form in which the table will compile it.
pub(crate) fn check_regex(pattern: &str, anchoring: Anchoring) -> Result<Regex, ExpressionError> {
    if pattern.chars().count() > REGEX_CHARS_MAX {
        return Err(format!("the regular expression is longer than {REGEX_CHARS_MAX} characters"));
    }
    // The bare expression first: wrapped, an unbalanced `)` could close our own group.
    let bare = compile(pattern)?;
    match anchoring {
        Anchoring::Anywhere => Ok(bare),
        Anchoring::Whole => compile(&format!("^(?:{pattern})$")),
    }
}

/// Brings a substitution into the form `${1}`: `$1` … `$99` become `${1}` … `${99}`, `$$` stays an escaped dollar.
/// Every group must be one of the expression's.
pub(crate) fn canonical_substitution(regex: &Regex, text: &str) -> Result<String, ExpressionError> {
    let mut out = String::with_capacity(text.len() + 4);
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let after = after.strip_prefix('$').unwrap_or(after);
        if let Some(tail) = after.strip_prefix('$') {
            out.push_str("$$");
            rest = tail;
            continue;
        }
        let (group, tail) = split_group(after)?;
        check_group(regex, group)?;
        out.push_str("${");
        out.push_str(group);
        out.push('}');
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

fn split_group(after_dollar: &str) -> Result<(&str, &str), ExpressionError> {
    if let Some(braced) = after_dollar.strip_prefix('{') {
        return match braced.split_once('}') {
            Some((group, tail)) if !group.is_empty() => Ok((group, tail)),
            Some(_) | None => {
                Err("the substitution has a '${' that names no group or is not closed".to_owned())
            }
        };
    }
    let digits = after_dollar.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err(
            "the substitution has a '$' that is followed by no group number; write '$$' for a dollar"
                .to_owned(),
        );
    }
    Ok(after_dollar.split_at(digits))
}

fn check_group(regex: &Regex, group: &str) -> Result<(), ExpressionError> {
    let known = match group.parse::<usize>() {
        Ok(number) => number < regex.captures_len(),
        Err(_) => regex.capture_names().flatten().any(|name| name == group),
    };
    if known {
        return Ok(());
    }
    let last = regex.captures_len() - 1;
    Err(format!("the substitution names the group '{group}', but the expression has groups 0 to {last} only"))
}

fn compile(pattern: &str) -> Result<Regex, ExpressionError> {
    RegexBuilder::new(pattern).size_limit(REGEX_SIZE_BYTES_MAX).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the regular expression compiles to more than 1 MiB".to_owned(),
        regex::Error::Syntax(text) => {
            // The last line of the crate's multi-line text says what is wrong; the lines above draw a picture.
            let reason = text.lines().last().unwrap_or_default();
            format!(
                "the regular expression does not parse: {}",
                reason.strip_prefix("error: ").unwrap_or(reason)
            )
        }
        _ => "the regular expression does not compile".to_owned(),
    })
}
