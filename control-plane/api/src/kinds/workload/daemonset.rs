//! DaemonSets (`pkg/apis/apps/validation`, `pkg/registry/apps/daemonset`).

use super::{above_all, is_zero, number_or_percent, template};
use crate::field::FieldError;
use crate::kinds::columns::{age, count, label_text, name, selected, selected_cells};
use crate::resource::{Column, Context, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, same, selector};
use serde_json::{Value, json};

const ROLLING: &str = "RollingUpdate";
const ON_DELETE: &str = "OnDelete";
/// Counts the templates a DaemonSet has had: a field of versions long gone, kept as an annotation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
/// The numbers of a status.
const COUNTS: &[&str] = &[
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
];

/// DaemonSets.
#[derive(Debug, Default)]
pub struct DaemonSet;

fn template_generation(object: &Value) -> i64 {
    let annotations = object.pointer("/metadata/annotations");
    let text = annotations.and_then(|a| a.get(TEMPLATE_GENERATION)).and_then(Value::as_str);
    text.and_then(|t| t.parse().ok()).unwrap_or(0)
}

fn set_template_generation(object: &mut Value, generation: i64) {
    let Some(metadata) = object.get_mut("metadata").filter(|m| m.is_object()) else { return };
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"][TEMPLATE_GENERATION] = generation.to_string().into();
}

fn template_changed(new: &Value, old: &Value) -> bool {
    !same(new.pointer("/spec/template"), old.pointer("/spec/template"))
}

impl Strategy for DaemonSet {
    fn default(&self, object: &mut Value) {
        super::default_template(object);
        let generation = template_generation(object);
        set_template_generation(object, generation);
        let Some(strategy) = object.pointer_mut("/spec/updateStrategy") else { return };
        if strategy["type"] != ROLLING {
            return;
        }
        if strategy["rollingUpdate"].is_null() {
            strategy["rollingUpdate"] = json!({});
        }
        for (field, amount) in [("maxUnavailable", 1), ("maxSurge", 0)] {
            if strategy["rollingUpdate"].is_object() && strategy["rollingUpdate"][field].is_null() {
                strategy["rollingUpdate"][field] = amount.into();
            }
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &Context<'_>) {
        if let Some(map) = object.as_object_mut() {
            map.remove("status");
        }
        let generation = template_generation(object).max(1);
        set_template_generation(object, generation);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        crate::kinds::keep(new, old, &["status"]);
        let generation = template_generation(old) + i64::from(template_changed(new, old));
        set_template_generation(new, generation);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        crate::kinds::keep(new, old, &["spec"]);
        set_template_generation(new, template_generation(old));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        validate_spec(&mut errors, &root.get("spec"));
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        super::same_selector(new, old)
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (root, old) = (At::root(new), At::root(old));
        let status = root.get("status");
        for field in COUNTS {
            errors.not_negative(&status.get(field));
        }
        super::collisions(&mut errors, &status, &old.get("status"));
        errors.done()
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        super::template_warnings(new, old)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let [names, images, selector] = selected();
        vec![
            name(),
            column("Desired", "integer", "Nodes that should run the pod."),
            column("Current", "integer", "Nodes that should run the pod and do."),
            column("Ready", "integer", "Nodes whose pod is ready."),
            column("Up-to-date", "integer", "Nodes whose pod is of the latest template."),
            column("Available", "integer", "Nodes whose pod has been ready for long enough."),
            column("Node Selector", "string", "Labels a node must have."),
            age(),
            names,
            images,
            selector,
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let (spec, status) = (root.get("spec"), root.get("status"));
        let (template, [names, images, selector]) = (spec.get("template"), selected_cells(&spec));
        let pod = template.get("spec");
        let number = |field: &str| count(&status.get(field));
        vec![
            table::name(object),
            number("desiredNumberScheduled"),
            number("currentNumberScheduled"),
            number("numberReady"),
            number("updatedNumberScheduled"),
            number("numberAvailable"),
            label_text(&pod.get("nodeSelector")),
            table::age(object, now),
            names,
            images,
            selector,
        ]
    }
}

fn validate_spec(errors: &mut Errors, spec: &At<'_, '_>) {
    let wanted = spec.get("selector");
    selector::validate(errors, &wanted);
    let at = spec.get("template");
    let metadata = at.get("metadata");
    let labels = selector::labels_of(&metadata);
    if selector::misses(&wanted, &labels) {
        errors.invalid(&metadata.get("labels"), "`selector` does not match template `labels`");
    }
    if wanted.present() && wanted.get("matchLabels").is_empty() && wanted.get("matchExpressions").is_empty() {
        errors.invalid(&wanted, "empty selector is invalid for daemonset");
    }
    template(errors, &at);
    let pod = at.get("spec");
    let restart = pod.get("restartPolicy");
    if restart.text() != "Always" {
        errors.not_supported(&restart, &["Always"]);
    }
    let deadline = pod.get("activeDeadlineSeconds");
    if deadline.present() {
        errors.forbidden(&deadline, "activeDeadlineSeconds in DaemonSet is not Supported");
    }
    errors.not_negative(&spec.get("minReadySeconds"));
    update_strategy(errors, &spec.get("updateStrategy"));
    errors.not_negative(&spec.get("revisionHistoryLimit"));
}

fn update_strategy(errors: &mut Errors, at: &At<'_, '_>) {
    let rolling = at.get("rollingUpdate");
    match at.get("type").text() {
        ON_DELETE => {}
        ROLLING if !rolling.present() => errors.required(&rolling, ""),
        ROLLING => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            for field in [&unavailable, &surge] {
                number_or_percent(errors, field);
            }
            for field in [&unavailable, &surge] {
                if above_all(field) {
                    errors.invalid(field, "must not be greater than 100%");
                }
            }
            match (is_zero(&unavailable), is_zero(&surge)) {
                (false, false) => errors.invalid(&surge, "may not be set when maxUnavailable is non-zero"),
                (true, true) => errors.required(&unavailable, "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        _ => errors.not_supported(at, &[ROLLING, ON_DELETE]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::workload;
    use super::*;
    use crate::kinds::testing::{context, now, shown};

    fn daemons(spec: &Value) -> Value {
        workload("DaemonSet", spec.clone())
    }

    #[test]
    fn defaults_and_the_count_of_templates() {
        let mut object = daemons(&json!({}));
        assert_eq!(
            object["spec"]["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
        );
        assert_eq!(object["spec"]["revisionHistoryLimit"], 10);
        assert_eq!(shown(&DaemonSet.validate(&object)), "");
        let on_delete = daemons(&json!({"updateStrategy": {"type": "OnDelete"}}));
        assert!(on_delete["spec"]["updateStrategy"].get("rollingUpdate").is_none());
        DaemonSet.prepare_create(&mut object, &context());
        let count = |object: &Value| object["metadata"]["annotations"][TEMPLATE_GENERATION].clone();
        assert_eq!(count(&object), "1");
        let mut scaled = object.clone();
        scaled["spec"]["minReadySeconds"] = 5.into();
        scaled["metadata"]["annotations"] = Value::Null;
        DaemonSet.prepare_update(&mut scaled, &object);
        assert_eq!(count(&scaled), "1");
        let mut rolled = object.clone();
        rolled["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2".into();
        rolled["metadata"]["annotations"][TEMPLATE_GENERATION] = "7".into();
        DaemonSet.prepare_update(&mut rolled, &object);
        assert_eq!(count(&rolled), "2");
    }

    #[test]
    fn what_is_wrong() {
        let rolling = |of: Value| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": of}});
        for (spec, wrong) in [
            (
                json!({"selector": {"matchLabels": {"app": "api"}}}),
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ),
            (
                json!({"selector": {}}),
                "spec.selector: Invalid value: {}: empty selector is invalid for daemonset",
            ),
            (
                rolling(json!({"maxUnavailable": 1, "maxSurge": 1})),
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
            ),
            (
                rolling(json!({"maxUnavailable": 0})),
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
            ),
            (
                rolling(json!({"maxUnavailable": "101%"})),
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
            (
                json!({"updateStrategy": {"type": "Now"}}),
                "spec.updateStrategy: Unsupported value: {\"type\":\"Now\"}: supported values: \"RollingUpdate\", \"OnDelete\"",
            ),
            (
                json!({"revisionHistoryLimit": -1}),
                "spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
            ),
        ] {
            assert_eq!(shown(&DaemonSet.validate(&daemons(&spec))), wrong, "{spec}");
        }
        let (old, mut new) = (daemons(&json!({})), daemons(&json!({})));
        new["spec"]["selector"]["matchLabels"]["more"] = "x".into();
        assert!(shown(&DaemonSet.validate_update(&new, &old)).ends_with("field is immutable"));
        new["status"] = json!({"numberReady": -1});
        assert!(shown(&DaemonSet.validate_status_update(&new, &old)).starts_with("status.numberReady"));
    }

    #[test]
    fn it_is_shown() {
        let mut object = daemons(&json!({}));
        object["status"] = json!({"desiredNumberScheduled": 2, "numberReady": 1});
        object["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
        let cells = DaemonSet.cells(&object, now());
        let texts: Vec<String> =
            cells.iter().map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned)).collect();
        assert_eq!(texts.join(" "), "web 2 0 1 0 0 disk=ssd 2m c,s web:1,side app=web");
    }
}
