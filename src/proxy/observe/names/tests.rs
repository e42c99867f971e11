//! Names, and that the documentation has the same ones.

use std::collections::BTreeMap;

use super::*;

const DOCUMENT: &str = include_str!("../../../../docs/metrics.md");

/// (type, labels) by name, as the table of the document says.
fn documented() -> BTreeMap<&'static str, (String, Vec<&'static str>)> {
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let labels = cells[2].split(", ").filter(|l| *l != "–").map(|l| l.trim_matches('`')).collect();
        assert!(cells[3].trim_end_matches(" |").len() > 10, "no meaning: {row}");
        (cells[0].trim_end_matches('`'), (cells[1].to_owned(), labels))
    })
    .collect()
}

#[test]
fn every_metric_is_documented_with_its_type_and_labels_and_no_other_is() {
    let exposed: BTreeMap<_, _> = ALL
        .iter()
        .map(|family| (family.name, (format!("{:?}", family.kind).to_lowercase(), family.labels.to_vec())))
        .collect();
    assert_eq!(exposed, documented());
}

#[test]
fn the_buckets_are_documented() {
    let bounds: Vec<String> =
        crate::observe::route::BUCKET_BOUNDS_SECONDS.iter().map(ToString::to_string).collect();
    assert!(DOCUMENT.contains(&format!("Buckets: {}.", bounds.join(", "))), "{bounds:?}");
}

#[test]
fn the_method_labels_are_documented() {
    for method in crate::observe::MethodLabel::ALL {
        assert!(DOCUMENT.contains(&format!("`{}`", method.as_str())), "{method:?}");
    }
}

#[test]
fn names_follow_the_rules_of_prometheus() {
    let mut seen = std::collections::BTreeSet::new();
    let ours_without_prefix = [
        "http_requests_total",
        "http_request_duration_seconds",
        "http_requests_in_flight",
        "http_requests_per_second",
        "memory_usage_bytes",
        "cpu_usage_percent",
    ];
    for family in ALL {
        let name = family.name;
        assert!(seen.insert(name), "{name} twice");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind == FamilyKind::Counter, "{name}");
        assert_eq!(name.starts_with("baribhara_"), !ours_without_prefix.contains(&name), "{name}");
        assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{name}");
        for label in family.labels {
            assert!(!["le", "quantile"].contains(label), "{name}");
        }
    }
}
