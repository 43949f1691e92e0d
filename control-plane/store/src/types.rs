//! The words of the store: keys, revisions, transactions, events.

use bytes::Bytes;

/// The store's logical clock: 0 for an empty store, raised by one by every committed transaction that has operations.
pub type Revision = u64;

/// One version of one key. Cloning it shares the buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value, exactly the bytes that were put.
    pub value: Bytes,
    /// Revision at which the key came into being (again, if it had been deleted).
    pub create_revision: Revision,
    /// Revision of this version.
    pub mod_revision: Revision,
}

/// A condition of a transaction, tested against the latest state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key must not exist.
    Absent(Bytes),
    /// The key must exist.
    Exists(Bytes),
    /// The key must exist and its latest version must be of this revision.
    ModRevision(Bytes, Revision),
}

impl Compare {
    /// The key the condition is about.
    pub fn key(&self) -> &Bytes {
        match self {
            Compare::Absent(key) | Compare::Exists(key) | Compare::ModRevision(key, _) => key,
        }
    }
}

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Create or replace a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Remove a key. Removing an absent key is no error and makes no event.
    Delete {
        /// The key.
        key: Bytes,
    },
}

impl Op {
    /// The key that is changed.
    pub fn key(&self) -> &Bytes {
        match self {
            Op::Put { key, .. } | Op::Delete { key } => key,
        }
    }
}

/// Conditions and changes that happen together or not at all. A key may be changed at most once in a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compare: Vec<Compare>,
    /// What is done when they do.
    pub ops: Vec<Op>,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOutcome {
    /// The conditions held and the changes are durable.
    Committed {
        /// Revision of the changes. A transaction that changed nothing answers the store's revision when it was applied.
        revision: Revision,
    },
    /// A condition did not hold; nothing was changed.
    Conflict {
        /// Index in [`Txn::compare`] of the first condition that failed.
        index: usize,
        /// The key of that condition as it stood, if it existed.
        current: Option<KeyValue>,
    },
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The key was created (`prev` is none) or replaced.
    Put,
    /// The key was removed.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Bytes,
    /// The new value; of a deletion, the value that was removed.
    pub value: Bytes,
    /// Put or delete.
    pub kind: EventKind,
    /// Revision of this change.
    pub revision: Revision,
    /// The version that this change replaced or removed.
    pub prev: Option<KeyValue>,
}

/// Answer of [`crate::Store::range`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeResult {
    /// Keys in byte order, at most the asked limit.
    pub kvs: Vec<KeyValue>,
    /// Whether the range holds further keys after the last one returned.
    pub more: bool,
    /// How many keys the whole range holds at that revision.
    pub count: usize,
    /// The revision that was read: the one asked for, or the latest.
    pub revision: Revision,
}

/// The end (exclusive) of the range of all keys that begin with `prefix`; empty, which means "to the last key", when there is no
/// such key.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    end
}
