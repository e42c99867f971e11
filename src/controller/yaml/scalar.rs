//! What a plain scalar means, read as the API server's YAML reader reads it, so that a file means the same in the
//! folder and in a cluster. No positions, no nesting.

use serde_json::{Number, Value};

/// Integers beyond this are no longer exact in a float.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// The value of a plain scalar.
///
/// # Errors
/// A message for infinities and not-a-number, which JSON cannot hold.
pub(super) fn plain(text: &str) -> Result<Value, &'static str> {
    match text.as_bytes().first() {
        None => return Ok(Value::Null),
        Some(b'0'..=b'9' | b'+' | b'-' | b'.') => {
            if let Some(number) = number(text)? {
                return Ok(Value::Number(number));
            }
        }
        Some(b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'y' | b'Y' | b'o' | b'O') => {
            if let Some(word) = word(text) {
                return Ok(word);
            }
        }
        Some(_) => {}
    }
    Ok(Value::String(text.to_owned()))
}

/// `yes`, `no`, `on` and `off` are booleans to the API server still, so that `value: on` is refused here as there.
fn word(text: &str) -> Option<Value> {
    match text {
        "~" | "null" | "Null" | "NULL" => Some(Value::Null),
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(Value::Bool(true)),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(Value::Bool(false)),
        _ => None,
    }
}

/// `None`: not a number, so a string (an address, a version, a date).
fn number(text: &str) -> Result<Option<Number>, &'static str> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        Some(_) | None => (false, text),
    };
    if matches!(digits, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err("infinity and not-a-number are not allowed");
    }
    if let Some(integer) = integer(negative, digits) {
        return Ok(Some(integer));
    }
    if !is_float(digits) {
        return Ok(None);
    }
    let Ok(float) = text.parse::<f64>() else { return Ok(None) };
    // The API server's way through JSON turns 1e3 and 2.0 into integers.
    if float.fract() == 0.0 && float.abs() < EXACT_FLOAT_MAX {
        return Ok(format!("{float:.0}").parse::<i64>().ok().map(Number::from));
    }
    Ok(Number::from_f64(float))
}

/// Decimal, 0x, 0b, 0o and the old octal with a leading zero, as long as 64 bits hold it.
fn integer(negative: bool, digits: &str) -> Option<Number> {
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, digits.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    // from_str_radix takes a sign of its own; a second one makes it a string.
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        0_i64.checked_sub_unsigned(magnitude).map(Number::from)
    } else {
        Some(Number::from(magnitude))
    }
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
        None => (text, None),
    };
    if let Some(exponent) = exponent {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if exponent.is_empty() || !all_digits(exponent) {
            return false;
        }
    }
    match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            all_digits(whole) && all_digits(fraction) && !(whole.is_empty() && fraction.is_empty())
        }
        None => !mantissa.is_empty() && all_digits(mantissa),
    }
}
