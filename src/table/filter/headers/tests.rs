//! The order of header changes.

use http::{HeaderName, HeaderValue};

use super::*;

fn pair(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static(name), HeaderValue::from_static(value))
}

#[test]
fn headers_are_removed_then_set_then_added() {
    let edit = ir::HeaderEdit {
        remove: vec![HeaderName::from_static("x-gone"), HeaderName::from_static("x-back")],
        set: vec![pair("x-set", "new"), pair("x-back", "1")],
        add: vec![pair("x-add", "2"), pair("x-set", "also")],
    };
    let mut headers: HeaderMap = [
        pair("x-gone", "a"),
        pair("x-gone", "b"),
        pair("x-back", "0"),
        pair("x-set", "old"),
        pair("x-set", "older"),
        pair("x-add", "1"),
        pair("x-stay", "s"),
    ]
    .into_iter()
    .fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value);
        map
    });
    apply_header_edit(&edit, &mut headers);
    let all = |name: &str| -> Vec<_> { headers.get_all(name).iter().cloned().collect() };
    assert_eq!(all("x-gone"), Vec::<HeaderValue>::new());
    assert_eq!(all("x-back"), ["1"]);
    assert_eq!(all("x-set"), ["new", "also"]);
    assert_eq!(all("x-add"), ["1", "2"]);
    assert_eq!(all("x-stay"), ["s"]);
}
