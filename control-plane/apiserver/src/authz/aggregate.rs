//! ClusterRoles whose rules are collected from others by label (`aggregationRule`).

use serde_json::Value;
use skep_api::selector::Requirement;
use skep_api::{LabelSelector, Object};
use std::sync::Arc;

/// The rules an aggregated role should have, by its name, for each that has others: those of every role a selector names, in
/// the order of names, each rule once. `roles` must be all ClusterRoles, in the order of their names.
pub fn due(roles: &[Arc<Object>]) -> Vec<(String, Vec<Value>)> {
    let trees: Vec<(&Arc<Object>, Value)> = roles.iter().map(|r| (r, r.value())).collect();
    let mut out = Vec::new();
    for (role, tree) in &trees {
        let selectors = tree.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array);
        let Some(selectors) = selectors else { continue };
        let mut rules: Vec<Value> = Vec::new();
        for selector in selectors.iter().map(selector) {
            let chosen = trees.iter().filter(|(other, _)| {
                other.meta().name != role.meta().name && selector.matches(&other.meta().labels)
            });
            for rule in chosen.flat_map(|(_, t)| rules_of(t)) {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
        if rules_of(tree) != rules {
            out.push((role.meta().name.to_string(), rules));
        }
    }
    out
}

fn rules_of(role: &Value) -> &[Value] {
    role.get("rules").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A `metav1.LabelSelector`; an operator that is not known matches nothing.
fn selector(tree: &Value) -> LabelSelector {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let mut all = Vec::new();
    for (key, value) in tree.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        all.push(Requirement::In(key.clone(), vec![text(value)]));
    }
    for e in tree.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
        let key = e.get("key").map(text).unwrap_or_default();
        let values = || e.get("values").and_then(Value::as_array).into_iter().flatten().map(text).collect();
        all.push(match e.get("operator").and_then(Value::as_str) {
            Some("In") => Requirement::In(key, values()),
            Some("NotIn") => Requirement::NotIn(key, values()),
            Some("Exists") => Requirement::Exists(key),
            Some("DoesNotExist") => Requirement::DoesNotExist(key),
            _ => Requirement::In(key, Vec::new()),
        });
    }
    LabelSelector(all)
}
