//! Removes pods that nobody else will: those bound to a node that is gone or that somebody has declared dead, those
//! deleted before they were bound, and finished ones beyond a limit.

use crate::Context;
use crate::runtime::{Key, Outcome, Queue, work};
use crate::views::{self, Pod};
use serde_json::{Value, json};
use skep_api::{Object, Status};
use skep_client::{Client, ClientExt, Collection, DeleteOptions, Informer, Patch, WriteOptions};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How often it looks (`gcCheckPeriod`).
const PERIOD: Duration = Duration::from_secs(20);
/// A node must be missing for so long before its pods are taken for lost (`quarantineTime`).
const QUARANTINE: Duration = Duration::from_secs(40);
/// Finished pods beyond this go, the oldest first (`--terminated-pod-gc-threshold`).
const FINISHED_MAX: usize = 12_500;
/// Says of a node that it was shut down for good.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

struct Controller {
    client: Arc<dyn Client>,
    pods: Informer,
    nodes: Informer,
    missing: Mutex<HashMap<String, Instant>>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let controller = Arc::new(Controller {
        client: context.client("pod-garbage-collector"),
        pods: context.informers.pods.clone(),
        nodes: context.informers.nodes.clone(),
        missing: Mutex::default(),
    });
    let queue = Queue::default();
    queue.add(Key::new("", "all"));
    work("podgc", &queue, 1, move |_| {
        let controller = controller.clone();
        async move { controller.reconcile().await }
    });
}

/// Which pods are beyond the limit, the oldest first.
fn surplus(pods: &[Pod], max: usize) -> Vec<&Pod> {
    let mut finished: Vec<&Pod> = pods.iter().filter(|p| p.is_finished()).collect();
    finished.sort_by_key(|p| p.metadata.creation_timestamp);
    finished.truncate(finished.len().saturating_sub(max));
    finished
}

/// Whether a node is not ready and somebody says that it will not come back, so that its pods cannot run any more (KEP-2268).
fn out_of_service(node: &Value) -> bool {
    let list = |pointer: &str| node.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let ready = list("/status/conditions").any(|c| c["type"] == "Ready" && c["status"] == "True");
    !ready && list("/spec/taints").any(|taint| taint["key"] == OUT_OF_SERVICE)
}

fn name(object: &Arc<Object>) -> String {
    object.meta().name.to_string()
}

impl Controller {
    async fn reconcile(&self) -> Outcome {
        let pods = views::pods(self.pods.list());
        for pod in surplus(&pods, FINISHED_MAX) {
            self.remove(pod).await?;
        }
        for pod in pods.iter().filter(|p| p.spec.node_name.is_empty() && p.meta().deleting()) {
            self.remove(pod).await?;
        }
        let dead: HashSet<String> =
            self.nodes.filter(|node| out_of_service(&node.value())).iter().map(name).collect();
        for pod in pods.iter().filter(|p| p.meta().deleting() && dead.contains(&p.spec.node_name)) {
            self.fail(pod, None).await?;
            self.remove(pod).await?;
        }
        for pod in &pods {
            if !pod.spec.node_name.is_empty() && self.is_lost(&pod.spec.node_name).await? {
                let condition = json!({
                    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                    "message": "PodGC: node no longer exists",
                    "lastTransitionTime": views::time(jiff::Timestamp::now()),
                });
                self.fail(pod, Some(condition)).await?;
                self.remove(pod).await?;
            }
        }
        Ok(Some(PERIOD))
    }

    /// Whether a node has been missing for long, and really is.
    async fn is_lost(&self, node: &str) -> Result<bool, Status> {
        let mut missing = self.missing.lock().await;
        if self.nodes.get("", node).is_some() {
            missing.remove(node);
            return Ok(false);
        }
        if missing.entry(node.to_owned()).or_insert_with(Instant::now).elapsed() < QUARANTINE {
            return Ok(false);
        }
        Ok(self.client.find(&Collection::core("nodes").object(node)).await?.is_none())
    }

    async fn fail(&self, pod: &Pod, condition: Option<Value>) -> Result<(), Status> {
        if pod.is_finished() {
            return Ok(());
        }
        let mut status = json!({"phase": "Failed"});
        if let Some(condition) = condition {
            status["conditions"] = json!([condition]);
        }
        let patch = Patch::Strategic(json!({"status": status}));
        let target = Collection::core("pods").item(&pod.meta().namespace, &pod.meta().name).sub("status");
        match self.client.patch(&target, &patch, &WriteOptions::default()).await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(()),
        }
    }

    async fn remove(&self, pod: &Pod) -> Result<(), Status> {
        let meta = pod.meta();
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: Some(meta.uid.to_string()),
            ..DeleteOptions::default()
        };
        match self.client.delete(&Collection::core("pods").item(&meta.namespace, &meta.name), &options).await
        {
            Err(status) if !status.is_not_found() && !status.is_conflict() => Err(status),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_dead_where_it_is_silent_and_somebody_says_so() {
        let node = |ready: &str, key: &str| {
            json!({"spec": {"taints": [{"key": key, "effect": "NoExecute"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}})
        };
        assert!(out_of_service(&node("Unknown", OUT_OF_SERVICE)));
        assert!(!out_of_service(&node("True", OUT_OF_SERVICE)));
        assert!(!out_of_service(&node("Unknown", "other")));
    }

    #[test]
    fn the_oldest_finished_pods_go() {
        let pod = |name: &str, phase: &str, day: u8| -> Pod {
            let meta = json!({"name": name, "creationTimestamp": format!("2026-01-{day:02}T00:00:00Z")});
            serde_json::from_value(json!({"metadata": meta, "status": {"phase": phase}})).unwrap()
        };
        let pods =
            [pod("c", "Failed", 3), pod("a", "Succeeded", 1), pod("r", "Running", 1), pod("b", "Failed", 2)];
        let names: Vec<&str> = surplus(&pods, 1).iter().map(|p| &*p.meta().name).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(surplus(&pods, 3).is_empty());
    }
}
