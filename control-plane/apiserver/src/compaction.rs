//! Forgets history that is older than five minutes, as kube-apiserver has etcd do.

use skep_store::Store;
use std::time::Duration;

/// How often, and so how long at least a moment can be listed again (`--etcd-compaction-interval`).
const EVERY: Duration = Duration::from_secs(300);

/// Compacts, each time up to where the store was the time before, until it is dropped.
pub(crate) async fn run(store: Store) {
    let mut before = store.revision();
    loop {
        tokio::time::sleep(EVERY).await;
        let now = store.revision();
        if let Err(why) = store.compact(before).await {
            tracing::debug!(%why, "history was not compacted");
        }
        before = now;
    }
}
