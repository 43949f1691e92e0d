//! Merging lists: of maps by their merge key, of scalars by value.

use super::strategic::{PATCH, bad_directive, merge_map};
use super::{PatchError, printed};
use crate::schema::Schema;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// What tells an element from others: the value of its merge key, or a scalar itself.
fn identity(item: &Value, key: Option<&str>) -> Result<String, PatchError> {
    match key {
        None => Ok(item.to_string()),
        Some(key) => item.get(key).map(Value::to_string).ok_or_else(|| no_merge_key(item, key)),
    }
}

fn no_merge_key(item: &Value, key: &str) -> PatchError {
    match item {
        Value::Object(_) => {
            let item = printed(item);
            PatchError::Failed(format!("map: {item} does not contain declared merge key: {key}"))
        }
        _ => PatchError::Failed(format!("expected a map with the merge key {key}, but received {item}")),
    }
}

/// Elements by identity; of several alike, the first.
fn positions(list: &[Value], key: Option<&str>) -> Result<HashMap<String, usize>, PatchError> {
    let mut found = HashMap::new();
    for (at, item) in list.iter().enumerate() {
        found.entry(identity(item, key)?).or_insert(at);
    }
    Ok(found)
}

/// Takes the scalars of `gone` out.
pub(super) fn delete(list: &mut Vec<Value>, gone: &[Value]) {
    let gone: HashSet<String> = gone.iter().map(Value::to_string).collect();
    list.retain(|item| !gone.contains(&item.to_string()));
}

/// Merges `patch` into `original`: the order is that of the patch, with what only the server has in its
/// old places as far as possible.
pub(super) fn merge(
    name: &str,
    key: Option<&str>,
    element: Option<Schema<'_>>,
    original: Vec<Value>,
    patch: Vec<Value>,
) -> Result<Vec<Value>, PatchError> {
    let Some(first) = original.first().or(patch.first()) else { return Ok(original) };
    let kind = std::mem::discriminant(first);
    if original.iter().chain(&patch).any(Value::is_array) {
        return Err(PatchError::Unprocessable("lists of lists are not supported".into()));
    }
    if original.iter().chain(&patch).any(|item| std::mem::discriminant(item) != kind) {
        let lists = printed(&Value::from(vec![Value::from(original), Value::from(patch)]));
        return Err(PatchError::Failed(format!("list element types are not identical: {lists}")));
    }
    if !first.is_object() {
        let mut seen = HashSet::new();
        let merged =
            original.iter().chain(&patch).filter(|item| seen.insert(item.to_string())).cloned().collect();
        return Order { wanted: &patch, server: &original, key: None }.sort(merged);
    }
    let Some(key) = key else {
        return Err(PatchError::Failed(format!("cannot merge lists without merge key for {name}")));
    };
    let (base, patch) = special(original, patch, key)?;
    let server = base.clone();
    let merged = merge_maps(base, &patch, key, element)?;
    Order { wanted: &patch, server: &server, key: Some(key) }.sort(merged)
}

/// Carries out `$patch: delete` and `replace` of elements, and takes them out of the patch.
fn special(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut rest = Vec::with_capacity(patch.len());
    let mut gone = HashSet::new();
    let mut replace = false;
    for item in patch {
        let Value::Object(map) = &item else { continue };
        match map.get(PATCH) {
            None => rest.push(item),
            Some(Value::String(directive)) if directive == "delete" => {
                gone.insert(identity(&item, Some(key))?);
            }
            Some(Value::String(directive)) if directive == "replace" => replace = true,
            Some(Value::String(directive)) if directive == "merge" => {
                return Err(PatchError::Failed("merging lists cannot yet be specified in the patch".into()));
            }
            Some(other) => return Err(bad_directive(other, map)),
        }
    }
    if replace {
        return Ok((rest, Vec::new()));
    }
    if !gone.is_empty() {
        original.retain(|item| item.get(key).is_none_or(|value| !gone.contains(&value.to_string())));
    }
    Ok((original, rest))
}

fn merge_maps(
    mut base: Vec<Value>,
    patch: &[Value],
    key: &str,
    element: Option<Schema<'_>>,
) -> Result<Vec<Value>, PatchError> {
    let mut known: HashMap<String, usize> = HashMap::new();
    for (at, item) in base.iter().enumerate() {
        if let Some(value) = item.get(key) {
            known.entry(value.to_string()).or_insert(at);
        }
    }
    for item in patch {
        let identity = identity(item, Some(key))?;
        let slot = known.get(&identity).and_then(|at| base.get_mut(*at));
        match (slot, item) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                *old = merge_map(std::mem::take(old), new.clone(), element)?;
            }
            _ => {
                known.insert(identity, base.len());
                base.extend(super::strategic::fresh(item.clone()));
            }
        }
    }
    Ok(base)
}

/// Whether the elements of a patch stand in the order that comes with it.
pub(super) fn follows(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        let identity_of_item = identity(item, key)?;
        loop {
            let Some(next) = wanted.next() else {
                let lines = |list: &[Value]| printed(&Value::from(list.to_vec()));
                let (patch, order) = (lines(patch), lines(order));
                return Err(PatchError::Failed(format!(
                    "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
                )));
            };
            if identity(next, key)? == identity_of_item {
                break;
            }
        }
    }
    Ok(())
}

/// The order that a merged list gets.
pub(super) struct Order<'a> {
    /// Elements of the patch, or of its `$setElementOrder`.
    pub(super) wanted: &'a [Value],
    /// The list as it was.
    pub(super) server: &'a [Value],
    /// The merge key, for lists of maps.
    pub(super) key: Option<&'a str>,
}

impl Order<'_> {
    /// Sorts what is wanted as wanted and puts each of the others in front of the first that it stood in
    /// front of before.
    pub(super) fn sort(&self, merged: Vec<Value>) -> Result<Vec<Value>, PatchError> {
        let wanted = positions(self.wanted, self.key)?;
        let server = positions(self.server, self.key)?;
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for item in merged {
            let identity = identity(&item, self.key)?;
            let old_place = server.get(&identity).copied();
            match wanted.get(&identity) {
                Some(place) => ours.push((*place, old_place, item)),
                None => theirs.push((old_place, item)),
            }
        }
        ours.sort_by_key(|entry| entry.0);
        theirs.sort_by_key(|entry| entry.0);
        let mut result = Vec::with_capacity(ours.len() + theirs.len());
        let mut theirs = theirs.into_iter().peekable();
        for (_, old_place, item) in ours {
            while let Some((Some(place), _)) = theirs.peek() {
                if old_place.is_none_or(|old| *place >= old) {
                    break;
                }
                result.extend(theirs.next().map(|entry| entry.1));
            }
            result.push(item);
        }
        result.extend(theirs.map(|entry| entry.1));
        Ok(result)
    }
}
