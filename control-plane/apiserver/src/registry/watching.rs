//! A watch: the present state if asked for, then every change that concerns the selection, bookmarks between.

use super::Registry;
use super::selection::Selection;
use super::shown::shown_all;
use crate::cache::{Caches, Change, Watcher};
use skep_api::{Object, Resource, Status};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Changes looked at in one step.
const BATCH: usize = 256;
/// How often a watcher that asked for bookmarks gets one when nothing else comes.
const BOOKMARK: Duration = Duration::from_secs(50);

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the present state, as it was when everything acknowledged before the request had arrived.
    Latest,
    /// With whatever state is at hand.
    AtHand,
    /// With a state not older than this revision.
    NotOlderThan(u64),
    /// With whatever comes next.
    Now,
    /// After this revision.
    After(u64),
}

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchQuery {
    /// Namespace, or empty for all.
    pub namespace: String,
    /// Which objects.
    pub selection: Selection,
    /// Where to begin.
    pub begin: Begin,
    /// Whether a bookmark ends the present state.
    pub mark_initial_end: bool,
    /// Whether bookmarks were asked for.
    pub bookmarks: bool,
    /// How long the watch lasts.
    pub timeout: Duration,
}

/// What a watcher is told; with the change where its shared line says just that.
#[derive(Clone, Debug)]
pub enum Told {
    /// The object is there, or came into the selection.
    Added(Arc<Object>, Option<Arc<Change>>),
    /// It changed.
    Modified(Arc<Object>, Option<Arc<Change>>),
    /// It is gone, or left the selection.
    Deleted(Arc<Object>, Option<Arc<Change>>),
    /// Everything up to the revision has been told.
    Bookmark {
        /// The revision.
        revision: u64,
        /// Whether this ends the present state.
        initial_end: bool,
    },
}

/// A change with the object, and the version before, as the row serves them.
struct Seen {
    change: Arc<Change>,
    object: Arc<Object>,
    previous: Option<Arc<Object>>,
}

/// The changes of a namespace (or all) as a row serves them.
async fn seen(row: &Resource, namespace: &str, changes: Vec<Arc<Change>>) -> Result<Vec<Seen>, Status> {
    let mut seen: Vec<Seen> = changes
        .into_iter()
        .filter(|change| namespace.is_empty() || *change.object.meta().namespace == *namespace)
        .map(|change| Seen { object: change.object.clone(), previous: change.previous.clone(), change })
        .collect();
    if row.stored.is_none() {
        return Ok(seen);
    }
    let stored = seen.iter().flat_map(|s| [Some(&s.object), s.previous.as_ref()]).flatten().cloned();
    let mut shown = shown_all(row, stored.collect()).await?.into_iter();
    for one in &mut seen {
        for place in [Some(&mut one.object), one.previous.as_mut()].into_iter().flatten() {
            if let Some(object) = shown.next() {
                *place = object;
            }
        }
    }
    Ok(seen)
}

/// What a change means to a selection.
fn tell(seen: Seen, selection: &Selection) -> Option<Told> {
    let Seen { change, object, previous } = seen;
    let before = previous.as_ref().filter(|object| selection.matches(object));
    // The line that all watchers share fits where the change is to this one what it is to all.
    let as_stored = Arc::ptr_eq(&object, &change.object);
    let shared = |same: bool| (same && as_stored).then(|| change.clone());
    if change.deleted {
        return before.map(|_| Told::Deleted(object, shared(true)));
    }
    match (before, selection.matches(&object)) {
        (None, true) => Some(Told::Added(object, shared(change.previous.is_none()))),
        (Some(_), true) => Some(Told::Modified(object, shared(true))),
        // It left the selection: told as it last was inside, at the revision at which it left.
        (Some(last), false) => Some(Told::Deleted(Arc::new(last.at_revision(change.revision)), None)),
        (None, false) => None,
    }
}

/// A running watch.
pub struct Watch {
    caches: Arc<Caches>,
    row: Arc<Resource>,
    table: tokio::sync::watch::Receiver<()>,
    watcher: Option<Watcher>,
    query: WatchQuery,
    initial: std::vec::IntoIter<Arc<Object>>,
    initial_end: Option<u64>,
    deadline: Instant,
    bookmark: Instant,
    revision: u64,
}

impl Registry {
    /// Begins a watch. What is wrong with its beginning is told by its first item, as upstream does.
    pub async fn watch(&self, row: &Arc<Resource>, query: WatchQuery) -> Result<Watch, Status> {
        let cache = self.stored(row)?;
        match query.begin {
            Begin::Latest => {
                self.caches.fresh().await?;
            }
            Begin::NotOlderThan(revision) => self.caches.wait(revision).await?,
            Begin::AtHand | Begin::Now | Begin::After(_) => {}
        }
        let now = Instant::now();
        let mut watch = Watch {
            caches: self.caches.clone(),
            row: row.clone(),
            table: self.caches.table_changes(),
            watcher: None,
            initial: Vec::new().into_iter(),
            initial_end: None,
            deadline: now + query.timeout,
            bookmark: now + BOOKMARK,
            revision: 0,
            query,
        };
        match watch.query.begin {
            Begin::After(revision) => {
                watch.watcher = cache.watch(revision);
                watch.revision = revision;
            }
            _ => {
                let (view, watcher) = cache.view_and_watch(self.caches.reached(), &watch.query.namespace);
                watch.revision = view.revision;
                if watch.query.begin != Begin::Now {
                    watch.initial_end = Some(view.revision);
                    watch.initial = view.items.into_iter();
                }
                watch.watcher = Some(watcher);
            }
        }
        Ok(watch)
    }
}

impl Watch {
    /// The next things to tell, at least one; none when the time is up, or when the resource is no longer served as it was.
    pub async fn next(&mut self) -> Option<Result<Vec<Told>, Status>> {
        while !self.initial.as_slice().is_empty() {
            let batch: Vec<_> = self.initial.by_ref().take(BATCH).collect();
            let initial: Vec<Told> = match shown_all(&self.row, batch).await {
                Ok(shown) => shown
                    .into_iter()
                    .filter(|object| self.query.selection.matches(object))
                    .map(|object| Told::Added(object, None))
                    .collect(),
                Err(status) => return Some(Err(status)),
            };
            if !initial.is_empty() {
                return Some(Ok(initial));
            }
        }
        if let Some(revision) = self.initial_end.take() {
            self.revision = revision;
            if self.query.mark_initial_end {
                return Some(Ok(vec![Told::Bookmark { revision, initial_end: true }]));
            }
        }
        loop {
            // Read before the changes are: all of them up to here are then told.
            let reached = self.caches.reached();
            let Some(watcher) = &mut self.watcher else { return Some(Err(self.too_old())) };
            let Ok(changes) = watcher.take(BATCH) else {
                self.watcher = None;
                return Some(Err(self.too_old()));
            };
            if let Some(last) = changes.last() {
                self.revision = last.revision;
                let seen = match seen(&self.row, &self.query.namespace, changes).await {
                    Ok(seen) => seen,
                    Err(status) => return Some(Err(status)),
                };
                let selection = &self.query.selection;
                let told: Vec<Told> = seen.into_iter().filter_map(|one| tell(one, selection)).collect();
                if !told.is_empty() {
                    return Some(Ok(told));
                }
                continue;
            }
            self.revision = self.revision.max(reached);
            // Everything at hand has been told: if the resource went meanwhile, that was all.
            self.table.mark_unchanged();
            if !self.caches.is_served(&self.row) {
                return None;
            }
            let until = if self.query.bookmarks { self.bookmark.min(self.deadline) } else { self.deadline };
            tokio::select! {
                waited = watcher.wait() => if waited.is_err() { return None },
                changed = self.table.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep_until(until) => {
                    if self.query.bookmarks && Instant::now() < self.deadline {
                        self.bookmark = Instant::now() + BOOKMARK;
                        return Some(Ok(vec![Told::Bookmark { revision: self.revision, initial_end: false }]));
                    }
                    return None;
                }
            }
        }
    }

    fn too_old(&self) -> Status {
        Status::expired(format!("too old resource version: {} ({})", self.revision, self.caches.reached()))
    }
}
