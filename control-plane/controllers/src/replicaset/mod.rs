//! Keeps as many pods as a ReplicaSet, or a ReplicationController, asks for.

mod plan;

use crate::podwriter::PodWriter;
use crate::runtime::{CATCH_UP, Key, Outcome, Queue, feed, feed_owner, feed_self, work};
use crate::views::{self, controller_reference, reference};
use crate::{Context, pods_of};
use jiff::Timestamp;
pub(crate) use plan::pod_from;
use plan::{Input, Plan, Spec, plan};
use serde_json::{Value, json};
use skep_api::{LabelSelector, Object, Status};
use skep_client::{Client, Collection, Informer, WriteOptions};
use std::sync::Arc;

/// What tells the two kinds apart: names, and how the selector is written.
struct Kind {
    api_version: &'static str,
    name: &'static str,
    plural: &'static str,
    controller: &'static str,
    selector: fn(&Value) -> Option<LabelSelector>,
    /// Whether the status has a number for pods that are going away.
    tells_terminating: bool,
}

static REPLICA_SET: Kind = Kind {
    api_version: "apps/v1",
    name: "ReplicaSet",
    plural: "replicasets",
    controller: "replicaset-controller",
    selector: |selector| LabelSelector::from_structure(Some(selector)),
    tells_terminating: true,
};

static REPLICATION_CONTROLLER: Kind = Kind {
    api_version: "v1",
    name: "ReplicationController",
    plural: "replicationcontrollers",
    controller: "replication-controller",
    selector: |labels| LabelSelector::from_structure(Some(&json!({"matchLabels": labels}))),
    tells_terminating: false,
};

impl Kind {
    fn collection(&self) -> Collection {
        match self.api_version.split_once('/') {
            Some((group, version)) => Collection::of(group, version, self.plural),
            None => Collection::core(self.plural),
        }
    }
}

struct Controller {
    kind: &'static Kind,
    client: Arc<dyn Client>,
    sets: Informer,
    pods: Informer,
    pod: PodWriter,
}

/// Starts the controllers of both kinds.
pub(crate) fn start(context: &Context) {
    for kind in [&REPLICA_SET, &REPLICATION_CONTROLLER] {
        start_for(kind, context);
    }
}

fn start_for(kind: &'static Kind, context: &Context) {
    let client = context.client(kind.controller);
    let controller = Arc::new(Controller {
        kind,
        pod: PodWriter::new(client.clone(), kind.controller),
        client,
        sets: context.informers.of(&kind.collection()),
        pods: context.informers.pods.clone(),
    });
    let queue = Queue::default();
    feed_self(&controller.sets, &queue);
    feed_owner(&controller.pods, &queue, kind.name);
    let sets = controller.sets.clone();
    // A pod that nobody manages may belong to any set of its namespace.
    feed(&controller.pods, &queue, move |change| {
        let orphan = change.new.as_ref().filter(|pod| pod.meta().controller().is_none());
        orphan
            .map(|pod| sets.namespace(&pod.meta().namespace))
            .into_iter()
            .flatten()
            .map(|s| Key::of(&s))
            .collect()
    });
    work(kind.controller, &queue, 5, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        if !self.pod.writes.seen(key, &self.pods) {
            return Ok(Some(CATCH_UP));
        }
        let Some(object) = self.sets.get(&key.namespace, &key.name) else { return Ok(None) };
        let tree = object.value();
        let spec: Spec = serde_json::from_value(tree["spec"].clone()).map_err(Status::internal)?;
        let Some(selector) = (self.kind.selector)(&spec.selector) else { return Ok(None) };
        let members = pods_of(&self.pods, &key.namespace, &object.meta().uid, &selector);
        let plan = plan(&Input {
            uid: &object.meta().uid,
            deleting: object.meta().deleting(),
            generation: object.meta().generation,
            spec: &spec,
            selector: &selector,
            pods: &members,
            now: Timestamp::now(),
        });
        let result = self.carry_out(key, &object, &spec, &plan).await;
        self.write_status(key, tree, &plan, result.as_ref().err()).await?;
        result.map(|()| plan.again)
    }

    async fn carry_out(&self, key: &Key, set: &Object, spec: &Spec, plan: &Plan) -> Result<(), Status> {
        let owner =
            controller_reference(self.kind.api_version, self.kind.name, &set.meta().name, &set.meta().uid);
        for name in &plan.adopt {
            self.pod.patch(key, name, json!({"metadata": {"ownerReferences": [owner]}})).await?;
        }
        for name in &plan.release {
            let gone =
                json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": set.meta().uid}]}});
            self.pod.patch(key, name, gone).await?;
        }
        let about = reference(self.kind.api_version, self.kind.name, set);
        let missing = vec![pod_from(&spec.template, &set.meta().name, owner); plan.create];
        self.pod.create(key, &about, &missing).await.map_err(|(_, status)| status)?;
        self.pod.delete(key, &about, &plan.delete).await
    }

    async fn write_status(
        &self,
        key: &Key,
        mut tree: Value,
        plan: &Plan,
        failure: Option<&Status>,
    ) -> Result<(), Status> {
        let mut status = plan.counts.clone();
        if let Some(map) = status.as_object_mut().filter(|_| !self.kind.tells_terminating) {
            map.remove("terminatingReplicas");
        }
        if let Some(condition) = failure_condition(&tree["status"], plan, failure) {
            status["conditions"] = json!([condition]);
        }
        if tree["status"] == status {
            return Ok(());
        }
        tree["status"] = status;
        let target = self.kind.collection().item(&key.namespace, &key.name).sub("status");
        match self.client.update(&target, tree, &WriteOptions::default()).await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(()),
        }
    }
}

/// The ReplicaFailure condition while creating or deleting fails; the one that is there keeps its time.
fn failure_condition(old: &Value, plan: &Plan, failure: Option<&Status>) -> Option<Value> {
    let failure = failure?;
    let known = old["conditions"].as_array().and_then(|c| c.iter().find(|c| c["type"] == "ReplicaFailure"));
    if let Some(known) = known {
        return Some(known.clone());
    }
    let reason = if plan.create > 0 { "FailedCreate" } else { "FailedDelete" };
    Some(json!({
        "type": "ReplicaFailure", "status": "True", "reason": reason, "message": failure.message,
        "lastTransitionTime": views::time(Timestamp::now()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_as_each_kind_writes_them() {
        let labels: std::collections::BTreeMap<Box<str>, Box<str>> = [("app".into(), "web".into())].into();
        let set = (REPLICA_SET.selector)(&json!({"matchLabels": {"app": "web"}})).unwrap();
        let controller = (REPLICATION_CONTROLLER.selector)(&json!({"app": "web"})).unwrap();
        assert!(set.matches(&labels) && controller.matches(&labels));
        assert!(!(REPLICATION_CONTROLLER.selector)(&json!({"app": "api"})).unwrap().matches(&labels));
        assert_eq!(REPLICATION_CONTROLLER.collection().path(), "/api/v1/replicationcontrollers");
        assert_eq!(REPLICA_SET.collection().path(), "/apis/apps/v1/replicasets");
    }
}
