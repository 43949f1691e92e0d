//! Deletes pods from nodes whose NoExecute taints they do not tolerate, or no longer.

use crate::Context;
use crate::runtime::{Key, Outcome, Queue, feed, feed_self, work};
use crate::views::{Pod, reference};
use jiff::Timestamp;
use serde::Deserialize;
use skep_api::taint::{Taint, Toleration};
use skep_client::{Client, Collection, DeleteOptions, Informer, Recorder, typed};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Node {
    spec: NodeSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeSpec {
    taints: Vec<Taint>,
}

/// When a pod must leave: never, or after so long.
pub(super) fn leave(taints: &[Taint], tolerations: &[Toleration], now: Timestamp) -> Option<Duration> {
    let mut soonest: Option<Duration> = None;
    for taint in taints.iter().filter(|t| t.effect == "NoExecute") {
        let matching: Vec<&Toleration> = tolerations.iter().filter(|t| t.tolerates(taint)).collect();
        if matching.is_empty() {
            return Some(Duration::ZERO);
        }
        // Of several tolerations the shortest counts; one without a limit is no limit.
        let Some(seconds) = matching.iter().filter_map(|t| t.toleration_seconds).min() else { continue };
        let since = taint.time_added.map_or(0, |at| now.as_second() - at.as_second());
        let left = Duration::from_secs(u64::try_from(seconds - since).unwrap_or(0));
        soonest = Some(soonest.map_or(left, |s| s.min(left)));
    }
    soonest
}

struct Controller {
    client: Arc<dyn Client>,
    pods: Informer,
    nodes: Informer,
    events: Recorder,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let client = context.client("node-controller");
    let controller = Arc::new(Controller {
        events: Recorder::start(client.clone(), "taint-eviction-controller", ""),
        client,
        pods: context.informers.pods.clone(),
        nodes: context.informers.nodes.clone(),
    });
    let queue = Queue::default();
    feed_self(&controller.pods, &queue);
    let pods = controller.pods.clone();
    feed(&controller.nodes, &queue, move |change| {
        let taints =
            |o: &Option<Arc<skep_api::Object>>| o.as_ref().map(|o| o.value()["spec"]["taints"].clone());
        match change.latest() {
            Some(_) if taints(&change.old) == taints(&change.new) => Vec::new(),
            // All pods: which node each is on is read when its turn comes.
            Some(_) => pods.list().iter().map(|p| Key::of(p)).collect(),
            None => Vec::new(),
        }
    });
    work("taint-eviction", &queue, 2, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(object) = self.pods.get(&key.namespace, &key.name) else { return Ok(None) };
        let pod: Pod = typed::decode(&object)?;
        if pod.meta().deleting() || pod.spec.node_name.is_empty() {
            return Ok(None);
        }
        let Some(node) = self.nodes.get("", &pod.spec.node_name) else { return Ok(None) };
        let node: Node = typed::decode(&node)?;
        match leave(&node.spec.taints, &pod.spec.tolerations, Timestamp::now()) {
            None => Ok(None),
            Some(Duration::ZERO) => {
                let about = reference("v1", "Pod", &object);
                let message = format!("Marking for deletion Pod {}/{}", key.namespace, key.name);
                self.events.normal(&about, "TaintManagerEviction", message);
                let options =
                    DeleteOptions { uid: Some(pod.meta().uid.to_string()), ..DeleteOptions::default() };
                let target = Collection::core("pods").item(&key.namespace, &key.name);
                match self.client.delete(&target, &options).await {
                    Err(status) if !status.is_not_found() => Err(status),
                    _ => Ok(None),
                }
            }
            later => Ok(later),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn toleration(value: serde_json::Value) -> Toleration {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn tolerations_say_how_long() {
        let now: Timestamp = "2026-01-01T00:01:40Z".parse().unwrap();
        let taint = |key: &str, effect: &str| Taint {
            key: key.into(),
            effect: effect.into(),
            time_added: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            ..Taint::default()
        };
        let taints = [taint("down", "NoExecute"), taint("full", "NoSchedule")];
        let timed = toleration(
            json!({"key": "down", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
        );
        let all = toleration(json!({"operator": "Exists"}));
        assert_eq!(leave(&taints, &[], now), Some(Duration::ZERO));
        assert_eq!(leave(&taints, std::slice::from_ref(&timed), now), Some(Duration::from_secs(200)));
        assert_eq!(leave(&taints, std::slice::from_ref(&all), now), None);
        assert_eq!(leave(&taints, &[all, timed], now), Some(Duration::from_secs(200)));
        assert_eq!(leave(&[taint("full", "NoSchedule")], &[], now), None);
    }
}
