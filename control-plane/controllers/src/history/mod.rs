//! The history of a controller as ControllerRevisions: one a template that its pods have had (KEP "controller
//! history"). StatefulSets and DaemonSets keep theirs here.

mod plan;

use crate::runtime::{Key, OwnWrites};
use crate::views::{controller_reference, managed_by};
use plan::{Latest, latest, new_revision, sort};
pub(crate) use plan::{Revision, data};
use serde_json::{Value, json};
use skep_api::{LabelSelector, Object, Status};
use skep_client::{Client, Collection, DeleteOptions, Informer, Patch, Target, WriteOptions, typed};
use std::sync::Arc;

/// Other names are tried after so many collisions at most; more than one is next to impossible.
const COLLISIONS_MAX: i64 = 8;

/// Whose history it is.
pub(crate) struct Owner<'a> {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) object: &'a Object,
    /// The label of a revision that has the hash of its template.
    pub(crate) hash_label: &'static str,
    pub(crate) selector: &'a LabelSelector,
    pub(crate) template: &'a Value,
    /// Collisions of names so far.
    pub(crate) collisions: i64,
}

/// A history with the present template in it.
pub(crate) struct Settled {
    /// The revision of the present template.
    pub(crate) update: Revision,
    /// All others, by number.
    pub(crate) others: Vec<Revision>,
    /// Collisions of names so far.
    pub(crate) collisions: i64,
}

/// Reads and writes the revisions of one controller.
pub(crate) struct History {
    client: Arc<dyn Client>,
    revisions: Informer,
    writes: OwnWrites,
}

fn collection() -> Collection {
    Collection::of("apps", "v1", "controllerrevisions")
}

fn target(key: &Key, name: &str) -> Target {
    collection().item(&key.namespace, name)
}

impl History {
    pub(crate) fn new(client: Arc<dyn Client>, context: &crate::Context) -> Self {
        History { client, revisions: context.informers.of(&collection()), writes: OwnWrites::default() }
    }

    /// Whether the view is complete and has what was written for the key.
    pub(crate) fn seen(&self, key: &Key) -> bool {
        self.revisions.is_synced() && self.writes.seen(key, &self.revisions)
    }

    /// Takes over what belongs to the owner and makes sure that the present template has the highest number.
    pub(crate) async fn settle(&self, key: &Key, owner: &Owner<'_>) -> Result<Settled, Status> {
        let mut all = self.own(key, owner).await?;
        sort(&mut all);
        let mut collisions = owner.collisions;
        let update = match latest(&all, &data(owner.template)) {
            Latest::Known(at) => all.remove(at),
            Latest::Renumber(at, number) => {
                let known = all.remove(at);
                let patch = Patch::Merge(json!({"revision": number}));
                let name = target(key, known.name());
                let written = self.client.patch(&name, &patch, &WriteOptions::default()).await?;
                self.writes.note(key, written.revision());
                typed::decode(&written)?
            }
            Latest::Missing(number) => self.create(key, owner, number, &mut collisions).await?,
        };
        Ok(Settled { update, others: all, collisions })
    }

    /// The revisions of the owner, after taking over those that match and nobody manages.
    async fn own(&self, key: &Key, owner: &Owner<'_>) -> Result<Vec<Revision>, Status> {
        let meta = owner.object.meta();
        let mut own = Vec::new();
        for revision in self.revisions.namespace(&key.namespace) {
            let found = revision.meta();
            if managed_by(found, &meta.uid) {
                own.push(typed::decode(&revision)?);
            } else if found.controller().is_none()
                && owner.selector.matches(&found.labels)
                && !found.deleting()
                && !meta.deleting()
            {
                let reference = controller_reference(owner.api_version, owner.kind, &key.name, &meta.uid);
                let patch =
                    Patch::Strategic(json!({"metadata": {"uid": found.uid, "ownerReferences": [reference]}}));
                let name = target(key, &found.name);
                let adopted = self.client.patch(&name, &patch, &WriteOptions::default()).await?;
                self.writes.note(key, adopted.revision());
                own.push(typed::decode(&adopted)?);
            }
        }
        Ok(own)
    }

    /// Creates the revision of the present template. Its name is made of that, so that a second try finds the
    /// first one's; a revision of that name with another template is a collision, after which the hash is another.
    async fn create(
        &self,
        key: &Key,
        owner: &Owner<'_>,
        number: i64,
        collisions: &mut i64,
    ) -> Result<Revision, Status> {
        let within = collection().within(&*key.namespace);
        let last = owner.collisions.saturating_add(COLLISIONS_MAX);
        loop {
            let body = new_revision(owner, number, *collisions);
            let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let wanted = body["data"].clone();
            match self.client.create(&within, body, &WriteOptions::default()).await {
                Ok(created) => {
                    self.writes.note(key, created.revision());
                    return typed::decode(&created);
                }
                Err(status) if status.is_already_exists() && *collisions < last => {
                    let found = self.client.get(&within.object(name)).await?;
                    let revision: Revision = typed::decode(&found)?;
                    if managed_by(found.meta(), &owner.object.meta().uid) && revision.data == wanted {
                        return Ok(revision);
                    }
                    *collisions += 1;
                }
                Err(status) => return Err(status),
            }
        }
    }

    /// Puts the label of the hash on a revision that has none: its name.
    pub(crate) async fn label(&self, key: &Key, label: &str, name: &str) -> Result<(), Status> {
        let patch = Patch::Merge(json!({"metadata": {"labels": {label: name}}}));
        let written = self.client.patch(&target(key, name), &patch, &WriteOptions::default()).await?;
        self.writes.note(key, written.revision());
        Ok(())
    }

    /// Deletes revisions; one that is gone already is fine.
    pub(crate) async fn delete(&self, key: &Key, names: &[String]) -> Result<(), Status> {
        for name in names {
            match self.client.delete(&target(key, name), &DeleteOptions::default()).await {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        Ok(())
    }
}
