//! The types that openraft is instantiated with.

use openraft::{BasicNode, TokioRuntime};

use crate::{
    command::{Batch, Reply},
    image::Image,
};

openraft::declare_raft_types!(
    /// Members are numbered; a member's node holds the address of its peers' endpoint.
    pub(crate) TypeConfig:
        D = Batch,
        R = Vec<Reply>,
        NodeId = u64,
        Node = BasicNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Image,
        AsyncRuntime = TokioRuntime,
);

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, BasicNode>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type StorageIoError = openraft::StorageIOError<u64>;
