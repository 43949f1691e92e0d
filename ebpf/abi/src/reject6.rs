//! What a closed port answers over IPv6: a TCP reset, or a port unreachable (RFC 4443, 3.1), made from the headers of the
//! packet that is refused. That has no extension headers.
//!
//! Both are made in one row of words, in which the headers of the packet lie already: it is too long for a program's stack.

use crate::conntrack::tcp_flags;
use crate::ipv6::ICMP6_UNREACHABLE;
use crate::proto;

/// Words of [`Answer`].
pub const WORDS: usize = 26;
/// Where the packet that is refused begins in it.
pub const ASKED: usize = 12;
/// Bytes of that: the IPv6 header and 16 bytes, or as many as there are.
pub const ASKED_LEN: usize = (WORDS - ASKED) * 4;
/// Bytes of a packet without which it cannot be refused: the IPv6 header and the eight that are quoted.
pub const ASKED_LEAST: usize = 48;
/// Bytes of a reset: IPv6 and TCP headers.
pub const RESET_LEN: usize = 60;
/// Bytes of a port unreachable: IPv6 and ICMPv6 headers, and what is quoted.
pub const UNREACHABLE_LEN: usize = 96;

/// The code of a port unreachable.
const PORT_UNREACHABLE: u8 = 4;

/// The answer, from its first word on, in the order of the network; from word [`ASKED`] on, before it is written, the packet
/// that is refused.
pub type Answer = [u32; WORDS];

/// An IPv6 header from the packet's destination to its source.
#[inline(always)]
fn header(words: &mut Answer, protocol: u8, len: usize) {
    let [high, low] = (len as u16 - 40).to_be_bytes();
    words[0] = u32::from_ne_bytes([0x60, 0, 0, 0]);
    words[1] = u32::from_ne_bytes([high, low, protocol, 64]);
    let mut i = 0;
    while i < 4 {
        // The destination lies 24 bytes into the header, the source eight.
        (words[2 + i], words[6 + i]) = (words[ASKED + 6 + i], words[ASKED + 2 + i]);
        i += 1;
    }
}

/// The checksum (RFC 1071) over both addresses, what follows, protocol and length, in the order of the network.
#[inline(always)]
fn check(words: &Answer, protocol: u8, len: usize) -> [u8; 2] {
    let mut total = u64::from(u32::from(protocol).to_be()) + u64::from((len as u32 - 40).to_be());
    let mut i = 2;
    while i < len / 4 {
        total += u64::from(words[i]);
        i += 1;
    }
    total = (total & 0xffff) + (total >> 16 & 0xffff) + (total >> 32);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    (!(total as u16)).to_ne_bytes()
}

/// Makes the reset for a TCP segment; false for one that is a reset itself.
#[inline(always)]
pub fn reset(words: &mut Answer) -> bool {
    let [ports, seq, ack, rest] =
        [words[ASKED + 10], words[ASKED + 11], words[ASKED + 12], words[ASKED + 13]];
    let [offset, flags, ..] = rest.to_ne_bytes();
    if flags & tcp_flags::RST != 0 {
        return false;
    }
    let [high, low, ..] = words[ASKED + 1].to_ne_bytes();
    let payload = u32::from(u16::from_be_bytes([high, low])).saturating_sub(u32::from(offset >> 4) * 4);
    header(words, proto::TCP, RESET_LEN);
    words[10] = ports.rotate_left(16);
    let answer = if flags & tcp_flags::ACK != 0 {
        (words[11], words[12]) = (ack, 0);
        tcp_flags::RST
    } else {
        let syn = u32::from(flags & tcp_flags::SYN != 0);
        let fin = u32::from(flags & tcp_flags::FIN != 0);
        (words[11], words[12]) = (0, u32::from_be(seq).wrapping_add(payload + syn + fin).to_be());
        tcp_flags::RST | tcp_flags::ACK
    };
    words[13] = u32::from_ne_bytes([0x50, answer, 0, 0]);
    words[14] = 0;
    let [a, b] = check(words, proto::TCP, RESET_LEN);
    words[14] = u32::from_ne_bytes([a, b, 0, 0]);
    true
}

/// Makes the port unreachable for a datagram, which lies already where it is quoted.
#[inline(always)]
pub fn unreachable(words: &mut Answer) {
    header(words, proto::ICMPV6, UNREACHABLE_LEN);
    words[10] = u32::from_ne_bytes([ICMP6_UNREACHABLE, PORT_UNREACHABLE, 0, 0]);
    words[11] = 0;
    let [a, b] = check(words, proto::ICMPV6, UNREACHABLE_LEN);
    words[10] = u32::from_ne_bytes([ICMP6_UNREACHABLE, PORT_UNREACHABLE, a, b]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::tests::checksum;
    use core::net::Ipv6Addr;

    fn asked(next: u8, payload: u16, l4: [u8; 16]) -> Answer {
        let addr = |ip: &str| ip.parse::<Ipv6Addr>().unwrap().octets();
        let [high, low] = payload.to_be_bytes();
        let bytes = [
            &[0_u8; ASKED * 4][..],
            &[0x60, 0, 0, 7, high, low, next, 63],
            &addr("fd00::5"),
            &addr("fd96::a"),
            &l4,
        ];
        let bytes = bytes.concat();
        assert_eq!(bytes.len(), WORDS * 4);
        let mut words = [0; WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks(4)) {
            *word = u32::from_ne_bytes(chunk.try_into().unwrap());
        }
        words
    }

    fn bytes(words: &Answer, len: usize) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_ne_bytes()).take(len).collect()
    }

    #[test]
    fn a_syn_is_reset_with_its_number_acknowledged() {
        let syn = [0x9c, 0x40, 0, 80, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 0xa0, 0x02, 5, 6];
        let mut words = asked(proto::TCP, 40, syn);
        assert!(reset(&mut words));
        let out = bytes(&words, RESET_LEN);
        assert_eq!(checksum(&[&out[8..40], &[0, 0, 0, 20, 0, 0, 0, 6], &out[40..]]), 0xffff);
        assert_eq!((&out[8..10], &out[24..26], out[39]), (&[0xfd, 0x96][..], &[0xfd, 0][..], 5));
        assert_eq!(out[..8], [0x60, 0, 0, 0, 0, 20, 6, 64]);
        assert_eq!(out[40..44], [0, 80, 0x9c, 0x40]);
        assert_eq!((&out[44..52], out[53]), (&[0_u8; 8][..], 0x14), "its number plus one, around the end");
    }

    #[test]
    fn a_segment_is_reset_where_it_expects_the_next() {
        let mut segment = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 7, 0x50, 0x10, 0, 0];
        let mut words = asked(proto::TCP, 20, segment);
        assert!(reset(&mut words));
        let out = bytes(&words, RESET_LEN);
        assert_eq!((&out[44..48], out[53]), (&[0, 0, 0, 7][..], 0x04));
        assert_eq!(checksum(&[&out[8..40], &[0, 0, 0, 20, 0, 0, 0, 6], &out[40..]]), 0xffff);
        segment[13] = 0x14;
        assert!(!reset(&mut asked(proto::TCP, 20, segment)), "never a reset for one");
    }

    #[test]
    fn a_datagram_is_quoted() {
        let mut words = asked(proto::UDP, 8, [0, 1, 0, 2, 0, 8, 0, 9, 99, 99, 99, 99, 99, 99, 99, 99]);
        unreachable(&mut words);
        let out = bytes(&words, UNREACHABLE_LEN);
        assert_eq!(checksum(&[&out[8..40], &[0, 0, 0, 56, 0, 0, 0, 58], &out[40..]]), 0xffff);
        assert_eq!((out[6], out[40], out[41]), (58, 1, 4));
        assert_eq!(out[48..56], [0x60, 0, 0, 7, 0, 8, 17, 63]);
        assert_eq!(out[56..88], [&out[24..40], &out[8..24]].concat(), "the ends of the datagram itself");
        assert_eq!(out[88..], [0, 1, 0, 2, 0, 8, 0, 9]);
    }
}
