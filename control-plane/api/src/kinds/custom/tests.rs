//! Definitions as clients send them, and what upstream says of those that are wrong.

use super::*;
use crate::kinds::testing::{complete, context, now, shown};

fn kind() -> CustomResourceDefinition {
    CustomResourceDefinition::new(Arc::new(NoRules))
}

fn definition(schema: Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut object = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    change(&mut object);
    complete(object)
}

fn errors(schema: Value, change: impl FnOnce(&mut Value)) -> String {
    let mut object = definition(schema, change);
    let kind = kind();
    kind.prepare_create(&mut object, &context());
    shown(&kind.validate_create(&object))
}

fn plain() -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}, "text": {"type": "string"}}}}})
}

fn set(pointer: &'static str, value: Value) -> impl FnOnce(&mut Value) {
    move |object| {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[key] = value;
    }
}

#[test]
fn what_follows_from_the_rest_is_filled_in() {
    let kind = kind();
    let mut object = definition(
        plain(),
        set(
            "/spec/conversion",
            json!({
                "strategy": "Webhook", "webhook": {"clientConfig": {"service": {"name": "a", "namespace": "b"}}},
            }),
        ),
    );
    assert_eq!(object["spec"]["names"]["singular"], "widget");
    assert_eq!(object["spec"]["names"]["listKind"], "WidgetList");
    assert_eq!(object["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["port"], 443);
    assert_eq!(object["status"]["storedVersions"], json!(["v1"]));
    object["status"] =
        json!({"storedVersions": ["v0"], "conditions": [{"type": "Established", "status": "True"}]});
    kind.prepare_create(&mut object, &context());
    assert_eq!(object["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(definition(plain(), |_| {})["spec"]["conversion"], json!({"strategy": "None"}));
}

#[test]
fn stored_versions_are_remembered() {
    let kind = kind();
    let mut old = definition(plain(), |_| {});
    kind.prepare_create(&mut old, &context());
    let mut new = old.clone();
    new["status"] = json!({"storedVersions": []});
    new["spec"]["versions"][0]["storage"] = false.into();
    let mut second = new["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = true.into();
    new["spec"]["versions"].as_array_mut().unwrap().push(second);
    kind.prepare_update(&mut new, &old);
    assert_eq!(new["status"]["storedVersions"], json!(["v1", "v2"]));
    assert_eq!(shown(&kind.validate_update(&new, &old)), "");
    assert!(kind.generation_changes(&new, &old));
    let mut gone = new.clone();
    gone["spec"]["versions"].as_array_mut().unwrap().remove(0);
    assert!(shown(&kind.validate_update(&gone, &new)).starts_with(
        "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage version"
    ));
    let mut seen = new.clone();
    seen["status"]["acceptedNames"]["kind"] = "A b".into();
    seen["spec"]["group"] = "else".into();
    kind.prepare_status_update(&mut seen, &new);
    assert_eq!(seen["spec"]["group"], "example.com");
    assert!(
        shown(&kind.validate_status_update(&seen, &new))
            .starts_with("status.acceptedNames.kind: Invalid value: \"A b\"")
    );
}

#[test]
fn definitions_are_checked() {
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": plain()}});
    let column = |column: Value| set("/spec/versions/0/additionalPrinterColumns", json!([column]));
    let scale = |scale: Value| set("/spec/versions/0/subresources", json!({"scale": scale}));
    let selectable = |paths: &[&str]| {
        let fields: Vec<Value> = paths.iter().map(|path| json!({"jsonPath": path})).collect();
        set("/spec/versions/0/selectableFields", json!(fields))
    };
    assert_eq!(errors(plain(), |_| {}), "");
    type Change = Box<dyn FnOnce(&mut Value)>;
    let rows: Vec<(Change, &str)> = vec![
        (
            Box::new(set("/metadata/name", json!("x.example.com"))),
            "metadata.name: Invalid value: \"x.example.com\": must be spec.names.plural+\".\"+spec.group",
        ),
        (
            Box::new(set("/spec/group", json!("example"))),
            "metadata.name: Invalid value: \"widgets.example.com\": must be",
        ),
        (
            Box::new(set("/spec/scope", json!("World"))),
            "spec.scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespaced\"",
        ),
        (
            Box::new(set("/spec/names/kind", json!("wid get"))),
            "spec.names.singular: Invalid value: \"wid get\": a DNS-1035 label",
        ),
        (
            Box::new(set("/spec/names/listKind", json!("Widget"))),
            "spec.names.listKind: Invalid value: \"Widget\": kind and listKind may not be the same",
        ),
        (
            Box::new(set("/spec/names/shortNames", json!(["A"]))),
            "spec.names.shortNames[0]: Invalid value: \"A\": a DNS-1035 label",
        ),
        (
            Box::new(set("/spec/names/categories", json!(["a b"]))),
            "spec.names.categories[0]: Invalid value: \"a b\": a DNS-1035 label",
        ),
        (
            Box::new(set("/spec/versions/0/name", json!("1"))),
            "spec.version: Invalid value: \"1\": a DNS-1035 label",
        ),
        (Box::new(set("/spec/versions/0/storage", json!(false))), "spec.versions: Invalid value: "),
        (
            Box::new(set("/spec/versions", json!([version("v1", true), version("v2", true)]))),
            "spec.versions: Invalid value: ",
        ),
        (
            Box::new(set("/spec/versions", json!([version("v1", true), version("v1", false)]))),
            "spec.versions: Invalid value: ",
        ),
        (
            Box::new(set("/spec/versions/0/schema", json!({}))),
            "spec.versions[0].schema.openAPIV3Schema: Required value",
        ),
        (
            Box::new(set("/spec/preserveUnknownFields", json!(true))),
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields",
        ),
        (
            Box::new(set("/spec/versions/0/deprecationWarning", json!("x"))),
            "spec.versions[0].deprecationWarning: Invalid value: \"x\": can only be set for deprecated versions",
        ),
        (
            Box::new(column(json!({"name": "a", "type": "text", "jsonPath": ".a"}))),
            "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
        ),
        (
            Box::new(column(json!({"name": "a", "type": "string", "jsonPath": "a"}))),
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"a\": must be a simple json path starting with .",
        ),
        (
            Box::new(column(json!({"name": "a", "type": "string", "format": "x", "jsonPath": ".a"}))),
            "spec.additionalPrinterColumns[0].format: Invalid value: \"x\": must be one of byte,date",
        ),
        (Box::new(scale(json!({"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}))), ""),
        (
            Box::new(scale(json!({"specReplicasPath": ".x.n", "statusReplicasPath": ".status.n"}))),
            "spec.subresources.scale.specReplicasPath: Invalid value: \".x.n\": should be a json path under .spec",
        ),
        (
            Box::new(scale(json!({"specReplicasPath": ".spec.n", "statusReplicasPath": ""}))),
            "spec.subresources.scale.statusReplicasPath: Required value",
        ),
        (
            Box::new(scale(
                json!({"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n", "labelSelectorPath": ".x"}),
            )),
            "spec.subresources.scale.labelSelectorPath: Invalid value: \".x\": should be a json path under either .spec or .status",
        ),
        (Box::new(selectable(&[".spec.n", ".spec.text"])), ""),
        (
            Box::new(selectable(&[".spec.x"])),
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec.x\": is an invalid path: does not refer to a valid field",
        ),
        (
            Box::new(selectable(&[".spec"])),
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec\": must point to a field of type string, boolean or integer",
        ),
        (
            Box::new(selectable(&[".spec.n", ".spec.n"])),
            "spec.selectableFields[1].jsonPath: Duplicate value: \".spec.n\"",
        ),
        (
            Box::new(selectable(&[".spec['n']"])),
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec['n']\": is an invalid path: array notation is not allowed",
        ),
        (
            Box::new(set("/spec/conversion", json!({"strategy": "Webhook"}))),
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook; spec.conversion.conversionReviewVersions: Required value",
        ),
        (
            Box::new(set(
                "/spec/conversion",
                json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "http://a"}, "conversionReviewVersions": ["v1"]}}),
            )),
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme",
        ),
        (
            Box::new(set(
                "/spec/conversion",
                json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://a"}, "conversionReviewVersions": ["v7"]}}),
            )),
            "spec.conversion.conversionReviewVersions: Invalid value: [\"v7\"]: must include at least one of v1, v1beta1",
        ),
        (
            Box::new(set(
                "/spec/conversion",
                json!({"strategy": "None", "webhook": {"clientConfig": {"url": "https://a"}, "conversionReviewVersions": ["v1"]}}),
            )),
            "spec.conversion.webhookClientConfig: Forbidden: should not be set when strategy is not set to Webhook",
        ),
    ];
    for (change, expected) in rows {
        let found = errors(plain(), change);
        assert!(
            found.starts_with(expected) && found.is_empty() == expected.is_empty(),
            "{expected}\n{found}"
        );
    }
}

#[test]
fn groups_of_the_community_need_approval() {
    let with = |annotation: &str| {
        let annotations = json!({"api-approved.kubernetes.io": annotation});
        errors(plain(), |object| {
            object["metadata"] = json!({"name": "widgets.x.k8s.io", "annotations": annotations});
            object["spec"]["group"] = "x.k8s.io".into();
        })
    };
    assert!(with("").starts_with("metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation"));
    assert!(
        with("yes").starts_with("metadata.annotations[api-approved.kubernetes.io]: Invalid value: \"yes\"")
    );
    assert_eq!(with("https://github.com/kubernetes/kubernetes/pull/1"), "");
    assert_eq!(with("unapproved, for a test"), "");
}

#[test]
fn schemas_are_checked() {
    const AT: &str = "spec.validation.openAPIV3Schema";
    let field = |field: Value| json!({"type": "object", "properties": {"f": field}});
    let rows = [
        (
            field(json!({"type": "text"})),
            "properties[f].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
        ),
        (
            field(json!({})),
            "properties[f].type: Required value: must not be empty for specified object fields",
        ),
        (
            field(json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true})),
            "properties[f].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ),
        (
            field(
                json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
            ),
            "properties[f].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            field(json!({"type": "string", "$ref": "x"})),
            "properties[f].$ref: Forbidden: $ref is not supported",
        ),
        (field(json!({"type": "string", "id": "x"})), "properties[f].id: Forbidden: id is not supported"),
        (
            field(json!({"type": "string", "x-kubernetes-map-type": "atomic"})),
            "properties[f].type: Invalid value: \"string\": must be object if x-kubernetes-map-type is specified",
        ),
        (
            field(json!({"type": "string", "x-kubernetes-list-type": "set"})),
            "properties[f].type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified",
        ),
        (
            field(json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}})),
            "properties[f].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
        ),
        (
            field(json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}})),
            "properties[f].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ),
        (
            field(
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"], "items": {"type": "object", "properties": {"a": {"type": "string"}}}}),
            ),
            "properties[f].items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ),
        (
            field(
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"], "items": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string", "nullable": true}}}}),
            ),
            "properties[f].items.properties[a].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
        ),
        (
            json!({"type": "object", "nullable": true}),
            "nullable: Forbidden: nullable cannot be true at the root",
        ),
        (
            field(json!({"type": "integer", "default": "x"})),
            "properties[f].default: Invalid value: \"string\":  in body must be of type integer: \"string\"",
        ),
        (
            field(json!({"type": "object", "default": {"odd": 1}})),
            "properties[f].default: Invalid value: {\"odd\":1}: must not have unknown fields",
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "default": {}}}}),
            "properties[metadata].default: Forbidden: must not be set in top-level metadata",
        ),
        (
            field(
                json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true, "default": {"kind": "Pod"}}),
            ),
            "properties[f].default.apiVersion: Required value",
        ),
        (
            field(json!({"type": "string", "x-kubernetes-validations": [{"rule": " "}]})),
            "properties[f].x-kubernetes-validations[0].rule: Required value: rule is not specified",
        ),
        (
            field(json!({"type": "string", "x-kubernetes-validations": [{"rule": "a\nb"}]})),
            "properties[f].x-kubernetes-validations[0].message: Required value: message must be specified if rule contains line breaks",
        ),
        (
            field(json!({"type": "string", "x-kubernetes-validations": [{"rule": "a", "reason": "Odd"}]})),
            "properties[f].x-kubernetes-validations[0].reason: Unsupported value: \"Odd\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
        ),
        (
            field(json!({"type": "object", "x-kubernetes-validations": [{"rule": "a", "fieldPath": ".x"}]})),
            "properties[f].x-kubernetes-validations[0].fieldPath: Invalid value: \".x\": must be a valid path",
        ),
        (
            field(json!({"type": "string", "x-kubernetes-validations": [{"rule": "self != ''"}]})),
            "properties[f].x-kubernetes-validations[0].rule: Invalid value: ",
        ),
    ];
    for (tree, expected) in rows {
        let expected = format!("{AT}.{expected}");
        let found = errors(tree.clone(), |_| {});
        assert!(found.contains(&expected), "{expected}\n{found}");
    }
}

#[test]
fn a_root_beside_a_status_is_plain() {
    let status = |tree: Value| errors(tree, set("/spec/versions/0/subresources", json!({"status": {}})));
    assert_eq!(status(plain()), "");
    let found = status(json!({"type": "object", "minProperties": 1}));
    assert!(
        found.contains("fields are allowed at the root of the schema if the status subresource is enabled"),
        "{found}"
    );
}

#[test]
fn versions_that_differ_are_spoken_of_by_themselves() {
    let found = errors(plain(), |object| {
        let mut second = object["spec"]["versions"][0].clone();
        second["name"] = "v2".into();
        second["storage"] = false.into();
        second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["n"] =
            json!({"type": "string", "pattern": "("});
        object["spec"]["versions"].as_array_mut().unwrap().push(second);
    });
    assert!(found.starts_with("spec.versions[1].schema.openAPIV3Schema.properties[spec].properties[n].pattern: Invalid value: \"(\""), "{found}");
}

#[test]
fn what_names_storage_stays() {
    let kind = kind();
    let mut old = definition(plain(), |_| {});
    kind.prepare_create(&mut old, &context());
    let mut new = old.clone();
    new["spec"]["scope"] = "Cluster".into();
    assert_eq!(shown(&kind.validate_update(&new, &old)), "");
    old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    assert_eq!(
        shown(&kind.validate_update(&new, &old)),
        "spec.scope: Invalid value: \"Cluster\": field is immutable"
    );
    new = old.clone();
    new["spec"]["group"] = "other.com".into();
    assert_eq!(
        shown(&kind.validate_update(&new, &old)),
        "spec.group: Invalid value: \"other.com\": field is immutable"
    );
}

#[test]
fn what_was_accepted_before_may_stay() {
    let kind = kind();
    let loose = json!({"type": "object", "properties": {"f": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}}}});
    let mut old = definition(loose, |_| {});
    kind.prepare_create(&mut old, &context());
    assert_ne!(shown(&kind.validate_create(&old)), "");
    assert_eq!(shown(&kind.validate_update(&old, &old)), "");
}

#[test]
fn a_table_shows_when_it_was_made() {
    let kind = kind();
    let object = json!({"metadata": {"name": "a.b.c", "creationTimestamp": "2026-05-01T11:00:00Z"}});
    let names: Vec<String> = kind.columns().iter().map(|c| c.name.to_string()).collect();
    assert_eq!(names, ["Name", "Created At"]);
    assert_eq!(kind.cells(&object, now()), [json!("a.b.c"), json!("2026-05-01T11:00:00Z")]);
}

#[test]
fn formats_that_nobody_knows_are_warned_of() {
    let tree = json!({"type": "object", "properties": {
        "a": {"type": "string", "format": "odd"}, "b": {"type": "integer", "format": "date"}, "c": {"type": "string", "format": "date-time"},
        "d": {"type": "array", "items": {"type": "string", "format": "odd"}},
    }});
    let new = definition(tree, |_| {});
    let expected = ["unrecognized format \"odd\"", "unrecognized format \"date\""];
    assert_eq!(kind().warnings(&new, None), expected);
    assert_eq!(kind().warnings(&new, Some(&new)), Vec::<String>::new());
}
