//! Batches what writers ask into log entries: one task, one entry with many commands, two entries on their way at a time.

use std::sync::Arc;

use openraft::error::{ClientWriteError, Fatal};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::{
    command::{Batch, Command, Reply},
    error::StoreError,
    raft::Raft,
    wal::Log,
};

/// Most commands of an entry.
const MAX_COMMANDS: usize = 1024;
/// An entry takes no further command once it holds so many bytes.
const ENOUGH_BYTES: usize = 1 << 20;
/// Entries on their way: while one is synced the next gathers, and one more waits so that the disk never does.
const IN_FLIGHT: usize = 2;
/// Commands that may wait before writers are held up.
pub(crate) const QUEUE: usize = 4096;

/// A command and who wants its answer.
pub(crate) struct Proposal {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<Reply, StoreError>>,
}

pub(crate) fn fatal(log: &Log, error: &Fatal<u64>) -> StoreError {
    match (log.failure(), error) {
        (Some(failure), _) => StoreError::Failed(failure.to_string()),
        (None, Fatal::Stopped) => StoreError::Closed,
        (None, error) => StoreError::Failed(error.to_string()),
    }
}

/// Serves until the queue is closed and empty.
pub(crate) async fn run(raft: Raft, log: Log, mut queue: mpsc::Receiver<Proposal>) {
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    loop {
        // First the place, then the commands: they gather while there is none.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let Some(first) = queue.recv().await else { break };
        let mut size = 0;
        let mut commands = Vec::new();
        let mut replies = Vec::new();
        let mut next = Some(first);
        while let Some(Proposal { command, reply }) = next {
            size += command.size();
            commands.push(command);
            replies.push(reply);
            next = if commands.len() < MAX_COMMANDS && size < ENOUGH_BYTES {
                queue.try_recv().ok()
            } else {
                None
            };
        }
        let answer = match raft.client_write_ff(Batch(commands.into())).await {
            Ok(answer) => answer,
            Err(error) => {
                refuse(replies, &fatal(&log, &error));
                continue;
            }
        };
        let log = log.clone();
        tokio::spawn(async move {
            match answer.await {
                Ok(Ok(response)) => {
                    for (reply, result) in replies.into_iter().zip(response.data) {
                        // A writer that went away does not want to know.
                        let _ = reply.send(Ok(result));
                    }
                }
                Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
                    refuse(replies, &StoreError::NotLeader { leader: forward.leader_id });
                }
                Ok(Err(error @ ClientWriteError::ChangeMembershipError(_))) => {
                    refuse(replies, &StoreError::Failed(error.to_string()));
                }
                // Raft ended before it answered.
                Err(_) => refuse(replies, &fatal(&log, &Fatal::Stopped)),
            }
            drop(permit);
        });
    }
    // Those on their way are still answered.
    let _ = permits.acquire_many(IN_FLIGHT as u32).await;
}

fn refuse(replies: Vec<oneshot::Sender<Result<Reply, StoreError>>>, error: &StoreError) {
    for reply in replies {
        let _ = reply.send(Err(error.clone()));
    }
}
