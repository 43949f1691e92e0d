//! Shared informers: a live view of a collection that many may read.
//!
//! An informer holds the [`Arc<Object>`]s that the client hands out. In process these are the watch cache's
//! own, so an object exists once however many informers look at it.

use crate::{Client, Collection, ListOptions, WatchEvent, WatchOptions};
use futures::StreamExt;
use parking_lot::Mutex;
use skep_api::{Object, Status};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Waits before a list or watch that failed is tried again double from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// One change of the view. Neither side is empty at the same time.
#[derive(Clone, Debug)]
pub struct Change {
    /// What was there; none for a new object.
    pub old: Option<Arc<Object>>,
    /// What is there now; none where it is gone.
    pub new: Option<Arc<Object>>,
}

impl Change {
    /// The newer of the two versions.
    pub fn latest(&self) -> Option<&Arc<Object>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

type Key = (Box<str>, Box<str>);

#[derive(Default)]
struct View {
    objects: BTreeMap<Key, Arc<Object>>,
    subscribers: Vec<mpsc::UnboundedSender<Change>>,
}

impl View {
    fn tell(&mut self, change: Change) -> Change {
        self.subscribers.retain(|s| s.send(change.clone()).is_ok());
        change
    }

    fn put(&mut self, object: Arc<Object>) -> Option<Change> {
        let old = self.objects.insert(key(&object), object.clone());
        let differs = old.as_ref().is_none_or(|old| old.revision() != object.revision());
        differs.then(|| self.tell(Change { old, new: Some(object) }))
    }

    fn remove(&mut self, object: &Object) -> Option<Change> {
        let old = self.objects.remove(&key(object))?;
        Some(self.tell(Change { old: Some(old), new: None }))
    }

    /// Takes over a fresh list: what is not in it any more is gone.
    fn replace(&mut self, items: Vec<Arc<Object>>) -> Vec<Change> {
        let fresh: BTreeMap<Key, Arc<Object>> = items.into_iter().map(|o| (key(&o), o)).collect();
        let gone: Vec<Arc<Object>> =
            self.objects.iter().filter(|(k, _)| !fresh.contains_key(*k)).map(|(_, o)| o.clone()).collect();
        let mut changes: Vec<Change> = gone.iter().filter_map(|object| self.remove(object)).collect();
        changes.extend(fresh.into_values().filter_map(|object| self.put(object)));
        changes
    }
}

fn key(object: &Object) -> Key {
    (object.meta().namespace.clone(), object.meta().name.clone())
}

/// Who is told of changes where they are noticed.
type Reader = Box<dyn Fn(&Change) + Send + Sync>;

struct Shared {
    view: Mutex<View>,
    /// Held while they are told.
    readers: Mutex<Vec<Reader>>,
    reached: AtomicU64,
    synced: watch::Sender<bool>,
}

/// A live view of a collection; clones share it. It ends when the last clone is gone.
#[derive(Clone)]
pub struct Informer {
    shared: Arc<Shared>,
}

impl Informer {
    /// Starts to list and watch `collection`, restricted by label and field selector (empty for none).
    pub fn start(
        client: Arc<dyn Client>,
        collection: Collection,
        label_selector: &str,
        field_selector: &str,
    ) -> Self {
        let shared = Arc::new(Shared {
            view: Mutex::default(),
            readers: Mutex::default(),
            reached: AtomicU64::new(0),
            synced: watch::channel(false).0,
        });
        let list = ListOptions {
            label_selector: label_selector.to_owned(),
            field_selector: field_selector.to_owned(),
            ..ListOptions::default()
        };
        let worker = Worker { client, collection, list, shared: Arc::downgrade(&shared) };
        tokio::spawn(worker.run());
        Informer { shared }
    }

    /// All objects of a collection.
    pub fn all(client: Arc<dyn Client>, collection: Collection) -> Self {
        Informer::start(client, collection, "", "")
    }

    /// Whether the view has been complete once.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Waits until the view has been complete once.
    pub async fn synced(&self) {
        let mut receiver = self.shared.synced.subscribe();
        // The sender lives in `self`, so this cannot fail before it is true.
        let _ = receiver.wait_for(|synced| *synced).await;
    }

    /// The revision up to which the view is known to be complete. Whoever wrote an object of the collection
    /// at revision `r` sees that write (or a later one) in the view once `reached() >= r`.
    pub fn reached(&self) -> u64 {
        self.shared.reached.load(Ordering::Acquire)
    }

    /// The object of a namespace (empty for cluster-scoped) and name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.shared.view.lock().objects.get(&(namespace.into(), name.into())).cloned()
    }

    /// All objects, by namespace and name.
    pub fn list(&self) -> Vec<Arc<Object>> {
        self.shared.view.lock().objects.values().cloned().collect()
    }

    /// The objects of a namespace, by name.
    pub fn namespace(&self, namespace: &str) -> Vec<Arc<Object>> {
        let view = self.shared.view.lock();
        let start: Key = (namespace.into(), "".into());
        view.objects.range(start..).take_while(|(k, _)| &*k.0 == namespace).map(|(_, o)| o.clone()).collect()
    }

    /// The objects that meet a condition.
    pub fn filter(&self, mut meets: impl FnMut(&Object) -> bool) -> Vec<Arc<Object>> {
        self.shared.view.lock().objects.values().filter(|o| meets(o)).cloned().collect()
    }

    /// All changes from now on, after one "new" for each object that is there.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Change> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut view = self.shared.view.lock();
        for object in view.objects.values() {
            let _ = sender.send(Change { old: None, new: Some(object.clone()) });
        }
        view.subscribers.push(sender);
        receiver
    }

    /// Calls `read` with every change from now on, after one "new" for each object that is there. It is called by the
    /// informer's own task, which waits for it: for those who only note what has changed, this spares a task that is woken
    /// each time. A change at the very moment of this call may be told twice. `read` may look at the view, but must not call
    /// this for the same informer.
    pub fn each(&self, read: impl Fn(&Change) + Send + Sync + 'static) {
        let mut readers = self.shared.readers.lock();
        for object in self.list() {
            read(&Change { old: None, new: Some(object) });
        }
        readers.push(Box::new(read));
    }
}

impl Shared {
    /// Tells the readers. What one of them breaks is its own.
    fn tell(&self, changes: &[Change]) {
        let readers = self.readers.lock();
        for (change, read) in changes.iter().flat_map(|change| readers.iter().map(move |read| (change, read)))
        {
            if std::panic::catch_unwind(AssertUnwindSafe(|| read(change))).is_err() {
                tracing::error!("a reader of an informer panicked");
            }
        }
    }
}

struct Worker {
    client: Arc<dyn Client>,
    collection: Collection,
    list: ListOptions,
    shared: Weak<Shared>,
}

impl Worker {
    async fn run(self) {
        let mut revision = None;
        let mut wait = BACKOFF.0;
        while self.shared.strong_count() > 0 {
            let result = match revision {
                None => self.relist().await,
                Some(from) => self.follow(from).await,
            };
            match result {
                Ok(reached) => {
                    revision = Some(reached);
                    wait = BACKOFF.0;
                }
                Err((reached, status)) => {
                    // After "expired" the view starts over; otherwise it goes on where it was.
                    revision = if status.is_expired() { None } else { reached.or(revision) };
                    let path = self.collection.path();
                    tracing::debug!(%path, %status, "list or watch failed; trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(BACKOFF.1);
                }
            }
        }
    }

    async fn relist(&self) -> Result<u64, (Option<u64>, Status)> {
        let list = self.client.list(&self.collection, &self.list).await.map_err(|s| (None, s))?;
        if let Some(shared) = self.shared.upgrade() {
            let changes = shared.view.lock().replace(list.items);
            shared.reached.store(list.revision, Ordering::Release);
            shared.tell(&changes);
            shared.synced.send_replace(true);
        }
        Ok(list.revision)
    }

    /// Follows a watch until it ends; answers the revision that has been reached.
    async fn follow(&self, from: u64) -> Result<u64, (Option<u64>, Status)> {
        let options = WatchOptions {
            label_selector: self.list.label_selector.clone(),
            field_selector: self.list.field_selector.clone(),
            revision: Some(from),
            bookmarks: true,
            ..WatchOptions::default()
        };
        let mut events = self.client.watch(&self.collection, &options).await.map_err(|s| (None, s))?;
        let mut reached = from;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = self.abandoned() => return Ok(reached),
            };
            let Some(event) = event else { break };
            let event = event.map_err(|s| (Some(reached), s))?;
            let Some(shared) = self.shared.upgrade() else { break };
            let change = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    reached = reached.max(object.revision());
                    shared.view.lock().put(object)
                }
                WatchEvent::Deleted(object) => {
                    reached = reached.max(object.revision());
                    shared.view.lock().remove(&object)
                }
                WatchEvent::Bookmark { revision, .. } => {
                    reached = reached.max(revision);
                    None
                }
            };
            shared.reached.store(reached, Ordering::Release);
            shared.tell(change.as_slice());
        }
        if reached == from {
            // A server that ends watches at once must not be asked in a tight loop.
            tokio::time::sleep(BACKOFF.0).await;
        }
        Ok(reached)
    }

    /// Completes once nobody holds the informer any more, so that a silent watch does not outlive it.
    async fn abandoned(&self) {
        let receiver = self.shared.upgrade().map(|s| s.synced.subscribe());
        if let Some(mut receiver) = receiver {
            while receiver.changed().await.is_ok() {}
        }
    }
}

#[cfg(test)]
mod tests;
