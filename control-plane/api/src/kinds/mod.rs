//! The kinds that are built in: their rows, and one file a kind or small family with its
//! [`Strategy`](crate::Strategy).
//!
//! What the schema says (types, required fields, defaults that depend on nothing) is not said again here.

pub mod addresses;
pub mod admission;
pub mod apiservice;
pub mod autoscaler;
pub mod batch;
pub mod certificates;
mod columns;
pub mod component;
pub mod custom;
pub mod data;
pub mod device;
pub mod endpoints;
pub mod event;
pub mod flow;
pub mod limits;
pub mod namespace;
pub mod networking;
pub mod node;
pub mod pod;
pub mod policy;
pub mod quota;
pub mod rbac;
mod reset;
pub mod review;
mod rows;
pub mod runtime;
pub mod scale;
pub mod service;
pub mod small;
#[cfg(test)]
mod stable_tests;
pub mod storage;
mod table;
pub mod template;
pub mod volume;
mod warnings;
pub mod workload;

pub use reset::reset_fields;
pub use rows::builtin;
pub use table::ResourceTable;

use crate::resource::{Context, Strategy};
use crate::validation::same;
use serde_json::{Map, Value};

/// A kind whose schema says all there is to say.
#[derive(Debug, Default)]
pub struct Plain;

impl Strategy for Plain {
    fn prepare_create(&self, _object: &mut Value, _context: &Context<'_>) {}

    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}
}

/// Puts fields of `old` into `new`, or takes them out where the old object has none.
fn keep(new: &mut Value, old: &Value, fields: &[&str]) {
    let empty = Map::new();
    if let Some(map) = new.as_object_mut() {
        keep_keys(map, old.as_object().unwrap_or(&empty), fields);
    }
}

/// As [`keep`], within a map that is made where it is needed.
fn keep_in(new: &mut Value, old: &Value, parent: &str, fields: &[&str]) {
    let empty = Map::new();
    let before = old.get(parent).and_then(Value::as_object).unwrap_or(&empty);
    let Some(map) = new.as_object_mut() else { return };
    if !map.get(parent).is_some_and(Value::is_object) {
        if before.is_empty() {
            return;
        }
        map.insert(parent.into(), Value::Object(Map::new()));
    }
    if let Some(inner) = map.get_mut(parent).and_then(Value::as_object_mut) {
        keep_keys(inner, before, fields);
    }
}

fn keep_keys(new: &mut Map<String, Value>, old: &Map<String, Value>, fields: &[&str]) {
    for field in fields {
        match old.get(*field) {
            Some(value) => new.insert((*field).to_owned(), value.clone()),
            None => new.remove(*field),
        };
    }
}

/// Whether a field says the same in both.
fn same_key(a: &Map<String, Value>, b: &Map<String, Value>, field: &str) -> bool {
    same(a.get(field), b.get(field))
}

/// An instant to the second, as `metav1.Time` is written.
pub fn rfc3339(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod testing {
    use crate::field::FieldError;
    use crate::resource::Context;

    /// The instant at which tables are printed in tests.
    pub(super) fn now() -> jiff::Timestamp {
        "2026-05-01T12:00:00Z".parse().unwrap()
    }

    pub(super) fn context() -> Context<'static> {
        Context { now: now(), user: "ann" }
    }

    /// An object with the defaults of its schema and of its kind, as the registry fills them in.
    pub(super) fn complete(mut object: serde_json::Value) -> serde_json::Value {
        let text = |key: &str| object[key].as_str().unwrap().to_owned();
        let version = crate::GroupVersion::parse(&text("apiVersion"));
        let gvk = crate::GroupVersionKind {
            group: version.group,
            version: version.version,
            kind: text("kind").into(),
        };
        let table = super::ResourceTable::builtin();
        let row = table.by_kind(&gvk).unwrap();
        row.apply_defaults(&mut object).unwrap();
        row.strategy.default(&mut object);
        object
    }

    /// Errors as one line.
    pub(super) fn shown(errors: &[FieldError]) -> String {
        errors.iter().map(FieldError::to_string).collect::<Vec<_>>().join("; ")
    }
}
