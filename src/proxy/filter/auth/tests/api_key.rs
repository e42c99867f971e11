//! Keys of clients: where they stand, whose they are, and what goes on to the upstream.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use ir::{ApiKey, ApiKeys, Auth, AuthMode, Kind, ObjectRef, Redacted, TokenSource};

use super::support::{Gate, auth, good_claims, header_map, hs256, provider};
use crate::filter::auth::refusal::AuthReason;

const GOLD: &str = "gold-key-0123456789abcdef";
const NEXT: &str = "next-key-0123456789abcdef";

fn key(client: &str, key: &str) -> ApiKey {
    let source = ObjectRef::new(Kind::Secret, "shop", "gold");
    ApiKey { client: client.into(), source, key: Redacted::new(key.to_owned()) }
}

fn keys(keys: Vec<ApiKey>) -> Auth {
    let from = vec![
        TokenSource::Header { name: HeaderName::from_static("x-api-key"), prefix: String::new() },
        TokenSource::Header { name: http::header::AUTHORIZATION, prefix: "ApiKey ".to_owned() },
        TokenSource::Query { name: "api_key".to_owned() },
        TokenSource::Cookie { name: "key".to_owned() },
    ];
    let client_id_header = Some(HeaderName::from_static("x-client"));
    Auth {
        source: ObjectRef::new(Kind::AuthPolicy, "shop", "clients"),
        mode: AuthMode::All,
        jwt: None,
        api_key: Some(Arc::new(ApiKeys {
            selector: vec!["tier=gold".to_owned()],
            keys,
            from,
            client_id_header,
        })),
        basic: None,
        external: None,
        authorization: None,
    }
}

fn two_clients() -> Auth {
    keys(vec![key("acme", GOLD), key("acme", NEXT), key("other", "other-key-0123456789abcde")])
}

/// What goes on to the upstream, headers and query.
fn passed(gate: &mut Gate, headers: &[(&str, &str)], query: Option<&str>) -> (HeaderMap, Option<String>) {
    let mut headers = header_map(headers);
    let identity = gate.ask_all(&headers, query).expect("a good key");
    let query =
        query.map(|query| gate.stage.forwarded_query(&identity, query).unwrap_or_else(|| query.to_owned()));
    gate.stage.apply(&identity, &mut headers);
    (headers, query)
}

type Fields<'a> = &'a [(&'a str, &'a str)];

#[test]
fn a_key_is_found_in_each_place_and_goes_no_further_and_the_upstream_learns_whose_it_was() {
    let mut gate = Gate::new(&[two_clients()]);
    let want = header_map(&[("x-client", "acme")]);
    for key in [GOLD, NEXT] {
        let bearer = format!("apikey {key}");
        let cookie = format!("key={key}");
        for headers in [[("x-api-key", key)], [("authorization", &*bearer)], [("cookie", &*cookie)]] {
            assert_eq!(passed(&mut gate, &headers, None), (want.clone(), None), "{headers:?}");
        }
        let query = format!("a=1&api_key={key}&b=2");
        assert_eq!(passed(&mut gate, &[], Some(&query)), (want.clone(), Some("a=1&b=2".to_owned())));
    }
}

#[test]
fn nobody_says_himself_who_he_is() {
    let mut gate = Gate::new(&[two_clients()]);
    let forged = [("x-api-key", GOLD), ("x-client", "root"), ("X_Client", "root")];
    assert_eq!(passed(&mut gate, &forged, None).0, header_map(&[("x-client", "acme")]));
}

#[test]
fn what_is_no_key_of_a_client_is_refused() {
    let mut gate = Gate::new(&[two_clients()]);
    let upper = GOLD.to_uppercase();
    let cases: [(Fields<'_>, Option<&str>, AuthReason); 8] = [
        (&[], None, AuthReason::ApiKeyMissing),
        (&[("authorization", "Bearer x")], None, AuthReason::ApiKeyMissing),
        (&[("x-api-key", "acme")], None, AuthReason::ApiKeyUnknown),
        (&[("x-api-key", &upper)], None, AuthReason::ApiKeyUnknown),
        (&[("x-api-key", &GOLD[..24])], None, AuthReason::ApiKeyUnknown),
        (&[("x-api-key", "")], None, AuthReason::ApiKeyMalformed),
        (&[("x-api-key", GOLD), ("x-api-key", GOLD)], None, AuthReason::ApiKeyMalformed),
        (&[("x-api-key", GOLD)], Some("api_key=gold"), AuthReason::ApiKeyMalformed),
    ];
    for (headers, query, want) in cases {
        let refusal = gate.ask_all(&header_map(headers), query).unwrap_err();
        assert_eq!(refusal.reason, want, "{headers:?} {query:?}");
        assert_eq!(gate.stage.challenges(refusal), ["ApiKey"]);
    }
    let mut nobody = Gate::new(&[keys(Vec::new())]);
    assert_eq!(nobody.ask(&[("x-api-key", GOLD)]).err(), Some(AuthReason::ApiKeyUnknown));
}

#[test]
fn a_token_or_a_key_is_enough_where_the_object_says_any_and_the_key_is_hidden_either_way() {
    let mut any = two_clients();
    any.mode = AuthMode::Any;
    any.jwt = auth(vec![provider()]).jwt;
    let mut gate = Gate::new(&[any]);
    let bearer = format!("Bearer {}", hs256(&good_claims()));
    let (with_token, _) = passed(&mut gate, &[("authorization", &bearer), ("x-api-key", GOLD)], None);
    assert_eq!(with_token, header_map(&[("authorization", &bearer)]), "the token was enough");
    let (with_key, _) = passed(&mut gate, &[("x-api-key", GOLD)], None);
    assert_eq!(with_key, header_map(&[("x-client", "acme")]));
    let refusal = gate.ask_all(&HeaderMap::new(), None).unwrap_err();
    assert_eq!(gate.stage.challenges(refusal), ["Bearer", "ApiKey"]);
}

#[test]
fn no_key_is_printed() {
    let mut gate = Gate::new(&[two_clients()]);
    let identity = gate.ask_all(&header_map(&[("x-api-key", GOLD)]), None).expect("a good key");
    let printed = format!("{:?} {:?} {identity:?} {:?}", two_clients(), gate.stage, gate.verifiers);
    assert!(!printed.contains(GOLD), "{printed}");
}
