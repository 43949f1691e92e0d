//! The metadata of custom and of embedded objects: its own types, whatever a schema says.

use super::structural::Structural;
use crate::field::{FieldError, Path};
use crate::names;
use crate::schema::{Schema, Schemas, inspect};
use crate::validation::metadata;
use serde_json::{Map, Value};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

fn object_meta() -> Option<Schema<'static>> {
    Schemas::builtin().get(OBJECT_META)
}

/// What to do with metadata that has a wrong type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Refuse the object: it comes from a client.
    Refuse,
    /// Drop what is wrong: it was stored long ago.
    Drop,
}

/// Brings metadata to the form that is stored, and returns the paths of fields that were dropped because there are no
/// such. The error says what is wrong with a value of a wrong type.
pub fn coerce_metadata(value: &mut Value, malformed: Malformed) -> Result<Vec<String>, String> {
    let Some(schema) = object_meta() else { return Ok(Vec::new()) };
    // An empty list asks for all ownership to be forgotten, unlike other empty lists.
    let given_up = value.get("managedFields").and_then(Value::as_array).is_some_and(Vec::is_empty);
    let mut tried = value.clone();
    let dropped = match inspect(schema, &mut tried) {
        Ok(dropped) => {
            *value = tried;
            dropped
        }
        Err(why) if malformed == Malformed::Refuse => return Err(why),
        Err(_) => by_fields(schema, value)?,
    };
    if given_up && let Some(map) = value.as_object_mut() {
        map.insert("managedFields".into(), Value::Array(Vec::new()));
    }
    Ok(dropped)
}

/// Keeps the fields that are well by themselves.
fn by_fields(schema: Schema<'_>, value: &mut Value) -> Result<Vec<String>, String> {
    let Some(map) = value.as_object() else {
        return Err(format!("invalid metadata: expected object, got {value}"));
    };
    let (mut kept, mut dropped) = (Map::new(), Vec::new());
    for (name, field) in map {
        let mut alone = Value::Object(Map::from_iter([(name.clone(), field.clone())]));
        if let Ok(mut unknown) = inspect(schema, &mut alone) {
            dropped.append(&mut unknown);
            if let Value::Object(alone) = alone {
                kept.extend(alone);
            }
        }
    }
    *value = Value::Object(kept);
    Ok(dropped)
}

/// Brings type and metadata of all embedded resources within an object to the form that is stored. Returns the paths
/// of fields that were dropped, sorted.
pub fn coerce_embedded(
    schema: &Structural,
    value: &mut Value,
    root: bool,
    malformed: Malformed,
) -> Result<Vec<String>, FieldError> {
    let mut dropped = Vec::new();
    coerce(schema, root || schema.embedded, value, &Path::default(), malformed, &mut dropped)?;
    dropped.sort();
    Ok(dropped)
}

fn coerce(
    schema: &Structural,
    embedded: bool,
    value: &mut Value,
    path: &Path,
    malformed: Malformed,
    dropped: &mut Vec<String>,
) -> Result<(), FieldError> {
    match value {
        Value::Object(map) => {
            if embedded {
                coerce_object(map, path, malformed, dropped)?;
            }
            for (name, value) in map.iter_mut().filter(|(_, v)| v.is_object() || v.is_array()) {
                let (inner, below) = match (schema.properties.get(name), schema.field(name)) {
                    (Some(inner), _) => (inner, path.child(name)),
                    (None, Some(inner)) => (inner, path.key(name)),
                    (None, None) => continue,
                };
                coerce(inner, inner.embedded, value, &below, malformed, dropped)?;
            }
        }
        Value::Array(list) => {
            let Some(items) = schema.items.as_deref() else { return Ok(()) };
            for (at, value) in list.iter_mut().enumerate() {
                coerce(items, items.embedded, value, &path.index(at), malformed, dropped)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn coerce_object(
    map: &mut Map<String, Value>,
    path: &Path,
    malformed: Malformed,
    dropped: &mut Vec<String>,
) -> Result<(), FieldError> {
    for name in ["apiVersion", "kind"] {
        match map.get(name) {
            None | Some(Value::String(_)) => {}
            Some(_) if malformed == Malformed::Drop => {
                map.remove(name);
            }
            Some(other) => {
                return Err(FieldError::invalid(path.child(name), other.clone(), "must be a string"));
            }
        }
    }
    let Some(meta) = map.get_mut("metadata") else { return Ok(()) };
    let place = path.child("metadata");
    match coerce_metadata(meta, malformed) {
        Ok(unknown) => dropped.extend(unknown.iter().map(|name| format!("{place}.{name}"))),
        Err(why) if malformed == Malformed::Refuse => {
            return Err(FieldError::invalid(place, meta.clone(), why));
        }
        Err(_) => {}
    }
    Ok(())
}

/// Errors of type and metadata of all embedded resources within an object; with `root`, of the object itself too.
pub fn validate_embedded(schema: &Structural, value: &Value, root: bool, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate(schema, root || schema.embedded, value, path, &mut errors);
    errors
}

fn validate(schema: &Structural, embedded: bool, value: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            if embedded {
                validate_object(map, path, errors);
            }
            for (name, value) in map.iter().filter(|(_, v)| v.is_object() || v.is_array()) {
                match (schema.properties.get(name), schema.field(name)) {
                    (Some(inner), _) => validate(inner, inner.embedded, value, &path.child(name), errors),
                    (None, Some(inner)) => validate(inner, inner.embedded, value, &path.key(name), errors),
                    (None, None) => {}
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = schema.items.as_deref() else { return };
            for (at, value) in list.iter().enumerate() {
                validate(items, items.embedded, value, &path.index(at), errors);
            }
        }
        _ => {}
    }
}

fn validate_object(map: &Map<String, Value>, path: &Path, errors: &mut Vec<FieldError>) {
    for name in ["apiVersion", "kind"] {
        let place = path.child(name);
        match map.get(name) {
            None => errors.push(FieldError::required(place, "")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(place, "".into(), "must not be empty"));
            }
            Some(Value::String(text)) if name == "apiVersion" => {
                if text.matches('/').count() > 1 {
                    let why = format!("unexpected GroupVersion string: {text}");
                    errors.push(FieldError::invalid(place, text.as_str().into(), why));
                }
            }
            Some(Value::String(text)) => {
                let wrong = names::dns1035_label(&text.to_lowercase(), false);
                if !wrong.is_empty() {
                    let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
                    errors.push(FieldError::invalid(place, text.as_str().into(), why));
                }
            }
            Some(other) => errors.push(FieldError::invalid(place, other.clone(), "must be a string")),
        }
    }
    let Some(meta) = map.get("metadata") else { return };
    let mut checked = meta.clone();
    if let Err(why) = coerce_metadata(&mut checked, Malformed::Refuse) {
        errors.push(FieldError::invalid(path.child("metadata"), meta.clone(), why));
        return;
    }
    if let Some(map) = checked.as_object_mut()
        && map.get("name").and_then(Value::as_str).unwrap_or_default().is_empty()
    {
        // What has no name yet is not at fault for that.
        map.insert("name".into(), "fakename".into());
    }
    let namespaced = checked.get("namespace").and_then(Value::as_str).is_some_and(|n| !n.is_empty());
    let object = Value::Object(Map::from_iter([("metadata".to_owned(), checked)]));
    let found = metadata::validate_create(&object, namespaced, names::path_segment);
    errors.extend(found.into_iter().map(|error| {
        let place = match path.as_str() {
            "" => error.path.clone(),
            prefix => Path::from(format!("{prefix}.{}", error.path).as_str()),
        };
        FieldError { path: place, ..error }
    }));
}
