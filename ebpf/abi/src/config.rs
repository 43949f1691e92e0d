//! What the agent tells the programs, and what it notes for its own next start.

use crate::{Addr, Ipv4Net, Ipv6Net};

/// The only value of `CONFIG` (key 0). All zero, as the kernel makes it, means: touch nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Every IPv4 pod address of the cluster; such destinations are never masqueraded.
    pub cluster_cidr: Ipv4Net,
    /// Every IPv4 ClusterIP.
    pub service_cidr: Ipv4Net,
    /// The node's address that masqueraded IPv4 packets carry, network byte order; zero leaves IPv4 on the uplink alone.
    pub node_addr: u32,
    /// Index of the uplink interface.
    pub uplink_ifindex: u32,
    /// Bytes before the IP header on the uplink: 14 on Ethernet, 0 on a layer 3 tunnel.
    pub uplink_l2_len: u32,
    /// Lowest port or ICMP identifier given out by masquerading, machine order.
    pub masquerade_port_min: u16,
    /// Highest port given out, inclusive, machine order.
    pub masquerade_port_max: u16,
    /// Bits of [`flags`].
    pub flags: u32,
    /// Always zero.
    pub pad: u32,
    /// The cookie of the node's own network namespace (`SO_NETNS_COOKIE`); zero where the kernel tells none.
    pub netns_cookie: u64,
    /// Every IPv6 pod address of the cluster.
    pub cluster_cidr6: Ipv6Net,
    /// Every IPv6 ClusterIP.
    pub service_cidr6: Ipv6Net,
    /// The node's address that masqueraded IPv6 packets carry; all zero leaves IPv6 on the uplink alone.
    pub node_addr6: Addr,
    /// Always zero.
    pub reserved: [u32; 4],
}

/// Bits of [`Config::flags`].
pub mod flags {
    /// Packets from pod to pod on this node go straight to the peer (`bpf_redirect_peer`) instead of through
    /// the host's stack.
    pub const REDIRECT_PEER: u32 = 1;
    /// Packets that missed the socket hook are translated at tc.
    pub const PER_PACKET_SERVICES: u32 = 2;
    /// Interfaces carry clsact filters instead of pinned links. No program reads it.
    pub const CLSACT: u32 = 4;
}

/// The only value of `META` (key 0): what is loaded, so that an agent that starts anew knows whether the
/// pinned programs are those of its own object. No program reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// [`crate::LAYOUT`] of the object.
    pub layout: u32,
    /// How far the agent came that wrote it: one of [`stage`].
    pub complete: u32,
    /// SHA-256 of the object file.
    pub object: [u8; 32],
    /// Seconds since the epoch when it was loaded.
    pub loaded_at: u64,
}

/// Values of [`Meta::complete`].
pub mod stage {
    /// No program of this layout is attached yet, or, where there was no older layout, not all of them are.
    pub const FILLING: u32 = 0;
    /// Every program and link of the object is in place.
    pub const COMPLETE: u32 = 1;
    /// Links of an older layout are being given programs of this one.
    pub const MOVING: u32 = 2;
    /// Programs of this layout are in force, and are being replaced by those of another object.
    pub const RELOADING: u32 = 3;
}
