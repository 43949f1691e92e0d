//! Watching changes of keys under a prefix.

use std::sync::Arc;

use crate::{
    error::Compacted,
    types::{Event, Revision},
};

/// What a watcher is told.
#[derive(Clone, Debug)]
pub enum WatchItem {
    /// All changes of one transaction that fall under the watched prefix, in the order of its operations. When the whole
    /// transaction does, the slice is shared by all watchers.
    Events {
        /// Revision of these changes.
        revision: Revision,
        /// At least one event.
        events: Arc<[Event]>,
    },
    /// Every change up to and including this revision has been delivered. Sent after [`ProgressHandle::request`] only.
    Progress(Revision),
}

/// Why a watch ended. It never ends by leaving something out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchEnd {
    /// The watcher was too slow: history it had not read yet was compacted. Read the state anew and watch from there.
    #[error("watcher fell behind: {0}")]
    Lagged(#[source] Compacted),
    /// The store has been shut down.
    #[error("the store is shut down")]
    Closed,
}

/// A stream of the changes under a prefix, in revision order, without gap or duplicate.
///
/// A watcher holds no queue: it is a position in the store's shared history, so an idle or slow watcher costs no memory.
#[derive(Debug)]
pub struct Watcher {
    _private: (),
}

impl Watcher {
    /// The next item. Cancel safe: a dropped future loses nothing. After an error every further call answers the same error.
    pub async fn next(&mut self) -> Result<WatchItem, WatchEnd> {
        Err(WatchEnd::Closed)
    }

    /// The next item if there is one already.
    pub fn try_next(&mut self) -> Result<Option<WatchItem>, WatchEnd> {
        Err(WatchEnd::Closed)
    }

    /// Handle by which others ask this watcher to report its progress.
    pub fn progress_handle(&self) -> ProgressHandle {
        ProgressHandle { _private: () }
    }
}

/// Asks a [`Watcher`] for a bookmark: its `next` answers [`WatchItem::Progress`] as soon as it has delivered everything up to the
/// revision that was the store's when asked. Several requests may be answered by one item.
#[derive(Clone, Debug)]
pub struct ProgressHandle {
    _private: (),
}

impl ProgressHandle {
    /// Ask.
    pub fn request(&self) {}
}
