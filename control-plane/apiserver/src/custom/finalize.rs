//! The end of a CustomResourceDefinition: its objects go first.

use super::conditions::{self, Cleanup, FINALIZER, is_true};
use super::{Serving, collection};
use crate::registry::Call;
use crate::request::UserInfo;
use crate::server::ApiServer;
use serde_json::{Value, json};
use skep_api::{Resource, Status};
use skep_client::{Client, DeleteOptions, Patch, WriteOptions};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often objects that stay for a while are looked for.
const LOOK: Duration = Duration::from_millis(200);
/// After this long it is told that they do not go, and they are deleted anew.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before a deletion that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Finalizer {
    pub(super) client: Arc<dyn Client>,
    pub(super) server: Weak<ApiServer>,
    pub(super) serving: Arc<Serving>,
}

impl Finalizer {
    /// Deletes the objects of a definition and then lets it go. Ends when it is gone.
    pub(super) async fn run(&self, name: &str) {
        loop {
            match self.round(name).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(status) if status.is_not_found() => return,
                Err(status) => {
                    tracing::warn!(name, %status, "the objects of a definition are not deleted yet")
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// One round; whether the definition has been let go.
    async fn round(&self, name: &str) -> Result<bool, Status> {
        let target = collection().object(name);
        let definition = self.client.get(&target).await?.value();
        if !conditions::is_finalizing(&definition) {
            return Ok(true);
        }
        if let (true, Some(row)) = (is_true(&definition, "Established"), self.serving.stored_row(name)) {
            self.tell(name, &Cleanup::Running).await?;
            if let Err(why) = self.delete_all(&row).await {
                self.tell(name, &Cleanup::Failed(why.message.clone())).await?;
                return Err(why);
            }
            let gone = async {
                while !self.serving.left(&row)?.is_empty() {
                    tokio::time::sleep(LOOK).await;
                }
                Ok::<_, Status>(())
            };
            match tokio::time::timeout(PATIENCE, gone).await {
                Ok(gone) => gone?,
                Err(late) => {
                    self.tell(name, &Cleanup::Left(late.to_string())).await?;
                    return Ok(false);
                }
            }
        }
        self.release(name).await
    }

    /// Asks for the deletion of every object.
    async fn delete_all(&self, row: &Arc<Resource>) -> Result<(), Status> {
        let Some(server) = self.server.upgrade() else { return Ok(()) };
        let user = UserInfo::new("system:apiserver", &["system:masters"]);
        for object in self.serving.left(row)? {
            let meta = object.meta();
            let call = Call {
                user: &user,
                row,
                subresource: "",
                namespace: &meta.namespace,
                name: &meta.name,
                dry_run: false,
                manager: "",
            };
            match server.registry().delete(&call, &DeleteOptions::default(), &mut Vec::new()).await {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes how far it has come. Others may write meanwhile; then the next round tells.
    async fn tell(&self, name: &str, how: &Cleanup) -> Result<(), Status> {
        let target = collection().object(name);
        let mut definition = self.client.get(&target).await?.value();
        let before = definition.clone();
        conditions::set(&mut definition, &how.condition(), jiff::Timestamp::now());
        if definition == before {
            return Ok(());
        }
        match self.client.update(&target.sub("status"), definition, &WriteOptions::default()).await {
            Err(status) if !status.is_conflict() => Err(status),
            _ => Ok(()),
        }
    }

    /// Takes the finalizer off.
    async fn release(&self, name: &str) -> Result<bool, Status> {
        let target = collection().object(name);
        let definition = self.client.get(&target).await?;
        let tree = definition.value();
        let finalizers = tree.pointer("/metadata/finalizers").and_then(Value::as_array);
        let left: Vec<&Value> = finalizers.into_iter().flatten().filter(|f| *f != FINALIZER).collect();
        let patch = Patch::Merge(json!({"metadata": {
            "finalizers": left, "uid": &*definition.meta().uid, "resourceVersion": definition.revision().to_string(),
        }}));
        match self.client.patch(&target, &patch, &WriteOptions::default()).await {
            Ok(_) => Ok(true),
            Err(status) if status.is_conflict() => Ok(false),
            Err(status) => Err(status),
        }
    }
}
