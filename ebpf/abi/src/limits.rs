//! How many entries each map holds.
//!
//! Hash maps take memory for an entry when it is written (`BPF_F_NO_PREALLOC`) and 16 bytes a bucket
//! beforehand, and refuse what has no room; the LRU ones take everything beforehand, so they are the ones kept small, and
//! give up what was used longest ago.

/// `SERVICES`: front ends (address, port, protocol); 30,000 Services of two each, and half as many again.
pub const SERVICES: u32 = 98_304;
/// `SLOTS`: members of backend sets; while a set changes it lies here twice.
pub const SLOTS: u32 = 262_144;
/// `BACKENDS`.
pub const BACKENDS: u32 = 262_144;
/// `AFFINITY`: (Service port, client) pairs.
pub const AFFINITY: u32 = 16_384;
/// `RANGES`: networks that may reach restricted front ends.
pub const RANGES: u32 = 16_384;
/// `NODE_ADDRS`: the node's own addresses.
pub const NODE_ADDRS: u32 = 1_024;
/// `UDP_REVERSE`: (socket, backend) pairs.
pub const UDP_REVERSE: u32 = 16_384;
/// `UDP_STICKY`: (socket, Service) pairs of unconnected sockets.
pub const UDP_STICKY: u32 = 8_192;
/// `TCP_PEERS`: connections whose `getpeername` shows the Service.
pub const TCP_PEERS: u32 = 8_192;
/// `CONNTRACK`: two entries a connection; 2 MiB empty, about 26 MiB full.
pub const CONNTRACK: u32 = 131_072;
/// `FRAGMENTS`: datagrams whose later fragments may be on their way, once or twice each.
pub const FRAGMENTS: u32 = 4_096;
/// `ENDPOINTS`: addresses of pods on this node.
pub const ENDPOINTS: u32 = 4_096;
/// `PODS` and `COUNTERS`: pod interfaces on this node.
pub const PODS: u32 = 2_048;
/// `DROPS`: (interface, reason, direction).
pub const DROPS: u32 = 4_096;
