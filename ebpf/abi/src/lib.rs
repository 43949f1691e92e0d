//! What the eBPF programs and the node agent share: keys, values and constants of every map, and the
//! packet logic that is plain arithmetic.
//!
//! Everything here is `no_std`, depends on nothing and runs on the host as well as inside the kernel, so
//! that the deciding half of a program is tested by `cargo test` and the program itself only moves bytes.
//!
//! Rules that keep both sides agreeing:
//! - every type is `#[repr(C)]`, without implicit padding (padding is a named field and always zero);
//! - addresses and ports lie in **network byte order**, exactly as a packet or a socket address carries
//!   them; numbers lie in the machine's order;
//! - the shapes are those of [`LAYOUT`]; a change of any shape or of a map's size raises it, and pins of another layout lie in
//!   another directory. The agent takes over from older ones: what changed, and how, is noted in its table of layouts.
#![cfg_attr(not(test), no_std)]

pub mod addr;
pub mod config;
pub mod conntrack;
pub mod ipv6;
pub mod limits;
pub mod masquerade;
pub mod packet;
pub mod pod;
pub mod reject;
pub mod reject6;
pub mod service;
pub mod socket;

pub use addr::{Addr, Ipv4Net, Ipv6Net};
pub use config::{Config, Meta};
pub use conntrack::{CtEntry, CtKey, CtKind};
pub use pod::{DropCount, DropKey, DropReason, LocalEndpoint, PodRecord, Traffic};
pub use service::{Affinity, AffinityKey, Backend, NodeAddr, Range, Service, ServiceKey, SlotKey};
pub use socket::{Frontend, SocketKey, StickyBackend};

/// Version of the shapes in this crate; part of the path under which maps, programs and links are pinned.
pub const LAYOUT: u32 = 3;

/// IP protocol numbers (IANA "Assigned Internet Protocol Numbers") that the programs know.
pub mod proto {
    /// Internet Control Message Protocol for IPv4.
    pub const ICMP: u8 = 1;
    /// Transmission Control Protocol.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol.
    pub const UDP: u8 = 17;
    /// Internet Control Message Protocol for IPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// Stream Control Transmission Protocol.
    pub const SCTP: u8 = 132;

    /// Whether it is the ICMP of either family, whose echo has an identifier in place of both ports.
    #[inline(always)]
    pub const fn is_icmp(protocol: u8) -> bool {
        protocol == ICMP || protocol == ICMPV6
    }
}

/// Types whose bytes may be copied in and out of a map: `#[repr(C)]`, no padding, every bit pattern valid.
///
/// # Safety
/// The type must have no padding and no invalid bit pattern.
#[allow(unsafe_code)]
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($t:ty = $size:literal),+ $(,)?) => {$(
        // SAFETY: #[repr(C)] integers and arrays of integers; the size check below shows that no padding
        // crept in, since it is the sum of the fields.
        #[allow(unsafe_code)]
        unsafe impl Plain for $t {}
        const _: () = assert!(size_of::<$t>() == $size);
    )+};
}

plain! {
    u32 = 4,
    Addr = 16,
    Ipv4Net = 8,
    Ipv6Net = 32,
    ServiceKey = 20,
    Service = 32,
    SlotKey = 12,
    Backend = 28,
    AffinityKey = 20,
    Affinity = 8,
    NodeAddr = 8,
    Range = 20,
    SocketKey = 32,
    Frontend = 24,
    StickyBackend = 8,
    CtKey = 40,
    CtEntry = 40,
    LocalEndpoint = 16,
    PodRecord = 432,
    Traffic = 32,
    DropKey = 8,
    DropCount = 16,
    Config = 144,
    Meta = 48,
}
