//! The quota controller: counts what a namespace uses when a quota comes or changes, and from time to time again.
//!
//! Between counts every write keeps the usage itself, in its own transaction; so a count is only taken over where nothing was
//! written to the quota since it began.

use crate::runtime::{self, Key, Outcome, Queue};
use crate::{Context, ManagedResource};
use serde_json::Value;
use skep_api::kinds::quota::{recount, usage};
use skep_api::{GroupResource, Object};
use skep_client::{Client, Collection, Informer, ListOptions, WriteOptions};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const NAME: &str = "resourcequota-controller";
/// What time alone frees (pods that should be gone by now) is found this often.
const AGAIN: Duration = Duration::from_secs(300);

fn part<'a>(quota: &'a Value, pointer: &str) -> Option<&'a Value> {
    quota.pointer(pointer).filter(|part| !part.is_null())
}

/// Whether a change is one that no write has counted: a quota that is new, that asks for something else than it shows, or that
/// has just begun to show it (what was written while it was counted is in no count).
fn wants_count(old: Option<&Object>, new: &Object) -> bool {
    let Some(old) = old.map(Object::value) else { return true };
    let new = new.value();
    let same = |pointer: &str| part(&old, pointer) == part(&new, pointer);
    !same("/spec") || !same("/status/hard") || part(&new, "/spec/hard") != part(&new, "/status/hard")
}

struct Counter {
    client: Arc<dyn Client>,
    quotas: Informer,
    resources: watch::Receiver<Vec<ManagedResource>>,
}

fn group_resource(managed: &ManagedResource) -> GroupResource {
    GroupResource { group: managed.kind.group.clone(), resource: managed.collection.resource.clone() }
}

impl Counter {
    async fn count(&self, key: Key) -> Outcome {
        let quotas = Collection::core("resourcequotas");
        let target = quotas.item(&key.namespace, &key.name);
        let Some(found) = self.quotas.get(&key.namespace, &key.name) else { return Ok(None) };
        let mut quota = found.value();
        let known: Vec<(GroupResource, Collection)> = {
            let resources = self.resources.borrow();
            let namespaced = resources.iter().filter(|managed| managed.namespaced);
            namespaced.map(|managed| (group_resource(managed), managed.collection.clone())).collect()
        };
        let hard = part(&quota, "/spec/hard").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut objects = Vec::new();
        for (resource, collection) in &known {
            if usage::is_ignored(resource) || !hard.keys().any(|name| usage::tracks(resource, name)) {
                continue;
            }
            // A consistent view, not older than the quota that was read: whatever comes after it is charged to the quota.
            let listed =
                self.client.list(&collection.within(&*key.namespace), &ListOptions::default()).await?;
            objects.extend(listed.items.iter().map(|object| (resource, object.value())));
        }
        let resources: Vec<GroupResource> = known.iter().map(|(resource, _)| resource.clone()).collect();
        let all = objects.iter().map(|(resource, object)| (*resource, object));
        let status = recount(&quota, &resources, all, jiff::Timestamp::now());
        if part(&quota, "/status") != Some(&status) {
            // With the version that was read: where a write came between, the count is taken again.
            quota["status"] = status;
            self.client.update(&target.sub("status"), quota, &WriteOptions::default()).await?;
        }
        Ok(None)
    }
}

pub(crate) fn start(context: &Context) {
    let informer = context.informers.of(&Collection::core("resourcequotas"));
    let queue = Queue::default();
    runtime::feed(&informer, &queue, |change| match &change.new {
        Some(new) if wants_count(change.old.as_deref(), new) => vec![Key::of(new)],
        _ => Vec::new(),
    });
    let (all, later, quotas) = (informer.clone(), queue.clone(), informer);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(AGAIN).await;
            all.list().iter().for_each(|quota| later.add(Key::of(quota)));
        }
    });
    let counter = Arc::new(Counter {
        client: context.client(NAME),
        quotas,
        resources: context.config.resources.clone(),
    });
    runtime::work(NAME, &queue, 2, move |key| {
        let counter = counter.clone();
        async move { counter.count(key).await }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn quota(spec: Value, status: Value) -> Object {
        let tree = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "d"},
            "spec": spec, "status": status});
        Object::from_stored(Object::canonical(tree).unwrap(), 1, &[]).unwrap()
    }

    #[test]
    fn only_what_no_write_has_counted_is_counted() {
        let hard = |pods: &str| json!({"hard": {"pods": pods}});
        let shows = |pods: &str, used: &str| json!({"hard": {"pods": pods}, "used": {"pods": used}});
        let settled = quota(hard("5"), shows("5", "1"));
        let new = quota(hard("5"), json!({}));
        assert!(wants_count(None, &new));
        assert!(wants_count(Some(&new), &settled), "writes in between have charged nothing");
        assert!(!wants_count(Some(&settled), &quota(hard("5"), shows("5", "2"))), "a write has charged this");
        assert!(wants_count(Some(&settled), &quota(hard("6"), shows("5", "1"))));
        assert!(wants_count(Some(&settled), &quota(hard("5"), shows("9", "1"))));
    }
}
