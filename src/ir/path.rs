//! The one canonical form of paths: text in, text out. Must not know routes.
//!
//! Paths of objects and of requests get the same form, and that one value is matched, authorised, limited, logged and
//! forwarded, so that no two stages can read one path in two ways.

use std::borrow::Cow;
use std::fmt;

/// Why a path has no canonical form. A request with such a path is answered 400; of an object it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// Empty, `*`, or anything else that does not start with `/`.
    NotAbsolute,
    /// A control character, raw or escaped (`%00`–`%1F`, `%7F`).
    ControlCharacter,
    /// `\` or `%5C`: some servers take it for a slash.
    Backslash,
    /// A raw `?` or `#` inside of a path.
    Delimiter,
    /// `%` without two hexadecimal digits after it.
    BadEscape,
    /// Escapes that are no UTF-8: overlong forms, surrogates, stray bytes.
    BadUtf8,
    /// `.;x` or `..;x`: some servers take it for a dot segment, so it must not pass as a name.
    DotParameters,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the path does not start with '/'",
            Self::ControlCharacter => "the path holds a control character",
            Self::Backslash => "the path holds a backslash",
            Self::Delimiter => "the path holds '?' or '#'",
            Self::BadEscape => "the path holds '%' without two hexadecimal digits",
            Self::BadUtf8 => "the path's escapes are not UTF-8",
            Self::DotParameters => "the path holds a dot segment with parameters",
        })
    }
}

impl std::error::Error for PathError {}

/// Makes a path (without query) canonical: escapes of unreserved characters are decoded, all other escapes are
/// upper case, characters that RFC 3986 does not allow raw are escaped, empty segments are merged and dot segments
/// resolved, never above the root. `%2F` stays an escape and `;` parameters stay. Borrows what is canonical
/// already; applying it twice changes nothing.
///
/// # Errors
/// See [`PathError`].
pub fn canonical_path(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if !raw.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    if is_canonical(raw.as_bytes())? { Ok(Cow::Borrowed(raw)) } else { rebuild(raw).map(Cow::Owned) }
}

/// What a raw byte means in a path.
#[derive(Clone, Copy)]
enum Class {
    Plain,
    Slash,
    Escape,
    /// Allowed only as an escape.
    Encode,
    Control,
    Backslash,
    Delimiter,
}

/// One load per byte instead of a tree of comparisons.
static CLASSES: [Class; 256] = {
    let mut classes = [Class::Control; 256];
    let mut rest: &mut [Class] = &mut classes;
    let mut byte = 0;
    while let [class, after @ ..] = rest {
        *class = classify(byte);
        byte = byte.wrapping_add(1);
        rest = after;
    }
    classes
};

fn class_of(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Control)
}

const fn classify(byte: u8) -> Class {
    match byte {
        b'/' => Class::Slash,
        b'%' => Class::Escape,
        b'\\' => Class::Backslash,
        b'?' | b'#' => Class::Delimiter,
        0..=0x1f | 0x7f => Class::Control,
        // RFC 3986 §3.3: unreserved, sub-delims, ':' and '@'.
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => Class::Plain,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' => {
            Class::Plain
        }
        b' ' | b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80..=0xff => {
            Class::Encode
        }
    }
}

/// Checks the whole path in one scan and says whether it may stay as it is.
fn is_canonical(raw: &[u8]) -> Result<bool, PathError> {
    let mut canonical = true;
    let mut rest = raw;
    while let Some(plain) = rest.iter().position(|byte| !matches!(class_of(*byte), Class::Plain)) {
        let Some([byte, tail @ ..]) = rest.get(plain..) else { break };
        rest = tail;
        match class_of(*byte) {
            Class::Plain => {}
            Class::Slash => match tail {
                [b'/', ..] | [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..] => {
                    canonical = false
                }
                [b'.', ..] if has_dot_parameters(tail) => return Err(PathError::DotParameters),
                _ => {}
            },
            Class::Escape => {
                let (escape, after) = read_escape(tail)?;
                canonical &= escape;
                rest = after;
            }
            Class::Encode => canonical = false,
            Class::Control => return Err(PathError::ControlCharacter),
            Class::Backslash => return Err(PathError::Backslash),
            Class::Delimiter => return Err(PathError::Delimiter),
        }
    }
    Ok(canonical)
}

/// Whether a segment is `.` or `..` with parameters behind it.
fn has_dot_parameters(segment: &[u8]) -> bool {
    let name = segment.strip_prefix(b"..").or_else(|| segment.strip_prefix(b"."));
    matches!(name, Some([b';', ..] | [b'%', b'3', b'B' | b'b', ..]))
}

/// Reads what follows a `%`: one escape, or all escapes of one UTF-8 character. Returns whether they are canonical
/// and what comes after them.
fn read_escape(tail: &[u8]) -> Result<(bool, &[u8]), PathError> {
    let (byte, upper, mut rest) = hex_pair(tail)?;
    match byte {
        0..=0x1f | 0x7f => return Err(PathError::ControlCharacter),
        b'\\' => return Err(PathError::Backslash),
        0x20..=0x7e => return Ok((upper && !is_unreserved(byte), rest)),
        0x80..=0xff => {}
    }
    let length = match byte {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Err(PathError::BadUtf8),
    };
    let mut canonical = upper;
    let mut character = [byte, 0, 0, 0];
    for place in character.iter_mut().take(length).skip(1) {
        let [b'%', tail @ ..] = rest else { return Err(PathError::BadUtf8) };
        let (byte, upper, after) = hex_pair(tail)?;
        *place = byte;
        canonical &= upper;
        rest = after;
    }
    let bytes = character.get(..length).unwrap_or_default();
    if std::str::from_utf8(bytes).is_err() {
        return Err(PathError::BadUtf8);
    }
    Ok((canonical, rest))
}

/// The byte that two hexadecimal digits name, whether they are upper case, and what comes after them.
fn hex_pair(tail: &[u8]) -> Result<(u8, bool, &[u8]), PathError> {
    let [high, low, rest @ ..] = tail else { return Err(PathError::BadEscape) };
    let (Some(high_value), Some(low_value)) = (hex_digit(*high), hex_digit(*low)) else {
        return Err(PathError::BadEscape);
    };
    let upper = !high.is_ascii_lowercase() && !low.is_ascii_lowercase();
    Ok((high_value << 4 | low_value, upper, rest))
}

/// The value of a hexadecimal digit of either case.
pub const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Builds the canonical form of a path that [`is_canonical`] has checked.
fn rebuild(raw: &str) -> Result<String, PathError> {
    let decoded = fold_escapes(raw)?;
    let mut path = String::with_capacity(decoded.len());
    let mut ends_with_slash = false;
    for segment in decoded.split('/').skip(1) {
        match segment {
            "" | "." => ends_with_slash = true,
            ".." => {
                path.truncate(path.rfind('/').unwrap_or(0));
                ends_with_slash = true;
            }
            name => {
                if has_dot_parameters(name.as_bytes()) {
                    return Err(PathError::DotParameters);
                }
                path.push('/');
                path.push_str(name);
                ends_with_slash = false;
            }
        }
    }
    if ends_with_slash || path.is_empty() {
        path.push('/');
    }
    Ok(path)
}

/// Every character in its one spelling; segments are left alone.
fn fold_escapes(raw: &str) -> Result<String, PathError> {
    let mut decoded = String::with_capacity(raw.len() + 16);
    let mut rest = raw.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match class_of(*byte) {
            Class::Plain | Class::Slash => decoded.push(char::from(*byte)),
            Class::Escape => {
                let (value, _, after) = hex_pair(tail)?;
                rest = after;
                if is_unreserved(value) {
                    decoded.push(char::from(value));
                } else {
                    push_escape(&mut decoded, value);
                }
            }
            Class::Encode => push_escape(&mut decoded, *byte),
            Class::Control => return Err(PathError::ControlCharacter),
            Class::Backslash => return Err(PathError::Backslash),
            Class::Delimiter => return Err(PathError::Delimiter),
        }
    }
    Ok(decoded)
}

/// Appends the byte as `%XX`, in upper case.
pub fn push_escape(text: &mut String, byte: u8) {
    text.push('%');
    for half in [byte >> 4, byte & 0xf] {
        text.push(char::from(if half < 10 { b'0' + half } else { b'A' + half - 10 }));
    }
}
