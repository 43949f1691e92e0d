//! What a ReplicaSet needs, decided from the set, the pods of its namespace and the instant.

use crate::views::{Availability, Pod, managed_by};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use skep_api::LabelSelector;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

/// No more pods than this are created or deleted at once (`BurstReplicas`).
const BURST: usize = 500;
/// Lower is deleted first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What the plan reads of a ReplicaSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Spec {
    pub(crate) replicas: Option<i64>,
    pub(crate) min_ready_seconds: u64,
    pub(crate) selector: Value,
    pub(crate) template: Value,
}

/// One set and its pods.
pub(crate) struct Input<'a> {
    pub(crate) uid: &'a str,
    pub(crate) deleting: bool,
    pub(crate) generation: i64,
    pub(crate) spec: &'a Spec,
    pub(crate) selector: &'a LabelSelector,
    pub(crate) pods: &'a [Pod],
    pub(crate) now: Timestamp,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Pods without a manager that match: take them over.
    pub(crate) adopt: Vec<String>,
    /// Managed pods that do not match any more: let them go.
    pub(crate) release: Vec<String>,
    /// How many pods are missing.
    pub(crate) create: usize,
    /// Which pods are too many.
    pub(crate) delete: Vec<String>,
    /// The numbers of `status`.
    pub(crate) counts: Value,
    /// When a pod becomes available without anything else changing.
    pub(crate) again: Option<Duration>,
}

/// Decides.
pub(crate) fn plan(input: &Input<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut mine: Vec<&Pod> = Vec::new();
    for pod in input.pods {
        let meta = pod.meta();
        let matches = input.selector.matches(&meta.labels);
        if managed_by(meta, input.uid) {
            if matches {
                mine.push(pod);
            } else if !input.deleting {
                plan.release.push(meta.name.to_string());
            }
        } else if matches && meta.controller().is_none() && pod.is_active() && !input.deleting {
            plan.adopt.push(meta.name.to_string());
            mine.push(pod);
        }
    }
    let terminating = mine.iter().filter(|p| p.meta().deleting() && !p.is_finished()).count();
    let active: Vec<&Pod> = mine.into_iter().filter(|p| p.is_active()).collect();
    let want = usize::try_from(input.spec.replicas.unwrap_or(1)).unwrap_or(0);
    if !input.deleting {
        plan.create = want.saturating_sub(active.len()).min(BURST);
        let surplus = active.len().saturating_sub(want).min(BURST);
        if surplus > 0 {
            plan.delete = surplus_first(&active).into_iter().take(surplus).collect();
        }
    }
    let min_ready = Duration::from_secs(input.spec.min_ready_seconds);
    let template = input.spec.template.pointer("/metadata/labels").and_then(Value::as_object);
    let labelled = |pod: &Pod| {
        template.is_none_or(|t| {
            t.iter().all(|(k, v)| pod.meta().labels.get(k.as_str()).map(|l| &**l) == v.as_str())
        })
    };
    let (mut ready, mut available, mut fully) = (0u32, 0u32, 0u32);
    for pod in &active {
        fully += u32::from(labelled(pod));
        ready += u32::from(pod.is_ready());
        match pod.available(min_ready, input.now) {
            Availability::Now => available += 1,
            Availability::In(left) => plan.again = Some(plan.again.map_or(left, |t| t.min(left))),
            Availability::No => {}
        }
    }
    plan.counts = json!({
        "replicas": active.len(), "fullyLabeledReplicas": fully, "readyReplicas": ready,
        "availableReplicas": available, "terminatingReplicas": terminating,
        "observedGeneration": input.generation,
    });
    plan
}

/// The names of the pods, those to be deleted first in front (`ActivePodsWithRanks`).
fn surplus_first(active: &[&Pod]) -> Vec<String> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in active.iter().filter(|p| p.is_ready()) {
        *on_node.entry(pod.spec.node_name.as_str()).or_default() += 1;
    }
    let rank = |pod: &Pod| {
        let phase = match pod.status.phase.as_str() {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        let cost: i64 = pod
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(DELETION_COST))
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let together = on_node.get(pod.spec.node_name.as_str()).copied().unwrap_or(0);
        let restarts = pod.status.container_statuses.iter().map(|c| c.restart_count).max().unwrap_or(0);
        (
            (!pod.spec.node_name.is_empty(), phase, pod.is_ready(), cost),
            Reverse(together),
            // Later first; a pod that has no such time counts as the latest.
            Reverse(pod.ready_since().unwrap_or(Timestamp::MAX)),
            Reverse(restarts),
            Reverse(pod.metadata.creation_timestamp.unwrap_or(Timestamp::MAX)),
            pod.meta().uid.clone(),
        )
    };
    let mut pods: Vec<&&Pod> = active.iter().collect();
    pods.sort_by_cached_key(|p| rank(p));
    pods.into_iter().map(|p| p.meta().name.to_string()).collect()
}

/// The pod that a template makes (its name is given by the server).
pub(crate) fn pod_from(template: &Value, owner_name: &str, owner: Value) -> Value {
    let mut metadata = json!({"generateName": format!("{owner_name}-"), "ownerReferences": [owner]});
    for key in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template.pointer(&format!("/metadata/{key}")) {
            metadata[key] = value.clone();
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.get("spec").cloned().unwrap_or_default()})
}

#[cfg(test)]
mod tests;
