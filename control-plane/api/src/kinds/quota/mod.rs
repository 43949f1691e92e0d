//! ResourceQuotas: how much a namespace may have. What objects use ([`usage`]), which of them a quota is about ([`scope`]) and
//! what a write does to it ([`charge`]) are functions of the objects alone; the server and its controllers share them.

pub mod charge;
mod scope;
#[cfg(test)]
mod tests;
pub mod usage;

pub use charge::{Change, Charged, Refusal, charge, recount};
pub use scope::scopes_match;

use super::columns::{age, name};
use crate::field::FieldError;
use crate::resource::{Column, Strategy};
use crate::table::{self, column};
use crate::validation::resources::{amount, is_quota_resource, resource_name};
use crate::validation::{At, Errors, IMMUTABLE};
use serde_json::Value;
use std::collections::BTreeSet;

/// ResourceQuotas.
#[derive(Debug, Default)]
pub struct ResourceQuota;

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
/// Scopes that a selector can only ask the existence of.
const PLAIN: &[&str] =
    &["BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "Terminating"];
/// What cannot both be said of a pod.
const CONFLICTS: &[[&str; 2]] = &[["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

/// Names and amounts in `hard` or `used`.
fn check_amounts(errors: &mut Errors, map: &At<'_, '_>) {
    for (name, value) in map.entries() {
        resource_name(errors, &value, name);
        if !is_quota_resource(name) {
            let why = "must be a standard resource for quota";
            errors.push(FieldError::invalid(value.path(), name.into(), why));
        }
        amount(errors, &value, name);
    }
}

/// Whether a scope goes with a resource.
fn fits(scope: &str, resource: &str) -> bool {
    let compute = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"]
        .contains(&resource);
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ if SCOPES.contains(&scope) => resource == "pods" || compute,
        _ => true,
    }
}

/// How often a scope does not go with a resource of the quota.
fn misfits(hard: &At<'_, '_>, scope: &str) -> usize {
    // Counts of objects and resources of devices are no standard resources.
    hard.entries().filter(|(name, _)| !name.contains('/') && !fits(scope, name)).count()
}

fn check_scopes(errors: &mut Errors, spec: &At<'_, '_>) {
    let (scopes, hard) = (spec.get("scopes"), spec.get("hard"));
    for scope in scopes.texts() {
        if !SCOPES.contains(&scope) {
            errors.invalid(&scopes, "unsupported scope");
        }
        for _ in 0..misfits(&hard, scope) {
            errors.invalid(&scopes, "unsupported scope applied to resource");
        }
    }
    let all: BTreeSet<&str> = scopes.texts().collect();
    for _ in CONFLICTS.iter().filter(|pair| pair.iter().all(|scope| all.contains(scope))) {
        errors.invalid(&scopes, "conflicting scopes");
    }
}

fn check_selector(errors: &mut Errors, spec: &At<'_, '_>) {
    let (selector, hard) = (spec.get("scopeSelector"), spec.get("hard"));
    let expressions = selector.get("matchExpressions");
    let mut all = BTreeSet::new();
    for requirement in expressions.items() {
        let (scope, operator, values) =
            (requirement.get("scopeName"), requirement.get("operator"), requirement.get("values"));
        // Upstream names the list, not its entry.
        let mut say = |field: &'static str, value: Value, why: &str| {
            errors.push(FieldError::invalid(expressions.get(field).path(), value, why));
        };
        if !SCOPES.contains(&scope.text()) {
            say("scopeName", scope.json(), "unsupported scope");
        }
        if PLAIN.contains(&scope.text()) && operator.text() != "Exists" {
            say(
                "operator",
                operator.json(),
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                 ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            );
        }
        match (operator.text(), values.is_empty()) {
            ("In" | "NotIn", true) => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(FieldError::required(expressions.get("values").path(), why));
            }
            ("Exists" | "DoesNotExist", false) => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                say("values", values.json(), why);
            }
            ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => {}
            _ => say("operator", operator.json(), "not a valid selector operator"),
        }
        for _ in 0..misfits(&hard, scope.text()) {
            let why = "unsupported scope applied to resource";
            errors.push(FieldError::invalid(expressions.path(), selector.json(), why));
        }
        all.insert(scope.text());
    }
    for _ in CONFLICTS.iter().filter(|pair| pair.iter().all(|scope| all.contains(scope))) {
        let why = "conflicting scopes";
        errors.push(FieldError::invalid(expressions.path(), spec.get("scopes").json(), why));
    }
}

fn check_status(errors: &mut Errors, object: &Value) {
    let root = At::root(object);
    let status = root.get("status");
    for field in ["hard", "used"] {
        check_amounts(errors, &status.get(field));
    }
}

impl Strategy for ResourceQuota {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        check_amounts(&mut errors, &spec.get("hard"));
        check_scopes(&mut errors, &spec);
        check_selector(&mut errors, &spec);
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new, old) = (At::root(new), At::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        let (scopes, before) = (new.get("scopes"), old.get("scopes"));
        if scopes.texts().collect::<BTreeSet<_>>() != before.texts().collect::<BTreeSet<_>>() {
            errors.invalid(&scopes, IMMUTABLE);
        }
        errors.done()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        check_status(&mut errors, new);
        errors.done()
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Request", "string", "What is used of what may be asked for."),
            column("Limit", "string", "What is used of what limits may be."),
            age(),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let status = root.get("status");
        let used = status.get("used");
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        let text = |value: Option<&Value>| {
            crate::validation::resources::quantity(value).map_or("0".to_owned(), |amount| amount.to_string())
        };
        for (name, hard) in status.get("hard").entries() {
            let shown = format!("{name}: {}/{}", text(used.key(name).value()), text(hard.value()));
            let list = if name.starts_with("limits.") { &mut limits } else { &mut requests };
            list.push(shown);
        }
        vec![
            table::name(object),
            requests.join(", ").into(),
            limits.join(", ").into(),
            table::age(object, now),
        ]
    }
}
