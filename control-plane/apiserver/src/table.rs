//! `metav1.Table` and `metav1.PartialObjectMetadata`: other forms of objects and lists.

use bytes::{BufMut, BytesMut};
use serde_json::{Value, json};
use skep_api::{Column, Object, Resource};
use std::sync::Arc;

/// How much of its object a row of a table carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// The parameter's value; empty is the default.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "None" => Some(Self::None),
            "" | "Metadata" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// What a table shows.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// How much of its object a row carries.
    pub include: IncludeObject,
    /// Whether the columns are described: not again after the first event of a watch.
    pub headers: bool,
    /// Version of the meta group.
    pub api_version: &'static str,
}

/// An object's metadata as an object of its own, of a version of the meta group.
pub fn partial(api_version: &str, object: &Object) -> Value {
    partial_of(api_version, &object.value())
}

fn partial_of(api_version: &str, value: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": api_version,
        "metadata": value.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

/// Appends [`partial`] as JSON, cut out of the object's bytes.
pub fn write_partial(api_version: &str, object: &Object, out: &mut BytesMut) {
    let (_, tail) = object.parts();
    let metadata = tail.get(..members(tail)).unwrap_or_default();
    out.reserve(metadata.len() + 128);
    out.put_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"");
    out.put_slice(api_version.as_bytes());
    out.put_slice(b"\",\"metadata\":{");
    if object.revision() > 0 {
        out.put_slice(format!("\"resourceVersion\":\"{}\"", object.revision()).as_bytes());
        if !metadata.is_empty() {
            out.put_u8(b',');
        }
    }
    out.put_slice(metadata);
    out.put_slice(b"}}");
}

/// How long the members of a JSON object are, up to the brace that ends it.
fn members(text: &[u8]) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name, "type": column.kind, "format": column.format,
        "description": column.description, "priority": column.priority,
    })
}

/// A table of objects; `metadata` is that of the list.
pub fn table(
    row: &Resource,
    objects: &[Arc<Object>],
    metadata: Value,
    show: Columns,
    now: jiff::Timestamp,
) -> Value {
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let value = object.value();
            let cells = row.strategy.cells(&value, now);
            let shown = match show.include {
                IncludeObject::None => Value::Null,
                IncludeObject::Metadata => partial_of(show.api_version, &value),
                IncludeObject::Object => value,
            };
            json!({"cells": cells, "object": shown})
        })
        .collect();
    let columns = if show.headers {
        Value::Array(row.strategy.columns().iter().map(definition).collect())
    } else {
        Value::Null
    };
    json!({
        "kind": "Table", "apiVersion": show.api_version, "metadata": metadata, "columnDefinitions": columns, "rows": rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_api::kinds::ResourceTable;

    #[test]
    fn rows_carry_what_was_asked_for() {
        let resources = ResourceTable::builtin();
        let row = resources.get("", "v1", "secrets").unwrap();
        let value = json!({"apiVersion": "v1", "kind": "Secret", "type": "x", "metadata": {"name": "a"}});
        let object = Arc::new(Object::from_value(value, 4, &[]).unwrap());
        let of = |include, headers| {
            let show = Columns { include, headers, api_version: "meta.k8s.io/v1" };
            table(row, std::slice::from_ref(&object), json!({}), show, jiff::Timestamp::UNIX_EPOCH)
        };
        let whole = of(IncludeObject::Object, true);
        assert_eq!(whole["rows"][0]["object"]["type"], "x");
        assert_eq!(whole["columnDefinitions"][0]["name"], "Name");
        assert_eq!(whole["rows"][0]["cells"].as_array().unwrap().len(), row.strategy.columns().len());
        let slim = of(IncludeObject::Metadata, false);
        assert_eq!(slim["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(slim["rows"][0]["object"]["metadata"]["resourceVersion"], "4");
        assert!(slim["columnDefinitions"].is_null());
        assert!(of(IncludeObject::None, true)["rows"][0]["object"].is_null());
    }

    #[test]
    fn metadata_is_cut_out() {
        for metadata in [
            json!({}),
            json!({"name": "a", "annotations": {"x": "}\"{\\", "y": "[\\\""}, "finalizers": ["}"]}),
        ] {
            let value =
                json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "}"}, "metadata": metadata});
            for revision in [0, 7] {
                let object = Object::from_value(value.clone(), revision, &[]).unwrap();
                let mut out = BytesMut::new();
                write_partial("meta.k8s.io/v1", &object, &mut out);
                let cut: Value = serde_json::from_slice(&out).unwrap();
                assert_eq!(cut, partial("meta.k8s.io/v1", &object));
            }
        }
    }
}
