//! Every map of the dataplane. Shapes come from `skep-abi`, sizes from its `limits`; the loader pins them.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap};
use skep_abi::{
    Addr, Affinity, AffinityKey, Backend, Config, CtEntry, CtKey, DropCount, DropKey, Frontend,
    LocalEndpoint, Meta, NodeAddr, PodRecord, Range, Service, ServiceKey, SlotKey, SocketKey, StickyBackend,
    Traffic, limits,
};

use skep_abi::reject6::Answer;

use crate::skb::Packet;

/// Whether `bpf_set_retval` may be called from address hooks (Linux 6.1); the loader probes and sets it. The
/// verifier removes the branch that is not taken, so the helper need not exist.
#[unsafe(no_mangle)]
static HAS_SET_RETVAL: Global<u32> = Global::new(0);

/// See [`HAS_SET_RETVAL`].
#[inline(always)]
pub(crate) fn has_set_retval() -> bool {
    HAS_SET_RETVAL.load() != 0
}

#[map]
pub(crate) static CONFIG: Array<Config> = Array::with_max_entries(1, 0);

#[map]
pub(crate) static META: Array<Meta> = Array::with_max_entries(1, 0);

#[map]
pub(crate) static SERVICES: HashMap<ServiceKey, Service> =
    HashMap::with_max_entries(limits::SERVICES, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static SLOTS: HashMap<SlotKey, u32> = HashMap::with_max_entries(limits::SLOTS, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static BACKENDS: HashMap<u32, Backend> =
    HashMap::with_max_entries(limits::BACKENDS, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static NODE_ADDRS: HashMap<Addr, NodeAddr> =
    HashMap::with_max_entries(limits::NODE_ADDRS, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static RANGES: LpmTrie<Range, u8> = LpmTrie::with_max_entries(limits::RANGES, 0);

#[map]
pub(crate) static AFFINITY: LruHashMap<AffinityKey, Affinity> =
    LruHashMap::with_max_entries(limits::AFFINITY, 0);

#[map]
pub(crate) static UDP_REVERSE: LruHashMap<SocketKey, Frontend> =
    LruHashMap::with_max_entries(limits::UDP_REVERSE, 0);

#[map]
pub(crate) static UDP_STICKY: LruHashMap<SocketKey, StickyBackend> =
    LruHashMap::with_max_entries(limits::UDP_STICKY, 0);

#[map]
pub(crate) static TCP_PEERS: LruHashMap<SocketKey, Frontend> =
    LruHashMap::with_max_entries(limits::TCP_PEERS, 0);

#[map]
pub(crate) static CONNTRACK: HashMap<CtKey, CtEntry> =
    HashMap::with_max_entries(limits::CONNTRACK, BPF_F_NO_PREALLOC);

/// Apart from connections, since whoever sends many fragments would fill their table; a fragment whose datagram was
/// forgotten is lost, as any packet may be.
#[map]
pub(crate) static FRAGMENTS: LruHashMap<CtKey, CtEntry> = LruHashMap::with_max_entries(limits::FRAGMENTS, 0);

#[map]
pub(crate) static ENDPOINTS: HashMap<Addr, LocalEndpoint> =
    HashMap::with_max_entries(limits::ENDPOINTS, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static PODS: HashMap<u32, PodRecord> = HashMap::with_max_entries(limits::PODS, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static COUNTERS: PerCpuHashMap<u32, Traffic> =
    PerCpuHashMap::with_max_entries(limits::PODS, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static DROPS: PerCpuHashMap<DropKey, DropCount> =
    PerCpuHashMap::with_max_entries(limits::DROPS, BPF_F_NO_PREALLOC);

/// What a program reads of the packet it runs on, and of one that this quotes. It means nothing between two packets and is
/// not pinned.
#[map]
pub(crate) static SCRATCH: PerCpuArray<Packet> = PerCpuArray::with_max_entries(2, 0);

/// Where a refusal over IPv6 is made, as [`SCRATCH`].
#[map]
pub(crate) static ANSWER: PerCpuArray<Answer> = PerCpuArray::with_max_entries(1, 0);

/// The configuration in force.
#[inline(always)]
pub(crate) fn config() -> Option<&'static Config> {
    CONFIG.get(0)
}
