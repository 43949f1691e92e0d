//! Defaults of pods that depend on other fields (`pkg/apis/core/v1/defaults.go`); what does not is a fact of the
//! schema.

use super::amounts::{self, Part};
use serde_json::{Map, Value, json};

const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Defaults of a pod spec wherever it stands: in a Pod and in a template.
pub(crate) fn spec(spec: &mut Value) {
    let Some(map) = spec.as_object_mut() else { return };
    mirror_service_account(map);
    for field in CONTAINERS {
        each(map.get_mut(field), |container| {
            let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
            let policy = pull_policy(image);
            set_if_empty(container, "imagePullPolicy", policy);
        });
    }
    each(map.get_mut("volumes"), |volume| {
        if volume.iter().all(|(key, value)| key == "name" || value.is_null()) {
            volume.insert("emptyDir".into(), json!({}));
        }
        if let Some(image) = volume.get_mut("image").and_then(Value::as_object_mut) {
            let policy = pull_policy(image.get("reference").and_then(Value::as_str).unwrap_or_default());
            set_if_empty(image, "pullPolicy", policy);
        }
    });
}

/// Defaults that only a Pod gets, not a template.
pub(super) fn pod(spec: &mut Value) {
    let Some(map) = spec.as_object_mut() else { return };
    if map.get("enableServiceLinks").is_none_or(Value::is_null) {
        map.insert("enableServiceLinks".into(), true.into());
    }
    let host_network = map.get("hostNetwork") == Some(&Value::Bool(true));
    for field in ["containers", "initContainers"] {
        each(map.get_mut(field), |container| {
            if let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) {
                requests_from_limits(resources);
            }
            if host_network {
                each(container.get_mut("ports"), |port| {
                    let number = port.get("containerPort").cloned().unwrap_or(0.into());
                    if port.get("hostPort").and_then(Value::as_i64).unwrap_or(0) == 0 {
                        port.insert("hostPort".into(), number);
                    }
                });
            }
        });
    }
}

/// What the pod as a whole asks for, where its limits are given and requests are not: as much as its containers together, or
/// as much as the limits.
pub(super) fn pod_requests(pod: &mut Value) {
    let limits =
        pod.pointer("/spec/resources/limits").and_then(Value::as_object).cloned().unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    let asked = amounts::asked(pod, Part::Requests);
    let Some(resources) = pod.pointer_mut("/spec/resources").and_then(Value::as_object_mut) else { return };
    let mut requests = resources.get("requests").and_then(Value::as_object).cloned().unwrap_or_default();
    let overcommitted = asked.iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory"));
    for (name, amount) in overcommitted {
        requests.entry(name.clone()).or_insert_with(|| amount.to_string().into());
    }
    for (name, limit) in limits.into_iter().filter(|(name, _)| amounts::of_pod(name)) {
        requests.entry(name).or_insert(limit);
    }
    if !requests.is_empty() {
        resources.insert("requests".into(), requests.into());
    }
}

fn each(list: Option<&mut Value>, mut change: impl FnMut(&mut Map<String, Value>)) {
    for item in list.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(map) = item.as_object_mut() {
            change(map);
        }
    }
}

fn set_if_empty(map: &mut Map<String, Value>, key: &str, value: &str) {
    if map.get(key).and_then(Value::as_str).unwrap_or_default().is_empty() {
        map.insert(key.into(), value.into());
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always written.
fn mirror_service_account(spec: &mut Map<String, Value>) {
    let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (name, old) = (text("serviceAccountName"), text("serviceAccount"));
    let name = if name.is_empty() { old } else { name };
    if !name.is_empty() {
        spec.insert("serviceAccountName".into(), name.as_str().into());
        spec.insert("serviceAccount".into(), name.into());
    }
}

/// What is limited and not asked for is asked for in full.
fn requests_from_limits(resources: &mut Map<String, Value>) {
    let limits = match resources.get("limits").and_then(Value::as_object) {
        Some(limits) if !limits.is_empty() => limits.clone(),
        _ => return,
    };
    let requests = resources.entry("requests").or_insert_with(|| json!({}));
    if requests.is_null() {
        *requests = json!({});
    }
    if let Some(requests) = requests.as_object_mut() {
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}

/// An image of the tag `latest`, or of none, may change: it is pulled always. One with a digest never does.
pub(crate) fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies() {
        for (image, policy) in [
            ("web", "Always"),
            ("web:latest", "Always"),
            ("registry:5000/web", "Always"),
            ("registry:5000/web:1.2", "IfNotPresent"),
            ("web:1", "IfNotPresent"),
            ("web@sha256:0123", "IfNotPresent"),
            ("web:latest@sha256:0123", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn a_pod_gets_what_its_other_fields_say() {
        let mut value = json!({
            "hostNetwork": true, "serviceAccount": "robot",
            "volumes": [{"name": "a"}, {"name": "b", "secret": {"secretName": "s"}}],
            "containers": [{
                "name": "c", "image": "web:1", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
            }],
        });
        spec(&mut value);
        pod(&mut value);
        let once = value.clone();
        spec(&mut value);
        pod(&mut value);
        assert_eq!(value, once, "defaults are idempotent");
        assert_eq!(value["serviceAccountName"], "robot");
        assert_eq!(value["volumes"][0]["emptyDir"], json!({}));
        assert!(value["volumes"][1].get("emptyDir").is_none());
        let container = &value["containers"][0];
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        assert_eq!(container["ports"][0]["hostPort"], 80);
        assert_eq!(container["resources"]["requests"], json!({"cpu": "500m", "memory": "1Gi"}));
        assert_eq!(value["enableServiceLinks"], true);
    }
}
