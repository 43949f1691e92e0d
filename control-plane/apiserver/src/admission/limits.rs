//! LimitRanger: containers get what the ranges of their namespace say, and may ask for what those allow.

use super::{forbidden, is, list, text};
use crate::hooks::{Operation, WriteRequest};
use serde_json::{Map, Value, json};
use skep_api::quantity::Quantity;
use skep_api::validation::resources::quantity;
use skep_api::{Object, Status};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Says what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Resources that may be given for a pod as a whole; they then stand for those of its containers.
const OF_POD: &[&str] = &["cpu", "memory"];

type Amounts = BTreeMap<String, Quantity>;

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
                "Pod" => wrong.extend(broken("Pod", limit, &whole(pod, "requests"), &whole(pod, "limits"))),
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

fn amounts(map: Option<&Value>) -> Amounts {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), quantity(Some(value))?))).collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(*amount, |there| there.add(amount));
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        if to.get(name).is_none_or(|there| there < amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

/// What a pod asks for as a whole: its containers together, or more where one that runs before them needs more.
fn whole(pod: &Value, part: &str) -> Amounts {
    let of = |container: &Value| amounts(container.pointer(&format!("/resources/{part}")));
    let mut sum = Amounts::new();
    for container in list(pod, "/spec/containers") {
        add(&mut sum, &of(container));
    }
    let (mut stay, mut before) = (Amounts::new(), Amounts::new());
    for container in list(pod, "/spec/initContainers") {
        let own = of(container);
        if text(container, "/restartPolicy") == "Always" {
            add(&mut sum, &own);
            add(&mut stay, &own);
            raise(&mut before, &stay);
        } else {
            let mut together = own;
            add(&mut together, &stay);
            raise(&mut before, &together);
        }
    }
    raise(&mut sum, &before);
    let given = of(pod.get("spec").unwrap_or(&Value::Null));
    sum.extend(given.into_iter().filter(|(name, _)| OF_POD.contains(&name.as_str())));
    sum
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
