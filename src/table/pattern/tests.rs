//! Anchors and bounds of regular expressions.

use super::*;

#[test]
fn a_path_expression_matches_the_whole_path() {
    let cases = [
        ("/a", "/a", true),
        ("/a", "/ab", false),
        ("a", "/a", false),
        ("/a|/b", "/b", true),
        ("/a|/b", "/bc", false),
        ("^/a$", "/a", true),
        ("/ab*", "/a", true),
        ("/ab?c", "/ac", true),
        ("/ab{0}c", "/ac", true),
        ("/ab+", "/a", false),
        ("/(?:x|y)z", "/yz", true),
        ("/[a-c]+/\\d+", "/abc/12", true),
        ("(?i)/A", "/a", true),
    ];
    for (pattern, path, want) in cases {
        assert_eq!(PathRegex::new(pattern, true).expect(pattern).takes(path), want, "{pattern}: {path}");
    }
    assert!(PathRegex::new("/Ab.*", false).expect("valid").takes("/aBc"));
}

#[test]
fn an_expression_cannot_break_out_of_its_anchors() {
    for pattern in ["/a)|(/b", "/a)|(?:/b", "[(]/a)|/b", "(?x)/a # b", "/a\\", "[/a", "(/a"] {
        assert!(PathRegex::new(pattern, true).is_err(), "{pattern}");
        assert!(whole_value(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn a_bomb_is_refused() {
    let long = "a".repeat(REGEX_CHARS_MAX + 1);
    let deep = format!("{}a{}", "(".repeat(100), ")".repeat(100));
    for pattern in ["(a{1000}){1000}", "a{1000}{1000}", "((a{100}){100}){100}", &long, &deep] {
        assert!(PathRegex::new(pattern, true).is_err(), "{pattern}");
        assert!(part(pattern).is_err(), "{pattern}");
    }
    let error = PathRegex::new("(a", true).expect_err("unclosed");
    assert_eq!(error, "bad regular expression: unclosed group");
}
