//! The one way to the API: the [`Client`] trait, in process and over the network, and the shared informers
//! built on it.
//!
//! A client speaks of resources by group, version and plural name, takes dynamic trees or typed structures
//! to write, and hands out shared [`Object`]s: in process these are the very ones the watch cache holds.

pub mod events;
pub mod informer;
pub mod net;
pub mod options;
pub mod queue;
pub mod target;
pub mod typed;

pub use events::{Recorder, Reference, Severity};
pub use informer::{Change, Informer};
pub use net::{Config, ConfigError, Credentials, HttpClient};
pub use options::{DeleteOptions, ListOptions, Patch, Propagation, WatchOptions, WriteOptions};
pub use queue::WorkQueue;
pub use target::{Collection, Target};
pub use typed::ClientExt;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde_json::Value;
use skep_api::{Object, Status};
use std::sync::Arc;

/// What a list answers: one consistent view of a collection, or a page of it.
#[derive(Clone, Debug, Default)]
pub struct ObjectList {
    /// The objects, by namespace and name.
    pub items: Vec<Arc<Object>>,
    /// The revision of the view: where a watch goes on.
    pub revision: u64,
    /// Where the next page starts; none on the last.
    pub continue_token: Option<String>,
}

/// One thing a watch tells.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// The object is there, or came into the selector.
    Added(Arc<Object>),
    /// It changed.
    Modified(Arc<Object>),
    /// It is gone, or left the selector; the last known version, at the revision of the deletion.
    Deleted(Arc<Object>),
    /// Everything up to this revision has been told.
    Bookmark {
        /// The revision that has been reached.
        revision: u64,
        /// Whether this ends the initial events of a watch with `send_initial_events`.
        initial_events_end: bool,
    },
}

/// A watch: events in revision order until it ends (the client starts over from the last revision) or fails.
/// [`Status::is_expired`] says that the client must list again.
pub type WatchStream = BoxStream<'static, Result<WatchEvent, Status>>;

/// The API as scheduler, controllers and agents see it. Implementations: in process (behind the same handler
/// chain, authentication aside) and over HTTPS.
#[async_trait]
pub trait Client: Send + Sync + 'static {
    /// Reads an object or a subresource of one.
    async fn get(&self, target: &Target) -> Result<Arc<Object>, Status>;

    /// Lists a collection.
    async fn list(&self, collection: &Collection, options: &ListOptions) -> Result<ObjectList, Status>;

    /// Watches a collection.
    async fn watch(&self, collection: &Collection, options: &WatchOptions) -> Result<WatchStream, Status>;

    /// Creates an object; `apiVersion`, `kind` and `metadata.namespace` may be left out of the body.
    async fn create(
        &self,
        collection: &Collection,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status>;

    /// Posts to a subresource of an object: `binding`, `token`, `eviction`.
    async fn create_subresource(
        &self,
        target: &Target,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status>;

    /// Replaces an object, or its subresource. With a `metadata.resourceVersion` in the body, only that version.
    async fn update(
        &self,
        target: &Target,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status>;

    /// Patches an object, or its subresource.
    async fn patch(
        &self,
        target: &Target,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status>;

    /// Deletes an object. Answers the object where it stays for a while (grace, finalizers), none where it is gone.
    async fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Option<Arc<Object>>, Status>;

    /// Deletes all objects of a collection that the selectors name.
    async fn delete_collection(
        &self,
        collection: &Collection,
        selectors: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<(), Status>;
}
