//! The connections that leave the cluster under the node's address.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::programs::TcContext;
use skep_abi::conntrack::state;
use skep_abi::masquerade::{ATTEMPTS, candidate};
use skep_abi::packet::Tuple;
use skep_abi::{Addr, Config, CtEntry, CtKey, CtKind, DropReason};

use crate::family::Family;
use crate::maps::{CONNTRACK, FRAGMENTS};
use crate::rewrite::{self, End};
use crate::skb::{self, Packed, Packet};

/// Whether a port (network byte order) is one of those given out.
#[inline(always)]
pub(crate) fn is_port(config: &Config, port: u16) -> bool {
    let port = u16::from_be(port);
    port >= config.masquerade_port_min && port <= config.masquerade_port_max
}

/// The key under which answers to `tuple`, sent out as `node`:`port`, come back.
#[inline(always)]
fn reply_key(tuple: &Tuple, node: Addr, port: u16) -> CtKey {
    // An echo's answer has the identifier in both places.
    let sport = if tuple.is_echo() { port } else { tuple.dport };
    CtKey::new(CtKind::MasqueradeReply, tuple.dst, node, sport, port, tuple.proto)
}

/// The port (network byte order) that a packet leaves with under the address [`Packet::to`]: the one that the connection
/// has, or a new one.
#[inline(always)]
fn port_for(config: &Config, packet: &Packet, now: u32) -> Result<u16, DropReason> {
    let port = match known_port(packet, now) {
        0 => allocate(config, packet, now).unpack()?,
        port => port,
    };
    Ok(port as u16)
}

/// The port that the connection has; zero if it has none.
#[inline(never)]
fn known_port(packet: &Packet, now: u32) -> u32 {
    let tuple = &packet.tuple;
    let Some(entry) = CONNTRACK.get_ptr_mut(tuple.key(CtKind::Masquerade)) else { return 0 };
    // SAFETY: entries are replaced whole; a reused one fails the comparison with its answer below.
    let (same, port) = unsafe { ((*entry).addr.is(&packet.to), (*entry).port) };
    if !same {
        return 0;
    }
    let key = reply_key(tuple, packet.to, port);
    match CONNTRACK.get_ptr_mut(key) {
        // SAFETY: as above; times and bits may be written by both directions, and either is right.
        Some(reply) if unsafe { (*reply).addr.is(&tuple.src) && (*reply).port == tuple.sport } => unsafe {
            (*entry).last_seen = now;
            (*reply).last_seen = now;
            (*reply).state = CtEntry::next_state((*reply).state, tuple.proto, packet.tcp_flags);
            u32::from(port)
        },
        Some(_) => 0,
        None => {
            // The answering half is gone: the connection keeps its port.
            let reply = entry_for(tuple.src, tuple.sport, now);
            let noted = CONNTRACK.insert(key, reply, u64::from(BPF_NOEXIST)).is_ok();
            if noted { u32::from(port) } else { 0 }
        }
    }
}

/// `-EEXIST`: an element has the key.
const EEXIST: i32 = -17;

#[inline(always)]
fn entry_for(addr: Addr, port: u16, now: u32) -> CtEntry {
    CtEntry { addr, port, state: 0, last_seen: now, backend: 0, service: 0, reserved: [0; 2] }
}

/// Gives the connection a port of its own toward its destination.
#[inline(never)]
fn allocate(config: &Config, packet: &Packet, now: u32) -> Packed {
    let tuple = &packet.tuple;
    // SAFETY: the helper has no precondition.
    let random = unsafe { bpf_get_prandom_u32() };
    let (min, max) = (config.masquerade_port_min, config.masquerade_port_max);
    for attempt in 0..ATTEMPTS {
        let Some(port) = candidate(min, max, u16::from_be(tuple.sport), random, attempt) else {
            return Packed::err(DropReason::NoPort);
        };
        let port = port.to_be();
        let key = reply_key(tuple, packet.to, port);
        let flags = match CONNTRACK.get_ptr(key) {
            None => BPF_NOEXIST,
            // SAFETY: a torn reading can only make a live entry look live, or an idle one idle.
            Some(other) if unsafe { (*other).expired(tuple.proto, now) } => BPF_ANY,
            Some(_) => continue,
        };
        let reply = entry_for(tuple.src, tuple.sport, now);
        match CONNTRACK.insert(key, reply, u64::from(flags)) {
            Ok(()) => {}
            // Another connection was faster.
            Err(EEXIST) => continue,
            Err(_) => return Packed::err(DropReason::TableFull),
        }
        let entry = entry_for(packet.to, port, now);
        if CONNTRACK.insert(tuple.key(CtKind::Masquerade), entry, u64::from(BPF_ANY)).is_err() {
            let _ = CONNTRACK.remove(key);
            return Packed::err(DropReason::TableFull);
        }
        return Packed::ok(u32::from(port));
    }
    Packed::err(DropReason::NoPort)
}

/// Sets where an answer from outside goes, the pod's address and port; one for such an answer, zero for any other packet.
#[inline(never)]
pub(crate) fn answer(packet: &mut Packet, now: u32) -> u32 {
    let tuple = &packet.tuple;
    let Some(entry) = CONNTRACK.get_ptr_mut(tuple.key(CtKind::MasqueradeReply)) else { return 0 };
    // SAFETY: as in `known_port`.
    unsafe {
        (*entry).last_seen = now;
        let next = CtEntry::next_state((*entry).state, tuple.proto, packet.tcp_flags);
        (*entry).state = next | state::REPLIED;
        packet.to = (*entry).addr;
        packet.to_port = (*entry).port;
    }
    1
}

/// Gives a packet the node's address, and a port by which its answers are known.
#[inline(always)]
pub(crate) fn leave<F: Family>(
    ctx: &TcContext,
    config: &Config,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    if !packet.has_ports() {
        return Ok(());
    }
    let now = skb::now();
    packet.to = F::node(config);
    packet.to_port = port_for(config, packet, now)?;
    if packet.has_more_fragments() {
        remember_fragment(packet, End::Source, now);
    }
    rewrite::end::<F>(ctx, packet, End::Source).map_err(|_| DropReason::Malformed)
}

/// Remembers that an end of the later fragments of a packet gets the address [`Packet::to`], or is left alone if that is all
/// zero. (A packet may have one end rewritten where it comes in and the other where it leaves.)
#[inline(never)]
pub(crate) fn remember_fragment(packet: &Packet, end: End, now: u32) {
    let entry = entry_for(packet.to, 0, now);
    let _ = FRAGMENTS.insert(fragment_key(packet, end), entry, u64::from(BPF_ANY));
}

/// Sets [`Packet::to`] to what [`remember_fragment`] noted; one if there is something, else zero.
#[inline(never)]
pub(crate) fn find_fragment(packet: &mut Packet, end: End) -> u32 {
    // SAFETY: a reused element is another datagram's, a moment after this one's time was up.
    let Some(entry) = (unsafe { FRAGMENTS.get(fragment_key(packet, end)) }) else { return 0 };
    packet.to = entry.addr;
    1
}

#[inline(always)]
fn fragment_key(packet: &Packet, end: End) -> CtKey {
    let kind = if end == End::Source { CtKind::FragmentSource } else { CtKind::Fragment };
    let (first, second) = (packet.fragment as u16, (packet.fragment >> 16) as u16);
    CtKey::new(kind, packet.tuple.src, packet.tuple.dst, first, second, packet.fragment_proto)
}
