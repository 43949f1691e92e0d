//! Rules of the schemas of a definition beyond those of structure: keywords, extensions and rules in CEL
//! (`ValidateCustomResourceDefinitionOpenAPISchema`).

use super::cost::{Cardinality, Total, exceeds, of_parts};
use super::old::Options;
use crate::custom::rules::{Compiled, Compiler, ESTIMATE};
use crate::custom::{Additional, Rule, Structural, field_path};
use crate::field::{FieldError, Path};
use serde_json::{Value, json};

/// The names of types, sorted.
pub(super) const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
/// Reasons that a rule may give, sorted.
const REASONS: &[&str] =
    &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// What is wrong: with the schema, and with rules that could only be looked at where it is well.
#[derive(Default)]
pub(super) struct Found {
    pub(super) schema: Vec<FieldError>,
    pub(super) rules: Vec<FieldError>,
}

impl Found {
    fn extend(&mut self, other: Found) {
        self.schema.extend(other.schema);
        self.rules.extend(other.rules);
    }

    fn forbidden(&mut self, path: Path, why: impl Into<String>) {
        self.schema.push(FieldError::forbidden(path, why));
    }

    fn required(&mut self, path: Path, why: &str) {
        self.schema.push(FieldError::required(path, why));
    }

    fn invalid(&mut self, path: Path, value: Value, why: &str) {
        self.schema.push(FieldError::invalid(path, value, why));
    }
}

/// What schemas around say.
#[derive(Clone, Default)]
struct Around {
    /// Why there may be no defaults.
    no_defaults: Option<String>,
    /// Whether it is type or metadata of an object.
    inside_meta: bool,
    /// The outermost schema whose values have no old ones.
    uncorrelatable: Option<Path>,
}

impl Around {
    fn uncorrelated(mut self, path: &Path) -> Self {
        self.uncorrelatable.get_or_insert_with(|| path.clone());
        self
    }
}

/// A schema as rules see it.
#[derive(Clone, Copy)]
struct Place<'a> {
    schema: &'a Structural,
    cardinality: Cardinality,
    root: bool,
}

impl<'a> Place<'a> {
    fn below(self, schema: Option<&'a Structural>) -> Option<Place<'a>> {
        let schema = schema?;
        Some(Place { schema, cardinality: of_parts(self.schema, self.cardinality), root: schema.embedded })
    }
}

pub(super) struct Checker<'a> {
    pub(super) options: &'a Options,
    pub(super) compiler: &'a dyn Compiler,
    /// That the schema was there before: it may cost what it did.
    pub(super) unchanged: bool,
    pub(super) total: Total,
}

fn text<'v>(schema: &'v Value, key: &str) -> &'v str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn there<'v>(schema: &'v Value, key: &str) -> Option<&'v Value> {
    schema.get(key).filter(|value| !value.is_null())
}

fn is_true(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

fn map<'v>(schema: &'v Value, key: &str) -> impl Iterator<Item = (&'v String, &'v Value)> + use<'v> {
    schema.get(key).and_then(Value::as_object).into_iter().flatten()
}

fn list<'v>(schema: &'v Value, key: &str) -> &'v [Value] {
    schema.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The schema of all elements of a list.
fn items(schema: &Value) -> Option<&Value> {
    there(schema, "items").filter(|items| items.is_object())
}

/// The schemas of the elements of a list, where there is one for each place.
pub(super) fn list_items(schema: &Value) -> impl Iterator<Item = &Value> {
    list(schema, "items").iter()
}

/// All schemas directly within another.
pub(super) fn parts(schema: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(move |key| list(schema, key));
    let maps = ["properties", "patternProperties", "definitions", "dependencies"];
    let maps = maps.into_iter().flat_map(move |key| map(schema, key).map(|(_, inner)| inner));
    let single =
        ["not", "additionalProperties", "additionalItems"].into_iter().filter_map(|key| schema.get(key));
    lists.chain(maps).chain(single).chain(items(schema)).filter(|inner| inner.is_object())
}

/// Whether it is a set of elements that are not atomic.
pub(super) fn has_loose_set(schema: &Value) -> bool {
    text(schema, "x-kubernetes-list-type") == "set"
        && items(schema).is_some_and(|items| loose(items).is_some())
}

/// The extension that should say that the elements of a set are atomic.
fn loose(items: &Value) -> Option<&'static str> {
    let list = there(items, "x-kubernetes-list-type").and_then(Value::as_str);
    match text(items, "type") {
        "array" if list.is_some_and(|list| list != "atomic") => Some("x-kubernetes-list-type"),
        "object" if text(items, "x-kubernetes-map-type") != "atomic" => Some("x-kubernetes-map-type"),
        _ => None,
    }
}

/// Errors of the keys of a list that is a map, and of elements that are null.
pub(super) fn unsound_keys(schema: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = text(schema, "x-kubernetes-list-type");
    let Some(items) = items(schema).filter(|_| matches!(kind, "set" | "map")) else { return errors };
    let place = path.child("items");
    if is_true(items, "nullable") {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.push(FieldError::forbidden(place.child("nullable"), why));
    }
    if kind == "set" {
        return errors;
    }
    let required = list(items, "required");
    for key in list(schema, "x-kubernetes-list-map-keys").iter().filter_map(Value::as_str) {
        let Some(field) = items.get("properties").and_then(|p| p.get(key)) else { continue };
        let place = place.child("properties").key(key);
        if !required.iter().any(|name| name.as_str() == Some(key)) && there(field, "default").is_none() {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(place.child("default"), why));
        }
        if is_true(field, "nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(place.child("nullable"), why));
        }
    }
    errors
}

impl Checker<'_> {
    /// Errors of a root schema. Rules are looked at where `structural` is given: it is structural.
    pub(super) fn root(&mut self, tree: &Value, structural: Option<&Structural>, path: &Path) -> Found {
        let place = structural.map(|schema| Place { schema, cardinality: Some(1), root: true });
        self.schema(tree, path, &Around::default(), true, place)
    }

    fn schema(
        &mut self,
        tree: &Value,
        path: &Path,
        around: &Around,
        root: bool,
        place: Option<Place<'_>>,
    ) -> Found {
        let mut found = Found::default();
        if !tree.is_object() {
            return found;
        }
        self.keywords(&mut found, tree, path, around);
        if is_true(tree, "uniqueItems") {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            found.forbidden(path.child("uniqueItems"), why);
        }
        self.fields(&mut found, tree, path, around, root, place);
        for (key, list) in [("allOf", true), ("oneOf", true), ("anyOf", true), ("definitions", false)] {
            if list {
                for (at, inner) in self::list(tree, key).iter().enumerate() {
                    found.extend(self.schema(inner, &path.child(key).index(at), around, false, None));
                }
            } else {
                for (name, inner) in map(tree, key) {
                    found.extend(self.schema(inner, &path.child(key).key(name), around, false, None));
                }
            }
        }
        if let Some(not) = there(tree, "not") {
            found.extend(self.schema(not, &path.child("not"), around, false, None));
        }
        if let Some(items) = there(tree, "items") {
            let around = match text(tree, "x-kubernetes-list-type") {
                "map" => around.clone(),
                _ => around.clone().uncorrelated(path),
            };
            let inner = place.and_then(|place| place.below(place.schema.items.as_deref()));
            let here = path.child("items");
            match items {
                Value::Array(list) => {
                    for (at, items) in list.iter().enumerate() {
                        found.extend(self.schema(items, &here.index(at), &around, false, None));
                    }
                }
                items => found.extend(self.schema(items, &here, &around, false, inner)),
            }
        }
        self.extensions(&mut found, tree, path);
        if self.options.sound_keys {
            found.schema.extend(unsound_keys(tree, path));
        }
        self.rules(&mut found, tree, path, around, place);
        found
    }

    /// Keywords that no schema of a custom resource has.
    fn keywords(&self, found: &mut Found, tree: &Value, path: &Path, around: &Around) {
        let kind = text(tree, "type");
        if self.options.known_types && !kind.is_empty() && !TYPES.contains(&kind) {
            found.schema.push(FieldError::not_supported(path.child("type"), kind.into(), TYPES));
        }
        if there(tree, "default").is_some()
            && let Some(why) = &around.no_defaults
        {
            found.forbidden(path.child("default"), format!("must not be set {why}"));
        }
        if !text(tree, "id").is_empty() {
            found.forbidden(path.child("id"), "id is not supported");
        }
        for key in ["additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
            let set = match there(tree, key) {
                Some(Value::Object(map)) if key != "additionalItems" && key != "dependencies" => {
                    !map.is_empty()
                }
                set => set.is_some(),
            };
            if set {
                found.forbidden(path.child(key), format!("{key} is not supported"));
            }
        }
        if kind == "null" {
            found.forbidden(path.child("type"), "type cannot be set to null, use nullable as an alternative");
        }
        if !list(tree, "items").is_empty() {
            found.forbidden(path.child("items"), "items must be a schema object and not an array");
        }
        if around.inside_meta && is_true(tree, "x-kubernetes-embedded-resource") {
            found.forbidden(
                path.child("x-kubernetes-embedded-resource"),
                "must not be used inside of resource meta",
            );
        }
    }

    fn fields(
        &mut self,
        found: &mut Found,
        tree: &Value,
        path: &Path,
        around: &Around,
        root: bool,
        place: Option<Place<'_>>,
    ) {
        if let Some(additional) = there(tree, "additionalProperties") {
            let here = path.child("additionalProperties");
            if map(tree, "properties").next().is_some() && *additional != Value::Bool(true) {
                found.forbidden(here.clone(), "additionalProperties and properties are mutual exclusive");
            }
            let mut around = around.clone();
            if around.inside_meta {
                around.no_defaults = Some("inside additionalProperties applying to object metadata".into());
            }
            let inner =
                place.and_then(|p| p.below(p.schema.additional.as_ref().and_then(Additional::schema)));
            found.extend(self.schema(additional, &here, &around, false, inner));
        }
        let embedded = is_true(tree, "x-kubernetes-embedded-resource");
        for (name, field) in map(tree, "properties") {
            let mut around = around.clone();
            let correlated = matches!(text(tree, "x-kubernetes-map-type"), "" | "granular" | "atomic");
            if !correlated {
                around = around.uncorrelated(path);
            }
            if (root || embedded) && matches!(name.as_str(), "metadata" | "kind" | "apiVersion") {
                around.inside_meta = true;
                if root {
                    around.no_defaults = Some(format!("in top-level {name}"));
                }
            }
            let inner = place.and_then(|place| place.below(place.schema.properties.get(name)));
            let here = path.child("properties").key(name);
            found.extend(self.schema(field, &here, &around, false, inner));
        }
    }

    fn extensions(&self, found: &mut Found, tree: &Value, path: &Path) {
        let kind = text(tree, "type");
        if tree.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            let place = path.child("x-kubernetes-preserve-unknown-fields");
            found.invalid(place, false.into(), "must be true or undefined");
        }
        let typed = |found: &mut Found, extension: &str, wanted: &str| {
            let why = format!("must be {wanted} if {extension} is specified");
            match kind {
                "" => found.required(path.child("type"), &why),
                kind => found.invalid(path.child("type"), kind.into(), &why),
            }
        };
        let (map_key, list_key, keys_key) =
            ("x-kubernetes-map-type", "x-kubernetes-list-type", "x-kubernetes-list-map-keys");
        if let Some(map) = there(tree, map_key) {
            if kind != "object" {
                typed(found, map_key, "object");
            }
            if !matches!(map.as_str(), Some("atomic" | "granular")) {
                let known = &["atomic", "granular"];
                found.schema.push(FieldError::not_supported(path.child(map_key), map.clone(), known));
            }
        }
        let list_type = there(tree, list_key);
        if let Some(list) = list_type {
            if kind != "array" {
                typed(found, list_key, "array");
            } else if self.options.atomic_sets
                && text(tree, list_key) == "set"
                && let Some(extension) = items(tree).and_then(loose)
            {
                let given = items(tree).and_then(|items| items.get(list_key)).cloned().unwrap_or_default();
                let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
                found.invalid(path.child("items").child(extension), given, why);
            }
            if !matches!(list.as_str(), Some("atomic" | "set" | "map")) {
                let known = &["atomic", "set", "map"];
                found.schema.push(FieldError::not_supported(path.child(list_key), list.clone(), known));
            }
        }
        let keys = list(tree, keys_key);
        if !keys.is_empty() {
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            match list_type {
                None => found.required(path.child(list_key), why),
                Some(other) if other.as_str() != Some("map") => {
                    found.invalid(path.child(list_key), other.clone(), why);
                }
                Some(_) => {}
            }
        }
        if text(tree, list_key) == "map" {
            self.keyed(found, tree, path, keys);
        }
    }

    /// A list of type map: its elements are objects with these keys.
    fn keyed(&self, found: &mut Found, tree: &Value, path: &Path, keys: &[Value]) {
        let keys_at = path.child("x-kubernetes-list-map-keys");
        if keys.is_empty() {
            found.required(keys_at.clone(), "must not be empty if x-kubernetes-list-type is map");
        }
        let here = path.child("items");
        let items = match there(tree, "items") {
            None => return found.required(here, "must have a schema if x-kubernetes-list-type is map"),
            Some(list @ Value::Array(_)) => {
                let why = "must only have a single schema if x-kubernetes-list-type is map";
                return found.invalid(here, list.clone(), why);
            }
            Some(items) => items,
        };
        let kind = text(items, "type");
        if kind != "object" {
            let why = "must be object if parent array's x-kubernetes-list-type is map";
            return found.invalid(here.child("type"), kind.into(), why);
        }
        for (at, key) in keys.iter().enumerate() {
            let name = key.as_str().unwrap_or_default();
            match items.get("properties").and_then(|p| p.get(name)) {
                Some(field) if matches!(text(field, "type"), "array" | "object") => {
                    let place = here.child("properties").key(name).child("type");
                    let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    found.invalid(place, kind.into(), why);
                }
                Some(_) => {}
                None => {
                    found.invalid(
                        keys_at.clone(),
                        json!(keys),
                        "entries must all be names of item properties",
                    );
                }
            }
            if keys.get(..at).unwrap_or_default().contains(key) {
                found.invalid(keys_at.clone(), json!(keys), "must not contain duplicate entries");
            }
        }
    }

    fn rules(
        &mut self,
        found: &mut Found,
        tree: &Value,
        path: &Path,
        around: &Around,
        place: Option<Place<'_>>,
    ) {
        let list = list(tree, "x-kubernetes-validations");
        if list.is_empty() {
            return;
        }
        let rules: Vec<Rule> = list.iter().map(Rule::parse).collect();
        let parsed = Structural::parse(tree);
        for (at, rule) in rules.iter().enumerate() {
            self.rule(found, rule, parsed.as_ref().ok(), &path.child("x-kubernetes-validations").index(at));
        }
        // What is wrong with a schema makes errors of rules that nobody can act on.
        let Some(place) = place.filter(|_| found.schema.is_empty()) else { return };
        match self.compiler.compile(place.schema, &rules, place.root) {
            Ok(compiled) => {
                for (at, (rule, compiled)) in rules.iter().zip(compiled).enumerate() {
                    let here = path.child("x-kubernetes-validations").index(at);
                    self.compiled(found, rule, &compiled, &here, around, place);
                }
            }
            Err(why) => {
                let why = format!(
                    "internal error: failed to construct type information for x-kubernetes-validations rules: {why}"
                );
                found.rules.push(FieldError::invalid(
                    path.child("x-kubernetes-validations"),
                    Value::Null,
                    why,
                ));
            }
        }
    }

    fn rule(&self, found: &mut Found, rule: &Rule, schema: Option<&Structural>, path: &Path) {
        let breaks = |text: &str| text.contains(['\n', '\r']);
        let (text, message) = (rule.rule.trim(), rule.message.trim());
        let given = || Value::from(rule.message.as_str());
        if text.is_empty() {
            found.required(path.child("rule"), "rule is not specified");
        } else if !rule.message.is_empty() && message.is_empty() {
            found.invalid(path.child("message"), given(), "must be non-empty if specified");
        } else if breaks(message) {
            found.invalid(path.child("message"), given(), "must not contain line breaks");
        } else if breaks(text) && message.is_empty() {
            found.required(path.child("message"), "message must be specified if rule contains line breaks");
        }
        if !rule.message_expression.is_empty() && rule.message_expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            found.required(path.child("messageExpression"), why);
        }
        if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
            found.schema.push(FieldError::not_supported(path.child("reason"), reason.into(), REASONS));
        }
        if rule.field_path.is_empty() {
            return;
        }
        let place = path.child("fieldPath");
        let given = || Value::from(rule.field_path.as_str());
        if rule.field_path.trim().is_empty() {
            found.invalid(place.clone(), given(), "must be non-empty if specified");
        }
        if breaks(&rule.field_path) {
            found.invalid(place.clone(), given(), "must not contain line breaks");
        }
        if schema.is_some_and(|schema| field_path(&rule.field_path, schema).is_err()) {
            found.invalid(place, given(), "must be a valid path");
        }
    }

    fn compiled(
        &mut self,
        found: &mut Found,
        rule: &Rule,
        compiled: &Compiled,
        path: &Path,
        around: &Around,
        place: Place<'_>,
    ) {
        let (at_rule, at_message) = (path.child("rule"), path.child("messageExpression"));
        let cost = compiled.max_cost.saturating_mul(place.cardinality.unwrap_or(compiled.max_cardinality));
        if !self.unchanged && cost > ESTIMATE {
            let why = exceeds("estimated rule cost", cost, ESTIMATE);
            found.rules.push(FieldError::forbidden(at_rule.clone(), why));
        }
        self.total.add(&at_rule, cost);
        if let Some(Err(why)) = &compiled.rule {
            found.rules.push(FieldError::invalid(at_rule.clone(), shown(rule), why.detail.clone()));
        }
        match &compiled.message {
            Some(Err(why)) => {
                found.rules.push(FieldError::invalid(at_message, shown(rule), why.detail.clone()));
            }
            Some(Ok(_)) => {
                let cost = compiled.message_max_cost;
                if !self.unchanged && cost > ESTIMATE {
                    let why = exceeds("estimated messageExpression cost", cost, ESTIMATE);
                    found.rules.push(FieldError::forbidden(at_message.clone(), why));
                }
                self.total.add(&at_message, cost);
            }
            None => {}
        }
        if compiled.uses_old_self {
            if let Some(outer) = &around.uncorrelatable {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {outer}"
                );
                found.rules.push(FieldError::invalid(at_rule, rule.rule.as_str().into(), why));
            }
        } else if let Some(optional) = rule.optional_old_self {
            let why = "may not be set if oldSelf is not used in rule";
            found.rules.push(FieldError::invalid(path.child("optionalOldSelf"), optional.into(), why));
        }
    }
}

/// A rule as upstream shows it: in the form it has within the server.
fn shown(rule: &Rule) -> Value {
    json!({
        "Rule": rule.rule, "Message": rule.message, "MessageExpression": rule.message_expression,
        "Reason": rule.reason, "FieldPath": rule.field_path, "OptionalOldSelf": rule.optional_old_self,
    })
}
