//! Who is asked about writes: webhooks and policies (`admissionregistration.k8s.io`). What is said here of rules, selectors
//! and conditions holds for all of them. Which expressions they have is said here; compiling them is for others.

mod binding;
mod policy;
#[cfg(test)]
mod tests;
mod webhook;

pub use binding::{MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBinding};
pub use policy::{MutatingAdmissionPolicy, ValidatingAdmissionPolicy};
pub(super) use webhook::client;
pub use webhook::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};

use crate::expressions::{About, Expression, Wanted};
use crate::names::path_segment;
use crate::validation::{At, Errors, selector, text};
use std::collections::BTreeSet;

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
const REINVOCATION: &[&str] = &["IfNeeded", "Never"];
/// Most conditions of a webhook or policy.
const CONDITIONS_MAX: usize = 64;

/// Refuses a list that says `*` and more.
fn alone(errors: &mut Errors, list: &At<'_, '_>, others: &str) {
    if list.len() > 1 && list.texts().any(|text| text == "*") {
        errors.invalid(list, format!("if '*' is present, must not specify other {others}"));
    }
}

fn operations(errors: &mut Errors, rule: &At<'_, '_>) {
    let list = rule.get("operations");
    if list.is_empty() {
        errors.required(&list, "");
    }
    alone(errors, &list, "operations");
    for operation in list.items().filter(|operation| !OPERATIONS.contains(&operation.text())) {
        errors.not_supported(&operation, OPERATIONS);
    }
}

/// Operations, groups, versions, resources and scope.
fn rule(errors: &mut Errors, rule: &At<'_, '_>) {
    operations(errors, rule);
    for (field, others) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let list = rule.get(field);
        if list.is_empty() {
            errors.required(&list, "");
        }
        alone(errors, &list, others);
    }
    for version in rule.get("apiVersions").items().filter(|version| version.text().is_empty()) {
        errors.required(&version, "");
    }
    resources(errors, &rule.get("resources"));
    errors.optional_one_of(&rule.get("scope"), &["*", "Cluster", "Namespaced"]);
}

fn resources(errors: &mut Errors, list: &At<'_, '_>) {
    if list.is_empty() {
        errors.required(list, "");
    }
    let (mut wholes, mut parts) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    for entry in list.items() {
        let both = entry.text();
        if both.is_empty() {
            errors.required(&entry, "");
            continue;
        }
        let Some((resource, part)) = both.split_once('/') else {
            plain = both != "*";
            continue;
        };
        if wholes.contains(resource) {
            errors.invalid(&entry, format!("if '{resource}/*' is present, must not specify {both}"));
        }
        if parts.contains(part) {
            errors.invalid(&entry, format!("if '*/{part}' is present, must not specify {both}"));
        }
        if part == "*" {
            wholes.insert(resource);
        }
        if resource == "*" {
            parts.insert(part);
        }
    }
    let has = |wanted: &str| list.texts().any(|text| text == wanted);
    if list.len() > 1 && has("*/*") {
        errors.invalid(list, "if '*/*' is present, must not specify other resources");
    }
    if plain && has("*") {
        errors.invalid(list, "if '*' is present, must not specify other resources without subresources");
    }
}

fn match_conditions(errors: &mut Errors, list: &At<'_, '_>) {
    if list.len() > CONDITIONS_MAX {
        errors.push(crate::FieldError::too_many(list.path(), list.len(), CONDITIONS_MAX));
    }
    let mut names = BTreeSet::new();
    for condition in list.items() {
        let (name, expression) = (condition.get("name"), condition.get("expression"));
        if expression.text().trim().is_empty() {
            errors.required(&expression, "");
        }
        errors.required_text(&name, text::qualified_name);
        if !name.text().is_empty() && !names.insert(name.text()) {
            errors.duplicate(&name);
        }
    }
}

/// The expressions of conditions.
fn conditions_of(list: &At<'_, '_>, params: bool) -> Vec<Expression> {
    let about = About::Request { params, variables: None };
    list.items()
        .filter_map(|condition| Expression::of(&condition.get("expression"), &about, Wanted::Bool))
        .collect()
}

/// What a policy or binding is about.
fn match_resources(errors: &mut Errors, at: &At<'_, '_>) {
    errors.one_of(&at.get("matchPolicy"), MATCH_POLICIES);
    for field in ["namespaceSelector", "objectSelector"] {
        let chosen = at.get(field);
        if !chosen.present() {
            errors.required(&chosen, "");
        }
        selector::validate(errors, &chosen);
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for named in at.get(field).items() {
            let mut names = BTreeSet::new();
            for name in named.get("resourceNames").items() {
                errors.text(&name, path_segment(name.text(), false));
                if !names.insert(name.text()) {
                    errors.duplicate(&name);
                }
            }
            rule(errors, &named);
        }
    }
}

/// Refuses deletions, which cannot be changed.
fn mutable_operations(errors: &mut Errors, at: &At<'_, '_>) {
    let rules = at.get("resourceRules");
    let place = rules.get("operations");
    for rule in rules.items() {
        for operation in rule.get("operations").texts() {
            let known = ["*", "CONNECT", "CREATE", "UPDATE"];
            if !known.contains(&operation) {
                errors.push(crate::FieldError::not_supported(place.path(), operation.into(), &known));
            }
        }
    }
}
