//! LimitRanges: what containers, pods and claims of a namespace may ask for, and what they get unasked.

use crate::field::FieldError;
use crate::quantity::Quantity;
use crate::resource::Strategy;
use crate::validation::resources::{container_resource_name, may_overcommit, quantity, resource_name};
use crate::validation::{At, Errors, text};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// LimitRanges.
#[derive(Debug, Default)]
pub struct LimitRange;

/// Kinds of limits that need no domain.
const TYPES: &[&str] = &["Container", "PersistentVolumeClaim", "Pod"];
/// The maps of a limit.
const MAPS: &[&str] = &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

/// Puts entries of `from` into `into` where it has none of that name.
fn fill(limit: &mut Map<String, Value>, into: &str, from: &str) {
    let Some(source) = limit.get(from).and_then(Value::as_object).cloned() else { return };
    let target = limit.entry(into).or_insert(Value::Null);
    if target.is_null() {
        *target = Value::Object(Map::new());
    }
    if let Some(target) = target.as_object_mut() {
        for (name, amount) in source {
            target.entry(name).or_insert(amount);
        }
    }
}

impl Strategy for LimitRange {
    /// What a container gets unasked follows from what it may have at most, and what it asks for from that.
    fn default(&self, object: &mut Value) {
        let limits = object.pointer_mut("/spec/limits").and_then(Value::as_array_mut);
        for limit in limits.into_iter().flatten().filter_map(Value::as_object_mut) {
            if limit.get("type").and_then(Value::as_str) == Some("Container") {
                fill(limit, "default", "max");
                fill(limit, "defaultRequest", "default");
                fill(limit, "defaultRequest", "min");
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        let limits = spec.get("limits");
        let mut types = BTreeSet::new();
        for limit in limits.items() {
            let kind = limit.get("type");
            let wrong = text::qualified_name(kind.text());
            if wrong.is_empty() && !kind.text().contains('/') && !TYPES.contains(&kind.text()) {
                errors.invalid(&kind, "must be a standard limit type or fully qualified");
            }
            errors.text(&kind, wrong);
            if !types.insert(kind.text()) {
                errors.duplicate(&kind);
            }
            check_limit(&mut errors, &limit, kind.text());
        }
        errors.done()
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<crate::resource::Column> {
        vec![super::columns::name(), super::columns::created_at()]
    }

    fn cells(&self, object: &Value, _now: jiff::Timestamp) -> Vec<Value> {
        let created = object.pointer("/metadata/creationTimestamp").cloned().unwrap_or_else(|| "".into());
        vec![crate::table::name(object), created]
    }
}

fn check_limit(errors: &mut Errors, limit: &At<'_, '_>, kind: &str) {
    let name_rule = if matches!(kind, "Pod" | "Container") { container_resource_name } else { resource_name };
    let mut names = BTreeSet::new();
    for &field in MAPS {
        let map = limit.get(field);
        if kind == "Pod" && field.starts_with("default") {
            if !map.is_empty() {
                errors.forbidden(&map, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, amount) in map.entries() {
            name_rule(errors, &amount, name);
            names.insert(name);
        }
    }
    let (max, min) = (limit.get("max"), limit.get("min"));
    if kind == "PersistentVolumeClaim" && !max.key("storage").present() && !min.key("storage").present() {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&limit.get("limits"), why);
    }
    for name in names {
        compare(errors, limit, name, kind == "Pod");
    }
}

/// The rules between the five amounts of one resource.
fn compare(errors: &mut Errors, limit: &At<'_, '_>, name: &str, of_pod: bool) {
    let (min, max, ratio) = (limit.get("min"), limit.get("max"), limit.get("maxLimitRequestRatio"));
    let (default, request) = (limit.get("default"), limit.get("defaultRequest"));
    let (min, max, ratio) = (min.key(name), max.key(name), ratio.key(name));
    let (default, request) = (default.key(name), request.key(name));
    let amount = |at: &At<'_, '_>| quantity(at.value());
    let unasked = |at: &At<'_, '_>| amount(at).filter(|_| !of_pod);
    let (least, most, factor) = (amount(&min), amount(&max), amount(&ratio));
    let (given, asked) = (unasked(&default), unasked(&request));
    let mut ordered =
        |low: Option<Quantity>, high: Option<Quantity>, at: &At<'_, '_>, shown: bool, words: [&str; 2]| {
            if let (Some(low), Some(high)) = (low, high)
                && low > high
            {
                let value = if shown { low } else { high };
                let why = format!("{} {low} is greater than {} {high}", words[0], words[1]);
                errors.push(FieldError::invalid(at.path(), value.to_string().into(), why));
            }
        };
    ordered(least, most, &min, true, ["min value", "max value"]);
    ordered(least, asked, &request, false, ["min value", "default request value"]);
    ordered(asked, most, &request, true, ["default request value", "max value"]);
    ordered(asked, given, &request, true, ["default request value", "default limit value"]);
    ordered(least, given, &default, true, ["min value", "default value"]);
    ordered(given, most, &default, false, ["default value", "max value"]);
    if let Some(factor) = factor {
        if factor < Quantity::from_milli(1000) {
            errors.invalid(&ratio, format!("ratio {factor} is less than 1"));
        }
        if let (Some(least), Some(most)) = (least, most) {
            let range = most.as_f64() / least.as_f64();
            if factor.as_f64() > range {
                errors.invalid(&ratio, format!("ratio {factor} is greater than max/min = {range:.6}"));
            }
        }
    }
    if let (Some(given), Some(asked)) = (given, asked)
        && given != asked
        && !may_overcommit(name)
    {
        errors.invalid(
            &request,
            format!("default value {given} must equal to defaultRequest value {asked} in {name}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{complete, shown};
    use serde_json::json;

    fn range(limit: Value) -> Value {
        complete(
            json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [limit]}}),
        )
    }

    #[test]
    fn what_is_given_unasked_follows_from_the_bounds() {
        let range =
            range(json!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Mi"}}));
        let limit = &range["spec"]["limits"][0];
        assert_eq!(limit["default"], json!({"cpu": "2"}));
        assert_eq!(limit["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
        let pods = super::tests::range(json!({"type": "Pod", "max": {"cpu": "2"}}));
        assert!(pods["spec"]["limits"][0].get("default").is_none());
    }

    #[test]
    fn limits_are_checked() {
        for (limit, wrong) in [
            (json!({"type": "Pod", "max": {"cpu": "2"}}), ""),
            (json!({"type": "example.com/thing", "max": {"pods": "2"}}), ""),
            (
                json!({"type": "Thing"}),
                "spec.limits[0].type: Invalid value: \"Thing\": must be a standard limit type or fully qualified",
            ),
            (
                json!({"type": "Pod", "default": {"cpu": "2"}}),
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
            ),
            (
                json!({"type": "Pod", "max": {"pods": "2"}}),
                "spec.limits[0].max[pods]: Invalid value: \"pods\": must be a standard resource for containers",
            ),
            (
                json!({"type": "PersistentVolumeClaim"}),
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ),
            (
                json!({"type": "Pod", "min": {"cpu": "3"}, "max": {"cpu": "2"}}),
                "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2",
            ),
            (
                json!({"type": "Container", "default": {"cpu": "3"}, "max": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}}),
                "spec.limits[0].default[cpu]: Invalid value: \"2\": default value 3 is greater than max value 2",
            ),
            (
                json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}}),
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default limit value 1",
            ),
            (
                json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}}),
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
            ),
            (
                json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "5"}, "min": {"cpu": "1"}, "max": {"cpu": "2"}}),
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"5\": ratio 5 is greater than max/min = 2.000000",
            ),
            (
                json!({"type": "Container", "default": {"example.com/gpu": "2"}, "defaultRequest": {"example.com/gpu": "1"}}),
                "spec.limits[0].defaultRequest[example.com/gpu]: Invalid value: \"1\": default value 2 must equal to \
                 defaultRequest value 1 in example.com/gpu",
            ),
        ] {
            assert_eq!(shown(&LimitRange.validate(&range(limit.clone()))), wrong, "{limit}");
        }
        let twice = json!({"spec": {"limits": [{"type": "Pod"}, {"type": "Pod"}]}});
        assert_eq!(shown(&LimitRange.validate(&twice)), "spec.limits[1].type: Duplicate value: \"Pod\"");
    }
}
