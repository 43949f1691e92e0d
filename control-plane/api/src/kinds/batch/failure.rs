//! When a Job fails or succeeds early: pod failure policy and success policy.

use super::indexes::Indexes;
use crate::field::FieldError;
use crate::validation::{At, Errors, text};
use serde_json::Value;
use std::collections::BTreeSet;

const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const PATTERNS_MAX: usize = 20;
const INDEXES_TEXT_MAX: usize = 64 * 1024;
const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];

fn too_many(errors: &mut Errors, at: &At<'_, '_>, max: usize) {
    if at.len() > max {
        errors.push(FieldError::too_many(at.path(), at.len(), max));
    }
}

/// As [`Errors::one_of`], with what upstream says where there is no value at all.
fn choice(errors: &mut Errors, at: &At<'_, '_>, known: &[&str]) {
    if at.text().is_empty() {
        let list: Vec<String> = known.iter().map(|k| format!("{k:?}")).collect();
        errors.required(at, format!("valid values: [{}]", list.join(" ")));
    } else {
        errors.one_of(at, known);
    }
}

pub(super) fn pod_failure_policy(errors: &mut Errors, spec: &At<'_, '_>) {
    let policy = spec.get("podFailurePolicy");
    let rules = policy.get("rules");
    too_many(errors, &rules, RULES_MAX);
    let template = spec.get("template");
    let pod = template.get("spec");
    let mut names = BTreeSet::new();
    for list in ["containers", "initContainers"] {
        for container in pod.get(list).items() {
            names.insert(container.get("name").text());
        }
    }
    for rule in rules.items() {
        let action = rule.get("action");
        choice(errors, &action, ACTIONS);
        if action.text() == "FailIndex" && !spec.get("backoffLimitPerIndex").present() {
            errors.invalid(&action, "requires the backoffLimitPerIndex to be set");
        }
        let (codes, conditions) = (rule.get("onExitCodes"), rule.get("onPodConditions"));
        if codes.present() {
            exit_codes(errors, &codes, &names);
        }
        too_many(errors, &conditions, PATTERNS_MAX);
        for pattern in conditions.items() {
            let kind = pattern.get("type");
            errors.text(&kind, text::qualified_name(kind.text()));
            choice(errors, &pattern.get("status"), STATUSES);
        }
        match (codes.present(), !conditions.is_empty()) {
            (true, true) => {
                errors.push(FieldError::invalid_unshown(
                    rule.path(),
                    "specifying both OnExitCodes and OnPodConditions is not supported",
                ));
            }
            (false, false) => {
                errors.push(FieldError::invalid_unshown(
                    rule.path(),
                    "specifying one of OnExitCodes and OnPodConditions is required",
                ));
            }
            _ => {}
        }
    }
}

fn exit_codes(errors: &mut Errors, at: &At<'_, '_>, names: &BTreeSet<&str>) {
    let operator = at.get("operator");
    choice(errors, &operator, OPERATORS);
    let container = at.get("containerName");
    if container.present() && !names.contains(container.text()) {
        errors.invalid(&container, "must be one of the container or initContainer names in the pod template");
    }
    let values = at.get("values");
    if values.is_empty() {
        errors.invalid(&values, "at least one value is required");
    }
    too_many(errors, &values, EXIT_CODES_MAX);
    let (mut seen, mut last, mut ordered) = (BTreeSet::new(), i64::MIN, true);
    for value in values.items() {
        let code = value.int().unwrap_or(0);
        if operator.text() == "In" && code == 0 {
            errors.invalid(&value, "must not be 0 for the In operator");
        }
        if !seen.insert(code) {
            errors.duplicate(&value);
        }
        ordered &= last <= code;
        last = code;
    }
    if !ordered {
        errors.invalid(&values, "must be ordered");
    }
}

pub(super) fn success_policy(errors: &mut Errors, spec: &At<'_, '_>) {
    let policy = spec.get("successPolicy");
    let rules = policy.get("rules");
    if rules.is_empty() {
        errors.required(&rules, "at least one rules must be specified when the successPolicy is specified");
    }
    too_many(errors, &rules, RULES_MAX);
    let completions = spec.get("completions").int().unwrap_or(0);
    for rule in rules.items() {
        let (count, list) = (rule.get("succeededCount"), rule.get("succeededIndexes"));
        if !count.present() && !list.present() {
            errors.required(&rule, "at least one of succeededCount or succeededIndexes must be specified");
        }
        let mut total = None;
        if list.present() {
            if list.text().len() > INDEXES_TEXT_MAX {
                errors.push(FieldError::too_long(list.path(), INDEXES_TEXT_MAX));
            }
            let read = Indexes::check(list.text(), completions);
            total = Some(read.as_ref().map_or(0, Indexes::total));
            if let Err(why) = read {
                errors.invalid(&list, format!("error parsing succeededIndexes: {why}"));
            }
        }
        errors.not_negative(&count);
        let Some(wanted) = count.int() else { continue };
        if wanted > completions {
            let why =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.invalid(&count, why);
        }
        if let Some(total) = total.filter(|total| wanted > *total) {
            let why = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(FieldError::invalid(count.path(), Value::from(wanted), why));
        }
    }
}
