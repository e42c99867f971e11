//! One line of the access log: a record as JSON. No header value but request id and user agent, no query.

use std::io::Write;
use std::net::IpAddr;

/// What is told about one request. Field order is that of the line; what is `None` is left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccessRecord<'a> {
    /// When the head was complete, in milliseconds since 1970.
    pub(crate) time_unix_ms: u64,
    /// The `X-Request-Id` that the upstream saw.
    pub(crate) request_id: Option<&'a [u8]>,
    pub(crate) client: IpAddr,
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    /// The canonical path. A query is cut off: tokens may stand in it.
    pub(crate) path: &'a str,
    /// As `HTTP/1.1`.
    pub(crate) protocol: &'a str,
    pub(crate) user_agent: Option<&'a [u8]>,
    pub(crate) status: u16,
    pub(crate) duration_us: u64,
    /// Of the request's body.
    pub(crate) bytes_in: u64,
    /// Of the answer's body.
    pub(crate) bytes_out: u64,
    /// The metric label of the route, or `unmatched`.
    pub(crate) route: &'a str,
    /// The endpoint that was asked last.
    pub(crate) upstream: Option<&'a str>,
    /// How often an upstream was asked.
    pub(crate) attempts: u32,
    /// The id that a refused client got.
    pub(crate) decision: Option<&'a str>,
    /// Why the gateway answered itself: a word of a closed set.
    pub(crate) reason: Option<&'a str>,
    /// The object whose requirement was not met, and the rule of it that denied.
    pub(crate) refused_by: Option<&'a str>,
}

/// Appends the record and a line feed.
pub(super) fn write(out: &mut Vec<u8>, record: &AccessRecord<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    timestamp(out, record.time_unix_ms);
    out.push(b'"');
    field(out, b",\"request_id\":", record.request_id, ID_BYTES_MAX);
    out.extend_from_slice(b",\"client\":\"");
    address(out, record.client);
    out.extend_from_slice(b"\",\"method\":");
    string(out, record.method.as_bytes(), METHOD_BYTES_MAX);
    out.extend_from_slice(b",\"host\":");
    string(out, record.host.as_bytes(), HOST_BYTES_MAX);
    out.extend_from_slice(b",\"path\":");
    let path = record.path.split_once('?').map_or(record.path, |(path, _)| path);
    string(out, path.as_bytes(), PATH_BYTES_MAX);
    out.extend_from_slice(b",\"protocol\":");
    string(out, record.protocol.as_bytes(), METHOD_BYTES_MAX);
    field(out, b",\"user_agent\":", record.user_agent, USER_AGENT_BYTES_MAX);
    number(out, b",\"status\":", u64::from(record.status));
    number(out, b",\"duration_us\":", record.duration_us);
    number(out, b",\"bytes_in\":", record.bytes_in);
    number(out, b",\"bytes_out\":", record.bytes_out);
    field(out, b",\"route\":", Some(record.route.as_bytes()), CONFIG_BYTES_MAX);
    field(out, b",\"upstream\":", record.upstream.map(str::as_bytes), CONFIG_BYTES_MAX);
    number(out, b",\"attempts\":", u64::from(record.attempts));
    field(out, b",\"decision\":", record.decision.map(str::as_bytes), ID_BYTES_MAX);
    field(out, b",\"reason\":", record.reason.map(str::as_bytes), CONFIG_BYTES_MAX);
    field(out, b",\"refused_by\":", record.refused_by.map(str::as_bytes), CONFIG_BYTES_MAX);
    out.extend_from_slice(b"}\n");
}

fn field(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>, bytes_max: usize) {
    if let Some(value) = value {
        out.extend_from_slice(key);
        string(out, value, bytes_max);
    }
}

fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    // A vector takes every write.
    write!(out, "{address}").unwrap_or_default();
}

/// A JSON string (RFC 8259 §7) of at most `bytes_max` bytes of the value; a cut one ends in `…`. Control characters,
/// those of ISO 6429's upper half included, are escaped, so that a log on a terminal does what the log says and
/// nothing else. Bytes that are no UTF-8 are taken as ISO 8859-1, as HTTP once did.
fn string(out: &mut Vec<u8>, value: &[u8], bytes_max: usize) {
    out.push(b'"');
    let (head, cut) = match value.split_at_checked(bytes_max) {
        Some((head, rest)) if !rest.is_empty() => (head, true),
        _ => (value, false),
    };
    if head.iter().all(|byte| is_plain(*byte)) {
        out.extend_from_slice(head);
    } else {
        escape(out, head, cut);
    }
    if cut {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

/// The slow way. `cut`: the value goes on, so its last character may be a torn one, which is left out.
fn escape(out: &mut Vec<u8>, value: &[u8], cut: bool) {
    let text = match std::str::from_utf8(value) {
        Ok(text) => Some(text),
        // `error_len` is `None` when only the end is missing.
        Err(error) if cut && error.error_len().is_none() => {
            value.get(..error.valid_up_to()).and_then(|whole| std::str::from_utf8(whole).ok())
        }
        Err(_) => None,
    };
    match text {
        Some(text) => text.chars().for_each(|character| escape_char(out, character)),
        None => value.iter().for_each(|byte| escape_char(out, char::from(*byte))),
    }
}

fn escape_char(out: &mut Vec<u8>, character: char) {
    match character {
        '"' | '\\' => out.extend([b'\\', if character == '"' { b'"' } else { b'\\' }]),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        // Line and paragraph separator end a line for some readers.
        '\u{2028}' | '\u{2029}' => write!(out, "\\u{:04x}", u32::from(character)).unwrap_or_default(),
        _ if character.is_control() => write!(out, "\\u{:04x}", u32::from(character)).unwrap_or_default(),
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Whether a byte stands in a JSON string as it is, whatever its neighbours.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// RFC 3339 with milliseconds, in UTC. The calendar is the proleptic Gregorian one: days are counted in eras of 400
/// years that begin on the first of March, so that the leap day is the last of its year.
fn timestamp(out: &mut Vec<u8>, unix_ms: u64) {
    let (seconds, ms) = (unix_ms / 1000, unix_ms % 1000);
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let days = days + DAYS_FROM_MARCH_0000_TO_1970;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    // The leap days before this day of the era are taken out before dividing by the length of a common year.
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on are 31, 30, 31, 30, 31 days long, over and over: 153 days in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    digits(out, year, 1000);
    out.push(b'-');
    digits(out, month, 10);
    out.push(b'-');
    digits(out, day, 10);
    out.push(b'T');
    digits(out, second_of_day / 3600, 10);
    out.push(b':');
    digits(out, second_of_day / 60 % 60, 10);
    out.push(b':');
    digits(out, second_of_day % 60, 10);
    out.push(b'.');
    digits(out, ms, 100);
    out.push(b'Z');
}

/// The number with leading zeros; `place` is the value of its first digit.
fn digits(out: &mut Vec<u8>, number: u64, mut place: u64) {
    while place > 0 {
        let digit = u8::try_from(number / place % 10).unwrap_or(0);
        out.push(b'0' + digit);
        place /= 10;
    }
}

const DAYS_PER_ERA: u64 = 146_097;
const DAYS_FROM_MARCH_0000_TO_1970: u64 = 719_468;
const ID_BYTES_MAX: usize = 128;
const METHOD_BYTES_MAX: usize = 32;
const HOST_BYTES_MAX: usize = 255;
const PATH_BYTES_MAX: usize = 2048;
const USER_AGENT_BYTES_MAX: usize = 256;
/// Names of objects have at most 253 characters each (RFC 1123 as Kubernetes takes it).
const CONFIG_BYTES_MAX: usize = 1024;

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
