//! Watching changes of keys under a prefix.

use std::sync::{
    Arc,
    atomic::{Ordering, fence},
};

use crate::{
    error::Compacted,
    mvcc::Step,
    shared::{Bell, Shared},
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
    shared: Arc<Shared>,
    bell: Arc<Bell>,
    /// Everything up to here has been delivered.
    position: Revision,
    end: Option<WatchEnd>,
}

/// Revisions looked at while holding the state's lock.
const LOOK: usize = 1024;

impl Watcher {
    pub(crate) fn new(shared: Arc<Shared>, prefix: &[u8], after: Revision) -> Watcher {
        let bell = shared.add_bell(prefix);
        Watcher { shared, bell, position: after, end: None }
    }

    /// The next item. Cancel safe: a dropped future loses nothing. After an error every further call answers the same error.
    pub async fn next(&mut self) -> Result<WatchItem, WatchEnd> {
        loop {
            if let Some(item) = self.try_next()? {
                return Ok(item);
            }
            self.bell.notify.notified().await;
        }
    }

    /// The next item if there is one already.
    pub fn try_next(&mut self) -> Result<Option<WatchItem>, WatchEnd> {
        if let Some(end) = self.end {
            return Err(end);
        }
        loop {
            // Before looking, so that what is applied after the look rings again.
            self.bell.rung.store(false, Ordering::Release);
            fence(Ordering::SeqCst);
            if self.shared.closed() {
                return Err(*self.end.insert(WatchEnd::Closed));
            }
            let state = self.shared.state.read();
            match state.machine.next_events(&self.bell.prefix, self.position, LOOK) {
                Err(compacted) => return Err(*self.end.insert(WatchEnd::Lagged(compacted))),
                Ok(Step::Events(revision, events)) => {
                    self.position = revision;
                    return Ok(Some(WatchItem::Events { revision, events }));
                }
                Ok(Step::Nothing(reached)) => self.position = reached,
                Ok(Step::UpToDate(reached)) => {
                    self.position = reached;
                    // Still under the lock: whoever asked has seen no revision later than this one.
                    let asked = self.bell.progress.swap(false, Ordering::AcqRel);
                    return Ok(asked.then_some(WatchItem::Progress(reached)));
                }
            }
        }
    }

    /// Handle by which others ask this watcher to report its progress.
    pub fn progress_handle(&self) -> ProgressHandle {
        ProgressHandle { bell: self.bell.clone() }
    }
}

/// Asks a [`Watcher`] for a bookmark: its `next` answers [`WatchItem::Progress`] as soon as it has delivered everything up to the
/// revision that was the store's when asked. Several requests may be answered by one item.
#[derive(Clone, Debug)]
pub struct ProgressHandle {
    bell: Arc<Bell>,
}

impl ProgressHandle {
    /// Ask.
    pub fn request(&self) {
        self.bell.progress.store(true, Ordering::Release);
        self.bell.ring();
    }
}
