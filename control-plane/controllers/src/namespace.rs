//! Empties namespaces that are being deleted, and lets them go.

use crate::runtime::{Key, Outcome, Queue, feed_self, work};
use crate::{Context, ManagedResource};
use serde_json::Value;
use skep_api::Status;
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
        let mut left = 0;
        for resource in resources.iter().filter(|resource| resource.namespaced) {
            left += self.empty(resource, &key.name).await?;
        }
        if left > 0 {
            tracing::debug!(
                namespace = key.name,
                left,
                "objects are still in a namespace that is being deleted"
            );
            return Ok(Some(AGAIN));
        }
        self.finalize(&key.name, tree).await.map(|()| None)
    }

    /// Deletes the objects of a resource; answers how many are still there.
    async fn empty(&self, resource: &ManagedResource, namespace: &str) -> Result<usize, Status> {
        match self.delete_all(resource, namespace).await {
            // The resource went away, and its objects with it.
            Err(status) if status.is_not_found() => Ok(0),
            done => done,
        }
    }

    async fn delete_all(&self, resource: &ManagedResource, namespace: &str) -> Result<usize, Status> {
        let collection = resource.collection.within(namespace);
        let all = ListOptions::default();
        let list = self.client.list(&collection, &all).await?;
        if list.items.iter().any(|o| !o.meta().deleting()) {
            let options =
                DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
            self.client.delete_collection(&collection, &all, &options).await?;
            return Ok(self.client.list(&collection, &all).await?.items.len());
        }
        Ok(list.items.len())
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
