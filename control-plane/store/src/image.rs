//! Snapshots: the state at one revision, read out in chunks while the store goes on, and put together again elsewhere.
//!
//! ```text
//! chunk := len:u32 crc:u32 kind:u8 payload        len counts kind and payload
//! first := "SKEPSNAP" version:u32 codec:u32 revision:u64 compacted:u64 live:u64 digest:u64 last_log membership
//! keys  := (key create:u64 modified:u64 value)*   key and value with their length (u32) before them
//! last  := nothing
//! ```

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    codec::{self, Malformed, Reader, ValueCodec},
    error::{Compacted, StoreError},
    mvcc::{Fingerprint, Machine},
    raft::{LogId, StoredMembership},
    shared::Shared,
    types::{KeyValue, Revision},
};

const MAGIC: &[u8] = b"SKEPSNAP";
const VERSION: u32 = 1;
const FIRST: u8 = 1;
const KEYS: u8 = 2;
const LAST: u8 = 3;
/// About how much of the state a chunk holds, bytes.
const CHUNK: usize = 256 << 10;

/// What raft hands around as a snapshot.
#[derive(Debug)]
pub(crate) enum Image {
    /// This member's state, to be sent.
    View(View),
    /// Another member's state, to be installed.
    #[allow(dead_code, reason = "a transport between members makes it")]
    Received(Box<Received>),
    /// This member's checkpoint; it is on disk already and is never sent.
    OnDisk,
}

/// The state at one revision, held readable as long as this lives.
#[derive(Debug)]
pub(crate) struct View {
    shared: Arc<Shared>,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) fingerprint: Fingerprint,
}

impl View {
    /// A view of the present state.
    pub(crate) fn new(shared: &Arc<Shared>) -> View {
        View::with(shared, |_| ()).0
    }

    /// A view of the present state, with something else done to it at the very same revision.
    pub(crate) fn with<T>(shared: &Arc<Shared>, also: impl FnOnce(&mut Machine) -> T) -> (View, T) {
        let mut state = shared.state.write();
        state.machine.pin();
        let extra = also(&mut state.machine);
        let view = View {
            shared: shared.clone(),
            applied: state.applied,
            membership: state.membership.clone(),
            fingerprint: state.machine.fingerprint(),
        };
        (view, extra)
    }

    pub(crate) fn revision(&self) -> Revision {
        self.fingerprint.revision
    }

    /// Keys after `after`, about a chunk of them; none at the end.
    pub(crate) fn walk(&self, after: Option<&[u8]>) -> Result<Vec<KeyValue>, Compacted> {
        self.shared.state.read().machine.walk(after, self.revision(), CHUNK)
    }

    /// The state as another member would put it together.
    pub(crate) fn copy(&self, history_limit: usize) -> Result<Received, StoreError> {
        let mut chunks = Chunks::new(self);
        let mut assembly = Assembly::new(history_limit);
        while let Some(chunk) = chunks.next()? {
            if let Some(received) = assembly.push(&chunk)? {
                return Ok(received);
            }
        }
        Err(StoreError::Invalid("snapshot: it has no end".into()))
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Compacted> {
        self.shared.state.read().machine.get_at(key, self.revision())
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.shared.state.write().machine.unpin(self.fingerprint.revision);
    }
}

fn chunk(kind: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0; 8];
    out.push(kind);
    fill(&mut out);
    let (len, crc) = ((out.len() - 8) as u32, crc32fast::hash(&out[8..]));
    out[0..4].copy_from_slice(&len.to_le_bytes());
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    out
}

enum Place {
    First,
    After(Option<Bytes>),
    Done,
}

/// Reads a view out as chunks.
pub(crate) struct Chunks<'a> {
    view: &'a View,
    codec: ValueCodec,
    place: Place,
}

impl<'a> Chunks<'a> {
    pub(crate) fn new(view: &'a View) -> Chunks<'a> {
        Chunks { view, codec: ValueCodec::Identity, place: Place::First }
    }

    /// The next chunk, or none after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, Compacted> {
        match &self.place {
            Place::Done => Ok(None),
            Place::First => {
                self.place = Place::After(None);
                let View { applied, membership, fingerprint, .. } = self.view;
                Ok(Some(chunk(FIRST, |out| {
                    out.extend_from_slice(MAGIC);
                    codec::put_u32(out, VERSION);
                    codec::put_u32(out, self.codec.id());
                    for n in
                        [fingerprint.revision, fingerprint.compacted, fingerprint.live, fingerprint.digest]
                    {
                        codec::put_u64(out, n);
                    }
                    codec::put_opt_log_id(out, applied.as_ref());
                    codec::put_stored_membership(out, membership);
                })))
            }
            Place::After(after) => {
                let kvs = self.view.walk(after.as_deref())?;
                let Some(last) = kvs.last() else {
                    self.place = Place::Done;
                    return Ok(Some(chunk(LAST, |_| ())));
                };
                self.place = Place::After(Some(last.key.clone()));
                Ok(Some(chunk(KEYS, |out| {
                    for kv in &kvs {
                        codec::put_slice(out, &kv.key);
                        codec::put_u64(out, kv.create_revision);
                        codec::put_u64(out, kv.mod_revision);
                        codec::put_slice(out, &self.codec.encode(&kv.value));
                    }
                })))
            }
        }
    }
}

/// A whole state from elsewhere, checked.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) machine: Machine,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

struct Head {
    codec: ValueCodec,
    fingerprint: Fingerprint,
    applied: Option<LogId>,
    membership: StoredMembership,
}

/// Puts chunks together.
pub(crate) struct Assembly {
    history_limit: usize,
    head: Option<Head>,
    kvs: Vec<KeyValue>,
}

impl Assembly {
    pub(crate) fn new(history_limit: usize) -> Assembly {
        Assembly { history_limit, head: None, kvs: Vec::new() }
    }

    /// Takes one chunk; answers the state after the last one.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<Option<Received>, StoreError> {
        self.take(chunk).map_err(|e| StoreError::Invalid(format!("snapshot: {e}")))
    }

    fn take(&mut self, chunk: &[u8]) -> Result<Option<Received>, Malformed> {
        let mut r = Reader(chunk);
        let (len, crc) = (r.u32()? as usize, r.u32()?);
        let content = r.take(len)?;
        r.end()?;
        if crc32fast::hash(content) != crc {
            return Err(Malformed("chunk checksum"));
        }
        let mut r = Reader(content);
        match (r.u8()?, &self.head) {
            (FIRST, None) => {
                if r.take(MAGIC.len())? != MAGIC {
                    return Err(Malformed("first chunk"));
                }
                if r.u32()? > VERSION {
                    return Err(Malformed("version: it is newer than this program"));
                }
                let codec = ValueCodec::from_id(r.u32()?).ok_or(Malformed("value codec"))?;
                let fingerprint =
                    Fingerprint { revision: r.u64()?, compacted: r.u64()?, live: r.u64()?, digest: r.u64()? };
                let applied = codec::opt_log_id(&mut r)?;
                let membership = codec::stored_membership(&mut r)?;
                r.end()?;
                self.head = Some(Head { codec, fingerprint, applied, membership });
                Ok(None)
            }
            (KEYS, Some(head)) => {
                while !r.0.is_empty() {
                    let key = Bytes::copy_from_slice(r.slice()?);
                    let (create_revision, mod_revision) = (r.u64()?, r.u64()?);
                    let value = head.codec.decode(r.slice()?)?;
                    self.kvs.push(KeyValue { key, value, create_revision, mod_revision });
                }
                Ok(None)
            }
            (LAST, Some(_)) => {
                let Some(head) = self.head.take() else { return Err(Malformed("last chunk")) };
                let Fingerprint { revision, compacted, .. } = head.fingerprint;
                let kvs = std::mem::take(&mut self.kvs);
                let machine = Machine::restore(self.history_limit, revision, compacted, kvs);
                if machine.fingerprint() != head.fingerprint {
                    return Err(Malformed("state: its digest differs"));
                }
                Ok(Some(Received { machine, applied: head.applied, membership: head.membership }))
            }
            _ => Err(Malformed("order of chunks")),
        }
    }
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
