//! Slim projections of objects: what controllers read of a pod, and facts about it.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_api::meta::OwnerReference;
use skep_api::taint::Toleration;
use skep_api::{Meta, Object};
use skep_client::{Reference, typed};
use std::collections::BTreeMap;
use std::time::Duration;

/// What controllers read of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Pod {
    pub(crate) metadata: PodMeta,
    pub(crate) spec: PodSpec,
    pub(crate) status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodMeta {
    #[serde(flatten)]
    pub(crate) meta: Meta,
    pub(crate) creation_timestamp: Option<Timestamp>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl PodMeta {
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodSpec {
    pub(crate) node_name: String,
    pub(crate) hostname: String,
    pub(crate) subdomain: String,
    pub(crate) host_network: bool,
    pub(crate) containers: Vec<Container>,
    pub(crate) init_containers: Vec<Container>,
    pub(crate) tolerations: Vec<Toleration>,
    /// As it is written; few pods have one.
    pub(crate) affinity: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Container {
    pub(crate) ports: Vec<ContainerPort>,
    pub(crate) restart_policy: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ContainerPort {
    pub(crate) name: String,
    pub(crate) container_port: u16,
    pub(crate) protocol: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodStatus {
    pub(crate) phase: String,
    pub(crate) conditions: Vec<Condition>,
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: String,
    #[serde(rename = "podIPs")]
    pub(crate) pod_ips: Vec<PodIp>,
    pub(crate) init_container_statuses: Vec<ContainerStatus>,
    pub(crate) container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodIp {
    pub(crate) ip: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ContainerStatus {
    pub(crate) name: String,
    pub(crate) restart_count: i64,
    pub(crate) state: ContainerState,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ContainerState {
    pub(crate) terminated: Option<Terminated>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Terminated {
    pub(crate) exit_code: i64,
    pub(crate) finished_at: Option<Timestamp>,
}

/// A condition of any kind of object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) last_transition_time: Option<Timestamp>,
    pub(crate) last_update_time: Option<Timestamp>,
}

impl Pod {
    pub(crate) fn meta(&self) -> &Meta {
        &self.metadata.meta
    }

    fn ready_condition(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|c| c.kind == "Ready")
    }

    /// The Ready condition is true.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready_condition().is_some_and(|c| c.status == "True")
    }

    /// Since when it has been ready.
    pub(crate) fn ready_since(&self) -> Option<Timestamp> {
        self.ready_condition().filter(|c| c.status == "True").and_then(|c| c.last_transition_time)
    }

    /// Neither finished nor being deleted.
    pub(crate) fn is_active(&self) -> bool {
        !self.is_finished() && !self.meta().deleting()
    }

    /// Succeeded or failed.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Ready for at least `min_ready`; otherwise when it will be, if it stays ready.
    pub(crate) fn available(&self, min_ready: Duration, now: Timestamp) -> Availability {
        match (self.is_ready(), self.ready_since()) {
            (true, _) if min_ready.is_zero() => Availability::Now,
            (true, Some(since)) => {
                let ready_for = now.duration_since(since).unsigned_abs();
                match min_ready.checked_sub(ready_for) {
                    None | Some(Duration::ZERO) => Availability::Now,
                    Some(left) => Availability::In(left),
                }
            }
            _ => Availability::No,
        }
    }

    /// Containers, and init containers that keep running beside them.
    pub(crate) fn long_running(&self) -> impl Iterator<Item = &Container> {
        let sidecars = self.spec.init_containers.iter().filter(|c| c.restart_policy == "Always");
        self.spec.containers.iter().chain(sidecars)
    }
}

/// Whether a pod counts as available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    Now,
    In(Duration),
    No,
}

/// The projections of objects; one that cannot be read is passed over and named in the log.
pub(crate) fn pods(objects: impl IntoIterator<Item = std::sync::Arc<Object>>) -> Vec<Pod> {
    objects
        .into_iter()
        .filter_map(|object| {
            typed::decode(&object).inspect_err(|status| tracing::warn!(%status, "a pod cannot be read")).ok()
        })
        .collect()
}

/// The owner reference of the object that manages another.
pub(crate) fn controller_reference(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind, "name": name, "uid": uid,
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// Whether `owners` names this uid as the one that manages.
pub(crate) fn managed_by(meta: &Meta, uid: &str) -> bool {
    meta.controller().is_some_and(|o: &OwnerReference| &*o.uid == uid)
}

/// What an event about an object refers to.
pub(crate) fn reference(api_version: &str, kind: &str, object: &Object) -> Reference {
    Reference::to(api_version, kind, object)
}

/// A number, or a percentage of `of`, rounded up or down.
pub(crate) fn scaled(value: Option<&Value>, of: i64, up: bool) -> i64 {
    match value {
        Some(Value::Number(n)) => n.as_i64().unwrap_or(0),
        Some(Value::String(text)) => {
            let percent: i64 = text.strip_suffix('%').and_then(|p| p.parse().ok()).unwrap_or(0);
            let product = percent.saturating_mul(of);
            if up { product.saturating_add(99) / 100 } else { product / 100 }
        }
        _ => 0,
    }
}

/// An instant as `metav1.Time` writes it: whole seconds.
pub(crate) fn time(at: Timestamp) -> Value {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn availability_waits_for_min_ready_seconds() {
        let now: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:04Z"}]}}))
        .unwrap();
        assert_eq!(pod.available(Duration::ZERO, now), Availability::Now);
        assert_eq!(pod.available(Duration::from_secs(6), now), Availability::Now);
        assert_eq!(pod.available(Duration::from_secs(9), now), Availability::In(Duration::from_secs(3)));
        assert_eq!(Pod::default().available(Duration::ZERO, now), Availability::No);
    }
}
