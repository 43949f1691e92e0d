//! The garbage collector: deletes what no owner needs any more.

mod graph;

use crate::runtime::{Key, Outcome, Queue, work};
use crate::{Context, ManagedResource};
use graph::{Graph, Node, Uid, Verdict};
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use skep_api::meta::OwnerReference;
use skep_api::{GroupVersion, Status};
use skep_client::{
    Change, Client, Collection, DeleteOptions, Informer, Patch, Propagation, Target, WriteOptions,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Dependents of a cleared owner are looked at again after this, in case an event was for naught.
const AGAIN: Duration = Duration::from_secs(5);

/// So long the end of its objects is still noted after a resource went: what was on its way arrives.
const LINGER: Duration = Duration::from_secs(30);

struct Collector {
    client: Arc<dyn Client>,
    graph: Mutex<Graph>,
    /// All that have been followed, by the index that the nodes name; never shortened.
    resources: RwLock<Vec<ManagedResource>>,
}

/// The resources whose changes are noted.
struct Followed {
    collector: Arc<Collector>,
    queue: Queue,
    /// Index and task of each.
    tasks: HashMap<Collection, (usize, tokio::task::JoinHandle<()>)>,
}

/// Starts the collector; it acts once it has seen all objects of all resources.
pub(crate) async fn start(context: &Context) {
    let collector = Arc::new(Collector {
        client: context.client("generic-garbage-collector"),
        graph: Mutex::default(),
        resources: RwLock::default(),
    });
    let queue = Queue::default();
    let mut resources = context.config.resources.clone();
    let mut followed = Followed { collector: collector.clone(), queue: queue.clone(), tasks: HashMap::new() };
    let first = resources.borrow_and_update().clone();
    let views: Vec<Informer> = first.iter().map(|r| context.informers.of(&r.collection)).collect();
    for view in &views {
        view.synced().await;
    }
    for (resource, view) in first.into_iter().zip(views) {
        followed.follow(resource, view);
    }
    let client = context.client("kube-controller-manager");
    tokio::spawn(async move {
        while resources.changed().await.is_ok() {
            let now = resources.borrow_and_update().clone();
            followed.change(now, &client);
        }
    });
    work("garbage", &queue, 4, move |key| {
        let collector = collector.clone();
        async move { collector.reconcile(&key.name).await }
    });
}

impl Followed {
    /// Begins to take note of the changes of a resource.
    fn follow(&mut self, resource: ManagedResource, view: Informer) {
        let collection = resource.collection.clone();
        let index = {
            let mut all = self.collector.resources.write();
            all.push(resource);
            all.len() - 1
        };
        let (collector, queue) = (self.collector.clone(), self.queue.clone());
        let task = tokio::spawn(async move {
            // The view is held here for as long as its changes are followed.
            let mut changes = view.subscribe();
            while let Some(change) = changes.recv().await {
                for uid in collector.note(index, &change) {
                    queue.add(Key::new("", &uid));
                }
            }
        });
        self.tasks.insert(collection, (index, task));
    }

    /// Follows what has come and lets go what went.
    fn change(&mut self, now: Vec<ManagedResource>, client: &Arc<dyn Client>) {
        let gone: Vec<Collection> = self
            .tasks
            .keys()
            .filter(|followed| now.iter().all(|resource| resource.collection != **followed))
            .cloned()
            .collect();
        for resource in now {
            if !self.tasks.contains_key(&resource.collection) {
                let view = Informer::all(client.clone(), resource.collection.clone());
                self.follow(resource, view);
            }
        }
        for collection in gone {
            let Some((index, task)) = self.tasks.remove(&collection) else { continue };
            let collector = self.collector.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LINGER).await;
                task.abort();
                collector.graph.lock().forget(index);
            });
        }
    }
}

impl Collector {
    /// Takes note of a change; answers what needs a verdict.
    fn note(&self, resource: usize, change: &Change) -> Vec<Uid> {
        let mut graph = self.graph.lock();
        let mut affected = Vec::new();
        match (&change.old, &change.new) {
            (Some(old), Some(new)) if old.meta().uid != new.meta().uid => {
                affected.extend(graph.remove(&old.meta().uid));
                affected.extend(graph.upsert(resource, new.meta()));
            }
            (_, Some(new)) => affected.extend(graph.upsert(resource, new.meta())),
            (Some(old), None) => affected.extend(graph.remove(&old.meta().uid)),
            (None, None) => {}
        }
        affected
    }

    fn target(&self, node: &Node) -> Target {
        self.resources.read()[node.resource].collection.item(&node.meta.namespace, &node.meta.name)
    }

    fn node(&self, uid: &str) -> Option<Node> {
        self.graph.lock().get(uid).cloned()
    }

    async fn reconcile(&self, uid: &str) -> Outcome {
        let (node, verdict) = {
            let graph = self.graph.lock();
            (graph.get(uid).cloned(), graph.verdict(uid))
        };
        let Some(node) = node else { return Ok(None) };
        match verdict {
            Verdict::Keep => Ok(None),
            Verdict::Look(owners) => {
                for owner in owners {
                    if self.is_gone(&node, &owner).await? {
                        self.graph.lock().is_absent(&owner.uid);
                    }
                }
                // An owner that exists but is not in the view yet will be there soon.
                let again = matches!(self.graph.lock().verdict(uid), Verdict::Look(_));
                Ok(Some(if again { AGAIN } else { Duration::from_millis(1) }))
            }
            Verdict::Delete { foreground } => {
                let policy = if foreground { Propagation::Foreground } else { self.own_policy(&node) };
                self.delete(&node, Some(policy)).await?;
                Ok(None)
            }
            Verdict::Disown(owners) => {
                self.disown(&node, &owners).await?;
                Ok(None)
            }
            Verdict::Clear(dependents) => {
                for dependent in dependents.iter().filter_map(|d| self.node(d)) {
                    let verdict = self.graph.lock().verdict(&dependent.meta.uid);
                    let policy = match verdict {
                        Verdict::Delete { foreground: true } => Propagation::Foreground,
                        Verdict::Delete { foreground: false } => Propagation::Background,
                        // Another owner keeps it; this one no longer waits for it.
                        Verdict::Disown(owners) => {
                            self.disown(&dependent, &owners).await?;
                            continue;
                        }
                        _ => continue,
                    };
                    self.delete(&dependent, Some(policy)).await?;
                }
                Ok(Some(AGAIN))
            }
            Verdict::Free(dependents) => {
                for dependent in dependents.iter().filter_map(|d| self.node(d)) {
                    self.disown(&dependent, &[uid.into()]).await?;
                }
                Ok(Some(AGAIN))
            }
            Verdict::Unblock => {
                self.unblock(&node).await?;
                Ok(None)
            }
            Verdict::Release(finalizer) => {
                self.release(&node, finalizer).await?;
                Ok(None)
            }
        }
    }

    /// An object that was deleted with a policy keeps it for its own dependents.
    fn own_policy(&self, node: &Node) -> Propagation {
        let has = |f: &str| node.meta.finalizers.iter().any(|x| **x == *f);
        match (has(graph::ORPHAN), has(graph::FOREGROUND)) {
            (true, _) => Propagation::Orphan,
            (_, true) => Propagation::Foreground,
            _ => Propagation::Background,
        }
    }

    /// Whether an owner does not exist, or is another object of the same name.
    async fn is_gone(&self, dependent: &Node, owner: &OwnerReference) -> Result<bool, Status> {
        let version = GroupVersion::parse(&owner.api_version);
        // The last one that was followed: an earlier one of that kind may have gone.
        let wanted = |r: &&ManagedResource| r.kind.kind == *owner.kind && r.kind.group == version.group;
        let resource = self.resources.read().iter().rfind(wanted).cloned();
        let Some(resource) = resource else { return Ok(false) }; // a kind this server does not know: wait
        if resource.namespaced && dependent.meta.namespace.is_empty() {
            return Ok(false); // a cluster-scoped object cannot have such an owner; leave it for people to see
        }
        let namespace = if resource.namespaced { &*dependent.meta.namespace } else { "" };
        match self.client.get(&resource.collection.item(namespace, &owner.name)).await {
            Ok(found) => Ok(found.meta().uid != owner.uid),
            Err(status) if status.is_not_found() => Ok(true),
            Err(status) => Err(status),
        }
    }

    /// Deletes this very object: one of the same name that came after it is left alone.
    async fn delete(&self, node: &Node, propagation: Option<Propagation>) -> Result<(), Status> {
        let options =
            DeleteOptions { uid: Some(node.meta.uid.to_string()), propagation, ..DeleteOptions::default() };
        harmless(self.client.delete(&self.target(node), &options).await.map(|_| ()))
    }

    async fn disown(&self, node: &Node, owners: &[Uid]) -> Result<(), Status> {
        self.change(node, |tree| {
            let list = tree.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut)?;
            let before = list.len();
            list.retain(|o| !owners.iter().any(|uid| o["uid"] == **uid));
            let left = Value::Array(list.clone());
            (before != list.len()).then(|| json!({"ownerReferences": left}))
        })
        .await
    }

    async fn unblock(&self, node: &Node) -> Result<(), Status> {
        self.change(node, |tree| {
            let list = tree.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut)?;
            let mut changed = false;
            for owner in list.iter_mut().filter(|owner| owner["blockOwnerDeletion"] == true) {
                owner["blockOwnerDeletion"] = false.into();
                changed = true;
            }
            let references = Value::Array(list.clone());
            changed.then(|| json!({"ownerReferences": references}))
        })
        .await
    }

    async fn release(&self, node: &Node, finalizer: &str) -> Result<(), Status> {
        self.change(node, |tree| {
            let list = tree.pointer_mut("/metadata/finalizers").and_then(Value::as_array_mut)?;
            let before = list.len();
            list.retain(|f| f != finalizer);
            let left = Value::Array(list.clone());
            (before != list.len()).then(|| json!({"finalizers": left}))
        })
        .await
    }

    /// Changes the metadata of the object as it is now, with its resource version as the condition.
    async fn change(&self, node: &Node, edit: impl Fn(&mut Value) -> Option<Value>) -> Result<(), Status> {
        let target = self.target(node);
        let object = match self.client.get(&target).await {
            Ok(object) => object,
            Err(status) => return harmless(Err(status)),
        };
        if object.meta().uid != node.meta.uid {
            return Ok(());
        }
        let Some(mut metadata) = edit(&mut object.value()) else { return Ok(()) };
        metadata["uid"] = (*node.meta.uid).into();
        metadata["resourceVersion"] = object.revision().to_string().into();
        let patch = Patch::Merge(json!({"metadata": metadata}));
        harmless(self.client.patch(&target, &patch, &WriteOptions::default()).await.map(|_| ()))
    }
}

/// That an object is gone already is no failure; that it is another one (a uid that differs) neither.
fn harmless(result: Result<(), Status>) -> Result<(), Status> {
    match result {
        Err(status) if status.is_not_found() => Ok(()),
        Err(status) if status.is_conflict() && status.message.contains("UID") => Ok(()),
        other => other,
    }
}
