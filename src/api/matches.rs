//! What a rule of a GatewayRoute takes: path, methods, headers, query parameters, cookies, client addresses.
//! Only the shape; how a match is compared is said by the `table` room.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::{CIDR, METHOD, TOKEN};

/// The conditions of one match; all of them must hold. A match without a condition takes every request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// The path of the request. Unset: every path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// The request has one of these methods. Empty: any method. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 32), regex(pattern = METHOD)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub methods: Vec<String>,
    /// All of these headers are as said. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<HeaderMatch>,
    /// All of these query parameters are as said. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub query_params: Vec<QueryParamMatch>,
    /// All of these cookies are as said. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub cookies: Vec<CookieMatch>,
    /// The client's address lies in one of these networks (CIDR, or one address). Empty: any address. At most
    /// 64.
    #[serde(default, rename = "clientCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 2, max = 49), regex(pattern = CIDR)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub client_cidrs: Vec<String>,
}

/// How the canonical path is compared.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.type == 'RegularExpression' || self.value.startsWith('/')",
        "message": "the value of an Exact or PathPrefix path must start with '/'; write it as '/path'",
    },
]))]
pub struct PathMatch {
    /// Exact (the whole path), PathPrefix (whole elements) or RegularExpression (RE2 syntax, must match the
    /// whole path). Default PathPrefix.
    #[serde(default, rename = "type")]
    pub kind: PathMatchType,
    /// The path, the prefix or the expression: 1 to 1024 characters. Default `/`.
    #[serde(default = "root_path")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^[!-~]+$"))]
    pub value: String,
    /// Whether upper and lower case differ. Default true.
    #[serde(default = "yes")]
    pub case_sensitive: bool,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PathMatchType {
    Exact,
    #[default]
    PathPrefix,
    RegularExpression,
}

/// What a header must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(self.type == 'Present' || self.type == 'Absent') != has(self.value)",
        "message": "Exact, Prefix and RegularExpression need a value, Present and Absent take none; \
                    add or remove value",
    },
]))]
pub struct HeaderMatch {
    /// The header's name, without regard to case.
    #[schemars(length(min = 1, max = 256), regex(pattern = TOKEN))]
    pub name: String,
    /// Exact, Prefix, RegularExpression (must match the whole value), Present or Absent. Default Exact.
    #[serde(default, rename = "type")]
    pub kind: ValueMatchType,
    /// What the value is compared with: at most 4096 characters (an expression: 1024). Not with Present and
    /// Absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
}

/// What a query parameter must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(self.type == 'Present' || self.type == 'Absent') != has(self.value)",
        "message": "Exact, Prefix and RegularExpression need a value, Present and Absent take none; \
                    add or remove value",
    },
]))]
pub struct QueryParamMatch {
    /// The parameter's name after percent-decoding, with regard to case.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Exact, Prefix, RegularExpression (must match the whole value), Present or Absent. Default Exact.
    #[serde(default, rename = "type")]
    pub kind: ValueMatchType,
    /// What the value is compared with: at most 1024 characters. Not with Present and Absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub value: Option<String>,
}

/// What a cookie must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(self.type == 'Present' || self.type == 'Absent') != has(self.value)",
        "message": "Exact, Prefix and RegularExpression need a value, Present and Absent take none; \
                    add or remove value",
    },
]))]
pub struct CookieMatch {
    /// The cookie's name, with regard to case.
    #[schemars(length(min = 1, max = 256), regex(pattern = TOKEN))]
    pub name: String,
    /// Exact, Prefix, RegularExpression (must match the whole value), Present or Absent. Default Exact.
    #[serde(default, rename = "type")]
    pub kind: ValueMatchType,
    /// What the value is compared with: at most 4096 characters (an expression: 1024). Not with Present and
    /// Absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ValueMatchType {
    #[default]
    Exact,
    Prefix,
    RegularExpression,
    Present,
    Absent,
}

pub(crate) fn yes() -> bool {
    true
}

fn root_path() -> String {
    "/".into()
}
