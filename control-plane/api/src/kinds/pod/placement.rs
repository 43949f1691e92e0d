//! Rules of where a pod may go: affinity, tolerations, spreading.

use crate::field::FieldError;
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::validation::{At, Errors, selector, text};
use std::collections::BTreeSet;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
/// What a taint does to pods that do not tolerate it.
pub(crate) const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn affinity(errors: &mut Errors, at: &At<'_, '_>) {
    let node = at.get("nodeAffinity");
    let required = node.get(REQUIRED);
    if required.present() {
        node_selector(errors, &required);
    }
    for term in node.get(PREFERRED).items() {
        weight(errors, &term.get("weight"));
        node_selector_term(errors, &term.get("preference"), false);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let at = at.get(kind);
        for term in at.get(REQUIRED).items() {
            pod_affinity_term(errors, &term);
        }
        for term in at.get(PREFERRED).items() {
            weight(errors, &term.get("weight"));
            pod_affinity_term(errors, &term.get("podAffinityTerm"));
        }
    }
}

fn weight(errors: &mut Errors, at: &At<'_, '_>) {
    let weight = at.int().unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(at.path(), weight.into(), "must be in the range 1-100"));
    }
}

/// A selector of nodes: at least one term.
pub(in crate::kinds) fn node_selector(errors: &mut Errors, at: &At<'_, '_>) {
    let terms = at.get("nodeSelectorTerms");
    if terms.is_empty() {
        return errors.required(&terms, "must have at least one node selector term");
    }
    for term in terms.items() {
        node_selector_term(errors, &term, true);
    }
}

fn node_selector_term(errors: &mut Errors, at: &At<'_, '_>, check_values: bool) {
    for requirement in at.get("matchExpressions").items() {
        let (key, operator, values) =
            (requirement.get("key"), requirement.get("operator"), requirement.get("values"));
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors
                    .forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Gt" | "Lt" if values.len() != 1 => {
                errors.required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => errors.invalid(&operator, "not a valid selector operator"),
        }
        errors.text(&key, text::qualified_name(key.text()));
        for value in values.items().filter(|_| check_values) {
            errors.text(&value, text::label_value(value.text()));
        }
    }
    for requirement in at.get("matchFields").items() {
        let (key, operator, values) =
            (requirement.get("key"), requirement.get("operator"), requirement.get("values"));
        match operator.text() {
            "In" | "NotIn" if values.len() != 1 => errors.required(
                &values,
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            ),
            "In" | "NotIn" => {}
            _ => errors.invalid(&operator, "not a valid selector operator"),
        }
        if key.text() == "metadata.name" {
            for value in values.items() {
                errors.text(&value, dns1123_subdomain(value.text(), false));
            }
        } else {
            errors.invalid(&key, "not a valid field selector key");
        }
    }
}

fn pod_affinity_term(errors: &mut Errors, at: &At<'_, '_>) {
    let labels = at.get("labelSelector");
    selector::validate(errors, &labels);
    selector::validate(errors, &at.get("namespaceSelector"));
    for name in at.get("namespaces").texts() {
        for message in dns1123_label(name, false) {
            errors.push(FieldError::invalid(at.path().child("namespace"), name.into(), message));
        }
    }
    label_keys(errors, at, &labels);
    let key = at.get("topologyKey");
    if key.text().is_empty() {
        errors.required(&key, "can not be empty");
    }
    errors.text(&key, text::qualified_name(key.text()));
}

fn label_keys(errors: &mut Errors, at: &At<'_, '_>, labels: &At<'_, '_>) {
    let (same, other) = (at.get("matchLabelKeys"), at.get("mismatchLabelKeys"));
    for keys in [&same, &other] {
        if !keys.is_empty() && !labels.present() {
            errors.forbidden(keys, "must not be specified when labelSelector is not set");
            continue;
        }
        for key in keys.items() {
            errors.text(&key, text::qualified_name(key.text()));
        }
    }
    for key in same.items() {
        if other.texts().any(|k| k == key.text()) {
            errors.invalid(&key, "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
}

pub(in crate::kinds) fn tolerations(errors: &mut Errors, list: &At<'_, '_>) {
    for toleration in list.items() {
        let field = |name: &'static str| toleration.value().and_then(|v| v.get(name));
        let (key, operator) = (toleration.get("key"), toleration.get("operator"));
        let (value, effect) = (toleration.get("value"), toleration.get("effect"));
        errors.optional_text(&key, text::qualified_name);
        if key.text().is_empty() && operator.text() != "Exists" {
            errors.push(FieldError::invalid(
                operator.path(),
                operator.text().into(),
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if field("tolerationSeconds").is_some_and(|s| !s.is_null()) && effect.text() != "NoExecute" {
            errors.push(FieldError::invalid(
                effect.path(),
                effect.text().into(),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        match operator.text() {
            "Equal" | "" => {
                let wrong = text::label_value(value.text());
                if !wrong.is_empty() {
                    errors.push(FieldError::invalid(operator.path(), value.text().into(), wrong.join(";")));
                }
            }
            "Exists" if value.text().is_empty() => {}
            "Exists" => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(operator.path(), value.text().into(), why));
            }
            // Comparing tolerations (`Lt`, `Gt`) are behind a gate that is off.
            "Lt" | "Gt" => errors.not_supported(&operator, &["Equal", "Exists", "Lt", "Gt"]),
            _ => errors.not_supported(&operator, &["Equal", "Exists"]),
        }
        if !effect.text().is_empty() {
            errors.optional_one_of(&effect, EFFECTS);
        }
    }
}

pub(super) fn spread_constraints(errors: &mut Errors, list: &At<'_, '_>) {
    let mut seen = BTreeSet::new();
    let mut repeated = Vec::new();
    for (i, constraint) in list.items().enumerate() {
        let key = (constraint.get("topologyKey").text(), constraint.get("whenUnsatisfiable").text());
        if !seen.insert(key) {
            // Told at the first of them, as upstream looks ahead.
            let first = list
                .items()
                .position(|c| (c.get("topologyKey").text(), c.get("whenUnsatisfiable").text()) == key);
            repeated.push((first.unwrap_or(i), key));
        }
    }
    for (i, (topology, action)) in repeated {
        let path = list.path().index(i).child("{topologyKey, whenUnsatisfiable}");
        errors.push(FieldError::duplicate(path, format!("{{{topology}, {action}}}").into()));
    }
    for constraint in list.items() {
        let (skew, key) = (constraint.get("maxSkew"), constraint.get("topologyKey"));
        positive(errors, &skew);
        if key.text().is_empty() {
            errors.required(&key, "can not be empty");
        }
        let action = constraint.get("whenUnsatisfiable");
        if !matches!(action.text(), "DoNotSchedule" | "ScheduleAnyway") {
            errors.not_supported(&action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        let domains = constraint.get("minDomains");
        if domains.present() {
            positive(errors, &domains);
            if action.text() != "DoNotSchedule" {
                errors.invalid(
                    &domains,
                    format!(
                        "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                        action.text()
                    ),
                );
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            errors.optional_one_of(&constraint.get(policy), &["Honor", "Ignore"]);
        }
        let labels = constraint.get("labelSelector");
        label_keys(errors, &constraint, &labels);
        selector::validate(errors, &labels);
    }
}

fn positive(errors: &mut Errors, at: &At<'_, '_>) {
    let number = at.int().unwrap_or(0);
    if number <= 0 {
        errors.push(FieldError::invalid(at.path(), number.into(), "must be greater than zero"));
    }
}
