//! Where tokens stand in a request: finds the one of a requirement, and takes it out again where it must not go upstream.
//! Refuses whatever is ambiguous; never looks inside a token.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ir::TokenSource;

use super::refusal::AuthReason;
use super::token::TOKEN_BYTES_MAX;

/// A place that at least one provider reads.
pub(super) struct Place {
    kind: PlaceKind,
}

enum PlaceKind {
    /// Longest prefix first, so that `Bearer x` is not taken for a bare token by a provider without a prefix.
    Header {
        name: HeaderName,
        forms: Vec<HeaderForm>,
    },
    Cookie {
        name: String,
        providers: Vec<usize>,
    },
    Query {
        name: String,
        providers: Vec<usize>,
    },
}

struct HeaderForm {
    prefix: String,
    providers: Vec<usize>,
}

/// The one token of a request, and which of the requirement's providers may have issued it.
pub(super) struct Found<'r, 's> {
    pub(super) token: Cow<'r, [u8]>,
    pub(super) providers: &'s [usize],
    /// Index of the place in its requirement.
    pub(super) place: usize,
}

/// Every place that one of the providers reads, each once; `sources[i]` are those of provider `i`.
pub(super) fn places<'a>(sources: impl IntoIterator<Item = &'a [TokenSource]>) -> Vec<Place> {
    let mut places = Vec::new();
    for (provider, sources) in sources.into_iter().enumerate() {
        for source in sources {
            add(&mut places, source, provider);
        }
    }
    for place in &mut places {
        if let PlaceKind::Header { forms, .. } = &mut place.kind {
            forms.sort_by_key(|form| std::cmp::Reverse(form.prefix.len()));
        }
    }
    places
}

fn add(places: &mut Vec<Place>, source: &TokenSource, provider: usize) {
    let kind = match source {
        TokenSource::Header { name, prefix } => {
            let known = places.iter_mut().find_map(|place| match &mut place.kind {
                PlaceKind::Header { name: known, forms } if known == name => Some(forms),
                PlaceKind::Header { .. } | PlaceKind::Cookie { .. } | PlaceKind::Query { .. } => None,
            });
            let form = HeaderForm { prefix: prefix.clone(), providers: vec![provider] };
            let Some(forms) = known else {
                places.push(Place { kind: PlaceKind::Header { name: name.clone(), forms: vec![form] } });
                return;
            };
            match forms.iter_mut().find(|known| known.prefix.eq_ignore_ascii_case(prefix)) {
                Some(known) => known.providers.push(provider),
                None => forms.push(form),
            }
            return;
        }
        TokenSource::Cookie { name } => PlaceKind::Cookie { name: name.clone(), providers: vec![provider] },
        TokenSource::Query { name } => PlaceKind::Query { name: name.clone(), providers: vec![provider] },
    };
    let known = places.iter_mut().find_map(|place| match (&mut place.kind, source) {
        (PlaceKind::Cookie { name, providers }, TokenSource::Cookie { name: wanted })
        | (PlaceKind::Query { name, providers }, TokenSource::Query { name: wanted })
            if name == wanted =>
        {
            Some(providers)
        }
        (PlaceKind::Header { .. } | PlaceKind::Cookie { .. } | PlaceKind::Query { .. }, _) => None,
    });
    match known {
        Some(providers) => providers.push(provider),
        None => places.push(Place { kind }),
    }
}

/// The token of a request, or `None` where no place holds one.
///
/// # Errors
/// `SeveralTokens`, `TokenTooLong`, or `TokenMalformed` where a place names its scheme and then holds no token.
pub(super) fn find<'r, 's>(
    places: &'s [Place],
    headers: &'r HeaderMap,
    query: Option<&'r str>,
) -> Result<Option<Found<'r, 's>>, AuthReason> {
    let mut found = None;
    for (index, place) in places.iter().enumerate() {
        let (token, providers) = match &place.kind {
            PlaceKind::Header { name, forms } => match in_header(headers, name, forms)? {
                Some((token, providers)) => (Cow::Borrowed(token), providers),
                None => continue,
            },
            PlaceKind::Cookie { name, providers } => match in_cookies(headers, name)? {
                Some(token) => (Cow::Borrowed(token), providers.as_slice()),
                None => continue,
            },
            PlaceKind::Query { name, providers } => match in_query(query.unwrap_or_default(), name)? {
                Some(token) => (token, providers.as_slice()),
                None => continue,
            },
        };
        if found.is_some() {
            return Err(AuthReason::SeveralTokens);
        }
        if token.is_empty() {
            return Err(AuthReason::TokenMalformed);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthReason::TokenTooLong);
        }
        found = Some(Found { token, providers, place: index });
    }
    Ok(found)
}

type InHeader<'r, 's> = Option<(&'r [u8], &'s [usize])>;

fn in_header<'r, 's>(
    headers: &'r HeaderMap,
    name: &HeaderName,
    forms: &'s [HeaderForm],
) -> Result<InHeader<'r, 's>, AuthReason> {
    let mut lines = headers.get_all(name).iter();
    let Some(value) = lines.next().map(HeaderValue::as_bytes) else { return Ok(None) };
    if lines.next().is_some() {
        return Err(AuthReason::SeveralTokens);
    }
    for form in forms {
        if let Some(token) = strip_prefix(value, form.prefix.as_bytes()) {
            // RFC 9110 §11.4: one or more spaces, and nothing else, follow the scheme.
            let spaces = token.iter().take_while(|byte| **byte == b' ').count();
            let token = token.get(spaces..).unwrap_or_default();
            // A comma means two field lines that somebody has joined. What is too long is not searched for one.
            if token.len() <= TOKEN_BYTES_MAX && memchr::memchr(b',', token).is_some() {
                return Err(AuthReason::SeveralTokens);
            }
            return Ok(Some((token, &form.providers)));
        }
        let scheme = form.prefix.trim_end().as_bytes();
        let after_scheme = strip_prefix(value, scheme).filter(|_| !scheme.is_empty());
        if after_scheme.is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace)) {
            // The right scheme, badly written: the client meant a token, so it is not a missing one.
            return Err(AuthReason::TokenMalformed);
        }
    }
    Ok(None)
}

/// Without regard to case (RFC 9110 §11.1).
fn strip_prefix<'v>(value: &'v [u8], prefix: &[u8]) -> Option<&'v [u8]> {
    let (start, rest) = value.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn in_cookies<'r>(headers: &'r HeaderMap, name: &str) -> Result<Option<&'r [u8]>, AuthReason> {
    let mut found = None;
    for line in headers.get_all(header::COOKIE) {
        for pair in line.as_bytes().split(|byte| *byte == b';') {
            let Some(value) = cookie_value(pair, name) else { continue };
            if found.is_some() {
                return Err(AuthReason::SeveralTokens);
            }
            found = Some(value);
        }
    }
    Ok(found)
}

/// The value of a pair with this name (RFC 6265 §4.1.1: names differ by case, values may stand in quotes).
fn cookie_value<'p>(pair: &'p [u8], name: &str) -> Option<&'p [u8]> {
    let equals = memchr::memchr(b'=', pair)?;
    let (found, rest) = pair.split_at_checked(equals)?;
    if found.trim_ascii() != name.as_bytes() {
        return None;
    }
    let value = rest.get(1..)?.trim_ascii();
    Some(value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(value))
}

fn in_query<'r>(query: &'r str, name: &str) -> Result<Option<Cow<'r, [u8]>>, AuthReason> {
    let mut found = None;
    for pair in query.split('&').filter(|pair| is_parameter(pair, name)) {
        if found.is_some() {
            return Err(AuthReason::SeveralTokens);
        }
        let value = pair.split_once('=').map_or("", |(_, value)| value);
        // Three characters for each one of the token at most.
        if value.len() > 3 * TOKEN_BYTES_MAX {
            return Err(AuthReason::TokenTooLong);
        }
        found = Some(decode(value));
    }
    Ok(found)
}

fn is_parameter(pair: &str, name: &str) -> bool {
    let found = pair.split_once('=').map_or(pair, |(name, _)| name);
    // Most names differ in length, and few are encoded.
    found == name || (found.len() > name.len() && *decode(found) == *name.as_bytes())
}

/// Percent-decoded; what is no valid escape stays as it is.
fn decode(text: &str) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'%', [high, low, tail @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = tail;
                }
                (Some(_) | None, _) => decoded.push(b'%'),
            },
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(*byte),
        }
    }
    Cow::Owned(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

impl Place {
    /// Whether a token may stand in this header.
    pub(super) fn is_header(&self, header: &HeaderName) -> bool {
        matches!(&self.kind, PlaceKind::Header { name, .. } if name == header)
    }

    /// Takes the token out of the headers. One that stands in the query is for [`Self::without_token`].
    pub(super) fn remove_token(&self, headers: &mut HeaderMap) {
        match &self.kind {
            PlaceKind::Header { name, forms } => remove_lines(headers, name, forms),
            PlaceKind::Cookie { name, .. } => remove_cookie(headers, name),
            PlaceKind::Query { .. } => {}
        }
    }

    /// The query without the token, where it stands there.
    pub(super) fn without_token(&self, query: &str) -> Option<String> {
        match &self.kind {
            PlaceKind::Query { name, .. } => {
                let kept = query.split('&').filter(|pair| !is_parameter(pair, name));
                Some(kept.collect::<Vec<_>>().join("&"))
            }
            PlaceKind::Header { .. } | PlaceKind::Cookie { .. } => None,
        }
    }
}

/// Leaves what is of another form: the header may be shared with other methods.
fn remove_lines(headers: &mut HeaderMap, name: &HeaderName, forms: &[HeaderForm]) {
    let holds_token = |line: &HeaderValue| {
        forms.iter().any(|form| strip_prefix(line.as_bytes(), form.prefix.as_bytes()).is_some())
    };
    let kept: Vec<HeaderValue> =
        headers.get_all(name).iter().filter(|line| !holds_token(line)).cloned().collect();
    headers.remove(name);
    for line in kept {
        headers.append(name.clone(), line);
    }
}

fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let lines: Vec<HeaderValue> = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| {
            let pairs = line.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let kept: Vec<&[u8]> =
                pairs.filter(|pair| !pair.is_empty() && cookie_value(pair, name).is_none()).collect();
            // A part of a valid value is valid, so nothing is lost here but empty lines.
            HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok().filter(|line| !line.is_empty())
        })
        .collect();
    headers.remove(header::COOKIE);
    for line in lines {
        headers.append(header::COOKIE, line);
    }
}
