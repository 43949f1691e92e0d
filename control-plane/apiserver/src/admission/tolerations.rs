//! DefaultTolerationSeconds: a pod stays on a node that is not ready or out of reach for five minutes, unless it says otherwise.

use super::{is, list_mut, text};
use crate::hooks::{Operation, WriteRequest};
use serde_json::{Value, json};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: i64 = 300;

pub(super) fn admit(request: &WriteRequest<'_>, pod: &mut Value) {
    if request.operation == Operation::Delete || !is(request, "", "pods") {
        return;
    }
    let Some(tolerations) = pod.get_mut("spec").and_then(|spec| list_mut(spec, "tolerations")) else {
        return;
    };
    for taint in TAINTS {
        let said = tolerations.iter().any(|t| {
            let (key, effect) = (text(t, "/key"), text(t, "/effect"));
            (key == taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !said {
            tolerations.push(json!({
                "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
            }));
        }
    }
}
