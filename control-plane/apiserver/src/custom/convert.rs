//! Between the versions of a custom resource.

use super::review;
use crate::webhook::{TIMEOUT, Target, Webhooks};
use serde_json::Value;
use skep_api::custom::Custom;
use skep_api::resource::{Convert, Converting};
use skep_api::{GroupVersion, GroupVersionKind, Status};
use std::collections::HashMap;
use std::sync::Arc;

/// How objects are brought from one version to another.
pub(super) enum Means {
    /// Only `apiVersion` changes.
    Rename,
    /// A webhook is asked.
    Webhook {
        /// Calls it.
        webhooks: Arc<Webhooks>,
        /// Where it is, or why that is not known.
        target: Result<Target, String>,
        /// Versions of the question that it understands.
        reviews: Vec<String>,
    },
}

/// What the versions of one definition share.
pub(super) struct Versions {
    /// All of them, served or not.
    pub(super) by_name: HashMap<String, Arc<Custom>>,
    /// Which one is stored.
    pub(super) storage: GroupVersionKind,
    /// How to get from one to another.
    pub(super) means: Means,
}

/// The conversion of one version.
pub(super) struct OfVersion {
    pub(super) all: Arc<Versions>,
    pub(super) served: GroupVersionKind,
}

fn api_version(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
}

impl Versions {
    fn of(&self, object: &Value, which: &str) -> Result<&Arc<Custom>, Status> {
        let version = GroupVersion::parse(api_version(object));
        let known = self.by_name.get(&*version.version).filter(|_| version.group == self.storage.group);
        known.ok_or_else(|| {
            Status::internal(format!("request to convert CR {which} an invalid group/version: {version}"))
        })
    }

    /// Objects as they were stored, pruned and defaulted by the version they are in.
    fn read(&self, objects: &mut [Value]) -> Result<(), Status> {
        for object in objects {
            let custom = self.of(object, "from")?.clone();
            custom.read(object);
        }
        Ok(())
    }

    /// Brings objects to a version. Those that are in it already are left alone; the others are pruned by it.
    async fn convert(&self, objects: &mut [Value], to: &GroupVersionKind) -> Result<(), Status> {
        let desired = to.api_version();
        let mut others: Vec<&mut Value> =
            objects.iter_mut().filter(|object| api_version(object) != desired).collect();
        if others.is_empty() {
            return Ok(());
        }
        match &self.means {
            Means::Rename => {
                for object in &mut others {
                    if let Some(top) = object.as_object_mut() {
                        top.insert("apiVersion".into(), desired.clone().into());
                    }
                }
            }
            Means::Webhook { webhooks, target, reviews } => {
                let sent: Vec<Value> = others.iter().map(|object| (**object).clone()).collect();
                let asked = ask(webhooks, target, reviews, &sent, &desired).await;
                for (object, converted) in others.iter_mut().zip(asked.map_err(Status::internal)?) {
                    **object = converted;
                }
            }
        }
        for object in others {
            let custom = self.of(object, "to")?;
            if let Some(guide) = custom.schemas.guide() {
                guide.clean(object).map_err(Status::internal)?;
            }
        }
        Ok(())
    }
}

async fn ask(
    webhooks: &Webhooks,
    target: &Result<Target, String>,
    reviews: &[String],
    sent: &[Value],
    desired: &str,
) -> Result<Vec<Value>, String> {
    let first = sent.first().unwrap_or(&Value::Null);
    let from = GroupVersion::parse(api_version(first));
    let kind = first.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let gvk = GroupVersionKind { group: from.group, version: from.version, kind: kind.into() };
    let failed = |why: &dyn std::fmt::Display| format!("conversion webhook for {gvk} failed: {why}");
    let target = target.as_ref().map_err(|why| failed(why))?;
    let version =
        review::version(reviews).ok_or_else(|| "no supported conversion review versions".to_owned())?;
    let uid = uuid::Uuid::new_v4().to_string();
    let question = review::ask(version, &uid, sent, desired);
    let answer = webhooks.call(target, &question, TIMEOUT).await.map_err(|e| failed(&e))?;
    let converted = review::read(&answer, version, &uid, sent.len(), &gvk)?;
    let pairs = sent.iter().zip(converted).enumerate();
    pairs.map(|(at, (original, new))| review::accept(original, new, desired, at, &gvk)).collect()
}

impl Convert for OfVersion {
    fn to_served(&self, mut objects: Vec<Value>) -> Converting<'_> {
        Box::pin(async move {
            self.all.read(&mut objects)?;
            self.all.convert(&mut objects, &self.served).await?;
            Ok(objects)
        })
    }

    fn to_stored(&self, mut objects: Vec<Value>) -> Converting<'_> {
        Box::pin(async move {
            self.all.convert(&mut objects, &self.all.storage).await?;
            Ok(objects)
        })
    }
}
