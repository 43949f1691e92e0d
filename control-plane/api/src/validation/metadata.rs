//! Rules of `metadata` (`k8s.io/apimachinery/pkg/api/validation`).

use super::{At, Errors, annotations, labels, same, text};
use crate::field::FieldError;
use crate::names;
use serde_json::Value;

/// Errors of the metadata of a new object. `name_rule` is the kind's own rule: text, and whether it is a prefix.
pub fn validate_create(
    object: &Value,
    namespaced: bool,
    name_rule: impl Fn(&str, bool) -> Vec<String>,
) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let root = At::root(object);
    let metadata = root.get("metadata");
    let generate_name = metadata.get("generateName");
    if !generate_name.text().is_empty() {
        errors.text(&generate_name, name_rule(generate_name.text(), true));
    }
    let name = metadata.get("name");
    if name.text().is_empty() {
        errors.required(&name, "name or generateName is required");
    } else {
        errors.text(&name, name_rule(name.text(), false));
    }
    let namespace = metadata.get("namespace");
    match (namespaced, namespace.text()) {
        (true, "") => errors.required(&namespace, ""),
        (true, text) => errors.text(&namespace, names::dns1123_label(text, false)),
        (false, "") => {}
        (false, _) => errors.forbidden(&namespace, "not allowed on this type"),
    }
    errors.not_negative(&metadata.get("generation"));
    finalizers(&mut errors, &metadata.get("finalizers"));
    always(&mut errors, &metadata);
    errors.done()
}

/// What holds of the metadata of every object, new or changed.
fn always(errors: &mut Errors, metadata: &At<'_, '_>) {
    labels(errors, &metadata.get("labels"));
    annotations(errors, &metadata.get("annotations"));
    owner_references(errors, &metadata.get("ownerReferences"));
    managed_fields(errors, &metadata.get("managedFields"));
}

/// Errors of a change of metadata. The registry has filled what a client may leave out (name, namespace, uid,
/// times) from the stored object before.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let (new, old) = (At::root(new), At::root(old));
    let (new, old) = (new.get("metadata"), old.get("metadata"));
    if old.get("deletionTimestamp").present() {
        no_new_finalizers(&mut errors, &new.get("finalizers"), &old.get("finalizers"));
    }
    if new.get("resourceVersion").text().is_empty() {
        let at = new.get("resourceVersion");
        errors.push(FieldError::invalid(at.path(), "".into(), "must be specified for an update"));
    }
    let generation = new.get("generation");
    if generation.int().unwrap_or(0) < old.get("generation").int().unwrap_or(0) {
        errors.invalid(&generation, "must not be decremented");
    }
    for field in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        errors.immutable(&new.get(field), &old.get(field));
    }
    always(&mut errors, &new);
    errors.done()
}

fn finalizers(errors: &mut Errors, at: &At<'_, '_>) {
    for name in at.texts() {
        for message in text::qualified_name(name) {
            errors.push(FieldError::invalid(at.path(), name.into(), message));
        }
    }
    let has = |name: &str| at.texts().any(|f| f == name);
    if has("orphan") && has("foregroundDeletion") {
        errors.invalid(at, "finalizer orphan and foregroundDeletion cannot be both set");
    }
}

/// Errors of finalizers that are neither Kubernetes' own nor qualified by a domain: refused of most built-in
/// kinds (`ValidateFinalizerName` in `pkg/apis/core/validation`).
pub fn unqualified_finalizers(object: &Value) -> Vec<FieldError> {
    const STANDARD: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
    let mut errors = Errors::new();
    for name in At::root(object).get("metadata").get("finalizers").items() {
        for message in text::qualified_name(name.text()) {
            errors.invalid(&name, message);
        }
        if !name.text().contains('/') && !STANDARD.contains(&name.text()) {
            errors.invalid(&name, "name is neither a standard finalizer name nor is it fully qualified");
        }
    }
    errors.done()
}

fn no_new_finalizers(errors: &mut Errors, new: &At<'_, '_>, old: &At<'_, '_>) {
    let mut extra: Vec<&str> = new.texts().filter(|f| old.texts().all(|o| o != *f)).collect();
    if !extra.is_empty() {
        extra.sort_unstable();
        extra.dedup();
        let list = extra.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ");
        errors.forbidden(
            new,
            format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
            ),
        );
    }
}

fn owner_references(errors: &mut Errors, at: &At<'_, '_>) {
    let mut controller: Option<String> = None;
    for owner in at.items() {
        let field = |name: &str| owner.get(name).text().to_owned();
        let (api_version, kind) = (field("apiVersion"), field("kind"));
        let path = at.path();
        let version = api_version.rsplit('/').next().unwrap_or_default();
        if version.is_empty() {
            let path = path.child("apiVersion");
            errors.push(FieldError::invalid(path, api_version.as_str().into(), "version must not be empty"));
        }
        for name in ["kind", "name", "uid"] {
            if field(name).is_empty() {
                errors.push(FieldError::invalid(path.child(name), "".into(), "must not be empty"));
            }
        }
        if api_version == "v1" && kind == "Event" {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(path.clone(), owner.json(), why));
        }
        if owner.get("controller").is_true() {
            let this = format!("{kind}/{}", field("name"));
            match &controller {
                Some(first) => errors.invalid(
                    at,
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    ),
                ),
                None => controller = Some(this),
            }
        }
    }
}

fn managed_fields(errors: &mut Errors, at: &At<'_, '_>) {
    for entry in at.items() {
        let operation = entry.get("operation");
        if !matches!(operation.text(), "Apply" | "Update") {
            errors.push(FieldError::invalid(
                operation.path(),
                operation.text().into(),
                "must be `Apply` or `Update`",
            ));
        }
        let kind = entry.get("fieldsType");
        if !matches!(kind.text(), "" | "FieldsV1") {
            errors.invalid(&kind, "must be `FieldsV1`");
        }
        let manager = entry.get("manager");
        if manager.text().len() > 128 {
            errors.push(FieldError::too_long(manager.path(), 128));
        }
        let subresource = entry.get("subresource");
        if subresource.text().len() > 256 {
            errors.push(FieldError::too_long(subresource.path(), 256));
        }
    }
}

/// Whether the desired state of an object has changed: everything but its type, metadata and status. What a
/// kind with `has_generation` counts.
pub fn desired_state_changed(new: &Value, old: &Value) -> bool {
    let rest = |object: &Value| {
        let mut map = object.as_object().cloned().unwrap_or_default();
        for key in ["apiVersion", "kind", "metadata", "status"] {
            map.remove(key);
        }
        Value::Object(map)
    };
    !same(Some(&rest(new)), Some(&rest(old)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn changed(pointer: &str, value: Value) -> Value {
        let mut object = json!({"metadata": {
            "name": "a", "namespace": "d", "uid": "u", "resourceVersion": "1", "generation": 2,
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {}, "annotations": {},
        }});
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.insert(pointer.into(), value);
        object
    }

    fn shown(errors: &[FieldError]) -> String {
        errors.iter().map(FieldError::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_new_object() {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true});
        let rows = [
            ("labels", json!({"a": "b"}), ""),
            ("name", json!("A"), "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain"),
            ("name", json!(""), "metadata.name: Required value: name or generateName is required"),
            ("namespace", json!(""), "metadata.namespace: Required value"),
            ("namespace", json!("a.b"), "metadata.namespace: Invalid value: \"a.b\""),
            ("generateName", json!("_"), "metadata.generateName: Invalid value: \"_\""),
            ("generateName", json!("a-"), ""),
            ("labels", json!({"a": "b c"}), "metadata.labels: Invalid value: \"b c\": a valid label must be"),
            (
                "labels",
                json!({"/a": "b"}),
                "metadata.labels: Invalid value: \"/a\": prefix part must be non-empty",
            ),
            ("annotations", json!({"A.B/Cd": "any text, at all"}), ""),
            ("annotations", json!({"a b": ""}), "metadata.annotations: Invalid value: \"a b\": name part"),
            (
                "annotations",
                json!({"a": "x".repeat(256 << 10)}),
                "metadata.annotations: Too long: may not be more than 262144 bytes",
            ),
            ("finalizers", json!(["a b"]), "metadata.finalizers: Invalid value: \"a b\": name part"),
            (
                "finalizers",
                json!(["orphan", "foregroundDeletion"]),
                "metadata.finalizers: Invalid value: [\"orphan\"",
            ),
            (
                "generation",
                json!(-1),
                "metadata.generation: Invalid value: -1: must be greater than or equal to 0",
            ),
            ("ownerReferences", json!([owner]), ""),
            ("ownerReferences", json!([owner, owner]), "metadata.ownerReferences: Invalid value: "),
            (
                "ownerReferences",
                json!([{"kind": "Pod", "name": "p", "uid": "u"}]),
                "metadata.ownerReferences.apiVersion: ",
            ),
            (
                "ownerReferences",
                json!([{"apiVersion": "v1", "kind": "Pod", "name": "p"}]),
                "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
            ),
            (
                "ownerReferences",
                json!([{"apiVersion": "v1", "kind": "Event", "name": "p", "uid": "u"}]),
                "metadata.ownerReferences: Invalid value: ",
            ),
            ("managedFields", json!([{"operation": "Merge"}]), "metadata.managedFields[0].operation: "),
        ];
        for (field, value, wrong) in rows {
            let object = changed(field, value.clone());
            let text = shown(&validate_create(&object, true, names::dns1123_subdomain));
            assert!(
                text.starts_with(wrong) && text.is_empty() == wrong.is_empty(),
                "{field}: {value}: {text}"
            );
        }
        let text = shown(&validate_create(&changed("labels", json!({})), false, names::dns1123_subdomain));
        assert_eq!(text, "metadata.namespace: Forbidden: not allowed on this type");
    }

    #[test]
    fn a_changed_object() {
        let old = changed("labels", json!({"x": "y"}));
        for (field, value, wrong) in [
            ("labels", json!({"z": "y"}), ""),
            ("generation", json!(1), "metadata.generation: Invalid value: 1: must not be decremented"),
            (
                "resourceVersion",
                json!(""),
                "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
            ),
            ("name", json!("b"), "metadata.name: Invalid value: \"b\": field is immutable"),
            ("namespace", json!("b"), "metadata.namespace: Invalid value: \"b\": field is immutable"),
            ("uid", json!("v"), "metadata.uid: Invalid value: \"v\": field is immutable"),
            ("creationTimestamp", json!("2027-01-01T00:00:00Z"), "metadata.creationTimestamp: Invalid value"),
            ("deletionTimestamp", json!("2027-01-01T00:00:00Z"), "metadata.deletionTimestamp: Invalid value"),
            ("deletionGracePeriodSeconds", json!(3), "metadata.deletionGracePeriodSeconds: Invalid value"),
        ] {
            let text = shown(&validate_update(&changed(field, value), &old));
            assert!(text.starts_with(wrong) && text.is_empty() == wrong.is_empty(), "{field}: {text}");
        }
        let mut going = changed("deletionTimestamp", json!("2027-01-01T00:00:00Z"));
        let mut more = going.clone();
        more["metadata"]["finalizers"] = json!(["a/b"]);
        assert!(
            shown(&validate_update(&more, &going))
                .starts_with("metadata.finalizers: Forbidden: no new finalizers")
        );
        going["metadata"]["finalizers"] = json!(["a/b"]);
        assert_eq!(validate_update(&more, &going), []);
    }

    #[test]
    fn generation_counts_the_desired_state() {
        let old = json!({"kind": "X", "metadata": {"labels": {}}, "spec": {"a": 1}, "status": {"b": 1}});
        let mut new = old.clone();
        new["status"]["b"] = 2.into();
        new["metadata"]["labels"] = json!({"c": "d"});
        assert!(!desired_state_changed(&new, &old));
        new["spec"]["a"] = 2.into();
        assert!(desired_state_changed(&new, &old));
    }
}
