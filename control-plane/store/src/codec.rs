//! Bytes on disk: little-endian primitives, the encoding of log entries, and the one codec that values pass through.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use bytes::Bytes;
use openraft::{BasicNode, CommittedLeaderId, EntryPayload, LogId, Membership, StoredMembership, Vote};

use crate::{
    command::{Batch, Command},
    raft::Entry,
    types::{Compare, Op, Txn},
};

/// How values are written to log, checkpoint and snapshot. Its number stands in the header of everything it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueCodec {
    /// The value's own bytes.
    Identity,
}

impl ValueCodec {
    pub(crate) fn id(self) -> u32 {
        match self {
            ValueCodec::Identity => 0,
        }
    }

    pub(crate) fn from_id(id: u32) -> Option<ValueCodec> {
        (id == 0).then_some(ValueCodec::Identity)
    }

    pub(crate) fn encode<'a>(self, value: &'a [u8]) -> Cow<'a, [u8]> {
        match self {
            ValueCodec::Identity => Cow::Borrowed(value),
        }
    }

    /// Answers a buffer of its own, so that a value read back does not hold the block it was read from.
    pub(crate) fn decode(self, stored: &[u8]) -> Result<Bytes, Malformed> {
        match self {
            ValueCodec::Identity => Ok(Bytes::copy_from_slice(stored)),
        }
    }
}

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Reads primitives off a slice.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(Malformed("length"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Malformed("length"))?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A slice with its length before it.
    pub(crate) fn slice(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    /// A count of things each at least `least` bytes long, so that a damaged count cannot ask for absurd memory.
    fn count(&mut self, least: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count > self.0.len() / least { Err(Malformed("count")) } else { Ok(count) }
    }

    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("trailing bytes")) }
    }
}

/// Lengths above 4 GiB cannot arise: transactions and keys are bounded far below.
pub(crate) fn put_slice(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(crate) fn put_u64(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&n.to_le_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&n.to_le_bytes());
}

pub(crate) fn put_log_id(out: &mut Vec<u8>, id: &LogId<u64>) {
    put_u64(out, id.leader_id.term);
    put_u64(out, id.leader_id.node_id);
    put_u64(out, id.index);
}

pub(crate) fn log_id(r: &mut Reader<'_>) -> Result<LogId<u64>, Malformed> {
    let (term, node) = (r.u64()?, r.u64()?);
    Ok(LogId::new(CommittedLeaderId::new(term, node), r.u64()?))
}

pub(crate) fn put_opt_log_id(out: &mut Vec<u8>, id: Option<&LogId<u64>>) {
    match id {
        None => out.push(0),
        Some(id) => {
            out.push(1);
            put_log_id(out, id);
        }
    }
}

pub(crate) fn opt_log_id(r: &mut Reader<'_>) -> Result<Option<LogId<u64>>, Malformed> {
    match r.u8()? {
        0 => Ok(None),
        1 => Ok(Some(log_id(r)?)),
        _ => Err(Malformed("log id")),
    }
}

pub(crate) fn put_vote(out: &mut Vec<u8>, vote: &Vote<u64>) {
    put_u64(out, vote.leader_id.term);
    put_u64(out, vote.leader_id.node_id);
    out.push(u8::from(vote.committed));
}

pub(crate) fn vote(r: &mut Reader<'_>) -> Result<Vote<u64>, Malformed> {
    let (term, node) = (r.u64()?, r.u64()?);
    match r.u8()? {
        0 => Ok(Vote::new(term, node)),
        1 => Ok(Vote::new_committed(term, node)),
        _ => Err(Malformed("vote")),
    }
}

pub(crate) fn put_membership(out: &mut Vec<u8>, membership: &Membership<u64, BasicNode>) {
    let configs = membership.get_joint_config();
    put_u32(out, configs.len() as u32);
    for config in configs {
        put_u32(out, config.len() as u32);
        config.iter().for_each(|id| put_u64(out, *id));
    }
    let nodes: Vec<_> = membership.nodes().collect();
    put_u32(out, nodes.len() as u32);
    for (id, node) in nodes {
        put_u64(out, *id);
        put_slice(out, node.addr.as_bytes());
    }
}

pub(crate) fn membership(r: &mut Reader<'_>) -> Result<Membership<u64, BasicNode>, Malformed> {
    let mut configs = Vec::new();
    for _ in 0..r.count(4)? {
        let mut config = BTreeSet::new();
        for _ in 0..r.count(8)? {
            config.insert(r.u64()?);
        }
        configs.push(config);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..r.count(12)? {
        let id = r.u64()?;
        let addr = std::str::from_utf8(r.slice()?).map_err(|_| Malformed("member address"))?;
        nodes.insert(id, BasicNode::new(addr));
    }
    if configs.iter().flatten().any(|id| !nodes.contains_key(id)) {
        return Err(Malformed("membership"));
    }
    Ok(Membership::new(configs, nodes))
}

pub(crate) fn put_stored_membership(out: &mut Vec<u8>, stored: &StoredMembership<u64, BasicNode>) {
    put_opt_log_id(out, stored.log_id().as_ref());
    put_membership(out, stored.membership());
}

pub(crate) fn stored_membership(r: &mut Reader<'_>) -> Result<StoredMembership<u64, BasicNode>, Malformed> {
    let id = opt_log_id(r)?;
    Ok(StoredMembership::new(id, membership(r)?))
}

const BLANK: u8 = 0;
const BATCH: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &Entry, codec: ValueCodec) {
    put_log_id(out, &entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => out.push(BLANK),
        EntryPayload::Normal(batch) => {
            out.push(BATCH);
            put_u32(out, batch.0.len() as u32);
            batch.0.iter().for_each(|command| put_command(out, command, codec));
        }
        EntryPayload::Membership(membership) => {
            out.push(MEMBERSHIP);
            put_membership(out, membership);
        }
    }
}

pub(crate) fn entry(bytes: &[u8], codec: ValueCodec) -> Result<Entry, Malformed> {
    let mut r = Reader(bytes);
    let log_id = log_id(&mut r)?;
    let payload = match r.u8()? {
        BLANK => EntryPayload::Blank,
        BATCH => {
            let mut commands = Vec::new();
            for _ in 0..r.count(1)? {
                commands.push(command(&mut r, codec)?);
            }
            EntryPayload::Normal(Batch(commands.into()))
        }
        MEMBERSHIP => EntryPayload::Membership(membership(&mut r)?),
        _ => return Err(Malformed("entry kind")),
    };
    r.end()?;
    Ok(Entry { log_id, payload })
}

const TXN: u8 = 1;
const COMPACT: u8 = 2;
const ABSENT: u8 = 1;
const EXISTS: u8 = 2;
const MOD_REVISION: u8 = 3;
const PUT: u8 = 1;
const DELETE: u8 = 2;

fn put_command(out: &mut Vec<u8>, command: &Command, codec: ValueCodec) {
    match command {
        Command::Compact { before } => {
            out.push(COMPACT);
            put_u64(out, *before);
        }
        Command::Txn(txn) => {
            out.push(TXN);
            put_u32(out, txn.compare.len() as u32);
            for compare in &txn.compare {
                let (kind, key, revision) = match compare {
                    Compare::Absent(key) => (ABSENT, key, None),
                    Compare::Exists(key) => (EXISTS, key, None),
                    Compare::ModRevision(key, revision) => (MOD_REVISION, key, Some(*revision)),
                };
                out.push(kind);
                put_slice(out, key);
                if let Some(revision) = revision {
                    put_u64(out, revision);
                }
            }
            put_u32(out, txn.ops.len() as u32);
            for op in &txn.ops {
                match op {
                    Op::Put { key, value } => {
                        out.push(PUT);
                        put_slice(out, key);
                        put_slice(out, &codec.encode(value));
                    }
                    Op::Delete { key } => {
                        out.push(DELETE);
                        put_slice(out, key);
                    }
                }
            }
        }
    }
}

fn command(r: &mut Reader<'_>, codec: ValueCodec) -> Result<Command, Malformed> {
    match r.u8()? {
        COMPACT => Ok(Command::Compact { before: r.u64()? }),
        TXN => {
            let mut txn = Txn::default();
            for _ in 0..r.count(5)? {
                let kind = r.u8()?;
                let key = Bytes::copy_from_slice(r.slice()?);
                txn.compare.push(match kind {
                    ABSENT => Compare::Absent(key),
                    EXISTS => Compare::Exists(key),
                    MOD_REVISION => Compare::ModRevision(key, r.u64()?),
                    _ => return Err(Malformed("condition")),
                });
            }
            for _ in 0..r.count(5)? {
                let kind = r.u8()?;
                let key = Bytes::copy_from_slice(r.slice()?);
                txn.ops.push(match kind {
                    PUT => Op::Put { key, value: codec.decode(r.slice()?)? },
                    DELETE => Op::Delete { key },
                    _ => return Err(Malformed("operation")),
                });
            }
            Ok(Command::Txn(txn))
        }
        _ => Err(Malformed("command")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Entry {
        let txn = Txn {
            compare: vec![
                Compare::Absent(Bytes::from_static(b"a")),
                Compare::Exists(Bytes::from_static(b"b")),
                Compare::ModRevision(Bytes::from_static(b"c"), 7),
            ],
            ops: vec![
                Op::Put { key: Bytes::from_static(b"a"), value: Bytes::from_static(b"value") },
                Op::Delete { key: Bytes::from_static(b"b") },
            ],
        };
        let batch = Batch(vec![Command::Txn(txn), Command::Compact { before: 9 }].into());
        Entry { log_id: LogId::new(CommittedLeaderId::new(3, 1), 11), payload: EntryPayload::Normal(batch) }
    }

    #[test]
    fn entry_round_trip() {
        let nodes = BTreeMap::from([(1, BasicNode::new("one")), (2, BasicNode::new("two"))]);
        let membership = Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 2])], nodes);
        let id = LogId::new(CommittedLeaderId::new(1, 2), 3);
        for entry_in in [
            sample(),
            Entry { log_id: id, payload: EntryPayload::Blank },
            Entry { log_id: id, payload: EntryPayload::Membership(membership) },
        ] {
            let mut bytes = Vec::new();
            put_entry(&mut bytes, &entry_in, ValueCodec::Identity);
            assert_eq!(entry(&bytes, ValueCodec::Identity).unwrap(), entry_in);
        }
    }

    #[test]
    fn damaged_entries_are_errors_or_other_entries_but_never_panics() {
        let mut bytes = Vec::new();
        put_entry(&mut bytes, &sample(), ValueCodec::Identity);
        for cut in 0..bytes.len() {
            assert!(entry(&bytes[..cut], ValueCodec::Identity).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                if let Ok(read) = entry(&damaged, ValueCodec::Identity) {
                    assert_ne!(read, sample(), "bit {bit} of byte {at} is not part of the entry");
                }
            }
        }
    }
}
