//! Filling in defaults.

use super::scalar;
use super::set::{Field, Node, Schema};
use serde_json::{Map, Value};

/// Fills in the defaults of every structure that is there, and what Go always writes: structures that are
/// no pointers, and zero values of scalars without `omitempty`. Idempotent; to be called on objects that
/// passed [`check`](super::check()).
pub fn apply_defaults(schema: Schema<'_>, value: &mut Value) {
    match schema.set().guide() {
        Some(guide) => guide.apply_defaults(value),
        None => fill(schema, value),
    }
}

/// The same of one field alone.
pub fn apply_defaults_of(schema: Schema<'_>, value: &mut Value, name: &str) {
    if schema.set().guide().is_none()
        && let Some((found, inner)) = schema.field(name)
        && let Some(map) = value.as_object_mut()
    {
        one(found, inner, map);
    }
}

/// Makes null of empty lists that Go writes even where there are none: what is stored does not tell them apart.
pub fn forget_empty_lists(schema: Schema<'_>, value: &mut Value) {
    if schema.set().guide().is_none() && has_empty_list(value) {
        forget(schema, value);
    }
}

fn has_empty_list(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.is_empty() || list.iter().any(has_empty_list),
        Value::Object(map) => map.values().any(has_empty_list),
        _ => false,
    }
}

fn forget(schema: Schema<'_>, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                let Some((field, inner)) = schema.field(name) else { continue };
                if field.default.as_deref() == Some("null") && value.as_array().is_some_and(Vec::is_empty) {
                    *value = Value::Null;
                } else {
                    forget(inner, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(element) = schema.element() {
                list.iter_mut().for_each(|value| forget(element, value));
            }
        }
        _ => {}
    }
}

fn fill(schema: Schema<'_>, value: &mut Value) {
    match (schema.node(), value) {
        (Node::Struct(_), Value::Object(map)) => structure(schema, map),
        (Node::List(..), Value::Array(list)) => {
            if let Some(element) = schema.element().filter(|e| has_parts(*e)) {
                list.iter_mut().for_each(|value| fill(element, value));
            }
        }
        (Node::Map(..), Value::Object(map)) => {
            if let Some(element) = schema.element().filter(|e| has_parts(*e)) {
                map.values_mut().for_each(|value| fill(element, value));
            }
        }
        _ => {}
    }
}

fn has_parts(schema: Schema<'_>) -> bool {
    matches!(schema.node(), Node::Struct(_) | Node::List(..) | Node::Map(..))
}

fn structure(schema: Schema<'_>, map: &mut Map<String, Value>) {
    let Some(this) = schema.structure() else { return };
    for field in this.fields.iter() {
        one(field, schema.of(field), map);
    }
}

fn one(field: &Field, inner: Schema<'_>, map: &mut Map<String, Value>) {
    // The texts were written at build time or checked with the schema; a bad one fills in nothing.
    if let Some(fill) = field.default.as_deref().or(field.zero.as_deref())
        && wanting(field, map.get(field.name.as_ref()))
        && let Ok(fill) = serde_json::from_str(fill)
    {
        map.insert(field.name.to_string(), fill);
    }
    if has_parts(inner)
        && let Some(value) = map.get_mut(field.name.as_ref())
    {
        fill(inner, value);
    }
}

/// Whether nothing stands there that a default must respect.
fn wanting(field: &Field, value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        // A zero that is no pointer is the same as none.
        Some(value) => {
            field.default.is_some() && (field.value || field.zero.is_some()) && scalar::is_zero(value)
        }
    }
}
