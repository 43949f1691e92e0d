//! A version as a kind: status, generation, columns, scale.

use super::*;
use crate::resource::{Context, Strategy};

fn now() -> jiff::Timestamp {
    "2026-05-01T12:00:00Z".parse().unwrap()
}

fn free() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"n": {"type": "integer"}}},
    }})
}

#[test]
fn a_status_that_is_a_subresource_is_left_alone() {
    let with = custom(free(), json!({"subresources": {"status": {}}}));
    let without = custom(free(), json!({}));
    let context = Context { now: now(), user: "ann" };
    let old =
        json!({"metadata": {"generation": 1, "labels": {"a": "b"}}, "spec": {"x": 1}, "status": {"n": 1}});
    for (custom, created, updated) in
        [(&with, json!(null), json!({"n": 1})), (&without, json!({"n": 2}), json!({"n": 2}))]
    {
        let mut new = json!({"spec": {"x": 2}, "status": {"n": 2}});
        custom.strategy.prepare_create(&mut new, &context);
        assert_eq!(new.get("status").cloned().unwrap_or_default(), created);
        let mut new = json!({"spec": {"x": 2}, "status": {"n": 2}});
        custom.strategy.prepare_update(&mut new, &old);
        assert_eq!(new["status"], updated);
    }
    let mut new = json!({"metadata": {"labels": {}}, "spec": {"x": 2}, "other": 1, "status": {"n": 2}});
    with.strategy.prepare_status_update(&mut new, &old);
    let mut expected = old.clone();
    expected["status"] = json!({"n": 2});
    assert_eq!(new, expected);
}

#[test]
fn generations_count_all_but_metadata() {
    let strategy = custom(free(), json!({})).strategy;
    assert!(strategy.has_generation());
    let old = json!({"metadata": {"name": "a"}, "spec": {"x": ""}, "status": {}});
    for (new, counts) in [
        (json!({"metadata": {"name": "b"}, "spec": {"x": ""}, "status": {}}), false),
        (json!({"metadata": {"name": "a"}, "spec": {"x": ""}, "status": {"n": 1}}), true),
        (json!({"metadata": {"name": "a"}, "spec": {}, "status": {}}), true),
        (json!({"metadata": {"name": "a"}, "spec": {"x": ""}, "status": {}, "data": 0}), true),
    ] {
        assert_eq!(strategy.generation_changes(&new, &old), counts, "{new}");
    }
}

#[test]
fn columns_show_what_paths_lead_to() {
    let columns = json!([
        {"name": "Text", "type": "string", "jsonPath": ".spec.text", "priority": 1},
        {"name": "Map", "type": "string", "jsonPath": ".spec.map", "description": "a map"},
        {"name": "Count", "type": "integer", "jsonPath": ".spec.count"},
        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
        {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
        {"name": "Since", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        {"name": "Wrong", "type": "date", "jsonPath": ".spec.text"},
        {"name": "None", "type": "string", "jsonPath": ".spec.none"},
        {"name": "Odd", "type": "integer", "jsonPath": ".spec.text"},
    ]);
    let strategy = custom(free(), json!({"additionalPrinterColumns": columns})).strategy;
    let heads = strategy.columns();
    let names: Vec<&str> = heads.iter().map(|c| c.name.as_ref()).collect();
    assert_eq!(names, ["Name", "Text", "Map", "Count", "Ready", "On", "Since", "Wrong", "None", "Odd"]);
    assert_eq!(heads[1].description, "Custom resource definition column (in JSONPath format): .spec.text");
    assert_eq!((heads[1].priority, heads[2].description.as_ref()), (1, "a map"));
    let object = json!({
        "metadata": {"name": "a", "creationTimestamp": "2026-05-01T11:00:00Z"},
        "spec": {"text": "x", "map": {"a": 1}, "count": 3.0, "on": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    assert_eq!(
        json!(strategy.cells(&object, now())),
        json!(["a", "x", "{\"a\":1}", 3, "True", true, "60m", "<invalid>", null, null])
    );
    let plain = custom(free(), json!({})).strategy;
    assert_eq!(plain.columns()[1].name, "Age");
    assert_eq!(json!(plain.cells(&object, now())), json!(["a", "60m"]));
}

#[test]
fn scale_reads_and_writes_three_fields() {
    let paths = json!({"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.selector"});
    let custom = custom(free(), json!({"subresources": {"scale": paths}}));
    let scale = custom.scale().unwrap();
    let object = json!({"metadata": {"name": "a", "uid": "u", "labels": {}}, "spec": {"size": 3}, "status": {"size": 2, "selector": "a=b"}});
    let mut seen = scale.read(&object).unwrap();
    let expected = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "a", "uid": "u"},
        "spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "a=b"},
    });
    assert_eq!(seen, expected);
    seen["spec"]["replicas"] = 7.into();
    seen["metadata"]["resourceVersion"] = "5".into();
    let written = scale.write(&object, &seen).unwrap();
    assert_eq!((&written["spec"]["size"], &written["metadata"]["resourceVersion"]), (&json!(7), &json!("5")));
    assert_eq!(
        scale.read(&json!({})).unwrap_err().to_string(),
        "the spec replicas field \".spec.size\" does not exist"
    );
    assert!(scale.read(&json!({"spec": {"size": "x"}})).is_err());
    let errors = |object: Value| {
        let mut object = object;
        object["apiVersion"] = "example.com/v1".into();
        object["kind"] = "Widget".into();
        shown(&custom.strategy.validate_create(&object))
    };
    assert_eq!(
        errors(json!({"spec": {"size": -1}})),
        [".spec.size: Invalid value: -1: should be a non-negative integer"]
    );
    assert_eq!(
        errors(json!({"status": {"size": 3_000_000_000_i64}})),
        [".status.size: Invalid value: 3000000000: should be less than or equal to 2147483647"]
    );
}

#[test]
fn kind_and_version_are_those_of_the_row() {
    let strategy = custom(free(), json!({})).strategy;
    let object = json!({"apiVersion": "example.com/v2", "kind": "Gadget"});
    assert_eq!(
        shown(&strategy.validate_create(&object)),
        [
            "apiVersion: Invalid value: \"example.com/v2\": must be example.com/v1",
            "kind: Invalid value: \"Gadget\": must be Widget",
        ]
    );
}

#[test]
fn a_status_is_checked_by_its_own_schema() {
    let tree = json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object"}, "status": {"type": "object", "properties": {"n": {"type": "integer"}}},
    }});
    let strategy = custom(tree, json!({"subresources": {"status": {}}})).strategy;
    let object = |status: Value| json!({"apiVersion": "example.com/v1", "kind": "Widget", "status": status});
    // What is missing elsewhere does not matter here.
    assert_eq!(strategy.validate_status_update(&object(json!({"n": 1})), &object(json!({}))), []);
    assert_eq!(
        shown(&strategy.validate_status_update(&object(json!({"n": "x"})), &object(json!({})))),
        ["status.n: Invalid value: \"string\": n in body must be of type integer: \"string\""]
    );
    assert_eq!(strategy.validate_update(&object(json!({"n": 1})), &object(json!({"n": 2}))).len(), 1);
}

#[test]
fn finalizers_that_anybody_might_choose_are_warned_of() {
    let strategy = custom(free(), json!({})).strategy;
    let object = |list: Value| json!({"metadata": {"finalizers": list}});
    let better = "prefer a domain-qualified finalizer name";
    let found = strategy
        .warnings(&object(json!(["a/b", "orphan", "mine", "example.com"])), Some(&object(json!(["old"]))));
    assert_eq!(found.len(), 2);
    assert!(
        found[0].starts_with(&format!("metadata.finalizers: \"example.com\": {better} including a path (/)"))
    );
    assert!(found[1].starts_with(&format!("metadata.finalizers: \"mine\": {better} to avoid")));
    assert!(strategy.warnings(&object(json!(["mine"])), Some(&object(json!(["mine"])))).is_empty());
}
