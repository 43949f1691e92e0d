//! Filling in defaults, and nulls where none may be.

use super::structural::{Additional, Structural};
use serde_json::Value;

/// Fills in what the schema has as defaults: where nothing stands, or null where null is no value. Idempotent.
pub fn apply_defaults(schema: &Structural, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, field) in &schema.properties {
                if let Some(default) = &field.default
                    && map.get(name).is_none_or(|value| value.is_null() && !field.nullable)
                {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                match (schema.properties.get(name), &schema.additional) {
                    (Some(field), _) => apply_defaults(field, value),
                    (None, Some(Additional::Schema(field))) => element(field, value),
                    _ => {}
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.items.as_deref() {
                list.iter_mut().for_each(|value| element(items, value));
            }
        }
        _ => {}
    }
}

/// A value that stands in a list or map.
fn element(schema: &Structural, value: &mut Value) {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
    apply_defaults(schema, value);
}

/// Takes out fields that are null where null is no value and nothing else is to stand instead.
pub fn drop_nulls(schema: Option<&Structural>, value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|name, value| {
            let field = schema.and_then(|s| s.field(name));
            if value.is_null() && field.is_some_and(|s| !s.nullable && s.default.is_none()) {
                return false;
            }
            drop_nulls(field, value);
            true
        }),
        Value::Array(list) => {
            let items = schema.and_then(|s| s.items.as_deref());
            list.iter_mut().for_each(|value| drop_nulls(items, value));
        }
        _ => {}
    }
}
