//! Claims that pods make for themselves (generic ephemeral volumes, KEP-1698): named after pod and volume, owned by the pod.

use super::{claims, text};
use crate::Context;
use crate::runtime::{Key, Outcome, Queue, feed, work};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use skep_api::Object;
use skep_client::{Client, ClientExt, Informer, Recorder, Reference, WriteOptions};
use std::sync::Arc;

const NAME: &str = "ephemeral-volume-controller";

/// The claims that a pod needs.
fn wanted(pod: &Value) -> Vec<Value> {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    let claim = |volume: &Value| {
        let template = volume.pointer("/ephemeral/volumeClaimTemplate").filter(|t| t.is_object())?;
        let mut claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": template.get("spec").cloned().unwrap_or_default(),
            "metadata": {
                "name": format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name")),
                "namespace": text(pod, "/metadata/namespace"),
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Pod", "name": text(pod, "/metadata/name"), "uid": text(pod, "/metadata/uid"),
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
        });
        for field in ["labels", "annotations"] {
            if let Some(map) = template.pointer(&format!("/metadata/{field}")).filter(|map| map.is_object()) {
                claim["metadata"][field] = map.clone();
            }
        }
        Some(claim)
    };
    volumes.into_iter().flatten().filter_map(claim).collect()
}

struct Maker {
    client: Arc<dyn Client>,
    pods: Informer,
    events: Recorder,
}

impl Maker {
    async fn reconcile(&self, key: Key) -> Outcome {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else { return Ok(None) };
        if pod.meta().deleting() {
            return Ok(None);
        }
        for claim in wanted(&pod.value()) {
            let name = text(&claim, "/metadata/name").to_owned();
            let place = claims().within(&*key.namespace);
            if let Some(there) = self.client.find(&place.object(&*name)).await? {
                if there.meta().controller().is_none_or(|owner| owner.uid != pod.meta().uid) {
                    let about = Reference::to("v1", "Pod", &pod);
                    let message = format!(
                        "ephemeral volume: PVC {}/{name} was not created for pod {}/{} (pod is not owner)",
                        key.namespace, key.namespace, key.name
                    );
                    self.events.warning(&about, "FailedBinding", message);
                }
                continue;
            }
            match self.client.create(&place, claim, &WriteOptions::default()).await {
                Err(status) if !status.is_already_exists() => return Err(status),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// What is read of every pod.
#[derive(Deserialize)]
struct Asking {
    spec: Option<Volumes>,
}

#[derive(Deserialize)]
struct Volumes {
    volumes: Option<Vec<Ephemeral>>,
}

#[derive(Deserialize)]
struct Ephemeral {
    ephemeral: Option<IgnoredAny>,
}

/// Whether a pod has volumes whose claims are made for it.
fn wants_any(pod: &Object) -> bool {
    let asking = pod.read::<Asking>().ok();
    let volumes = asking.and_then(|pod| pod.spec).and_then(|spec| spec.volumes).unwrap_or_default();
    volumes.iter().any(|volume| volume.ephemeral.is_some())
}

pub(super) fn start(context: &Context) {
    let client = context.client(NAME);
    let events = Recorder::start(client.clone(), "ephemeral_volume", "");
    let maker = Arc::new(Maker { client, pods: context.informers.pods.clone(), events });
    let queue = Queue::default();
    feed(&maker.pods, &queue, |change| {
        // A pod's volumes never change: new pods are enough.
        let new = change.new.iter().filter(|_| change.old.is_none());
        new.filter(|pod| wants_any(pod)).map(|pod| Key::of(pod)).collect()
    });
    let gone = queue.clone();
    feed(&context.informers.of(&claims()), &gone, |change| {
        let old = change.old.iter().filter(|_| change.new.is_none());
        let owner = |claim: &Arc<Object>| {
            let owner = claim.meta().controller().filter(|owner| &*owner.kind == "Pod")?;
            Some(Key::new(&claim.meta().namespace, &owner.name))
        };
        old.filter_map(owner).collect()
    });
    work(NAME, &queue, 2, move |key| {
        let maker = maker.clone();
        async move { maker.reconcile(key).await }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_for_each_volume_that_asks_for_one() {
        let template =
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}});
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"volumes": [
            {"name": "x", "emptyDir": {}}, {"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]}});
        let claims = wanted(&pod);
        assert_eq!(claims.len(), 1);
        assert_eq!(claims[0]["metadata"]["name"], "p-scratch");
        assert_eq!(claims[0]["metadata"]["labels"], json!({"a": "b"}));
        assert_eq!(claims[0]["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(claims[0]["spec"], template["spec"]);
        let asks = |pod| wants_any(&Object::from_value(pod, 1, &[]).unwrap());
        assert!(asks(pod));
        for spec in [
            json!({"volumes": [{"name": "x", "emptyDir": {}}]}),
            json!({"volumes": null}),
            json!({}),
            json!(null),
        ] {
            assert!(!asks(json!({"metadata": {"name": "p"}, "spec": spec})));
        }
    }
}
