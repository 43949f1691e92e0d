//! Bindings: where a policy counts, and with which parameters.

use super::{match_resources, mutable_operations};
use crate::field::FieldError;
use crate::kinds::columns::{age, name};
use crate::names::{dns1123_subdomain, path_segment};
use crate::resource::{Column, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, selector};
use serde_json::Value;
use std::collections::BTreeSet;

/// ValidatingAdmissionPolicyBindings.
#[derive(Debug, Default)]
pub struct ValidatingAdmissionPolicyBinding;

/// MutatingAdmissionPolicyBindings.
#[derive(Debug, Default)]
pub struct MutatingAdmissionPolicyBinding;

const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];

fn common(errors: &mut Errors, spec: &At<'_, '_>) {
    errors.required_text(&spec.get("policyName"), |name| dns1123_subdomain(name, false));
    let (params, about) = (spec.get("paramRef"), spec.get("matchResources"));
    if params.present() {
        param_ref(errors, &params);
    }
    if about.present() {
        match_resources(errors, &about);
    }
}

fn param_ref(errors: &mut Errors, at: &At<'_, '_>) {
    let (name, chosen) = (at.get("name"), at.get("selector"));
    errors.optional_text(&name, |name| path_segment(name, false));
    selector::validate(errors, &chosen);
    match (name.text().is_empty(), chosen.present()) {
        (false, true) => {
            for place in [&name, &chosen] {
                errors.forbidden(place, "name and selector are mutually exclusive");
            }
        }
        (true, false) => errors.required(at, "one of name or selector must be specified"),
        _ => {}
    }
    errors.one_of(&at.get("parameterNotFoundAction"), &["Deny", "Allow"]);
}

fn columns() -> Vec<Column> {
    vec![
        name(),
        column("PolicyName", "string", "Which policy is bound."),
        column("ParamRef", "string", "Which objects its parameters are."),
        age(),
    ]
}

fn cells(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let root = At::root(object);
    let spec = root.get("spec");
    let params = spec.get("paramRef");
    let (name, namespace) = (params.get("name").text(), params.get("namespace").text());
    let shown = match (name, namespace) {
        ("", _) if params.get("selector").present() => selector::format(params.get("selector").value()),
        ("", _) => "<unset>".into(),
        // Whether the parameters live in namespaces cannot be told from here.
        (name, "") => format!("*/{name}"),
        (name, namespace) => format!("{namespace}/{name}"),
    };
    vec![table::name(object), spec.get("policyName").text().into(), shown.into(), table::age(object, now)]
}

impl Strategy for ValidatingAdmissionPolicyBinding {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        common(&mut errors, &spec);
        let actions = spec.get("validationActions");
        let mut seen = BTreeSet::new();
        for action in actions.items() {
            if !ACTIONS.contains(&action.text()) {
                errors.not_supported(&action, ACTIONS);
            }
            if !seen.insert(action.text()) {
                errors.duplicate(&action);
            }
        }
        if seen.contains("Deny") && seen.contains("Warn") {
            let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                       response and headers serves no purpose)";
            errors.invalid(&actions, why);
        }
        if seen.is_empty() {
            errors.required(&actions, "at least one validation action is required");
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
        columns()
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        cells(object, now)
    }
}

impl Strategy for MutatingAdmissionPolicyBinding {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        common(&mut errors, &spec);
        mutable_operations(&mut errors, &spec.get("matchResources"));
        errors.done()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        columns()
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        cells(object, now)
    }
}
