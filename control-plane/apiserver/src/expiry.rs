//! Events go after an hour without news: the leader removes them, so that no member consults its own clock when applying.

use crate::cache::{Caches, store_key};
use serde_json::Value;
use skep_api::{GroupResource, Object};
use skep_store::{Compare, Op, Txn};
use std::sync::Arc;
use std::time::Duration;

/// How long an event is kept after it was last seen, in seconds (`--event-ttl` of kube-apiserver).
const KEPT: i64 = 3600;
/// How often expired events are looked for.
const EVERY: Duration = Duration::from_secs(300);
/// How many go in one transaction.
const BATCH: usize = 100;

/// When an event was last seen, in seconds.
fn last_seen(event: &Value) -> Option<i64> {
    ["/metadata/creationTimestamp", "/lastTimestamp", "/eventTime", "/series/lastObservedTime"]
        .iter()
        .filter_map(|path| event.pointer(path)?.as_str()?.parse::<jiff::Timestamp>().ok())
        .map(|at| at.as_second())
        .max()
}

fn is_expired(event: &Value, now: jiff::Timestamp) -> bool {
    last_seen(event).is_none_or(|seen| seen + KEPT < now.as_second())
}

/// Removes the expired of `events`; an event that is renewed meanwhile keeps its whole batch for the next round.
async fn sweep(caches: &Caches, resource: &GroupResource, now: jiff::Timestamp) {
    let all = caches.peek_all(resource, None);
    let expired: Vec<Arc<Object>> = all.into_iter().filter(|event| is_expired(&event.value(), now)).collect();
    for batch in expired.chunks(BATCH) {
        let key = |event: &Object| store_key(resource, &event.meta().namespace, &event.meta().name);
        let txn = Txn {
            compare: batch.iter().map(|e| Compare::ModRevision(key(e).into(), e.revision())).collect(),
            ops: batch.iter().map(|e| Op::Delete { key: key(e).into() }).collect(),
        };
        if let Err(why) = caches.store().txn(txn).await {
            tracing::debug!(%why, "expired events were not removed");
            return;
        }
    }
}

/// Removes expired events until it is dropped.
pub(crate) async fn run(caches: Arc<Caches>) {
    let resource = GroupResource::new("", "events");
    loop {
        tokio::time::sleep(EVERY).await;
        sweep(&caches, &resource, jiff::Timestamp::now()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use skep_api::kinds::ResourceTable;

    #[tokio::test(flavor = "multi_thread")]
    async fn only_what_is_old_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = skep_store::Store::open(skep_store::Config::new(dir.path())).await.unwrap();
        let now: jiff::Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let events = GroupResource::new("", "events");
        for (name, seen) in [("old", "2026-01-01T10:59:00Z"), ("new", "2026-01-01T11:30:00Z")] {
            let event = json!({"apiVersion": "v1", "kind": "Event", "lastTimestamp": seen,
                "metadata": {"name": name, "namespace": "d", "creationTimestamp": "2026-01-01T01:00:00Z"}});
            let op = Op::Put {
                key: store_key(&events, "d", name).into(),
                value: Object::canonical(event).unwrap(),
            };
            store.txn(Txn { compare: Vec::new(), ops: vec![op] }).await.unwrap();
        }
        let caches = Caches::start(store.clone(), ResourceTable::builtin()).await.unwrap();
        sweep(&caches, &events, now).await;
        caches.fresh().await.unwrap();
        let left: Vec<_> = caches.peek_all(&events, None).iter().map(|e| e.meta().name.to_string()).collect();
        assert_eq!(left, ["new"]);
    }
}
