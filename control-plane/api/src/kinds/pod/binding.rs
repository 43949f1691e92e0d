//! `pods/binding`: a pod is given its node, once.

use crate::field::FieldError;
use crate::resource::{GroupResource, GroupVersionKind};
use crate::status::Status;
use crate::validation::{At, Errors};
use serde_json::{Value, json};

/// Errors of a `Binding`.
pub fn validate(binding: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let root = At::root(binding);
    let target = root.get("target");
    let (kind, name) = (target.get("kind"), target.get("name"));
    if !matches!(kind.text(), "" | "Node") {
        errors.not_supported(&kind, &["Node", "<empty>"]);
    }
    if name.text().is_empty() {
        errors.required(&name, "");
    }
    errors.done()
}

/// The pod with its node, as `binding` asks; annotations and labels of the binding come along. A conflict where
/// the pod is going, has a node, or is held back by scheduling gates.
pub fn bind(pod: &Value, binding: &Value, now: jiff::Timestamp) -> Result<Value, Status> {
    let gvk = GroupVersionKind::new("", "v1", "Binding");
    let (pod_at, binding_at) = (At::root(pod), At::root(binding));
    let (metadata, wanted) = (pod_at.get("metadata"), binding_at.get("metadata"));
    let name = metadata.get("name").text();
    let errors = validate(binding);
    if !errors.is_empty() {
        return Err(Status::invalid(&gvk, name, &errors));
    }
    let conflict = |why: &str| Status::conflict(&GroupResource::new("", "pods/binding"), name, why);
    for field in ["uid", "resourceVersion"] {
        let (asked, is) = (wanted.get(field).text(), metadata.get(field).text());
        if !asked.is_empty() && asked != is {
            let shown = if field == "uid" { "UID" } else { "ResourceVersion" };
            return Err(conflict(&format!(
                "Precondition failed: {shown} in precondition: {asked}, {shown} in object meta: {is}"
            )));
        }
    }
    let spec = pod_at.get("spec");
    if metadata.get("deletionTimestamp").present() {
        return Err(conflict(&format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    let assigned = spec.get("nodeName").text();
    if !assigned.is_empty() {
        return Err(conflict(&format!("pod {name} is already assigned to node {assigned:?}")));
    }
    if !spec.get("schedulingGates").is_empty() {
        return Err(conflict(&format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    let node = binding_at.get("target").get("name").text().to_owned();
    let mut bound = pod.clone();
    bound["spec"]["nodeName"] = node.into();
    for field in ["annotations", "labels"] {
        for (key, value) in wanted.get(field).entries() {
            bound["metadata"][field][key] = value.json();
        }
    }
    set_scheduled(&mut bound, now);
    Ok(bound)
}

fn set_scheduled(pod: &mut Value, now: jiff::Timestamp) {
    let at = crate::kinds::rfc3339(now);
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": at,
    });
    let status = &mut pod["status"];
    if let Some(map) = status.as_object_mut() {
        map.remove("nominatedNodeName");
    }
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    if let Some(list) = status["conditions"].as_array_mut() {
        match list.iter_mut().find(|c| c["type"] == "PodScheduled") {
            Some(old) => *old = condition,
            None => list.push(condition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"name": "web", "uid": "u1", "generation": 1}, "spec": {}, "status": {"phase": "Pending"}})
    }

    fn binding() -> Value {
        json!({"metadata": {"name": "web", "annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n1"}})
    }

    #[test]
    fn a_pod_is_bound_once() {
        let now: jiff::Timestamp = "2026-05-01T10:00:00Z".parse().unwrap();
        let bound = bind(&pod(), &binding(), now).unwrap();
        assert_eq!(bound["spec"]["nodeName"], "n1");
        assert_eq!(bound["metadata"]["annotations"]["a"], "b");
        assert_eq!(bound["status"]["conditions"][0]["status"], "True");
        assert_eq!(bound["status"]["conditions"][0]["lastTransitionTime"], "2026-05-01T10:00:00Z");
        let again = bind(&bound, &binding(), now).unwrap_err();
        assert_eq!(again.code, 409);
        assert_eq!(
            again.message,
            "Operation cannot be fulfilled on pods/binding \"web\": pod web is already assigned to node \"n1\""
        );
    }

    #[test]
    fn who_may_not_be_bound() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let change = |pointer: &str, value: Value| {
            let mut pod = pod();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[key] = value;
            bind(&pod, &binding(), now).unwrap_err()
        };
        assert!(change("/metadata/deletionTimestamp", "2026-05-01T10:00:00Z".into()).is_conflict());
        assert!(change("/spec/schedulingGates", json!([{"name": "g"}])).is_conflict());
        let mut other = binding();
        other["metadata"]["uid"] = "u2".into();
        assert!(bind(&pod(), &other, now).unwrap_err().is_conflict());
        for (field, value, path) in [("kind", "Pod", "target.kind"), ("name", "", "target.name")] {
            let mut bad = binding();
            bad["target"][field] = value.into();
            let status = bind(&pod(), &bad, now).unwrap_err();
            assert_eq!(status.code, 422);
            assert_eq!(status.details.unwrap().causes[0].field, path);
        }
    }
}
