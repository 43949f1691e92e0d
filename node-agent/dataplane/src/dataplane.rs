//! The handle an agent holds.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::Flock;
use parking_lot::Mutex;

use crate::config::Config;
use crate::connections::{self, Connections, Swept};
use crate::error::Result;
use crate::farewell::{Farewell, Farewells};
use crate::maps::Maps;
use crate::model::ServiceView;
use crate::orphans::{Alive, has_lost};
use crate::pins::{Pins, node_dir};
use crate::report::{AttachedPod, Counters, OpenReport, PodAttachment, Status, SyncReport};
use crate::rows::{Set, sets};
use crate::tables::{Allocator, Tables, Write, plan, reclaim};
use crate::{load, net, pods, status};

/// The eBPF dataplane of one node. Dropping it detaches nothing: traffic goes on.
#[derive(Debug)]
pub struct Dataplane {
    config: Config,
    opened: OpenReport,
    pins: Pins,
    inner: Mutex<Inner>,
    connections: Mutex<Connections>,
    farewells: Mutex<Farewells>,
    /// Released by the kernel when this process ends, however it ends.
    _locks: Vec<Flock<File>>,
}

#[derive(Debug)]
struct Inner {
    maps: Maps,
    /// What the Service tables hold. Read from the maps once; this process is their only writer.
    tables: Tables,
    ids: Allocator,
    /// The endpoints that keep their sockets, as of the last view; none before the first one.
    alive: Option<Arc<Alive>>,
}

impl Dataplane {
    /// Loads the programs, or adopts the pinned ones, and attaches them to the cgroup and the uplink.
    ///
    /// # Errors
    /// Without bpffs, a readable object, or the capabilities for `bpf(2)`; when the kernel refuses a program;
    /// when another process holds this node's pins. Whatever was in force before stays in force.
    pub fn open(config: Config) -> Result<Self> {
        let pins = Pins::of(&config.bpffs, &config.cluster, &config.node)?;
        let locks = pins.prepare(&config.bpffs)?;
        let (maps, opened) = load::open(&pins, &config)?;
        let tables = maps.tables()?;
        let ids = Allocator::recover(&tables);
        tracing::info!(?opened, services = tables.services.len(), "dataplane open");
        let inner = Mutex::new(Inner { maps, tables, ids, alive: None });
        let connections = Mutex::new(Connections::new());
        Ok(Self { config, opened, pins, inner, connections, farewells: Mutex::default(), _locks: locks })
    }

    /// What [`Dataplane::open`] found and did.
    #[must_use]
    pub fn opened(&self) -> &OpenReport {
        &self.opened
    }

    /// The set-up it was opened with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Brings the Service tables to `view` by difference. Call it only with a complete view, see
    /// [`ServiceView`]. No client sees a Service between two states.
    ///
    /// # Errors
    /// When a map is full or cannot be written; front ends not yet switched keep their former backends.
    pub fn sync_services(&self, view: &ServiceView) -> Result<SyncReport> {
        let (sets, conflicts) = sets(view);
        let inner = &mut *self.inner.lock();
        let mut writes = 0;
        let planned = plan(&inner.tables, &sets, &mut inner.ids);
        if let Err(error) = inner.write_all(&planned, &mut writes) {
            // A map may be full of what is to go: make room, and try once more.
            tracing::warn!(%error, "the Service tables took not all; what nobody names is removed first");
            inner.write_all(&reclaim(&inner.tables, &sets), &mut writes)?;
            let planned = plan(&inner.tables, &sets, &mut inner.ids);
            inner.write_all(&planned, &mut writes)?;
        }
        let alive = inner.alive(sets);
        let lost = inner.alive.as_ref().is_none_or(|known| has_lost(known, &alive));
        inner.alive = Some(Arc::new(alive));
        if lost {
            self.farewells.lock().lost_some();
        }
        Ok(SyncReport {
            services: inner.tables.services.len(),
            backends: inner.tables.backends.len(),
            writes,
            conflicts,
        })
    }

    /// Tells the programs which addresses are the node's own, as its interfaces have them now; says how many writes that
    /// took.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub fn sync_addresses(&self) -> Result<usize> {
        let wanted = net::node_addresses()?;
        self.inner.lock().maps.sync_node_addrs(&wanted)
    }

    /// Takes connections out of their table whose time is over, both halves together, a bounded piece of the table at each
    /// call; says when to call again. Without this the table fills, and refuses what is new.
    ///
    /// # Errors
    /// When the table cannot be read or written.
    pub fn sweep_connections(&self) -> Result<Swept> {
        self.connections.lock().sweep(&self.pins, connections::now()?)
    }

    /// Tells sockets that are connected through a Service to an endpoint that the last view has no more: they are ended, and
    /// their owners see `ECONNABORTED`. Call it after [`Dataplane::sync_services`], and again as it says; where nothing was
    /// lost it does nothing.
    ///
    /// # Errors
    /// When sockets cannot be listed or ended; then it is tried again at the next call.
    pub fn tell_orphans(&self) -> Result<Farewell> {
        let Some(alive) = self.inner.lock().alive.clone() else { return Ok(Farewell::default()) };
        self.farewells.lock().look(&self.pins, &self.config.cgroup_root, &alive)
    }

    /// Whether the kernel can end sockets, as far as it was asked by [`Dataplane::tell_orphans`].
    #[must_use]
    pub fn ends_sockets(&self) -> Option<bool> {
        self.farewells.lock().supported()
    }

    /// Attaches the programs to a pod's interface and makes its addresses reachable; true if it was attached
    /// already (then nothing but a changed record is written). Call it after the veth exists and before the
    /// pod starts.
    ///
    /// # Errors
    /// When the interface does not exist or the kernel refuses the attachment; then nothing stays behind.
    pub fn attach_pod(&self, pod: &PodAttachment) -> Result<bool> {
        pods::attach(&self.pins, &self.config, &mut self.inner.lock().maps, pod)
    }

    /// Takes the programs off a pod's interface and forgets its addresses and counters; false if nothing was
    /// known of it. It may be called after the interface is gone, and twice.
    ///
    /// # Errors
    /// When a map or pin cannot be changed.
    pub fn detach_pod(&self, ifindex: u32) -> Result<bool> {
        pods::detach(&self.pins, &mut self.inner.lock().maps, ifindex)
    }

    /// Every pod interface that was attached and not detached, by this agent or an earlier one.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn list_attached(&self) -> Result<Vec<AttachedPod>> {
        pods::list(&self.pins, &self.inner.lock().maps)
    }

    /// What is loaded, where it is attached, how full the maps are. Walks every map: for people, not for loops.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub fn status(&self) -> Result<Status> {
        status::read(&self.pins, &self.config.node)
    }

    /// What each pod sent, received and lost.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        pods::counters(&self.inner.lock().maps)
    }

    /// Memory the kernel charges for the maps, in bytes.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn kernel_map_bytes(&self) -> Result<u64> {
        status::map_bytes(&self.pins)
    }
}

impl Inner {
    /// The endpoints of each set that keep their sockets, by the number that the set has in the tables.
    fn alive(&self, sets: Vec<Set>) -> Alive {
        let id = |set: &Set| set.keys().find_map(|key| self.tables.services.get(&key)).map(|s| s.id);
        sets.into_iter().filter_map(|set| Some((id(&set)?, set.kept))).collect()
    }

    /// Does the writes in their order, and counts those done.
    fn write_all(&mut self, writes: &[Write], done: &mut usize) -> Result<()> {
        for write in writes {
            self.maps.apply(write)?;
            self.tables.apply(write);
            *done += 1;
        }
        Ok(())
    }
}

/// What is loaded for a node, read from its pins alone: works without an agent.
///
/// # Errors
/// When pins exist but cannot be read. A node without pins has an empty status.
pub fn status_from_pins(bpffs: &Path, cluster: &str, node: &str) -> Result<Status> {
    status::read(&Pins::of(bpffs, cluster, node)?, node)
}

/// What each pod of a node sent, received and lost, read from its pins alone: works without an agent.
///
/// # Errors
/// When there are no pins, or they cannot be read.
pub fn counters_from_pins(bpffs: &Path, cluster: &str, node: &str) -> Result<Counters> {
    pods::counters(&Maps::open(&Pins::of(bpffs, cluster, node)?)?)
}

/// Detaches and removes everything of a node, of whatever layout: links, programs, maps, directories. The
/// calling process must be in the node's network namespace. True if there was anything.
///
/// # Errors
/// When something could not be removed; the rest was.
pub fn remove_all(bpffs: &Path, cluster: &str, node: &str) -> Result<bool> {
    let dir = node_dir(bpffs, cluster, node)?;
    if !dir.exists() {
        return Ok(false);
    }
    load::remove_filters(&Pins::of(bpffs, cluster, node)?);
    let mut failures = Vec::new();
    load::remove_tree(&dir, &mut failures);
    // The directories above belong to all nodes: they go when the last one does.
    for above in dir.ancestors().skip(1).take(2) {
        let _ = std::fs::remove_dir(above);
    }
    match failures.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(true),
    }
}
