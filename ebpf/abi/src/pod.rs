//! Pods on this node: where they are reached, what they sent and received, what was dropped.

use crate::Addr;

/// Value of `ENDPOINTS`, whose key is a pod's address: where packets for it go on this node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalEndpoint {
    /// Index of the host's side of the pod's veth.
    pub ifindex: u32,
    /// Bits of [`endpoint_flags`].
    pub flags: u32,
    /// Always zero.
    pub reserved: [u32; 2],
}

/// Bits of [`LocalEndpoint::flags`].
pub mod endpoint_flags {
    /// The pod has, or had, connections translated packet by packet: answers to it are looked up in
    /// `CONNTRACK`. Set by the program that opens the first one.
    pub const TRACKED: u32 = 1;
}

/// Bytes of a pod's UID in [`PodRecord`].
pub const UID_LEN: usize = 64;
/// Bytes of a namespace in [`PodRecord`] (a DNS label: at most 63).
pub const NAMESPACE_LEN: usize = 64;
/// Bytes of a pod's name in [`PodRecord`] (a DNS subdomain: at most 253).
pub const NAME_LEN: usize = 256;

/// Value of `PODS`, whose key is the index of the host's side of a pod's veth: whose interface that is. No
/// program reads it; it lets an agent that starts anew, and the tools, name what is attached.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodRecord {
    /// The pod's addresses; an absent one is all zero.
    pub addrs: [Addr; 2],
    /// Seconds since the epoch when the interface was attached.
    pub attached_at: u64,
    /// Always zero.
    pub reserved: u64,
    /// The UID, zero-terminated when shorter.
    pub uid: [u8; UID_LEN],
    /// The namespace, zero-terminated when shorter.
    pub namespace: [u8; NAMESPACE_LEN],
    /// The name, zero-terminated when shorter.
    pub name: [u8; NAME_LEN],
}

/// Value of `COUNTERS`, per processor, whose key is the index of the host's side of a pod's veth.
///
/// A packet is what the kernel hands over in one piece (as the interface's own counters have it), a byte is
/// one of its frame, Ethernet header included.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets to the pod.
    pub rx_packets: u64,
    /// Bytes to the pod.
    pub rx_bytes: u64,
    /// Packets from the pod.
    pub tx_packets: u64,
    /// Bytes from the pod.
    pub tx_bytes: u64,
}

impl Traffic {
    /// The sum of two readings.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            rx_packets: self.rx_packets.wrapping_add(other.rx_packets),
            rx_bytes: self.rx_bytes.wrapping_add(other.rx_bytes),
            tx_packets: self.tx_packets.wrapping_add(other.tx_packets),
            tx_bytes: self.tx_bytes.wrapping_add(other.tx_bytes),
        }
    }
}

/// Why a program dropped a packet or refused a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// The Service has no ready endpoint.
    NoBackend = 1,
    /// No free port for masquerading to this destination.
    NoPort = 2,
    /// A header is shorter than it says, or the packet could not be rewritten.
    Malformed = 3,
    /// The connection table is full, and no living connection gives way to a new one.
    TableFull = 4,
    /// A policy allows backends on this node alone, and there is none.
    NoLocalBackend = 5,
    /// The client is in none of the Service's source ranges.
    SourceRange = 6,
    /// A living connection has the same addresses and ports behind another front end.
    TupleInUse = 7,
}

impl DropReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::NoBackend,
        Self::NoPort,
        Self::Malformed,
        Self::TableFull,
        Self::NoLocalBackend,
        Self::SourceRange,
        Self::TupleInUse,
    ];

    /// The reason of a number in a [`DropKey`].
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::NoBackend),
            2 => Some(Self::NoPort),
            3 => Some(Self::Malformed),
            4 => Some(Self::TableFull),
            5 => Some(Self::NoLocalBackend),
            6 => Some(Self::SourceRange),
            7 => Some(Self::TupleInUse),
            _ => None,
        }
    }

    /// The name shown in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoBackend => "no_backend",
            Self::NoPort => "no_masquerade_port",
            Self::Malformed => "malformed",
            Self::TableFull => "table_full",
            Self::NoLocalBackend => "no_local_backend",
            Self::SourceRange => "source_range",
            Self::TupleInUse => "tuple_in_use",
        }
    }
}

/// Direction bit of [`DropKey`]: to the pod, or into the node.
pub const DIR_RX: u8 = 0;
/// Direction bit of [`DropKey`]: from the pod, or out of the node.
pub const DIR_TX: u8 = 1;

/// Key of `DROPS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DropKey {
    /// Interface the program ran on; zero for a socket hook.
    pub ifindex: u32,
    /// A [`DropReason`].
    pub reason: u8,
    /// [`DIR_RX`] or [`DIR_TX`].
    pub direction: u8,
    /// Always zero.
    pub pad: u16,
}

/// Value of `DROPS`, per processor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCount {
    /// Packets, or connections refused.
    pub packets: u64,
    /// Bytes of those packets.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_keep_their_numbers() {
        for reason in DropReason::ALL {
            assert_eq!(DropReason::from_number(reason as u8), Some(reason));
        }
        assert_eq!(DropReason::from_number(0), None);
    }
}
