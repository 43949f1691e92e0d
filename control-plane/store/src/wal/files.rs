//! Segment files: making them, and reading a directory of them back.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    format::{self, BadHeader, Header, Record},
    index::{Index, Place, Segment, Slot},
};
use crate::{codec::ValueCodec, error::StoreError, files::io_error};

/// Name of the segment that waits to be used next.
pub(super) const SPARE: &str = "spare";

pub(super) fn path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.log"))
}

/// Makes the spare file, its blocks written: data synced into blocks that exist costs one disk flush, into others a change of the
/// file system's own log besides.
pub(super) fn make_spare(dir: &Path, bytes: u64) -> Result<(), StoreError> {
    let spare = dir.join(SPARE);
    let partial = dir.join("spare.partial");
    let make = || -> std::io::Result<()> {
        let mut file = File::create(&partial)?;
        let zeros = vec![0; 1 << 20];
        let mut left = bytes;
        while left > 0 {
            let n = left.min(zeros.len() as u64);
            file.write_all(&zeros[..usize::try_from(n).unwrap_or(zeros.len())])?;
            left -= n;
        }
        file.sync_all()?;
        fs::rename(&partial, &spare)
    };
    make().map_err(|e| io_error("preallocate", &spare, &e))
}

/// Turns the spare file into the segment of `header`. Returns only when it is durable under its name.
pub(super) fn activate_spare(dir: &Path, header: &Header) -> Result<(File, u64), StoreError> {
    let spare = dir.join(SPARE);
    let target = path(dir, header.sequence);
    let activate = || -> std::io::Result<(File, u64)> {
        let file = OpenOptions::new().read(true).write(true).open(&spare)?;
        file.write_all_at(&header.encode(), 0)?;
        file.sync_data()?;
        fs::rename(&spare, &target)?;
        File::open(dir)?.sync_all()?;
        let capacity = file.metadata()?.len();
        Ok((file, capacity))
    };
    activate().map_err(|e| io_error("start log segment", &target, &e))
}

/// The end of the log as found when opening.
pub(super) struct Tail {
    pub(super) header: Header,
    pub(super) file: Arc<File>,
    pub(super) capacity: u64,
    /// Where the next frame goes, and its number.
    pub(super) offset: u64,
    pub(super) frame: u64,
}

/// Sequence numbers of the segments in `dir`, in order.
fn sequences(dir: &Path) -> Result<Vec<u64>, StoreError> {
    let mut found = Vec::new();
    for item in fs::read_dir(dir).map_err(|e| io_error("list", dir, &e))? {
        let name = item.map_err(|e| io_error("list", dir, &e))?.file_name();
        let sequence = name.to_str().and_then(|n| n.strip_suffix(".log")).map(|n| u64::from_str_radix(n, 16));
        if let Some(Ok(sequence)) = sequence {
            found.push(sequence);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes the leading segments all of whose entries a durable checkpoint holds, unread.
fn remove_checkpointed(dir: &Path, sequences: &mut Vec<u64>, upto: u64) -> Result<(), StoreError> {
    while let [oldest, next, ..] = sequences[..] {
        let mut head = [0; format::HEADER];
        let next = path(dir, next);
        let read = File::open(&next).and_then(|file| file.read_exact_at(&mut head, 0));
        read.map_err(|e| io_error("read", &next, &e))?;
        // A damaged header is reported when the segment is read.
        match Header::decode(&head) {
            Ok(Header { prev: Some(prev), .. }) if prev.index <= upto => {}
            _ => break,
        }
        let oldest = path(dir, oldest);
        fs::remove_file(&oldest).map_err(|e| io_error("remove", &oldest, &e))?;
        sequences.remove(0);
    }
    Ok(())
}

/// Reads all segments, but for those that hold only entries up to `checkpointed`. `None` if there are none. A torn last frame is
/// cut off, on disk too.
pub(super) fn recover(dir: &Path, checkpointed: Option<u64>) -> Result<(Index, Option<Tail>), StoreError> {
    let mut index = Index::default();
    let mut tail: Option<Tail> = None;
    let mut sequences = sequences(dir)?;
    if let Some(upto) = checkpointed {
        remove_checkpointed(dir, &mut sequences, upto)?;
    }
    for (nth, sequence) in sequences.iter().copied().enumerate() {
        let path = path(dir, sequence);
        let corrupt = |offset: usize, what: String| StoreError::Corrupt {
            path: path.clone(),
            offset: offset as u64,
            what,
        };
        let data = fs::read(&path).map_err(|e| io_error("read", &path, &e))?;
        let header = Header::decode(&data).map_err(|bad| match bad {
            BadHeader::Damaged(what) => corrupt(0, what.into()),
            BadHeader::Newer(found) => {
                StoreError::NewerFormat { path: path.clone(), found, supported: format::VERSION }
            }
        })?;
        if header.sequence != sequence {
            return Err(corrupt(16, format!("holds segment {:x}", header.sequence)));
        }
        match &tail {
            None => index.purged = header.prev,
            Some(before) if before.header.sequence + 1 != sequence => {
                return Err(corrupt(0, format!("segment {:x} before it is missing", sequence - 1)));
            }
            Some(before) if before.frame != header.first_frame => {
                let what = format!(
                    "the segment before it ends with frame {} where {} was written",
                    before.frame, header.first_frame
                );
                return Err(corrupt(24, what));
            }
            Some(_) => {}
        }
        let scan = format::scan(&data, &header)
            .map_err(|at| corrupt(at, "a damaged frame with valid frames after it".into()))?;
        let last_segment = nth + 1 == sequences.len();
        if scan.torn && !last_segment {
            return Err(corrupt(scan.end, "a damaged frame that is not the log's last".into()));
        }
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = Arc::new(file.map_err(|e| io_error("open", &path, &e))?);
        let frame = header.first_frame + scan.bodies.len() as u64;
        for body in &scan.bodies {
            let mut at = body.start;
            while at < body.end {
                let (record, len) = format::record(&data[at..body.end], header.codec)
                    .map_err(|e| corrupt(at, format!("a frame with a valid checksum holds a {e}")))?;
                let place = Place { segment: sequence, offset: at as u64, len: len as u32 };
                replay(&mut index, record, place).map_err(|what| corrupt(at, what))?;
                at += len;
            }
        }
        if last_segment {
            clear_tail(&file, &path, &data, &scan)?;
        }
        index
            .segments
            .insert(sequence, Segment { file: file.clone(), last: index.last().map(|id| id.index) });
        tail = Some(Tail { header, file, capacity: data.len() as u64, offset: scan.end as u64, frame });
    }
    Ok((index, tail))
}

/// Wipes the head of an unfinished frame, so that no later reader meets it.
fn clear_tail(file: &File, path: &Path, data: &[u8], scan: &format::Scan) -> Result<(), StoreError> {
    if !scan.torn {
        return Ok(());
    }
    tracing::warn!(path = %path.display(), offset = scan.end, "cutting off the unfinished last write of the log");
    let len = format::FRAME_HEADER.min(data.len() - scan.end);
    file.write_all_at(&vec![0; len], scan.end as u64)
        .and_then(|()| file.sync_data())
        .map_err(|e| io_error("truncate", path, &e))
}

/// Takes a record that was read back into the index.
fn replay(index: &mut Index, record: Record, place: Place) -> Result<(), String> {
    match record {
        Record::Vote(vote) => index.vote = Some(vote),
        Record::Committed(id) => index.committed = Some(id),
        Record::Truncate(since) => index.truncate(since),
        Record::Purge(upto) => {
            index.purge(upto);
        }
        Record::Entry(entry) => {
            if !index.accepts(entry.log_id.index) {
                return Err(format!("entry {} where {} was expected", entry.log_id.index, index.next()));
            }
            index.slots.push_back(Slot { id: entry.log_id, place: Some(place), entry: None });
        }
    }
    Ok(())
}

/// Reads one entry back.
pub(super) fn read_entry(file: &File, place: Place, codec: ValueCodec) -> Result<crate::raft::Entry, String> {
    let mut buffer = vec![0; place.len as usize];
    file.read_exact_at(&mut buffer, place.offset).map_err(|e| e.to_string())?;
    match format::record(&buffer, codec) {
        Ok((Record::Entry(entry), _)) => Ok(*entry),
        Ok(_) => Err("the record is no entry".into()),
        Err(malformed) => Err(malformed.to_string()),
    }
}
