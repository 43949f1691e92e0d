//! Creating, deleting and changing pods for an owner, with the events that tell of it.

use crate::runtime::{Key, OwnWrites};
use futures::future::join_all;
use serde_json::Value;
use skep_api::Status;
use skep_client::{Client, Collection, DeleteOptions, Patch, Recorder, Reference, Target, WriteOptions};
use std::sync::Arc;

/// Writes pods in the name of one controller.
pub(crate) struct PodWriter {
    pub(crate) client: Arc<dyn Client>,
    pub(crate) events: Recorder,
    /// Which of the writes are not in the view of pods yet.
    pub(crate) writes: OwnWrites,
}

fn pod(key: &Key, name: &str) -> Target {
    Collection::core("pods").item(&key.namespace, name)
}

impl PodWriter {
    pub(crate) fn new(client: Arc<dyn Client>, controller: &'static str) -> Self {
        PodWriter {
            events: Recorder::start(client.clone(), controller, ""),
            client,
            writes: OwnWrites::default(),
        }
    }

    /// Creates pods in batches that double in size, so that a quota that is used up is met once and not five
    /// hundred times. Answers how many were not created, and why.
    pub(crate) async fn create(
        &self,
        key: &Key,
        about: &Reference,
        pods: &[Value],
    ) -> Result<(), (usize, Status)> {
        let collection = Collection::core("pods").within(&*key.namespace);
        let options = WriteOptions::default();
        let (mut left, mut batch) = (pods, 1);
        while !left.is_empty() {
            let (now, later) = left.split_at(batch.min(left.len()));
            let calls = now.iter().map(|pod| self.client.create(&collection, pod.clone(), &options));
            let (mut failed, mut missing) = (None, later.len());
            for result in join_all(calls).await {
                match result {
                    Ok(pod) => {
                        self.writes.note(key, pod.revision());
                        let message = format!("Created pod: {}", pod.meta().name);
                        self.events.normal(about, "SuccessfulCreate", message);
                    }
                    Err(status) => {
                        missing += 1;
                        failed = Some(status);
                    }
                }
            }
            if let Some(status) = failed {
                self.events.warning(about, "FailedCreate", format!("Error creating: {status}"));
                return Err((missing, status));
            }
            left = later;
            batch *= 2;
        }
        Ok(())
    }

    /// Deletes pods; one that is gone already is fine.
    pub(crate) async fn delete(&self, key: &Key, about: &Reference, names: &[String]) -> Result<(), Status> {
        let calls = names.iter().map(|name| async move {
            match self.client.delete(&pod(key, name), &DeleteOptions::default()).await {
                Ok(left) => {
                    if let Some(left) = left {
                        self.writes.note(key, left.revision());
                    }
                    self.events.normal(about, "SuccessfulDelete", format!("Deleted pod: {name}"));
                    Ok(())
                }
                Err(status) if status.is_not_found() => Ok(()),
                Err(status) => {
                    self.events.warning(about, "FailedDelete", format!("Error deleting: {status}"));
                    Err(status)
                }
            }
        });
        join_all(calls).await.into_iter().collect()
    }

    /// Patches a pod; one that is gone needs none.
    pub(crate) async fn patch(&self, key: &Key, name: &str, patch: Value) -> Result<(), Status> {
        match self.client.patch(&pod(key, name), &Patch::Strategic(patch), &WriteOptions::default()).await {
            Ok(pod) => {
                self.writes.note(key, pod.revision());
                Ok(())
            }
            Err(status) if status.is_not_found() => Ok(()),
            Err(status) => Err(status),
        }
    }
}
