//! Policies written as expressions.

use super::{
    FAILURE_POLICIES, REINVOCATION, conditions_of, match_conditions, match_resources, mutable_operations,
};
use crate::expressions::{About, Expression, Wanted};
use crate::field::FieldError;
use crate::kinds::columns::{age, name};
use crate::names::{dns1035_label, dns1123_subdomain, is_cel_keyword};
use crate::resource::{Column, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, same, text};
use serde_json::Value;
use std::collections::BTreeSet;

/// ValidatingAdmissionPolicies.
#[derive(Debug, Default)]
pub struct ValidatingAdmissionPolicy;

/// MutatingAdmissionPolicies.
#[derive(Debug, Default)]
pub struct MutatingAdmissionPolicy;

const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
const ANNOTATIONS_MAX: usize = 20;
/// Most bytes of the expression of an audit annotation.
const ANNOTATION_EXPRESSION_MAX: usize = 5 << 10;
/// What both kinds of policies have.
fn common(errors: &mut Errors, spec: &At<'_, '_>, check_conditions: bool) {
    errors.one_of(&spec.get("failurePolicy"), FAILURE_POLICIES);
    let params = spec.get("paramKind");
    if params.present() {
        param_kind(errors, &params);
    }
    let constraints = spec.get("matchConstraints");
    if constraints.present() {
        match_resources(errors, &constraints);
        let rules = constraints.get("resourceRules");
        if rules.is_empty() {
            errors.required(&rules, "");
        }
    } else {
        errors.required(&constraints, "");
    }
    if check_conditions {
        match_conditions(errors, &spec.get("matchConditions"));
    }
    for variable in spec.get("variables").items() {
        let name = variable.get("name");
        if name.text().trim().is_empty() {
            errors.required(&name, "name is not specified");
        } else if !is_identifier(name.text()) {
            errors.invalid(&name, "must be a valid CEL identifier");
        }
        expression(errors, &variable.get("expression"), "expression is not specified");
    }
}

fn is_identifier(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(word) && !is_cel_keyword(name)
}

fn expression(errors: &mut Errors, at: &At<'_, '_>, why: &str) {
    if at.text().trim().is_empty() {
        errors.required(at, why);
    }
}

fn param_kind(errors: &mut Errors, at: &At<'_, '_>) {
    let (version, kind) = (at.get("apiVersion"), at.get("kind"));
    match version.text().split('/').collect::<Vec<_>>()[..] {
        [""] => errors.required(&version, ""),
        ["", ""] => errors.invalid(&version, "version must be specified"),
        [only] => short_version(errors, &version, only),
        [group, number] => {
            let wrong = if group.is_empty() { Vec::new() } else { dns1123_subdomain(group, false) };
            if !wrong.is_empty() {
                errors.push(FieldError::invalid(version.path(), group.into(), wrong.join(",")));
            }
            if number.is_empty() {
                errors.invalid(&version, "version must be specified");
            } else {
                short_version(errors, &version, number);
            }
        }
        _ => errors.invalid(&version, format!("unexpected GroupVersion string: {}", version.text())),
    }
    let wrong = dns1035_label(&kind.text().to_lowercase(), false);
    if kind.text().is_empty() {
        errors.required(&kind, "");
    } else if !wrong.is_empty() {
        errors
            .invalid(&kind, format!("may have mixed case, but should otherwise match: {}", wrong.join(",")));
    }
}

fn short_version(errors: &mut Errors, at: &At<'_, '_>, version: &str) {
    let wrong = dns1035_label(version, false);
    if !wrong.is_empty() {
        errors.push(FieldError::invalid(at.path(), version.into(), wrong.join(",")));
    }
}

/// Conditions that an update leaves alone are not looked at again.
fn conditions_changed(new: &Value, old: Option<&Value>) -> bool {
    let field = |tree: &Value, field: &str| tree.pointer(&format!("/spec/{field}")).cloned();
    let unchanged = |old: &Value, name: &str| same(field(new, name).as_ref(), field(old, name).as_ref());
    !old.is_some_and(|old| unchanged(old, "paramKind") && unchanged(old, "matchConditions"))
}

/// Expressions of conditions and variables, and what those after them may name.
fn expressions(new: &Value, old: Option<&Value>) -> (Vec<Expression>, About) {
    let root = At::root(new);
    let spec = root.get("spec");
    let params = spec.get("paramKind").present();
    let mut all = Vec::new();
    if conditions_changed(new, old) {
        all = conditions_of(&spec.get("matchConditions"), params);
    }
    let list = spec.get("variables");
    let declared: Vec<(String, String)> = list
        .items()
        .map(|variable| {
            (variable.get("name").text().to_owned(), variable.get("expression").text().to_owned())
        })
        .collect();
    let seeing = |upto: usize| About::Request {
        params,
        variables: (!declared.is_empty()).then(|| declared.iter().take(upto).cloned().collect()),
    };
    let variables = list.items().enumerate();
    all.extend(
        variables.filter_map(|(at, variable)| {
            Expression::of(&variable.get("expression"), &seeing(at), Wanted::Any)
        }),
    );
    (all, seeing(declared.len()))
}

fn expressions_of_validating(new: &Value, old: Option<&Value>) -> Vec<Expression> {
    let (mut all, about) = expressions(new, old);
    let root = At::root(new);
    let spec = root.get("spec");
    for validation in spec.get("validations").items() {
        all.extend(Expression::of(&validation.get("expression"), &about, Wanted::Bool));
        all.extend(Expression::of(&validation.get("messageExpression"), &about, Wanted::Text));
    }
    for annotation in spec.get("auditAnnotations").items() {
        all.extend(Expression::of(&annotation.get("valueExpression"), &about, Wanted::TextOrNull));
    }
    all
}

fn check_validating(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let root = At::root(object);
    let (metadata, spec) = (root.get("metadata"), root.get("spec"));
    common(&mut errors, &spec, conditions_changed(object, old));
    let (validations, annotations) = (spec.get("validations"), spec.get("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.required(&validations, why);
        errors.required(&annotations, why);
        return errors.done();
    }
    validations.items().for_each(|validation| check_validation(&mut errors, &validation));
    if annotations.len() > ANNOTATIONS_MAX {
        errors.invalid(&annotations, format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations"));
    }
    let mut keys = BTreeSet::new();
    let policy = metadata.get("name").text();
    for annotation in annotations.items() {
        let (key, value) = (annotation.get("key"), annotation.get("valueExpression"));
        let full = format!("{policy}/{}", key.text());
        for message in text::qualified_name(&full) {
            errors.push(FieldError::invalid(key.path(), full.as_str().into(), message));
        }
        expression(&mut errors, &value, "valueExpression is not specified");
        if value.text().trim().len() > ANNOTATION_EXPRESSION_MAX {
            errors.required(&value, format!("must not exceed {ANNOTATION_EXPRESSION_MAX} bytes in length"));
        }
        if !keys.insert(key.text()) {
            errors.duplicate(&key);
        }
    }
    errors.done()
}

fn check_validation(errors: &mut Errors, at: &At<'_, '_>) {
    expression(errors, &at.get("expression"), "expression is not specified");
    let message = at.get("message");
    for given in [&message, &at.get("messageExpression")] {
        if !given.text().is_empty() && given.text().trim().is_empty() {
            errors.invalid(given, "must be non-empty if specified");
        }
    }
    if message.text().trim().contains(['\n', '\r']) {
        errors.invalid(&message, "must not contain line breaks");
    }
    errors.optional_one_of(&at.get("reason"), REASONS);
}

impl Strategy for ValidatingAdmissionPolicy {
    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        check_validating(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        check_validating(new, Some(old))
    }

    fn expressions(&self, new: &Value, old: Option<&Value>) -> Vec<Expression> {
        expressions_of_validating(new, old)
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(new);
        let status = root.get("status");
        let checked = status.get("typeChecking");
        for warning in checked.get("expressionWarnings").items() {
            for field in ["warning", "fieldRef"] {
                expression(&mut errors, &warning.get(field), "");
            }
        }
        crate::validation::conditions(&mut errors, &status.get("conditions"));
        errors.done()
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), column("Validations", "integer", "How many validations it has."), params_column(), age()]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        cells(object, "validations", now)
    }
}

fn params_column() -> Column {
    column("ParamKind", "string", "Which kind of objects its parameters are.")
}

fn cells(object: &Value, counted: &'static str, now: jiff::Timestamp) -> Vec<Value> {
    let root = At::root(object);
    let spec = root.get("spec");
    let params = spec.get("paramKind");
    let shown = if params.present() {
        format!("{}/{}", params.get("apiVersion").text(), params.get("kind").text())
    } else {
        "<unset>".into()
    };
    vec![table::name(object), spec.get(counted).len().into(), shown.into(), table::age(object, now)]
}

fn check_mutating(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let root = At::root(object);
    let spec = root.get("spec");
    common(&mut errors, &spec, conditions_changed(object, old));
    mutable_operations(&mut errors, &spec.get("matchConstraints"));
    let mutations = spec.get("mutations");
    if mutations.is_empty() {
        errors.required(&mutations, "mutations must contain at least one item");
    }
    for mutation in mutations.items() {
        let kind = mutation.get("patchType");
        let (own, other, upper) = match kind.text() {
            "JSONPatch" => ("jsonPatch", "applyConfiguration", "JSONPatch"),
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", "ApplyConfiguration"),
            _ => {
                errors.one_of(&kind, &["ApplyConfiguration", "JSONPatch"]);
                continue;
            }
        };
        let (own, wrong) = (mutation.get(own), mutation.get(other));
        if own.present() {
            expression(&mut errors, &own.get("expression"), "");
        } else {
            errors.required(&own, format!("must be specified when patchType is {upper}"));
        }
        if wrong.present() {
            let why = format!("must not be specified when patchType is {upper}");
            errors.push(FieldError::invalid(wrong.path(), format!("{{{other}}}").into(), why));
        }
    }
    errors.one_of(&spec.get("reinvocationPolicy"), REINVOCATION);
    errors.done()
}

impl Strategy for MutatingAdmissionPolicy {
    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        check_mutating(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        check_mutating(new, Some(old))
    }

    /// Those of mutations are left out: they make objects of types that the compiler does not know.
    fn expressions(&self, new: &Value, old: Option<&Value>) -> Vec<Expression> {
        expressions(new, old).0
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), column("Mutations", "integer", "How many mutations it has."), params_column(), age()]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        cells(object, "mutations", now)
    }
}
