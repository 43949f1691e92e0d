//! Serving CustomResourceDefinitions: their rows in the resource table, the names they are given, the conditions of their
//! status, and the end of their objects when they go.
//!
//! One task follows the definitions. With every change it first brings the table up to date, and then writes what their
//! status should say; so a definition is `Established` only once its resources are served.

mod conditions;
mod convert;
mod finalize;
mod review;
mod rows;
#[cfg(test)]
mod tests;

use crate::cache::{Caches, Lagged, Watcher};
use crate::dial::Services;
use crate::request::UserInfo;
use crate::server::ApiServer;
use crate::webhook::Webhooks;
use conditions::Taken;
use parking_lot::Mutex;
use rows::Made;
use serde_json::Value;
use skep_api::custom::Names;
use skep_api::custom::rules::Compiler;
use skep_api::kinds::ResourceTable;
use skep_api::kinds::custom::CustomResourceDefinition;
use skep_api::{GroupResource, Object, Resource, Status};
use skep_client::{Client, Collection, WriteOptions};
use skep_store::StoreError;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// How soon a status is written again whose writing failed.
const AGAIN: Duration = Duration::from_millis(500);

/// What definitions lie in.
fn definitions() -> GroupResource {
    GroupResource::new("apiextensions.k8s.io", "customresourcedefinitions")
}

fn collection() -> Collection {
    Collection::of("apiextensions.k8s.io", "v1", "customresourcedefinitions")
}

/// A definition as it was last seen.
struct Known {
    revision: u64,
    tree: Arc<Value>,
    made: Option<Made>,
}

/// The definitions and what they make.
struct Serving {
    caches: Arc<Caches>,
    compiler: Arc<dyn Compiler>,
    webhooks: Arc<Webhooks>,
    known: Mutex<BTreeMap<String, Known>>,
}

/// Serves the definitions that there are, and from then on those that come, until the runtime ends. `compiler` compiles the
/// rules of their schemas, and the expressions of built-in kinds.
pub async fn start(server: &Arc<ApiServer>, compiler: Arc<dyn Compiler>) -> Result<(), StoreError> {
    let caches = server.registry().caches().clone();
    caches.change_table(|table| with_rules(table, &compiler))?;
    server.registry().compile_with(compiler.clone());
    let Some(cache) = caches.cache(&definitions()) else { return Ok(()) };
    let (_, watcher) = cache.view_and_watch(caches.reached(), "");
    let webhooks = Arc::new(Webhooks::new(Services::new(caches.clone())));
    let serving = Arc::new(Serving { caches, compiler, webhooks, known: Mutex::default() });
    serving.clone().serve().await?;
    let client = server.local_client(UserInfo::new("system:apiserver", &["system:masters"]));
    let keeper = Keeper { serving, client, server: Arc::downgrade(server), finalizing: Arc::default() };
    tokio::spawn(keeper.run(watcher));
    Ok(())
}

/// The table with a kind of definitions that can compile their rules.
fn with_rules(table: &ResourceTable, compiler: &Arc<dyn Compiler>) -> ResourceTable {
    let resource = definitions();
    let found = table.rows().filter(|row| row.group_resource() == resource);
    let rows = found.map(|row| Resource {
        strategy: Arc::new(CustomResourceDefinition::new(compiler.clone())),
        ..Resource::clone(row)
    });
    table.with(rows)
}

impl Serving {
    /// Brings the resource table up to date.
    async fn serve(self: Arc<Self>) -> Result<(), StoreError> {
        // Schemas are compiled and objects of new resources are read: nothing for a thread that others wait for.
        match tokio::task::spawn_blocking(move || self.serve_now()).await {
            Ok(done) => done,
            Err(why) => {
                tracing::error!(%why, "the resources of definitions could not be brought up to date");
                Ok(())
            }
        }
    }

    fn serve_now(&self) -> Result<(), StoreError> {
        let mut known = self.known.lock();
        let now = self.caches.peek_all(&definitions(), None);
        let mut changed = false;
        let names: HashSet<&str> = now.iter().map(|object| &*object.meta().name).collect();
        known.retain(|name, known| {
            let stays = names.contains(name.as_str());
            changed |= !stays && known.made.is_some();
            stays
        });
        let table = self.caches.table();
        let built_in: HashSet<GroupResource> = table
            .rows()
            .filter(|row| row.custom.is_none())
            .flat_map(|row| [row.group_resource(), row.stored_in()])
            .collect();
        for object in &now {
            let name = object.meta().name.to_string();
            let before = known.get(&name);
            if before.is_some_and(|known| known.revision == object.revision()) {
                continue;
            }
            let tree = Arc::new(object.value());
            let made = before.and_then(|known| known.made.as_ref());
            let new = rows::make(&tree, made, &*self.compiler, &self.webhooks);
            // What is built in is nobody else's.
            let new = new.filter(|new| new.served.iter().all(|row| !built_in.contains(&row.stored_in())));
            changed |= match (made, &new) {
                (None, None) => false,
                (Some(old), Some(new)) => !old.is_same(new),
                _ => true,
            };
            let made = new;
            known.insert(name, Known { revision: object.revision(), tree, made });
        }
        if !changed {
            return Ok(());
        }
        let made = known.values().filter_map(|known| known.made.as_ref());
        let custom = made.flat_map(|made| made.served.iter().cloned());
        self.caches.change_table(|table| {
            ResourceTable::of(table.rows().filter(|row| row.custom.is_none()).cloned().chain(custom))
        })
    }

    /// The definitions in the order of their names, with whether their resources are served by the names they were given.
    fn all(&self) -> Vec<(Arc<Value>, bool)> {
        let known = self.known.lock();
        known.values().map(|known| (known.tree.clone(), known.made.is_some())).collect()
    }

    /// The row by which a definition's objects are deleted.
    fn stored_row(&self, name: &str) -> Option<Arc<Resource>> {
        self.known.lock().get(name)?.made.as_ref()?.stored.clone()
    }
}

/// Writes what definitions' status should say.
struct Keeper {
    serving: Arc<Serving>,
    client: Arc<dyn Client>,
    server: std::sync::Weak<ApiServer>,
    /// Names of the definitions whose objects are being deleted.
    finalizing: Arc<Mutex<HashSet<String>>>,
}

impl Keeper {
    async fn run(self, mut watcher: Watcher) {
        loop {
            // Whatever happens from here on is seen in the next round.
            if let Err(Lagged) = drain(&mut watcher) {
                let Some(cache) = self.serving.caches.cache(&definitions()) else { return };
                watcher = cache.view_and_watch(0, "").1;
            }
            if self.server.strong_count() == 0 {
                return;
            }
            if let Err(why) = self.serving.clone().serve().await {
                tracing::error!(%why, "the resources of definitions are not up to date");
                tokio::time::sleep(AGAIN).await;
            }
            let failed = self.settle().await;
            let wait =
                async { if failed { tokio::time::sleep(AGAIN).await } else { std::future::pending().await } };
            tokio::select! {
                _ = watcher.wait() => {}
                () = wait => {}
            }
        }
    }

    /// Writes the status of those whose it is not what it should be; whether some could not be written.
    async fn settle(&self) -> bool {
        let mut failed = false;
        let all = self.serving.all();
        let accepted: Vec<(&str, Names)> = all
            .iter()
            .map(|(tree, _)| {
                let names = tree.pointer("/status/acceptedNames").unwrap_or(&Value::Null);
                (group(tree), Names::read(names))
            })
            .collect();
        // Names that are given in this round are taken for those that come after.
        let mut given: Vec<(&str, Names)> = Vec::new();
        for (at, (tree, ready)) in all.iter().enumerate() {
            if conditions::is_finalizing(tree) {
                self.finalize(tree);
            }
            let others =
                accepted.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, names)| names);
            let in_group = others.chain(&given).filter(|(g, _)| *g == group(tree)).map(|(_, names)| names);
            let new = conditions::settle(tree, &Taken::of(in_group), *ready, jiff::Timestamp::now());
            let Some(new) = new else { continue };
            let names = new.pointer("/status/acceptedNames").unwrap_or(&Value::Null);
            given.push((group(tree), Names::read(names)));
            failed |= self.write_status(new).await.is_err();
        }
        failed
    }

    /// Writes a status. That the definition has changed or gone meanwhile is no failure: its change comes by.
    async fn write_status(&self, new: Value) -> Result<(), Status> {
        let name = crate::registry::meta::text(&new, "name").to_owned();
        let target = collection().object(&name).sub("status");
        match self.client.update(&target, new, &WriteOptions::default()).await {
            Err(status) if !status.is_conflict() && !status.is_not_found() => {
                tracing::warn!(name, %status, "the status of a definition could not be written");
                Err(status)
            }
            _ => Ok(()),
        }
    }

    /// Begins to delete the objects of a definition that is going, unless that runs.
    fn finalize(&self, tree: &Arc<Value>) {
        let name = crate::registry::meta::text(tree, "name").to_owned();
        if !self.finalizing.lock().insert(name.clone()) {
            return;
        }
        let finalizer = finalize::Finalizer {
            client: self.client.clone(),
            server: self.server.clone(),
            serving: self.serving.clone(),
        };
        let running = self.finalizing.clone();
        tokio::spawn(async move {
            finalizer.run(&name).await;
            running.lock().remove(&name);
        });
    }
}

fn group(definition: &Value) -> &str {
    definition.pointer("/spec/group").and_then(Value::as_str).unwrap_or_default()
}

/// Reads all changes there are: what they say is read from the cache.
fn drain(watcher: &mut Watcher) -> Result<(), Lagged> {
    const BATCH: usize = 256;
    while watcher.take(BATCH)?.len() == BATCH {}
    Ok(())
}

impl Serving {
    /// The objects of a definition that are left.
    fn left(&self, row: &Resource) -> Result<Vec<Arc<Object>>, Status> {
        let prefix = crate::cache::prefix_of(&row.stored_in());
        let end = skep_store::prefix_end(prefix.as_bytes());
        let read = self.caches.store().range(prefix.as_bytes(), &end, 0, None);
        let read = read.map_err(crate::cache::store_status)?;
        read.kvs.iter().map(|kv| self.caches.object(row, kv)).collect()
    }
}
