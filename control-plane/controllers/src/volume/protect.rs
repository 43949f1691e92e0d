//! Objects that stay while others use them: a finalizer keeps each, and goes when nobody does.

use super::{claims, text, versions, volumes};
use crate::Context;
use crate::runtime::{Key, Outcome, Queue, feed, work};
use serde_json::Value;
use skep_api::Status;
use skep_client::{Client, ClientExt, Collection, ListOptions, WriteOptions};
use std::sync::Arc;

/// A kind of objects that are kept.
#[derive(Clone, Copy)]
struct Kept {
    controller: &'static str,
    finalizer: &'static str,
}

const CLAIMS: Kept =
    Kept { controller: "pvc-protection-controller", finalizer: "kubernetes.io/pvc-protection" };
const VOLUMES: Kept =
    Kept { controller: "pv-protection-controller", finalizer: "kubernetes.io/pv-protection" };
const CLASSES: Kept = Kept {
    controller: "volumeattributesclass-protection-controller",
    finalizer: "kubernetes.io/vac-protection",
};

/// Names of the claims that a pod uses.
pub(super) fn claims_of(pod: &Value) -> Vec<String> {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    let name = |volume: &Value| match text(volume, "/persistentVolumeClaim/claimName") {
        "" if volume.get("ephemeral").is_some_and(Value::is_object) => {
            Some(format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name")))
        }
        "" => None,
        name => Some(name.to_owned()),
    };
    volumes.into_iter().flatten().filter_map(name).collect()
}

/// Whether a pod keeps a claim: once it has a node, until it is gone.
fn uses(pod: &Value, claim: &str) -> bool {
    !text(pod, "/spec/nodeName").is_empty() && claims_of(pod).iter().any(|name| name == claim)
}

fn names_class(object: &Value, class: &str) -> bool {
    ["/spec/volumeAttributesClassName", "/status/currentVolumeAttributesClassName"]
        .iter()
        .chain(&["/status/modifyVolumeStatus/targetVolumeAttributesClassName"])
        .any(|pointer| text(object, pointer) == class)
}

/// The object as its finalizer should be: there while it is not on its way out, gone when it may go. None where it is so.
fn kept(object: &Value, finalizer: &str, used: bool) -> Option<Value> {
    let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    let has = list.is_some_and(|list| list.iter().any(|f| f == finalizer));
    let going = !text(object, "/metadata/deletionTimestamp").is_empty();
    let mut new = object.clone();
    let metadata = new.get_mut("metadata")?.as_object_mut()?;
    let mut finalizers = list.cloned().unwrap_or_default();
    match (going, has) {
        (false, false) => finalizers.push(finalizer.into()),
        (true, true) if !used => finalizers.retain(|f| f != finalizer),
        _ => return None,
    }
    metadata.insert("finalizers".into(), finalizers.into());
    Some(new)
}

async fn listed(client: &Arc<dyn Client>, collection: &Collection) -> Result<Vec<Value>, Status> {
    let listed = client.list(collection, &ListOptions::default()).await?;
    Ok(listed.items.iter().map(|item| item.value()).collect())
}

/// Whether somebody uses an object, asked of the API itself: views may be behind.
async fn used(client: &Arc<dyn Client>, kind: Kept, object: &Value) -> Result<bool, Status> {
    let name = text(object, "/metadata/name");
    if kind.finalizer == VOLUMES.finalizer {
        return Ok(text(object, "/status/phase") == "Bound");
    }
    if kind.finalizer == CLAIMS.finalizer {
        let pods = Collection::core("pods").within(text(object, "/metadata/namespace"));
        return Ok(listed(client, &pods).await?.iter().any(|pod| uses(pod, name)));
    }
    let mut users = listed(client, &claims()).await?;
    users.extend(listed(client, &volumes()).await?);
    Ok(users.iter().any(|user| names_class(user, name)))
}

async fn reconcile(client: &Arc<dyn Client>, collection: &Collection, kind: Kept, key: Key) -> Outcome {
    let target = collection.item(&key.namespace, &key.name);
    let Some(found) = client.find(&target).await? else { return Ok(None) };
    let object = found.value();
    let in_use = found.meta().deleting() && used(client, kind, &object).await?;
    if let Some(new) = kept(&object, kind.finalizer, in_use) {
        client.update(&target, new, &WriteOptions::default()).await?;
    }
    Ok(None)
}

fn run(context: &Context, collection: Collection, kind: Kept) -> Queue {
    let queue = Queue::default();
    feed(&context.informers.of(&collection), &queue, move |change| {
        // Whoever has its finalizer and is not going needs nothing.
        let settled = |object: &Value| {
            let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
            let has = list.is_some_and(|list| list.iter().any(|f| f == kind.finalizer));
            has == text(object, "/metadata/deletionTimestamp").is_empty()
        };
        let new = change.new.iter().filter(|object| !settled(&object.value()));
        new.map(|object| Key::of(object)).collect()
    });
    let client = context.client(kind.controller);
    work(kind.controller, &queue, 2, move |key| {
        let (client, collection) = (client.clone(), collection.clone());
        async move { reconcile(&client, &collection, kind, key).await }
    });
    queue
}

pub(super) fn start(context: &Context) {
    let of_claims = run(context, claims(), CLAIMS);
    feed(&context.informers.pods, &of_claims, |change| {
        // A pod that comes keeps more, not less.
        let gone = change.old.iter().filter(|_| change.new.is_none());
        let keys = gone.flat_map(|pod| {
            let namespace = pod.meta().namespace.to_string();
            claims_of(&pod.value()).into_iter().map(move |name| Key::new(&namespace, &name))
        });
        keys.collect()
    });
    run(context, volumes(), VOLUMES);
    let classes = Collection::of("storage.k8s.io", "v1", "volumeattributesclasses");
    let of_classes = run(context, classes.clone(), CLASSES);
    for collection in [claims(), volumes()] {
        let all = context.informers.of(&classes);
        feed(&context.informers.of(&collection), &of_classes, move |change| {
            let named = |class: &Arc<skep_api::Object>| {
                versions(change).any(|o| names_class(&o.value(), &class.meta().name))
            };
            let going = all.list().into_iter().filter(|class| class.meta().deleting());
            going.filter(named).map(|class| Key::of(&class)).collect()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_used_by_pods_that_have_a_node() {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "b", "ephemeral": {}},
            {"name": "d", "emptyDir": {}}]}});
        assert_eq!(claims_of(&pod), ["c", "p-b"]);
        assert!(!uses(&pod, "c"));
        pod["spec"]["nodeName"] = "n".into();
        assert!(uses(&pod, "c") && uses(&pod, "p-b") && !uses(&pod, "x"));
    }

    #[test]
    fn the_finalizer_comes_with_the_object_and_goes_with_its_last_user() {
        let finalizer = CLAIMS.finalizer;
        let fresh = json!({"metadata": {"name": "c", "finalizers": ["example.com/f"]}});
        let with = kept(&fresh, finalizer, false).unwrap();
        assert_eq!(with["metadata"]["finalizers"], json!(["example.com/f", finalizer]));
        assert_eq!(kept(&with, finalizer, false), None);
        let mut going = with;
        going["metadata"]["deletionTimestamp"] = "2026-05-01T12:00:00Z".into();
        assert_eq!(kept(&going, finalizer, true), None);
        let free = kept(&going, finalizer, false).unwrap();
        assert_eq!(free["metadata"]["finalizers"], json!(["example.com/f"]));
        assert_eq!(kept(&free, finalizer, false), None, "it does not come back");
    }
}
