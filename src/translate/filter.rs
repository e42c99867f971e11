//! Filters of a rule. One bad filter refuses all of the rule's: half of them would be another rule.

use std::collections::HashSet;

use api::{Filter, FilterType, HeaderModifier, PathModifierType, RedirectScheme};
use http::HeaderValue;
use ir::{
    Cors, DirectResponse, HeaderEdit, HeaderEdits, HostName, Match, PathMatch, PathRewrite, Redirect,
    Rewrite, RouteExtras, Scheme,
};

use crate::expression::{Anchoring, REGEX_REMEDY, canonical_substitution, check_regex};
use crate::path::{PATH_REMEDY, canonical_path};
use crate::reader::Reader;
use crate::report::{Field, Lines, Refused};
use crate::{cors, error_page, fault, mirror, value};

/// The filters of one rule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    pub(crate) header_edits: HeaderEdits,
    pub(crate) rewrite: Option<Rewrite>,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) respond: Option<DirectResponse>,
    pub(crate) cors: Option<Cors>,
    pub(crate) grpc_web: bool,
    pub(crate) extras: RouteExtras,
}

/// `matches` are those of the rule: a prefix can only be replaced where a prefix matched.
pub(crate) fn filters(
    specs: &[Filter],
    matches: &[Match],
    field: Field<'_>,
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<Filters, Refused> {
    let mut filters = Filters::default();
    let mut seen = HashSet::new();
    let mut refused = None;
    for (index, spec) in specs.iter().enumerate() {
        let field = field.index(index);
        let added = if seen.insert(spec.kind) {
            add(&mut filters, spec, (matches, field), reader, lines)
        } else {
            let message = "a filter of this type stands twice in the rule; the rule answers 500";
            Err(lines.error(field.key("type"), message, "keep one of them"))
        };
        refused = added.err().or(refused);
    }
    let finals = usize::from(filters.redirect.is_some())
        + usize::from(filters.respond.is_some())
        + usize::from(filters.rewrite.is_some());
    if finals > 1 {
        let message =
            "RequestRedirect, DirectResponse and URLRewrite exclude each other; the rule answers 500";
        refused = Some(lines.error(field, message, "keep one of them"));
    }
    refused.map_or(Ok(filters), Err)
}

fn add(
    filters: &mut Filters,
    spec: &Filter,
    (matches, field): (&[Match], Field<'_>),
    reader: &mut Reader<'_>,
    lines: &mut Lines,
) -> Result<(), Refused> {
    let missing = |member: &str, lines: &mut Lines| {
        let message = format!("the filter has no {member}; the rule answers 500");
        lines.error(field, message, "add the member that type names")
    };
    match spec.kind {
        FilterType::RequestHeaderModifier => {
            let Some(spec) = &spec.request_header_modifier else {
                return Err(missing("requestHeaderModifier", lines));
            };
            filters.header_edits.request = header_edit(spec, field.key("requestHeaderModifier"), lines)?;
        }
        FilterType::ResponseHeaderModifier => {
            let Some(spec) = &spec.response_header_modifier else {
                return Err(missing("responseHeaderModifier", lines));
            };
            filters.header_edits.response = header_edit(spec, field.key("responseHeaderModifier"), lines)?;
        }
        FilterType::UrlRewrite => {
            let Some(spec) = &spec.url_rewrite else { return Err(missing("urlRewrite", lines)) };
            filters.rewrite = Some(rewrite(spec, matches, field.key("urlRewrite"), lines)?);
        }
        FilterType::RequestRedirect => {
            let Some(spec) = &spec.request_redirect else { return Err(missing("requestRedirect", lines)) };
            filters.redirect = Some(redirect(spec, matches, field.key("requestRedirect"), lines)?);
        }
        FilterType::DirectResponse => {
            let Some(spec) = &spec.direct_response else { return Err(missing("directResponse", lines)) };
            filters.respond = Some(direct_response(spec, field.key("directResponse"), lines)?);
        }
        FilterType::Cors => {
            let Some(spec) = &spec.cors else { return Err(missing("cors", lines)) };
            filters.cors = Some(cors::cors(spec, field.key("cors"), lines)?);
        }
        FilterType::GrpcWeb => filters.grpc_web = true,
        FilterType::RequestMirror => {
            let Some(spec) = &spec.request_mirror else { return Err(missing("requestMirror", lines)) };
            filters.extras.mirror = Some(mirror::mirror(spec, field.key("requestMirror"), reader, lines));
        }
        FilterType::Fault => {
            let Some(spec) = &spec.fault else { return Err(missing("fault", lines)) };
            filters.extras.fault = Some(fault::fault(spec, field.key("fault"), lines)?);
        }
        FilterType::ErrorPages => {
            let Some(specs) = &spec.error_pages else { return Err(missing("errorPages", lines)) };
            filters.extras.error_pages =
                error_page::error_pages(specs, field.key("errorPages"), reader, lines)?;
        }
    }
    Ok(())
}

fn header_edit(spec: &HeaderModifier, field: Field<'_>, lines: &mut Lines) -> Result<HeaderEdit, Refused> {
    let mut pairs = |list: &[api::HttpHeader], field: Field<'_>| {
        value::all(list, field, |header, field| {
            let name = value::own_header_name(&header.name, field.key("name"), lines);
            let value = value::header_value(&header.value, field.key("value"), lines);
            Ok((name?, value?))
        })
    };
    let set = pairs(&spec.set, field.key("set"));
    let add = pairs(&spec.add, field.key("add"));
    let remove = value::all(&spec.remove, field.key("remove"), |name, field| {
        value::own_header_name(name, field, lines)
    });
    Ok(HeaderEdit { set: set?, add: add?, remove: remove? })
}

fn rewrite(
    spec: &api::UrlRewrite,
    matches: &[Match],
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Rewrite, Refused> {
    let hostname = hostname(spec.hostname.as_deref(), field, lines);
    let path = spec.path.as_ref().map(|path| path_rewrite(path, matches, field.key("path"), lines));
    Ok(Rewrite { hostname: hostname?, path: path.transpose()? })
}

fn redirect(
    spec: &api::RequestRedirect,
    matches: &[Match],
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<Redirect, Refused> {
    let hostname = hostname(spec.hostname.as_deref(), field, lines);
    let path = spec.path.as_ref().map(|path| path_rewrite(path, matches, field.key("path"), lines));
    if !value::is_redirect(spec.status_code) {
        let message = format!("{} is no status of a redirect; the rule answers 500", spec.status_code);
        return Err(lines.error(field.key("statusCode"), message, "write 301, 302, 303, 307 or 308"));
    }
    if spec.port == Some(0) {
        return Err(lines.error(field.key("port"), "0 is no port; the rule answers 500", "write 1 to 65535"));
    }
    Ok(Redirect {
        scheme: spec.scheme.map(|scheme| match scheme {
            RedirectScheme::Http => Scheme::Http,
            RedirectScheme::Https => Scheme::Https,
        }),
        hostname: hostname?,
        port: spec.port,
        path: path.transpose()?,
        status: spec.status_code,
    })
}

fn hostname(text: Option<&str>, field: Field<'_>, lines: &mut Lines) -> Result<Option<HostName>, Refused> {
    let Some(text) = text else { return Ok(None) };
    HostName::parse(text).map(Some).map_err(|error| {
        let message = format!("'{text}' is no host name: {error}; the rule answers 500");
        lines.error(field.key("hostname"), message, "write a name like cart.example.com, without port")
    })
}

fn path_rewrite(
    spec: &api::PathModifier,
    matches: &[Match],
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<PathRewrite, Refused> {
    let path = |member: &str, text: Option<&str>, lines: &mut Lines| {
        let Some(text) = text else {
            let message = "the path modifier lacks the member that its type names; the rule answers 500";
            return Err(lines.error(field.key(member), message, "add it"));
        };
        canonical_path(text).map_err(|error| {
            lines.error(field.key(member), format!("{error}; the rule answers 500"), PATH_REMEDY)
        })
    };
    match spec.kind {
        PathModifierType::ReplaceFullPath => {
            path("replaceFullPath", spec.replace_full_path.as_deref(), lines)
                .map(PathRewrite::ReplaceFullPath)
        }
        PathModifierType::ReplacePrefixMatch => {
            if !matches.iter().all(|one| matches!(one.path, PathMatch::Prefix { .. })) {
                let message =
                    "a prefix can only be replaced where every match is a PathPrefix; the rule answers 500";
                return Err(lines.error(
                    field.key("type"),
                    message,
                    "change the matches or use ReplaceRegex",
                ));
            }
            path("replacePrefixMatch", spec.replace_prefix_match.as_deref(), lines)
                .map(PathRewrite::ReplacePrefixMatch)
        }
        PathModifierType::ReplaceRegex => regex_rewrite(spec, field, lines),
    }
}

fn regex_rewrite(
    spec: &api::PathModifier,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<PathRewrite, Refused> {
    let (Some(pattern), Some(substitution)) = (&spec.regex, &spec.substitution) else {
        let message = "ReplaceRegex needs regex and substitution; the rule answers 500";
        return Err(lines.error(field, message, "add what is missing"));
    };
    let regex = check_regex(pattern, Anchoring::Anywhere).map_err(|message| {
        lines.error(field.key("regex"), format!("{message}; the rule answers 500"), REGEX_REMEDY)
    })?;
    let substitution = canonical_substitution(&regex, substitution).map_err(|message| {
        let remedy = "name groups of the expression as $1 or ${name}";
        lines.error(field.key("substitution"), format!("{message}; the rule answers 500"), remedy)
    })?;
    Ok(PathRewrite::ReplaceRegex { regex: pattern.clone(), substitution })
}

fn direct_response(
    spec: &api::DirectResponse,
    field: Field<'_>,
    lines: &mut Lines,
) -> Result<DirectResponse, Refused> {
    if !(200..=599).contains(&spec.status_code) {
        let message = format!("{} is no status to answer with; the rule answers 500", spec.status_code);
        return Err(lines.error(field.key("statusCode"), message, "write 200 to 599"));
    }
    let mut body = spec.body.clone().unwrap_or_default().into_bytes();
    // RFC 9110 §15.3.5, §15.3.6 and §15.4.5: these answers have no content.
    if matches!(spec.status_code, 204 | 205 | 304) && !body.is_empty() {
        let message = format!("an answer of {} has no body; the body is left out", spec.status_code);
        lines.warning(field.key("body"), message, "remove body or change statusCode");
        body.clear();
    }
    let content_type = match &spec.content_type {
        Some(text) => Some(value::header_value(text, field.key("contentType"), lines)?),
        None if body.is_empty() => None,
        None => Some(HeaderValue::from_static("text/plain; charset=utf-8")),
    };
    Ok(DirectResponse { status: spec.status_code, content_type, body })
}
