//! Who is answered: pods and this machine. A server that answers everybody is a weapon against third parties.

use crate::core::resolv;
use nix::ifaddrs::getifaddrs;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long the machine's addresses are taken for what they were.
const FRESH: Duration = Duration::from_secs(5);

/// The rule, and the machine's addresses as last seen.
pub struct Access {
    ranges: Vec<(IpAddr, u8)>,
    own: Mutex<(Option<Instant>, HashSet<IpAddr>)>,
}

/// The addresses of this machine, or of its network namespace.
pub fn own_addresses() -> HashSet<IpAddr> {
    let Ok(all) = getifaddrs() else { return HashSet::new() };
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let four = address.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
    };
    all.filter_map(address).collect()
}

impl Access {
    /// Lets these ranges in, and this machine.
    pub fn new(ranges: Vec<(IpAddr, u8)>) -> Self {
        Access { ranges, own: Mutex::default() }
    }

    /// Whether this one is answered.
    pub fn allows(&self, peer: SocketAddr) -> bool {
        let ip = resolv::plain(peer).ip();
        ip.is_loopback() || self.ranges.iter().any(|range| resolv::within(*range, ip)) || self.is_own(ip)
    }

    /// Whether an address is this machine's.
    pub fn is_own(&self, ip: IpAddr) -> bool {
        let mut own = self.own.lock();
        if own.1.contains(&ip) || ip.is_loopback() {
            return true;
        }
        if own.0.is_none_or(|seen| seen.elapsed() > FRESH) {
            *own = (Some(Instant::now()), own_addresses());
        }
        own.1.contains(&ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_and_this_machine_are_answered() {
        let access = Access::new(vec![("10.244.0.0".parse().unwrap(), 16)]);
        let allows = |ip: &str| access.allows(SocketAddr::new(ip.parse().unwrap(), 5000));
        assert!(allows("10.244.3.4") && allows("127.0.0.1") && allows("::1") && allows("::ffff:10.244.3.4"));
        assert!(!allows("198.51.100.7") && !allows("2001:db8::7"));
        assert!(own_addresses().iter().all(|own| access.allows(SocketAddr::new(*own, 5000))));
    }
}
