//! Golden packets of both families: built and checked by the RFCs' own words, with nothing of the code under test.

use std::net::IpAddr;

const ETH: usize = 14;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;
const FRAGMENT: u8 = 44;

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet(pub Vec<u8>);

/// What varies in an IP header.
#[derive(Clone, Copy, Debug)]
pub struct Ip {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// Flags and fragment offset, as an IPv4 header has them.
    pub frag: u16,
    pub id: u32,
    /// Words of options; over IPv6, units of a header of them.
    pub options: usize,
}

impl Ip {
    pub fn new(src: IpAddr, dst: IpAddr) -> Self {
        Self { src, dst, frag: 0x4000, id: 1, options: 0 }
    }
}

/// What an ICMP error is about.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    PortClosed,
    TooBig,
}

/// The one's complement sum of RFC 1071.
fn sum(bytes: &[u8], mut total: u32) -> u32 {
    for pair in bytes.chunks(2) {
        total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    total
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn set(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

impl Packet {
    fn build(ip: Ip, protocol: u8, l4: &[u8]) -> Self {
        let mut extensions = Vec::new();
        if ip.src.is_ipv6() {
            if ip.options > 0 {
                let mut options = vec![0; 8 * ip.options];
                options[1..4].copy_from_slice(&[ip.options as u8 - 1, 1, (8 * ip.options - 4) as u8]);
                extensions.push((DESTINATION_OPTIONS, options));
            }
            if ip.frag & 0x3fff != 0 {
                let place = ip.frag << 3 | ip.frag >> 13 & 1;
                let header = [[0; 2], place.to_be_bytes()].concat();
                extensions.push((FRAGMENT, [header, ip.id.to_be_bytes().to_vec()].concat()));
            }
        }
        Self::with_extensions(ip, &extensions, protocol, l4)
    }

    /// A packet; over IPv6 with these extension headers, whose first byte will say what follows.
    pub fn with_extensions(ip: Ip, extensions: &[(u8, Vec<u8>)], protocol: u8, l4: &[u8]) -> Self {
        let mut b = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        match (ip.src, ip.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = 20 + 4 * ip.options;
                b.resize(ETH + header, 1); // options: no operation
                b[12..ETH + 20].fill(0);
                set(&mut b, 12, 0x0800);
                b[ETH] = 0x40 | (header / 4) as u8;
                set(&mut b, ETH + 2, (header + l4.len()) as u16);
                set(&mut b, ETH + 4, ip.id as u16);
                set(&mut b, ETH + 6, ip.frag);
                b[ETH + 8] = 64;
                b[ETH + 9] = protocol;
                b[ETH + 12..ETH + 16].copy_from_slice(&src.octets());
                b[ETH + 16..ETH + 20].copy_from_slice(&dst.octets());
                let check = !sum(&b[ETH..], 0) as u16;
                set(&mut b, ETH + 10, check);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let len: usize = extensions.iter().map(|(_, bytes)| bytes.len()).sum();
                b.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
                b.extend_from_slice(&((len + l4.len()) as u16).to_be_bytes());
                b.extend_from_slice(&[extensions.first().map_or(protocol, |(kind, _)| *kind), 64]);
                b.extend_from_slice(&src.octets());
                b.extend_from_slice(&dst.octets());
                for (i, (_, bytes)) in extensions.iter().enumerate() {
                    b.push(extensions.get(i + 1).map_or(protocol, |(kind, _)| *kind));
                    b.extend_from_slice(&bytes[1..]);
                }
            }
            mixed => panic!("{mixed:?}"),
        }
        b.extend_from_slice(l4);
        Self(b)
    }

    fn is_v4(&self) -> bool {
        word(&self.0, 12) == 0x0800
    }

    fn addresses(&self) -> &[u8] {
        if self.is_v4() { &self.0[ETH + 12..ETH + 20] } else { &self.0[ETH + 8..ETH + 40] }
    }

    fn pseudo(&self) -> u32 {
        let len = self.payload().len();
        sum(self.addresses(), u32::from(self.protocol()) + len as u32)
    }

    /// Where the layer 4 header begins, and whose it is.
    fn upper(&self) -> (usize, u8) {
        let b = &self.0;
        if self.is_v4() {
            return (ETH + usize::from(b[ETH] & 15) * 4, b[ETH + 9]);
        }
        let (mut at, mut protocol) = (ETH + 40, b[ETH + 6]);
        while let 0 | 43 | DESTINATION_OPTIONS | FRAGMENT = protocol {
            let len = if protocol == FRAGMENT { 8 } else { usize::from(b[at + 1]) * 8 + 8 };
            (at, protocol) = (at + len, b[at]);
        }
        (at, protocol)
    }

    pub fn l4(&self) -> usize {
        self.upper().0
    }

    pub fn protocol(&self) -> u8 {
        self.upper().1
    }

    /// Makes the checksum of layer 4, which lies so many bytes into it, right.
    pub fn seal(mut self, at: usize) -> Self {
        let l4 = self.l4();
        let start = if self.protocol() == ICMP { 0 } else { self.pseudo() };
        let check = match !sum(&self.0[l4..], start) as u16 {
            0 => 0xffff,
            check => check,
        };
        set(&mut self.0, l4 + at, check);
        self
    }

    pub fn tcp(ip: Ip, sport: u16, dport: u16, flags: u8) -> Self {
        Self::build(ip, 6, &segment(sport, dport, flags)).seal(16)
    }

    pub fn udp(ip: Ip, sport: u16, dport: u16, checksum: bool) -> Self {
        let mut l4 = [7_u8; 13];
        set(&mut l4, 0, sport);
        set(&mut l4, 2, dport);
        set(&mut l4, 4, 13);
        set(&mut l4, 6, 0);
        let packet = Self::build(ip, 17, &l4);
        if checksum { packet.seal(6) } else { packet }
    }

    fn icmp(ip: Ip, start: &[u8], rest: &[u8]) -> Self {
        let protocol = if ip.src.is_ipv4() { ICMP } else { ICMPV6 };
        Self::build(ip, protocol, &[start, rest].concat()).seal(2)
    }

    /// An echo request.
    pub fn ping(ip: Ip, id: u16) -> Self {
        let kind = if ip.src.is_ipv4() { 8 } else { 128 };
        Self::icmp(ip, &[kind, 0, 0, 0], &[&id.to_be_bytes()[..], &[9; 10]].concat())
    }

    /// An echo reply.
    pub fn pong(ip: Ip, id: u16) -> Self {
        let kind = if ip.src.is_ipv4() { 0 } else { 129 };
        Self::icmp(ip, &[kind, 0, 0, 0], &[&id.to_be_bytes()[..], &[9; 10]].concat())
    }

    /// An error about `about`, which it quotes with eight bytes of its payload.
    pub fn icmp_error(ip: Ip, trouble: Trouble, about: &Packet) -> Self {
        let [kind, code] = match (ip.src.is_ipv4(), trouble) {
            (true, Trouble::PortClosed) => [3, 3],
            (true, Trouble::TooBig) => [3, 4],
            (false, Trouble::PortClosed) => [1, 4],
            (false, Trouble::TooBig) => [2, 0],
        };
        Self::icmp(ip, &[kind, code, 0, 0, 0, 0, 5, 0], &about.0[ETH..about.l4() + 8])
    }

    /// Type and code of an ICMP message.
    pub fn icmp_type(&self) -> [u8; 2] {
        [self.payload()[0], self.payload()[1]]
    }

    /// One of Neighbor Discovery (RFC 4861), over IPv6.
    pub fn neighbor_solicitation(ip: Ip, target: IpAddr) -> Self {
        let IpAddr::V6(target) = target else { panic!("{target}") };
        Self::icmp(
            ip,
            &[135, 0, 0, 0, 0, 0, 0, 0],
            &[&target.octets()[..], &[1, 1, 2, 0, 0, 0, 0, 2]].concat(),
        )
    }

    pub fn fragment(ip: Ip, protocol: u8) -> Self {
        Self::build(ip, protocol, &[0xab; 24])
    }

    pub fn other(ip: Ip, protocol: u8) -> Self {
        Self::build(ip, protocol, &[0xcd; 24])
    }

    pub fn arp() -> Self {
        let mut b = vec![0xff; 42];
        set(&mut b, 12, 0x0806);
        Self(b)
    }

    pub fn src(&self) -> IpAddr {
        address(&self.addresses()[..self.addresses().len() / 2])
    }

    pub fn dst(&self) -> IpAddr {
        address(&self.addresses()[self.addresses().len() / 2..])
    }

    /// Source and destination port; the identifier twice for ICMP.
    pub fn ports(&self) -> (u16, u16) {
        let l4 = self.l4();
        match self.protocol() {
            ICMP | ICMPV6 => (word(&self.0, l4 + 4), word(&self.0, l4 + 4)),
            _ => (word(&self.0, l4), word(&self.0, l4 + 2)),
        }
    }

    /// The TCP flags.
    pub fn flags(&self) -> u8 {
        self.0[self.l4() + 13]
    }

    pub fn udp_checksum(&self) -> u16 {
        word(&self.0, self.l4() + 6)
    }

    pub fn payload(&self) -> &[u8] {
        &self.0[self.l4()..]
    }

    /// What the other side would say.
    pub fn answer(&self) -> Self {
        let ip = Ip::new(self.dst(), self.src());
        let (sport, dport) = self.ports();
        match self.protocol() {
            6 => Self::tcp(ip, dport, sport, 0x12),
            17 => Self::udp(ip, dport, sport, self.udp_checksum() != 0),
            _ => Self::pong(ip, sport),
        }
    }

    /// The packet that an ICMP error quotes, as a frame of its own.
    pub fn quoted(&self) -> Self {
        let mut frame = self.0[..ETH].to_vec();
        frame.extend_from_slice(&self.0[self.l4() + 8..]);
        Self(frame)
    }

    /// The IP header is right, as far as it has a checksum.
    pub fn check_ip(&self) {
        if self.is_v4() {
            assert_eq!(sum(&self.0[ETH..self.l4()], 0), 0xffff, "IP header checksum of {self:x?}");
        }
    }

    /// Every checksum and length is right.
    pub fn check(&self) {
        self.check_ip();
        let (at, counted) = if self.is_v4() { (2, self.0.len() - ETH) } else { (4, self.0.len() - ETH - 40) };
        assert_eq!(usize::from(word(&self.0, ETH + at)), counted, "length of {self:x?}");
        if self.protocol() == 17 && self.udp_checksum() == 0 {
            return;
        }
        let start = if self.protocol() == ICMP { 0 } else { self.pseudo() };
        assert_eq!(sum(self.payload(), start), 0xffff, "layer 4 checksum of {self:x?}");
    }
}

/// A TCP header without checksum, and four bytes.
pub fn segment(sport: u16, dport: u16, flags: u8) -> [u8; 24] {
    let mut l4 = [0_u8; 24];
    set(&mut l4, 0, sport);
    set(&mut l4, 2, dport);
    l4[12] = 0x50;
    l4[13] = flags;
    l4[20..].copy_from_slice(b"data");
    l4
}

fn address(octets: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(octets) {
        Ok(octets) => octets.into(),
        Err(_) => <[u8; 16]>::try_from(octets).unwrap().into(),
    }
}
