//! Types as OpenAPI writes them.

use crate::resource::GroupVersionKind;
use crate::schema::{Field, ListType, Node, Schema, Schemas, Type};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Which OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// `definitions`; a reference may have neighbours.
    V2,
    /// `components.schemas`; a reference with neighbours stands in `allOf`, and zero values show.
    V3,
}

impl Version {
    pub(super) fn reference(self, name: &str) -> Value {
        match self {
            Version::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Version::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

/// The `x-kubernetes-group-version-kind` of one kind.
pub(super) fn gvk_value(gvk: &GroupVersionKind) -> Value {
    json!({"group": gvk.group, "kind": gvk.kind, "version": gvk.version})
}

/// All types that the named ones reach, themselves included.
pub(super) fn reachable<'a>(set: &'a Schemas, roots: impl IntoIterator<Item = Schema<'a>>) -> Vec<&'a Type> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut open: Vec<&Type> = roots.into_iter().filter_map(Schema::structure).collect();
    while let Some(this) = open.pop() {
        if !seen.insert(this.name.as_ref()) {
            continue;
        }
        found.push(this);
        open.extend(this.fields.iter().filter_map(|field| named(set, &field.node)));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The named type that a node is, or that its elements are.
fn named<'a>(set: &'a Schemas, node: &Node) -> Option<&'a Type> {
    match node {
        Node::Struct(at) => set.type_at(*at),
        Node::List(at, _) | Node::Map(at, _) => named(set, set.node_at(*at)?),
        _ => None,
    }
}

/// A type as a schema of a document.
pub(super) fn component(set: &Schemas, this: &Type, version: Version, kinds: &[Value]) -> Value {
    let mut out = match &this.shape {
        Node::Struct(_) => structure(set, this, version),
        shape => plain(shape, version),
    };
    describe(&mut out, set.doc(this.doc));
    if this.atomic {
        out.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    if let Some(unions) = this.unions.as_deref().and_then(|text| serde_json::from_str(text).ok()) {
        out.insert("x-kubernetes-unions".into(), unions);
    }
    if !kinds.is_empty() {
        out.insert("x-kubernetes-group-version-kind".into(), kinds.into());
    }
    Value::Object(out)
}

fn structure(set: &Schemas, this: &Type, version: Version) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("type".into(), "object".into());
    if !this.fields.is_empty() {
        let properties = this.fields.iter().map(|f| (f.name.to_string(), property(set, f, version)));
        out.insert("properties".into(), Value::Object(properties.collect()));
    }
    let required: Vec<Value> =
        this.fields.iter().filter(|f| f.required).map(|f| f.name.as_ref().into()).collect();
    if !required.is_empty() {
        out.insert("required".into(), required.into());
    }
    out
}

fn property(set: &Schemas, field: &Field, version: Version) -> Value {
    let mut out = node(set, &field.node, version);
    let text = set.doc(field.doc);
    let default = if version == Version::V3 { shown_default(field) } else { None };
    let merge = &field.merge;
    let strategies: Vec<&str> =
        [(merge.merge, "merge"), (merge.retain_keys, "retainKeys"), (merge.replace, "replace")]
            .iter()
            .filter_map(|(is, name)| is.then_some(*name))
            .collect();
    let alone = text.is_empty() && default.is_none() && strategies.is_empty();
    if version == Version::V3
        && !alone
        && let Some(reference) = out.remove("$ref")
    {
        out.insert("allOf".into(), json!([{"$ref": reference}]));
    }
    describe(&mut out, text);
    if let Some(default) = default {
        out.insert("default".into(), default);
    }
    if !strategies.is_empty() {
        out.insert("x-kubernetes-patch-strategy".into(), strategies.join(",").into());
    }
    if field.granular {
        out.insert("x-kubernetes-map-type".into(), "granular".into());
    }
    if let Some(key) = merge.key.as_deref() {
        out.insert("x-kubernetes-patch-merge-key".into(), key.into());
    }
    Value::Object(out)
}

fn shown_default(field: &Field) -> Option<Value> {
    let published = field.default.as_deref().filter(|_| field.published);
    serde_json::from_str(published.or(field.zero.as_deref())?).ok()
}

fn describe(out: &mut Map<String, Value>, text: &str) {
    if !text.is_empty() {
        out.insert("description".into(), text.into());
    }
}

fn node(set: &Schemas, node: &Node, version: Version) -> Map<String, Value> {
    let element = |at: u32| match set.node_at(at) {
        Some(inner) => Value::Object(self::node(set, inner, version)),
        None => json!({}),
    };
    let value = match node {
        Node::Struct(at) => version.reference(set.type_at(*at).map_or("", |t| &t.name)),
        Node::List(at, list) => {
            let mut value = json!({"type": "array", "items": element(*at)});
            match list {
                ListType::Atomic => value["x-kubernetes-list-type"] = "atomic".into(),
                ListType::Set => value["x-kubernetes-list-type"] = "set".into(),
                ListType::Map(keys) => {
                    value["x-kubernetes-list-type"] = "map".into();
                    value["x-kubernetes-list-map-keys"] = json!(keys);
                }
            }
            value
        }
        Node::Map(at, atomic) => {
            let mut value = json!({"type": "object", "additionalProperties": element(*at)});
            if *atomic {
                value["x-kubernetes-map-type"] = "atomic".into();
            }
            value
        }
        scalar => return plain(scalar, version),
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// What has no parts.
fn plain(node: &Node, version: Version) -> Map<String, Value> {
    let value = match (node, version) {
        (Node::String, _) => json!({"type": "string"}),
        (Node::Bytes, _) => json!({"type": "string", "format": "byte"}),
        (Node::Int32, _) => json!({"type": "integer", "format": "int32"}),
        (Node::Int64, _) => json!({"type": "integer", "format": "int64"}),
        (Node::Number, _) => json!({"type": "number", "format": "double"}),
        (Node::Bool, _) => json!({"type": "boolean"}),
        (Node::Time | Node::MicroTime, _) => json!({"type": "string", "format": "date-time"}),
        (Node::Quantity, Version::V2) => json!({"type": "string"}),
        (Node::Quantity, Version::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        (Node::IntOrString, Version::V2) => json!({"type": "string", "format": "int-or-string"}),
        (Node::IntOrString, Version::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        (Node::Free, _) => json!({"type": "object"}),
        _ => json!({}),
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
