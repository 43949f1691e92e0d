//! The index that questions are answered from, changed object by object.

use super::objects::{Endpoint, Service, Slice};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// A Service's namespace and name.
pub type Key = (Box<str>, Box<str>);

/// Everything that names lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    spaces: HashMap<Box<str>, Space>,
    clusters: HashMap<IpAddr, Key>,
    /// The Services that have an endpoint at an address, one entry an endpoint.
    endpoints: HashMap<IpAddr, Vec<Key>>,
    serial: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Space {
    exists: bool,
    entries: HashMap<Box<str>, Entry>,
    /// The Service that a slice, by its name, was last seen to belong to.
    owners: HashMap<Box<str>, Box<str>>,
}

/// A Service with its slices, either of which may be known without the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    service: Option<Service>,
    slices: BTreeMap<Box<str>, Slice>,
}

impl Entry {
    /// The Service, where it is known.
    pub fn service(&self) -> Option<&Service> {
        self.service.as_ref()
    }

    /// Its slices, by their names.
    pub fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.slices.values()
    }

    /// The endpoints that count: those that are ready, or all where the Service says so.
    pub fn counted<'a>(&self, slice: &'a Slice) -> impl Iterator<Item = &'a Endpoint> {
        let all = self.service.as_ref().is_some_and(Service::unready);
        slice.endpoints.iter().filter(move |endpoint| all || endpoint.ready)
    }
}

/// A [`Zone`] as it lies on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    format: u32,
    serial: u32,
    namespaces: Vec<Box<str>>,
    services: Vec<(Box<str>, Box<str>, Service)>,
    slices: Vec<(Box<str>, Box<str>, Slice)>,
}

/// The format of [`Snapshot`].
const FORMAT: u32 = 1;

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is no JSON of the expected shape.
    #[error("not a snapshot of names: {0}")]
    Json(#[from] serde_json::Error),
    /// It was written by another version.
    #[error("a snapshot of format {0}, where {FORMAT} is understood")]
    Format(u32),
}

impl Zone {
    /// The serial number of the zone: when it last changed, in seconds of Unix time.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Notes when the zone changed.
    pub fn set_serial(&mut self, seconds: u32) {
        self.serial = seconds;
    }

    /// Whether a namespace exists.
    pub fn has_namespace(&self, name: &str) -> bool {
        self.spaces.get(name).is_some_and(|space| space.exists)
    }

    /// A Service with its slices. Those of a namespace that does not exist are not found.
    pub fn entry(&self, namespace: &str, name: &str) -> Option<&Entry> {
        self.spaces.get(namespace).filter(|space| space.exists)?.entries.get(name)
    }

    /// The Service that has a virtual address.
    pub fn by_cluster_address(&self, address: IpAddr) -> Option<&Key> {
        self.clusters.get(&address)
    }

    /// The names of the endpoints at an address that count, each with its Service.
    pub fn by_endpoint(&self, address: IpAddr) -> Vec<(&str, &Key)> {
        let mut out: Vec<(&str, &Key)> = Vec::new();
        for key in self.endpoints.get(&address).into_iter().flatten() {
            let Some(entry) = self.entry(&key.0, &key.1) else { continue };
            for slice in entry.slices() {
                for endpoint in entry.counted(slice).filter(|e| e.address == address) {
                    let found = (&*endpoint.hostname, key);
                    if !out.contains(&found) {
                        out.push(found);
                    }
                }
            }
        }
        out
    }

    /// Notes that a namespace exists, or does not any more.
    pub fn set_namespace(&mut self, name: &str, exists: bool) {
        self.spaces.entry(name.into()).or_default().exists = exists;
        self.tidy(name);
    }

    /// Puts a Service in place of the one that was there; none takes it away.
    pub fn set_service(&mut self, namespace: &str, name: &str, service: Option<Service>) {
        let space = self.spaces.entry(namespace.into()).or_default();
        let entry = space.entries.entry(name.into()).or_default();
        let old = std::mem::replace(&mut entry.service, service);
        let key: Key = (namespace.into(), name.into());
        if let Some(Service::Cluster { addresses, .. }) = &old {
            for address in addresses {
                // It may have gone to another Service meanwhile.
                if self.clusters.get(address) == Some(&key) {
                    self.clusters.remove(address);
                }
            }
        }
        if let Some(Service::Cluster { addresses, .. }) = &entry.service {
            self.clusters.extend(addresses.iter().map(|address| (*address, key.clone())));
        }
        self.tidy_entry(namespace, name);
    }

    /// Puts a slice in place of the one of that name; none takes it away.
    pub fn set_slice(&mut self, namespace: &str, name: &str, slice: Option<Slice>) {
        let space = self.spaces.entry(namespace.into()).or_default();
        if let Some(owner) = space.owners.remove(name) {
            let old = space.entries.get_mut(&owner).and_then(|entry| entry.slices.remove(name));
            let key: Key = (namespace.into(), owner);
            for endpoint in old.iter().flat_map(|slice| slice.endpoints.iter()) {
                if let Some(keys) = self.endpoints.get_mut(&endpoint.address) {
                    if let Some(at) = keys.iter().position(|one| *one == key) {
                        keys.swap_remove(at);
                    }
                    if keys.is_empty() {
                        self.endpoints.remove(&endpoint.address);
                    }
                }
            }
            self.tidy_entry(namespace, &key.1);
        }
        if let Some(slice) = slice {
            let space = self.spaces.entry(namespace.into()).or_default();
            let key: Key = (namespace.into(), slice.service.clone());
            space.owners.insert(name.into(), slice.service.clone());
            for endpoint in &slice.endpoints {
                self.endpoints.entry(endpoint.address).or_default().push(key.clone());
            }
            space.entries.entry(slice.service.clone()).or_default().slices.insert(name.into(), slice);
        }
        self.tidy(namespace);
    }

    fn tidy_entry(&mut self, namespace: &str, name: &str) {
        if let Some(space) = self.spaces.get_mut(namespace)
            && space.entries.get(name).is_some_and(|e| e.service.is_none() && e.slices.is_empty())
        {
            space.entries.remove(name);
        }
        self.tidy(namespace);
    }

    fn tidy(&mut self, namespace: &str) {
        let empty = |space: &Space| !space.exists && space.entries.is_empty() && space.owners.is_empty();
        if self.spaces.get(namespace).is_some_and(empty) {
            self.spaces.remove(namespace);
        }
    }

    /// What is written to disk, in an order that depends on nothing but the content.
    pub fn snapshot(&self) -> Snapshot {
        let mut out = Snapshot { format: FORMAT, serial: self.serial, ..Snapshot::default() };
        for (namespace, space) in &self.spaces {
            if space.exists {
                out.namespaces.push(namespace.clone());
            }
            for (name, entry) in &space.entries {
                if let Some(service) = &entry.service {
                    out.services.push((namespace.clone(), name.clone(), service.clone()));
                }
                for (slice, content) in &entry.slices {
                    out.slices.push((namespace.clone(), slice.clone(), content.clone()));
                }
            }
        }
        out.namespaces.sort_unstable();
        out.services.sort_unstable_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        out.slices.sort_unstable_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        out
    }
}

impl Snapshot {
    /// Reads what was written to disk.
    ///
    /// # Errors
    /// It is no snapshot, or one of another format.
    pub fn parse(json: &[u8]) -> Result<Self, SnapshotError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let Head { format } = serde_json::from_slice(json)?;
        if format != FORMAT {
            return Err(SnapshotError::Format(format));
        }
        Ok(serde_json::from_slice(json)?)
    }

    /// The zone that was written.
    pub fn into_zone(self) -> Zone {
        let mut zone = Zone { serial: self.serial, ..Zone::default() };
        for name in self.namespaces {
            zone.set_namespace(&name, true);
        }
        for (namespace, name, service) in self.services {
            zone.set_service(&namespace, &name, Some(service));
        }
        for (namespace, name, slice) in self.slices {
            zone.set_slice(&namespace, &name, Some(slice));
        }
        zone
    }
}
