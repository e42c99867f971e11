//! The words and the shape of an explanation, and of the list of routes.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use ir::{Kind, ObjectRef, ValueMatch};
use serde_json::json;

use crate::support::*;

const CANARY: &str = "canary-5f3a";

fn limits() -> ir::LimitPolicy {
    let limit = |name: &str, keys: Vec<ir::LimitKey>, mode, phase| ir::Limit {
        name: name.into(),
        when: None,
        keys,
        rates: vec![ir::Rate {
            requests: 100,
            per: Duration::from_secs(90),
            burst: 20,
            counting: ir::RateCounting::Gcra,
        }],
        cost: ir::LimitCost::default(),
        concurrency: None,
        keys_max: 1000,
        mode,
        phase,
    };
    let claim = ir::LimitKey::JwtClaim {
        provider: None,
        claim: "sub".into(),
        on_missing: ir::OnMissing::UseClientIp,
    };
    let address = ir::LimitKey::ClientIp { ipv4_prefix: 24, ipv6_prefix: 64 };
    let header = ir::LimitKey::Header {
        name: HeaderName::from_static("x-api-key"),
        on_missing: ir::OnMissing::Shared,
    };
    ir::LimitPolicy {
        source: ObjectRef::new(Kind::RateLimitPolicy, "shop", "api"),
        counter_scope: ir::CounterScope::Policy,
        headers: ir::LimitHeaders::Standard,
        answer: None,
        limits: vec![
            ir::Limit {
                when: Some(ir::LimitWhen {
                    matches: vec![prefix("/")],
                    except: Vec::new(),
                    claims: vec![ir::ClaimCondition {
                        provider: Some("corp".into()),
                        path: vec!["realm".into(), "plan".into()],
                        operator: ir::ClaimOperator::In,
                        values: vec!["free".into(), "trial".into()],
                    }],
                }),
                ..limit("per-user", vec![claim], ir::LimitMode::Shadow, ir::LimitPhase::PostAuth)
            },
            limit("per-ip", vec![address, header], ir::LimitMode::Enforce, ir::LimitPhase::PreAuth),
        ],
    }
}

fn external() -> ir::ExternalAuth {
    ir::ExternalAuth {
        backend: ir::BackendId::Service { namespace: "auth".into(), name: "oauth2-proxy".into(), port: 4180 },
        protocol: ir::UpstreamProtocol::default(),
        host: "oauth2-proxy.auth.svc:4180".into(),
        path: ir::UrlTemplate::text("/oauth2/auth"),
        method: Method::GET,
        timeout: Duration::from_secs(2),
        failure_mode: ir::FailureMode::Closed,
        request_headers: None,
        request_redirect: None,
        response_headers: vec![HeaderName::from_static("x-user")],
        sign_in: Some(ir::SignIn {
            url: ir::UrlTemplate::text("/oauth2/start"),
            redirect_param: Some("rd".to_owned()),
        }),
        cache: Some(ir::AnswerCache {
            key: vec![ir::CacheKey::Cookie("session".to_owned())],
            ttl: Duration::from_mins(5),
        }),
    }
}

fn auth() -> ir::Auth {
    let key = ir::JwkMaterial::Symmetric(ir::Redacted::new(CANARY.into()));
    let provider = ir::JwtProvider {
        source: ObjectRef::new(Kind::AuthPolicy, "shop", "jwt"),
        name: "corp".into(),
        issuer: None,
        audiences: Vec::new(),
        keys: ir::KeySource::Given(ir::KeySet {
            keys: vec![ir::Jwk { kid: None, algorithm: None, material: key }],
        }),
        algorithms: vec![ir::Algorithm::HS256],
        from: Vec::new(),
        clock_skew: Duration::ZERO,
        required_claims: Vec::new(),
        claims_to_headers: Vec::new(),
        forward_token: true,
    };
    let rule = ir::AuthorizationRule {
        name: "buyers".into(),
        action: ir::AuthorizationAction::Allow,
        claims: Vec::new(),
        methods: Vec::new(),
        client_cidrs: Vec::new(),
        clients: vec!["acme".to_owned()],
        users: Vec::new(),
    };
    let hash = ir::PasswordHash { scheme: ir::HashScheme::Sha1, text: ir::Redacted::new(CANARY.into()) };
    let basic = ir::BasicAuth {
        source: ObjectRef::new(Kind::Secret, "shop", "users"),
        realm: "shop".to_owned(),
        users: vec![ir::BasicUser { name: ir::Redacted::new(CANARY.into()), hash }],
    };
    let key = ir::ApiKey {
        client: "acme".into(),
        source: ObjectRef::new(Kind::Secret, "shop", "gold"),
        key: ir::Redacted::new(CANARY.into()),
    };
    let keys = ir::ApiKeys {
        selector: vec!["tier=gold".to_owned()],
        keys: vec![key],
        from: Vec::new(),
        client_id_header: Some(HeaderName::from_static("x-client")),
    };
    ir::Auth {
        api_key: Some(Arc::new(keys)),
        mode: ir::AuthMode::Any,
        basic: Some(Arc::new(basic)),
        external: Some(Arc::new(external())),
        source: ObjectRef::new(Kind::AuthPolicy, "shop", "jwt"),
        jwt: Some(ir::JwtRequirement { providers: vec![Arc::new(provider)], optional: false }),
        authorization: Some(ir::Authorization { rules: vec![rule] }),
    }
}

fn forward() -> ir::Action {
    let service =
        |name: &str| ir::BackendId::Service { namespace: "shop".into(), name: name.into(), port: 80 };
    let cart = ir::BackendTarget::Backend(service("cart"));
    let gone = ir::BackendTarget::Missing(service("gone"));
    let path = Some(ir::PathRewrite::ReplacePrefixMatch("/v2".to_owned()));
    ir::Action::Forward {
        backends: vec![
            ir::WeightedBackend { target: cart, weight: 90, protocol: ir::UpstreamProtocol::default() },
            ir::WeightedBackend { target: gone, weight: 10, protocol: ir::UpstreamProtocol::default() },
        ],
        rewrite: Some(ir::Rewrite { hostname: None, path }),
        retry: ir::Retry { attempts: 2, ..ir::Retry::default() },
        circuit_breaker: ir::CircuitBreaker {
            max_requests: Some(7),
            failures: Some(ir::BreakerFailures {
                consecutive: 5,
                rate: None,
                open_for: Duration::from_secs(10),
                probes: 3,
            }),
            ..ir::CircuitBreaker::default()
        },
        load_balancing: ir::BalancePolicy::LeastRequest.into(),
        passive_health: Some(ir::PassiveHealth {
            consecutive_5xx: 5,
            success_rate: Some(ir::SuccessRate {
                minimum_percent: 80,
                minimum_requests: 20,
                interval: Duration::from_secs(10),
            }),
            eject_for_max: Duration::from_mins(1),
            panic_percent: 0,
            ..ir::PassiveHealth::default()
        }),
        active_health: Some(Arc::new(ir::ActiveHealth {
            probe: ir::Probe::Http {
                path: "/healthz".to_owned(),
                host: None,
                headers: vec![(http::header::AUTHORIZATION, HeaderValue::from_static(CANARY))],
                expected: vec![(200, 299)],
            },
            port: Some(9000),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
        })),
        upgrades: ir::Upgrades::default(),
        grpc_web: false,
    }
}

/// A route with one of everything, and a secret wherever one could stand.
fn full() -> ir::Route {
    let edit = |name: &'static str| ir::HeaderEdit {
        set: vec![(HeaderName::from_static(name), HeaderValue::from_static(CANARY))],
        add: Vec::new(),
        remove: vec![HeaderName::from_static("x-gone")],
    };
    let matched = methods(prefix("/api"), &[Method::GET, Method::POST]);
    let matched = with_header(matched, "authorization", ValueMatch::Prefix(CANARY.to_owned()));
    ir::Route {
        cors: Some(cors()),
        ip_access: ir::IpAccess { allow: Vec::new(), deny: vec!["10.0.0.0/8".parse().expect("a network")] },
        request_body_bytes_max: Some(1024),
        limits: vec![Arc::new(limits())],
        auth: vec![auth()],
        header_edits: ir::HeaderEdits { request: edit("authorization"), response: edit("x-out") },
        timeouts: ir::Timeouts { request: Some(Duration::from_millis(90_500)), ..ir::Timeouts::default() },
        action: forward(),
        ..route("full", &["shop.example.com"], vec![matched])
    }
}

fn full_ask() -> Ask {
    get("shop.example.com/api/x").header("authorization", &format!("{CANARY} and more"))
}

#[test]
fn an_explanation_has_the_documented_shape() {
    let other = route("other", &["other.example.com"], vec![prefix("/")]);
    let table = table(vec![full(), other]);
    let explained = serde_json::to_value(table.explain(&full_ask().head())).expect("plain data");
    let object = "GatewayRoute/shop/full";
    let want = json!({
        "request": {"method": "GET", "host": "shop.example.com", "path": "/api/x", "client": "192.0.2.1"},
        "winner": {
            "route": "shop/full/r",
            "object": object,
            "match": "path prefix /api, method GET or POST, header authorization prefix [redacted]",
            "filters": [
                {"kind": "CORS", "object": object, "allowOrigins": ["*"], "allowCredentials": false},
                {"kind": "RequestHeaderModifier", "object": object, "remove": ["x-gone"], "set": ["authorization"]},
                {"kind": "URLRewrite", "object": object, "path": "prefix -> /v2"},
                {"kind": "LoadBalancing", "object": object, "policy": "LeastRequest"},
                {"kind": "CircuitBreaker", "object": object, "maxRequests": 7,
                 "failures": "5 in a row; open for 10s, then 3 probes"},
                {"kind": "PassiveHealth", "object": object, "consecutive5xx": 5, "consecutiveConnectFailures": 3,
                 "successRate": "80 % of at least 20 in 10s", "ejectFor": "30s", "maxEjectFor": "1m",
                 "maxEjectedPercent": 50, "panicThreshold": 0},
                {"kind": "ActiveHealth", "object": object, "type": "HTTP", "path": "/healthz", "headers": ["authorization"],
                 "expected": ["200-299"], "port": 9000, "interval": "10s", "timeout": "1s", "healthy": 2, "unhealthy": 3},
                {"kind": "Retry", "object": object, "attempts": 2, "on": ["ConnectFailure", "Reset"],
                 "methods": ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"]},
                {"kind": "Timeouts", "object": object, "connect": "3s", "request": "1m30s500ms", "idle": "30s"},
                {"kind": "ResponseHeaderModifier", "object": object, "remove": ["x-gone"], "set": ["x-out"]},
            ],
            "policies": [
                {"kind": "IPAccess", "object": object, "deny": ["10.0.0.0/8"]},
                {"kind": "MaxRequestBody", "object": object, "bytes": 1024},
                {"kind": "RateLimitPolicy", "object": "RateLimitPolicy/shop/api", "limit": "per-ip",
                 "mode": "Enforce", "rates": ["100 per 1m30s (burst 20)"], "phase": "PreAuth"},
                {"kind": "JWT", "object": "AuthPolicy/shop/jwt", "providers": ["corp"], "optional": false, "mode": "Any"},
                {"kind": "APIKey", "object": "AuthPolicy/shop/jwt", "secrets": ["tier=gold"], "keys": 1,
                 "clientIdHeader": "x-client", "mode": "Any"},
                {"kind": "BasicAuth", "object": "AuthPolicy/shop/jwt", "users": "Secret/shop/users", "realm": "shop", "mode": "Any"},
                {"kind": "ExternalAuth", "object": "AuthPolicy/shop/jwt", "service": "auth/oauth2-proxy:4180",
                 "asks": "GET /oauth2/auth", "timeout": "2s", "onFailure": "Closed",
                 "responseHeadersToUpstream": ["x-user"], "signIn": "/oauth2/start", "cachedBy": ["cookie:session"],
                 "cachedFor": "5m", "mode": "Any"},
                {"kind": "Authorization", "object": "AuthPolicy/shop/jwt", "rules": ["buyers Allow"],
                 "decides": "buyers or none (403)"},
                {"kind": "RateLimitPolicy", "object": "RateLimitPolicy/shop/api", "limit": "per-user",
                 "mode": "Shadow", "rates": ["100 per 1m30s (burst 20)"], "when": ["path prefix /"],
                 "claims": ["realm.plan of corp In [free, trial]"], "phase": "PostAuth"},
            ],
            "limitKeys": [
                {"object": "RateLimitPolicy/shop/api", "limit": "per-ip",
                 "keys": ["ClientIP 192.0.2.0/24", "Header x-api-key"]},
                {"object": "RateLimitPolicy/shop/api", "limit": "per-user", "keys": ["JWTClaim sub"],
                 "claims": ["realm.plan of corp In [free, trial]"]},
            ],
            "backends": [
                {"backend": "shop/cart:80", "weight": 90, "missing": false},
                {"backend": "shop/gone:80", "weight": 10, "missing": true},
            ],
        },
        "losers": [{"route": "shop/other/r", "reason": "host: takes other.example.com"}],
    });
    assert_eq!(explained, want, "{explained:#}");
}

#[test]
fn the_choice_of_an_endpoint_is_explained() {
    let name = HeaderName::from_static("x-user-id");
    let load_balancing = ir::LoadBalancing {
        policy: ir::BalancePolicy::ConsistentHash(ir::HashOn::Header { name }),
        slow_start: Some(Duration::from_secs(30)),
        zone: ir::ZonePreference::PreferLocal,
        affinity: Some(Box::new(sessions())),
    };
    let mut action = forward();
    if let ir::Action::Forward { load_balancing: said, .. } = &mut action {
        *said = load_balancing;
    }
    let table = table(vec![ir::Route { action, ..route("hashed", &[], vec![prefix("/")]) }]);
    let winner = table.explain(&get("a.com/").head()).winner.expect("the route takes everything");
    let said: Vec<String> = winner.filters.iter().map(ToString::to_string).collect();
    let want = "LoadBalancing (GatewayRoute/shop/hashed): policy ConsistentHash, hashOn Header x-user-id, slowStart 30s, \
                zone PreferLocal";
    assert!(said.iter().any(|step| step == want), "{said:#?}");
    let want = "Affinity (GatewayRoute/shop/hashed): cookie SRV, ttl 1h, mode Persistent, onFailure Repick, \
                stickyToCanary yes";
    assert!(said.iter().any(|step| step == want), "{said:#?}");
    assert!(!said.concat().contains(CANARY), "{said:#?}");
}

fn sessions() -> ir::Affinity {
    ir::Affinity {
        cookie: ir::AffinityCookie {
            name: "SRV".to_owned(),
            path: "/".to_owned(),
            domain: None,
            ttl: Some(Duration::from_secs(3600)),
            same_site: ir::SameSite::Lax,
            secure: None,
        },
        mode: ir::AffinityMode::Persistent,
        on_failure: ir::AffinityFailure::Repick,
        keeps_backend: true,
        key: ir::Redacted::new(CANARY.as_bytes().to_vec()),
    }
}

#[test]
fn what_the_object_does_not_say_is_not_explained() {
    let ir::Action::Forward { backends, .. } = forward() else { panic!("the route forwards") };
    let action = ir::Action::Forward {
        backends,
        rewrite: None,
        retry: ir::Retry::default(),
        circuit_breaker: ir::CircuitBreaker::default(),
        load_balancing: ir::LoadBalancing::default(),
        passive_health: Some(ir::PassiveHealth::default()),
        active_health: None,
        upgrades: ir::Upgrades::default(),
        grpc_web: false,
    };
    let table = table(vec![ir::Route { action, ..route("plain", &[], vec![prefix("/")]) }]);
    let winner = table.explain(&get("a.com/").head()).winner.expect("the route takes everything");
    assert!(winner.filters.is_empty(), "{:?}", winner.filters);
}

#[test]
fn what_is_done_without_tls_comes_first_and_a_bare_certificate_is_no_step() {
    let explained = |tls: ir::RouteTls| {
        let table = table(vec![ir::Route { tls: Some(tls), ..route("tls", &[], vec![prefix("/")]) }]);
        let winner = table.explain(&get("a.com/").head()).winner.expect("the route takes everything");
        serde_json::to_value(&winner.filters).expect("plain data")
    };
    let both = ir::RouteTls {
        redirect_status: Some(308),
        hsts: Some(HeaderValue::from_static("max-age=60")),
        client: None,
    };
    let step = &explained(both)[0];
    assert_eq!(
        (&step["kind"], &step["redirectHTTP"], &step["hsts"]),
        (&"TLS".into(), &308.into(), &"max-age=60".into())
    );
    let filters = explained(ir::RouteTls::default());
    assert!(
        filters.as_array().is_some_and(|filters| filters.iter().all(|step| step["kind"] != "TLS")),
        "{filters}"
    );
}

#[test]
fn certificates_of_clients_are_explained_by_their_authorities() {
    let auth = ir::ClientAuth {
        mode: ir::ClientAuthMode::Require,
        source: ObjectRef::new(Kind::ConfigMap, "shop", "clients"),
        ca_pem: CANARY.into(),
        crl_pem: CANARY.into(),
    };
    let forward = ir::ClientForward { subject: true, verify: false, certificate: true };
    let client = Some(ir::RouteClient { auth: Arc::new(auth), forward });
    let tls = ir::RouteTls { client, ..ir::RouteTls::default() };
    let table = table(vec![ir::Route { tls: Some(tls), ..route("tls", &[], vec![prefix("/")]) }]);
    let winner = table.explain(&get("a.com/").head()).winner.expect("the route takes everything");
    let want = json!({
        "kind": "TLS", "object": "GatewayRoute/shop/tls", "clientAuth": "Require",
        "clientAuthorities": "ConfigMap/shop/clients",
        "clientRevocation": "by the authorities' lists", "forward": ["Subject", "Certificate"],
    });
    assert_eq!(serde_json::to_value(&winner.filters[0]).expect("plain data"), want);
}

#[test]
fn how_a_backend_is_spoken_to_is_explained_and_listed_without_a_byte_of_a_certificate() {
    let pem = CANARY.as_bytes().to_vec();
    let secret = |name| ObjectRef::new(Kind::Secret, "shop", name);
    let tls = ir::UpstreamTls {
        server_name: "web.internal".into(),
        subject_alt_names: vec!["one.internal".into()],
        trust: ir::Trust::Authorities { source: secret("ca"), pem: pem.clone() },
        client_certificate: Some(Arc::new(ir::Certificate {
            source: secret("gateway"),
            chain_pem: pem.clone(),
            key_pem: ir::Redacted::new(pem),
            ocsp_response: None,
        })),
    };
    let protocol =
        |version, tls: Option<ir::UpstreamTls>| ir::UpstreamProtocol { version, tls: tls.map(Arc::new) };
    let plain = ir::UpstreamTls {
        trust: ir::Trust::Anyone,
        client_certificate: None,
        subject_alt_names: vec![],
        ..tls.clone()
    };
    let mut action = forward();
    let ir::Action::Forward { backends, upgrades, grpc_web, .. } = &mut action else { panic!("{action:?}") };
    *upgrades = ir::Upgrades::new([]);
    *grpc_web = true;
    backends[0].protocol = protocol(ir::UpstreamVersion::Http2, Some(tls));
    backends[1].protocol = protocol(ir::UpstreamVersion::Http1, Some(plain));
    let timeouts = ir::Timeouts { stream_idle: None, ..ir::Timeouts::default() };
    let route = ir::Route { action, timeouts, ..route("plain", &[], vec![prefix("/")]) };
    let table = table(vec![route]);
    let explained = table.explain(&get("a.com/").head());
    let winner = serde_json::to_value(explained.winner.as_ref()).expect("plain data");
    let want = json!([
        {"backend": "shop/cart:80", "weight": 90, "missing": false, "protocol": "HTTP/2 over TLS",
         "serverName": "web.internal", "subjectAltNames": ["one.internal"], "trust": "Secret/shop/ca",
         "clientCertificate": "Secret/shop/gateway"},
        {"backend": "shop/gone:80", "weight": 10, "missing": true, "protocol": "HTTP/1.1 over TLS",
         "serverName": "web.internal", "trust": "anyone"},
    ]);
    assert_eq!(winner["backends"], want);
    let text = explained.to_string();
    for part in [
        "shop/cart:80 weight 90, HTTP/2 over TLS as web.internal, trust Secret/shop/ca, \
         a certificate for one.internal, shows Secret/shop/gateway",
        "Upgrades (GatewayRoute/shop/plain): protocols none",
        "GRPCWeb (GatewayRoute/shop/plain)",
        "streamIdle none",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let rows = table.routes();
    assert_eq!(
        rows[0].backends,
        ["shop/cart:80=90 (HTTP/2 over TLS)", "shop/gone:80 (missing)=10 (HTTP/1.1 over TLS)"]
    );
    let rows = serde_json::to_string(&rows).expect("plain data");
    assert!(![&text, &rows, &winner.to_string()].iter().any(|shown| shown.contains(CANARY)));
}

#[test]
fn no_secret_is_ever_explained() {
    let loser = ir::Route { created: Some(200), ..full() };
    let mut loser = ir::Route { id: ir::RouteId { rule: "late".into(), ..loser.id.clone() }, ..loser };
    loser.matches.push(with_cookie(prefix("/api"), "session", ValueMatch::Exact(CANARY.to_owned())));
    let table = table(vec![full(), loser]);
    for ask in [full_ask(), get("shop.example.com/api")] {
        let explained = table.explain(&ask.head());
        let json = serde_json::to_string(&explained).expect("plain data");
        for text in [json, explained.to_string(), format!("{explained:?}")] {
            assert!(!text.contains(CANARY), "{text}");
        }
    }
    let rows = serde_json::to_string(&table.routes()).expect("plain data");
    assert!(!rows.contains(CANARY), "{rows}");
}

#[test]
fn a_loser_names_its_first_failing_condition() {
    let wanted = |text: &str| ValueMatch::Exact(text.to_owned());
    let cases = [
        ("host", &["b.com"][..], vec![prefix("/")], "host: takes b.com"),
        ("wildcard host", &["*.a.com", "b.com"], vec![prefix("/")], "host: takes *.a.com or b.com"),
        ("path", &[], vec![prefix("/z"), regex("/y.*")], "path: takes prefix /z or regex /y.*"),
        ("method", &[], vec![methods(prefix("/"), &[Method::PUT])], "method: GET is not PUT"),
        (
            "header",
            &[],
            vec![with_header(prefix("/"), "x-version", wanted("2"))],
            "header x-version: must be \"2\"",
        ),
        (
            "query",
            &[],
            vec![with_query(prefix("/"), "beta", ValueMatch::Present)],
            "query beta: must be present",
        ),
        (
            "cookie",
            &[],
            vec![with_cookie(prefix("/"), "canary", wanted("always"))],
            "cookie canary: must be [redacted]",
        ),
        (
            "client",
            &[],
            vec![with_client(prefix("/"), "10.0.0.0/8")],
            "client address: 192.0.2.1 is not in 10.0.0.0/8",
        ),
        (
            "the first of several",
            &[],
            vec![with_header(methods(prefix("/"), &[Method::PUT]), "x-version", wanted("2"))],
            "method: GET is not PUT",
        ),
        (
            "the match that came furthest",
            &[],
            vec![methods(prefix("/"), &[Method::PUT]), with_header(prefix("/"), "x-version", wanted("2"))],
            "header x-version: must be \"2\"",
        ),
        ("path before conditions", &[], vec![methods(prefix("/z"), &[Method::PUT])], "path: takes prefix /z"),
        ("prefix by elements", &[], vec![prefix("/x/y/zz")], "path: takes prefix /x/y/zz"),
    ];
    for (name, hosts, matches, want) in cases {
        let table = table(vec![route("w", &["a.com"], vec![prefix("/x")]), route("l", hosts, matches)]);
        let explained = table.explain(&get("a.com/x/y/z").head());
        assert_eq!(explained.winner.map(|winner| winner.route).as_deref(), Some("shop/w/r"), "{name}");
        let reasons: Vec<_> = explained.losers.iter().map(|loser| loser.reason.as_str()).collect();
        assert_eq!(reasons, [want], "{name}");
    }
}

#[test]
fn a_beaten_route_says_by_what() {
    let present = || ValueMatch::Present;
    let old = |route: ir::Route| ir::Route { created: Some(1), ..route };
    let resort = ir::Route { last_resort: true, ..route("l", &["a.com"], vec![exact("/x/y")]) };
    let one = |matched: ir::Match| route("w", &[], vec![matched]);
    let plain = || route("l", &[], vec![prefix("/x")]);
    let ask = get("a.com/x/y").query("q").header("x-a", "1").header("cookie", "c=1");
    let cases = [
        (
            "more specific host",
            route("w", &["a.com"], vec![prefix("/")]),
            route("l", &["*.com"], vec![exact("/x/y")]),
        ),
        ("exact path", one(exact("/x/y")), plain()),
        ("longer prefix", one(prefix("/x/y")), plain()),
        ("prefix before regular expression", one(prefix("/")), route("l", &[], vec![regex(".*")])),
        ("methods", one(methods(prefix("/x"), &[Method::GET])), plain()),
        ("headers", one(with_header(prefix("/x"), "x-a", present())), plain()),
        ("query parameters", one(with_query(prefix("/x"), "q", present())), plain()),
        ("cookies", one(with_cookie(prefix("/x"), "c", present())), plain()),
        ("client addresses", one(with_client(prefix("/x"), "192.0.2.0/24")), plain()),
        ("older", old(one(prefix("/x"))), plain()),
        (
            "name",
            ir::Route {
                id: ir::RouteId { rule: "r".into(), ..route("a", &[], vec![]).id },
                ..one(prefix("/x"))
            },
            plain(),
        ),
        ("not a last resort", one(regex(".*")), resort),
    ];
    for (why, winner, loser) in cases {
        let want = format!("beaten by {}: {why}", winner.id.label());
        let explained = table(vec![winner, loser]).explain(&ask.head());
        let reasons: Vec<_> = explained.losers.iter().map(|loser| loser.reason.as_str()).collect();
        assert_eq!(reasons, [want.as_str()], "{why}");
    }
}

#[test]
fn losers_that_came_nearest_stand_first() {
    let table = table(vec![
        route("a-host", &["b.com"], vec![prefix("/")]),
        route("b-path", &[], vec![prefix("/z")]),
        route("c-method", &[], vec![methods(prefix("/"), &[Method::PUT])]),
        route("d-beaten", &[], vec![prefix("/")]),
        route("e-winner", &["a.com"], vec![prefix("/")]),
    ]);
    let explained = table.explain(&get("a.com/").head());
    let order: Vec<_> = explained.losers.iter().map(|loser| loser.route.as_str()).collect();
    assert_eq!(order, ["shop/d-beaten/r", "shop/c-method/r", "shop/b-path/r", "shop/a-host/r"]);
    let text = explained.to_string();
    assert!(
        text.starts_with("GET a.com/ from 192.0.2.1\n\nroute shop/e-winner/r (GatewayRoute/shop/e-winner)\n")
    );
    assert!(text.contains("  shop/c-method/r\n    method: GET is not PUT\n"), "{text}");
}

#[test]
fn a_request_that_no_route_takes_is_explained_too() {
    let table = table(vec![route("w", &["a.com"], vec![prefix("/x")])]);
    let explained = table.explain(&get("a.com/y").head());
    let json = serde_json::to_value(&explained).expect("plain data");
    assert_eq!(json.get("winner"), Some(&serde_json::Value::Null));
    assert!(explained.to_string().contains("no route takes this request: 404"));
}

#[test]
fn the_list_of_routes_is_most_specific_first() {
    let table = table(vec![
        ir::Route { last_resort: true, ..route("resort", &[], vec![prefix("/")]) },
        route("any", &[], vec![prefix("/")]),
        route("wild", &["*.a.com"], vec![prefix("/")]),
        route("wild-long", &["*.b.a.com"], vec![prefix("/")]),
        route("host", &["a.com"], vec![prefix("/"), regex("/x.*"), prefix("/long"), exact("/e")]),
        route("host-put", &["a.com"], vec![methods(prefix("/"), &[Method::PUT])]),
        ir::Route {
            action: ir::Action::Respond(ir::DirectResponse {
                status: 503,
                content_type: None,
                body: Vec::new(),
            }),
            ..route("z", &["z.com"], vec![prefix("/")])
        },
    ]);
    let rows: Vec<String> = table.routes().iter().map(ToString::to_string).collect();
    assert_eq!(
        rows,
        [
            "a.com exactly /e -> shop/host/r forward",
            "a.com prefix /long -> shop/host/r forward",
            "a.com prefix / [PUT] -> shop/host-put/r forward",
            "a.com prefix / -> shop/host/r forward",
            "a.com regex /x.* -> shop/host/r forward",
            "z.com prefix / -> shop/z/r respond 503",
            "*.b.a.com prefix / -> shop/wild-long/r forward",
            "*.a.com prefix / -> shop/wild/r forward",
            "* prefix / -> shop/any/r forward",
            "* prefix / -> shop/resort/r forward (last resort)",
        ]
    );
}
