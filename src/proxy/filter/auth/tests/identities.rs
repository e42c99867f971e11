//! Rules by who brought a key or a password, and whose word counts for whom.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use ir::{
    ApiKey, ApiKeys, Auth, AuthMode, Authorization, AuthorizationAction, AuthorizationRule, BasicAuth,
    BasicUser, HashScheme, Kind, ObjectRef, PasswordHash, Redacted, TokenSource,
};

use super::support::Gate;
use crate::filter::auth::refusal::AuthReason;

/// Of `password`.
const HASH: &str = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";

/// Keys in this header; each is that of the client of this name.
fn keys(header: &'static str, clients: &[&str]) -> Arc<ApiKeys> {
    let key = |client: &&str| ApiKey {
        client: (*client).into(),
        source: ObjectRef::new(Kind::Secret, "shop", "keys"),
        key: Redacted::new(format!("key-of-{client}")),
    };
    Arc::new(ApiKeys {
        selector: Vec::new(),
        keys: clients.iter().map(key).collect(),
        from: vec![TokenSource::Header { name: HeaderName::from_static(header), prefix: String::new() }],
        client_id_header: None,
    })
}

fn users(names: &[&str]) -> Arc<BasicAuth> {
    let user = |name: &&str| BasicUser {
        name: Redacted::new((*name).to_owned()),
        hash: PasswordHash { scheme: HashScheme::Sha1, text: Redacted::new(HASH.to_owned()) },
    };
    Arc::new(BasicAuth {
        source: ObjectRef::new(Kind::Secret, "shop", "users"),
        realm: "shop".to_owned(),
        users: names.iter().map(user).collect(),
    })
}

fn object(kind: Kind, name: &str) -> Auth {
    Auth {
        source: ObjectRef::new(kind, "shop", name),
        mode: AuthMode::All,
        jwt: None,
        api_key: None,
        basic: None,
        external: None,
        authorization: None,
    }
}

fn allow(clients: &[&str], users: &[&str]) -> Option<Authorization> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let rule = AuthorizationRule {
        name: "known".into(),
        action: AuthorizationAction::Allow,
        claims: Vec::new(),
        methods: Vec::new(),
        client_cidrs: Vec::new(),
        clients: owned(clients),
        users: owned(users),
    };
    Some(Authorization { rules: vec![rule] })
}

fn password(name: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:password")))
}

const REFUSED: Option<AuthReason> = Some(AuthReason::NotAuthorized);

#[test]
fn a_rule_takes_the_clients_and_users_that_it_names() {
    let mut route = object(Kind::GatewayRoute, "shop");
    route.mode = AuthMode::Any;
    route.api_key = Some(keys("x-key", &["acme", "other"]));
    route.basic = Some(users(&["ada", "bob"]));
    for (clients, names, key, name, want) in [
        (&["acme"][..], &[][..], Some("acme"), None, None),
        (&["acme"], &[], Some("other"), None, REFUSED),
        (&["acme"], &[], None, Some("ada"), REFUSED),
        (&[], &["ada", "eve"], None, Some("ada"), None),
        (&[], &["ada"], None, Some("bob"), REFUSED),
        (&[], &["ada"], Some("acme"), None, REFUSED),
        // A name of the one kind is none of the other.
        (&["ada"], &[], None, Some("ada"), REFUSED),
        (&[], &["acme"], Some("acme"), None, REFUSED),
    ] {
        route.authorization = allow(clients, names);
        let mut gate = Gate::new(std::slice::from_ref(&route));
        let fields: Vec<(&str, String)> = key
            .map(|key| ("x-key", format!("key-of-{key}")))
            .into_iter()
            .chain(name.map(|name| ("authorization", password(name))))
            .collect();
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(gate.ask(&fields).err(), want, "{clients:?} {names:?}: {key:?} {name:?}");
    }
}

#[test]
fn both_must_hold_where_a_rule_names_both() {
    let mut route = object(Kind::GatewayRoute, "shop");
    route.api_key = Some(keys("x-key", &["acme"]));
    route.basic = Some(users(&["ada", "bob"]));
    route.authorization = allow(&["acme"], &["ada"]);
    let mut gate = Gate::new(&[route]);
    let key = ("x-key", "key-of-acme");
    assert_eq!(gate.ask(&[key, ("authorization", &password("ada"))]).err(), None);
    assert_eq!(gate.ask(&[key, ("authorization", &password("bob"))]).err(), REFUSED);
}

#[test]
fn a_policy_believes_no_key_and_no_password_of_the_route() {
    let of_route = || {
        let mut route = object(Kind::GatewayRoute, "shop");
        route.api_key = Some(keys("x-route-key", &["acme"]));
        route.basic = Some(users(&["ada"]));
        route
    };
    let sent = [("x-route-key", "key-of-acme"), ("authorization", &*password("ada"))];
    for authorization in [allow(&["acme"], &[]), allow(&[], &["ada"])] {
        // Whoever writes the route could call himself acme, or ada.
        let mut policy = object(Kind::AuthPolicy, "floor");
        policy.authorization.clone_from(&authorization);
        assert_eq!(Gate::new(&[of_route(), policy]).ask(&sent).err(), REFUSED);
        // The route itself may say so, and may believe a policy.
        let mut route = of_route();
        route.authorization.clone_from(&authorization);
        assert_eq!(Gate::new(&[route]).ask(&sent).err(), None);
        let mut route = object(Kind::GatewayRoute, "shop");
        route.authorization.clone_from(&authorization);
        let mut policy = of_route();
        policy.source = ObjectRef::new(Kind::AuthPolicy, "shop", "floor");
        assert_eq!(Gate::new(&[route, policy]).ask(&sent).err(), None);
    }
    // One policy believes another, but its own keys before those.
    let mut first = object(Kind::AuthPolicy, "first");
    first.api_key = Some(keys("x-first", &["acme"]));
    let mut second = object(Kind::AuthPolicy, "second");
    second.authorization = allow(&["acme"], &[]);
    assert_eq!(Gate::new(&[first.clone(), second.clone()]).ask(&[("x-first", "key-of-acme")]).err(), None);
    second.api_key = Some(keys("x-second", &["acme", "other"]));
    let mut gate = Gate::new(&[first, second]);
    let both = |own| [("x-first", "key-of-acme"), ("x-second", own)];
    assert_eq!(gate.ask(&both("key-of-acme")).err(), None);
    assert_eq!(gate.ask(&both("key-of-other")).err(), REFUSED);
}

#[test]
fn the_log_learns_which_object_and_rule_refused() {
    let mut policy = object(Kind::AuthPolicy, "floor");
    policy.api_key = Some(keys("x-key", &["acme", "other"]));
    policy.authorization = allow(&["acme"], &[]);
    let mut denies = object(Kind::AuthPolicy, "late");
    denies.authorization = allow(&[], &[]).map(|mut all| {
        all.rules.iter_mut().for_each(|rule| rule.action = AuthorizationAction::Deny);
        all
    });
    let mut gate = Gate::new(&[policy, denies]);
    let mut by = |fields: &[(&str, &str)]| {
        let refusal = gate.ask_all(&super::support::header_map(fields), None).unwrap_err();
        gate.stage.refused_by(refusal)
    };
    assert_eq!(by(&[]).as_deref(), Some("AuthPolicy/shop/floor"));
    assert_eq!(by(&[("x-key", "key-of-other")]).as_deref(), Some("AuthPolicy/shop/floor"), "no rule took it");
    assert_eq!(by(&[("x-key", "key-of-acme")]).as_deref(), Some("AuthPolicy/shop/late known"));
}
