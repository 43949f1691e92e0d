//! Addresses as map keys: always 16 bytes, IPv4 as its v4-mapped IPv6 form (RFC 4291, 2.5.5.2).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The third word of a v4-mapped address, `::ffff:a.b.c.d`, in network byte order.
pub const V4_MAPPED_WORD: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// An IP address of either family, in network byte order, four words as the kernel's `in6_addr` has them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr {
    /// The 16 bytes of the address, read as four words in the machine's order.
    pub words: [u32; 4],
}

impl Addr {
    /// An IPv4 address from the word a packet or a socket address carries (network byte order).
    #[inline(always)]
    pub const fn v4(word: u32) -> Self {
        Self { words: [0, 0, V4_MAPPED_WORD, word] }
    }

    /// The IPv4 word in network byte order, if this is a v4-mapped address.
    #[inline(always)]
    pub const fn as_v4(&self) -> Option<u32> {
        if self.words[0] == 0 && self.words[1] == 0 && self.words[2] == V4_MAPPED_WORD {
            Some(self.words[3])
        } else {
            None
        }
    }

    /// Whether both are the same. (Word by word: what `==` becomes is a call, which has a price in the kernel.)
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        let (a, b) = (&self.words, &other.words);
        (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) == 0
    }

    /// Whether it is all zero: `::`, or no address at all.
    #[inline(always)]
    pub const fn is_zero(&self) -> bool {
        self.words[0] | self.words[1] | self.words[2] | self.words[3] == 0
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.as_v4().is_some()
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(ip: Ipv4Addr) -> Self {
        Self::v4(u32::from_ne_bytes(ip.octets()))
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(ip: Ipv6Addr) -> Self {
        let b = ip.octets();
        let word = |i: usize| u32::from_ne_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        Self { words: [word(0), word(4), word(8), word(12)] }
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => ip.into(),
        }
    }
}

impl From<Addr> for IpAddr {
    fn from(addr: Addr) -> Self {
        match addr.as_v4() {
            Some(word) => IpAddr::V4(Ipv4Addr::from(word.to_ne_bytes())),
            None => {
                let mut octets = [0_u8; 16];
                for (chunk, word) in octets.chunks_exact_mut(4).zip(addr.words) {
                    chunk.copy_from_slice(&word.to_ne_bytes());
                }
                IpAddr::V6(Ipv6Addr::from(octets))
            }
        }
    }
}

/// An IPv4 network in network byte order. The all-zero value holds no address at all (a mask of zero is
/// read as "not configured"), so a program without configuration touches nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipv4Net {
    /// Network address, host bits zero.
    pub base: u32,
    /// Netmask; zero when no network is configured.
    pub mask: u32,
}

impl Ipv4Net {
    /// The network that holds `ip`, of prefix length `prefix` (above 32 is taken as 32).
    pub fn new(ip: Ipv4Addr, prefix: u8) -> Self {
        let bits = u32::from(prefix.min(32));
        let mask = (if bits == 0 { 0 } else { u32::MAX << (32 - bits) }).to_be();
        Self { base: u32::from_ne_bytes(ip.octets()) & mask, mask }
    }

    /// Whether the address (network byte order) lies in this network.
    #[inline(always)]
    pub const fn contains(&self, word: u32) -> bool {
        self.mask != 0 && word & self.mask == self.base
    }
}

/// An IPv6 network in network byte order. The all-zero value holds no address at all, as with [`Ipv4Net`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipv6Net {
    /// Network address, host bits zero.
    pub base: Addr,
    /// Netmask; all zero when no network is configured.
    pub mask: Addr,
}

impl Ipv6Net {
    /// The network that holds `ip`, of prefix length `prefix` (above 128 is taken as 128).
    pub fn new(ip: Ipv6Addr, prefix: u8) -> Self {
        let bits = u32::from(prefix.min(128));
        let mask = if bits == 0 { 0 } else { u128::MAX << (128 - bits) };
        let base = ip.to_bits() & mask;
        Self { base: Ipv6Addr::from_bits(base).into(), mask: Ipv6Addr::from_bits(mask).into() }
    }

    /// Whether the address lies in this network.
    #[inline(always)]
    pub const fn contains(&self, addr: &Addr) -> bool {
        let (a, b, m) = (&addr.words, &self.base.words, &self.mask.words);
        let differs =
            (a[0] & m[0] ^ b[0]) | (a[1] & m[1] ^ b[1]) | (a[2] & m[2] ^ b[2]) | (a[3] & m[3] ^ b[3]);
        m[0] | m[1] | m[2] | m[3] != 0 && differs == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(ip: &str) -> u32 {
        u32::from_ne_bytes(ip.parse::<Ipv4Addr>().unwrap().octets())
    }

    #[test]
    fn both_families_survive_the_way_through_a_key() {
        for text in ["10.96.0.1", "0.0.0.0", "255.255.255.255", "fd00::1", "2001:db8::ffff:1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Addr::from(ip)), ip);
        }
    }

    #[test]
    fn a_mapped_address_and_its_v4_form_are_the_same_key() {
        let mapped: Ipv6Addr = "::ffff:10.96.0.1".parse().unwrap();
        let v4: Ipv4Addr = "10.96.0.1".parse().unwrap();
        assert_eq!(Addr::from(mapped), Addr::from(v4));
        assert_eq!(Addr::from(mapped).as_v4(), Some(word("10.96.0.1")));
        assert!(!Addr::from("fd00::1".parse::<Ipv6Addr>().unwrap()).is_v4());
    }

    #[test]
    fn networks_hold_what_they_should() {
        let net = Ipv4Net::new("10.244.7.9".parse().unwrap(), 16);
        assert!(net.contains(word("10.244.255.255")) && net.contains(word("10.244.0.0")));
        assert!(!net.contains(word("10.245.0.0")) && !net.contains(word("10.243.255.255")));
        let odd = Ipv4Net::new("192.168.1.130".parse().unwrap(), 25);
        assert!(odd.contains(word("192.168.1.128")) && !odd.contains(word("192.168.1.127")));
        let one = Ipv4Net::new("1.2.3.4".parse().unwrap(), 32);
        assert!(one.contains(word("1.2.3.4")) && !one.contains(word("1.2.3.5")));
        assert!(!Ipv4Net::default().contains(0), "no network configured holds nothing");
    }

    #[test]
    fn networks_of_ipv6_hold_what_they_should() {
        let addr = |ip: &str| Addr::from(ip.parse::<Ipv6Addr>().unwrap());
        let net = Ipv6Net::new("fd00:10:244:7::9".parse().unwrap(), 56);
        assert!(
            net.contains(&addr("fd00:10:244::")) && net.contains(&addr("fd00:10:244:ff:ffff:ffff:ffff:ffff"))
        );
        assert!(!net.contains(&addr("fd00:10:244:100::")) && !net.contains(&addr("fd00:10:243:ff::")));
        let odd = Ipv6Net::new("2001:db8::8:1".parse().unwrap(), 109);
        assert!(odd.contains(&addr("2001:db8::f:ffff")) && !odd.contains(&addr("2001:db8::7:ffff")));
        let one = Ipv6Net::new("fd00::1".parse().unwrap(), 128);
        assert!(one.contains(&addr("fd00::1")) && !one.contains(&addr("fd00::2")));
        assert!(!Ipv6Net::default().contains(&addr("::")), "no network configured holds nothing");
    }
}
