//! What the dataplane says about itself.

use std::net::IpAddr;

use skep_abi::{DropReason, Traffic};

/// What [`crate::Dataplane::open`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Maps taken over with their contents.
    pub maps_adopted: usize,
    /// Maps made anew.
    pub maps_created: usize,
    /// Programs that stayed as they were.
    pub programs_adopted: usize,
    /// Programs loaded, or replaced by those of another object.
    pub programs_loaded: usize,
    /// Links that stayed, with whatever program.
    pub links_adopted: usize,
    /// Links made anew.
    pub links_created: usize,
    /// The layout of maps that was taken over from, if it was another one.
    pub former_layout: Option<u32>,
    /// Entries copied from maps that are not alike in both layouts.
    pub entries_carried: usize,
}

/// What [`crate::Dataplane::sync_services`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Front ends (address, port, protocol) in force afterwards.
    pub services: usize,
    /// Backends in force afterwards, counted once for each front end.
    pub backends: usize,
    /// Map writes and deletions it took; zero when the kernel already had this view.
    pub writes: usize,
    /// Front ends left out because two Services claim the same address, port and protocol.
    pub conflicts: Vec<String>,
}

/// A pod's interface to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAttachment {
    /// Index of the host's side of the pod's veth, in the agent's network namespace.
    pub ifindex: u32,
    /// The pod's addresses: one of a family at most.
    pub addresses: Vec<IpAddr>,
    /// The pod's UID.
    pub uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
}

/// A pod's interface that is, or was, attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedPod {
    /// What was asked for.
    pub pod: PodAttachment,
    /// Whether both programs are still on the interface; false once the interface is gone.
    pub attached: bool,
}

/// What one pod sent and received, by the kernel's count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodTraffic {
    /// Whose.
    pub pod: PodAttachment,
    /// How much.
    pub traffic: Traffic,
    /// Packets dropped on its interface, with the reason.
    pub drops: Vec<Drops>,
}

/// Packets dropped, or connections refused, for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drops {
    /// Why.
    pub reason: DropReason,
    /// Toward the pod (or the node), as opposed to from it.
    pub inbound: bool,
    /// Packets, or connections refused.
    pub packets: u64,
    /// Bytes of those packets.
    pub bytes: u64,
}

/// Everything counted on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// For each pod.
    pub pods: Vec<PodTraffic>,
    /// Drops outside any pod's interface: on the uplink (its index) or at the socket (index 0).
    pub node_drops: Vec<(u32, Drops)>,
}

/// One loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramStatus {
    /// Its name.
    pub name: String,
    /// The kernel's number for it.
    pub id: u32,
    /// The kernel's hash of its instructions.
    pub tag: u64,
    /// Instructions the verifier walked; `None` before Linux 5.16.
    pub verified_instructions: Option<u32>,
    /// Bytes of machine code.
    pub jited_bytes: u32,
    /// Bytes of BPF code after the kernel's rewriting.
    pub translated_bytes: u32,
    /// Where it is attached, readable: `cgroup connect4`, `veth0 ingress (tcx)`.
    pub attach_points: Vec<String>,
}

/// One map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapStatus {
    /// Its name.
    pub name: String,
    /// The kernel's number for it.
    pub id: u32,
    /// How many entries it holds.
    pub entries: u64,
    /// How many it can hold.
    pub max_entries: u32,
    /// Memory the kernel charges for it, in bytes.
    pub bytes: u64,
}

/// What is loaded for one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The node's name, as its pins' directory has it (dots as underscores).
    pub node: String,
    /// The layout of its maps.
    pub layout: u32,
    /// Programs by name.
    pub programs: Vec<ProgramStatus>,
    /// Maps by name.
    pub maps: Vec<MapStatus>,
    /// Attached pods.
    pub pods: Vec<AttachedPod>,
}

impl Status {
    /// Memory charged to all maps, in bytes.
    #[must_use]
    pub fn map_bytes(&self) -> u64 {
        self.maps.iter().map(|m| m.bytes).sum()
    }
}
