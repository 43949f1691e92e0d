//! Amounts of resources, and what a pod asks for in all.

use serde_json::Value;
use skep_api::quantity::Quantity;
use std::collections::BTreeMap;

/// Amounts by resource name: `cpu` in thousandths of a core, all else in units (bytes, pods, devices).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources(BTreeMap<String, i64>);

/// What a pod without a request counts as when nodes are scored (`DefaultMilliCPURequest`, `DefaultMemoryRequest`).
const ASSUMED: &[(&str, i64)] = &[("cpu", 100), ("memory", 200 << 20)];

impl Resources {
    /// Reads a map of quantities; one that is broken counts as zero.
    pub fn read(map: &BTreeMap<String, String>) -> Self {
        let amount = |name: &str, text: &str| {
            let quantity = Quantity::parse(text).unwrap_or_default();
            if name == "cpu" { quantity.milli_value() } else { quantity.value() }
        };
        Resources(map.iter().map(|(name, text)| (name.clone(), amount(name, text))).collect())
    }

    fn from_value(value: Option<&Value>) -> Self {
        let pairs = value.and_then(Value::as_object).into_iter().flatten();
        let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        Resources::read(&pairs.map(|(k, v)| (k.clone(), text(v))).collect())
    }

    /// The amount of one resource.
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Names with their amounts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// Adds amounts.
    pub fn add(&mut self, other: &Resources) {
        for (name, amount) in &other.0 {
            let entry = self.0.entry(name.clone()).or_insert(0);
            *entry = entry.saturating_add(*amount);
        }
    }

    /// Takes amounts away.
    pub fn sub(&mut self, other: &Resources) {
        for (name, amount) in &other.0 {
            let entry = self.0.entry(name.clone()).or_insert(0);
            *entry = entry.saturating_sub(*amount);
        }
    }

    /// Raises each amount to the other's, where that is more.
    fn max(&mut self, other: &Resources) {
        for (name, amount) in &other.0 {
            let entry = self.0.entry(name.clone()).or_insert(0);
            *entry = (*entry).max(*amount);
        }
    }

    /// The amount a score counts: a pod that asks for nothing still takes something.
    pub fn scored(&self, name: &str) -> i64 {
        let assumed = || ASSUMED.iter().find(|a| a.0 == name).map_or(0, |a| a.1);
        self.0.get(name).copied().unwrap_or_else(assumed)
    }
}

/// What a pod asks for (`resource.PodRequests`): the sum of its containers and sidecars, or the most that an
/// init container needs beside the sidecars started before it; pod-level requests instead, where given; and
/// the overhead of its runtime.
pub fn pod_request(spec: &Value) -> Resources {
    let containers = |key: &str| spec.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let request = |c: &Value| Resources::from_value(c.pointer("/resources/requests"));
    let mut sum = Resources::default();
    for container in containers("containers") {
        sum.add(&request(&container));
    }
    let (mut sidecars, mut initial) = (Resources::default(), Resources::default());
    for container in containers("initContainers") {
        let own = request(&container);
        if container["restartPolicy"] == "Always" {
            sum.add(&own);
            sidecars.add(&own);
            initial.max(&sidecars);
        } else {
            let mut peak = own;
            peak.add(&sidecars);
            initial.max(&peak);
        }
    }
    sum.max(&initial);
    for (name, amount) in Resources::from_value(spec.pointer("/resources/requests")).0 {
        sum.0.insert(name, amount);
    }
    sum.add(&Resources::from_value(spec.get("overhead")));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(cpu: &str, sidecar: bool) -> Value {
        let mut out = json!({"resources": {"requests": {"cpu": cpu, "memory": "1Mi"}}});
        if sidecar {
            out["restartPolicy"] = "Always".into();
        }
        out
    }

    #[test]
    fn containers_add_up_and_init_containers_peak() {
        let spec = json!({
            "containers": [container("100m", false), container("0.2", false)],
            "initContainers": [container("50m", true), container("1", false), container("10m", false)],
            "overhead": {"cpu": "5m"},
        });
        let request = pod_request(&spec);
        assert_eq!(request.get("cpu"), 1055);
        assert_eq!(request.get("memory"), 3 << 20);
        assert_eq!(pod_request(&json!({"containers": [{}]})), Resources::default());
    }

    #[test]
    fn pod_level_requests_win() {
        let spec = json!({"containers": [container("100m", false)], "resources": {"requests": {"cpu": "2"}}});
        assert_eq!(pod_request(&spec).get("cpu"), 2000);
        assert_eq!(pod_request(&spec).get("memory"), 1 << 20);
    }
}
