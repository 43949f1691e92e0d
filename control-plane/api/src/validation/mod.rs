//! Rules that several kinds share. Each states upstream's fact: path, reason and message.

mod at;
mod condition;
pub mod metadata;
pub mod resources;
pub mod selector;
pub mod text;

pub use at::{At, Errors, IMMUTABLE};
pub use condition::conditions;

use serde_json::Value;

/// Whether two values mean the same: what Go leaves out when it writes JSON (`null`, `""`, `0`, `false`, empty
/// lists and maps) is the same as nothing. A client that reads an object into typed structures and writes it
/// back changes nothing by that.
pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a.filter(|v| !nothing(v)), b.filter(|v| !nothing(v))) {
        (None, None) => true,
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.iter().all(|(key, value)| same(Some(value), b.get(key)))
                && b.iter().all(|(key, value)| a.contains_key(key) || nothing(value))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

fn nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(nothing),
    }
}

/// A port between 1 and 65535; nothing said where there is none.
pub fn port_number(errors: &mut Errors, at: &At<'_, '_>) {
    errors.in_range(at, 1, 65535);
}

/// A port by number or by name.
pub fn port_number_or_name(errors: &mut Errors, at: &At<'_, '_>) {
    match at.value() {
        Some(Value::String(_)) => errors.text(at, text::port_name(at.text())),
        Some(_) => port_number(errors, at),
        None => errors.push(crate::FieldError::invalid(
            at.path(),
            0.into(),
            "must be between 1 and 65535, inclusive",
        )),
    }
}

/// A user or group id.
pub fn user_id(errors: &mut Errors, at: &At<'_, '_>) {
    errors.in_range(at, 0, i64::from(i32::MAX));
}

/// Labels of an object or of a template.
pub fn labels(errors: &mut Errors, at: &At<'_, '_>) {
    for (key, value) in at.entries() {
        for message in text::qualified_name(key) {
            errors.push(crate::FieldError::invalid(at.path(), key.into(), message));
        }
        for message in text::label_value(value.text()) {
            errors.push(crate::FieldError::invalid(at.path(), value.text().into(), message));
        }
    }
}

/// Most bytes that the annotations of an object may have together, keys and values.
pub const ANNOTATIONS_MAX: usize = 256 << 10;

/// Annotations of an object or of a template. The case of keys does not matter.
pub fn annotations(errors: &mut Errors, at: &At<'_, '_>) {
    let mut size = 0;
    for (key, value) in at.entries() {
        size += key.len() + value.text().len();
        for message in text::qualified_name(&key.to_lowercase()) {
            errors.push(crate::FieldError::invalid(at.path(), key.into(), message));
        }
    }
    if size > ANNOTATIONS_MAX {
        errors.push(crate::FieldError::too_long(at.path(), ANNOTATIONS_MAX));
    }
}

/// An IP address.
pub fn ip(errors: &mut Errors, at: &At<'_, '_>) {
    errors.text(at, text::ip(at.text()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_left_out_is_the_same_as_nothing() {
        let a = json!({"a": 1, "b": [], "c": {"d": null}, "e": false});
        assert!(same(Some(&a), Some(&json!({"a": 1}))));
        assert!(same(Some(&json!({"a": 1})), Some(&a)));
        assert!(!same(Some(&a), Some(&json!({"a": 2}))));
        assert!(!same(Some(&json!([1, 2])), Some(&json!([2, 1]))));
        assert!(!same(Some(&json!({"a": {"b": 1}})), Some(&json!({"a": {}}))));
        assert!(same(None, Some(&json!({}))));
    }
}
