//! Reading IPv6 headers (RFC 8200) and the types of ICMPv6 (RFC 4443).

use crate::Addr;

/// EtherType of IPv6 as `__sk_buff.protocol` has it (network byte order).
pub const ETH_P_IPV6_BE: u32 = 0x86dd_u16.to_be() as u32;
/// Length of an IPv6 header without extension headers.
pub const HEADER_LEN: u32 = 40;
/// Offset of the source address in an IPv6 header.
pub const IP6_SRC: u32 = 8;
/// Offset of the destination address in an IPv6 header.
pub const IP6_DST: u32 = 24;

/// ICMPv6 destination unreachable, its type.
pub const ICMP6_UNREACHABLE: u8 = 1;
/// ICMPv6 parameter problem, the last type of errors that are translated (between them: packet too big, time exceeded).
pub const ICMP6_PARAMETER: u8 = 4;
/// ICMPv6 echo request, its type.
pub const ICMP6_ECHO: u8 = 128;
/// ICMPv6 echo reply, its type.
pub const ICMP6_ECHO_REPLY: u8 = 129;

/// How many extension headers of one packet are walked; a packet with more of them is not read.
pub const MAX_EXTENSIONS: u32 = 6;

/// The first eight bytes of an extension header: all of a fragment header, the start of any other.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionStart {
    /// Protocol of what follows.
    pub next: u8,
    /// Units of eight bytes behind the first eight (zero in a fragment header).
    pub len: u8,
    /// In a fragment header: offset in units of eight bytes, and whether more follow; network byte order. In a routing
    /// header: its type, and how many addresses are left to visit.
    pub part: u16,
    /// In a fragment header: the identification.
    pub id: u32,
}

impl ExtensionStart {
    /// Bytes of an extension header other than a fragment header.
    #[inline(always)]
    pub const fn bytes(&self) -> u32 {
        (self.len as u32 + 1) * 8
    }

    /// Whether a fragment header is that of a fragment other than the first.
    #[inline(always)]
    pub const fn is_later_fragment(&self) -> bool {
        u16::from_be(self.part) & 0xfff8 != 0
    }

    /// Whether a fragment header says that more fragments follow.
    #[inline(always)]
    pub const fn has_more_fragments(&self) -> bool {
        u16::from_be(self.part) & 1 != 0
    }

    /// Whether a routing header names addresses to visit: the one in the IPv6 header is not where the packet ends.
    #[inline(always)]
    pub const fn visits_others(&self) -> bool {
        self.part.to_ne_bytes()[1] != 0
    }
}

/// What a protocol number in a chain of headers stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Hop-by-hop or destination options: walked over.
    Options,
    /// A routing header: walked over where it has nothing left to say.
    Routing,
    /// A fragment header.
    Fragment,
    /// No extension header that is walked: the protocol of the packet.
    Protocol,
}

impl Step {
    /// The step of a protocol number (RFC 8200, 4.1).
    #[inline(always)]
    pub const fn of(next: u8) -> Self {
        match next {
            0 | 60 => Self::Options,
            43 => Self::Routing,
            44 => Self::Fragment,
            _ => Self::Protocol,
        }
    }
}

/// Whether a destination is one host that packets are translated for: not multicast, not link-local (Neighbor Discovery lives
/// on both), not loopback, not unspecified, not a form of an IPv4 address, which the tables hold as such.
#[inline(always)]
pub const fn is_unicast_host(addr: &Addr) -> bool {
    let first = u32::from_be(addr.words[0]);
    let local = addr.words[0] | addr.words[1] | addr.words[2] == 0 && u32::from_be(addr.words[3]) <= 1;
    first >> 24 != 0xff && first >> 22 != 0xfe80 >> 6 && !local && !addr.is_v4()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv6Addr;

    #[test]
    fn only_hosts_are_translated_for() {
        let is = |ip: &str| is_unicast_host(&ip.parse::<Ipv6Addr>().unwrap().into());
        for ip in
            ["ff02::1", "ff02::1:ff00:5", "ff05::2", "fe80::1", "febf::1", "::1", "::", "::ffff:10.0.0.1"]
        {
            assert!(!is(ip), "{ip}");
        }
        for ip in ["2001:db8::1", "fd00::1", "fec0::1", "64:ff9b::1", "::2"] {
            assert!(is(ip), "{ip}");
        }
    }

    #[test]
    fn fragment_headers_are_told_apart() {
        let at = |part: u16| ExtensionStart { part: part.to_be(), ..ExtensionStart::default() };
        assert!(!at(0).is_later_fragment() && !at(0).has_more_fragments());
        assert!(!at(1).is_later_fragment() && at(1).has_more_fragments());
        assert!(at(0x05a9).is_later_fragment() && at(0x05a9).has_more_fragments());
        assert!(at(0x05a8).is_later_fragment() && !at(0x05a8).has_more_fragments());
    }

    #[test]
    fn a_routing_header_with_addresses_left_is_known() {
        let at = |kind, left| ExtensionStart {
            part: u16::from_ne_bytes([kind, left]),
            ..ExtensionStart::default()
        };
        assert!(at(4, 1).visits_others() && !at(4, 0).visits_others());
        assert_eq!(ExtensionStart { len: 2, ..ExtensionStart::default() }.bytes(), 24);
    }
}
