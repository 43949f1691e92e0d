//! Keeps one pod of each DaemonSet on every node that should have one.

mod backoff;
mod model;
mod plan;
mod rolling;

use crate::Context;
use crate::history::{History, Owner, Revision, Settled};
use crate::pods_of;
use crate::podwriter::PodWriter;
use crate::runtime::{CATCH_UP, Key, Outcome, OwnWrites, Queue, feed, feed_owner, feed_self, work};
use crate::views::{Pod, controller_reference, managed_by, reference};
use backoff::{Backoff, Place};
use jiff::Timestamp;
use model::{API_VERSION, DaemonSet, HASH_LABEL, KIND, Node, SetStatus};
use parking_lot::Mutex;
use plan::{Input, Plan, plan, surplus};
use serde_json::{Value, json};
use skep_api::{LabelSelector, Object, Status};
use skep_client::{Change, Collection, Informer, WriteOptions, typed};
use std::collections::HashSet;
use std::sync::Arc;

const CONTROLLER: &str = "daemon-set-controller";
/// Who events are from.
const COMPONENT: &str = "daemonset-controller";

struct Controller {
    sets: Informer,
    pods: Informer,
    nodes: Informer,
    history: History,
    writer: PodWriter,
    writes: OwnWrites,
    backoff: Mutex<Backoff>,
}

fn sets() -> Collection {
    Collection::of("apps", "v1", "daemonsets")
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let client = context.client(CONTROLLER);
    let controller = Arc::new(Controller {
        sets: context.informers.of(&sets()),
        pods: context.informers.pods.clone(),
        nodes: context.informers.nodes.clone(),
        history: History::new(client.clone(), context),
        writer: PodWriter::new(client, COMPONENT),
        writes: OwnWrites::default(),
        backoff: Mutex::default(),
    });
    let queue = Queue::default();
    feed_self(&controller.sets, &queue);
    feed_owner(&controller.pods, &queue, KIND);
    let all = controller.sets.clone();
    // A pod that nobody manages may belong to any set of its namespace.
    feed(&controller.pods, &queue, move |change| {
        let orphan = change.new.as_ref().filter(|pod| pod.meta().controller().is_none());
        let near = orphan.map(|pod| all.namespace(&pod.meta().namespace)).into_iter().flatten();
        near.map(|set| Key::of(&set)).collect()
    });
    let all = controller.sets.clone();
    feed(&controller.nodes, &queue, move |change| {
        if moves_pods(change) { all.list().iter().map(|set| Key::of(set)).collect() } else { Vec::new() }
    });
    work("daemonset", &queue, 2, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

/// Whether a change of a node may change which pods belong on it.
fn moves_pods(change: &Change) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    if old.meta().labels != new.meta().labels {
        return true;
    }
    match (old.decode::<Node>(), new.decode::<Node>()) {
        (Ok(old), Ok(new)) => old.spec != new.spec,
        _ => true,
    }
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        if !self.writer.writes.seen(key, &self.pods)
            || !self.writes.seen(key, &self.sets)
            || !self.history.seen(key)
        {
            return Ok(Some(CATCH_UP));
        }
        let Some(object) = self.sets.get(&key.namespace, &key.name) else { return Ok(None) };
        // What a set that goes owns may go at any time: it cannot be counted.
        if object.meta().deleting() {
            return Ok(None);
        }
        let set: DaemonSet = typed::decode(&object)?;
        let Some(selector) = LabelSelector::from_structure(Some(&set.spec.selector)) else {
            return Ok(None);
        };
        let pods = self.own_pods(key, &object, &selector).await?;
        let owner = Owner {
            api_version: API_VERSION,
            kind: KIND,
            object: &object,
            hash_label: HASH_LABEL,
            selector: &selector,
            template: &set.spec.template,
            collisions: set.status.collision_count,
        };
        let mut settled = self.history.settle(key, &owner).await?;
        let hash = self.present_hash(key, &mut settled, &pods).await?;
        let nodes: Vec<Node> = self.nodes.list().iter().filter_map(|n| typed::decode(n).ok()).collect();
        let place = |node: &str| Place {
            uid: set.metadata.meta.uid.to_string(),
            generation: set.status.observed_generation,
            node: node.to_owned(),
        };
        let now = Timestamp::now();
        let plan = plan(&Input {
            set: &set,
            nodes: &nodes,
            pods: &pods,
            hash: &hash,
            collisions: settled.collisions,
            now,
            backoff: &|node| self.backoff.lock().left(&place(node), now),
        });
        for node in &plan.failed {
            self.backoff.lock().failed(place(node), now);
        }
        let result = self.carry_out(key, &object, &set, &hash, &plan).await;
        if result.is_ok() {
            self.clean_up(key, &set, &settled, &pods).await?;
        }
        self.write_status(key, &object, &set.status, &plan.status).await?;
        result.map(|()| plan.again)
    }

    /// The pods of the set, after taking over and letting go.
    async fn own_pods(
        &self,
        key: &Key,
        object: &Object,
        selector: &LabelSelector,
    ) -> Result<Vec<Pod>, Status> {
        let uid = &object.meta().uid;
        let mut own = Vec::new();
        for pod in pods_of(&self.pods, &key.namespace, uid, selector) {
            let found = pod.meta();
            let matches = selector.matches(&found.labels);
            if managed_by(found, uid) {
                if matches {
                    own.push(pod);
                } else {
                    let gone = json!([{"$patch": "delete", "uid": uid}]);
                    let patch = json!({"metadata": {"ownerReferences": gone}});
                    self.writer.patch(key, &found.name, patch).await?;
                }
            } else if matches && found.controller().is_none() && !found.deleting() {
                let owner = controller_reference(API_VERSION, KIND, &key.name, uid);
                let patch = json!({"metadata": {"uid": found.uid, "ownerReferences": [owner]}});
                self.writer.patch(key, &found.name, patch).await?;
                own.push(pod);
            }
        }
        Ok(own)
    }

    /// The hash of the present template. Revisions that say the same become one, and their pods its own.
    async fn present_hash(&self, key: &Key, settled: &mut Settled, pods: &[Pod]) -> Result<String, Status> {
        let update = &settled.update;
        let hash = match update.label(HASH_LABEL) {
            Some(hash) => hash.to_owned(),
            None => {
                self.history.label(key, HASH_LABEL, update.name()).await?;
                update.name().to_owned()
            }
        };
        let (twins, others): (Vec<Revision>, Vec<Revision>) =
            std::mem::take(&mut settled.others).into_iter().partition(|r| r.data == settled.update.data);
        settled.others = others;
        if !twins.is_empty() {
            let of_twin = |pod: &&Pod| {
                let label = pod.meta().labels.get(HASH_LABEL);
                label.is_some_and(|l| twins.iter().any(|t| t.label(HASH_LABEL) == Some(l)))
            };
            for pod in pods.iter().filter(of_twin) {
                let patch = json!({"metadata": {"labels": {HASH_LABEL: hash}}});
                self.writer.patch(key, &pod.meta().name, patch).await?;
            }
            let names: Vec<String> = twins.iter().map(|t| t.name().to_owned()).collect();
            self.history.delete(key, &names).await?;
        }
        Ok(hash)
    }

    async fn carry_out(
        &self,
        key: &Key,
        object: &Object,
        set: &DaemonSet,
        hash: &str,
        plan: &Plan,
    ) -> Result<(), Status> {
        let about = reference(API_VERSION, KIND, object);
        for (bad, reason, message) in &plan.events {
            if *bad {
                self.writer.events.warning(&about, reason, message.clone());
            } else {
                self.writer.events.normal(&about, reason, message.clone());
            }
        }
        let missing: Vec<Value> = plan.create.iter().map(|node| set.pod(node, hash)).collect();
        let created = self.writer.create(key, &about, &missing).await.map_err(|(_, status)| status);
        self.writer.delete(key, &about, &plan.delete).await?;
        created
    }

    async fn clean_up(
        &self,
        key: &Key,
        set: &DaemonSet,
        settled: &Settled,
        pods: &[Pod],
    ) -> Result<(), Status> {
        let live: HashSet<&str> =
            pods.iter().filter_map(|p| p.meta().labels.get(HASH_LABEL)).map(|l| &**l).collect();
        let others = settled.others.iter().map(|r| (r.name(), r.label(HASH_LABEL).unwrap_or_default()));
        let limit = set.spec.revision_history_limit.unwrap_or(10);
        self.history.delete(key, &surplus(others, limit, &live)).await
    }

    async fn write_status(
        &self,
        key: &Key,
        object: &Object,
        before: &SetStatus,
        status: &SetStatus,
    ) -> Result<(), Status> {
        let mut tree = object.value();
        // The first status is written even where all of it is zero.
        if before == status && tree["status"].get("numberReady").is_some() {
            return Ok(());
        }
        status.write(&mut tree["status"]);
        let target = sets().item(&key.namespace, &key.name).sub("status");
        match self.writer.client.update(&target, tree, &WriteOptions::default()).await {
            Ok(set) => {
                self.writes.note(key, set.revision());
                Ok(())
            }
            Err(status) if status.is_not_found() => Ok(()),
            Err(status) => Err(status),
        }
    }
}
