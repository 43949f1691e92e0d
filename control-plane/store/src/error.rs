//! What can go wrong.

use std::path::PathBuf;

use crate::types::Revision;

/// The asked revision's history is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {asked} has been compacted; the oldest readable revision is {oldest}")]
pub struct Compacted {
    /// The revision that was asked for.
    pub asked: Revision,
    /// The oldest revision that can still be read, and after which a watch can still begin.
    pub oldest: Revision,
}

/// Failure of a store operation.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused an operation on a file.
    #[error("{action} {path}: {reason}")]
    Io {
        /// What was tried, as a verb ("write", "open").
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed, in the system's words.
        reason: String,
    },
    /// The directory was written by a newer version of this program.
    #[error("{path} has format version {found}; this program reads versions up to {supported}")]
    NewerFormat {
        /// The file that says so.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known here.
        supported: u32,
    },
    /// Data on disk is damaged in a way that a crash cannot explain.
    #[error("{path} is damaged at byte {offset}: {what}")]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// Another process has the directory open.
    #[error("{path} is in use by another process")]
    Locked {
        /// The data directory's lock file.
        path: PathBuf,
    },
    /// The request itself is not acceptable.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The history that was asked for is gone.
    #[error(transparent)]
    Compacted(#[from] Compacted),
    /// A revision that this member has not reached.
    #[error("revision {asked} is in the future; the store is at {current}")]
    FutureRevision {
        /// The revision that was asked for.
        asked: Revision,
        /// The revision this member is at.
        current: Revision,
    },
    /// This member cannot take writes now: it is not the leader.
    #[error("this member is not the leader (leader: {leader:?})")]
    NotLeader {
        /// The leader's member id, where known.
        leader: Option<u64>,
    },
    /// The store has stopped taking writes after a failure; the process must be restarted once the cause is mended. The
    /// transaction that met the failure may or may not be found after the restart; it was not acknowledged.
    #[error("the store refuses writes: {0}")]
    Failed(String),
    /// The store has been shut down.
    #[error("the store is shut down")]
    Closed,
}
