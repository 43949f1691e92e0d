//! Pods (`pkg/registry/core/pod/strategy.go`, `pkg/apis/core/validation`).

pub mod amounts;
mod binding;
mod container;
mod defaults;
mod env;
mod keys;
mod placement;
mod print;
mod probe;
mod qos;
pub mod refs;
mod security;
mod spec;
mod update;
mod volume;
mod warnings;

pub use binding::{bind, validate as validate_binding};
pub(crate) use container::PROTOCOLS;
pub(crate) use defaults::spec as default_spec;
pub(crate) use placement::EFFECTS;
pub(super) use placement::{node_selector, tolerations};
pub use qos::class as qos_class;
pub(crate) use spec::validate as validate_spec;
pub(in crate::kinds) use warnings::pod as warnings_of;

use crate::field::FieldError;
use crate::names::dns1123_label;
use crate::resource::{Column, Context, Strategy};
use crate::validation::metadata::desired_state_changed;
use crate::validation::{At, Errors, same};
use serde_json::{Value, json};

/// Pods.
#[derive(Debug, Default)]
pub struct Pod;

/// Groups of pods that are scheduled together (KEP-4671) are off: taken only where one stood before.
fn drop_group(new: &mut Value, old: Option<&Value>) {
    let stood =
        old.and_then(|old| old.pointer("/spec/schedulingGroup")).is_some_and(|group| !group.is_null());
    if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut).filter(|_| !stood) {
        spec.remove("schedulingGroup");
    }
}

impl Strategy for Pod {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = object.get_mut("spec") {
            defaults::spec(spec);
            defaults::pod(spec);
        }
        defaults::pod_requests(object);
    }

    fn prepare_create(&self, object: &mut Value, context: &Context<'_>) {
        keys::join_selectors(object);
        drop_group(object, None);
        let mut status = json!({"phase": "Pending", "qosClass": qos::class(object)});
        if object.pointer("/spec/schedulingGates").and_then(Value::as_array).is_some_and(|g| !g.is_empty()) {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": crate::kinds::rfc3339(context.now),
            }]);
        }
        if let Some(map) = object.as_object_mut() {
            map.insert("status".into(), status);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        super::keep(new, old, &["status"]);
        drop_group(new, Some(old));
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let root = At::root(new);
        let mut told = Vec::new();
        let wrong = dns1123_label(root.get("metadata").get("name").text(), false);
        if old.is_none() && !wrong.is_empty() {
            let what = "this is used in the Pod's hostname, which can result in surprising behavior";
            told.push(format!("metadata.name: {what}; a DNS label is recommended: [{}]", wrong.join(" ")));
        }
        told.extend(warnings_of(&root));
        told
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        super::keep(new, old, &["spec"]);
        super::keep_in(
            new,
            old,
            "metadata",
            &["deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences"],
        );
        let class = old.pointer("/status/qosClass").cloned();
        let generations = observed_generations(old);
        let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) else { return };
        let unsaid = status.get("qosClass").and_then(Value::as_str).unwrap_or_default().is_empty();
        if let Some(class) = class.filter(|_| unsaid) {
            status.insert("qosClass".into(), class);
        }
        let unset = |v: Option<&Value>| v.and_then(Value::as_i64).unwrap_or(0) == 0;
        let before = old.pointer("/status/observedGeneration");
        if let Some(before) = before.filter(|_| unset(status.get("observedGeneration"))) {
            status.insert("observedGeneration".into(), before.clone());
        }
        let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
            let kind = condition.get("type").and_then(Value::as_str).unwrap_or_default();
            let before = generations.iter().find(|(k, _)| k == kind);
            if let Some((_, before)) = before.filter(|_| unset(condition.get("observedGeneration"))) {
                condition.insert("observedGeneration".into(), (*before).into());
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let name = root.get("metadata").get("name").text();
        let spec = root.get("spec");
        spec::validate(&mut errors, &spec, Some(name));
        if spec.get("serviceAccountName").text().is_empty() {
            for volume in spec.get("volumes").items() {
                for source in volume.get("projected").get("sources").items() {
                    let token = source.get("serviceAccountToken");
                    if token.present() {
                        errors.forbidden(&token, "must not be specified when serviceAccountName is not set");
                    }
                }
            }
        }
        for field in ["containers", "initContainers"] {
            for container in spec.get(field).items() {
                container::image_is_trimmed(&mut errors, &container);
            }
        }
        errors.done()
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        let ephemeral = spec.get("ephemeralContainers");
        if !ephemeral.is_empty() {
            errors.forbidden(&ephemeral, "cannot be set on create");
        }
        let node = spec.get("nodeName");
        if !node.text().is_empty() && !spec.get("schedulingGates").is_empty() {
            errors.forbidden(&node, "cannot be set until all schedulingGates have been cleared");
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        update::main_resource(&mut errors, new, old);
        errors.done()
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        update::status(&mut errors, new, old);
        errors.done()
    }

    fn has_generation(&self) -> bool {
        true
    }

    /// Being given a node is no change of what is wanted; nothing but a binding gives one.
    fn generation_changes(&self, new: &Value, old: &Value) -> bool {
        let node = "/spec/nodeName";
        same(new.pointer(node), old.pointer(node)) && desired_state_changed(new, old)
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn prepare_subresource_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        // A binding writes the status itself.
        if subresource != "binding" {
            super::keep(new, old, &["status"]);
        }
        match subresource {
            "ephemeralcontainers" => {
                let sent = new.pointer("/spec/ephemeralContainers").cloned();
                super::keep(new, old, &["spec"]);
                if let Some(sent) = sent {
                    new["spec"]["ephemeralContainers"] = sent;
                }
            }
            "resize" => {
                if let Some(spec) = resized(new, old) {
                    new["spec"] = spec;
                }
            }
            _ => {}
        }
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if subresource == "binding" {
            // What it may change was decided when it was made.
            return errors.done();
        }
        errors.extend(self.validate(new));
        match subresource {
            "ephemeralcontainers" => only_added(&mut errors, new, old),
            "resize" => resize(&mut errors, new, old),
            _ => {}
        }
        errors.done()
    }

    fn graceful_deletion(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        let root = At::root(object);
        let (spec, status) = (root.get("spec"), root.get("status"));
        let scheduled = !spec.get("nodeName").text().is_empty();
        let finished = matches!(status.get("phase").text(), "Failed" | "Succeeded");
        let own = spec.get("terminationGracePeriodSeconds").int().unwrap_or(0);
        match asked.unwrap_or(own) {
            _ if !scheduled || finished => Some(0),
            seconds if seconds < 0 => Some(1),
            seconds => Some(seconds),
        }
    }

    fn columns(&self) -> Vec<Column> {
        print::columns()
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        print::cells(object, now)
    }
}

fn observed_generations(pod: &Value) -> Vec<(String, i64)> {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let pair = |condition: &Value| {
        let generation = condition.get("observedGeneration")?.as_i64()?;
        Some((condition.get("type")?.as_str()?.to_owned(), generation))
    };
    conditions.into_iter().flatten().filter_map(pair).collect()
}

/// Ephemeral containers may be added, and stay as they are.
fn only_added(errors: &mut Errors, new: &Value, old: &Value) {
    let (root, old_root) = (At::root(new), At::root(old));
    let (spec, old_spec) = (root.get("spec"), old_root.get("spec"));
    let (list, before) = (spec.get("ephemeralContainers"), old_spec.get("ephemeralContainers"));
    for old in before.items() {
        let name = old.get("name").text();
        match list.items().find(|new| new.get("name").text() == name) {
            None => errors
                .forbidden(&list, format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(new) if !same(new.value(), old.value()) => {
                errors
                    .forbidden(&list, format!("existing ephemeral containers {name:?} may not be changed\n"));
            }
            Some(_) => {}
        }
    }
}

/// The spec of `old` with the resources and resize policies of `new`; nothing where containers were added, removed
/// or renamed.
fn resized(new: &Value, old: &Value) -> Option<Value> {
    let mut spec = old.get("spec")?.clone();
    for field in ["containers", "initContainers"] {
        let list = |pod: &Value| pod.pointer(&format!("/spec/{field}")).and_then(Value::as_array).cloned();
        let (sent, before) = (list(new).unwrap_or_default(), list(old).unwrap_or_default());
        if !sent.iter().map(|c| c.get("name")).eq(before.iter().map(|c| c.get("name"))) {
            return None;
        }
        let containers = spec.get_mut(field).and_then(Value::as_array_mut);
        for (container, sent) in containers.into_iter().flatten().zip(&sent) {
            super::keep(container, sent, &["resources", "resizePolicy"]);
        }
    }
    Some(spec)
}

/// A pod's size may change while it runs; its class of service and its containers may not.
fn resize(errors: &mut Errors, new: &Value, old: &Value) {
    let root = At::root(new);
    let spec = root.get("spec");
    if qos::class(new) != qos::class(old) {
        let shown = old.pointer("/status/qosClass").cloned().unwrap_or(Value::Null);
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(spec.path(), shown, why));
    }
    if resized(new, old).is_none() {
        errors.forbidden(&spec, "only cpu and memory resources are mutable");
    }
}

#[cfg(test)]
mod tests;
