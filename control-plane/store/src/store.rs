//! The handle that callers hold.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use openraft::{
    BasicNode, ServerState, SnapshotPolicy,
    error::{CheckIsLeaderError, RaftError},
};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    checkpoint::{Checkpoints, Current},
    checkpointer::Checkpointer,
    command::{Command, Reply},
    config::Config,
    error::{Compacted, StoreError},
    files::DataDir,
    machine::{self, Applier},
    mvcc::Fingerprint,
    network::Network,
    proposer::{self, Proposal},
    raft::Raft,
    shared::Shared,
    types::{KeyValue, RangeResult, Revision, Txn, TxnOutcome},
    wal::Log,
    watch::Watcher,
};

/// This member's id. With one member there is no one to tell apart.
const MEMBER: u64 = 1;
/// How long opening waits for this member to lead, alone as it is. Only a disk that hardly answers takes seconds.
const LEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// Largest transaction, bytes of keys and values.
pub const MAX_TXN_BYTES: usize = 64 << 20;

/// An open store. Clones are handles to the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    log: Log,
    raft: Raft,
    /// Taken away by shutdown.
    proposals: Mutex<Option<mpsc::Sender<Proposal>>>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Held until raft and log have ended.
    dir: Mutex<Option<DataDir>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    /// The last handle is gone without [`Store::shutdown`]: tasks end by themselves.
    fn drop(&mut self) {
        self.shared.close();
        self.stop.send_replace(true);
        let (raft, log, dir) = (self.raft.clone(), self.log.clone(), self.dir.get_mut().take());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = raft.shutdown().await;
                let _ = tokio::task::spawn_blocking(move || log.close()).await;
                // The lock goes last.
                drop(dir);
            });
        }
    }
}

fn recover(config: &Config) -> Result<(DataDir, Arc<Shared>, Checkpoints, Log), StoreError> {
    let dir = DataDir::open(&config.dir)?;
    let sub = |name: &str| -> std::path::PathBuf { Path::new(&dir.path).join(name) };
    let (checkpoint_dir, log_dir) = (sub("checkpoint"), sub("log"));
    let checkpointed = Current::read(&checkpoint_dir)?.and_then(|current| current.applied).map(|id| id.index);
    // Both are read at once: they take about as long as each other.
    let (log, checkpoint) = std::thread::scope(|scope| {
        let log = scope.spawn(|| Log::open(&log_dir, config.segment_bytes, checkpointed));
        let (cache, history) = (config.checkpoint_cache_bytes, config.history_bytes);
        let checkpoint = Checkpoints::open(&checkpoint_dir, cache, history);
        let panicked = || StoreError::Failed("reading the log panicked".into());
        (log.join().unwrap_or_else(|_| Err(panicked())), checkpoint)
    });
    let (log, (checkpoints, state)) = (log?, checkpoint?);
    let applied = state.applied.map(|id| id.index);
    // The log must reach back to the checkpoint.
    if log.first_index() > applied.map_or(0, |index| index + 1) {
        return Err(StoreError::Corrupt {
            path: sub("log"),
            offset: 0,
            what: format!("begins with entry {}, the checkpoint ends with {applied:?}", log.first_index()),
        });
    }
    Ok((dir, Shared::new(state), checkpoints, log))
}

impl Store {
    /// Opens the store in `config.dir`, creating it if the directory is empty, and recovers it: checkpoint, then log. Returns when
    /// every acknowledged write is applied and this member, where it is the only voter, takes writes.
    ///
    /// Must be called within a tokio runtime, whose tasks then serve the store.
    pub async fn open(config: Config) -> Result<Store, StoreError> {
        let settings = config.clone();
        let (dir, shared, checkpoints, log) =
            tokio::task::spawn_blocking(move || recover(&settings))
                .await
                .unwrap_or_else(|panic| Err(StoreError::Failed(format!("recovery: {panic}"))))?;
        let checkpoints = Arc::new(Mutex::new(checkpoints));
        let made = machine::Made::default();
        let applier = Applier {
            shared: shared.clone(),
            log: log.clone(),
            checkpoints: checkpoints.clone(),
            made: made.clone(),
            history_limit: config.history_bytes,
        };
        let failed = |what: String| match log.failure() {
            Some(failure) => StoreError::Failed(failure.to_string()),
            None => StoreError::Failed(what),
        };
        let raft_config = raft_config().map_err(&failed)?;
        let raft = Raft::new(MEMBER, Arc::new(raft_config), Network, log.clone(), applier)
            .await
            .map_err(|e| failed(e.to_string()))?;
        lead(&raft).await.map_err(&failed)?;

        let (proposals, queue) = mpsc::channel(proposer::QUEUE);
        let (stop, stopped) = watch::channel(false);
        let checkpointer = Checkpointer {
            shared: shared.clone(),
            log: log.clone(),
            raft: raft.clone(),
            checkpoints,
            made,
            bytes: config.checkpoint_bytes,
            interval: config.checkpoint_interval,
        };
        let tasks = vec![
            tokio::spawn(proposer::run(raft.clone(), log.clone(), queue)),
            tokio::spawn(checkpointer.run(stopped)),
        ];
        let inner = Inner {
            shared,
            log,
            raft,
            proposals: Mutex::new(Some(proposals)),
            stop,
            tasks: Mutex::new(tasks),
            dir: Mutex::new(Some(dir)),
        };
        let store = Store { inner: Arc::new(inner) };
        store.confirm().await?;
        Ok(store)
    }

    async fn propose(&self, command: Command) -> Result<Reply, StoreError> {
        if let Some(failure) = self.inner.log.failure() {
            return Err(StoreError::Failed(failure.to_string()));
        }
        let proposals = self.inner.proposals.lock().clone().ok_or(StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        proposals.send(Proposal { command, reply }).await.map_err(|_| StoreError::Closed)?;
        drop(proposals);
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Runs a transaction. Answered when it is durable on a quorum and applied here. Dropping the future does not undo it.
    ///
    /// The store keeps the value's buffer: hand over one that is no larger than the value.
    ///
    /// An error other than [`StoreError::Invalid`] leaves open whether the transaction took place.
    pub async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        check(&txn)?;
        match self.propose(Command::Txn(txn)).await? {
            Reply::Txn(outcome) => Ok(outcome),
            Reply::Compacted => Err(StoreError::Failed("a transaction got another command's answer".into())),
        }
    }

    /// Revision of the last applied transaction.
    pub fn revision(&self) -> Revision {
        self.inner.shared.revision()
    }

    /// The oldest revision that [`Store::get_at`] and [`Store::range`] can read, and after which [`Store::watch`] can begin.
    pub fn oldest_revision(&self) -> Revision {
        self.inner.shared.state.read().machine.oldest()
    }

    /// Makes reads linearizable: confirms leadership with a quorum and waits until everything committed before the call is
    /// applied here. Answers the revision reached; a read at it or later sees every write acknowledged before the call.
    pub async fn barrier(&self) -> Result<Revision, StoreError> {
        if self.inner.shared.closed() {
            return Err(StoreError::Closed);
        }
        let alone = {
            let metrics = self.inner.raft.metrics();
            let metrics = metrics.borrow();
            let mut voters = metrics.membership_config.voter_ids();
            metrics.running_state.is_ok()
                && metrics.state == ServerState::Leader
                && voters.next() == Some(MEMBER)
                && voters.next().is_none()
        };
        // The only voter acknowledges nothing that it has not applied, and no other can.
        if !alone {
            self.confirm().await?;
        }
        Ok(self.revision())
    }

    /// The barrier in its general form.
    async fn confirm(&self) -> Result<(), StoreError> {
        match self.inner.raft.ensure_linearizable().await {
            Ok(_) => Ok(()),
            Err(RaftError::Fatal(error)) => Err(proposer::fatal(&self.inner.log, &error)),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward))) => {
                Err(StoreError::NotLeader { leader: forward.leader_id })
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                Err(StoreError::NotLeader { leader: None })
            }
        }
    }

    /// Waits until this member has applied `revision`.
    pub async fn wait_revision(&self, revision: Revision) -> Result<(), StoreError> {
        let shared = &self.inner.shared;
        let reached = |now: &Revision| *now >= revision || shared.closed();
        match shared.subscribe().wait_for(reached).await {
            Ok(now) if *now >= revision => Ok(()),
            _ => Err(StoreError::Closed),
        }
    }

    /// Follows the store's revision as it rises.
    pub fn subscribe_revision(&self) -> watch::Receiver<Revision> {
        self.inner.shared.subscribe()
    }

    /// The latest version of a key.
    pub fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.inner.shared.state.read().machine.get(key)
    }

    /// A key as it was at revision `at`. A revision not yet reached reads the latest state.
    pub fn get_at(&self, key: &[u8], at: Revision) -> Result<Option<KeyValue>, Compacted> {
        self.inner.shared.state.read().machine.get_at(key, at)
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
        self.inner.shared.state.read().machine.range(start, end, limit, at)
    }

    /// Watches keys that begin with `prefix` for changes after revision `after`: first those of the past, then live ones, in
    /// revision order with neither gap nor duplicate. Fails with [`StoreError::Compacted`] when that history is gone. A revision
    /// not yet reached is allowed: what happens up to it is not delivered.
    pub fn watch(&self, prefix: &[u8], after: Revision) -> Result<Watcher, StoreError> {
        if self.inner.shared.closed() {
            return Err(StoreError::Closed);
        }
        let oldest = self.oldest_revision();
        if after < oldest {
            return Err(Compacted { asked: after, oldest }.into());
        }
        Ok(Watcher::new(self.inner.shared.clone(), prefix, after))
    }

    /// Forgets history before revision `before` on every member: afterwards reads need a revision of at least `before` and
    /// watches begin after it or later. The latest state is never touched.
    pub async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        self.propose(Command::Compact { before }).await.map(drop)
    }

    /// Digest of the whole state. Members that have applied the same log answer the same.
    pub fn state_hash(&self) -> String {
        let Fingerprint { revision, compacted, live, digest } =
            self.inner.shared.state.read().machine.fingerprint();
        format!("{revision}.{compacted}.{live}.{digest:016x}")
    }

    /// Stops the store; all handles answer [`StoreError::Closed`] for writes afterwards and watches end. When it returns the
    /// directory can be opened again. Nothing needs this for safety: a killed process loses no acknowledged write.
    pub async fn shutdown(self) {
        let inner = &self.inner;
        drop(inner.proposals.lock().take());
        inner.stop.send_replace(true);
        let tasks = std::mem::take(&mut *inner.tasks.lock());
        for task in tasks {
            // A task that panicked has ended, too.
            let _ = task.await;
        }
        let _ = inner.raft.shutdown().await;
        let log = inner.log.clone();
        let _ = tokio::task::spawn_blocking(move || log.close()).await;
        inner.shared.close();
        drop(inner.dir.lock().take());
    }
}

fn check(txn: &Txn) -> Result<(), StoreError> {
    let mut keys = HashSet::new();
    for op in &txn.ops {
        if !keys.insert(op.key()) {
            let key = op.key().escape_ascii();
            return Err(StoreError::Invalid(format!("key {key} is changed twice in one transaction")));
        }
    }
    let size = Command::Txn(txn.clone()).size();
    if size > MAX_TXN_BYTES {
        let what = format!("a transaction of {size} bytes; the most is {MAX_TXN_BYTES}");
        return Err(StoreError::Invalid(what));
    }
    Ok(())
}

fn raft_config() -> Result<openraft::Config, String> {
    let config = openraft::Config {
        cluster_name: "skep".into(),
        // A single voter has no one to send heartbeats to and none to wait for: no timer runs.
        enable_tick: false,
        heartbeat_interval: 500,
        election_timeout_min: 1500,
        election_timeout_max: 3000,
        // Checkpoints are made when the store decides; raft is told afterwards.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        ..openraft::Config::default()
    };
    config.validate().map_err(|e| e.to_string())
}

/// Makes this member leader of the cluster that is itself.
async fn lead(raft: &Raft) -> Result<(), String> {
    let members = BTreeMap::from([(MEMBER, BasicNode::default())]);
    // On a directory that has been used, initialize would refuse, and complain of it in the log.
    if !raft.is_initialized().await.map_err(|e| e.to_string())? {
        raft.initialize(members).await.map_err(|e| e.to_string())?;
    }
    if raft.current_leader().await.is_none() {
        raft.trigger().elect().await.map_err(|e| e.to_string())?;
    }
    raft.wait(Some(LEAD_TIMEOUT))
        .state(ServerState::Leader, "the only voter leads")
        .await
        .map(drop)
        .map_err(|e| e.to_string())
}
