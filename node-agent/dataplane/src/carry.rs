//! Copies the entries of a map into another one while programs work with both: first with the old map alone in use, as
//! often as is wanted, then with the new one in use. What is written to the old map between two passes is found by the next.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use crate::error::Result;
use crate::layouts::{Entry, turn};
use crate::pins::syscall;
use crate::raw_map::RawMap;
use crate::sys;

/// `BPF_ANY`: whatever is there is replaced.
const ANY: u64 = 0;
/// `BPF_NOEXIST`: what is there stays.
const NO_EXIST: u64 = 1;

/// Which programs are attached while a pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InUse {
    /// Those of the old map.
    Old,
    /// Those of the new map: what they have written goes before what comes from the old one.
    New,
}

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Entries written.
    pub(crate) written: usize,
    /// Entries for which the new map had no room.
    pub(crate) refused: usize,
}

/// A map on its way into another one.
pub(crate) struct Carried {
    from: RawMap,
    to: RawMap,
    by: Vec<Entry>,
    /// What was written, as the new map has it.
    done: HashMap<Vec<u8>, Vec<u8>>,
}

impl Carried {
    /// From one map into another, each entry turned by each of `by`.
    pub(crate) fn new(name: &'static str, from: OwnedFd, to: OwnedFd, by: Vec<Entry>) -> Result<Self> {
        let (from, to) = (RawMap::new(name, from)?, RawMap::new(name, to)?);
        Ok(Self { from, to, by, done: HashMap::new() })
    }

    /// Its name.
    pub(crate) const fn name(&self) -> &'static str {
        self.to.name()
    }

    /// Copies what has come or changed since the last pass.
    pub(crate) fn pass(&mut self, in_use: InUse) -> Result<Passed> {
        let mut passed = Passed::default();
        for (key, value) in self.from.entries()? {
            let Some((key, value)) = self.turned(&key, &value) else { continue };
            let known = self.done.get(&key);
            if known == Some(&value) {
                continue;
            }
            let flags = match (in_use, known) {
                (InUse::Old, _) => ANY,
                (InUse::New, None) => NO_EXIST,
                (InUse::New, Some(known)) => {
                    let now = sys::lookup(self.to.fd(), &key, self.to.width())
                        .map_err(syscall("BPF_MAP_LOOKUP_ELEM", self.name()))?;
                    if now.as_ref() != Some(known) {
                        continue;
                    }
                    ANY
                }
            };
            match sys::update(self.to.fd(), &key, &value, flags) {
                Ok(()) => passed.written += 1,
                Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
                Err(e) if e.raw_os_error() == Some(libc::E2BIG) => passed.refused += 1,
                Err(e) => return Err(syscall("BPF_MAP_UPDATE_ELEM", self.name())(e)),
            }
            self.done.insert(key, value);
        }
        Ok(passed)
    }

    /// An entry as the new map has it.
    fn turned(&self, key: &[u8], value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let size = self.from.shape().value_size as usize;
        let mut new_key = None;
        let mut new_value = Vec::with_capacity(self.to.width());
        let each = self.to.width() / self.to.values();
        for one in value.chunks(self.from.width() / self.from.values()).take(self.to.values()) {
            let (key, value) = turn(&self.by, key, one.get(..size)?)?;
            new_value.extend_from_slice(&value);
            new_value.resize(new_value.len().next_multiple_of(each), 0);
            new_key = Some(key);
        }
        let fits = new_value.len() == self.to.width()
            && new_key.as_ref().is_some_and(|key| key.len() == self.to.shape().key_size as usize);
        fits.then_some((new_key?, new_value))
    }
}
