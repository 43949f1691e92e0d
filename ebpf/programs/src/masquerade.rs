//! The connections that leave the cluster under the node's address.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::bpf_get_prandom_u32;
use skep_abi::conntrack::state;
use skep_abi::masquerade::{ATTEMPTS, candidate};
use skep_abi::packet::Tuple;
use skep_abi::{Addr, Config, CtEntry, CtKey, CtKind};

use crate::maps::CONNTRACK;

/// Why no port could be given.
pub(crate) enum Failure {
    /// Every candidate was taken.
    NoPort,
    /// The connection table took no entry.
    NoConntrack,
}

/// The key under which answers to `tuple`, sent out as `node`:`port`, come back.
#[inline(always)]
fn reply_key(tuple: &Tuple, node: u32, port: u16) -> CtKey {
    // An echo's answer has the identifier in both places.
    let sport = if tuple.proto == skep_abi::proto::ICMP { port } else { tuple.dport };
    CtKey::new(CtKind::MasqueradeReply, Addr::v4(tuple.dst), Addr::v4(node), sport, port, tuple.proto)
}

/// The port (network byte order) that a packet of this connection leaves with: the one it has, or a new one.
#[inline(always)]
pub(crate) fn port_for(config: &Config, tuple: &Tuple, tcp_flags: u8, now: u32) -> Result<u16, Failure> {
    let forward = tuple.key(CtKind::Masquerade);
    let pod = Addr::v4(tuple.src);
    let node = Addr::v4(config.node_addr);
    if let Some(entry) = CONNTRACK.get_ptr_mut(forward) {
        // SAFETY: entries are replaced whole; a reused one fails the comparison with its answer below.
        let (addr, port) = unsafe { ((*entry).addr, (*entry).port) };
        if addr == node {
            match CONNTRACK.get_ptr_mut(reply_key(tuple, config.node_addr, port)) {
                // SAFETY: as above; times and bits may be written by both directions, and either is right.
                Some(reply) if unsafe { (*reply).addr == pod && (*reply).port == tuple.sport } => unsafe {
                    (*entry).last_seen = now;
                    (*reply).last_seen = now;
                    (*reply).state = CtEntry::next_state((*reply).state, tuple.proto, tcp_flags);
                    return Ok(port);
                },
                Some(_) => {}
                None => {
                    // The answering half was evicted: the connection keeps its port.
                    let reply = entry_for(pod, tuple.sport, now);
                    let key = reply_key(tuple, config.node_addr, port);
                    if CONNTRACK.insert(key, reply, u64::from(BPF_NOEXIST)).is_ok() {
                        return Ok(port);
                    }
                }
            }
        }
    }
    allocate(config, tuple, now)
}

#[inline(always)]
fn entry_for(addr: Addr, port: u16, now: u32) -> CtEntry {
    CtEntry { addr, port, state: 0, last_seen: now, backend: 0, service: 0, reserved: [0; 2] }
}

/// Gives the connection a port of its own toward its destination.
#[inline(always)]
fn allocate(config: &Config, tuple: &Tuple, now: u32) -> Result<u16, Failure> {
    let reply = entry_for(Addr::v4(tuple.src), tuple.sport, now);
    // SAFETY: the helper has no precondition.
    let random = unsafe { bpf_get_prandom_u32() };
    let (min, max) = (config.masquerade_port_min, config.masquerade_port_max);
    for attempt in 0..ATTEMPTS {
        let Some(port) = candidate(min, max, u16::from_be(tuple.sport), random, attempt) else {
            return Err(Failure::NoPort);
        };
        let port = port.to_be();
        let key = reply_key(tuple, config.node_addr, port);
        let flags = match CONNTRACK.get_ptr(key) {
            None => BPF_NOEXIST,
            // SAFETY: a torn reading can only make a live entry look live, or an idle one idle.
            Some(other) if unsafe { (*other).expired(tuple.proto, now) } => BPF_ANY,
            Some(_) => continue,
        };
        if CONNTRACK.insert(key, reply, u64::from(flags)).is_ok() {
            let entry = entry_for(Addr::v4(config.node_addr), port, now);
            return match CONNTRACK.insert(tuple.key(CtKind::Masquerade), entry, u64::from(BPF_ANY)) {
                Ok(()) => Ok(port),
                Err(_) => Err(Failure::NoConntrack),
            };
        }
    }
    Err(Failure::NoPort)
}

/// Where an answer from outside goes: the pod's address and port (network byte order).
#[inline(always)]
pub(crate) fn answer(tuple: &Tuple, tcp_flags: u8, now: u32) -> Option<(u32, u16)> {
    let entry = CONNTRACK.get_ptr_mut(tuple.key(CtKind::MasqueradeReply))?;
    // SAFETY: as in `port_for`.
    unsafe {
        (*entry).last_seen = now;
        (*entry).state = CtEntry::next_state((*entry).state, tuple.proto, tcp_flags) | state::REPLIED;
        Some(((*entry).addr.as_v4()?, (*entry).port))
    }
}

/// Remembers where the later fragments of a packet go: `addr`, or zero to leave them alone.
#[inline(always)]
pub(crate) fn remember_fragment(src: u32, dst: u32, id: u16, protocol: u8, addr: u32, now: u32) {
    let entry = entry_for(Addr::v4(addr), 0, now);
    let _ = CONNTRACK.insert(fragment_key(src, dst, id, protocol), entry, u64::from(BPF_ANY));
}

/// What [`remember_fragment`] noted.
#[inline(always)]
pub(crate) fn fragment(src: u32, dst: u32, id: u16, protocol: u8) -> Option<u32> {
    // SAFETY: a reused element is another datagram's, a moment after this one's time was up.
    unsafe { CONNTRACK.get(fragment_key(src, dst, id, protocol)) }?.addr.as_v4()
}

#[inline(always)]
fn fragment_key(src: u32, dst: u32, id: u16, protocol: u8) -> CtKey {
    CtKey::new(CtKind::Fragment, Addr::v4(src), Addr::v4(dst), id, 0, protocol)
}
