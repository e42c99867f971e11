//! Any object at all: no panic, and what is admitted is admitted again.

use proptest::prelude::*;

use super::*;

fn any_json() -> impl Strategy<Value = Value> {
    let names = proptest::sample::select(vec![
        "spec",
        "rules",
        "name",
        "matches",
        "path",
        "type",
        "value",
        "filters",
        "cors",
        "backendRefs",
        "port",
        "auth",
        "retry",
        "on",
        "maxRequestBody",
        "limits",
        "rates",
        "per",
        "keys",
        "targetRefs",
        "jwks",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        proptest::sample::select(vec!["Exact", "CORS", "/a", "1s", "8Mi", "a"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 96, 5, move |inner| {
        let fields = proptest::collection::vec((names.clone(), inner.clone()), 0..6);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            fields.prop_map(|fields| Value::Object(
                fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_object_causes_a_panic_and_what_is_admitted_is_admitted_again(
        spec in any_json(),
        kind in proptest::sample::select(vec![Kind::GatewayRoute, Kind::RateLimitPolicy, Kind::AuthPolicy]),
    ) {
        if let Ok(admitted) = admit(kind, &spec) {
            let again = schemas().admit(kind, admitted.object.clone());
            prop_assert_eq!(again, Ok(Admitted { object: admitted.object, pruned: Vec::new() }));
        }
        drop(schemas().admit(kind, spec));
    }

    #[test]
    fn any_rule_is_refused_or_read_by_the_types(change in any_json()) {
        let change = if change.is_object() { change } else { json!({ "matches": change }) };
        if let Ok(admitted) = admit(Kind::GatewayRoute, &rule(&change)) {
            let typed = serde_json::from_value::<api::GatewayRoute>(admitted.object.clone());
            prop_assert!(typed.is_ok(), "{}: {:?}", admitted.object, typed.err());
        }
    }
}
