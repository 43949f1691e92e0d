//! Which resources there are: the table and its caches, changed together while the server runs.

use super::{Cache, Caches, prefix_of};
use skep_api::kinds::ResourceTable;
use skep_api::{GroupResource, Resource};
use skep_store::{StoreError, WatchItem, Watcher, prefix_end};
use std::collections::HashMap;
use std::sync::Arc;

/// How often a new cache is begun anew that the store's history has overtaken.
const ATTEMPTS: u32 = 5;

/// The table of one moment, with a cache for everything in it that is stored. Never changed, only replaced.
pub(crate) struct Live {
    pub(super) table: ResourceTable,
    /// By [`Resource::stored_in`].
    pub(super) caches: HashMap<GroupResource, Arc<Cache>>,
}

/// The rows that decide how a cache reads its objects, by where they lie: those served as they are stored, where there are
/// such.
fn homes(table: &ResourceTable) -> HashMap<GroupResource, &Arc<Resource>> {
    let mut homes = HashMap::new();
    for row in table.rows().filter(|row| row.verbs.contains(&"list")) {
        let home = homes.entry(row.stored_in()).or_insert(row);
        if row.stored.is_none() {
            *home = row;
        }
    }
    homes
}

impl Live {
    /// A table with empty caches.
    pub(super) fn new(table: ResourceTable) -> Self {
        let caches =
            homes(&table).into_iter().map(|(resource, row)| (resource, Arc::new(Cache::new(row)))).collect();
        Live { table, caches }
    }
}

impl Caches {
    /// What there is now.
    pub(super) fn live(&self) -> Arc<Live> {
        self.live.read().clone()
    }

    /// Replaces the resource table by one made from it. When this returns, resources that came are served with all their
    /// objects, and the watches of rows that went or were replaced end. Blocks for as long as the objects of new resources
    /// take to be read.
    pub fn change_table(
        &self,
        change: impl FnOnce(&ResourceTable) -> ResourceTable,
    ) -> Result<(), StoreError> {
        let _changing = self.changing.lock();
        let old = self.live();
        let table = change(&old.table);
        let mut caches = HashMap::new();
        let mut joining = Vec::new();
        for (resource, row) in homes(&table) {
            let cache = match old.caches.get(&resource) {
                Some(cache) => cache.clone(),
                None => {
                    let cache = Arc::new(Cache::new(row));
                    joining.push((prefix_of(&resource), cache.clone()));
                    cache
                }
            };
            caches.insert(resource, cache);
        }
        let leaving: Vec<(String, Arc<Cache>)> = old
            .caches
            .iter()
            .filter(|(resource, _)| !caches.contains_key(*resource))
            .map(|(resource, cache)| (prefix_of(resource), cache.clone()))
            .collect();
        let mut attempt = 0;
        while let Err(why) = self.join(&joining, &leaving, &mut || {
            *self.live.write() = Arc::new(Live { table: table.clone(), caches: caches.clone() });
        }) {
            attempt += 1;
            if attempt == ATTEMPTS || !matches!(why, StoreError::Compacted(_)) {
                return Err(why);
            }
        }
        self.table_changed.send_replace(());
        Ok(())
    }

    /// Fills new caches, and publishes them at an instant at which each holds everything that the feed has handed out.
    ///
    /// The objects are read at one revision, without holding up the feed. What has changed since is taken over while the
    /// feed stands still; what the feed then still has to say of that time, the cache knows already and passes over. The
    /// caches that go, of which the feed will say no more, take over what it has not told them yet: their watches end
    /// with everything that was written.
    fn join(
        &self,
        joining: &[(String, Arc<Cache>)],
        leaving: &[(String, Arc<Cache>)],
        publish: &mut dyn FnMut(),
    ) -> Result<(), StoreError> {
        let mut catching_up = Vec::new();
        for (prefix, cache) in joining {
            let read = self.store.range(prefix.as_bytes(), &prefix_end(prefix.as_bytes()), 0, None)?;
            let objects = read.kvs.iter().filter_map(|kv| {
                let local = std::str::from_utf8(&kv.key).ok()?.strip_prefix(prefix.as_str())?;
                Some((local.into(), kv.value.clone(), kv.mod_revision))
            });
            cache.reset(objects.collect(), read.revision);
            catching_up.push((prefix, cache, self.store.watch(prefix.as_bytes(), read.revision)?));
        }
        let _feeding = self.feeding.lock();
        for (prefix, cache, watcher) in &mut catching_up {
            catch_up(prefix, cache, watcher)?;
        }
        for (prefix, cache) in leaving {
            catch_up(prefix, cache, &mut self.store.watch(prefix.as_bytes(), self.reached())?)?;
        }
        publish();
        Ok(())
    }
}

/// Takes over what a watcher of a cache's part of the store has to tell by now.
fn catch_up(prefix: &str, cache: &Cache, watcher: &mut Watcher) -> Result<(), StoreError> {
    while let Some(item) = watcher.try_next().map_err(ended)? {
        let WatchItem::Events { events, .. } = item else { continue };
        for event in events.iter() {
            let local = std::str::from_utf8(&event.key).ok().and_then(|key| key.strip_prefix(prefix));
            if let Some(local) = local {
                cache.apply(local, event);
            }
        }
    }
    cache.caught_up();
    Ok(())
}

fn ended(end: skep_store::WatchEnd) -> StoreError {
    match end {
        skep_store::WatchEnd::Lagged(compacted) => StoreError::Compacted(compacted),
        skep_store::WatchEnd::Closed => StoreError::Closed,
    }
}
