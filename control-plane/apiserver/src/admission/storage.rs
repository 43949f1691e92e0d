//! DefaultStorageClass, StorageObjectInUseProtection and PersistentVolumeClaimResize.

use super::{classes, forbidden, is, text};
use crate::hooks::{Operation, WriteRequest};
use serde_json::{Value, json};
use skep_api::kinds::storage::DEFAULT_STORAGE_CLASS;
use skep_api::kinds::volume::{class_of, names_class};
use skep_api::quantity::Quantity;
use skep_api::validation::resources::quantity;
use skep_api::{Object, Status};
use std::sync::Arc;

/// API group of storage classes.
pub(super) const GROUP: &str = "storage.k8s.io";

/// Whether a claim is made that names no class, not even the empty one.
pub(super) fn wants_class(request: &WriteRequest<'_>, claim: &Value) -> bool {
    request.operation == Operation::Create && is(request, "", "persistentvolumeclaims") && !names_class(claim)
}

/// Fills in the default class.
pub(super) fn default_class(claim: &mut Value, all: &[Arc<Object>]) {
    let class = classes::newest_marked(all, DEFAULT_STORAGE_CLASS);
    if let (Some(name), Some(spec)) = (class, claim.get_mut("spec").and_then(Value::as_object_mut)) {
        spec.insert("storageClassName".into(), name.into());
    }
}

/// Puts the finalizer on new objects that keeps them while others use them.
pub(super) fn protect(request: &WriteRequest<'_>, object: &mut Value) {
    const KEPT: [(&str, &str, &str); 3] = [
        ("", "persistentvolumes", "kubernetes.io/pv-protection"),
        ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
        (GROUP, "volumeattributesclasses", "kubernetes.io/vac-protection"),
    ];
    let kept = KEPT.iter().find(|(group, resource, _)| is(request, group, resource));
    let Some((_, _, finalizer)) = kept.filter(|_| request.operation == Operation::Create) else { return };
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let list = metadata.entry("finalizers").or_insert(Value::Null);
    if list.is_null() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut().filter(|list| !list.iter().any(|f| f == finalizer)) {
        list.push((*finalizer).into());
    }
}

fn size(claim: &Value) -> Quantity {
    quantity(claim.pointer("/spec/resources/requests/storage")).unwrap_or(Quantity::ZERO)
}

/// The class of a claim that asks for more than before; empty where it has none or another than it had.
pub(super) fn grows<'a>(request: &WriteRequest<'_>, new: &'a Value, old: Option<&Object>) -> Option<&'a str> {
    let old = old.filter(|_| is(request, "", "persistentvolumeclaims"))?.value();
    let class = class_of(new);
    (size(new) > size(&old)).then_some(if class == class_of(&old) { class } else { "" })
}

/// Refuses growth of what cannot grow. `class` is that of the claim.
pub(super) fn may_grow(
    request: &WriteRequest<'_>,
    old: Option<&Object>,
    class: Option<&Object>,
) -> Result<(), Status> {
    let bound = old.is_some_and(|old| text(&old.value(), "/status/phase") == "Bound");
    let allowed =
        class.is_some_and(|class| class.value().get("allowVolumeExpansion") == Some(&Value::Bool(true)));
    let why = match (bound, allowed) {
        (false, _) => "Only bound persistent volume claims can be expanded",
        (true, false) => {
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
        }
        (true, true) => return Ok(()),
    };
    Err(forbidden(request, why))
}
