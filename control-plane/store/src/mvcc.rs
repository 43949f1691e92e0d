//! The state machine: keys with their versions, and the history of changes. Pure: no clock, no I/O, no tasks. The same commands in
//! the same order give the same state on every member.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    command::{Command, Reply},
    error::{Compacted, StoreError},
    types::{Compare, Event, EventKind, KeyValue, Op, RangeResult, Revision, Txn, TxnOutcome},
};

/// One version of a key; a deletion has no value.
#[derive(Clone, Debug)]
struct Version {
    create: Revision,
    modified: Revision,
    value: Option<Bytes>,
    /// [`checksum`] of the version, 0 of a deletion.
    sum: u64,
}

impl Version {
    fn key_value(&self, key: &Bytes) -> Option<KeyValue> {
        self.value.as_ref().map(|value| KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: self.create,
            mod_revision: self.modified,
        })
    }
}

#[derive(Clone, Debug)]
struct Slot {
    current: Version,
    /// Older versions, oldest first, as far back as history reaches.
    past: Vec<Version>,
}

impl Slot {
    fn at(&self, revision: Revision) -> Option<&Version> {
        if self.current.modified <= revision {
            return Some(&self.current);
        }
        self.past.iter().rev().find(|version| version.modified <= revision)
    }
}

/// Fingerprint of one live key, of which [`Machine::digest`] is the sum. Guards against damage, not against malice.
pub(crate) fn checksum(key: &[u8], value: &[u8], create: Revision, modified: Revision) -> u64 {
    let mut head = crc32fast::Hasher::new();
    head.update(&create.to_le_bytes());
    head.update(&modified.to_le_bytes());
    head.update(key);
    // splitmix64's finalizer: sums of raw CRCs would cancel in pairs.
    let mut x = (u64::from(head.finalize()) << 32) | u64::from(crc32fast::hash(value));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bytes of a live key and its value; 0 when it is deleted.
fn size_of(key: &Bytes, value: Option<&Bytes>) -> u64 {
    value.map_or(0, |value| (key.len() + value.len()) as u64)
}

/// Memory that remembering an event costs, beyond what is live anyway.
fn event_cost(event: &Event) -> usize {
    256 + event.key.len() + event.prev.as_ref().map_or(0, |prev| prev.value.len())
}

/// The keys changed since the last checkpoint, each with the revision of the version that the checkpoint holds, if it has the key.
pub(crate) type Dirty = HashMap<Bytes, Option<Revision>>;

/// Revisions being read over a longer time, with the number of their readers.
pub(crate) type Pins = BTreeMap<Revision, usize>;

/// What must be equal on members that have applied the same log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
    pub(crate) live: u64,
    pub(crate) digest: u64,
}

/// The whole state.
#[derive(Debug)]
pub(crate) struct Machine {
    keys: BTreeMap<Bytes, Slot>,
    revision: Revision,
    /// As replicated; `oldest` may be later on a member that started from a checkpoint.
    compacted: Revision,
    oldest: Revision,
    live: u64,
    live_bytes: u64,
    digest: u64,
    /// The changes of revisions `oldest + 1 ..= revision`, one element a revision.
    history: VecDeque<Arc<[Event]>>,
    history_cost: usize,
    history_limit: usize,
    pins: Pins,
    dirty: Dirty,
}

impl Machine {
    pub(crate) fn new(history_limit: usize) -> Machine {
        Machine {
            keys: BTreeMap::new(),
            revision: 0,
            compacted: 0,
            oldest: 0,
            live: 0,
            live_bytes: 0,
            digest: 0,
            history: VecDeque::new(),
            history_cost: 0,
            history_limit,
            pins: BTreeMap::new(),
            dirty: Dirty::new(),
        }
    }

    /// A state without history, from its live keys.
    pub(crate) fn restore(
        history_limit: usize,
        revision: Revision,
        compacted: Revision,
        kvs: impl IntoIterator<Item = KeyValue>,
    ) -> Machine {
        let mut machine = Machine { revision, compacted, oldest: revision, ..Machine::new(history_limit) };
        for kv in kvs {
            let sum = checksum(&kv.key, &kv.value, kv.create_revision, kv.mod_revision);
            let current =
                Version { create: kv.create_revision, modified: kv.mod_revision, value: Some(kv.value), sum };
            machine.digest = machine.digest.wrapping_add(sum);
            machine.live += 1;
            machine.live_bytes += size_of(&kv.key, current.value.as_ref());
            machine.keys.insert(kv.key, Slot { current, past: Vec::new() });
        }
        machine
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn oldest(&self) -> Revision {
        self.oldest
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let Machine { revision, compacted, live, digest, .. } = *self;
        Fingerprint { revision, compacted, live, digest }
    }

    /// Bytes of all live keys and their values.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Applies one command.
    pub(crate) fn apply(&mut self, command: &Command) -> Reply {
        match command {
            Command::Txn(txn) => Reply::Txn(self.txn(txn)),
            Command::Compact { before } => {
                self.compacted = self.compacted.max((*before).min(self.revision));
                self.forget(self.compacted);
                Reply::Compacted
            }
        }
    }

    fn txn(&mut self, txn: &Txn) -> TxnOutcome {
        for (index, compare) in txn.compare.iter().enumerate() {
            let current = self.get(compare.key());
            let holds = match compare {
                Compare::Absent(_) => current.is_none(),
                Compare::Exists(_) => current.is_some(),
                Compare::ModRevision(_, revision) => {
                    current.as_ref().is_some_and(|kv| kv.mod_revision == *revision)
                }
            };
            if !holds {
                return TxnOutcome::Conflict { index, current };
            }
        }
        let revision = self.revision + 1;
        let events: Vec<Event> = txn.ops.iter().filter_map(|op| self.change(op, revision)).collect();
        if !events.is_empty() {
            self.revision = revision;
            self.history_cost += events.iter().map(event_cost).sum::<usize>();
            self.history.push_back(events.into());
            while self.history_cost > self.history_limit && self.oldest < self.revision {
                if !self.forget(self.oldest + 1) {
                    break;
                }
            }
        }
        TxnOutcome::Committed { revision: self.revision }
    }

    fn change(&mut self, op: &Op, revision: Revision) -> Option<Event> {
        let found = self.keys.get_key_value(op.key()).map(|(key, slot)| (key.clone(), slot.current.clone()));
        let prev = found.as_ref().and_then(|(key, version)| version.key_value(key));
        // The key's buffer that is already held is kept; the one of the command can go.
        let key = found.as_ref().map_or_else(|| op.key().clone(), |(key, _)| key.clone());
        let (kind, version, value) = match op {
            Op::Put { value, .. } => {
                let create = prev.as_ref().map_or(revision, |prev| prev.create_revision);
                let sum = checksum(&key, value, create, revision);
                let version = Version { create, modified: revision, value: Some(value.clone()), sum };
                (EventKind::Put, version, value.clone())
            }
            Op::Delete { .. } => {
                let value = prev.as_ref()?.value.clone();
                (EventKind::Delete, Version { create: 0, modified: revision, value: None, sum: 0 }, value)
            }
        };
        self.dirty.entry(key.clone()).or_insert(prev.as_ref().map(|prev| prev.mod_revision));
        self.digest = self.digest.wrapping_add(version.sum);
        self.live += u64::from(version.value.is_some());
        self.live_bytes += size_of(&key, version.value.as_ref());
        if let Some((_, old)) = found {
            self.digest = self.digest.wrapping_sub(old.sum);
            self.live -= u64::from(old.value.is_some());
            self.live_bytes -= size_of(&key, old.value.as_ref());
        }
        match self.keys.get_mut(&key) {
            Some(slot) => {
                let old = std::mem::replace(&mut slot.current, version);
                slot.past.push(old);
            }
            None => {
                self.keys.insert(key.clone(), Slot { current: version, past: Vec::new() });
            }
        }
        Some(Event { key, value, kind, revision, prev })
    }

    /// Drops history before revision `before`, as far as no reader needs it. Answers whether anything was dropped.
    fn forget(&mut self, before: Revision) -> bool {
        let pinned = self.pins.first_key_value().map_or(Revision::MAX, |(revision, _)| *revision);
        let target = before.min(pinned).min(self.revision);
        let mut dropped = false;
        while self.oldest < target {
            let Some(events) = self.history.pop_front() else { break };
            self.oldest += 1;
            dropped = true;
            for event in events.iter() {
                self.history_cost -= event_cost(event);
                self.forget_event(event);
            }
        }
        dropped
    }

    /// Versions that `event` ended are seen by no reader any more.
    fn forget_event(&mut self, event: &Event) {
        let Some(slot) = self.keys.get_mut(&event.key) else { return };
        let gone = |version: &Version| {
            version.modified < event.revision
                || (version.modified == event.revision && version.value.is_none())
        };
        slot.past.retain(|version| !gone(version));
        if slot.past.is_empty() {
            slot.past = Vec::new();
        }
        if slot.current.value.is_none() && gone(&slot.current) {
            self.keys.remove(&event.key);
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<KeyValue> {
        let (key, slot) = self.keys.get_key_value(key)?;
        slot.current.key_value(key)
    }

    pub(crate) fn get_at(&self, key: &[u8], at: Revision) -> Result<Option<KeyValue>, Compacted> {
        self.readable(at)?;
        let Some((key, slot)) = self.keys.get_key_value(key) else { return Ok(None) };
        Ok(slot.at(at).and_then(|version| version.key_value(key)))
    }

    fn readable(&self, at: Revision) -> Result<(), Compacted> {
        if at < self.oldest { Err(Compacted { asked: at, oldest: self.oldest }) } else { Ok(()) }
    }

    /// Live keys in `[start, end)` at `at`; an empty `end` means to the last key.
    fn iter_at<'a>(
        &'a self,
        start: Bound<&'a [u8]>,
        end: &'a [u8],
        at: Revision,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Version)> {
        let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        // A range whose end lies before its start is empty; BTreeMap would panic.
        let empty = match (start, upper) {
            (Bound::Included(s), Bound::Excluded(e)) | (Bound::Excluded(s), Bound::Excluded(e)) => s >= e,
            _ => false,
        };
        let range = (!empty).then(|| self.keys.range::<[u8], _>((start, upper)));
        range
            .into_iter()
            .flatten()
            .filter_map(move |(key, slot)| slot.at(at).filter(|v| v.value.is_some()).map(|v| (key, v)))
    }

    pub(crate) fn range(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
        at: Option<Revision>,
    ) -> Result<RangeResult, StoreError> {
        let revision = at.unwrap_or(self.revision);
        self.readable(revision)?;
        if revision > self.revision {
            return Err(StoreError::FutureRevision { asked: revision, current: self.revision });
        }
        let limit = if limit == 0 { usize::MAX } else { limit };
        let mut kvs = Vec::new();
        let mut count = 0;
        for (key, version) in self.iter_at(Bound::Included(start), end, revision) {
            count += 1;
            if kvs.len() < limit {
                kvs.extend(version.key_value(key));
            }
        }
        Ok(RangeResult { more: count > kvs.len(), kvs, count, revision })
    }

    /// Live keys at `at` after `after`, up to about `bytes` of them. For readers that go through everything in steps.
    pub(crate) fn walk(
        &self,
        after: Option<&[u8]>,
        at: Revision,
        bytes: usize,
    ) -> Result<Vec<KeyValue>, Compacted> {
        self.readable(at)?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut size = 0;
        let mut kvs = Vec::new();
        for (key, version) in self.iter_at(start, &[], at) {
            kvs.extend(version.key_value(key));
            size += 64 + key.len() + version.value.as_ref().map_or(0, Bytes::len);
            if size >= bytes {
                break;
            }
        }
        Ok(kvs)
    }

    /// The changes of the first revision after `after` that has one under `prefix`, looking at no more than `look` revisions.
    pub(crate) fn next_events(&self, prefix: &[u8], after: Revision, look: usize) -> Result<Step, Compacted> {
        self.readable(after)?;
        let skip = usize::try_from(after - self.oldest).unwrap_or(usize::MAX);
        for (events, revision) in self.history.iter().skip(skip).take(look).zip(after + 1..) {
            let matching = events.iter().filter(|event| event.key.starts_with(prefix)).count();
            if matching == events.len() {
                return Ok(Step::Events(revision, events.clone()));
            }
            if matching > 0 {
                let events = events.iter().filter(|event| event.key.starts_with(prefix));
                return Ok(Step::Events(revision, events.cloned().collect()));
            }
        }
        let reached = self.revision.min(after.saturating_add(look as u64)).max(after);
        Ok(if reached >= self.revision { Step::UpToDate(reached) } else { Step::Nothing(reached) })
    }

    /// The changes of one revision, if history holds it.
    pub(crate) fn events_of(&self, revision: Revision) -> Option<&Arc<[Event]>> {
        let index = revision.checked_sub(self.oldest + 1)?;
        self.history.get(usize::try_from(index).ok()?)
    }

    /// Keeps the present revision readable until [`Machine::unpin`].
    pub(crate) fn pin(&mut self) -> Revision {
        *self.pins.entry(self.revision).or_default() += 1;
        self.revision
    }

    /// Ends one [`Machine::pin`]; compaction that waited for it is caught up.
    pub(crate) fn unpin(&mut self, revision: Revision) {
        if let Some(readers) = self.pins.get_mut(&revision) {
            *readers -= 1;
            if *readers == 0 {
                self.pins.remove(&revision);
            }
        }
        self.forget(self.compacted);
    }

    /// The pins of a state that is replaced: their readers end with an error and unpin later.
    pub(crate) fn take_pins(&mut self) -> Pins {
        std::mem::take(&mut self.pins)
    }

    /// Takes over pins from a state that this one replaces.
    pub(crate) fn give_pins(&mut self, pins: Pins) {
        self.pins = pins;
    }

    /// Hands over what a checkpoint of the present revision must write.
    pub(crate) fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Takes back what a failed checkpoint did not write. What the disk held before it still counts.
    pub(crate) fn return_dirty(&mut self, dirty: Dirty) {
        self.dirty.extend(dirty);
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }
}

/// Answer of [`Machine::next_events`].
#[derive(Debug)]
pub(crate) enum Step {
    /// The changes of this revision.
    Events(Revision, Arc<[Event]>),
    /// Nothing up to this revision, but there is more to look at.
    Nothing(Revision),
    /// Nothing up to this, the present revision.
    UpToDate(Revision),
}

#[cfg(test)]
#[path = "mvcc_tests.rs"]
mod tests;
