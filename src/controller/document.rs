//! From one document to the objects in it: which kind it is, whether it is valid, what is filled in. Knows nothing
//! of files and of clusters; opens none.

use ir::{Kind, ObjectRef};
use serde_json::{Map, Value};
use translate::{DEFAULT_NAMESPACE, Object, RefusedPolicy, RefusedTarget, Severity};

use crate::rule_annotation;
use crate::schema::{Schemas, Violation};

/// The group of our own kinds; nothing else may use it.
const OWN_GROUP: &str = "gateway.baribhara.io";
/// The longest name of an object (RFC 1123 subdomain) in bytes.
const NAME_BYTES_MAX: usize = 253;
/// The longest name of a namespace (RFC 1123 label) in bytes.
const NAMESPACE_BYTES_MAX: usize = 63;
const NO_NAMESPACE: &str = "this is not the name of a namespace";
/// How many fields are tried when the one that does not fit is looked for.
const FIELD_TRIES_MAX: usize = 500;
/// How many bytes of JSON are copied for these tries at most; of a large object fewer fields are tried.
const FIELD_TRIES_BYTES_MAX: usize = 16 << 20;

/// One object as it was read.
#[derive(Debug)]
pub(crate) struct ReadObject {
    pub(crate) object: ObjectRef,
    pub(crate) outcome: Outcome,
}

/// Whether an object may take effect.
#[derive(Debug)]
pub(crate) enum Outcome {
    Good(Object),
    /// What could still be read of a policy's targets; empty for other kinds.
    Refused(RefusedPolicy),
}

/// Something to say about the document; the field's way starts at the object.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// `Kind/namespace/name` as far as it could be read.
    pub(crate) object: String,
    pub(crate) field: String,
    pub(crate) message: String,
    pub(crate) remedy: String,
}

/// What one object of a document came to.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) object: Option<ReadObject>,
    pub(crate) findings: Vec<Finding>,
    /// It is not even known which object this is, so nobody knows which last good version it stands for.
    pub(crate) unidentified: bool,
    /// Why the OCSP response of a Secret is not stapled.
    pub(crate) unstapled: Option<String>,
    /// How the object is called in findings.
    label: String,
}

/// The objects of a document: itself, or the items of a `List` with their index.
pub(crate) fn unroll(document: Value) -> Vec<(Option<u32>, Value)> {
    match document {
        Value::Null => Vec::new(),
        Value::Object(mut entries) if entries.get("kind").and_then(Value::as_str) == Some("List") => {
            match entries.remove("items") {
                Some(Value::Array(items)) => (0..).map(Some).zip(items).collect(),
                Some(Value::Null) | None => Vec::new(),
                Some(other) => vec![(Some(0), other)],
            }
        }
        other @ (Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_)) => {
            vec![(None, other)]
        }
    }
}

/// Reads one object. `cut_off`: the text broke off inside it, so it is refused whatever it says.
pub(crate) fn read(value: Value, schemas: &Schemas, cut_off: bool) -> Reading {
    let Value::Object(entries) = value else {
        let remedy = "write a mapping with apiVersion and kind";
        return Reading::default().unidentified("", "this is not a Kubernetes object", remedy);
    };
    let (api_version, kind_name) = (text(&entries, "apiVersion"), text(&entries, "kind"));
    let mut reading = Reading { label: label(kind_name, &entries), ..Reading::default() };
    for (field, value, remedy) in
        [("kind", kind_name, "add kind"), ("apiVersion", api_version, "add apiVersion")]
    {
        if value.is_empty() {
            return reading.unidentified(field, &format!("{field} is missing"), remedy);
        }
    }
    let kind = match identify(api_version, kind_name) {
        Identity::Ours(kind) if cut_off => return reading.refuse(kind, &Value::Object(entries)),
        Identity::Ours(kind) => kind,
        Identity::WrongVersion(kind) => {
            let message = format!("{kind} of {api_version} is not known");
            reading.find(Severity::Error, "apiVersion", &message, &format!("use {}", api_version_of(kind)));
            return reading.refuse(kind, &Value::Object(entries));
        }
        Identity::Namesake => {
            let message = format!("ignored: {kind_name} of {api_version} is another kind of the same name");
            reading.find(Severity::Warning, "apiVersion", &message, "");
            return reading;
        }
        Identity::UnknownOwn => {
            let message = format!("{kind_name} is no kind of {OWN_GROUP}");
            let remedy = "use GatewayRoute, RateLimitPolicy or AuthPolicy";
            return reading.unidentified("kind", &message, remedy);
        }
        Identity::Other => {
            reading.find(Severity::Info, "", &format!("ignored: {kind_name} is not read by the gateway"), "");
            return reading;
        }
    };
    reading.admit(kind, entries, schemas)
}

impl Reading {
    fn admit(mut self, kind: Kind, mut entries: Map<String, Value>, schemas: &Schemas) -> Self {
        if let Err((field, message)) = complete_metadata(kind, &mut entries) {
            let remedy = "use lower case letters, digits, '-' and '.', as the API server does";
            self.find(Severity::Error, field, &message, remedy);
            return self.refuse(kind, &Value::Object(entries));
        }
        let value = Value::Object(entries);
        match kind {
            Kind::GatewayRoute | Kind::RateLimitPolicy | Kind::AuthPolicy => {}
            Kind::IngressClass
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::ConfigMap
            | Kind::ReferenceGrant => return self.build(kind, &value),
            Kind::Ingress => return self.build(kind, &value).read_annotations(schemas),
            Kind::Secret => return self.build(kind, &value).check_certificate(schemas, &value),
        }
        // The targets are read from the object as it was written, before anything is taken out of it.
        let as_refused = refused(kind, &value);
        match schemas.admit(kind, value) {
            Ok(admitted) => {
                for field in &admitted.pruned {
                    self.find(Severity::Warning, field, "unknown field: it has no effect", &field.remedy);
                }
                self.build(kind, &admitted.object)
            }
            Err(violations) => {
                for Violation { path, message, remedy } in &violations {
                    self.find(Severity::Error, path, message, remedy);
                }
                self.object = as_refused;
                self
            }
        }
    }

    fn build(mut self, kind: Kind, value: &Value) -> Self {
        // The value is needed again in the rare case that it does not fit.
        match Object::from_json(kind, value.clone()) {
            Ok(built) => {
                let object = built.object_ref();
                self.object = Some(ReadObject { object, outcome: Outcome::Good(built) });
                self
            }
            Err(message) => {
                // The reader's message may quote the value.
                let message =
                    if kind == Kind::Secret { "this is not the shape of a Secret" } else { &message };
                self.find(
                    Severity::Error,
                    &misfit(kind, value),
                    message,
                    "write it as the Kubernetes API defines it",
                );
                self.refuse(kind, value)
            }
        }
    }

    /// What is wrong with annotations harms only what they say, so translation tells of it.
    fn read_annotations(mut self, schemas: &Schemas) -> Self {
        if let Some(ReadObject { outcome: Outcome::Good(object), .. }) = &mut self.object {
            object.set_rule_notes(rule_annotation::read(object.metadata().annotations.as_ref(), schemas));
        }
        self
    }

    /// A certificate that cannot be served is refused where it is read, so that the one before it stays.
    fn check_certificate(mut self, schemas: &Schemas, value: &Value) -> Self {
        let Some(ReadObject { outcome: Outcome::Good(object), .. }) = &self.object else { return self };
        let Some((chain, key)) = object.certificate() else { return self };
        let reason = match (schemas.check_certificate)(chain, key, object.ocsp_response()) {
            Ok(None) => return self,
            Ok(Some(reason)) => return self.leave_unstapled(reason),
            Err(reason) => reason,
        };
        let message = format!("its certificate cannot be served: {reason}");
        let remedy =
            "store the chain as PEM in tls.crt, the server's own certificate first, and its key in tls.key";
        self.find(Severity::Error, "data", &message, remedy);
        self.refuse(Kind::Secret, value)
    }

    fn leave_unstapled(mut self, reason: String) -> Self {
        let message =
            format!("its OCSP response is not stapled, and its certificate is served without: {reason}");
        let remedy = "store a current response of the certificate's authority as DER in tls.ocsp-staple, or take the \
                      entry out";
        let field = format!("data['{}']", api::TLS_OCSP_STAPLE_KEY);
        self.find(Severity::Warning, &field, &message, remedy);
        self.unstapled = Some(reason);
        self
    }

    fn refuse(mut self, kind: Kind, value: &Value) -> Self {
        self.object = refused(kind, value);
        self.unidentified = self.object.is_none();
        self
    }

    fn unidentified(mut self, field: &str, message: &str, remedy: &str) -> Self {
        self.find(Severity::Error, field, message, remedy);
        self.unidentified = true;
        self
    }

    fn find(&mut self, severity: Severity, field: &str, message: &str, remedy: &str) {
        self.findings.push(Finding {
            severity,
            object: self.label.clone(),
            field: field.to_owned(),
            message: message.to_owned(),
            remedy: remedy.to_owned(),
        });
    }
}

/// The object as a refused one; `None` where it cannot be told which one it is.
fn refused(kind: Kind, value: &Value) -> Option<ReadObject> {
    let outcome = Outcome::Refused(refused_policy(kind, value));
    Some(ReadObject { object: object_ref(kind, value)?, outcome })
}

/// What a kind and its apiVersion are to us.
enum Identity {
    Ours(Kind),
    /// Our group, or one of Kubernetes' own, with a version that is not read.
    WrongVersion(Kind),
    /// A kind of somebody else's that has the same name.
    Namesake,
    /// Our group, but no kind of ours: a typing error, and perhaps in a policy.
    UnknownOwn,
    Other,
}

fn identify(api_version: &str, kind_name: &str) -> Identity {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let Some(kind) = Kind::named(kind_name) else {
        return if group == OWN_GROUP { Identity::UnknownOwn } else { Identity::Other };
    };
    // Both versions have the same shape, and clusters of either are in use.
    let grant = kind == Kind::ReferenceGrant && api_version == "gateway.networking.k8s.io/v1beta1";
    if grant || api_version == api_version_of(kind) {
        return Identity::Ours(kind);
    }
    let foreign = group.contains('.') && group != OWN_GROUP && !group.ends_with(".k8s.io");
    if foreign { Identity::Namesake } else { Identity::WrongVersion(kind) }
}

pub(crate) const fn api_version_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Ingress | Kind::IngressClass => "networking.k8s.io/v1",
        Kind::GatewayRoute | Kind::RateLimitPolicy | Kind::AuthPolicy => "gateway.baribhara.io/v1alpha1",
        Kind::Service | Kind::Secret | Kind::ConfigMap => "v1",
        Kind::EndpointSlice => "discovery.k8s.io/v1",
        Kind::ReferenceGrant => "gateway.networking.k8s.io/v1",
    }
}

/// Checks the name and puts the namespace where the API server would.
fn complete_metadata(kind: Kind, entries: &mut Map<String, Value>) -> Result<(), (&'static str, String)> {
    let Some(Value::Object(metadata)) = entries.get_mut("metadata") else {
        return Err(("metadata", "metadata is missing".to_owned()));
    };
    check_name(text(metadata, "name"), NAME_BYTES_MAX).map_err(|message| ("metadata.name", message))?;
    if !kind.is_namespaced() {
        metadata.remove("namespace");
        return Ok(());
    }
    match metadata.get("namespace") {
        None | Some(Value::Null) => {
            metadata.insert("namespace".to_owned(), Value::String(DEFAULT_NAMESPACE.to_owned()));
            Ok(())
        }
        Some(Value::String(namespace)) => {
            check_namespace(namespace).map_err(|message| ("metadata.namespace", message))
        }
        Some(_) => Err(("metadata.namespace", NO_NAMESPACE.to_owned())),
    }
}

fn check_namespace(namespace: &str) -> Result<(), String> {
    if namespace.contains('.') {
        return Err(NO_NAMESPACE.to_owned());
    }
    check_name(namespace, NAMESPACE_BYTES_MAX)
}

fn check_name(name: &str, bytes_max: usize) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name is missing or not a string".to_owned());
    }
    if name.len() > bytes_max {
        return Err(format!("the name is longer than {bytes_max} characters"));
    }
    let good_label = |label: &str| {
        let ends = |end: Option<char>| end.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let inner = label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        inner && ends(label.chars().next()) && ends(label.chars().next_back())
    };
    if name.split('.').all(good_label) { Ok(()) } else { Err("this is not a valid name".to_owned()) }
}

fn text<'v>(entries: &'v Map<String, Value>, key: &str) -> &'v str {
    entries.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Which object this is. `None` also where the namespace is none: an object must not be taken for one of another
/// namespace, because the one that is meant would be deleted.
pub(crate) fn object_ref(kind: Kind, value: &Value) -> Option<ObjectRef> {
    let metadata = value.get("metadata")?;
    let name = metadata.get("name")?.as_str().filter(|name| !name.is_empty())?;
    let namespace = match metadata.get("namespace") {
        Some(Value::String(namespace)) => Some(namespace.as_str()),
        None | Some(Value::Null) => None,
        Some(_) if kind.is_namespaced() => return None,
        Some(_) => None,
    };
    if kind.is_namespaced() && namespace.is_some_and(|namespace| check_namespace(namespace).is_err()) {
        return None;
    }
    Some(translate::object_ref(kind, namespace, name))
}

/// How the object is called in messages: as [`ObjectRef`] is written, with what could be read.
fn label(kind: &str, entries: &Map<String, Value>) -> String {
    let metadata = entries.get("metadata").and_then(Value::as_object);
    let name = metadata.map(|metadata| text(metadata, "name")).unwrap_or_default();
    let namespace = metadata.map(|metadata| text(metadata, "namespace")).unwrap_or_default();
    match (kind, name) {
        (kind, "") => kind.to_owned(),
        ("IngressClass", name) => format!("{kind}//{name}"),
        (kind, name) if namespace.is_empty() => format!("{kind}/{DEFAULT_NAMESPACE}/{name}"),
        (kind, name) => format!("{kind}/{namespace}/{name}"),
    }
}

/// What can still be read of a refused policy's targets.
fn refused_policy(kind: Kind, value: &Value) -> RefusedPolicy {
    if !kind.is_policy() {
        return RefusedPolicy::default();
    }
    let targets = value.pointer("/spec/targetRefs").and_then(Value::as_array);
    let targets = targets.into_iter().flatten().filter_map(|target| {
        Some(RefusedTarget {
            kind: target.get("kind").and_then(Value::as_str).and_then(Kind::named)?,
            name: target.get("name")?.as_str()?.to_owned(),
            section: target.get("sectionName").and_then(Value::as_str).map(str::to_owned),
        })
    });
    RefusedPolicy { targets: targets.collect() }
}

/// The deepest field without which the object could be read: the one that does not fit. Empty where a field is
/// missing, and where the object is too large to look. Runs only when an object is refused.
fn misfit(kind: Kind, value: &Value) -> String {
    let mut way = String::new();
    let mut pointer = String::new();
    let bytes = serde_json::to_vec(value).map_or(usize::MAX, |text| text.len());
    let tries_max = FIELD_TRIES_MAX.min(FIELD_TRIES_BYTES_MAX / bytes.max(1));
    let mut tries = 0;
    loop {
        let Some(node) = value.pointer(&pointer) else { return way };
        let children: Vec<(String, String)> = match node {
            Value::Object(entries) => entries
                .keys()
                .map(|key| {
                    (format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")), step(&way, key))
                })
                .collect(),
            Value::Array(items) => (0..items.len())
                .map(|index| (format!("{pointer}/{index}"), format!("{way}[{index}]")))
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return way,
        };
        tries += children.len();
        if tries > tries_max {
            return way;
        }
        match children.into_iter().find(|(child, _)| fits_without(kind, value, &pointer, child)) {
            // What stands deeper in a Secret is its content, and so are the keys there.
            Some((_, child_way)) if kind == Kind::Secret => return child_way,
            Some((child, child_way)) => (pointer, way) = (child, child_way),
            None => return way,
        }
    }
}

fn step(way: &str, key: &str) -> String {
    match (way.is_empty(), key.contains(['.', '/'])) {
        (true, _) => key.to_owned(),
        (false, true) => format!("{way}['{key}']"),
        (false, false) => format!("{way}.{key}"),
    }
}

fn fits_without(kind: Kind, value: &Value, parent: &str, child: &str) -> bool {
    let mut without = value.clone();
    let key = child.rsplit('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~");
    match without.pointer_mut(parent) {
        Some(Value::Object(entries)) => drop(entries.shift_remove(&key)),
        Some(Value::Array(items)) => match key.parse::<usize>() {
            Ok(index) if index < items.len() => drop(items.remove(index)),
            Ok(_) | Err(_) => return false,
        },
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => return false,
    }
    Object::from_json(kind, without).is_ok()
}
