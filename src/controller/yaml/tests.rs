//! Tests of reading YAML and JSON.

use serde_json::{Value, json};

use super::{Format, decode, locate, parse, split};

fn values(text: &str) -> Vec<Value> {
    let mut values = Vec::new();
    for chunk in split(text, Format::Yaml) {
        let parsed = parse(&chunk);
        assert_eq!(parsed.error, None, "{text}");
        values.extend(parsed.documents.into_iter().map(|document| document.value));
    }
    values
}

fn error(text: &str, format: Format) -> (u32, u32, String) {
    let errors: Vec<_> = split(text, format).iter().filter_map(|chunk| parse(chunk).error).collect();
    let [error] = errors.as_slice() else { panic!("one error is expected in {text:?}, not {errors:?}") };
    (error.line, error.column, error.message.clone())
}

#[test]
fn scalars_mean_what_they_mean_to_the_api_server() {
    let rows = [
        ("a", json!("a")),
        ("''", json!("")),
        ("", json!(null)),
        ("~", json!(null)),
        ("null", json!(null)),
        ("\"null\"", json!("null")),
        ("true", json!(true)),
        ("TRUE", json!(true)),
        ("'true'", json!("true")),
        ("on", json!(true)),
        ("No", json!(false)),
        ("y", json!("y")),
        ("1", json!(1)),
        ("\"1\"", json!("1")),
        ("-17", json!(-17)),
        ("+3", json!(3)),
        ("0", json!(0)),
        ("0644", json!(420)),
        ("0o17", json!(15)),
        ("0x1F", json!(31)),
        ("0b101", json!(5)),
        ("089", json!(89)),
        ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("1.5", json!(1.5)),
        ("1e3", json!(1000)),
        ("2.0", json!(2)),
        (".5", json!(0.5)),
        ("-1.5e-3", json!(-0.0015)),
        ("1.2.3", json!("1.2.3")),
        ("10.0.0.0/8", json!("10.0.0.0/8")),
        ("1m30s", json!("1m30s")),
        ("--1", json!("--1")),
        ("-", json!([null])),
        ("2026-11-24", json!("2026-11-24")),
        ("::1", json!("::1")),
        (".", json!(".")),
        ("!!str 12", json!("12")),
        ("!!int \"12\"", json!(12)),
        ("|\n a\n b\n", json!("a\nb\n")),
        (">-\n a\n b\n", json!("a b")),
    ];
    for (input, want) in rows {
        let text = if input == "-" { "-".to_owned() } else { format!("x: {input}") };
        let want = if input == "-" { want } else { json!({ "x": want }) };
        assert_eq!(values(&text), vec![want], "{input}");
    }
}

#[test]
fn documents_are_cut_at_separators_even_inside_block_scalars() {
    let text = "# head\n---\na: |\n  x\n  ---\n--- # two\nb: 2\n---\n...\n---\n- c\n";
    assert_eq!(values(text), vec![json!({"a": "x\n---\n"}), json!({"b": 2}), json!(["c"])]);
}

#[test]
fn a_line_of_more_than_three_dashes_is_no_separator() {
    assert_eq!(values("a: 1\n# x\nb: |\n ----\n"), vec![json!({"a": 1, "b": "----\n"})]);
    assert_eq!(split("a: b\n----\n", Format::Yaml).len(), 1);
}

#[test]
fn directives_before_a_document_are_read_over() {
    assert_eq!(values("%YAML 1.2\n---\na: 1\n"), vec![json!({"a": 1})]);
}

#[test]
fn aliases_are_expanded() {
    let text = "a: &x {k: [1]}\nb: *x\nc: &y z\n*y : 1\n";
    assert_eq!(values(text), vec![json!({"a": {"k": [1]}, "b": {"k": [1]}, "c": "z", "z": 1})]);
}

#[test]
fn crlf_and_a_byte_order_mark_change_nothing() {
    let text = decode("\u{feff}a: 1\r\n---\r\nb: |\r\n  x\r\n  y\r\n".as_bytes()).unwrap();
    assert_eq!(values(text), vec![json!({"a": 1}), json!({"b": "x\ny\n"})]);
}

#[test]
fn errors_name_line_and_column_of_the_file() {
    let rows = [
        ("a: 1\n---\nb: 2\nb: 3\n", 4, 1, "a key stands twice"),
        ("a: 1\n---\nb: {<<: x, c: .inf}\n", 3, 5, "merge keys"),
        ("a: 1\nb: .nan\n", 2, 4, "not-a-number"),
        ("a: !foo x\n", 1, 4, "this tag"),
        ("{a: 1}: 2\n", 1, 1, "a key must be a string"),
        ("a:\n  - b\n c: d\n", 3, 2, ""),
        ("a: &x [*x]\n", 1, 8, "inside its own anchor"),
    ];
    for (text, line, column, message) in rows {
        let found = error(text, Format::Yaml);
        assert_eq!((found.0, found.1), (line, column), "{text:?}: {found:?}");
        assert!(found.2.contains(message), "{text:?}: {found:?}");
    }
}

#[test]
fn depth_is_bounded_with_and_without_aliases() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(values(&nested(128)).len(), 1);
    assert!(error(&nested(129), Format::Yaml).2.contains("128 levels"));
    let block: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(error(&block, Format::Yaml).2.contains("128 levels"));
    let ladder: String =
        (0..200).map(|step| format!("k{step}: &a{step} [*a{}]\n", step.max(1) - 1)).collect();
    let ladder = ladder.replacen("[*a0]", "[1]", 1);
    assert!(error(&ladder, Format::Yaml).2.contains("128 levels"));
}

#[test]
fn the_expansion_of_aliases_is_bounded() {
    let bomb: String =
        (1..40).map(|step| format!("k{step}: &a{step} [*a{}, *a{}]\n", step - 1, step - 1)).collect();
    let found = error(&format!("k0: &a0 x\n{bomb}"), Format::Yaml);
    assert!(found.2.contains("aliases expand"), "{found:?}");
}

#[test]
fn what_stood_before_an_error_is_given_as_the_last_document() {
    let chunks = split("a: 1\nb:\n  c: [1, 2, }\n", Format::Yaml);
    let parsed = parse(&chunks[0]);
    assert!(parsed.error.is_some());
    assert_eq!(parsed.documents.last().unwrap().value.pointer("/b/c/1"), Some(&json!(2)));
}

#[test]
fn json_values_may_follow_each_other_and_keep_their_lines() {
    let text = "{\"a\": \"\\ud83d\\ude00\",\n\t\"b\": 1e3}\n\n{\"c\":\n 2}";
    let chunks = split(text, Format::Json);
    let documents: Vec<_> = chunks.iter().flat_map(|chunk| parse(chunk).documents).collect();
    assert_eq!(documents[0].value, json!({"a": "😀", "b": 1000.0}));
    assert_eq!((documents[1].value.clone(), documents[1].line), (json!({"c": 2}), 4));
    assert_eq!(locate(&chunks[1], 0, "c"), Some(4));
    assert_eq!(error("{}\n{\"a\": 1,\n \"a\": 2}", Format::Json).0, 3);
    assert_eq!(error("{}\n{\"a\": 1,\n b}", Format::Json).0, 3);
}

#[test]
fn text_that_is_not_utf8_is_refused_at_its_place() {
    let error = decode(b"a: 1\nb: \xff").unwrap_err();
    assert_eq!((error.line, error.column), (2, 4));
}

#[test]
fn fields_are_found_by_their_way() {
    let text = "\
# head
a: 1
---
metadata:
  annotations:
    a.b/c: x
    'q': y
spec:
  rules:
  - name: one
  - name: two
    filters: [{type: A}, {type: B,
      deep: {x: 1}}]
  more.keys:
    - - 1
      - 2
";
    let chunks = split(text, Format::Yaml);
    let rows = [
        ("metadata.annotations['a.b/c']", 6),
        ("metadata.annotations[a.b/c]", 6),
        ("metadata.annotations.q", 7),
        ("spec", 8),
        ("spec.rules", 9),
        ("spec.rules[1]", 11),
        ("spec.rules[1].name", 11),
        ("spec.rules[1].filters[1].deep.x", 13),
        ("spec.rules[1].filters[1].missing", 12),
        ("spec.rules[7].name", 9),
        ("spec.more.keys[0][1]", 16),
        ("status", 4),
        ("", 4),
    ];
    for (path, line) in rows {
        assert_eq!(locate(&chunks[1], 0, path), Some(line), "{path}");
    }
    assert_eq!(locate(&chunks[1], 1, "spec"), None);
}

#[test]
fn item_lines_are_those_of_the_items() {
    let text = "kind: List\nmetadata: {items: [1]}\nitems:\n- a: 1\n  b: [2]\n-\n  c: 3\nother:\n- x\n";
    let chunks = split(text, Format::Yaml);
    assert_eq!(super::item_lines(&chunks[0], 0, "items"), vec![4, 7]);
}

#[test]
fn no_text_makes_the_reader_panic() {
    let seeds = [
        "a: [1, {b: c}]\n---\n- |\n x\n",
        "%TAG ! x\n--- !!map {a: &b c, *b : d}\n...\n",
        "\"\\x\n'",
        "? [a]\n: -",
    ];
    for seed in seeds {
        for cut in 0..seed.len() {
            for insert in ["", "\t", "---\n", "{", "]", ":", "&a ", "*a", "\u{0}", "|", "\""] {
                let text = format!("{}{insert}{}", &seed[..cut], &seed[cut..]);
                for chunk in split(&text, Format::Yaml) {
                    parse(&chunk);
                    locate(&chunk, 0, "a[1].b");
                }
            }
        }
    }
}
