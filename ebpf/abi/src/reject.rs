//! What a closed port answers over IPv4: the bytes of a TCP reset (RFC 9293, 3.5.2) or of an ICMP port unreachable (RFC 792), made
//! from the headers of the packet that is refused.

use crate::packet::{ICMP_UNREACHABLE, Ipv4Header, L4Start};
use crate::{conntrack::tcp_flags, proto};

/// Bytes of a reset: IPv4 and TCP headers without options.
pub const RESET_LEN: usize = 40;
/// Bytes of a port unreachable: IPv4 and ICMP headers, and what is quoted: an IPv4 header and eight bytes.
pub const UNREACHABLE_LEN: usize = 56;

/// The first 14 bytes of a TCP header, as far as a reset needs them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpStart {
    /// Source port, network byte order.
    pub sport: u16,
    /// Destination port, network byte order.
    pub dport: u16,
    /// Sequence number, network byte order.
    pub seq: u32,
    /// Acknowledgment number, network byte order.
    pub ack: u32,
    /// Header length in words, in the upper half.
    pub offset: u8,
    /// Bits of [`tcp_flags`].
    pub flags: u8,
    /// Window.
    pub window: u16,
}

/// The one's complement sum of 16-bit words (RFC 1071), folded.
#[inline(always)]
fn sum<const N: usize>(bytes: &[u8; N], from: usize, start: u32) -> u32 {
    let mut total = start;
    let mut i = from;
    while i + 1 < N {
        total += u32::from(u16::from_be_bytes([bytes[i], bytes[i + 1]]));
        i += 2;
    }
    total = (total & 0xffff) + (total >> 16);
    (total & 0xffff) + (total >> 16)
}

#[inline(always)]
fn put<const N: usize, const M: usize>(bytes: &mut [u8; N], at: usize, value: [u8; M]) {
    let mut i = 0;
    while i < M {
        bytes[at + i] = value[i];
        i += 1;
    }
}

/// An IPv4 header from `ip`'s destination to its source at the start of `bytes`, its checksum included.
#[inline(always)]
fn header<const N: usize>(bytes: &mut [u8; N], ip: &Ipv4Header, protocol: u8) {
    bytes[0] = 0x45;
    put(bytes, 2, (N as u16).to_be_bytes());
    bytes[6] = 0x40; // do not fragment
    bytes[8] = 64;
    bytes[9] = protocol;
    put(bytes, 12, ip.dst.to_ne_bytes());
    put(bytes, 16, ip.src.to_ne_bytes());
    let mut first = [0_u8; 20];
    let mut i = 0;
    while i < 20 {
        first[i] = bytes[i];
        i += 1;
    }
    put(bytes, 10, (!(sum(&first, 0, 0) as u16)).to_be_bytes());
}

/// The reset for a TCP segment, or none for one that is a reset itself.
#[inline(always)]
pub fn reset(ip: &Ipv4Header, tcp: &TcpStart) -> Option<[u8; RESET_LEN]> {
    if tcp.flags & tcp_flags::RST != 0 {
        return None;
    }
    let mut out = [0_u8; RESET_LEN];
    header(&mut out, ip, proto::TCP);
    put(&mut out, 20, tcp.dport.to_ne_bytes());
    put(&mut out, 22, tcp.sport.to_ne_bytes());
    if tcp.flags & tcp_flags::ACK != 0 {
        put(&mut out, 24, tcp.ack.to_ne_bytes());
        out[33] = tcp_flags::RST;
    } else {
        let headers = u32::from(ip.version_ihl & 0x0f) * 4 + u32::from(tcp.offset >> 4) * 4;
        let payload = u32::from(u16::from_be(ip.total_len)).saturating_sub(headers);
        let syn = u32::from(tcp.flags & tcp_flags::SYN != 0);
        let fin = u32::from(tcp.flags & tcp_flags::FIN != 0);
        let ack = u32::from_be(tcp.seq).wrapping_add(payload + syn + fin);
        put(&mut out, 28, ack.to_be_bytes());
        out[33] = tcp_flags::RST | tcp_flags::ACK;
    }
    out[32] = 0x50;
    // The pseudo-header: both addresses, the protocol, the length.
    let pseudo = u32::from(proto::TCP) + 20;
    let check = !(sum(&out, 12, pseudo) as u16);
    put(&mut out, 36, check.to_be_bytes());
    Some(out)
}

/// The port unreachable for a datagram whose IPv4 header has no options.
#[inline(always)]
pub fn unreachable(ip: &Ipv4Header, l4: &L4Start) -> [u8; UNREACHABLE_LEN] {
    let mut out = [0_u8; UNREACHABLE_LEN];
    header(&mut out, ip, proto::ICMP);
    out[20] = ICMP_UNREACHABLE;
    out[21] = 3;
    let quoted = 28;
    out[quoted] = ip.version_ihl;
    out[quoted + 1] = ip.tos;
    put(&mut out, quoted + 2, ip.total_len.to_ne_bytes());
    put(&mut out, quoted + 4, ip.id.to_ne_bytes());
    put(&mut out, quoted + 6, ip.frag.to_ne_bytes());
    out[quoted + 8] = ip.ttl;
    out[quoted + 9] = ip.proto;
    put(&mut out, quoted + 10, ip.check.to_ne_bytes());
    put(&mut out, quoted + 12, ip.src.to_ne_bytes());
    put(&mut out, quoted + 16, ip.dst.to_ne_bytes());
    put(&mut out, quoted + 20, l4.a.to_ne_bytes());
    put(&mut out, quoted + 22, l4.b.to_ne_bytes());
    put(&mut out, quoted + 24, l4.c.to_ne_bytes());
    put(&mut out, quoted + 26, l4.d.to_ne_bytes());
    let check = !(sum(&out, 20, 0) as u16);
    put(&mut out, 22, check.to_be_bytes());
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// RFC 1071, over any bytes, written anew.
    pub(crate) fn checksum(chunks: &[&[u8]]) -> u16 {
        let mut total = 0_u64;
        for pair in chunks.concat().chunks(2) {
            total += u64::from(pair[0]) * 256 + u64::from(*pair.get(1).unwrap_or(&0));
        }
        while total > 0xffff {
            total = total % 0x1_0000 + total / 0x1_0000;
        }
        total as u16
    }

    fn ip(protocol: u8, len: u16) -> Ipv4Header {
        Ipv4Header {
            version_ihl: 0x45,
            total_len: len.to_be(),
            id: 77_u16.to_be(),
            proto: protocol,
            src: u32::from_ne_bytes([10, 244, 0, 5]),
            dst: u32::from_ne_bytes([10, 96, 0, 10]),
            ..Ipv4Header::default()
        }
    }

    #[test]
    fn a_syn_is_reset_with_its_number_acknowledged() {
        let tcp = TcpStart {
            sport: 40_000_u16.to_be(),
            dport: 80_u16.to_be(),
            seq: 0xffff_ffff_u32.to_be(),
            offset: 0xa0,
            flags: tcp_flags::SYN,
            ..TcpStart::default()
        };
        let out = reset(&ip(proto::TCP, 60), &tcp).unwrap();
        assert_eq!(checksum(&[&out[..20]]), 0xffff);
        assert_eq!(checksum(&[&out[12..20], &[0, 6, 0, 20], &out[20..]]), 0xffff);
        assert_eq!(out[12..20], [10, 96, 0, 10, 10, 244, 0, 5]);
        assert_eq!(out[20..24], [0, 80, 0x9c, 0x40]);
        assert_eq!((&out[24..32], out[33]), (&[0_u8; 8][..], 0x14), "its number plus one, around the end");
    }

    #[test]
    fn a_segment_is_reset_where_it_expects_the_next() {
        let tcp = TcpStart { ack: 7_u32.to_be(), offset: 0x50, flags: tcp_flags::ACK, ..TcpStart::default() };
        let out = reset(&ip(proto::TCP, 40), &tcp).unwrap();
        assert_eq!((&out[24..28], out[33]), (&[0, 0, 0, 7][..], 0x04));
        assert_eq!(checksum(&[&out[12..20], &[0, 6, 0, 20], &out[20..]]), 0xffff);
        assert_eq!(
            reset(&ip(proto::TCP, 40), &TcpStart { flags: 0x14, ..tcp }),
            None,
            "never a reset for one"
        );
    }

    #[test]
    fn a_datagram_is_quoted() {
        let l4 = L4Start { a: 1_u16.to_be(), b: 2_u16.to_be(), c: 8_u16.to_be(), d: 0 };
        let about = ip(proto::UDP, 28);
        let out = unreachable(&about, &l4);
        assert_eq!(checksum(&[&out[..20]]), 0xffff);
        assert_eq!(checksum(&[&out[20..]]), 0xffff);
        assert_eq!((out[9], out[20], out[21]), (1, 3, 3));
        assert_eq!(out[28..32], [0x45, 0, 0, 28]);
        assert_eq!(out[40..56], [10, 244, 0, 5, 10, 96, 0, 10, 0, 1, 0, 2, 0, 8, 0, 0]);
    }
}
