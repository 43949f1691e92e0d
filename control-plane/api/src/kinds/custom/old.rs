//! What a definition that is there already may keep: checks that came later are not made of what was accepted
//! before.

use super::schema::{list_items, parts};
use crate::custom::{Structural, rules_of_structure};
use crate::field::Path;
use serde_json::Value;

/// Which checks are made.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    /// Every version has a schema.
    pub(super) schema_required: bool,
    /// Types have known names.
    pub(super) known_types: bool,
    /// Schemas are structural.
    pub(super) structural: bool,
    /// Defaults are pruned.
    pub(super) pruned_defaults: bool,
    /// Elements of sets are atomic.
    pub(super) atomic_sets: bool,
    /// Keys of lists are required or have defaults, and elements are not nullable.
    pub(super) sound_keys: bool,
    /// ConversionReview has a version that is known.
    pub(super) known_reviews: bool,
    /// Certificates of webhooks are certificates.
    pub(super) certificates: bool,
    /// Scope and kind stay.
    pub(super) fixed_names: bool,
}

impl Options {
    /// Those for a new definition.
    pub(super) fn create() -> Self {
        Options {
            schema_required: true,
            known_types: true,
            structural: true,
            pruned_defaults: true,
            atomic_sets: true,
            sound_keys: true,
            known_reviews: true,
            certificates: false,
            fixed_names: false,
        }
    }

    /// Those for a change of `old`.
    pub(super) fn update(old: &Value) -> Self {
        let any = |wrong: &dyn Fn(&Value) -> bool| schemas(old).any(|schema| has(schema, wrong));
        let established = is_established(old);
        let bundle = old.pointer("/spec/conversion/webhook/clientConfig/caBundle").and_then(Value::as_str);
        Options {
            schema_required: versions(old).all(|version| schema(version).is_some()),
            known_types: !any(&|schema| {
                let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
                !kind.is_empty() && !super::schema::TYPES.contains(&kind)
            }),
            structural: !schemas(old).any(|tree| match Structural::parse(tree) {
                Ok(parsed) => !rules_of_structure(&Path::default(), &parsed).is_empty(),
                Err(_) => true,
            }),
            pruned_defaults: !schemas(old).any(has_unpruned_default),
            atomic_sets: !any(&super::schema::has_loose_set),
            sound_keys: !any(&|schema| !super::schema::unsound_keys(schema, &Path::default()).is_empty()),
            known_reviews: reviews(old).is_none_or(|list| {
                list.is_empty()
                    || list.iter().any(|v| v.as_str().is_some_and(|v| super::spec::REVIEWS.contains(&v)))
            }),
            certificates: established && bundle.is_none_or(super::spec::is_bundle),
            fixed_names: established,
        }
    }
}

pub(super) fn versions(object: &Value) -> impl Iterator<Item = &Value> {
    object.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn schema(version: &Value) -> Option<&Value> {
    version.pointer("/schema/openAPIV3Schema").filter(|schema| !schema.is_null())
}

fn schemas(object: &Value) -> impl Iterator<Item = &Value> {
    versions(object).filter_map(schema)
}

fn reviews(object: &Value) -> Option<&Vec<Value>> {
    object.pointer("/spec/conversion/webhook/conversionReviewVersions")?.as_array()
}

fn is_established(object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let is =
        |condition: &Value, key: &str, text: &str| condition.get(key).and_then(Value::as_str) == Some(text);
    conditions.into_iter().flatten().any(|c| is(c, "type", "Established") && is(c, "status", "True"))
}

/// Whether something holds of a schema or of any within it.
pub(super) fn has(schema: &Value, wanted: &dyn Fn(&Value) -> bool) -> bool {
    wanted(schema)
        || parts(schema).any(|part| has(part, wanted))
        || list_items(schema).any(|part| has(part, wanted))
}

fn has_unpruned_default(tree: &Value) -> bool {
    let Ok(schema) = Structural::parse(tree) else { return false };
    rules_of_structure(&Path::default(), &schema).is_empty()
        && schema != crate::custom::pruned_defaults(&schema)
}
