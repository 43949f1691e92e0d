//! Decides when checkpoints are made, and has the log shortened after them.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    checkpoint::Checkpoints, error::StoreError, machine::Made, raft::Raft, shared::Shared, wal::Log,
};

/// A last checkpoint is made when the log has grown by this part of what calls for one otherwise.
const LAST_SHARE: u64 = 8;

/// What the task works on.
pub(crate) struct Checkpointer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Log,
    pub(crate) raft: Raft,
    pub(crate) checkpoints: Arc<Mutex<Checkpoints>>,
    pub(crate) made: Made,
    pub(crate) bytes: u64,
    pub(crate) interval: Duration,
}

impl Checkpointer {
    /// Serves until `stop` is raised; then makes a last checkpoint where that spares the next start much replaying.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut written = 0;
        loop {
            let idle = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = self.log.grown(written + self.bytes) => false,
                () = tokio::time::sleep(self.interval) => true,
            };
            written = self.log.written_bytes();
            if !self.shared.state.read().machine.is_dirty() {
                continue;
            }
            match self.checkpoint(idle).await {
                Ok(()) => {}
                // The log keeps what the checkpoint lacks, so nothing is lost; only the disk fills.
                Err(error) => tracing::error!(%error, "cannot write a checkpoint; the log is kept and grows"),
            }
        }
        if self.log.failure().is_none()
            && self.log.written_bytes() - written >= self.bytes / LAST_SHARE
            && let Err(error) = self.checkpoint(true).await
        {
            tracing::warn!(%error, "cannot write a last checkpoint; the next start replays the log");
        }
    }

    async fn checkpoint(&self, idle: bool) -> Result<(), StoreError> {
        let (shared, checkpoints) = (self.shared.clone(), self.checkpoints.clone());
        let write = move || {
            let mut checkpoints = checkpoints.lock();
            let result = checkpoints.write(&shared);
            if idle {
                checkpoints.rest();
            }
            result.map(|()| checkpoints.current().cloned())
        };
        let current = tokio::task::spawn_blocking(write)
            .await
            .unwrap_or_else(|panic| Err(StoreError::Failed(format!("checkpoint: {panic}"))))?;
        if let Some(current) = current
            && let Some(id) = current.applied
        {
            self.log.checkpointed(id.index);
            *self.made.lock() = Some(current);
            // Raft learns of it and purges its log. That it may be shutting down is no concern here.
            let _ = self.raft.trigger().snapshot().await;
        }
        Ok(())
    }
}
