//! Reading headers: what a program must know of a packet before it decides.

use crate::ipv6::{ICMP6_ECHO, ICMP6_ECHO_REPLY};
use crate::{Addr, CtKey, CtKind, proto};

/// EtherType of IPv4 as `__sk_buff.protocol` has it (network byte order).
pub const ETH_P_IP_BE: u32 = 0x0800_u16.to_be() as u32;
/// Length of an Ethernet header.
pub const ETH_LEN: u32 = 14;

/// Offset of the checksum in an IPv4 header.
pub const IP_CHECK: u32 = 10;
/// Offset of the source address in an IPv4 header.
pub const IP_SRC: u32 = 12;
/// Offset of the destination address in an IPv4 header.
pub const IP_DST: u32 = 16;

/// The first 20 bytes of an IPv4 header (RFC 791), as they lie in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Version and header length in words.
    pub version_ihl: u8,
    /// Type of service.
    pub tos: u8,
    /// Total length, network byte order.
    pub total_len: u16,
    /// Identification, network byte order.
    pub id: u16,
    /// Flags and fragment offset, network byte order.
    pub frag: u16,
    /// Time to live.
    pub ttl: u8,
    /// IP protocol.
    pub proto: u8,
    /// Header checksum.
    pub check: u16,
    /// Source address, network byte order.
    pub src: u32,
    /// Destination address, network byte order.
    pub dst: u32,
}

impl Ipv4Header {
    /// Bytes of the header with its options; `None` if it is no IPv4 header.
    #[inline(always)]
    pub const fn header_len(&self) -> Option<u32> {
        let words = (self.version_ihl & 0x0f) as u32;
        if self.version_ihl >> 4 == 4 && words >= 5 { Some(words * 4) } else { None }
    }

    /// Whether this is a fragment other than the first, which has no layer 4 header.
    #[inline(always)]
    pub const fn is_later_fragment(&self) -> bool {
        u16::from_be(self.frag) & 0x1fff != 0
    }

    /// Whether fragments follow this packet.
    #[inline(always)]
    pub const fn has_more_fragments(&self) -> bool {
        u16::from_be(self.frag) & 0x2000 != 0
    }
}

/// The first eight bytes of a layer 4 header, which TCP, UDP and ICMP all have.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct L4Start {
    /// Source port (TCP, UDP), or ICMP type and code.
    pub a: u16,
    /// Destination port (TCP, UDP), or the ICMP checksum.
    pub b: u16,
    /// For ICMP echo: the identifier.
    pub c: u16,
    /// For UDP: the checksum. For ICMP echo: the sequence number.
    pub d: u16,
}

/// ICMP echo reply (RFC 792), its type.
pub const ICMP_ECHO_REPLY: u8 = 0;
/// ICMP destination unreachable (RFC 792), its type.
pub const ICMP_UNREACHABLE: u8 = 3;
/// ICMP echo request (RFC 792), its type.
pub const ICMP_ECHO: u8 = 8;
/// ICMP time exceeded (RFC 792), its type.
pub const ICMP_TIME_EXCEEDED: u8 = 11;
/// ICMP parameter problem (RFC 792), its type.
pub const ICMP_PARAMETER: u8 = 12;

/// What names one direction of a connection. For ICMP echo both ports are the identifier.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuple {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port, network byte order.
    pub sport: u16,
    /// Destination port, network byte order.
    pub dport: u16,
    /// IP protocol.
    pub proto: u8,
    /// ICMP type; zero otherwise.
    pub icmp_type: u8,
    /// Always zero.
    pub pad: u16,
}

impl Tuple {
    /// Takes the ports from a layer 4 header; false for protocols without ports and for ICMP other than echo, which have
    /// none.
    #[inline(always)]
    pub const fn read_ports(&mut self, l4: &L4Start) -> bool {
        let kind = l4.a.to_ne_bytes()[0];
        match self.proto {
            proto::TCP | proto::UDP => {
                self.sport = l4.a;
                self.dport = l4.b;
                return true;
            }
            proto::ICMP if kind == ICMP_ECHO || kind == ICMP_ECHO_REPLY => {}
            proto::ICMPV6 if kind == ICMP6_ECHO || kind == ICMP6_ECHO_REPLY => {}
            _ => return false,
        }
        self.sport = l4.c;
        self.dport = l4.c;
        self.icmp_type = kind;
        true
    }

    /// Whether the ports are an identifier, which is the same on the way back.
    #[inline(always)]
    pub const fn is_echo(&self) -> bool {
        proto::is_icmp(self.proto)
    }

    /// The key of this packet for one kind of rewriting.
    #[inline(always)]
    pub const fn key(&self, kind: CtKind) -> CtKey {
        CtKey::new(kind, self.src, self.dst, self.sport, self.dport, self.proto)
    }

    /// The key of the answer to this packet for one kind of rewriting.
    #[inline(always)]
    pub const fn reply_key(&self, kind: CtKind) -> CtKey {
        CtKey::new(kind, self.dst, self.src, self.dport, self.sport, self.proto)
    }

    /// Offset of the source port (or ICMP identifier) in the layer 4 header.
    #[inline(always)]
    pub const fn sport_offset(&self) -> u32 {
        if self.is_echo() { 4 } else { 0 }
    }

    /// Offset of the destination port (or ICMP identifier) in the layer 4 header.
    #[inline(always)]
    pub const fn dport_offset(&self) -> u32 {
        if self.is_echo() { 4 } else { 2 }
    }

    /// Offset of the checksum in the layer 4 header.
    #[inline(always)]
    pub const fn check_offset(&self) -> u32 {
        match self.proto {
            proto::TCP => 16,
            proto::UDP => 6,
            _ => 2,
        }
    }
}

/// Whether an IPv4 destination (network byte order) is one host: not multicast, not limited broadcast, not
/// loopback, not link-local, not "this network".
#[inline(always)]
pub const fn is_unicast_host(word: u32) -> bool {
    let host = u32::from_be(word);
    let first = host >> 24;
    first != 0 && first != 127 && first < 224 && host >> 16 != 0xa9fe
}

/// Whether an IPv4 address (network byte order) is of the loopback network, or stands for it as "any" does in `connect`.
#[inline(always)]
pub const fn is_loopback(word: u32) -> bool {
    word == 0 || u32::from_be(word) >> 24 == 127
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn word(ip: [u8; 4]) -> u32 {
        u32::from_ne_bytes(Ipv4Addr::from(ip).octets())
    }

    #[test]
    fn header_length_and_version_are_checked() {
        let at = |version_ihl| Ipv4Header { version_ihl, ..Ipv4Header::default() }.header_len();
        assert_eq!(at(0x45), Some(20));
        assert_eq!(at(0x4f), Some(60));
        assert_eq!(at(0x44), None);
        assert_eq!(at(0x65), None);
    }

    #[test]
    fn fragments_are_told_apart() {
        let at = |frag: u16| Ipv4Header { frag: frag.to_be(), ..Ipv4Header::default() };
        assert!(!at(0x4000).is_later_fragment() && !at(0x4000).has_more_fragments());
        assert!(!at(0x2000).is_later_fragment() && at(0x2000).has_more_fragments());
        assert!(at(0x2005).is_later_fragment() && at(0x0005).is_later_fragment());
        assert!(!at(0x0005).has_more_fragments());
    }

    #[test]
    fn an_answer_has_the_turned_key() {
        let (src, dst) = (Addr::v4(word([10, 0, 0, 1])), Addr::v4(word([1, 1, 1, 1])));
        let mut there = Tuple { src, dst, proto: proto::TCP, ..Tuple::default() };
        assert!(there.read_ports(&L4Start { a: 1000_u16.to_be(), b: 80_u16.to_be(), ..L4Start::default() }));
        let back = Tuple { src: there.dst, dst: there.src, sport: there.dport, dport: there.sport, ..there };
        assert_eq!(there.reply_key(CtKind::Masquerade), back.key(CtKind::Masquerade));
        assert_ne!(there.key(CtKind::Masquerade), there.key(CtKind::Service));
    }

    #[test]
    fn echo_has_its_identifier_for_ports_and_errors_have_none() {
        for (proto, echo, error) in
            [(proto::ICMP, ICMP_ECHO, ICMP_UNREACHABLE), (proto::ICMPV6, ICMP6_ECHO_REPLY, 1)]
        {
            let mut tuple = Tuple { proto, ..Tuple::default() };
            let start = |kind| L4Start { a: u16::from_ne_bytes([kind, 0]), c: 77, ..L4Start::default() };
            assert!(!tuple.read_ports(&start(error)));
            assert_eq!((tuple.sport, tuple.dport), (0, 0));
            assert!(tuple.read_ports(&start(echo)));
            assert_eq!(
                (tuple.sport, tuple.dport, tuple.sport_offset(), tuple.check_offset()),
                (77, 77, 4, 2)
            );
            let mut other = Tuple { proto: 47, ..Tuple::default() };
            assert!(!other.read_ports(&start(echo)));
        }
        // Each family has its own types: what is an echo in one is none in the other.
        let mut tuple = Tuple { proto: proto::ICMP, ..Tuple::default() };
        assert!(!tuple.read_ports(&L4Start { a: u16::from_ne_bytes([ICMP6_ECHO, 0]), ..L4Start::default() }));
    }

    #[test]
    fn only_hosts_are_masqueraded_to() {
        for ip in [[224, 0, 0, 1], [255, 255, 255, 255], [127, 0, 0, 1], [169, 254, 1, 1], [0, 0, 0, 0]] {
            assert!(!is_unicast_host(word(ip)), "{ip:?}");
        }
        for ip in [[8, 8, 8, 8], [192, 168, 1, 1], [223, 255, 255, 255], [169, 253, 0, 1]] {
            assert!(is_unicast_host(word(ip)), "{ip:?}");
        }
    }
}
