//! The state machine as raft drives it: a thin shell that applies, announces, and hands out snapshots.

use std::sync::Arc;

use openraft::{
    AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError,
    storage::RaftStateMachine,
};
use parking_lot::Mutex;

use crate::{
    checkpoint::{Checkpoints, Current},
    command::Reply,
    image::{Image, View},
    raft::{Entry, LogId, StorageIoError, StoredMembership, TypeConfig},
    shared::{Shared, State},
    wal::Log,
};

/// What raft applies entries to.
#[derive(Clone)]
pub(crate) struct Applier {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Log,
    pub(crate) checkpoints: Arc<Mutex<Checkpoints>>,
    pub(crate) made: Made,
    pub(crate) history_limit: usize,
}

/// The checkpoint that raft is about to be told of.
pub(crate) type Made = Arc<Mutex<Option<Current>>>;

type Meta = SnapshotMeta<u64, openraft::BasicNode>;

fn meta(applied: Option<LogId>, membership: StoredMembership) -> Meta {
    let snapshot_id = applied.map_or_else(|| "empty".into(), |id| format!("{}-{}", id.leader_id, id.index));
    SnapshotMeta { last_log_id: applied, last_membership: membership, snapshot_id }
}

/// Applies one entry; answers for each of its commands.
pub(crate) fn apply_entry(state: &mut State, entry: &Entry) -> Vec<Reply> {
    state.applied = Some(entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => Vec::new(),
        EntryPayload::Membership(membership) => {
            state.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
            Vec::new()
        }
        EntryPayload::Normal(batch) => batch.0.iter().map(|command| state.machine.apply(command)).collect(),
    }
}

impl RaftStateMachine<TypeConfig> for Applier {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError<u64>> {
        let state = self.shared.state.read();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Reply>>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut replies = Vec::new();
        for entry in entries {
            // One entry a lock: readers get their turn between entries.
            let (from, reply) = {
                let mut state = self.shared.state.write();
                let from = state.machine.revision();
                (from, apply_entry(&mut state, &entry))
            };
            self.shared.announce(from);
            self.log.applied(entry.log_id.index);
            replies.push(reply);
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { applier: self.clone(), made: self.made.lock().take() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Image>, StorageError<u64>> {
        // Only the chunked transport of openraft's own asks for this; snapshots come whole, through an `Assembly`.
        Ok(Box::new(Image::OnDisk))
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Box<Image>) -> Result<(), StorageError<u64>> {
        let failed = |what: AnyError| StorageIoError::write_snapshot(Some(meta.signature()), what);
        let received = match *snapshot {
            Image::Received(received) => received,
            // From a member in this process.
            Image::View(view) => {
                Box::new(view.copy(self.history_limit).map_err(|e| failed(AnyError::new(&e)))?)
            }
            Image::OnDisk => return Err(failed(AnyError::error("the snapshot holds no state")).into()),
        };
        if received.applied != meta.last_log_id {
            return Err(failed(AnyError::error("the snapshot is not the one announced")).into());
        }
        {
            let mut state = self.shared.state.write();
            let pins = state.machine.take_pins();
            *state = State {
                machine: received.machine,
                applied: received.applied,
                membership: received.membership,
            };
            state.machine.give_pins(pins);
        }
        self.shared.ring_all();
        self.shared.announce_revision();
        let (shared, checkpoints) = (self.shared.clone(), self.checkpoints.clone());
        let write = tokio::task::spawn_blocking(move || checkpoints.lock().replace(&shared)).await;
        match write {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(AnyError::new(&error)).into()),
            Err(error) => return Err(failed(AnyError::new(&error)).into()),
        }
        if let Some(id) = &meta.last_log_id {
            self.log.checkpointed(id.index);
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError<u64>> {
        let view = View::new(&self.shared);
        if view.applied.is_none() {
            return Ok(None);
        }
        let meta = meta(view.applied, view.membership.clone());
        Ok(Some(Snapshot { meta, snapshot: Box::new(Image::View(view)) }))
    }
}

/// Tells raft about a checkpoint that is on disk. Making it is not raft's business, so that its failing is no failure of raft; only
/// when raft asks by itself is one made for it.
pub(crate) struct Builder {
    applier: Applier,
    made: Option<Current>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError<u64>> {
        let failed = |what: AnyError| StorageIoError::write_snapshot(None, what);
        let current = match self.made.take() {
            Some(current) => current,
            None => {
                let Applier { shared, checkpoints, .. } = self.applier.clone();
                let write = move || {
                    let mut checkpoints = checkpoints.lock();
                    checkpoints.write(&shared).map(|()| checkpoints.current().cloned())
                };
                let written = tokio::task::spawn_blocking(write).await;
                let current = written.map_err(|e| failed(AnyError::new(&e)))?;
                let current = current.map_err(|e| failed(AnyError::new(&e)))?;
                current.ok_or_else(|| failed(AnyError::error("no checkpoint came of it")))?
            }
        };
        let meta = meta(current.applied, current.membership);
        Ok(Snapshot { meta, snapshot: Box::new(Image::OnDisk) })
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
