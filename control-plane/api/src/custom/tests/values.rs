//! Values against their schema, with the messages of upstream.

use super::*;

fn errors(tree: &Value, value: &Value) -> Vec<String> {
    let tree = json!({"type": "object", "properties": {"field": tree}});
    let value = json!({"field": value});
    shown(&validate_value(&schema(tree), &value, None, None))
}

#[test]
fn types_are_told_apart() {
    let object = json!({"type": "object"});
    let int_or_string = json!({"x-kubernetes-int-or-string": true});
    let number = json!({"type": "number"});
    for (tree, value, found) in [
        (&object, json!("foo"), Some("string")),
        (&object, json!(42), Some("integer")),
        (&object, json!(true), Some("boolean")),
        (&object, json!(1.2), Some("number")),
        (&object, json!([]), Some("array")),
        (&object, json!(null), Some("null")),
        (&object, json!({}), None),
        (&json!({"type": "object", "nullable": true}), json!(null), None),
        (&json!({"nullable": true}), json!(null), None),
        (&int_or_string, json!(42), None),
        (&int_or_string, json!("foo"), None),
        (&int_or_string, json!(true), Some("boolean")),
        (&int_or_string, json!(null), Some("null")),
        (&json!({"x-kubernetes-int-or-string": true, "nullable": true}), json!(null), None),
        (&number, json!(3), None),
        (&number, json!("3"), Some("string")),
        (&json!({"type": "integer"}), json!(3.0), None),
        (&json!({"type": "integer"}), json!("x"), Some("string")),
        (&json!({"type": "array", "items": {"type": "string"}}), json!(["a"]), None),
    ] {
        let wanted = tree["type"].as_str().unwrap_or("integer,string");
        let expected: Vec<String> = found
            .map(|found| {
                format!("field: Invalid value: {found:?}: field in body must be of type {wanted}: {found:?}")
            })
            .into_iter()
            .collect();
        assert_eq!(errors(tree, &value), expected, "{tree} {value}");
    }
}

#[test]
fn limits_have_the_words_of_upstream() {
    let any_of = json!([{"type": "integer"}, {"type": "string"}]);
    let anyway = json!({"nullable": true, "x-kubernetes-int-or-string": true, "anyOf": any_of});
    let all = json!({"nullable": true, "x-kubernetes-int-or-string": true, "allOf": [{"anyOf": any_of}]});
    let rows = [
        (
            json!({"type": "string", "maxLength": 2}),
            json!("abc"),
            vec!["field: Too long: may not be more than 2 bytes"],
        ),
        (json!({"type": "string", "maxLength": 2}), json!("äö"), vec![]),
        (
            json!({"type": "string", "minLength": 2}),
            json!("a"),
            vec!["field: Invalid value: \"a\": field in body should be at least 2 chars long"],
        ),
        (
            json!({"type": "string", "pattern": "^a$"}),
            json!("b"),
            vec!["field: Invalid value: \"b\": field in body should match '^a$'"],
        ),
        (
            json!({"type": "array", "maxItems": 2}),
            json!([1, 2, 3]),
            vec!["field: Too many: 3: must have at most 2 items"],
        ),
        (
            json!({"type": "array", "minItems": 1}),
            json!([]),
            vec!["field: Invalid value: 0: field in body should have at least 1 items"],
        ),
        (
            json!({"type": "object", "maxProperties": 2}),
            json!({"a": 1, "b": 1, "c": 1}),
            vec!["field: Too many: 3: must have at most 2 items"],
        ),
        (
            json!({"type": "object", "minProperties": 1}),
            json!({}),
            vec!["field: Invalid value: 0: field in body should have at least 1 properties"],
        ),
        (
            json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}),
            json!({}),
            vec!["field.a: Required value"],
        ),
        (
            json!({"type": "integer", "maximum": 5}),
            json!(6),
            vec!["field: Invalid value: 6: field in body should be less than or equal to 5"],
        ),
        (
            json!({"type": "integer", "maximum": 5, "exclusiveMaximum": true}),
            json!(5),
            vec!["field: Invalid value: 5: field in body should be less than 5"],
        ),
        (
            json!({"type": "number", "minimum": 0.5}),
            json!(0.25),
            vec!["field: Invalid value: 0.25: field in body should be greater than or equal to 0.5"],
        ),
        (
            json!({"type": "number", "minimum": 1, "exclusiveMinimum": true}),
            json!(1),
            vec!["field: Invalid value: 1: field in body should be greater than 1"],
        ),
        (
            json!({"type": "integer", "multipleOf": 3}),
            json!(7),
            vec!["field: Invalid value: 7: field in body should be a multiple of 3"],
        ),
        (json!({"type": "number", "multipleOf": 0.1}), json!(0.3), vec![]),
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("c"),
            vec!["field: Unsupported value: \"c\": supported values: \"a\", \"b\""],
        ),
        (
            json!({"type": "integer", "enum": [1, 2]}),
            json!("x"),
            vec![
                "field: Invalid value: \"string\": field in body must be of type integer: \"string\"",
                "field: Unsupported value: \"x\": supported values: \"1\", \"2\"",
            ],
        ),
        (json!({"type": "integer", "format": "int32"}), json!(2_147_483_647), vec![]),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(2_147_483_648_i64),
            vec![
                "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in field",
            ],
        ),
        (
            json!({"type": "integer", "format": "int64"}),
            json!(1e300),
            vec![
                "<nil>: Invalid value: \"\": Checked value must be of type integer with format int64 in field",
                "field: Invalid value: \"float64\": field in body must be of type int64: \"float64\"",
            ],
        ),
        (
            json!({"type": "number", "format": "float"}),
            json!(1e300),
            vec![
                "<nil>: Invalid value: \"\": Checked value must be of type number with format float in field",
            ],
        ),
        (
            json!({"type": "string", "format": "k8s-short-name"}),
            json!("a-"),
            vec!["field: Invalid value: \"a-\": field in body must be of type k8s-short-name: \"a-\""],
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("x"),
            vec!["field: Invalid value: \"x\": field in body must be of type date-time: \"x\""],
        ),
        (json!({"type": "string", "format": "nobody-knows"}), json!("x"), vec![]),
        (
            anyway,
            json!(true),
            vec![
                "<nil>: Invalid value: \"\": \"field\" must validate at least one schema (anyOf)",
                "field: Invalid value: \"boolean\": field in body must be of type integer,string: \"boolean\"",
                "field: Invalid value: \"boolean\": field in body must be of type integer: \"boolean\"",
            ],
        ),
        (
            all,
            json!(1.2),
            vec![
                "<nil>: Invalid value: \"\": \"field\" must validate all the schemas (allOf). None validated",
                "<nil>: Invalid value: \"\": \"field\" must validate at least one schema (anyOf)",
                "<nil>: Invalid value: \"\": Checked value must be of type integer (default format) in field",
                "field: Invalid value: \"number\": field in body must be of type integer,string: \"number\"",
                "field: Invalid value: \"number\": field in body must be of type integer: \"number\"",
            ],
        ),
        (
            json!({"type": "string", "oneOf": [{"pattern": "a"}, {"pattern": "b"}]}),
            json!("ab"),
            vec![
                "<nil>: Invalid value: \"\": \"field\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
            ],
        ),
        (
            json!({"type": "string", "not": {"enum": ["a"]}}),
            json!("a"),
            vec!["<nil>: Invalid value: \"\": \"field\" must not validate the schema (not)"],
        ),
    ];
    for (tree, value, expected) in rows {
        assert_eq!(errors(&tree, &value), expected, "{tree} {value}");
    }
}

#[test]
fn paths_show_where_values_are() {
    let tree = schema(json!({"type": "object", "required": ["b"], "properties": {
        "list": {"type": "array", "items": {"type": "object", "required": ["x"], "properties": {"n": {"type": "string"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
    }}));
    let value = json!({"list": [{"x": 1, "n": 1}, {}], "map": {"k": 1}});
    let expected = [
        "b: Required value",
        "list[0].n: Invalid value: \"integer\": list[0].n in body must be of type string: \"integer\"",
        "list[1].x: Required value",
        "map.k: Invalid value: \"integer\": map.k in body must be of type string: \"integer\"",
    ];
    assert_eq!(shown(&validate_value(&tree, &value, None, None)), expected);
    let status = crate::field::Path::new("status");
    let below = shown(&validate_value(&tree, &json!({"map": {"k": 1}}), Some(&status), None));
    assert_eq!(
        below,
        [
            "status.b: Required value",
            "status.map.k: Invalid value: \"integer\": map.k in body must be of type string: \"integer\"",
        ]
    );
}

#[test]
fn what_was_wrong_before_may_stay() {
    let tree = schema(json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 2}, "b": {"type": "string"},
        "nested": {"type": "object", "required": ["must"], "properties": {"must": {"type": "string"}, "x": {"type": "integer"}}},
        "keyed": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 3}}},
        },
        "atomic": {"type": "array", "items": {"type": "integer", "maximum": 3}},
        "sum": {"type": "string", "allOf": [{"maxLength": 1}]},
    }}));
    let wrong = |new: Value, old: Value| shown(&validate_value(&tree, &new, None, Some(&old)));
    let none = Vec::<String>::new();
    assert_eq!(wrong(json!({"a": "long", "b": "x"}), json!({"a": "long", "b": "y"})), none);
    assert_eq!(
        wrong(json!({"a": "longer"}), json!({"a": "long"})),
        ["a: Too long: may not be more than 2 bytes"]
    );
    assert_eq!(wrong(json!({"nested": {"x": 1}}), json!({"nested": {"x": 1}})), none);
    assert_eq!(
        wrong(json!({"nested": {"x": 2}}), json!({"nested": {"x": 1}})),
        ["nested.must: Required value"]
    );
    let kept = wrong(
        json!({"keyed": [{"k": "new", "v": 1}, {"k": "a", "v": 9}]}),
        json!({"keyed": [{"k": "a", "v": 9}]}),
    );
    assert_eq!(kept, none);
    let changed = wrong(json!({"keyed": [{"k": "a", "v": 8}]}), json!({"keyed": [{"k": "a", "v": 9}]}));
    assert_eq!(
        changed,
        ["keyed[0].v: Invalid value: 8: keyed[0].v in body should be less than or equal to 3"]
    );
    assert_eq!(wrong(json!({"atomic": [9]}), json!({"atomic": [9]})), none);
    let more = wrong(json!({"atomic": [9, 1]}), json!({"atomic": [9]}));
    assert_eq!(more, ["atomic[0]: Invalid value: 9: atomic[0] in body should be less than or equal to 3"]);
    assert_eq!(wrong(json!({"sum": "ab"}), json!({"sum": "ab"})), none);
    assert_eq!(wrong(json!({"sum": "ab"}), json!({"sum": "ac"})).len(), 2);
}

#[test]
fn elements_of_sets_and_maps_differ() {
    let here = crate::field::Path::default();
    let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}});
    let map = |keys: Value| json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys, "items": {"type": "object"}});
    for (tree, value, expected) in [
        (set.clone(), json!(["a", "b"]), vec![]),
        (
            set.clone(),
            json!(["a", "b", "a", "a", "b"]),
            vec!["l[2]: Duplicate value: \"a\"", "l[4]: Duplicate value: \"b\""],
        ),
        (set, json!([{"a": 1}, {"a": 1}]), vec!["l[1]: Duplicate value: {\"a\":1}"]),
        (
            map(json!(["a"])),
            json!([{"a": 1, "b": 1}, {"a": 1, "b": 2}]),
            vec!["l[1]: Duplicate value: {\"a\":1}"],
        ),
        (map(json!(["a"])), json!([{"b": 1}, null]), vec!["l[1]: Duplicate value: {}"]),
        (map(json!(["a", "b"])), json!([{"a": 1, "b": 1}, {"a": 1, "b": 2}]), vec![]),
        (
            map(json!(["a"])),
            json!([{"a": 1}, "x"]),
            vec!["l[1]: Invalid value: \"x\": must be an object for an array of list-type map"],
        ),
    ] {
        let schema = schema(json!({"type": "object", "properties": {"l": tree}}));
        let value = json!({"l": value});
        assert_eq!(shown(&validate_lists(&schema, &value, &here)), expected, "{value}");
    }
}
