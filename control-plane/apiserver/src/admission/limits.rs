//! LimitRanger: containers get what the ranges of their namespace say, and may ask for what those allow.

use super::{forbidden, is, list, text};
use crate::hooks::{Operation, WriteRequest};
use serde_json::{Map, Value, json};
use skep_api::kinds::pod::amounts::{Amounts, Part, amounts, asked};
use skep_api::quantity::Quantity;
use skep_api::{Object, Status};
use std::sync::Arc;

/// Says what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub(super) fn concerns(request: &WriteRequest<'_>) -> bool {
    match request.operation {
        Operation::Create => is(request, "", "pods"),
        Operation::Update => {
            request.subresource == "resize"
                && request.resource.gvk.group.is_empty()
                && request.resource.plural == "pods"
        }
        Operation::Delete => false,
    }
}

/// Whether the object is on its way out: what it asks for does not matter any more.
pub(super) fn going(old: Option<&Object>) -> bool {
    old.is_some_and(|old| old.meta().deleting())
}

fn limits(range: &Value) -> &[Value] {
    list(range, "/spec/limits")
}

/// Fills in requests and limits that containers leave out.
pub(super) fn fill(pod: &mut Value, ranges: &[Arc<Object>]) {
    for range in ranges {
        let range = range.value();
        let (mut asked, mut most) = (Map::new(), Map::new());
        for limit in limits(&range).iter().filter(|limit| text(limit, "/type") == "Container") {
            let entries = |key: &str| limit.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
            asked.extend(entries("defaultRequest"));
            most.extend(entries("default"));
        }
        let mut told = Vec::new();
        for (key, what) in [("containers", "container"), ("initContainers", "init container")] {
            let containers = pod.pointer_mut("/spec").and_then(|spec| spec.get_mut(key));
            for container in containers.and_then(Value::as_array_mut).into_iter().flatten() {
                let name = text(container, "/name").to_owned();
                for (part, word, from) in [("requests", "request", &asked), ("limits", "limit", &most)] {
                    let set = fill_part(container, part, from);
                    if !set.is_empty() {
                        told.push(format!("{} {word} for {what} {name}", set.join(", ")));
                    }
                }
            }
        }
        if !told.is_empty() && pod["metadata"].is_object() {
            if !pod["metadata"]["annotations"].is_object() {
                pod["metadata"]["annotations"] = json!({});
            }
            pod["metadata"]["annotations"][ANNOTATION] =
                format!("LimitRanger plugin set: {}", told.join("; ")).into();
        }
    }
}

/// Puts amounts into `resources.<part>` where there is none of the name. Answers the names, sorted.
fn fill_part(container: &mut Value, part: &str, from: &Map<String, Value>) -> Vec<String> {
    let mut set = Vec::new();
    let Some(container) = container.as_object_mut() else { return set };
    let present = container.get("resources").and_then(|r| r.get(part)).and_then(Value::as_object);
    let missing: Vec<(String, Value)> = from
        .iter()
        .filter(|(name, _)| present.is_none_or(|amounts| !amounts.contains_key(*name)))
        .map(|(name, amount)| (name.clone(), amount.clone()))
        .collect();
    if missing.is_empty() {
        return set;
    }
    let resources = container.entry("resources").or_insert_with(|| json!({}));
    if !resources.is_object() {
        *resources = json!({});
    }
    if !resources[part].is_object() {
        resources[part] = json!({});
    }
    for (name, amount) in missing {
        resources[part][&name] = amount;
        set.push(name);
    }
    set.sort();
    set
}

/// Refuses a pod whose containers, or which as a whole, asks for what a range does not allow.
pub(super) fn check(request: &WriteRequest<'_>, pod: &Value, ranges: &[Arc<Object>]) -> Result<(), Status> {
    for range in ranges {
        let range = range.value();
        let mut wrong: Vec<String> = Vec::new();
        for limit in limits(&range) {
            match text(limit, "/type") {
                "Container" => {
                    for container in
                        list(pod, "/spec/containers").iter().chain(list(pod, "/spec/initContainers"))
                    {
                        let part = |part: &str| amounts(container.pointer(&format!("/resources/{part}")));
                        wrong.extend(broken("Container", limit, &part("requests"), &part("limits")));
                    }
                }
                "Pod" => {
                    wrong.extend(broken("Pod", limit, &asked(pod, Part::Requests), &asked(pod, Part::Limits)))
                }
                _ => {}
            }
        }
        if !wrong.is_empty() {
            let mut seen = Vec::new();
            for message in wrong {
                if !seen.contains(&message) {
                    seen.push(message);
                }
            }
            let why = if seen.len() == 1 { seen.remove(0) } else { format!("[{}]", seen.join(", ")) };
            return Err(forbidden(request, why));
        }
    }
    Ok(())
}

/// The bounds of a limit that amounts break, in upstream's words.
fn broken(kind: &str, limit: &Value, asked: &Amounts, most: &Amounts) -> Vec<String> {
    let bounds = |key: &str| amounts(limit.get(key));
    let mut wrong = Vec::new();
    for (name, bound) in bounds("min") {
        let says = format!("minimum {name} usage per {kind} is {bound}");
        match (asked.get(&name), most.get(&name)) {
            (None, _) => wrong.push(format!("{says}.  No request is specified")),
            (Some(given), _) if *given < bound => wrong.push(format!("{says}, but request is {given}")),
            (_, Some(given)) if *given < bound => wrong.push(format!("{says}, but limit is {given}")),
            _ => {}
        }
    }
    for (name, bound) in bounds("max") {
        let says = format!("maximum {name} usage per {kind} is {bound}");
        match (asked.get(&name), most.get(&name)) {
            (_, None) => wrong.push(format!("{says}.  No limit is specified")),
            (_, Some(given)) if *given > bound => wrong.push(format!("{says}, but limit is {given}")),
            (Some(given), _) if *given > bound => wrong.push(format!("{says}, but request is {given}")),
            _ => {}
        }
    }
    for (name, bound) in bounds("maxLimitRequestRatio") {
        let says = format!("{name} max limit to request ratio per {kind} is {bound}");
        let some = |amount: Option<&Quantity>| amount.copied().filter(|a| !a.is_zero());
        match (some(asked.get(&name)), some(most.get(&name))) {
            (None, _) => wrong.push(format!("{says}, but no request is specified or request is 0")),
            (_, None) => wrong.push(format!("{says}, but no limit is specified or limit is 0")),
            (Some(asked), Some(most)) => {
                let ratio = most.as_f64() / asked.as_f64();
                if ratio > bound.as_f64() {
                    wrong.push(format!("{says}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
    wrong
}
