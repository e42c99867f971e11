//! Names and passwords: what is taken for one, who passes, and what is remembered of it.

use std::sync::Arc;

use http::HeaderMap;
use ir::{
    Auth, AuthMode, BasicAuth, BasicUser, HashScheme, Kind, ObjectRef, PasswordHash, Redacted, TokenSource,
};

use super::support::{
    Gate, auth, bearer_source, good_claims, header_map, hs256, jwk, provider, provider_with, secret,
};
use crate::filter::auth::refusal::AuthReason;
use crate::filter::auth::{AuthRefusal, AuthRefusalKind, AuthRequest, AuthStage, AuthStop, Identity};

/// SHA-1 of `password`.
const QUICK: &str = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";
/// bcrypt of `password` with the lowest costs.
const SLOW: &str = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";

fn user(name: &str, scheme: HashScheme, hash: &str) -> BasicUser {
    let hash = PasswordHash { scheme, text: Redacted::new(hash.to_owned()) };
    BasicUser { name: Redacted::new(name.to_owned()), hash }
}

fn basic(users: Vec<BasicUser>) -> Auth {
    let source = ObjectRef::new(Kind::Secret, "shop", "users");
    Auth {
        source: ObjectRef::new(Kind::AuthPolicy, "shop", "people"),
        mode: AuthMode::All,
        jwt: None,
        api_key: None,
        basic: Some(Arc::new(BasicAuth { source, realm: "the \"shop\"".to_owned(), users })),
        external: None,
        authorization: None,
    }
}

fn quick() -> Auth {
    basic(vec![user("ada", HashScheme::Sha1, QUICK), user("Ädä", HashScheme::Sha1, QUICK)])
}

fn slow() -> Auth {
    basic(vec![user("ada", HashScheme::Bcrypt, SLOW)])
}

fn encoded(text: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn line(text: &str) -> String {
    format!("Basic {}", encoded(text))
}

/// Asks as the pipeline does; also how many checks were made for it.
async fn ask(gate: &mut Gate, headers: &HeaderMap) -> (Result<Identity, AuthRefusal>, usize) {
    let mut answers = Vec::new();
    loop {
        let request = AuthRequest { headers, query: None, method: &gate.method, client: Some(gate.client) };
        match gate.stage.check(request, gate.now, &mut gate.cache, &answers) {
            Ok(identity) => return (Ok(identity), answers.len()),
            Err(AuthStop::Refused(refusal)) => return (Err(refusal), answers.len()),
            Err(AuthStop::Needs(need)) => answers.push(need.answer().await),
            Err(AuthStop::Asks(need)) => panic!("{need:?}"),
        }
    }
}

type Fields<'a> = &'a [(&'a str, &'a str)];

#[test]
fn only_a_known_name_with_its_password_passes() {
    let long = format!("ada:{}", "x".repeat(2000));
    let cases: [(&str, &[&str], Option<AuthReason>); 18] = [
        ("as it should be", &[&line("ada:password")], None),
        ("the scheme has no case", &["bAsIc YWRhOnBhc3N3b3Jk"], None),
        ("more blanks", &["Basic   YWRhOnBhc3N3b3Jk"], None),
        ("UTF-8", &[&line("Ädä:password")], None),
        ("nothing", &[], Some(AuthReason::PasswordMissing)),
        ("another scheme", &["Bearer YWRhOnBhc3N3b3Jk"], Some(AuthReason::PasswordMissing)),
        ("another scheme that begins alike", &["Basics YWRhOnBhc3N3b3Jk"], Some(AuthReason::PasswordMissing)),
        ("wrong password", &[&line("ada:Password")], Some(AuthReason::PasswordWrong)),
        ("unknown name", &[&line("eve:password")], Some(AuthReason::PasswordWrong)),
        ("a name has case", &[&line("Ada:password")], Some(AuthReason::PasswordWrong)),
        ("no password", &[&line("ada:")], Some(AuthReason::PasswordWrong)),
        ("no name", &[&line(":password")], Some(AuthReason::PasswordWrong)),
        ("the hash for a password", &[&line(&format!("ada:{QUICK}"))], Some(AuthReason::PasswordWrong)),
        ("no colon", &[&line("ada")], Some(AuthReason::CredentialsMalformed)),
        ("no base64", &["Basic ada:password"], Some(AuthReason::CredentialsMalformed)),
        ("control characters", &[&line("ada:pass\0word")], Some(AuthReason::CredentialsMalformed)),
        ("twice", &[&line("ada:password"), &line("ada:password")], Some(AuthReason::CredentialsMalformed)),
        ("too long", &[&line(&long)], Some(AuthReason::CredentialsMalformed)),
    ];
    for (name, lines, want) in cases {
        let lines: Vec<_> = lines.iter().map(|line| ("authorization", *line)).collect();
        assert_eq!(Gate::new(&[quick()]).ask(&lines).err(), want, "{name}");
    }
}

#[test]
fn a_base64_text_without_padding_is_taken() {
    let text = encoded("ada:password");
    let bare = text.trim_end_matches('=');
    assert!(Gate::new(&[quick()]).ask(&[("authorization", &format!("Basic {bare}"))]).is_ok());
}

#[test]
fn the_challenge_names_the_realm_as_a_quoted_string() {
    let mut gate = Gate::new(&[quick()]);
    let refusal = gate.ask_all(&HeaderMap::new(), None).unwrap_err();
    assert_eq!(refusal.kind(), AuthRefusalKind::Unauthenticated);
    assert_eq!(gate.stage.challenges(refusal), [r#"Basic realm="the \"shop\"", charset="UTF-8""#]);
}

#[test]
fn the_password_goes_no_further_and_other_credentials_stay() {
    let mut gate = Gate::new(&[quick()]);
    let mut headers = header_map(&[("authorization", &line("ada:password")), ("x-other", "1")]);
    let identity = gate.ask_all(&headers, None).unwrap();
    gate.stage.apply(&identity, &mut headers);
    assert_eq!(headers, header_map(&[("x-other", "1")]));

    let mut any = quick();
    any.mode = AuthMode::Any;
    any.jwt = auth(vec![provider()]).jwt;
    let mut gate = Gate::new(&[any]);
    let bearer = format!("Bearer {}", hs256(&good_claims()));
    let mut headers = header_map(&[("authorization", &bearer)]);
    let identity = gate.ask_all(&headers, None).unwrap();
    gate.stage.apply(&identity, &mut headers);
    assert_eq!(
        headers,
        header_map(&[("authorization", &bearer)]),
        "the token is forwarded as it was asked for"
    );
}

#[tokio::test]
async fn a_check_that_takes_time_is_made_beside_the_worker_and_once() {
    let mut gate = Gate::new(&[slow()]);
    let good = header_map(&[("authorization", &line("ada:password"))]);
    let bad = header_map(&[("authorization", &line("ada:passw0rd"))]);
    let nobody = header_map(&[("authorization", &line("eve:password"))]);
    for checks in [1, 0] {
        let (passed, made) = ask(&mut gate, &good).await;
        assert!(passed.is_ok());
        assert_eq!(made, checks);
        for wrong in [&bad, &nobody] {
            let (refused, made) = ask(&mut gate, wrong).await;
            assert_eq!(refused.unwrap_err().reason, AuthReason::PasswordWrong);
            assert_eq!(made, checks, "an unknown name costs what a known one does");
        }
    }
}

#[tokio::test]
async fn what_was_found_out_is_forgotten_with_the_users_and_kept_with_equal_ones() {
    let mut gate = Gate::new(&[slow()]);
    let good = header_map(&[("authorization", &line("ada:password"))]);
    assert!(ask(&mut gate, &good).await.0.is_ok());
    gate.stage = AuthStage::new(&[slow()], &mut gate.verifiers);
    assert_eq!(ask(&mut gate, &good).await.1, 0, "an equal Secret in the next generation");
    // The password of `other`, so that ada's old one is no longer right.
    let changed = "$2b$04$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";
    gate.stage =
        AuthStage::new(&[basic(vec![user("ada", HashScheme::Bcrypt, changed)])], &mut gate.verifiers);
    let (refused, made) = ask(&mut gate, &good).await;
    assert_eq!((refused.unwrap_err().reason, made), (AuthReason::PasswordWrong, 1));
}

#[test]
fn one_method_is_enough_where_the_object_says_any_and_all_are_needed_otherwise() {
    let mut by_cookie = provider();
    by_cookie.from = vec![TokenSource::Cookie { name: "at".to_owned() }];
    let mut both = quick();
    both.jwt = auth(vec![by_cookie]).jwt;
    let cookie = format!("at={}", hs256(&good_claims()));
    let (token, password) = (("cookie", &*cookie), ("authorization", &*line("ada:password")));
    let (bad_token, bad_password) = (("cookie", "at=x.y.z"), ("authorization", &*line("ada:no")));
    let cases: [(Fields<'_>, Option<AuthReason>, Option<AuthReason>); 8] = [
        (&[token, password], None, None),
        (&[token], Some(AuthReason::PasswordMissing), None),
        (&[password], Some(AuthReason::TokenMissing), None),
        (&[], Some(AuthReason::TokenMissing), Some(AuthReason::TokenMissing)),
        (&[token, bad_password], Some(AuthReason::PasswordWrong), None),
        (&[bad_token, password], Some(AuthReason::TokenMalformed), None),
        (&[bad_token], Some(AuthReason::TokenMalformed), Some(AuthReason::TokenMalformed)),
        (&[bad_password], Some(AuthReason::TokenMissing), Some(AuthReason::PasswordWrong)),
    ];
    for (headers, all, any) in cases {
        both.mode = AuthMode::All;
        assert_eq!(Gate::new(std::slice::from_ref(&both)).ask(headers).err(), all, "All: {headers:?}");
        both.mode = AuthMode::Any;
        assert_eq!(Gate::new(std::slice::from_ref(&both)).ask(headers).err(), any, "Any: {headers:?}");
    }
    let mut gate = Gate::new(&[both]);
    let refusal = gate.ask_all(&HeaderMap::new(), None).unwrap_err();
    let challenges = gate.stage.challenges(refusal);
    assert_eq!(challenges, ["Bearer", r#"Basic realm="the \"shop\"", charset="UTF-8""#], "either would do");
}

#[test]
fn a_token_that_did_not_count_is_hidden_too_where_tokens_are() {
    let mut hidden = provider();
    hidden.from = vec![TokenSource::Cookie { name: "at".to_owned() }];
    hidden.forward_token = false;
    let mut any = quick();
    any.mode = AuthMode::Any;
    any.jwt = auth(vec![hidden]).jwt;
    let mut gate = Gate::new(&[any]);
    let mut headers =
        header_map(&[("cookie", "at=x.y.z; other=1"), ("authorization", &line("ada:password"))]);
    let identity = gate.ask_all(&headers, None).unwrap();
    gate.stage.apply(&identity, &mut headers);
    assert_eq!(headers, header_map(&[("cookie", "other=1")]));
}

#[test]
fn every_object_must_be_satisfied_whatever_another_one_says() {
    // What stands below with mode Any, or with an optional token, takes nothing from what stands above.
    let mut any = quick();
    any.mode = AuthMode::Any;
    any.jwt = auth(vec![provider()]).jwt;
    let mut optional = auth(vec![provider_with(&[ir::Algorithm::HS256], vec![jwk(None, secret(b"other"))])]);
    if let Some(jwt) = &mut optional.jwt {
        jwt.optional = true;
    }
    let above = auth(vec![provider()]);
    assert_eq!(above.jwt.as_ref().unwrap().providers[0].from, [bearer_source()]);
    for below in [any, optional] {
        for auths in [[above.clone(), below.clone()], [below.clone(), above.clone()]] {
            let mut gate = Gate::new(&auths);
            let password = line("ada:password");
            assert_eq!(gate.ask(&[("authorization", &password)]).err(), Some(AuthReason::TokenMissing));
            assert_eq!(gate.ask(&[]).err(), Some(AuthReason::TokenMissing));
        }
    }
}
