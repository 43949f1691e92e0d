//! The `scale` subresource: how many there should be, of any kind that has `spec.replicas`.

use crate::field::FieldError;
use crate::validation::{At, Errors, selector};
use serde_json::{Value, json};

/// The `Scale` of an object: replicas that are wanted, that are, and the selector that finds them as text.
pub fn read(object: &Value) -> Value {
    let root = At::root(object);
    let (metadata, spec, status) = (root.get("metadata"), root.get("spec"), root.get("status"));
    let mut kept = serde_json::Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = metadata.get(field).value() {
            kept.insert(field.into(), value.clone());
        }
    }
    let mut out = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept,
        "spec": {"replicas": spec.get("replicas").int().unwrap_or(0)},
        "status": {"replicas": status.get("replicas").int().unwrap_or(0)},
    });
    // A ReplicationController has labels where other kinds have a structure.
    let wanted = spec.get("selector");
    let labels = wanted.entries().any(|(_, value)| !value.text().is_empty());
    let as_structure = labels.then(|| json!({"matchLabels": wanted.json()}));
    let text = selector::format(as_structure.as_ref().or(wanted.value()));
    if !text.starts_with('<') {
        out["status"]["selector"] = text.into();
    }
    out
}

/// Errors of a `Scale` that a client wrote.
pub fn validate(scale: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let root = At::root(scale);
    errors.not_negative(&root.get("spec").get("replicas"));
    errors.done()
}

/// The object with the replicas that `scale` asks for. A resource version in `scale` becomes the object's, so that
/// a stale one is refused as in any update.
pub fn write(object: &Value, scale: &Value) -> Value {
    let mut out = object.clone();
    let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    out["spec"]["replicas"] = replicas.into();
    let version = scale.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
    if !version.is_empty() {
        out["metadata"]["resourceVersion"] = version.into();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_and_written_as_scale() {
        let object = json!({
            "kind": "Deployment", "metadata": {"name": "web", "namespace": "d", "resourceVersion": "5", "labels": {}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}}, "status": {"replicas": 2},
        });
        let mut scale = read(&object);
        assert_eq!(
            scale,
            json!({
                "kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": {"name": "web", "namespace": "d", "resourceVersion": "5"},
                "spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "app=web"},
            })
        );
        scale["spec"]["replicas"] = 7.into();
        scale["metadata"]["resourceVersion"] = "4".into();
        let written = write(&object, &scale);
        assert_eq!(written["spec"]["replicas"], 7);
        assert_eq!(written["metadata"]["resourceVersion"], "4");
        assert_eq!(written["kind"], "Deployment");
        let controller = json!({"spec": {"selector": {"b": "c", "app": "web"}}});
        assert_eq!(read(&controller)["status"]["selector"], "app=web,b=c");
        assert_eq!(validate(&scale), []);
        scale["spec"]["replicas"] = (-1).into();
        assert_eq!(validate(&scale)[0].path.as_str(), "spec.replicas");
    }
}
