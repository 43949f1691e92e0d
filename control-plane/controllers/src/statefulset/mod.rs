//! Keeps the pods of StatefulSets: each with a name, an ordinal and claims of its own, made and replaced in order.

mod claims;
mod model;
mod plan;

use crate::history::{History, Owner, Revision, Settled};
use crate::podwriter::PodWriter;
use crate::runtime::{CATCH_UP, Key, Outcome, OwnWrites, Queue, feed, feed_owner, feed_self, work};
use crate::views::{managed_by, reference};
use crate::{Context, pods_of};
use claims::{Claim, Reowned, names};
use futures::future::join_all;
use jiff::Timestamp;
use model::{API_VERSION, KIND, Set, SetStatus, parse_name, revision_of};
use plan::{Input, Plan, Todo, Version, plan};
use serde_json::{Value, json};
use skep_api::meta::OwnerReference;
use skep_api::{LabelSelector, Object, Status};
use skep_client::{Collection, DeleteOptions, Informer, Reference, WriteOptions, typed};
use std::collections::HashMap;
use std::sync::Arc;

const CONTROLLER: &str = "statefulset-controller";
const HASH_LABEL: &str = "controller.kubernetes.io/hash";
/// No more pods than this are made at the same time.
const BATCH_MAX: usize = 500;

struct Controller {
    sets: Informer,
    pods: Informer,
    claims: Informer,
    history: History,
    writer: PodWriter,
    writes: OwnWrites,
    claim_writes: OwnWrites,
}

fn sets() -> Collection {
    Collection::of("apps", "v1", "statefulsets")
}

fn claims() -> Collection {
    Collection::core("persistentvolumeclaims")
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let client = context.client(CONTROLLER);
    let controller = Arc::new(Controller {
        sets: context.informers.of(&sets()),
        pods: context.informers.pods.clone(),
        claims: context.informers.of(&claims()),
        history: History::new(client.clone(), context),
        writer: PodWriter::new(client, CONTROLLER),
        writes: OwnWrites::default(),
        claim_writes: OwnWrites::default(),
    });
    let queue = Queue::default();
    feed_self(&controller.sets, &queue);
    feed_owner(&controller.pods, &queue, KIND);
    let all = controller.sets.clone();
    // A pod that nobody manages may belong to the set of its name.
    feed(&controller.pods, &queue, move |change| {
        let orphan = change.new.as_ref().filter(|pod| pod.meta().controller().is_none());
        let set = orphan.and_then(|pod| {
            let (name, _) = parse_name(&pod.meta().name)?;
            all.get(&pod.meta().namespace, name)
        });
        set.map(|set| Key::of(&set)).into_iter().collect()
    });
    work("statefulset", &queue, 5, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

impl Controller {
    fn seen(&self, key: &Key) -> bool {
        self.writer.writes.seen(key, &self.pods)
            && self.writes.seen(key, &self.sets)
            && self.claim_writes.seen(key, &self.claims)
            && self.history.seen(key)
    }

    async fn reconcile(&self, key: &Key) -> Outcome {
        if !self.seen(key) {
            return Ok(Some(CATCH_UP));
        }
        let Some(object) = self.sets.get(&key.namespace, &key.name) else { return Ok(None) };
        let set: Set = typed::decode(&object)?;
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
        let settled = self.history.settle(key, &owner).await?;
        let version =
            |revision: &Revision| Version { name: revision.name().to_owned(), template: revision.template() };
        let update = version(&settled.update);
        let known = settled.others.iter().find(|r| r.name() == set.status.current_revision);
        let current = version(known.unwrap_or(&settled.update));
        let plan = plan(&Input {
            set: &set,
            current: &current,
            update: &update,
            collisions: settled.collisions,
            pods: &pods,
            claims: &self.known_claims(&set),
            now: Timestamp::now(),
        });
        let result = self.carry_out(key, &object, &plan).await;
        self.write_status(key, &object, &set.status, &plan.status).await?;
        let live: Vec<&str> = pods.iter().map(revision_of).chain([&*current.name]).collect();
        self.history.delete(key, &surplus(&set, &settled, &live)).await?;
        result.map(|()| plan.again)
    }

    /// The pods of the set, after taking over and letting go.
    async fn own_pods(
        &self,
        key: &Key,
        object: &Object,
        selector: &LabelSelector,
    ) -> Result<Vec<crate::views::Pod>, Status> {
        let meta = object.meta();
        let mut own = Vec::new();
        for pod in pods_of(&self.pods, &key.namespace, &meta.uid, selector) {
            let found = pod.meta();
            let member = parse_name(&found.name).is_some_and(|(set, _)| *set == *meta.name);
            let matches = member && selector.matches(&found.labels);
            if managed_by(found, &meta.uid) {
                if matches {
                    own.push(pod);
                } else if !meta.deleting() {
                    let gone = json!([{"$patch": "delete", "uid": meta.uid}]);
                    let patch = json!({"metadata": {"ownerReferences": gone}});
                    self.writer.patch(key, &found.name, patch).await?;
                }
            } else if matches && found.controller().is_none() && !found.deleting() && !meta.deleting() {
                let owner = crate::views::controller_reference(API_VERSION, KIND, &key.name, &meta.uid);
                let patch = json!({"metadata": {"uid": found.uid, "ownerReferences": [owner]}});
                self.writer.patch(key, &found.name, patch).await?;
                own.push(pod);
            }
        }
        Ok(own)
    }

    /// The claims of all ordinals that have or should have a pod are found by name.
    fn known_claims(&self, set: &Set) -> HashMap<String, Claim> {
        if set.spec.volume_claim_templates.is_empty() {
            return HashMap::new();
        }
        let near = self.claims.namespace(&set.metadata.meta.namespace);
        near.into_iter()
            .map(|claim| {
                let meta = claim.meta();
                let known = Claim { owners: meta.owner_references.clone(), deleting: meta.deleting() };
                (meta.name.to_string(), known)
            })
            .collect()
    }

    /// Does one phase after the other. The tasks of a phase run in batches that double in size.
    async fn carry_out(&self, key: &Key, object: &Object, plan: &Plan) -> Result<(), Status> {
        let about = reference(API_VERSION, KIND, object);
        for phase in &plan.phases {
            let (mut left, mut batch) = (phase.as_slice(), 1);
            while !left.is_empty() {
                let (now, later) = left.split_at(batch.min(left.len()));
                let tasks = now.iter().map(|task| self.perform(key, &about, task));
                join_all(tasks).await.into_iter().collect::<Result<(), Status>>()?;
                left = later;
                batch = (batch * 2).min(BATCH_MAX);
            }
        }
        Ok(())
    }

    async fn perform(&self, key: &Key, about: &Reference, task: &[Todo]) -> Result<(), Status> {
        for todo in task {
            self.do_one(key, about, todo).await?;
        }
        Ok(())
    }

    async fn do_one(&self, key: &Key, about: &Reference, todo: &Todo) -> Result<(), Status> {
        let (client, options) = (&self.writer.client, WriteOptions::default());
        match todo {
            Todo::Claim { pod, body } => {
                let within = claims().within(&*key.namespace);
                let created = client.create(&within, body.clone(), &options).await;
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                let what = format!("Claim {name} Pod {pod}");
                match created {
                    Ok(claim) => {
                        self.claim_writes.note(key, claim.revision());
                        let message = format!("Create {what} in StatefulSet {} success", key.name);
                        self.writer.events.normal(about, "SuccessfulCreate", message);
                        Ok(())
                    }
                    Err(status) if status.is_already_exists() => Ok(()),
                    Err(status) => {
                        let what = format!("Create Claim {name} for Pod {pod} in StatefulSet {}", key.name);
                        let message = format!("{what} failed error: {status}");
                        self.writer.events.warning(about, "FailedCreate", message);
                        Err(status)
                    }
                }
            }
            Todo::Reown(change) => self.reown(key, about, change).await,
            Todo::Create { pod, body } => {
                let within = Collection::core("pods").within(&*key.namespace);
                let created = client.create(&within, body.clone(), &options).await;
                let done = created.map(|made| self.writer.writes.note(key, made.revision()));
                match done {
                    Err(status) if status.is_already_exists() => Err(status),
                    done => self.tell(key, about, ["SuccessfulCreate", "FailedCreate", "Create"], pod, done),
                }
            }
            Todo::Identify { pod, labels } => {
                let done = self.writer.patch(key, pod, json!({"metadata": {"labels": labels}})).await;
                self.tell(key, about, ["SuccessfulUpdate", "FailedUpdate", "Update"], pod, done)
            }
            Todo::Delete { pod } => {
                let target = Collection::core("pods").item(&key.namespace, pod);
                let done = match client.delete(&target, &DeleteOptions::default()).await {
                    Ok(left) => {
                        if let Some(left) = left {
                            self.writer.writes.note(key, left.revision());
                        }
                        Ok(())
                    }
                    // It was deleted before; that has been told then.
                    Err(status) if status.is_not_found() => return Ok(()),
                    Err(status) => Err(status),
                };
                self.tell(key, about, ["SuccessfulDelete", "FailedDelete", "Delete"], pod, done)
            }
            Todo::Blocked { pod, why } => {
                let done = Err(Status::internal(why));
                self.tell(key, about, ["SuccessfulCreate", "FailedCreate", "Create"], pod, done)
            }
        }
    }

    /// Tells what became of a pod.
    fn tell(
        &self,
        key: &Key,
        about: &Reference,
        [good, bad, verb]: [&'static str; 3],
        pod: &str,
        done: Result<(), Status>,
    ) -> Result<(), Status> {
        let what = format!("{verb} Pod {pod} in StatefulSet {}", key.name);
        match &done {
            Ok(()) => self.writer.events.normal(about, good, format!("{what} successful")),
            Err(status) => {
                self.writer.events.warning(about, bad, format!("{what} failed error: {status}"));
            }
        }
        done
    }

    async fn reown(&self, key: &Key, about: &Reference, change: &Reowned) -> Result<(), Status> {
        let Some(claim) = self.claims.get(&key.namespace, &change.claim) else { return Ok(()) };
        if change.conflict {
            let message = format!(
                "PersistentVolumeClaim {} has a conflicting OwnerReference that acts as a manging controller, \
                 the retention policy is ignored for this claim",
                change.claim
            );
            self.writer.events.warning(about, "ConflictingController", message);
        }
        let mut tree = claim.value();
        let ours = |owner: &Value| {
            serde_json::from_value::<OwnerReference>(owner.clone())
                .is_ok_and(|o| names(&o, API_VERSION, KIND, &key.name) || names(&o, "v1", "Pod", &change.pod))
        };
        let mut owners = tree["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        owners.retain(|owner| !ours(owner));
        owners.extend(change.owner.clone());
        tree["metadata"]["ownerReferences"] = owners.into();
        let target = claims().item(&key.namespace, &change.claim);
        match self.writer.client.update(&target, tree, &WriteOptions::default()).await {
            Ok(claim) => {
                self.claim_writes.note(key, claim.revision());
                Ok(())
            }
            Err(status) if status.is_not_found() => Ok(()),
            Err(status) => Err(status),
        }
    }

    async fn write_status(
        &self,
        key: &Key,
        object: &Object,
        before: &SetStatus,
        status: &SetStatus,
    ) -> Result<(), Status> {
        if before == status {
            return Ok(());
        }
        let mut tree = object.value();
        tree["status"] = status.value();
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

/// The revisions, oldest first, that are more than the limit and that no pod has.
fn surplus(set: &Set, settled: &Settled, live: &[&str]) -> Vec<String> {
    let Ok(limit) = usize::try_from(set.spec.revision_history_limit.unwrap_or(10)) else {
        return Vec::new();
    };
    let past = settled.others.iter().map(Revision::name).filter(|name| !live.contains(name));
    let past: Vec<String> = past.map(str::to_owned).collect();
    past[..past.len().saturating_sub(limit)].to_vec()
}
