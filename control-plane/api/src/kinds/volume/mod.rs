//! PersistentVolumes and PersistentVolumeClaims.

use serde_json::Value;

/// Named the class before there was a field for it.
pub const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The storage class of a claim or a volume; empty for none.
pub fn class_of(object: &Value) -> &str {
    let annotations = object.pointer("/metadata/annotations");
    let annotation = annotations.and_then(|all| all.get(CLASS_ANNOTATION)).and_then(Value::as_str);
    let field = object.pointer("/spec/storageClassName").and_then(Value::as_str);
    annotation.or(field).unwrap_or_default()
}
