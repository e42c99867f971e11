//! The page is fresh in `docs/`, its links lead somewhere, and every field stands in an example.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::crd::crds;

fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[test]
fn the_files_in_crds_are_fresh_and_so_is_their_reference() {
    let file = checkout("docs/reference.md");
    let want = page(&crds()).expect("Markdown");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &want).expect("write");
    }
    let have = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(have == want, "docs/reference.md is stale: run `make crds`");
}

#[test]
fn every_link_leads_to_a_heading() {
    let text = page(&crds()).expect("Markdown");
    let headings: BTreeSet<String> =
        text.lines().filter_map(|line| line.strip_prefix("### ")).map(anchor).collect();
    let links: Vec<&str> =
        text.split("](#").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link).collect();
    assert!(links.len() > 50, "{} links", links.len());
    for link in links {
        assert!(headings.contains(link), "#{link}");
    }
}

#[test]
fn a_cell_holds_what_would_end_it() {
    assert_eq!(cell("a | b\n  <name>"), "a \\| b &lt;name>");
    assert_eq!(range(Some("1".into()), Some("16".into()), " items").as_deref(), Some("1 to 16 items"));
    assert_eq!(range(None, None, ""), None);
}

/// Objects of one form count as one: a field of `defaults` is shown where a rule shows it.
#[test]
fn every_field_of_a_spec_stands_in_an_example() {
    let mut documents = Vec::new();
    read_all(&checkout("manifests/examples"), &mut documents);
    let crds = crds();
    let mut objects: Vec<(&JSONSchemaProps, String, BTreeSet<String>)> = Vec::new();
    for crd in &crds {
        let kind = &crd.spec.names.kind;
        let schema = crd.spec.versions.iter().find_map(|v| v.schema.as_ref()?.open_api_v3_schema.as_ref());
        let spec = schema.and_then(|s| s.properties.as_ref()?.get("spec")).expect("a spec");
        for section in sections(&format!("{kind}.spec"), spec) {
            let mut seen = BTreeSet::new();
            for document in documents.iter().filter(|d| d.get("kind").and_then(Value::as_str) == Some(kind)) {
                gather(document, section.path.split('.').skip(1), &mut seen);
            }
            match objects.iter_mut().find(|(told, ..)| same(told, section.schema)) {
                Some((.., before)) => before.extend(seen),
                None => objects.push((section.schema, section.path, seen)),
            }
        }
    }
    let missing: Vec<String> = objects
        .iter()
        .flat_map(|(schema, path, seen)| {
            let fields = schema.properties.iter().flatten().map(|(name, _)| name);
            fields.filter(|name| !seen.contains(*name)).map(move |name| format!("{path}.{name}"))
        })
        .collect();
    assert!(missing.is_empty(), "no example under manifests/examples has:\n{}", missing.join("\n"));
}

/// The names of the fields at `path` of a document.
fn gather<'a>(value: &Value, mut path: impl Iterator<Item = &'a str> + Clone, seen: &mut BTreeSet<String>) {
    let Some(step) = path.next() else {
        seen.extend(value.as_object().into_iter().flatten().map(|(name, _)| name.clone()));
        return;
    };
    let name = step.trim_end_matches(['[', ']', '{', '}']);
    let Some(child) = value.get(name) else { return };
    match child {
        Value::Array(items) => items.iter().for_each(|item| gather(item, path.clone(), seen)),
        Value::Object(entries) if step.ends_with("{}") => {
            entries.values().for_each(|entry| gather(entry, path.clone(), seen));
        }
        Value::Object(_) => gather(child, path, seen),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn read_all(directory: &Path, documents: &mut Vec<Value>) {
    for entry in std::fs::read_dir(directory).expect("examples") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_all(&path, documents);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).expect("an example");
            let read: Vec<Value> =
                serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            documents.extend(read);
        }
    }
}
