//! Counts what PodDisruptionBudgets allow, and takes back marks of evictions that never came.

mod plan;
mod scale;

use crate::Context;
use crate::runtime::{CATCH_UP, Key, Outcome, OwnWrites, Queue, feed, feed_self, work};
use crate::views::{self, Pod, reference};
use jiff::Timestamp;
use plan::{Budget, Input, Scales, plan, stale_mark};
use scale::{Finder, Unknown};
use serde_json::{Value, json};
use skep_api::kinds::policy::budget;
use skep_api::{LabelSelector, Object, Status};
use skep_client::{Client, Collection, Informer, Patch, Recorder, Reference, WriteOptions, typed};
use std::sync::Arc;

const CONTROLLER: &str = "disruption-controller";
/// Who events are from.
const COMPONENT: &str = "controllermanager";
const API_VERSION: &str = "policy/v1";
const KIND: &str = "PodDisruptionBudget";

struct Controller {
    client: Arc<dyn Client>,
    budgets: Informer,
    pods: Informer,
    finder: Finder,
    events: Recorder,
    writes: OwnWrites,
}

fn budgets() -> Collection {
    Collection::of("policy", "v1", "poddisruptionbudgets")
}

/// The selector of a budget; none selects nothing.
fn selector(budget: &Object) -> Option<LabelSelector> {
    LabelSelector::from_structure(budget.value().pointer("/spec/selector"))
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let client = context.client(CONTROLLER);
    let controller = Arc::new(Controller {
        finder: Finder::new(client.clone(), context),
        events: Recorder::start(client.clone(), COMPONENT, ""),
        client,
        budgets: context.informers.of(&budgets()),
        pods: context.informers.pods.clone(),
        writes: OwnWrites::default(),
    });
    let queue = Queue::default();
    feed_self(&controller.budgets, &queue);
    let all = controller.budgets.clone();
    feed(&controller.pods, &queue, move |change| {
        let versions: Vec<&Arc<Object>> = [&change.old, &change.new].into_iter().flatten().collect();
        let Some(namespace) = versions.first().map(|pod| pod.meta().namespace.clone()) else {
            return Vec::new();
        };
        let guards = |budget: &Object| {
            let wanted = selector(budget);
            wanted.is_some_and(|wanted| versions.iter().any(|pod| wanted.matches(&pod.meta().labels)))
        };
        all.namespace(&namespace).iter().filter(|b| guards(b)).map(|b| Key::of(b)).collect()
    });
    let marks = controller.clone();
    work("disruption", &queue, 2, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    let marked = Queue::default();
    feed(&marks.pods, &marked, |change| {
        // Few pods have the mark; the others are not worth reading.
        let has_mark = |pod: &&Arc<Object>| {
            std::str::from_utf8(pod.body()).is_ok_and(|text| text.contains(budget::MARK))
        };
        let pod = change
            .new
            .as_ref()
            .filter(has_mark)
            .and_then(|pod| typed::decode::<Pod>(pod).ok().map(|p| (pod, p)));
        let pod = pod.filter(|(_, p)| stale_mark(p, Timestamp::now()).is_some());
        pod.map(|(object, _)| Key::of(object)).into_iter().collect()
    });
    work("stale-disruption", &marked, 1, move |key| {
        let controller = marks.clone();
        async move { controller.take_back(&key).await }
    });
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        if !self.writes.seen(key, &self.budgets) {
            return Ok(Some(CATCH_UP));
        }
        let Some(object) = self.budgets.get(&key.namespace, &key.name) else { return Ok(None) };
        let budget: Budget = typed::decode(&object)?;
        let about = reference(API_VERSION, KIND, &object);
        let pods = match LabelSelector::from_structure(Some(&budget.spec.selector)) {
            Some(wanted) => {
                let near = self.pods.namespace(&key.namespace).into_iter();
                views::pods(near.filter(|pod| wanted.matches(&pod.meta().labels)))
            }
            None => Vec::new(),
        };
        if pods.is_empty() {
            self.events.normal(&about, "NoPods", "No matching pods found");
        }
        let scales = match self.scales(key, &budget, &pods, &about).await {
            Ok(scales) => scales,
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                self.events.warning(&about, "CalculateExpectedPodCountFailed", message);
                let failed = budget::failed(budget.status, &why.to_string(), Timestamp::now());
                return self.write_status(key, &object, failed).await.map(|()| None);
            }
        };
        let plan = plan(&Input { budget: &budget, pods: &pods, scales: &scales, now: Timestamp::now() });
        for name in &plan.kept {
            if let Some(pod) = self.pods.get(&key.namespace, name) {
                let message = format!(
                    "Pod was expected by PDB {}/{} to be deleted but it wasn't",
                    key.namespace, key.name
                );
                self.events.warning(&reference("v1", "Pod", &pod), "NotDeleted", message);
            }
        }
        self.write_status(key, &object, plan.status).await?;
        Ok(plan.again)
    }

    /// The scales of the pods' controllers, where the budget is counted by them.
    async fn scales(
        &self,
        key: &Key,
        budget: &Budget,
        pods: &[Pod],
        about: &Reference,
    ) -> Result<Scales, Unknown> {
        if !budget.spec.asks_for_scale() {
            return Ok(Scales::new());
        }
        let (scales, loose) = self.finder.scales(&key.namespace, pods).await?;
        if !loose.is_empty() {
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, \
                 the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To \
                 account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.",
                budget.spec.selector
            );
            self.events.warning(about, "UnmanagedPods", message);
        }
        Ok(scales)
    }

    async fn write_status(&self, key: &Key, object: &Object, status: Value) -> Result<(), Status> {
        let mut tree = object.value();
        if tree["status"] == status {
            return Ok(());
        }
        tree["status"] = status;
        let target = budgets().item(&key.namespace, &key.name).sub("status");
        match self.client.update(&target, tree, &WriteOptions::default()).await {
            Ok(budget) => {
                self.writes.note(key, budget.revision());
                Ok(())
            }
            Err(status) if status.is_not_found() => Ok(()),
            Err(status) => Err(status),
        }
    }

    /// Takes back the mark of an eviction that never came.
    async fn take_back(&self, key: &Key) -> Outcome {
        let Some(object) = self.pods.get(&key.namespace, &key.name) else { return Ok(None) };
        let pod: Pod = typed::decode(&object)?;
        match stale_mark(&pod, Timestamp::now()) {
            None => Ok(None),
            Some(left) if !left.is_zero() => Ok(Some(left)),
            Some(_) => {
                let condition = json!({
                    "type": "DisruptionTarget", "status": "False", "reason": null, "message": null,
                    "lastTransitionTime": views::time(Timestamp::now()),
                });
                let patch = json!({
                    "metadata": {"uid": object.meta().uid}, "status": {"conditions": [condition]},
                });
                let target = Collection::core("pods").item(&key.namespace, &key.name).sub("status");
                match self.client.patch(&target, &Patch::Strategic(patch), &WriteOptions::default()).await {
                    Err(status) if !status.is_not_found() => Err(status),
                    _ => Ok(None),
                }
            }
        }
    }
}
