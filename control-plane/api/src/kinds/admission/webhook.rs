//! Configurations of webhooks.

use super::{FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION, conditions_of, match_conditions, rule};
use crate::expressions::Expression;
use crate::field::FieldError;
use crate::kinds::columns::{age, name};
use crate::names::{dns1035_label, dns1123_subdomain};
use crate::resource::{Column, Context, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, same, selector};
use serde_json::Value;
use std::collections::BTreeSet;

/// MutatingWebhookConfigurations.
#[derive(Debug, Default)]
pub struct MutatingWebhookConfiguration;

/// ValidatingWebhookConfigurations.
#[derive(Debug, Default)]
pub struct ValidatingWebhookConfiguration;

/// Versions of AdmissionReview that this server could send.
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];
const NO_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
/// Seconds a webhook may be given.
const TIMEOUT_MAX: i64 = 30;

/// What an update need not keep because it was not kept before.
#[derive(Clone, Copy)]
struct Strict {
    side_effects: bool,
    versions: bool,
    unique: bool,
    conditions: bool,
}

const NEW: Strict = Strict { side_effects: true, versions: true, unique: true, conditions: true };

impl Strict {
    fn after(new: &At<'_, '_>, old: &At<'_, '_>) -> Self {
        let mut names = BTreeSet::new();
        let conditions = |list: &At<'_, '_>| -> Vec<Value> {
            list.items().map(|hook| hook.get("matchConditions").json()).collect()
        };
        let (new, old_conditions) = (conditions(new), conditions(old));
        let unchanged = new.len() == old_conditions.len()
            && new.iter().zip(&old_conditions).all(|(a, b)| same(Some(a), Some(b)));
        Strict {
            side_effects: old.items().all(|h| NO_SIDE_EFFECTS.contains(&h.get("sideEffects").text())),
            versions: old.items().all(|hook| {
                let versions = hook.get("admissionReviewVersions");
                versions.is_empty() || versions.texts().any(|v| REVIEW_VERSIONS.contains(&v))
            }),
            unique: old.items().all(|hook| names.insert(hook.get("name").text())),
            conditions: !unchanged,
        }
    }
}

fn check(object: &Value, old: Option<&Value>, mutating: bool) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let root = At::root(object);
    let hooks = root.get("webhooks");
    let strict = match old {
        Some(old) => Strict::after(&hooks, &At::root(old).get("webhooks")),
        None => NEW,
    };
    let mut names = BTreeSet::new();
    for hook in hooks.items() {
        webhook(&mut errors, &hook, strict, mutating);
        let name = hook.get("name");
        if strict.unique && !name.text().is_empty() && !names.insert(name.text()) {
            errors.duplicate(&name);
        }
    }
    errors.done()
}

/// Conditions that an update leaves alone are not looked at again.
fn expressions(new: &Value, old: Option<&Value>) -> Vec<Expression> {
    let root = At::root(new);
    let hooks = root.get("webhooks");
    if old.is_some_and(|old| !Strict::after(&hooks, &At::root(old).get("webhooks")).conditions) {
        return Vec::new();
    }
    hooks.items().flat_map(|hook| conditions_of(&hook.get("matchConditions"), false)).collect()
}

fn webhook(errors: &mut Errors, hook: &At<'_, '_>, strict: Strict, mutating: bool) {
    let name = hook.get("name");
    if name.text().is_empty() {
        errors.required(&name, "");
    } else if let wrong = dns1123_subdomain(name.text(), false)
        && !wrong.is_empty()
    {
        errors.invalid(&name, wrong.join(","));
    } else if name.text().split('.').count() < 3 {
        errors.invalid(&name, "should be a domain with at least three segments separated by dots");
    }
    hook.get("rules").items().for_each(|entry| rule(errors, &entry));
    errors.optional_one_of(&hook.get("failurePolicy"), FAILURE_POLICIES);
    errors.optional_one_of(&hook.get("matchPolicy"), MATCH_POLICIES);
    let effects = hook.get("sideEffects");
    let allowed = if strict.side_effects { NO_SIDE_EFFECTS } else { SIDE_EFFECTS };
    if !effects.present() {
        errors.required(&effects, format!("must specify one of {}", allowed.join(", ")));
    }
    errors.optional_one_of(&effects, allowed);
    let timeout = hook.get("timeoutSeconds");
    if timeout.int().is_some_and(|seconds| !(1..=TIMEOUT_MAX).contains(&seconds)) {
        errors.invalid(&timeout, "the timeout value must be between 1 and 30 seconds");
    }
    for field in ["namespaceSelector", "objectSelector"] {
        selector::validate(errors, &hook.get(field));
    }
    if mutating {
        errors.optional_one_of(&hook.get("reinvocationPolicy"), REINVOCATION);
    }
    client(errors, &hook.get("clientConfig"));
    if strict.conditions {
        match_conditions(errors, &hook.get("matchConditions"));
    }
    review_versions(errors, &hook.get("admissionReviewVersions"), strict.versions);
}

fn review_versions(errors: &mut Errors, list: &At<'_, '_>, known: bool) {
    let all = REVIEW_VERSIONS.join(", ");
    if list.is_empty() {
        return errors.required(list, format!("must specify one of {all}"));
    }
    let mut seen = BTreeSet::new();
    for version in list.items() {
        if !seen.insert(version.text()) {
            errors.invalid(&version, "duplicate version");
            continue;
        }
        errors.text(&version, dns1035_label(version.text(), false));
    }
    if known && !seen.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        errors.invalid(list, format!("must include at least one of {all}"));
    }
}

/// Where a webhook is reached: by URL, or by Service.
pub(in crate::kinds) fn client(errors: &mut Errors, at: &At<'_, '_>) {
    let (url, service) = (at.get("url"), at.get("service"));
    match (url.present(), service.present()) {
        (true, false) => check_url(errors, &url),
        (false, true) => check_service(errors, &service),
        _ => errors.required(at, "exactly one of url or service is required"),
    }
}

fn check_url(errors: &mut Errors, at: &At<'_, '_>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let whole = at.text();
    let mut wrong = |value: &str, why: String| {
        errors.push(FieldError::invalid(at.path(), value.into(), why));
    };
    if whole.chars().any(|c| c.is_control() || c == ' ') {
        return wrong(whole, format!("url must be a valid URL{FORM}"));
    }
    let (rest, fragment) = whole.split_once('#').unwrap_or((whole, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", rest));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or_default() };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if !scheme.eq_ignore_ascii_case("https") {
        wrong(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        wrong("", format!("host must be specified{FORM}"));
    }
    for (part, what) in
        [(user, "user information is"), (fragment, "fragments are"), (query, "query parameters are")]
    {
        if !part.is_empty() {
            wrong(part, format!("{what} not permitted in the URL"));
        }
    }
}

fn check_service(errors: &mut Errors, at: &At<'_, '_>) {
    for field in ["name", "namespace"] {
        let part = at.get(field);
        if part.text().is_empty() {
            errors.required(&part, "");
        }
    }
    let (port, path) = (at.get("port"), at.get("path"));
    if port.int().is_some_and(|number| !(1..=65535).contains(&number)) {
        errors.invalid(&port, "port is not valid: must be between 1 and 65535, inclusive");
    }
    let whole = path.text();
    if matches!(whole, "" | "/") {
        return;
    }
    if whole == "//" {
        return errors.invalid(&path, "segment[0] may not be empty");
    }
    if !whole.starts_with('/') {
        errors.invalid(&path, "must start with a '/'");
    }
    let inner = whole.strip_prefix('/').unwrap_or(whole);
    for (i, step) in inner.strip_suffix('/').unwrap_or(inner).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&path, format!("segment[{i}] may not be empty"));
            continue;
        }
        for message in dns1123_subdomain(step, false) {
            errors.invalid(&path, format!("segment[{i}]: {message}"));
        }
    }
}

fn columns() -> Vec<Column> {
    vec![name(), column("Webhooks", "integer", "How many webhooks it has."), age()]
}

fn cells(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let count = At::root(object).get("webhooks").len();
    vec![table::name(object), count.into(), table::age(object, now)]
}

macro_rules! strategy {
    ($kind:ident, $mutating:expr) => {
        impl Strategy for $kind {
            fn prepare_create(&self, _object: &mut Value, _context: &Context<'_>) {}

            fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

            fn validate_create(&self, object: &Value) -> Vec<FieldError> {
                check(object, None, $mutating)
            }

            fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
                check(new, Some(old), $mutating)
            }

            fn expressions(&self, new: &Value, old: Option<&Value>) -> Vec<Expression> {
                expressions(new, old)
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
    };
}

strategy!(MutatingWebhookConfiguration, true);
strategy!(ValidatingWebhookConfiguration, false);
