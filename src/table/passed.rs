//! Hosts whose connections are passed through with their TLS as it is, for those who ask about them. Nothing is decided
//! by this: such connections never reach the table.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ir::{BackendTarget, HostPattern, Passthrough, ProxyVersion, Tls};
use serde::Serialize;

use crate::listing::RouteRow;
use crate::table::Table;

/// Those of one configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed {
    passthrough: Arc<BTreeMap<HostPattern, Arc<Passthrough>>>,
    /// The more specific of a host that is served and one that is not counts.
    tls: Arc<Tls>,
}

/// What becomes of a host's connections with TLS. `Display` is the text for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedThrough {
    /// `namespace/name/rule`
    pub route: String,
    pub object: ir::ObjectRef,
    /// The pattern that covers the host.
    pub host: String,
    /// With weights where there are several, and how they are told of the client.
    pub backends: Vec<String>,
}

impl Passed {
    pub(crate) fn of(config: &ir::Config) -> Self {
        Self { passthrough: Arc::clone(&config.passthrough), tls: Arc::clone(&config.tls) }
    }

    fn find(&self, host: &str) -> Option<(&HostPattern, &Arc<Passthrough>)> {
        let best = self.passthrough.iter().filter(|(pattern, _)| covers(pattern, host));
        let best = best.min_by_key(|(pattern, _)| rank(pattern))?;
        let mut served = self.tls.hosts.keys().filter(|pattern| covers(pattern, host));
        (!served.any(|pattern| rank(pattern) < rank(best.0))).then_some(best)
    }
}

impl Table {
    /// What becomes of connections with TLS whose client asks for this host; `None`: they are served.
    pub fn passed_through(&self, host: &str) -> Option<PassedThrough> {
        let (pattern, passthrough) = self.passed.find(host)?;
        Some(PassedThrough {
            route: passthrough.id.label(),
            object: passthrough.id.object.clone(),
            host: pattern.to_string(),
            backends: backends(passthrough),
        })
    }

    /// A row for each host.
    pub(crate) fn passed_rows(&self) -> impl Iterator<Item = RouteRow> {
        self.passed.passthrough.iter().map(|(pattern, passthrough)| RouteRow {
            host: pattern.to_string(),
            path: String::new(),
            methods: Vec::new(),
            conditions: Vec::new(),
            last_resort: false,
            route: passthrough.id.label(),
            object: passthrough.id.object.clone(),
            action: "passthrough".to_owned(),
            backends: backends(passthrough),
        })
    }
}

impl fmt::Display for PassedThrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nwith TLS: passed through as it is by route {} ({})", self.route, self.object)?;
        writeln!(f, "  host: {}", self.host)?;
        if self.backends.is_empty() {
            return writeln!(f, "  backends: none, so that connections are refused");
        }
        writeln!(f, "  backends:")?;
        self.backends.iter().try_for_each(|backend| writeln!(f, "    {backend}"))
    }
}

fn backends(passthrough: &Passthrough) -> Vec<String> {
    let several = passthrough.backends.len() > 1;
    let texts = passthrough.backends.iter().map(|backend| {
        let name = match &backend.target {
            BackendTarget::Backend(id) => id.to_string(),
            BackendTarget::Missing(id) => format!("{id} (missing)"),
        };
        let name = if several { format!("{name}={}", backend.weight) } else { name };
        match backend.proxy_protocol {
            Some(ProxyVersion::V1) => format!("{name} (PROXY protocol 1)"),
            Some(ProxyVersion::V2) => format!("{name} (PROXY protocol 2)"),
            None => name,
        }
    });
    texts.collect()
}

/// No client names an address in its handshake (RFC 6066 §3).
fn covers(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(name) => name.as_str() == host && host.parse::<std::net::Ipv4Addr>().is_err(),
        HostPattern::Wildcard { suffix, one_label } => {
            let label = host.strip_suffix(suffix.as_str()).and_then(|rest| rest.strip_suffix('.'));
            label.is_some_and(|label| !(label.is_empty() || (*one_label && label.contains('.'))))
        }
    }
}

/// The most specific first: names, then the longest suffix, then those for a single label.
fn rank(pattern: &HostPattern) -> (u8, Reverse<usize>, bool) {
    match pattern {
        HostPattern::Exact(_) => (0, Reverse(0), false),
        HostPattern::Wildcard { suffix, one_label } => (1, Reverse(suffix.as_str().len()), !one_label),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::RequestHead;

    fn passthrough(name: &str, weights: &[u32]) -> Arc<Passthrough> {
        let backends = weights.iter().zip(443..).map(|(&weight, port)| ir::PassthroughBackend {
            target: BackendTarget::Backend(ir::BackendId::Service {
                namespace: "shop".into(),
                name: "pod".into(),
                port,
            }),
            weight,
            proxy_protocol: Some(ProxyVersion::V2),
        });
        Arc::new(Passthrough {
            id: ir::RouteId {
                object: ir::ObjectRef::new(ir::Kind::GatewayRoute, "shop", name),
                rule: "all".into(),
            },
            backends: backends.collect(),
            connect: std::time::Duration::from_secs(3),
            stream_idle: None,
            circuit_breaker: ir::CircuitBreaker::default(),
            load_balancing: ir::LoadBalancing::default(),
            passive_health: None,
        })
    }

    fn table() -> Table {
        let pattern = |text| HostPattern::parse(text, false).unwrap();
        let passthrough = [
            (pattern("a.example"), passthrough("one", &[1])),
            (pattern("*.example"), passthrough("two", &[1, 3])),
            (pattern("192.0.2.1"), passthrough("three", &[])),
        ];
        let served = ir::TlsHost {
            source: ir::ObjectRef::new(ir::Kind::GatewayRoute, "shop", "own"),
            certificate: None,
            policy: ir::TlsPolicy::default(),
        };
        let served = Arc::new(served);
        let hosts = [pattern("own.example"), pattern("*.own.example")];
        let hosts = hosts.map(|pattern| (pattern, Arc::clone(&served)));
        let config = ir::Config {
            passthrough: Arc::new(passthrough.into_iter().collect()),
            tls: Arc::new(Tls { hosts: hosts.into_iter().collect(), default: None }),
            ..ir::Config::default()
        };
        Table::compile(None, &config).0
    }

    #[test]
    fn the_most_specific_host_of_both_kinds_counts() {
        let table = table();
        for (host, want) in [
            ("a.example", Some("shop/one/all")),
            ("b.example", Some("shop/two/all")),
            ("c.b.example", Some("shop/two/all")),
            ("own.example", None),
            ("x.own.example", None),
            ("example", None),
            ("192.0.2.1", None),
            ("", None),
        ] {
            let got = table.passed_through(host).map(|passed| passed.route);
            assert_eq!(got.as_deref(), want, "{host}");
        }
    }

    #[test]
    fn it_is_told_what_becomes_of_connections_and_of_requests_without_tls() {
        let (table, headers) = (table(), http::HeaderMap::new());
        let head = |host| RequestHead {
            method: &http::Method::GET,
            host,
            path: "/",
            query: None,
            headers: &headers,
            client: [192, 0, 2, 9].into(),
            client_is_unsure: false,
        };
        let text = table.explain(&head("b.example")).to_string();
        let want = "GET b.example/ from 192.0.2.9\n\n\
                    with TLS: passed through as it is by route shop/two/all (GatewayRoute/shop/two)\n  \
                    host: *.example\n  backends:\n    shop/pod:443=1 (PROXY protocol 2)\n    \
                    shop/pod:444=3 (PROXY protocol 2)\n\nwithout TLS:\n\nno route takes this request: 404\n";
        assert_eq!(text, want);
        let json = serde_json::to_value(table.explain(&head("a.example"))).unwrap();
        assert_eq!(json["passedThrough"]["route"], "shop/one/all");
        let json = serde_json::to_value(table.explain(&head("own.example"))).unwrap();
        assert!(json.get("passedThrough").is_none());
    }

    #[test]
    fn each_host_has_a_row() {
        let rows: Vec<String> = table().routes().iter().map(ToString::to_string).collect();
        let want = [
            "192.0.2.1 -> shop/three/all passthrough",
            "a.example -> shop/one/all passthrough shop/pod:443 (PROXY protocol 2)",
            "*.example -> shop/two/all passthrough shop/pod:443=1 (PROXY protocol 2), shop/pod:444=3 \
             (PROXY protocol 2)",
        ];
        assert_eq!(rows, want);
    }
}
