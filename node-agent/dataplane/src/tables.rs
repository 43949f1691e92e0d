//! From the wanted Services to the rows of the kernel's tables, and from there to the writes that bring the
//! tables to them. Pure: what it is given is what the maps hold, what it returns is a list of writes whose
//! every prefix leaves the tables fit for use.
//!
//! The order of the list is the promise: backends and slots of a new generation first, then the Services
//! that name it, and only then is anything removed. A process killed in between leaves rows that nobody
//! reads; the next plan finds and removes them.

use std::collections::{BTreeMap, BTreeSet};

use skep_abi::service::backend_flags;
use skep_abi::{Addr, Backend, Range, Service, ServiceKey, SlotKey};

use crate::rows::{Front, Set, Target};

/// What the maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// `SERVICES`.
    pub services: BTreeMap<ServiceKey, Service>,
    /// `SLOTS`.
    pub slots: BTreeMap<SlotKey, u32>,
    /// `BACKENDS`.
    pub backends: BTreeMap<u32, Backend>,
    /// `RANGES`: the network and its prefix length, as the map counts it.
    pub ranges: BTreeSet<(Range, u32)>,
}

/// One write to a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Writes a backend.
    PutBackend(u32, Backend),
    /// Writes a slot.
    PutSlot(SlotKey, u32),
    /// Lets a network reach a restricted front end.
    PutRange(Range, u32),
    /// Writes a Service: from here on, new connections follow it.
    PutService(ServiceKey, Service),
    /// Removes a Service.
    DeleteService(ServiceKey),
    /// Removes a slot that no Service names.
    DeleteSlot(SlotKey),
    /// Removes a backend that no slot names.
    DeleteBackend(u32),
    /// Removes a network.
    DeleteRange(Range, u32),
}

impl Tables {
    /// Does to these tables what the write does to the maps.
    pub fn apply(&mut self, write: &Write) {
        match *write {
            Write::PutBackend(id, backend) => drop(self.backends.insert(id, backend)),
            Write::PutSlot(key, id) => drop(self.slots.insert(key, id)),
            Write::PutRange(range, prefix) => drop(self.ranges.insert((range, prefix))),
            Write::PutService(key, service) => drop(self.services.insert(key, service)),
            Write::DeleteService(key) => drop(self.services.remove(&key)),
            Write::DeleteSlot(key) => drop(self.slots.remove(&key)),
            Write::DeleteBackend(id) => drop(self.backends.remove(&id)),
            Write::DeleteRange(range, prefix) => drop(self.ranges.remove(&(range, prefix))),
        }
    }

    /// The backend numbers of a Service, if every slot of it is there.
    fn members(&self, service: &Service) -> Option<Vec<u32>> {
        (0..service.count)
            .map(|index| {
                let key = SlotKey { service: service.id, generation: service.generation, index };
                self.slots.get(&key).copied()
            })
            .collect()
    }
}

/// Compact numbers, given out in a circle so that a number just freed is the last to be given again: a
/// program that still holds it finds nothing rather than something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    next: u32,
}

impl Ids {
    /// Goes on after the highest number in use.
    #[must_use]
    pub fn after(used: impl Iterator<Item = u32>) -> Self {
        Self { next: used.max().unwrap_or(0) }
    }

    fn give(&mut self, used: &mut BTreeSet<u32>) -> u32 {
        loop {
            self.next = self.next.wrapping_add(1);
            if self.next != 0 && used.insert(self.next) {
                return self.next;
            }
        }
    }
}

/// The two circles of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocator {
    services: Ids,
    backends: Ids,
}

impl Allocator {
    /// Recovers the circles from the tables.
    #[must_use]
    pub fn recover(tables: &Tables) -> Self {
        Self {
            services: Ids::after(tables.services.values().map(|s| s.id)),
            backends: Ids::after(tables.backends.keys().copied()),
        }
    }
}

/// The writes that bring `current` to `sets`, in the order in which they must be done.
#[must_use]
pub fn plan(current: &Tables, sets: &[Set], ids: &mut Allocator) -> Vec<Write> {
    let mut planner = Planner::new(current, ids);
    let claimed = planner.claim(sets);
    for (set, id) in sets.iter().zip(claimed) {
        planner.set(set, id);
    }
    planner.finish()
}

/// The removals that need no put before them: front ends that are not wanted, and what nobody names. They make room
/// when a put found none.
#[must_use]
pub fn reclaim(current: &Tables, sets: &[Set]) -> Vec<Write> {
    let wanted: BTreeSet<ServiceKey> = sets.iter().flat_map(Set::keys).collect();
    let mut kept: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for (_, service) in current.services.iter().filter(|(key, _)| wanted.contains(key)) {
        let count = kept.entry((service.id, service.generation)).or_default();
        *count = service.count.max(*count);
    }
    let named = |slot: &SlotKey| kept.get(&(slot.service, slot.generation)).is_some_and(|n| slot.index < *n);
    let backends: BTreeSet<u32> =
        current.slots.iter().filter(|(slot, _)| named(slot)).map(|(_, backend)| *backend).collect();
    let ids: BTreeSet<u32> = kept.keys().map(|(id, _)| *id).collect();
    let services = current.services.keys().filter(|key| !wanted.contains(key));
    let mut writes: Vec<Write> = services.map(|key| Write::DeleteService(*key)).collect();
    writes.extend(current.slots.keys().filter(|slot| !named(slot)).map(|slot| Write::DeleteSlot(*slot)));
    writes.extend(
        current.backends.keys().filter(|id| !backends.contains(id)).map(|id| Write::DeleteBackend(*id)),
    );
    let ranges = current.ranges.iter().filter(|(range, _)| !ids.contains(&range.service));
    writes.extend(ranges.map(|(range, prefix)| Write::DeleteRange(*range, *prefix)));
    writes
}

struct Planner<'a> {
    current: &'a Tables,
    ids: &'a mut Allocator,
    used_services: BTreeSet<u32>,
    used_backends: BTreeSet<u32>,
    /// The numbers that a set's backends have now.
    known: BTreeMap<(u32, Addr, u16), u32>,
    wanted: Tables,
    puts: Vec<Write>,
    flips: Vec<Write>,
}

impl<'a> Planner<'a> {
    fn new(current: &'a Tables, ids: &'a mut Allocator) -> Self {
        Self {
            current,
            ids,
            used_services: current.services.values().map(|s| s.id).collect(),
            used_backends: current.backends.keys().copied().collect(),
            known: current.backends.iter().map(|(id, b)| ((b.service, b.addr, b.port), *id)).collect(),
            wanted: Tables::default(),
            puts: Vec::new(),
            flips: Vec::new(),
        }
    }

    /// The number of each set: the one that its first front end has now, if no set before it has taken that.
    fn claim(&mut self, sets: &[Set]) -> Vec<u32> {
        let mut claimed = BTreeSet::new();
        let current = self.current;
        let held: Vec<Option<u32>> = sets
            .iter()
            .map(|set| {
                let mut ids = set.keys().filter_map(|key| current.services.get(&key)).map(|s| s.id);
                ids.find(|id| *id != 0 && claimed.insert(*id))
            })
            .collect();
        let give = |id: Option<u32>| id.unwrap_or_else(|| self.ids.services.give(&mut self.used_services));
        held.into_iter().map(give).collect()
    }

    fn set(&mut self, set: &Set, id: u32) {
        let members: Vec<u32> = set.targets.iter().map(|target| self.backend(id, target)).collect();
        let rows = set.keys().filter_map(|key| self.current.services.get(&key)).filter(|s| s.id == id);
        let (mut latest, mut same) = (0, None);
        for row in rows {
            latest = row.generation.max(latest);
            if same.is_none() && self.current.members(row).as_ref() == Some(&members) {
                same = Some(row.generation);
            }
        }
        let generation = same.unwrap_or_else(|| self.free_generation(id, latest));
        for (index, member) in members.iter().enumerate() {
            let slot = SlotKey { service: id, generation, index: index as u32 };
            self.wanted.slots.insert(slot, *member);
            if same.is_none() {
                self.puts.push(Write::PutSlot(slot, *member));
            }
        }
        for &(addr, prefix) in &set.ranges {
            let range = (Range { service: id, addr }, 32 + u32::from(prefix));
            if self.wanted.ranges.insert(range) && !self.current.ranges.contains(&range) {
                self.puts.push(Write::PutRange(range.0, range.1));
            }
        }
        for (key, front) in &set.fronts {
            let service = row(set, front, id, generation);
            self.wanted.services.insert(*key, service);
            if self.current.services.get(key) != Some(&service) {
                self.flips.push(Write::PutService(*key, service));
            }
        }
    }

    /// The number of a backend of a set, written first if it is new or has changed.
    fn backend(&mut self, service: u32, target: &Target) -> u32 {
        let backend = Backend {
            addr: target.addr,
            port: target.port,
            flags: if target.local { backend_flags::LOCAL } else { 0 },
            service,
            reserved: 0,
        };
        let name = (service, target.addr, target.port);
        let id = match self.known.get(&name) {
            Some(id) => *id,
            None => {
                let id = self.ids.backends.give(&mut self.used_backends);
                self.known.insert(name, id);
                id
            }
        };
        // A table of slots may name it many times.
        let first = self.wanted.backends.insert(id, backend).is_none();
        if first && self.current.backends.get(&id) != Some(&backend) {
            self.puts.push(Write::PutBackend(id, backend));
        }
        id
    }

    /// The next generation of a set that has no slot yet: an interrupted plan may have left some.
    fn free_generation(&self, service: u32, current: u32) -> u32 {
        let mut generation = current.wrapping_add(1);
        loop {
            let first = SlotKey { service, generation, index: 0 };
            let last = SlotKey { service, generation, index: u32::MAX };
            if self.current.slots.range(first..=last).next().is_none() {
                return generation;
            }
            generation = generation.wrapping_add(1);
        }
    }

    fn finish(self) -> Vec<Write> {
        let Self { current, mut puts, flips, wanted, .. } = self;
        // Backends before the slots that name them.
        puts.sort_by_key(|w| !matches!(w, Write::PutBackend(..)));
        puts.extend(flips);
        let services = current.services.keys().filter(|k| !wanted.services.contains_key(k));
        puts.extend(services.map(|k| Write::DeleteService(*k)));
        let slots = current.slots.keys().filter(|k| !wanted.slots.contains_key(k));
        puts.extend(slots.map(|k| Write::DeleteSlot(*k)));
        let backends = current.backends.keys().filter(|k| !wanted.backends.contains_key(k));
        puts.extend(backends.map(|k| Write::DeleteBackend(*k)));
        let ranges = current.ranges.iter().filter(|r| !wanted.ranges.contains(r));
        puts.extend(ranges.map(|(range, prefix)| Write::DeleteRange(*range, *prefix)));
        puts
    }
}

fn row(set: &Set, front: &Front, id: u32, generation: u32) -> Service {
    Service {
        id,
        generation,
        count: set.targets.len() as u32,
        local_count: set.local_count,
        cluster_start: set.cluster_start,
        affinity_seconds: set.affinity_seconds,
        flags: front.flags,
        reserved: 0,
    }
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
