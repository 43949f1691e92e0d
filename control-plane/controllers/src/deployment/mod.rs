//! Rolls a Deployment out over ReplicaSets.

mod model;
mod plan;
mod revision;
mod rollout;
mod status;

use crate::Context;
use crate::runtime::{CATCH_UP, Key, Outcome, OwnWrites, Queue, feed_owner, feed_self, work};
use crate::views::{managed_by, reference};
use jiff::Timestamp;
use model::{Deployment, REVISION, ReplicaSet, bare};
use plan::{Plan, plan, size_annotations, split};
pub(crate) use revision::hash as template_hash;
use serde_json::{Value, json};
use skep_api::{LabelSelector, Object, Status};
use skep_client::{
    Client, ClientExt, Collection, DeleteOptions, Informer, Patch, Recorder, Target, WriteOptions, typed,
};
use std::sync::Arc;

const API_VERSION: &str = "apps/v1";
const KIND: &str = "Deployment";

struct Controller {
    client: Arc<dyn Client>,
    deployments: Informer,
    sets: Informer,
    pods: Informer,
    events: Recorder,
    writes: OwnWrites,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let client = context.client("deployment-controller");
    let controller = Arc::new(Controller {
        events: Recorder::start(client.clone(), "deployment-controller", ""),
        client,
        deployments: context.informers.deployments.clone(),
        sets: context.informers.replica_sets.clone(),
        pods: context.informers.pods.clone(),
        writes: OwnWrites::default(),
    });
    let queue = Queue::default();
    feed_self(&controller.deployments, &queue);
    feed_owner(&controller.sets, &queue, KIND);
    work("deployment", &queue, 5, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

fn set_target(key: &Key, name: &str) -> Target {
    Collection::of("apps", "v1", "replicasets").item(&key.namespace, name)
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        if !self.writes.seen(key, &self.sets) {
            return Ok(Some(CATCH_UP));
        }
        let Some(object) = self.deployments.get(&key.namespace, &key.name) else { return Ok(None) };
        let deployment: Deployment = typed::decode(&object)?;
        let sets = self.own_sets(key, &object, &deployment).await?;
        let recreate_waits = !deployment.rolling() && self.old_pods_run(key, &deployment, &sets);
        let plan = plan(&deployment, &sets, recreate_waits, Timestamp::now());
        self.carry_out(key, &object, &deployment, &plan).await?;
        // A Recreate waits for pods, whose end does not change a ReplicaSet; look again soon.
        let again = if recreate_waits { Some(std::time::Duration::from_secs(1)) } else { plan.again };
        Ok(again)
    }

    /// The sets that the Deployment manages, after taking over those that match and nobody manages.
    async fn own_sets(
        &self,
        key: &Key,
        object: &Object,
        deployment: &Deployment,
    ) -> Result<Vec<ReplicaSet>, Status> {
        let uid = &object.meta().uid;
        let wanted = LabelSelector::from_structure(Some(&deployment.spec.selector));
        let mut own = Vec::new();
        for set in self.sets.namespace(&key.namespace) {
            let matches =
                wanted.as_ref().is_some_and(|s| !s.is_everything() && s.matches(&set.meta().labels));
            if managed_by(set.meta(), uid) {
                own.push(typed::decode(&set)?);
            } else if matches
                && set.meta().controller().is_none()
                && !set.meta().deleting()
                && !object.meta().deleting()
            {
                let owner = crate::views::controller_reference(API_VERSION, KIND, &key.name, uid);
                let patch = Patch::Strategic(
                    json!({"metadata": {"uid": set.meta().uid, "ownerReferences": [owner]}}),
                );
                let target = set_target(key, &set.meta().name);
                let adopted = self.client.patch(&target, &patch, &WriteOptions::default()).await?;
                self.writes.note(key, adopted.revision());
                own.push(typed::decode(&adopted)?);
            }
        }
        Ok(own)
    }

    /// Whether a pod of a set other than the new one still runs.
    fn old_pods_run(&self, key: &Key, deployment: &Deployment, sets: &[ReplicaSet]) -> bool {
        let (_, old) = split(deployment, sets);
        let pods = self.pods.namespace(&key.namespace);
        crate::views::pods(pods).iter().any(|pod| {
            !pod.is_finished() && old.iter().any(|set| managed_by(pod.meta(), &set.metadata.meta.uid))
        })
    }

    async fn carry_out(
        &self,
        key: &Key,
        object: &Object,
        deployment: &Deployment,
        plan: &Plan,
    ) -> Result<(), Status> {
        let options = WriteOptions::default();
        let about = reference(API_VERSION, KIND, object);
        if let Some(set) = &plan.create {
            self.create_set(key, object, deployment, set).await?;
        }
        if let Some((name, annotations, min_ready)) = &plan.annotate {
            let patch =
                json!({"metadata": {"annotations": annotations}, "spec": {"minReadySeconds": min_ready}});
            let written = self.client.patch(&set_target(key, name), &Patch::Merge(patch), &options).await?;
            self.writes.note(key, written.revision());
        }
        for step in &plan.scale {
            let patch = json!({
                "metadata": {"annotations": size_annotations(plan.sizes)},
                "spec": {"replicas": step.to},
            });
            let written =
                self.client.patch(&set_target(key, &step.name), &Patch::Merge(patch), &options).await?;
            self.writes.note(key, written.revision());
            let way = if step.to > step.from { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {} from {} to {}", step.name, step.from, step.to);
            self.events.normal(&about, "ScalingReplicaSet", message);
        }
        for name in &plan.delete {
            match self.client.delete(&set_target(key, name), &DeleteOptions::default()).await {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        self.write_status(key, object, plan.status.clone(), plan.revision.as_deref()).await
    }

    async fn write_status(
        &self,
        key: &Key,
        object: &Object,
        status: Value,
        revision: Option<&str>,
    ) -> Result<(), Status> {
        let mut tree = object.value();
        if tree["status"] == status && revision.is_none() {
            return Ok(());
        }
        tree["status"] = status;
        if let Some(revision) = revision {
            tree["metadata"]["annotations"][REVISION] = revision.into();
        }
        let target =
            Collection::of("apps", "v1", "deployments").item(&key.namespace, &key.name).sub("status");
        match self.client.update(&target, tree, &WriteOptions::default()).await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(()),
        }
    }

    /// Creates the new set. Its name is made of the template, so that a second try finds the first one's;
    /// a set of that name with another template is a collision, after which the hash is another.
    async fn create_set(
        &self,
        key: &Key,
        object: &Object,
        deployment: &Deployment,
        set: &Value,
    ) -> Result<(), Status> {
        let sets = Collection::of("apps", "v1", "replicasets").within(&*key.namespace);
        let name = set["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let about = reference(API_VERSION, KIND, object);
        match self.client.create(&sets, set.clone(), &WriteOptions::default()).await {
            Ok(created) => {
                self.writes.note(key, created.revision());
                let size = set["spec"]["replicas"].as_i64().unwrap_or(0);
                if size > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {size}");
                    self.events.normal(&about, "ScalingReplicaSet", message);
                }
                Ok(())
            }
            Err(status) if status.is_already_exists() => {
                let found: ReplicaSet = self.client.get_as(&sets.object(name)).await?;
                let same = managed_by(&found.metadata.meta, &object.meta().uid)
                    && found.bare_template() == bare(&deployment.spec.template);
                if same {
                    return Ok(());
                }
                let mut counted = deployment.status.clone();
                counted["collisionCount"] = (counted["collisionCount"].as_i64().unwrap_or(0) + 1).into();
                self.write_status(key, object, counted, None).await?;
                Err(status)
            }
            Err(status) => {
                let message = format!("Failed to create new replica set \"{name}\": {status}");
                self.events.warning(&about, "ReplicaSetCreateError", message);
                let event = status::Event::Failed(&name, &status.message);
                let (failed, _) = status::status(deployment, None, &[], event, Timestamp::now());
                self.write_status(key, object, failed, None).await?;
                Err(status)
            }
        }
    }
}
