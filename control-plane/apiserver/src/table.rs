//! `metav1.Table` and `metav1.PartialObjectMetadata`: other forms of objects and lists.

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

/// An object's metadata as an object of its own.
pub fn partial(object: &Object) -> Value {
    partial_of(&object.value())
}

fn partial_of(value: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": value.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name, "type": column.kind, "format": column.format,
        "description": column.description, "priority": column.priority,
    })
}

/// A table of objects; `metadata` is that of the list. Without `headers` (after the first of a watch) the columns are not
/// described again.
pub fn table(
    row: &Resource,
    objects: &[Arc<Object>],
    metadata: Value,
    include: IncludeObject,
    headers: bool,
    now: jiff::Timestamp,
) -> Value {
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let value = object.value();
            let cells = row.strategy.cells(&value, now);
            let shown = match include {
                IncludeObject::None => Value::Null,
                IncludeObject::Metadata => partial_of(&value),
                IncludeObject::Object => value,
            };
            json!({"cells": cells, "object": shown})
        })
        .collect();
    let columns = if headers {
        Value::Array(row.strategy.columns().iter().map(definition).collect())
    } else {
        Value::Null
    };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns, "rows": rows,
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
            table(
                row,
                std::slice::from_ref(&object),
                json!({}),
                include,
                headers,
                jiff::Timestamp::UNIX_EPOCH,
            )
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
}
