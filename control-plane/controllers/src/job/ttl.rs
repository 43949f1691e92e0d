//! Removes Jobs some time after they are over.

use super::jobs;
use super::model::Job;
use crate::Context;
use crate::runtime::{Key, Outcome, Queue, feed_self, work};
use jiff::Timestamp;
use skep_api::Status;
use skep_client::{Client, DeleteOptions, Informer, Propagation, typed};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn start(context: &Context) {
    let client = context.client("ttl-after-finished-controller");
    let informer = context.informers.of(&jobs());
    let queue = Queue::default();
    feed_self(&informer, &queue);
    work("ttl-after-finished", &queue, 1, move |key| {
        let (client, informer) = (client.clone(), informer.clone());
        async move { reconcile(&client, &informer, &key).await }
    });
}

/// How long the Job stays yet; none for one that stays.
fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    let ttl = u64::try_from(job.spec.ttl_seconds_after_finished?).unwrap_or(0);
    let over = job.finished()?.last_transition_time?;
    let since = now.duration_since(over);
    let since = if since.is_negative() { Duration::ZERO } else { since.unsigned_abs() };
    (!job.metadata.deleting()).then(|| Duration::from_secs(ttl).saturating_sub(since))
}

async fn reconcile(client: &Arc<dyn Client>, informer: &Informer, key: &Key) -> Outcome {
    let Some(object) = informer.get(&key.namespace, &key.name) else { return Ok(None) };
    let due = |job: &Job| left(job, Timestamp::now());
    match due(&typed::decode(&object)?) {
        None => return Ok(None),
        Some(wait) if !wait.is_zero() => return Ok(Some(wait)),
        Some(_) => {}
    }
    // The view may be old, and the time to live may have been made longer.
    let target = jobs().item(&key.namespace, &key.name);
    let fresh = client.get(&target).await;
    let gone = |status: Status| if status.is_not_found() { Ok(None) } else { Err(status) };
    let fresh = match fresh {
        Ok(fresh) => fresh,
        Err(status) => return gone(status),
    };
    let wait = due(&typed::decode(&fresh)?);
    if wait.is_none_or(|wait| !wait.is_zero()) {
        return Ok(wait);
    }
    let options = DeleteOptions {
        uid: Some(fresh.meta().uid.to_string()),
        propagation: Some(Propagation::Foreground),
        ..DeleteOptions::default()
    };
    client.delete(&target, &options).await.map(|_| None).or_else(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_lives_as_long_as_it_was_told() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let job = |ttl: Option<i64>, kind: &str| -> Job {
            serde_json::from_value(
                json!({"spec": {"ttlSecondsAfterFinished": ttl}, "status": {"conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:30Z"}]}}),
            )
            .unwrap()
        };
        assert_eq!(left(&job(None, "Complete"), now), None);
        assert_eq!(left(&job(Some(0), "FailureTarget"), now), None);
        assert_eq!(left(&job(Some(100), "Failed"), now), Some(Duration::from_secs(70)));
        assert_eq!(left(&job(Some(30), "Complete"), now), Some(Duration::ZERO));
        assert_eq!(left(&job(Some(0), "Complete"), now), Some(Duration::ZERO));
        let mut leaving = job(Some(0), "Complete");
        leaving.metadata.deletion_timestamp = Some("2026-01-01T00:00:40Z".into());
        assert_eq!(left(&leaving, now), None);
    }
}
