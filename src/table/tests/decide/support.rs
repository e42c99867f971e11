//! Routes and requests in few words.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use table::{RequestHead, Table};

/// A request that owns its parts.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) client: IpAddr,
    pub(crate) client_is_unsure: bool,
}

impl Ask {
    pub(crate) fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            client: self.client,
            client_is_unsure: self.client_is_unsure,
        }
    }

    pub(crate) fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    pub(crate) fn query(self, query: &str) -> Self {
        Self { query: Some(query.to_owned()), ..self }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, HeaderValue::from_str(value).expect("a header value"));
        self
    }

    /// The same with an address that is only that of a proxy.
    pub(crate) fn unsure(self) -> Self {
        Self { client_is_unsure: true, ..self }
    }

    pub(crate) fn client(self, client: &str) -> Self {
        Self { client: client.parse().expect("an address"), ..self }
    }
}

/// GET of `host/path`.
pub(crate) fn get(url: &str) -> Ask {
    let slash = url.find('/').expect("a path");
    let (host, path) = url.split_at(slash);
    Ask {
        method: Method::GET,
        host: host.to_owned(),
        path: path.to_owned(),
        query: None,
        headers: HeaderMap::new(),
        client: IpAddr::from([192, 0, 2, 1]),
        client_is_unsure: false,
    }
}

/// `*.suffix` takes one or more labels, `?.suffix` exactly one.
pub(crate) fn host(pattern: &str) -> ir::HostPattern {
    let name = |text: &str| ir::HostName::parse(text).expect("a host name");
    match (pattern.strip_prefix("*."), pattern.strip_prefix("?.")) {
        (Some(suffix), _) => ir::HostPattern::Wildcard { suffix: name(suffix), one_label: false },
        (None, Some(suffix)) => ir::HostPattern::Wildcard { suffix: name(suffix), one_label: true },
        (None, None) => ir::HostPattern::Exact(name(pattern)),
    }
}

/// A GatewayRoute `shop/NAME` with one rule `r`.
pub(crate) fn route(name: &str, hosts: &[&str], matches: Vec<ir::Match>) -> ir::Route {
    ir::Route {
        id: ir::RouteId {
            object: ir::ObjectRef::new(ir::Kind::GatewayRoute, "shop", name),
            rule: "r".into(),
        },
        created: Some(100),
        rule_index: 0,
        hosts: hosts.iter().map(|pattern| host(pattern)).collect(),
        matches,
        last_resort: false,
        tls: None,
        cors: None,
        ip_access: ir::IpAccess::default(),
        request_body_bytes_max: None,
        limits: Vec::new(),
        auth: Vec::new(),
        identity_headers: Vec::new(),
        header_edits: ir::HeaderEdits::default(),
        timeouts: ir::Timeouts::default(),
        action: ir::Action::Forward {
            backends: Vec::new(),
            rewrite: None,
            retry: ir::Retry::default(),
            circuit_breaker: ir::CircuitBreaker::default(),
            load_balancing: ir::LoadBalancing::default(),
            passive_health: None,
            active_health: None,
            upgrades: ir::Upgrades::default(),
            grpc_web: false,
        },
        extras: None,
    }
}

pub(crate) fn on(path: ir::PathMatch) -> ir::Match {
    ir::Match {
        path,
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        cookies: Vec::new(),
        client_cidrs: Vec::new(),
    }
}

pub(crate) fn prefix(value: &str) -> ir::Match {
    on(ir::PathMatch::Prefix { value: value.to_owned(), case_sensitive: true })
}

pub(crate) fn exact(value: &str) -> ir::Match {
    on(ir::PathMatch::Exact { value: value.to_owned(), case_sensitive: true })
}

pub(crate) fn regex(pattern: &str) -> ir::Match {
    on(ir::PathMatch::Regex { pattern: pattern.to_owned(), case_sensitive: true })
}

pub(crate) fn any_case(matched: ir::Match) -> ir::Match {
    let path = match matched.path {
        ir::PathMatch::Exact { value, .. } => ir::PathMatch::Exact { value, case_sensitive: false },
        ir::PathMatch::Prefix { value, .. } => ir::PathMatch::Prefix { value, case_sensitive: false },
        ir::PathMatch::Regex { pattern, .. } => ir::PathMatch::Regex { pattern, case_sensitive: false },
    };
    ir::Match { path, ..matched }
}

pub(crate) fn methods(matched: ir::Match, methods: &[Method]) -> ir::Match {
    ir::Match { methods: methods.to_vec(), ..matched }
}

pub(crate) fn with_header(mut matched: ir::Match, name: &'static str, value: ir::ValueMatch) -> ir::Match {
    matched.headers.push(ir::HeaderMatch { name: HeaderName::from_static(name), value });
    matched
}

pub(crate) fn with_query(mut matched: ir::Match, name: &str, value: ir::ValueMatch) -> ir::Match {
    matched.query.push(ir::QueryMatch { name: name.to_owned(), value });
    matched
}

pub(crate) fn with_cookie(mut matched: ir::Match, name: &str, value: ir::ValueMatch) -> ir::Match {
    matched.cookies.push(ir::CookieMatch { name: name.to_owned(), value });
    matched
}

pub(crate) fn with_client(mut matched: ir::Match, net: &str) -> ir::Match {
    matched.client_cidrs.push(net.parse().expect("a network"));
    matched
}

pub(crate) fn cors() -> ir::Cors {
    ir::Cors {
        allow_origins: vec![ir::CorsOrigin::Any],
        allow_methods: Vec::new(),
        allow_headers: Vec::new(),
        expose_headers: Vec::new(),
        allow_credentials: false,
        max_age: None,
    }
}

pub(crate) fn config(routes: Vec<ir::Route>) -> ir::Config {
    let routes = routes.into_iter().map(|route| (route.id.clone(), Arc::new(route)));
    ir::Config { generation: 1, routes: routes.collect(), ..ir::Config::default() }
}

/// A table whose every route compiles.
pub(crate) fn table(routes: Vec<ir::Route>) -> Table {
    let (table, problems) = Table::compile(None, &config(routes));
    assert_eq!(problems, []);
    table
}

/// The name of the object that takes the request.
pub(crate) fn winner(table: &Table, ask: &Ask) -> Option<String> {
    table.decide(&ask.head()).map(|decision| decision.route.id().object.name.to_string())
}
