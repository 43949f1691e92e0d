//! Runs the pods of Jobs to their end, and counts each end once.

mod failure;
mod model;
mod orphans;
mod plan;
mod ttl;

use crate::podwriter::PodWriter;
use crate::runtime::{CATCH_UP, Key, Outcome, OwnWrites, Queue, feed, feed_owner, feed_self, work};
use crate::views::{controller_reference, reference};
use crate::{Context, pods_of};
use futures::future::join_all;
use jiff::Timestamp;
use model::{FINALIZER, Job};
use plan::{Input, Plan, plan};
use serde_json::{Value, json};
use skep_api::{LabelSelector, Object, Status};
use skep_client::{Collection, Informer, WriteOptions, typed};
use std::sync::Arc;

const API_VERSION: &str = "batch/v1";
const KIND: &str = "Job";

struct Controller {
    jobs: Informer,
    pods: Informer,
    writer: PodWriter,
    writes: OwnWrites,
}

fn jobs() -> Collection {
    Collection::of("batch", "v1", "jobs")
}

/// A patch that takes the tracking finalizer away.
fn untracked() -> Value {
    json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}})
}

/// Starts the controller, and those that clean up after Jobs.
pub(crate) fn start(context: &Context) {
    let controller = Arc::new(Controller {
        jobs: context.informers.of(&jobs()),
        pods: context.informers.pods.clone(),
        writer: PodWriter::new(context.client("job-controller"), "job-controller"),
        writes: OwnWrites::default(),
    });
    let queue = Queue::default();
    feed_self(&controller.jobs, &queue);
    feed_owner(&controller.pods, &queue, KIND);
    let all = controller.jobs.clone();
    // A pod that nobody manages may belong to any Job of its namespace.
    feed(&controller.pods, &queue, move |change| {
        let orphan = change.new.as_ref().filter(|pod| pod.meta().controller().is_none());
        let near = orphan.map(|pod| all.namespace(&pod.meta().namespace)).into_iter().flatten();
        near.map(|job| Key::of(&job)).collect()
    });
    let orphans = controller.clone();
    work("job", &queue, 5, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    orphans::start(orphans);
    ttl::start(context);
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        if !self.writer.writes.seen(key, &self.pods) || !self.writes.seen(key, &self.jobs) {
            return Ok(Some(CATCH_UP));
        }
        let Some(object) = self.jobs.get(&key.namespace, &key.name) else { return Ok(None) };
        let job: Job = typed::decode(&object)?;
        if job.foreign() || job.finished().is_some() {
            return Ok(None);
        }
        let Some(selector) = LabelSelector::from_structure(Some(&job.spec.selector)) else { return Ok(None) };
        let members = pods_of(&self.pods, &key.namespace, &job.metadata.uid, &selector);
        let mut tree = object.value();
        let plan = plan(&Input {
            job: &job,
            status: &tree["status"],
            selector: &selector,
            pods: &members,
            now: Timestamp::now(),
        });
        let written = tree["status"].take();
        self.carry_out(key, &object, tree, written, &plan).await?;
        Ok(plan.again)
    }

    async fn carry_out(
        &self,
        key: &Key,
        object: &Object,
        mut tree: Value,
        mut written: Value,
        plan: &Plan,
    ) -> Result<(), Status> {
        let meta = object.meta();
        let about = reference(API_VERSION, KIND, object);
        let owner = controller_reference(API_VERSION, KIND, &meta.name, &meta.uid);
        for name in &plan.adopt {
            let patch = json!({"metadata": {"ownerReferences": [owner], "finalizers": [FINALIZER]}});
            self.writer.patch(key, name, patch).await?;
        }
        for name in &plan.release {
            let mut patch = untracked();
            patch["metadata"]["ownerReferences"] = json!([{"$patch": "delete", "uid": meta.uid}]);
            self.writer.patch(key, name, patch).await?;
        }
        self.untrack(key, &plan.strip).await?;
        self.writer.delete(key, &about, &plan.delete).await?;
        let created = self.writer.create(key, &about, &plan.create).await;
        // Pods that could not be made are not active.
        let missing = created.as_ref().err().map_or(0, |(missing, _)| i64::try_from(*missing).unwrap_or(0));
        let less = |status: &Value| {
            let mut status = status.clone();
            if let Some(active) = status["active"].as_i64().filter(|_| missing > 0) {
                status["active"] = active.saturating_sub(missing).into();
            }
            status
        };
        if let Some(first) = &plan.first {
            self.write_status(key, &mut tree, &mut written, less(first)).await?;
        }
        self.untrack(key, &plan.untrack).await?;
        if plan.adopt.is_empty() {
            self.write_status(key, &mut tree, &mut written, less(&plan.then)).await?;
        }
        for (bad, reason, message) in &plan.events {
            if *bad {
                self.writer.events.warning(&about, reason, message.clone());
            } else {
                self.writer.events.normal(&about, reason, message.clone());
            }
        }
        created.map_err(|(_, status)| status)
    }

    async fn untrack(&self, key: &Key, names: &[String]) -> Result<(), Status> {
        let calls = names.iter().map(|name| self.writer.patch(key, name, untracked()));
        join_all(calls).await.into_iter().collect()
    }

    async fn write_status(
        &self,
        key: &Key,
        tree: &mut Value,
        written: &mut Value,
        status: Value,
    ) -> Result<(), Status> {
        if *written == status {
            return Ok(());
        }
        tree["status"] = status.clone();
        let target = jobs().item(&key.namespace, &key.name).sub("status");
        match self.writer.client.update(&target, tree.clone(), &WriteOptions::default()).await {
            Ok(job) => {
                self.writes.note(key, job.revision());
                tree["metadata"]["resourceVersion"] = job.revision().to_string().into();
                *written = status;
                Ok(())
            }
            Err(status) if status.is_not_found() => Ok(()),
            Err(status) => Err(status),
        }
    }
}
