//! Pods that wait: those to be tried now, those that failed and wait for the cluster to change or for time.

use crate::core::model::Pod;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
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

struct Failed {
    /// From when it may be tried again, once something has changed.
    from: Instant,
    /// When it is tried again as things are.
    due: Instant,
}

#[derive(Default)]
pub(crate) struct Queue {
    pods: HashMap<Uid, Arc<Pod>>,
    ranks: HashMap<Uid, Rank>,
    active: BTreeSet<Rank>,
    failed: HashMap<Uid, Failed>,
    /// Failed pods by when they are due.
    due: BTreeSet<(Instant, Uid)>,
    /// Failed pods for which nothing has changed yet.
    asleep: BTreeSet<Uid>,
    /// Failed pods that are not tried until they are released.
    held: HashSet<Uid>,
    attempts: HashMap<Uid, u32>,
    counter: u64,
}

impl Queue {
    /// Adds a pod, or takes note of a new version of one.
    pub(crate) fn put(&mut self, pod: Arc<Pod>) {
        let uid = pod.meta.uid.clone();
        let old = self.pods.insert(uid.clone(), pod.clone());
        if let Some(old) = old
            && self.failed.contains_key(&uid)
        {
            // The status that its failure wrote is no reason to try again.
            if pod.asks_otherwise(&old) {
                self.wake_one(&uid);
            }
            return;
        }
        self.activate(&uid);
    }

    fn activate(&mut self, uid: &str) {
        self.forget_failure(uid);
        let Some(pod) = self.pods.get(uid) else { return };
        self.counter += 1;
        let order = self.ranks.get(uid).map_or(self.counter, |r| r.1);
        let rank = (Reverse(pod.priority), order, Uid::from(uid));
        if let Some(old) = self.ranks.insert(uid.into(), rank.clone()) {
            self.active.remove(&old);
        }
        self.active.insert(rank);
    }

    fn forget_failure(&mut self, uid: &str) {
        if let Some(failed) = self.failed.remove(uid) {
            self.due.remove(&(failed.due, uid.into()));
        }
        self.asleep.remove(uid);
    }

    /// Forgets a pod.
    pub(crate) fn remove(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.forget_failure(uid);
        self.held.remove(uid);
        self.attempts.remove(uid);
        if let Some(rank) = self.ranks.remove(uid) {
            self.active.remove(&rank);
        }
    }

    /// The next pod to try.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Arc<Pod>> {
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, uid)) = self.due.pop_first() {
                self.activate(&uid);
            }
        }
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
        self.forget_failure(uid);
        let failed = Failed { from: now + wait, due: now + wait + STALE };
        self.due.insert((failed.due, uid.into()));
        self.failed.insert(uid.into(), failed);
        self.asleep.insert(uid.into());
    }

    /// A failed pod is not tried again until it is released.
    pub(crate) fn hold(&mut self, uid: &str) {
        if let Some(failed) = self.failed.get(uid) {
            self.due.remove(&(failed.due, uid.into()));
            self.held.insert(uid.into());
        }
    }

    /// Ends a hold.
    pub(crate) fn release(&mut self, uid: &str) {
        if self.held.remove(uid)
            && let Some(failed) = self.failed.get(uid)
        {
            self.due.insert((failed.due, uid.into()));
        }
    }

    /// Something changed that may make room.
    pub(crate) fn wake(&mut self) {
        self.wake_if(|_| true);
    }

    /// Something changed that matters to the pods that meet a condition.
    pub(crate) fn wake_if(&mut self, matters: impl Fn(&Pod) -> bool) {
        let pods = &self.pods;
        let woken: Vec<Uid> =
            self.asleep.iter().filter(|uid| pods.get(*uid).is_some_and(|p| matters(p))).cloned().collect();
        for uid in woken {
            self.wake_one(&uid);
        }
    }

    /// Something changed that matters to one pod.
    pub(crate) fn wake_one(&mut self, uid: &str) {
        if self.asleep.remove(uid)
            && let Some(failed) = self.failed.get_mut(uid)
        {
            let listed = self.due.remove(&(failed.due, uid.into()));
            failed.due = failed.from;
            if listed {
                self.due.insert((failed.due, uid.into()));
            }
        }
    }

    /// When the next failed pod may be tried.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
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

    #[tokio::test(start_paused = true)]
    async fn a_held_pod_waits_for_its_release_whatever_changes() {
        let mut queue = Queue::default();
        queue.put(pod("a", 0));
        let start = Instant::now();
        queue.pop(start);
        queue.fail("a", start);
        queue.hold("a");
        queue.wake();
        assert!(queue.pop(start + Duration::from_secs(5)).is_none());
        assert!(queue.next_due().is_none());
        queue.release("a");
        assert_eq!(queue.next_due(), Some(start + Duration::from_secs(1)), "it was woken meanwhile");
        assert!(queue.pop(start + Duration::from_secs(1)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_matters_to_some_wakes_only_them() {
        let mut queue = Queue::default();
        let start = Instant::now();
        for (uid, priority) in [("a", 1), ("b", 2)] {
            queue.put(pod(uid, priority));
            queue.pop(start);
            queue.fail(uid, start);
        }
        queue.wake_if(|pod| pod.priority == 1);
        let later = start + Duration::from_secs(2);
        assert_eq!(queue.pop(later).map(|p| p.meta.uid.clone()), Some("a".into()));
        assert!(queue.pop(later).is_none());
        let mut other = (*pod("b", 2)).clone();
        other.meta.labels.insert("a".into(), "b".into());
        queue.put(Arc::new(other));
        assert!(queue.pop(later).is_some(), "a pod that asks otherwise is tried again");
    }
}
