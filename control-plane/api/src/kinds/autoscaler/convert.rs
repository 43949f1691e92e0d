//! HorizontalPodAutoscalers of the first version: what it has no fields for stands in annotations.

use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const ALL: [&str; 4] = [METRICS, CURRENT, BEHAVIOR, CONDITIONS];

/// The kinds of metrics, with the field that holds each.
const SOURCES: [&str; 5] = ["object", "pods", "resource", "containerResource", "external"];

fn take_annotations(object: &mut Value) -> Map<String, Value> {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return Map::new() };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else {
        return Map::new();
    };
    let taken = ALL.iter().filter_map(|key| annotations.remove_entry(*key)).collect();
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    taken
}

fn annotate(object: &mut Value, key: &str, value: Option<&Value>) {
    let Some(value) = value else { return };
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        && let Some(annotations) = metadata.entry("annotations").or_insert_with(|| json!({})).as_object_mut()
    {
        annotations.insert(key.into(), value.to_string().into());
    }
}

fn some(list: Vec<Value>) -> Option<Value> {
    (!list.is_empty()).then(|| list.into())
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn put(map: &mut Map<String, Value>, key: &str, value: Option<&Value>) {
    if let Some(value) = value.filter(|v| !v.is_null()) {
        map.insert(key.into(), value.clone());
    }
}

/// Whether a metric is the share of CPU that the first version has a field for.
fn is_cpu(metric: &Value) -> bool {
    metric.pointer("/resource/name").and_then(Value::as_str) == Some("cpu")
        && metric.get("type").and_then(Value::as_str) == Some("Resource")
}

/// Where the numbers of a metric are: below `target` in what is asked for, below `current` in what is.
#[derive(Clone, Copy)]
struct Side {
    field: &'static str,
    prefix: &'static str,
}

const ASKED: Side = Side { field: "target", prefix: "target" };
const FOUND: Side = Side { field: "current", prefix: "current" };

/// A metric as the first version writes it.
fn old(metric: &Value, side: Side) -> Value {
    let mut out = Map::new();
    put(&mut out, "type", metric.get("type"));
    for name in SOURCES {
        let Some(source) = metric.get(name).filter(|s| !s.is_null()) else { continue };
        let number = |key: &str| source.get(side.field).and_then(|t| t.get(key));
        let named = |key: &str| format!("{}{key}", side.prefix);
        let mut inner = Map::new();
        put(&mut inner, "name", source.get("name"));
        put(&mut inner, "container", source.get("container"));
        put(&mut inner, "metricName", source.pointer("/metric/name"));
        let selector = if name == "external" { "metricSelector" } else { "selector" };
        put(&mut inner, selector, source.pointer("/metric/selector"));
        if name == "object" {
            put(&mut inner, "target", source.get("describedObject"));
            put(&mut inner, "averageValue", number("averageValue"));
            let value = number("value").cloned().unwrap_or_else(|| "0".into());
            inner.insert(named("Value"), value);
        } else {
            put(&mut inner, &named("AverageValue"), number("averageValue"));
            put(&mut inner, &named("AverageUtilization"), number("averageUtilization"));
            put(&mut inner, &named("Value"), number("value"));
            // What is no pointer there is written even where there is none.
            let needed = match (name, side.field) {
                ("external", "current") => Some("Value"),
                ("pods", _) | ("resource" | "containerResource", "current") => Some("AverageValue"),
                _ => None,
            };
            if let Some(key) = needed {
                inner.entry(named(key)).or_insert_with(|| "0".into());
            }
        }
        out.insert(name.into(), Value::Object(inner));
    }
    Value::Object(out)
}

/// A metric of the first version as the second has it.
fn new(metric: &Value, side: Side) -> Value {
    let mut out = Map::new();
    put(&mut out, "type", metric.get("type"));
    for name in SOURCES {
        let Some(source) = metric.get(name).filter(|s| !s.is_null()) else { continue };
        let number = |key: &str| source.get(format!("{}{key}", side.prefix));
        let (mut inner, mut numbers) = (Map::new(), Map::new());
        put(&mut inner, "name", source.get("name"));
        put(&mut inner, "container", source.get("container"));
        if let Some(metric) = source.get("metricName") {
            let mut identifier = Map::from_iter([("name".to_owned(), metric.clone())]);
            let selector = if name == "external" { "metricSelector" } else { "selector" };
            put(&mut identifier, "selector", source.get(selector));
            inner.insert("metric".into(), Value::Object(identifier));
        }
        let average = if name == "object" { source.get("averageValue") } else { number("AverageValue") };
        put(&mut inner, "describedObject", source.get("target").filter(|_| name == "object"));
        put(&mut numbers, "averageValue", average);
        put(&mut numbers, "averageUtilization", number("AverageUtilization"));
        put(&mut numbers, "value", number("Value"));
        if side.field == "target" {
            let zero = numbers.get("value").and_then(Value::as_str) == Some("0");
            if name == "object" && numbers.contains_key("averageValue") && zero {
                numbers.remove("value");
            }
            let has = |key: &str| numbers.contains_key(key);
            let kind = match name {
                "resource" | "containerResource" if has("averageUtilization") => "Utilization",
                "external" if has("value") => "Value",
                "object" if !has("averageValue") => "Value",
                _ => "AverageValue",
            };
            numbers.insert("type".into(), kind.into());
        }
        inner.insert(side.field.into(), Value::Object(numbers));
        out.insert(name.into(), Value::Object(inner));
    }
    Value::Object(out)
}

/// The keys of a structure as Go writes those of a type without names for JSON: with a capital letter; or back.
fn keys(value: &Value, first: fn(char) -> char) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| {
                let mut letters = key.chars();
                let key: String = letters.next().map(first).into_iter().chain(letters).collect();
                (key, keys(value, first))
            })
            .collect(),
        Value::Array(list) => list.iter().map(|value| keys(value, first)).collect(),
        other => other.clone(),
    }
}

/// As the first version shows an autoscaler of the second.
pub(super) fn to_v1(mut object: Value) -> Value {
    take_annotations(&mut object);
    object["apiVersion"] = "autoscaling/v1".into();
    let share = |metric: &&Value| metric.pointer("/resource/target/averageUtilization").is_some();
    let metrics = list(&object, "/spec/metrics");
    let cpu = metrics.iter().filter(|m| is_cpu(m)).find(share);
    let cpu = cpu.and_then(|m| m.pointer("/resource/target/averageUtilization")).cloned();
    let others = metrics.iter().filter(|m| !(is_cpu(m) && share(m))).map(|m| old(m, ASKED)).collect();
    let current = list(&object, "/status/currentMetrics");
    let now = current.iter().filter(|m| is_cpu(m));
    let now = now.filter_map(|m| m.pointer("/resource/current/averageUtilization")).next_back().cloned();
    let current = current.iter().map(|m| old(m, FOUND)).collect();
    let behavior = object.pointer("/spec/behavior").map(|b| keys(b, |c| c.to_ascii_uppercase()));
    let conditions = some(list(&object, "/status/conditions").to_vec());
    annotate(&mut object, METRICS, some(others).as_ref());
    annotate(&mut object, CURRENT, some(current).as_ref());
    annotate(&mut object, BEHAVIOR, behavior.as_ref());
    annotate(&mut object, CONDITIONS, conditions.as_ref());
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("metrics");
        spec.remove("behavior");
        put(spec, "targetCPUUtilizationPercentage", cpu.as_ref());
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("currentMetrics");
        status.remove("conditions");
        put(status, "currentCPUUtilizationPercentage", now.as_ref());
    }
    object
}

/// As the second version has an autoscaler of the first.
pub(super) fn to_v2(mut object: Value) -> Value {
    let told = take_annotations(&mut object);
    let told = |key: &str| -> Option<Value> { serde_json::from_str(told.get(key)?.as_str()?).ok() };
    let all = |key: &str| told(key).and_then(|v| v.as_array().cloned());
    object["apiVersion"] = "autoscaling/v2".into();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let mut metrics: Vec<Value> =
            all(METRICS).unwrap_or_default().iter().map(|m| new(m, ASKED)).collect();
        let share = spec.remove("targetCPUUtilizationPercentage").filter(|v| !v.is_null());
        if share.is_some() || metrics.is_empty() {
            metrics.push(super::cpu(share.unwrap_or_else(|| super::SHARE.into())));
        }
        spec.insert("metrics".into(), metrics.into());
        let behavior = told(BEHAVIOR).filter(|b| b.as_object().is_some_and(|b| !b.is_empty()));
        put(spec, "behavior", behavior.map(|b| keys(&b, |c| c.to_ascii_lowercase())).as_ref());
    }
    let (current, conditions) = (all(CURRENT), all(CONDITIONS));
    let Some(top) = object.as_object_mut() else { return object };
    if !top.contains_key("status") && current.is_none() && conditions.is_none() {
        return object;
    }
    if let Some(status) = top.entry("status").or_insert_with(|| json!({})).as_object_mut() {
        let share = status.remove("currentCPUUtilizationPercentage").filter(|v| !v.is_null());
        let from_field = share.map(|share| {
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": share}}}])
        });
        let current = current.map(|list| list.iter().map(|m| new(m, FOUND)).collect());
        put(status, "currentMetrics", current.or(from_field).as_ref());
        put(status, "conditions", conditions.map(Value::Array).as_ref());
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rich() -> Value {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web", "annotations": {"mine": "stays"}},
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"},
                "minReplicas": 1, "maxReplicas": 5,
                "metrics": [
                    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
                    {"type": "Pods", "pods": {"metric": {"name": "hits", "selector": {"matchLabels": {"a": "b"}}},
                     "target": {"type": "AverageValue", "averageValue": "10"}}},
                    {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s", "apiVersion": "v1"},
                     "metric": {"name": "rate"}, "target": {"type": "Value", "value": "2k"}}},
                    {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "30"}}},
                    {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
                     "target": {"type": "Utilization", "averageUtilization": 40}}},
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}},
                ],
                "behavior": {"scaleUp": {"selectPolicy": "Max", "stabilizationWindowSeconds": 0,
                             "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}},
            },
            "status": {
                "currentReplicas": 2, "desiredReplicas": 3,
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageValue": "5m", "averageUtilization": 7}}}],
                "conditions": [{"type": "AbleToScale", "status": "True", "reason": "Ready"}],
            },
        })
    }

    #[test]
    fn nothing_is_lost_on_the_way_to_the_first_version_and_back() {
        let first = to_v1(rich());
        assert_eq!(first["spec"]["targetCPUUtilizationPercentage"], 60);
        assert_eq!(first["status"]["currentCPUUtilizationPercentage"], 7);
        assert!(first["spec"].get("metrics").is_none() && first["status"].get("conditions").is_none());
        let annotation = |key: &str| first["metadata"]["annotations"][key].as_str().unwrap().to_owned();
        let behavior: Value = serde_json::from_str(&annotation(BEHAVIOR)).unwrap();
        assert_eq!(behavior["ScaleUp"]["Policies"][0]["PeriodSeconds"], 15);
        let metrics: Value = serde_json::from_str(&annotation(METRICS)).unwrap();
        assert_eq!(
            metrics[2]["object"],
            json!({"target": {"kind": "Service", "name": "s", "apiVersion": "v1"}, "metricName": "rate", "targetValue": "2k"})
        );
        assert_eq!(to_v2(first), rich());
    }

    #[test]
    fn what_the_first_version_left_unsaid_is_said_in_the_second() {
        let plain = json!({
            "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 5},
        });
        let second = to_v2(plain.clone());
        assert_eq!(second["spec"]["metrics"], json!([super::super::cpu(80.into())]));
        let mut back = plain;
        back["spec"]["targetCPUUtilizationPercentage"] = 80.into();
        assert_eq!(to_v1(second), back);
        let mut share = back.clone();
        share["spec"]["targetCPUUtilizationPercentage"] = 33.into();
        assert_eq!(to_v1(to_v2(share.clone())), share);
        // What is no JSON in an annotation says nothing.
        back["metadata"]["annotations"] = json!({METRICS: "{"});
        assert_eq!(to_v2(back)["spec"]["metrics"].as_array().unwrap().len(), 1);
    }
}
