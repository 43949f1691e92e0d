//! The bytes of a log segment, and reading them back. Pure: slices in, findings out.
//!
//! ```text
//! segment := header(64) frame*                       zeros or remains of an earlier use follow the last frame
//! header  := "SKEPLOG\0" version:u32 codec:u32 sequence:u64 first_frame:u64 prev:log-position(24) 0:u32 crc:u32
//! frame   := magic:u32 body_len:u32 frame:u64 crc:u32 0:u32 body pad          starts at a multiple of 8
//! body    := record*
//! record  := len:u32 crc:u32 kind:u8 payload         len counts kind and payload
//! ```
//! A frame is what one synced write carried. Frame numbers rise by one over all segments and are never used again, and a frame's
//! checksum covers its segment's sequence number, so what an earlier use of the file left behind is never taken for a frame.

use std::ops::Range;

use crate::{
    codec::{self, Malformed, Reader, ValueCodec},
    raft::{Entry, LogId, Vote},
};

/// Version of the segment format written here.
pub(super) const VERSION: u32 = 1;
/// Length of a segment's header.
pub(super) const HEADER: usize = 64;
/// Length of a frame's header.
pub(super) const FRAME_HEADER: usize = 24;

const MAGIC: &[u8; 8] = b"SKEPLOG\0";
const FRAME_MAGIC: u32 = 0x4d52_464b;
/// Index that stands for "no entry before this segment".
const NO_INDEX: u64 = u64::MAX;

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) codec: ValueCodec,
    pub(super) sequence: u64,
    /// Number of the first frame in it.
    pub(super) first_frame: u64,
    /// The last entry before it.
    pub(super) prev: Option<LogId>,
}

/// Why a header cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged(&'static str),
    Newer(u32),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(MAGIC);
        codec::put_u32(&mut out, VERSION);
        codec::put_u32(&mut out, self.codec.id());
        codec::put_u64(&mut out, self.sequence);
        codec::put_u64(&mut out, self.first_frame);
        match &self.prev {
            Some(id) => codec::put_log_id(&mut out, id),
            None => [0, 0, NO_INDEX].iter().for_each(|n| codec::put_u64(&mut out, *n)),
        }
        let mut header = [0; HEADER];
        header[..out.len()].copy_from_slice(&out);
        let crc = crc32fast::hash(&header[..HEADER - 4]);
        header[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    pub(super) fn decode(data: &[u8]) -> Result<Header, BadHeader> {
        let data = data.get(..HEADER).ok_or(BadHeader::Damaged("shorter than its header"))?;
        let read = || -> Result<_, Malformed> {
            let mut r = Reader(data);
            let magic = r.take(8)?;
            let (version, codec, sequence, first_frame) = (r.u32()?, r.u32()?, r.u64()?, r.u64()?);
            let prev = codec::log_id(&mut r)?;
            r.u32()?; // not used
            Ok((magic, version, codec, sequence, first_frame, prev, r.u32()?))
        };
        let (magic, version, codec, sequence, first_frame, prev, crc) =
            read().map_err(|_| BadHeader::Damaged("shorter than its header"))?;
        if magic != MAGIC {
            return Err(BadHeader::Damaged("not a log segment"));
        }
        // Later versions may checksum otherwise: the version is judged first.
        if version > VERSION {
            return Err(BadHeader::Newer(version));
        }
        if crc != crc32fast::hash(&data[..HEADER - 4]) {
            return Err(BadHeader::Damaged("header checksum"));
        }
        let codec = ValueCodec::from_id(codec).ok_or(BadHeader::Damaged("unknown value codec"))?;
        let prev = (prev.index != NO_INDEX).then_some(prev);
        Ok(Header { codec, sequence, first_frame, prev })
    }
}

fn frame_crc(sequence: u64, frame: u64, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&sequence.to_le_bytes());
    crc.update(&frame.to_le_bytes());
    crc.update(&(body.len() as u32).to_le_bytes());
    crc.update(body);
    crc.finalize()
}

/// Begins a frame in an empty buffer: room for its header.
pub(super) fn begin_frame() -> Vec<u8> {
    vec![0; FRAME_HEADER]
}

/// Completes a frame: fills in the header and pads to the next multiple of 8.
pub(super) fn end_frame(buffer: &mut Vec<u8>, sequence: u64, frame: u64) {
    let crc = frame_crc(sequence, frame, &buffer[FRAME_HEADER..]);
    let len = (buffer.len() - FRAME_HEADER) as u32;
    buffer[0..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
    buffer[4..8].copy_from_slice(&len.to_le_bytes());
    buffer[8..16].copy_from_slice(&frame.to_le_bytes());
    buffer[16..20].copy_from_slice(&crc.to_le_bytes());
    buffer.resize(buffer.len().next_multiple_of(8), 0);
}

/// The body of a valid frame at `at`, if there is one numbered as `wanted` accepts.
fn frame_at(
    data: &[u8],
    at: usize,
    sequence: u64,
    wanted: impl Fn(u64) -> bool,
) -> Option<(u64, Range<usize>)> {
    let mut r = Reader(data.get(at..)?);
    if r.u32().ok()? != FRAME_MAGIC {
        return None;
    }
    let (len, frame, crc) = (r.u32().ok()? as usize, r.u64().ok()?, r.u32().ok()?);
    if !wanted(frame) {
        return None;
    }
    let start = at + FRAME_HEADER;
    let body = data.get(start..start.checked_add(len)?)?;
    (frame_crc(sequence, frame, body) == crc).then_some((frame, start..start + len))
}

/// What [`scan`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Bodies of the frames, in order.
    pub(super) bodies: Vec<Range<usize>>,
    /// Where the next frame goes.
    pub(super) end: usize,
    /// Whether a frame was begun at `end` and not finished.
    pub(super) torn: bool,
}

/// Reads the frames of a segment. The first bad frame ends the log if nothing valid follows it: each frame was written only after
/// its predecessor was on disk, so a crash damages none but the last. Otherwise `Err` names the offset of the damage.
pub(super) fn scan(data: &[u8], header: &Header) -> Result<Scan, usize> {
    let mut bodies = Vec::new();
    let mut at = HEADER;
    let mut frame = header.first_frame;
    while let Some((_, body)) = frame_at(data, at, header.sequence, |n| n == frame) {
        at = body.end.next_multiple_of(8);
        bodies.push(body);
        frame += 1;
    }
    let later = |offset: &usize| frame_at(data, *offset, header.sequence, |n| n > frame).is_some();
    if (at + 8..data.len()).step_by(8).any(|offset| later(&offset)) {
        return Err(at);
    }
    let torn = data
        .get(at..at + 16)
        .is_some_and(|head| head[..4] == FRAME_MAGIC.to_le_bytes() && head[8..16] == frame.to_le_bytes());
    Ok(Scan { bodies, end: at.min(data.len()), torn })
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    Entry(Box<Entry>),
    Vote(Vote),
    /// Everything up to this entry is known to be committed.
    Committed(LogId),
    /// Entries from this index on are void.
    Truncate(u64),
    /// The log begins after this entry, which it need not hold.
    Purge(LogId),
}

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATE: u8 = 4;
const PURGE: u8 = 5;

/// Appends a record whose payload `fill` writes; answers its offset and length in `out`.
fn put(out: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) -> (usize, usize) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.push(kind);
    fill(out);
    let len = (out.len() - start - 8) as u32;
    let crc = crc32fast::hash(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    (start, out.len() - start)
}

pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry, codec: ValueCodec) -> (usize, usize) {
    put(out, ENTRY, |out| codec::put_entry(out, entry, codec))
}

pub(super) fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    put(out, VOTE, |out| codec::put_vote(out, vote));
}

pub(super) fn put_committed(out: &mut Vec<u8>, id: &LogId) {
    put(out, COMMITTED, |out| codec::put_log_id(out, id));
}

pub(super) fn put_truncate(out: &mut Vec<u8>, since: u64) {
    put(out, TRUNCATE, |out| codec::put_u64(out, since));
}

pub(super) fn put_purge(out: &mut Vec<u8>, upto: &LogId) {
    put(out, PURGE, |out| codec::put_log_id(out, upto));
}

/// Takes one record off `data`; answers it and its whole length.
pub(super) fn record(data: &[u8], codec: ValueCodec) -> Result<(Record, usize), Malformed> {
    let mut r = Reader(data);
    let (len, crc) = (r.u32()? as usize, r.u32()?);
    let content = r.take(len)?;
    if crc32fast::hash(content) != crc {
        return Err(Malformed("record checksum"));
    }
    let mut r = Reader(content);
    let record = match r.u8()? {
        ENTRY => Record::Entry(Box::new(codec::entry(&content[1..], codec)?)),
        VOTE => Record::Vote(codec::vote(&mut r)?),
        COMMITTED => Record::Committed(codec::log_id(&mut r)?),
        TRUNCATE => Record::Truncate(r.u64()?),
        PURGE => Record::Purge(codec::log_id(&mut r)?),
        _ => return Err(Malformed("record kind")),
    };
    Ok((record, 8 + len))
}
