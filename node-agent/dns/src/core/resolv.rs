//! Which servers a `resolv.conf` names.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The servers of a `resolv.conf`, in order, each once. A zone of a link-local address that is not a number is left out with
/// its server: only the C library knows interfaces by name.
pub fn servers(text: &str) -> Vec<SocketAddr> {
    let mut out = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        if let Some(server) = words.next().and_then(|word| parse(&format_zone(word)))
            && !out.contains(&server)
        {
            out.push(server);
        }
    }
    out
}

fn format_zone(word: &str) -> String {
    if word.contains('%') { format!("[{word}]:53") } else { word.to_owned() }
}

/// A server: an address, with port 53, or an address with a port.
pub fn parse(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, 53));
    }
    text.parse().ok()
}

/// Whether a question to this server comes back to who asks: it is one of the addresses that are listened on, where an
/// unspecified address stands for all of this machine's.
pub fn is_self(server: SocketAddr, listening: &[SocketAddr], own: &[IpAddr]) -> bool {
    let ip = server.ip().to_canonical();
    listening.iter().any(|at| {
        let here = at.ip() == ip
            || (at.ip().is_unspecified() && (ip.is_loopback() || ip.is_unspecified() || own.contains(&ip)));
        at.port() == server.port() && here
    })
}

/// Whether an address lies in a range, given as an address and the length of its prefix.
pub fn within((base, bits): (IpAddr, u8), ip: IpAddr) -> bool {
    let number = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => (true, u128::from(u32::from(ip)) << 96),
        IpAddr::V6(ip) => (false, u128::from(ip)),
    };
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    let (a, b) = (number(base), number(ip));
    a.0 == b.0 && a.1 & mask == b.1 & mask
}

/// A range such as `10.244.0.0/16`; an address alone is a range of one.
pub fn range(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address.parse().ok()?, Some(bits.parse().ok()?)),
        None => (text.parse().ok()?, None),
    };
    let all = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let bits = bits.unwrap_or(all);
    (bits <= all).then_some((address, bits))
}

/// The address that a peer has for us: IPv4 where a socket of both families shows it as IPv6.
pub fn plain(peer: SocketAddr) -> SocketAddr {
    match peer.ip() {
        IpAddr::V6(ip) if ip != Ipv6Addr::LOCALHOST => {
            let ip = IpAddr::V6(ip).to_canonical();
            if ip.is_ipv4() { SocketAddr::new(ip, peer.port()) } else { peer }
        }
        _ => peer,
    }
}
