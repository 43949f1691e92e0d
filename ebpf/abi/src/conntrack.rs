//! The one connection table, for masquerading and for Services translated packet by packet.
//!
//! No living connection gives way to a new one: a full table refuses. The agent takes out what has expired, both halves of a
//! connection together; without an agent the table can only fill, and what has expired is reused where a new connection has
//! the same key.

use crate::{Addr, proto};

/// Which rewriting an entry of `CONNTRACK`, or of `FRAGMENTS`, stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CtKind {
    /// Client to Service: the destination becomes [`CtEntry::addr`], the backend.
    Service = 1,
    /// Backend to client: the source becomes [`CtEntry::addr`], the Service.
    ServiceReply = 2,
    /// Pod to the outside: the source becomes [`CtEntry::addr`], the node.
    Masquerade = 3,
    /// The outside to the node: the destination becomes [`CtEntry::addr`], the pod.
    MasqueradeReply = 4,
    /// A connection that the outside opened to a pod's own address: its packets leave unchanged.
    Direct = 5,
    /// In `FRAGMENTS`: later fragments of a packet whose first fragment was translated: their destination becomes
    /// [`CtEntry::addr`]. The ports are the two halves of the identification (the second is zero for IPv4).
    Fragment = 6,
    /// The same for their source; all zero leaves it alone.
    FragmentSource = 7,
}

/// Key of `CONNTRACK`: the packet as it is before rewriting.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtKey {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port, or the ICMP identifier; network byte order.
    pub sport: u16,
    /// Destination port, or the ICMP identifier; network byte order.
    pub dport: u16,
    /// IP protocol.
    pub proto: u8,
    /// A [`CtKind`].
    pub kind: u8,
    /// Always zero.
    pub pad: u16,
}

impl CtKey {
    /// The key of a packet for one kind of rewriting.
    #[inline(always)]
    pub const fn new(kind: CtKind, src: Addr, dst: Addr, sport: u16, dport: u16, proto: u8) -> Self {
        Self { src, dst, sport, dport, proto, kind: kind as u8, pad: 0 }
    }
}

/// Value of `CONNTRACK`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtEntry {
    /// The address to write; which one, says the [`CtKind`].
    pub addr: Addr,
    /// The port, or ICMP identifier, to write; network byte order.
    pub port: u16,
    /// Bits of [`state`].
    pub state: u16,
    /// Seconds of `CLOCK_MONOTONIC` when a packet last used the entry.
    pub last_seen: u32,
    /// Backend number, for [`CtKind::Service`].
    pub backend: u32,
    /// [`crate::Service::id`], for the Service kinds.
    pub service: u32,
    /// Always zero.
    pub reserved: [u32; 2],
}

/// Bits of [`CtEntry::state`].
pub mod state {
    /// A FIN was seen in this direction.
    pub const FIN: u16 = 1;
    /// A RST was seen in this direction.
    pub const RST: u16 = 2;
    /// Packets were seen in the other direction too.
    pub const REPLIED: u16 = 4;
}

/// Bits of the TCP flags byte (RFC 9293, 3.1).
pub mod tcp_flags {
    /// No more data from sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
}

/// Seconds after which an entry without packets may be given to another connection. The values are those of
/// `nf_conntrack` (kernel documentation, `networking/nf_conntrack-sysctl.rst`), but for established TCP,
/// where two hours and four minutes are what RFC 5382 (REQ-5) asks of a translator.
#[inline(always)]
pub const fn idle_timeout(protocol: u8, state: u16) -> u32 {
    match protocol {
        proto::TCP if state & state::RST != 0 => 10,
        proto::TCP if state & state::FIN != 0 => 120,
        proto::TCP if state & state::REPLIED != 0 => 7440,
        proto::TCP => 120,
        proto::UDP if state & state::REPLIED != 0 => 120,
        _ => 30,
    }
}

impl CtEntry {
    /// Whether the entry has been idle for so long at `now` (seconds) that another connection may take it.
    #[inline(always)]
    pub const fn expired(&self, protocol: u8, now: u32) -> bool {
        now.wrapping_sub(self.last_seen) > idle_timeout(protocol, self.state) && now > self.last_seen
    }

    /// The state bits after a packet with these TCP flags.
    #[inline(always)]
    pub const fn next_state(old: u16, protocol: u8, tcp: u8) -> u16 {
        if protocol != proto::TCP {
            return old;
        }
        let mut new = old;
        if tcp & tcp_flags::SYN != 0 {
            new &= !(state::FIN | state::RST); // the tuple is used again
        }
        if tcp & tcp_flags::FIN != 0 {
            new |= state::FIN;
        }
        if tcp & tcp_flags::RST != 0 {
            new |= state::RST;
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_expire_by_their_state() {
        let at = |state, last_seen| CtEntry { state, last_seen, ..CtEntry::default() };
        assert!(!at(0, 100).expired(proto::UDP, 130));
        assert!(at(0, 100).expired(proto::UDP, 131));
        assert!(!at(state::REPLIED, 100).expired(proto::TCP, 100 + 7440));
        assert!(at(state::REPLIED, 100).expired(proto::TCP, 100 + 7441));
        assert!(at(state::REPLIED | state::RST, 100).expired(proto::TCP, 111));
        // A clock read on another processor may be a second behind: that is not an age.
        assert!(!at(0, 100).expired(proto::UDP, 99));
    }

    #[test]
    fn a_new_syn_revives_a_closed_tuple() {
        let closed = CtEntry::next_state(state::REPLIED, proto::TCP, tcp_flags::FIN | tcp_flags::ACK);
        assert_eq!(closed, state::REPLIED | state::FIN);
        assert_eq!(CtEntry::next_state(closed, proto::TCP, tcp_flags::SYN), state::REPLIED);
        assert_eq!(CtEntry::next_state(0, proto::UDP, tcp_flags::RST), 0);
    }
}
