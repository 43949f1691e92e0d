//! Empties namespaces that are being deleted, and lets them go: pods first, so that nothing they use is taken from them
//! while they run (KEP-5080).

mod conditions;

use crate::runtime::{Key, Outcome, Queue, feed_self, work};
use crate::{Context, ManagedResource};
use conditions::Round;
use serde_json::Value;
use skep_api::kinds::rfc3339;
use skep_api::{Object, Status};
use skep_client::{Client, Collection, DeleteOptions, Informer, ListOptions, Propagation, WriteOptions};
use std::sync::Arc;
use std::time::Duration;

/// The finalizer in `spec.finalizers` that this controller answers for.
const FINALIZER: &str = "kubernetes";
/// How soon a namespace that still holds something is looked at again.
const AGAIN: Duration = Duration::from_millis(500);

struct Controller {
    client: Arc<dyn Client>,
    namespaces: Informer,
    resources: tokio::sync::watch::Receiver<Vec<ManagedResource>>,
}

/// Starts the controller.
pub(crate) fn start(context: &Context) {
    let controller = Arc::new(Controller {
        client: context.client("namespace-controller"),
        namespaces: context.informers.namespaces.clone(),
        resources: context.config.resources.clone(),
    });
    let queue = Queue::default();
    feed_self(&controller.namespaces, &queue);
    work("namespace", &queue, 5, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Outcome {
        let Some(namespace) = self.namespaces.get("", &key.name) else { return Ok(None) };
        if !namespace.meta().deleting() {
            return Ok(None);
        }
        let tree = namespace.value();
        if !finalizers(&tree).contains(&FINALIZER) {
            return Ok(None);
        }
        let resources = self.resources.borrow().clone();
        let (pods, others): (Vec<_>, Vec<_>) = resources
            .iter()
            .filter(|resource| resource.namespaced)
            .partition(|resource| resource.collection == Collection::core("pods"));
        let mut round = Round::default();
        let mut left = self.empty(&pods, &key.name, &mut round).await;
        if left == 0 {
            left = self.empty(&others, &key.name, &mut round).await;
        } else {
            // As long as pods are left, upstream counts nothing in the conditions.
            round = Round { errors: round.errors, ..Round::default() };
        }
        let told = self.tell(&key.name, &tree, &round).await?;
        if left > 0 || !round.errors.is_empty() {
            return Ok(Some(AGAIN));
        }
        if told {
            // The version at hand is no longer the latest; the next one comes with the change.
            return Ok(None);
        }
        self.finalize(&key.name, tree).await.map(|()| None)
    }

    /// Deletes the objects of some resources; answers how many are still there.
    async fn empty(&self, resources: &[&ManagedResource], namespace: &str, round: &mut Round) -> usize {
        let mut all = 0;
        for resource in resources {
            let left = match self.delete_all(resource, namespace).await {
                Ok(left) => left,
                // The resource went away, and its objects with it.
                Err(status) if status.is_not_found() => continue,
                Err(status) => {
                    round.errors.push(status.to_string());
                    continue;
                }
            };
            if left.is_empty() {
                continue;
            }
            all += left.len();
            let name = format!("{}.{}", resource.collection.resource, resource.kind.group);
            round.left.insert(name, left.len());
            for finalizer in left.iter().flat_map(|object| object.meta().finalizers.iter()) {
                *round.finalizers.entry(finalizer.to_string()).or_default() += 1;
            }
        }
        all
    }

    async fn delete_all(
        &self,
        resource: &ManagedResource,
        namespace: &str,
    ) -> Result<Vec<Arc<Object>>, Status> {
        let collection = resource.collection.within(namespace);
        let all = ListOptions::default();
        let list = self.client.list(&collection, &all).await?;
        if list.items.iter().any(|o| !o.meta().deleting()) {
            let options =
                DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
            self.client.delete_collection(&collection, &all, &options).await?;
            return Ok(self.client.list(&collection, &all).await?.items);
        }
        Ok(list.items)
    }

    /// Writes what a round showed into the status; answers whether that was news.
    async fn tell(&self, name: &str, tree: &Value, round: &Round) -> Result<bool, Status> {
        let old = tree.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        let Some(new) = round.conditions(&old, &rfc3339(jiff::Timestamp::now())) else { return Ok(false) };
        let mut tree = tree.clone();
        tree["status"]["conditions"] = new.into();
        let target = Collection::core("namespaces").object(name).sub("status");
        match self.client.update(&target, tree, &WriteOptions::default()).await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(true),
        }
    }

    async fn finalize(&self, name: &str, mut tree: Value) -> Result<(), Status> {
        let left: Vec<Value> =
            finalizers(&tree).into_iter().filter(|f| *f != FINALIZER).map(Into::into).collect();
        tree["spec"]["finalizers"] = left.into();
        let target = Collection::core("namespaces").object(name).sub("finalize");
        match self.client.update(&target, tree, &WriteOptions::default()).await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(()),
        }
    }
}

fn finalizers(tree: &Value) -> Vec<&str> {
    tree.pointer("/spec/finalizers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}
