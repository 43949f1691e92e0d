//! The handle that callers hold.

use crate::{
    config::Config,
    error::{Compacted, StoreError},
    types::{KeyValue, RangeResult, Revision, Txn, TxnOutcome},
    watch::Watcher,
};

/// An open store. Clones are handles to the same store.
#[derive(Clone, Debug)]
pub struct Store {
    _private: (),
}

impl Store {
    /// Opens the store in `config.dir`, creating it if the directory is empty, and recovers it: checkpoint, then log. Returns when
    /// every acknowledged write is applied and this member, where it is the only voter, takes writes.
    ///
    /// Must be called within a tokio runtime, whose tasks then serve the store.
    pub async fn open(config: Config) -> Result<Store, StoreError> {
        let _ = config;
        Err(StoreError::Closed)
    }

    /// Runs a transaction. Answered when it is durable on a quorum and applied here. Dropping the future does not undo it.
    ///
    /// An error other than [`StoreError::Invalid`] leaves open whether the transaction took place.
    pub async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        let _ = txn;
        Err(StoreError::Closed)
    }

    /// Revision of the last applied transaction.
    pub fn revision(&self) -> Revision {
        0
    }

    /// The oldest revision that [`Store::get_at`] and [`Store::range`] can read, and after which [`Store::watch`] can begin.
    pub fn oldest_revision(&self) -> Revision {
        0
    }

    /// Makes reads linearizable: confirms leadership with a quorum and waits until everything committed before the call is
    /// applied here. Answers the revision reached; a read at it or later sees every write acknowledged before the call.
    pub async fn barrier(&self) -> Result<Revision, StoreError> {
        Err(StoreError::Closed)
    }

    /// Waits until this member has applied `revision`.
    pub async fn wait_revision(&self, revision: Revision) -> Result<(), StoreError> {
        let _ = revision;
        Err(StoreError::Closed)
    }

    /// The latest version of a key.
    pub fn get(&self, key: &[u8]) -> Option<KeyValue> {
        let _ = key;
        None
    }

    /// A key as it was at revision `at`. A revision not yet reached reads the latest state.
    pub fn get_at(&self, key: &[u8], at: Revision) -> Result<Option<KeyValue>, Compacted> {
        let _ = (key, at);
        Ok(None)
    }

    /// Keys from `start` (inclusive) to `end` (exclusive; empty means to the last key), at most `limit` (0 means all), as of
    /// revision `at` or the latest. For a prefix, `end` is [`crate::prefix_end`] of it.
    pub fn range(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
        at: Option<Revision>,
    ) -> Result<RangeResult, StoreError> {
        let _ = (start, end, limit, at);
        Err(StoreError::Closed)
    }

    /// Watches keys that begin with `prefix` for changes after revision `after`: first those of the past, then live ones, in
    /// revision order with neither gap nor duplicate. Fails with [`StoreError::Compacted`] when that history is gone.
    pub fn watch(&self, prefix: &[u8], after: Revision) -> Result<Watcher, StoreError> {
        let _ = (prefix, after);
        Err(StoreError::Closed)
    }

    /// Forgets history before revision `before` on every member: afterwards reads need a revision of at least `before` and
    /// watches begin after it or later. The latest state is never touched.
    pub async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        let _ = before;
        Err(StoreError::Closed)
    }

    /// Stops the store; all handles answer [`StoreError::Closed`] for writes afterwards and watches end. Nothing needs this for
    /// safety: a killed process loses no acknowledged write.
    pub async fn shutdown(self) {}
}
