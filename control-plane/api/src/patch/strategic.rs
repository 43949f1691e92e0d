//! Strategic merge patch: a merge patch whose lists merge by the schema's merge keys.
//!
//! Directives, as clients write them:
//! * `$patch: replace|delete` in a map, or in an element of a merged list;
//! * `$retainKeys: [..]`: fields of the map that are not named are cleared;
//! * `$deleteFromPrimitiveList/field: [..]`: scalars to take out;
//! * `$setElementOrder/field: [..]`: the order the merged list shall have.

use super::list::{self, Order};
use super::{PatchError, printed};
use crate::schema::{Field, Schema};
use serde_json::{Map, Value};

pub(super) const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

/// Applies a strategic merge patch.
pub(super) fn apply(schema: Schema<'_>, object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let (Value::Object(original), Value::Object(patch)) = (object, patch) else {
        return Err(PatchError::Malformed("invalid JSON document".into()));
    };
    merge_map(original.clone(), patch.clone(), Some(schema)).map(Value::Object)
}

pub(super) fn malformed(what: &str) -> PatchError {
    PatchError::Malformed(format!("invalid patch format of {what}"))
}

pub(super) fn bad_directive(directive: &Value, map: &Map<String, Value>) -> PatchError {
    let (directive, map) = (printed(directive), printed(&Value::Object(map.clone())));
    PatchError::Failed(format!("unknown patch type: {directive} in map: {map}"))
}

pub(super) fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    schema: Option<Schema<'_>>,
) -> Result<Map<String, Value>, PatchError> {
    match patch.get(PATCH) {
        None => {}
        Some(Value::String(directive)) if directive == "replace" => {
            patch.remove(PATCH);
            return Ok(patch);
        }
        Some(Value::String(directive)) if directive == "delete" => return Ok(Map::new()),
        Some(other) => return Err(bad_directive(other, &patch)),
    }
    retain_keys(&mut original, &mut patch)?;
    set_orders(&mut original, &mut patch, schema)?;
    for (key, value) in patch {
        if let Some(rest) = key.strip_prefix(DELETE_FROM) {
            let field = rest.strip_prefix('/').ok_or_else(|| malformed("primitive list"))?;
            if let (Some(Value::Array(list)), Value::Array(gone)) = (original.get_mut(field), &value) {
                list::delete(list, gone);
            }
            continue;
        }
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                let field = schema.and_then(|s| s.field(&key));
                match field {
                    Some((field, _)) if field.merge.replace => Some(Value::Object(new)),
                    _ => Some(Value::Object(merge_map(old, new, inner(schema, &key))?)),
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let field = schema.and_then(|s| s.field(&key));
                Some(Value::Array(merge_field(field, &key, old, new)?))
            }
            (_, new) => fresh(new),
        };
        if let Some(value) = merged {
            original.insert(key, value);
        }
    }
    Ok(original)
}

/// The schema below a key: that of the field, or of a map's values.
fn inner<'a>(schema: Option<Schema<'a>>, key: &str) -> Option<Schema<'a>> {
    let schema = schema?;
    schema.field(key).map(|f| f.1).or_else(|| schema.element())
}

/// Merges a list, or replaces it where the schema says nothing of merging.
fn merge_field(
    field: Option<(&Field, Schema<'_>)>,
    name: &str,
    old: Vec<Value>,
    new: Vec<Value>,
) -> Result<Vec<Value>, PatchError> {
    match field {
        Some((field, schema)) if field.merge.merge => {
            list::merge(name, field.merge.key.as_deref(), schema.element(), old, new)
        }
        _ => Ok(new.into_iter().filter_map(without_directives).collect()),
    }
}

/// Clears what `$retainKeys` does not name.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), PatchError> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let names: Option<Vec<&str>> =
        directive.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    let names = names.ok_or_else(|| malformed("retainKeys"))?;
    let named = |key: &String| names.contains(&key.as_str());
    let directive = |key: &String| key.starts_with(DELETE_FROM) || key.starts_with(SET_ORDER);
    if patch.iter().any(|(key, value)| !value.is_null() && !directive(key) && !named(key)) {
        return Err(malformed("retainKeys"));
    }
    original.retain(|key, _| named(key));
    Ok(())
}

/// Merges every list that comes with an order, and puts it into that order.
fn set_orders(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    schema: Option<Schema<'_>>,
) -> Result<(), PatchError> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let wrong = || malformed("setElementOrder list");
        let name =
            directive.strip_prefix(SET_ORDER).and_then(|rest| rest.strip_prefix('/')).ok_or_else(wrong)?;
        let Some(Value::Array(order)) = patch.remove(&directive) else { return Err(wrong()) };
        let field = schema.and_then(|s| s.field(name)).ok_or_else(|| {
            PatchError::Failed(format!("unable to find api field {name:?} for the list of {directive}"))
        })?;
        let key = field.0.merge.key.as_deref();
        let as_list = |value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(wrong()),
        };
        let old = as_list(original.remove(name))?;
        let new = match patch.remove(name) {
            // The field goes away; no order matters then.
            Some(Value::Null) => continue,
            value => as_list(value)?,
        };
        list::follows(new.as_deref().unwrap_or_default(), &order, key)?;
        let server_order = old.clone().unwrap_or_default();
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(fresh).collect(),
            (Some(old), Some(new)) => merge_field(Some(field), name, old, new)?,
        };
        let ordered = Order { wanted: &order, server: &server_order, key }.sort(merged)?;
        original.insert(name.to_owned(), Value::Array(ordered));
    }
    Ok(())
}

/// A value that the original has nothing of: without nulls and directives. `None` where it is a directive.
pub(super) fn fresh(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(key, value)| !value.is_null() && !is_directive(key));
            Some(Value::Object(kept.filter_map(|(key, value)| Some((key, fresh(value)?))).collect()))
        }
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(fresh).collect())),
        other => Some(other),
    }
}

/// The same, keeping nulls.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(key, _)| !is_directive(key));
            Some(Value::Object(
                kept.filter_map(|(key, value)| Some((key, without_directives(value)?))).collect(),
            ))
        }
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

fn is_directive(key: &str) -> bool {
    key == RETAIN_KEYS || key.starts_with(DELETE_FROM) || key.starts_with(SET_ORDER)
}
