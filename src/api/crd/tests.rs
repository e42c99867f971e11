//! The generated definitions are fresh in `crds/`, structural, bounded, and whole.

use std::path::Path;

use serde_json::{Map, Value};

use super::*;

/// Calls `check` with every schema node and the path to it.
fn each_node(check: &mut dyn FnMut(&str, &Map<String, Value>)) {
    for crd in crds() {
        for version in &crd.spec.versions {
            let schema =
                version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()).expect("a schema");
            let schema = serde_json::to_value(schema).expect("JSON");
            walk(&crd.spec.names.kind, &schema, check);
        }
    }
}

fn walk(path: &str, schema: &Value, check: &mut dyn FnMut(&str, &Map<String, Value>)) {
    let node = schema.as_object().unwrap_or_else(|| panic!("{path}: a schema is an object"));
    check(path, node);
    for (name, child) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        walk(&format!("{path}.{name}"), child, check);
    }
    if let Some(values) = node.get("additionalProperties") {
        walk(&format!("{path}.*[]"), values, check);
    }
    if let Some(items) = node.get("items") {
        walk(&format!("{path}[]"), items, check);
    }
}

fn text<'a>(node: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    node.get(key).and_then(Value::as_str)
}

#[test]
fn the_files_in_crds_are_fresh() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    for (name, want) in crds_yaml().expect("YAML") {
        let file = directory.join(&name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&directory).expect("crds/");
            std::fs::write(&file, &want).expect("write");
        }
        let have = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(have == want, "crds/{name} is stale: run `make crds`");
    }
}

#[test]
fn the_yaml_reads_back_as_the_same_definition() {
    for ((name, yaml), crd) in crds_yaml().expect("YAML").iter().zip(crds()) {
        let back: CustomResourceDefinition =
            serde_saphyr::from_str(yaml).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(back, crd, "{name}");
    }
}

#[test]
fn every_node_is_structural() {
    each_node(&mut |path, node| {
        let int_or_string = node.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
        assert_eq!(
            text(node, "type").is_none(),
            int_or_string,
            "{path}: a type, or int-or-string, and never both"
        );
        for key in [
            "$ref",
            "anyOf",
            "oneOf",
            "allOf",
            "not",
            "nullable",
            "uniqueItems",
            "additionalItems",
            "definitions",
        ] {
            assert!(!node.contains_key(key), "{path} has {key}");
        }
        for value in node.get("enum").and_then(Value::as_array).into_iter().flatten() {
            assert!(!value.is_null(), "{path}: null stands in the enum");
        }
        if text(node, "type") == Some("object") {
            let named = node.contains_key("properties");
            let is_map = node.get("additionalProperties").is_some_and(Value::is_object);
            assert!(named != is_map, "{path}: an object names its properties, or is a map of one type");
        }
        if let Some(format) = text(node, "format") {
            assert!(
                ["int32", "int64", "date-time"].contains(&format),
                "{path}: the API server does not know format {format}"
            );
        }
        for required in node.get("required").and_then(Value::as_array).into_iter().flatten() {
            let name = required.as_str().expect("a name");
            let property = node.get("properties").and_then(|p| p.get(name));
            assert!(property.is_some(), "{path}: requires {name}, which it does not have");
            assert!(
                property.and_then(|p| p.get("default")).is_none(),
                "{path}.{name}: required and with a default"
            );
        }
    });
}

#[test]
fn every_node_is_bounded_and_described() {
    each_node(&mut |path, node| {
        let has = |key: &str| node.contains_key(key);
        match text(node, "type") {
            Some("string") => {
                let bounded = has("maxLength") || has("enum") || text(node, "format") == Some("date-time");
                assert!(bounded, "{path}: a string without a bound");
            }
            Some("array") => {
                assert!(has("maxItems"), "{path}: a list without a bound");
                assert!(has("x-kubernetes-list-type"), "{path}: a list without a list type");
            }
            // The status is written by controllers, and generations have no largest one.
            Some("integer") if path.contains(".status.") => {}
            Some("integer") => {
                assert!(has("enum") || (has("minimum") && has("maximum")), "{path}: an unbounded number")
            }
            Some("object") => {
                let bounded = has("properties") || has("maxProperties");
                assert!(bounded, "{path}: a map without a bound");
            }
            Some("boolean") | None => {}
            Some(other) => panic!("{path}: no field has type {other}"),
        }
        if !path.ends_with("[]") && path.contains('.') && !path.ends_with(".spec") {
            let description =
                text(node, "description").unwrap_or_else(|| panic!("{path} has no description"));
            assert!(description.ends_with('.'), "{path}: {description:?} is no sentence");
        }
    });
}

#[test]
fn list_maps_have_keys_that_every_element_has() {
    each_node(&mut |path, node| match text(node, "x-kubernetes-list-type") {
        Some("map") => {
            let keys = node.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            let items = node.get("items").and_then(Value::as_object).expect("items");
            let required = items.get("required").and_then(Value::as_array);
            for key in keys.unwrap_or_else(|| panic!("{path}: no keys")) {
                assert!(required.is_some_and(|r| r.contains(key)), "{path}: the key {key} is not required");
            }
        }
        Some("set") => {
            let items = node.get("items").and_then(Value::as_object).expect("items");
            assert_eq!(text(items, "type"), Some("string"), "{path}: a set of scalars");
        }
        Some("atomic") | None => {}
        Some(other) => panic!("{path}: unknown list type {other}"),
    });
}

#[test]
fn every_rule_says_what_is_wrong_and_what_to_do() {
    let mut count = 0;
    each_node(&mut |path, node| {
        for rule in node.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
            count += 1;
            let message =
                rule.get("message").and_then(Value::as_str).unwrap_or_else(|| panic!("{path}: no message"));
            assert!(message.contains("; "), "{path}: {message:?} names no remedy");
            assert!(!message.contains('\n') && !message.contains("  "), "{path}: {message:?}");
            let text = rule.get("rule").and_then(Value::as_str).expect("a rule");
            assert!(!text.contains("oldSelf"), "{path}: a folder knows no older object");
        }
    });
    assert!(count > 30, "only {count} rules reached the schema");
}

#[test]
fn a_null_means_the_same_as_an_absent_field() {
    let spec: crate::GatewayRouteSpec = serde_json::from_value(serde_json::json!({
        "defaults": null,
        "rules": [{"name": "a", "auth": null, "timeouts": null, "maxRequestBody": null}],
    }))
    .expect("null is read");
    assert_eq!(spec.rules, [crate::RouteRule { name: "a".into(), ..Default::default() }]);
}

#[test]
fn names_groups_and_columns_are_those_of_the_documentation() {
    let rows: Vec<_> = crds()
        .iter()
        .map(|crd| {
            let names = &crd.spec.names;
            let columns =
                crd.spec.versions.iter().flat_map(|v| v.additional_printer_columns.iter().flatten());
            format!(
                "{} {} {:?} {:?} {:?}",
                crd.metadata.name.as_deref().unwrap_or_default(),
                names.kind,
                names.short_names.as_deref().unwrap_or_default(),
                names.categories.as_deref().unwrap_or_default(),
                columns.map(|c| c.name.as_str()).collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            r#"gatewayroutes.gateway.baribhara.io GatewayRoute ["gwr"] ["baribhara"] ["Hosts", "Class", "Accepted", "Programmed", "Age"]"#,
            r#"ratelimitpolicies.gateway.baribhara.io RateLimitPolicy ["rlp"] ["baribhara"] ["Targets", "Mode", "Accepted", "Programmed", "Age"]"#,
            r#"authpolicies.gateway.baribhara.io AuthPolicy ["ap"] ["baribhara"] ["Targets", "Accepted", "Programmed", "Age"]"#,
        ]
    );
    for crd in crds() {
        assert_eq!(crd.spec.group, crate::GROUP);
        assert_eq!(crd.spec.versions.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), [crate::VERSION]);
    }
}
