//! RuntimeClass: a pod of a class costs what the class says on top, and goes where the class is.

use super::{forbidden, is, list_mut, text};
use crate::hooks::{Operation, WriteRequest};
use serde_json::{Value, json};
use skep_api::validation::resources::quantity;
use skep_api::{Object, Status};

/// API group of runtime classes.
pub(super) const GROUP: &str = "node.k8s.io";

pub(super) fn concerns(request: &WriteRequest<'_>) -> bool {
    request.operation == Operation::Create && is(request, "", "pods")
}

/// The class a pod names.
pub(super) fn wanted(pod: &Value) -> Option<&str> {
    pod.pointer("/spec/runtimeClassName").and_then(Value::as_str)
}

/// Whether two lists of resources say the same amounts.
fn same_amounts(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a.is_null() == b.is_null() };
    a.len() == b.len() && a.iter().all(|(name, amount)| quantity(Some(amount)) == quantity(b.get(name)))
}

/// Fills in overhead, node selector and tolerations. `class` is the one the pod names.
pub(super) fn admit(
    request: &WriteRequest<'_>,
    pod: &mut Value,
    class: Option<&Object>,
) -> Result<(), Status> {
    let Some(class) = class else {
        return match wanted(pod) {
            Some(name) => Err(forbidden(request, format!("pod rejected: RuntimeClass {name:?} not found"))),
            None => Ok(()),
        };
    };
    let class = class.value();
    let Some(spec) = pod.get_mut("spec").filter(|spec| spec.is_object()) else { return Ok(()) };
    if let Some(overhead) = class.get("overhead").filter(|overhead| !overhead.is_null()) {
        let fixed = overhead.get("podFixed").cloned().unwrap_or_default();
        let given = &spec["overhead"];
        if given.as_object().is_some_and(|map| !map.is_empty()) && !same_amounts(given, &fixed) {
            let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(forbidden(request, why));
        }
        spec["overhead"] = fixed;
    }
    for (key, wanted) in
        class.pointer("/scheduling/nodeSelector").and_then(Value::as_object).into_iter().flatten()
    {
        if !spec["nodeSelector"].is_object() {
            spec["nodeSelector"] = json!({});
        }
        let given = &spec["nodeSelector"][key];
        if !given.is_null() && given != wanted {
            let (wanted, given) = (wanted.as_str().unwrap_or_default(), given.as_str().unwrap_or_default());
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {given}"
            );
            return Err(forbidden(request, why));
        }
        spec["nodeSelector"][key] = wanted.clone();
    }
    let more = super::list(&class, "/scheduling/tolerations");
    if !more.is_empty()
        && let Some(tolerations) = list_mut(spec, "tolerations")
    {
        tolerations.extend(more.iter().cloned());
        *tolerations = merged(tolerations);
    }
    Ok(())
}

/// Refuses an overhead that is not the class's.
pub(super) fn check(request: &WriteRequest<'_>, pod: &Value, class: Option<&Object>) -> Result<(), Status> {
    let given = pod.pointer("/spec/overhead").unwrap_or(&Value::Null);
    let class = class.map(Object::value);
    let overhead =
        class.as_ref().and_then(|class| class.get("overhead")).filter(|overhead| !overhead.is_null());
    let why = match overhead {
        Some(overhead) if !same_amounts(given, overhead.get("podFixed").unwrap_or(&Value::Null)) => {
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
        }
        None if !given.is_null() => {
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        }
        _ => return Ok(()),
    };
    Err(forbidden(request, why))
}

/// Tolerations without those that another one covers.
fn merged(all: &[Value]) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for (i, one) in all.iter().enumerate() {
        let earlier = kept.iter().any(|other| covers(other, one));
        let later = all[i + 1..].iter().any(|other| other != one && covers(other, one));
        if !earlier && !later {
            kept.push(one.clone());
        }
    }
    kept
}

/// Whether all that `one` tolerates is tolerated by `wide`.
fn covers(wide: &Value, one: &Value) -> bool {
    if wide == one {
        return true;
    }
    let (operator, effect) = (text(wide, "/operator"), text(wide, "/effect"));
    if text(wide, "/key") != text(one, "/key") && !(text(wide, "/key").is_empty() && operator == "Exists") {
        return false;
    }
    if !effect.is_empty() && effect != text(one, "/effect") {
        return false;
    }
    let seconds = |toleration: &Value| toleration.get("tolerationSeconds").and_then(Value::as_i64);
    if effect == "NoExecute"
        && let Some(most) = seconds(wide)
        && seconds(one).is_none_or(|given| given > most)
    {
        return false;
    }
    match operator {
        "Equal" | "" => text(one, "/operator") == "Equal" && text(wide, "/value") == text(one, "/value"),
        other => other == "Exists",
    }
}
