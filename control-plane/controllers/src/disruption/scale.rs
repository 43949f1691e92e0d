//! Who decides how many pods there should be, and how many.

use super::plan::Scales;
use crate::views::Pod;
use crate::{Context, ManagedResource};
use serde_json::Value;
use skep_api::meta::OwnerReference;
use skep_api::{GroupResource, GroupVersion, Status};
use skep_client::{Client, ClientExt, Collection, Informer};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::watch;

/// Kinds whose objects are at hand: group, kind, plural.
const KNOWN: [(&str, &str, &str); 4] = [
    ("", "ReplicationController", "replicationcontrollers"),
    ("apps", "Deployment", "deployments"),
    ("apps", "ReplicaSet", "replicasets"),
    ("apps", "StatefulSet", "statefulsets"),
];

/// Why the pods of a budget cannot be counted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    /// The controller of a pod is gone or is another.
    #[error("found no controllers for pod {0:?}")]
    NoController(String),
    /// The kind of a controller has no scale.
    #[error("{0} does not implement the scale subresource")]
    NoScale(String),
    /// There is no such kind.
    #[error("no matches for kind {0:?} in version {1:?}")]
    NoKind(String, String),
    /// The server did not answer.
    #[error("{0}")]
    Failed(#[from] Status),
}

/// What the budgets' pods belong to.
pub(super) struct Finder {
    client: Arc<dyn Client>,
    known: [Informer; 4],
    resources: watch::Receiver<Vec<ManagedResource>>,
}

impl Finder {
    pub(super) fn new(client: Arc<dyn Client>, context: &Context) -> Self {
        let known =
            KNOWN.map(|(group, _, plural)| context.informers.of(&Collection::of(group, "v1", plural)));
        Finder { client, known, resources: context.config.resources.clone() }
    }

    /// The scales of all controllers of these pods, and the pods that have none.
    pub(super) async fn scales(
        &self,
        namespace: &str,
        pods: &[Pod],
    ) -> Result<(Scales, Vec<String>), Unknown> {
        let (mut scales, mut loose) = (Scales::new(), Vec::new());
        let mut asked = HashSet::new();
        for pod in pods {
            let name = pod.meta().name.to_string();
            let Some(owner) = pod.meta().controller() else {
                loose.push(name);
                continue;
            };
            if asked.insert(owner.uid.clone()) {
                let found = self.scale(namespace, owner).await?;
                let (uid, replicas) = found.ok_or(Unknown::NoController(name))?;
                scales.insert(uid, replicas);
            }
        }
        Ok((scales, loose))
    }

    /// Who decides in the end, and how many pods it wants; none where the owner is gone.
    async fn scale(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i64)>, Unknown> {
        let version = GroupVersion::parse(&owner.api_version);
        let at = KNOWN.iter().position(|(group, kind, _)| *group == version.group && *kind == &*owner.kind);
        let Some(at) = at else { return self.ask(namespace, owner, &version).await };
        let Some(object) = self.known[at].get(namespace, &owner.name) else { return Ok(None) };
        if object.meta().uid != owner.uid {
            return Ok(None);
        }
        // A ReplicaSet of a Deployment has as many replicas as that gives it for now.
        let above = object.meta().controller().filter(|above| &*above.kind == "Deployment");
        let decider = match above {
            Some(above) => {
                let found = self.known[1].get(namespace, &above.name).filter(|d| d.meta().uid == above.uid);
                let Some(found) = found else { return Ok(None) };
                found
            }
            None => object,
        };
        Ok(Some((decider.meta().uid.to_string(), replicas(&decider.value()))))
    }

    /// Asks for the scale of a kind that is not at hand.
    async fn ask(
        &self,
        namespace: &str,
        owner: &OwnerReference,
        version: &GroupVersion,
    ) -> Result<Option<(String, i64)>, Unknown> {
        let of_kind = |r: &&ManagedResource| r.kind.kind == *owner.kind && r.kind.group_version() == *version;
        let collection = self.resources.borrow().iter().find(of_kind).map(|r| r.collection.clone());
        let collection = collection
            .ok_or_else(|| Unknown::NoKind(owner.kind.to_string(), owner.api_version.to_string()))?;
        let resource = GroupResource::new(version.group.clone(), collection.resource.clone());
        let target = collection.item(namespace, &owner.name).sub("scale");
        match self.client.find(&target).await {
            Ok(Some(scale)) if scale.meta().uid == owner.uid => {
                Ok(Some((owner.uid.to_string(), replicas(&scale.value()))))
            }
            Ok(Some(_)) => Ok(None),
            // Either the owner is gone or its kind has no scale: the server names the owner only in the first case.
            Ok(None) => match self.client.get(&target).await {
                Err(status) if status.details.as_ref().is_some_and(|d| d.name == *owner.name) => Ok(None),
                _ => Err(Unknown::NoScale(resource.to_string())),
            },
            Err(status) => Err(status.into()),
        }
    }
}

fn replicas(tree: &Value) -> i64 {
    tree.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}
