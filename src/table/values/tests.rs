//! Header, query and cookie values as clients write them.

use http::HeaderValue;

use super::*;

#[test]
fn a_query_parameter_is_found_by_its_decoded_name() {
    let cases: [(&str, &str, Option<&str>); 11] = [
        ("a=1&b=2", "b", Some("2")),
        ("a=1&a=2", "a", Some("1")),
        ("b", "b", Some("")),
        ("&&b=", "b", Some("")),
        ("%62=x", "b", Some("x")),
        ("a+b=x", "a b", Some("x")),
        ("b=x%20y+z", "b", Some("x y z")),
        ("b=a=c", "b", Some("a=c")),
        ("b=%zz%4", "b", Some("%zz%4")),
        ("B=1", "b", None),
        ("&", "", None),
    ];
    for (text, name, want) in cases {
        let got = query(Some(text), name);
        assert_eq!(got.as_deref(), want.map(str::as_bytes), "{text}: {name}");
    }
    assert_eq!(query(None, "a"), None);
}

#[test]
fn a_cookie_is_found_over_all_cookie_headers() {
    let mut headers = HeaderMap::new();
    headers.append(COOKIE, HeaderValue::from_static("a=1; b = \"x\" ;c"));
    headers.append(COOKIE, HeaderValue::from_static("d=e=f; a=2"));
    let cases: [(&str, Option<&str>); 6] =
        [("a", Some("1")), ("b", Some("\"x\"")), ("c", None), ("d", Some("e=f")), ("A", None), ("", None)];
    for (name, want) in cases {
        assert_eq!(cookie(&headers, name), want.map(str::as_bytes), "{name}");
    }
}

#[test]
fn a_repeated_header_is_one_list() {
    let mut headers = HeaderMap::new();
    let name = HeaderName::from_static("x-a");
    assert_eq!(header(&headers, &name), None);
    headers.append("x-a", HeaderValue::from_static("1"));
    assert!(matches!(header(&headers, &name), Some(Cow::Borrowed(b"1"))));
    headers.append("x-a", HeaderValue::from_static("2"));
    headers.append("x-a", HeaderValue::from_static("3"));
    assert_eq!(header(&headers, &name).as_deref(), Some(&b"1,2,3"[..]));
}
