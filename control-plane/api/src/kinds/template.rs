//! ReplicationControllers and PodTemplates (`pkg/apis/core/validation`, `pkg/registry/core`).

use super::columns::{container_cells, containers, label_text, name};
use super::{pod, workload};
use crate::field::FieldError;
use crate::resource::{Column, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, selector};
use serde_json::{Map, Value, json};

/// ReplicationControllers.
#[derive(Debug, Default)]
pub struct ReplicationController;

impl Strategy for ReplicationController {
    /// Labels and selector are those of the template, where they are not said.
    fn default(&self, object: &mut Value) {
        workload::default_template(object);
        let labels = object.pointer("/spec/template/metadata/labels").filter(|l| l.is_object()).cloned();
        let Some(labels) = labels else { return };
        for (parent, field) in [("spec", "selector"), ("metadata", "labels")] {
            let Some(parent) = object.get_mut(parent).and_then(Value::as_object_mut) else { continue };
            if parent.get(field).and_then(Value::as_object).is_none_or(Map::is_empty) {
                parent.insert(field.into(), labels.clone());
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        for field in ["minReadySeconds", "replicas"] {
            errors.not_negative(&spec.get(field));
        }
        let (wanted, template) = (spec.get("selector"), spec.get("template"));
        if wanted.is_empty() {
            errors.required(&wanted, "");
        }
        if !template.present() {
            errors.required(&template, "");
            return errors.done();
        }
        let metadata = template.get("metadata");
        let structure = json!({"matchLabels": wanted.json()});
        let matches =
            selector::compile(Some(&structure)).is_some_and(|s| s.matches(&selector::labels_of(&metadata)));
        if !wanted.is_empty() && !matches {
            errors.invalid(&metadata.get("labels"), "`selector` does not match template `labels`");
        }
        workload::template(&mut errors, &template);
        let pod = template.get("spec");
        let (restart, deadline) = (pod.get("restartPolicy"), pod.get("activeDeadlineSeconds"));
        if restart.text() != "Always" {
            errors.not_supported(&restart, &["Always"]);
        }
        if deadline.present() {
            errors.forbidden(&deadline, "activeDeadlineSeconds in ReplicationController is not Supported");
        }
        errors.done()
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        workload::ReplicaSet.validate_status_update(new, old)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        [workload::name_warnings(new, old), workload::template_warnings(new, old)].concat()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn orphans_dependents(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        workload::ReplicaSet.columns()
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        workload::replica_cells(object, now, label_text(&root.get("spec").get("selector")))
    }
}

/// PodTemplates.
#[derive(Debug, Default)]
pub struct PodTemplate;

impl Strategy for PodTemplate {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = object.pointer_mut("/template/spec") {
            pod::default_spec(spec);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        workload::template(&mut errors, &At::root(object).get("template"));
        errors.done()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let shown = |column: Column| Column { priority: 0, ..column };
        let [names, images] = containers();
        vec![name(), shown(names), shown(images), column("Pod Labels", "string", "Labels of the pods.")]
    }

    fn cells(&self, object: &Value, _now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let template = root.get("template");
        let [names, images] = container_cells(&template);
        let labels = label_text(&template.get("metadata").get("labels"));
        vec![table::name(object), names, images, labels]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{complete, now, shown};

    fn template() -> Value {
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "web:1"}]}})
    }

    fn controller(spec: &Value) -> Value {
        let mut object = json!({
            "apiVersion": "v1", "kind": "ReplicationController",
            "metadata": {"name": "web", "creationTimestamp": "2026-05-01T11:58:00Z"},
            "spec": {"template": template()},
        });
        for (field, value) in spec.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        complete(object)
    }

    #[test]
    fn replication_controllers() {
        let mut object = controller(&json!({}));
        assert_eq!(object["spec"]["replicas"], 1);
        for pointer in ["/spec/selector", "/metadata/labels"] {
            assert_eq!(object.pointer(pointer), Some(&json!({"app": "web"})), "{pointer}");
        }
        assert_eq!(shown(&ReplicationController.validate(&object)), "");
        object["status"] = json!({"replicas": 1});
        let cells = ReplicationController.cells(&object, now());
        let wanted = ["web", "1", "1", "0", "2m", "c", "web:1", "app=web"];
        let cells: Vec<String> =
            cells.iter().map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned)).collect();
        assert_eq!(cells, wanted);
        let mut other = template();
        other["spec"]["restartPolicy"] = "Never".into();
        other["spec"]["activeDeadlineSeconds"] = 5.into();
        for (spec, wrong) in [
            (json!({"replicas": -1}), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
            (json!({"template": null}), "spec.selector: Required value; spec.template: Required value"),
            (
                json!({"selector": {"app": "api"}}),
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ),
            (
                json!({"template": other}),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"; \
                 spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not Supported",
            ),
        ] {
            let text = shown(&ReplicationController.validate(&controller(&spec)));
            assert!(text.starts_with(wrong), "{spec}\n is {text}\nnot {wrong}");
        }
        object["status"] = json!({"replicas": 1, "readyReplicas": 2});
        let text = shown(&ReplicationController.validate_status_update(&object, &object));
        assert!(text.starts_with("status.readyReplicas: Invalid value: 2"), "{text}");
    }

    #[test]
    fn pod_templates() {
        let object = complete(json!({
            "apiVersion": "v1", "kind": "PodTemplate", "template": template(),
            "metadata": {"name": "web", "creationTimestamp": "2026-05-01T11:58:00Z"},
        }));
        assert_eq!(object["template"]["spec"]["restartPolicy"], "Always");
        assert_eq!(shown(&PodTemplate.validate(&object)), "");
        assert_eq!(PodTemplate.cells(&object, now()), ["web", "c", "web:1", "app=web"]);
        let mut bad = object.clone();
        bad["template"]["spec"]["containers"] = json!([]);
        assert!(shown(&PodTemplate.validate(&bad)).starts_with("template.spec.containers: Required value"));
        assert!(PodTemplate.generation_changes(&bad, &object));
    }
}
