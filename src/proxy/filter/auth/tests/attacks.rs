//! The catalogue of attacks on tokens, JW01 to JW09, line by line.

use std::time::{Duration, Instant};

use ir::{Algorithm, JwkMaterial, TokenSource};
use serde_json::json;

use super::support::{
    Gate, Lines, NOW, SECRET, b64, bearer_source, claims_with, der, good_claims, header_map, hmac_token,
    hs256, jwk, material, provider, provider_with, raw_signature, raw_token, secret, token, un64,
};
use crate::filter::auth::AuthRefusalKind;
use crate::filter::auth::refusal::AuthReason;

const RSA_PUBLIC_PEM: &str = include_str!("testdata/rsa-public.pem");

#[test]
fn jw01_alg_none_and_other_part_counts_are_refused() {
    let mut gate = Gate::of(provider());
    let payload = b64(good_claims().to_string());
    let none =
        |alg: &str, signature: &str| format!("{}.{payload}.{signature}", b64(format!("{{\"alg\":{alg}}}")));
    let good = hs256(&good_claims());
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let cases = [
        ("none", none("\"none\"", ""), AuthReason::AlgorithmNotAllowed),
        ("None", none("\"None\"", ""), AuthReason::AlgorithmNotAllowed),
        ("NONE", none("\"NONE\"", ""), AuthReason::AlgorithmNotAllowed),
        ("nOnE with a signature", none("\"nOnE\"", signature), AuthReason::AlgorithmNotAllowed),
        ("lower case", none("\"hs256\"", signature), AuthReason::AlgorithmNotAllowed),
        ("null", none("null", signature), AuthReason::TokenMalformed),
        ("number", none("256", signature), AuthReason::TokenMalformed),
        ("list", none("[\"HS256\"]", signature), AuthReason::TokenMalformed),
        ("no alg", format!("{}.{payload}.{signature}", b64("{}")), AuthReason::TokenMalformed),
        ("empty signature", format!("{signed}."), AuthReason::TokenMalformed),
        ("two parts", signed.to_owned(), AuthReason::TokenMalformed),
        ("two dots only", "..".to_owned(), AuthReason::TokenMalformed),
        ("one dot", ".".to_owned(), AuthReason::TokenMalformed),
        ("four parts", format!("{good}.x"), AuthReason::TokenMalformed),
        ("five parts (JWE)", format!("{good}.x.x"), AuthReason::TokenMalformed),
        ("no header", format!(".{payload}.{signature}"), AuthReason::TokenMalformed),
        ("header no object", format!("{}.{payload}.{signature}", b64("[]")), AuthReason::TokenMalformed),
        ("padding", format!("{good}="), AuthReason::TokenMalformed),
        ("standard alphabet", format!("{signed}.+/{signature}"), AuthReason::TokenMalformed),
        ("blank inside", format!("{signed}. {signature}"), AuthReason::TokenMalformed),
    ];
    for (name, token, want) in cases {
        assert_eq!(gate.reason(&token), Some(want), "{name}");
    }
    assert_eq!(gate.reason(&good), None, "the good token passes");
}

#[test]
fn jw01_bits_left_over_in_base64url_are_refused() {
    let mut gate = Gate::of(provider());
    let good = hs256(&good_claims());
    assert_eq!(gate.reason(&good), None);
    // 32 bytes are 43 characters with two bits left over, which must be zero: the same bytes, another text.
    let last = good.chars().last().expect("a signature");
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let index = alphabet.find(last).expect("base64url");
    for bits in 1..4 {
        let other = alphabet.chars().nth(index + bits).expect("the last two bits are zero");
        let forged = format!("{}{other}", &good[..good.len() - 1]);
        assert_eq!(gate.reason(&forged), Some(AuthReason::SignatureInvalid), "{bits}");
    }
}

#[test]
fn jw02_hs256_signed_with_the_public_key_is_refused() {
    let rsa = jwk(None, material(Algorithm::RS256));
    let elliptic = jwk(None, material(Algorithm::ES256));
    let (n, e, x, y) = match (material(Algorithm::RS256), material(Algorithm::ES256)) {
        (JwkMaterial::Rsa { n, e }, JwkMaterial::P256 { x, y }) => (n, e, x, y),
        other => panic!("unexpected keys {other:?}"),
    };
    let public_der = der(RSA_PUBLIC_PEM);
    let jwk_json = format!("{{\"kty\":\"RSA\",\"n\":\"{}\",\"e\":\"{}\"}}", b64(&n), b64(&e));
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    let secrets: [(&str, Vec<u8>); 9] = [
        ("PEM", RSA_PUBLIC_PEM.as_bytes().to_vec()),
        ("PEM without its last line break", RSA_PUBLIC_PEM.trim_end().as_bytes().to_vec()),
        ("DER", public_der),
        ("JWK JSON", jwk_json.into_bytes()),
        ("modulus", n.clone()),
        ("modulus as text", b64(&n).into_bytes()),
        ("EC point", point),
        ("EC x", x),
        ("empty", Vec::new()),
    ];
    // Where HS256 is not allowed, and where it is allowed beside an asymmetric key (a misuse that must not hurt).
    for allowed in
        [vec![Algorithm::RS256, Algorithm::ES256], vec![Algorithm::RS256, Algorithm::ES256, Algorithm::HS256]]
    {
        let mut gate = Gate::of(provider_with(&allowed, vec![rsa.clone(), elliptic.clone()]));
        for (name, secret) in &secrets {
            let forged = hmac_token(secret, "{\"alg\":\"HS256\"}", &good_claims().to_string());
            assert_eq!(gate.reason(&forged), Some(AuthReason::AlgorithmNotAllowed), "{name} {allowed:?}");
        }
        assert_eq!(gate.reason(&token(Algorithm::RS256, &good_claims())), None);
        assert_eq!(gate.reason(&token(Algorithm::ES256, &good_claims())), None);
    }
}

#[test]
fn jw02_the_algorithm_of_a_key_wins_over_the_token() {
    let mut rsa = jwk(None, material(Algorithm::RS256));
    rsa.algorithm = Some(Algorithm::RS256);
    let allowed = [Algorithm::RS256, Algorithm::RS384, Algorithm::PS256];
    let mut gate = Gate::of(provider_with(&allowed, vec![rsa]));
    assert_eq!(gate.reason(&token(Algorithm::RS256, &good_claims())), None);
    for other in [Algorithm::RS384, Algorithm::PS256] {
        let reason = gate.reason(&token(other, &good_claims()));
        assert_eq!(reason, Some(AuthReason::AlgorithmNotAllowed), "{other:?}");
    }
}

#[test]
fn jw03_keys_in_the_header_are_never_used() {
    let mut gate = Gate::of(provider());
    let payload = good_claims().to_string();
    let attacker = b"the attacker's own secret";
    let key = b64(attacker);
    let hints = [
        format!("\"jwk\":{{\"kty\":\"oct\",\"k\":\"{key}\"}}"),
        "\"jku\":\"http://127.0.0.1:1/jwks\"".to_owned(),
        "\"x5u\":\"http://169.254.169.254/\"".to_owned(),
        format!("\"x5c\":[\"{key}\"]"),
    ];
    for hint in hints {
        let header = format!("{{\"alg\":\"HS256\",{hint}}}");
        let forged = hmac_token(attacker, &header, &payload);
        assert_eq!(gate.reason(&forged), Some(AuthReason::SignatureInvalid), "{hint}");
        // Ignored, not obeyed: with the right signature the same header does no harm.
        assert_eq!(gate.reason(&hmac_token(SECRET, &header, &payload)), None, "{hint}");
    }
}

#[test]
fn jw03_kid_is_only_compared() {
    let keys =
        vec![jwk(Some("a"), secret(SECRET)), jwk(Some("b"), secret(b"another")), jwk(None, secret(b""))];
    let mut gate = Gate::of(provider_with(&[Algorithm::HS256], keys));
    let payload = good_claims().to_string();
    let long = "k".repeat(5 * 1024);
    let huge = "k".repeat(10 * 1024);
    let cases = [
        ("\"a\"", None),
        ("\"A\"", Some(AuthReason::KeyUnknown)),
        ("\"b\"", Some(AuthReason::SignatureInvalid)),
        ("\"\"", Some(AuthReason::KeyUnknown)),
        ("\"../../dev/null\"", Some(AuthReason::KeyUnknown)),
        ("\"/dev/null\"", Some(AuthReason::KeyUnknown)),
        ("\"a' OR '1'='1\"", Some(AuthReason::KeyUnknown)),
        ("\"a\\u0000\"", Some(AuthReason::KeyUnknown)),
        ("null", Some(AuthReason::TokenMalformed)),
        ("0", Some(AuthReason::TokenMalformed)),
        ("[\"a\"]", Some(AuthReason::TokenMalformed)),
        ("{\"a\":1}", Some(AuthReason::TokenMalformed)),
        (&format!("\"{long}\""), Some(AuthReason::KeyUnknown)),
        (&format!("\"{huge}\""), Some(AuthReason::TokenTooLong)),
    ];
    for (kid, want) in cases {
        let token = hmac_token(SECRET, &format!("{{\"alg\":\"HS256\",\"kid\":{kid}}}"), &payload);
        assert_eq!(gate.reason(&token), want, "{}", &kid[..kid.len().min(40)]);
    }
    // The empty key is not one that an attacker could use.
    let empty = hmac_token(b"", "{\"alg\":\"HS256\"}", &payload);
    assert_eq!(gate.reason(&empty), Some(AuthReason::SignatureInvalid));
}

#[test]
fn jw03_keys_without_kid_are_tried_for_a_token_with_one() {
    let named = |header: &str| hmac_token(SECRET, header, &good_claims().to_string());
    let good = named("{\"alg\":\"HS256\",\"kid\":\"k\"}");
    let other = || jwk(Some("other"), secret(SECRET));
    let wrong = |count: usize| (0..count).map(|n| jwk(None, secret(format!("wrong {n}").as_bytes())));
    let raw = || jwk(None, secret(SECRET));
    let cases = [
        ("a raw key", vec![raw()], None),
        ("beside keys of other names", vec![other(), raw(), other()], None),
        ("another name only", vec![other()], Some(AuthReason::KeyUnknown)),
        ("another raw key", wrong(1).collect(), Some(AuthReason::SignatureInvalid)),
        ("the key of the name is wrong", vec![jwk(Some("k"), secret(b"wrong")), raw()], None),
        ("within the bound", wrong(15).chain([raw()]).collect(), None),
        ("beyond the bound", wrong(16).chain([raw()]).collect(), Some(AuthReason::SignatureInvalid)),
        ("the name goes first", wrong(16).chain([jwk(Some("k"), secret(SECRET))]).collect(), None),
    ];
    for (name, keys, want) in cases {
        let mut gate = Gate::of(provider_with(&[Algorithm::HS256], keys));
        assert_eq!(gate.reason(&good), want, "{name}");
    }
    // The algorithm stays that of the key.
    let pinned = ir::Jwk { algorithm: Some(Algorithm::HS512), ..raw() };
    let mut gate = Gate::of(provider_with(&[Algorithm::HS256, Algorithm::HS512], vec![pinned]));
    assert_eq!(gate.reason(&good), Some(AuthReason::AlgorithmNotAllowed));
}

#[test]
fn jw03_a_token_without_kid_tries_a_bounded_number_of_keys() {
    let decoys = |count: u8| (0..count).map(|n| jwk(Some("decoy"), secret(&[n, 1]))).collect::<Vec<_>>();
    for (before, want) in [(15, None), (16, Some(AuthReason::SignatureInvalid))] {
        let mut keys = decoys(before);
        keys.push(jwk(Some("a"), secret(SECRET)));
        let mut gate = Gate::of(provider_with(&[Algorithm::HS256], keys));
        assert_eq!(gate.reason(&hs256(&good_claims())), want, "{before} keys before the right one");
    }
}

#[test]
fn jw04_crit_and_b64_are_refused() {
    let mut gate = Gate::of(provider());
    let payload = good_claims().to_string();
    let cases = [
        ("\"crit\":[\"x\"],\"x\":1", Some(AuthReason::HeaderUnsupported)),
        ("\"crit\":[\"exp\"],\"exp\":1", Some(AuthReason::HeaderUnsupported)),
        ("\"crit\":[]", Some(AuthReason::HeaderUnsupported)),
        ("\"crit\":null", Some(AuthReason::HeaderUnsupported)),
        ("\"crit\":[\"b64\"],\"b64\":false", Some(AuthReason::HeaderUnsupported)),
        ("\"b64\":false", Some(AuthReason::HeaderUnsupported)),
        ("\"b64\":0", Some(AuthReason::HeaderUnsupported)),
        ("\"b64\":true", None),
        ("\"Crit\":[\"x\"]", None),
        ("\"alg\":\"HS256\"", Some(AuthReason::TokenMalformed)),
        ("\"kid\":\"a\",\"kid\":\"b\"", Some(AuthReason::TokenMalformed)),
    ];
    for (member, want) in cases {
        let token = hmac_token(SECRET, &format!("{{\"alg\":\"HS256\",{member}}}"), &payload);
        assert_eq!(gate.reason(&token), want, "{member}");
    }
    // An unencoded payload, signed as RFC 7797 says.
    let header = b64("{\"alg\":\"HS256\",\"b64\":false,\"crit\":[\"b64\"]}");
    let signature = b64(raw_signature(Algorithm::HS256, &format!("{header}.{payload}")));
    assert!(gate.reason(&format!("{header}.{payload}.{signature}")).is_some());
}

#[test]
fn jw05_times_hold_to_the_second_and_wrong_types_are_refused() {
    let expired = Some(AuthReason::TokenExpired);
    let early = Some(AuthReason::TokenNotYetValid);
    let wrong = Some(AuthReason::ClaimWrongType);
    let malformed = Some(AuthReason::ClaimsMalformed);
    let at = |offset: i64| (i64::try_from(NOW).expect("a date") + offset).to_string();
    // The skew of the provider is 30 s.
    let cases = [
        ("exp", at(1), None),
        ("exp", at(-29), None),
        ("exp", at(-30), expired),
        ("exp", at(-31), expired),
        ("exp", format!("{}.5", NOW + 600), wrong),
        ("exp", format!("{}.0", NOW + 600), wrong),
        ("exp", "0".to_owned(), expired),
        ("exp", "-0.0".to_owned(), wrong),
        ("exp", "18446744073709551615".to_owned(), None),
        ("exp", "1e30".to_owned(), wrong),
        ("exp", "1e400".to_owned(), malformed),
        ("exp", "NaN".to_owned(), malformed),
        ("exp", "Infinity".to_owned(), malformed),
        ("exp", "-1".to_owned(), wrong),
        ("exp", "-0.5".to_owned(), wrong),
        ("exp", format!("\"{}\"", NOW + 600), wrong),
        ("exp", "true".to_owned(), wrong),
        ("exp", format!("[{}]", NOW + 600), wrong),
        ("exp", "{}".to_owned(), wrong),
        ("exp", "null".to_owned(), Some(AuthReason::ClaimMissing)),
        ("nbf", at(30), None),
        ("nbf", at(31), early),
        ("nbf", format!("{}.5", NOW - 30), wrong),
        ("nbf", "1e30".to_owned(), wrong),
        ("nbf", "\"0\"".to_owned(), wrong),
        ("nbf", "null".to_owned(), wrong),
        ("nbf", "-1".to_owned(), wrong),
        ("nbf", "1e400".to_owned(), malformed),
        ("iat", at(30), None),
        ("iat", at(31), early),
        ("iat", "\"0\"".to_owned(), wrong),
        ("iat", "[]".to_owned(), wrong),
        ("iat", "-1".to_owned(), wrong),
    ];
    let mut gate = Gate::of(provider());
    for (claim, value, want) in cases {
        let mut claims = good_claims().to_string();
        let known = format!("\"{claim}\":");
        if claim == "exp" || claim == "iat" {
            let start = claims.find(&known).expect("the claim");
            let end = start + claims[start..].find([',', '}']).expect("its end");
            claims.replace_range(start..end, &format!("{known}{value}"));
        } else {
            claims = claims.replacen('{', &format!("{{{known}{value},"), 1);
        }
        let token = raw_token(Algorithm::HS256, "{\"alg\":\"HS256\"}", &claims);
        assert_eq!(gate.reason(&token), want, "{claim} = {value}");
    }
    let without = hs256(&claims_with(json!({"exp": null})));
    assert_eq!(gate.reason(&without), Some(AuthReason::ClaimMissing), "no exp");
}

#[test]
fn jw05_exp_is_required_whatever_the_provider_says_and_skew_is_at_most_a_minute() {
    let mut lax = provider();
    lax.required_claims.clear();
    lax.clock_skew = Duration::from_secs(3600);
    let mut gate = Gate::of(lax);
    let cases = [
        (json!({"exp": null}), Some(AuthReason::ClaimMissing)),
        (json!({"exp": NOW - 59}), None),
        (json!({"exp": NOW - 60}), Some(AuthReason::TokenExpired)),
    ];
    for (changes, want) in cases {
        assert_eq!(gate.reason(&hs256(&claims_with(changes.clone()))), want, "{changes}");
    }
}

#[test]
fn jw06_issuer_audience_and_subject_must_fit() {
    let mut gate = Gate::of(provider());
    let issuer = Some(AuthReason::IssuerMismatch);
    let audience = Some(AuthReason::AudienceMismatch);
    let wrong = Some(AuthReason::ClaimWrongType);
    let cases = [
        (json!({"iss": null}), issuer),
        (json!({"iss": ""}), issuer),
        (json!({"iss": "https://id.example.com"}), issuer),
        (json!({"iss": "https://ID.example.com/"}), issuer),
        (json!({"iss": "https://id.example.com/\u{0}"}), issuer),
        (json!({"iss": ["https://id.example.com/"]}), wrong),
        (json!({"iss": 1}), wrong),
        (json!({"aud": null}), audience),
        (json!({"aud": ""}), audience),
        (json!({"aud": "shop"}), audience),
        (json!({"aud": "shop-api "}), audience),
        (json!({"aud": []}), audience),
        (json!({"aud": ["other", "shop-api"]}), None),
        (json!({"aud": ["other"]}), audience),
        (json!({"aud": ["shop-api", 1]}), wrong),
        (json!({"aud": [["shop-api"]]}), wrong),
        (json!({"aud": {"shop-api": true}}), wrong),
        (json!({"aud": true}), wrong),
        (json!({"sub": null}), None),
        (json!({"sub": 7}), wrong),
        (json!({"sub": ["alice"]}), wrong),
        (json!({"sub": true}), wrong),
    ];
    for (changes, want) in cases {
        assert_eq!(gate.reason(&hs256(&claims_with(changes.clone()))), want, "{changes}");
    }
    // `claims_with` takes null for "absent"; here it stands.
    for (claim, want) in [("sub", Some(AuthReason::ClaimMissing)), ("iss", issuer), ("aud", audience)] {
        let mut claims = good_claims();
        claims[claim] = serde_json::Value::Null;
        assert_eq!(gate.reason(&hs256(&claims)), want, "{claim}: null");
    }
}

#[test]
fn jw06_duplicate_names_are_refused_at_every_depth() {
    let mut gate = Gate::of(provider());
    let good = good_claims().to_string();
    let members = [
        "\"sub\":\"mallory\"",
        "\"exp\":9999999999",
        "\"a\":1,\"a\":1",
        "\"realm\":{\"roles\":[],\"roles\":[\"admin\"]}",
        "\"list\":[{\"a\":1,\"\\u0061\":2}]",
    ];
    for member in members {
        let claims = good.replacen('{', &format!("{{{member},"), 1);
        let token = raw_token(Algorithm::HS256, "{\"alg\":\"HS256\"}", &claims);
        assert_eq!(gate.reason(&token), Some(AuthReason::ClaimsMalformed), "{member}");
    }
    for claims in ["[]", "null", "\"x\"", "{}{}", "{", "", "{\"a\":1}x", "\u{feff}{}"] {
        let token = raw_token(Algorithm::HS256, "{\"alg\":\"HS256\"}", claims);
        assert!(gate.reason(&token).is_some(), "{claims}");
    }
}

#[test]
fn jw07_huge_and_deep_tokens_cost_less_than_a_millisecond() {
    let keys = vec![jwk(None, secret(SECRET)), jwk(None, material(Algorithm::ES256))];
    let mut gate = Gate::of(provider_with(&[Algorithm::HS256, Algorithm::ES256], keys));
    let header = "{\"alg\":\"HS256\"}";
    let deep = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    let deep_objects = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let padded = |bytes: usize| claims_with(json!({"pad": "x".repeat(bytes)})).to_string();
    let signed = format!("{}.{}", b64("{\"alg\":\"ES256\"}"), b64(good_claims().to_string()));
    let cases = [
        ("64 KiB", hmac_token(SECRET, header, &padded(48 << 10)), AuthReason::TokenTooLong),
        ("1 MB of claims", hmac_token(SECRET, header, &padded(1_000_000)), AuthReason::TokenTooLong),
        ("21,830 characters of ES256", format!("{signed}.{}", "A".repeat(21_830)), AuthReason::TokenTooLong),
        (
            "7,000 characters of ES256",
            format!("{signed}.{}", "A".repeat(7_000)),
            AuthReason::SignatureInvalid,
        ),
        ("10,000 arrays", hmac_token(SECRET, header, &deep(10_000)), AuthReason::TokenTooLong),
        ("10,000 objects", hmac_token(SECRET, header, &deep_objects), AuthReason::TokenTooLong),
        ("2,500 arrays", hmac_token(SECRET, header, &deep(2_500)), AuthReason::ClaimsMalformed),
        ("32 arrays in an object", hmac_token(SECRET, header, &deep(32)), AuthReason::ClaimsMalformed),
        ("deep header", hmac_token(SECRET, &deep(2_500), "{}"), AuthReason::TokenMalformed),
        ("31 arrays in an object", hmac_token(SECRET, header, &deep(31)), AuthReason::ClaimMissing),
        ("dots", ".".repeat(64 << 10), AuthReason::TokenTooLong),
    ];
    for (name, token, want) in cases {
        // The fastest of some tries: the machine may be busy with other things.
        let mut fastest = Duration::MAX;
        let headers = header_map(&[("authorization", &format!("Bearer {token}"))]);
        for _ in 0..20 {
            let started = Instant::now();
            let refusal = gate.ask_all(&headers, None).err();
            fastest = fastest.min(started.elapsed());
            assert_eq!(refusal.map(|refusal| refusal.reason), Some(want), "{name}");
        }
        assert!(fastest < Duration::from_millis(1), "{name} took {fastest:?}");
    }
    let query = format!("access_token={}", "%41".repeat(64 << 10));
    let mut by_query = provider();
    by_query.from = vec![TokenSource::Query { name: "access_token".to_owned() }];
    let refusal = Gate::of(by_query).ask_all(&header_map(&[]), Some(&query)).err();
    assert_eq!(refusal.map(|refusal| refusal.reason), Some(AuthReason::TokenTooLong), "not even decoded");
    assert_eq!(gate.cache.stats().entries, 0, "nothing bad is kept");
    assert_eq!(gate.reason(&hmac_token(SECRET, header, &padded(5_000))), None, "long but good");
}

#[test]
fn jw08_one_token_a_request() {
    let everywhere = |mut provider: ir::JwtProvider| {
        provider.from = vec![
            bearer_source(),
            TokenSource::Cookie { name: "at".to_owned() },
            TokenSource::Query { name: "access_token".to_owned() },
        ];
        provider
    };
    let t = hs256(&good_claims());
    let bearer = format!("Bearer {t}");
    let cookie = format!("a=b; at={t}");
    let two_cookies = format!("at={t}; at={t}");
    let joined = format!("Bearer {t}, Bearer {t}");
    let query = format!("access_token={t}");
    let encoded = format!("x=1&access%5Ftoken={}", t.replace('.', "%2E"));
    let two_queries = format!("{query}&x=1&{query}");
    let hidden_second = format!("{query}&access_t%6Fken=x");
    let several = Some(AuthReason::SeveralTokens);
    type Case<'a> = (&'a str, Lines<'a>, Option<&'a str>, Option<AuthReason>);
    let cases: [Case<'_>; 13] = [
        ("header", &[("authorization", &bearer)], None, None),
        ("cookie", &[("cookie", &cookie)], None, None),
        ("query", &[], Some(&query), None),
        ("encoded query", &[], Some(&encoded), None),
        ("two headers", &[("authorization", &bearer), ("authorization", &bearer)], None, several),
        ("Basic and Bearer", &[("authorization", "Basic YTpi"), ("authorization", &bearer)], None, several),
        ("joined headers", &[("authorization", &joined)], None, several),
        ("header and query", &[("authorization", &bearer)], Some(&query), several),
        ("header and cookie", &[("authorization", &bearer), ("cookie", &cookie)], None, several),
        ("two cookies", &[("cookie", &two_cookies)], None, several),
        ("two cookie lines", &[("cookie", &cookie), ("cookie", &cookie)], None, several),
        ("two parameters", &[], Some(&two_queries), several),
        ("a second one in disguise", &[], Some(&hidden_second), several),
    ];
    let mut gate = Gate::of(everywhere(provider()));
    for (name, headers, query, want) in cases {
        let refusal = gate.ask_all(&header_map(headers), query).err();
        assert_eq!(refusal.map(|refusal| refusal.reason), want, "{name}");
        if let Some(refusal) = refusal {
            assert_eq!(refusal.kind(), AuthRefusalKind::Unauthenticated, "{name}");
        }
    }
    // What is not configured does not count: neither as a token nor as a second one.
    let mut header_only = Gate::of(provider());
    let headers = header_map(&[("authorization", &bearer), ("cookie", &cookie)]);
    assert!(header_only.ask_all(&headers, Some(&query)).is_ok());
    let nothing = header_only.ask_all(&header_map(&[]), Some(&query));
    assert_eq!(nothing.err().map(|refusal| refusal.reason), Some(AuthReason::TokenMissing));
}

#[test]
fn jw08_schemes_are_compared_without_case_and_written_exactly() {
    let mut gate = Gate::of(provider());
    let t = hs256(&good_claims());
    let malformed = Some(AuthReason::TokenMalformed);
    let missing = Some(AuthReason::TokenMissing);
    let cases = [
        (format!("bearer {t}"), None),
        (format!("BEARER {t}"), None),
        (format!("bEaReR   {t}"), None),
        (format!("Bearer\t{t}"), malformed),
        (format!("Bearer \t{t}"), malformed),
        (format!("Bearer {t}\t"), malformed),
        (format!("Bearer {t} x"), malformed),
        (format!("Bearer \"{t}\""), malformed),
        ("Bearer".to_owned(), malformed),
        ("Bearer ".to_owned(), malformed),
        (format!("Bearer{t}"), missing),
        (format!("Bearer: {t}"), missing),
        (format!("Token {t}"), missing),
        (t.clone(), missing),
        ("Basic YTpi".to_owned(), missing),
        (String::new(), missing),
    ];
    for (value, want) in cases {
        let reason = gate.ask(&[("authorization", &value)]).err();
        assert_eq!(reason, want, "{}", value.replace(&t, "TOKEN"));
    }
}

/// A 1,024-bit modulus and a token that its key has really signed.
const RSA_1024_N: &str = "53ekeux1PK9MGoq-X5Tg1z96AG5fXfio1alR_gpfrEMUZa1T_bcwctoUSoLJzIjkhc-kaF_i3eLpstLlN57JNEa9l8KYykksMl2l7o5uJMrnoUn9bQaGCmWZscdwxMp0zxFuykR5iB3k0ZobADNvKFT8cOu_QXR66q75WTvlvk8";
const RSA_1024_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tLyIsImF1ZCI6InNob3AtYXBpIiwic3ViIjoiYWxpY2UiLCJleHAiOjE4MDAwMDA2MDB9.Wp8IBJhH81KHvGOanYZhVmFatbypoKElAGjLQQKh9hZYhSheC0vdm_vEGb7hP_yAxFCNXID2uLjkFRbBkWvIp4aluL8RQFl8JC68yLWq0_YvuvtsaIlWEKY9Qk36mj0ZWbzVmV_VklImBbRmsTc4A5RFM8XjHe-OXEeT12E0sl4";

#[test]
fn jw09_a_valid_signature_of_rsa_1024_is_refused() {
    let weak = jwk(None, JwkMaterial::Rsa { n: un64(RSA_1024_N), e: vec![1, 0, 1] });
    let mut gate = Gate::of(provider_with(&[Algorithm::RS256], vec![weak]));
    assert_eq!(gate.reason(RSA_1024_TOKEN), Some(AuthReason::KeyUnknown));
}

#[test]
fn jw09_a_small_order_key_lets_nobody_in() {
    // With the neutral element as the key, R = neutral and S = 0 satisfy the equation for every message.
    let mut neutral = [0_u8; 32];
    neutral[0] = 1;
    let message = format!("{}.{}", b64("{\"alg\":\"EdDSA\"}"), b64(good_claims().to_string()));
    let forged = format!("{message}.{}", b64([neutral, [0; 32]].concat()));
    let bare = jsonwebtoken::DecodingKey::from_ed_der(&neutral);
    let signature = forged.rsplit_once('.').expect("three parts").1;
    let taken =
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &bare, jsonwebtoken::Algorithm::EdDSA);
    assert_eq!(taken.ok(), Some(true), "the library itself is fooled, so the check at load is needed");

    let key = jwk(None, JwkMaterial::Ed25519 { x: neutral.to_vec() });
    let mut gate = Gate::of(provider_with(&[Algorithm::EdDSA], vec![key]));
    assert_eq!(gate.reason(&forged), Some(AuthReason::KeyUnknown));
    let mut honest =
        Gate::of(provider_with(&[Algorithm::EdDSA], vec![jwk(None, material(Algorithm::EdDSA))]));
    assert_eq!(honest.reason(&forged), Some(AuthReason::SignatureInvalid));
}

#[test]
fn jw09_degenerate_and_damaged_signatures_are_refused() {
    for algorithm in super::support::ALL {
        let mut gate = Gate::of(provider_with(&[algorithm], vec![jwk(None, material(algorithm))]));
        let good = token(algorithm, &good_claims());
        assert_eq!(gate.reason(&good), None, "{algorithm:?} passes");
        let (signed, signature) = good.rsplit_once('.').expect("three parts");
        let bytes = un64(signature);
        let half = bytes.len() / 2;
        let mut flipped = bytes.clone();
        flipped[0] ^= 1;
        let mut high = bytes.clone();
        high[half..].fill(0xff);
        let damaged = [
            ("r = 0", [vec![0; half], bytes[half..].to_vec()].concat()),
            ("s = 0", [bytes[..half].to_vec(), vec![0; bytes.len() - half]].concat()),
            ("all 0", vec![0; bytes.len()]),
            ("s too large", high),
            ("one bit", flipped),
            ("shorter", bytes[..bytes.len() - 1].to_vec()),
            ("longer", [bytes.as_slice(), &[0]].concat()),
            ("one byte", vec![0]),
        ];
        for (name, bytes) in damaged {
            let reason = gate.reason(&format!("{signed}.{}", b64(bytes)));
            assert_eq!(reason, Some(AuthReason::SignatureInvalid), "{algorithm:?} {name}");
        }
    }
}

#[test]
fn no_bytes_pass_or_panic() {
    let mut everywhere = provider();
    everywhere.from = vec![
        bearer_source(),
        TokenSource::Cookie { name: "at".to_owned() },
        TokenSource::Query { name: "t".to_owned() },
    ];
    let mut gate = Gate::of(everywhere);
    let good = hs256(&good_claims());
    let pieces = [
        "Bearer ",
        "bearer",
        "at",
        "=",
        ";",
        "&",
        "t",
        "%",
        "%7",
        "%74",
        "+",
        " ",
        "\t",
        "\"",
        ",",
        ".",
        "e30",
        "{}",
        "é",
        &good[..20],
        &good[20..90],
        &good[90..],
    ];
    let mut state = 7_u64;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("an index") % bound
    };
    for _ in 0..3000 {
        let mut text = || (0..next(7)).map(|_| pieces[next(pieces.len())]).collect::<String>();
        let (header, cookie, query) = (text(), text(), text());
        let headers = header_map(&[("authorization", &header), ("cookie", &cookie)]);
        let result = gate.ask_all(&headers, Some(&query));
        // Only the good token in one place may pass; it takes its three pieces in a row.
        let whole = [&header, &cookie, &query].into_iter().filter(|text| text.contains(&good)).count();
        assert!(result.is_err() || whole == 1, "{header:?} {cookie:?} {query:?}");
    }
}
