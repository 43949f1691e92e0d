//! Deployments and ReplicaSets, and what all kinds with a pod template share.

mod daemonset;
mod statefulset;

pub use daemonset::DaemonSet;
pub use statefulset::StatefulSet;

use super::columns::{age, container_cells, count, name, selected, selected_cells};
use super::pod;
use crate::field::FieldError;
use crate::names::dns1123_label;
use crate::resource::{Column, Strategy};
use crate::table::{self, column};
use crate::validation::metadata::desired_state_changed;
use crate::validation::{At, Errors, annotations, labels, same, selector, text};
use serde_json::Value;

/// Defaults of the pod template below `spec`.
pub(super) fn default_template(object: &mut Value) {
    if let Some(spec) = object.pointer_mut("/spec/template/spec") {
        pod::default_spec(spec);
    }
}

/// Errors of a pod template.
pub(super) fn template(errors: &mut Errors, at: &At<'_, '_>) {
    // Upstream reports the template's metadata without `metadata`.
    let metadata = at.get("metadata");
    let (own_labels, own_annotations) = (metadata.get("labels"), metadata.get("annotations"));
    labels(errors, &at.get("labels").with_value(own_labels.value()));
    annotations(errors, &at.get("annotations").with_value(own_annotations.value()));
    let spec = at.get("spec");
    pod::validate_spec(errors, &spec, None);
    let ephemeral = spec.get("ephemeralContainers");
    if !ephemeral.is_empty() {
        errors.forbidden(&ephemeral, "ephemeral containers not allowed in pod template");
    }
}

/// A template whose pods run for ever, and the selector that finds them.
pub(super) fn selected_template(errors: &mut Errors, spec: &At<'_, '_>) {
    let wanted = spec.get("selector");
    let mut wrong = Errors::new();
    if wanted.present() {
        selector::validate(&mut wrong, &wanted);
        if wanted.get("matchLabels").is_empty() && wanted.get("matchExpressions").is_empty() {
            errors.invalid(&wanted, "empty selector is invalid for deployment");
        }
    } else {
        errors.required(&wanted, "");
    }
    let at = spec.get("template");
    let wrong = wrong.done();
    let compiled = if wrong.is_empty() { selector::compile(wanted.value()) } else { None };
    wrong.into_iter().for_each(|error| errors.push(error));
    match compiled {
        None if wanted.present() => errors.invalid(&wanted, "invalid label selector"),
        // A selector that is not there selects nothing.
        None => {
            let metadata = at.get("metadata");
            errors.invalid(&metadata.get("labels"), "`selector` does not match template `labels`");
        }
        Some(compiled) => {
            let metadata = at.get("metadata");
            if !compiled.is_everything() && !compiled.matches(&selector::labels_of(&metadata)) {
                errors.invalid(&metadata.get("labels"), "`selector` does not match template `labels`");
            }
        }
    }
    template(errors, &at);
    let pod_spec = at.get("spec");
    let restart = pod_spec.get("restartPolicy");
    if restart.text() != "Always" {
        errors.not_supported(&restart, &["Always"]);
    }
    let deadline = pod_spec.get("activeDeadlineSeconds");
    if deadline.present() {
        errors.forbidden(&deadline, "activeDeadlineSeconds in ReplicaSet is not Supported");
    }
}

/// A whole number or a percentage, not below nothing.
pub(super) fn number_or_percent(errors: &mut Errors, at: &At<'_, '_>) {
    match at.value() {
        Some(Value::String(_)) => errors.text(at, text::percent(at.text())),
        _ => errors.not_negative(at),
    }
}

fn is_zero(at: &At<'_, '_>) -> bool {
    match at.value() {
        Some(Value::String(text)) => text.trim_end_matches('%').parse::<i64>().unwrap_or(0) == 0,
        _ => at.int().unwrap_or(0) == 0,
    }
}

pub(super) fn above_all(at: &At<'_, '_>) -> bool {
    at.text().strip_suffix('%').and_then(|n| n.parse::<i64>().ok()).is_some_and(|n| n > 100)
}

/// Counts of a status: none below nothing, none above the whole.
fn status_counts(errors: &mut Errors, status: &At<'_, '_>, counts: &[&str], parts: &[&str]) {
    for field in counts {
        errors.not_negative(&status.get(field));
    }
    let number = |field: &str| status.get(field).int().unwrap_or(0);
    for field in parts {
        if number(field) > number("replicas") {
            errors.invalid(&status.get(field), "cannot be greater than status.replicas");
        }
    }
    if number("availableReplicas") > number("readyReplicas") {
        errors.invalid(&status.get("availableReplicas"), "cannot be greater than readyReplicas");
    }
}

/// What whoever makes an object with such a name is warned of: its pods have it in theirs.
pub(super) fn name_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let name = new.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let wrong = dns1123_label(name, false);
    if old.is_some() || wrong.is_empty() {
        return Vec::new();
    }
    let what = "this is used in Pod names and hostnames, which can result in surprising behavior";
    vec![format!("metadata.name: {what}; a DNS label is recommended: [{}]", wrong.join(" "))]
}

/// What whoever makes an object with a template of pods is warned of, or changes what it wants.
pub(super) fn template_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let generation = |object: &Value| object.pointer("/metadata/generation").cloned();
    if old.is_some_and(|old| generation(old) == generation(new)) {
        return Vec::new();
    }
    let root = At::root(new);
    let spec = root.get("spec");
    pod::warnings_of(&spec.get("template"))
}

/// The count of collisions of names only grows.
fn collisions(errors: &mut Errors, status: &At<'_, '_>, before: &At<'_, '_>) {
    let at = status.get("collisionCount");
    if before.get("collisionCount").int().is_some_and(|before| at.int().unwrap_or(-1) < before) {
        errors.push(FieldError::invalid(at.path(), count(&at), "cannot be decremented"));
    }
}

/// Deployments.
#[derive(Debug, Default)]
pub struct Deployment;

impl Strategy for Deployment {
    fn default(&self, object: &mut Value) {
        default_template(object);
        let Some(strategy) = object.pointer_mut("/spec/strategy") else { return };
        if strategy["type"] == "RollingUpdate" {
            for field in ["maxUnavailable", "maxSurge"] {
                if strategy["rollingUpdate"][field].is_null() {
                    strategy["rollingUpdate"][field] = "25%".into();
                }
            }
        }
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        super::keep(new, old, &["spec"]);
        super::keep_in(new, old, "metadata", &["labels"]);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        let ready = spec.get("minReadySeconds");
        for field in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
            errors.not_negative(&spec.get(field));
        }
        selected_template(&mut errors, &spec);
        deployment_strategy(&mut errors, &spec.get("strategy"));
        let deadline = spec.get("progressDeadlineSeconds");
        if deadline.int().is_some_and(|seconds| seconds <= ready.int().unwrap_or(0)) {
            errors.invalid(&deadline, "must be greater than minReadySeconds");
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        same_selector(new, old)
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (root, old) = (At::root(new), At::root(old));
        let status = root.get("status");
        status_counts(
            &mut errors,
            &status,
            &[
                "observedGeneration",
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
                "terminatingReplicas",
                "collisionCount",
            ],
            &["updatedReplicas", "readyReplicas", "availableReplicas"],
        );
        collisions(&mut errors, &status, &old.get("status"));
        errors.done()
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        [name_warnings(new, old), template_warnings(new, old)].concat()
    }

    fn has_generation(&self) -> bool {
        true
    }

    /// Annotations count too, because they are copied to ReplicaSets.
    fn generation_changes(&self, new: &Value, old: &Value) -> bool {
        let annotations = "/metadata/annotations";
        desired_state_changed(new, old) || !same(new.pointer(annotations), old.pointer(annotations))
    }

    fn columns(&self) -> Vec<Column> {
        let [names, images, selector] = selected();
        vec![
            name(),
            column("Ready", "string", "Number of the pod with ready state"),
            column("Up-to-date", "string", "Pods of the latest template."),
            column("Available", "string", "Pods that have been ready for long enough."),
            age(),
            names,
            images,
            selector,
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let (spec, status) = (root.get("spec"), root.get("status"));
        let number = |at: At<'_, '_>| at.int().unwrap_or(0);
        let ready = format!("{}/{}", number(status.get("readyReplicas")), number(spec.get("replicas")));
        let [names, images, selector] = selected_cells(&spec);
        vec![
            table::name(object),
            ready.into(),
            count(&status.get("updatedReplicas")),
            count(&status.get("availableReplicas")),
            table::age(object, now),
            names,
            images,
            selector,
        ]
    }
}

fn deployment_strategy(errors: &mut Errors, at: &At<'_, '_>) {
    let rolling = at.get("rollingUpdate");
    match at.get("type").text() {
        "Recreate" if rolling.present() => {
            errors.forbidden(&rolling, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" if !rolling.present() => {
            errors.required(&rolling, "this should be defaulted and never be nil");
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            number_or_percent(errors, &unavailable);
            number_or_percent(errors, &surge);
            if is_zero(&unavailable) && is_zero(&surge) {
                errors.invalid(&unavailable, "may not be 0 when `maxSurge` is 0");
            }
            if above_all(&unavailable) {
                errors.invalid(&unavailable, "must not be greater than 100%");
            }
        }
        _ => errors.not_supported(at, &["Recreate", "RollingUpdate"]),
    }
}

fn same_selector(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let (new, old) = (At::root(new), At::root(old));
    errors.immutable(&new.get("spec").get("selector"), &old.get("spec").get("selector"));
    errors.done()
}

/// What the table says of a set of replicas, the selector behind it as its kind writes it.
pub(super) fn replica_cells(object: &Value, now: jiff::Timestamp, selector: Value) -> Vec<Value> {
    let root = At::root(object);
    let (spec, status) = (root.get("spec"), root.get("status"));
    let [names, images] = container_cells(&spec.get("template"));
    vec![
        table::name(object),
        count(&spec.get("replicas")),
        count(&status.get("replicas")),
        count(&status.get("readyReplicas")),
        table::age(object, now),
        names,
        images,
        selector,
    ]
}

/// ReplicaSets.
#[derive(Debug, Default)]
pub struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default(&self, object: &mut Value) {
        default_template(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        for field in ["replicas", "minReadySeconds"] {
            errors.not_negative(&spec.get(field));
        }
        selected_template(&mut errors, &spec);
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        same_selector(new, old)
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(new);
        status_counts(
            &mut errors,
            &root.get("status"),
            &[
                "replicas",
                "fullyLabeledReplicas",
                "readyReplicas",
                "availableReplicas",
                "observedGeneration",
                "terminatingReplicas",
            ],
            &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        );
        errors.done()
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        [name_warnings(new, old), template_warnings(new, old)].concat()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let [names, images, selector] = selected();
        vec![
            name(),
            column("Desired", "integer", "Pods that should be."),
            column("Current", "integer", "Pods that are."),
            column("Ready", "integer", "Pods that are ready."),
            age(),
            names,
            images,
            selector,
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let selector = selector::format(object.pointer("/spec/selector"));
        replica_cells(object, now, selector.into())
    }
}

/// ControllerRevisions: one state of a controller, never changed.
#[derive(Debug, Default)]
pub struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        errors.not_negative(&root.get("revision"));
        errors.done()
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let data = root.get("data");
        match data.value() {
            None => errors.required(&data, "data is mandatory"),
            Some(Value::Object(_)) => {}
            Some(_) => errors.required(&data, "data must be a valid JSON object"),
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        errors.immutable(&At::root(new).get("data"), &At::root(old).get("data"));
        errors.done()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Controller", "string", "Controller of the object"),
            column("Revision", "string", "Number of the state."),
            age(),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let metadata = root.get("metadata");
        let owners = metadata.get("ownerReferences");
        let owner = owners.items().find(|o| o.get("controller").is_true()).map(|o| {
            let version = o.get("apiVersion").text();
            let group = version.split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
            let kind = o.get("kind").text().to_lowercase();
            format!("{kind}{group}/{}", o.get("name").text())
        });
        vec![
            table::name(object),
            owner.unwrap_or_else(|| "<none>".into()).into(),
            count(&root.get("revision")),
            table::age(object, now),
        ]
    }
}

#[cfg(test)]
mod tests;
