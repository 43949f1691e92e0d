//! Lists whose elements must differ (`x-kubernetes-list-type`).

use super::structural::{Additional, List, Structural};
use crate::field::{FieldError, Path};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Errors of lists of type set or map within an object: elements that stand twice.
pub fn validate_lists(schema: &Structural, value: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(schema, value, path, &mut errors);
    errors
}

fn walk(schema: &Structural, value: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            if let Some(Additional::Schema(field)) = &schema.additional {
                for (name, value) in map.iter().filter(|(_, v)| has_parts(v)) {
                    walk(field, value, &path.key(name), errors);
                }
            }
            for (name, value) in map.iter().filter(|(_, v)| has_parts(v)) {
                if let Some(field) = schema.properties.get(name) {
                    walk(field, value, &path.child(name), errors);
                }
            }
        }
        Value::Array(list) => {
            match schema.list {
                Some(List::Set) => {
                    for at in repeated(list) {
                        let value = list.get(at).cloned().unwrap_or_default();
                        errors.push(FieldError::duplicate(path.index(at), value));
                    }
                }
                Some(List::Map) => keyed(schema, list, path, errors),
                Some(List::Atomic) | None => {}
            }
            if let Some(items) = schema.items.as_deref() {
                for (at, value) in list.iter().enumerate().filter(|(_, v)| has_parts(v)) {
                    walk(items, value, &path.index(at), errors);
                }
            }
        }
        _ => {}
    }
}

fn has_parts(value: &Value) -> bool {
    matches!(value, Value::Object(_) | Value::Array(_))
}

fn keyed(schema: &Structural, list: &[Value], path: &Path, errors: &mut Vec<FieldError>) {
    if let Some(at) = list.iter().position(|value| !value.is_null() && !value.is_object()) {
        let value = list.get(at).cloned().unwrap_or_default();
        let why = "must be an object for an array of list-type map";
        errors.push(FieldError::invalid(path.index(at), value, why));
        return;
    }
    let keys = |value: &Value| {
        let named = |name: &String| Some((name.clone(), value.get(name)?.clone()));
        Value::Object(schema.map_keys.iter().filter_map(named).collect::<Map<_, _>>())
    };
    let keys: Vec<Value> = list.iter().map(keys).collect();
    for at in repeated(&keys) {
        let value = keys.get(at).cloned().unwrap_or_default();
        errors.push(FieldError::duplicate(path.index(at), value));
    }
}

/// Where values stand for the second time.
fn repeated(list: &[Value]) -> Vec<usize> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (at, value) in list.iter().enumerate() {
        let times = seen.entry(value.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            found.push(at);
        }
    }
    found
}
