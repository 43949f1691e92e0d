//! The boundary to other members. There are none yet: a store is its cluster's only voter. What peers will add is a transport behind
//! [`Peer`]; nothing else in the store knows how a message travels.

use std::future::Future;

use openraft::{
    AnyError, BasicNode, RaftNetwork, RaftNetworkFactory, Snapshot,
    error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};

use crate::raft::{TypeConfig, Vote};

/// Makes connections to members.
#[derive(Debug)]
pub(crate) struct Network;

/// A connection to one member.
#[derive(Debug)]
pub(crate) struct Peer {
    id: u64,
    address: String,
}

impl Peer {
    fn unreachable(&self) -> Unreachable {
        let what = format!("no transport to member {} at {:?}", self.id, self.address);
        Unreachable::from(AnyError::error(what))
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        Peer { id: target, address: node.addr.clone() }
    }
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _: Vote,
        _: Snapshot<TypeConfig>,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        Err(self.unreachable().into())
    }
}
