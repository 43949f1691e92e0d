//! `Scale` of custom resources: a look at three fields of an object.

use super::definition::Scale;
use serde_json::{Map, Value, json};

/// Why an object has no scale.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// A field on the way has another type.
    #[error("{path} accessor error: {found} is of the type {kind}, expected {wanted}")]
    Type {
        /// The path.
        path: String,
        /// What is there.
        found: String,
        /// Its type, as Go calls it.
        kind: &'static str,
        /// The type that it must have.
        wanted: &'static str,
    },
    /// The replicas that are wanted are not given.
    #[error("the spec replicas field {0:?} does not exist")]
    Missing(String),
    /// A change that takes them away.
    #[error("the spec replicas field {0:?} cannot be empty")]
    Empty(String),
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn wrong(path: &str, value: &Value, wanted: &'static str) -> ScaleError {
    ScaleError::Type { path: path.to_owned(), found: value.to_string(), kind: kind(value), wanted }
}

/// The value at a simple path.
fn at<'v>(object: &'v Value, path: &str) -> Result<Option<&'v Value>, ScaleError> {
    let mut here = object;
    for part in path.trim_start_matches('.').split('.') {
        match here {
            Value::Object(map) => match map.get(part) {
                Some(next) => here = next,
                None => return Ok(None),
            },
            other => return Err(wrong(path, other, "map[string]interface{}")),
        }
    }
    Ok(Some(here))
}

fn int(object: &Value, path: &str) -> Result<Option<i64>, ScaleError> {
    match at(object, path)? {
        None => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| wrong(path, value, "int64")),
    }
}

fn text<'v>(object: &'v Value, path: &str) -> Result<&'v str, ScaleError> {
    match at(object, path)? {
        None => Ok(""),
        Some(value) => value.as_str().ok_or_else(|| wrong(path, value, "string")),
    }
}

impl Scale {
    /// The `Scale` of an object.
    pub fn read(&self, object: &Value) -> Result<Value, ScaleError> {
        let wanted = int(object, &self.spec_replicas)?;
        let status = int(object, &self.status_replicas)?.unwrap_or(0);
        let selector = self.selector.as_deref().map_or(Ok(""), |path| text(object, path))?;
        let wanted = wanted.ok_or_else(|| ScaleError::Missing(self.spec_replicas.clone()))?;
        let mut kept = Map::new();
        for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(value) = object.pointer("/metadata").and_then(|m| m.get(field)) {
                kept.insert(field.into(), value.clone());
            }
        }
        let mut out = json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept,
            "spec": {"replicas": wanted}, "status": {"replicas": status},
        });
        if !selector.is_empty() {
            out["status"]["selector"] = selector.into();
        }
        Ok(out)
    }

    /// The object with the replicas that `scale` asks for. A resource version in `scale` becomes the object's, so that
    /// a stale one is refused as in any update.
    pub fn write(&self, object: &Value, scale: &Value) -> Result<Value, ScaleError> {
        let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
        let mut out = object.clone();
        let mut here = &mut out;
        let parts: Vec<&str> = self.spec_replicas.trim_start_matches('.').split('.').collect();
        let Some((last, way)) = parts.split_last() else {
            return Err(ScaleError::Empty(self.spec_replicas.clone()));
        };
        for part in way {
            let Value::Object(map) = here else {
                return Err(wrong(&self.spec_replicas, here, "map[string]interface{}"));
            };
            here = map.entry((*part).to_owned()).or_insert_with(|| json!({}));
        }
        let Value::Object(map) = here else {
            return Err(wrong(&self.spec_replicas, here, "map[string]interface{}"));
        };
        map.insert((*last).to_owned(), replicas.into());
        let version = scale.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
        if !version.is_empty()
            && let Some(meta) = out.get_mut("metadata").and_then(Value::as_object_mut)
        {
            meta.insert("resourceVersion".into(), version.into());
        }
        Ok(out)
    }

    /// What is wrong with the replicas that an object asks for: the path, the value, and why.
    pub(super) fn wrong_spec(&self, object: &Value) -> Option<(String, Value, String)> {
        wrong_count(object, &self.spec_replicas)
    }

    /// What is wrong with the replicas and the selector in an object's status.
    pub(super) fn wrong_status(&self, object: &Value) -> Vec<(String, Value, String)> {
        let count = wrong_count(object, &self.status_replicas);
        let selector = self.selector.as_deref().and_then(|path| {
            text(object, path).err().map(|why| (path.to_owned(), "".into(), why.to_string()))
        });
        count.into_iter().chain(selector).collect()
    }
}

fn wrong_count(object: &Value, path: &str) -> Option<(String, Value, String)> {
    let wrong = |value: i64, why: String| Some((path.to_owned(), Value::from(value), why));
    match int(object, path) {
        Err(why) => wrong(0, why.to_string()),
        Ok(Some(n)) if n < 0 => wrong(n, "should be a non-negative integer".into()),
        Ok(Some(n)) if n > i64::from(i32::MAX) => {
            wrong(n, format!("should be less than or equal to {}", i32::MAX))
        }
        Ok(_) => None,
    }
}
