//! Server-side apply on custom resources.

use super::*;
use crate::apply::{OneVersion, Writer, apply, put_managed, track};

fn writer(manager: &str) -> Writer<'_> {
    Writer {
        manager,
        api_version: "example.com/v1",
        subresource: "",
        reset: &[],
        now: "2026-05-01T12:00:00Z",
    }
}

fn object(rest: Value) -> Value {
    let mut object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}});
    for (key, value) in rest.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    entries.iter().find(|e| e["manager"] == manager).map(|e| e["fieldsV1"].clone()).unwrap_or_default()
}

fn without_managed(mut object: Value) -> Value {
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    object
}

#[test]
fn owners_follow_the_schema() {
    let tree = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "plain": {"type": "string"},
        "keyed": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "p"],
            "items": {"type": "object", "required": ["k"], "properties": {
                "k": {"type": "string"}, "p": {"type": "string", "default": "TCP"}, "v": {"type": "integer"},
            }},
        },
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "atomic": {"type": "array", "items": {"type": "string"}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {"type": "integer"}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }}}});
    let custom = custom(tree, json!({}));
    let schema = custom.schema().unwrap();
    let config = object(json!({"spec": {
        "plain": "", "keyed": [{"k": "a", "v": 0}], "set": ["x"], "atomic": [], "map": {"m": "n"}, "whole": {"a": 1},
        "free": {"deep": {"x": 1}, "list": [1]},
    }}));
    let mine = apply(schema, None, &config, &writer("me"), false, &OneVersion).unwrap();
    assert_eq!(without_managed(mine.clone()), config);
    let expected = json!({"f:spec": {
        "f:plain": {}, "f:keyed": {"k:{\"k\":\"a\",\"p\":\"TCP\"}": {".": {}, "f:k": {}, "f:v": {}}}, "f:set": {"v:\"x\"": {}},
        "f:atomic": {}, "f:map": {"f:m": {}}, "f:whole": {}, "f:free": {"f:deep": {"f:x": {}, ".": {}}, "f:list": {}},
    }});
    assert_eq!(fields(&mine, "me"), expected);

    // Another applier adds what is its own, and fights for what is not.
    let other = object(json!({"spec": {
        "keyed": [{"k": "b", "v": 1}], "set": ["y"], "map": {"o": "p"}, "free": {"deep": {"y": 2}},
    }}));
    let both = apply(schema, Some(&mine), &other, &writer("you"), false, &OneVersion).unwrap();
    assert_eq!(both["spec"]["set"], json!(["x", "y"]));
    assert_eq!(both["spec"]["keyed"].as_array().unwrap().len(), 2);
    assert_eq!(both["spec"]["free"], json!({"deep": {"x": 1, "y": 2}, "list": [1]}));
    let fight = object(json!({"spec": {"whole": {"a": 2}, "free": {"deep": {"x": 2}}}}));
    let refused =
        apply(schema, Some(&mine), &fight, &writer("you"), false, &OneVersion).unwrap_err().to_string();
    assert!(refused.contains(".spec.free.deep.x") && refused.contains(".spec.whole"), "{refused}");

    // What an applier no longer names goes.
    let less = object(json!({"spec": {"plain": "", "free": {"deep": {"x": 1}}}}));
    let rest = apply(schema, Some(&both), &less, &writer("me"), false, &OneVersion).unwrap();
    assert_eq!(
        rest["spec"],
        json!({
            "plain": "", "keyed": [{"k": "b", "v": 1}], "set": ["y"], "map": {"o": "p"},
            "free": {"deep": {"x": 1, "y": 2}},
        })
    );
    let unknown = object(json!({"spec": {"odd": 1}}));
    let why = apply(schema, None, &unknown, &writer("me"), false, &OneVersion).unwrap_err().to_string();
    assert!(why.ends_with(".spec.odd: field not declared in schema"), "{why}");
}

#[test]
fn updates_are_tracked_in_fields_that_no_schema_names() {
    let custom = custom(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}), json!({}));
    let schema = custom.schema().unwrap();
    let mut first = object(json!({"spec": {"a": {"b": 1}, "list": [{"x": 1}]}, "text": ""}));
    let managed = track(schema, None, &mut first, &writer("me"), &OneVersion).unwrap();
    put_managed(&mut first, managed, None);
    assert_eq!(
        fields(&first, "me"),
        json!({"f:spec": {".": {}, "f:a": {".": {}, "f:b": {}}, "f:list": {}}, "f:text": {}})
    );
    let mut second = first.clone();
    second["spec"]["a"]["b"] = 2.into();
    second["spec"]["c"] = json!(null);
    let managed = track(schema, Some(&first), &mut second, &writer("you"), &OneVersion).unwrap();
    put_managed(&mut second, managed, Some(&first));
    assert_eq!(fields(&second, "you"), json!({"f:spec": {"f:a": {"f:b": {}}, "f:c": {}}}));
    assert_eq!(fields(&second, "me"), json!({"f:spec": {".": {}, "f:a": {}, "f:list": {}}, "f:text": {}}));
}

#[test]
fn metadata_and_embedded_metadata_are_typed() {
    let tree = json!({"type": "object", "properties": {"template": {
        "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true,
    }}});
    let custom = custom(tree, json!({}));
    let schema = custom.schema().unwrap();
    let mut config = object(json!({"template": {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"finalizers": ["a/b"], "labels": {"x": "y"}}, "spec": {"z": 1},
    }}));
    config["metadata"]["finalizers"] = json!(["c/d"]);
    let mine = apply(schema, None, &config, &writer("me"), false, &OneVersion).unwrap();
    assert_eq!(
        fields(&mine, "me"),
        json!({
            "f:metadata": {"f:finalizers": {"v:\"c/d\"": {}}},
            "f:template": {
                "f:apiVersion": {}, "f:kind": {}, "f:spec": {".": {}, "f:z": {}},
                "f:metadata": {"f:finalizers": {"v:\"a/b\"": {}}, "f:labels": {"f:x": {}}},
            },
        })
    );
}
