//! TaintNodesByCondition: a new node takes no pods before the node controller has seen it ready.

use super::{list_mut, text};
use crate::hooks::{Operation, WriteRequest};
use serde_json::{Value, json};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

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
