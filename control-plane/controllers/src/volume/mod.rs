//! Volumes: the binder that brings claims and volumes together, what keeps both while they are in use, and the claims that
//! pods make for themselves. Nothing here makes or removes storage; a class's provisioner does.

mod ephemeral;
mod plan;
mod protect;
#[cfg(test)]
mod tests;

use crate::Context;
use crate::runtime::{CATCH_UP, Key, Outcome, OwnWrites, Queue, feed, feed_self, work};
use plan::{BIND_COMPLETED, Class, ForClaim, ForVolume, SELECTED_NODE, Told};
use serde_json::{Value, json};
use skep_api::kinds::rfc3339;
use skep_api::kinds::volume::class_of;
use skep_api::kinds::volume::matching::Place;
use skep_api::{Object, Status};
use skep_client::{Client, ClientExt, Collection, Informer, Recorder, Reference, Target, WriteOptions};
use std::sync::Arc;

const NAME: &str = "persistent-volume-binder";

fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn annotation<'a>(tree: &'a Value, key: &str) -> Option<&'a str> {
    tree.pointer("/metadata/annotations")?.get(key)?.as_str()
}

fn claims() -> Collection {
    Collection::core("persistentvolumeclaims")
}

fn volumes() -> Collection {
    Collection::core("persistentvolumes")
}

/// Binds claims and volumes. It works at one key at a time, on views that hold all it wrote: two claims never get one volume.
struct Binder {
    client: Arc<dyn Client>,
    claims: Informer,
    volumes: Informer,
    classes: Informer,
    nodes: Informer,
    events: Recorder,
    queue: Queue,
    claim_writes: OwnWrites,
    volume_writes: OwnWrites,
}

/// All writes to one view are noted under one key.
fn all() -> Key {
    Key::new("", "")
}

impl Binder {
    async fn reconcile(&self, key: Key) -> Outcome {
        if !self.claim_writes.seen(&all(), &self.claims) || !self.volume_writes.seen(&all(), &self.volumes) {
            return Ok(Some(CATCH_UP));
        }
        if key.namespace.is_empty() { self.volume(&key).await } else { self.claim(&key).await }
    }

    async fn write_claim(&self, target: &Target, claim: Value) -> Result<Value, Status> {
        let written = self.client.update(target, claim, &WriteOptions::default()).await?;
        self.claim_writes.note(&all(), written.revision());
        Ok(written.value())
    }

    async fn write_volume(&self, target: &Target, volume: Value) -> Result<Value, Status> {
        let written = self.client.update(target, volume, &WriteOptions::default()).await?;
        self.volume_writes.note(&all(), written.revision());
        Ok(written.value())
    }

    fn tell(&self, kind: &str, about: &Object, Told(warning, reason, message): Told) {
        let about = Reference::to("v1", kind, about);
        if warning {
            self.events.warning(&about, reason, message);
        } else {
            self.events.normal(&about, reason, message);
        }
    }

    async fn claim(&self, key: &Key) -> Outcome {
        let Some(object) = self.claims.get(&key.namespace, &key.name) else { return Ok(None) };
        let claim = object.value();
        if object.meta().deleting() && annotation(&claim, BIND_COMPLETED).is_none() {
            return Ok(None);
        }
        let volumes: Vec<Value> = self.volumes.list().iter().map(|volume| volume.value()).collect();
        let class = self.classes.get("", class_of(&claim)).map(|class| {
            let class = class.value();
            let waits = text(&class, "/volumeBindingMode") == "WaitForFirstConsumer";
            Class { provisioner: text(&class, "/provisioner").to_owned(), waits }
        });
        let node = annotation(&claim, SELECTED_NODE).and_then(|name| self.nodes.get("", name));
        let place = node.as_ref().map(|node| Place { name: &node.meta().name, labels: &node.meta().labels });
        let target = claims().item(&key.namespace, &key.name);
        match plan::for_claim(&claim, &volumes, class.as_ref(), place) {
            ForClaim::Wait(told) => {
                if let Some(told) = told {
                    self.tell("PersistentVolumeClaim", &object, told);
                }
            }
            ForClaim::Provision(asking, told) => {
                if asking != claim {
                    self.write_claim(&target, asking).await?;
                }
                self.tell("PersistentVolumeClaim", &object, told);
            }
            ForClaim::Lost(told) => {
                if text(&claim, "/status/phase") != "Lost" {
                    let mut lost = claim;
                    lost["status"]["phase"] = "Lost".into();
                    self.write_claim(&target.sub("status"), lost).await?;
                    self.tell("PersistentVolumeClaim", &object, told);
                }
            }
            ForClaim::Bind(volume) => self.bind(&target, claim, volume).await?,
        }
        Ok(None)
    }

    /// Four writes, each of which may be the last for now: whoever looks next goes on from there.
    async fn bind(&self, target: &Target, claim: Value, volume: Value) -> Result<(), Status> {
        let name = text(&volume, "/metadata/name").to_owned();
        let volume_target = volumes().object(&*name);
        let bound = plan::bound_volume(&volume, &claim);
        let volume = match bound == volume {
            true => volume,
            false => self.write_volume(&volume_target, bound).await?,
        };
        if text(&volume, "/status/phase") != "Bound" {
            self.phase(&volume_target, volume.clone(), "Bound", None).await?;
        }
        let bound = plan::bound_claim(&claim, &name);
        let mut claim = match bound == claim {
            true => claim,
            false => self.write_claim(target, bound).await?,
        };
        let status = plan::bound_status(&claim, &volume);
        if claim.get("status") != Some(&status) {
            claim["status"] = status;
            self.write_claim(&target.sub("status"), claim).await?;
        }
        Ok(())
    }

    async fn phase(
        &self,
        target: &Target,
        mut volume: Value,
        phase: &str,
        told: Option<&Told>,
    ) -> Result<(), Status> {
        if !volume["status"].is_object() {
            volume["status"] = json!({});
        }
        let since = rfc3339(jiff::Timestamp::now());
        volume["status"]["lastPhaseTransitionTime"] = since.into();
        volume["status"]["phase"] = phase.into();
        if let Some(told) = told {
            volume["status"]["message"] = told.2.as_str().into();
        }
        self.write_volume(&target.sub("status"), volume).await.map(drop)
    }

    async fn volume(&self, key: &Key) -> Outcome {
        let Some(object) = self.volumes.get("", &key.name) else { return Ok(None) };
        let volume = object.value();
        let (namespace, name) =
            (text(&volume, "/spec/claimRef/namespace"), text(&volume, "/spec/claimRef/name"));
        let mut claim = self.claims.get(namespace, name);
        let uid = text(&volume, "/spec/claimRef/uid");
        if !uid.is_empty() && claim.as_ref().is_none_or(|claim| &*claim.meta().uid != uid) {
            // The view may be behind whoever wrote the volume: a claim is gone when the API says so.
            claim = self.client.find(&claims().item(namespace, name)).await?;
        }
        let target = volumes().object(&*key.name);
        match plan::for_volume(&volume, claim.map(|claim| claim.value()).as_ref()) {
            ForVolume::Nothing => {
                if !name.is_empty() {
                    self.queue.add(Key::new(namespace, name));
                }
            }
            ForVolume::Phase(phase, told) => {
                if text(&volume, "/status/phase") != phase {
                    self.phase(&target, volume, phase, told.as_ref()).await?;
                    if phase == "Released" {
                        return Ok(Some(CATCH_UP));
                    }
                }
                if let Some(told) = told {
                    self.tell("PersistentVolume", &object, told);
                }
            }
            ForVolume::Unbind(free) => {
                if free != volume {
                    self.write_volume(&target, free).await?;
                }
            }
        }
        Ok(None)
    }
}

fn versions(change: &skep_client::Change) -> impl Iterator<Item = &Arc<Object>> {
    [&change.old, &change.new].into_iter().flatten()
}

/// Claims of a class that have not been bound.
fn pending(claims: &Informer, class: &str) -> Vec<Key> {
    let waits = |claim: &Arc<Object>| {
        let tree = claim.value();
        (annotation(&tree, BIND_COMPLETED).is_none() && class_of(&tree) == class).then(|| Key::of(claim))
    };
    claims.list().iter().filter_map(waits).collect()
}

pub(crate) fn start(context: &Context) {
    let client = context.client(NAME);
    let queue = Queue::default();
    let binder = Arc::new(Binder {
        claims: context.informers.of(&claims()),
        volumes: context.informers.of(&volumes()),
        classes: context.informers.of(&Collection::of("storage.k8s.io", "v1", "storageclasses")),
        nodes: context.informers.nodes.clone(),
        events: Recorder::start(client.clone(), "persistentvolume-controller", ""),
        queue: queue.clone(),
        claim_writes: OwnWrites::default(),
        volume_writes: OwnWrites::default(),
        client,
    });
    feed_self(&binder.claims, &queue);
    feed(&binder.claims, &queue, |change| {
        let named = versions(change).map(|claim| Key::new("", text(&claim.value(), "/spec/volumeName")));
        named.filter(|key| !key.name.is_empty()).collect()
    });
    feed_self(&binder.volumes, &queue);
    let all_claims = binder.claims.clone();
    feed(&binder.volumes, &queue, move |change| {
        let mut keys = Vec::new();
        for volume in versions(change) {
            let tree = volume.value();
            let part = |field: &str| text(&tree, &format!("/spec/claimRef/{field}")).to_owned();
            if !part("name").is_empty() {
                keys.push(Key::new(&part("namespace"), &part("name")));
            } else if text(&tree, "/status/phase") == "Available" {
                keys.extend(pending(&all_claims, class_of(&tree)));
            }
        }
        keys
    });
    let all_claims = binder.claims.clone();
    feed(&binder.classes, &queue, move |change| {
        change.new.iter().flat_map(|class| pending(&all_claims, &class.meta().name)).collect()
    });
    let informers = [binder.claims.clone(), binder.volumes.clone(), binder.classes.clone()];
    let queue_of_work = queue.clone();
    // What is bound, and what is not, can be told only when all is in view.
    tokio::spawn(async move {
        for informer in &informers {
            informer.synced().await;
        }
        work(NAME, &queue_of_work, 1, move |key| {
            let binder = binder.clone();
            async move { binder.reconcile(key).await }
        });
    });
    protect::start(context);
    ephemeral::start(context);
}
