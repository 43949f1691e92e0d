//! The connection table, swept: what has expired is taken out, a bounded piece at a time.

use std::os::fd::AsFd as _;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData};
use skep_abi::{CtEntry, CtKey, limits};

use crate::error::Result;
use crate::maps::{Raw, found, gone, of};
use crate::pins::{Pins, open_pin, syscall};
use crate::sweep::{Verdict, other_half, pause, verdict};
use crate::{batch, sys};

const NAME: &str = "CONNTRACK";

/// Most entries looked at in one [`Connections::sweep`].
const PIECE: usize = 16_384;

/// What one sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries looked at.
    pub looked_at: usize,
    /// Entries taken out.
    pub removed: usize,
    /// How long to wait before the next one.
    pub pause: Duration,
}

/// The table and how far it has been looked through.
#[derive(Debug)]
pub(crate) struct Connections {
    /// Where the last piece ended; `None` at the beginning.
    at: Option<batch::Place>,
    /// Entries that stayed, in this pass so far.
    kept: u64,
    /// Entries that stayed, in the last whole pass.
    entries: u64,
}

impl Connections {
    pub(crate) const fn new() -> Self {
        Self { at: None, kept: 0, entries: 0 }
    }

    /// Looks through the next piece of the table and takes out what has expired at `now`.
    pub(crate) fn sweep(&mut self, pins: &Pins, now: u32) -> Result<Swept> {
        let mut swept = Swept::default();
        let limit = u64::from(limits::CONNTRACK);
        let Some(fd) = open_pin(&pins.map(NAME))? else {
            return Ok(Swept { pause: pause(0, limit), ..swept });
        };
        let data = MapData::from_fd(fd.try_clone().map_err(syscall("dup", NAME))?).map_err(of(NAME))?;
        let mut table: HashMap<MapData, Raw<CtKey>, Raw<CtEntry>> =
            Map::HashMap(data).try_into().map_err(of(NAME))?;
        while swept.looked_at < PIECE {
            let (some, next) = batch::next::<CtKey, CtEntry>(fd.as_fd(), self.at, batch::PIECE)
                .map_err(syscall("BPF_MAP_LOOKUP_BATCH", NAME))?;
            swept.looked_at += some.len();
            for (key, entry) in &some {
                match judge(&mut table, key, entry, now)? {
                    Some(removed) => swept.removed += removed,
                    None => self.kept += 1,
                }
            }
            self.at = next;
            if next.is_none() {
                self.entries = std::mem::take(&mut self.kept);
                swept.pause = pause(self.entries, limit);
                return Ok(swept);
            }
        }
        // In the middle of the table: go on soon, but let others have the processor.
        swept.pause = Duration::from_millis(20);
        Ok(swept)
    }
}

/// How many entries went; `None` if this one stays.
fn judge(
    table: &mut HashMap<MapData, Raw<CtKey>, Raw<CtEntry>>,
    key: &CtKey,
    entry: &CtEntry,
    now: u32,
) -> Result<Option<usize>> {
    let find = |at: &CtKey| found(NAME, table.get(&Raw(*at), 0)).map(|e| e.map(|e| e.0));
    let verdict = verdict(key, entry, now, find)?;
    // It was read a moment ago with many others, and may have been given to another connection since.
    if verdict == Verdict::Keep || find(key)?.is_some_and(|fresh| fresh != *entry) {
        return Ok(None);
    }
    let mut removed = usize::from(gone(NAME, table.remove(&Raw(*key)))?);
    if verdict == Verdict::RemoveBoth
        && let Some(other) = other_half(key, entry)
    {
        removed += usize::from(gone(NAME, table.remove(&Raw(other)))?);
    }
    Ok(Some(removed))
}

/// Seconds of the clock that the programs read.
pub(crate) fn now() -> Result<u32> {
    let time = sys::monotonic().map_err(syscall("clock_gettime", "the monotonic clock"))?;
    Ok(time.as_secs() as u32)
}
