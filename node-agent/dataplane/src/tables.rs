//! From the wanted Services to the rows of the kernel's tables, and from there to the writes that bring the
//! tables to them. Pure: what it is given is what the maps hold, what it returns is a list of writes whose
//! every prefix leaves the tables fit for use.
//!
//! The order of the list is the promise: backends and slots of a new generation first, then the Services
//! that name it, and only then is anything removed. A process killed in between leaves rows that nobody
//! reads; the next plan finds and removes them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use skep_abi::service::{backend_flags, flags};
use skep_abi::{Addr, Backend, Service, ServiceKey, SlotKey};

use crate::model::ServiceView;

/// What the maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// `SERVICES`.
    pub services: BTreeMap<ServiceKey, Service>,
    /// `SLOTS`.
    pub slots: BTreeMap<SlotKey, u32>,
    /// `BACKENDS`.
    pub backends: BTreeMap<u32, Backend>,
}

/// One write to a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Writes a backend.
    PutBackend(u32, Backend),
    /// Writes a slot.
    PutSlot(SlotKey, u32),
    /// Writes a Service: from here on, new connections follow it.
    PutService(ServiceKey, Service),
    /// Removes a Service.
    DeleteService(ServiceKey),
    /// Removes a slot that no Service names.
    DeleteSlot(SlotKey),
    /// Removes a backend that no slot names.
    DeleteBackend(u32),
}

impl Tables {
    /// Does to these tables what the write does to the maps.
    pub fn apply(&mut self, write: &Write) {
        match *write {
            Write::PutBackend(id, backend) => drop(self.backends.insert(id, backend)),
            Write::PutSlot(key, id) => drop(self.slots.insert(key, id)),
            Write::PutService(key, service) => drop(self.services.insert(key, service)),
            Write::DeleteService(key) => drop(self.services.remove(&key)),
            Write::DeleteSlot(key) => drop(self.slots.remove(&key)),
            Write::DeleteBackend(id) => drop(self.backends.remove(&id)),
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

/// A place that a row sends to: address, port in network byte order, whether it is on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    addr: Addr,
    port: u16,
    local: bool,
}

/// One front end as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    affinity_seconds: u32,
    flags: u32,
    targets: Vec<Target>,
}

/// The front ends of a view: for each address, port and protocol the usable endpoints of the same family,
/// those of this node first, each once. Where two Services claim a front end, the first by namespace and
/// name has it, and the other is named in the second result.
#[must_use]
pub fn rows(view: &ServiceView) -> (BTreeMap<ServiceKey, Row>, Vec<String>) {
    let mut services: Vec<_> = view.services.iter().collect();
    services.sort_by_key(|s| (&s.namespace, &s.name));
    let mut rows = BTreeMap::new();
    let mut conflicts = Vec::new();
    for service in services {
        for &ip in &service.cluster_ips {
            for port in &service.ports {
                let key = ServiceKey::new(Addr::from(ip), port.port.to_be(), port.protocol.number());
                let mut targets: Vec<Target> = port
                    .usable()
                    .filter(|e| e.addr.is_ipv4() == ip.is_ipv4())
                    .map(|e| Target { addr: Addr::from(e.addr), port: e.port.to_be(), local: e.local })
                    .collect();
                targets.sort_by_key(|t| (!t.local, t.addr, t.port));
                targets.dedup_by_key(|t| (t.addr, t.port));
                let row = Row {
                    affinity_seconds: service.affinity_seconds.unwrap_or(0),
                    flags: if service.local_only { flags::LOCAL_ONLY } else { 0 },
                    targets,
                };
                match rows.entry(key) {
                    Entry::Vacant(entry) => drop(entry.insert(row)),
                    Entry::Occupied(_) => conflicts.push(format!(
                        "{}/{} {ip}:{} {:?}",
                        service.namespace, service.name, port.port, port.protocol
                    )),
                }
            }
        }
    }
    (rows, conflicts)
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

/// The writes that bring `current` to `rows`, in the order in which they must be done.
#[must_use]
pub fn plan(current: &Tables, rows: &BTreeMap<ServiceKey, Row>, ids: &mut Allocator) -> Vec<Write> {
    let mut planner = Planner::new(current, ids);
    for (key, row) in rows {
        planner.row(*key, row);
    }
    planner.finish(rows)
}

/// The removals that need no put before them: front ends that are not wanted, and what nobody names. They make room
/// when a put found none.
#[must_use]
pub fn reclaim(current: &Tables, rows: &BTreeMap<ServiceKey, Row>) -> Vec<Write> {
    let kept: BTreeMap<u32, &Service> =
        current.services.iter().filter(|(key, _)| rows.contains_key(key)).map(|(_, s)| (s.id, s)).collect();
    let named = |slot: &SlotKey| {
        kept.get(&slot.service).is_some_and(|s| s.generation == slot.generation && slot.index < s.count)
    };
    let backends: BTreeSet<u32> =
        current.slots.iter().filter(|(slot, _)| named(slot)).map(|(_, backend)| *backend).collect();
    let services = current.services.keys().filter(|key| !rows.contains_key(key));
    let mut writes: Vec<Write> = services.map(|key| Write::DeleteService(*key)).collect();
    writes.extend(current.slots.keys().filter(|slot| !named(slot)).map(|slot| Write::DeleteSlot(*slot)));
    writes.extend(
        current.backends.keys().filter(|id| !backends.contains(id)).map(|id| Write::DeleteBackend(*id)),
    );
    writes
}

struct Planner<'a> {
    current: &'a Tables,
    ids: &'a mut Allocator,
    used_services: BTreeSet<u32>,
    used_backends: BTreeSet<u32>,
    /// The numbers that a Service's backends have now.
    known: BTreeMap<(u32, Addr, u16), u32>,
    wanted_slots: BTreeSet<SlotKey>,
    wanted_backends: BTreeSet<u32>,
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
            wanted_slots: BTreeSet::new(),
            wanted_backends: BTreeSet::new(),
            puts: Vec::new(),
            flips: Vec::new(),
        }
    }

    fn row(&mut self, key: ServiceKey, row: &Row) {
        let old = self.current.services.get(&key).filter(|s| s.id != 0);
        let id = match old {
            Some(service) => service.id,
            None => self.ids.services.give(&mut self.used_services),
        };
        let members: Vec<u32> = row.targets.iter().map(|target| self.backend(id, target)).collect();
        let mut service = Service {
            id,
            generation: old.map_or(0, |s| s.generation),
            count: members.len() as u32,
            local_count: row.targets.iter().filter(|t| t.local).count() as u32,
            affinity_seconds: row.affinity_seconds,
            flags: row.flags,
            reserved: [0; 2],
        };
        let same_members = old.is_some_and(|s| self.current.members(s).as_ref() == Some(&members));
        if !same_members {
            service.generation = self.free_generation(id, service.generation);
        }
        for (index, member) in members.iter().enumerate() {
            let slot = SlotKey { service: id, generation: service.generation, index: index as u32 };
            self.wanted_slots.insert(slot);
            if !same_members {
                self.puts.push(Write::PutSlot(slot, *member));
            }
        }
        if old != Some(&service) {
            self.flips.push(Write::PutService(key, service));
        }
    }

    /// The number of a backend of a Service, written first if it is new or has changed.
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
        if self.current.backends.get(&id) != Some(&backend) {
            self.puts.push(Write::PutBackend(id, backend));
        }
        self.wanted_backends.insert(id);
        id
    }

    /// The next generation of a Service that has no slot yet: an interrupted plan may have left some.
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

    fn finish(self, rows: &BTreeMap<ServiceKey, Row>) -> Vec<Write> {
        let Self { current, mut puts, flips, wanted_slots, wanted_backends, .. } = self;
        // Backends before the slots that name them.
        puts.sort_by_key(|w| !matches!(w, Write::PutBackend(..)));
        puts.extend(flips);
        puts.extend(
            current.services.keys().filter(|k| !rows.contains_key(k)).map(|k| Write::DeleteService(*k)),
        );
        puts.extend(
            current.slots.keys().filter(|k| !wanted_slots.contains(k)).map(|k| Write::DeleteSlot(*k)),
        );
        puts.extend(
            current
                .backends
                .keys()
                .filter(|k| !wanted_backends.contains(k))
                .map(|k| Write::DeleteBackend(*k)),
        );
        puts
    }
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
