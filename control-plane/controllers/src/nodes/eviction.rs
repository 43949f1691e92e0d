//! Deletes pods from nodes whose NoExecute taints they do not tolerate, or no longer.

use crate::Context;
use crate::runtime::{Key, Outcome, Queue, feed, work};
use crate::views::{reference, time};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use skep_api::taint::{Taint, Toleration};
use skep_api::{Meta, Object, Status};
use skep_client::{Client, Collection, DeleteOptions, Informer, Patch, Recorder, WriteOptions, typed};
use std::borrow::Cow;
use std::collections::HashMap;
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

/// What is read of a pod, at each of its changes: no more than this.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Placed {
    spec: PlacedSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PlacedSpec {
    node_name: String,
    tolerations: Vec<Toleration>,
}

/// When a pod must leave: never, or after so long. `first` is when it was first seen on a node with such taints, which counts
/// for those that do not say since when they are there.
pub(super) fn leave(
    taints: &[Taint],
    tolerations: &[Toleration],
    first: Timestamp,
    now: Timestamp,
) -> Option<Duration> {
    let mut soonest: Option<Duration> = None;
    for taint in taints.iter().filter(|t| t.effect == "NoExecute") {
        // Of several that tolerate a taint the first counts; one without a limit is no limit.
        let Some(toleration) = tolerations.iter().find(|t| t.tolerates(taint)) else {
            return Some(Duration::ZERO);
        };
        let Some(seconds) = toleration.toleration_seconds else { continue };
        let since = now.as_second() - taint.time_added.unwrap_or(first).as_second();
        let left = Duration::from_secs(u64::try_from(seconds.saturating_sub(since)).unwrap_or(0));
        soonest = Some(soonest.map_or(left, |s| s.min(left)));
    }
    soonest
}

struct Controller {
    client: Arc<dyn Client>,
    pods: Informer,
    nodes: Informer,
    events: Recorder,
    /// Pods that are on their way out, by uid, and since when that is known.
    leaving: Mutex<HashMap<String, Timestamp>>,
}

/// Starts the controller.
/// What is read of every pod.
#[derive(Deserialize)]
struct Place<'a> {
    #[serde(borrow)]
    spec: PlaceSpec<'a>,
}

#[derive(Deserialize)]
struct PlaceSpec<'a> {
    #[serde(borrow, default, rename = "nodeName")]
    node: Cow<'a, str>,
}

fn is_placed(pod: &Object) -> bool {
    pod.read::<Place<'_>>().is_ok_and(|pod| !pod.spec.node.is_empty())
}

pub(crate) fn start(context: &Context) {
    let client = context.client("node-controller");
    let controller = Arc::new(Controller {
        events: Recorder::start(client.clone(), "taint-eviction-controller", ""),
        client,
        pods: context.informers.pods.clone(),
        nodes: context.informers.nodes.clone(),
        leaving: Mutex::default(),
    });
    let gone = controller.clone();
    let queue = Queue::default();
    feed(&controller.pods, &queue, move |change| {
        if let (Some(old), None) = (&change.old, &change.new) {
            gone.leaving.lock().remove(&*old.meta().uid);
        }
        // Nothing evicts a pod that is on no node.
        change.new.iter().filter(|pod| is_placed(pod)).map(|pod| Key::of(pod)).collect()
    });
    let pods = controller.pods.clone();
    feed(&controller.nodes, &queue, move |change| {
        let taints = |o: &Option<Arc<Object>>| o.as_ref().map(|o| o.value()["spec"]["taints"].clone());
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
        if object.meta().deleting() {
            return Ok(None);
        }
        let pod: Placed = typed::decode(&object)?;
        if pod.spec.node_name.is_empty() {
            return Ok(None);
        }
        let Some(node) = self.nodes.get("", &pod.spec.node_name) else { return Ok(None) };
        let node: Node = typed::decode(&node)?;
        let now = Timestamp::now();
        let uid = object.meta().uid.to_string();
        let first = self.leaving.lock().get(&uid).copied();
        let about = reference("v1", "Pod", &object);
        match leave(&node.spec.taints, &pod.spec.tolerations, first.unwrap_or(now), now) {
            None => {
                if self.leaving.lock().remove(&uid).is_some() {
                    let message = format!("Cancelling deletion of Pod {}/{}", key.namespace, key.name);
                    self.events.normal(&about, "TaintManagerEviction", message);
                }
                Ok(None)
            }
            Some(Duration::ZERO) => {
                let message = format!("Marking for deletion Pod {}/{}", key.namespace, key.name);
                self.events.normal(&about, "TaintManagerEviction", message);
                match self.evict(object.meta()).await {
                    Err(status) if !status.is_not_found() => Err(status),
                    _ => Ok(None),
                }
            }
            later => {
                self.leaving.lock().entry(uid).or_insert(now);
                Ok(later)
            }
        }
    }

    /// Says why on the pod, then deletes it.
    async fn evict(&self, meta: &Meta) -> Result<(), Status> {
        let target = Collection::core("pods").item(&meta.namespace, &meta.name);
        let mut condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": time(Timestamp::now()),
        });
        if meta.generation > 0 {
            condition["observedGeneration"] = meta.generation.into();
        }
        let patch =
            Patch::Strategic(json!({"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}}));
        self.client.patch(&target.sub("status"), &patch, &WriteOptions::default()).await?;
        let options = DeleteOptions { uid: Some(meta.uid.to_string()), ..DeleteOptions::default() };
        self.client.delete(&target, &options).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration(value: serde_json::Value) -> Toleration {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn pods_without_a_node_are_passed_over() {
        for (spec, placed) in [
            (json!({"nodeName": "n"}), true),
            (json!({"nodeName": ""}), false),
            (json!({"containers": []}), false),
            (json!(null), false),
        ] {
            let pod = json!({"metadata": {"name": "a"}, "spec": spec});
            assert_eq!(is_placed(&Object::from_value(pod, 1, &[]).unwrap()), placed, "{spec}");
        }
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
        let stays = |taints: &[Taint], tolerations: &[Toleration]| leave(taints, tolerations, now, now);
        assert_eq!(stays(&taints, &[]), Some(Duration::ZERO));
        assert_eq!(stays(&taints, std::slice::from_ref(&timed)), Some(Duration::from_secs(200)));
        assert_eq!(stays(&taints, std::slice::from_ref(&all)), None);
        assert_eq!(stays(&taints, &[all.clone(), timed.clone()]), None, "the first that tolerates it counts");
        assert_eq!(stays(&taints, &[timed.clone(), all]), Some(Duration::from_secs(200)));
        assert_eq!(stays(&[taint("full", "NoSchedule")], &[]), None);
        // A taint that does not say since when counts from when it was seen.
        let silent = [Taint { time_added: None, ..taint("down", "NoExecute") }];
        let at = |second: i64| Timestamp::from_second(now.as_second() + second).unwrap();
        let after = |second: i64| leave(&silent, std::slice::from_ref(&timed), now, at(second));
        assert_eq!(after(0), Some(Duration::from_secs(300)));
        assert_eq!(after(299), Some(Duration::from_secs(1)));
        assert_eq!(after(301), Some(Duration::ZERO));
    }
}
