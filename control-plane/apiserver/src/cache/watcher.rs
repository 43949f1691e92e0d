//! A position in the recent changes of a resource.

use super::resource::{Cache, Change, State};
use std::sync::Arc;
use tokio::sync::watch;

/// The watcher was too slow, or the cache was loaded anew: changes it has not seen are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes have been dropped before the watcher read them")]
pub struct Lagged;

/// Reads the changes of a resource in revision order, without gap or duplicate.
pub struct Watcher {
    cache: Arc<Cache>,
    next: u64,
    after: u64,
    generation: u64,
    wake: watch::Receiver<()>,
}

impl Watcher {
    pub(super) fn new(cache: &Arc<Cache>, state: &State, next: u64, after: u64) -> Self {
        let wake = cache.wake.subscribe();
        Watcher { cache: cache.clone(), next, after, generation: state.generation, wake }
    }

    /// The next changes, at most `most`; empty when there are none yet.
    pub fn take(&mut self, most: usize) -> Result<Vec<Arc<Change>>, Lagged> {
        self.wake.mark_unchanged();
        let state = self.cache.state.read();
        if state.generation != self.generation || self.next < state.first {
            return Err(Lagged);
        }
        let skip = (self.next - state.first) as usize;
        let mut taken = Vec::new();
        for change in state.ring.iter().skip(skip) {
            if taken.len() == most {
                break;
            }
            self.next += 1;
            if change.revision > self.after {
                taken.push(change.clone());
            }
        }
        Ok(taken)
    }

    /// Waits until there may be further changes. Cancel safe.
    pub async fn wait(&mut self) -> Result<(), Lagged> {
        self.wake.changed().await.map_err(|_| Lagged)
    }
}
