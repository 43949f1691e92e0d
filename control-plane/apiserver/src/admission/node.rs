//! TaintNodesByCondition, and of NodeRestriction this much: a node writes its own Node and Lease, the status of pods that run on
//! it, deletes only those, and creates only pods that mirror its own. Labels and taints a node gives itself are not checked yet.

use super::{forbidden, list_mut, text};
use crate::hooks::{Operation, WriteRequest};
use serde_json::{Value, json};
use skep_api::{Object, Status};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const LEASES: &str = "kube-node-lease";

/// A new node takes no pods before the node controller has seen it ready.
pub(super) fn taint(request: &WriteRequest<'_>, node: &mut Value) {
    if request.operation != Operation::Create || !super::is(request, "", "nodes") {
        return;
    }
    let Some(object) = node.as_object_mut() else { return };
    let spec = object.entry("spec").or_insert_with(|| json!({}));
    let Some(taints) = list_mut(spec, "taints") else { return };
    if !taints.iter().any(|t| text(t, "/key") == NOT_READY && text(t, "/effect") == "NoSchedule") {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}

/// Refuses what a node may not do to others. `new` is none for a deletion.
pub(super) fn restrict(
    request: &WriteRequest<'_>,
    new: Option<&Value>,
    old: Option<&Object>,
) -> Result<(), Status> {
    let Some(node) =
        request.user.name.strip_prefix("system:node:").filter(|_| request.user.in_group("system:nodes"))
    else {
        return Ok(());
    };
    let refuse = |why: String| Err(forbidden(request, why));
    let on_node = |old: Option<&Object>| old.is_some_and(|pod| text(&pod.value(), "/spec/nodeName") == node);
    match (&*request.resource.gvk.group, &*request.resource.plural, request.subresource, request.operation) {
        ("", "nodes", ..) if request.name != node => {
            refuse(format!("node {node:?} is not allowed to modify node {:?}", request.name))
        }
        ("", "pods", "", Operation::Create) => {
            let pod = new.unwrap_or(&Value::Null);
            let mirrors = pod
                .pointer("/metadata/annotations")
                .and_then(|a| a.get("kubernetes.io/config.mirror"))
                .is_some();
            if !mirrors {
                refuse(format!(
                    "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
                ))
            } else if text(pod, "/spec/nodeName") != node {
                refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"))
            } else {
                Ok(())
            }
        }
        ("", "pods", "", Operation::Delete) if !on_node(old) => {
            refuse(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        ("", "pods", "status", _) if !on_node(old) => refuse(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        )),
        ("coordination.k8s.io", "leases", ..) if request.namespace != LEASES => {
            refuse(format!("can only access leases in the {LEASES:?} system namespace"))
        }
        ("coordination.k8s.io", "leases", ..) if request.name != node => {
            refuse("can only access node lease with the same name as the requesting node".into())
        }
        _ => Ok(()),
    }
}
