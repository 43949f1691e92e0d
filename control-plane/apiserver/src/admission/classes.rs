//! DefaultIngressClass: what names no class gets the default one, the newest where there are several.

use super::{is, text};
use crate::hooks::{Operation, WriteRequest};
use serde_json::Value;
use skep_api::Object;
use skep_api::kinds::networking::DEFAULT_INGRESS_CLASS;
use std::cmp::Reverse;
use std::sync::Arc;

/// API group of Ingresses and their classes.
pub(super) const GROUP: &str = "networking.k8s.io";
/// Named the class before there was a field for it.
const ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Whether an Ingress is made that names no class.
pub(super) fn wanted(request: &WriteRequest<'_>, ingress: &Value) -> bool {
    let annotated = ingress.pointer("/metadata/annotations").is_some_and(|all| all.get(ANNOTATION).is_some());
    request.operation == Operation::Create
        && is(request, GROUP, "ingresses")
        && !annotated
        && ingress.pointer("/spec/ingressClassName").is_none_or(Value::is_null)
}

/// Fills in the class.
pub(super) fn admit(ingress: &mut Value, all: &[Arc<Object>]) {
    let newest = newest_marked(all, &[DEFAULT_INGRESS_CLASS]);
    if let (Some(name), Some(spec)) = (newest, ingress.get_mut("spec").and_then(Value::as_object_mut)) {
        spec.insert("ingressClassName".into(), name.into());
    }
}

/// The newest of the classes that one of the annotations marks; of those made at once the first by name.
pub(super) fn newest_marked(all: &[Arc<Object>], marks: &[&str]) -> Option<String> {
    let marked = |class: &Value| {
        let annotations = class.pointer("/metadata/annotations");
        let is =
            |mark: &&str| annotations.and_then(|all| all.get(mark)).and_then(Value::as_str) == Some("true");
        marks.iter().any(is)
    };
    let key = |class: Value| {
        let field = |pointer: &str| text(&class, pointer).to_owned();
        (Reverse(field("/metadata/creationTimestamp")), field("/metadata/name"))
    };
    all.iter().map(|class| class.value()).filter(marked).map(key).min().map(|(_, name)| name)
}
