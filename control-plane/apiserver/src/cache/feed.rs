//! The task that follows the store and fills the caches.

use super::{Cache, Caches, REGISTRY, live::Live, resource::Loaded};
use skep_api::GroupResource;
use skep_store::{Event, StoreError, WatchEnd, WatchItem, Watcher, prefix_end};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

impl Caches {
    /// Reads everything at one revision and begins to watch from there.
    pub(super) fn load(&self) -> Result<Watcher, StoreError> {
        let _feeding = self.feeding.lock();
        let live = self.live();
        let read = self.store.range(REGISTRY.as_bytes(), &prefix_end(REGISTRY.as_bytes()), 0, None)?;
        let watcher = self.store.watch(b"/", read.revision)?;
        *self.progress.lock() = Some(watcher.progress_handle());
        let mut loaded: HashMap<&GroupResource, Loaded> = HashMap::new();
        let mut unknown = 0_usize;
        for kv in &read.kvs {
            match live.place(&kv.key) {
                Some((resource, _, local)) => {
                    loaded.entry(resource).or_default().push((
                        local.into(),
                        kv.value.clone(),
                        kv.mod_revision,
                    ));
                }
                None => unknown += 1,
            }
        }
        if unknown > 0 {
            tracing::debug!(unknown, "objects lie in the store whose resources are not served (yet)");
        }
        for (resource, cache) in &live.caches {
            cache.reset(loaded.remove(resource).unwrap_or_default(), read.revision);
        }
        self.reached.send_replace(read.revision);
        Ok(watcher)
    }

    fn apply(&self, revision: u64, events: &[Event]) {
        let _feeding = self.feeding.lock();
        let live = self.live();
        for event in events {
            if let Some((_, cache, local)) = live.place(&event.key) {
                cache.apply(local, event);
            }
        }
        self.reached.send_replace(revision);
    }
}

impl Live {
    /// The resource of a key, its cache, and the local part of the key.
    fn place<'a>(&self, key: &'a [u8]) -> Option<(&GroupResource, &Arc<Cache>, &'a str)> {
        let rest = std::str::from_utf8(key).ok()?.strip_prefix(REGISTRY)?;
        let (group, rest) = rest.split_once('/')?;
        let (plural, local) = rest.split_once('/')?;
        let group = if group == "core" { "" } else { group };
        let wanted = GroupResource::new(group.to_owned(), plural.to_owned());
        self.caches.get_key_value(&wanted).map(|(resource, cache)| (resource, cache, local))
    }
}

/// Follows the store until it or the caches are gone.
pub(super) async fn follow(caches: Weak<Caches>, mut watcher: Watcher) {
    loop {
        let item = watcher.next().await;
        let Some(caches) = caches.upgrade() else { return };
        match item {
            Ok(WatchItem::Events { revision, events }) => caches.apply(revision, &events),
            Ok(WatchItem::Progress(revision)) => {
                caches.reached.send_replace(revision);
            }
            Err(WatchEnd::Lagged(why)) => {
                tracing::warn!(%why, "the watch cache is loaded anew");
                match caches.load() {
                    Ok(anew) => watcher = anew,
                    Err(why) => {
                        tracing::error!(%why, "the watch cache cannot be loaded");
                        return;
                    }
                }
            }
            Err(WatchEnd::Closed) => return,
        }
    }
}
