//! The applied state as readers, watchers and the raft task share it.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering, fence},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use crate::{
    mvcc::Machine,
    raft::{LogId, StoredMembership},
    types::Revision,
};

/// The state machine and how far the log is applied to it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) machine: Machine,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

/// How a watcher is woken.
#[derive(Debug)]
pub(crate) struct Bell {
    pub(crate) prefix: Vec<u8>,
    pub(crate) notify: Notify,
    /// Rung since the watcher last looked.
    pub(crate) rung: AtomicBool,
    /// Someone wants to know its progress.
    pub(crate) progress: AtomicBool,
}

impl Bell {
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: RwLock<State>,
    /// Revision of the last applied transaction, for those who wait for one.
    revision: watch::Sender<Revision>,
    bells: Mutex<Vec<Weak<Bell>>>,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(state: State) -> Arc<Shared> {
        let revision = watch::Sender::new(state.machine.revision());
        Arc::new(Shared {
            state: RwLock::new(state),
            revision,
            bells: Mutex::new(Vec::new()),
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn revision(&self) -> Revision {
        *self.revision.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    pub(crate) fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends watches and waits.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.ring_all();
        self.revision.send_modify(|_| {});
    }

    pub(crate) fn add_bell(&self, prefix: &[u8]) -> Arc<Bell> {
        let bell = Arc::new(Bell {
            prefix: prefix.to_vec(),
            notify: Notify::new(),
            rung: AtomicBool::new(false),
            progress: AtomicBool::new(false),
        });
        let mut bells = self.bells.lock();
        bells.retain(|bell| bell.strong_count() > 0);
        bells.push(Arc::downgrade(&bell));
        bell
    }

    pub(crate) fn ring_all(&self) {
        self.bells.lock().iter().filter_map(Weak::upgrade).for_each(|bell| bell.ring());
    }

    /// Makes the state's revision known without looking at what changed.
    pub(crate) fn announce_revision(&self) {
        let revision = self.state.read().machine.revision();
        self.revision.send_replace(revision);
    }

    /// Tells those whom it concerns that the state went from revision `from` to where it is now.
    pub(crate) fn announce(&self, from: Revision) {
        // Pairs with the one in the watcher: either it sees the new state, or its bell is seen not rung.
        fence(Ordering::SeqCst);
        let bells: Vec<Arc<Bell>> = {
            let bells = self.bells.lock();
            let idle = |bell: &Arc<Bell>| !bell.rung.load(Ordering::Acquire);
            bells.iter().filter_map(Weak::upgrade).filter(idle).collect()
        };
        let revision = {
            let state = self.state.read();
            let now = state.machine.revision();
            for bell in bells {
                let concerned = (from + 1..=now).any(|revision| {
                    // History that is gone already concerns everyone: a watcher may have to end.
                    state
                        .machine
                        .events_of(revision)
                        .is_none_or(|events| events.iter().any(|event| event.key.starts_with(&bell.prefix)))
                });
                if concerned {
                    bell.ring();
                }
            }
            now
        };
        self.revision.send_if_modified(|known| std::mem::replace(known, revision) != revision);
    }
}
