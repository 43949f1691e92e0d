//! Whether nodes still answer: their leases say so, or their status.

use crate::Context;
use crate::runtime::{Key, Outcome, Queue, feed_self, work};
use crate::views::{self, Condition, reference};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use skep_api::{Object, Status};
use skep_client::{Client, ClientExt, Collection, Informer, Patch, Recorder, Target, WriteOptions};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often nodes are looked at (`--node-monitor-period`).
const PERIOD: Duration = Duration::from_secs(5);
/// A node that has not been heard of for so long is unknown (`--node-monitor-grace-period`).
const GRACE: Duration = Duration::from_secs(50);

pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// Conditions a node reports, each with the taint that its status brings (status, key); all NoSchedule.
const TAINTS: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that become unknown with a node that is silent.
const REPORTED: &[&str] = &["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The taints a node should have, from its conditions and `spec.unschedulable`; those of other kinds stay.
pub(super) fn taints(node: &Value, now: Timestamp) -> Option<Value> {
    let conditions: Vec<Condition> = node
        .pointer("/status/conditions")
        .and_then(|c| serde_json::from_value(c.clone()).ok())
        .unwrap_or_default();
    let status = |kind: &str| conditions.iter().find(|c| c.kind == kind).map(|c| c.status.as_str());
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (kind, when, key) in TAINTS {
        if status(kind) == Some(when) {
            wanted.push((key, "NoSchedule"));
            if *kind == "Ready" {
                wanted.push((key, "NoExecute"));
            }
        }
    }
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let ours = |key: &str| key == UNSCHEDULABLE || TAINTS.iter().any(|t| t.2 == key);
    let present = node.pointer("/spec/taints").and_then(Value::as_array).cloned().unwrap_or_default();
    let named = |t: &Value, key: &str, effect: &str| t["key"] == key && t["effect"] == effect;
    let mut out: Vec<Value> = present
        .iter()
        .filter(|t| {
            let (key, effect) =
                (t["key"].as_str().unwrap_or_default(), t["effect"].as_str().unwrap_or_default());
            // A node that has not reported yet keeps the taint it came with.
            !ours(key) || wanted.contains(&(key, effect)) || (key == NOT_READY && status("Ready").is_none())
        })
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !out.iter().any(|t| named(t, key, effect)) {
            out.push(json!({"key": key, "effect": effect, "timeAdded": views::time(now)}));
        }
    }
    (out != present).then(|| out.into())
}

struct Heard {
    /// What was last read: the lease's renewal and the version of the node's status.
    sign: (String, String),
    at: Instant,
}

struct Controller {
    client: Arc<dyn Client>,
    nodes: Informer,
    leases: Informer,
    pods: Informer,
    events: Recorder,
    heard: Mutex<HashMap<String, Heard>>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let client = context.client("node-controller");
    let controller = Arc::new(Controller {
        events: Recorder::start(client.clone(), "node-controller", ""),
        nodes: context.informers.nodes.clone(),
        pods: context.informers.pods.clone(),
        leases: context
            .informers
            .of(&Collection::of("coordination.k8s.io", "v1", "leases").within("kube-node-lease")),
        client,
        heard: Mutex::default(),
    });
    let queue = Queue::default();
    feed_self(&controller.nodes, &queue);
    work("node-lifecycle", &queue, 2, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(node) = self.nodes.get("", &key.name) else {
            self.heard.lock().remove(&key.name);
            return Ok(None);
        };
        let mut tree = node.value();
        let about = reference("v1", "Node", &node);
        let target = Collection::core("nodes").object(&*key.name);
        if self.first_seen(key) {
            let message = format!("Node {} event: Registered Node {} in Controller", key.name, key.name);
            self.events.normal(&about, "RegisteredNode", message);
        }
        if self.silent_for(key, &tree) > GRACE && self.unknown(&target, &mut tree).await? {
            let message = format!("Node {} status is now: NodeNotReady", key.name);
            self.events.normal(&about, "NodeNotReady", message);
            self.mark_pods(&key.name).await?;
        }
        if let Some(taints) = taints(&tree, Timestamp::now()) {
            let patch = json!({
                "metadata": {"resourceVersion": tree["metadata"]["resourceVersion"]}, "spec": {"taints": taints},
            });
            self.client.patch(&target, &Patch::Merge(patch), &WriteOptions::default()).await?;
        }
        Ok(Some(PERIOD))
    }

    fn first_seen(&self, key: &Key) -> bool {
        !self.heard.lock().contains_key(&key.name)
    }

    /// How long nothing has been heard: by this process's own clock, since the node's may be another.
    fn silent_for(&self, key: &Key, tree: &Value) -> Duration {
        let lease = self.leases.get("kube-node-lease", &key.name).map(|l| l.value());
        let renewed = lease
            .as_ref()
            .and_then(|l| l.pointer("/spec/renewTime"))
            .and_then(Value::as_str)
            .unwrap_or_default();
        let beat = tree.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
        let beat = beat.filter_map(|c| c["lastHeartbeatTime"].as_str()).max().unwrap_or_default();
        let sign = (renewed.to_owned(), beat.to_owned());
        let mut heard = self.heard.lock();
        let entry =
            heard.entry(key.name.clone()).or_insert_with(|| Heard { sign: sign.clone(), at: Instant::now() });
        if entry.sign != sign {
            *entry = Heard { sign, at: Instant::now() };
        }
        entry.at.elapsed()
    }

    /// Sets what the node reported to unknown; answers whether it was known before.
    async fn unknown(&self, target: &Target, tree: &mut Value) -> Result<bool, Status> {
        let now = views::time(Timestamp::now());
        let mut list =
            tree.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut changed = false;
        for kind in REPORTED {
            let (reason, message, beat) = match list.iter().find(|c| c["type"] == *kind) {
                Some(c) if c["status"] == "Unknown" => continue,
                Some(c) => (
                    "NodeStatusUnknown",
                    "Kubelet stopped posting node status.",
                    c["lastHeartbeatTime"].clone(),
                ),
                None => ("NodeStatusNeverUpdated", "Kubelet never posted node status.", now.clone()),
            };
            changed = true;
            list.retain(|c| c["type"] != *kind);
            list.push(json!({
                "type": kind, "status": "Unknown", "reason": reason, "message": message,
                "lastHeartbeatTime": beat, "lastTransitionTime": now,
            }));
        }
        if changed {
            tree["status"]["conditions"] = list.into();
            let written =
                self.client.update(&target.sub("status"), tree.clone(), &WriteOptions::default()).await?;
            *tree = written.value();
        }
        Ok(changed)
    }

    /// Pods of a node that is not ready are not either: Services must not send anybody there.
    async fn mark_pods(&self, node: &str) -> Result<(), Status> {
        for pod in self.pods.filter(|p| !p.meta().deleting()) {
            let mut tree = pod.value();
            if tree.pointer("/spec/nodeName").and_then(Value::as_str) != Some(node) {
                continue;
            }
            let conditions = tree.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
            let ready =
                conditions.into_iter().flatten().find(|c| c["type"] == "Ready" && c["status"] == "True");
            let Some(ready) = ready else { continue };
            ready["status"] = "False".into();
            ready["lastTransitionTime"] = views::time(Timestamp::now());
            self.write_pod(&pod, tree).await?;
        }
        Ok(())
    }

    async fn write_pod(&self, pod: &Object, tree: Value) -> Result<(), Status> {
        let target = Collection::core("pods").item(&pod.meta().namespace, &pod.meta().name);
        if self.client.find(&target).await?.is_none() {
            return Ok(());
        }
        self.events.warning(&reference("v1", "Pod", pod), "NodeNotReady", "Node is not ready");
        self.client.update(&target.sub("status"), tree, &WriteOptions::default()).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: Option<&str>, taints: Value, unschedulable: bool) -> Value {
        let conditions: Vec<Value> = ready.iter().map(|s| json!({"type": "Ready", "status": s})).collect();
        json!({"spec": {"taints": taints, "unschedulable": unschedulable}, "status": {"conditions": conditions}})
    }

    fn keys(taints: &Option<Value>) -> Option<Vec<String>> {
        let list = taints.as_ref()?.as_array()?;
        Some(
            list.iter()
                .map(|t| format!("{}:{}", t["key"].as_str().unwrap(), t["effect"].as_str().unwrap()))
                .collect(),
        )
    }

    #[test]
    fn taints_follow_conditions() {
        let now = Timestamp::UNIX_EPOCH;
        let own = json!([{"key": "gpu", "effect": "NoSchedule"}]);
        let came_with = json!([{"key": NOT_READY, "effect": "NoSchedule"}]);
        assert_eq!(taints(&node(Some("True"), own.clone(), false), now), None);
        assert_eq!(
            keys(&taints(&node(Some("False"), own, false), now)).unwrap(),
            [
                "gpu:NoSchedule",
                "node.kubernetes.io/not-ready:NoSchedule",
                "node.kubernetes.io/not-ready:NoExecute"
            ]
        );
        assert_eq!(
            keys(&taints(&node(Some("True"), came_with.clone(), false), now)).unwrap(),
            Vec::<String>::new()
        );
        assert_eq!(taints(&node(None, came_with, false), now), None);
        assert_eq!(
            keys(&taints(&node(Some("True"), json!([]), true), now)).unwrap(),
            ["node.kubernetes.io/unschedulable:NoSchedule"]
        );
    }
}
