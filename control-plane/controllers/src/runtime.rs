//! The loop that every controller runs in: changes become keys, keys become calls of a reconcile function.

use futures::FutureExt;
use parking_lot::Mutex;
use skep_api::{Object, Status};
use skep_client::{Change, Informer, WorkQueue};
use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// Namespace (empty for cluster-scoped objects) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Key { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(crate) fn of(object: &Object) -> Self {
        Key::new(&object.meta().namespace, &object.meta().name)
    }
}

pub(crate) type Queue = Arc<WorkQueue<Key>>;

/// What a reconcile function answers: nothing more to do, or come back after a while.
pub(crate) type Outcome = Result<Option<Duration>, Status>;

/// Adds the keys that `map` finds in each change of an informer.
pub(crate) fn feed(
    informer: &Informer,
    queue: &Queue,
    map: impl Fn(&Change) -> Vec<Key> + Send + Sync + 'static,
) {
    let queue = queue.clone();
    informer.each(move |change| {
        for key in map(change) {
            queue.add(key);
        }
    });
}

/// Adds the key of each object that changes.
pub(crate) fn feed_self(informer: &Informer, queue: &Queue) {
    feed(informer, queue, |change| change.latest().map(|o| Key::of(o)).into_iter().collect());
}

/// Adds the key of the owner of `kind` that manages, or managed, the object that changes.
pub(crate) fn feed_owner(informer: &Informer, queue: &Queue, kind: &'static str) {
    feed(informer, queue, move |change| {
        let mut keys: Vec<Key> = [&change.old, &change.new]
            .into_iter()
            .flatten()
            .filter_map(|object| {
                let owner = object.meta().controller()?;
                (&*owner.kind == kind).then(|| Key::new(&object.meta().namespace, &owner.name))
            })
            .collect();
        keys.dedup();
        keys
    });
}

/// Runs `workers` loops that take keys and reconcile them, for as long as the process lives. A failure, and a
/// panic too, is tried again later and harms no other key.
pub(crate) fn work<F, Fut>(controller: &'static str, queue: &Queue, workers: usize, reconcile: F)
where
    F: Fn(Key) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let reconcile = Arc::new(reconcile);
    for _ in 0..workers {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        tokio::spawn(async move {
            loop {
                let key = queue.next().await;
                let call = AssertUnwindSafe(reconcile(key.clone())).catch_unwind();
                match call.await {
                    Ok(Ok(again)) => {
                        queue.done(&key);
                        if let Some(delay) = again {
                            queue.add_after(key, delay);
                        }
                    }
                    Ok(Err(status)) => {
                        if !status.is_conflict() {
                            tracing::debug!(controller, ?key, %status, "reconcile failed; trying again");
                        }
                        queue.retry(&key);
                    }
                    Err(_) => {
                        tracing::error!(controller, ?key, "reconcile panicked; trying again");
                        queue.retry(&key);
                    }
                }
            }
        });
    }
}

/// Remembers the last revision a controller wrote for a key, so that it does not decide again on a view that
/// is older than its own writes.
#[derive(Default)]
pub(crate) struct OwnWrites(Mutex<HashMap<Key, u64>>);

/// How soon a key comes back whose writes are not in the view yet.
pub(crate) const CATCH_UP: Duration = Duration::from_millis(5);

impl OwnWrites {
    /// Notes a write.
    pub(crate) fn note(&self, key: &Key, revision: u64) {
        let mut writes = self.0.lock();
        let last = writes.entry(key.clone()).or_insert(0);
        *last = (*last).max(revision);
    }

    /// Whether all writes noted for the key are in the informer's view.
    pub(crate) fn seen(&self, key: &Key, informer: &Informer) -> bool {
        let mut writes = self.0.lock();
        match writes.get(key) {
            Some(revision) if informer.reached() < *revision => false,
            Some(_) => {
                writes.remove(key);
                true
            }
            None => true,
        }
    }
}
