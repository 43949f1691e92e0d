//! Dropping what a schema does not know.

use super::structural::{Additional, Structural};
use serde_json::{Map, Value};

/// What every object of Kubernetes has, whether its schema says so or not.
pub(super) const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

pub(super) fn is_meta(name: &str) -> bool {
    META.contains(&name)
}

/// Drops the fields of an object that its schema does not know, and returns their paths, sorted. With `root`, the
/// object's own `apiVersion`, `kind` and `metadata` stay, as those of embedded resources do in any case.
pub fn prune(schema: &Structural, value: &mut Value, root: bool) -> Vec<String> {
    let mut pruner = Pruner::default();
    pruner.node(Some(schema), root || schema.embedded, value);
    pruner.dropped.sort();
    pruner.dropped
}

#[derive(Default)]
struct Pruner {
    path: Vec<Step>,
    dropped: Vec<String>,
}

enum Step {
    Key(String),
    Index(usize),
}

/// What becomes of a field.
enum Place<'a> {
    Meta,
    Named(&'a Structural),
    Further(Option<&'a Structural>),
    Unknown,
}

fn place<'a>(schema: &'a Structural, embedded: bool, name: &str) -> Place<'a> {
    if embedded && is_meta(name) {
        return Place::Meta;
    }
    match (schema.properties.get(name), &schema.additional) {
        (Some(field), _) => Place::Named(field),
        (None, Some(Additional::Schema(schema))) => Place::Further(Some(schema)),
        (None, Some(Additional::Allowed(_))) => Place::Further(None),
        (None, None) => Place::Unknown,
    }
}

impl Pruner {
    fn node(&mut self, schema: Option<&Structural>, embedded: bool, value: &mut Value) {
        match value {
            Value::Object(map) => match schema {
                None => self.all(map),
                Some(schema) => self.fields(schema, embedded, schema.preserve_unknown, map),
            },
            Value::Array(list) => {
                let preserve = schema.is_some_and(|s| s.preserve_unknown);
                let items = schema.and_then(|s| s.items.as_deref());
                for (at, value) in list.iter_mut().enumerate() {
                    self.path.push(Step::Index(at));
                    match (preserve, items) {
                        // Elements inherit that unknown fields stay, also where nothing is said of them.
                        (true, Some(items)) => self.kept(items, value),
                        (true, None) => {}
                        (false, items) => self.node(items, items.is_some_and(|s| s.embedded), value),
                    }
                    self.path.pop();
                }
            }
            _ => {}
        }
    }

    /// Elements of a list that keeps unknown fields.
    fn kept(&mut self, schema: &Structural, value: &mut Value) {
        match value {
            Value::Object(map) => self.fields(schema, schema.embedded, true, map),
            Value::Array(list) => {
                let Some(items) = schema.items.as_deref() else { return };
                for (at, value) in list.iter_mut().enumerate() {
                    self.path.push(Step::Index(at));
                    self.kept(items, value);
                    self.path.pop();
                }
            }
            _ => {}
        }
    }

    fn fields(&mut self, schema: &Structural, embedded: bool, preserve: bool, map: &mut Map<String, Value>) {
        map.retain(|name, value| {
            match place(schema, embedded, name) {
                Place::Meta => {}
                Place::Named(field) => self.below(name, Some(field), value),
                Place::Further(field) => self.below(name, field, value),
                Place::Unknown if preserve => {}
                Place::Unknown => {
                    self.drop(name);
                    return false;
                }
            }
            true
        });
    }

    fn below(&mut self, name: &str, schema: Option<&Structural>, value: &mut Value) {
        if !matches!(value, Value::Object(_) | Value::Array(_)) {
            return;
        }
        self.path.push(Step::Key(name.to_owned()));
        self.node(schema, schema.is_some_and(|s| s.embedded), value);
        self.path.pop();
    }

    /// Below what the schema says nothing of, nothing stays.
    fn all(&mut self, map: &mut Map<String, Value>) {
        for name in map.keys() {
            let path = self.shown(name);
            self.dropped.push(path);
        }
        map.clear();
    }

    fn drop(&mut self, name: &str) {
        // The root's type and metadata are dropped in silence: whoever prunes puts them back.
        if !is_meta(name) || !self.path.is_empty() {
            let path = self.shown(name);
            self.dropped.push(path);
        }
    }

    fn shown(&self, name: &str) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) => {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(key);
                }
                Step::Index(at) => out.push_str(&format!("[{at}]")),
            }
        }
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(name);
        out
    }
}
