//! Path rewrites and redirects. Must not choose a route or send an answer.
//!
//! Every new path is made canonical again: a rewrite must not open what normalising closed (hardening PN07).

use std::borrow::Cow;
use std::fmt;

use http::HeaderValue;
use ir::{PathRewrite, Scheme};
use regex::Regex;

use crate::path::{PathError, canonical};
use crate::pattern;

/// A path rewrite, ready to be applied.
#[derive(Clone, Debug)]
pub struct PreparedPath(Form);

/// A redirect, ready to be answered.
#[derive(Clone, Debug)]
pub struct PreparedRedirect {
    scheme: Option<Scheme>,
    hostname: Option<ir::HostName>,
    port: Option<u16>,
    path: Option<PreparedPath>,
}

/// What a redirect starts from.
#[derive(Clone, Copy, Debug)]
pub struct RedirectFrom<'a> {
    /// How the client asked.
    pub scheme: Scheme,
    /// Folded; may be empty.
    pub host: &'a str,
    /// The port that the client connected to, as far as the gateway knows it.
    pub port: u16,
    /// Canonical.
    pub path: &'a str,
    /// As it was sent.
    pub query: Option<&'a str>,
    /// From [`crate::CompiledRoute::matched_prefix_bytes`].
    pub matched_prefix_bytes: usize,
}

/// Why a redirect has no place to send the client to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectError {
    /// The new path has no canonical form.
    Path(PathError),
    /// Neither the request nor the rule names a host, but the new place needs one.
    NoHost,
}

#[derive(Clone, Debug)]
enum Form {
    /// Canonical, without a slash at the end: the root is empty.
    Prefix(Box<str>),
    Full(Box<str>),
    Regex {
        regex: Regex,
        substitution: Box<str>,
    },
}

impl fmt::Display for RedirectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(error) => error.fmt(f),
            Self::NoHost => f.write_str("there is no host to redirect to"),
        }
    }
}

impl std::error::Error for RedirectError {}

impl PreparedPath {
    /// # Errors
    /// A text for people when a path or the expression is not valid.
    pub(crate) fn new(rewrite: &PathRewrite) -> Result<Self, String> {
        let path = |value: &str| {
            let value = if value.is_empty() { "/" } else { value };
            canonical(value).map(Cow::into_owned).map_err(|error| format!("bad new path {value:?}: {error}"))
        };
        Ok(Self(match rewrite {
            PathRewrite::ReplacePrefixMatch(value) => {
                let value = path(value)?;
                Form::Prefix(value.strip_suffix('/').unwrap_or(&value).into())
            }
            PathRewrite::ReplaceFullPath(value) => Form::Full(path(value)?.into()),
            PathRewrite::ReplaceRegex { regex, substitution } => {
                Form::Regex { regex: pattern::part(regex)?, substitution: substitution.as_str().into() }
            }
        }))
    }

    /// The new path. `matched_prefix_bytes` is how much of `path` a prefix match took, without a slash at the end.
    ///
    /// # Errors
    /// The result has no canonical form.
    pub fn apply<'a>(
        &'a self,
        path: &'a str,
        matched_prefix_bytes: usize,
    ) -> Result<Cow<'a, str>, PathError> {
        match &self.0 {
            Form::Full(full) => Ok(Cow::Borrowed(full)),
            Form::Prefix(replacement) => {
                // The rest is empty or starts with a slash, and the replacement does not end with one.
                let rest = path.get(matched_prefix_bytes..).unwrap_or_default();
                if replacement.is_empty() {
                    return canonical(if rest.is_empty() { "/" } else { rest });
                }
                again([replacement, rest].concat())
            }
            Form::Regex { regex, substitution } => match regex.replace(path, &**substitution) {
                Cow::Borrowed(unchanged) => Ok(Cow::Borrowed(unchanged)),
                Cow::Owned(changed) if changed.starts_with('/') => again(changed),
                Cow::Owned(changed) => again(format!("/{changed}")),
            },
        }
    }
}

impl PreparedRedirect {
    /// # Errors
    /// As for [`PreparedPath`].
    pub(crate) fn new(redirect: &ir::Redirect) -> Result<Self, String> {
        let path = redirect.path.as_ref().map(PreparedPath::new).transpose()?;
        Ok(Self { scheme: redirect.scheme, hostname: redirect.hostname.clone(), port: redirect.port, path })
    }

    /// The value of `Location`: absolute, with the query of the request. The port follows HTTPRequestRedirectFilter
    /// of the Gateway API: the one that is named; else the well-known one of a named scheme; else the listener's.
    /// 80 with `http` and 443 with `https` are left out.
    ///
    /// # Errors
    /// See [`RedirectError`].
    pub fn location(&self, from: &RedirectFrom<'_>) -> Result<HeaderValue, RedirectError> {
        let host = self.hostname.as_ref().map_or(from.host, ir::HostName::as_str);
        if host.is_empty() {
            return Err(RedirectError::NoHost);
        }
        let path = match &self.path {
            Some(path) => path.apply(from.path, from.matched_prefix_bytes).map_err(RedirectError::Path)?,
            None => Cow::Borrowed(from.path),
        };
        let scheme = self.scheme.unwrap_or(from.scheme);
        let port = self.port.or(self.scheme.map(well_known_port)).unwrap_or(from.port);
        let query_bytes = from.query.map_or(0, str::len);
        let mut location = String::with_capacity(16 + host.len() + path.len() + query_bytes);
        location.push_str(scheme.as_str());
        location.push_str("://");
        location.push_str(host);
        if port != well_known_port(scheme) {
            location.push(':');
            location.push_str(&port.to_string());
        }
        location.push_str(&path);
        if let Some(query) = from.query {
            location.push('?');
            push_query(&mut location, query);
        }
        HeaderValue::try_from(location).map_err(|_| RedirectError::Path(PathError::ControlCharacter))
    }
}

const fn well_known_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    }
}

/// Bytes that a header or a URI may not hold are escaped; the rest stays as the client sent it.
pub fn push_query(location: &mut String, query: &str) {
    for byte in query.bytes() {
        if byte.is_ascii_graphic() && byte != b'#' {
            location.push(char::from(byte));
        } else {
            ir::push_escape(location, byte);
        }
    }
}

fn again<'a>(path: String) -> Result<Cow<'a, str>, PathError> {
    let folded = match canonical(&path)? {
        Cow::Borrowed(_) => None,
        Cow::Owned(folded) => Some(folded),
    };
    Ok(Cow::Owned(folded.unwrap_or(path)))
}

#[cfg(test)]
mod tests;
