//! A replicated multi-version key-value store: raft over a write-ahead log, state in memory, checkpoints on disk.
//!
//! It knows keys, bytes, revisions and watches, and nothing of what the bytes mean. Every committed transaction that changes
//! something raises the store's [`Revision`] by one; all its changes carry that revision and reach a watcher together.
//!
//! A transaction is answered only when it is on stable storage on a quorum of members and applied. Values are shared
//! [`bytes::Bytes`]: what [`Store::get`], [`Store::range`] and a [`Watcher`] hand out is the one buffer the store itself holds.

mod checkpoint;
mod checkpointer;
mod codec;
mod command;
mod config;
mod error;
mod files;
mod image;
mod machine;
mod mvcc;
mod network;
mod proposer;
mod raft;
mod shared;
mod store;
#[cfg(test)]
mod testing;
mod types;
mod wal;
mod watch;

pub use config::Config;
pub use error::{Compacted, StoreError};
pub use store::{MAX_TXN_BYTES, Store};
pub use types::{
    Compare, Event, EventKind, KeyValue, Op, RangeResult, Revision, Txn, TxnOutcome, prefix_end,
};
pub use watch::{ProgressHandle, WatchEnd, WatchItem, Watcher};
