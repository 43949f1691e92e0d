//! What may change in a pod once it is there.

use super::placement;
use crate::field::FieldError;
use crate::validation::resources::quantity;
use crate::validation::{At, Errors, same, text};
use serde_json::Value;

const MAY_CHANGE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be \
    set to 1 if it was previously negative)";

/// Errors of a change of the main resource.
pub(super) fn main_resource(errors: &mut Errors, new: &Value, old: &Value) {
    let (new_root, old_root) = (At::root(new), At::root(old));
    let (new, old) = (new_root.get("spec"), old_root.get("spec"));
    for field in ["containers", "initContainers"] {
        let list = new.get(field);
        if list.len() != old.get(field).len() {
            return errors.forbidden(&list, "pod updates may not add or remove containers");
        }
    }
    if !deadline(errors, &new.get("activeDeadlineSeconds"), &old.get("activeDeadlineSeconds")) {
        return;
    }
    tolerations(errors, &new.get("tolerations"), &old.get("tolerations"));
    let old_gates = old.get("schedulingGates");
    for gate in new.get("schedulingGates").items() {
        let name = gate.get("name");
        if old_gates.items().all(|old| old.get("name").text() != name.text()) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{}'", name.text());
            errors.forbidden(&name, why);
        }
    }
    let (Some(new_spec), Some(old_spec)) = (new.value(), old.value()) else { return };
    let mut rest = new_spec.clone();
    take_back(&mut rest, old_spec);
    if !old_gates.is_empty() {
        gated(errors, &new, &old, &mut rest, old_spec);
    }
    if !same_spec(&rest, old_spec) {
        let fields = different(&rest, old_spec);
        let why = format!("pod updates may not change fields other than {MAY_CHANGE}\n{fields}");
        errors.forbidden(&new, why);
    }
}

/// Puts back everything that may change.
fn take_back(spec: &mut Value, old: &Value) {
    for field in ["containers", "initContainers"] {
        let olds = old.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let news = spec.get_mut(field).and_then(Value::as_array_mut);
        for (new, old) in news.into_iter().flatten().zip(olds) {
            put_back(new, old, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        put_back(spec, old, field);
    }
    let grace = |spec: &Value| spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
    if grace(old).is_some_and(|g| g < 0) && grace(spec) == Some(1) {
        put_back(spec, old, "terminationGracePeriodSeconds");
    }
}

fn put_back(new: &mut Value, old: &Value, field: &str) {
    if let Some(map) = new.as_object_mut() {
        match old.get(field) {
            Some(value) => map.insert(field.into(), value.clone()),
            None => map.remove(field),
        };
    }
}

/// Equality that knows amounts: `1` and `1000m` are the same request.
fn same_spec(a: &Value, b: &Value) -> bool {
    same(Some(&with_amounts(a)), Some(&with_amounts(b)))
}

/// The tree with requests and limits in one form.
fn with_amounts(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| match (key.as_str(), value) {
                ("requests" | "limits" | "overhead", Value::Object(amounts)) => {
                    let amounts = amounts.iter().map(|(name, amount)| {
                        let text = quantity(Some(amount)).map(|q| q.as_f64().to_string());
                        (name.clone(), text.map_or_else(|| amount.clone(), Value::from))
                    });
                    (key.clone(), Value::Object(amounts.collect()))
                }
                _ => (key.clone(), with_amounts(value)),
            })
            .collect(),
        Value::Array(list) => list.iter().map(with_amounts).collect(),
        other => other.clone(),
    }
}

/// The top-level fields that differ, one a line.
fn different(new: &Value, old: &Value) -> String {
    let empty = serde_json::Map::new();
    let (new, old) = (new.as_object().unwrap_or(&empty), old.as_object().unwrap_or(&empty));
    let mut out = String::new();
    for key in new.keys().chain(old.keys().filter(|key| !new.contains_key(*key))) {
        let (is, was) = (new.get(key), old.get(key));
        if !same(is, was) {
            let show = |v: Option<&Value>| v.map_or_else(|| "null".to_owned(), Value::to_string);
            out.push_str(&format!("-{key}: {}\n+{key}: {}\n", show(was), show(is)));
        }
    }
    out
}

/// A deadline may be set and shortened. `false` ends the checks, as upstream has it.
fn deadline(errors: &mut Errors, new: &At<'_, '_>, old: &At<'_, '_>) -> bool {
    match (new.int(), old.int()) {
        (Some(new_value), _) if !(0..=i64::from(i32::MAX)).contains(&new_value) => {
            errors.in_range(new, 0, i64::from(i32::MAX));
            return false;
        }
        (Some(new_value), Some(old_value)) if old_value < new_value => {
            errors.invalid(new, "must be less than or equal to previous value");
            return false;
        }
        (None, Some(_)) => errors.invalid(new, "must not update from a positive integer to nil value"),
        _ => {}
    }
    true
}

fn tolerations(errors: &mut Errors, new: &At<'_, '_>, old: &At<'_, '_>) {
    let without_time = |at: &At<'_, '_>| {
        let mut value = at.json();
        if let Some(map) = value.as_object_mut() {
            map.remove("tolerationSeconds");
        }
        value
    };
    let news: Vec<Value> = new.items().map(|t| without_time(&t)).collect();
    for toleration in old.items() {
        let wanted = without_time(&toleration);
        if !news.iter().any(|t| same(Some(t), Some(&wanted))) {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            return errors.forbidden(new, why);
        }
    }
    placement::tolerations(errors, new);
}

/// A pod that is held back by gates may be narrowed to fewer nodes (KEP-3838).
fn gated(errors: &mut Errors, new: &At<'_, '_>, old: &At<'_, '_>, rest: &mut Value, old_spec: &Value) {
    let (selector, before) = (new.get("nodeSelector"), old.get("nodeSelector"));
    if before.entries().any(|(key, value)| selector.key(key).text() != value.text()) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.invalid(&selector, why);
    }
    put_back(rest, old_spec, "nodeSelector");
    let terms = "requiredDuringSchedulingIgnoredDuringExecution";
    let (new_affinity, old_affinity) = (new.get("affinity"), old.get("affinity"));
    let (new_node, old_node) = (new_affinity.get("nodeAffinity"), old_affinity.get("nodeAffinity"));
    let (new_required, old_required) = (new_node.get(terms), old_node.get(terms));
    let (news, olds) = (new_required.get("nodeSelectorTerms"), old_required.get("nodeSelectorTerms"));
    if !olds.is_empty() && olds.len() != news.len() {
        errors.invalid(&news, "no additions/deletions to non-empty NodeSelectorTerms list are allowed");
    } else if !olds.is_empty() {
        for (new, old) in news.items().zip(olds.items()) {
            if !only_added(&new, &old) {
                errors.invalid(&new, "only additions are allowed (no mutations or deletions)");
            }
        }
    }
    let others = |affinity: &At<'_, '_>| {
        let mut value = affinity.json();
        if let Some(map) = value.as_object_mut() {
            map.remove("nodeAffinity");
        }
        value
    };
    if same(Some(&others(&new_affinity)), Some(&others(&old_affinity))) {
        put_back(rest, old_spec, "affinity");
    }
}

fn only_added(new: &At<'_, '_>, old: &At<'_, '_>) -> bool {
    let fields = ["matchExpressions", "matchFields"];
    if fields.iter().all(|f| old.get(f).is_empty()) {
        return fields.iter().all(|f| new.get(f).is_empty());
    }
    fields.iter().all(|field| {
        let (new, old) = (new.get(field), old.get(field));
        new.len() >= old.len() && new.items().zip(old.items()).all(|(n, o)| same(n.value(), o.value()))
    })
}

/// Errors of a change through `status`.
pub(super) fn status(errors: &mut Errors, new: &Value, old: &Value) {
    let (new_root, old_root) = (At::root(new), At::root(old));
    let (status, before) = (new_root.get("status"), old_root.get("status"));
    let spec = old_root.get("spec");
    for condition in status.get("conditions").items() {
        let generation = condition.get("observedGeneration");
        if generation.int().is_some_and(|g| g < 0) {
            errors.invalid(&generation, "must be a non-negative integer");
        }
        let kind = condition.get("type").text();
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            for message in text::qualified_name(kind) {
                errors.push(FieldError::invalid(condition.path().child("Type"), kind.into(), message));
            }
        }
    }
    let nominated = status.get("nominatedNodeName");
    if nominated.text() != before.get("nominatedNodeName").text() && !nominated.text().is_empty() {
        errors.text(&nominated, crate::names::dns1123_subdomain(nominated.text(), false));
        if !spec.get("nodeName").text().is_empty() {
            errors.forbidden(&nominated, "may not be set on pods that are already bound to a node");
        }
    }
    let generation = status.get("observedGeneration");
    if generation.int().is_some_and(|g| g < 0) {
        errors.invalid(&generation, "must be a non-negative integer");
    }
    errors.immutable(&status.get("qosClass"), &before.get("qosClass"));
    for (statuses, containers) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ] {
        transitions(errors, &status.get(statuses), &before.get(statuses), &spec, containers);
    }
    addresses(errors, &status.get("podIPs"));
    let hosts = status.get("hostIPs");
    if let Some(first) = hosts.items().next() {
        let first = first.get("ip");
        if first.text() != status.get("hostIP").text() {
            errors.invalid(&first, "must be equal to `hostIP`");
        }
    }
    addresses(errors, &hosts);
}

/// What has ended and will not be started again stays ended.
fn transitions(errors: &mut Errors, new: &At<'_, '_>, old: &At<'_, '_>, spec: &At<'_, '_>, containers: &str) {
    for (i, before) in old.items().enumerate() {
        let state = before.get("state");
        let ended = state.get("terminated");
        if !ended.present() {
            continue;
        }
        let name = before.get("name").text();
        let goes_on = new.items().any(|now| {
            let state = now.get("state");
            now.get("name").text() == name && !state.get("terminated").present()
        });
        if goes_on && !may_restart(spec, containers, name, ended.get("exitCode").int().unwrap_or(0)) {
            let path = new.path().index(i).child("state");
            errors.push(FieldError::forbidden(path, "may not be transitioned to non-terminated state"));
        }
    }
}

/// Whether a container that ended with `code` is started again.
fn may_restart(spec: &At<'_, '_>, field: &str, name: &str, code: i64) -> bool {
    let list = spec.get(field);
    let Some(container) = list.items().find(|c| c.get("name").text() == name) else { return false };
    for rule in container.get("restartPolicyRules").items() {
        let codes = rule.get("exitCodes");
        let values = codes.get("values");
        let listed = values.items().any(|v| v.int() == Some(code));
        let hit = if codes.get("operator").text() == "In" { listed } else { !listed };
        if hit && matches!(rule.get("action").text(), "Restart" | "RestartAllContainers") {
            return true;
        }
    }
    let (own, pod) = (container.get("restartPolicy").text(), spec.get("restartPolicy").text());
    match if own.is_empty() { pod } else { own } {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    }
}

/// Addresses of a pod or of its host: one of each family at most.
fn addresses(errors: &mut Errors, list: &At<'_, '_>) {
    for entry in list.items() {
        let ip = entry.get("ip").text();
        for message in text::ip(ip) {
            errors.push(FieldError::invalid(entry.path(), ip.into(), message));
        }
    }
    let six = list.items().filter(|e| e.get("ip").text().contains(':')).count();
    if list.len() > 2 || (list.len() == 2 && six != 1) {
        errors.invalid(list, "may specify no more than one IP for each IP family");
    }
}
