//! A place in a tree and the errors found there: what validation is written with.
//!
//! The path of a place is put together when an error needs it, so that a valid object costs no allocation.

use crate::field::{FieldError, Path};
use serde_json::Value;

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Child(&'a str),
    Index(usize),
    Key(&'a str),
}

/// A place in a tree, present or not. `null` counts as absent. Types were checked against the schema before,
/// so a value of another type reads as absent too.
///
/// `'v` is how long the tree lives, `'p` how long the places above this one do.
#[derive(Clone, Copy, Debug)]
pub struct At<'v, 'p> {
    value: Option<&'v Value>,
    parent: Option<&'p At<'v, 'p>>,
    step: Step<'p>,
}

impl<'v, 'p> At<'v, 'p> {
    /// The object itself.
    pub fn root(value: &'v Value) -> Self {
        At { value: Some(value), parent: None, step: Step::Root }
    }

    /// A field, which may be absent.
    pub fn get<'q>(&'q self, name: &'q str) -> At<'v, 'q> {
        let value = self.value.and_then(|v| v.get(name)).filter(|v| !v.is_null());
        At { value, parent: Some(self), step: Step::Child(name) }
    }

    /// An entry of a map, shown as `[key]`.
    pub fn key<'q>(&'q self, key: &'q str) -> At<'v, 'q> {
        At { step: Step::Key(key), ..self.get(key) }
    }

    /// The same path with another value.
    pub fn with_value<'w, 'q>(&'q self, value: Option<&'w Value>) -> At<'w, 'q>
    where
        'v: 'w,
    {
        At { value, ..*self }
    }

    /// The path, for an error.
    pub fn path(&self) -> Path {
        let parent = || self.parent.map(At::path).unwrap_or_default();
        match self.step {
            Step::Root => Path::default(),
            Step::Child(name) => parent().child(name),
            Step::Index(i) => parent().index(i),
            Step::Key(key) => parent().key(key),
        }
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<&'v Value> {
        self.value
    }

    /// The value to show in an error; `null` where there is none.
    pub fn json(&self) -> Value {
        self.value.cloned().unwrap_or(Value::Null)
    }

    /// Whether there is a value.
    pub fn present(&self) -> bool {
        self.value.is_some()
    }

    /// Whether there is none, or an empty string, list or map, `0` or `false`: what Go leaves out.
    pub fn is_empty(&self) -> bool {
        match self.value {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Number(n)) => n.as_f64() == Some(0.0),
            Some(Value::Bool(b)) => !b,
        }
    }

    /// The text; empty where there is none.
    pub fn text(&self) -> &'v str {
        self.value.and_then(Value::as_str).unwrap_or_default()
    }

    /// The integer, if there is one.
    pub fn int(&self) -> Option<i64> {
        self.value.and_then(Value::as_i64)
    }

    /// Whether it is `true`.
    pub fn is_true(&self) -> bool {
        self.value == Some(&Value::Bool(true))
    }

    /// How many entries a list or map has.
    pub fn len(&self) -> usize {
        match self.value {
            Some(Value::Array(list)) => list.len(),
            Some(Value::Object(map)) => map.len(),
            _ => 0,
        }
    }

    /// The entries of a list.
    pub fn items<'q>(&'q self) -> impl Iterator<Item = At<'v, 'q>> {
        let list = self.value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        list.iter().enumerate().map(move |(i, value)| At {
            value: Some(value),
            parent: Some(self),
            step: Step::Index(i),
        })
    }

    /// The entries of a map, in the order of their keys.
    pub fn entries<'q>(&'q self) -> impl Iterator<Item = (&'v str, At<'v, 'q>)>
    where
        'v: 'q,
    {
        let map = self.value.and_then(Value::as_object).into_iter().flatten();
        map.map(move |(key, value)| {
            (key.as_str(), At { value: Some(value), parent: Some(self), step: Step::Key(key) })
        })
    }

    /// The texts of a list of strings.
    pub fn texts(&self) -> impl Iterator<Item = &'v str> + use<'v> {
        let list = self.value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Value::as_str)
    }
}

/// The errors found so far.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    /// None yet.
    pub fn new() -> Self {
        Errors::default()
    }

    /// What was found.
    pub fn done(self) -> Vec<FieldError> {
        self.0
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many were found.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Any error.
    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// The errors of another check.
    pub fn extend(&mut self, errors: impl IntoIterator<Item = FieldError>) {
        self.0.extend(errors);
    }

    /// A value must be there.
    pub fn required(&mut self, at: &At<'_, '_>, why: impl Into<String>) {
        self.0.push(FieldError::required(at.path(), why));
    }

    /// The value is not allowed.
    pub fn invalid(&mut self, at: &At<'_, '_>, why: impl Into<String>) {
        self.0.push(FieldError::invalid(at.path(), at.json(), why));
    }

    /// No value may be there.
    pub fn forbidden(&mut self, at: &At<'_, '_>, why: impl Into<String>) {
        self.0.push(FieldError::forbidden(at.path(), why));
    }

    /// The value stands twice.
    pub fn duplicate(&mut self, at: &At<'_, '_>) {
        self.0.push(FieldError::duplicate(at.path(), at.json()));
    }

    /// It names something that is not there.
    pub fn not_found(&mut self, at: &At<'_, '_>) {
        self.0.push(FieldError::not_found(at.path(), at.json()));
    }

    /// The value is none of those known.
    pub fn not_supported(&mut self, at: &At<'_, '_>, known: &[&str]) {
        let value = at.value().cloned().unwrap_or_else(|| "".into());
        self.0.push(FieldError::not_supported(at.path(), value, known));
    }

    /// What a rule for text says about the text at a place.
    pub fn text(&mut self, at: &At<'_, '_>, messages: Vec<String>) {
        for message in messages {
            self.0.push(FieldError::invalid(at.path(), at.text().into(), message));
        }
    }

    /// The text must be there and follow the rule.
    pub fn required_text(&mut self, at: &At<'_, '_>, rule: impl Fn(&str) -> Vec<String>) {
        if at.text().is_empty() {
            self.required(at, "");
        } else {
            self.text(at, rule(at.text()));
        }
    }

    /// The text, if there is one, must follow the rule.
    pub fn optional_text(&mut self, at: &At<'_, '_>, rule: impl Fn(&str) -> Vec<String>) {
        if !at.text().is_empty() {
            self.text(at, rule(at.text()));
        }
    }

    /// The text must be one of those known; `required` where none may not be.
    pub fn one_of(&mut self, at: &At<'_, '_>, known: &[&str]) {
        if at.text().is_empty() {
            self.required(at, "");
        } else if !known.contains(&at.text()) {
            self.not_supported(at, known);
        }
    }

    /// The text, if there is one, must be one of those known.
    pub fn optional_one_of(&mut self, at: &At<'_, '_>, known: &[&str]) {
        if at.present() && !known.contains(&at.text()) {
            self.not_supported(at, known);
        }
    }

    /// The integer, if there is one, must not be below 0.
    pub fn not_negative(&mut self, at: &At<'_, '_>) {
        if at.int().is_some_and(|n| n < 0) {
            self.invalid(at, "must be greater than or equal to 0");
        }
    }

    /// The integer, if there is one, must be in the range.
    pub fn in_range(&mut self, at: &At<'_, '_>, low: i64, high: i64) {
        if at.int().is_some_and(|n| n < low || n > high) {
            self.invalid(at, format!("must be between {low} and {high}, inclusive"));
        }
    }

    /// The value must be what it was.
    pub fn immutable(&mut self, new: &At<'_, '_>, old: &At<'_, '_>) {
        if !super::same(new.value(), old.value()) {
            self.invalid(new, IMMUTABLE);
        }
    }
}

/// What a changed field that may not change is told.
pub const IMMUTABLE: &str = "field is immutable";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_are_as_upstream_writes_them() {
        let tree = json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "1"}}}]}});
        let root = At::root(&tree);
        let spec = root.get("spec");
        let containers = spec.get("containers");
        let first = containers.items().next().unwrap();
        let resources = first.get("resources");
        let limits = resources.get("limits");
        assert_eq!(limits.key("cpu").path().as_str(), "spec.containers[0].resources.limits[cpu]");
        assert_eq!(limits.entries().next().unwrap().1.text(), "1");
        assert!(!spec.get("volumes").present() && spec.get("volumes").is_empty());
        assert_eq!(spec.get("volumes").items().count(), 0);
    }
}
