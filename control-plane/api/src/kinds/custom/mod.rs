//! CustomResourceDefinition: defaults, validation and what a client may change.
//!
//! Errors show the paths that upstream shows: what all versions have in common (schema, subresources, columns,
//! selectable fields) is spoken of as `spec.validation` and its like, since upstream's internal form has it there.

mod cost;
mod old;
mod schema;
mod spec;
#[cfg(test)]
mod tests;
mod tidy;

use super::columns::{created_at, name};
use crate::custom::Structural;
use crate::custom::rules::{Compiler, NoRules};
use crate::field::FieldError;
use crate::resource::{Column, Context, Strategy};
use crate::table;
use crate::validation::At;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The kind. It needs a compiler for the rules of schemas: where it has none, it refuses rules.
#[derive(Debug)]
pub struct CustomResourceDefinition {
    rules: Arc<dyn Compiler>,
}

impl CustomResourceDefinition {
    /// The kind with a compiler of rules.
    pub fn new(rules: Arc<dyn Compiler>) -> Self {
        CustomResourceDefinition { rules }
    }
}

impl Default for CustomResourceDefinition {
    fn default() -> Self {
        CustomResourceDefinition::new(Arc::new(NoRules))
    }
}

/// The finalizer of a definition whose objects have to go first.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The version that objects are stored in; empty for none.
fn storage_version(object: &Value) -> &str {
    let versions = object.pointer("/spec/versions").and_then(Value::as_array);
    let storage = versions.into_iter().flatten().find(|v| v.get("storage") == Some(&Value::Bool(true)));
    storage.and_then(|v| v.get("name")).and_then(Value::as_str).unwrap_or_default()
}

/// Adds the version that objects are stored in to those they ever were stored in.
fn remember_storage(object: &mut Value) {
    let storage = storage_version(object).to_owned();
    if storage.is_empty() {
        return;
    }
    let Some(map) = object.as_object_mut() else { return };
    let status = map.entry("status").or_insert_with(|| json!({}));
    let Some(status) = status.as_object_mut() else { return };
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    if stored.is_null() {
        *stored = json!([]);
    }
    if let Some(list) = stored.as_array_mut()
        && list.iter().all(|version| version.as_str() != Some(&storage))
    {
        list.push(storage.into());
    }
}

/// Formats in the schemas of a definition that nothing is checked by.
fn odd_formats(object: &Value) -> Vec<String> {
    fn gather(schema: &Structural, found: &mut Vec<String>) {
        let format = &schema.limits.format;
        if !format.is_empty() && !crate::custom::is_known_format(schema.kind, format) {
            found.push(format.clone());
        }
        schema.parts().for_each(|part| gather(part, found));
    }
    let mut found = Vec::new();
    for tree in old::versions(object).filter_map(old::schema) {
        if let Ok(schema) = Structural::parse(tree) {
            gather(&schema, &mut found);
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|format| seen.insert(format.clone()));
    found
}

fn fill(map: &mut Map<String, Value>, key: &str, text: String) {
    let empty = map.get(key).and_then(Value::as_str).unwrap_or_default().is_empty();
    if empty && !text.is_empty() {
        map.insert(key.to_owned(), text.into());
    }
}

impl Strategy for CustomResourceDefinition {
    fn default(&self, object: &mut Value) {
        tidy::tidy(object);
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
                let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
                let list = if kind.is_empty() { String::new() } else { format!("{kind}List") };
                fill(names, "singular", kind.to_lowercase());
                fill(names, "listKind", list);
            }
            if spec.get("conversion").is_none_or(Value::is_null) {
                spec.insert("conversion".into(), json!({"strategy": "None"}));
            }
            let service =
                spec.get_mut("conversion").and_then(|c| c.pointer_mut("/webhook/clientConfig/service"));
            if let Some(service) = service.and_then(Value::as_object_mut) {
                service.entry("port").or_insert_with(|| 443.into());
            }
        }
        let none =
            |status: &Value| status.get("storedVersions").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if object.get("status").is_none_or(none) {
            remember_storage(object);
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &Context<'_>) {
        if let Some(map) = object.as_object_mut() {
            let status = json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": []});
            map.insert("status".into(), status);
        }
        remember_storage(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        super::keep(new, old, &["status"]);
        remember_storage(new);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        super::keep(new, old, &["spec"]);
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = spec::validate_name(object);
        errors.extend(spec::validate(object, None, self.rules.as_ref()));
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        spec::validate(new, Some(old), self.rules.as_ref())
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        spec::validate_status(&At::root(new))
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let before = old.map(odd_formats).unwrap_or_default();
        let new = odd_formats(new).into_iter().filter(|format| !before.contains(format));
        new.map(|format| format!("unrecognized format {format:?}")).collect()
    }

    fn has_generation(&self) -> bool {
        true
    }

    /// The first deletion only marks it: its objects go before it does.
    fn holds(&self, object: &Value) -> bool {
        object.pointer("/metadata/deletionTimestamp").is_none()
    }

    fn prepare_delete(&self, object: &mut Value) {
        let at = object.pointer("/metadata/deletionTimestamp").cloned().unwrap_or_default();
        let Some(map) = object.as_object_mut() else { return };
        let status = map.entry("status").or_insert_with(|| json!({}));
        let Some(status) = status.as_object_mut() else { return };
        let conditions = status.entry("conditions").or_insert_with(|| json!([]));
        if !conditions.is_array() {
            *conditions = json!([]);
        }
        let Some(conditions) = conditions.as_array_mut() else { return };
        if conditions.iter().any(|c| c.get("type").and_then(Value::as_str) == Some("Terminating")) {
            return;
        }
        conditions.push(json!({
            "type": "Terminating", "status": "True", "reason": "InstanceDeletionPending", "lastTransitionTime": at,
            "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        }));
        let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) else { return };
        let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = finalizers.as_array_mut()
            && list.iter().all(|f| f != CLEANUP)
        {
            list.push(CLEANUP.into());
        }
    }

    fn generation_changes(&self, new: &Value, old: &Value) -> bool {
        new.get("spec") != old.get("spec")
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), created_at()]
    }

    fn cells(&self, object: &Value, _now: jiff::Timestamp) -> Vec<Value> {
        let at = object.pointer("/metadata/creationTimestamp").cloned();
        vec![table::name(object), at.unwrap_or_else(|| "".into())]
    }
}
