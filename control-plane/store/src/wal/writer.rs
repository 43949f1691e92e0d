//! The one thread that writes the log: whatever waits goes out in one frame, with one sync.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use super::{
    Shared,
    files::{self, Tail},
    format::{self, FRAME_HEADER, HEADER, Header},
    index::{Place, Segment},
};
use crate::{
    codec::ValueCodec,
    error::StoreError,
    files::{io_error, sync_dir},
    raft::{LogId, Vote},
};

/// Called once the bytes are on disk, or will not be.
pub(super) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Work for the writer.
pub(super) enum Job {
    Append(Append),
    /// Remove segments all of whose entries are at or below this index.
    Remove {
        upto: u64,
    },
    /// End the thread once everything before this is done.
    Stop,
}

/// Records to be made durable.
pub(super) struct Append {
    pub(super) records: Vec<u8>,
    /// Index, offset in `records` and length of each entry among them.
    pub(super) entries: Vec<(u64, usize, usize)>,
    pub(super) vote: Option<Vote>,
    /// Id of the log's last entry once this is written.
    pub(super) last: Option<LogId>,
    pub(super) done: Done,
}

/// State of the writer thread.
pub(super) struct Writer {
    pub(super) dir: PathBuf,
    pub(super) segment_bytes: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) tail: Tail,
    pub(super) vote: Option<Vote>,
    pub(super) last: Option<LogId>,
    pub(super) failed: Option<StoreError>,
    /// Makes the spare file. While it runs, nothing else touches that file.
    pub(super) helper: Option<JoinHandle<()>>,
}

/// A frame grows no further once it is this long, bytes.
const FRAME_ENOUGH: usize = 4 << 20;

impl Writer {
    /// Serves jobs until the log is closed.
    pub(super) fn run(mut self, queue: &mpsc::Receiver<Job>) {
        if !self.dir.join(files::SPARE).exists() {
            self.order_spare();
        }
        let mut stop = false;
        while !stop && let Ok(job) = queue.recv() {
            let mut group = Vec::new();
            let mut size = 0;
            let mut next = Some(job);
            while let Some(job) = next {
                match job {
                    Job::Append(append) => {
                        size += append.records.len();
                        group.push(append);
                    }
                    Job::Remove { upto } => self.remove(upto),
                    Job::Stop => stop = true,
                }
                next = if size < FRAME_ENOUGH { queue.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.write(group);
            }
        }
        self.await_helper();
    }

    fn await_helper(&mut self) {
        if let Some(helper) = self.helper.take() {
            // It ends by itself and has reported its own failure.
            let _ = helper.join();
        }
    }

    fn write(&mut self, group: Vec<Append>) {
        let result = match self.failed.clone() {
            Some(error) => Err(error),
            None => self.write_frame(&group),
        };
        if let Err(error) = &result
            && self.failed.is_none()
        {
            // After a failed write or sync nobody knows what is on disk: nothing is written any more.
            tracing::error!(%error, "the log cannot be written; the store refuses writes from now on");
            self.failed = Some(error.clone());
            self.shared.set_failed(error.clone());
        }
        for append in group {
            (append.done)(result.clone());
        }
    }

    fn write_frame(&mut self, group: &[Append]) -> Result<(), StoreError> {
        let size: usize = group.iter().map(|append| append.records.len()).sum();
        // Room for the vote that a new segment repeats.
        let needed = (FRAME_HEADER + size + 64) as u64;
        let mut frame = format::begin_frame();
        frame.reserve(size + 128);
        if self.tail.offset + needed > self.tail.capacity {
            self.rotate(needed)?;
            if let Some(vote) = &self.vote {
                format::put_vote(&mut frame, vote);
            }
        }
        let mut places = Vec::new();
        for append in group {
            let base = self.tail.offset + frame.len() as u64;
            let place = |(index, offset, len): &(u64, usize, usize)| {
                let offset = base + *offset as u64;
                (*index, Place { segment: self.tail.header.sequence, offset, len: *len as u32 })
            };
            places.extend(append.entries.iter().map(place));
            frame.extend_from_slice(&append.records);
        }
        format::end_frame(&mut frame, self.tail.header.sequence, self.tail.frame);
        self.sync(&self.tail.file, &frame, self.tail.offset)?;
        self.tail.offset += frame.len() as u64;
        self.tail.frame += 1;
        for append in group {
            self.vote = append.vote.or(self.vote);
            self.last = append.last;
        }
        self.shared.written(&places, self.tail.header.sequence, self.last, frame.len() as u64);
        Ok(())
    }

    fn sync(&self, file: &File, frame: &[u8], offset: u64) -> Result<(), StoreError> {
        let path = || files::path(&self.dir, self.tail.header.sequence);
        file.write_all_at(frame, offset).map_err(|e| io_error("write", &path(), &e))?;
        file.sync_data().map_err(|e| io_error("sync", &path(), &e))
    }

    /// Goes on in a new segment with room for at least `needed` bytes.
    fn rotate(&mut self, needed: u64) -> Result<(), StoreError> {
        self.await_helper();
        let needed = needed + HEADER as u64;
        let spare = self.dir.join(files::SPARE);
        let fits = std::fs::metadata(&spare).is_ok_and(|meta| meta.len() >= needed);
        if !fits {
            // The helper failed, or the frame is a big one.
            files::make_spare(&self.dir, self.segment_bytes.max(needed))?;
        }
        let header = Header {
            codec: ValueCodec::Identity,
            sequence: self.tail.header.sequence + 1,
            first_frame: self.tail.frame,
            prev: self.last,
        };
        let (file, capacity) = files::activate_spare(&self.dir, &header)?;
        let file = Arc::new(file);
        self.tail =
            Tail { header, file: file.clone(), capacity, offset: HEADER as u64, frame: self.tail.frame };
        let segment = Segment { file, last: self.last.map(|id| id.index) };
        self.shared.index.lock().segments.insert(header.sequence, segment);
        self.order_spare();
        Ok(())
    }

    /// Has the next segment's file made meanwhile.
    fn order_spare(&mut self) {
        let (dir, bytes) = (self.dir.clone(), self.segment_bytes);
        let helper = std::thread::Builder::new().name("store-spare".into()).spawn(move || {
            // Failing here is no harm: the writer tries again when it needs the file, and reports.
            if let Err(error) = files::make_spare(&dir, bytes) {
                tracing::warn!(%error, "cannot preallocate the next log segment");
            }
        });
        self.helper = helper.ok();
    }

    fn remove(&mut self, upto: u64) {
        let active = self.tail.header.sequence;
        let mut index = self.shared.index.lock();
        // From the oldest on, as long as they qualify: the remaining sequence has no hole.
        let gone: Vec<u64> = index
            .segments
            .iter()
            .take_while(|(sequence, segment)| {
                **sequence < active && segment.last.is_none_or(|last| last <= upto)
            })
            .map(|(sequence, _)| *sequence)
            .collect();
        gone.iter().for_each(|sequence| drop(index.segments.remove(sequence)));
        drop(index);
        for sequence in &gone {
            let path = files::path(&self.dir, *sequence);
            if let Err(error) = self.dispose(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a log segment");
            }
        }
        if !gone.is_empty()
            && let Err(error) = sync_dir(&self.dir)
        {
            tracing::warn!(%error, "cannot sync the log directory");
        }
    }

    /// Uses the file again as the spare one if that is wanting, else removes it.
    fn dispose(&self, path: &std::path::Path) -> std::io::Result<()> {
        let spare = self.dir.join(files::SPARE);
        let right_size = std::fs::metadata(path)?.len() == self.segment_bytes;
        let helping = self.helper.as_ref().is_some_and(|helper| !helper.is_finished());
        if right_size && !helping && !spare.exists() {
            std::fs::rename(path, spare)
        } else {
            std::fs::remove_file(path)
        }
    }
}
