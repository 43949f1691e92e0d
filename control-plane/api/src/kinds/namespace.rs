//! Namespaces.

use super::columns::{age, name};
use crate::field::FieldError;
use crate::names::dns1123_label;
use crate::resource::{Column, Context, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, text};
use serde_json::{Value, json};

/// The label that carries a namespace's name, so that selectors can find it.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The finalizer that holds a namespace until everything in it is gone.
pub const FINALIZER: &str = "kubernetes";
/// Finalizers that need no domain.
const STANDARD_FINALIZERS: &[&str] = &[FINALIZER, "orphan", "foregroundDeletion"];

/// Namespaces.
#[derive(Debug, Default)]
pub struct Namespace;

impl Strategy for Namespace {
    fn default(&self, object: &mut Value) {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !name.is_empty() {
            object["metadata"]["labels"][NAME_LABEL] = name.into();
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &Context<'_>) {
        object["status"] = json!({"phase": "Active"});
        let finalizers = &mut object["spec"]["finalizers"];
        match finalizers.as_array_mut() {
            Some(list) if list.iter().any(|f| f == FINALIZER) => {}
            Some(list) => list.push(FINALIZER.into()),
            None => *finalizers = json!([FINALIZER]),
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        super::keep(new, old, &["status"]);
        super::keep_in(new, old, "spec", &["finalizers"]);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        let list = spec.get("finalizers");
        for name in list.texts() {
            finalizer(&mut errors, &list, name);
        }
        errors.done()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(new);
        let going = root.get("metadata").get("deletionTimestamp").present();
        let status = root.get("status");
        let phase = status.get("phase");
        let (wanted, why) = if going {
            ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty")
        } else {
            ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
        };
        if phase.text() != wanted {
            // Upstream writes the field with a capital letter.
            let path = status.path().child("Phase");
            errors.push(FieldError::invalid(path, phase.text().into(), why));
        }
        errors.done()
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        dns1123_label(name, prefix)
    }

    /// While something in it is not gone, a namespace stays.
    fn holds(&self, object: &Value) -> bool {
        object.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty())
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn prepare_delete(&self, object: &mut Value) {
        object["status"]["phase"] = "Terminating".into();
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(new);
        let spec = root.get("spec");
        for entry in spec.get("finalizers").items() {
            finalizer(&mut errors, &entry, entry.text());
        }
        errors.done()
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), column("Status", "string", "The status of the namespace"), age()]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let phase = object.pointer("/status/phase").cloned().unwrap_or_else(|| "".into());
        vec![table::name(object), phase, table::age(object, now)]
    }
}

fn finalizer(errors: &mut Errors, at: &At<'_, '_>, name: &str) {
    let invalid = |why: String| FieldError::invalid(at.path(), name.into(), why);
    errors.extend(text::qualified_name(name).into_iter().map(invalid));
    if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        errors.push(invalid("name is neither a standard finalizer name nor is it fully qualified".into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{context, now, shown};

    #[test]
    fn a_new_namespace_is_active_and_held() {
        let mut object = json!({"metadata": {"name": "web"}, "status": {"phase": "Terminating"}});
        Namespace.default(&mut object);
        Namespace.prepare_create(&mut object, &context());
        assert_eq!(object["metadata"]["labels"][NAME_LABEL], "web");
        assert_eq!(object["spec"]["finalizers"], json!(["kubernetes"]));
        assert_eq!(object["status"]["phase"], "Active");
        assert!(Namespace.holds(&object));
        assert_eq!(Namespace.validate(&object), []);
        assert_eq!(Namespace.cells(&object, now())[1], "Active");
    }

    #[test]
    fn an_update_leaves_finalizers_to_finalize() {
        let old = json!({"metadata": {"name": "web"}, "spec": {"finalizers": ["kubernetes"]}});
        let mut new = json!({"metadata": {"name": "web"}, "spec": {}});
        Namespace.prepare_update(&mut new, &old);
        assert_eq!(new["spec"]["finalizers"], json!(["kubernetes"]));
        let mut empty = json!({"metadata": {"name": "web"}, "spec": {"finalizers": []}});
        Namespace.prepare_subresource_update("finalize", &mut empty, &old);
        assert_eq!(Namespace.validate_subresource_update("finalize", &empty, &old), []);
        assert!(!Namespace.holds(&empty));
        let bad = json!({"spec": {"finalizers": ["mine"]}});
        let errors = Namespace.validate_subresource_update("finalize", &bad, &old);
        assert!(shown(&errors).starts_with("spec.finalizers[0]: Invalid value: \"mine\": name is neither"));
    }

    #[test]
    fn the_phase_follows_the_deletion() {
        let mut object = json!({"metadata": {}, "status": {"phase": "Active"}});
        assert_eq!(Namespace.validate_status_update(&object, &object), []);
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert!(
            shown(&Namespace.validate_status_update(&object, &object)).starts_with("status.Phase: Invalid")
        );
        Namespace.prepare_delete(&mut object);
        assert_eq!(Namespace.validate_status_update(&object, &object), []);
        assert!(!Namespace.validate_name("a.b", false).is_empty());
    }
}
