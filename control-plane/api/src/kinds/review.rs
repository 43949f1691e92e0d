//! Questions that are answered and not stored (`authorization.k8s.io`, `authentication.k8s.io`).

use crate::field::FieldError;
use crate::resource::Strategy;
use crate::validation::{At, Errors};
use serde_json::Value;

/// Who may do what: SubjectAccessReview.
#[derive(Debug, Default)]
pub struct SubjectAccess;

/// The same within one namespace: LocalSubjectAccessReview.
#[derive(Debug, Default)]
pub struct LocalSubjectAccess;

/// What may I do: SelfSubjectAccessReview.
#[derive(Debug, Default)]
pub struct SelfSubjectAccess;

fn attributes(errors: &mut Errors, spec: &At<'_, '_>) {
    let (resource, other) = (spec.get("resourceAttributes"), spec.get("nonResourceAttributes"));
    match (resource.present(), other.present()) {
        (true, true) => errors.invalid(&other, "cannot be specified in combination with resourceAttributes"),
        (false, false) => errors.invalid(
            &resource,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        _ => {}
    }
    for (name, of_labels) in [("fieldSelector", false), ("labelSelector", true)] {
        selector(errors, &resource.get(name), of_labels);
    }
}

/// A selector that limits what is asked about: as text, or as requirements.
fn selector(errors: &mut Errors, at: &At<'_, '_>, of_labels: bool) {
    if !at.present() {
        return;
    }
    let (raw, requirements) = (at.get("rawSelector"), at.get("requirements"));
    match (raw.is_empty(), requirements.is_empty()) {
        (false, false) => errors.invalid(&raw, "may not specified at the same time as requirements"),
        (true, true) => {
            let why = format!("when {} is specified, requirements or rawSelector is required", at.path());
            errors.required(&requirements, why);
        }
        _ => {}
    }
    for requirement in requirements.items() {
        let (key, values) = (requirement.get("key"), requirement.get("values"));
        if key.text().is_empty() && !of_labels {
            errors.required(&key, "must be specified");
        }
        if of_labels {
            errors.text(&key, crate::validation::text::qualified_name(key.text()));
        }
        match requirement.get("operator").text() {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors
                    .forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            // What a newer server knows may be asked for.
            _ => {}
        }
    }
}

/// A review has no metadata; one within a namespace has that.
fn bare(errors: &mut Errors, root: &At<'_, '_>, why: &str, allowed: &[&str]) {
    let metadata = root.get("metadata");
    let more = metadata.entries().any(|(key, value)| !value.is_empty() && !allowed.contains(&key));
    if more {
        errors.invalid(&metadata, why);
    }
}

fn subject(errors: &mut Errors, spec: &At<'_, '_>) {
    let user = spec.get("user");
    if user.text().is_empty() && spec.get("groups").is_empty() {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(user.path(), "".into(), why));
    }
}

impl Strategy for SubjectAccess {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        attributes(&mut errors, &spec);
        subject(&mut errors, &spec);
        bare(&mut errors, &root, "must be empty", &["managedFields"]);
        errors.done()
    }
}

impl Strategy for LocalSubjectAccess {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        attributes(&mut errors, &spec);
        subject(&mut errors, &spec);
        bare(&mut errors, &root, "must be empty except for namespace", &["managedFields", "namespace"]);
        let resource = spec.get("resourceAttributes");
        let namespace = resource.get("namespace");
        if resource.present() && namespace.text() != root.get("metadata").get("namespace").text() {
            errors.push(FieldError::invalid(
                namespace.path(),
                namespace.text().into(),
                "must match metadata.namespace",
            ));
        }
        let other = spec.get("nonResourceAttributes");
        if other.present() {
            errors.invalid(&other, "disallowed on this kind of request");
        }
        errors.done()
    }
}

impl Strategy for SelfSubjectAccess {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        attributes(&mut errors, &root.get("spec"));
        bare(&mut errors, &root, "must be empty", &["managedFields"]);
        errors.done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::shown;
    use serde_json::json;

    #[test]
    fn reviews() {
        let pods = json!({"namespace": "d", "verb": "get", "resource": "pods"});
        let urls = json!({"path": "/healthz", "verb": "get"});
        assert_eq!(SelfSubjectAccess.validate(&json!({"spec": {"resourceAttributes": pods}})), []);
        assert_eq!(
            SubjectAccess.validate(&json!({"spec": {"user": "ann", "nonResourceAttributes": urls}})),
            []
        );
        for (spec, wrong) in [
            (json!({"user": "ann"}), "spec.resourceAttributes: Invalid value: null: exactly one of"),
            (
                json!({"resourceAttributes": pods}),
                "spec.user: Invalid value: \"\": at least one of user or group",
            ),
            (
                json!({"user": "ann", "resourceAttributes": pods, "nonResourceAttributes": urls}),
                "spec.nonResourceAttributes: Invalid value: ",
            ),
        ] {
            let text = shown(&SubjectAccess.validate(&json!({"spec": spec})));
            assert!(text.starts_with(wrong), "{text}");
        }
        for (selector, wrong) in [
            (json!({}), "spec.resourceAttributes.fieldSelector.requirements: Required value: when spec."),
            (
                json!({"rawSelector": "a=b", "requirements": [{"key": "a"}]}),
                "spec.resourceAttributes.fieldSelector.rawSelector",
            ),
            (
                json!({"requirements": [{"key": "a", "operator": "In"}]}),
                "spec.resourceAttributes.fieldSelector.requirements[0].values: Required",
            ),
            (
                json!({"requirements": [{"operator": "New"}]}),
                "spec.resourceAttributes.fieldSelector.requirements[0].key: Required",
            ),
        ] {
            let mut limited = pods.clone();
            limited["fieldSelector"] = selector;
            let text = shown(&SelfSubjectAccess.validate(&json!({"spec": {"resourceAttributes": limited}})));
            assert!(text.starts_with(wrong), "{text}");
        }
        let named = json!({"metadata": {"name": "x"}, "spec": {"resourceAttributes": pods}});
        assert!(shown(&SelfSubjectAccess.validate(&named)).starts_with("metadata: Invalid value: "));
        let local =
            json!({"metadata": {"namespace": "x"}, "spec": {"user": "ann", "resourceAttributes": pods}});
        let text = shown(&LocalSubjectAccess.validate(&local));
        assert_eq!(
            text,
            "spec.resourceAttributes.namespace: Invalid value: \"d\": must match metadata.namespace"
        );
    }
}
