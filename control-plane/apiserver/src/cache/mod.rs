//! The watch cache: every object of every resource, shared with the store's own buffers, and the recent changes.
//!
//! One task follows the whole store and hands each change to the [`Cache`] of its resource; [`Caches::reached`] is the
//! revision up to which all caches are complete. Resources come and go with the rows of the resource table, which is
//! changed here together with the caches: [`Caches::change_table`]. A watcher is a position in a cache's recent changes: it holds no queue,
//! and one that falls off the end is told so, never silently gapped.

mod feed;
mod live;
mod resource;
mod watcher;

pub(crate) use live::Live;
pub use resource::{Cache, Change, View, frame_into, protobuf_frame_into};
pub use watcher::{Lagged, Watcher};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use skep_api::kinds::ResourceTable;
use skep_api::{GroupResource, Object, ObjectError, Resource, Status};
use skep_store::{KeyValue, ProgressHandle, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Where all objects lie in the store.
pub const REGISTRY: &str = "/registry/";

/// How long a read waits for the caches to reach a revision.
const FRESH_TIMEOUT: Duration = Duration::from_secs(3);
/// After this long without the awaited revision the store is asked how far it has told us.
const NUDGE: Duration = Duration::from_millis(10);

/// The resource table, and the caches of all resources that are stored.
pub struct Caches {
    store: Store,
    live: RwLock<Arc<Live>>,
    /// Told of every change of the table.
    table_changed: watch::Sender<()>,
    /// Held by whoever changes the table.
    changing: Mutex<()>,
    /// Held while changes of the store are handed to the caches, and while caches come and go.
    feeding: Mutex<()>,
    reached: watch::Sender<u64>,
    progress: Mutex<Option<ProgressHandle>>,
}

/// `/registry/GROUP/PLURAL/`, with `core` for the core group.
pub fn prefix_of(resource: &GroupResource) -> String {
    let group = if resource.group.is_empty() { "core" } else { &resource.group };
    format!("{REGISTRY}{group}/{}/", resource.resource)
}

/// The key of an object below its resource's prefix: `NAMESPACE/NAME`, or `NAME`.
pub fn local_key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// The key of an object in the store.
pub fn store_key(resource: &GroupResource, namespace: &str, name: &str) -> String {
    format!("{}{}", prefix_of(resource), local_key(namespace, name))
}

impl Caches {
    /// Loads all objects and begins to follow the store. Must be called within a tokio runtime.
    pub async fn start(store: Store, table: ResourceTable) -> Result<Arc<Caches>, StoreError> {
        let this = Arc::new(Caches {
            store,
            live: RwLock::new(Arc::new(Live::new(table))),
            table_changed: watch::channel(()).0,
            changing: Mutex::default(),
            feeding: Mutex::default(),
            reached: watch::channel(0).0,
            progress: Mutex::default(),
        });
        let watcher = this.load()?;
        tokio::spawn(feed::follow(Arc::downgrade(&this), watcher));
        Ok(this)
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The resource table as it is now.
    pub fn table(&self) -> ResourceTable {
        self.live.read().table.clone()
    }

    /// A row of the resource table as it is now.
    pub fn row(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.live.read().table.get(group, version, plural).cloned()
    }

    /// Whether this very row is in the table, or one that serves the same objects in the same way.
    pub fn is_served(&self, row: &Arc<Resource>) -> bool {
        let live = self.live.read();
        live.table.get(&row.gvk.group, &row.gvk.version, &row.plural).is_some_and(|found| {
            let id = |row: &Resource| row.stored.as_ref().map(|stored| stored.id());
            Arc::ptr_eq(found, row) || (id(found).is_some() && id(found) == id(row))
        })
    }

    /// Tells of changes of the table from now on.
    pub fn table_changes(&self) -> watch::Receiver<()> {
        self.table_changed.subscribe()
    }

    /// The cache of a resource ([`Resource::stored_in`]); none where it is not stored.
    pub fn cache(&self, resource: &GroupResource) -> Option<Arc<Cache>> {
        self.live.read().caches.get(resource).cloned()
    }

    /// The revision up to which all caches are complete.
    pub fn reached(&self) -> u64 {
        *self.reached.borrow()
    }

    /// Whatever version of an object is at hand.
    pub fn peek(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.cache(resource)?.get(&local_key(namespace, name))
    }

    /// All objects of a resource, of one namespace or of all, as they are at hand.
    pub fn peek_all(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        self.cache(resource)
            .map(|cache| cache.view(0, namespace.unwrap_or_default(), "", 0).items)
            .unwrap_or_default()
    }

    /// Revision of the last change of a resource that is at hand: who keeps something made from its objects makes it anew
    /// when this has moved.
    pub fn changed(&self, resource: &GroupResource) -> u64 {
        self.cache(resource).map_or(0, |cache| cache.last_change())
    }

    /// The latest version of an object as it is stored; the cache's own object where that is the latest.
    pub fn latest(&self, row: &Resource, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
        let key = store_key(&row.stored_in(), namespace, name);
        match self.store.get(key.as_bytes()) {
            Some(kv) => self.object(row, &kv).map(Some),
            None => Ok(None),
        }
    }

    /// The object of a stored version; the cache's own where it holds that version.
    pub fn object(&self, row: &Resource, kv: &KeyValue) -> Result<Arc<Object>, Status> {
        let cache = self.cache(&row.stored_in());
        if let Some(found) = cache.and_then(|cache| cache.find(&kv.key, kv.mod_revision)) {
            return Ok(found);
        }
        decode(row, kv.value.clone(), kv.mod_revision).map(Arc::new).map_err(Status::internal)
    }

    /// Waits until the caches hold everything that was written before the call. Answers the revision.
    pub async fn fresh(&self) -> Result<u64, Status> {
        let revision = self.store.revision();
        self.wait(revision).await?;
        Ok(revision)
    }

    /// Waits until the caches have reached `revision`; 504 in upstream's words when that does not come.
    pub async fn wait(&self, revision: u64) -> Result<(), Status> {
        if self.reached() >= revision {
            return Ok(());
        }
        let mut reached = self.reached.subscribe();
        let arrive = async {
            loop {
                match tokio::time::timeout(NUDGE, reached.wait_for(|at| *at >= revision)).await {
                    Ok(_) => return,
                    // A transaction that changed nothing has no event to tell us of.
                    Err(_) => {
                        if let Some(progress) = &*self.progress.lock() {
                            progress.request();
                        }
                    }
                }
            }
        };
        match tokio::time::timeout(FRESH_TIMEOUT, arrive).await {
            Ok(()) => Ok(()),
            Err(_) => Err(too_large(revision, self.reached())),
        }
    }
}

/// The object of stored bytes. Where it is served in another form, its selectable fields are read from that.
pub(crate) fn decode(row: &Resource, value: Bytes, revision: u64) -> Result<Object, ObjectError> {
    let fields: Vec<&str> = match &row.stored {
        None => row.selectable_fields.iter().map(AsRef::as_ref).collect(),
        Some(_) => Vec::new(),
    };
    Object::from_stored(value, revision, &fields)
}

/// 504: a resource version that the server has not reached (`NewTooLargeResourceVersionError`).
pub fn too_large(asked: u64, current: u64) -> Status {
    let mut status =
        Status::timeout(format!("Timeout: Too large resource version: {asked}, current: {current}"));
    let cause = skep_api::StatusCause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        field: String::new(),
    };
    status.details = Some(Box::new(skep_api::status::StatusDetails {
        causes: vec![cause],
        retry_after_seconds: 1,
        ..Default::default()
    }));
    status
}

/// What a failure of the store means to a client.
pub fn store_status(error: StoreError) -> Status {
    match error {
        StoreError::Compacted(_) => Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter.",
        ),
        StoreError::FutureRevision { asked, current } => too_large(asked, current),
        StoreError::NotLeader { .. } | StoreError::Closed | StoreError::Failed(_) => {
            Status::unavailable(error.to_string())
        }
        other => Status::internal(other),
    }
}
