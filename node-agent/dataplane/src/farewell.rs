//! Tells sockets that are connected, through a Service, to an endpoint that is gone: ends them, in whichever network namespace
//! of the node they are.

use std::collections::HashSet;
use std::os::fd::AsFd as _;
use std::path::Path;

use skep_abi::{Frontend, SocketKey, proto};

use crate::error::Result;
use crate::orphans::{Alive, Looked, Peer, is_orphan};
use crate::pins::{Pins, open_pin, syscall};
use crate::sock_diag::SockDiag;
use crate::{batch, namespaces};

/// What one look did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Farewell {
    /// Sockets that were told.
    pub told: usize,
    /// Whether the kernel ends sockets at all (`CONFIG_INET_DIAG_DESTROY`). Where it does not, sockets learn of an endpoint that
    /// is gone by themselves or never.
    pub supported: bool,
    /// Whether another look is due in a second: a socket may have been on its way to the endpoint.
    pub again: bool,
}

/// What is known from look to look.
#[derive(Debug, Default)]
pub(crate) struct Farewells {
    looked: Looked,
    /// Looks that are due.
    due: u8,
    /// Whether the kernel ends sockets, once it was asked.
    supported: Option<bool>,
}

impl Farewells {
    /// One more look is due, and a second one.
    pub(crate) fn lost_some(&mut self) {
        self.due = 2;
    }

    /// Whether the kernel ends sockets, if it was asked.
    pub(crate) const fn supported(&self) -> Option<bool> {
        self.supported
    }

    /// Looks for sockets to tell, if that is due.
    pub(crate) fn look(&mut self, pins: &Pins, cgroup: &Path, alive: &Alive) -> Result<Farewell> {
        let supported = match self.supported {
            Some(known) => known,
            None => {
                let asked = SockDiag::open().and_then(|diag| diag.can_destroy());
                let supported = asked.map_err(syscall("SOCK_DESTROY", "a socket that is not there"))?;
                *self.supported.insert(supported)
            }
        };
        if !supported || self.due == 0 {
            return Ok(Farewell { told: 0, supported, again: false });
        }
        let orphans = self.looked.due(&orphans(pins, alive)?);
        let told = if orphans.is_empty() { 0 } else { tell(cgroup, &orphans)? };
        self.due -= 1;
        Ok(Farewell { told, supported, again: self.due > 0 })
    }
}

/// Every peer that is an orphan's, of all that the socket hooks noted.
fn orphans(pins: &Pins, alive: &Alive) -> Result<Vec<Peer>> {
    let mut orphans = Vec::new();
    for (name, protocol) in [("UDP_REVERSE", proto::UDP), ("TCP_PEERS", proto::TCP)] {
        let Some(map) = open_pin(&pins.map(name))? else { continue };
        let mut at = None;
        loop {
            let (some, next) = batch::next::<SocketKey, Frontend>(map.as_fd(), at, batch::PIECE)
                .map_err(syscall("BPF_MAP_LOOKUP_BATCH", name))?;
            let peers = some.iter().map(|(key, frontend)| (Peer::of(protocol, key), frontend));
            orphans.extend(peers.filter(|(peer, to)| is_orphan(peer, to, alive)).map(|(peer, _)| peer));
            if next.is_none() {
                break;
            }
            at = next;
        }
    }
    Ok(orphans)
}

/// Ends the sockets that are connected to these peers; says how many there were.
fn tell(cgroup: &Path, orphans: &[Peer]) -> Result<usize> {
    let wanted: HashSet<Peer> = orphans.iter().copied().collect();
    let ports: HashSet<(u8, u16)> = orphans.iter().map(|peer| (peer.protocol, peer.port)).collect();
    let mut told = 0;
    namespaces::in_each(cgroup, || {
        let diag = SockDiag::open().map_err(syscall("socket", "sock_diag"))?;
        for (protocol, port) in &ports {
            let found =
                diag.connected_to(*protocol, *port).map_err(syscall("SOCK_DIAG_BY_FAMILY", "a list"))?;
            for socket in found.iter().filter(|socket| wanted.contains(&socket.peer(*protocol))) {
                let ended = diag.destroy(*protocol, socket).map_err(syscall("SOCK_DESTROY", "a socket"))?;
                told += usize::from(ended);
            }
        }
        Ok(())
    })?;
    Ok(told)
}
