//! Priority: a pod's priority class becomes its priority.

use super::{forbidden, is, text};
use crate::hooks::{Operation, WriteRequest};
use serde::Deserialize;
use serde_json::Value;
use skep_api::{Object, Status};
use std::sync::Arc;

/// API group of priority classes.
pub(super) const GROUP: &str = "scheduling.k8s.io";

pub(super) fn concerns(request: &WriteRequest<'_>) -> bool {
    request.operation == Operation::Create && is(request, "", "pods")
}

/// The class a pod names.
pub(super) fn wanted(pod: &Value) -> Option<String> {
    Some(text(pod, "/spec/priorityClassName")).filter(|n| !n.is_empty()).map(str::to_owned)
}

/// The class of pods that name none: of several default ones the lowest.
pub(super) fn default_class(all: &[Arc<Object>]) -> Option<Arc<Object>> {
    all.iter()
        .filter_map(|class| Some((class, class.read::<Class>().ok()?)))
        .filter(|(_, read)| read.global_default == Some(true))
        .min_by_key(|(_, read)| read.value.unwrap_or(0))
        .map(|(class, _)| class.clone())
}

/// What every pod reads of all classes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Class {
    global_default: Option<bool>,
    value: Option<i64>,
}

fn value(class: &Value) -> i64 {
    class.get("value").and_then(Value::as_i64).unwrap_or(0)
}

/// Fills in priority and preemption policy. `class` is the one the pod names, or the default one.
pub(super) fn admit(
    request: &WriteRequest<'_>,
    pod: &mut Value,
    class: Option<&Object>,
) -> Result<(), Status> {
    let named = wanted(pod);
    if let (Some(name), None) = (&named, class) {
        return Err(forbidden(request, format!("no PriorityClass with name {name} was found")));
    }
    let Some(spec) = pod.get_mut("spec").filter(|s| s.is_object()) else { return Ok(()) };
    let tree = class.map(Object::value);
    let priority = tree.as_ref().map_or(0, value);
    let policy = tree.as_ref().map_or("", |t| text(t, "/preemptionPolicy"));
    let policy = if policy.is_empty() { "PreemptLowerPriority" } else { policy };
    if let Some(given) = spec.get("priority").and_then(Value::as_i64).filter(|given| *given != priority) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed \
             {priority} from the given PriorityClass name"
        );
        return Err(forbidden(request, why));
    }
    let given = text(spec, "/preemptionPolicy");
    if !given.is_empty() && given != policy {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller \
             computed {policy} from the given PriorityClass name"
        );
        return Err(forbidden(request, why));
    }
    if let (None, Some(class)) = (&named, class) {
        spec["priorityClassName"] = (*class.meta().name).into();
    }
    spec["priority"] = priority.into();
    spec["preemptionPolicy"] = policy.into();
    Ok(())
}
