//! The quality-of-service class of a pod.

use crate::quantity::Quantity;
use crate::validation::At;
use crate::validation::resources::quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// The resources that make the class.
const COUNTED: &[&str] = &["cpu", "memory"];

type Amounts<'a> = BTreeMap<&'a str, Quantity>;

/// `BestEffort` asks for nothing, `Guaranteed` asks in every container for exactly what it is limited to,
/// `Burstable` is everything else. Requests for the whole pod decide alone where there are any (KEP-2837).
pub fn class(pod: &Value) -> &'static str {
    let root = At::root(pod);
    let spec = root.get("spec");
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut guaranteed = true;
    let mut count = |resources: Option<&Value>| {
        let Some(resources) = resources else {
            guaranteed = false;
            return;
        };
        let get = |kind: &str| resources.get(kind).and_then(Value::as_object).into_iter().flatten();
        let mut limited = 0;
        for (kind, sums) in [("requests", &mut requests), ("limits", &mut limits)] {
            for (name, value) in get(kind) {
                let Some(counted) = COUNTED.iter().find(|c| *c == name) else { continue };
                let Some(amount) = quantity(Some(value)).filter(|q| q.sign() > 0) else { continue };
                limited += usize::from(kind == "limits");
                let sum = sums.entry(counted).or_insert(Quantity::ZERO);
                *sum = sum.add(&amount);
            }
        }
        guaranteed &= limited == COUNTED.len();
    };
    // Empty resources of the pod are none (`resource.IsPodLevelResourcesSet`).
    let some = |r: &&Value| {
        ["requests", "limits"]
            .iter()
            .any(|k| r.get(k).and_then(Value::as_object).is_some_and(|m| !m.is_empty()))
    };
    let whole = spec.get("resources");
    if let Some(whole) = whole.value().filter(some) {
        count(Some(whole));
    } else {
        for field in ["containers", "initContainers"] {
            for container in spec.get(field).items() {
                count(container.value().and_then(|c| c.get("resources")));
            }
        }
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    let equal =
        requests.len() == limits.len() && requests.iter().all(|(name, r)| limits.get(name) == Some(r));
    if guaranteed && equal { "Guaranteed" } else { "Burstable" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let full =
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        for (resources, class_name) in [
            (json!([{}]), "BestEffort"),
            (json!([{"limits": {"cpu": "0"}}]), "BestEffort"),
            (json!([{"requests": {"ephemeral-storage": "1Gi"}}]), "BestEffort"),
            (json!([full]), "Guaranteed"),
            (json!([full, full]), "Guaranteed"),
            (json!([full, {}]), "Burstable"),
            (json!([{"requests": {"cpu": "1"}}]), "Burstable"),
            (json!([{"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}]), "Burstable"),
            (
                json!([{"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}]),
                "Burstable",
            ),
        ] {
            let containers: Vec<Value> =
                resources.as_array().unwrap().iter().map(|r| json!({"resources": r})).collect();
            assert_eq!(class(&json!({"spec": {"containers": containers}})), class_name, "{resources}");
        }
        let whole =
            json!({"spec": {"resources": full, "containers": [{"resources": {"requests": {"cpu": "1"}}}]}});
        assert_eq!(class(&whole), "Guaranteed");
        for empty in [json!({}), json!({"requests": {}, "limits": null})] {
            let spec = json!({"resources": empty, "containers": [{"resources": full}]});
            assert_eq!(
                class(&json!({"spec": spec})),
                "Guaranteed",
                "containers decide where the pod has none"
            );
        }
    }
}
