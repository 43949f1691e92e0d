//! A replicated multi-version key-value store: raft over a write-ahead log, state in memory, checkpoints on disk.
//!
//! It knows keys, bytes, revisions and watches, and nothing of what the bytes mean. Every committed transaction that changes
//! something raises the store's [`Revision`] by one; all its changes carry that revision and reach a watcher together.
//!
//! A transaction is answered only when it is on stable storage on a quorum of members and applied. Values are shared
//! [`bytes::Bytes`]: what [`Store::get`], [`Store::range`] and a [`Watcher`] hand out is the one buffer the store itself holds.
//!
//! # From a write to its answer
//!
//! Writers' commands gather before raft (`proposer`): one task makes one log entry of many commands and has two entries on their
//! way. Raft appends an entry to the log (`wal`), where it is synced, and applies it to the state machine (`mvcc`), which is pure.
//! Watchers are positions in the history that the state machine keeps (`watch`), so they hold no queue and cannot miss anything.
//!
//! # On disk
//!
//! All numbers are little-endian unless said otherwise; checksums are CRC-32 (IEEE). Values pass through one codec, whose number
//! stands in each header (0: the value's own bytes).
//!
//! ```text
//! DIR/
//!   format                "skep-store 1\n": the version of this layout
//!   lock                  locked (flock) while a store has the directory open
//!   log/
//!     <sequence>.log      segments of the write-ahead log, sequence in 16 hexadecimal digits, without a hole
//!     spare               the next segment's file, its blocks written; spare.partial while it is being made
//!   checkpoint/
//!     current             which checkpoint counts; current.partial while it is being replaced (write, sync, rename, sync)
//!     db-<generation>/    a sled database
//! ```
//!
//! A **segment** is a header of 64 bytes and frames, each beginning at a multiple of 8:
//!
//! ```text
//! header  "SKEPLOG\0" | version u32 = 1 | codec u32 | sequence u64 | number of the first frame u64
//!         | last entry before it: term u64, member u64, index u64 (all ones: none) | 0 u32 | crc u32 of all before
//! frame   0x4d52464b u32 | length of body u32 | number u64 | crc u32 | 0 u32 | body | zeros to a multiple of 8
//!         the crc covers sequence (of the header), number, length, body
//! body    records: length u32 | crc u32 | kind u8 | payload        length and crc cover kind and payload
//! kinds   1 entry: term u64, member u64, index u64, 0 blank | 1 batch | 2 membership, content
//!         2 vote: term u64, member u64, committed u8      3 committed: term, member, index
//!         4 truncate: first void index u64                5 purge: term, member, index of the last entry that is gone
//! batch   count u32 | commands: 1 transaction | 2 compact, before u64
//! transaction  count u32 | conditions: 1 absent | 2 exists | 3 revision, key, revision u64 for the last
//!              count u32 | operations: 1 put, key, value | 2 delete, key             key and value: length u32 before them
//! ```
//!
//! A frame is what one synced write carried; nothing is acknowledged before its frame is synced, and no frame is written before
//! its predecessor is. Frame numbers rise by one over all segments. So the first bad frame ends the log when no valid frame with a
//! later number follows and the segment is the last one: it is a write that a crash cut short. Anything else is damage, and an
//! error. Segments are filled with zeros when made, or used again after a purge: what they held before has other sequence and frame
//! numbers and never passes for a frame. A new segment repeats the vote.
//!
//! A **checkpoint** holds the live keys at one revision. `current` is
//!
//! ```text
//! "SKEPCKPT" | version u32 = 1 | codec u32 | generation u64 | revision u64 | compacted u64 | live keys u64 | digest u64
//! | last entry applied: 0 u8, or 1 u8 and term, member, index u64 | membership | crc u32 of all before
//! ```
//!
//! and the database maps `key, revision of the version (u64, big-endian)` to `1 u8, create revision u64, value`, or to `0 u8` where
//! the key was deleted. Versions beyond `current`'s revision are remains of a checkpoint that was interrupted; of the others a key's
//! latest counts. Versions are added and synced, then `current` is replaced, then what was superseded is removed, so a checkpoint
//! never overwrites what the one before needs; the digest shows whether the database is what `current` says. The log is purged only
//! up to a durable checkpoint. History from before the last checkpoint does not survive a restart: reads and watches of it answer
//! [`StoreError::Compacted`].
//!
//! # Failure
//!
//! After a failed write or sync of the log nothing is written any more: every write and barrier answers [`StoreError::Failed`]
//! until the process is started again, while reads of what is in memory go on. A failed checkpoint is logged and tried again later;
//! meanwhile the log grows.

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
