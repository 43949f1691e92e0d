//! The write-ahead log: raft's entries and votes in segment files, each write synced before it is acknowledged.

mod files;
mod format;
mod index;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt::Debug,
    ops::{Bound, RangeBounds},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use openraft::{
    AnyError, LogState, OptionalSend, RaftLogReader,
    storage::{LogFlushed, RaftLogStorage},
};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use self::{
    files::Tail,
    format::{HEADER, Header},
    index::{Index, Place, Segment, Slot},
    writer::{Append, Done, Job, Writer},
};
use crate::{
    codec::ValueCodec,
    error::StoreError,
    raft::{Entry, LogId, StorageError, StorageIoError, TypeConfig, Vote},
};

/// What the writer thread, the readers and the raft task share.
pub(crate) struct Shared {
    index: Mutex<Index>,
    failed: OnceLock<StoreError>,
    /// Bytes written since the log was opened.
    written_bytes: AtomicU64,
    /// Woken once `written_bytes` has reached `wake_at`.
    grown: Notify,
    wake_at: AtomicU64,
    /// One more than the index of the last entry that a durable checkpoint contains.
    checkpointed: AtomicU64,
}

impl Shared {
    fn set_failed(&self, error: StoreError) {
        let _ = self.failed.set(error);
    }

    /// A frame is on disk.
    fn written(&self, places: &[(u64, Place)], segment: u64, last: Option<LogId>, bytes: u64) {
        let mut index = self.index.lock();
        for (at, place) in places {
            if let Some(slot) = index.slot_mut(*at) {
                slot.place = Some(*place);
            }
        }
        if let Some(segment) = index.segments.get_mut(&segment) {
            segment.last = segment.last.max(last.map(|id| id.index));
        }
        drop(index);
        let written = self.written_bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        if written >= self.wake_at.load(Ordering::SeqCst) {
            self.grown.notify_one();
        }
    }
}

/// Handle to the log; clones share it.
#[derive(Clone)]
pub(crate) struct Log {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    dir: Arc<PathBuf>,
    codec: ValueCodec,
}

impl Log {
    /// Opens the log in `dir`, recovering what is there, and starts its writer. Entries up to `checkpointed` are in a durable
    /// checkpoint and need not be there. Blocks on the disk.
    pub(crate) fn open(dir: &Path, segment_bytes: u64, checkpointed: Option<u64>) -> Result<Log, StoreError> {
        let segment_bytes = segment_bytes.max(64 << 10).next_multiple_of(8);
        let codec = ValueCodec::Identity;
        let (mut index, tail) = files::recover(dir, checkpointed)?;
        let tail = match tail {
            Some(tail) => tail,
            None => {
                let header = Header { codec, sequence: 1, first_frame: 1, prev: None };
                files::make_spare(dir, segment_bytes)?;
                let (file, capacity) = files::activate_spare(dir, &header)?;
                let file = Arc::new(file);
                index.segments.insert(1, Segment { file: file.clone(), last: None });
                Tail { header, file, capacity, offset: HEADER as u64, frame: header.first_frame }
            }
        };
        let (vote, last) = (index.vote, index.last());
        let shared = Arc::new(Shared {
            index: Mutex::new(index),
            failed: OnceLock::new(),
            written_bytes: AtomicU64::new(0),
            grown: Notify::new(),
            wake_at: AtomicU64::new(u64::MAX),
            checkpointed: AtomicU64::new(checkpointed.map_or(0, |index| index + 1)),
        });
        let (jobs, queue) = mpsc::channel();
        let writer = Writer {
            dir: dir.to_path_buf(),
            segment_bytes,
            shared: shared.clone(),
            tail,
            vote,
            last,
            failed: None,
            helper: None,
        };
        let thread = std::thread::Builder::new()
            .name("store-log".into())
            .spawn(move || writer.run(&queue))
            .map_err(|e| crate::files::io_error("start the writer of", dir, &e))?;
        Ok(Log {
            shared,
            jobs,
            thread: Arc::new(Mutex::new(Some(thread))),
            dir: Arc::new(dir.to_path_buf()),
            codec,
        })
    }

    /// Index of the first entry that is there.
    pub(crate) fn first_index(&self) -> u64 {
        self.shared.index.lock().first()
    }

    /// Why nothing can be written any more, if so.
    pub(crate) fn failure(&self) -> Option<StoreError> {
        self.shared.failed.get().cloned()
    }

    /// Bytes written since the log was opened.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.shared.written_bytes.load(Ordering::SeqCst)
    }

    /// Returns once so many bytes have been written since the log was opened. For one caller at a time.
    pub(crate) async fn grown(&self, bytes: u64) {
        self.shared.wake_at.store(bytes, Ordering::SeqCst);
        while self.written_bytes() < bytes {
            self.shared.grown.notified().await;
        }
    }

    /// Entries up to `index` are applied; their in-memory copies can go.
    pub(crate) fn applied(&self, index: u64) {
        self.shared.index.lock().applied(index);
    }

    /// Entries up to `index` are in a durable checkpoint: only those may ever be removed from disk.
    pub(crate) fn checkpointed(&self, index: u64) {
        self.shared.checkpointed.fetch_max(index + 1, Ordering::AcqRel);
    }

    /// Writes what was asked before, then ends the writer thread. Blocks.
    pub(crate) fn close(&self) {
        let _ = self.jobs.send(Job::Stop);
        if let Some(thread) = self.thread.lock().take() {
            // A writer that panicked has acknowledged nothing it did not sync.
            let _ = thread.join();
        }
    }

    fn submit(&self, append: Append) {
        if let Err(mpsc::SendError(Job::Append(append))) = self.jobs.send(Job::Append(append)) {
            (append.done)(Err(self.failure().unwrap_or(StoreError::Closed)));
        }
    }

    /// Writes records that carry no entry, and waits.
    async fn write(&self, vote: Option<Vote>, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), StoreError> {
        let (tx, rx) = oneshot::channel();
        let mut records = Vec::new();
        fill(&mut records);
        let last = self.shared.index.lock().last();
        let done: Done = Box::new(move |result| drop(tx.send(result)));
        self.submit(Append { records, entries: Vec::new(), vote, last, done });
        rx.await.unwrap_or(Err(StoreError::Closed))
    }

    fn read(&self, range: impl RangeBounds<u64>) -> Result<Vec<Entry>, StoreError> {
        enum Source {
            Memory(Entry),
            File(Arc<std::fs::File>, Place),
        }
        let mut sources = Vec::new();
        {
            let index = self.shared.index.lock();
            let first = index.first();
            let start = match range.start_bound() {
                Bound::Included(n) => *n,
                Bound::Excluded(n) => n.saturating_add(1),
                Bound::Unbounded => 0,
            }
            .max(first);
            let end = match range.end_bound() {
                Bound::Included(n) => n.saturating_add(1),
                Bound::Excluded(n) => *n,
                Bound::Unbounded => u64::MAX,
            }
            .min(index.next());
            for at in start..end {
                let Some(slot) = index.slots.get((at - first) as usize) else { break };
                let source = match (&slot.entry, slot.place) {
                    (Some(entry), _) => Source::Memory((**entry).clone()),
                    (None, Some(place)) => match index.segments.get(&place.segment) {
                        Some(segment) => Source::File(segment.file.clone(), place),
                        None => break,
                    },
                    (None, None) => break,
                };
                sources.push(source);
            }
        }
        let read = |source| match source {
            Source::Memory(entry) => Ok(entry),
            Source::File(file, place) => {
                files::read_entry(&file, place, self.codec).map_err(|what| StoreError::Corrupt {
                    path: files::path(&self.dir, place.segment),
                    offset: place.offset,
                    what,
                })
            }
        };
        sources.into_iter().map(read).collect()
    }
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read(range).map_err(|e| StorageIoError::read_logs(AnyError::new(&e)).into())
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let index = self.shared.index.lock();
        Ok(LogState { last_purged_log_id: index.purged, last_log_id: index.last() })
    }

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.write(Some(*vote), |out| format::put_vote(out, vote))
            .await
            .map_err(|e| StorageIoError::write_vote(AnyError::new(&e)))?;
        self.shared.index.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.shared.index.lock().vote)
    }

    /// Kept in memory and written along with the next entries: it spares replaying in one piece after a restart, and nothing
    /// depends on it.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.shared.index.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.shared.index.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut placed = Vec::new();
        let mut slots = Vec::new();
        for entry in entries {
            let (offset, len) = format::put_entry(&mut records, &entry, self.codec);
            placed.push((entry.log_id.index, offset, len));
            slots.push(Slot { id: entry.log_id, place: None, entry: Some(Box::new(entry)) });
        }
        let last = {
            let mut index = self.shared.index.lock();
            if let Some(first) = slots.first()
                && !index.accepts(first.id.index)
            {
                let what = format!("entry {} where {} is next", first.id.index, index.next());
                return Err(StorageIoError::write_logs(AnyError::error(what)).into());
            }
            index.slots.extend(slots);
            if let Some(committed) = &index.committed {
                format::put_committed(&mut records, committed);
            }
            index.last()
        };
        let done: Done =
            Box::new(move |result| callback.log_io_completed(result.map_err(std::io::Error::other)));
        self.submit(Append { records, entries: placed, vote: None, last, done });
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.shared.index.lock().truncate(log_id.index);
        self.write(None, |out| format::put_truncate(out, log_id.index))
            .await
            .map_err(|e| StorageIoError::write_logs(AnyError::new(&e)).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let beyond = self.shared.index.lock().purge(log_id);
        if beyond {
            // The log goes on after a hole (a snapshot was installed): it must know.
            self.write(None, |out| format::put_purge(out, &log_id))
                .await
                .map_err(|e| StorageIoError::write_logs(AnyError::new(&e)))?;
        }
        // Raft may count a state that is only in memory as its snapshot; files go by what is on disk.
        let durable = self.shared.checkpointed.load(Ordering::Acquire);
        if let Some(upto) = durable.checked_sub(1) {
            let _ = self.jobs.send(Job::Remove { upto: upto.min(log_id.index) });
        }
        Ok(())
    }
}
