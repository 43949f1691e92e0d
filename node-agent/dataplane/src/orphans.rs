//! Which sockets are connected, through a Service, to an endpoint that is gone. Pure: what the socket hooks noted, and the
//! endpoints that there are, decide.
//!
//! A datagram socket is told as soon as its endpoint serves no more: nobody else would tell it, and it would send for ever. A
//! stream is left to its endpoint for as long as there is one, ready or not, so that it can come to its end; then it is told,
//! since a pod that is gone answers nothing, not even a reset.

use std::collections::HashMap;

use skep_abi::{Addr, Frontend, SocketKey, proto};

use crate::model::{Endpoint, Protocol};

/// One peer of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    /// The protocol, see [`skep_abi::proto`].
    pub(crate) protocol: u8,
    /// The socket's cookie.
    pub(crate) cookie: u64,
    /// The backend's address.
    pub(crate) addr: Addr,
    /// The backend's port, network byte order.
    pub(crate) port: u16,
}

impl Peer {
    /// What a socket hook noted.
    pub(crate) const fn of(protocol: u8, key: &SocketKey) -> Self {
        Self { protocol, cookie: key.cookie, addr: key.addr, port: key.port }
    }
}

/// The endpoints of one set that keep their sockets, sorted: address, and port in network byte order.
pub(crate) type Kept = Vec<(Addr, u16)>;

/// The endpoints that keep their sockets, by the number of the set ([`skep_abi::Service::id`]), with its protocol.
pub(crate) type Alive = HashMap<u32, (u8, Kept)>;

/// Whether an endpoint keeps the sockets that are connected to it.
pub(crate) const fn keeps(protocol: Protocol, endpoint: &Endpoint) -> bool {
    match protocol {
        Protocol::Udp => endpoint.serving,
        Protocol::Tcp | Protocol::Sctp => true,
    }
}

/// Whether something of `old` is not in `new`.
pub(crate) fn has_lost(old: &Alive, new: &Alive) -> bool {
    old.iter().any(|(id, (_, kept))| match new.get(id) {
        Some((_, still)) => kept.iter().any(|endpoint| still.binary_search(endpoint).is_err()),
        None => true,
    })
}

/// Whether a socket is to be told that its peer is gone.
pub(crate) fn is_orphan(peer: &Peer, frontend: &Frontend, alive: &Alive) -> bool {
    match alive.get(&frontend.service) {
        Some((protocol, kept)) => {
            *protocol == peer.protocol && kept.binary_search(&(peer.addr, peer.port)).is_err()
        }
        // The Service is gone, or its port: its streams end with their pods, as they would with any other proxy.
        None => peer.protocol == proto::UDP,
    }
}

/// The orphans that are to be looked for, which are those that were not looked for twice before. Twice, since a socket may be
/// noted a moment before it is connected.
#[derive(Debug, Default)]
pub(crate) struct Looked(HashMap<Peer, u8>);

impl Looked {
    /// Chooses from all orphans that there are, and forgets those that there are no more.
    pub(crate) fn due(&mut self, orphans: &[Peer]) -> Vec<Peer> {
        let mut now = HashMap::with_capacity(orphans.len());
        let mut due = Vec::new();
        for peer in orphans {
            let times = self.0.get(peer).copied().unwrap_or(0);
            if times < 2 {
                due.push(*peer);
            }
            now.insert(*peer, (times + 1).min(2));
        }
        self.0 = now;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn addr(last: u8) -> Addr {
        Addr::from(Ipv4Addr::new(10, 244, 0, last))
    }

    fn peer(protocol: u8, last: u8) -> Peer {
        Peer::of(protocol, &SocketKey::new(7, addr(last), 53))
    }

    fn through(service: u32) -> Frontend {
        Frontend { addr: addr(200), port: 80, pad: 0, service }
    }

    #[test]
    fn datagram_sockets_are_told_when_the_endpoint_serves_no_more() {
        let endpoint = Endpoint::ready(Ipv4Addr::LOCALHOST.into(), 53, true);
        let leaving = Endpoint { ready: false, terminating: true, ..endpoint.clone() };
        let unready = Endpoint { ready: false, serving: false, ..endpoint.clone() };
        for (endpoint, udp) in [(&endpoint, true), (&leaving, true), (&unready, false)] {
            assert_eq!((keeps(Protocol::Udp, endpoint), keeps(Protocol::Tcp, endpoint)), (udp, true));
        }
    }

    #[test]
    fn sockets_of_a_removed_endpoint_and_no_others_are_orphans() {
        let alive =
            Alive::from([(1, (proto::UDP, vec![(addr(1), 53)])), (2, (proto::TCP, vec![(addr(1), 53)]))]);
        for (protocol, service) in [(proto::UDP, 1), (proto::TCP, 2)] {
            assert!(!is_orphan(&peer(protocol, 1), &through(service), &alive));
            assert!(is_orphan(&peer(protocol, 2), &through(service), &alive));
        }
        assert!(
            !is_orphan(&peer(proto::TCP, 2), &through(1), &alive),
            "the number has another meaning by now"
        );
        assert!(is_orphan(&peer(proto::UDP, 1), &through(9), &alive), "the Service is gone");
        assert!(!is_orphan(&peer(proto::TCP, 1), &through(9), &alive));
    }

    #[test]
    fn only_what_goes_is_a_loss() {
        let of =
            |list: &[u8]| Alive::from([(1, (proto::UDP, list.iter().map(|n| (addr(*n), 53)).collect()))]);
        assert!(!has_lost(&of(&[1]), &of(&[1, 2])));
        assert!(!has_lost(&Alive::new(), &of(&[1])));
        assert!(has_lost(&of(&[1, 2]), &of(&[2])));
        assert!(has_lost(&of(&[]), &Alive::new()), "a whole Service");
    }

    #[test]
    fn an_orphan_is_looked_for_twice() {
        let (a, b) = (peer(proto::UDP, 1), peer(proto::UDP, 2));
        let mut looked = Looked::default();
        assert_eq!(looked.due(&[a]), [a]);
        assert_eq!(looked.due(&[a, b]), [a, b]);
        assert_eq!(looked.due(&[a, b]), [b]);
        assert_eq!(looked.due(&[]), []);
        assert_eq!(looked.due(&[a]), [a], "another time");
    }
}
