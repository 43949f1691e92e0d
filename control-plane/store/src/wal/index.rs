//! Where each entry of the log is: a pure table.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    sync::Arc,
};

use crate::raft::{Entry, LogId, Vote};

/// Place of an entry's record in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// One entry.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: LogId,
    /// None until it is on disk.
    pub(super) place: Option<Place>,
    /// Kept until it is applied, so that applying reads no file.
    pub(super) entry: Option<Box<Entry>>,
}

/// A segment file that exists.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<File>,
    /// Index of the last entry that was ever written to it, or that preceded it.
    pub(super) last: Option<u64>,
}

/// The log as it stands.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    /// The last entry that is gone; the first slot is the one after it.
    pub(super) purged: Option<LogId>,
    pub(super) slots: VecDeque<Slot>,
    pub(super) segments: BTreeMap<u64, Segment>,
}

impl Index {
    /// Index of the first entry that is or would be there.
    pub(super) fn first(&self) -> u64 {
        let after_purged = self.purged.map_or(0, |id| id.index + 1);
        self.slots.front().map_or(after_purged, |slot| slot.id.index)
    }

    /// Whether an entry with this index can be appended. A log that never had an entry begins where it is told to.
    pub(super) fn accepts(&self, index: u64) -> bool {
        self.last().is_none_or(|last| last.index + 1 == index)
    }

    /// Id of the last entry, purged or not.
    pub(super) fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.id).or(self.purged)
    }

    /// Index the next entry must have.
    pub(super) fn next(&self) -> u64 {
        self.last().map_or(0, |id| id.index + 1)
    }

    pub(super) fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        let at = index.checked_sub(self.first())?;
        self.slots.get_mut(usize::try_from(at).ok()?)
    }

    /// Entries from `since` on are void.
    pub(super) fn truncate(&mut self, since: u64) {
        let keep = since.saturating_sub(self.first());
        self.slots.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
    }

    /// Entries up to `upto` are gone. Answers whether that goes beyond the end of the log.
    pub(super) fn purge(&mut self, upto: LogId) -> bool {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return false;
        }
        let beyond = self.next() <= upto.index;
        let gone = (upto.index + 1).saturating_sub(self.first());
        let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(self.slots.len());
        self.slots.drain(..gone);
        self.purged = Some(upto);
        beyond
    }

    /// Forgets the in-memory copies of entries up to `index`.
    pub(super) fn applied(&mut self, index: u64) {
        let first = self.first();
        for (at, slot) in self.slots.iter_mut().enumerate().rev() {
            if first + at as u64 > index {
                continue;
            }
            // Older ones were forgotten before.
            if slot.entry.is_none() {
                break;
            }
            if slot.place.is_some() {
                slot.entry = None;
            }
        }
    }
}
