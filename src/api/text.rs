//! The patterns of names and header fields, and the rules, that several kinds share, each written once.

/// A DNS label (RFC 1123): rule, limit and provider names, Services, namespaces.
pub(crate) const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Dot-separated DNS labels (RFC 1123): names of objects.
pub(crate) const DNS_SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A host name, or `*.` and one: the Gateway API's `Hostname`.
pub(crate) const HOSTNAME: &str = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A host name without a star: the Gateway API's `PreciseHostname`.
pub(crate) const PRECISE_HOSTNAME: &str = DNS_SUBDOMAIN;
/// A token of RFC 9110 §5.6.2: header and cookie names.
pub(crate) const TOKEN: &str = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";
/// A protocol's name, with or without a version (RFC 9110 §7.8).
pub(crate) const UPGRADE: &str = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+(/[A-Za-z0-9!#$%&'*+.^_`|~-]+)?$";
/// A field value of RFC 9110 §5.5 in visible ASCII: no control characters, no blank at either end.
pub(crate) const FIELD_VALUE: &str = "^[!-~]([\\t -~]*[!-~])?$";
/// A method of RFC 9110 §9.1, in capitals as all registered ones are.
pub(crate) const METHOD: &str = "^[A-Z][A-Z-]*$";
/// The same, or `*` for every method.
pub(crate) const METHOD_OR_ANY: &str = r"^(\*|[A-Z][A-Z-]*)$";
/// An IPv4 or IPv6 network, or one address. The exact form is checked when the object is translated.
pub(crate) const CIDR: &str =
    r"^([0-9]{1,3}(\.[0-9]{1,3}){3}(/[0-9]{1,2})?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(/[0-9]{1,3})?)$";
/// `*`, `scheme://host[:port]` or `scheme://*.suffix[:port]`.
pub(crate) const ORIGIN: &str =
    r"^(\*|[A-Za-z][A-Za-z0-9+.-]*://(\*\.)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?)$";
/// A host name or an IP address, IPv6 without brackets.
pub(crate) const ADDRESS: &str = "^[0-9A-Za-z:]([0-9A-Za-z_.:-]*[0-9A-Za-z:])?$";
/// A key of a Secret or ConfigMap.
pub(crate) const DATA_KEY: &str = "^[-._a-zA-Z0-9]+$";
/// An absolute path without control characters, query or fragment.
pub(crate) const ABSOLUTE_PATH: &str = "^/[!-\"$->@-~]*$";
/// Rule and message of what is a Service by `name` or a fixed `address`.
pub(crate) const ONE_TARGET: (&str, &str) = (
    "has(self.name) != has(self.address)",
    "exactly one of name (a Service) and address must be set; keep one of them",
);
/// The same, for a namespace beside an address.
pub(crate) const NO_NAMESPACE: (&str, &str) =
    ("!has(self.address) || !has(self.__namespace__)", "an address has no namespace; remove namespace");
/// What is spoken to without TLS has no `tls`.
pub(crate) const TLS_PROTOCOL: &str =
    "!has(self.tls) || !has(self.protocol) || self.protocol == 'HTTPS' || self.protocol == 'GRPCS'";
