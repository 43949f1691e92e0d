//! How many entries each map holds.
//!
//! Hash maps take memory for an entry when it is written (`BPF_F_NO_PREALLOC`) and 16 bytes a bucket
//! beforehand; the LRU ones take everything beforehand, so they are the ones kept small.

/// `SERVICES`: front ends (address, port, protocol).
pub const SERVICES: u32 = 16_384;
/// `SLOTS`: members of backend sets.
pub const SLOTS: u32 = 65_536;
/// `BACKENDS`.
pub const BACKENDS: u32 = 65_536;
/// `UDP_REVERSE`: (socket, backend) pairs.
pub const UDP_REVERSE: u32 = 16_384;
/// `UDP_STICKY`: (socket, Service) pairs of unconnected sockets.
pub const UDP_STICKY: u32 = 8_192;
/// `TCP_PEERS`: connections whose `getpeername` shows the Service.
pub const TCP_PEERS: u32 = 8_192;
/// `CONNTRACK`: two entries a connection.
pub const CONNTRACK: u32 = 32_768;
/// `ENDPOINTS`: addresses of pods on this node.
pub const ENDPOINTS: u32 = 4_096;
/// `PODS` and `COUNTERS`: pod interfaces on this node.
pub const PODS: u32 = 2_048;
/// `DROPS`: (interface, reason, direction).
pub const DROPS: u32 = 4_096;
