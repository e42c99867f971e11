//! Paths as they stand in objects, brought into the form in which requests are compared. Must not accept a path that
//! no canonical request path can equal.

use std::fmt;

/// Why a path of an object is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathError {
    /// Does not start with `/`.
    Relative,
    /// Longer than [`PATH_BYTES_MAX`].
    TooLong,
    /// An element `.` or `..`, written plainly or percent-encoded.
    DotSegment,
    /// Two slashes in a row.
    EmptySegment,
    /// `?` or `#`, which end a path.
    QueryOrFragment,
    /// A control character or a backslash, written plainly, or a control character percent-encoded.
    Forbidden,
    /// `%` without two hexadecimal digits.
    BadEscape,
    /// Escapes that are no UTF-8.
    BadUtf8,
    /// `.;x` or `..;x`, which some servers take for a dot segment.
    DotParameters,
}

/// The longest path in bytes after encoding (the bound of Gateway API HTTPPathMatch).
const PATH_BYTES_MAX: usize = 1024;

/// What to do about any of them.
pub(crate) const PATH_REMEDY: &str = "write the path as it looks after cleaning: it starts with '/', has no '//', \
no '.' or '..' element, no '?', '#', '\\' or control character";

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relative => "the path does not start with '/'",
            Self::TooLong => "the path is longer than 1024 bytes",
            Self::DotSegment => {
                "the path has a '.' or '..' element, which is resolved in requests before they are \
                                 compared, so nothing could match"
            }
            Self::EmptySegment => {
                "the path has two slashes in a row, which are merged in requests before they are \
                                   compared, so nothing could match"
            }
            Self::QueryOrFragment => "the path has a '?' or '#', which are never part of a path",
            Self::Forbidden => {
                "the path has a backslash or a control character, which are refused in requests"
            }
            Self::BadEscape => "the path has a '%' that is not followed by two hexadecimal digits",
            Self::BadUtf8 => {
                "the path has percent-encoded bytes that are no UTF-8, which are refused in requests"
            }
            Self::DotParameters => "the path has a dot segment with parameters, which is refused in requests",
        })
    }
}

/// The canonical form: percent-encoded unreserved characters (RFC 3986 §2.3) bare, other escapes in upper case,
/// everything outside visible ASCII encoded. `%2F` stays as it is.
pub(crate) fn canonical_path(text: &str) -> Result<String, PathError> {
    if !text.starts_with('/') {
        return Err(PathError::Relative);
    }
    let mut out = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'?' | b'#' => return Err(PathError::QueryOrFragment),
            b'\\' | 0..=0x1f | 0x7f => return Err(PathError::Forbidden),
            b'%' => {
                let high = bytes.next().and_then(hex_value).ok_or(PathError::BadEscape)?;
                let low = bytes.next().and_then(hex_value).ok_or(PathError::BadEscape)?;
                let decoded = high << 4 | low;
                if decoded < 0x20 || decoded == 0x7f || decoded == b'\\' {
                    return Err(PathError::Forbidden);
                }
                if is_unreserved(decoded) {
                    out.push(char::from(decoded));
                } else {
                    push_escape(&mut out, decoded);
                }
            }
            b' ' | b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                push_escape(&mut out, byte);
            }
            _ => out.push(char::from(byte)),
        }
    }
    if !escapes_are_utf8(&out) {
        return Err(PathError::BadUtf8);
    }
    if out.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong);
    }
    if out.contains("//") {
        return Err(PathError::EmptySegment);
    }
    if out.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(PathError::DotSegment);
    }
    if out.split('/').any(has_dot_parameters) {
        return Err(PathError::DotParameters);
    }
    Ok(out)
}

/// A canonical path as a prefix by whole elements: no trailing slash, but `/` itself stays.
pub(crate) fn canonical_prefix(text: &str) -> Result<String, PathError> {
    let mut path = canonical_path(text)?;
    if path.len() > 1 && path.ends_with('/') {
        path.pop();
    }
    Ok(path)
}

/// Whether the path is UTF-8 once its escapes are decoded. `path` has valid escapes only.
fn escapes_are_utf8(path: &str) -> bool {
    let mut decoded_path = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let decoded = match byte {
            b'%' => match (bytes.next().and_then(hex_value), bytes.next().and_then(hex_value)) {
                (Some(high), Some(low)) => high << 4 | low,
                (Some(_) | None, _) => return false,
            },
            plain => plain,
        };
        decoded_path.push(decoded);
    }
    std::str::from_utf8(&decoded_path).is_ok()
}

fn has_dot_parameters(segment: &str) -> bool {
    let name = segment.strip_prefix("..").or_else(|| segment.strip_prefix('.'));
    name.is_some_and(|rest| rest.starts_with(';') || rest.starts_with("%3B"))
}

fn push_escape(out: &mut String, byte: u8) {
    out.push('%');
    for nibble in [byte >> 4, byte & 0xf] {
        out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase());
    }
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const fn hex_value(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
