//! Golden pairs: `testdata/<case>.in.yaml` holds the whole input, `<case>.out.yaml` the whole output.
//!
//! So that outputs can be read, a route shows only what is not the default (and its id only as the key), unless the
//! input has the document `kind: Output` with `full: true`. `UPDATE_GOLDEN=1` rewrites the outputs; the diff is the review.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ir::{Config, EndpointMap, Kind, ObjectRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::route::RouteSeed;
use crate::standing::Extent;
use crate::{
    Judgement, MESSAGE_BYTES_MAX, Object, RefusedNote, RefusedPolicy, RefusedTarget, Report, RuleNotes,
    Settings, Snapshot, Standing, Translator,
};

/// What a Secret of the inputs holds; it must be in no output.
const CANARY: &str = "canary";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Output {
    config: Config,
    endpoints: EndpointMap,
    report: Report,
    endpoint_report: Report,
    standings: Value,
}

/// The document `kind: Settings`; without it a folder's settings hold.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SettingsDocument {
    #[serde(rename = "kind")]
    _kind: String,
    ingress_class: String,
    allow_external_backends: bool,
    allow_local_endpoints: bool,
    #[serde(default)]
    allow_private_jwks: bool,
    #[serde(default)]
    own_addresses: Vec<IpAddr>,
    default_tls_secret: Option<(String, String)>,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    regions: Vec<String>,
    affinity_key_secret: Option<(String, String)>,
    default_class_if_lone: bool,
}

/// The document `kind: Output`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OutputDocument {
    #[serde(rename = "kind")]
    _kind: String,
    full: bool,
}

/// What an input says.
struct Input {
    snapshot: Snapshot,
    settings: Settings,
    full: bool,
}

/// The document `kind: Refused`: a policy that was refused before translation.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RefusedDocument {
    #[serde(rename = "kind")]
    _kind: String,
    policy: String,
    namespace: String,
    name: String,
    targets: Vec<RefusedTargetDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RefusedTargetDocument {
    kind: String,
    name: String,
    section_name: Option<String>,
}

/// The document `kind: RefusedSecret`: a Secret whose newest version was refused. Stands after the good one. And
/// `kind: UnstapledSecret`: one whose OCSP response is not stapled. Stands after it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RefusedSecretDocument {
    #[serde(rename = "kind")]
    _kind: String,
    namespace: String,
    name: String,
    reason: String,
}

/// The document `kind: RefusedAnnotation`: what a source found wrong with an annotation that holds a field of a rule. The
/// texts of all others are sound.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RefusedAnnotationDocument {
    #[serde(rename = "kind")]
    _kind: String,
    ingress: String,
    annotation: String,
    field: String,
    message: String,
    remedy: String,
}

#[test]
fn every_input_gives_its_golden_output() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 25, "only {} cases were found", cases.len());
    for case in cases {
        let input = fs::read_to_string(path(&case, "in")).expect("the input can be read");
        let output = run(&case, &input);
        assert!(!output.contains(CANARY), "{case}: a secret is in the output");
        let file = path(&case, "out");
        if update {
            fs::write(&file, output).expect("the output can be written");
        } else if fs::read_to_string(&file).ok().as_deref() != Some(output.as_str()) {
            wrong.push(case);
        }
    }
    assert!(wrong.is_empty(), "stale or missing outputs, see `make golden`: {wrong:?}");
}

#[test]
fn every_file_in_testdata_belongs_to_a_case() {
    let cases: BTreeSet<String> = cases().into_iter().collect();
    for entry in fs::read_dir(folder()).expect("testdata is there") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name in UTF-8");
        let case = name.strip_suffix(".in.yaml").or_else(|| name.strip_suffix(".out.yaml"));
        assert!(case.is_some_and(|case| cases.contains(case)), "{name} belongs to no case");
    }
}

fn run(case: &str, input: &str) -> String {
    let Input { snapshot, settings, full } = read(case, input);
    let mut translator = Translator::default();
    let translation = translator.translate_routes(&snapshot, &settings);
    let endpoints = translator.translate_endpoints(&snapshot, &settings, &translation.config);
    let output = Output {
        config: translation.config,
        endpoints,
        report: translation.report,
        endpoint_report: translator.endpoint_report(),
        standings: standings(&translation.standings),
    };
    let output = if full { json!(output) } else { lean(&output) };
    serde_saphyr::to_string(&output).expect("the output can be written as YAML")
}

/// The output without what goes without saying.
fn lean(output: &Output) -> Value {
    let nothing = ObjectRef::new(Kind::GatewayRoute, "", "");
    let default =
        json!(RouteSeed::new(&nothing, &ObjectMeta::default()).route("", 0, Vec::new(), Vec::new()));
    let routes = output.config.routes.iter().map(|(id, route)| {
        let mut route = without_defaults(json!(route), &default);
        route.as_object_mut().expect("a route is a map").shift_remove("id");
        (id.to_string(), route)
    });
    let routes: serde_json::Map<String, Value> = routes.collect();
    let mut lean = json!({
        "routes": routes,
        "endpoints": output.endpoints.backends,
        "report": output.report.lines,
        "standings": output.standings,
    });
    if !output.config.tls.is_empty() {
        lean["tls"] = json!(output.config.tls);
    }
    if !output.config.passthrough.is_empty() {
        lean["passthrough"] = json!(output.config.passthrough);
    }
    if !output.endpoint_report.lines.is_empty() {
        lean["endpointReport"] = json!(output.endpoint_report.lines);
    }
    lean
}

/// By object; one without a fault is just `good`.
fn standings(standings: &BTreeMap<ObjectRef, Arc<Standing>>) -> Value {
    let written = |judgement: &Judgement| {
        let Judgement { holds, reason, message } = judgement;
        json!({"status": if *holds { "True" } else { "False" }, "reason": reason.as_str(), "message": message})
    };
    let entries = standings.iter().map(|(id, standing)| {
        assert!(standing.accepted.message.len() <= MESSAGE_BYTES_MAX, "{id}");
        assert!(standing.resolved_refs.message.len() <= MESSAGE_BYTES_MAX, "{id}");
        let value = if *standing == crate::standing::standing(&[], Extent::Served, None) {
            json!("good")
        } else {
            json!({"accepted": written(&standing.accepted), "resolvedRefs": written(&standing.resolved_refs)})
        };
        (id.to_string(), value)
    });
    Value::Object(entries.collect())
}

/// Leaves out members that equal the default's, and in the others what is empty.
fn without_defaults(value: Value, default: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let members = map.into_iter().filter_map(|(name, value)| match default.get(&name) {
                Some(default) if value == *default => None,
                Some(default) => Some((name, without_defaults(value, default))),
                None if value.is_null() || value == json!([]) => None,
                None => Some((name, without_defaults(value, &Value::Null))),
            });
            Value::Object(members.collect())
        }
        Value::Array(items) => items.into_iter().map(|item| without_defaults(item, &Value::Null)).collect(),
        value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => value,
    }
}

fn read(case: &str, input: &str) -> Input {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(input).unwrap_or_else(|error| panic!("{case}: {error}"));
    let mut snapshot = Snapshot::default();
    let mut settings = Settings::folder();
    let mut full = false;
    let refused: Vec<RefusedAnnotationDocument> =
        documents.iter().filter_map(|document| serde_json::from_value(document.clone()).ok()).collect();
    for document in documents {
        match document.get("kind").and_then(Value::as_str).expect("every document has a kind") {
            "Settings" => {
                let document: SettingsDocument = serde_json::from_value(document).expect("settings");
                settings = Settings {
                    ingress_class: document.ingress_class,
                    allow_external_backends: document.allow_external_backends,
                    allow_local_endpoints: document.allow_local_endpoints,
                    allow_private_jwks: document.allow_private_jwks,
                    own_addresses: document.own_addresses,
                    zone: document.zone,
                    regions: document.regions,
                    affinity_key_secret: document.affinity_key_secret,
                    default_tls_secret: document.default_tls_secret,
                    default_class_if_lone: document.default_class_if_lone,
                };
            }
            "Output" => {
                let document: OutputDocument = serde_json::from_value(document).expect("output options");
                full = document.full;
            }
            "RefusedSecret" => {
                let document: RefusedSecretDocument =
                    serde_json::from_value(document).expect("a refused Secret");
                let id = ObjectRef::new(Kind::Secret, document.namespace, document.name);
                snapshot.refuse_secret(&id, document.reason);
            }
            "UnstapledSecret" => {
                let document: RefusedSecretDocument =
                    serde_json::from_value(document).expect("a Secret that is not stapled");
                let id = ObjectRef::new(Kind::Secret, document.namespace, document.name);
                snapshot.leave_unstapled(&id, document.reason);
            }
            "Refused" => {
                let document: RefusedDocument = serde_json::from_value(document).expect("a refused policy");
                let id = ObjectRef::new(kind(&document.policy), document.namespace, document.name);
                let target = |target: RefusedTargetDocument| RefusedTarget {
                    kind: kind(&target.kind),
                    name: target.name,
                    section: target.section_name,
                };
                let targets = document.targets.into_iter().map(target).collect();
                snapshot.refused.insert(id, RefusedPolicy { targets });
            }
            "RefusedAnnotation" => {}
            name => {
                let object = Object::from_json(kind(name), document.clone());
                let mut object = object.unwrap_or_else(|error| panic!("{case}: {error} in {document}"));
                object.set_rule_notes(rule_notes(&object, &refused));
                snapshot.apply(object);
            }
        }
    }
    Input { snapshot, settings, full }
}

/// As a source reads them.
fn rule_notes(object: &Object, refused: &[RefusedAnnotationDocument]) -> Option<RuleNotes> {
    let annotations = object.metadata().annotations.clone().unwrap_or_default();
    let mut rule = json!({"name": ""});
    let mut notes = RuleNotes::default();
    for (annotation, field) in api::RULE_ANNOTATIONS {
        let Some(text) = annotations.get(annotation) else { continue };
        let name = object.metadata().name.as_deref();
        let of_this =
            refused.iter().filter(|one| Some(one.ingress.as_str()) == name && one.annotation == annotation);
        let before = notes.refused.len();
        notes.refused.extend(of_this.map(|one| RefusedNote {
            annotation,
            field: one.field.clone(),
            message: one.message.clone(),
            remedy: one.remedy.clone(),
        }));
        if notes.refused.len() == before {
            rule[field] = serde_saphyr::from_str(text).expect("the text is sound YAML");
        }
    }
    notes.rule = serde_json::from_value(rule).expect("fields of a rule");
    annotations.keys().any(|name| api::RULE_ANNOTATIONS.iter().any(|(one, _)| one == name)).then_some(notes)
}

fn kind(name: &str) -> Kind {
    Kind::named(name).unwrap_or_else(|| panic!("{name} is no kind"))
}

fn cases() -> Vec<String> {
    let mut cases: Vec<String> = fs::read_dir(folder())
        .expect("testdata is there")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".in.yaml").map(str::to_owned))
        .collect();
    cases.sort();
    cases
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn path(case: &str, side: &str) -> PathBuf {
    folder().join(format!("{case}.{side}.yaml"))
}
