//! Which old value a new one comes from.

use super::structural::{List, Structural};
use serde_json::Value;
use std::collections::BTreeMap;

/// A new value and the old one it comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) schema: &'a Structural,
    pub(super) new: &'a Value,
    pub(super) old: &'a Value,
}

impl<'a> Pair<'a> {
    /// The pair of a field; none where it is new, or where the schema says nothing of it.
    pub(super) fn key(&self, name: &str) -> Option<Pair<'a>> {
        let (new, old) = (self.new.as_object()?.get(name)?, self.old.as_object()?.get(name)?);
        Some(Pair { schema: self.schema.field(name)?, new, old })
    }

    /// The pairs of the elements of a list, which only keys can tell; `None` for each that is new.
    pub(super) fn items(&self) -> Items<'a> {
        let lists = (self.new.as_array(), self.old.as_array(), self.schema.items.as_deref());
        let (Some(new), Some(old), Some(schema)) = lists else { return Items::none() };
        Items { keyed: Keyed::of(self.schema, old), new, schema: Some(schema) }
    }

    /// Whether both are the same. What the schema knows nothing of is not compared, and so is not the same.
    pub(super) fn equal(&self) -> bool {
        match (self.new, self.old) {
            (Value::Null, old) => old.is_null(),
            (_, Value::Null) => false,
            (Value::Array(new), Value::Array(old)) => {
                if new.len() != old.len() {
                    return false;
                }
                if self.schema.list != Some(List::Map) || self.schema.items.is_none() {
                    return new == old;
                }
                let items = self.items();
                (0..new.len()).all(|at| items.get(at).is_some_and(|pair| pair.equal()))
            }
            (Value::Object(new), Value::Object(old)) => {
                new.len() == old.len()
                    && new.keys().all(|name| self.key(name).is_some_and(|pair| pair.equal()))
            }
            (new, old) => new == old,
        }
    }
}

/// The pairs of a list.
pub(super) struct Items<'a> {
    keyed: Keyed<'a>,
    new: &'a [Value],
    schema: Option<&'a Structural>,
}

impl<'a> Items<'a> {
    fn none() -> Self {
        Items { keyed: Keyed::default(), new: &[], schema: None }
    }

    /// The pair of the element at a place of the new list.
    pub(super) fn get(&self, at: usize) -> Option<Pair<'a>> {
        let new = self.new.get(at)?;
        Some(Pair { schema: self.schema?, new, old: self.keyed.get(new)? })
    }
}

/// The elements of a list of type map by their keys, the first of each.
#[derive(Default)]
pub(super) struct Keyed<'a> {
    keys: &'a [String],
    elements: BTreeMap<String, &'a Value>,
}

impl<'a> Keyed<'a> {
    /// Empty for lists of another type.
    pub(super) fn of(schema: &'a Structural, list: &'a [Value]) -> Self {
        if schema.list != Some(List::Map) || schema.map_keys.is_empty() {
            return Keyed::default();
        }
        let mut keyed = Keyed { keys: &schema.map_keys, elements: BTreeMap::new() };
        for element in list {
            if let Some(key) = keyed.key(element) {
                keyed.elements.entry(key).or_insert(element);
            }
        }
        keyed
    }

    fn key(&self, element: &Value) -> Option<String> {
        let map = element.as_object()?;
        let mut key = String::new();
        for name in self.keys {
            match map.get(name) {
                Some(part @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => {
                    key.push_str(&part.to_string());
                    key.push(',');
                }
                _ => return None,
            }
        }
        Some(key)
    }

    /// The element with the keys of another one.
    pub(super) fn get(&self, like: &Value) -> Option<&'a Value> {
        if self.keys.is_empty() {
            return None;
        }
        self.elements.get(&self.key(like)?).copied()
    }
}
