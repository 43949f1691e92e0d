//! PodDisruptionBudgets (`pkg/apis/policy`, `pkg/registry/policy`), and what they say about evictions.

pub mod budget;

use super::columns::{age, count, name};
use super::workload;
use crate::field::FieldError;
use crate::resource::{Column, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, conditions, selector};
use serde_json::Value;

/// What may be done about pods that are not healthy.
const POLICIES: &[&str] = &["AlwaysAllow", "IfHealthyBudget"];

/// PodDisruptionBudgets.
#[derive(Debug, Default)]
pub struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        let (least, most) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
        if least.present() && most.present() {
            errors.invalid(&spec, "minAvailable and maxUnavailable cannot be both set");
        }
        for amount in [&least, &most].into_iter().filter(|amount| amount.present()) {
            workload::number_or_percent(&mut errors, amount);
            if workload::above_all(amount) {
                errors.invalid(amount, "must not be greater than 100%");
            }
        }
        selector::validate(&mut errors, &spec.get("selector"));
        errors.optional_one_of(&spec.get("unhealthyPodEvictionPolicy"), POLICIES);
        errors.done()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(new);
        let status = root.get("status");
        conditions(&mut errors, &status.get("conditions"));
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            errors.not_negative(&status.get(field));
        }
        errors.done()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Min Available", "string", "The minimum number of pods that must be available."),
            column("Max Unavailable", "string", "The maximum number of pods that may be unavailable."),
            column(
                "Allowed Disruptions",
                "integer",
                "Calculated number of pods that may be disrupted at this time.",
            ),
            age(),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let (spec, status) = (root.get("spec"), root.get("status"));
        let amount = |field: &str| match spec.get(field).value() {
            None => "N/A".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        vec![
            table::name(object),
            amount("minAvailable").into(),
            amount("maxUnavailable").into(),
            count(&status.get("disruptionsAllowed")),
            table::age(object, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{complete, now, shown};
    use serde_json::json;

    fn budget(spec: &Value) -> Value {
        complete(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": spec,
            "metadata": {"name": "pdb", "creationTimestamp": "2026-05-01T11:58:00Z"},
        }))
    }

    #[test]
    fn budgets_are_checked() {
        for (spec, wrong) in [
            (json!({"minAvailable": "50%", "selector": {}}), ""),
            (json!({"maxUnavailable": 0, "unhealthyPodEvictionPolicy": "AlwaysAllow"}), ""),
            (
                json!({"minAvailable": 1, "maxUnavailable": 1}),
                "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set",
            ),
            (
                json!({"minAvailable": -1}),
                "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"maxUnavailable": "101%"}),
                "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
            (
                json!({"unhealthyPodEvictionPolicy": "Never"}),
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
            ),
        ] {
            assert_eq!(shown(&PodDisruptionBudget.validate(&budget(&spec))), wrong, "{spec}");
        }
        let mut object = budget(&json!({"maxUnavailable": "10%"}));
        object["status"] =
            json!({"disruptionsAllowed": -1, "conditions": [{"type": "Ready", "status": "Maybe"}]});
        let text = shown(&PodDisruptionBudget.validate_status_update(&object, &object));
        assert!(text.contains("status.conditions[0].status") && text.contains("status.disruptionsAllowed"));
        object["status"] = json!({"disruptionsAllowed": 2});
        assert_eq!(
            PodDisruptionBudget.cells(&object, now()),
            [json!("pdb"), json!("N/A"), json!("10%"), json!(2), json!("2m")]
        );
    }
}
