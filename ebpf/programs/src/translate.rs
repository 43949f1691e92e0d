//! Services, packet by packet: for packets that no socket hook saw (a sandboxed runtime, a virtual machine, a raw
//! socket). The same table, the same selection, the node's one connection table.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::programs::TcContext;
use skep_abi::conntrack::tcp_flags;
use skep_abi::packet::Tuple;
use skep_abi::pod::endpoint_flags;
use skep_abi::{Addr, CtEntry, CtKey, CtKind, DropReason, ServiceKey, proto};

use crate::balance::{self, Choice};
use crate::maps::{CONNTRACK, ENDPOINTS};
use crate::masquerade::{fragment, remember_fragment};
use crate::rewrite::{self, End};
use crate::skb::{self, Packet};

/// Sends a packet for a Service's address to a backend; returns the destination it has then.
#[inline(always)]
pub(crate) fn to_backend(ctx: &TcContext, packet: &Packet) -> Result<u32, DropReason> {
    let ip = &packet.ip;
    let Some(tuple) = &packet.tuple else {
        let Some(addr) = fragment(ip.src, ip.dst, ip.id, ip.proto) else { return Ok(ip.dst) };
        rewrite::address(ctx, packet.l3, End::Destination, ip.dst, addr)
            .map_err(|_| DropReason::Malformed)?;
        return Ok(addr);
    };
    if tuple.proto == proto::ICMP {
        return Ok(ip.dst);
    }
    let now = skb::now();
    let (addr, port) = match known(tuple, packet.tcp_flags, now) {
        Some(known) => known,
        None => match balance::choose(&ServiceKey::new(Addr::v4(tuple.dst), tuple.dport, tuple.proto)) {
            Choice::NotAService => return Ok(ip.dst),
            Choice::NoBackend => return Err(DropReason::NoBackend),
            Choice::Backend(chosen) => open(tuple, &chosen, now)?,
        },
    };
    if ip.has_more_fragments() {
        remember_fragment(ip.src, ip.dst, ip.id, ip.proto, addr, now);
    }
    rewrite::end(ctx, packet, tuple, End::Destination, addr, port).map_err(|_| DropReason::Malformed)?;
    Ok(addr)
}

/// Where the connection goes already. A datagram, and a new connection that happens to have the ports of an old one, does
/// not go to a backend that the Service has no more; what is established stays where it is.
#[inline(always)]
fn known(tuple: &Tuple, flags: u8, now: u32) -> Option<(u32, u16)> {
    let entry = CONNTRACK.get_ptr_mut(tuple.key(CtKind::Service))?;
    // SAFETY: entries are replaced whole; times and bits may be written by two processors, and either is right.
    unsafe {
        if (*entry).expired(tuple.proto, now) {
            return None;
        }
        let opens = tuple.proto != proto::TCP || flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN;
        if opens && balance::backend((*entry).backend, (*entry).service).is_none() {
            return None;
        }
        let addr = (*entry).addr.as_v4()?;
        let port = (*entry).port;
        (*entry).last_seen = now;
        (*entry).state = CtEntry::next_state((*entry).state, tuple.proto, flags);
        // The answering half may have been evicted, or be another Service's.
        let key = reply_key(tuple, addr, port);
        let answers = match CONNTRACK.get_ptr_mut(key) {
            Some(reply) => {
                (*reply).last_seen = now;
                (*reply).addr == Addr::v4(tuple.dst) && (*reply).port == tuple.dport
            }
            None => false,
        };
        if !answers {
            CONNTRACK.insert(key, answer(tuple, (*entry).service, now), u64::from(BPF_ANY)).ok()?;
        }
        Some((addr, port))
    }
}

/// Notes a new connection, both ways.
#[inline(always)]
fn open(tuple: &Tuple, chosen: &balance::Chosen, now: u32) -> Result<(u32, u16), DropReason> {
    let backend = &chosen.backend;
    let Some(addr) = backend.addr.as_v4() else { return Err(DropReason::NoBackend) };
    let entry = CtEntry {
        addr: backend.addr,
        port: backend.port,
        state: 0,
        last_seen: now,
        backend: chosen.id,
        service: backend.service,
        reserved: [0; 2],
    };
    let any = u64::from(BPF_ANY);
    let reply = answer(tuple, backend.service, now);
    let noted = CONNTRACK.insert(reply_key(tuple, addr, backend.port), reply, any).is_ok()
        && CONNTRACK.insert(tuple.key(CtKind::Service), entry, any).is_ok();
    if !noted {
        return Err(DropReason::NoConntrack);
    }
    if let Some(endpoint) = ENDPOINTS.get_ptr_mut(Addr::v4(tuple.src)) {
        // SAFETY: the word is only ever written to say yes.
        unsafe { (*endpoint).flags |= endpoint_flags::TRACKED };
    }
    Ok((addr, backend.port))
}

#[inline(always)]
fn reply_key(tuple: &Tuple, backend: u32, port: u16) -> CtKey {
    CtKey::new(CtKind::ServiceReply, Addr::v4(backend), Addr::v4(tuple.src), port, tuple.sport, tuple.proto)
}

#[inline(always)]
fn answer(tuple: &Tuple, service: u32, now: u32) -> CtEntry {
    CtEntry {
        addr: Addr::v4(tuple.dst),
        port: tuple.dport,
        state: 0,
        last_seen: now,
        backend: 0,
        service,
        reserved: [0; 2],
    }
}

/// Gives an answer on its way to a pod the Service's address, if it is one.
#[inline(always)]
pub(crate) fn from_backend(ctx: &TcContext, packet: &Packet) -> Result<(), DropReason> {
    let ip = &packet.ip;
    let Some(tuple) = &packet.tuple else {
        let Some(addr) = fragment(ip.src, ip.dst, ip.id, ip.proto) else { return Ok(()) };
        return rewrite::address(ctx, packet.l3, End::Source, ip.src, addr)
            .map_err(|_| DropReason::Malformed);
    };
    let Some(entry) = CONNTRACK.get_ptr_mut(tuple.key(CtKind::ServiceReply)) else { return Ok(()) };
    let now = skb::now();
    // SAFETY: as in `known`.
    let (addr, port) = unsafe {
        (*entry).last_seen = now;
        ((*entry).addr.as_v4(), (*entry).port)
    };
    let Some(addr) = addr else { return Ok(()) };
    if let Some(forward) = CONNTRACK.get_ptr_mut(forward_key(tuple, addr, port)) {
        // SAFETY: as in `known`.
        unsafe {
            (*forward).last_seen = now;
            (*forward).state = CtEntry::next_state((*forward).state, tuple.proto, packet.tcp_flags)
                | skep_abi::conntrack::state::REPLIED;
        }
    }
    if ip.has_more_fragments() {
        remember_fragment(ip.src, ip.dst, ip.id, ip.proto, addr, now);
    }
    rewrite::end(ctx, packet, tuple, End::Source, addr, port).map_err(|_| DropReason::Malformed)
}

/// The key under which the client's own packets are noted.
#[inline(always)]
fn forward_key(answer: &Tuple, service: u32, port: u16) -> CtKey {
    CtKey::new(CtKind::Service, Addr::v4(answer.dst), Addr::v4(service), answer.dport, port, answer.proto)
}
