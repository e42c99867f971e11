//! Filters: what a rule changes in requests and answers, or answers itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cors::Cors;
use crate::error_page::ErrorPage;
use crate::fault::Fault;
use crate::mirror::RequestMirror;
use crate::text::{ABSOLUTE_PATH, FIELD_VALUE, PRECISE_HOSTNAME, TOKEN};

/// One filter. `type` says which, and the member of that name holds its settings, if it has any. Each type stands at most
/// once in a rule; the order of the list does not matter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(self.type == 'RequestHeaderModifier') == has(self.requestHeaderModifier)",
        "message": "requestHeaderModifier must be set exactly when type is RequestHeaderModifier; \
                    set the member that type names",
    },
    {
        "rule": "(self.type == 'ResponseHeaderModifier') == has(self.responseHeaderModifier)",
        "message": "responseHeaderModifier must be set exactly when type is ResponseHeaderModifier; \
                    set the member that type names",
    },
    {
        "rule": "(self.type == 'URLRewrite') == has(self.urlRewrite)",
        "message": "urlRewrite must be set exactly when type is URLRewrite; set the member that type names",
    },
    {
        "rule": "(self.type == 'RequestRedirect') == has(self.requestRedirect)",
        "message": "requestRedirect must be set exactly when type is RequestRedirect; set the member that type names",
    },
    {
        "rule": "(self.type == 'DirectResponse') == has(self.directResponse)",
        "message": "directResponse must be set exactly when type is DirectResponse; set the member that type names",
    },
    {
        "rule": "(self.type == 'CORS') == has(self.cors)",
        "message": "cors must be set exactly when type is CORS; set the member that type names",
    },
    {
        "rule": "(self.type == 'RequestMirror') == has(self.requestMirror)",
        "message": "requestMirror must be set exactly when type is RequestMirror; set the member that type names",
    },
    {
        "rule": "(self.type == 'Fault') == has(self.fault)",
        "message": "fault must be set exactly when type is Fault; set the member that type names",
    },
    {
        "rule": "(self.type == 'ErrorPages') == has(self.errorPages)",
        "message": "errorPages must be set exactly when type is ErrorPages; set the member that type names",
    },
]))]
pub struct Filter {
    /// Which filter this is. GRPCWeb has no member: it lets browsers call the gRPC service behind the rule (gRPC-Web,
    /// binary and text).
    #[serde(rename = "type")]
    pub kind: FilterType,
    /// Changes headers of the request before it goes to the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<HeaderModifier>,
    /// Changes headers of the answer before it goes to the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<HeaderModifier>,
    /// Changes host and path of the request before it goes to the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_rewrite: Option<UrlRewrite>,
    /// Sends the client elsewhere. A rule with it has no backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<RequestRedirect>,
    /// Answers with a fixed text. A rule with it has no backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_response: Option<DirectResponse>,
    /// Lets browsers of other origins use the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Gives errors the page of another Service. The first entry that names the status counts. 1 to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub error_pages: Option<Vec<ErrorPage>>,
    /// Sends copies of requests to another Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_mirror: Option<RequestMirror>,
    /// Delays requests or answers them without asking the backend, by chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// The filters that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum FilterType {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    RequestRedirect,
    DirectResponse,
    #[serde(rename = "CORS")]
    Cors,
    #[serde(rename = "GRPCWeb")]
    GrpcWeb,
    ErrorPages,
    RequestMirror,
    Fault,
}

/// Header changes: `remove` first, then `set`, then `add`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderModifier {
    /// Headers that get this one value, whatever they had. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub set: Vec<HttpHeader>,
    /// Headers that get this value beside those they had. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub add: Vec<HttpHeader>,
    /// Headers that are removed. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256), regex(pattern = TOKEN)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub remove: Vec<String>,
}

/// A header and its value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpHeader {
    /// The header's name, without regard to case.
    #[schemars(length(min = 1, max = 256), regex(pattern = TOKEN))]
    pub name: String,
    /// The value in visible ASCII: 1 to 4096 characters.
    #[schemars(length(min = 1, max = 4096), regex(pattern = FIELD_VALUE))]
    pub value: String,
}

/// What the backend is asked instead of what the client asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.hostname) || has(self.path)",
        "message": "a URLRewrite must change something; set hostname or path",
    },
]))]
pub struct UrlRewrite {
    /// The Host that the backend sees. Unset: the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = PRECISE_HOSTNAME))]
    pub hostname: Option<String>,
    /// The path that the backend sees. Unset: the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
}

/// A new path. `type` says how it is made, and exactly its members are set. The query stays.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(self.type == 'ReplaceFullPath') == has(self.replaceFullPath)",
        "message": "replaceFullPath must be set exactly when type is ReplaceFullPath; set the member that type names",
    },
    {
        "rule": "(self.type == 'ReplacePrefixMatch') == has(self.replacePrefixMatch)",
        "message": "replacePrefixMatch must be set exactly when type is ReplacePrefixMatch; \
                    set the member that type names",
    },
    {
        "rule": "(self.type == 'ReplaceRegex') == has(self.regex) \
                 && (self.type == 'ReplaceRegex') == has(self.substitution)",
        "message": "regex and substitution must be set exactly when type is ReplaceRegex; \
                    set the members that type names",
    },
]))]
pub struct PathModifier {
    /// ReplaceFullPath, ReplacePrefixMatch or ReplaceRegex.
    #[serde(rename = "type")]
    pub kind: PathModifierType,
    /// Stands in the place of the whole path. Starts with `/`, at most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = ABSOLUTE_PATH))]
    pub replace_full_path: Option<String>,
    /// Stands in the place of the prefix that matched; every match of the rule must be a PathPrefix. Starts
    /// with `/`, at most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = ABSOLUTE_PATH))]
    pub replace_prefix_match: Option<String>,
    /// The expression (RE2 syntax, linear time) whose first match in the path is replaced. At most 1024
    /// characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub regex: Option<String>,
    /// What stands in its place; `$1` or `${name}` is a group of the expression, `$$` a dollar. At most 1024
    /// characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = "^[!-~]*$"))]
    pub substitution: Option<String>,
}

/// How a new path is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PathModifierType {
    ReplaceFullPath,
    ReplacePrefixMatch,
    ReplaceRegex,
}

/// Sends the client elsewhere. What is not named stays as it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestRedirect {
    /// `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<RedirectScheme>,
    /// The host of the new location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = PRECISE_HOSTNAME))]
    pub hostname: Option<String>,
    /// The path of the new location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
    /// The port of the new location: 1 to 65535. Unset: that of `scheme` where it is set, else the one that
    /// was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308. Default 302.
    #[serde(default = "found")]
    #[schemars(extend("enum" = [301, 302, 303, 307, 308]))]
    pub status_code: u16,
}

fn found() -> u16 {
    302
}

/// The schemes of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RedirectScheme {
    Http,
    Https,
}

/// A fixed answer of the gateway's own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectResponse {
    /// The status code: 200 to 599.
    #[schemars(range(min = 200, max = 599))]
    pub status_code: u16,
    /// The Content-Type. Unset: `text/plain; charset=utf-8` where there is a body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = FIELD_VALUE))]
    pub content_type: Option<String>,
    /// The body: at most 16384 characters. Unset: empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub body: Option<String>,
}
