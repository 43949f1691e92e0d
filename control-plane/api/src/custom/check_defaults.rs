//! Whether the defaults of a schema are values of it (`apiserver/schema/defaulting/validation.go`).

use super::evaluate::Rules;
use super::meta::{Malformed, coerce_embedded, validate_embedded};
use super::prune::{is_meta, prune};
use super::rules::{BUDGET, Compiler};
use super::structural::Structural;
use super::validate_value;
use crate::field::{FieldError, Path};
use serde_json::{Map, Value, json};

/// Errors of the defaults of a resource's schema, which stands at `path`. With `pruned`, they must not have fields that
/// the schema does not know.
pub fn validate_defaults(
    path: &Path,
    schema: &Structural,
    compiler: &dyn Compiler,
    pruned: bool,
) -> Vec<FieldError> {
    let root = schema.as_root();
    let mut checker = Checker { compiler, pruned, budget: Some(BUDGET), errors: Vec::new() };
    let around = Around { root: &root, way: Vec::new(), inside_meta: false };
    checker.node(&root, path, &around);
    checker.errors
}

/// The object that a schema lies in.
#[derive(Clone)]
struct Around<'a> {
    /// The schema of the resource, or of the embedded one.
    root: &'a Structural,
    /// The way from there.
    way: Vec<Step>,
    /// Whether it is type or metadata.
    inside_meta: bool,
}

#[derive(Clone)]
enum Step {
    Field(String),
    Item,
}

struct Checker<'a> {
    compiler: &'a dyn Compiler,
    pruned: bool,
    /// Cost units that are left; none once they were used up.
    budget: Option<u64>,
    errors: Vec<FieldError>,
}

impl Checker<'_> {
    fn node(&mut self, schema: &Structural, path: &Path, around: &Around<'_>) {
        if self.budget.is_none() {
            return;
        }
        let embedded = Around { root: schema, way: Vec::new(), inside_meta: false };
        let around = if schema.embedded { &embedded } else { around };
        if let Some(default) = &schema.default {
            let found = self.default(schema, default, &path.child("default"), around);
            self.errors.extend(found);
        }
        // There are no defaults in further fields of objects.
        if let Some(items) = schema.items.as_deref() {
            let mut around = around.clone();
            around.way.push(Step::Item);
            self.node(items, &path.child("items"), &around);
        }
        for (name, field) in &schema.properties {
            let mut around = around.clone();
            around.way.push(Step::Field(name.clone()));
            around.inside_meta |= schema.embedded && is_meta(name);
            self.node(field, &path.child("properties").key(name), &around);
        }
    }

    fn default(
        &mut self,
        schema: &Structural,
        default: &Value,
        path: &Path,
        around: &Around<'_>,
    ) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if around.inside_meta {
            let invalid = |why: String| {
                let why = format!("must result in valid metadata: {why}");
                vec![FieldError::invalid(path, default.clone(), why)]
            };
            let mut object = within(default, around);
            let nowhere = Path::default();
            if let Err(why) = coerce_embedded(around.root, &mut object, true, Malformed::Refuse) {
                return invalid(why.to_string());
            }
            let found = validate_embedded(around.root, &object, true, &nowhere);
            if !found.is_empty() {
                let found: Vec<String> = found.iter().map(FieldError::to_string).collect();
                return invalid(found.join(", "));
            }
        } else {
            if self.pruned {
                let mut object = default.clone();
                prune(schema, &mut object, schema.embedded);
                if object != *default {
                    errors.push(FieldError::invalid(path, default.clone(), "must not have unknown fields"));
                }
            }
            let mut object = default.clone();
            if let Err(why) = coerce_embedded(schema, &mut object, schema.embedded, Malformed::Refuse) {
                let path = Path::from(format!("{path}.{}", why.path).as_str());
                errors.push(FieldError { path, ..why });
                return errors;
            }
            let found = validate_embedded(schema, &object, schema.embedded, path);
            if !found.is_empty() {
                errors.extend(found);
                return errors;
            }
        }
        let found = validate_value(schema, default, Some(path), None);
        if !found.is_empty() {
            errors.extend(found);
            return errors;
        }
        errors.extend(self.rules(schema, default, path, std::ptr::eq(schema, around.root)));
        errors
    }

    /// The default as one that stays, and as a new one.
    fn rules(&mut self, schema: &Structural, default: &Value, path: &Path, root: bool) -> Vec<FieldError> {
        let (Some(rules), Some(budget)) = (Rules::compile(self.compiler, schema, root), self.budget) else {
            return Vec::new();
        };
        let (kept, left) = rules.evaluate_fresh(schema, default, Some(default), path, budget);
        self.budget = left;
        if !kept.is_empty() {
            return kept;
        }
        let (new, other) = rules.evaluate_fresh(schema, default, None, path, budget);
        self.budget = left.zip(other).map(|(a, b)| a.min(b));
        new
    }
}

/// An object that has nothing but the default, and a type.
fn within(default: &Value, around: &Around<'_>) -> Value {
    let mut object = default.clone();
    for step in around.way.iter().rev() {
        object = match step {
            Step::Field(name) => Value::Object(Map::from_iter([(name.clone(), object)])),
            Step::Item => json!([object]),
        };
    }
    if let Some(map) = object.as_object_mut() {
        map.entry("kind").or_insert_with(|| "Validation".into());
        map.entry("apiVersion").or_insert_with(|| "validation/v1".into());
    }
    object
}
