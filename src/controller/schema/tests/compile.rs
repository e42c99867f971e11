//! The definitions as such: every rule is compiled, and what cannot be enforced is refused at once.

use super::*;

#[test]
fn every_rule_of_the_definitions_is_compiled() {
    fn count(value: &Value) -> usize {
        match value {
            Value::Object(fields) => {
                let here =
                    fields.get("x-kubernetes-validations").and_then(Value::as_array).map_or(0, Vec::len);
                here + fields.values().map(count).sum::<usize>()
            }
            Value::Array(items) => items.iter().map(count).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }
    fn compiled(node: &Node) -> usize {
        let below = match &node.shape {
            node::Shape::Object { properties, .. } => properties.values().map(compiled).sum(),
            node::Shape::Map { values: items, .. } | node::Shape::List { items, .. } => compiled(items),
            node::Shape::Text(_)
            | node::Shape::Integer(_)
            | node::Shape::IntOrString(..)
            | node::Shape::Boolean => 0,
        };
        node.rules.len() + below
    }
    let written: usize = api::crds().iter().map(|crd| count(&serde_json::to_value(crd).expect("JSON"))).sum();
    assert_eq!(schemas().kinds.iter().map(|(_, node)| compiled(node)).sum::<usize>(), written);
    assert!(written > 50, "{written}");
}

#[test]
fn a_keyword_or_rule_that_cannot_be_enforced_is_refused_at_once() {
    let compile = |schema: Value| Node::compile(&schema, "T", "").map(drop);
    let object = |rule: &str| {
        json!({
            "type": "object",
            "properties": {
                "a": {"type": "string"}, "o": {"type": "object", "properties": {}},
                "l": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            },
            "x-kubernetes-validations": [{"rule": rule, "message": "m; r"}],
        })
    };
    let good =
        ["self.a == 'x'", "has(self.o)", "size(self.l) > 0", "self.l.filter(x, x.a == 'y').size() == 1"];
    for rule in good {
        assert_eq!(compile(object(rule)), Ok(()), "{rule}");
    }
    let bad = [
        json!({"type": "string", "format": "date-time", "contentEncoding": "x"}),
        json!({"type": "string", "pattern": "("}),
        json!({"type": "number"}),
        json!({"type": "object", "properties": {}, "additionalProperties": true}),
        json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "bag"}),
        json!({"type": "string", "nullable": true}),
        json!(true),
        object("self.b == 'x'"),
        object("has(self.a.b)"),
        object("self.o == self.o"),
        object("self.l == []"),
        object("other == 1"),
        object("self.a =="),
        object("self.l.filter(x, true)[0].a == 'x'"),
        json!({"type": "string", "x-kubernetes-validations": [{"rule": "true", "message": "m", "fieldPath": ".a"}]}),
    ];
    for schema in bad {
        assert!(compile(schema.clone()).is_err(), "{schema}");
    }
}

#[test]
fn a_rule_that_cannot_be_evaluated_refuses() {
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "x-kubernetes-validations": [
            {"rule": "duration(self.a) > duration('1s')", "message": "m; r"},
            {"rule": "noSuchFunction(self.a)", "message": "n; r"},
        ],
    });
    let node = Node::compile(&schema, "T", "").expect("compiles");
    let violations = check::root(&node, &json!({"a": "no time"}), &schemas().context);
    assert_eq!(violations.len(), 2, "{violations:?}");
    assert!(violations[0].message.ends_with("could not be evaluated"), "{violations:?}");
}
