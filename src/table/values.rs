//! Finds header, query and cookie values in a request head. Must not decide what a value should be.

use std::borrow::Cow;

use http::header::{COOKIE, HeaderMap, HeaderName};
use ir::hex_digit;

/// The value of a header. Several of one name are one list, joined with a comma (RFC 9110 §5.3); only that
/// allocates.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.as_bytes();
    let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
    let mut joined = first.to_vec();
    for value in std::iter::once(second).chain(values) {
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    Some(Cow::Owned(joined))
}

/// The first parameter of this (decoded) name, decoded: `%XX` is a byte and `+` a blank. A parameter without `=`
/// is empty. Only a value with escapes allocates.
pub fn query<'a>(query: Option<&'a str>, name: &str) -> Option<Cow<'a, [u8]>> {
    for pair in query?.split('&') {
        let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
        if !pair.is_empty() && Decoded(raw_name.as_bytes()).eq(name.bytes()) {
            let value = raw_value.as_bytes();
            let plain = memchr::memchr2(b'%', b'+', value).is_none();
            return Some(if plain { Cow::Borrowed(value) } else { Cow::Owned(Decoded(value).collect()) });
        }
    }
    None
}

/// The first cookie of this name over all `Cookie` headers.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &'a str) -> Option<&'a [u8]> {
    cookies(headers, name).next()
}

/// The cookies of this name over all `Cookie` headers, as they were sent (RFC 6265 §5.4: quotes belong to them).
pub fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let pairs =
        headers.get_all(COOKIE).into_iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let (found, value) = pair.split_at_checked(memchr::memchr(b'=', pair)?)?;
        (found.trim_ascii() == name.as_bytes()).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

/// The bytes of a form-encoded text. A `%` that starts no escape stands for itself, as in the WHATWG URL standard.
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let [byte, rest @ ..] = self.0 else { return None };
        self.0 = rest;
        if *byte == b'+' {
            return Some(b' ');
        }
        if let (b'%', [high, low, after @ ..]) = (*byte, rest)
            && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
        {
            self.0 = after;
            return Some(high << 4 | low);
        }
        Some(*byte)
    }
}

#[cfg(test)]
mod tests;
