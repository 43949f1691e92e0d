//! Pruning, nulls, defaults and metadata.

use super::*;

#[test]
fn what_a_schema_does_not_know_is_dropped() {
    let preserving = json!({
        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "alpha": {"type": "string"},
            "pruning": {"type": "object", "properties": {
                "preserving": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "pruning": {"type": "object"},
            }},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
            "map": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "additionalProperties": {"type": "object", "properties": {"known": {"type": "object"}}},
            },
        },
    });
    let embedded = json!({"type": "object", "properties": {
        "pruned": {
            "type": "object", "x-kubernetes-embedded-resource": true,
            "properties": {"spec": {"type": "object"}},
        },
        "preserving": {
            "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true,
        },
    }});
    let inner = json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n", "odd": 1}, "odd": 1, "spec": {"x": 1}});
    let rows = [
        (
            json!({"type": "object", "properties": {"a": {"type": "integer"}, "list": {
                "type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer"}}},
            }}}),
            json!({"a": 1, "b": {"c": 1}, "list": [{"a": 1}, {"b": 1}, 7]}),
            json!({"a": 1, "list": [{"a": 1}, {}, 7]}),
            vec!["b", "list[1].b"],
        ),
        (
            preserving,
            json!({
                "odd": {"deep": 1}, "alpha": "a",
                "pruning": {"odd": 1, "apiVersion": "x", "pruning": {"odd": 1}, "preserving": {"odd": 1}},
                "list": [{"a": "b", "odd": 1}], "any": [{"x": {"y": 1}}],
                "map": {"foo": {"known": {"odd": 1}, "odd": 1}},
            }),
            json!({
                "odd": {"deep": 1}, "alpha": "a", "pruning": {"pruning": {}, "preserving": {"odd": 1}},
                "list": [{"a": "b"}], "any": [{"x": {"y": 1}}], "map": {"foo": {"known": {}}},
            }),
            vec![
                "list[0].odd",
                "map.foo.known.odd",
                "map.foo.odd",
                "pruning.apiVersion",
                "pruning.odd",
                "pruning.pruning.odd",
            ],
        ),
        (
            json!({"type": "object", "properties": {"c": {"type": "object", "additionalProperties": true}}}),
            json!({"c": {"a": 1, "c": {"a": 1}}}),
            json!({"c": {"a": 1, "c": {}}}),
            vec!["c.c.a"],
        ),
        (
            embedded,
            json!({"apiVersion": "v", "kind": "R", "metadata": {"name": "n"}, "pruned": inner, "preserving": inner}),
            json!({
                "apiVersion": "v", "kind": "R", "metadata": {"name": "n"},
                "pruned": {"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n", "odd": 1}, "spec": {}},
                "preserving": inner,
            }),
            vec!["pruned.odd", "pruned.spec.x"],
        ),
    ];
    for (tree, before, after, dropped) in rows {
        let schema = schema(tree.clone());
        let mut value = before.clone();
        assert_eq!(prune(&schema, &mut value, true), dropped, "{tree}");
        assert_eq!(value, after, "{tree}");
        // Once is enough.
        assert_eq!(prune(&schema, &mut value, true), Vec::<String>::new());
        assert_eq!(value, after);
    }
}

#[test]
fn without_being_a_root_type_and_metadata_go_in_silence() {
    let mut value = json!({"apiVersion": "v1", "kind": "K", "metadata": {}, "a": 1, "b": 1});
    let schema = schema(json!({"type": "object", "properties": {"a": {"type": "integer"}}}));
    assert_eq!(prune(&schema, &mut value, false), ["b"]);
    assert_eq!(value, json!({"a": 1}));
}

#[test]
fn defaults_fill_what_is_missing() {
    let letters = json!({"type": "object", "properties": {"a": {"type": "string", "default": "A"}, "b": {"type": "string", "default": "B"}}});
    let list = json!({"type": "array", "items": letters});
    let rows = [
        (list.clone(), json!([{"a": 1}, {"b": 2}]), json!([{"a": 1, "b": "B"}, {"a": "A", "b": 2}])),
        (
            list,
            json!([{}, {"a": 0}, {"a": ""}, {"a": null}, {"a": []}, {"a": {}}, {"a": false}]),
            json!([
                {"a": "A", "b": "B"}, {"a": 0, "b": "B"}, {"a": "", "b": "B"}, {"a": "A", "b": "B"},
                {"a": [], "b": "B"}, {"a": {}, "b": "B"}, {"a": false, "b": "B"},
            ]),
        ),
        (
            json!({"type": "object", "additionalProperties": letters}),
            json!({"x": {"a": 1}, "y": {}}),
            json!({"x": {"a": 1, "b": "B"}, "y": {"a": "A", "b": "B"}}),
        ),
        (
            json!({"type": "object", "properties": {"o": {"type": "object", "default": {}, "properties": {"a": {"type": "integer", "default": 3}}}}}),
            json!({}),
            json!({"o": {"a": 3}}),
        ),
        (
            json!({"type": "object", "properties": {"n": {"type": "string", "nullable": true, "default": "x"}, "m": {"type": "string", "default": "y"}}}),
            json!({"n": null, "m": null}),
            json!({"n": null, "m": "y"}),
        ),
        (
            json!({"type": "array", "items": {"type": "string", "default": "x"}}),
            json!([null, "y"]),
            json!(["x", "y"]),
        ),
    ];
    for (tree, before, after) in rows {
        let schema = schema(tree.clone());
        let mut value = before;
        apply_defaults(&schema, &mut value);
        assert_eq!(value, after, "{tree}");
        apply_defaults(&schema, &mut value);
        assert_eq!(value, after, "{tree}");
    }
}

#[test]
fn nulls_go_where_none_may_be() {
    let schema = schema(json!({"type": "object", "properties": {
        "plain": {"type": "string"}, "nullable": {"type": "string", "nullable": true},
        "default": {"type": "string", "default": "x"},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
    }, "x-kubernetes-preserve-unknown-fields": true}));
    let mut value = json!({
        "plain": null, "nullable": null, "default": null, "unknown": null, "map": {"a": null, "b": "c"},
        "list": [null, {"a": null}],
    });
    drop_nulls(Some(&schema), &mut value);
    let expected =
        json!({"nullable": null, "default": null, "unknown": null, "map": {"b": "c"}, "list": [null, {}]});
    assert_eq!(value, expected);
}

#[test]
fn objects_are_read_as_their_version_has_them() {
    let custom = custom(
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "text": {"type": "string"}, "zero": {"type": "integer"}, "no": {"type": "boolean"},
            "list": {"type": "array", "items": {"type": "string"}}, "deflt": {"type": "integer", "default": 5},
            "float": {"type": "number"},
            "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        }}}}),
        json!({}),
    );
    let guide = custom.schemas.guide().unwrap();
    let mut value = json!({
        "apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "a", "labels": {}, "odd": 1, "creationTimestamp": null, "annotations": {"a": "b"}},
        "spec": {
            "text": "", "zero": 0, "no": false, "list": [], "odd": 1, "float": 2.0,
            "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "odd": 1, "labels": {"a": "b"}}, "spec": {"x": 1}},
        },
    });
    let dropped = guide.clean(&mut value).unwrap();
    assert_eq!(dropped, ["metadata.odd", "spec.odd", "spec.template.metadata.odd"]);
    guide.apply_defaults(&mut value);
    let expected = json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a", "annotations": {"a": "b"}},
        "spec": {
            "text": "", "zero": 0, "no": false, "list": [], "deflt": 5, "float": 2,
            "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {"x": 1}},
        },
    });
    assert_eq!(value, expected);
    assert_eq!(guide.clean(&mut value).unwrap(), Vec::<String>::new());
    assert_eq!(value, expected);

    let mut wrong = json!({"metadata": {"labels": {"a": 1}}});
    assert!(guide.clean(&mut wrong).unwrap_err().starts_with("json: cannot unmarshal number"));
    // What was stored is read, without what is malformed.
    let mut stored = json!({"metadata": {"name": "a", "labels": {"a": 1}}, "spec": {"odd": 1}});
    custom.read(&mut stored);
    assert_eq!(stored, json!({"metadata": {"name": "a", "generation": 1}, "spec": {"deflt": 5}}));
}

#[test]
fn defaults_are_pruned_themselves() {
    let pruned = pruned_defaults(&schema(json!({"type": "object", "properties": {
        "a": {"type": "object", "default": {"known": 1, "odd": 1}, "properties": {"known": {"type": "integer"}}},
        "list": {"type": "array", "items": {"type": "object", "default": {"odd": 1}}},
        "template": {
            "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true,
            "default": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "odd": 1, "labels": 7}},
        },
    }})));
    assert_eq!(pruned.properties["a"].default, Some(json!({"known": 1})));
    assert_eq!(pruned.properties["list"].items.as_ref().unwrap().default, Some(json!({})));
    let template = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}});
    assert_eq!(pruned.properties["template"].default, Some(template));
}

#[test]
fn embedded_resources_have_sound_metadata() {
    let schema = schema(json!({"type": "object", "properties": {"e": {
        "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true,
    }}}));
    let here = crate::field::Path::default();
    for (value, expected) in [
        (json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}), vec![]),
        (json!({"apiVersion": "a/v1", "kind": "Pod"}), vec![]),
        (json!({}), vec!["e.apiVersion: Required value", "e.kind: Required value"]),
        (
            json!({"apiVersion": "a/b/c", "kind": ""}),
            vec![
                "e.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                "e.kind: Invalid value: \"\": must not be empty",
            ],
        ),
        (
            json!({"apiVersion": 1, "kind": "Pod", "metadata": {"name": "a/b"}}),
            vec![
                "e.apiVersion: Invalid value: 1: must be a string",
                "e.metadata.name: Invalid value: \"a/b\": may not contain '/'",
            ],
        ),
    ] {
        let value = json!({"e": value});
        assert_eq!(shown(&validate_embedded(&schema, &value, false, &here)), expected, "{value}");
    }
}
