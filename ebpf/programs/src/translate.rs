//! Services, packet by packet: for packets that no socket hook saw (a sandboxed runtime, a virtual machine, a raw
//! socket). The same table, the same selection, the node's one connection table.

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::programs::TcContext;
use skep_abi::conntrack::{state, tcp_flags};
use skep_abi::packet::Tuple;
use skep_abi::pod::endpoint_flags;
use skep_abi::service::Origin;
use skep_abi::{Addr, Backend, CtEntry, CtKey, CtKind, DropReason, proto};

use crate::balance::{self, Choice};
use crate::family::Family;
use crate::icmp_error;
use crate::maps::{CONNTRACK, ENDPOINTS};
use crate::masquerade::{find_fragment, remember_fragment};
use crate::rewrite::{self, End};
use crate::skb::{self, Packed, Packet};

/// A packet that asks.
struct Sender<'a> {
    tuple: &'a Tuple,
    origin: Origin,
}

impl balance::Client for Sender<'_> {
    #[inline(always)]
    fn origin(&self) -> Origin {
        self.origin
    }

    #[inline(always)]
    fn key(&self) -> Addr {
        self.tuple.src
    }

    #[inline(always)]
    fn addr(&self) -> Option<Addr> {
        Some(self.tuple.src)
    }
}

/// Sends a packet for a Service's address to a backend. A packet for any other address stays as it is.
///
/// [`DropReason::NoBackend`] asks for a refusal that its sender hears.
#[inline(always)]
pub(crate) fn to_backend<F: Family>(ctx: &TcContext, packet: &mut Packet, origin: Origin) -> Packed {
    if !packet.has_ports() {
        return part_to_backend::<F>(ctx, packet);
    }
    if packet.tuple.is_echo() {
        return Packed::ok(0);
    }
    let now = skb::now();
    if known(packet, now) == 0 {
        let mut chosen = balance::Chosen { id: 0, backend: Backend::default() };
        match choose(&packet.tuple, origin, &mut chosen) {
            answer::NOT_A_SERVICE => return Packed::ok(0),
            answer::BACKEND => {}
            reason => return Packed::err(refusal(reason)),
        }
        let opened = open(packet, &chosen, now);
        if opened.failed() {
            return opened;
        }
    }
    if packet.has_more_fragments() {
        remember_fragment(packet, End::Destination, now);
    }
    Packed::rewritten(rewrite::end::<F>(ctx, packet, End::Destination))
}

/// What [`choose`] answers.
mod answer {
    pub(super) const NOT_A_SERVICE: u32 = 0;
    pub(super) const BACKEND: u32 = 1;
    pub(super) const NO_BACKEND: u32 = 2;
    pub(super) const NO_LOCAL_BACKEND: u32 = 3;
    pub(super) const OUT_OF_RANGE: u32 = 4;
}

#[inline(always)]
const fn refusal(answer: u32) -> DropReason {
    match answer {
        answer::NO_LOCAL_BACKEND => DropReason::NoLocalBackend,
        answer::OUT_OF_RANGE => DropReason::SourceRange,
        _ => DropReason::NoBackend,
    }
}

/// The one selection function, for packets; with a stack of its own.
#[inline(never)]
fn choose(tuple: &Tuple, origin: Origin, chosen: &mut balance::Chosen) -> u32 {
    let client = Sender { tuple, origin };
    match balance::choose(tuple.dst, tuple.dport, tuple.proto, &client) {
        Choice::NotAService => answer::NOT_A_SERVICE,
        Choice::NoBackend => answer::NO_BACKEND,
        Choice::NoLocalBackend => answer::NO_LOCAL_BACKEND,
        Choice::OutOfRange => answer::OUT_OF_RANGE,
        Choice::Backend(found) => {
            *chosen = found;
            answer::BACKEND
        }
    }
}

/// The same for what has no ports: later fragments, and errors about answers.
#[inline(always)]
fn part_to_backend<F: Family>(ctx: &TcContext, packet: &mut Packet) -> Packed {
    if !packet.is_later_fragment() {
        return icmp_error::inward::<F>(ctx, packet, CtKind::Service);
    }
    if find_fragment(packet, End::Destination) == 0 {
        return Packed::ok(0);
    }
    Packed::rewritten(rewrite::address::<F>(ctx, packet, End::Destination))
}

/// Where the connection goes already. A datagram, and a new connection that happens to have the ports of an old one, does
/// not go to a backend that the Service has no more; what is established stays where it is.
///
/// One if [`Packet::to`] and its port say where, zero if it is not known.
#[inline(never)]
fn known(packet: &mut Packet, now: u32) -> u32 {
    let tuple = &packet.tuple;
    let Some(entry) = CONNTRACK.get_ptr_mut(tuple.key(CtKind::Service)) else { return 0 };
    // SAFETY: entries are replaced whole; times and bits may be written by two processors, and either is right.
    unsafe {
        if (*entry).expired(tuple.proto, now) {
            return 0;
        }
        let flags = packet.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK);
        let opens = tuple.proto != proto::TCP || flags == tcp_flags::SYN;
        if opens && balance::backend((*entry).backend, (*entry).service).is_none() {
            return 0;
        }
        packet.to = (*entry).addr;
        packet.to_port = (*entry).port;
        (*entry).last_seen = now;
        (*entry).state = CtEntry::next_state((*entry).state, tuple.proto, packet.tcp_flags);
        // The answering half may be another Service's.
        let key = reply_key(packet);
        let answers = match CONNTRACK.get_ptr_mut(key) {
            Some(reply) => {
                (*reply).last_seen = now;
                (*reply).addr.is(&tuple.dst) && (*reply).port == tuple.dport
            }
            None => false,
        };
        if !answers && CONNTRACK.insert(key, reply(tuple, (*entry).service, now), u64::from(BPF_ANY)).is_err()
        {
            return 0;
        }
    }
    1
}

/// Notes a new connection, both ways, and sets where it goes.
#[inline(never)]
fn open(packet: &mut Packet, chosen: &balance::Chosen, now: u32) -> Packed {
    let backend = &chosen.backend;
    packet.to = backend.addr;
    packet.to_port = backend.port;
    let tuple = &packet.tuple;
    let key = reply_key(packet);
    if taken(tuple, &key, now) {
        return Packed::err(DropReason::TupleInUse);
    }
    let any = u64::from(BPF_ANY);
    if CONNTRACK.insert(key, reply(tuple, backend.service, now), any).is_err() {
        return Packed::err(DropReason::TableFull);
    }
    let entry = CtEntry {
        addr: backend.addr,
        port: backend.port,
        state: 0,
        last_seen: now,
        backend: chosen.id,
        service: backend.service,
        reserved: [0; 2],
    };
    if CONNTRACK.insert(tuple.key(CtKind::Service), entry, any).is_err() {
        let _ = CONNTRACK.remove(key);
        return Packed::err(DropReason::TableFull);
    }
    if let Some(endpoint) = ENDPOINTS.get_ptr_mut(&tuple.src) {
        // SAFETY: the word is only ever written to say yes.
        unsafe { (*endpoint).flags |= endpoint_flags::TRACKED };
    }
    Packed::ok(0)
}

/// Whether a living connection of the same client goes to the same backend by another front end: answers to both would look
/// alike.
#[inline(always)]
fn taken(tuple: &Tuple, reply: &CtKey, now: u32) -> bool {
    // SAFETY: a torn reading can only take one connection for another, whose own entry is looked at.
    let Some(other) = (unsafe { CONNTRACK.get(reply) }) else { return false };
    let (addr, port) = (other.addr, other.port);
    if addr.is(&tuple.dst) && port == tuple.dport {
        return false;
    }
    let key = CtKey::new(CtKind::Service, reply.dst, addr, reply.dport, port, reply.proto);
    // SAFETY: as above.
    match unsafe { CONNTRACK.get(key) } {
        Some(forward) => {
            forward.addr.is(&reply.src)
                && forward.port == reply.sport
                && forward.state & (state::FIN | state::RST) == 0
                && !forward.expired(reply.proto, now)
        }
        None => false,
    }
}

/// The key of answers from where the packet is to go.
#[inline(always)]
fn reply_key(packet: &Packet) -> CtKey {
    let tuple = &packet.tuple;
    CtKey::new(CtKind::ServiceReply, packet.to, tuple.src, packet.to_port, tuple.sport, tuple.proto)
}

#[inline(always)]
fn reply(tuple: &Tuple, service: u32, now: u32) -> CtEntry {
    CtEntry {
        addr: tuple.dst,
        port: tuple.dport,
        state: 0,
        last_seen: now,
        backend: 0,
        service,
        reserved: [0; 2],
    }
}

/// Gives an answer on its way to a client the Service's address, if it is one: then one, else zero.
#[inline(never)]
pub(crate) fn from_backend<F: Family>(ctx: &TcContext, packet: &mut Packet) -> Packed {
    if !packet.has_ports() {
        return part_from_backend::<F>(ctx, packet);
    }
    let now = skb::now();
    if !answers(packet, now) {
        return Packed::ok(0);
    }
    if packet.has_more_fragments() {
        remember_fragment(packet, End::Source, now);
    }
    Packed::rewritten(rewrite::end::<F>(ctx, packet, End::Source))
}

/// Whether this is an answer; sets which address and port were asked.
#[inline(always)]
fn answers(packet: &mut Packet, now: u32) -> bool {
    let tuple = &packet.tuple;
    let Some(entry) = CONNTRACK.get_ptr_mut(tuple.key(CtKind::ServiceReply)) else { return false };
    // SAFETY: as in `known`.
    unsafe {
        packet.to = (*entry).addr;
        packet.to_port = (*entry).port;
    }
    // The key under which the client's own packets are noted.
    let forward = CtKey::new(CtKind::Service, tuple.dst, packet.to, tuple.dport, packet.to_port, tuple.proto);
    if let Some(forward) = CONNTRACK.get_ptr_mut(forward) {
        // SAFETY: as in `known`.
        unsafe {
            if (*forward).expired(tuple.proto, now) {
                return false;
            }
            (*forward).last_seen = now;
            let next = CtEntry::next_state((*forward).state, tuple.proto, packet.tcp_flags);
            (*forward).state = next | state::REPLIED;
        }
    }
    // SAFETY: as in `known`.
    unsafe { (*entry).last_seen = now };
    true
}

/// The same for what has no ports: later fragments, and errors about what a client sent.
#[inline(always)]
fn part_from_backend<F: Family>(ctx: &TcContext, packet: &mut Packet) -> Packed {
    if !packet.is_later_fragment() {
        return icmp_error::outward::<F>(ctx, packet, CtKind::ServiceReply);
    }
    if find_fragment(packet, End::Source) == 0 {
        return Packed::ok(0);
    }
    if packet.to.is_zero() {
        return Packed::ok(1);
    }
    Packed::rewritten(rewrite::address::<F>(ctx, packet, End::Source))
}

/// Whether a packet goes to a backend because this node sent it there.
#[inline(always)]
pub(crate) fn was_sent_to_backend(tuple: &Tuple) -> bool {
    // SAFETY: nothing of the value is read.
    unsafe { CONNTRACK.get(tuple.reply_key(CtKind::ServiceReply)) }.is_some()
}
