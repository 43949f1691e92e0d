//! The connections that leave the cluster under the node's address.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::programs::TcContext;
use skep_abi::conntrack::state;
use skep_abi::masquerade::{ATTEMPTS, candidate};
use skep_abi::packet::{Ipv4Header, Tuple};
use skep_abi::{Addr, Config, CtEntry, CtKey, CtKind, DropReason};

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
fn reply_key(tuple: &Tuple, node: u32, port: u16) -> CtKey {
    // An echo's answer has the identifier in both places.
    let sport = if tuple.proto == skep_abi::proto::ICMP { port } else { tuple.dport };
    CtKey::new(CtKind::MasqueradeReply, Addr::v4(tuple.dst), Addr::v4(node), sport, port, tuple.proto)
}

/// The port (network byte order) that a packet of this connection leaves with: the one it has, or a new one.
#[inline(always)]
fn port_for(config: &Config, tuple: &Tuple, tcp_flags: u8, now: u32) -> Result<u16, DropReason> {
    let port = match known_port(config, tuple, tcp_flags, now) {
        0 => allocate(config, tuple, now).unpack()?,
        port => port,
    };
    Ok(port as u16)
}

/// The port that the connection has; zero if it has none.
#[inline(never)]
fn known_port(config: &Config, tuple: &Tuple, tcp_flags: u8, now: u32) -> u32 {
    let Some(entry) = CONNTRACK.get_ptr_mut(tuple.key(CtKind::Masquerade)) else { return 0 };
    let pod = Addr::v4(tuple.src);
    // SAFETY: entries are replaced whole; a reused one fails the comparison with its answer below.
    let (addr, port) = unsafe { ((*entry).addr, (*entry).port) };
    if addr != Addr::v4(config.node_addr) {
        return 0;
    }
    let key = reply_key(tuple, config.node_addr, port);
    match CONNTRACK.get_ptr_mut(key) {
        // SAFETY: as above; times and bits may be written by both directions, and either is right.
        Some(reply) if unsafe { (*reply).addr == pod && (*reply).port == tuple.sport } => unsafe {
            (*entry).last_seen = now;
            (*reply).last_seen = now;
            (*reply).state = CtEntry::next_state((*reply).state, tuple.proto, tcp_flags);
            u32::from(port)
        },
        Some(_) => 0,
        None => {
            // The answering half is gone: the connection keeps its port.
            let reply = entry_for(pod, tuple.sport, now);
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
fn allocate(config: &Config, tuple: &Tuple, now: u32) -> Packed {
    let reply = entry_for(Addr::v4(tuple.src), tuple.sport, now);
    // SAFETY: the helper has no precondition.
    let random = unsafe { bpf_get_prandom_u32() };
    let (min, max) = (config.masquerade_port_min, config.masquerade_port_max);
    for attempt in 0..ATTEMPTS {
        let Some(port) = candidate(min, max, u16::from_be(tuple.sport), random, attempt) else {
            return Packed::err(DropReason::NoPort);
        };
        let port = port.to_be();
        let key = reply_key(tuple, config.node_addr, port);
        let flags = match CONNTRACK.get_ptr(key) {
            None => BPF_NOEXIST,
            // SAFETY: a torn reading can only make a live entry look live, or an idle one idle.
            Some(other) if unsafe { (*other).expired(tuple.proto, now) } => BPF_ANY,
            Some(_) => continue,
        };
        match CONNTRACK.insert(key, reply, u64::from(flags)) {
            Ok(()) => {}
            // Another connection was faster.
            Err(EEXIST) => continue,
            Err(_) => return Packed::err(DropReason::TableFull),
        }
        let entry = entry_for(Addr::v4(config.node_addr), port, now);
        if CONNTRACK.insert(tuple.key(CtKind::Masquerade), entry, u64::from(BPF_ANY)).is_err() {
            let _ = CONNTRACK.remove(key);
            return Packed::err(DropReason::TableFull);
        }
        return Packed::ok(u32::from(port));
    }
    Packed::err(DropReason::NoPort)
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

/// Gives a packet the node's address, and a port by which its answers are known.
#[inline(always)]
pub(crate) fn leave(ctx: &TcContext, config: &Config, packet: &Packet) -> Result<(), DropReason> {
    let Some(tuple) = packet.tuple() else { return Ok(()) };
    let now = skb::now();
    let port = port_for(config, tuple, packet.tcp_flags, now)?;
    if packet.ip.has_more_fragments() {
        remember_fragment(&packet.ip, End::Source, config.node_addr, now);
    }
    rewrite::end(ctx, packet, tuple, End::Source, config.node_addr, port).map_err(|_| DropReason::Malformed)
}

/// Remembers which address an end of the later fragments of a packet gets: `addr`, or zero to leave them alone. (A packet
/// may have one end rewritten where it comes in and the other where it leaves.)
#[inline(never)]
pub(crate) fn remember_fragment(ip: &Ipv4Header, end: End, addr: u32, now: u32) {
    let entry = entry_for(Addr::v4(addr), 0, now);
    let _ = FRAGMENTS.insert(fragment_key(ip, end), entry, u64::from(BPF_ANY));
}

/// What [`remember_fragment`] noted.
#[inline(always)]
pub(crate) fn fragment(ip: &Ipv4Header, end: End) -> Option<u32> {
    let found = find_fragment(ip, end);
    if found & FOUND == 0 { None } else { Some(found as u32) }
}

/// What [`find_fragment`] sets when there is something.
const FOUND: u64 = 1 << 32;

#[inline(never)]
fn find_fragment(ip: &Ipv4Header, end: End) -> u64 {
    // SAFETY: a reused element is another datagram's, a moment after this one's time was up.
    let Some(entry) = (unsafe { FRAGMENTS.get(fragment_key(ip, end)) }) else { return 0 };
    match entry.addr.as_v4() {
        Some(addr) => FOUND | u64::from(addr),
        None => 0,
    }
}

#[inline(always)]
fn fragment_key(ip: &Ipv4Header, end: End) -> CtKey {
    let end = u16::from(end == End::Source);
    CtKey::new(CtKind::Fragment, Addr::v4(ip.src), Addr::v4(ip.dst), ip.id, end, ip.proto)
}
