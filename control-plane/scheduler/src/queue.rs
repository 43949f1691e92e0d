//! Pods that wait: those to be tried now, those that failed and wait for the cluster to change or for time.

use crate::core::model::Pod;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A pod that failed is tried again no sooner than after this, doubled for each failure … (`podInitialBackoffSeconds`)
const FIRST: Duration = Duration::from_secs(1);
/// … up to this (`podMaxBackoffSeconds`).
const LONGEST: Duration = Duration::from_secs(10);
/// A pod that nothing happened for is tried again after this (`podMaxInUnschedulablePodsDuration`).
const STALE: Duration = Duration::from_secs(300);

type Uid = Box<str>;
/// Higher priority first, then first come first served.
type Rank = (Reverse<i64>, u64, Uid);

#[derive(Default)]
pub(crate) struct Queue {
    pods: HashMap<Uid, Arc<Pod>>,
    ranks: HashMap<Uid, Rank>,
    active: BTreeSet<Rank>,
    /// Failed pods, with the instant from which they may be tried again.
    failed: BTreeMap<Uid, Instant>,
    attempts: HashMap<Uid, u32>,
    /// Failed pods that may be tried once their backoff is over, since something changed.
    woken: BTreeSet<Uid>,
    counter: u64,
}

impl Queue {
    /// Adds a pod, or takes note of a new version of one.
    pub(crate) fn put(&mut self, pod: Arc<Pod>) {
        let uid = pod.meta.uid.clone();
        let known = self.pods.insert(uid.clone(), pod.clone()).is_some();
        if known && self.failed.contains_key(&uid) {
            return; // the status that its failure wrote is no reason to try again
        }
        self.activate(&uid);
    }

    fn activate(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid) else { return };
        self.failed.remove(uid);
        self.woken.remove(uid);
        self.counter += 1;
        let order = self.ranks.get(uid).map_or(self.counter, |r| r.1);
        let rank = (Reverse(pod.priority), order, Uid::from(uid));
        if let Some(old) = self.ranks.insert(uid.into(), rank.clone()) {
            self.active.remove(&old);
        }
        self.active.insert(rank);
    }

    /// Forgets a pod.
    pub(crate) fn remove(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.failed.remove(uid);
        self.woken.remove(uid);
        self.attempts.remove(uid);
        if let Some(rank) = self.ranks.remove(uid) {
            self.active.remove(&rank);
        }
    }

    /// The next pod to try.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Arc<Pod>> {
        self.ripen(now);
        let (_, _, uid) = self.active.pop_first()?;
        self.pods.get(&uid).cloned()
    }

    /// A pod could not be placed.
    pub(crate) fn fail(&mut self, uid: &str, now: Instant) {
        if !self.pods.contains_key(uid) {
            return;
        }
        let attempts = self.attempts.entry(uid.into()).or_insert(0);
        *attempts += 1;
        let wait = FIRST.saturating_mul(1 << (*attempts - 1).min(4)).min(LONGEST);
        self.failed.insert(uid.into(), now + wait);
    }

    /// Something changed that may make room.
    pub(crate) fn wake(&mut self) {
        self.woken.extend(self.failed.keys().cloned());
    }

    fn ripen(&mut self, now: Instant) {
        let due =
            |uid: &Uid, from: &Instant| *from <= now && (self.woken.contains(uid) || *from + STALE <= now);
        let ripe: Vec<Uid> =
            self.failed.iter().filter(|(uid, from)| due(uid, from)).map(|(uid, _)| uid.clone()).collect();
        for uid in ripe {
            self.activate(&uid);
        }
    }

    /// When the next failed pod may be tried.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let due =
            |(uid, from): (&Uid, &Instant)| if self.woken.contains(uid) { *from } else { *from + STALE };
        self.failed.iter().map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, priority: i64) -> Arc<Pod> {
        let mut pod = Pod { priority, ..Pod::default() };
        pod.meta.uid = uid.into();
        Arc::new(pod)
    }

    #[tokio::test(start_paused = true)]
    async fn priority_then_order() {
        let mut queue = Queue::default();
        for (uid, priority) in [("a", 0), ("b", 5), ("c", 0)] {
            queue.put(pod(uid, priority));
        }
        let now = Instant::now();
        let order: Vec<String> =
            std::iter::from_fn(|| queue.pop(now)).map(|p| p.meta.uid.to_string()).collect();
        assert_eq!(order, ["b", "a", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_pod_waits_for_a_change_and_for_its_backoff() {
        let mut queue = Queue::default();
        queue.put(pod("a", 0));
        let start = Instant::now();
        queue.pop(start);
        queue.fail("a", start);
        queue.put(pod("a", 0)); // its own status update
        assert!(queue.pop(start + Duration::from_secs(2)).is_none());
        queue.wake();
        assert!(queue.pop(start + Duration::from_millis(500)).is_none());
        assert_eq!(queue.next_due(), Some(start + Duration::from_secs(1)));
        assert!(queue.pop(start + Duration::from_secs(1)).is_some());
        queue.fail("a", start);
        assert!(queue.pop(start + STALE + Duration::from_secs(3)).is_some(), "tried again in any case");
        queue.remove("a");
        assert!(queue.next_due().is_none());
    }
}
