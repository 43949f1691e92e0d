//! What an autoscaler must be.

use crate::field::FieldError;
use crate::names::{dns1123_label, path_segment};
use crate::quantity::Quantity;
use crate::validation::resources::{container_resource_name, quantity};
use crate::validation::{At, Errors};
use serde_json::Value;

/// Longest period of a policy, and longest window, in seconds.
const PERIOD_MAX: i64 = 1800;
const WINDOW_MAX: i64 = 3600;

/// The kinds of metrics in the order in which their fields are looked at, each with its field.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

/// Which versions a reference may name.
#[derive(Clone, Copy)]
struct Versions {
    /// None at all matters: it was so before.
    any: bool,
    /// The core group is well.
    core: bool,
}

/// Errors of the spec of an object of the second version, given the one before.
pub(super) fn spec(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let root = At::root(object);
    let spec = root.get("spec");
    let (least, most) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    let before = |pointer: &str| old.and_then(|old| old.pointer(pointer));
    let had_zero = before("/spec/minReplicas").and_then(Value::as_i64) == Some(0);
    let lowest = if had_zero { 0 } else { 1 };
    if least.int().is_some_and(|n| n < lowest) {
        errors.invalid(&least, format!("must be greater than or equal to {lowest}"));
    }
    match most.int().unwrap_or(0) {
        0 => errors.required(&most, "must be set and greater than 0"),
        n if n < 0 => errors.invalid(&most, "must be greater than or equal to 1"),
        _ => {}
    }
    if least.int().is_some_and(|n| most.int().unwrap_or(0) < n) {
        errors.invalid(&most, "must be greater than or equal to `minReplicas`");
    }
    let target = spec.get("scaleTargetRef");
    let same = |key: &str| {
        before(&format!("/spec/scaleTargetRef/{key}")).and_then(Value::as_str).unwrap_or_default()
            == target.get(key).text()
    };
    let versions = Versions {
        any: old.is_some() && same("apiVersion") && same("kind"),
        core: target.get("kind").text() == "ReplicationController",
    };
    reference(&mut errors, &target, versions);
    let metrics = spec.get("metrics");
    let old_metrics =
        before("/spec/metrics").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let was_bad = old_metrics.iter().any(|metric| {
        let version = metric.pointer("/object/describedObject/apiVersion").and_then(Value::as_str);
        version_error(version.unwrap_or_default(), Versions { any: false, core: true }).is_some()
    });
    for metric in metrics.items() {
        self::metric(&mut errors, &metric, Versions { any: was_bad, core: true });
    }
    let can_be_zero = metrics.items().any(|m| matches!(m.get("type").text(), "Object" | "External"));
    if least.int() == Some(0) && !can_be_zero {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(&metrics, why);
    }
    let behavior = spec.get("behavior");
    rules(&mut errors, &behavior.get("scaleUp"));
    rules(&mut errors, &behavior.get("scaleDown"));
    errors.done()
}

fn segment(errors: &mut Errors, at: &At<'_, '_>, missing: &str) {
    if at.text().is_empty() {
        errors.required(at, missing);
    } else {
        errors.text(at, path_segment(at.text(), false));
    }
}

fn version_error(version: &str, versions: Versions) -> Option<String> {
    if versions.any {
        return None;
    }
    match version.matches('/').count() {
        0 if !versions.core => Some("apiVersion must specify API group".to_owned()),
        1 if !versions.core && version.starts_with('/') => {
            Some("apiVersion must specify API group".to_owned())
        }
        0 | 1 => None,
        _ => Some(format!("unexpected GroupVersion string: {version}")),
    }
}

fn reference(errors: &mut Errors, at: &At<'_, '_>, versions: Versions) {
    segment(errors, &at.get("kind"), "");
    segment(errors, &at.get("name"), "");
    let version = at.get("apiVersion");
    if let Some(why) = version_error(version.text(), versions) {
        errors.push(FieldError::invalid(version.path(), version.text().into(), why));
    }
}

fn metric(errors: &mut Errors, at: &At<'_, '_>, versions: Versions) {
    let kind = at.get("type");
    if kind.text().is_empty() {
        errors.required(&kind, "must specify a metric source type");
    }
    let known = SOURCES.iter().find(|(name, _)| *name == kind.text());
    if known.is_none() {
        errors.not_supported(&kind, &TYPES);
    }
    let present: Vec<&str> =
        SOURCES.iter().map(|(_, field)| *field).filter(|field| at.get(field).present()).collect();
    if let Some(first) = present.first() {
        source(errors, first, &at.get(first), versions);
    }
    let wanted = match known {
        Some((_, field)) => {
            if !at.get(field).present() {
                errors.required(&at.get(field), "must populate information for the given metric source");
            }
            *field
        }
        None => {
            errors.not_supported(&kind, &TYPES);
            ""
        }
    };
    if present.len() > 1 {
        for field in present.into_iter().filter(|field| *field != wanted) {
            errors.forbidden(&at.get(field), "must populate the given metric source only");
        }
    }
}

fn source(errors: &mut Errors, field: &str, at: &At<'_, '_>, versions: Versions) {
    let target = at.get("target");
    let (value, average) = (target.get("value"), target.get("averageValue"));
    match field {
        "resource" | "containerResource" => {
            let name = at.get("name");
            if name.text().is_empty() {
                errors.required(&name, "must specify a resource name");
            } else if field == "containerResource" {
                container_resource_name(errors, &name, name.text());
            }
            if field == "containerResource" {
                let container = at.get("container");
                if container.text().is_empty() {
                    errors.required(&container, "must specify a container");
                } else {
                    errors.text(&container, dns1123_label(container.text(), false));
                }
            }
            amounts(errors, &target);
            let share = target.get("averageUtilization");
            if !share.present() && !average.present() {
                errors.required(&share, "must set either a target raw value or a target utilization");
            }
            if share.present() && average.present() {
                errors.forbidden(&average, "may not set both a target raw value and a target utilization");
            }
            return;
        }
        "object" => reference(errors, &at.get("describedObject"), versions),
        _ => {}
    }
    let metric = at.get("metric");
    segment(errors, &metric.get("name"), "must specify a metric name");
    amounts(errors, &target);
    let neither = !value.present() && !average.present();
    match field {
        "object" if neither => errors.required(&average, "must set either a target value or averageValue"),
        "external" if neither => {
            errors.required(&average, "must set either a target value for metric or a per-pod target");
        }
        "external" if value.present() && average.present() => {
            errors.forbidden(&value, "may not set both a target value for metric and a per-pod target");
        }
        "pods" if !average.present() => {
            errors.required(&average, "must specify a positive target averageValue");
        }
        _ => {}
    }
}

fn amounts(errors: &mut Errors, at: &At<'_, '_>) {
    let kind = at.get("type");
    if kind.text().is_empty() {
        errors.required(&kind, "must specify a metric target type");
    }
    if !matches!(kind.text(), "Utilization" | "Value" | "AverageValue") {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(kind.path(), kind.text().into(), why));
    }
    for name in ["value", "averageValue"] {
        let amount = at.get(name);
        if quantity(amount.value()).is_some_and(|amount| amount <= Quantity::default()) {
            errors.invalid(&amount, "must be positive");
        }
    }
    let share = at.get("averageUtilization");
    if share.int().is_some_and(|n| n < 1) {
        errors.invalid(&share, "must be greater than 0");
    }
}

fn rules(errors: &mut Errors, at: &At<'_, '_>) {
    if !at.present() {
        return;
    }
    let window = at.get("stabilizationWindowSeconds");
    if window.int().is_some_and(|n| n < 0) {
        errors.invalid(&window, "must be greater than or equal to zero");
    }
    if window.int().is_some_and(|n| n > WINDOW_MAX) {
        errors.invalid(&window, format!("must be less than or equal to {WINDOW_MAX}"));
    }
    errors.optional_one_of(&at.get("selectPolicy"), &["Disabled", "Max", "Min"]);
    let policies = at.get("policies");
    if policies.is_empty() {
        errors.required(&policies, "must specify at least one Policy");
    }
    for policy in policies.items() {
        let kind = policy.get("type");
        if !matches!(kind.text(), "Pods" | "Percent") {
            errors.not_supported(&kind, &["Percent", "Pods"]);
        }
        let (value, period) = (policy.get("value"), policy.get("periodSeconds"));
        for number in [&value, &period] {
            if number.int().unwrap_or(0) <= 0 {
                errors.push(FieldError::invalid(
                    number.path(),
                    number.int().unwrap_or(0).into(),
                    "must be greater than zero",
                ));
            }
        }
        if period.int().is_some_and(|n| n > PERIOD_MAX) {
            errors.invalid(&period, format!("must be less than or equal to {PERIOD_MAX}"));
        }
    }
    let tolerance = at.get("tolerance");
    if quantity(tolerance.value()).is_some_and(|amount| amount < Quantity::default()) {
        errors.invalid(&tolerance, "must be greater than or equal to 0");
    }
}
