//! What an object that is there becomes, as plain functions; none where nothing must be changed.

use crate::authz::defaults::AUTOUPDATE;
use serde_json::Value;
use skep_api::kinds::flow::AUTOUPDATE as AUTOUPDATE_SPEC;
use skep_api::validation::same;

fn kept_up(have: &Value) -> bool {
    have.pointer("/metadata/annotations").and_then(|a| a.get(AUTOUPDATE)).and_then(Value::as_str)
        != Some("false")
}

/// The ranges of a cluster that had one family and has come to have both.
pub(super) fn second_range(mut have: Value, wanted: &Value) -> Option<Value> {
    let list =
        |range: &Value| range.pointer("/spec/cidrs").and_then(Value::as_array).cloned().unwrap_or_default();
    let (old, new) = (list(&have), list(wanted));
    let comes = old.len() == 1 && new.len() == 2 && old.first() == new.first();
    comes.then(|| {
        have["spec"]["cidrs"] = new.into();
        have
    })
}

/// Whether a binding names another role than it should, which cannot be changed in place.
pub(super) fn replaced(have: &Option<Value>, wanted: &Value) -> bool {
    let Some(have) = have.as_ref().filter(|h| kept_up(h)) else { return false };
    wanted.get("roleRef").is_some_and(|role| have.get("roleRef") != Some(role))
}

/// A role or binding with what the default has and it lacks. What was added to it stays; so does everything where its
/// annotation says that it must not be kept up.
pub(super) fn rbac(mut have: Value, wanted: &Value) -> Option<Value> {
    if !kept_up(&have) {
        return None;
    }
    let mut changed = false;
    for map in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][map].as_object().into_iter().flatten() {
            if have["metadata"][map].get(key) != Some(value) {
                have["metadata"][map][key] = value.clone();
                changed = true;
            }
        }
    }
    // The rules of an aggregated role are not its own.
    let lists = if wanted.get("aggregationRule").is_some() {
        &["/aggregationRule/clusterRoleSelectors"][..]
    } else {
        &["/rules", "/subjects"]
    };
    for pointer in lists {
        let Some(items) = wanted.pointer(pointer).and_then(Value::as_array).filter(|l| !l.is_empty()) else {
            continue;
        };
        if have.pointer(pointer).and_then(Value::as_array).is_none() {
            put(&mut have, pointer, Value::Array(Vec::new()));
        }
        let Some(list) = have.pointer_mut(pointer).and_then(Value::as_array_mut) else { continue };
        for item in items {
            if !list.iter().any(|h| covers(h, item)) {
                list.push(item.clone());
                changed = true;
            }
        }
    }
    changed.then_some(have)
}

fn put(tree: &mut Value, pointer: &str, value: Value) {
    let mut at = tree;
    for key in pointer.split('/').skip(1) {
        at = &mut at[key];
    }
    *at = value;
}

/// Whether `have` says at least what `wanted` says: same texts, and lists that hold all of it.
fn covers(have: &Value, wanted: &Value) -> bool {
    match (have, wanted) {
        (Value::Object(have), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| have.get(key).is_some_and(|h| covers(h, value)))
                // A name more limits a rule instead of widening it.
                && (wanted.contains_key("resourceNames") || have.get("resourceNames").is_none_or(|n| n.as_array().is_none_or(Vec::is_empty)))
        }
        (Value::Array(have), Value::Array(wanted)) => wanted.iter().all(|w| have.contains(w)),
        _ => have == wanted,
    }
}

/// A flow control object with the spec it came with, where it must have that (`mandatory`) or nobody took it over.
pub(super) fn flow(mut have: Value, wanted: &Value, mandatory: bool) -> Option<Value> {
    let annotation = have.pointer("/metadata/annotations").and_then(|a| a.get(AUTOUPDATE_SPEC));
    let kept = annotation.and_then(Value::as_str) == Some("true");
    // What the exempt level lends is the administrator's to say, even so.
    if !(kept || mandatory && wanted["spec"]["type"] != "Exempt")
        || same(have.get("spec"), wanted.get("spec"))
    {
        return None;
    }
    have["spec"] = wanted["spec"].clone();
    Some(have)
}

/// The object with every field as in `wanted`; fields that are not named there stay. Lists are replaced where they differ.
pub(super) fn fields(mut have: Value, wanted: &Value) -> Option<Value> {
    overlay(&mut have, wanted).then_some(have)
}

fn overlay(have: &mut Value, wanted: &Value) -> bool {
    match (&mut *have, wanted) {
        (Value::Object(have), Value::Object(wanted)) => wanted.iter().fold(false, |changed, (key, value)| {
            overlay(have.entry(key.clone()).or_insert(Value::Null), value) | changed
        }),
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            old.iter_mut().zip(new).fold(false, |changed, (old, new)| overlay(old, new) | changed)
        }
        (old, new) if *old == *new => false,
        (old, new) => {
            *old = new.clone();
            true
        }
    }
}
