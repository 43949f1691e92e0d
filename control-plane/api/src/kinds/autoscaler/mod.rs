//! HorizontalPodAutoscalers, served in two versions over the second's form.

mod convert;
mod print;
mod validate;

use super::columns::{age, name};
use crate::field::FieldError;
use crate::resource::{Column, GroupResource, GroupVersionKind, Pure, Stored, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors};
use convert::{to_v1, to_v2};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Per cent of the CPU that pods asked for, where nothing is said.
const SHARE: i64 = 80;

/// The metric that holds a share of CPU.
fn cpu(share: Value) -> Value {
    json!({"type": "Resource", "resource": {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": share},
    }})
}

/// The first version lies in the form of the second.
pub(super) fn stored() -> Stored {
    let pure = Pure { to_served: to_v1, to_stored: to_v2 };
    Stored::new(
        GroupResource::new("autoscaling", "horizontalpodautoscalers"),
        GroupVersionKind::new("autoscaling", "v2", "HorizontalPodAutoscaler"),
        Arc::new(pure),
    )
}

/// `autoscaling/v2`.
#[derive(Debug, Default)]
pub struct Autoscaler;

/// `autoscaling/v1`. Its rules are those of the second version, and so are the paths of its errors.
#[derive(Debug, Default)]
pub struct AutoscalerV1;

fn fill(rules: &mut Map<String, Value>, name: &str, usual: Value) {
    let given = rules.entry(name).or_insert_with(|| json!({}));
    if given.is_null() {
        *given = json!({});
    }
    if let (Some(given), Value::Object(usual)) = (given.as_object_mut(), usual) {
        for (key, value) in usual {
            if given.get(&key).is_none_or(Value::is_null) {
                given.insert(key, value);
            }
        }
    }
}

impl Strategy for Autoscaler {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
        if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            spec.insert("metrics".into(), json!([cpu(SHARE.into())]));
        }
        if let Some(behavior) = spec.get_mut("behavior").and_then(Value::as_object_mut) {
            let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
            let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
            let up =
                json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [pods, percent]});
            fill(behavior, "scaleUp", up);
            fill(behavior, "scaleDown", json!({"selectPolicy": "Max", "policies": [percent]}));
        }
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        validate::spec(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validate::spec(new, Some(old))
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(new);
        let status = root.get("status");
        errors.not_negative(&status.get("currentReplicas"));
        errors.not_negative(&status.get("desiredReplicas"));
        errors.done()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Reference", "string", "What is scaled."),
            column("Targets", "string", "What its metrics are, and what they should be."),
            column("MinPods", "string", "The fewest replicas."),
            column("MaxPods", "string", "The most replicas."),
            column("Replicas", "string", "The replicas that there are."),
            age(),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let (spec, status) = (root.get("spec"), root.get("status"));
        let target = spec.get("scaleTargetRef");
        let least = spec.get("minReplicas").int().map_or_else(|| "<unset>".to_owned(), |n| n.to_string());
        vec![
            table::name(object),
            format!("{}/{}", target.get("kind").text(), target.get("name").text()).into(),
            print::metrics(&spec.get("metrics"), &status.get("currentMetrics")).into(),
            least.into(),
            spec.get("maxReplicas").int().unwrap_or(0).into(),
            status.get("currentReplicas").int().unwrap_or(0).into(),
            table::age(object, now),
        ]
    }
}

impl Strategy for AutoscalerV1 {
    fn default(&self, object: &mut Value) {
        // The first version has a field for what the second says where nothing is said.
        if to_v2(object.clone()).pointer("/spec/metrics") == Some(&json!([cpu(SHARE.into())]))
            && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
        {
            spec.insert("targetCPUUtilizationPercentage".into(), SHARE.into());
        }
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        Autoscaler.validate_create(&to_v2(object.clone()))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        Autoscaler.validate_update(&to_v2(new.clone()), &to_v2(old.clone()))
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        Autoscaler.validate_status_update(new, old)
    }

    fn columns(&self) -> Vec<Column> {
        Autoscaler.columns()
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        Autoscaler.cells(&to_v2(object.clone()), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{complete, now, shown};

    fn autoscaler() -> Value {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web", "namespace": "d", "creationTimestamp": "2026-05-01T11:00:00Z"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}, "maxReplicas": 5},
        })
    }

    #[test]
    fn defaults() {
        let plain = complete(autoscaler());
        assert_eq!(plain["spec"]["minReplicas"], 1);
        assert_eq!(plain["spec"]["metrics"], json!([cpu(80.into())]));
        assert!(plain["spec"].get("behavior").is_none());
        let mut some = autoscaler();
        some["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 60}});
        let behavior = complete(some)["spec"]["behavior"].clone();
        assert_eq!(behavior["scaleUp"]["policies"].as_array().unwrap().len(), 2);
        assert_eq!(
            behavior["scaleDown"],
            json!({"stabilizationWindowSeconds": 60, "selectPolicy": "Max",
                   "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]})
        );
    }

    #[test]
    fn what_is_wrong_is_told() {
        let good = complete(autoscaler());
        assert_eq!(Autoscaler.validate_create(&good), []);
        for (pointer, value, wrong) in [
            (
                "/spec/maxReplicas",
                json!(0),
                "spec.maxReplicas: Required value: must be set and greater than 0; spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
            ),
            (
                "/spec/minReplicas",
                json!(0),
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1; spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ),
            (
                "/spec/minReplicas",
                json!(7),
                "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`",
            ),
            (
                "/spec/scaleTargetRef/apiVersion",
                json!("v1"),
                "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
            ),
            (
                "/spec/scaleTargetRef/name",
                json!("a/b"),
                "spec.scaleTargetRef.name: Invalid value: \"a/b\": may not contain '/'",
            ),
            (
                "/spec/metrics/0/resource/target/averageUtilization",
                json!(0),
                "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
            ),
            (
                "/spec/metrics/0/type",
                json!("Pods"),
                "spec.metrics[0].pods: Required value: must populate information for the given metric source",
            ),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value;
            assert_eq!(shown(&Autoscaler.validate_create(&bad)), wrong);
        }
        let mut bad = good.clone();
        bad["spec"]["behavior"] =
            json!({"scaleUp": {"selectPolicy": "x", "policies": [], "stabilizationWindowSeconds": 4000}});
        assert_eq!(
            shown(&Autoscaler.validate_create(&bad)),
            "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600; \
             spec.behavior.scaleUp.selectPolicy: Unsupported value: \"x\": supported values: \"Disabled\", \"Max\", \"Min\"; \
             spec.behavior.scaleUp.policies: Required value: must specify at least one Policy"
        );
        // What was let through once may stay.
        let mut old = good.clone();
        old["spec"]["scaleTargetRef"]["apiVersion"] = "".into();
        assert_eq!(Autoscaler.validate_update(&old, &old), []);
    }

    #[test]
    fn both_versions_print_alike() {
        let mut it = complete(autoscaler());
        it["status"] = json!({"currentReplicas": 2, "currentMetrics": [
            {"type": "Resource", "resource": {"name": "cpu", "current": {"averageValue": "5m", "averageUtilization": 7}}}]});
        let cells = Autoscaler.cells(&it, now());
        assert_eq!(
            cells,
            [
                json!("web"),
                json!("Deployment/web"),
                json!("cpu: 7%/80%"),
                json!("1"),
                json!(5),
                json!(2),
                json!("60m")
            ]
        );
        assert_eq!(AutoscalerV1.cells(&to_v1(it), now()), cells);
    }
}
