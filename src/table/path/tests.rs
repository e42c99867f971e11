//! The attacks PN01–PN07 of the hardening catalogue, and that canonical paths are fixed points.

use std::borrow::Cow;

use proptest::prelude::*;

use super::{PathError, canonical};

#[test]
fn every_spelling_of_a_path_has_one_canonical_form() {
    let cases = [
        ("root", "/", "/"),
        ("plain", "/a/b.c/d-e_f~g", "/a/b.c/d-e_f~g"),
        ("trailing slash stays", "/a/", "/a/"),
        ("PN01 dot dot", "/admin/../public", "/public"),
        ("PN01 dot dot the other way", "/public/../admin", "/admin"),
        ("PN01 escaped dots", "/%2e%2e/admin", "/admin"),
        ("PN01 half escaped", "/.%2e/admin", "/admin"),
        ("PN01 upper hex", "/x/%2E./admin", "/admin"),
        ("never above the root", "/../../..", "/"),
        ("dot dot at the end", "/a/b/..", "/a/"),
        ("dot at the end", "/a/.", "/a/"),
        ("PN02 leading double slash", "//admin", "/admin"),
        ("PN02 dot", "/./admin", "/admin"),
        ("PN02 inner double slash", "/a//b", "/a/b"),
        ("slashes merge before dots resolve", "/a//../b", "/b"),
        ("only slashes", "////", "/"),
        ("PN03 escaped slash stays", "/admin%2fx", "/admin%2Fx"),
        ("PN03 escaped slash upper", "/admin%2Fx", "/admin%2Fx"),
        ("escaped slash is no segment border", "/a%2f..%2fb", "/a%2F..%2Fb"),
        ("PN04 parameters stay", "/admin;x=1", "/admin;x=1"),
        ("PN04 escaped semicolon stays", "/admin%3bx", "/admin%3Bx"),
        ("PN04 dot at the end of a name", "/admin.", "/admin."),
        ("PN04 case stays", "/ADMIN", "/ADMIN"),
        ("three dots are a name", "/.../a", "/.../a"),
        ("hidden file", "/.well-known/x", "/.well-known/x"),
        ("PN05 double encoding stays encoded once", "/%252e%252e/a", "/%252e%252e/a"),
        ("unreserved letters are decoded", "/%61%7E%5f", "/a~_"),
        ("reserved stay escaped", "/%40%3a%24", "/%40%3A%24"),
        ("utf-8 stays escaped", "/caf%c3%a9", "/caf%C3%A9"),
        ("raw utf-8 is escaped", "/café", "/caf%C3%A9"),
        ("four bytes", "/%f0%9f%a6%80", "/%F0%9F%A6%80"),
        ("raw characters outside RFC 3986", "/a b\"<>[]^`{|}", "/a%20b%22%3C%3E%5B%5D%5E%60%7B%7C%7D"),
        ("sub-delims", "/!$&'()*+,;=:@", "/!$&'()*+,;=:@"),
    ];
    for (name, input, want) in cases {
        assert_eq!(canonical(input).as_deref(), Ok(want), "{name}: {input}");
    }
}

#[test]
fn ambiguous_paths_are_refused() {
    let cases = [
        ("empty", "", PathError::NotAbsolute),
        ("asterisk form", "*", PathError::NotAbsolute),
        ("relative", "a/b", PathError::NotAbsolute),
        ("NUL", "/a%00", PathError::ControlCharacter),
        ("CR", "/a%0d%0aX: y", PathError::ControlCharacter),
        ("unit separator", "/%1F", PathError::ControlCharacter),
        ("DEL escaped", "/%7f", PathError::ControlCharacter),
        ("DEL raw", "/\u{7f}", PathError::ControlCharacter),
        ("tab raw", "/a\tb", PathError::ControlCharacter),
        ("backslash raw", "/a\\b", PathError::Backslash),
        ("backslash escaped", "/a%5cb", PathError::Backslash),
        ("backslash escaped upper", "/a%5Cb", PathError::Backslash),
        ("PN05 not hexadecimal", "/%zz", PathError::BadEscape),
        ("cut escape", "/a%2", PathError::BadEscape),
        ("lone per cent", "/%", PathError::BadEscape),
        ("PN05 overlong dot", "/%c0%ae%c0%ae/", PathError::BadUtf8),
        ("overlong of three", "/%e0%80%af", PathError::BadUtf8),
        ("surrogate", "/%ed%a0%80", PathError::BadUtf8),
        ("stray continuation", "/%80", PathError::BadUtf8),
        ("cut sequence", "/%c3", PathError::BadUtf8),
        ("lead then letter", "/%c3a9", PathError::BadUtf8),
        ("beyond unicode", "/%f5%80%80%80", PathError::BadUtf8),
        ("PN06 fragment", "/a#b", PathError::Delimiter),
        ("query", "/a?b", PathError::Delimiter),
        ("dot dot with parameters", "/public/..;/admin", PathError::DotParameters),
        ("dot with parameters", "/.;x/admin", PathError::DotParameters),
        ("escaped dots with parameters", "/%2e%2e;/admin", PathError::DotParameters),
        ("escaped semicolon", "/..%3b/admin", PathError::DotParameters),
        ("error behind something to fold", "//a%00", PathError::ControlCharacter),
    ];
    for (name, input, want) in cases {
        assert_eq!(canonical(input), Err(want), "{name}: {input}");
    }
}

#[test]
fn a_canonical_path_is_borrowed() {
    for path in ["/", "/a/b", "/a%2Fb/", "/caf%C3%A9", "/a;b=c/.x/..y/%25"] {
        assert!(matches!(canonical(path), Ok(Cow::Borrowed(_))), "{path}");
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z/.~;%]",
        2 => prop::sample::select(vec!["/", "//", ".", "..", "%2e", "%2F", "%2f", "%25", "%c3%a9", "é", "%61", ";"])
            .prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn canonical_is_a_fixed_point_without_holes(raw in pieces()) {
        let Ok(path) = canonical(&raw) else { return Ok(()) };
        let again = canonical(&path);
        prop_assert_eq!(again.as_deref(), Ok(path.as_ref()));
        prop_assert!(matches!(canonical(&path), Ok(Cow::Borrowed(_))));
        prop_assert!(path.starts_with('/') && path.is_ascii());
        prop_assert!(!path.contains("//"));
        prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
        let lower = path.to_ascii_lowercase();
        for bad in ["%2e", "%00", "%5c", "%61", "\\", "?", "#"] {
            prop_assert!(!lower.contains(bad), "{} in {}", bad, path);
        }
    }
}
