//! Table tests of the small readers: paths, expressions, origins, claims, key sets, class rules, endpoints.

use ir::{
    Algorithm, CorsOrigin, JwkMaterial, KeySetError, Kind, ObjectRef, PathError as Form, parse_jwks,
    was_meant_as_json,
};
use serde_json::json;

use super::build::rate_limit_policy;
use crate::expression::{Anchoring, canonical_substitution, check_regex};
use crate::path::{PathError, canonical_path, canonical_prefix};
use crate::report::{Field, Lines};
use crate::{Object, RefusedPolicy, Snapshot, cors, value};

fn lines() -> Lines {
    Lines::new(ObjectRef::new(Kind::GatewayRoute, "default", "test"))
}

#[test]
fn paths_get_the_form_in_which_requests_are_compared() {
    let cases = [
        ("/", Ok("/")),
        ("/a/b", Ok("/a/b")),
        ("/a/", Ok("/a/")),
        ("/%41%2d%7e", Ok("/A-~")),
        ("/a%2fb", Ok("/a%2Fb")),
        ("/caf\u{e9}", Ok("/caf%C3%A9")),
        ("/caf%c3%a9", Ok("/caf%C3%A9")),
        ("/a b[1]", Ok("/a%20b%5B1%5D")),
        ("/a;v=1", Ok("/a;v=1")),
        ("/a%3bv", Ok("/a%3Bv")),
        ("", Err(PathError::NotCanonical(Form::NotAbsolute))),
        ("a", Err(PathError::NotCanonical(Form::NotAbsolute))),
        ("/a//b", Err(PathError::EmptySegment)),
        ("/a/../b", Err(PathError::DotSegment)),
        ("/a/%2e%2E/b", Err(PathError::DotSegment)),
        ("/.", Err(PathError::DotSegment)),
        ("/a/.%2e", Err(PathError::DotSegment)),
        ("/a/%2E/", Err(PathError::DotSegment)),
        ("/a?b", Err(PathError::NotCanonical(Form::Delimiter))),
        ("/a#b", Err(PathError::NotCanonical(Form::Delimiter))),
        ("/a\\b", Err(PathError::NotCanonical(Form::Backslash))),
        ("/a%5cb", Err(PathError::NotCanonical(Form::Backslash))),
        ("/a%00", Err(PathError::NotCanonical(Form::ControlCharacter))),
        ("/a\n", Err(PathError::NotCanonical(Form::ControlCharacter))),
        ("/a%zz", Err(PathError::NotCanonical(Form::BadEscape))),
        ("/a%4", Err(PathError::NotCanonical(Form::BadEscape))),
        ("/a%", Err(PathError::NotCanonical(Form::BadEscape))),
        ("/%c0%ae", Err(PathError::NotCanonical(Form::BadUtf8))),
        ("/..;x", Err(PathError::NotCanonical(Form::DotParameters))),
        ("/.%3Bx", Err(PathError::NotCanonical(Form::DotParameters))),
    ];
    for (input, want) in cases {
        assert_eq!(canonical_path(input).as_deref(), want.as_ref().map(|path| *path), "{input:?}");
    }
    assert_eq!(canonical_path(&format!("/{}", "a".repeat(1024))), Err(PathError::TooLong));
}

#[test]
fn prefixes_lose_their_trailing_slash() {
    for (input, want) in [("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("/a/b/", "/a/b")] {
        assert_eq!(canonical_prefix(input).as_deref(), Ok(want), "{input:?}");
    }
}

#[test]
fn expressions_are_bounded_and_linear() {
    let long = "a".repeat(1025);
    let cases = [
        ("/a/[0-9]+", true),
        ("(?i)/a", true),
        ("/a|/b", true),
        ("", true),
        ("/(", false),
        (")(", false),
        ("a(?=b)", false),
        (r"(a)\1", false),
        ("(?x)a # comment", false),
        ("((a{100}){100}){100}", false),
        (long.as_str(), false),
    ];
    for (pattern, want) in cases {
        assert_eq!(check_regex(pattern, Anchoring::Whole).is_ok(), want, "{pattern:?}");
    }
}

#[test]
fn substitutions_name_groups_that_exist() {
    let regex = check_regex("^/(?P<kind>[a-z]+)/(.*)", Anchoring::Anywhere).expect("an expression");
    let cases = [
        ("/$1", Some("/${1}")),
        ("/$2/$1", Some("/${2}/${1}")),
        ("/$1a", Some("/${1}a")),
        ("/${kind}", Some("/${kind}")),
        ("/${2}", Some("/${2}")),
        ("/$0", Some("/${0}")),
        ("/$$1", Some("/$$1")),
        ("plain", Some("plain")),
        ("/$3", None),
        ("/$12", None),
        ("/${other}", None),
        ("/$", None),
        ("/$x", None),
        ("/${1", None),
        ("/${}", None),
    ];
    for (text, want) in cases {
        assert_eq!(canonical_substitution(&regex, text).ok().as_deref(), want, "{text:?}");
    }
}

#[test]
fn origins_get_the_form_in_which_browsers_send_them() {
    let exact = |text: &str| Some(CorsOrigin::Exact(text.to_owned()));
    let under = |scheme: &str, suffix: &str, port| {
        Some(CorsOrigin::Subdomains { scheme: scheme.to_owned(), suffix: suffix.to_owned(), port })
    };
    let cases = [
        ("*", Some(CorsOrigin::Any)),
        ("https://Shop.Example.com", exact("https://shop.example.com")),
        ("https://shop.example.com:443", exact("https://shop.example.com")),
        ("http://shop.example.com:80", exact("http://shop.example.com")),
        ("https://shop.example.com:80", exact("https://shop.example.com:80")),
        ("http://[::1]:3000", exact("http://[::1]:3000")),
        ("http://[0:0::1]", exact("http://[::1]")),
        ("https://*.example.com", under("https", "example.com", None)),
        ("https://*.example.com:8443", under("https", "example.com", Some(8443))),
        ("app+x://local", exact("app+x://local")),
        ("shop.example.com", None),
        ("https://", None),
        ("https://a/b", None),
        ("https://a:0", None),
        ("https://a:99999", None),
        ("https://a:+80", None),
        ("https://*", None),
        ("1https://a", None),
        ("null", None),
    ];
    for (text, want) in cases {
        let spec = api::Cors { allow_origins: vec![text.to_owned()], ..api::Cors::default() };
        let read = cors::cors(&spec, Field::root("cors"), &mut lines());
        assert_eq!(read.ok().and_then(|cors| cors.allow_origins.into_iter().next()), want, "{text:?}");
    }
}

#[test]
fn claims_are_dotted_or_pointers() {
    let cases: [(&str, Option<&[&str]>); 8] = [
        ("sub", Some(&["sub"])),
        ("realm.roles", Some(&["realm", "roles"])),
        ("/realm/roles", Some(&["realm", "roles"])),
        ("/https:~1~1example.com~1roles", Some(&["https://example.com/roles"])),
        ("/a~01", Some(&["a~1"])),
        ("", None),
        ("a..b", None),
        (".a", None),
    ];
    for (text, want) in cases {
        let path = value::claim_path(text, Field::root("claim"), &mut lines()).ok();
        let want = want.map(|steps| steps.iter().map(|step| (*step).to_owned()).collect::<Vec<_>>());
        assert_eq!(path, want, "{text:?}");
    }
}

#[test]
fn networks_are_cut_to_their_prefix() {
    let cases = [
        ("10.1.2.3/8", Some("10.0.0.0/8")),
        ("192.0.2.1", Some("192.0.2.1/32")),
        ("2001:db8::1/32", Some("2001:db8::/32")),
        ("::1", Some("::1/128")),
        ("10.0.0.0/33", None),
        ("10.0.0", None),
        ("example.com", None),
    ];
    for (text, want) in cases {
        let nets = value::networks(&[text.to_owned()], Field::root("allow"), &mut lines()).ok();
        let net = nets.and_then(|nets| nets.first().map(ToString::to_string));
        assert_eq!(net.as_deref(), want, "{text:?}");
    }
}

/// Base64url of so many bytes, all `0xff` but the last, which is odd anyway.
fn bytes(count: usize) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(vec![0xff; count])
}

#[test]
fn keys_are_taken_or_refused_by_type_size_and_use() {
    let rsa = |bits: usize| json!({"kty": "RSA", "n": bytes(bits / 8), "e": "AQAB"});
    let ec =
        |curve: &str, size: usize| json!({"kty": "EC", "crv": curve, "x": bytes(size), "y": bytes(size)});
    let okp = |curve: &str| json!({"kty": "OKP", "crv": curve, "x": bytes(32)});
    let with = |mut key: serde_json::Value, name: &str, value: serde_json::Value| {
        key[name] = value;
        key
    };
    // name, key, from a Secret, used, findings
    let cases = [
        ("RSA 2048", rsa(2048), false, 1, 0),
        ("RSA 8192", rsa(8192), false, 1, 0),
        ("RSA 1024", rsa(1024), false, 0, 1),
        ("RSA 16384", rsa(16384), false, 0, 1),
        ("RSA with e = 1", with(rsa(2048), "e", json!("AQ")), false, 0, 1),
        ("RSA with even e", with(rsa(2048), "e", json!("Ag")), false, 0, 1),
        ("RSA without n", json!({"kty": "RSA", "e": "AQAB"}), false, 0, 1),
        ("RSA with bad base64", with(rsa(2048), "n", json!("***")), false, 0, 1),
        ("RSA with alg", with(rsa(2048), "alg", json!("PS256")), false, 1, 0),
        ("RSA with the alg of another type", with(rsa(2048), "alg", json!("ES256")), false, 0, 1),
        ("RSA for encryption by alg", with(rsa(2048), "alg", json!("RSA-OAEP")), false, 0, 1),
        ("RSA for encryption by use", with(rsa(2048), "use", json!("enc")), false, 0, 0),
        ("RSA for encryption by key_ops", with(rsa(2048), "key_ops", json!(["encrypt"])), false, 0, 0),
        ("RSA for verification", with(rsa(2048), "key_ops", json!(["verify"])), false, 1, 0),
        ("P-256", ec("P-256", 32), false, 1, 0),
        ("P-256 with short coordinates", ec("P-256", 31), false, 0, 1),
        ("P-384", ec("P-384", 48), false, 1, 0),
        ("P-521", ec("P-521", 66), false, 0, 1),
        ("secp256k1", ec("secp256k1", 32), false, 0, 1),
        ("Ed25519", okp("Ed25519"), false, 1, 0),
        ("X25519", okp("X25519"), false, 0, 1),
        ("oct of a Secret", json!({"kty": "oct", "k": bytes(32)}), true, 1, 0),
        ("short oct of a Secret", json!({"kty": "oct", "k": bytes(8)}), true, 1, 1),
        ("empty oct of a Secret", json!({"kty": "oct", "k": ""}), true, 0, 1),
        ("oct in the open", json!({"kty": "oct", "k": bytes(32)}), false, 0, 1),
        ("unknown type", json!({"kty": "new"}), false, 0, 1),
        ("no type", json!({"n": "x"}), false, 0, 1),
        ("no object", json!(7), false, 0, 1),
    ];
    for (name, key, from_secret, used, findings) in cases {
        let text = json!({"keys": [key]}).to_string();
        let parsed = parse_jwks(text.as_bytes(), from_secret).expect(name);
        assert_eq!((parsed.keys.len(), parsed.findings.len()), (used, findings), "{name}");
    }
}

#[test]
fn a_key_keeps_its_own_algorithm_and_no_leading_zeros() {
    let n = {
        use base64::Engine;
        let mut n = vec![0, 0];
        n.extend(vec![0xff; 256]);
        base64::engine::general_purpose::URL_SAFE.encode(n)
    };
    let text =
        json!({"keys": [{"kty": "RSA", "kid": "k1", "alg": "RS512", "n": n, "e": "AAEAAQ", "d": "private"}]});
    let parsed = parse_jwks(text.to_string().as_bytes(), false).expect("a key set");
    let key = parsed.keys.first().expect("one key");
    assert_eq!((key.kid.as_deref(), key.algorithm), (Some("k1"), Some(Algorithm::RS512)));
    assert_eq!(key.material, JwkMaterial::Rsa { n: vec![0xff; 256], e: vec![1, 0, 1] });
}

#[test]
fn key_sets_are_bounded() {
    let cases = [
        ("{}", KeySetError::NotAKeySet),
        ("not json", KeySetError::NotAKeySet),
        (r#"{"keys": 7}"#, KeySetError::NotAKeySet),
        ("[]", KeySetError::NotAKeySet),
    ];
    for (text, want) in cases {
        assert_eq!(parse_jwks(text.as_bytes(), true).err(), Some(want), "{text}");
    }
    let many = json!({"keys": vec![json!({"kty": "x"}); 101]}).to_string();
    assert_eq!(parse_jwks(many.as_bytes(), true).err(), Some(KeySetError::TooManyKeys));
    let large = format!("{{\"keys\": []}}{}", " ".repeat(256 * 1024));
    assert_eq!(parse_jwks(large.as_bytes(), true).err(), Some(KeySetError::TooLarge));
}

#[test]
fn a_broken_key_set_is_told_from_a_raw_key() {
    let cases: [(&str, &[u8], bool); 11] = [
        ("cut off", br#"{"keys": [{"kty": "oct""#, true),
        ("wrong member", br#"{"keys": 7}"#, true),
        ("without quotes", b"{keys: []}", true),
        ("blanks before it", b" \n\t{\"keys\" []}", true),
        ("byte order mark", b"\xef\xbb\xbf{\"keys\": []}", true),
        ("one key instead of a set", br#"{"kty": "oct", "k": "AAAA"}"#, true),
        ("a random key that begins with a brace", b"{\x00\xff8sd;l..sd0923", false),
        ("a text that has the word", b"the keys {of} the house", false),
        ("another object", br#"{"a": 1}"#, false),
        ("empty", b"", false),
        ("a brace", b"{", false),
    ];
    for (name, bytes, want) in cases {
        assert_eq!(was_meant_as_json(bytes), want, "{name}");
    }
}

#[test]
fn objects_without_shape_or_name_are_refused_and_secrets_are_not_quoted() {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"a": "canary, no base64"},
    });
    let error = Object::from_json(Kind::Secret, secret).expect_err("no base64");
    assert!(!error.contains("canary"), "{error}");
    let wrapped = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"a": "YWJj\nZGVm\r\n"},
    });
    let Ok(Object::Secret(secret)) = Object::from_json(Kind::Secret, wrapped) else {
        panic!("wrapped base64")
    };
    let bytes = secret.data.as_ref().and_then(|data| data.get("a")).map(|value| value.0.clone());
    assert_eq!(bytes.as_deref(), Some(&b"abcdef"[..]));
    let cases = [
        (Kind::Service, json!({"apiVersion": "v1", "kind": "Service", "metadata": {}})),
        (Kind::Service, json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": ""}})),
        (Kind::Service, json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}})),
        (Kind::GatewayRoute, json!({"metadata": {"name": "a"}, "spec": {"rules": 7}})),
        (Kind::ConfigMap, json!(null)),
    ];
    for (kind, value) in cases {
        assert!(Object::from_json(kind, value.clone()).is_err(), "{value}");
    }
}

#[test]
fn names_are_found_by_namespace_and_cluster_objects_have_none() {
    let named = |kind: Kind, version: &str, metadata: serde_json::Value| {
        let value = json!({"apiVersion": version, "kind": kind.as_str(), "metadata": metadata});
        Object::from_json(kind, value).expect("an object").object_ref().to_string()
    };
    assert_eq!(named(Kind::ConfigMap, "v1", json!({"name": "a"})), "ConfigMap/default/a");
    assert_eq!(named(Kind::ConfigMap, "v1", json!({"name": "a", "namespace": "b"})), "ConfigMap/b/a");
    let class = named(Kind::IngressClass, "networking.k8s.io/v1", json!({"name": "a", "namespace": "b"}));
    assert_eq!(class, "IngressClass//a");
}

#[test]
fn a_policy_that_is_applied_or_deleted_is_no_longer_refused() {
    let policy = rate_limit_policy("limit", "a", 1);
    let id = policy.object_ref();
    let mut snapshot = Snapshot::default();
    snapshot.refused.insert(id.clone(), RefusedPolicy::default());
    snapshot.apply(policy);
    assert!(snapshot.refused.is_empty());
    assert_eq!(snapshot.object(&id).map(|object| object.object_ref()), Some(id.clone()));
    snapshot.refused.insert(id.clone(), RefusedPolicy::default());
    snapshot.delete(&id);
    assert!(snapshot.refused.is_empty() && snapshot.object(&id).is_none());
}

#[test]
fn fields_are_written_as_users_know_them() {
    let root = Field::root("spec");
    let rules = root.key("rules");
    let rule = rules.index(2);
    let filters = rule.key("filters");
    let filter = filters.index(0);
    assert_eq!(filter.key("urlRewrite").to_string(), "spec.rules[2].filters[0].urlRewrite");
    let metadata = Field::root("metadata");
    let annotations = metadata.key("annotations");
    assert_eq!(annotations.quoted("a.io/b").to_string(), "metadata.annotations['a.io/b']");
}
