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
        errors.done()
    }
}

impl Strategy for LocalSubjectAccess {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        errors.extend(SubjectAccess.validate(object));
        let root = At::root(object);
        let spec = root.get("spec");
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
        attributes(&mut errors, &At::root(object).get("spec"));
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
        let local =
            json!({"metadata": {"namespace": "x"}, "spec": {"user": "ann", "resourceAttributes": pods}});
        let text = shown(&LocalSubjectAccess.validate(&local));
        assert_eq!(
            text,
            "spec.resourceAttributes.namespace: Invalid value: \"d\": must match metadata.namespace"
        );
    }
}
