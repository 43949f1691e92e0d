//! JSON patch (RFC 6902), with the limits that upstream sets.

use super::PatchError;
use serde_json::{Map, Value};

/// Most operations of one patch.
const MAX_OPERATIONS: usize = 10_000;
/// Most bytes that `copy` operations may add together: a body's most.
const MAX_COPIED: usize = 3 * 1024 * 1024;
/// Deepest tree, as deep as a body may be.
const MAX_DEPTH: usize = 128;

/// Applies the operations in turn.
pub(super) fn apply(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let malformed = |why: &str| PatchError::Malformed(format!("error decoding patch: {why}"));
    let operations = patch.as_array().ok_or_else(|| malformed("a JSON patch is a list of operations"))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut result = object.clone();
    let mut copied = 0;
    for operation in operations {
        let fields = operation.as_object().ok_or_else(|| malformed("an operation is a JSON object"))?;
        one(&mut result, fields, &mut copied)?;
    }
    Ok(result)
}

fn one(object: &mut Value, operation: &Map<String, Value>, copied: &mut usize) -> Result<(), PatchError> {
    let text = |key: &str| match operation.get(key) {
        Some(Value::String(text)) => Ok(text.as_str()),
        _ => Err(PatchError::Unprocessable(format!("an operation needs the string {key:?}"))),
    };
    // One that is not there is null.
    let value = || operation.get("value").cloned().unwrap_or_default();
    let name = text("op")?;
    let path = text("path")?;
    let fails = |why: String| PatchError::Unprocessable(format!("{name} operation does not apply: {why}"));
    match name {
        "add" => add(object, path, value()).map_err(fails),
        "remove" => remove(object, path).map(drop).map_err(fails),
        "replace" => replace(object, path, value()).map_err(fails),
        "move" => {
            let from = text("from")?;
            if path.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
                return Err(fails("a value cannot move into itself".into()));
            }
            let value = remove(object, from).map_err(fails)?;
            add(object, path, value).map_err(fails)
        }
        "copy" => {
            let from = text("from")?;
            let value = get(object, from).map_err(fails)?;
            *copied += value.to_string().len();
            if *copied > MAX_COPIED {
                return Err(PatchError::TooLarge(format!(
                    "unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
                )));
            }
            add(object, path, value).map_err(fails)
        }
        "test" => {
            let expected = operation.get("value").unwrap_or(&Value::Null);
            if get(object, path).map_err(fails)? == *expected {
                Ok(())
            } else {
                Err(PatchError::Unprocessable(format!("testing value {path} failed: test failed")))
            }
        }
        other => Err(PatchError::Unprocessable(format!("unexpected kind of operation: {other}"))),
    }
}

/// The parts of a pointer; `None` where it is none.
fn parts(path: &str) -> Option<Vec<String>> {
    if path.is_empty() {
        return Some(Vec::new());
    }
    let rest = path.strip_prefix('/')?;
    Some(rest.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect())
}

/// An index into a list of `len`; from the end where it is negative.
fn index(part: &str, len: usize) -> Option<usize> {
    let given: i64 = part.parse().ok()?;
    if given < 0 {
        usize::try_from(given + i64::try_from(len).ok()?).ok()
    } else {
        usize::try_from(given).ok()
    }
}

fn find<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    parts(path)?.iter().try_fold(object, |at, part| match at {
        Value::Object(map) => map.get(part),
        Value::Array(list) => list.get(index(part, list.len())?),
        _ => None,
    })
}

/// What is at a path. What an object does not have is null; what a list does not have is an error.
fn get(object: &Value, path: &str) -> Result<Value, String> {
    let missing = || format!("doc is missing path: {path:?}: missing value");
    if path.is_empty() {
        return Ok(object.clone());
    }
    let (above, _) = path.rsplit_once('/').ok_or_else(missing)?;
    match (find(object, above), find(object, path)) {
        (_, Some(value)) => Ok(value.clone()),
        (Some(Value::Object(_)), None) => Ok(Value::Null),
        _ => Err(missing()),
    }
}

fn step<'a>(object: &'a mut Value, parts: &[String]) -> Option<&'a mut Value> {
    parts.iter().try_fold(object, |at, part| match at {
        Value::Object(map) => map.get_mut(part),
        Value::Array(list) => {
            let at = index(part, list.len())?;
            list.get_mut(at)
        }
        _ => None,
    })
}

/// The parent of a path and the last part; `Ok(None)` for the whole object.
fn parent<'a>(object: &'a mut Value, path: &str) -> Result<Option<(&'a mut Value, String)>, String> {
    let mut parts = parts(path).ok_or_else(|| format!("{path:?} is no JSON pointer"))?;
    let Some(last) = parts.pop() else { return Ok(None) };
    match step(object, &parts) {
        Some(parent) => Ok(Some((parent, last))),
        None => Err(format!("doc is missing path: {path:?}: missing value")),
    }
}

fn add(object: &mut Value, path: &str, value: Value) -> Result<(), String> {
    fits(path, &value)?;
    let Some((parent, last)) = parent(object, path)? else {
        return Err("doc is missing path: \"\": missing value".into());
    };
    match parent {
        Value::Object(map) => {
            map.insert(last, value);
            Ok(())
        }
        Value::Array(list) if last == "-" => {
            list.push(value);
            Ok(())
        }
        Value::Array(list) => match index(&last, list.len()) {
            Some(at) if at <= list.len() => {
                list.insert(at, value);
                Ok(())
            }
            _ => Err(format!("Unable to access invalid index: {last}: invalid index referenced")),
        },
        _ => Err(format!("doc is missing path: {path:?}: missing value")),
    }
}

/// Puts a value in the place of another. In an object there need not be another.
fn replace(object: &mut Value, path: &str, value: Value) -> Result<(), String> {
    fits(path, &value)?;
    match parent(object, path)? {
        None => *object = value,
        Some((Value::Object(map), last)) => drop(map.insert(last, value)),
        Some((Value::Array(list), last)) => {
            let at = index(&last, list.len()).and_then(|at| list.get_mut(at));
            *at.ok_or_else(|| format!("doc is missing key: {path}: missing value"))? = value;
        }
        Some(_) => return Err(format!("doc is missing path: {path:?}: missing value")),
    }
    Ok(())
}

fn remove(object: &mut Value, path: &str) -> Result<Value, String> {
    let Some((parent, last)) = parent(object, path)? else {
        return Err("the whole object cannot be removed".into());
    };
    match parent {
        Value::Object(map) => map
            .remove(&last)
            .ok_or_else(|| format!("Unable to remove nonexistent key: {last}: missing value")),
        Value::Array(list) => match index(&last, list.len()) {
            Some(at) if at < list.len() => Ok(list.remove(at)),
            _ => Err(format!("Unable to access invalid index: {last}: invalid index referenced")),
        },
        _ => Err(format!("doc is missing path: {path:?}: missing value")),
    }
}

/// Refuses what would make the tree deeper than a body may be: everything that walks trees recurses.
fn fits(path: &str, value: &Value) -> Result<(), String> {
    let above = path.bytes().filter(|b| *b == b'/').count();
    if above + depth(value) > MAX_DEPTH {
        Err(format!("the result would be deeper than {MAX_DEPTH}"))
    } else {
        Ok(())
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
