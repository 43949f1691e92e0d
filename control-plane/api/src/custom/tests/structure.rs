//! The rules of structure.

use super::*;

fn errors(tree: Value) -> Vec<String> {
    rules_of_structure(&crate::field::Path::default(), &schema(tree))
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn schemas_are_structural_or_not() {
    let int_or_string = json!([{"type": "integer"}, {"type": "string"}]);
    let root = |field: Value| json!({"type": "object", "properties": {"f": field}});
    let rows = [
        (json!({"type": "object"}), vec![]),
        (json!({}), vec!["type: Required value: must not be empty at the root"]),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            vec!["type: Invalid value: \"array\": must be object at the root"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            vec!["additionalProperties: Forbidden: must not be used at the root"],
        ),
        (
            root(json!({})),
            vec!["properties[f].type: Required value: must not be empty for specified object fields"],
        ),
        (root(json!({"x-kubernetes-preserve-unknown-fields": true})), vec![]),
        (root(json!({"x-kubernetes-int-or-string": true})), vec![]),
        (root(json!({"type": "array"})), vec!["properties[f].items: Required value: must be specified"]),
        (
            root(json!({"type": "array", "items": {}})),
            vec!["properties[f].items.type: Required value: must not be empty for specified array items"],
        ),
        (root(json!({"x-kubernetes-int-or-string": true, "anyOf": int_or_string})), vec![]),
        (
            root(
                json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": int_or_string}, {"pattern": "a"}]}),
            ),
            vec![],
        ),
        (
            root(json!({"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true})),
            vec![
                "properties[f].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
            ],
        ),
        (
            root(
                json!({"type": "string", "anyOf": [{"type": "string", "description": "x"}, {"nullable": true}]}),
            ),
            vec![
                "properties[f].anyOf[0].description: Forbidden: must be empty to be structural",
                "properties[f].anyOf[0].type: Forbidden: must be empty to be structural",
                "properties[f].anyOf[1].nullable: Forbidden: must be false to be structural",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "allOf": [
                {"properties": {"a": {"minLength": 2}, "b": {"minLength": 2}, "metadata": {}}}, {"items": {"minLength": 2}},
            ]}),
            vec![
                "allOf[0].properties[metadata]: Forbidden: must not be specified in a nested context",
                "items: Required value: because it is defined in allOf[1].items",
                "properties[b]: Required value: because it is defined in allOf[0].properties[b]",
                "properties[metadata]: Required value: because it is defined in allOf[0].properties[metadata]",
            ],
        ),
        (
            json!({"type": "object", "not": {"additionalProperties": {"minLength": 1}, "default": 1, "title": "x"}}),
            vec![
                "not.additionalProperties: Forbidden: must be undefined to be structural",
                "not.default: Forbidden: must be undefined to be structural",
                "not.title: Forbidden: must be empty to be structural",
            ],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}}}),
            vec![],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            vec![
                "properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ],
        ),
        (
            json!({"type": "object", "properties": {"kind": {"type": "integer"}, "metadata": {"type": "string"}}}),
            vec![
                "properties[kind].type: Invalid value: \"integer\": must be string",
                "properties[metadata].type: Invalid value: \"string\": must be object",
            ],
        ),
        (
            root(json!({"x-kubernetes-embedded-resource": true})),
            vec![
                "properties[f].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
                "properties[f].type: Required value: must be object if x-kubernetes-embedded-resource is true",
            ],
        ),
        (
            root(
                json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            ),
            vec![],
        ),
    ];
    for (tree, expected) in rows {
        assert_eq!(errors(tree.clone()), expected, "{tree}");
    }
    let wrong = errors(root(json!({"type": "string", "pattern": "+"})));
    assert!(wrong[0].starts_with(
        "properties[f].pattern: Invalid value: \"+\": must be a valid regular expression, but isn't: error parsing regexp: missing argument to repetition operator: `+`"
    ));
}

#[test]
fn keywords_that_cannot_be_served() {
    for (tree, expected) in [
        (json!({"$ref": "#/x"}), "OpenAPIV3Schema '$ref' is not supported"),
        (
            json!({"properties": {"a": {"definitions": {"x": {}}}}}),
            "OpenAPIV3Schema 'definitions' is not supported",
        ),
        (json!({"items": [{"type": "string"}]}), "OpenAPIV3Schema 'items' must be a schema, but is an array"),
        (
            json!({"x-kubernetes-preserve-unknown-fields": false}),
            "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined",
        ),
        (json!({"type": "text"}), "\"text\" is an invalid type name"),
    ] {
        assert_eq!(Structural::parse(&tree).unwrap_err().to_string(), expected);
    }
}
