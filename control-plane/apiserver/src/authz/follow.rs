//! Something made of the objects of a few resources, brought up to date with the watch cache whenever it is asked.

use crate::cache::{Caches, Lagged, Watcher};
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use skep_api::{GroupResource, Object};
use std::sync::Arc;

/// What is made of the objects.
pub(super) trait Index: Default + Send + Sync + 'static {
    /// Which of the resources an object is of.
    type Kind: Copy + Send + Sync + 'static;

    /// Group, plural name and kind of the resources it is made of. One that is not served has no objects.
    const RESOURCES: &'static [(&'static str, &'static str, Self::Kind)];

    /// An object is there, or has changed.
    fn put(&mut self, kind: Self::Kind, object: &Object);

    /// An object is gone; `object` is its last version.
    fn remove(&mut self, kind: Self::Kind, object: &Object);
}

/// An index with its place in the changes of the watch cache.
pub(super) struct Followed<I: Index> {
    caches: Arc<Caches>,
    state: RwLock<State<I>>,
}

struct State<I: Index> {
    index: I,
    sources: Vec<Source<I::Kind>>,
}

struct Source<K> {
    kind: K,
    resource: GroupResource,
    watcher: Watcher,
    /// Revision of the last change that is in the index.
    seen: u64,
}

impl<I: Index> Followed<I> {
    pub(super) fn new(caches: Arc<Caches>) -> Self {
        let state = RwLock::new(State::load(&caches));
        Followed { caches, state }
    }

    /// The index as of what the caches hold now.
    pub(super) fn current(&self) -> MappedRwLockReadGuard<'_, I> {
        RwLockReadGuard::map(self.fresh(), |state| &state.index)
    }

    fn fresh(&self) -> RwLockReadGuard<'_, State<I>> {
        let state = self.state.read();
        if state.sources.iter().all(|s| self.caches.changed(&s.resource) == s.seen) {
            return state;
        }
        drop(state);
        let mut state = self.state.write();
        if state.catch_up(&self.caches).is_err() {
            *state = State::load(&self.caches);
        }
        RwLockWriteGuard::downgrade(state)
    }
}

impl<I: Index> State<I> {
    fn load(caches: &Caches) -> Self {
        let mut state = State { index: I::default(), sources: Vec::new() };
        for &(group, plural, kind) in I::RESOURCES {
            let resource = GroupResource::new(group, plural);
            let Some(cache) = caches.cache(&resource) else { continue };
            let seen = cache.last_change();
            let (view, watcher) = cache.view_and_watch(0, "");
            view.items.iter().for_each(|object| state.index.put(kind, object));
            state.sources.push(Source { kind, resource, watcher, seen });
        }
        state
    }

    fn catch_up(&mut self, caches: &Caches) -> Result<(), Lagged> {
        const BATCH: usize = 256;
        for source in &mut self.sources {
            let seen = caches.changed(&source.resource);
            loop {
                let changes = source.watcher.take(BATCH)?;
                for change in &changes {
                    if change.deleted {
                        self.index.remove(source.kind, &change.object);
                    } else {
                        self.index.put(source.kind, &change.object);
                    }
                }
                if changes.len() < BATCH {
                    break;
                }
            }
            source.seen = seen;
        }
        Ok(())
    }
}
