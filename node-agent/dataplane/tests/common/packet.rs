//! Golden packets: built and checked by the RFCs' own words, with nothing of the code under test.

use std::net::Ipv4Addr;

const ETH: usize = 14;

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet(pub Vec<u8>);

/// What varies in an IPv4 header.
#[derive(Clone, Copy, Debug)]
pub struct Ip {
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    /// Flags and fragment offset.
    pub frag: u16,
    pub id: u16,
    /// Words of options.
    pub options: usize,
}

impl Ip {
    pub fn new(src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        Self { src, dst, frag: 0x4000, id: 1, options: 0 }
    }
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
        let header = 20 + 4 * ip.options;
        let mut b = vec![0_u8; ETH + header];
        b[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        b[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
        set(&mut b, 12, 0x0800);
        b[ETH] = 0x40 | (header / 4) as u8;
        set(&mut b, ETH + 2, (header + l4.len()) as u16);
        set(&mut b, ETH + 4, ip.id);
        set(&mut b, ETH + 6, ip.frag);
        b[ETH + 8] = 64;
        b[ETH + 9] = protocol;
        b[ETH + 12..ETH + 16].copy_from_slice(&ip.src.octets());
        b[ETH + 16..ETH + 20].copy_from_slice(&ip.dst.octets());
        b[ETH + 20..].fill(1); // options: no operation
        let check = !sum(&b[ETH..], 0) as u16;
        set(&mut b, ETH + 10, check);
        b.extend_from_slice(l4);
        Self(b)
    }

    fn pseudo(&self) -> u32 {
        let b = &self.0;
        let len = b.len() - self.l4();
        sum(&b[ETH + 12..ETH + 20], u32::from(b[ETH + 9]) + len as u32)
    }

    fn l4(&self) -> usize {
        ETH + usize::from(self.0[ETH] & 15) * 4
    }

    fn seal(mut self, at: usize, pseudo: bool) -> Self {
        let l4 = self.l4();
        let start = if pseudo { self.pseudo() } else { 0 };
        let check = match !sum(&self.0[l4..], start) as u16 {
            0 => 0xffff,
            check => check,
        };
        set(&mut self.0, l4 + at, check);
        self
    }

    pub fn tcp(ip: Ip, sport: u16, dport: u16, flags: u8) -> Self {
        let mut l4 = [0_u8; 24];
        set(&mut l4, 0, sport);
        set(&mut l4, 2, dport);
        l4[12] = 0x50;
        l4[13] = flags;
        l4[20..].copy_from_slice(b"data");
        Self::build(ip, 6, &l4).seal(16, true)
    }

    pub fn udp(ip: Ip, sport: u16, dport: u16, checksum: bool) -> Self {
        let mut l4 = [7_u8; 13];
        set(&mut l4, 0, sport);
        set(&mut l4, 2, dport);
        set(&mut l4, 4, 13);
        set(&mut l4, 6, 0);
        let packet = Self::build(ip, 17, &l4);
        if checksum { packet.seal(6, true) } else { packet }
    }

    pub fn icmp(ip: Ip, kind: u8, id: u16) -> Self {
        let mut l4 = [9_u8; 16];
        l4[..4].copy_from_slice(&[kind, 0, 0, 0]);
        set(&mut l4, 4, id);
        Self::build(ip, 1, &l4).seal(2, false)
    }

    /// An error about `about`, which it quotes with eight bytes of its payload.
    pub fn icmp_error(ip: Ip, kind: u8, code: u8, about: &Packet) -> Self {
        let mut l4 = vec![kind, code, 0, 0, 0, 0, 5, 0];
        l4.extend_from_slice(&about.0[ETH..about.l4() + 8]);
        Self::build(ip, 1, &l4).seal(2, false)
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

    pub fn src(&self) -> Ipv4Addr {
        let b: [u8; 4] = self.0[ETH + 12..ETH + 16].try_into().unwrap();
        b.into()
    }

    pub fn dst(&self) -> Ipv4Addr {
        let b: [u8; 4] = self.0[ETH + 16..ETH + 20].try_into().unwrap();
        b.into()
    }

    pub fn protocol(&self) -> u8 {
        self.0[ETH + 9]
    }

    /// Source and destination port; the identifier twice for ICMP.
    pub fn ports(&self) -> (u16, u16) {
        let l4 = self.l4();
        match self.protocol() {
            1 => (word(&self.0, l4 + 4), word(&self.0, l4 + 4)),
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
            _ => Self::icmp(ip, 0, sport),
        }
    }

    /// The packet that an ICMP error quotes, as a frame of its own.
    pub fn quoted(&self) -> Self {
        let mut frame = self.0[..ETH].to_vec();
        frame.extend_from_slice(&self.0[self.l4() + 8..]);
        Self(frame)
    }

    pub fn check_ip(&self) {
        assert_eq!(sum(&self.0[ETH..self.l4()], 0), 0xffff, "IP header checksum of {self:x?}");
    }

    /// Every checksum is right.
    pub fn check(&self) {
        self.check_ip();
        if self.protocol() == 17 && self.udp_checksum() == 0 {
            return;
        }
        let start = if self.protocol() == 1 { 0 } else { self.pseudo() };
        assert_eq!(sum(self.payload(), start), 0xffff, "layer 4 checksum of {self:x?}");
    }
}
