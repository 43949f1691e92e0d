//! Frees pods that no Job counts any more, so that their finalizer does not keep them for ever.

use super::model::{FINALIZER, Job};
use super::{API_VERSION, Controller, KIND, untracked};
use crate::runtime::{CATCH_UP, Key, Outcome, Queue, feed, work};
use skep_api::Object;
use skep_client::typed;
use std::sync::Arc;

pub(super) fn start(controller: Arc<Controller>) {
    let queue = Queue::default();
    feed(&controller.pods, &queue, |change| {
        change.new.iter().filter(|pod| held(pod)).map(|pod| Key::of(pod)).collect()
    });
    let pods = controller.pods.clone();
    // What a Job leaves behind when it goes, or is over.
    feed(&controller.jobs, &queue, move |change| {
        let Some(job) = change.latest() else { return Vec::new() };
        let uid = &job.meta().uid;
        let near = pods.namespace(&job.meta().namespace).into_iter();
        let own = near.filter(|pod| held(pod) && pod.meta().controller().is_some_and(|o| o.uid == *uid));
        own.map(|pod| Key::of(&pod)).collect()
    });
    work("job-orphans", &queue, 2, move |key| {
        let controller = controller.clone();
        async move { controller.free(&key).await }
    });
}

fn held(pod: &Object) -> bool {
    pod.meta().finalizers.iter().any(|f| &**f == FINALIZER)
}

/// Whether a pod's own Job is gone, or does not count it any more.
fn forgotten(pod: &Object, job: Option<&Object>) -> bool {
    let Some(owner) = pod.meta().controller() else { return true };
    if &*owner.kind != KIND || &*owner.api_version != API_VERSION {
        return false;
    }
    let Some(job) = job.filter(|job| job.meta().uid == owner.uid) else { return true };
    typed::decode::<Job>(job).is_ok_and(|job| !job.foreign() && job.finished().is_some())
}

impl Controller {
    async fn free(&self, key: &Key) -> Outcome {
        if !self.jobs.is_synced() {
            return Ok(Some(CATCH_UP));
        }
        let Some(pod) = self.pods.get(&key.namespace, &key.name).filter(|pod| held(pod)) else {
            return Ok(None);
        };
        let job = pod.meta().controller().and_then(|o| self.jobs.get(&key.namespace, &o.name));
        if forgotten(&pod, job.as_deref()) {
            self.writer.patch(key, &key.name, untracked()).await?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_pods_that_nobody_counts_are_freed() {
        let object = |value| Object::from_value(value, 1, &[]).unwrap();
        let pod = |owners| object(json!({"metadata": {"name": "a", "uid": "a", "ownerReferences": owners}}));
        let owner = |kind: &str, version: &str| json!([{"apiVersion": version, "kind": kind, "name": "j", "uid": "j", "controller": true}]);
        let job =
            |uid: &str, status| object(json!({"metadata": {"name": "j", "uid": uid}, "status": status}));
        let running = job("j", json!({}));
        let over = job("j", json!({"conditions": [{"type": "Complete", "status": "True"}]}));
        let mine = pod(owner("Job", "batch/v1"));
        assert!(forgotten(&pod(json!([])), None));
        assert!(forgotten(&mine, None));
        assert!(forgotten(&mine, Some(&job("other", json!({})))));
        assert!(forgotten(&mine, Some(&over)));
        assert!(!forgotten(&mine, Some(&running)));
        assert!(!forgotten(&pod(owner("Job", "example.com/v1")), None));
    }
}
