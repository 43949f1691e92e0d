//! Custom kinds as OpenAPI writes them: the schema that a client gave, with what every object has, and in version 2
//! without what clients of that version cannot read (`apiextensions-apiserver/pkg/controller/openapi`).

use super::META;
use super::component::{Version, gvk_value};
use crate::resource::{GroupVersionKind, Resource};
use crate::schema::Schemas;
use serde_json::{Map, Value, json};

/// Keys of a schema that hold one schema, a map of them, or a list.
const ONE: [&str; 3] = ["items", "additionalProperties", "not"];
const MAPS: [&str; 3] = ["properties", "patternProperties", "definitions"];
const LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// The types of a custom row: that of its objects and that of their lists, by name.
pub(super) fn components(
    row: &Resource,
    name: &str,
    schemas: &Schemas,
    version: Version,
) -> Vec<(String, Value)> {
    let list = GroupVersionKind { kind: row.list_kind(), ..row.gvk.clone() };
    vec![
        (name.to_owned(), object(row, schemas, version)),
        (list_name(name, row), list_of(row, name, &list, schemas, version)),
    ]
}

/// The name of the type of lists.
pub(super) fn list_name(name: &str, row: &Resource) -> String {
    let package = name.strip_suffix(row.gvk.kind.as_ref()).unwrap_or_default();
    format!("{package}{}", row.list_kind())
}

fn object(row: &Resource, schemas: &Schemas, version: Version) -> Value {
    let schema = row.custom.as_ref().and_then(|custom| custom.schema.as_deref());
    let v2 = version == Version::V2;
    let mut out = match schema {
        // kubectl would forbid everything beside the properties that are named: so none are.
        None => json!({"type": "object"}),
        Some(schema) if v2 && is(schema, "x-kubernetes-preserve-unknown-fields") => json!({"type": "object"}),
        Some(schema) => {
            let mut schema = schema.clone();
            unfold(&mut schema);
            if v2 {
                simplify(&mut schema);
            }
            properties(&mut schema, schemas, version, &[]);
            embedded(&mut schema, schemas, version);
            schema
        }
    };
    if let Some(map) = out.as_object_mut() {
        map.insert("x-kubernetes-group-version-kind".into(), json!([gvk_value(&row.gvk)]));
        selectable(map, row);
    }
    out
}

fn list_of(row: &Resource, name: &str, gvk: &GroupVersionKind, schemas: &Schemas, version: Version) -> Value {
    let about = format!(
        "List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
        row.plural
    );
    let mut out = json!({
        "type": "object", "description": format!("{} is a list of {}", gvk.kind, row.gvk.kind), "required": ["items"],
        "properties": {"items": {"type": "array", "description": about, "items": version.reference(name)}},
        "x-kubernetes-group-version-kind": [gvk_value(gvk)],
    });
    meta(
        &mut out,
        "ListMeta",
        "Standard list metadata. More info: \
        https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
        version,
    );
    type_meta(&mut out, schemas, &[]);
    if let Some(map) = out.as_object_mut() {
        selectable(map, row);
    }
    out
}

fn selectable(out: &mut Map<String, Value>, row: &Resource) {
    if !row.selectable_fields.is_empty() {
        let fields: Vec<Value> =
            row.selectable_fields.iter().map(|path| json!({"fieldPath": path})).collect();
        out.insert("x-kubernetes-selectable-fields".into(), fields.into());
    }
}

fn is(schema: &Value, flag: &str) -> bool {
    schema.get(flag) == Some(&Value::Bool(true))
}

/// Calls `visit` on all schemas below this one, from the outside in, and on it itself.
fn walk(schema: &mut Value, visit: &mut dyn FnMut(&mut Map<String, Value>)) {
    let Some(map) = schema.as_object_mut() else { return };
    visit(map);
    for (key, value) in map.iter_mut() {
        match (key.as_str(), &mut *value) {
            (key, Value::Object(_)) if ONE.contains(&key) => walk(value, visit),
            (key, Value::Object(inner)) if MAPS.contains(&key) => {
                inner.values_mut().for_each(|schema| walk(schema, visit));
            }
            (key, Value::Array(inner)) if LISTS.contains(&key) => {
                inner.iter_mut().for_each(|schema| walk(schema, visit));
            }
            _ => {}
        }
    }
}

/// Says by standard words what an extension says of integers and strings.
fn unfold(schema: &mut Value) {
    walk(schema, &mut |map| {
        if map.get("x-kubernetes-int-or-string") != Some(&Value::Bool(true)) {
            return;
        }
        let types = json!([{"type": "integer"}, {"type": "string"}]);
        let said = |list: Option<&Value>| list == Some(&types);
        let in_all = map.get("allOf").and_then(Value::as_array).and_then(|all| all.first());
        if said(map.get("anyOf")) || said(in_all.and_then(|first| first.get("anyOf"))) {
            return;
        }
        if map.contains_key("anyOf") {
            let mut all = vec![json!({"anyOf": types})];
            all.extend(map.get("allOf").and_then(Value::as_array).cloned().unwrap_or_default());
            map.insert("allOf".into(), all.into());
        } else {
            map.insert("anyOf".into(), types);
        }
    });
}

/// Takes out what kubectl cannot read in version 2.
fn simplify(schema: &mut Value) {
    walk(schema, &mut |map| {
        for key in ["allOf", "oneOf", "anyOf", "not", "default"] {
            map.remove(key);
        }
        if map.remove("nullable") == Some(Value::Bool(true)) {
            for key in ["type", "items", "properties"] {
                map.remove(key);
            }
        }
        let open = map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        if open {
            map.remove("items");
            map.remove("properties");
        }
        let kind = map.get("type").and_then(Value::as_str);
        let unread =
            (kind == Some("array") && !map.contains_key("items")) || (open && kind == Some("object"));
        if unread {
            map.remove("type");
        }
        let nullable = |schema: Option<&Value>| schema.is_some_and(|s| is(s, "nullable"));
        let properties = map.get("properties").cloned().unwrap_or_default();
        let drop_all = nullable(map.get("additionalProperties"));
        if let Some(required) = map.get_mut("required").and_then(Value::as_array_mut) {
            required
                .retain(|name| !drop_all && !nullable(name.as_str().and_then(|name| properties.get(name))));
            if required.is_empty() {
                map.remove("required");
            }
        }
    });
}

/// `apiVersion`, `kind` and `metadata`. `words` describe the first two where they are not the usual ones.
fn properties(schema: &mut Value, schemas: &Schemas, version: Version, words: &[(&str, &str)]) {
    meta(
        schema,
        "ObjectMeta",
        "Standard object's metadata. More info: \
         https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
        version,
    );
    type_meta(schema, schemas, words);
}

fn property(schema: &mut Value, name: &str, value: Value) {
    let Some(map) = schema.as_object_mut() else { return };
    let properties = map.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.insert(name.into(), value);
    }
}

fn meta(schema: &mut Value, kind: &str, text: &str, version: Version) {
    let reference = version.reference(&format!("{META}.{kind}"));
    let value = match (version, reference) {
        (Version::V3, reference) => json!({"allOf": [reference], "description": text}),
        (Version::V2, mut reference) => {
            reference["description"] = text.into();
            reference
        }
    };
    property(schema, "metadata", value);
}

fn type_meta(schema: &mut Value, schemas: &Schemas, words: &[(&str, &str)]) {
    // Every built-in kind has the two fields, with the same words.
    let status = schemas.get(&format!("{META}.Status"));
    for name in ["apiVersion", "kind"] {
        let usual = status.and_then(|s| s.field(name)).map_or("", |(field, _)| schemas.doc(field.doc));
        let text = words.iter().find(|(key, _)| *key == name).map_or(usual, |(_, text)| text);
        property(schema, name, json!({"type": "string", "description": text}));
    }
}

/// Gives embedded resources what every object has.
fn embedded(schema: &mut Value, schemas: &Schemas, version: Version) {
    const WORDS: [(&str, &str); 2] = [
        (
            "apiVersion",
            "apiVersion defines the versioned schema of this representation of an object. More info: \
             https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources",
        ),
        (
            "kind",
            "kind is a string value representing the type of this object. In CamelCase. More info: \
             https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
        ),
    ];
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key).filter(|s| s.is_object()) {
            embedded(inner, schemas, version);
        }
    }
    if let Some(inner) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        inner.values_mut().for_each(|schema| embedded(schema, schemas, version));
    }
    let open = version == Version::V2 && is(schema, "x-kubernetes-preserve-unknown-fields");
    if open || !is(schema, "x-kubernetes-embedded-resource") {
        return;
    }
    properties(schema, schemas, version, &WORDS);
    if let Some(map) = schema.as_object_mut()
        && let Some(required) = map.entry("required").or_insert_with(|| json!([])).as_array_mut()
    {
        for name in ["kind", "apiVersion"] {
            if required.iter().all(|known| known != name) {
                required.push(name.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_has_only_what_its_clients_read() {
        let mut schema = json!({
            "type": "object", "required": ["a", "b"],
            "properties": {
                "a": {"type": "string", "nullable": true},
                "b": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                      "properties": {"c": {"type": "string"}}}},
                "d": {"x-kubernetes-int-or-string": true},
                "default": {"type": "string", "default": "x"},
            },
            "anyOf": [{"required": ["a"]}],
        });
        unfold(&mut schema);
        assert_eq!(schema["properties"]["d"]["anyOf"], json!([{"type": "integer"}, {"type": "string"}]));
        simplify(&mut schema);
        assert_eq!(
            schema,
            json!({
                "type": "object", "required": ["b"],
                "properties": {
                    "a": {},
                    "b": {"type": "array", "items": {"x-kubernetes-preserve-unknown-fields": true}},
                    "d": {"x-kubernetes-int-or-string": true},
                    "default": {"type": "string"},
                },
            })
        );
    }

    #[test]
    fn embedded_resources_have_what_every_object_has() {
        let mut schema = json!({"type": "object", "properties": {
            "template": {"type": "object", "x-kubernetes-embedded-resource": true, "required": ["kind"]},
        }});
        embedded(&mut schema, Schemas::builtin(), Version::V3);
        let template = &schema["properties"]["template"];
        assert_eq!(template["required"], json!(["kind", "apiVersion"]));
        assert_eq!(
            template["properties"]["metadata"]["allOf"][0]["$ref"],
            format!("#/components/schemas/{META}.ObjectMeta")
        );
        assert!(template["properties"]["kind"]["description"].as_str().unwrap().starts_with("kind is"));
        assert!(schema["properties"].get("kind").is_none());
    }
}
