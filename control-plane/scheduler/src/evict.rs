//! Sending pods away to make room for one of higher priority.

use crate::core::model::{DISRUPTION_TARGET, PREEMPTED, Pod};
use crate::{NAME, Scheduler, State, now, reference};
use serde_json::{Value, json};
use skep_api::Status;
use skep_client::{Collection, DeleteOptions, Patch, WriteOptions};
use std::collections::HashSet;
use std::sync::Arc;

impl State {
    /// Notes that room is made for a pod on a node. Answers the pods of lower priority that waited for room there and now
    /// look for another place.
    pub(crate) fn take_room(&mut self, pod: &Arc<Pod>, node: &str, victims: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let uid = &pod.meta.uid;
        let lower = |other: &&Arc<Pod>| other.priority < pod.priority;
        let displaced: Vec<Arc<Pod>> = self.cluster.nominated(node).filter(lower).cloned().collect();
        for other in &displaced {
            self.cluster.forget_nomination(&other.meta.uid);
            self.queue.wake_one(&other.meta.uid);
        }
        self.cluster.nominate(pod.clone(), node);
        let staying: HashSet<Box<str>> =
            victims.iter().filter(|v| !v.meta.deleting()).map(|v| v.meta.uid.clone()).collect();
        if !staying.is_empty() {
            // Until they are seen to go, the pod would send more away.
            self.queue.hold(uid);
            self.evicting.insert(uid.clone(), staying);
        }
        displaced
    }

    /// A pod is on its way out, or will not go; whoever waited for that may be tried again.
    pub(crate) fn seen_going(&mut self, uid: &str) {
        if self.evicting.is_empty() {
            return;
        }
        let queue = &mut self.queue;
        self.evicting.retain(|preemptor, victims| {
            victims.remove(uid);
            if victims.is_empty() {
                queue.release(preemptor);
            }
            !victims.is_empty()
        });
    }
}

impl Scheduler {
    /// Ends the nominations of the displaced and deletes the victims.
    pub(crate) async fn make_room(
        self: Arc<Self>,
        pod: Arc<Pod>,
        node: String,
        victims: Vec<Arc<Pod>>,
        displaced: Vec<Arc<Pod>>,
    ) {
        for other in displaced {
            let patch =
                json!({"metadata": {"uid": other.meta.uid}, "status": {"nominatedNodeName": Value::Null}});
            if let Err(status) = self.patch_status(&other, patch).await
                && !status.is_not_found()
            {
                tracing::debug!(pod = other.meta.key(), %status, "a nomination was not ended");
            }
        }
        for victim in victims.into_iter().filter(|victim| !victim.meta.deleting()) {
            let message = format!("Preempted by pod {} on node {node}", pod.meta.uid);
            match self.send_away(&victim).await {
                Ok(()) => self.events.normal(&reference(&victim), "Preempted", message),
                Err(status) => {
                    // A victim that had gone already is as good; any other makes the pod look again.
                    if !status.is_not_found() {
                        tracing::warn!(pod = victim.meta.key(), %status, "a victim was not deleted");
                    }
                    let mut state = self.state.lock();
                    state.seen_going(&victim.meta.uid);
                    state.queue.wake_one(&pod.meta.uid);
                }
            }
        }
        self.wake.notify_one();
    }

    /// Says why on the pod, then deletes it.
    async fn send_away(&self, victim: &Pod) -> Result<(), Status> {
        let target = Collection::core("pods").item(&victim.meta.namespace, &victim.meta.name);
        let mut condition = json!({
            "type": DISRUPTION_TARGET, "status": "True", "reason": PREEMPTED, "lastTransitionTime": now(),
            "message": format!("{NAME}: preempting to accommodate a higher priority pod"),
        });
        if victim.meta.generation > 0 {
            condition["observedGeneration"] = victim.meta.generation.into();
        }
        let patch = json!({"metadata": {"uid": victim.meta.uid}, "status": {"conditions": [condition]}});
        self.patch_status(victim, patch).await?;
        let options = DeleteOptions { uid: Some(victim.meta.uid.to_string()), ..DeleteOptions::default() };
        self.client.delete(&target, &options).await.map(|_| ())
    }

    async fn patch_status(&self, pod: &Pod, patch: Value) -> Result<(), Status> {
        let target = Collection::core("pods").item(&pod.meta.namespace, &pod.meta.name);
        let patch = Patch::Strategic(patch);
        self.client.patch(&target.sub("status"), &patch, &WriteOptions::default()).await.map(|_| ())
    }
}
