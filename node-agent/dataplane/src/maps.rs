//! Typed handles on the pinned maps.

use std::collections::BTreeMap;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuHashMap, PerCpuValues};
use skep_abi::{
    Addr, Backend, Config, DropCount, DropKey, LocalEndpoint, Meta, NodeAddr, Plain, PodRecord, Range,
    Service, ServiceKey, SlotKey, Traffic,
};

use crate::error::{Error, Result};
use crate::pins::Pins;
use crate::tables::{Tables, Write};

/// Lets the loader library copy a shape of `skep-abi` in and out of a map.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Raw<T>(pub(crate) T);

// SAFETY: transparent over a type that is plain bytes without padding.
#[allow(unsafe_code)]
unsafe impl<T: Plain> aya::Pod for Raw<T> {}

/// Every map that user space reads or writes.
pub(crate) struct Maps {
    config: Array<MapData, Raw<Config>>,
    meta: Array<MapData, Raw<Meta>>,
    services: HashMap<MapData, Raw<ServiceKey>, Raw<Service>>,
    slots: HashMap<MapData, Raw<SlotKey>, u32>,
    backends: HashMap<MapData, u32, Raw<Backend>>,
    ranges: LpmTrie<MapData, Raw<Range>, u8>,
    node_addrs: HashMap<MapData, Raw<Addr>, Raw<NodeAddr>>,
    endpoints: HashMap<MapData, Raw<Addr>, Raw<LocalEndpoint>>,
    pods: HashMap<MapData, u32, Raw<PodRecord>>,
    counters: PerCpuHashMap<MapData, u32, Raw<Traffic>>,
    drops: PerCpuHashMap<MapData, Raw<DropKey>, Raw<DropCount>>,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Maps")
    }
}

pub(crate) fn of(name: &'static str) -> impl FnOnce(MapError) -> Error {
    move |source| Error::Map { name, source }
}

fn is_missing(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound | MapError::ElementNotFound => true,
        MapError::SyscallError(e) => e.io_error.raw_os_error() == Some(libc::ENOENT),
        _ => false,
    }
}

/// A read that finds nothing is no error.
pub(crate) fn found<T>(name: &'static str, result: std::result::Result<T, MapError>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if is_missing(&e) => Ok(None),
        Err(e) => Err(of(name)(e)),
    }
}

/// A removal of what is not there is no error; says whether it was.
pub(crate) fn gone(name: &'static str, result: std::result::Result<(), MapError>) -> Result<bool> {
    found(name, result).map(|r| r.is_some())
}

macro_rules! open {
    ($pins:expr, $name:literal, $kind:ident) => {
        MapData::from_pin($pins.map($name)).and_then(|data| Map::$kind(data).try_into()).map_err(of($name))?
    };
}

impl Maps {
    /// Opens the pins; the shapes of what is pinned are checked against those of this build.
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            config: open!(pins, "CONFIG", Array),
            meta: open!(pins, "META", Array),
            services: open!(pins, "SERVICES", HashMap),
            slots: open!(pins, "SLOTS", HashMap),
            backends: open!(pins, "BACKENDS", HashMap),
            ranges: open!(pins, "RANGES", LpmTrie),
            node_addrs: open!(pins, "NODE_ADDRS", HashMap),
            endpoints: open!(pins, "ENDPOINTS", HashMap),
            pods: open!(pins, "PODS", HashMap),
            counters: open!(pins, "COUNTERS", PerCpuHashMap),
            drops: open!(pins, "DROPS", PerCpuHashMap),
        })
    }

    pub(crate) fn meta(&self) -> Result<Meta> {
        Ok(self.meta.get(&0, 0).map_err(of("META"))?.0)
    }

    pub(crate) fn set_meta(&mut self, meta: Meta) -> Result<()> {
        self.meta.set(0, Raw(meta), 0).map_err(of("META"))
    }

    pub(crate) fn config(&self) -> Result<Config> {
        Ok(self.config.get(&0, 0).map_err(of("CONFIG"))?.0)
    }

    pub(crate) fn set_config(&mut self, config: Config) -> Result<()> {
        self.config.set(0, Raw(config), 0).map_err(of("CONFIG"))
    }

    /// Reads the Service tables.
    pub(crate) fn tables(&self) -> Result<Tables> {
        let mut tables = Tables::default();
        for entry in self.services.iter() {
            let (key, value) = entry.map_err(of("SERVICES"))?;
            tables.services.insert(key.0, value.0);
        }
        for entry in self.slots.iter() {
            let (key, value) = entry.map_err(of("SLOTS"))?;
            tables.slots.insert(key.0, value);
        }
        for entry in self.backends.iter() {
            let (key, value) = entry.map_err(of("BACKENDS"))?;
            tables.backends.insert(key, value.0);
        }
        for key in self.ranges.keys() {
            let key = key.map_err(of("RANGES"))?;
            tables.ranges.insert((key.data().0, key.prefix_len()));
        }
        Ok(tables)
    }

    /// Brings the node's own addresses to those given; says how many writes that took.
    pub(crate) fn sync_node_addrs(&mut self, wanted: &BTreeMap<Addr, NodeAddr>) -> Result<usize> {
        let mut known = BTreeMap::new();
        for entry in self.node_addrs.iter() {
            let (addr, value) = entry.map_err(of("NODE_ADDRS"))?;
            known.insert(addr.0, value.0);
        }
        let mut writes = 0;
        for (addr, value) in wanted.iter().filter(|(addr, value)| known.get(addr) != Some(value)) {
            self.node_addrs.insert(Raw(*addr), Raw(*value), 0).map_err(of("NODE_ADDRS"))?;
            writes += 1;
        }
        for addr in known.keys().filter(|addr| !wanted.contains_key(addr)) {
            gone("NODE_ADDRS", self.node_addrs.remove(&Raw(*addr)))?;
            writes += 1;
        }
        Ok(writes)
    }

    /// Does one write of a plan.
    pub(crate) fn apply(&mut self, write: &Write) -> Result<()> {
        match *write {
            Write::PutBackend(id, backend) => {
                self.backends.insert(id, Raw(backend), 0).map_err(of("BACKENDS"))
            }
            Write::PutSlot(key, id) => self.slots.insert(Raw(key), id, 0).map_err(of("SLOTS")),
            Write::PutRange(range, prefix) => {
                self.ranges.insert(&Key::new(prefix, Raw(range)), 1, 0).map_err(of("RANGES"))
            }
            Write::PutService(key, service) => {
                self.services.insert(Raw(key), Raw(service), 0).map_err(of("SERVICES"))
            }
            Write::DeleteService(key) => gone("SERVICES", self.services.remove(&Raw(key))).map(drop),
            Write::DeleteSlot(key) => gone("SLOTS", self.slots.remove(&Raw(key))).map(drop),
            Write::DeleteBackend(id) => gone("BACKENDS", self.backends.remove(&id)).map(drop),
            Write::DeleteRange(range, prefix) => {
                gone("RANGES", self.ranges.remove(&Key::new(prefix, Raw(range)))).map(drop)
            }
        }
    }

    pub(crate) fn endpoint(&self, addr: Addr) -> Result<Option<LocalEndpoint>> {
        Ok(found("ENDPOINTS", self.endpoints.get(&Raw(addr), 0))?.map(|e| e.0))
    }

    pub(crate) fn set_endpoint(&mut self, addr: Addr, endpoint: LocalEndpoint) -> Result<()> {
        self.endpoints.insert(Raw(addr), Raw(endpoint), 0).map_err(of("ENDPOINTS"))
    }

    pub(crate) fn remove_endpoint(&mut self, addr: Addr) -> Result<bool> {
        gone("ENDPOINTS", self.endpoints.remove(&Raw(addr)))
    }

    pub(crate) fn pod(&self, ifindex: u32) -> Result<Option<PodRecord>> {
        Ok(found("PODS", self.pods.get(&ifindex, 0))?.map(|r| r.0))
    }

    /// Every record, by interface.
    pub(crate) fn pods(&self) -> Result<Vec<(u32, PodRecord)>> {
        let mut pods = Vec::new();
        for entry in self.pods.iter() {
            let (ifindex, record) = entry.map_err(of("PODS"))?;
            pods.push((ifindex, record.0));
        }
        pods.sort_by_key(|(ifindex, _)| *ifindex);
        Ok(pods)
    }

    pub(crate) fn set_pod(&mut self, ifindex: u32, record: PodRecord) -> Result<()> {
        self.pods.insert(ifindex, Raw(record), 0).map_err(of("PODS"))
    }

    pub(crate) fn remove_pod(&mut self, ifindex: u32) -> Result<bool> {
        gone("PODS", self.pods.remove(&ifindex))
    }

    /// Begins counting at zero; an interface that is counted already goes on.
    pub(crate) fn start_counting(&mut self, ifindex: u32) -> Result<()> {
        if self.traffic(ifindex)?.is_some() {
            return Ok(());
        }
        self.reset_counting(ifindex)
    }

    /// Begins counting at zero, whatever was counted.
    pub(crate) fn reset_counting(&mut self, ifindex: u32) -> Result<()> {
        let cpus = aya::util::nr_cpus().map_err(|(path, source)| Error::File {
            action: "cannot read",
            path: path.into(),
            source,
        })?;
        let zero = PerCpuValues::try_from(vec![Raw(Traffic::default()); cpus]).map_err(|source| {
            Error::File { action: "cannot count the processors for", path: "COUNTERS".into(), source }
        })?;
        self.counters.insert(ifindex, zero, 0).map_err(of("COUNTERS"))
    }

    /// Ends counting, drops included.
    pub(crate) fn stop_counting(&mut self, ifindex: u32) -> Result<bool> {
        let mut keys = Vec::new();
        for key in self.drops.keys() {
            let key = key.map_err(of("DROPS"))?;
            if key.0.ifindex == ifindex {
                keys.push(key);
            }
        }
        for key in keys {
            gone("DROPS", self.drops.remove(&key))?;
        }
        gone("COUNTERS", self.counters.remove(&ifindex))
    }

    /// What an interface's pod sent and received, over all processors.
    pub(crate) fn traffic(&self, ifindex: u32) -> Result<Option<Traffic>> {
        let values = found("COUNTERS", self.counters.get(&ifindex, 0))?;
        Ok(values.map(|v| v.iter().fold(Traffic::default(), |sum, one| sum.plus(one.0))))
    }

    /// Every drop, over all processors.
    pub(crate) fn drops(&self) -> Result<Vec<(DropKey, DropCount)>> {
        let mut drops = Vec::new();
        for entry in self.drops.iter() {
            let (key, values) = entry.map_err(of("DROPS"))?;
            let sum = values.iter().fold(DropCount::default(), |sum, one| DropCount {
                packets: sum.packets.wrapping_add(one.0.packets),
                bytes: sum.bytes.wrapping_add(one.0.bytes),
            });
            drops.push((key.0, sum));
        }
        drops.sort_by_key(|(key, _)| *key);
        Ok(drops)
    }
}
