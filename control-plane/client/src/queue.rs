//! A work queue of keys, as controllers use it: a key waits at most once, is worked on by one worker at a
//! time, may be added with a delay, and waits longer after each failure.

use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Retries start here and double.
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// … up to here (`workqueue.DefaultControllerRateLimiter`'s longest is 1,000 s; five minutes lose less).
const LONGEST_RETRY: Duration = Duration::from_secs(300);

struct State<K> {
    ready: VecDeque<K>,
    /// In `ready`, or to be put there when the worker that has it is done.
    dirty: HashSet<K>,
    working: HashSet<K>,
    later: BTreeSet<(Instant, K)>,
    due: BTreeMap<K, Instant>,
    failures: HashMap<K, u32>,
}

/// The queue; share it behind an `Arc`.
pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

impl<K: Clone + Ord + Hash> Default for WorkQueue<K> {
    fn default() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            later: BTreeSet::new(),
            due: BTreeMap::new(),
            failures: HashMap::new(),
        };
        WorkQueue { state: Mutex::new(state), wake: Notify::new() }
    }
}

impl<K: Clone + Ord + Hash> State<K> {
    fn add(&mut self, key: K) {
        if self.dirty.insert(key.clone()) && !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// Moves what is due into the queue; answers when the next is.
    fn ripen(&mut self, now: Instant) -> Option<Instant> {
        while let Some((at, _)) = self.later.first() {
            if *at > now {
                return Some(*at);
            }
            if let Some((_, key)) = self.later.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
        None
    }
}

impl<K: Clone + Ord + Hash> WorkQueue<K> {
    /// Adds a key, unless it waits already.
    pub fn add(&self, key: K) {
        self.state.lock().add(key);
        self.wake.notify_one();
    }

    /// Adds a key after a delay; the earliest of several delays counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        let mut state = self.state.lock();
        match state.due.get(&key).copied() {
            Some(known) if known <= at => return,
            Some(known) => {
                state.later.remove(&(known, key.clone()));
            }
            None => {}
        }
        state.due.insert(key.clone(), at);
        state.later.insert((at, key));
        drop(state);
        self.wake.notify_one();
    }

    /// Takes the next key, waiting for one. [`done`](Self::done) or [`retry`](Self::retry) must follow.
    pub async fn next(&self) -> K {
        loop {
            let due = {
                let mut state = self.state.lock();
                let due = state.ripen(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.working.insert(key.clone());
                    if !state.ready.is_empty() {
                        self.wake.notify_one();
                    }
                    return key;
                }
                due
            };
            match due {
                Some(at) => {
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }

    fn finish(state: &mut State<K>, key: &K) {
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
        }
    }

    /// The key has been dealt with; its failures are forgotten.
    pub fn done(&self, key: &K) {
        let mut state = self.state.lock();
        state.failures.remove(key);
        Self::finish(&mut state, key);
        drop(state);
        self.wake.notify_one();
    }

    /// The key could not be dealt with; it comes again, later after each failure.
    pub fn retry(&self, key: &K) {
        let delay = {
            let mut state = self.state.lock();
            Self::finish(&mut state, key);
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures += 1;
            FIRST_RETRY.saturating_mul(1 << (*failures - 1).min(20)).min(LONGEST_RETRY)
        };
        self.add_after(key.clone(), delay);
    }

    /// How many keys wait to be worked on now.
    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_is_worked_on_by_one() {
        let queue = WorkQueue::default();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, "a");
        queue.add("a"); // changed while being worked on: again, but only afterwards
        assert_eq!(queue.next().await, "b");
        assert!(queue.is_empty());
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        queue.done(&"b");
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_delay_counts_and_failures_wait_longer() {
        let queue = WorkQueue::default();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(1));
        queue.add_after("a", Duration::from_secs(30));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed().as_secs(), 1);
        let mut waits = Vec::new();
        for _ in 0..4 {
            let failed = Instant::now();
            queue.retry(&"a");
            queue.next().await;
            waits.push(failed.elapsed().as_millis());
        }
        assert_eq!(waits, [5, 10, 20, 40]);
        queue.done(&"a");
    }
}
