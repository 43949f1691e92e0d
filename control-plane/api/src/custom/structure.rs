//! The rules of structure: what makes a schema one by which objects can be pruned and defaulted
//! (`apiextensions-apiserver/pkg/apiserver/schema/{validation,complete}.go`).

use super::structural::{Additional, Kind, Structural};
use crate::field::{FieldError, Path};

/// Errors of a schema that is not structural, sorted by their text. `path` is where the schema stands.
pub fn rules_of_structure(path: &Path, schema: &Structural) -> Vec<FieldError> {
    let mut found = Checker::default();
    found.node(schema, Level::Root, path);
    found.complete(schema, Some(schema), path, path);
    let mut errors = found.errors;
    errors.sort_by_cached_key(FieldError::to_string);
    errors
}

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

#[derive(Default)]
struct Checker {
    errors: Vec<FieldError>,
}

/// A schema that says nothing but its type.
fn is_type_alone(schema: &Structural, kind: Kind) -> bool {
    *schema == Structural { kind, ..Structural::default() }
}

/// `anyOf: [{type: integer}, {type: string}]`: what may stand with `x-kubernetes-int-or-string`.
fn is_int_or_string(any_of: &[Structural]) -> bool {
    matches!(any_of, [int, text] if is_type_alone(int, Kind::Integer) && is_type_alone(text, Kind::String))
}

impl Checker {
    fn required(&mut self, path: Path, why: impl Into<String>) {
        self.errors.push(FieldError::required(path, why));
    }

    fn forbidden(&mut self, path: Path, why: &str) {
        self.errors.push(FieldError::forbidden(path, why));
    }

    fn node(&mut self, schema: &Structural, level: Level, path: &Path) {
        if schema.kind == Kind::Array && schema.items.is_none() {
            self.required(path.child("items"), "must be specified");
        }
        if let Some(items) = schema.items.as_deref() {
            self.node(items, Level::Item, &path.child("items"));
        }
        for (name, field) in &schema.properties {
            self.node(field, Level::Field, &path.child("properties").key(name));
        }
        if let Some(additional) = &schema.additional {
            let place = path.child("additionalProperties");
            if level == Level::Root {
                self.forbidden(place.clone(), "must not be used at the root");
            }
            if let Additional::Schema(field) = additional {
                self.node(field, Level::Field, &place);
            }
        }
        if schema.int_or_string {
            for (set, name) in
                [(schema.preserve_unknown, "preserve-unknown-fields"), (schema.embedded, "embedded-resource")]
            {
                if set {
                    let place = path.child(&format!("x-kubernetes-{name}"));
                    let why = "must be false if x-kubernetes-int-or-string is true";
                    self.errors.push(FieldError::invalid(place, true.into(), why));
                }
            }
        }
        self.limits(schema, is_int_or_string(&schema.limits.any_of), first_all_of(schema), path);
        self.kind(schema, level, path);
        let typed = level == Level::Root || schema.embedded;
        for name in ["kind", "apiVersion"] {
            if let Some(field) = schema.properties.get(name).filter(|f| typed && f.kind != Kind::String) {
                let place = path.child("properties").key(name).child("type");
                self.errors.push(FieldError::invalid(place, field.kind.as_str().into(), "must be string"));
            }
        }
        if let Some(metadata) = schema.properties.get("metadata") {
            self.metadata(metadata, typed, level, &path.child("properties").key("metadata"));
        }
        if schema.embedded && !schema.preserve_unknown && schema.properties.is_empty() {
            let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                       x-kubernetes-preserve-unknown-fields";
            self.required(path.child("properties"), why);
        }
    }

    fn kind(&mut self, schema: &Structural, level: Level, path: &Path) {
        let place = path.child("type");
        let kind = schema.kind.as_str();
        if schema.embedded && schema.kind != Kind::Object {
            let why = "must be object if x-kubernetes-embedded-resource is true";
            match schema.kind {
                Kind::Any => self.required(place.clone(), why),
                _ => self.errors.push(FieldError::invalid(place.clone(), kind.into(), why)),
            }
        } else if schema.kind == Kind::Any && !schema.int_or_string && !schema.preserve_unknown {
            let why = match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            };
            self.required(place.clone(), why);
        }
        if schema.embedded && schema.additional.is_some() {
            let why = "must not be used if x-kubernetes-embedded-resource is set";
            self.forbidden(path.child("additionalProperties"), why);
        }
        if level == Level::Root && !matches!(schema.kind, Kind::Any | Kind::Object) {
            self.errors.push(FieldError::invalid(place, kind.into(), "must be object at the root"));
        }
    }

    /// Metadata may be restricted in `name` and `generateName` alone.
    fn metadata(&mut self, schema: &Structural, typed: bool, level: Level, path: &Path) {
        if typed && schema.kind != Kind::Object {
            let kind = schema.kind.as_str().into();
            self.errors.push(FieldError::invalid(path.child("type"), kind, "must be object"));
        }
        if level != Level::Root {
            return;
        }
        let mut rest = schema.clone();
        if rest.properties.keys().all(|name| matches!(name.as_str(), "name" | "generateName")) {
            rest.properties.clear();
        }
        rest.kind = Kind::Any;
        rest.default = None;
        if rest != Structural::default() {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            self.forbidden(path.clone(), why);
        }
    }

    fn limits(&mut self, schema: &Structural, skip_any_of: bool, skip_first_all_of: bool, path: &Path) {
        let limits = &schema.limits;
        if !skip_any_of {
            for (at, inner) in limits.any_of.iter().enumerate() {
                self.nested(inner, false, &path.child("anyOf").index(at));
            }
        }
        for (at, inner) in limits.all_of.iter().enumerate() {
            self.nested(inner, skip_first_all_of && at == 0, &path.child("allOf").index(at));
        }
        for (at, inner) in limits.one_of.iter().enumerate() {
            self.nested(inner, false, &path.child("oneOf").index(at));
        }
        if let Some(not) = limits.not.as_deref() {
            self.nested(not, false, &path.child("not"));
        }
        if let Some(pattern) = &limits.pattern
            && let Some(why) = pattern.error()
        {
            let why = format!("must be a valid regular expression, but isn't: {why}");
            self.errors.push(FieldError::invalid(path.child("pattern"), pattern.as_str().into(), why));
        }
    }

    /// A schema that may speak of values alone.
    fn nested(&mut self, schema: &Structural, skip_any_of: bool, path: &Path) {
        self.limits(schema, skip_any_of, false, path);
        if let Some(items) = schema.items.as_deref() {
            self.nested(items, false, &path.child("items"));
        }
        for (name, field) in &schema.properties {
            self.nested(field, false, &path.child("properties").key(name));
        }
        let (empty, no, undefined) = (
            "must be empty to be structural",
            "must be false to be structural",
            "must be undefined to be structural",
        );
        let says_more = matches!(schema.additional, Some(Additional::Schema(_) | Additional::Allowed(true)));
        for (set, name, why) in [
            (schema.kind != Kind::Any, "type", empty),
            (says_more, "additionalProperties", undefined),
            (schema.default.is_some(), "default", undefined),
            (!schema.title.is_empty(), "title", empty),
            (!schema.description.is_empty(), "description", empty),
            (schema.nullable, "nullable", no),
            (schema.preserve_unknown, "x-kubernetes-preserve-unknown-fields", no),
            (schema.embedded, "x-kubernetes-embedded-resource", no),
            (schema.int_or_string, "x-kubernetes-int-or-string", no),
            (!schema.map_keys.is_empty(), "x-kubernetes-list-map-keys", empty),
            (schema.list.is_some(), "x-kubernetes-list-type", undefined),
            (schema.map.is_some(), "x-kubernetes-map-type", undefined),
            (!schema.rules.is_empty(), "x-kubernetes-validations", empty),
        ] {
            if set {
                self.forbidden(path.child(name), why);
            }
        }
        if schema.properties.contains_key("metadata") {
            let place = path.child("properties").key("metadata");
            self.forbidden(place, "must not be specified in a nested context");
        }
    }

    /// What is said of values must be said of fields that are there: `schema` is the schema itself, `checks` a schema
    /// of values that belongs to it, at `wherefrom`.
    fn complete(&mut self, checks: &Structural, schema: Option<&Structural>, path: &Path, wherefrom: &Path) {
        let Some(schema) = schema else {
            self.required(path.clone(), format!("because it is defined in {wherefrom}"));
            return;
        };
        let limits = &checks.limits;
        if let Some(not) = limits.not.as_deref() {
            self.complete_nested(not, schema, path, &wherefrom.child("not"));
        }
        for (list, name) in [(&limits.all_of, "allOf"), (&limits.any_of, "anyOf"), (&limits.one_of, "oneOf")]
        {
            for (at, inner) in list.iter().enumerate() {
                self.complete_nested(inner, schema, path, &wherefrom.child(name).index(at));
            }
        }
    }

    fn complete_nested(&mut self, checks: &Structural, schema: &Structural, path: &Path, wherefrom: &Path) {
        self.complete(checks, Some(schema), path, wherefrom);
        if let Some(items) = checks.items.as_deref() {
            let (place, from) = (path.child("items"), wherefrom.child("items"));
            match schema.items.as_deref() {
                Some(inner) => self.complete_nested(items, inner, &place, &from),
                None => self.required(place, format!("because it is defined in {from}")),
            }
        }
        for (name, field) in &checks.properties {
            let place = path.child("properties").key(name);
            let from = wherefrom.child("properties").key(name);
            match schema.properties.get(name) {
                Some(inner) => self.complete_nested(field, inner, &place, &from),
                None => self.required(place, format!("because it is defined in {from}")),
            }
        }
    }
}

fn first_all_of(schema: &Structural) -> bool {
    schema.limits.all_of.first().is_some_and(|first| is_int_or_string(&first.limits.any_of))
}
